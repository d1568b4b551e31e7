//! Clients that speak HTTP/1.1, or something like it.

use super::cases::{Case, Tokens};
use super::tally::{Answer, Tally};
use super::wire::{Reader, header_lines, reset};
use fastrand::Rng;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How a client leaves.
enum Leave {
    /// When it has every answer.
    Served,
    /// After so many bytes, and so.
    Early(usize, Manner),
}

#[derive(Clone, Copy)]
enum Manner {
    Close,
    Reset,
    /// Says that it sends no more, and goes on reading.
    Half,
}

/// One connection, a few requests: in one write, in pieces, or each after the answer to the one before. Every sixth client leaves
/// in the middle of something.
pub async fn converse(address: &str, rng: &mut Rng, tokens: &Tokens, tally: &mut Tally) {
    // What is odd mostly ends the connection.
    let wild = rng.u8(..3) == 0;
    let count = if wild { rng.usize(1..8) } else { [1, 10, 40, 80][rng.usize(..4)] };
    let cases: Vec<Case> = (0..count).map(|_| Case::next(rng, tokens, wild)).collect();
    let requests: Vec<Vec<u8>> = cases.iter().map(|case| serialized(case, rng)).collect();
    cases.iter().for_each(|case| tally.send("HTTP/1.1", &case.expected));
    let whole: usize = requests.iter().map(Vec::len).sum();
    let leave = if rng.u8(..6) == 0 {
        Leave::Early(rng.usize(..=whole), [Manner::Close, Manner::Reset, Manner::Half][rng.usize(..3)])
    } else {
        Leave::Served
    };
    let mut stream = TcpStream::connect(address).await.expect("Envoy");
    stream.set_nodelay(true).expect("a socket");
    let all = requests.concat();
    match leave {
        Leave::Served if rng.bool() => {
            let (read, mut write) = stream.split();
            let mut reader = Reader::new(read);
            let mut answered = Answered::new(&cases, false);
            for request in &requests {
                if write.write_all(request).await.is_err() || !answered.next(&mut reader, tally).await {
                    break;
                }
            }
            answered.lose_the_rest(tally);
        }
        Leave::Served => {
            let (read, mut write) = stream.split();
            let pieces = pieces(&all, rng);
            let send = async {
                for piece in pieces {
                    write.write_all(piece).await?;
                    tokio::task::yield_now().await;
                }
                io::Result::Ok(())
            };
            let receive = async {
                let mut reader = Reader::new(read);
                let mut answered = Answered::new(&cases, cases.len() > 1);
                while answered.next(&mut reader, tally).await {}
                answered.lose_the_rest(tally);
            };
            // What is sent after Envoy has closed goes nowhere.
            let _ = tokio::join!(receive, send);
        }
        Leave::Early(at, manner) => {
            let _ = stream.write_all(&all[..at]).await;
            if rng.bool() {
                // Perhaps the first answer has begun.
                let _ = tokio::time::timeout(Duration::from_millis(20), stream.readable()).await;
            }
            match manner {
                Manner::Close => {}
                Manner::Reset => reset(stream),
                Manner::Half => {
                    let _ = stream.shutdown().await;
                    while Reader::new(&mut stream).head().await.is_ok() {}
                }
            }
            cases.iter().for_each(|_| tally.lose("", true));
        }
    }
}

/// The bytes of a request.
fn serialized(case: &Case, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = [case.method.as_bytes(), b" ", &case.path, b" HTTP/1.1\r\nHost: a\r\n"].concat();
    let add = |bytes: &mut Vec<u8>, lines: &[(String, Vec<u8>)]| {
        for (name, value) in lines {
            bytes.extend(name.bytes().chain(*b": ").chain(value.iter().copied()).chain(*b"\r\n"));
        }
    };
    add(&mut bytes, &case.headers);
    let body = case.body.as_deref().unwrap_or_default();
    if case.trailers.is_empty() {
        if case.body.is_some() {
            bytes.extend(format!("content-length: {}\r\n", body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(body);
        return bytes;
    }
    bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
    for chunk in body.chunks(rng.usize(1..4000)) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n");
    add(&mut bytes, &case.trailers);
    bytes.extend(b"\r\n");
    bytes
}

fn pieces<'a>(bytes: &'a [u8], rng: &mut Rng) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = (0..[0, 0, 1, 10][rng.usize(..4)]).map(|_| rng.usize(..=bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Reads the answers, in the order of the requests.
struct Answered<'a> {
    cases: &'a [Case],
    at: usize,
    /// Envoy may close the connection: one of the requests so far was odd, or the host's answer was, or they are piled.
    excused: bool,
    /// Why there are no more.
    error: String,
}

impl<'a> Answered<'a> {
    /// `piled`: the requests do not wait for each other. Envoy closes where answers pile up before they are written.
    fn new(cases: &'a [Case], piled: bool) -> Self {
        Self { cases, at: 0, excused: piled, error: String::new() }
    }

    /// Reads one more. `false` when there are no more.
    async fn next<R: AsyncRead + Unpin>(&mut self, reader: &mut Reader<R>, tally: &mut Tally) -> bool {
        let Some(case) = self.cases.get(self.at) else { return false };
        self.excused |= case.expected.odd || case.expected.to_hostile_host;
        let (answer, goes_on) = match answer(reader, &case.method).await {
            Ok(answer) => answer,
            Err(error) => {
                self.error = error.to_string();
                return false;
            }
        };
        let shown = || describe(case);
        tally.answer(&case.expected, &answer, &shown);
        self.at += 1;
        goes_on
    }

    fn lose_the_rest(&self, tally: &mut Tally) {
        for (at, case) in self.cases.iter().enumerate().skip(self.at) {
            // One answer says more than a hundred.
            let lost = format!("{}: {}", self.error, describe(case));
            tally.lose(&lost, self.excused || at > self.at);
        }
    }
}

/// A request, as far as a message has room for it.
pub fn describe(case: &Case) -> String {
    let lines = case.headers.iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii()));
    let shown = format!("{} {} {:?}", case.method, case.path.escape_ascii(), lines.collect::<Vec<_>>());
    shown.chars().take(3000).collect()
}

/// Reads an answer, and whether another may follow.
async fn answer<R: AsyncRead + Unpin>(reader: &mut Reader<R>, method: &str) -> io::Result<(Answer, bool)> {
    let mut answer = Answer::default();
    loop {
        let head = reader.head().await?;
        answer.status = head.second_word().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        head.lines().for_each(|(name, value)| answer.take(&name, value));
        match answer.status {
            101 => return Ok((answer, false)),
            100..200 => continue,
            204 | 304 => {}
            _ if method == "HEAD" => {}
            _ => {
                let (_, trailers) = reader.body(&head, true).await?;
                header_lines(&trailers).for_each(|(name, value)| answer.take(&name, value));
            }
        }
        let closes = head.value("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        return Ok((answer, !closes));
    }
}
