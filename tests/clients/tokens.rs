//! A token in a header, for clients that keep no cookies, and on one route with browsers.

use crate::browser::Browser;
use crate::programs::lines;
use crate::rpc::{self, Client};
use crate::stage::{APP, Stage};
use mooring_test_kit::rig::eventually;
use mooring_test_kit::servers::{root, tool};
use serde_json::json;
use std::process::Command;

/// Calls that a login and a logout are among, and the hosts that served them: all but the last in one session.
const CALLS: usize = 50;

fn assert_kept(hosts: &[String]) {
    assert_eq!(hosts.len(), CALLS);
    assert_eq!(hosts, vec![hosts[0].clone(); CALLS], "one session, one host");
}

/// Waits until so many responses are counted with this outcome, by this way.
fn counts(stage: &Stage, outcome: &str, by: &str, count: u64) {
    let name = format!("wasmcustom.mooring_sessions.outcome={outcome}.by={by}");
    eventually(&name, || (stage.world.envoy.stat(&name) == count).then_some(()));
}

#[test]
fn a_grpc_client_keeps_its_session_in_a_token() {
    let (stage, _hosts) = rpc::start(json!({"identify": [{"header": {}}]}));
    let mut node = Client::start(&stage, "token");
    let call = |at| if at == 20 { r#"serves {"action": "rotate"}"# } else { "serves" };
    let hosts: Vec<String> = (0..CALLS).map(|at| node.call(call(at))).collect();
    assert!(hosts[0].ends_with(" OK"), "{hosts:?}");
    assert_kept(&hosts);
    stage.assert_outcomes(&[("created", 1), ("resumed", CALLS as u64 - 2), ("rotated", 1)]);
    assert_eq!(node.call(r#"serves {"action": "end"}"#), hosts[0]);
    assert!(node.call("serves").ends_with(" OK"));
    counts(&stage, "created", "header", 2);
}

#[test]
fn a_grpc_client_in_python_keeps_its_session_in_a_token() {
    let (stage, _hosts) = rpc::start(json!({"identify": [{"header": {}}, {"cookie": {}}]}));
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["grpc_session.py", "who.proto"] {
        std::fs::copy(root().join("examples/clients").join(file), folder.path().join(file)).expect("a file");
    }
    let address = stage.world.envoy.address.replace("127.0.0.1", "localhost");
    let mut python = Command::new(tool("MOORING_PYTHON_GRPC", "python-grpc"));
    python.current_dir(folder.path()).arg("grpc_session.py").arg(address).arg(stage.certificates.ca());
    python.args((0..CALLS).map(|at| if at == 20 { "rotate" } else { "" })).env("no_grpc_proxy", "localhost");
    assert_kept(&lines(&mut python));
    counts(&stage, "created", "header", 1);
    counts(&stage, "resumed", "header", CALLS as u64 - 2);
    counts(&stage, "rotated", "header", 1);
}

#[test]
fn grpc_calls_that_do_not_ask_get_no_token() {
    let (stage, _hosts) = rpc::start(json!({"identify": [{"header": {}}]}));
    let mut node = Client::start(&stage, "nothing");
    (0..12).for_each(|_| assert!(node.call("serves").ends_with(" OK")));
    stage.assert_outcomes(&[("untouched", 12)]);
    counts(&stage, "untouched", "none", 12);
}

/// What a response had under this name.
fn header<'a>(said: &'a [String], name: &str) -> Option<&'a str> {
    said.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[test]
fn curl_asks_for_a_token_where_browsers_get_a_cookie() {
    let stage = Stage::tls(json!({"identify": [{"header": {"expose": true}}, {"cookie": {}}]}));
    let ca = stage.certificates.path("ca.pem");
    let curl = |arguments: &[&str], path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "10", "-D", "-", "-o", "/dev/null", "--cacert", &ca]).args(arguments);
        lines(curl.arg(stage.url("127.0.0.1", path)))
    };
    let first = curl(&["-H", "x-session-token;"], "/");
    let token = header(&first, "x-session-token").expect("a token").to_owned();
    let home = header(&first, "x-served-by").expect("a host");
    assert_eq!((header(&first, "set-cookie"), header(&first, "cache-control")), (None, Some("private")));
    let sent = format!("x-session-token: {token}");
    for protocol in ["--http1.1", "--http2"].repeat(5) {
        let again = curl(&["-H", &sent, protocol], "/");
        assert_eq!((header(&again, "x-served-by"), header(&again, "x-session-token")), (Some(home), None));
    }
    let ended = curl(&["-H", &sent], "/?action=end");
    assert_eq!(header(&ended, "x-session-token"), Some(""), "{ended:?}");
    let browser = Browser::start(&stage.certificates);
    browser.open(&stage.url(APP, "/"));
    let session = browser.shown().session;
    assert_eq!(browser.fetch("/").session, session);
    // A script of the page may ask as well: for a session of its own, since the header stands first.
    let body = "const ask = async (token) => {
            const response = await fetch('/', {credentials: 'omit', headers: {'x-session-token': token}});
            const {headers} = await response.json();
            const session = headers.find(([name]) => name === 'x-mooring-session')[1];
            return {token: response.headers.get('x-session-token'), session};
        };
        const first = await ask('');
        return [first, await ask(first.token)];";
    let asked = browser.run(body, &[]);
    assert!(asked[0]["token"].as_str().is_some_and(|token| token.starts_with("m1e.")), "{asked}");
    assert_eq!(asked[1]["session"], asked[0]["session"], "{asked}");
    assert_ne!(asked[0]["session"], session);
    counts(&stage, "created", "header", 2);
    counts(&stage, "ended", "header", 1);
    counts(&stage, "created", "cookie", 1);
}
