//! A store that answers anything, in every protocol, to clients with good sessions: each is served, on its host.

use super::number;
use super::wire::{Reader, reset};
use crate::store::load::Load;
use fastrand::Rng;
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::session::{Session, SessionId};
use mooring::store::protocol::StoreKey;
use mooring::store::value;
use mooring_test_kit::fleet::{Fleet, Plan, over_unchecked_http1};
use mooring_test_kit::memory::Footprint;
use mooring_test_kit::tokens;
use serde_json::json;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// So many sessions come again and again.
const SESSIONS: usize = 200;

/// One call of this many is answered with anything; were it more, the plugin's circuit breaker would keep away from the rest.
const HOSTILE: usize = 3;

const KINDS: usize = 15;

/// What the store knows: the hash in a session's key, its own value, and one that is not for it.
struct Known {
    hash: String,
    value: String,
    strange: String,
}

struct Shared {
    protocol: &'static str,
    known: Vec<Known>,
    rng: Mutex<Rng>,
    calls: AtomicU64,
    /// By kind, how often it was met.
    met: [AtomicU64; KINDS],
}

/// The server.
struct Store {
    address: String,
    shared: Arc<Mutex<Option<Arc<Shared>>>>,
    runtime: Option<Runtime>,
}

impl Store {
    /// Starts one that hangs up until it knows something.
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        listener.set_nonblocking(true).expect("a listener");
        let shared = Arc::new(Mutex::new(None::<Arc<Shared>>));
        let of_all = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = of_all.lock().expect("a lock").clone();
                if let Some(shared) = shared {
                    tokio::spawn(async move { shared.serve(stream).await });
                }
            }
        });
        Self { address, shared, runtime: Some(runtime) }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) {
        let (read, mut write) = stream.split();
        let mut reader = Reader::new(read);
        loop {
            let Ok(head) = reader.head().await else { return };
            let Ok((body, _)) = reader.body(&head, false).await else { return };
            self.calls.fetch_add(1, Ordering::Relaxed);
            let request = String::from_utf8_lossy(&[&head.0, body.as_slice()].concat()).into_owned();
            let known = self.known.iter().find(|known| request.contains(&known.hash));
            let Some(known) = known else { return };
            let mut rng = self.rng.lock().expect("a lock").fork();
            let honest = self.honest(&request, &known.value);
            if rng.usize(..HOSTILE) > 0 {
                if write.write_all(&honest).await.is_err() {
                    return;
                }
                continue;
            }
            let kind = rng.usize(..KINDS);
            self.met[kind].fetch_add(1, Ordering::Relaxed);
            match self.hostile(kind, &mut rng, &request, known, honest) {
                Answer::Whole(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Answer::Last(bytes) => {
                    let _ = write.write_all(&bytes).await;
                    return;
                }
                Answer::Drip(bytes) => {
                    // Longer than the plugin waits.
                    for byte in bytes.chunks(bytes.len().div_ceil(10)) {
                        if write.write_all(byte).await.is_err() {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(40)).await;
                    }
                }
                Answer::Reset => return reset(stream),
            }
        }
    }

    /// Puts a value where the protocol has it.
    fn wrapped(&self, request: &str, value: &str) -> String {
        match self.protocol {
            "rest" => value.to_owned(),
            "webdis" => format!("{{\"{}\":\"{value}\"}}", if request.contains("EVAL") { "EVAL" } else { "GET" }),
            _ => format!("{{\"result\":\"{value}\"}}"),
        }
    }

    fn honest(&self, request: &str, value: &str) -> Vec<u8> {
        match request.split(' ').next() {
            Some("PUT") => response(201, "etag: \"1\"\r\n", b""),
            Some("POST") if self.protocol == "rest" => response(204, "", b""),
            _ => response(200, "etag: \"1\"\r\n", self.wrapped(request, value).as_bytes()),
        }
    }

    fn hostile(&self, kind: usize, rng: &mut Rng, request: &str, known: &Known, honest: Vec<u8>) -> Answer {
        let own = self.wrapped(request, &known.value).into_bytes();
        let noise = |rng: &mut Rng, most: usize| -> Vec<u8> { (0..rng.usize(..most)).map(|_| rng.u8(..)).collect() };
        let etag = "etag: \"1\"\r\n";
        match kind {
            0 => Answer::Whole(response(200, etag, &noise(rng, 5000))),
            1 => {
                let mut altered = own;
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(..altered.len());
                    match rng.u8(..3) {
                        0 => altered[at] ^= 1 << rng.u8(..8),
                        1 => altered.insert(at, rng.u8(..)),
                        _ => altered.truncate(at.max(1)),
                    }
                }
                Answer::Whole(response(200, etag, &altered))
            }
            2 => Answer::Whole(response(200, etag, self.wrapped(request, &known.strange).as_bytes())),
            3 => {
                let etag = [vec![b'e'; rng.usize(1..50_000)], noise(rng, 60), Vec::new()][rng.usize(..3)].clone();
                let etag = etag.iter().filter(|byte| !b"\r\n\0".contains(byte)).map(|byte| char::from(byte | 0x80));
                Answer::Whole(response(200, &format!("ETag: {}\r\n", etag.collect::<String>()), &own))
            }
            4 => Answer::Drip(honest),
            5 => Answer::Last(honest[..rng.usize(..honest.len())].to_vec()),
            6 => {
                let twice =
                    ["etag: \"2\"\r\netag: \"3\"\r\n", "content-length: 7\r\n", "transfer-encoding: chunked\r\n"];
                Answer::Last(response(200, twice[rng.usize(..3)], &own))
            }
            7 => {
                let length = [own.len().saturating_sub(5), own.len() + 5, 1 << 40][rng.usize(..3)];
                let head = format!("HTTP/1.1 200 OK\r\n{etag}content-length: {length}\r\n\r\n");
                Answer::Last([head.as_bytes(), &own].concat())
            }
            // Gone is what the store alone can know: it would end the session.
            8 => {
                let status = rng.u16(100..600);
                let status = if status == 410 { 411 } else { status };
                let answer = response(status, etag, &own);
                if status < 200 { Answer::Last(answer) } else { Answer::Whole(answer) }
            }
            9 => Answer::Last(noise(rng, 2000)),
            10 => Answer::Whole(response(200, etag, &vec![b'v'; rng.usize(4097..300_000)])),
            // As deep as an answer that is read can be, and deeper.
            11 => {
                let (open, levels) =
                    (["[", "{\"a\":", "{\"GET\":", "{\"result\":["][rng.usize(..4)], rng.usize(100..4000));
                Answer::Whole(response(
                    200,
                    etag,
                    open.repeat(levels).get(..4096).unwrap_or(&open.repeat(300)).as_bytes(),
                ))
            }
            12 => Answer::Reset,
            13 => {
                let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
                let size = own.len();
                let head = format!("{early}HTTP/1.1 200 OK\r\n{etag}transfer-encoding: chunked\r\n\r\n{size:x}\r\n");
                Answer::Whole([head.as_bytes(), &own, b"\r\n0\r\netag: \"9\"\r\n\r\n"].concat())
            }
            _ => {
                let odd = [
                    "{\"GET\":1e999}",
                    "{\"GET\":null,\"GET\":null}",
                    "{\"result\":{}}",
                    "{\"result\":\"\\ud800\"}",
                    "{}",
                    "[]",
                    "-0",
                    "{\"GET\":[true,\"OK\"]}",
                    "{\"EVAL\":[false,\"ERR\"]}",
                    "{\"error\":\"\"}",
                    "\u{feff}{}",
                    "{\"result\":1e-999}",
                    "",
                ];
                Answer::Whole(response(200, etag, odd[rng.usize(..odd.len())].as_bytes()))
            }
        }
    }
}

