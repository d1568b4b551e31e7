//! The proxy, as a trait: every call answers with a value for every status, and bytes stay bytes.
//!
//! `shell::abi` is the one implementation that talks to a proxy-wasm host.

use crate::clock::{Monotonic, UnixTime};
use crate::headers::Headers;
use crate::ids::{CallId, ContextId};
use std::fmt;
use std::time::Duration;

/// A status other than OK, as the proxy gave it (proxy-wasm ABI 0.2.1, `proxy_status_t`), or 10 where it broke the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// Not there.
    pub const NOT_FOUND: Self = Self(1);
    /// Broken on the proxy's side.
    pub const INTERNAL_FAILURE: Self = Self(10);
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.0)
    }
}

/// Header maps of a stream (`proxy_header_map_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum HeaderMap {
    /// What the client sent; out of reach once the response has begun.
    RequestHeaders = 0,
    /// What the client sent at the end.
    RequestTrailers = 1,
    /// What the client gets.
    ResponseHeaders = 2,
    /// What the client gets at the end.
    ResponseTrailers = 3,
    /// What a call came back with; within its callback alone.
    CallResponseHeaders = 6,
}

/// What a paused stream goes on with (`proxy_stream_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Side {
    /// Its request.
    Request = 0,
    /// Its response. Only when its headers have come: anything else takes Envoy down.
    Response = 1,
}

/// Kinds of metrics (`proxy_metric_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MetricKind {
    /// Only goes up.
    Counter = 0,
    /// Goes up and down. All workers share it: what is written is a difference.
    Gauge = 1,
    /// A distribution.
    Histogram = 2,
}

/// A metric of the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricId(pub u32);

/// What the filter asks of the proxy. Implementations hold no borrow while they call, and never panic.
///
/// # Errors
/// Any status other than OK. Where absence is an ordinary answer, it is `Ok(None)`.
pub trait Proxy {
    /// Every line of a map.
    fn headers(&self, map: HeaderMap) -> Result<Headers, Status>;
    /// The first line called `name`.
    fn header(&self, map: HeaderMap, name: &str) -> Result<Option<Vec<u8>>, Status>;
    /// Puts one line in place of every line called `name`.
    fn set_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Status>;
    /// Adds a line.
    fn add_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Status>;
    /// Removes every line called `name`.
    fn remove_header(&self, map: HeaderMap, name: &str) -> Result<(), Status>;
    /// An attribute of the stream (Envoy's "Attributes"), or filter state that a filter set.
    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, Status>;
    /// Sets filter state of the stream.
    fn set_property(&self, path: &[&str], value: &[u8]) -> Result<(), Status>;
    /// From now on, filter state of this name lives as long as the client's request, over internal redirects.
    fn declare_request_property(&self, name: &str) -> Result<(), Status>;
    /// The plugin's configuration.
    fn plugin_configuration(&self) -> Result<Vec<u8>, Status>;
    /// An environment variable of the VM.
    fn environment_variable(&self, name: &str) -> Option<Vec<u8>>;
    /// Wall-clock time.
    fn now(&self) -> Result<UnixTime, Status>;
    /// Monotonic time.
    fn monotonic(&self) -> Result<Monotonic, Status>;
    /// Fills `buffer` with random bytes fit for keys.
    fn random(&self, buffer: &mut [u8]) -> Result<(), Status>;
    /// Asks for the root context's `on_tick`, every `milliseconds`.
    fn set_tick_period(&self, milliseconds: u32) -> Result<(), Status>;
    /// The metric of this name, made where there is none.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, Status>;
    /// Adds to a counter, or to a gauge; from a gauge it may take as well.
    fn add_to_metric(&self, metric: MetricId, difference: i64) -> Result<(), Status>;
    /// Adds a value to a histogram.
    fn record_metric(&self, metric: MetricId, value: u64) -> Result<(), Status>;
    /// From now on, and until this callback ends, calls are made for another context.
    fn act_as(&self, context: ContextId) -> Result<(), Status>;
    /// Sends an HTTP request to a cluster. Where this succeeds, the root context that it was made for gets an answer. A call made
    /// for a stream would die with the stream.
    fn call(&self, cluster: &str, headers: &Headers, body: &[u8], timeout: Duration) -> Result<CallId, Status>;
    /// The first bytes of the body that a call came back with.
    fn call_response_body(&self, most: usize) -> Result<Vec<u8>, Status>;
    /// Lets a paused stream go on.
    fn resume(&self, side: Side) -> Result<(), Status>;
    /// Answers the request in the upstream's place. `details` become `response.code_details`.
    fn respond(&self, status: u32, details: &str, headers: &Headers, body: &str) -> Result<(), Status>;
}
