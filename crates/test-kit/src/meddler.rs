//! What stands between the proxies and their store, and may do anything: HTTP/1.1, one request at a time on each connection.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What becomes of a request.
#[derive(Clone)]
pub enum Manner {
    /// The store answers.
    Honest,
    /// The store answers, so much later.
    Slow(Duration),
    /// These bytes are the answer, and the connection stays open.
    Say(Vec<u8>),
    /// These bytes are the answer, and the connection is closed.
    SayAndClose(Vec<u8>),
    /// As [`Manner::Say`] for requests that begin so; the others get the store's answer.
    SayTo(&'static str, Vec<u8>),
}

impl Manner {
    /// A whole response.
    pub fn response(status: &str, lines: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {status}\r\n{lines}content-length: {}\r\n\r\n", body.len());
        Self::Say([head.as_bytes(), body].concat())
    }

    /// The same answer, to requests alone that begin so.
    pub fn to(self, beginning: &'static str) -> Self {
        let Self::Say(bytes) = self else { return self };
        Self::SayTo(beginning, bytes)
    }
}

/// A server in front of a store.
pub struct Meddler {
    /// Where it listens, for instance `127.0.0.1:40123`.
    pub address: String,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    store: String,
    manner: Mutex<Manner>,
    calls: AtomicUsize,
    over: AtomicBool,
}

impl Meddler {
    /// Starts one in front of the store at this address.
    pub fn before(store: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            store: store.to_owned(),
            manner: Mutex::new(Manner::Honest),
            calls: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().flatten() {
                    if shared.over.load(Ordering::Relaxed) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    // Its connections end with Envoy's.
                    std::thread::spawn(move || shared.serve(stream));
                }
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// From now on it behaves so.
    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().expect("a lock") = manner;
    }

    /// How many requests have arrived.
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // It waits for a connection.
        let _ = TcpStream::connect(&self.address);
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let mut unread = Vec::new();
        while let Some(request) = message(&mut stream, &mut unread) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let manner = self.manner.lock().expect("a lock").clone();
            let (answer, close) = match manner {
                Manner::Honest => (self.ask(&request), false),
                Manner::Slow(pause) => {
                    std::thread::sleep(pause);
                    (self.ask(&request), false)
                }
                Manner::Say(bytes) => (Some(bytes), false),
                Manner::SayAndClose(bytes) => (Some(bytes), true),
                Manner::SayTo(beginning, bytes) if request.starts_with(beginning.as_bytes()) => (Some(bytes), false),
                Manner::SayTo(..) => (self.ask(&request), false),
            };
            let Some(answer) = answer else { break };
            if stream.write_all(&answer).is_err() || close {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// What the store says; nothing where it is not there.
    fn ask(&self, request: &[u8]) -> Option<Vec<u8>> {
        let mut store = TcpStream::connect(&self.store).ok()?;
        store.write_all(request).ok()?;
        message(&mut store, &mut Vec::new())
    }
}

/// Reads a request or a response. `unread` is what was read beyond the one before.
fn message(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut buffer = [0; 16384];
    loop {
        if let Some(head) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let lines = String::from_utf8_lossy(&unread[..head]).to_ascii_lowercase();
            let length = lines.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let whole = head + 4 + length.unwrap_or(0);
            if unread.len() >= whole {
                return Some(unread.drain(..whole).collect());
            }
        }
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => unread.extend_from_slice(&buffer[..read]),
            Ok(_) | Err(_) => return None,
        }
    }
}
