//! A proxy with the filter, upstream hosts behind it, and a client's view of both.
//!
//! The cluster `app` has the hosts a, b and c and gets every path but these: `/other` goes to the cluster `other` with the hosts
//! d and e, `/weighted` to either cluster, `/local` is answered by the proxy itself. What a request asks of the upstream stands
//! in its query, as `examples/upstream` reads it: `?action=end`, `?status=404`, `?header=name:value`.

use serde_json::{Value, json};

/// Which bridge turns the override header into an override host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bridge {
    /// Envoy's `stateful_session` filter, in header mode.
    StatefulSession,
    /// The same, `strict`.
    Strict,
    /// The load-balancing policy `override_host`.
    OverrideHost,
}

/// How a world is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What turns the plugin's header into a host.
    pub bridge: Bridge,
    /// The plugin's configuration.
    pub plugin: Value,
}

impl Setup {
    /// The main bridge, and a plugin with these members beside its keys.
    pub fn with(members: Value) -> Self {
        Self { bridge: Bridge::StatefulSession, plugin: plugin(members) }
    }
}

/// A plugin configuration: two keys, a short cookie name, a debug header, and `members`.
pub fn plugin(members: Value) -> Value {
    let mut plugin = json!({
        "keys": [{"id": "new", "secret": {"base64": NEW_SECRET}}, {"id": "old", "secret": {"base64": OLD_SECRET}}],
        "cookie": {"name": "m", "secure": false},
        "debug_header": "x-decision",
    });
    if let (Some(plugin), Value::Object(members)) = (plugin.as_object_mut(), members) {
        plugin.extend(members);
    }
    plugin
}

/// 32 bytes each, in base64.
pub const NEW_SECRET: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
/// The secret of the key `old`.
pub const OLD_SECRET: &str = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=";

/// A `GET`.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// With the query.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// A GET without headers of its own.
    pub fn get(path: &str) -> Self {
        Self { path: path.into(), headers: Vec::new() }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }
}

/// What the client got, and what the upstream says that it got.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The name of the host that answered. `None`: the proxy did.
    pub served_by: Option<String>,
    /// What the upstream got, as it says.
    pub upstream_got: Vec<(String, Vec<u8>)>,
}

impl Response {
    /// The lines of a header, as text.
    pub fn header(&self, name: &str) -> Vec<String> {
        values(&self.headers, name)
    }

    /// The lines of a header that the upstream got, as text.
    pub fn upstream_header(&self, name: &str) -> Vec<String> {
        values(&self.upstream_got, name)
    }

    /// The host that answered.
    pub fn host(&self) -> &str {
        self.served_by.as_deref().unwrap_or_else(|| panic!("no host answered: {self:?}"))
    }

    /// The filter's decision.
    pub fn decision(&self) -> String {
        self.header("x-decision").concat()
    }
}

fn values(headers: &[(String, Vec<u8>)], name: &str) -> Vec<String> {
    let of_name = headers.iter().filter(|(key, _)| key == name);
    of_name.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
}

/// What is the matter with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It passes its health check.
    Healthy,
    /// Fails its health check, and the proxy knows. Still answers.
    Unhealthy,
    /// Refuses connections. The proxy does not know.
    Dead,
}

/// A proxy with the filter.
pub trait World: Sized {
    /// Starts one.
    fn start(setup: Setup) -> Self;
    /// Sends a request and waits for its response.
    fn send(&mut self, request: &Request) -> Response;
    /// Returns when the proxy knows.
    fn set_host(&mut self, name: &str, state: HostState);
    /// Lets time pass.
    fn pass(&mut self, seconds: u64);
    /// Changes the plugin's configuration in the running proxy. Returns when it is in force.
    fn reconfigure(&mut self, plugin: Value);
    /// Stops the proxy and starts it again.
    fn restart(&mut self);
    /// A counter of the plugin's, with every request so far.
    fn counter(&mut self, name: &str) -> u64;
}

/// Whether a stat is the one of this name, or one of several with further labels.
pub fn is_counted(stat: &str, name: &str) -> bool {
    stat.strip_prefix(name).is_some_and(|labels| labels.is_empty() || labels.starts_with('.') && labels.contains('='))
}
