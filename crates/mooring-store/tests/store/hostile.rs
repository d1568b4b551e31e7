//! What clients can do to the store's memory, with a token and without, and to its other clients.

use crate::stage::{Peer, key};
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::servers::{eventually, within};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Not above what deploy/kubernetes allows the container, in KiB.
const LIMIT: u64 = 128 * 1024;
const TOKEN: (&str, &str) = ("MOORING_STORE_TOKEN", "secret-token");

/// How many connections a test opens: more than deploy/kubernetes allows, where the environment asks for it (`make nightly`).
#[allow(clippy::disallowed_methods)]
fn many() -> usize {
    if std::env::var_os("MOORING_STORE_HOSTILE_FULL").is_some() { 4000 } else { 200 }
}

/// The most memory that a store ever had, in KiB.
fn most_memory(store: &Store) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", store.id())).expect("the store lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// How a client begins that lets nothing be sent to it but heads.
fn closed_window() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat()
}

/// How one begins that lets everything be sent to it, and will not read it.
fn open_window() -> Vec<u8> {
    let most: u32 = (1 << 31) - 1;
    let [a, b, c, d] = most.to_be_bytes();
    let streams = frame(4, 0, 0, &[0, 4, a, b, c, d]);
    let connection = frame(8, 0, 0, &(most - 65_535).to_be_bytes());
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), streams, connection].concat()
}

/// A head by static indices and literals.
fn head(method: u8, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let mut block = vec![method, 0x86, 0x04];
    block.extend(text(path));
    block.push(0x01);
    block.extend(text("store"));
    for (name, value) in more {
        block.push(0);
        block.extend(text(name));
        block.extend(text(value));
    }
    block
}

const GET: u8 = 0x82;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Opens connections that ask for this on 254 streams each, and read nothing.
fn flood(store: &Store, connections: usize, beginning: Vec<u8>, flags: u8, block: &[u8]) -> Vec<TcpStream> {
    let mut bytes = beginning;
    for stream in 0..254 {
        bytes.extend(frame(1, flags, stream * 2 + 1, block));
    }
    let mut held = Vec::new();
    for _ in 0..connections {
        let Ok(mut stream) = TcpStream::connect(&store.address) else { continue };
        stream.set_write_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        // The server may have hung up already.
        let _ = stream.write_all(&bytes);
        held.push(stream);
    }
    held
}

fn files(wanted: u64) {
    rlimit::increase_nofile_limit(wanted).expect("files");
}

/// A proxy is served beside them, at once or nearly so.
fn is_served(store: &Peer) {
    eventually("a proxy to be served", || {
        let answer = store.client.get(store.session("k")).bearer_auth(TOKEN.1).send();
        answer.ok().filter(|answer| answer.status() == 404).map(drop)
    });
}

fn withstands(beginning: Vec<u8>, flags: u8, block: &[u8]) {
    files(10_000);
    let store = Peer::new(Store::with(&["--max-connections", "1000"], &[TOKEN]));
    keep_a_long_value(&store);
    let held = flood(&store.store, many(), beginning, flags, block);
    is_bounded(&store, &held);
    // Once they are gone: a store that serves 4,096 requests of others serves no further one.
    drop(held);
    is_served(&store);
}

fn is_bounded(store: &Peer, held: &[TcpStream]) {
    // What was sent is read by and by.
    let (mut before, mut most) = (0, most_memory(&store.store));
    while most > before {
        std::thread::sleep(Duration::from_millis(500));
        (before, most) = (most, most_memory(&store.store));
    }
    println!("{} connections: {most} KiB", held.len());
    assert!(most < LIMIT, "{most} KiB");
}

/// Under the key `long`, as long as there are.
fn keep_a_long_value(store: &Peer) {
    let put = store.client.put(store.session("long")).bearer_auth(TOKEN.1);
    let put = put.header("if-none-match", "*").header("mooring-ttl", 600).body("v".repeat(4096));
    assert_eq!(put.send().expect("an answer").status(), 201);
}

#[test]
fn answers_that_nobody_reads_take_bounded_memory() {
    for path in ["/metrics", "/healthz", "/nowhere", &format!("/v1/sessions/{}", key("k"))] {
        withstands(closed_window(), END_STREAM | END_HEADERS, &head(GET, path, &[]));
    }
}

#[test]
fn answers_that_somebody_with_the_token_does_not_read_take_bounded_memory() {
    let authorization = format!("Bearer {}", TOKEN.1);
    let block = head(GET, &format!("/v1/sessions/{}", key("long")), &[("authorization", &authorization)]);
    for beginning in [closed_window(), open_window()] {
        withstands(beginning, END_STREAM | END_HEADERS, &block);
    }
}

#[test]
fn an_answer_that_is_not_read_ends_its_connection_in_time() {
    let store = Peer::new(Store::with(&["--request-timeout", "10ms"], &[TOKEN]));
    // With the token: this one is under the bounds of nobody but itself.
    let authorization = format!("Bearer {}", TOKEN.1);
    let block = head(GET, &format!("/v1/sessions/{}", key("k")), &[("authorization", &authorization)]);
    let mut held = TcpStream::connect(&store.store.address).unwrap();
    held.write_all(&[closed_window(), frame(1, END_STREAM | END_HEADERS, 1, &block)].concat()).unwrap();
    held.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut all = Vec::new();
    held.read_to_end(&mut all).expect("the store hangs up");
    assert!(!all.is_empty());
}

#[test]
fn asking_how_the_store_is_doing_keeps_no_connection_for_ever() {
    let store = Peer::new(Store::with(&["--anonymous-timeout", "2s"], &[TOKEN]));
    let mut held = TcpStream::connect(&store.store.address).unwrap();
    held.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answers = 0;
    within(Duration::from_secs(15), "the store to hang up", || {
        let mut part = [0; 1024];
        let asked = held.write_all(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
        match (asked, held.read(&mut part)) {
            (Ok(()), Ok(1..)) => answers += 1,
            (Err(_), _) | (_, Ok(0)) => return Some(()),
            (_, Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => return Some(()),
            (_, Err(error)) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
        None
    });
    assert!(answers > 5, "{answers}");
}

#[test]
fn heads_without_an_end_and_many_connections_take_bounded_memory() {
    files(10_000);
    let store = Peer::new(Store::with(&["--max-connections", "1000"], &[TOKEN]));
    let block = head(GET, "/healthz", &[("x", &"y".repeat(100))]);
    let more = [0x00, 1, b'z', 100].iter().copied().chain([b'y'; 100]).collect::<Vec<u8>>().repeat(150);
    let mut bytes = [closed_window(), frame(1, END_STREAM, 1, &block)].concat();
    (0..4).for_each(|_| bytes.extend(frame(9, 0, 1, &more)));
    let mut held = Vec::new();
    for _ in 0..many() {
        let Ok(mut stream) = TcpStream::connect(&store.store.address) else { continue };
        let _ = stream.write_all(&bytes);
        held.push(stream);
    }
    is_served(&store);
    is_bounded(&store, &held);
}

#[test]
fn bodies_that_do_not_come_take_bounded_memory_whoever_sends_them() {
    let authorization = format!("Bearer {}", TOKEN.1);
    let lines = [("authorization", authorization.as_str()), ("mooring-ttl", "60"), ("if-none-match", "*")];
    // Not indexed, with the name in full: `:method: PUT`.
    let mut block = head(0x82, &format!("/v1/sessions/{}", key("k2")), &lines);
    block.splice(0..1, [&[0x02, 3][..], b"PUT"].concat());
    withstands(closed_window(), END_HEADERS, &block);
}
