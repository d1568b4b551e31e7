//! The command line and the environment, read into settings that hold their rules.

use crate::backend::memory::Bounds;
use crate::backend::redis::Target;
use crate::contract::Namespaces;
use crate::http::Tokens;
use bytesize::ByteSize;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use redis::cluster::ClusterClientBuilder;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates, TlsMode,
};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store_contract::MAX_TOKEN;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::level_filters::LevelFilter;

const TOKEN: &str = "MOORING_STORE_TOKEN";
const REDIS_PASSWORD: &str = "MOORING_STORE_REDIS_PASSWORD";

const AFTER_HELP: &str = "\
Secrets are no arguments: a bearer token comes from --token-file or from the environment variable MOORING_STORE_TOKEN, the \
password of Redis from --redis-password-file or MOORING_STORE_REDIS_PASSWORD. (A URL of Redis may hold it too; others on the \
machine can see it there.)

Endpoints:
  GET    /v1/sessions/{key}        200 with the value and its ETag, 404, or 410 when revoked
  PUT    /v1/sessions/{key}        If-None-Match: * creates (201), If-Match: \"etag\" replaces (204); 412 with what is there, 410
  DELETE /v1/sessions/{key}        revokes: 204, and leaves a tombstone
  POST   /v1/sessions/{key}/touch  lives at least as long: 204, 404, 410
                                   (PUT, DELETE and touch need Mooring-TTL: seconds)
  GET    /healthz                  200: the process lives
  GET    /readyz                   200 when sessions can be served, else 503 and one word that says why not
  GET    /metrics                  for Prometheus, on the port of --metrics-listen

Examples:
  In memory, for one machine:
    mooring-store

  Over one Redis (maxmemory-policy must be noeviction), reachable from elsewhere with a token:
    MOORING_STORE_TOKEN=… mooring-store --listen 0.0.0.0:8480 --redis redis://10.0.0.5:6379

  Over a Redis Cluster, with TLS on both sides:
    mooring-store --listen 0.0.0.0:8480 --tls-cert store.pem --tls-key store.key --token-file tokens \\
      --redis-mode cluster --redis rediss://10.0.0.5:6379 --redis rediss://10.0.0.6:6379 \\
      --redis-ca-cert ca.pem --redis-password-file password

Exit codes: 0 after SIGTERM or SIGINT; 1 when it cannot run (a port in use, say); 2 when an option, or a file that one names, is wrong.";

/// The session store of Mooring: an HTTP server that several proxies share, so that they agree on every session.
///
/// Keeps sessions in memory (for one machine; they are gone when it ends), or in Redis 6.2 or later or Valkey, of which any number
/// of copies may run. It stores opaque values under opaque keys, and decides races: the first create wins, a move needs the value
/// that it replaces, and a revoked session stays revoked.
#[derive(Parser)]
#[command(name = "mooring-store", version, after_help = AFTER_HELP, max_term_width = 120)]
struct CommandLine {
    /// Where to listen. Port 0 takes a free one; the first line of stdout says which
    #[arg(long, env = "MOORING_STORE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8480")]
    listen: String,

    /// Where to serve /metrics to Prometheus, in plain HTTP; without it nowhere. Not a port that everybody reaches
    #[arg(long, env = "MOORING_STORE_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<String>,

    /// Keep sessions in Redis: redis://HOST:PORT or rediss:// for TLS. Again for each node of a Cluster and each Sentinel, of which
    /// some suffice. Without it, sessions are in memory
    #[arg(long, env = "MOORING_STORE_REDIS", value_name = "URL", value_delimiter = ',')]
    redis: Vec<String>,

    /// What the URLs lead to
    #[arg(long, env = "MOORING_STORE_REDIS_MODE", value_name = "MODE", default_value = "single")]
    redis_mode: RedisMode,

    /// What the Sentinels call the Redis that they watch
    #[arg(long, env = "MOORING_STORE_REDIS_SENTINEL_MASTER", value_name = "NAME")]
    redis_sentinel_master: Option<String>,

    /// The user at Redis, if it is not the default one. (With Sentinels, user and password in the URLs are those at the Sentinels)
    #[arg(long, env = "MOORING_STORE_REDIS_USERNAME", value_name = "NAME")]
    redis_username: Option<String>,

    /// A file with the password at Redis
    #[arg(long, env = "MOORING_STORE_REDIS_PASSWORD_FILE", value_name = "FILE")]
    redis_password_file: Option<PathBuf>,

