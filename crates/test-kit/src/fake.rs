//! A proxy for tests: it holds state, as the real one does, and lets a test look at it and break it. It notices what a filter must
//! never do ([`State::violations`]): act for a context that is gone, let go on what was not paused, answer twice.
//! Maps behave as Envoy's do: `set` leaves one line, reading one header gives its first line, names are in lower case.

use log::Level;
use mooring::clock::{Monotonic, UnixTime};
use mooring::headers::Headers;
use mooring::ids::CallId;
use mooring::ids::ContextId;
use mooring::shell::proxy::{HeaderMap, MetricId, MetricKind, Proxy, Side, Status};
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// A line of a header map.
pub type Line = (Vec<u8>, Vec<u8>);

/// Kinds of host calls, to be broken one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Reading a whole map.
    Headers,
    /// Reading one header.
    Header,
    /// Setting, adding or removing a header.
    EditHeader,
    /// Reading a property.
    Property,
    /// Setting or declaring a property.
    SetProperty,
    /// The plugin's configuration.
    Configuration,
    /// Either clock.
    Clock,
    /// Random bytes.
    Random,
    /// The timer.
    Tick,
    /// Metrics.
    Metric,
    /// Sending a call.
    Call,
    /// Acting as another context.
    ActAs,
    /// Resuming a stream, or answering in the upstream's place.
    Resume,
}

impl Call {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Headers,
        Self::Header,
        Self::EditHeader,
        Self::Property,
        Self::SetProperty,
        Self::Configuration,
        Self::Clock,
        Self::Random,
        Self::Tick,
        Self::Metric,
        Self::Call,
        Self::ActAs,
        Self::Resume,
    ];
}

/// What the proxy holds of one stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// What the client sent, as edited.
    pub request_headers: Vec<Line>,
    /// The request's trailers, as edited.
    pub request_trailers: Vec<Line>,
    /// What the upstream sent, as edited.
    pub response_headers: Vec<Line>,
    /// The response's trailers, as edited.
    pub response_trailers: Vec<Line>,
    /// Properties, by path with `.` between its parts.
    pub properties: BTreeMap<String, Vec<u8>>,
    /// How often its request was resumed.
    pub requests_resumed: u32,
    /// How often its response was resumed.
    pub responses_resumed: u32,
    /// The status and the headers with which the plugin answered in the upstream's place.
    pub answered: Option<(u32, Vec<Line>)>,
    /// What waits to be resumed.
    pub paused: Option<Side>,
    /// The proxy refused to resume it, or that anybody acts for it.
    pub out_of_reach: bool,
}

/// A call that the plugin made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// How the proxy names it.
    pub id: CallId,
    /// For which context it was made.
    pub context: ContextId,
    /// To which cluster.
    pub cluster: String,
    /// Its headers.
    pub headers: Vec<Line>,
    /// Its body.
    pub body: Vec<u8>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Everything that the proxy holds.
#[derive(Debug, Default)]
pub struct State {
    /// The streams that there are.
    pub streams: BTreeMap<ContextId, Stream>,
    /// Contexts that are gone, as the plugin was told: nobody may act as one.
    pub gone: BTreeSet<ContextId>,
    /// The context that host calls are about.
    pub effective: ContextId,
    /// Calls that have no answer yet.
    pub sent: Vec<Sent>,
    /// What the call came back with whose callback this is.
    pub call_response: (Vec<Line>, Vec<u8>),
    /// What the filter did and must never do; some of it takes the real proxy down.
    pub violations: Vec<&'static str>,
    /// Filter state that outlives a pass of the filter chain.
    pub declared: BTreeSet<String>,
    /// The plugin's configuration.
    pub configuration: Vec<u8>,
    /// The environment of the VM.
    pub environment: BTreeMap<String, Vec<u8>>,
    /// Wall-clock time.
    pub now: UnixTime,
    /// Monotonic time.
    pub monotonic: Duration,
    /// Counters by name.
    pub counters: BTreeMap<String, u64>,
    /// Gauges by name.
    pub gauges: BTreeMap<String, i64>,
    /// What histograms were given, by name.
    pub histograms: BTreeMap<String, Vec<u64>>,
    /// The log.
    pub log: Vec<(Level, String)>,
    /// What the timer was set to.
    pub tick_period: Option<u32>,
    /// Calls that answer with this status.
    pub broken: BTreeMap<Call, u32>,
    /// How many host calls were made.
    pub calls: u64,
    /// Of which kinds they were, in order, from when it is there.
    pub journal: Option<Vec<Call>>,
    /// What was given out as random, in order.
    pub randomness: Vec<Vec<u8>>,
    metrics: Vec<(MetricKind, String)>,
    calls_sent: u32,
}

/// A proxy for tests. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct FakeProxy(Rc<RefCell<State>>);

thread_local! {
    /// The proxy in whose callback something may be logged.
    static LOGGING: RefCell<Option<FakeProxy>> = const { RefCell::new(None) };
}

