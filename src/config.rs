//! The plugin's configuration (`docs/configuration.md`): JSON in, a validated form or every error of it out.
//!
//! Environment variables are passed in.

mod cookie;
// The plugin takes notes of nothing, so nothing of this is in it.
#[cfg_attr(not(feature = "description"), allow(dead_code))]
mod description;
pub mod duration;
mod error;
mod identify;
mod keys;
mod reader;
#[cfg(feature = "description")]
pub mod schema;
mod store;

pub use error::{ConfigError, ConfigErrors};
pub use store::{AccessToken, CreateWhen, Endpoint, OnError, OnMissing, Protocol, StoreConfig, WriteMode};

use crate::carrier::AnyCarrier;
use crate::carrier::cookie::CookieCarrier;
use crate::credential::keyring::{Keyring, MAX_SCOPE};
use crate::headers::HeaderName;
use crate::session::{MAX_LIFETIME, Timeouts};
use crate::text;
use crate::text::json::Json;
use crate::text::words::closed_set;
use cookie::CookieSection;
use reader::{Field, Object, Report};
use sha2::{Digest as _, Sha256};
use std::rc::Rc;
use std::time::Duration;

/// Looks up an environment variable of the Wasm VM.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// A configuration that kept every rule.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of a worker.
    pub shared: Rc<Shared>,
    /// Of its policy.
    pub policy: Rc<Policy>,
}

/// What belongs to a worker, whatever policies its requests have: keys, store and cache.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The keys, derived for the scope.
    pub keyring: Keyring,
    /// What separates applications that share keys.
    pub scope: String,
    /// The session store. `None`: sessions live in their tokens alone.
    pub store: Option<StoreConfig>,
    /// How much a worker remembers, and for how long.
    pub cache: CacheLimits,
}

/// How sessions are carried, how long they last and where they go.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How clients carry their sessions. The first that yields one wins.
    pub identify: Vec<AnyCarrier>,
    /// Whether tokens are issued encrypted as well as signed.
    pub encrypt: bool,
    /// When sessions end.
    pub session: Timeouts,
    /// How the host is named to Envoy.
    pub upstream: Upstream,
    /// How the application speaks with the filter.
    pub app: App,
    /// Which decisions the access log is told of.
    pub access_log: AccessLog,
    /// The response header that names the decision.
    pub debug_header: Option<HeaderName>,
}

closed_set! {
    /// Which decisions the access log is told of.
    pub enum AccessLog {
        /// All but those on requests for which nothing was due.
        Changes = "changes",
        /// All.
        All = "all",
    }
}

/// How the host is named to Envoy.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Which part of Envoy reads the header.
    pub via: Via,
    /// The override header.
    pub header: HeaderName,
    /// What happens when the pinned host does not serve.
    pub failover: Failover,
}

closed_set! {
    /// The bridge: which part of Envoy turns the override header into an override host.
    pub enum Via {
        /// The `stateful_session` filter with header session state. Honours health.
        StatefulSession = "stateful_session",
        /// The `override_host` load-balancing policy. Does not look at health.
        OverrideHost = "override_host",
    }
}

closed_set! {
    /// What happens when the pinned host does not serve.
    pub enum Failover {
        /// The session stays on the host that served instead.
        Sticky = "sticky",
        /// The session goes home when its host is back.
        Temporary = "temporary",
        /// The bridge is strict: no other host serves.
        None = "none",
    }
}

/// How much a worker remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// How many tokens that verified, and how many sessions that the store knows.
    pub entries: u32,
    /// For how long what the store said of a session, counted from the lookup.
    pub ttl: Duration,
}

/// How the application speaks with the filter.
#[derive(Clone, Debug)]
pub struct App {
    /// Response header with which the application rotates, ends or releases the session.
    pub action_header: AppHeader,
    /// Request header that gives the application the session id.
    pub session_header: AppHeader,
}

/// A header between application and filter. Switched off, it is still taken away from clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppHeader {
    /// Its name.
    pub name: HeaderName,
    /// Whether it is used.
    pub enabled: bool,
}

const MEMBERS: [&str; 11] = [
    "keys",
    "scope",
    "identify",
    "cookie",
    "session",
    "upstream",
    "store",
    "cache",
    "app",
    "access_log",
    "debug_header",
];