    /// PEM certificates of the authorities that Redis' certificate may come from. Default: those of the system
    #[arg(long, env = "MOORING_STORE_REDIS_CA_CERT", value_name = "FILE")]
    redis_ca_cert: Option<PathBuf>,

    /// The PEM certificate to show to Redis
    #[arg(long, env = "MOORING_STORE_REDIS_CLIENT_CERT", value_name = "FILE")]
    redis_client_cert: Option<PathBuf>,

    /// The PEM key of --redis-client-cert
    #[arg(long, env = "MOORING_STORE_REDIS_CLIENT_KEY", value_name = "FILE")]
    redis_client_key: Option<PathBuf>,

    /// Whose keys are served: the beginning of a key, as in the plugin's store.namespace. Again for each further one. Other keys are
    /// refused with 403
    #[arg(
        long,
        env = "MOORING_STORE_NAMESPACE",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = store_contract::DEFAULT_NAMESPACE
    )]
    namespace: Vec<String>,

    /// A file with the bearer token that clients must show; a second line is accepted too, for the time of a rotation
    #[arg(long, env = "MOORING_STORE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Speak TLS (HTTP/1.1 and HTTP/2): the PEM certificate, followed by those of intermediate authorities
    #[arg(long, env = "MOORING_STORE_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The PEM key of --tls-cert
    #[arg(long, env = "MOORING_STORE_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// The most sessions and tombstones in memory. When it is full, the session that would expire next goes; tombstones stay, and where
    /// nothing else is left, writes fail with 507
    #[arg(long, env = "MOORING_STORE_MAX_SESSIONS", value_name = "N", default_value = "1000000")]
    max_sessions: String,

    /// The most bytes that they take: the length of key and value, and 256 for each. When it is full, the same happens
    #[arg(long, env = "MOORING_STORE_MAX_MEMORY", value_name = "SIZE", default_value = "512MiB")]
    max_memory: String,

    /// The most connections at a time; more are closed at once
    #[arg(long, env = "MOORING_STORE_MAX_CONNECTIONS", value_name = "N", default_value = "10000")]
    max_connections: String,

    /// For how long a connection stays on which nobody shows a token
    #[arg(long, env = "MOORING_STORE_ANONYMOUS_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    anonymous_timeout: String,

    /// What Redis gets for a request, after which the answer is 503
    #[arg(long, env = "MOORING_STORE_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "500ms")]
    request_timeout: String,

    /// For how long a connection may serve nothing. Longer than the idle timeout of the proxies in front, so that they close first
    #[arg(long, env = "MOORING_STORE_IDLE_TIMEOUT", value_name = "DURATION", default_value = "5m")]
    idle_timeout: String,

    /// What requests under way get to finish after SIGTERM or SIGINT. A second signal ends it at once
    #[arg(long, env = "MOORING_STORE_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    drain_timeout: String,

    /// How to log, to stderr. Keys, values and tokens never are
    #[arg(long, env = "MOORING_STORE_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// What to log: this and what is worse
    #[arg(long, env = "MOORING_STORE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RedisMode {
    /// One server
    Single,
    /// Any nodes of a Redis Cluster
    Cluster,
    /// Sentinels, which know the server
    Sentinel,
}

/// How logs look.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What was asked for.
pub(crate) struct Settings {
    /// Where to listen: a host or an address, and a port.
    pub listen: String,
    /// Where to serve metrics, if they are.
    pub metrics_listen: Option<String>,
    /// Where sessions are kept.
    pub storage: Storage,
    /// Who is let in.
    pub tokens: Tokens,
    /// Whose keys are served.
    pub namespaces: Namespaces,
    /// How TLS is spoken to clients, if it is.
    pub tls: Option<TlsAcceptor>,
    /// The most connections at a time.
    pub max_connections: usize,
    /// For how long a connection stays without a token.
    pub anonymous_timeout: Duration,
    /// What Redis gets for a request.
    pub request_timeout: Duration,
    /// For how long a connection may serve nothing.
    pub idle_timeout: Duration,
    /// What requests under way get to finish at the end.
    pub drain_timeout: Duration,
    /// How to log.
    pub log_format: LogFormat,
    /// What to log.
    pub log_level: LevelFilter,
}

/// Where sessions are kept.
pub(crate) enum Storage {
    /// In memory.
    Memory(Bounds),
    /// In Redis.
    Redis(Target),
}

/// Why there are no settings.
pub(crate) enum Stop {
    /// `--help` or `--version`, which is what to print.
    Told(clap::Error),
    /// An option breaks a rule; one line that says which.
    Wrong(String),
}

