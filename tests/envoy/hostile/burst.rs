//! One client that asks for hundreds of its own sessions at once: logouts hold meanwhile, and others are served.

use super::http2::{END_HEADERS, END_STREAM, HEADERS, frame, literal, next_frame};
use super::number;
use super::wire::PATIENCE;
use mooring::session::{Session, SessionId};
use mooring_test_kit::browser::Browser;
use mooring_test_kit::fleet::{Fleet, Plan, over_unchecked_http1};
use mooring_test_kit::meddler::{Manner, Meddler};
use mooring_test_kit::servers::eventually;
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::tokens;
use serde_json::json;
use std::time::Duration;
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
    // As shipped where many are asked for; longer beside other tests, which keep the store itself waiting for a processor.
    let timeout = if number("MOORING_HOSTILE_BURSTS").is_some() { "100ms" } else { "1s" };
    let members = json!({"store": {"timeout": timeout, "on_error": on_error}, "cache": {"ttl": "100ms"}});
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

#[test]
fn what_envoy_has_no_room_for_is_not_held_against_the_store() {
    let store = Store::start(&[]);
    let meddler = Meddler::before(&store.address);
    let plugin = json!({"store": {"timeout": "5s"}, "cache": {"ttl": "100ms"}});
    let mut fleet =
        Fleet::adjusted(&meddler.address, Plan { envoys: 1, workers: 1, ..Plan::new(plugin) }, |bootstrap| {
            over_unchecked_http1(bootstrap);
            // One call under way, one that waits for the connection: Envoy turns the others away.
            bootstrap.cluster("session_store")["circuit_breakers"] =
                json!({"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]});
        });
    meddler.behave(Manner::Slow(Duration::from_millis(50)));
    let (address, cookies) = (fleet[0].envoy.address.clone(), strangers(40));
    let (sent, _was_sent) = tokio::sync::oneshot::channel();
    Runtime::new().expect("a runtime").block_on(burst(&address, &cookies, sent));
    assert!(fleet[0].envoy.stat("cluster.session_store.upstream_rq_pending_overflow") >= 20, "Envoy had no room");
    let fault = |fleet: &mut Fleet, kind: &str| fleet.counter(&format!("mooring_faults.kind=store_{kind}"));
    let counted = |fleet: &mut Fleet| ["overload", "unavailable"].map(|kind| fault(fleet, kind));
    let [overload, unavailable] = eventually("the counts", || {
        let counted = counted(&mut fleet);
        (counted.iter().sum::<u64>() >= 20).then_some(counted)
    });
    eprintln!("without room: {overload} overload, {unavailable} unavailable");
    assert_eq!(fault(&mut fleet, "left_alone"), 0, "the store was left alone");
    fleet.assert_sound();
}
