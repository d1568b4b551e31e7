//! gRPC: the cookie goes as metadata, and a new one comes back with the first metadata of the answer, or with the status.

use crate::programs::Program;
use crate::stage::{Stage, encrypt, setup};
use mooring_test_kit::rig::{Bootstrap, EnvoyWorld};
use mooring_test_kit::servers::certs::Certificates;
use mooring_test_kit::servers::who::Who;
use mooring_test_kit::world::Bridge;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// Envoy with TLS, and hosts behind it that speak gRPC.
pub fn start(members: Value) -> (Stage, Vec<Who>) {
    let hosts: Vec<Who> = ["a", "b", "c"].map(Who::start).into();
    let addresses: Vec<&str> = hosts.iter().map(|host| host.address.as_str()).collect();
    let certificates = Certificates::new();
    let mut bootstrap = Bootstrap::new(Bridge::StatefulSession, &addresses, &addresses);
    bootstrap.set_plugin(&setup(members).plugin);
    bootstrap.trust_hosts(); // They speak nothing but gRPC.
    bootstrap.speak_http2("app", json!({}));
    encrypt(&mut bootstrap, &certificates);
    (Stage::new(EnvoyWorld::run(bootstrap, Vec::new(), 2), certificates), hosts)
}

/// `examples/clients/grpc.mjs`, at work.
pub struct Client {
    process: Child,
    calls: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _program: Program,
}

impl Client {
    /// `kept`: where it keeps its session.
    pub fn start(stage: &Stage, kept: &str) -> Self {
        let program = Program::new(&["grpc.mjs", "who.proto"]);
        let mut command = program.command(&stage.certificates.ca());
        let address = stage.world.envoy.address.replace("127.0.0.1", "localhost");
        command.arg(address).arg(stage.certificates.ca()).arg(kept).env("no_grpc_proxy", "localhost");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Node.js");
        let answers = BufReader::new(process.stdout.take().expect("its output"));
        Self { calls: process.stdin.take(), process, answers, _program: program }
    }

    /// Makes a call. Returns what the program says of it: the hosts that its messages and its trailers name, and the status.
    pub fn call(&mut self, call: &str) -> String {
        let calls = self.calls.as_mut().expect("its input");
        writeln!(calls, "{call}").expect("its input");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("its output");
        answer.trim_end().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.calls = None; // Then it ends.
        let _ = self.process.wait();
    }
}

#[test]
fn grpc_calls_and_streams_keep_their_session() {
    let (stage, _hosts) = start(json!({}));
    let mut client = Client::start(&stage, "cookie");
    let first = client.call("serves");
    let home = first.split(' ').next().expect("a host").to_owned();
    assert_eq!(first, format!("{home} {home} OK"));
    for _ in 0..4 {
        assert_eq!(client.call("serves"), first);
        assert_eq!(client.call("watch"), format!("{home} {home} {home} {home} OK"));
    }
    for login in ["serves", "watch"] {
        client.call(&format!(r#"{login} {{"action": "rotate"}}"#));
        assert_eq!(client.call("serves"), first);
    }
    assert_eq!(client.call(r#"serves {"action": "end"}"#), first);
    client.call("serves");
    stage.assert_outcomes(&[("created", 2), ("resumed", 10), ("rotated", 2), ("ended", 1)]);
}

/// Such an answer has no metadata but its status.
#[test]
fn a_grpc_call_that_fails_at_once_begins_a_session_too() {
    let (stage, _hosts) = start(json!({}));
    let mut client = Client::start(&stage, "cookie");
    let first = client.call(r#"serves {"fail": true}"#);
    let home = first.strip_suffix(" FAILED_PRECONDITION").unwrap_or_else(|| panic!("{first}")).to_owned();
    assert_eq!(client.call(r#"watch {"fail": true}"#), first);
    assert_eq!(client.call("serves"), format!("{home} {home} OK"));
    stage.assert_outcomes(&[("created", 1), ("resumed", 2)]);
}

#[test]
fn a_grpc_session_moves_when_its_host_is_gone_and_stays_there() {
    let (stage, mut hosts) = start(json!({}));
    let mut client = Client::start(&stage, "cookie");
    let first = client.call("serves");
    let home = first.split(' ').next().expect("a host").to_owned();
    hosts.iter_mut().find(|host| host.name == home).expect("a host").kill();
    let moved = client.call("serves");
    assert!(moved.ends_with(" OK") && moved != first, "{first}, then {moved}");
    for _ in 0..6 {
        assert_eq!(client.call("serves"), moved);
    }
    stage.assert_outcomes(&[("created", 1), ("moved", 1), ("resumed", 6)]);
}