impl From<String> for Stop {
    fn from(rule: String) -> Self {
        Self::Wrong(rule)
    }
}

type Checked<T> = Result<T, String>;

impl Settings {
    /// Reads the command line, the environment, and the files that they name.
    ///
    /// # Errors
    /// When there is nothing to run.
    pub(crate) fn read() -> Result<Self, Stop> {
        // What is in the environment may be secret: a URL of Redis can hold a password.
        let command = CommandLine::command().mut_args(|argument| argument.hide_env_values(true));
        let matches = command.try_get_matches().map_err(stop)?;
        let options = CommandLine::from_arg_matches(&matches).map_err(stop)?;
        Ok(options.check()?)
    }
}

/// One line of what clap has to say: the rest is a pointer to `--help`.
fn stop(error: clap::Error) -> Stop {
    if !error.use_stderr() {
        return Stop::Told(error);
    }
    let text = error.render().to_string();
    let said = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    Stop::Wrong(said.trim_start_matches("error: ").to_owned())
}

impl CommandLine {
    fn check(self) -> Checked<Settings> {
        let request_timeout = duration_between("--request-timeout", &self.request_timeout, 10, 60_000)?;
        let bounds = Bounds {
            entries: number_between("--max-sessions", &self.max_sessions, 1..=1_000_000_000)?,
            bytes: size_from("--max-memory", &self.max_memory, ByteSize::mib(1))?,
        };
        Ok(Settings {
            storage: self.storage(bounds, request_timeout)?,
            tokens: self.tokens()?,
            namespaces: Namespaces::new(self.namespace.clone())
                .ok_or("--namespace: one or more names, each 1 to 64 of A-Z a-z 0-9 _ . -")?,
            tls: self.tls()?,
            max_connections: number_between("--max-connections", &self.max_connections, 1..=1_000_000)?,
            anonymous_timeout: duration_between("--anonymous-timeout", &self.anonymous_timeout, 1000, 86_400_000)?,
            request_timeout,
            idle_timeout: duration_between("--idle-timeout", &self.idle_timeout, 1000, 86_400_000)?,
            drain_timeout: duration_between("--drain-timeout", &self.drain_timeout, 0, 3_600_000)?,
            log_format: self.log_format,
            log_level: match self.log_level {
                LogLevel::Error => LevelFilter::ERROR,
                LogLevel::Warn => LevelFilter::WARN,
                LogLevel::Info => LevelFilter::INFO,
                LogLevel::Debug => LevelFilter::DEBUG,
                LogLevel::Trace => LevelFilter::TRACE,
            },
            listen: address("--listen", self.listen)?,
            metrics_listen: self.metrics_listen.map(|listen| address("--metrics-listen", listen)).transpose()?,
        })
    }

