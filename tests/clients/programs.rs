//! curl, and the programs in `examples/clients`: each keeps its session with the jar of cookies that its language has.

use crate::stage::Stage;
use mooring_test_kit::servers::{node_packages, root, tool};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Runs it, and returns the lines that it printed.
pub fn lines(command: &mut Command) -> Vec<String> {
    let output = command.env("NO_PROXY", "*").env("no_proxy", "*").output().expect("a program");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}{errors}");
    said.lines().map(str::to_owned).collect()
}

/// A program of `examples/clients` that Node.js runs, in a folder from where it finds its packages.
pub struct Program {
    folder: TempDir,
    name: &'static str,
}

impl Program {
    pub fn new(files: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            std::fs::copy(root().join("examples/clients").join(file), folder.path().join(file)).expect("a file");
        }
        let packages = node_packages().join("node_modules");
        std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).expect("a link");
        Self { folder, name: files[0] }
    }

    pub fn command(&self, authority: &Path) -> Command {
        let mut command = Command::new(tool("MOORING_NODE", "node"));
        command.arg(self.folder.path().join(self.name)).env("NODE_EXTRA_CA_CERTS", authority);
        command
    }
}

/// The paths of a visit: a session begins, is rotated at login, and ends at logout; then another begins.
const VISIT: [&str; 9] = ["/", "/", "/", "/?action=rotate", "/", "/", "/", "/?action=end", "/"];

/// Eight requests were served by the session's host. The last belongs to a new session, wherever that is.
fn assert_visited(stage: &Stage, hosts: &[String]) {
    assert_eq!(hosts.len(), VISIT.len(), "{hosts:?}");
    assert!(hosts[..8].iter().all(|host| *host == hosts[0] && !host.is_empty()), "{hosts:?}");
    stage.assert_outcomes(&[("created", 2), ("resumed", 5), ("rotated", 1), ("ended", 1)]);
}

fn visit(stage: &Stage) -> Vec<String> {
    VISIT.map(|path| stage.url("127.0.0.1", path)).to_vec()
}

/// Runs curl once for each request: nothing but its jar, a file, is there to remember the session.
fn visit_with_curl(stage: &Stage, arguments: &[&str], version: &str) {
    let jar = stage.certificates.path("jar");
    let ca = stage.certificates.path("ca.pem");
    let request = |url: &String| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "10", "-o", "/dev/null", "-c", &jar, "-b", &jar, "--cacert", &ca]);
        let said = lines(curl.args(["-D", "-", "-w", "%{http_version} %{http_code}"]).args(arguments).arg(url));
        assert_eq!(said.last(), Some(&format!("{version} 200")), "{said:?}");
        said.iter().find_map(|line| line.strip_prefix("x-served-by: ")).expect("a host").to_owned()
    };
    let hosts: Vec<String> = visit(stage).iter().map(request).collect();
    assert_visited(stage, &hosts);
}

#[test]
fn curl_keeps_its_session() {
    visit_with_curl(&Stage::tls(json!({})), &["--http1.1"], "1.1");
}

#[test]
fn curl_keeps_its_session_over_http_2() {
    visit_with_curl(&Stage::tls(json!({})), &["--http2"], "2");
}

/// Since curl 7.79 a `Secure` cookie counts there.
#[test]
fn curl_keeps_its_session_on_loopback_without_tls() {
    visit_with_curl(&Stage::plain(), &[], "1.1");
    visit_with_curl(&Stage::plain(), &["--http2-prior-knowledge"], "2");
}

/// Has `examples/clients/session.py` request these URLs.
fn with_requests(stage: &Stage, urls: Vec<String>) -> Vec<String> {
    let mut python = Command::new(tool("MOORING_PYTHON_REQUESTS", "python-requests"));
    python.arg(root().join("examples/clients/session.py")).env("REQUESTS_CA_BUNDLE", stage.certificates.ca());
    lines(python.args(urls))
}

#[test]
fn requests_keeps_its_session() {
    let stage = Stage::tls(json!({}));
    let hosts = with_requests(&stage, visit(&stage));
    assert_visited(&stage, &hosts);
}

#[test]
fn requests_sends_no_secure_cookie_without_tls() {
    let stage = Stage::plain();
    with_requests(&stage, vec![stage.url("127.0.0.1", "/"); 4]);
    stage.assert_outcomes(&[("created", 4)]);
}

#[test]
fn fetch_keeps_its_session() {
    // On loopback tough-cookie sends a `Secure` cookie without TLS, too.
    for stage in [Stage::tls(json!({})), Stage::plain()] {
        let program = Program::new(&["fetch.mjs"]);
        let hosts = lines(program.command(&stage.certificates.ca()).args(visit(&stage)));
        assert_visited(&stage, &hosts);
    }
}

#[test]
fn a_web_socket_begins_a_session_and_the_next_ones_are_in_it() {
    let stage = Stage::tls(json!({}));
    let program = Program::new(&["websocket.mjs"]);
    let url = stage.url("127.0.0.1", "/ws").replace("https:", "wss:");
    let hosts = lines(program.command(&stage.certificates.ca()).args(vec![url; 6]));
    assert_eq!(hosts, vec![hosts[0].clone(); 6]);
    stage.assert_outcomes(&[("created", 1), ("resumed", 5)]);
}

/// What the page about clients says of those without a jar.
#[test]
fn a_client_without_a_jar_gets_a_new_session_each_time() {
    let stage = Stage::tls(json!({}));
    let ca = stage.certificates.path("ca.pem");
    for url in visit(&stage).iter().take(6) {
        lines(Command::new("curl").args(["-sS", "-m", "10", "--cacert", &ca, "-o", "/dev/null"]).arg(url));
    }
    stage.assert_outcomes(&[("created", 6)]);
}
