//! A store and what it stands on, and a client of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mooring_test_kit::servers::redis::{Redis, RedisCluster, Sentinels};
use mooring_test_kit::servers::store::Store;
use reqwest::blocking::{Client, RequestBuilder};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use std::time::Duration;

/// What a store keeps its sessions in.
pub enum Engine {
    Memory,
    Redis(Redis),
    Cluster(RedisCluster),
    Sentinels(Sentinels),
}

impl Engine {
    pub fn redis() -> Self {
        Self::Redis(Redis::start())
    }

    pub fn cluster() -> Self {
        Self::Cluster(RedisCluster::start())
    }

    pub fn sentinels() -> Self {
        Self::Sentinels(Sentinels::start())
    }

    /// The arguments that lead a store to it.
    pub fn arguments(&self) -> Vec<String> {
        let (mode, urls) = match self {
            Self::Memory => return Vec::new(),
            Self::Redis(redis) => (vec![], vec![redis.url()]),
            Self::Cluster(cluster) => (vec!["--redis-mode", "cluster"], cluster.urls()),
            Self::Sentinels(sentinels) => {
                (vec!["--redis-mode", "sentinel", "--redis-sentinel-master", Sentinels::NAME], sentinels.urls())
            }
        };
        let urls = urls.into_iter().flat_map(|url| ["--redis".to_owned(), url]);
        mode.into_iter().map(str::to_owned).chain(urls).collect()
    }

    /// What is left of a session's life, in milliseconds. `None` where it cannot be looked at.
    pub fn left(&self, name: &str) -> Option<i64> {
        let key = &key(name);
        let command = ["PTTL", key];
        match self {
            Self::Memory => None,
            Self::Redis(redis) => Some(redis.ask(&command).expect("PTTL")),
            Self::Cluster(cluster) => Some(cluster.ask(key, &command).expect("PTTL")),
            Self::Sentinels(sentinels) => Some(sentinels.servers[sentinels.primary()].ask(&command).expect("PTTL")),
        }
    }
}

/// A store over an engine.
pub struct Stage {
    pub store: Peer,
    pub engine: Engine,
}

impl Stage {
    pub fn over(engine: Engine) -> Self {
        Self { store: peer(&engine, &[]), engine }
    }
}

/// A store over this engine, with more arguments, once it is ready.
pub fn peer(engine: &Engine, more: &[&str]) -> Peer {
    let arguments = engine.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let peer = Peer::new(Store::start(&arguments));
    peer.wait_until_ready();
    peer
}

/// A store, and a client that talks to it.
pub struct Peer {
    pub store: Store,
    pub client: Client,
}

/// An answer, read.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    pub body: String,
}

/// The key of the session that a test calls so, as the plugin would make one.
pub fn key(name: &str) -> String {
    key_in("mooring", name)
}

/// The same in another namespace.
pub fn key_in(namespace: &str, name: &str) -> String {
    format!("{namespace}:{}", URL_SAFE_NO_PAD.encode(Sha256::digest(name)))
}

/// The etag that a value must have.
pub fn etag(value: &str) -> String {
    let hex: String = Sha1::digest(value).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

impl Answer {
    pub fn of(status: u16) -> Self {
        Self { status, etag: None, body: String::new() }
    }

    /// An answer that shows a value.
    pub fn showing(status: u16, value: &str) -> Self {
        Self { status, etag: Some(etag(value)), body: value.to_owned() }
    }

    /// An answer that tells the etag of what was written.
    pub fn written(status: u16, value: &str) -> Self {
        Self { status, etag: Some(etag(value)), body: String::new() }
    }
}

impl Peer {
    pub fn new(store: Store) -> Self {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
        Self { store, client }
    }

    pub fn wait_until_ready(&self) {
        mooring_test_kit::servers::eventually("the store to be ready", || {
            (self.get("/readyz").status == 200).then_some(())
        });
    }

    pub fn get(&self, path: &str) -> Answer {
        send(self.client.get(self.store.url(path)))
    }

    /// What Prometheus would get.
    pub fn metrics(&self) -> String {
        send(self.client.get(self.store.metrics_url())).body
    }

    /// A metric; 0 where there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0.0)
    }

    pub fn session(&self, name: &str) -> String {
        self.store.url(&format!("/v1/sessions/{}", key(name)))
    }

    pub fn lookup(&self, name: &str) -> Answer {
        send(self.client.get(self.session(name)))
    }

    pub fn create(&self, name: &str, value: &str, ttl: u32) -> Answer {
        let request = self.client.put(self.session(name)).header("if-none-match", "*");
        send(request.header("mooring-ttl", ttl).body(value.to_owned()))
    }

    pub fn move_to(&self, name: &str, from: &str, value: &str, ttl: u32) -> Answer {
        let request = self.client.put(self.session(name)).header("if-match", etag(from));
        send(request.header("mooring-ttl", ttl).body(value.to_owned()))
    }

    pub fn touch(&self, name: &str, ttl: u32) -> u16 {
        send(self.client.post(format!("{}/touch", self.session(name))).header("mooring-ttl", ttl)).status
    }

    pub fn revoke(&self, name: &str, ttl: u32) -> u16 {
        send(self.client.delete(self.session(name)).header("mooring-ttl", ttl)).status
    }
}

/// Sends a request. Every answer must be one that nobody caches; the text of those that show no value is left out.
pub fn send(request: RequestBuilder) -> Answer {
    let response = request.send().expect("an answer");
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    let (status, etag) = (response.status().as_u16(), header("etag"));
    let operators = ["/readyz", "/metrics", "/healthz"].contains(&response.url().path());
    let body = response.text().expect("a body");
    if status >= 400 && status != 412 {
        assert!(
            body.ends_with('\n') && body.trim().lines().count() == 1,
            "an error says its rule in one line: {body:?}"
        );
    }
    let body = if etag.is_some() || operators || status == 412 { body } else { String::new() };
    Answer { status, etag, body }
}