    fn storage(&self, bounds: Bounds, request_timeout: Duration) -> Checked<Storage> {
        if self.redis.is_empty() {
            let without_redis = [
                ("--redis-mode", self.redis_mode != RedisMode::Single),
                ("--redis-sentinel-master", self.redis_sentinel_master.is_some()),
                ("--redis-username", self.redis_username.is_some()),
                ("--redis-password-file", self.redis_password_file.is_some()),
                ("--redis-ca-cert", self.redis_ca_cert.is_some()),
                ("--redis-client-cert", self.redis_client_cert.is_some()),
                ("--redis-client-key", self.redis_client_key.is_some()),
            ];
            return match without_redis.iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(format!("{option}: needs --redis")),
                None => Ok(Storage::Memory(bounds)),
            };
        }
        let nodes = self.redis.iter().map(|url| node(url)).collect::<Checked<Vec<_>>>()?;
        let tls = tls_of(&nodes)?;
        let certificates = self.certificates(tls)?;
        let username = self.redis_username.as_deref();
        let password = self.redis_password()?;
        let password = password.as_deref();
        let refused = |error: redis::RedisError| format!("--redis: {error}");
        let target = match self.redis_mode {
            RedisMode::Single => {
                let [node] = <[ConnectionInfo; 1]>::try_from(nodes)
                    .map_err(|_| "--redis: one URL, unless --redis-mode is cluster or sentinel".to_owned())?;
                let node = with_credentials(node, username, password)?;
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(node, certificates),
                    None => Client::open(node),
                };
                Target::Single(Box::new(client.map_err(refused)?))
            }
            RedisMode::Cluster => {
                let nodes: Vec<_> =
                    nodes.into_iter().map(|node| with_credentials(node, username, password)).collect::<Checked<_>>()?;
                let mut builder = ClusterClientBuilder::new(nodes)
                    .connection_timeout(request_timeout)
                    .response_timeout(request_timeout)
                    .retries(3)
                    .min_retry_wait(10)
                    .max_retry_wait(100);
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                Target::Cluster(Box::new(builder.build().map_err(refused)?))
            }
            RedisMode::Sentinel => {
                let name = self.redis_sentinel_master.as_deref();
                let name = name.ok_or("--redis-sentinel-master: required with --redis-mode sentinel")?;
                let sentinels = nodes.iter().map(|node| node.addr().clone());
                let mut builder =
                    SentinelClientBuilder::new(sentinels, name, SentinelServerType::Master).map_err(refused)?;
                if let Some(at_sentinels) = nodes.first().map(ConnectionInfo::redis_settings) {
                    // Sentinels have no databases: this is the one of the server that they name.
                    builder = builder.set_client_to_redis_db(at_sentinels.db());
                    if let Some(username) = at_sentinels.username() {
                        builder = builder.set_client_to_sentinel_username(username);
                    }
                    if let Some(password) = at_sentinels.password() {
                        builder = builder.set_client_to_sentinel_password(password);
                    }
                }
                if let Some(username) = username {
                    builder = builder.set_client_to_redis_username(username);
                }
                if let Some(password) = password {
                    builder = builder.set_client_to_redis_password(password);
                }
                if tls {
                    builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
                    if let Some(certificates) = certificates {
                        builder = builder
                            .set_client_to_redis_certificates(certificates.clone())
                            .set_client_to_sentinel_certificates(certificates);
                    }
                }
                Target::Sentinel(Box::new(builder.build().map_err(refused)?))
            }
        };
        if self.redis_sentinel_master.is_some() && self.redis_mode != RedisMode::Sentinel {
            return Err("--redis-sentinel-master: needs --redis-mode sentinel".to_owned());
        }
        Ok(Storage::Redis(target))
    }

    /// The certificates for TLS to Redis; `None` where the system's authorities are meant, and none of ours.
    fn certificates(&self, tls: bool) -> Checked<Option<TlsCertificates>> {
        let root_cert = self.redis_ca_cert.as_deref().map(|path| certificates("--redis-ca-cert", path)).transpose()?;
        let client_tls = match (self.redis_client_cert.as_deref(), self.redis_client_key.as_deref()) {
            (Some(cert), Some(key)) => Some(ClientTlsConfig {
                client_cert: certificates("--redis-client-cert", cert)?,
                client_key: private_key("--redis-client-key", key)?,
            }),
            (None, None) => None,
            (Some(_), None) => return Err("--redis-client-cert: needs --redis-client-key".to_owned()),
            (None, Some(_)) => return Err("--redis-client-key: needs --redis-client-cert".to_owned()),
        };
        if root_cert.is_none() && client_tls.is_none() {
            return Ok(None);
        }
        if !tls {
            return Err("--redis-ca-cert, --redis-client-cert: need a --redis that begins with rediss://".to_owned());
        }
        Ok(Some(TlsCertificates { client_tls, root_cert }))
    }

    fn redis_password(&self) -> Checked<Option<String>> {
        match (self.redis_password_file.as_deref(), environment(REDIS_PASSWORD)?) {
            (Some(_), Some(_)) => Err(format!("--redis-password-file: not together with {REDIS_PASSWORD}")),
            (None, password) => Ok(password),
            (Some(path), None) => {
                let text = text_file("--redis-password-file", path)?;
                match text.trim_end_matches(['\r', '\n']) {
                    "" => Err(format!("--redis-password-file: {} is empty", path.display())),
                    password => Ok(Some(password.to_owned())),
                }
            }
        }
    }

    fn tokens(&self) -> Checked<Tokens> {
        let (source, text) = match (self.token_file.as_deref(), environment(TOKEN)?) {
            (Some(_), Some(_)) => return Err(format!("--token-file: not together with {TOKEN}")),
            (None, None) => return Ok(Tokens::new(&[])),
            (None, Some(token)) => (TOKEN, token),
            (Some(path), None) => ("--token-file", text_file("--token-file", path)?),
        };
        let tokens: Vec<String> =
            text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
        let good = |token: &String| token.len() <= MAX_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=2).contains(&tokens.len()) || !tokens.iter().all(good) {
            return Err(format!(
                "{source}: one or two tokens, each on a line of its own: 1 to {MAX_TOKEN} of visible ASCII"
            ));
        }
        Ok(Tokens::new(&tokens))
    }

    fn tls(&self) -> Checked<Option<TlsAcceptor>> {
        let (cert, key) = match (self.tls_cert.as_deref(), self.tls_key.as_deref()) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => return Ok(None),
            (Some(_), None) => return Err("--tls-cert: needs --tls-key".to_owned()),
            (None, Some(_)) => return Err("--tls-key: needs --tls-cert".to_owned()),
        };
        let chain = chain("--tls-cert", &certificates("--tls-cert", cert)?)?;
        let key = PrivateKeyDer::from_pem_slice(&private_key("--tls-key", key)?)
            .map_err(|error| format!("--tls-key: {error}"))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| format!("--tls-key: does not go with --tls-cert: {error}"))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// A variable of the environment. An empty one is most likely a secret that got lost on its way, not the wish to go without.