impl Config {
    /// Reads and validates a configuration.
    ///
    /// # Errors
    /// Every broken rule with its place. Values, which may be secrets, are never repeated.
    pub fn parse(json: &[u8], environment: Environment<'_>) -> Result<Self, ConfigErrors> {
        let report = Report::default();
        let config = match serde_json::from_slice::<Json>(json) {
            Ok(json) => read(&Field::root(&report, &json), environment),
            Err(error) => {
                report.error(
                    "",
                    format!(
                        "is not JSON ({error}); accepted is a JSON object (in Envoy, a google.protobuf.StringValue)"
                    ),
                );
                None
            }
        };
        report.finish(config)
    }

    /// What it comes to, in a line for the log: no secret, and nothing of a client, a session or a host that serves.
    pub fn summary(&self) -> String {
        let Self { shared, policy } = self;
        let ways =
            policy.identify.iter().map(|carrier| text::concat(&[carrier.way().word(), " ", &carrier.describe()]));
        let ways = text::joined(ways, " or ");
        let timeout = |seconds: Option<u32>| {
            seconds.map_or("none".into(), |seconds| duration::show(Duration::from_secs(seconds.into())))
        };
        let store = match &shared.store {
            Some(store) => format!("{} in the cluster {}", store.endpoint.protocol.word(), store.endpoint.cluster),
            None => "none".into(),
        };
        format!(
            "scope {}; keys {}; by {ways}; absolute timeout {}, idle timeout {}; failover {}, by {}; store {store}",
            shared.scope,
            text::joined((0..).map_while(|position| shared.keyring.id(position)).map(|id| id.as_str()), ", "),
            timeout(policy.session.absolute),
            timeout(policy.session.idle),
            policy.upstream.failover.word(),
            policy.upstream.via.word(),
        )
    }
}

impl Policy {
    /// The affinity cookie, where sessions may come by one.
    pub fn cookie(&self) -> Option<&CookieCarrier> {
        self.identify
            .iter()
            .find_map(|carrier| if let AnyCarrier::Cookie(cookie) = carrier { Some(cookie) } else { None })
    }
}

fn read(root: &Field<'_>, environment: Environment<'_>) -> Option<Config> {
    let config = root.object(&MEMBERS)?;
    let keys = keys::read(&config, environment);
    let scope = config.read_if_given("scope", |field| read_scope(&field));
    let ways = identify::read(&config);
    let cookie = cookie::read(&config);
    let session = read_session(&config);
    let upstream = read_upstream(&config);
    let cache = read_cache(&config);
    let app = read_app(&config);
    let access_log = config.read("access_log", AccessLog::Changes, |field| field.word());
    let debug_header = config.read_or_off("debug_header", |field| read_header(&field));
    let store = config.read_or_off("store", |field| store::read(&field, environment));
    if let (Some(Some(_)), Some(Timeouts { absolute: None, .. })) = (&store, &session) {
        config.report().error(
            "session.absolute_timeout",
            "is off, and a store must know when it may forget a session; accepted is 1s or longer".into(),
        );
    }
    let jobs = [
        ("upstream.header", upstream.as_ref().map(|upstream| &upstream.header)),
        ("app.action_header", app.as_ref().map(|app| &app.action_header.name)),
        ("app.session_header", app.as_ref().map(|app| &app.session_header.name)),
        ("debug_header", debug_header.as_ref().and_then(Option::as_ref)),
    ];
    let jobs = jobs.into_iter().filter_map(|(path, name)| Some((path.to_owned(), name?)));
    check_distinct(&config, jobs.chain(ways.iter().flatten().filter_map(identify::Entry::header)));

    let (keys, scope, CookieSection { carrier: cookie, encrypt }) = (keys?, scope?, cookie?);
    let scope = scope.unwrap_or_else(|| cookie.set_cookie.name()).to_owned();
    let shared = Shared { keyring: keys.derive(&scope)?, scope, store: store?, cache: cache? };
    let policy = Policy {
        identify: ways?.into_iter().map(|way| way.carrier(&cookie)).collect(),
        encrypt,
        session: session?,
        upstream: upstream?,
        app: app?,
        access_log: access_log?,
        debug_header: debug_header?,
    };
    Some(Config { shared: Rc::new(shared), policy: Rc::new(policy) })
}

