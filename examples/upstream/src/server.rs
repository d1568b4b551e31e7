//! The server, without the process around it: tests run it on a listener of their own.
//!
//! | route | answer |
//! | --- | --- |
//! | `POST /control/health/fail`, `…/health/pass` | `/health` answers 503, or 200 again |
//! | `POST /control/drain`, `…/undrain` | as a draining host: `/health` answers 503, and every response has `x-mooring-action: release` unless it has an action already |
//! | `POST /control/stop` | answers, then the server ends as on a signal |
//! | `/health` | 200, or 503 |
//! | `/ws` | a WebSocket that greets with the server's name, then echoes |
//! | any other path, any method | JSON: `name`, `address`, `method`, `path` (with the query), `headers` and `trailers` (lists of pairs), `body_bytes` |
//!
//! Every response has `x-served-by: <name>`. In `headers`, lines of one name keep their order, and bytes that are not UTF-8 come as `\xNN`.
//!
//! The query shapes the answer of any other path. What it does not know it ignores; what it cannot do is a 400 that says why.
//! Values are form-encoded, `%ff` being the byte.
//!
//! | parameter | effect |
//! | --- | --- |
//! | `status=503` | the status, 200 to 599 |
//! | `action=rotate` | adds `x-mooring-action: rotate` |
//! | `header=name:value` | adds a response header; repeatable |
//! | `redirect=/path` | 302 with that `Location` |
//! | `delay_ms=50` | waits before it answers |
//! | `chunks=3`, `chunk_ms=50` | instead of the JSON a streamed body of so many lines, with a pause before each but the first |
//! | `trailer=name:value` | adds a trailer; repeatable. On HTTP/1.1 only for a request with `TE: trailers` |
//! | `reset=1` | closes the connection without an answer. On HTTP/2 that ends the other requests on it too |

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION, TRAILER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, map_response_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get, post};
use axum::serve::{IncomingStream, Listener};
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, SendError, Sender};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How long requests that are under way may go on once the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// The header in which an upstream speaks to the filter.
pub const ACTION: HeaderName = HeaderName::from_static("x-mooring-action");
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// The server, as its handlers know it.
pub struct Upstream {
    name: String,
    name_header: HeaderValue,
    address: SocketAddr,
    failing: AtomicBool,
    draining: AtomicBool,
    stop: Notify,
}

impl Upstream {
    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets it drain, or serve as usual.
    pub fn drain(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// Whether it drains.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Serves on `listener` until `stop` is ready or a client posts to `/control/stop`. It has these `more` routes beside its own.
pub async fn serve(
    listener: TcpListener,
    name: String,
    more: impl FnOnce(Arc<Upstream>) -> Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let name_header = HeaderValue::from_str(&name)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the name cannot stand in a header"))?;
    let upstream = Arc::new(Upstream {
        name,
        name_header,
        address: listener.local_addr()?,
        failing: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        stop: Notify::new(),
    });
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let asked = upstream.clone();
    let stop = async move {
        tokio::select! {
            () = stop => {}
            () = asked.stop.notified() => {}
        }
        let _ = stopping.send(());
    };
    let more = more(upstream.clone());
    let service = routes(upstream, more).into_make_service_with_connect_info::<Connection>();
    let serving = axum::serve(Breakable(listener), service).with_graceful_shutdown(stop);
    let out_of_patience = async {
        // An error means that the server ended by itself: nothing is left to wait for.
        let _ = stopped.await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served,
        () = out_of_patience => Ok(()),
    }
}

fn routes(upstream: Arc<Upstream>, more: Router) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ws", any(web_socket))
        .merge(controls())
        .fallback(show)
        .with_state(upstream.clone())
        .merge(more)
        .layer(map_response_with_state(upstream, sign))
}

fn controls() -> Router<Arc<Upstream>> {
    Router::new()
        .route("/control/health/fail", post(fail))
        .route("/control/health/pass", post(pass))
        .route("/control/drain", post(drain))
        .route("/control/undrain", post(undrain))
        .route("/control/stop", post(stop))
        .route("/control/{*unknown}", any(async || (StatusCode::NOT_FOUND, "no such control\n")))
        .layer(from_fn(refuse_other_sites))
}

/// Browsers say from where a request comes.
pub async fn refuse_other_sites(request: Request, next: Next) -> Response {
    match request.headers().get("sec-fetch-site") {
        Some(site) if site != "same-origin" => {
            (StatusCode::FORBIDDEN, "not for pages of other sites\n").into_response()
        }
        _ => next.run(request).await,
    }
}

/// What every response has.
async fn sign(State(upstream): State<Arc<Upstream>>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.append(SERVED_BY, upstream.name_header.clone());
    if upstream.is_draining() && !headers.contains_key(ACTION) {
        headers.insert(ACTION, HeaderValue::from_static("release"));
    }
    response
}

async fn health(State(upstream): State<Arc<Upstream>>) -> (StatusCode, &'static str) {
    if upstream.failing.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "failing\n")
    } else if upstream.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "healthy\n")
    }
}