fn environment(name: &str) -> Checked<Option<String>> {
    match std::env::var_os(name).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) if text.is_empty() => Err(format!("{name}: is empty; leave it unset to go without")),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(format!("{name}: is not UTF-8")),
    }
}

/// Looks at the form alone: whether the host is known shows when it is listened on.
fn address(option: &str, listen: String) -> Checked<String> {
    match listen.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(listen),
        _ => Err(format!("{option}: an address and a port, as in 127.0.0.1:8480 or [::]:8480")),
    }
}

fn duration_between(option: &str, text: &str, shortest: u64, longest: u64) -> Checked<Duration> {
    let (shortest, longest) = (Duration::from_millis(shortest), Duration::from_millis(longest));
    humantime::parse_duration(text).ok().filter(|duration| (shortest..=longest).contains(duration)).ok_or_else(|| {
        format!(
            "{option}: a duration from {} to {}, as in 500ms, 10s, 5m",
            humantime::format_duration(shortest),
            humantime::format_duration(longest)
        )
    })
}

fn number_between(option: &str, text: &str, range: RangeInclusive<usize>) -> Checked<usize> {
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{option}: a whole number from {} to {}", range.start(), range.end()))
}

fn size_from(option: &str, text: &str, least: ByteSize) -> Checked<usize> {
    let size = text.parse::<ByteSize>().ok().filter(|size| *size >= least);
    size.and_then(|size| usize::try_from(size.as_u64()).ok())
        .ok_or_else(|| format!("{option}: a size from {}, as in 256MiB or 2GiB", least.display().iec()))
}

/// One URL of Redis. It may hold a password, so no error shows it.
fn node(url: &str) -> Checked<ConnectionInfo> {
    url.into_connection_info().map_err(|_| {
        "--redis: a URL such as redis://[user:password@]host[:port][/database], rediss:// for TLS".to_owned()
    })
}

/// Whether TLS is spoken to these nodes: to all or to none.
fn tls_of(nodes: &[ConnectionInfo]) -> Checked<bool> {
    let tls = nodes.iter().filter(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. })).count();
    match tls {
        0 => Ok(false),
        _ if tls == nodes.len() => Ok(true),
        _ => Err("--redis: redis:// or rediss://, not both".to_owned()),
    }
}

fn with_credentials(node: ConnectionInfo, username: Option<&str>, password: Option<&str>) -> Checked<ConnectionInfo> {
    let mut settings = node.redis_settings().clone();
    if let Some(username) = username {
        if settings.username().is_some() {
            return Err("--redis-username: the URL has a user already".to_owned());
        }
        settings = settings.set_username(username);
    }
    if let Some(password) = password {
        if settings.password().is_some() {
            return Err("--redis-password-file: the URL has a password already".to_owned());
        }
        settings = settings.set_password(password);
    }
    Ok(node.set_redis_settings(settings))
}

fn file(option: &str, path: &Path) -> Checked<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("{option}: cannot read {}: {error}", path.display()))
}

fn text_file(option: &str, path: &Path) -> Checked<String> {
    String::from_utf8(file(option, path)?).map_err(|_| format!("{option}: {} is not UTF-8", path.display()))
}

/// A file of PEM certificates, looked through.
fn certificates(option: &str, path: &Path) -> Checked<Vec<u8>> {
    let pem = file(option, path)?;
    match chain(option, &pem)?.is_empty() {
        false => Ok(pem),
        true => Err(format!("{option}: {} holds no PEM certificate", path.display())),
    }
}

fn chain(option: &str, pem: &[u8]) -> Checked<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| format!("{option}: {error}"))
}

/// A file with a PEM key, looked through.
fn private_key(option: &str, path: &Path) -> Checked<Vec<u8>> {
    let pem = file(option, path)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(pem),
        Err(_) => Err(format!("{option}: {} holds no PEM private key", path.display())),
    }
}
