//! The REST contract over a backend, and the endpoints for operators.

use crate::backend::{Backend, Failure, Lookup, Touch, Write};
use crate::contract::{Condition, ETag, Namespaces, Refusal, SessionKey, Ttl, VALUE_TOO_LONG, Value};
use crate::metrics::{Metrics, Operation};
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MATCH, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store_contract::{MAX_VALUE, SESSIONS};
use tokio::time::{Instant, timeout};

/// For a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const METRICS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The bearer tokens that are accepted, as digests: comparing these takes no longer for a token that is nearly right.
pub(crate) struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// These tokens; without any, everybody is let in.
    pub(crate) fn new(tokens: &[String]) -> Self {
        Self(tokens.iter().map(|token| Sha256::digest(token).into()).collect())
    }

    /// Whether everybody is let in.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request of the contract has one, where one is wanted.
    pub(crate) fn are_shown_by<T>(&self, request: &axum::http::Request<T>) -> bool {
        request.uri().path().starts_with(SESSIONS) && self.accept(request.headers())
    }

    fn accept(&self, headers: &HeaderMap) -> bool {
        if self.is_open() {
            return true;
        }
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
        given.is_some_and(|token| {
            let digest: [u8; 32] = Sha256::digest(token).into();
            self.0.contains(&digest)
        })
    }
}

/// The token of an `Authorization` header; the scheme's case does not matter.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// What the handlers share.
pub(crate) struct App<B> {
    /// Where sessions are kept.
    pub backend: B,
    /// Who is let in.
    pub tokens: Arc<Tokens>,
    /// Whose keys are served.
    pub namespaces: Namespaces,
    /// What is counted.
    pub metrics: Metrics,
    /// Set when the server is about to end.
    pub draining: Arc<AtomicBool>,
}

/// All endpoints.
pub(crate) fn router<B: Backend>(app: App<B>) -> Router {
    let app = Arc::new(app);
    let sessions = Router::new()
        .route("/v1/sessions/{key}", get(lookup::<B>).put(put::<B>).delete(revoke::<B>))
        .route("/v1/sessions/{key}/touch", post(touch::<B>))
        .route("/v1/sessions/", any(|| async { SessionKey::RULE }))
        .method_not_allowed_fallback(|| async {
            Refusal(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this path")
        })
        .layer(from_fn_with_state(app.clone(), authorize::<B>))
        .layer(from_fn_with_state(app.clone(), measure::<B>));
    Router::new()
        .route("/healthz", get(|| async { text(StatusCode::OK, "ok") }))
        .route("/readyz", get(ready::<B>))
        .method_not_allowed_fallback(|| async {
            Refusal(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this path")
        })
        .merge(sessions)
        .fallback(|| async { Refusal(StatusCode::NOT_FOUND, "no such path; sessions are at /v1/sessions/{key}") })
        .layer(map_response(never_cached))
        .with_state(app)
}

/// The endpoint of Prometheus, for a port of its own.
pub(crate) fn metrics_router(metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(async move || ([(CONTENT_TYPE, METRICS_TEXT)], metrics.text())))
        .fallback(|| async { Refusal(StatusCode::NOT_FOUND, "no such path; metrics are at /metrics") })
        .layer(map_response(never_cached))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        text(self.0, self.1)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, rule) = match self {
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "the store is full"),
            Self::Foreign => (StatusCode::BAD_GATEWAY, "what is kept under this key is not of the store's making"),
            Self::Timeout
            | Self::Unreachable
            | Self::Auth
            | Self::ReadOnly
            | Self::Loading
            | Self::ClusterDown
            | Self::Error => (StatusCode::SERVICE_UNAVAILABLE, self.word()),
        };
        let mut response = text(status, rule);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A request that is not served: it breaks a rule, or the backend cannot.
enum Unserved {
    Refusal(Refusal),
    Failure(Failure),
}

impl From<Refusal> for Unserved {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<Failure> for Unserved {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl IntoResponse for Unserved {
    fn into_response(self) -> Response {
        match self {
            Self::Refusal(refusal) => refusal.into_response(),
            Self::Failure(failure) => failure.into_response(),
        }
    }
}

impl<B: Backend> FromRequestParts<Arc<App<B>>> for SessionKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App<B>>) -> Result<Self, Refusal> {
        let Path(key) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| Self::RULE)?;
        Self::parse(key, &app.namespaces)
    }
}

fn text(status: StatusCode, line: &str) -> Response {
    (status, [(CONTENT_TYPE, TEXT)], format!("{line}\n")).into_response()
}

/// The answer where too many requests are under way.
pub(crate) fn busy() -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "busy");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// A value as the body, with its etag.
fn shown(status: StatusCode, value: Value) -> Response {
    let mut response = (status, [(CONTENT_TYPE, TEXT)], Body::empty()).into_response();
    tag(&mut response, &value.etag());
    *response.body_mut() = Body::from(value.into_bytes());
    response
}

