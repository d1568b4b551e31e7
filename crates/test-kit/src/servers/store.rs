//! The session store, as a process.

use super::Process;
use std::fs::File;
use std::process::{Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// A command that runs the program, with none of its variables in the environment.
#[allow(clippy::disallowed_methods)]
pub fn command() -> Command {
    let mut command = Command::new(super::built("mooring-store"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MOORING_STORE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A running session store.
pub struct Store {
    process: Process,
    folder: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where it listens, for instance `127.0.0.1:40123`. It stays the same when it is restarted.
    pub address: String,
    /// Where it serves metrics.
    pub metrics_address: String,
}

impl Store {
    /// Starts a store with these arguments, on a free port.
    pub fn start(arguments: &[&str]) -> Self {
        Self::with(arguments, &[])
    }

    /// Starts a store with these arguments and variables.
    pub fn with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::listening("127.0.0.1:0", arguments, environment)
    }

    /// Starts a store at this address.
    pub fn listening(address: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let environment: Vec<_> =
            environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (process, address, metrics_address) = launch(address, &folder, &arguments, &environment);
        Self { process, folder, arguments, environment, address, metrics_address }
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The URL of its metrics.
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.metrics_address)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the address that it had.
    pub fn restart(&mut self) {
        self.process.kill();
        (self.process, self.address, self.metrics_address) =
            launch(&self.address, &self.folder, &self.arguments, &self.environment);
    }

    /// Stops it without ending it: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("The store's log:\n{}", self.log());
        }
    }
}

fn launch(
    listen: &str,
    folder: &TempDir,
    arguments: &[String],
    environment: &[(String, String)],
) -> (Process, String, String) {
    let log = File::options().create(true).append(true).open(folder.path().join("log")).expect("a log");
    let mut command = command();
    command
        .args(["--listen", listen, "--metrics-listen", "127.0.0.1:0"])
        .args(arguments)
        .envs(environment.iter().cloned());
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(log));
    let mut lines = process.lines();
    let mut line = || lines.next().and_then(Result::ok).unwrap_or_default();
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let mut after = |words: &str| {
        let line = line();
        line.strip_prefix(words).unwrap_or_else(|| panic!("the store said {line:?}:\n{}", log())).to_owned()
    };
    let (address, metrics_address) = (after("listening on "), after("metrics on "));
    (process, address, metrics_address)
}