/// The log of the proxy in whose callback it is.
struct FakeLog;

impl log::Log for FakeLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // What other threads log is not the filter's.
        LOGGING.with_borrow(|proxy| {
            if let Some(proxy) = proxy {
                proxy.state().log.push((record.level(), record.args().to_string()));
            }
        });
    }

    fn flush(&self) {}
}

impl FakeProxy {
    /// Its state, to look at or to change. Must not be held over a call of the filter.
    pub fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// From now on calls of this kind answer with `status`; 0 mends them.
    pub fn break_call(&self, call: Call, status: u32) {
        let mut state = self.state();
        if status == 0 {
            state.broken.remove(&call);
        } else {
            state.broken.insert(call, status);
        }
    }

    /// A callback of this context begins.
    pub fn enter(&self, context: ContextId) {
        self.state().effective = context;
        // Only the first installs it.
        if log::set_logger(&FakeLog).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
        }
        LOGGING.set(Some(self.clone()));
    }

    /// The errors in the log.
    pub fn errors(&self) -> Vec<String> {
        let state = self.state();
        let errors = state.log.iter().filter(|(level, _)| *level == Level::Error);
        errors.map(|(_, message)| message.clone()).collect()
    }

    fn is_out_of_reach(&self, context: ContextId) {
        if let Some(stream) = self.state().streams.get_mut(&context) {
            stream.out_of_reach = true;
        }
    }

    fn host_call(&self, call: Call) -> Result<RefMut<'_, State>, Status> {
        let mut state = self.state();
        state.calls = state.calls.saturating_add(1);
        state.journal.iter_mut().for_each(|journal| journal.push(call));
        if call != Call::ActAs && state.gone.contains(&state.effective) {
            state.violations.push("a host call was about a context that is gone");
        }
        match state.broken.get(&call) {
            Some(status) => Err(Status(*status)),
            None => Ok(state),
        }
    }
}

impl Stream {
    /// Sets a property, or takes it away.
    pub fn set_property(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.properties.insert(name.into(), value.into()),
            None => self.properties.remove(name),
        };
    }
}

impl State {
    /// The stream that host calls are about.
    pub fn stream(&mut self) -> &mut Stream {
        self.streams.entry(self.effective).or_default()
    }

    fn metric(&self, id: MetricId) -> Result<(MetricKind, String), Status> {
        let at = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.metrics.get(at).cloned().ok_or(Status(2))
    }

    /// A map of that stream, or of the call that came back.
    pub fn map(&mut self, map: HeaderMap) -> &mut Vec<Line> {
        match map {
            HeaderMap::RequestHeaders => &mut self.stream().request_headers,
            HeaderMap::RequestTrailers => &mut self.stream().request_trailers,
            HeaderMap::ResponseHeaders => &mut self.stream().response_headers,
            HeaderMap::ResponseTrailers => &mut self.stream().response_trailers,
            HeaderMap::CallResponseHeaders => &mut self.call_response.0,
        }
    }
}

impl Proxy for FakeProxy {
    fn headers(&self, map: HeaderMap) -> Result<Headers, Status> {
        let mut state = self.host_call(Call::Headers)?;
        Ok(Headers::from_pairs(state.map(map).iter().map(|(name, value)| (name.as_slice(), value.as_slice()))))
    }

