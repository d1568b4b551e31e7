//! Clients that speak HTTP/2: with a library as far as it lets them, and in frames of their own making beyond that.

use super::cases::{Case, Tokens};
use super::http1::describe;
use super::tally::{Answer, Tally};
use super::wire::PATIENCE;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use fastrand::Rng;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection with many streams at once, some of which the client resets, and which it may leave in the middle.
pub async fn converse(address: &str, rng: &mut Rng, tokens: &Tokens, tally: &mut Tally) {
    let stream = TcpStream::connect(address).await.expect("Envoy");
    stream.set_nodelay(true).expect("a socket");
    let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    // Either end closes the whole connection over a message that it does not like, so that those come on connections of their own.
    let fragile = rng.u8(..3) == 0;
    let mut waiting = Vec::new();
    for _ in 0..if fragile { rng.usize(1..10) } else { [1, 20, 60, 90][rng.usize(..4)] } {
        let Some((case, request)) = sendable(rng, tokens, fragile) else { continue };
        tally.send("HTTP/2", &case.expected);
        match begin(&mut sender, &case, request, rng).await {
            Ok(Some(answer)) => waiting.push((case, answer)),
            Ok(None) => tally.lose("", true),
            Err(error) => tally.lose(&format!("{error} to {}", describe(&case)), fragile),
        }
    }
    let gone = rng.u8(..8) == 0;
    if gone {
        connection.abort();
    }
    let left = gone || rng.u8(..8) == 0;
    for (case, answer) in waiting {
        if left && rng.bool() {
            // Dropped: a reset.
            tally.lose("", true);
            continue;
        }
        match finish(answer).await {
            Ok(answer) => tally.answer(&case.expected, &answer, &|| describe(&case)),
            Err(error) => {
                let allowed = fragile || left;
                tally.lose(&format!("{error} to {}", describe(&case)), allowed);
            }
        }
    }
    connection.abort();
}

/// A request that HTTP/2 has a form for. What the library cannot say is said in [`converse_in_frames`].
fn sendable(rng: &mut Rng, tokens: &Tokens, fragile: bool) -> Option<(Case, Request<()>)> {
    let mut tries = std::iter::repeat_with(|| Case::next(rng, tokens, fragile)).take(40);
    tries.find_map(|case| {
        let request = request(&case).filter(|_| fragile || is_clean(&case))?;
        Some((case, request))
    })
}

/// Nothing in it is against HTTP/2: no value there begins or ends with white space (RFC 9113, section 8.2.1). And Envoy's codec takes
/// less than Envoy: 64 KiB of lines, each with something on top.
fn is_clean(case: &Case) -> bool {
    let mut values = case.headers.iter().chain(&case.trailers).map(|(_, value)| value);
    let size: usize = values.clone().map(Vec::len).sum();
    !case.expected.odd && size < 40_000 && values.all(|value| value.trim_ascii() == value.as_slice())
}

fn request(case: &Case) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() =
        Method::from_bytes(case.method.as_bytes()).ok().filter(|method| *method != Method::CONNECT)?;
    let path = std::str::from_utf8(&case.path).ok().filter(|path| path.starts_with('/'))?;
    *request.uri_mut() = format!("http://a{path}").parse::<Uri>().ok()?;
    *request.headers_mut() = lines(&case.headers)?;
    Some(request)
}

fn lines(of: &[(String, Vec<u8>)]) -> Option<HeaderMap> {
    let line = |(name, value): &(String, Vec<u8>)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    let lines: Option<Vec<_>> = of.iter().map(line).collect();
    let mut map = HeaderMap::new();
    for (name, value) in lines? {
        map.append(name, value);
    }
    Some(map)
}

