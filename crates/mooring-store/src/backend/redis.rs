//! Sessions in Redis or Valkey: one server, one that Sentinels name, or a Cluster.
//!
//! A value is a string under the session's key as it is; a tombstone is the empty string. Each operation is one command or one script
//! on that key, so it is atomic, and works in a Cluster.
//!
//! One task, the keeper, connects, asks once a second whether Redis still answers, and replaces a connection that does not. Requests
//! take the connection as it is; without one they fail at once. A request that fails makes the keeper look at once, and only the
//! keeper says how Redis is doing: it is logged when that changes, however many requests fail.

// The client library's answers and errors are open sets: what is not looked for is an error like any other.
#![allow(clippy::wildcard_enum_match_arm)]

use super::{Backend, Failure, Lookup, Touch, Write};
use crate::contract::{ETag, SessionKey, Ttl, Value, lower_case_sha1};
use crate::metrics::Metrics;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::sentinel::SentinelClient;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisFuture, ServerErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// Between two questions to a Redis that answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two questions, however many requests fail meanwhile.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// Between two attempts to connect: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// For one attempt to connect: a name to resolve, TLS, credentials, and with Sentinels or a Cluster several servers to ask.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one server to accept a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A script, sent by its SHA-1, and whole to a server that does not know it yet.
struct Script {
    code: &'static str,
    sha1: LazyLock<String>,
}

macro_rules! script {
    ($code:literal) => {
        Script { code: $code, sha1: LazyLock::new(|| lower_case_sha1($code.as_bytes())) }
    };
}

/// `value`, `ttl` → nothing when written, else what is there. (Not the script of the filter for webdis and Upstash, which reads the values:
/// here a tombstone is an empty value, and a copy is known by its SHA-1.)
static CREATE: Script = script!(
    "local current = redis.call('GET', KEYS[1])
if current then return current end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return false"
);

/// `etag`, `value`, `ttl` → 1 when written, 0 when nothing is there, else what is there.
static MOVE: Script = script!(
    "local current = redis.call('GET', KEYS[1])
if not current then return 0 end
if current == '' or redis.sha1hex(current) ~= ARGV[1] then return current end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1"
);

/// `ttl` → 1 when it lives long enough, 0 when nothing is there, -1 on a tombstone.
static TOUCH: Script = script!(
    "local left = redis.call('PTTL', KEYS[1])
if left == -2 then return 0 end
if redis.call('STRLEN', KEYS[1]) == 0 then return -1 end
if left >= 0 and left < ARGV[1] * 1000 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return 1"
);

/// `ttl` → 1. A tombstone that lives longer stays.
static REVOKE: Script = script!(
    "local left = redis.call('PTTL', KEYS[1])
if left ~= -2 and redis.call('STRLEN', KEYS[1]) == 0 and (left == -1 or left >= ARGV[1] * 1000) then return 1 end
redis.call('SET', KEYS[1], '', 'EX', ARGV[1])
return 1"
);

/// Where Redis is, and how to get there.
pub(crate) enum Target {
    /// One server.
    Single(Box<Client>),
    /// The server that Sentinels name.
    Sentinel(Box<SentinelClient>),
    /// A Cluster.
    Cluster(Box<ClusterClient>),
}

