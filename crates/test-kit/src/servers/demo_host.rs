//! An upstream host that serves the demo's page: `examples/upstream`, in a process of its own, which the page can end.

use super::Process;
use serde_json::Value;
use std::process::{Command, Stdio};

/// A running host.
pub struct DemoHost {
    process: Process,
    settings: String,
    /// How it calls itself.
    pub name: &'static str,
    /// Where it listens, for instance `127.0.0.1:40123`.
    pub address: String,
}

impl DemoHost {
    /// Starts one.
    pub fn start(name: &'static str, settings: &Value) -> Self {
        let settings = settings.to_string();
        let (process, address) = start(name, "127.0.0.1:0", &settings);
        Self { process, settings, name, address }
    }

    /// Waits until the page has ended it.
    pub fn wait_for_end(&mut self) {
        self.process.wait();
    }

    /// Starts it again.
    pub fn restart(&mut self) {
        (self.process, _) = start(self.name, &self.address, &self.settings);
    }
}

fn start(name: &str, address: &str, settings: &str) -> (Process, String) {
    let mut command = Command::new(super::built("upstream"));
    command.args(["--listen", address, "--name", name, "--demo", settings]).stdout(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let line = process.first_line();
    let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("no host: {line}"));
    (process, address.to_owned())
}
