//! Connections: accepted up to a bound, over TLS or not, HTTP/1.1 or HTTP/2, closed when idle, and drained at the end.

use crate::metrics::Metrics;
use axum::Router;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
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
const LONGEST_HEAD: u32 = 16 * 1024;
/// The most requests that an HTTP/2 connection has under way.
const STREAMS: u32 = 256;

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
        let activity = Arc::new(Activity::new());
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request| {
            let under_way = UnderWay::begin(activity.clone());
            let response = router.call(request);
            async move {
                let response = response.await;
                drop(under_way);
                response
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().max_buf_size(LONGEST_HEAD as usize);
        builder.http2().max_header_list_size(LONGEST_HEAD).max_concurrent_streams(STREAMS);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        loop {
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = draining.changed() => break,
                () = sleep(activity.patience(self.idle_timeout)) => {
                    if activity.patience(self.idle_timeout).is_zero() {
                        break;
                    }
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        while timeout(FAREWELL, connection.as_mut()).await.is_err() && activity.under_way() {}
    }
}

/// When a connection served something.
struct Activity {
    began: Instant,
    under_way: AtomicUsize,
    /// Milliseconds from `began` until the last request began or ended; 0 before the first.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { began: Instant::now(), under_way: AtomicUsize::new(0), last: AtomicU64::new(0) }
    }

    fn under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// For how long the connection may stay open if nothing happens.
    fn patience(&self, idle_timeout: Duration) -> Duration {
        if self.under_way() {
            return idle_timeout;
        }
        let last = self.last.load(Ordering::Relaxed);
        let allowed = if last == 0 { FIRST_REQUEST.min(idle_timeout) } else { idle_timeout };
        Duration::from_millis(last).saturating_add(allowed).saturating_sub(self.began.elapsed())
    }

    fn note(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis.max(1), Ordering::Relaxed);
    }
}

/// A request that is being answered.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn begin(activity: Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        activity.note();
        Self(activity)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.note();
    }
}