enum Answer {
    Whole(Vec<u8>),
    /// And the connection is closed.
    Last(Vec<u8>),
    Drip(Vec<u8>),
    Reset,
}

fn response(status: u16, lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} Status\r\n{lines}content-length: {}\r\n\r\n", body.len());
    // A char stands for a byte here.
    let head: Vec<u8> = head.chars().map(|char| u8::try_from(u32::from(char)).unwrap_or(b'?')).collect();
    [&head, body].concat()
}

/// A session on one of the first three hosts: its token and its host's name; and what the store knows of it.
fn session(rng: &mut Rng, fleet: &Fleet) -> ((String, String), Known) {
    let ours = tokens::keyring("m");
    let now = tokens::now();
    let pin = |at: usize| {
        let host = HostAddr::parse(fleet[0].hosts[at].address.as_bytes()).expect("an address");
        Pin { cluster: ClusterId::of(b"app"), host }
    };
    let mut session = Session { id: SessionId(rng.u128(..).to_be_bytes()), ..tokens::timed(now, now, now + 20 * 3600) };
    let home = rng.usize(..3);
    session.pins.set(pin(home));
    let key = StoreKey::of(&session.id, "m", "mooring");
    let hash = key.as_str().rsplit_once(':').expect("a key").1.to_owned();
    let token = tokens::sign(&session, &ours);
    let own = value::seal(&session, &key, &ours);
    // Newer, and elsewhere: whoever believes it moves.
    let mut other = session.clone();
    other.generation += 1;
    other.pins.set(pin((home + 1) % 3));
    let strange = if rng.bool() {
        value::seal(&other, &StoreKey::of(&SessionId([7; 16]), "m", "mooring"), &ours)
    } else {
        value::seal(&other, &key, &tokens::keyring("other"))
    };
    ((format!("m={token}"), fleet[0].hosts[home].name.to_owned()), Known { hash, value: own, strange })
}