/// A connection that many requests share; a clone is another handle of it.
#[derive(Clone)]
enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn open(target: &mut Target, request_timeout: Duration) -> Result<Self, RedisError> {
        // The library's own bound of an answer stands behind ours, which holds for a request as a whole.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DIAL_TIMEOUT))
            .set_response_timeout(Some(request_timeout.max(DIAL_TIMEOUT)));
        Ok(match target {
            Target::Single(client) => Self::Server(client.get_multiplexed_async_connection_with_config(&config).await?),
            Target::Sentinel(client) => Self::Server(client.get_async_connection_with_config(&config).await?),
            Target::Cluster(client) => Self::Cluster(client.get_async_connection().await?),
        })
    }

    /// Whether Redis can serve, by a command that costs it nothing: to remove the key, which is never there, changes nothing.
    async fn probe(&mut self, key: &str) -> Result<(), RedisError> {
        match self {
            // Unlike PING this fails where no write is taken.
            Self::Server(connection) => {
                let probe = redis::cmd("UNLINK").arg(key).query_async::<redis::Value>(connection).await;
                match probe {
                    // Not allowed to touch this key: then it can answer, and that is as much as can be known.
                    Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(()),
                    probe => probe.map(drop),
                }
            }
            // Any server that knows will do: those that are down make the sessions of the others no worse.
            Self::Cluster(connection) => {
                let mut command = redis::cmd("CLUSTER");
                command.arg("INFO");
                let servers = (MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::OneSucceeded));
                match connection.route_command(command, RoutingInfo::MultiNode(servers)).await {
                    Ok(state) if text_of(&state).contains("cluster_state:fail") => {
                        Err((ErrorKind::Server(ServerErrorKind::ClusterDown), "cluster_state:fail").into())
                    }
                    Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(()),
                    state => state.map(drop),
                }
            }
        }
    }

    /// Warns of a Redis that may throw sessions and, worse, tombstones away.
    async fn look_at_eviction(&mut self) {
        let Ok(memory) = redis::cmd("INFO").arg("memory").query_async::<redis::Value>(self).await else { return };
        let text = text_of(&memory);
        let of = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        if let (Some(limit), Some(policy)) = (of("maxmemory"), of("maxmemory_policy"))
            && limit != "0"
            && policy != "noeviction"
        {
            warn!(
                policy,
                "Redis may evict sessions and tombstones when it is full: set maxmemory-policy to noeviction"
            );
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, redis::Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<redis::Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(cmd, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// All text in an answer, whatever its shape: a Cluster's is a map of those of its servers.
fn text_of(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::SimpleString(text) | redis::Value::VerbatimString { text, .. } => text.clone(),
        redis::Value::Array(values) => values.iter().map(text_of).collect::<Vec<_>>().join("\n"),
        redis::Value::Map(pairs) => pairs.iter().map(|(_, value)| text_of(value)).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// What an error of the client library means to us.
fn failure(error: &RedisError) -> Failure {
    match error.code() {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => return Failure::Auth,
        Some("READONLY" | "MISCONF" | "NOREPLICAS") => return Failure::ReadOnly,
        Some("LOADING" | "MASTERDOWN") => return Failure::Loading,
        Some("CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN") => return Failure::ClusterDown,
        Some("OOM") => return Failure::Full,
        Some("WRONGTYPE") => return Failure::Foreign,
        _ => {}
    }
    if error.is_timeout() {
        return Failure::Timeout;
    }
    let lost = error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal();
    match error.kind() {
        _ if lost => Failure::Unreachable,
        ErrorKind::ClusterConnectionNotFound | ErrorKind::MasterNameNotFoundBySentinel => Failure::Unreachable,
        ErrorKind::AuthenticationFailed => Failure::Auth,
        _ => Failure::Error,
    }
}

/// What the keeper knows of Redis.
#[derive(Clone)]
struct State {
    connection: Option<Connection>,
    unready: Option<Failure>,
}

/// What requests tell the keeper.
#[derive(Default)]
struct Trouble {
    /// Something went wrong.
    noticed: Notify,
    /// A request was not answered in time.
    timed_out: AtomicBool,
    /// Why the last request failed.
    reason: Mutex<Option<Failure>>,
}

/// The backend.
#[derive(Clone)]
pub(crate) struct Redis {
    state: watch::Receiver<State>,
    trouble: Arc<Trouble>,
    request_timeout: Duration,
    metrics: Metrics,
}

impl Redis {
    /// Begins to connect. Must be called within a runtime. Each question to Redis gets `request_timeout`. No session has `probe_key`.
    pub(crate) fn new(target: Target, probe_key: String, request_timeout: Duration, metrics: Metrics) -> Self {
        let (sender, state) = watch::channel(State { connection: None, unready: Some(Failure::Unreachable) });
        let trouble = Arc::new(Trouble::default());
        let keeper = Keeper {
            target,
            probe_key,
            request_timeout,
            state: sender,
            trouble: trouble.clone(),
            metrics: metrics.clone(),
            said: None,
            complained: None,
        };
        tokio::spawn(keeper.run());
        Self { state, trouble, request_timeout, metrics }
    }

    /// Has a command done, within the bound of a request.
    async fn query(&self, command: impl AsyncFnOnce(&mut Connection) -> Answer) -> Result<redis::Value, Failure> {
        let State { connection, unready } = self.state.borrow().clone();
        let answer = match connection {
            Some(mut connection) => match timeout(self.request_timeout, command(&mut connection)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Err(failure(&error)),
                Err(_) => Err(Failure::Timeout),
            },
            None => Err(unready.unwrap_or(Failure::Unreachable)),
        };
        if let Err(reason) = answer {
            self.metrics.redis_failed(reason);
            if reason == Failure::Timeout {
                self.trouble.timed_out.store(true, Ordering::Relaxed);
            }
            *self.trouble.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            self.trouble.noticed.notify_one();
        }
        answer
    }

    async fn run(&self, script: &Script, key: &SessionKey, arguments: &[&[u8]]) -> Result<redis::Value, Failure> {
        self.query(async |connection| {
            let command = |name, script: &str| {
                let mut command = redis::cmd(name);
                command.arg(script).arg(1).arg(key.as_str());
                arguments.iter().for_each(|argument| {
                    command.arg(*argument);
                });
                command
            };
            match command("EVALSHA", &script.sha1).query_async(connection).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    command("EVAL", script.code).query_async(connection).await
                }
                answer => answer,
            }
        })
        .await
    }
}

type Answer = Result<redis::Value, RedisError>;

/// The task that keeps a connection.
struct Keeper {
    target: Target,
    /// To try with whether Redis takes writes.
    probe_key: String,
    request_timeout: Duration,
    state: watch::Sender<State>,
    trouble: Arc<Trouble>,
    metrics: Metrics,
    /// What was logged last: that Redis answers, or why not.
    said: Option<Result<(), Failure>>,
    /// Why commands fail although Redis answers, as it was logged last.
    complained: Option<Failure>,
}

impl Keeper {
    async fn run(mut self) {
        let (mut pause, longest) = BACKOFF;
        while !self.state.is_closed() {
            match self.connect().await {
                Ok(mut connection) => {
                    // Not to be told is no reason to wait.
                    let _ = timeout(self.request_timeout, connection.look_at_eviction()).await;
                    // One that served for a while was good: the next attempt follows soon.
                    if self.keep(connection).await >= PROBE_INTERVAL {
                        pause = BACKOFF.0;
                    }
                }
                Err(error) => self.unready(&error),
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(longest);
        }
    }

    async fn connect(&mut self) -> Result<Connection, RedisError> {
        let connecting = async {
            let mut connection = Connection::open(&mut self.target, self.request_timeout).await?;
            // A server that is reading its data answers, but cannot serve.
            connection.probe(&self.probe_key).await?;
            Ok(connection)
        };
        timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Lends a connection to requests until it fails a probe, and says for how long that was.
    async fn keep(&mut self, mut connection: Connection) -> Duration {
        let (began, mut looked) = (Instant::now(), Instant::now());
        self.state.send_replace(State { connection: Some(connection.clone()), unready: None });
        self.metrics.redis_answers(true);
        self.say(Ok(()), "");
        loop {
            tokio::select! {
                () = sleep(PROBE_INTERVAL) => {}
                () = self.trouble.noticed.notified() => sleep(PROBE_PAUSE).await,
            }
            if self.state.is_closed() {
                return began.elapsed();
            }
            let probe = timeout(self.request_timeout, connection.probe(&self.probe_key))
                .await
                .unwrap_or_else(|_| Err(timed_out()));
            if let Err(error) = probe {
                self.unready(&error);
                return began.elapsed();
            }
            self.complain();
            // A server of a Cluster that hangs never says that another has its place, and the library waits for it for ever: ask the
            // others anew. Meanwhile the connection serves those sessions that it can.
            if matches!(connection, Connection::Cluster(_))
                && looked.elapsed() >= PROBE_INTERVAL
                && self.trouble.timed_out.swap(false, Ordering::Relaxed)
            {
                if let Ok(fresh) = self.connect().await {
                    connection = fresh;
                    self.state.send_replace(State { connection: Some(connection.clone()), unready: None });
                }
                looked = Instant::now();
            }
        }
    }

    fn unready(&mut self, error: &RedisError) {
        let reason = failure(error);
        self.state.send_replace(State { connection: None, unready: Some(reason) });
        self.metrics.redis_answers(false);
        self.say(Err(reason), &error.to_string());
    }

    /// Logs why requests fail although Redis answers, if that is news: a command that it forbids, say.
    fn complain(&mut self) {
        let reason = self.trouble.reason.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reason) = reason.filter(|reason| self.complained != Some(*reason)) {
            self.complained = Some(reason);
            warn!(%reason, "Redis answers, but did not do every command");
        }
    }

    /// Logs how Redis is doing, if that is news.
    fn say(&mut self, state: Result<(), Failure>, error: &str) {
        if self.said != Some(state) {
            self.said = Some(state);
            self.complained = None;
            match state {
                Ok(()) => info!("Redis answers"),
                Err(reason) => warn!(%reason, error, "Redis cannot serve; trying until it can"),
            }
        }
    }
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn found(bytes: Vec<u8>) -> Result<Value, Failure> {
    Value::stored(bytes).ok_or(Failure::Foreign)
}

impl Backend for Redis {
    async fn lookup(&self, key: &SessionKey) -> Result<Lookup, Failure> {
        let answer = self.query(async |connection| redis::cmd("GET").arg(key.as_str()).query_async(connection).await);
        match answer.await? {
            redis::Value::Nil => Ok(Lookup::Missing),
            redis::Value::BulkString(value) if value.is_empty() => Ok(Lookup::Revoked),
            redis::Value::BulkString(value) => found(value).map(Lookup::Found),
            _ => Err(Failure::Error),
        }
    }

    async fn create(&self, key: &SessionKey, value: &Value, ttl: Ttl) -> Result<Write, Failure> {
        let ttl = ttl.seconds().to_string();
        match self.run(&CREATE, key, &[value.as_bytes(), ttl.as_bytes()]).await? {
            redis::Value::Nil => Ok(Write::Done),
            redis::Value::BulkString(current) if current.is_empty() => Ok(Write::Revoked),
            redis::Value::BulkString(current) => found(current).map(Write::Differs),
            _ => Err(Failure::Error),
        }
    }

    async fn move_to(&self, key: &SessionKey, from: &ETag, value: &Value, ttl: Ttl) -> Result<Write, Failure> {
        let ttl = ttl.seconds().to_string();
        let arguments: [&[u8]; 3] = [from.as_str().as_bytes(), value.as_bytes(), ttl.as_bytes()];
        match self.run(&MOVE, key, &arguments).await? {
            redis::Value::Int(1) => Ok(Write::Done),
            redis::Value::Int(0) => Ok(Write::Missing),
            redis::Value::BulkString(current) if current.is_empty() => Ok(Write::Revoked),
            redis::Value::BulkString(current) => found(current).map(Write::Differs),
            _ => Err(Failure::Error),
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Ttl) -> Result<Touch, Failure> {
        match self.run(&TOUCH, key, &[ttl.seconds().to_string().as_bytes()]).await? {
            redis::Value::Int(1) => Ok(Touch::Done),
            redis::Value::Int(0) => Ok(Touch::Missing),
            redis::Value::Int(-1) => Ok(Touch::Revoked),
            _ => Err(Failure::Error),
        }
    }

    async fn revoke(&self, key: &SessionKey, ttl: Ttl) -> Result<(), Failure> {
        match self.run(&REVOKE, key, &[ttl.seconds().to_string().as_bytes()]).await? {
            redis::Value::Int(1) => Ok(()),
            _ => Err(Failure::Error),
        }
    }

    fn unready(&self) -> Option<Failure> {
        self.state.borrow().unready
    }
}
