//! Real servers for tests: Redis in its forms, the session store, Prometheus, hosts that speak gRPC or serve the demo's page, what
//! drives a browser, and certificates for TLS. Each listens on free ports of 127.0.0.1, keeps its files in a folder of its own, and is
//! gone when it is dropped.
//!
//! Nothing here depends on a particular test.

pub mod certs;
pub mod chromedriver;
pub mod demo_host;
pub mod prometheus;
pub mod redis;
pub mod store;
pub mod upstash;
pub mod webdis;
pub mod who;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

/// Asks `probe` again and again until it answers.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(WAIT, what, probe)
}

/// As [`eventually`], with so much patience.
pub fn within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(begun.elapsed() < patience, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

pub use crate::root;

/// The program of a package of this workspace, which cargo brings up to date first. It is built as what asks for it was: beside tests
/// for debugging, beside benchmarks as they are.
#[allow(clippy::disallowed_methods)]
pub fn built(package: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(package.to_owned()).or_insert_with(|| build(package)).clone()
}

#[allow(clippy::disallowed_methods)]
fn build(package: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a test");
    // target/debug/deps/this
    let folder = this.ancestors().nth(2).expect("a folder of cargo's");
    let profile = if folder.ends_with("release") { "bench" } else { "dev" };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["build", "--quiet", "--locked", "--profile", profile, "--package", package]);
    cargo.arg("--target-dir").arg(folder.parent().expect("the target folder"));
    assert!(cargo.status().expect("cargo").success(), "cargo could not build {package}");
    folder.join(package)
}

/// A program: its path from the environment, or what `scripts/tools` prints.
#[allow(clippy::disallowed_methods)]
pub fn tool(variable: &str, name: &str) -> PathBuf {
    if let Ok(path) = std::env::var(variable) {
        return root().join(path);
    }
    let mut script = Command::new(root().join("scripts/tools"));
    let output = script.arg(name).stderr(Stdio::inherit()).output().expect("scripts/tools");
    assert!(output.status.success(), "scripts/tools {name} failed");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// The folder with the packages of Node.js that the programs in `examples/clients` import.
pub fn node_packages() -> PathBuf {
    tool("MOORING_NODE_PACKAGES", "node-packages")
}

/// A process of ours, killed when dropped.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a process")
    }

    /// Waits for its end.
    fn wait(&mut self) -> ExitStatus {
        eventually("a process to end", || self.ended())
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Sends a signal, for instance `STOP`.
    fn signal(&self, name: &str) {
        let done = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.0.id())).status();
        assert!(done.expect("sh").success(), "no process to send {name} to");
    }

    /// Stops it without ending it. A signal is under way for a while, on a busy machine, and some threads go on meanwhile.
    fn pause(&self) {
        self.signal("STOP");
        eventually("a process to have stopped", || {
            // Where there is no such folder, there is no telling.
            let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.0.id())) else { return Some(()) };
            let stopped = |stat: String| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'));
            let mut stats = threads.flatten().flat_map(|thread| std::fs::read_to_string(thread.path().join("stat")));
            stats.all(stopped).then_some(())
        });
    }

    /// The first line of its standard output; empty where it ends without one.
    fn first_line(&mut self) -> String {
        self.lines().next().map(|line| line.expect("text")).unwrap_or_default()
    }

    /// The lines of its standard output. Once.
    fn lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.0.stdout.take().expect("its output")).lines()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
