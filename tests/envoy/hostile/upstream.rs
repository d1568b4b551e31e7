//! Hosts that look at every byte they get. Those of the cluster `app` then answer as they should; those of `other` answer anything.

use super::wire::{Head, Reader, header_lines, reset};
use fastrand::Rng;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// What every value that a client sends under an internal name contains, but for [`SPOOFED_HOST`]. No id of a session has it in it: they
/// are base64url.
pub const SPOOF: &str = "spoof!";

/// Base64 of `127.0.0.1:1`: a host that there is not.
pub const SPOOFED_HOST: &str = "MTI3LjAuMC4xOjE=";

/// The names of the hosts. The cluster `app` has the first three.
pub const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What the hosts got.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicU64,
    /// What must never reach a host.
    leaks: Mutex<Vec<String>>,
}

/// Every host, on a thread of their own.
pub struct Hosts {
    /// Where they listen, in the order of [`NAMES`].
    pub addresses: Vec<String>,
    pub seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

impl Hosts {
    pub fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let seen = Arc::new(Seen::default());
        let start = |name: &&'static str| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("an address").to_string();
            listener.set_nonblocking(true).expect("a listener");
            let (name, seen) = (*name, Arc::clone(&seen));
            runtime.spawn(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(serve(name, stream, Arc::clone(&seen)));
                }
            });
            address
        };
        let addresses = NAMES.iter().map(start).collect();
        Self { addresses, seen, runtime: Some(runtime) }
    }

    /// Nothing reached a host that must not.
    pub fn assert_nothing_leaked(&self) {
        let leaks = self.seen.leaks.lock().expect("a lock");
        assert!(leaks.is_empty(), "{} leaks to hosts, the first: {}", leaks.len(), leaks[0]);
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(name: &'static str, mut stream: TcpStream, seen: Arc<Seen>) {
    let (read, mut write) = stream.split();
    let mut reader = Reader::new(read);
    let mut end = End::Open;
    while end == End::Open {
        let Ok(head) = reader.head().await else { break };
        let path = head.second_word();
        let seed = path.strip_prefix("/other/").and_then(|seed| seed.split('?').next()?.parse().ok());
        let Some(seed) = seed else {
            if path != "/health" {
                seen.requests.fetch_add(1, Ordering::Relaxed);
            }
            if rest(&mut reader, &head, &seen).await.is_none() || write.write_all(&polite(name, &head)).await.is_err() {
                break;
            }
            continue;
        };
        seen.requests.fetch_add(1, Ordering::Relaxed);
        let answer = Answer::of(seed, name, &head);
        if answer.early {
            // What follows of the request is in nobody's way: the connection goes.
            seen.inspect(&head, &[]);
        } else if rest(&mut reader, &head, &seen).await.is_none() {
            break;
        }
        if write.write_all(&answer.bytes).await.is_err() {
            break;
        }
        end = answer.end;
    }
    if end == End::Reset {
        reset(stream);
    }
}

/// Reads what is left of a request, and looks at it.
async fn rest<R: AsyncRead + Unpin>(reader: &mut Reader<R>, head: &Head, seen: &Seen) -> Option<()> {
    let (_, trailers) = reader.body(head, false).await.ok()?;
    seen.inspect(head, &trailers);
    Some(())
}

impl Seen {
    fn inspect(&self, head: &Head, trailers: &[u8]) {
        let of_head = head.lines().map(|line| (true, line));
        let of_trailers = header_lines(trailers).map(|line| (false, line));
        let mut sessions = 0;
        for (in_head, (name, value)) in of_head.chain(of_trailers) {
            let spoofed = value.windows(SPOOF.len()).any(|bytes| bytes.eq_ignore_ascii_case(SPOOF.as_bytes()));
            let spoofed = spoofed || value == SPOOFED_HOST.as_bytes();
            let allowed = match name.replace('_', "-").as_str() {
                // The route of these tests lets it through, so that it can be seen here.
                "x-mooring-host" => in_head && !spoofed,
                "x-mooring-session" => {
                    sessions += 1;
                    let is_id =
                        value.len() == 22 && value.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b));
                    in_head && !spoofed && is_id && sessions == 1
                }
                "cookie" => !value.split(|byte| *byte == b';').any(is_ours),
                name => !name.starts_with("x-mooring"),
            };
            if !allowed {
                let line = format!("{name}: {}, with {}", value.escape_ascii(), head.first_line().escape_ascii());
                self.leaks.lock().expect("a lock").push(line);
            }
        }
    }
}

fn is_ours(pair: &[u8]) -> bool {
    let name = pair.iter().position(|byte| !b" \t".contains(byte)).map(|at| &pair[at..]);
    name.is_some_and(|pair| pair.starts_with(b"m="))
}

fn polite(name: &str, head: &Head) -> Vec<u8> {
    let body = if head.first_line().starts_with(b"HEAD ") { "" } else { "ok" };
    format!("HTTP/1.1 200 OK\r\nx-served-by: {name}\r\ncontent-length: 2\r\n\r\n{body}").into_bytes()
}

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
    Reset,
}

/// What a hostile host sends, the same for the same seed.
struct Answer {
    bytes: Vec<u8>,
    end: End,
    /// Ahead of the request's end.
    early: bool,
}

const STATUSES: [&str; 24] = [
    "200 OK",
    "200 OK",
    "200 OK",
    "200 OK",
    "201 Created",
    "204 No Content",
    "205 Reset Content",
    "206 Partial Content",
    "300 ",
    "301 Moved Permanently",
    "302 Found",
    "304 Not Modified",
    "400 Bad Request",
    "401 \u{e9}",
    "404 Not Found",
    "418 I'm a teapot",
    "431 ",
    "500 Oops",
    "503 Service Unavailable",
    "599 ",
    "101 Switching Protocols",
    "100 Continue",
    "199 ",
    "103 Early Hints",
];

