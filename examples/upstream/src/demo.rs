//! A page for people: which host serves them, how their session fares, and buttons that try what the plugin does. `make run` has it.
//!
//! It is there only with `--demo`, for whoever reaches it may drain the host or end its process. Pages of other sites may not.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /`, without a query, where HTML is accepted | the page; anything else gets what it gets without `--demo` |
//! | `GET /demo/session` | JSON: `host`, `draining`, `session` (how its id starts), its `requests` and `seconds` here, the `settings` |
//! | `POST /demo/login` | the same, and `x-mooring-action: rotate` |
//! | `POST /demo/logout` | the same, and `x-mooring-action: end` |
//! | `POST /demo/drain` | the same; the host drains, for `back_after` seconds |
//! | `POST /demo/kill` | the same; then the process is gone, as after `kill -9`. Who started it may start it again |
//!
//! The settings are the argument of `--demo`, a JSON object: `hosts` (the names of all), `ports` (of all the Envoys), and in seconds the
//! plugin's `idle_timeout` and `absolute_timeout`, and `back_after`: how long a host is away.

use crate::server::{ACTION, Connection, Upstream, refuse_other_sites, show};
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, VARY};
use axum::http::{HeaderMap, Method};
use axum::middleware::from_fn;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PAGE: &str = include_str!("demo.html");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How many sessions a host remembers.
const REMEMBERED: usize = 1000;

/// Time for the last answer to leave.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The argument of `--demo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    told: Value,
    back_after: Duration,
}

impl Settings {
    /// Reads them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let told: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for name in ["hosts", "ports"] {
            told.get(name).and_then(Value::as_array).ok_or_else(|| format!("{name}: not a list"))?;
        }
        let seconds = |name: &str| {
            told.get(name).and_then(Value::as_u64).ok_or_else(|| format!("{name}: not a number of seconds"))
        };
        seconds("idle_timeout")?;
        seconds("absolute_timeout")?;
        let back_after = Duration::from_secs(seconds("back_after")?);
        Ok(Self { told, back_after })
    }
}

/// The host, and what it has in its memory of the sessions that it serves: why each should come back to it.
struct Demo {
    upstream: Arc<Upstream>,
    settings: Settings,
    sessions: Mutex<BTreeMap<String, Visits>>,
}

#[derive(Clone, Copy)]
struct Visits {
    first: Instant,
    requests: u64,
}

/// The routes of the page.
pub fn routes(upstream: Arc<Upstream>, settings: Settings) -> Router {
    Router::new()
        .route("/demo/login", post(login))
        .route("/demo/logout", post(logout))
        .route("/demo/drain", post(drain))
        .route("/demo/kill", post(kill))
        .layer(from_fn(refuse_other_sites))
        .route("/demo/session", get(session))
        .route("/", any(page_or_show))
        .with_state(Arc::new(Demo { upstream, settings, sessions: Mutex::default() }))
}

async fn page_or_show(demo: State<Arc<Demo>>, connection: ConnectInfo<Connection>, request: Request) -> Response {
    let html = |line: &axum::http::HeaderValue| line.to_str().is_ok_and(|types| types.contains("text/html"));
    let asked_for = request.method() == Method::GET && request.uri().query().is_none();
    if asked_for && request.headers().get_all(ACCEPT).iter().any(html) {
        let _ = demo.remember(request.headers());
        ([(CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, "no-cache"), (VARY, "accept")], Html(PAGE)).into_response()
    } else {
        show(State(demo.upstream.clone()), connection, request).await
    }
}

async fn session(State(demo): State<Arc<Demo>>, headers: HeaderMap) -> Json<Value> {
    demo.remember(&headers)
}

async fn login(State(demo): State<Arc<Demo>>, headers: HeaderMap) -> impl IntoResponse {
    ([(ACTION, "rotate")], demo.remember(&headers))
}

async fn logout(State(demo): State<Arc<Demo>>, headers: HeaderMap) -> impl IntoResponse {
    ([(ACTION, "end")], demo.remember(&headers))
}

async fn drain(State(demo): State<Arc<Demo>>, headers: HeaderMap) -> Json<Value> {
    demo.upstream.drain(true);
    let upstream = demo.upstream.clone();
    let back_after = demo.settings.back_after;
    tokio::spawn(async move {
        sleep(back_after).await;
        upstream.drain(false);
    });
    demo.remember(&headers)
}

async fn kill(State(demo): State<Arc<Demo>>, headers: HeaderMap) -> Json<Value> {
    tokio::spawn(async {
        sleep(LAST_WORDS).await;
        std::process::exit(137); // As a shell tells of `kill -9`.
    });
    demo.remember(&headers)
}

impl Demo {
    /// Counts a request of the session's, and tells what is known of it.
    fn remember(&self, headers: &HeaderMap) -> Json<Value> {
        let id = headers.get("x-mooring-session").and_then(|id| id.to_str().ok());
        let visits = id.map(|id| self.visit(id));
        Json(json!({
            "host": self.upstream.name(),
            "draining": self.upstream.is_draining(),
            "session": id.map(|id| id.chars().take(6).collect::<String>()),
            "requests": visits.map(|visits| visits.requests),
            "seconds": visits.map(|visits| visits.first.elapsed().as_secs()),
            "settings": self.settings.told,
        }))
    }

    fn visit(&self, session: &str) -> Visits {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= REMEMBERED && !sessions.contains_key(session) {
            sessions.clear();
        }
        let new = || Visits { first: Instant::now(), requests: 0 };
        let visits = sessions.entry(session.to_owned()).or_insert_with(new);
        visits.requests = visits.requests.saturating_add(1);
        *visits
    }
}