fn survives(protocol: &'static str) {
    let seed = super::seed();
    let requests = usize::try_from(number("MOORING_HOSTILE_REQUESTS").unwrap_or(100_000) / 25).expect("a number");
    let mut rng = Rng::with_seed(seed);
    let store = Store::start();
    let plugin = json!({"store": {"protocol": protocol, "timeout": "200ms"}, "cache": {"ttl": "100ms", "entries": 100},
        "session": {"absolute_timeout": "24h", "idle_timeout": "8h"}});
    let mut fleet = Fleet::adjusted(&store.address, Plan { envoys: 1, ..Plan::new(plugin) }, |bootstrap| {
        over_unchecked_http1(bootstrap);
        bootstrap.trust_hosts();
    });
    let (sessions, known) = (0..SESSIONS).map(|_| session(&mut rng, &fleet)).unzip();
    let shared =
        Arc::new(Shared { protocol, known, rng: Mutex::new(rng), calls: AtomicU64::new(0), met: Default::default() });
    *store.shared.lock().expect("a lock") = Some(Arc::clone(&shared));
    let load = Load::with(sessions, vec![fleet[0].url("/")]);
    load.run(requests / 5, 16, |_| ()).assert_flawless();
    let warm = Footprint::of(&fleet[0].envoy);
    load.run(requests, 16, |_| ()).assert_flawless();
    let end = Footprint::of(&fleet[0].envoy);

    let calls = shared.calls.load(Ordering::Relaxed);
    let met: Vec<u64> = shared.met.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let kinds = ["unavailable", "refused", "senseless", "too_large", "value", "late", "left_alone"];
    let mut fault = |kind: &str| fleet.counter(&format!("mooring_faults.kind=store_{kind}"));
    let faults: Vec<(&str, u64)> = kinds.iter().map(|kind| (*kind, fault(kind))).collect();
    eprintln!("seed {seed}, {protocol}: {requests} requests, {calls} calls, by kind of answer {met:?}; {faults:?}");
    eprintln!("warmed up {warm:?}, at the end {end:?}");
    assert!(met.iter().all(|count| *count > 0), "seed {seed}: an answer was never given: {met:?}");
    for (kind, count) in &faults[..5] {
        assert!(*count > 0, "seed {seed}: no {kind}");
    }
    for outcome in ["created", "moved", "adopted", "pinned", "failed", "ended"] {
        let name = format!("mooring_sessions.outcome={outcome}");
        assert_eq!(fleet.counter(&name), 0, "seed {seed}: {outcome}");
    }
    fleet[0].assert_sound();
    end.assert_flat_since(&warm, 30);
}

#[test]
fn nothing_that_a_store_answers_fails_a_request_or_moves_a_session() {
    ["rest", "webdis", "upstash"].into_iter().for_each(survives);
}