async fn fail(State(upstream): State<Arc<Upstream>>) -> &'static str {
    upstream.failing.store(true, Ordering::Relaxed);
    "health fails\n"
}

async fn pass(State(upstream): State<Arc<Upstream>>) -> &'static str {
    upstream.failing.store(false, Ordering::Relaxed);
    "health passes\n"
}

async fn drain(State(upstream): State<Arc<Upstream>>) -> &'static str {
    upstream.drain(true);
    "draining\n"
}

async fn undrain(State(upstream): State<Arc<Upstream>>) -> &'static str {
    upstream.drain(false);
    "not draining\n"
}

async fn stop(State(upstream): State<Arc<Upstream>>) -> &'static str {
    upstream.stop.notify_one();
    "stopping\n"
}

async fn web_socket(State(upstream): State<Arc<Upstream>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |socket| {
        // An error means that the client left.
        let _ = echo(socket, &upstream.name).await;
    })
}

async fn echo(mut socket: WebSocket, name: &str) -> Result<(), axum::Error> {
    socket.send(Message::text(name)).await?;
    while let Some(message) = socket.recv().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }
    Ok(())
}

/// Any other path: shows the request, in the shape that its query asks for.
pub async fn show(
    State(upstream): State<Arc<Upstream>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let shape = match Shape::parse(request.uri().query().unwrap_or_default()) {
        Ok(shape) => shape,
        Err(message) => return (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response(),
    };
    let (parts, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("cannot read the body: {error}\n")).into_response(),
    };
    tokio::time::sleep(shape.delay).await;
    if shape.reset {
        connection.broken.store(true, Ordering::Relaxed);
    }
    let shown = json!({
        "name": upstream.name,
        "address": upstream.address.to_string(),
        "method": parts.method.as_str(),
        "path": parts.uri.path_and_query().map_or("", |path| path.as_str()),
        "headers": header_lines(&parts.headers),
        "trailers": body.trailers().map(header_lines).unwrap_or_default(),
        "body_bytes": body.to_bytes().len(),
    });
    shape.respond(&upstream.name, shown)
}

fn header_lines(headers: &HeaderMap) -> Vec<Value> {
    headers.iter().map(|(name, value)| json!([name.as_str(), printable(value.as_bytes())])).collect()
}

fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// What the query asks for.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    trailers: HeaderMap,
    delay: Duration,
    chunks: Option<u32>,
    chunk_pause: Duration,
    reset: bool,
}

