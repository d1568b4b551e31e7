//! Connections: accepted up to a bound, over TLS or not, HTTP/1.1 or HTTP/2, closed when idle, and drained at the end.

use crate::http::{Tokens, busy, operation};
use crate::metrics::Metrics;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::warn;

/// For the TLS handshake, and then for the first request to have begun.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// For a connection to end once it has been told to, and serves nothing.
const FAREWELL: Duration = Duration::from_secs(1);
/// After an error of `accept`: most likely there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The most that the head of a request holds, in bytes.
const LONGEST_HEAD: u32 = 8 * 1024;
/// The most requests that an HTTP/2 connection has under way.
const STREAMS: u32 = 32;
/// What a client may send of bodies that were not read yet, in bytes: twice a value, and what HTTP/2 begins with.
const STREAM_WINDOW: u32 = 8 * 1024;
const CONNECTION_WINDOW: u32 = 65_535;
/// The most of an answer that waits within HTTP/2, in bytes.
const LONGEST_UNSENT: usize = 8 * 1024;
/// The most connections on which nobody has shown a token yet.
const NEWCOMERS: usize = 256;
/// The most requests under way on such a connection. One with more is closed: nobody needs as many to ask how the store is doing.
const NEWCOMERS_REQUESTS: usize = 8;
/// Between two looks at how long requests have taken.
const LOOK: Duration = Duration::from_secs(2);

/// What connections have in common.
#[derive(Clone)]
pub(crate) struct Server {
    /// Answers the requests.
    pub router: Router,
    /// How TLS is spoken, if it is.
    pub tls: Option<TlsAcceptor>,
    /// The most connections that are open at a time.
    pub max_connections: usize,
    /// For how long a connection may serve nothing.
    pub idle_timeout: Duration,
    /// From the head of a request until its answer was taken.
    pub request_deadline: Duration,
    /// The connections on which nobody has shown a token yet.
    pub newcomers: Newcomers,
    /// For how long such a connection stays: `HEAD /healthz` now and then does not keep it.
    pub anonymous_timeout: Duration,
    /// What makes a connection welcome.
    pub tokens: Arc<Tokens>,
    /// Room for requests of the contract, each until its answer was taken.
    pub requests: Arc<Semaphore>,
    /// Room for the answers that are none of the contract's to somebody with a token.
    pub other_answers: Arc<Semaphore>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Server {
    /// Serves until `stop`, then lets the requests under way finish. Ends when all have.
    pub(crate) async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let permits = Arc::new(Semaphore::new(self.max_connections));
        let (drain, draining) = watch::channel(());
        let (mut stop, mut failing) = (pin!(stop), false);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => {
                    failing = false;
                    stream
                }
                Err(error) => {
                    if !failing {
                        warn!(%error, "cannot accept a connection");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Closed at once: a client that waits for nothing could use another server.
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                self.metrics.refused.inc();
                continue;
            };
            let (server, draining) = (self.clone(), draining.clone());
            tokio::spawn(async move {
                server.metrics.connections.inc();
                server.connection(stream, draining).await;
                server.metrics.connections.dec();
                drop(permit);
            });
        }
        drop((listener, draining));
        // Every connection holds a receiver.
        drain.send_replace(());
        drain.closed().await;
    }

    async fn connection(&self, stream: TcpStream, draining: watch::Receiver<()>) {
        let _ = stream.set_nodelay(true);
        match &self.tls {
            Some(acceptor) => {
                if let Ok(Ok(stream)) = timeout(FIRST_REQUEST, acceptor.accept(stream)).await {
                    self.talk(stream, draining).await;
                }
            }
            None => self.talk(stream, draining).await,
        }
    }

    /// Whether a request is served, with room for it if it is one of the contract.
    fn admit(
        &self,
        request: &Request<Incoming>,
        newcomer: &Newcomer,
        activity: &Arc<Activity>,
    ) -> Result<(UnderWay, Option<Room>), Excess> {
        let under_way = UnderWay::begin(activity.clone());
        if self.tokens.are_shown_by(request) {
            newcomer.is_welcome();
            match Room::take(self.requests.clone()) {
                Some(room) => Ok((under_way, Some(room))),
                None => {
                    self.metrics.answered(operation(request.method(), request.headers()), 503, Duration::ZERO);
                    Err(Excess::Request(under_way))
                }
            }
        } else if !newcomer.known() && activity.requests().len() > NEWCOMERS_REQUESTS {
            newcomer.displace();
            Err(Excess::Connection)
        } else {
            Ok((under_way, None))
        }
    }