/// Sends a request, unless the client changes its mind.
async fn begin(
    sender: &mut SendRequest<Bytes>,
    case: &Case,
    request: Request<()>,
    rng: &mut Rng,
) -> Result<Option<ResponseFuture>, h2::Error> {
    *sender = sender.clone().ready().await?;
    let resets = rng.u8(..12) == 0;
    let (answer, mut stream) = sender.send_request(request, case.body.is_none() && !resets)?;
    if resets {
        reset(&mut stream, rng).await;
        return Ok(None);
    }
    if let Some(body) = &case.body {
        let trailers = lines(&case.trailers).filter(|trailers| !trailers.is_empty());
        // Two empty frames in a row that end nothing are a flood to Envoy. It may have answered, too, and want no more.
        if !body.is_empty() || trailers.is_none() {
            let _ = stream.send_data(Bytes::copy_from_slice(body), trailers.is_none());
        }
        let _ = trailers.map(|trailers| stream.send_trailers(trailers));
    }
    Ok(Some(answer))
}

/// Before the body, in the middle of it, or when the request has been looked at.
async fn reset(stream: &mut SendStream<Bytes>, rng: &mut Rng) {
    if rng.bool() {
        let _ = stream.send_data(Bytes::from_static(b"half of a body"), false);
    }
    for _ in 0..rng.usize(..3) {
        tokio::task::yield_now().await;
    }
    stream.send_reset([Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR][rng.usize(..3)]);
}

async fn finish(answer: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let mut answer = Answer { status: head.status.as_u16(), ..Answer::default() };
    take(&mut answer, &head.headers);
    if drain(&mut body).await.is_ok()
        && let Ok(Some(trailers)) = body.trailers().await
    {
        take(&mut answer, &trailers);
    }
    Ok(answer)
}

/// A body may end early: the host's fault, and no matter here.
async fn drain(body: &mut RecvStream) -> Result<(), h2::Error> {
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    Ok(())
}

fn take(answer: &mut Answer, lines: &HeaderMap) {
    lines.iter().for_each(|(name, value)| answer.take(name.as_str(), value.as_bytes()));
}

const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// How many CONTINUATIONs Envoy takes for one block of headers (nghttp2's `max_continuations`).
const MOST_CONTINUATIONS: usize = 8;

