//! Programs that are no Envoys, and the upstream hosts: an nginx that says with which port it was reached.

use super::accounting;
use mooring_test_kit::servers::{eventually, free_port, tool};
use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A program that serves on a port, and the processes that it starts. Dropped, they are gone.
pub struct Program {
    process: Child,
    /// Of the whole program.
    pub processes: Vec<u32>,
    /// Where it serves, for instance `127.0.0.1:40123`.
    pub address: String,
    folder: TempDir,
}

impl Program {
    /// Starts `program` with a config of its own, which `config` makes of the port to serve on and a folder for files. `arguments`
    /// are made of the config's path and the folder.
    pub fn start(
        program: PathBuf,
        config: impl FnOnce(u16, &Path) -> String,
        arguments: impl FnOnce(&mut Command, &Path, &Path),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let path = folder.path().join("config");
        super::write(&path, &config(port, folder.path()));
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new(program);
        arguments(&mut command, &path, folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut program = Self { processes: Vec::new(), address: format!("127.0.0.1:{port}"), process, folder };
        eventually("a server to listen", || {
            if let Ok(Some(status)) = program.process.try_wait() {
                panic!("{command:?} ended with {status}:\n{}", program.log());
            }
            TcpStream::connect(&program.address).ok()
        });
        program.processes = accounting::family(program.process.id());
        program
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("The log of {}:\n{}", self.address, self.log());
        }
        accounting::end(&self.processes);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What every nginx here begins with.
pub const NGINX: &str = "\
worker_processes 1;
error_log stderr warn;
events { worker_connections 16384; }
http {
access_log off;
keepalive_timeout 1d;
keepalive_requests 1000000000;
large_client_header_buffers 4 64k;
client_body_temp_path body;
proxy_temp_path proxy;
fastcgi_temp_path fastcgi;
uwsgi_temp_path uwsgi;
scgi_temp_path scgi;
";

/// Starts nginx with this config behind [`NGINX`].
pub fn nginx(config: impl FnOnce(u16) -> String) -> Program {
    let whole = |port, folder: &Path| format!("pid {}/pid;\n{NGINX}{}}}\n", folder.display(), config(port));
    Program::start(tool("MOORING_NGINX", "nginx"), whole, |command, config, folder| {
        command.args(["-g", "daemon off;", "-e", "stderr", "-p"]).arg(folder).arg("-c").arg(config);
    })
}

/// Upstream hosts, on the load's core.
pub struct Hosts {
    _nginx: Program,
    pub ports: Vec<u16>,
}

impl Hosts {
    pub fn start(count: usize) -> Self {
        let body =
            "All hosts of this benchmark answer with this line of about a hundred octets, and the port they have.";
        let mut ports = Vec::new();
        let nginx = nginx(|port| {
            ports.push(port);
            while ports.len() < count {
                let port = free_port();
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
            let listen: String = ports.iter().map(|port| format!("listen 127.0.0.1:{port};\n")).collect();
            format!(
                "server {{\n{listen}add_header x-served-by $server_port;\nlocation / {{ return 200 \"{body}\"; }}\n}}\n"
            )
        });
        Self { _nginx: nginx, ports }
    }

    /// The host that a client has, where the benchmark decides that.
    pub fn of(&self, client: usize) -> u16 {
        self.ports[client % self.ports.len()]
    }
}