    fn header(&self, map: HeaderMap, name: &str) -> Result<Option<Vec<u8>>, Status> {
        let mut state = self.host_call(Call::Header)?;
        Ok(state.map(map).iter().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.clone()))
    }

    fn set_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Status> {
        let mut state = self.host_call(Call::EditHeader)?;
        state.map(map).retain(|(key, _)| key != name.as_bytes());
        state.map(map).push((name.into(), value.into()));
        Ok(())
    }

    fn add_header(&self, map: HeaderMap, name: &str, value: &[u8]) -> Result<(), Status> {
        self.host_call(Call::EditHeader)?.map(map).push((name.into(), value.into()));
        Ok(())
    }

    fn remove_header(&self, map: HeaderMap, name: &str) -> Result<(), Status> {
        self.host_call(Call::EditHeader)?.map(map).retain(|(key, _)| key != name.as_bytes());
        Ok(())
    }

    fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, Status> {
        Ok(self.host_call(Call::Property)?.stream().properties.get(&path.join(".")).cloned())
    }

    fn set_property(&self, path: &[&str], value: &[u8]) -> Result<(), Status> {
        self.host_call(Call::SetProperty)?.stream().properties.insert(path.join("."), value.into());
        Ok(())
    }

    fn declare_request_property(&self, name: &str) -> Result<(), Status> {
        self.host_call(Call::SetProperty)?.declared.insert(name.into());
        Ok(())
    }

    fn plugin_configuration(&self) -> Result<Vec<u8>, Status> {
        Ok(self.host_call(Call::Configuration)?.configuration.clone())
    }

    fn environment_variable(&self, name: &str) -> Option<Vec<u8>> {
        self.state().environment.get(name).cloned()
    }

    fn now(&self) -> Result<UnixTime, Status> {
        Ok(self.host_call(Call::Clock)?.now)
    }

    fn monotonic(&self) -> Result<Monotonic, Status> {
        Ok(Monotonic(self.host_call(Call::Clock)?.monotonic))
    }

    /// Distinct bytes each time, and spread as random ones would be; not random at all.
    fn random(&self, buffer: &mut [u8]) -> Result<(), Status> {
        let mut state = self.host_call(Call::Random)?;
        let number = u64::try_from(state.randomness.len()).unwrap_or_default().wrapping_add(1);
        let bytes = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        buffer.iter_mut().zip(bytes.iter().cycle()).for_each(|(to, from)| *to = *from);
        state.randomness.push(buffer.to_vec());
        Ok(())
    }

    fn set_tick_period(&self, milliseconds: u32) -> Result<(), Status> {
        self.host_call(Call::Tick)?.tick_period = Some(milliseconds);
        Ok(())
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, Status> {
        let mut state = self.host_call(Call::Metric)?;
        let known = state.metrics.iter().position(|(known_kind, known)| *known_kind == kind && known == name);
        let at = known.unwrap_or_else(|| {
            state.metrics.push((kind, name.into()));
            state.metrics.len().saturating_sub(1)
        });
        Ok(MetricId(u32::try_from(at).unwrap_or(u32::MAX)))
    }

    fn add_to_metric(&self, metric: MetricId, difference: i64) -> Result<(), Status> {
        let mut state = self.host_call(Call::Metric)?;
        match (state.metric(metric)?, u64::try_from(difference)) {
            ((MetricKind::Counter, name), Ok(by)) => {
                let count = state.counters.entry(name).or_default();
                *count = count.saturating_add(by);
            }
            ((MetricKind::Gauge, name), _) => {
                let gauge = state.gauges.entry(name).or_default();
                *gauge = gauge.saturating_add(difference);
            }
            ((MetricKind::Counter | MetricKind::Histogram, _), _) => return Err(Status(2)),
        }
        Ok(())
    }

    fn record_metric(&self, metric: MetricId, value: u64) -> Result<(), Status> {
        let mut state = self.host_call(Call::Metric)?;
        match state.metric(metric)? {
            (MetricKind::Histogram, name) => state.histograms.entry(name).or_default().push(value),
            (MetricKind::Counter | MetricKind::Gauge, _) => return Err(Status(2)),
        }
        Ok(())
    }

    fn act_as(&self, context: ContextId) -> Result<(), Status> {
        let mut state = self.host_call(Call::ActAs).inspect_err(|_| self.is_out_of_reach(context))?;
        if state.gone.contains(&context) {
            state.violations.push("somebody acted as a context that is gone");
            return Err(Status(2));
        }
        state.effective = context;
        Ok(())
    }

    fn call(&self, cluster: &str, headers: &Headers, body: &[u8], timeout: Duration) -> Result<CallId, Status> {
        let mut state = self.host_call(Call::Call)?;
        let context = state.effective;
        if state.streams.contains_key(&context) {
            state.violations.push("a call was made for a stream: it dies with that");
        }
        state.calls_sent = state.calls_sent.saturating_add(1);
        let id = CallId(state.calls_sent);
        let lines = headers.iter().map(|(name, value)| (name.into(), value.into())).collect();
        state.sent.push(Sent { id, context, cluster: cluster.into(), headers: lines, body: body.into(), timeout });
        Ok(id)
    }

    fn call_response_body(&self, most: usize) -> Result<Vec<u8>, Status> {
        Ok(self.host_call(Call::Header)?.call_response.1.iter().take(most).copied().collect())
    }

    fn resume(&self, side: Side) -> Result<(), Status> {
        let context = self.state().effective;
        let mut state = self.host_call(Call::Resume).inspect_err(|_| self.is_out_of_reach(context))?;
        let stream = state.stream();
        let paused = stream.paused.take();
        match side {
            Side::Request => stream.requests_resumed = stream.requests_resumed.saturating_add(1),
            Side::Response => stream.responses_resumed = stream.responses_resumed.saturating_add(1),
        }
        if paused != Some(side) {
            state.violations.push("something was resumed that was not paused");
        }
        Ok(())
    }

    fn respond(&self, status: u32, _details: &str, headers: &Headers, _body: &str) -> Result<(), Status> {
        let lines = headers.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut state = self.host_call(Call::Resume)?;
        let stream = state.stream();
        stream.paused = None;
        let again = stream.answered.replace((status, lines)).is_some();
        if again || stream.requests_resumed > 0 {
            state.violations.push("a request was answered that was answered, or had gone on");
        }
        Ok(())
    }
}
