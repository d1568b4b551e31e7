//! Connections: accepted up to a bound, over TLS or not, HTTP/1.1 or HTTP/2, closed when idle, and drained at the end.

use crate::http::Tokens;
use crate::metrics::Metrics;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
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
const STREAMS: u32 = 128;
/// What a client may send of bodies that were not read yet, in bytes: twice a value, and what HTTP/2 begins with.
const STREAM_WINDOW: u32 = 8 * 1024;
const CONNECTION_WINDOW: u32 = 65_535;
/// The most of an answer that waits within HTTP/2, in bytes.
const LONGEST_UNSENT: usize = 8 * 1024;
/// The most connections on which nobody has shown a token yet.
const NEWCOMERS: usize = 256;
/// The most requests under way on such a connection. One with more is closed: nobody needs as many to ask how the store is doing.
const NEWCOMERS_REQUESTS: usize = 8;
/// For how long such a connection stays: `HEAD /healthz` now and then does not keep it.
const NEWCOMERS_LIFE: Duration = Duration::from_secs(30);
/// Between two looks at how long requests have taken.
const LOOK: Duration = Duration::from_secs(2);

/// What connections have in common.
#[derive(Clone)]
pub struct Server {
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
    /// What makes a connection welcome.
    pub tokens: Arc<Tokens>,
    /// Room for the answers that are none of the contract's to somebody with a token.
    pub other_answers: Arc<Semaphore>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Server {
    /// Serves until `stop`, then lets the requests under way finish. Ends when all have.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
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

    async fn talk(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, mut draining: watch::Receiver<()>) {
        let newcomer = self.newcomers.enter();
        let activity = Arc::new(Activity::new(newcomer.clone(), self.request_deadline));
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request: Request<Incoming>| {
            let under_way = UnderWay::begin(activity.clone());
            let mut refused = false;
            if !newcomer.known() {
                if self.tokens.are_shown_by(&request) {
                    newcomer.is_welcome();
                } else if activity.requests().len() > NEWCOMERS_REQUESTS {
                    newcomer.displace();
                    refused = true;
                }
            }
            let (router, others) = (router.clone(), self.other_answers.clone());
            // On the heap: where nothing is answered, next to nothing is allocated.
            let answer: Pin<Box<dyn Future<Output = Result<_, TooMuch>> + Send>> = match refused {
                true => Box::pin(std::future::ready(Err(TooMuch))),
                false => Box::pin(async move {
                    let Ok(response) = router.call(request).await;
                    Ok(bounded(response, under_way, others))
                }),
            };
            answer
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().max_buf_size(LONGEST_HEAD as usize);
        builder
            .http2()
            .max_header_list_size(LONGEST_HEAD)
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(LONGEST_UNSENT);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
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
fn bounded(response: Response<Body>, under_way: UnderWay, others: Arc<Semaphore>) -> Response<Outgoing> {
    let (mut head, mut body) = response.into_parts();
    let mut room = head.extensions.remove::<Room>();
    if room.is_none() && !body.is_end_stream() {
        room = Room::take(others);
        if room.is_none() {
            head.headers.remove(CONTENT_LENGTH);
            body = Body::empty();
        }
    }
    Response::from_parts(head, Outgoing { body, _under_way: under_way, _room: room })
}

/// Room for an answer, for as long as it is held.
#[derive(Clone)]
pub struct Room(#[allow(dead_code)] Arc<OwnedSemaphorePermit>);

impl Room {
    /// `None` where there is none left.
    pub fn take(of: Arc<Semaphore>) -> Option<Self> {
        of.try_acquire_owned().ok().map(|permit| Self(Arc::new(permit)))
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
pub struct Newcomers(Arc<Crowd>);

struct Crowd {
    most: usize,
    last: AtomicU64,
    present: Mutex<BTreeMap<u64, Arc<Notify>>>,
}

impl Newcomers {
    /// Of a server with so many connections.
    pub fn of(max_connections: usize) -> Self {
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
    request_deadline: Duration,
    /// When the requests began that are under way, in that order.
    requests: Mutex<BTreeMap<u64, Instant>>,
    next: AtomicU64,
    /// Milliseconds from `began` until the last request began or ended; 0 before the first.
    last: AtomicU64,
}

impl Activity {
    fn new(newcomer: Newcomer, request_deadline: Duration) -> Self {
        let (next, last) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { began: Instant::now(), newcomer, request_deadline, requests: Mutex::default(), next, last }
    }

    fn requests(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn under_way(&self) -> bool {
        !self.requests().is_empty()
    }

    /// How long the oldest request may still take.
    fn left(&self) -> Option<Duration> {
        let requests = self.requests();
        requests.values().next().map(|began| self.request_deadline.saturating_sub(began.elapsed()))
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
        if self.newcomer.known() { patience } else { patience.min(NEWCOMERS_LIFE.saturating_sub(age)) }
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
