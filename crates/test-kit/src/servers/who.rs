//! An upstream host that speaks gRPC: `who.mjs`, over `@grpc/grpc-js`.

use super::{Process, node_packages, root, tool};
use std::process::{Command, Stdio};

/// A running server.
pub struct Who {
    process: Process,
    /// How it calls itself.
    pub name: &'static str,
    /// Where it listens, for instance `127.0.0.1:40123`.
    pub address: String,
}

impl Who {
    /// Starts one.
    pub fn start(name: &'static str) -> Self {
        let mut command = Command::new(tool("MOORING_NODE", "node"));
        command.arg(root().join("crates/test-kit/src/servers/who.mjs")).arg(name);
        command.arg(root().join("examples/clients/who.proto")).arg(node_packages());
        let mut process = Process::spawn(command.stdout(Stdio::piped()));
        let line = process.first_line();
        let port: u16 = line.parse().unwrap_or_else(|_| panic!("no server: {line}"));
        Self { process, name, address: format!("127.0.0.1:{port}") }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
