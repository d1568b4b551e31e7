//! A server that speaks Upstash's REST API in front of a Redis: `@humanwhocodes/upstash-redis-server`.
//!
//! What differs from Upstash itself: errors of Redis are 500 there (400 at Upstash). And while Redis is away it keeps commands, and
//! has them done when Redis is back, even those whose callers have gone.

use super::{Process, root, tool};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

static NODE: LazyLock<PathBuf> = LazyLock::new(|| tool("MOORING_NODE", "node"));
static MODULE: LazyLock<PathBuf> = LazyLock::new(|| tool("MOORING_UPSTASH_REDIS_SERVER", "upstash-redis-server"));

/// A running server.
pub struct Upstash {
    // It holds the pipe of the process's output, too: a process without it could die of its next word.
    process: Process,
    folder: TempDir,
    /// Where it listens, for instance `127.0.0.1:40123`.
    pub address: String,
}

impl Upstash {
    /// Starts one over the Redis at this URL, as in `redis://:password@127.0.0.1:6379`, for callers with this token.
    pub fn start(redis_url: &str, token: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = File::create(folder.path().join("log")).expect("a file");
        let mut command = Command::new(&*NODE);
        command
            .arg(root().join("crates/test-kit/src/servers/upstash.mjs"))
            .arg(&*MODULE)
            .env("URS_TOKEN", token)
            .env("REDIS_URL", redis_url)
            .stdout(Stdio::piped())
            .stderr(log);
        let mut server = Self { process: Process::spawn(&mut command), folder, address: String::new() };
        let line = server.process.first_line();
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("no server: {line}\n{}", server.log()));
        server.address = format!("127.0.0.1:{port}");
        server
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// What it said of errors so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