/// One connection with a few requests in frames that no library would write.
pub async fn converse_in_frames(address: &str, rng: &mut Rng, tokens: &Tokens, tally: &mut Tally) {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // Streams that have no answer, and what they asked.
    let mut open = Vec::new();
    // Most of what is wrong ends the connection.
    let wild = rng.u8(..3) == 0;
    for at in 0..rng.u32(1..12) {
        let mut cases = std::iter::repeat_with(|| Case::next(rng, tokens, wild));
        // Hostile hosts' bodies may be long, and here nobody widens a window.
        let is_fit = |case: &Case| !case.expected.to_hostile_host && (wild || is_clean(case));
        let case = cases.find(is_fit).expect("another case");
        tally.send("HTTP/2 in frames", &case.expected);
        request_in_frames(&mut bytes, at * 2 + 1, &case, wild, rng);
        // Whoever is reset has no answer to give, and may yet give one.
        let reset = rng.u8(..8) == 0;
        if reset {
            frame(&mut bytes, RST_STREAM, 0, at * 2 + 1, &8u32.to_be_bytes());
            tally.lose("", true);
        } else {
            open.push((at * 2 + 1, case));
        }
        if wild && rng.u8(..8) == 0 {
            let payload: Vec<u8> = (0..rng.usize(..30)).map(|_| rng.u8(..)).collect();
            frame(&mut bytes, rng.u8(..12), rng.u8(..), rng.u32(..24), &payload);
        }
    }
    let mut stream = TcpStream::connect(address).await.expect("Envoy");
    if rng.u8(..6) == 0 {
        bytes.truncate(rng.usize(..=bytes.len()));
        let _ = stream.write_all(&bytes).await;
        open.iter().for_each(|_| tally.lose("", true));
        return;
    }
    let (mut read, mut write) = stream.split();
    let send = async {
        write.write_all(&bytes).await?;
        write.write_all(b"\0\0\x08\x06\0\0\0\0\0pingpong").await
    };
    let receive = async {
        let (mut answered, mut ended) = (0, None);
        // Less than a conversation has, so that it is told which stream was not answered.
        let mut patience = PATIENCE / 2;
        while !open.is_empty() && ended.is_none() {
            match tokio::time::timeout(patience, next_frame(&mut read)).await {
                Ok(Ok((HEADERS | RST_STREAM, _, id))) if open.iter().any(|(known, _)| *known == id) => {
                    open.retain(|(known, _)| *known != id);
                    answered += 1;
                }
                // Envoy has heard it all: of what is wrong and not answered soon, it waits for more.
                Ok(Ok((PING, 1, _))) if wild => patience = Duration::from_millis(100),
                Ok(Ok((GOAWAY, ..))) => ended = Some("it said goodbye".to_owned()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => ended = Some(error.to_string()),
                Err(_) => ended = Some("it went silent".to_owned()),
            }
        }
        (answered, ended)
    };
    let ((answered, ended), _) = tokio::join!(receive, send);
    (0..answered).for_each(|_| *tally.came.entry("frames").or_default() += 1);
    for (id, case) in &open {
        tally.lose(&format!("stream {id} in frames, {ended:?}: {}", describe(case)), wild);
    }
}

fn request_in_frames(bytes: &mut Vec<u8>, id: u32, case: &Case, wild: bool, rng: &mut Rng) {
    let mut block = Vec::new();
    let pseudo: [(&str, &[u8]); 4] =
        [(":method", case.method.as_bytes()), (":path", &case.path), (":scheme", b"http"), (":authority", b"a")];
    // One of them missing, or twice, at times.
    let twist = if wild { rng.usize(..40) } else { 40 };
    for (at, (name, value)) in pseudo.into_iter().enumerate() {
        (0..if twist == at { 0 } else { 1 + usize::from(twist == at + 10) })
            .for_each(|_| literal(&mut block, name.as_bytes(), value));
    }
    let lower = !wild || rng.u8(..4) > 0;
    for (name, value) in &case.headers {
        let name = if lower { name.to_ascii_lowercase() } else { name.clone() };
        literal(&mut block, name.as_bytes(), value);
    }
    if twist == 20 {
        literal(&mut block, b"", b"x");
        literal(&mut block, b"x-\xff\x00", b"x");
        literal(&mut block, b"cookie\0", b"m=x");
    }
    // In one frame where it fits, or in many that are small. Envoy closes a connection on which a block of headers has more than eight
    // CONTINUATIONs, without a word.
    let small = if wild { 1 } else { block.len().div_ceil(1 + MOST_CONTINUATIONS) };
    let size = if rng.u8(..6) == 0 && block.len() < 4000 { rng.usize(1..200).max(small) } else { 16_000 };
    let pieces: Vec<&[u8]> = block.chunks(size).collect();
    let body = case.body.as_deref();
    for (at, piece) in pieces.iter().enumerate() {
        let end_headers = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        let end_stream = if at == 0 && body.is_none() { END_STREAM } else { 0 };
        frame(bytes, if at == 0 { HEADERS } else { CONTINUATION }, end_headers | end_stream, id, piece);
    }
    if let Some(body) = body {
        let has_trailers = !case.trailers.is_empty();
        if !body.is_empty() || !has_trailers {
            frame(bytes, DATA, if has_trailers { 0 } else { END_STREAM }, id, body);
        }
        if has_trailers {
            let mut block = Vec::new();
            case.trailers
                .iter()
                .for_each(|(name, value)| literal(&mut block, name.to_ascii_lowercase().as_bytes(), value));
            frame(bytes, HEADERS, END_HEADERS | END_STREAM, id, &block);
        }
    }
}

/// A header line as RFC 7541 has it: literal, without indexing, without Huffman's code.
pub fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        // An integer with a prefix of seven bits (section 5.1).
        match u8::try_from(text.len()).ok().filter(|length| *length < 127) {
            Some(length) => block.push(length),
            None => {
                block.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    block.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
        }
        block.extend(text);
    }
}

pub fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    bytes.extend(&length[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
}

/// Kind, flags and stream of the next frame.
pub async fn next_frame(read: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<(u8, u8, u32)> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let length = u64::from(u32::from_be_bytes([0, a, b, c]));
    tokio::io::copy(&mut (&mut *read).take(length), &mut tokio::io::sink()).await?;
    Ok((kind, flags, u32::from_be_bytes(id)))
}
