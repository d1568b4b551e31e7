//! webdis, an HTTP gateway in front of a Redis.

use super::{Process, eventually, free_port, tool};
use reqwest::blocking::Client;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| tool("MOORING_WEBDIS", "webdis"));

/// A running webdis.
pub struct Webdis {
    process: Process,
    folder: TempDir,
    /// Where it listens, for instance `127.0.0.1:40123`.
    pub address: String,
}

impl Webdis {
    /// Starts one over the Redis at this URL, as in `redis://:password@127.0.0.1:6379`; Redis must be there.
    pub fn start(redis_url: &str) -> Self {
        Self::with_access(redis_url, &json!([]))
    }

    /// Starts one that takes commands only from those who log in with `login`, as in `user:password`; it takes just what a store
    /// needs. Mind that webdis refuses a login of more than 53 bytes, even the right one.
    pub fn with_login(redis_url: &str, login: &str) -> Self {
        let access = json!([{"disabled": ["*"]}, {"http_basic_auth": login, "enabled": ["GET", "SET", "EVAL"]}]);
        Self::with_access(redis_url, &access)
    }

    /// Starts one with other rules: what its configuration calls `acl`. As in `[{"disabled": ["EVAL"]}]`.
    pub fn with_access(redis_url: &str, access: &Value) -> Self {
        let url = Url::parse(redis_url).expect("the URL of a Redis");
        eventually("webdis on a free port", || Self::launch(free_port(), &url, access))
    }

    /// `None` when the port was taken meanwhile.
    fn launch(port: u16, redis: &Url, access: &Value) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("webdis.json");
        // One connection to Redis: an answer that somebody did not wait for is then in the way of the next request.
        let settings = json!({
            "http_host": "127.0.0.1", "http_port": port, "threads": 1, "pool_size": 1, "daemonize": false,
            "redis_host": redis.host_str(), "redis_port": redis.port().unwrap_or(6379), "redis_auth": redis.password(),
            "acl": access, "verbosity": 3, "logfile": folder.path().join("log"),
        });
        std::fs::write(&config, settings.to_string()).expect("a file");
        let mut command = Command::new(&*PROGRAM);
        command.current_dir(folder.path()).arg(&config);
        let process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let mut webdis = Self { process, folder, address: format!("127.0.0.1:{port}") };
        webdis.answers(access).then_some(webdis)
    }

    /// Waits until it answers, and has its connection to Redis: until then it answers 503. False when it ends instead.
    fn answers(&mut self, access: &Value) -> bool {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().expect("a client");
        let login = access.as_array().into_iter().flatten().find_map(|rule| rule["http_basic_auth"].as_str());
        eventually("webdis to answer", || {
            if self.process.ended().is_some() {
                return Some(false);
            }
            let mut request = client.post(format!("http://{}", self.address)).body("GET/0");
            if let Some((user, password)) = login.and_then(|login| login.split_once(':')) {
                request = request.basic_auth(user, Some(password));
            }
            let answer = request.send().ok()?;
            // Whoever else took the port meanwhile could answer too.
            let webdis = answer.headers().get("server").is_some_and(|name| name == "Webdis");
            (webdis && answer.status() != StatusCode::SERVICE_UNAVAILABLE).then_some(true)
        })
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
