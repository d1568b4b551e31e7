//! One client that asks for hundreds of its own sessions at once: logouts hold meanwhile, and others are served.

use super::http2::{END_HEADERS, END_STREAM, HEADERS, frame, literal, next_frame};
use super::number;
use super::wire::PATIENCE;
use crate::servers::store::Store;
use crate::shared::browser::Browser;
use crate::shared::tokens;
use crate::store::fleet::{Fleet, Plan};
use mooring::session::{Session, SessionId};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// More than Envoy's bounds for the store's cluster once were, and than the plugin lets be under way.
const LOOKUPS: u32 = 600;

/// Valid sessions that no worker has met.
fn strangers(count: u32) -> Vec<String> {
    let (ours, now) = (tokens::keyring("m"), tokens::now());
    let session = || Session { id: SessionId(fastrand::u128(..).to_be_bytes()), ..tokens::timed(now, now, now + 3600) };
    (0..count).map(|_| format!("m={}", tokens::sign(&session(), &ours))).collect()
}

/// One connection, one write, and its answers when they are all there.
async fn burst(address: &str, cookies: &[String], sent: tokio::sync::oneshot::Sender<()>) {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // A window for all the bodies.
    frame(&mut bytes, 8, 0, 0, &(1u32 << 30).to_be_bytes());
    for (at, cookie) in (0..).zip(cookies) {
        let mut block = Vec::new();
        let lines: [(&str, &str); 5] =
            [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a"), ("cookie", cookie)];
        lines.iter().for_each(|(name, value)| literal(&mut block, name.as_bytes(), value.as_bytes()));
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, at * 2 + 1, &block);
    }
    let mut stream = TcpStream::connect(address).await.expect("Envoy");
    stream.write_all(&bytes).await.expect("a connection");
    let _ = sent.send(());
    let mut answered = 0;
    while answered < cookies.len() {
        let (kind, _, _) =
            tokio::time::timeout(PATIENCE, next_frame(&mut stream)).await.expect("in time").expect("a frame");
        answered += usize::from(kind == HEADERS);
    }
}

/// What came of a session that had ended elsewhere, and of others', right behind bursts of one client.
struct Seen {
    accepted: usize,
    turned_away: usize,
    misplaced: usize,
}

fn bursts(rounds: usize, on_error: &str) -> (Seen, Fleet, Store) {
    let store = Store::start(&[]);
    let members = json!({"store": {"timeout": "100ms", "on_error": on_error}, "cache": {"ttl": "100ms"}});
    let mut fleet = Fleet::of(&store.address, Plan { workers: 1, ..Plan::new(members) });
    let runtime = Runtime::new().expect("a runtime");
    let mut seen = Seen { accepted: 0, turned_away: 0, misplaced: 0 };
    for _ in 0..rounds {
        let (mut browser, _) = fleet.browser(0);
        let ended = browser.cookie().expect("a cookie").to_owned();
        assert_eq!(browser.get(&mut fleet[0], "/?action=end").decision(), "ended");
        let (bystander, home) = fleet.browser(0);
        let bystander = bystander.cookie().expect("a cookie").to_owned();
        let (address, cookies) = (fleet[1].envoy.address.clone(), strangers(LOOKUPS));
        let (sent, was_sent) = tokio::sync::oneshot::channel();
        let task = runtime.spawn(async move { burst(&address, &cookies, sent).await });
        runtime.block_on(was_sent).expect("a burst");
        let again = Browser::holding(&ended).get(&mut fleet[1], "/");
        let other = Browser::holding(&bystander).get(&mut fleet[1], "/");
        seen.accepted += usize::from(again.status == 200 && again.decision() != "created");
        seen.turned_away += usize::from(again.status != 200) + usize::from(other.status != 200);
        seen.misplaced += usize::from(other.status == 200 && other.host() != home);
        runtime.block_on(task).expect("answers");
    }
    (seen, fleet, store)
}

fn hold(on_error: &str) {
    let rounds = usize::try_from(number("MOORING_HOSTILE_BURSTS").unwrap_or(6)).expect("a number");
    let (seen, mut fleet, _store) = bursts(rounds, on_error);
    let fault = |fleet: &mut Fleet, kind: &str| fleet.counter(&format!("mooring_faults.kind=store_{kind}"));
    let faults = ["left_alone", "overload", "unavailable"].map(|kind| (kind, fault(&mut fleet, kind)));
    let Seen { accepted, turned_away, misplaced } = seen;
    eprintln!(
        "{on_error}: {rounds} bursts; accepted {accepted}, turned away {turned_away}, misplaced {misplaced}; {faults:?}"
    );
    assert_eq!((accepted, turned_away, misplaced), (0, 0, 0), "of {rounds} bursts");
    assert_eq!(faults[0].1, 0, "the store was left alone");
    fleet.assert_sound();
}

#[test]
fn a_logout_holds_in_the_middle_of_another_client_s_burst() {
    hold("trust_cookie");
}

#[test]
fn others_are_served_in_the_middle_of_a_client_s_burst_where_no_answer_means_failure() {
    hold("fail");
}