const OURS: [&str; 8] = [
    "x-mooring-host",
    "x-mooring-session",
    "x-mooring-action",
    "X-MOORING-HOST",
    "X-Mooring-Action",
    "x-mooring-action",
    "X-mOORING-sESSION",
    "x-mooring-action",
];

const ACTIONS: [&str; 12] = [
    "end",
    "rotate",
    "release",
    "END",
    "end, rotate",
    "rotate,release,,",
    " , ",
    "endend",
    "\"end\"",
    "end;q=1",
    "spoofed",
    "",
];

impl Answer {
    fn of(seed: u64, name: &str, head: &Head) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut bytes = Vec::new();
        for _ in 0..[0, 0, 0, 0, 0, 1, 3][rng.usize(..7)] {
            bytes.extend(
                format!("HTTP/1.1 10{} Early\r\n{}: end\r\nlink: <x>\r\n\r\n", 2 + rng.u8(..2), pick(&mut rng, &OURS))
                    .bytes(),
            );
        }
        let status = pick(&mut rng, &STATUSES);
        bytes.extend(format!("HTTP/1.1 {status}\r\nx-served-by: {name}\r\n").bytes());
        for _ in 0..rng.usize(..6) {
            header(&mut rng, &mut bytes);
        }
        let bodiless =
            head.first_line().starts_with(b"HEAD ") || ["1", "204", "304"].iter().any(|code| status.starts_with(code));
        let mut end = [End::Open, End::Open, End::Open, End::Closed, End::Reset][rng.usize(..5)];
        match rng.u8(..8) {
            0..4 => {
                bytes.extend(b"content-length: 2\r\n\r\n");
                bytes.extend(if bodiless { &b""[..] } else { b"ok" });
            }
            4 => {
                // Fewer bytes than it says.
                bytes.extend(b"content-length: 200\r\n\r\nshort");
                end = End::Closed;
            }
            5 => {
                // Until the connection closes.
                bytes.extend(b"\r\n");
                bytes.extend(std::iter::repeat_n(b'x', rng.usize(..20_000)));
                end = End::Closed;
            }
            6 => {
                bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
                if !bodiless {
                    bytes.extend(b"2\r\nok\r\n0\r\n");
                    for _ in 0..rng.usize(..4) {
                        header(&mut rng, &mut bytes);
                    }
                    bytes.extend(b"\r\n");
                }
            }
            _ => {
                // A body that HTTP does not allow, or a length that is none.
                let length =
                    pick(&mut rng, &["-1", "2, 2", "99999999999999999999", "2\r\ncontent-length: 3", "\u{e9}", ""]);
                bytes.extend(format!("content-length: {length}\r\n\r\nok").bytes());
                end = End::Closed;
            }
        }
        if rng.u8(..6) == 0 {
            bytes.truncate(rng.usize(..=bytes.len()));
            end = if rng.bool() { End::Closed } else { End::Reset };
        }
        if rng.u8(..40) == 0 {
            let at = rng.usize(..=bytes.len());
            bytes.splice(at..at, (0..rng.usize(1..9)).map(|_| rng.u8(..)));
            end = End::Closed;
        }
        let early = rng.u8(..8) == 0;
        // Envoy keeps no connection on which the answer was there before the request, and this end must not wait for the rest.
        let end = if early && end == End::Open { End::Closed } else { end };
        // Neither an unasked-for 101 nor another 1xx ends the exchange.
        let end = if status.starts_with('1') && end == End::Open { End::Closed } else { end };
        Self { bytes, end, early }
    }
}

fn pick<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

/// Adds a header line, or a thousand.
fn header(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let line = |bytes: &mut Vec<u8>, name: &str, value: &[u8]| {
        bytes.extend(name.bytes().chain(*b": ").chain(value.iter().copied()).chain(*b"\r\n"));
    };
    let odd: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(0x80..)).collect();
    match rng.u8(..14) {
        0 => line(bytes, pick(rng, &OURS), pick(rng, &ACTIONS).as_bytes()),
        1 => line(bytes, pick(rng, &OURS), &odd),
        2 => (0..rng.usize(2..40)).for_each(|_| line(bytes, pick(rng, &OURS), pick(rng, &ACTIONS).as_bytes())),
        3 => line(bytes, "x-mooring-action", "end,".repeat(rng.usize(1..12_000)).as_bytes()),
        4 => (0..rng.usize(1..100)).for_each(|at| line(bytes, "set-cookie", format!("c{at}=1; path=/").as_bytes())),
        5 => line(bytes, "Set-Cookie", b"m=m1e.new.AAAA.AAAA; Path=/; Max-Age=0"),
        6 => line(bytes, "set-cookie", &[b"m=".as_slice(), &odd].concat()),
        7 => {
            let said = [
                "private",
                "no-store",
                "public, max-age=1",
                "private=\"",
                "no-cache=\"x, private\"",
                ",,,",
                "PRIVATE",
                "",
            ];
            line(bytes, "cache-control", pick(rng, &said).as_bytes());
        }
        8 => line(bytes, "Cache-Control", &odd),
        9 => line(bytes, "x-big", &vec![b'b'; rng.usize(..70_000)]),
        10 => line(bytes, "x-decision", b"resumed"),
        11 => line(bytes, pick(rng, &["location", "content-type", "connection", "upgrade", "te", ":status"]), &odd),
        // More lines than Envoy takes, at times.
        12 if rng.u8(..8) == 0 => (0..1000).for_each(|_| line(bytes, "set-cookie", b"m=x")),
        _ => line(bytes, "x-odd", &odd),
    }
}