fn tag(response: &mut Response, etag: &ETag) {
    if let Some(etag) = etag.to_header() {
        response.headers_mut().insert(ETAG, etag);
    }
}

const REVOKED: Refusal = Refusal(StatusCode::GONE, "the session was revoked");
const MISSING: Refusal = Refusal(StatusCode::NOT_FOUND, "no such session");

async fn lookup<B: Backend>(State(app): State<Arc<App<B>>>, key: SessionKey) -> Result<Response, Unserved> {
    Ok(match app.backend.lookup(&key).await? {
        Lookup::Found(value) => shown(StatusCode::OK, value),
        Lookup::Revoked => REVOKED.into_response(),
        Lookup::Missing => MISSING.into_response(),
    })
}

async fn put<B: Backend>(
    State(app): State<Arc<App<B>>>,
    key: SessionKey,
    request: Request,
) -> Result<Response, Unserved> {
    let ttl = Ttl::parse(request.headers())?;
    let condition = Condition::parse(request.headers())?;
    let value = body(request).await?;
    let (done, outcome) = match condition {
        Condition::Absent => (StatusCode::CREATED, app.backend.create(&key, &value, ttl).await?),
        Condition::Matches(etag) => (StatusCode::NO_CONTENT, app.backend.move_to(&key, &etag, &value, ttl).await?),
    };
    Ok(match outcome {
        Write::Done => {
            let mut response = done.into_response();
            tag(&mut response, &value.etag());
            response
        }
        Write::Differs(current) => shown(StatusCode::PRECONDITION_FAILED, current),
        Write::Missing => StatusCode::PRECONDITION_FAILED.into_response(),
        Write::Revoked => REVOKED.into_response(),
    })
}

async fn touch<B: Backend>(
    State(app): State<Arc<App<B>>>,
    key: SessionKey,
    headers: HeaderMap,
) -> Result<Response, Unserved> {
    let ttl = Ttl::parse(&headers)?;
    Ok(match app.backend.touch(&key, ttl).await? {
        Touch::Done => StatusCode::NO_CONTENT.into_response(),
        Touch::Missing => MISSING.into_response(),
        Touch::Revoked => REVOKED.into_response(),
    })
}

async fn revoke<B: Backend>(
    State(app): State<Arc<App<B>>>,
    key: SessionKey,
    headers: HeaderMap,
) -> Result<StatusCode, Unserved> {
    let ttl = Ttl::parse(&headers)?;
    // On a task of its own: a logout is not lost because the client that asked for it did not wait.
    let revoked = tokio::spawn(async move { app.backend.revoke(&key, ttl).await });
    revoked.await.unwrap_or(Err(Failure::Error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads the body of a PUT, for a bounded time and to a bounded length.
async fn body(request: Request) -> Result<Value, Refusal> {
    let late = Refusal(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 5 s");
    timeout(BODY_TIMEOUT, whole(request.into_body())).await.map_err(|_| late)?
}

/// Copies what comes: a part of a body holds the whole buffer that it came in.
async fn whole(mut body: Body) -> Result<Value, Refusal> {
    let broken = Refusal(StatusCode::BAD_REQUEST, "the body did not arrive whole");
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| broken)?.into_data() {
            if bytes.len().saturating_add(data.len()) > MAX_VALUE {
                return Err(VALUE_TOO_LONG);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Value::parse(bytes.into())
}

/// Lets those in who have a token, where tokens are configured.
async fn authorize<B: Backend>(State(app): State<Arc<App<B>>>, request: Request, next: Next) -> Response {
    if app.tokens.accept(request.headers()) {
        return next.run(request).await;
    }
    let mut response = text(StatusCode::UNAUTHORIZED, "a bearer token is required");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Counts a request of the contract.
async fn measure<B: Backend>(State(app): State<Arc<App<B>>>, request: Request, next: Next) -> Response {
    let operation = operation(request.method(), request.headers());
    let began = Instant::now();
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    app.metrics.answered(operation, status, took);
    tracing::debug!(operation = operation.word(), status, ?took, "answered");
    response
}

/// Which operation of the contract a request asks for.
pub(crate) fn operation(method: &Method, headers: &HeaderMap) -> Operation {
    match *method {
        Method::GET | Method::HEAD => Operation::Lookup,
        Method::PUT if headers.contains_key(IF_MATCH) => Operation::Move,
        Method::PUT => Operation::Create,
        Method::POST => Operation::Touch,
        Method::DELETE => Operation::Revoke,
        _ => Operation::Other,
    }
}

async fn ready<B: Backend>(State(app): State<Arc<App<B>>>) -> Response {
    let reason = match app.backend.unready() {
        _ if app.draining.load(Ordering::Relaxed) => "draining",
        Some(failure) => failure.word(),
        None => return text(StatusCode::OK, "ok"),
    };
    text(StatusCode::SERVICE_UNAVAILABLE, reason)
}

async fn never_cached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}