    async fn talk(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, mut draining: watch::Receiver<()>) {
        let newcomer = self.newcomers.enter();
        let activity = Arc::new(Activity::new(newcomer.clone(), self.anonymous_timeout, self.request_deadline));
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request: Request<Incoming>| {
            // Decided before anything is kept for the request.
            let admission = self.admit(&request, &newcomer, &activity);
            let (router, others) = (router.clone(), self.other_answers.clone());
            let answer: Pin<Box<dyn Future<Output = Result<_, TooMuch>> + Send>> = match admission {
                Ok((under_way, room)) => Box::pin(async move {
                    // Whatever follows is for a task of its own (`AtOnce`).
                    yield_now().await;
                    let Ok(response) = router.call(request).await;
                    Ok(bounded(response, under_way, room, others))
                }),
                Err(Excess::Request(under_way)) => {
                    Box::pin(std::future::ready(Ok(bounded(busy(), under_way, None, others))))
                }
                Err(Excess::Connection) => Box::pin(std::future::ready(Err(TooMuch))),
            };
            answer
        });
        let mut builder = Builder::new(AtOnce);
        builder.http1().max_buf_size(LONGEST_HEAD as usize);
        builder
            .http2()
            .max_header_list_size(LONGEST_HEAD)
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(LONGEST_UNSENT);
        let mut connection =
            pin!(builder.serve_connection(TokioIo::new(Heeding::new(stream, activity.clone())), service));
        loop {
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = draining.changed() => break,
                // Whoever makes room is not said goodbye to.
                () = newcomer.displaced() => return,
                () = sleep(activity.patience(self.idle_timeout).min(LOOK)) => {
                    if activity.is_late() {
                        return;
                    }
                    if activity.patience(self.idle_timeout).is_zero() {
                        break;
                    }
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        while timeout(FAREWELL, connection.as_mut()).await.is_err() && activity.under_way() && !activity.is_late() {}
    }
}

/// Why a request is not served.
enum Excess {
    /// There are too many of the contract.
    Request(UnderWay),
    /// There are too many on a connection without a token.
    Connection,
}

/// Runs what HTTP/2 has to do for a stream: at once what ends at once, on a task of its own what has to wait. So a burst that is refused
/// costs no tasks.
#[derive(Clone)]
struct AtOnce;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for AtOnce {
    fn execute(&self, future: F) {
        let mut future = Box::pin(future);
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            // The task begins with polling it again.
            tokio::spawn(future);
        }
    }
}

/// A stream of which nothing is read while the other side does not take what is written: nobody makes answers pile up by asking on.
struct Heeding<S> {
    stream: S,
    activity: Arc<Activity>,
    blocked: bool,
    reader: Option<Waker>,
}

