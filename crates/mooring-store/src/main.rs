//! `mooring-store`, the session store that several proxies share: the REST contract, in memory or over Redis.
//!
//! `contract` says what a request may ask, `http` answers it over a `backend`, `server` holds the connections, `options` reads the
//! command line.
#![warn(unreachable_pub)]

mod backend;
mod contract;
mod http;
mod metrics;
mod options;
mod server;

use backend::Backend;
use backend::memory::{Bounds, Memory};
use backend::redis::Redis;
use http::App;
use metrics::Metrics;
use options::{LogFormat, Settings, Stop, Storage};
use server::{Newcomers, Server};
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{info, warn};

/// File descriptors for everything that is no connection of a client.
const OTHER_FILES: u64 = 64;
/// The most requests of the contract that are under way, each until its answer was taken. One takes about 10 KB at worst.
const REQUESTS: usize = 4096;
/// The most other answers with a text that wait to be taken.
const OTHER_ANSWERS: usize = 256;
/// For the body of a request to arrive, and for its answer to be taken.
const TRANSFERS: Duration = Duration::from_secs(10);
/// The most connections of those who read metrics, and the most of their answers that wait to be taken.
const METRICS_CONNECTIONS: usize = 16;

fn main() -> ExitCode {
    // Fails if there is one already, which is as good.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(Stop::Told(text)) => {
            // Nobody may be reading.
            let _ = text.print();
            return ExitCode::SUCCESS;
        }
        Err(Stop::Wrong(rule)) => {
            eprintln!("mooring-store: {rule}");
            return ExitCode::from(2);
        }
    };
    log_with(&settings);
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("mooring-store: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn log_with(settings: &Settings) {
    let log =
        tracing_subscriber::fmt().with_max_level(settings.log_level).with_writer(std::io::stderr).with_target(false);
    match settings.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

#[tokio::main]
async fn run(mut settings: Settings) -> Result<(), String> {
    allow_files(settings.max_connections);
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    let listener = TcpListener::bind(&settings.listen)
        .await
        .map_err(|error| format!("--listen: cannot listen on {}: {error}", settings.listen))?;
    let metrics_listener = match &settings.metrics_listen {
        None => None,
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|error| format!("--metrics-listen: cannot listen on {address}: {error}"))?,
        ),
    };
    let listeners = (listener, metrics_listener);
    let storage = std::mem::replace(&mut settings.storage, Storage::Memory(Bounds { entries: 0, bytes: 0 }));
    match storage {
        Storage::Memory(bounds) => {
            metrics.show_memory().map_err(|error| error.to_string())?;
            info!(entries = bounds.entries, bytes = bounds.bytes, "sessions are in memory");
            serve(Memory::new(bounds, metrics.clone()), settings, listeners, metrics).await
        }
        Storage::Redis(target) => {
            metrics.show_redis().map_err(|error| error.to_string())?;
            info!("sessions are in Redis");
            let probe_key = settings.namespaces.probe();
            let redis = Redis::new(target, probe_key, settings.request_timeout, metrics.clone());
            serve(redis, settings, listeners, metrics).await
        }
    }
}

/// Each connection is a file descriptor, and the usual limit is far below what the system allows.
fn allow_files(max_connections: usize) {
    let wanted = u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(allowed) if allowed >= wanted => {}
        Ok(allowed) => warn!(allowed, wanted, "fewer file descriptors than --max-connections needs"),
        Err(error) => warn!(%error, "cannot see how many file descriptors there may be"),
    }
}

async fn serve(
    backend: impl Backend,
    settings: Settings,
    (listener, metrics_listener): (TcpListener, Option<TcpListener>),
    metrics: Metrics,
) -> Result<(), String> {
    let handler = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let mut signals = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let address = listener.local_addr().map_err(|error| format!("--listen: {error}"))?;
    info!(%address, "listening");
    if settings.tokens.is_open() && !address.ip().is_loopback() {
        warn!("no token is configured: whoever reaches this address can read, replace and end sessions (--token-file)");
    }
    // Who started this may wait for it, or not be interested.
    let _ = writeln!(std::io::stdout(), "listening on {address}");

    let draining = Arc::new(AtomicBool::new(false));
    let tokens = Arc::new(settings.tokens);
    let app = App {
        backend,
        tokens: tokens.clone(),
        namespaces: settings.namespaces,
        metrics: metrics.clone(),
        draining: draining.clone(),
    };
    let request_deadline = settings.request_timeout.saturating_add(TRANSFERS);
    if let Some(listener) = metrics_listener {
        let address = listener.local_addr().map_err(|error| format!("--metrics-listen: {error}"))?;
        let _ = writeln!(std::io::stdout(), "metrics on {address}");
        let server = Server {
            router: http::metrics_router(metrics.clone()),
            tls: None,
            max_connections: METRICS_CONNECTIONS,
            idle_timeout: settings.idle_timeout,
            request_deadline,
            newcomers: Newcomers::of(METRICS_CONNECTIONS),
            anonymous_timeout: settings.anonymous_timeout,
            tokens: tokens.clone(),
            requests: Arc::new(Semaphore::new(METRICS_CONNECTIONS)),
            other_answers: Arc::new(Semaphore::new(METRICS_CONNECTIONS)),
            // Of itself this port counts nothing.
            metrics: Metrics::new().map_err(|error| error.to_string())?,
        };
        tokio::spawn(server.serve(listener, std::future::pending()));
    }
    let server = Server {
        router: http::router(app),
        tls: settings.tls,
        max_connections: settings.max_connections,
        idle_timeout: settings.idle_timeout,
        request_deadline,
        newcomers: Newcomers::of(settings.max_connections),
        anonymous_timeout: settings.anonymous_timeout,
        tokens,
        requests: Arc::new(Semaphore::new(REQUESTS)),
        other_answers: Arc::new(Semaphore::new(OTHER_ANSWERS)),
        metrics,
    };
    let (stopping, stop) = tokio::sync::oneshot::channel::<()>();
    let mut serving = tokio::spawn(server.serve(listener, async {
        let _ = stop.await;
    }));
    tokio::select! {
        () = a_signal(&mut signals) => {}
        ended = &mut serving => return ended.map_err(|error| format!("the server ended: {error}")),
    }
    info!("stopping: requests under way finish");
    draining.store(true, Ordering::Relaxed);
    let _ = stopping.send(());
    tokio::select! {
        drained = timeout(settings.drain_timeout, serving) => {
            if drained.is_err() {
                warn!("requests were still under way when --drain-timeout had passed");
            }
        }
        () = a_signal(&mut signals) => warn!("a second signal: not waiting any longer"),
    }
    Ok(())
}

async fn a_signal((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