impl Shape {
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let mut shape = Self::default();
        for parameter in query.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = form_decode(value);
            let wrong = |accepted: &str| format!("{name}={}: accepted is {accepted}", printable(&value));
            let milliseconds = || number(&value).map(Duration::from_millis).ok_or_else(|| wrong("milliseconds"));
            match name {
                "status" => {
                    let code = number(&value).filter(|code| (200..600).contains(code));
                    shape.status = code
                        .and_then(|code: u16| StatusCode::from_u16(code).ok())
                        .ok_or_else(|| wrong("a status from 200 to 599"))?;
                }
                "action" => {
                    let action = HeaderValue::from_bytes(&value).map_err(|_| wrong("a header's value"))?;
                    shape.headers.push((ACTION, action));
                }
                "header" => shape.headers.push(header(&value).ok_or_else(|| wrong("a header as name:value"))?),
                "redirect" => {
                    let location = HeaderValue::from_bytes(&value).map_err(|_| wrong("a path"))?;
                    shape.status = StatusCode::FOUND;
                    shape.headers.push((LOCATION, location));
                }
                "delay_ms" => shape.delay = milliseconds()?,
                "chunks" => shape.chunks = Some(number(&value).ok_or_else(|| wrong("a number of lines"))?),
                "chunk_ms" => shape.chunk_pause = milliseconds()?,
                "trailer" => {
                    let (name, value) = header(&value).ok_or_else(|| wrong("a trailer as name:value"))?;
                    shape.trailers.append(name, value);
                }
                "reset" => shape.reset = value == b"1",
                _ => {}
            }
        }
        Ok(shape)
    }

    fn respond(self, server: &str, shown: Value) -> Response {
        let mut response = match self.chunks {
            None if self.trailers.is_empty() => Json(shown).into_response(),
            None => {
                let body = streamed(vec![format!("{shown}")], Duration::ZERO, self.trailers.clone());
                ([(CONTENT_TYPE, "application/json")], body).into_response()
            }
            Some(count) => {
                let lines = (1..=count).map(|line| format!("line {line} of {count} from {server}\n")).collect();
                streamed(lines, self.chunk_pause, self.trailers.clone()).into_response()
            }
        };
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        // HTTP/1.1 sends only the trailers that were announced.
        for name in self.trailers.keys() {
            headers.append(TRAILER, HeaderValue::from(name.clone()));
        }
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

fn form_decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match (first, tail.split_at_checked(2)) {
            (b'%', Some((digits, tail))) => {
                let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
                digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(|byte| (byte, tail))
            }
            _ => None,
        };
        let (byte, tail) = escaped.unwrap_or((if *first == b'+' { b' ' } else { *first }, tail));
        decoded.push(byte);
        rest = tail;
    }
    decoded
}

fn number<N: std::str::FromStr>(value: &[u8]) -> Option<N> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let value = value.strip_prefix(b":")?;
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value.trim_ascii()).ok()?))
}

fn streamed(lines: Vec<String>, pause: Duration, trailers: HeaderMap) -> Body {
    let (sender, body) = Channel::new(1);
    // An error means that the client left.
    tokio::spawn(send(sender, lines, pause, trailers));
    Body::new(body)
}

async fn send(
    mut sender: Sender<Bytes, Infallible>,
    lines: Vec<String>,
    pause: Duration,
    trailers: HeaderMap,
) -> Result<(), SendError> {
    let mut first = true;
    for line in lines {
        if !std::mem::take(&mut first) {
            tokio::time::sleep(pause).await;
        }
        sender.send_data(line.into()).await?;
    }
    if trailers.is_empty() { Ok(()) } else { sender.send_trailers(trailers).await }
}

/// A listener whose connections a handler can break.
struct Breakable(TcpListener);

/// A connection, as handlers know it. Once `broken`, nothing more is written, and whoever tries gets an error: the server
/// then closes the connection.
#[derive(Clone)]
pub struct Connection {
    broken: Arc<AtomicBool>,
}

struct BreakableStream {
    stream: TcpStream,
    broken: Arc<AtomicBool>,
}

impl Listener for Breakable {
    type Io = BreakableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Small answers at once; the connection works without it too.
        let _ = stream.set_nodelay(true);
        (BreakableStream { stream, broken: Arc::default() }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Breakable>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Breakable>) -> Self {
        Self { broken: stream.io().broken.clone() }
    }
}

impl BreakableStream {
    fn whole(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for BreakableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for BreakableStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.whole() {
            Ok(stream) => stream.poll_write(context, bytes),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
