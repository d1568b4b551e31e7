//! The load: wrk, one thread, connections that are kept alive.

use mooring_test_kit::servers::{root, tool};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

pub const CONNECTIONS: u64 = 32;

/// What came of a round's load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Answered, every one with a 2xx or 3xx.
    pub requests: u64,
    pub seconds: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Sends what is in the file `clients`, as `clients.lua` reads it, for so many seconds.
pub fn drive(address: &str, clients: &Path, seconds: u64) -> Load {
    let mut wrk = Command::new(tool("MOORING_WRK", "wrk"));
    wrk.args(["--threads", "1", "--connections", &CONNECTIONS.to_string(), "--duration", &format!("{seconds}s")]);
    wrk.args(["--timeout", "10s", "--script"]).arg(root().join("benches/proxies/clients.lua"));
    wrk.arg(format!("http://{address}")).arg("--").arg(clients);
    let output = wrk.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("wrk");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("bench ")).unwrap_or_else(|| panic!("wrk said:\n{text}"));
    let told: Value = serde_json::from_str(line).expect("JSON");
    let number = |name: &str| told[name].as_f64().unwrap_or_else(|| panic!("no {name} in {line}"));
    assert!(number("broken") == 0.0 && number("refused") == 0.0, "{address}: requests failed: {line}");
    let requests = told["requests"].as_u64().filter(|requests| *requests > 0).expect("requests");
    Load { requests, seconds: number("seconds"), p50_ms: number("p50_ms"), p99_ms: number("p99_ms") }
}