/// Names a configuration, to tell whether proxies have the same: the first 8 hexadecimal digits of the SHA-256 of its JSON as it was
/// given. Secrets that come from the environment are not in it.
pub fn version(json: &[u8]) -> String {
    let hash = Sha256::digest(json);
    let digits = hash.iter().take(4).flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

fn read_scope<'a>(field: &Field<'a>) -> Option<&'a str> {
    let accepted = format!("a string of 1 to {MAX_SCOPE} bytes without control characters");
    let scope = field.string(&accepted)?;
    let fits = (1..=MAX_SCOPE).contains(&scope.len()) && !scope.contains(char::is_control);
    if fits { Some(scope) } else { field.error(format!("is not a scope; accepted is {accepted}")) }
}

fn read_session(config: &Object<'_>) -> Option<Timeouts> {
    let session = config.section("session", &["absolute_timeout", "idle_timeout", "clock_skew"])?;
    let timeout = |name, default: Duration| {
        let read = session.read(name, default, |field| field.seconds(Duration::ZERO, MAX_LIFETIME))?;
        Some(Some(in_seconds(read)).filter(|seconds| *seconds > 0))
    };
    let absolute = timeout("absolute_timeout", Duration::from_secs(8 * 60 * 60));
    let idle = timeout("idle_timeout", Duration::from_secs(30 * 60));
    let clock_skew = session.read("clock_skew", Duration::from_secs(60), |field| {
        field.seconds(Duration::ZERO, Duration::from_secs(60 * 60))
    });
    Some(Timeouts { absolute: absolute?, idle: idle?, clock_skew: in_seconds(clock_skew?) })
}

fn in_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn read_upstream(config: &Object<'_>) -> Option<Upstream> {
    let upstream = config.section("upstream", &["via", "header", "failover"])?;
    let via = upstream.read("via", Via::StatefulSession, |field| field.word());
    let header = upstream.read("header", HeaderName::new("x-mooring-host")?, |field| read_header(&field));
    let failover = upstream.read("failover", Failover::Sticky, |field| field.word());
    if let (Some(Via::OverrideHost), Some(Failover::None), Some(field)) = (via, failover, upstream.get("failover")) {
        field.error::<()>(
            "none needs a strict bridge, and override_host always falls back; accepted is sticky or temporary, \
             or none with \"via\": \"stateful_session\"",
        );
    }
    Some(Upstream { via: via?, header: header?, failover: failover? })
}

fn read_cache(config: &Object<'_>) -> Option<CacheLimits> {
    let cache = config.section("cache", &["entries", "ttl"])?;
    let entries = cache.read("entries", 10_000, |field| field.whole(1..=1_000_000));
    let ttl = cache.read("ttl", Duration::from_secs(30), |field| {
        field.duration(Duration::from_millis(100), Duration::from_secs(60 * 60))
    });
    Some(CacheLimits { entries: entries?, ttl: ttl? })
}

fn read_app(config: &Object<'_>) -> Option<App> {
    let app = config.section("app", &["action_header", "session_header"])?;
    let header = |member, name| {
        let default = HeaderName::new(name)?;
        let given = app.read_unless_off(member, default.clone(), |field| read_header(&field))?;
        Some(AppHeader { enabled: given.is_some(), name: given.unwrap_or(default) })
    };
    let action_header = header("action_header", "x-mooring-action");
    let session_header = header("session_header", "x-mooring-session");
    Some(App { action_header: action_header?, session_header: session_header? })
}

fn read_header(field: &Field<'_>) -> Option<HeaderName> {
    let name = HeaderName::new(field.string(HeaderName::FORM)?);
    name.or_else(|| field.error(format!("is not a header name; accepted is {}", HeaderName::FORM)))
}

/// Two jobs in one header would undo each other.
fn check_distinct<'n>(config: &Object<'_>, named: impl Iterator<Item = (String, &'n HeaderName)>) {
    let mut earlier: Vec<(String, &HeaderName)> = Vec::new();
    for (path, name) in named {
        if let Some((other, _)) = earlier.iter().find(|(_, known)| *known == name) {
            config.report().error(&path, format!("is the header of {other} as well; accepted is a name of its own"));
        }
        earlier.push((path, name));
    }
}

/// A secret as configs and variables hold it: base64.
#[cfg(feature = "description")]
pub fn secret_text(secret: &[u8]) -> String {
    text::base64::standard(secret)
}

#[cfg(test)]
mod tests;