impl<S> Heeding<S> {
    fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, blocked: false, reader: None }
    }

    /// Notes whether a write had to wait.
    fn heed<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() != self.blocked {
            self.blocked = written.is_pending();
            self.activity.writing_waits(self.blocked);
        }
        if let Some(reader) = self.reader.take_if(|_| !self.blocked) {
            reader.wake();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heeding<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.blocked {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heeding<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.heed(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.heed(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.heed(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Why a request of somebody without a token is not answered: there were too many.
#[derive(Debug, Clone, Copy)]
struct TooMuch;

impl std::fmt::Display for TooMuch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("too many requests without a token")
    }
}

impl std::error::Error for TooMuch {}

/// An answer as it goes out. It is under way until its body was taken, and a body takes room: those of the contract brought theirs, all
/// others share a little. Who finds none left gets the status without the text.
fn bounded(
    response: Response<Body>,
    under_way: UnderWay,
    mut room: Option<Room>,
    others: Arc<Semaphore>,
) -> Response<Outgoing> {
    let (mut head, mut body) = response.into_parts();
    if room.is_none() && !body.is_end_stream() {
        room = Room::take(others);
        if room.is_none() {
            head.headers.remove(CONTENT_LENGTH);
            body = Body::empty();
        }
    }
    Response::from_parts(head, Outgoing { body, _under_way: under_way, _room: room })
}

/// Room for a request or an answer, for as long as it is held.
struct Room(#[allow(dead_code)] OwnedSemaphorePermit);

impl Room {
    /// `None` where there is none left.
    fn take(of: Arc<Semaphore>) -> Option<Self> {
        of.try_acquire_owned().ok().map(Self)
    }
}

/// The body of an answer, with what ends when it has been taken, or cannot be any more.
struct Outgoing {
    body: Body,
    _under_way: UnderWay,
    _room: Option<Room>,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connections on which nobody has shown a token yet. They are few: the oldest makes room for the next, so that no number of them
/// keeps a proxy out.
#[derive(Clone)]
pub(crate) struct Newcomers(Arc<Crowd>);

struct Crowd {
    most: usize,
    last: AtomicU64,
    present: Mutex<BTreeMap<u64, Arc<Notify>>>,
}

impl Newcomers {
    /// Of a server with so many connections.
    pub(crate) fn of(max_connections: usize) -> Self {
        let most = max_connections.min(NEWCOMERS);
        Self(Arc::new(Crowd { most, last: AtomicU64::new(0), present: Mutex::default() }))
    }

    fn enter(&self) -> Newcomer {
        let (id, displaced) = (self.0.last.fetch_add(1, Ordering::Relaxed), Arc::new(Notify::new()));
        let mut present = self.0.present();
        if present.len() >= self.0.most
            && let Some((_, oldest)) = present.pop_first()
        {
            oldest.notify_one();
        }
        present.insert(id, displaced.clone());
        Newcomer(Arc::new(Place { crowd: self.0.clone(), id, displaced, known: AtomicBool::new(false) }))
    }
}

impl Crowd {
    fn present(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody showed a token on a connection.
#[derive(Clone)]
struct Newcomer(Arc<Place>);

struct Place {
    crowd: Arc<Crowd>,
    id: u64,
    displaced: Arc<Notify>,
    known: AtomicBool,
}

impl Newcomer {
    /// Somebody did, or none is wanted: from now on the connection may stay.
    fn is_welcome(&self) {
        if !self.0.known.swap(true, Ordering::Relaxed) {
            self.0.crowd.present().remove(&self.0.id);
        }
    }

    fn known(&self) -> bool {
        self.0.known.load(Ordering::Relaxed)
    }

    fn displace(&self) {
        self.0.displaced.notify_one();
    }

    async fn displaced(&self) {
        self.0.displaced.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.present().remove(&self.id);
    }
}

/// What happens on a connection.
struct Activity {
    began: Instant,
    newcomer: Newcomer,
    anonymous_timeout: Duration,
    request_deadline: Duration,
    /// When the requests began that are under way, in that order.
    requests: Mutex<BTreeMap<u64, Instant>>,
    next: AtomicU64,
    /// Milliseconds from `began` until the last request began or ended; 0 before the first.
    last: AtomicU64,
    /// Since when nothing can be written because the client does not read.
    waits: Mutex<Option<Instant>>,
}

impl Activity {
    fn new(newcomer: Newcomer, anonymous_timeout: Duration, request_deadline: Duration) -> Self {
        let (next, last) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            began: Instant::now(),
            newcomer,
            anonymous_timeout,
            request_deadline,
            requests: Mutex::default(),
            next,
            last,
            waits: Mutex::default(),
        }
    }

    fn requests(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn under_way(&self) -> bool {
        !self.requests().is_empty()
    }

    fn writing_waits(&self, waits: bool) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = waits.then(Instant::now);
    }

    /// How long the oldest request may still take, or the client with reading.
    fn left(&self) -> Option<Duration> {
        let waits = *self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = self.requests().values().next().copied().into_iter().chain(waits).min();
        oldest.map(|began| self.request_deadline.saturating_sub(began.elapsed()))
    }

    /// Whether a request, or the client with taking its answer, took too long.
    fn is_late(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// For how long the connection may stay open if nothing happens.
    fn patience(&self, idle_timeout: Duration) -> Duration {
        let age = self.began.elapsed();
        let last = self.last.load(Ordering::Relaxed);
        let allowed = if last == 0 { FIRST_REQUEST.min(idle_timeout) } else { idle_timeout };
        let idle = Duration::from_millis(last).saturating_add(allowed).saturating_sub(age);
        let patience = self.left().unwrap_or(idle);
        if self.newcomer.known() { patience } else { patience.min(self.anonymous_timeout.saturating_sub(age)) }
    }

    fn note(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis.max(1), Ordering::Relaxed);
    }
}

/// A request that is being answered.
struct UnderWay {
    activity: Arc<Activity>,
    id: u64,
}

impl UnderWay {
    fn begin(activity: Arc<Activity>) -> Self {
        let id = activity.next.fetch_add(1, Ordering::Relaxed);
        activity.requests().insert(id, Instant::now());
        activity.note();
        Self { activity, id }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.activity.requests().remove(&self.id);
        self.activity.note();
    }
}
