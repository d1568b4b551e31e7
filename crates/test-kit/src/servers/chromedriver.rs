//! Chromium's WebDriver server, `chromedriver`. The browsers that it starts are those of its clients: they end them.

use super::{Process, tool};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// A running server.
pub struct Chromedriver {
    // It holds the pipe of the process's output, too.
    _process: Process,
    /// Where it listens, for instance `http://127.0.0.1:40123`.
    pub url: String,
}

impl Chromedriver {
    /// Starts one. It and its browsers put what they need for the time into this folder.
    pub fn start(folder: &Path) -> Self {
        // It draws a port that is free over IPv6, and ends where somebody has that over IPv4.
        let started = (0..100).find_map(|_| Self::try_start(folder));
        started.expect("chromedriver says where it listens")
    }

    fn try_start(folder: &Path) -> Option<Self> {
        let mut command = Command::new(tool("MOORING_CHROMEDRIVER", "chromedriver"));
        command
            .env("TMPDIR", folder)
            .args(["--port=0", "--log-level=SEVERE"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = Process::spawn(&mut command);
        let output = BufReader::new(process.0.stdout.as_mut().expect("its output"));
        let port = output.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        })?;
        Some(Self { _process: process, url: format!("http://127.0.0.1:{port}") })
    }
}
