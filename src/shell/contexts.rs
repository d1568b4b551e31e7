//! The proxy's contexts: callbacks become calls of the core, and what it decides becomes host calls. Decides nothing.

mod metrics;
mod streams;

use crate::affinity::worker::Worker;
use crate::affinity::{Affinity, Edit, Exchange, HeldResponse, Inputs, PausedRequest, RequestStep, Response};
use crate::clock::{Monotonic, UnixTime};
use crate::config::{self, Config};
use crate::headers::Headers;
use crate::ids::ContextId;
use crate::ids::{CallId, StreamId};
use crate::observe::metrics::{Counter, Fault};
use crate::session::SessionId;
use crate::shell::host::{Host, Map, Side, Status};
use crate::store::client::{CallOutcome, Wake};
use crate::store::protocol::{Answer, MAX_ANSWER};
use crate::text;
use metrics::ProxyMetrics;
use std::cell::Cell;
use std::rc::Rc;
use streams::Streams;

/// How often the proxy calls, in milliseconds: to be handed what was counted, and for what is overdue.
const TICK: u32 = 1000;

/// The filter state that the access log shows as `%FILTER_STATE(wasm.mooring:PLAIN)%`.
const LOGGED: &str = "mooring";

/// What Envoy adds to the responses of hosts, and not to its own.
const SERVED_AFTER: &str = "x-envoy-upstream-service-time";

/// What a callback asks of the proxy (`proxy_action_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// To go on.
    Continue = 0,
    /// To hold the stream until it is resumed, or answered.
    Pause = 1,
}

/// One configuration at work on one worker.
struct Plugin {
    affinity: Affinity,
    carried_name: String,
    worker: Worker,
    metrics: ProxyMetrics,
    /// The wall clock as it was read last, by a tick as a rule. `None` where the proxy did not tell.
    clock: Option<UnixTime>,
}

/// One request and its response.
struct Stream {
    root: ContextId,
    phase: Phase,
}

/// How far a stream has come.
enum Phase {
    Request,
    /// The request is paused.
    Waiting(Box<PausedRequest>),
    Response(Exchange),
    /// The response is paused. Its headers have come.
    Held(Box<HeldResponse>),
    Over,
}

/// Every context of a VM. Several configurations, old and new, live side by side: each root has its own state, and its own streams.
pub struct Contexts<H> {
    host: H,
    /// `None`: not configured, or refused; its requests pass untouched.
    roots: Vec<(ContextId, Option<Plugin>)>,
    streams: Streams,
}

impl<H: Host> Contexts<H> {
    /// No context yet.
    pub const fn new(host: H) -> Self {
        Self { host, roots: Vec::new(), streams: Streams::new() }
    }

    /// A root: one for each configuration and worker.
    pub fn on_root_create(&mut self, id: ContextId) {
        if !self.roots.iter().any(|(root, _)| *root == id) {
            self.roots.push((id, None));
        }
    }

    /// A stream of a root's.
    pub fn on_stream_create(&mut self, id: StreamId, root: ContextId) {
        self.streams.insert(id, Stream { root, phase: Phase::Request });
    }

    /// Takes the plugin's configuration. `false` when it is refused, which is logged; nothing has changed then.
    pub fn on_configure(&mut self, root: ContextId) -> bool {
        match self.configure() {
            Ok(configured) => {
                let plugin = self.roots.iter_mut().find(|(id, _)| *id == root).map(|(_, plugin)| plugin);
                plugin.is_some_and(|plugin| {
                    if let Some(mut before) = plugin.replace(configured) {
                        before.retire(&self.host);
                    }
                    true
                })
            }
            Err(message) => {
                self.host.log_error(&message);
                false
            }
        }
    }

    fn configure(&self) -> Result<Plugin, String> {
        let failed = |what: &str, status: Status| format!("mooring: the proxy cannot {what} ({status})");
        let json = self.host.plugin_configuration().map_err(|status| failed("give the configuration", status))?;
        let config = Config::parse(&json, &|name| self.host.environment_variable(name)).map_err(|e| e.to_string())?;
        let config = Rc::new(config);
        let affinity = Affinity::new(Rc::clone(&config));
        let carried_name = affinity.carried_name();
        self.host.declare_request_property(&carried_name).map_err(|status| failed("declare a property", status))?;
        let version = config::version(&json);
        let metrics =
            ProxyMetrics::define(&self.host, &config, version).map_err(|status| failed("define a metric", status))?;
        self.host.set_tick_period(TICK).map_err(|status| failed("set a timer", status))?;
        let clock = self.host.now().ok();
        Ok(Plugin { affinity, carried_name, worker: Worker::new(&config), metrics, clock })
    }

    /// A second has passed: reads the clock, gives up what is overdue, and hands what was counted to the proxy.
    pub fn on_tick(&mut self, root: ContextId) {
        let Self { host, roots, .. } = self;
        let Some(plugin) = configured(roots, root) else { return };
        plugin.clock = host.now().ok();
        if plugin.clock.is_none() {
            plugin.worker.count(Counter::Fault(Fault::ProxyCall));
        }
        let (mut wakes, mut now) = (Vec::new(), Monotonic::default());
        if let Some(store) = &mut plugin.worker.store
            && let Ok(read) = host.monotonic()
        {
            now = read;
            wakes = store.on_tick(now, &mut plugin.worker.counts);
        }
        self.deliver(root, None, wakes);
        if let Some(Plugin { metrics, worker, .. }) = configured(&mut self.roots, root) {
            metrics.hand_over(&self.host, &mut worker.counts);
            metrics.tell_gauges(&self.host, worker, now);
        }
    }

    /// The request's headers are there.
    pub fn on_request_headers(&mut self, id: StreamId) -> Action {
        let Some((host, plugin, stream)) = self.parts(id) else { return Action::Continue };
        let inputs = HostInputs::new(host, &plugin.carried_name, plugin.clock);
        let headers = inputs.known(host.headers(Map::RequestHeaders));
        let request = plugin.affinity.on_request(id, &mut plugin.worker, headers.as_ref(), &inputs);
        let (phase, went) = inputs.carry_out(request, &plugin.affinity, &mut plugin.worker);
        stream.phase = phase;
        inputs.attribute_calls(&mut plugin.worker);
        inputs.count_faults(&mut plugin.worker);
        let (root, calls) = (stream.root, plugin.worker.store.is_some());
        match went {
            Progress::Answered => Action::Pause,
            Progress::Continues if calls => self.deliver(root, Some(id), Vec::new()),
            Progress::Continues => Action::Continue,
        }
    }

    /// The response's headers are there.
    pub fn on_response_headers(&mut self, id: StreamId) -> Action {
        let Some((host, plugin, stream)) = self.parts(id) else { return Action::Continue };
        let exchange = match std::mem::replace(&mut stream.phase, Phase::Over) {
            Phase::Response(exchange) => exchange,
            // The proxy answers by itself, and waits no longer.
            Phase::Waiting(_) => return self.answered_meanwhile(id, None),
            Phase::Held(held) => return self.answered_meanwhile(id, Some(&held)),
            Phase::Request | Phase::Over => return Action::Continue,
        };
        let inputs = HostInputs::new(host, &plugin.carried_name, plugin.clock);
        let edits = match plugin.affinity.on_response(id, exchange, &mut plugin.worker, &inputs) {
            Response::Proceed(edits) => edits,
            Response::Wait(edits, held) => {
                stream.phase = Phase::Held(held);
                edits
            }
        };
        inputs.apply(Map::ResponseHeaders, edits);
        inputs.attribute_calls(&mut plugin.worker);
        inputs.count_faults(&mut plugin.worker);
        let (root, calls) = (stream.root, plugin.worker.store.is_some());
        if calls { self.deliver(root, Some(id), Vec::new()) } else { Action::Continue }
    }

    /// The proxy answered a stream by itself whose request, or whose response, waited for the store.
    fn answered_meanwhile(&mut self, id: StreamId, held: Option<&HeldResponse>) -> Action {
        let Some((host, plugin, _)) = self.parts(id) else { return Action::Continue };
        plugin.leave(id);
        let edit = match held {
            Some(held) => plugin.affinity.on_answered_while_held(held, &mut plugin.worker),
            None => plugin.affinity.on_answered_while_waiting(&mut plugin.worker),
        };
        let inputs = HostInputs::new(host, &plugin.carried_name, plugin.clock);
        inputs.apply(Map::ResponseHeaders, edit.into_iter().collect());
        inputs.count_faults(&mut plugin.worker);
        Action::Continue
    }

    /// The trailers of the request or of the response are there: what is internal is not for either side.
    pub fn on_trailers(&mut self, id: StreamId, map: Map) {
        let Some((host, plugin, _)) = self.parts(id) else { return };
        let inputs = HostInputs::new(host, &plugin.carried_name, plugin.clock);
        let edits = if map == Map::ResponseTrailers {
            plugin.affinity.inward_headers().map(Edit::Remove).collect()
        } else {
            plugin.affinity.internal_headers().map(Edit::Remove).to_vec()
        };
        inputs.apply(map, edits);
        inputs.count_faults(&mut plugin.worker);
    }

    /// A call to the store came to something; without header lines, to nothing.
    pub fn on_call_response(&mut self, root: ContextId, call: CallId, lines: usize, body_size: usize) {
        let Self { host, roots, .. } = self;
        let Some(plugin) = configured(roots, root) else { return };
        let inputs = HostInputs::new(host, &plugin.carried_name, plugin.clock);
        let answer = if lines == 0 { Answer::Nothing } else { inputs.answer(body_size) };
        let now = inputs.monotonic().unwrap_or_default();
        inputs.count_faults(&mut plugin.worker);
        let store = plugin.worker.store.as_mut();
        let wakes = store.map(|store| store.answered(call, answer, now, &mut plugin.worker.counts));
        self.deliver(root, None, wakes.unwrap_or_default());
    }

    /// A context is gone: a root, or a stream, which is over or begins anew (an internal redirect). The proxy still knows it.
    pub fn on_delete(&mut self, id: ContextId) {
        if let Some(plugin) = configured(&mut self.roots, id) {
            plugin.retire(&self.host);
        }
        self.roots.retain(|(root, _)| *root != id);
        let stream = StreamId(id.0);
        let Some(Stream { root, phase }) = self.streams.remove(stream) else { return };
        let Some(plugin) = configured(&mut self.roots, root) else { return };
        match phase {
            Phase::Response(exchange) => {
                if let Some(value) = plugin.affinity.carry(&exchange) {
                    let inputs = HostInputs::new(&self.host, &plugin.carried_name, plugin.clock);
                    inputs.known(self.host.set_property(&[&plugin.carried_name], &value));
                    inputs.count_faults(&mut plugin.worker);
                }
            }
            Phase::Waiting(_) => {
                plugin.leave(stream);
                plugin.affinity.on_left_while_waiting(&mut plugin.worker);
            }
            Phase::Held(_) => plugin.leave(stream),
            Phase::Request | Phase::Over => {}
        }
    }

    fn parts(&mut self, id: StreamId) -> Option<(&H, &mut Plugin, &mut Stream)> {
        let stream = self.streams.get_mut(id)?;
        let plugin = configured(&mut self.roots, stream.root)?;
        Some((&self.host, plugin, stream))
    }

    /// Makes the calls that are due, and lets streams go on, until nothing is left of either. `own` is the stream whose headers
    /// are in this callback: what it does is the callback's answer.
    fn deliver(&mut self, root: ContextId, own: Option<StreamId>, mut wakes: Vec<Wake>) -> Action {
        let mut action = Action::Continue;
        let mut acted = false;
        loop {
            wakes.extend(self.make_calls(root, &mut acted));
            if wakes.is_empty() {
                break;
            }
            for (stream, news) in std::mem::take(&mut wakes) {
                acted = true;
                let refused = self.wake(stream, news, own == Some(stream)) == Progress::Answered;
                if refused && own == Some(stream) {
                    action = Action::Pause;
                }
            }
        }
        if acted {
            let callback = own.map_or(root, ContextId::from);
            // Nothing follows in this callback that would need it.
            let _ = self.host.act_as(callback);
        }
        let own = own.and_then(|id| self.streams.get_mut(id));
        match own.map(|stream| &stream.phase) {
            Some(Phase::Waiting(_) | Phase::Held(_)) => Action::Pause,
            Some(Phase::Request | Phase::Response(_) | Phase::Over) | None => action,
        }
    }

    /// Sends what is to be sent to the store, for the root: a call made for a stream would die with it. Returns whom it wakes
    /// that a call could not be made.
    fn make_calls(&mut self, root: ContextId, acted: &mut bool) -> Vec<Wake> {
        let Self { host, roots, .. } = self;
        let Some(plugin) = configured(roots, root) else { return Vec::new() };
        let Worker { store: Some(store), counts, .. } = &mut plugin.worker else { return Vec::new() };
        let mut wakes = store.admit(counts);
        // A call that is not made may lead to another.
        while let Some(call) = store.outgoing() {
            let request = store.request(&call);
            let lines = request.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let headers = Headers::from_pairs(lines);
            let endpoint = store.endpoint();
            *acted = true;
            let sent = host
                .act_as(root)
                .and_then(|()| host.call(&endpoint.cluster, &headers, request.body.as_bytes(), endpoint.timeout));
            match sent {
                Ok(id) => store.sent(id, call),
                Err(_) => wakes.extend(store.unsent(call, host.monotonic().unwrap_or_default(), counts)),
            }
        }
        wakes
    }

    /// Lets a stream go on with what it waited for. In its own callback it need not be resumed.
    ///
    /// Never called in the callback of another stream: to turn a stream away there would stop the other, because the proxy then takes the
    /// callback's answer for a pause. Calls are made in the callback that asks for them, or in one of the root's.
    fn wake(&mut self, id: StreamId, news: CallOutcome, own: bool) -> Progress {
        let Some((host, plugin, stream)) = self.parts(id) else { return Progress::Continues };
        if host.act_as(id.into()).is_err() && !own {
            // It is gone, and on_delete will say so. Not so in its own callback, which must not end in a pause that nobody ends.
            return Progress::Continues;
        }
        let inputs = HostInputs::new(host, &plugin.carried_name, plugin.clock);
        let (went, side) = match (std::mem::replace(&mut stream.phase, Phase::Over), news) {
            (Phase::Waiting(waiting), CallOutcome::Lookup(found)) => {
                let headers = inputs.known(host.headers(Map::RequestHeaders));
                let request = plugin.affinity.on_found(*waiting, found, &mut plugin.worker, headers.as_ref(), &inputs);
                let (phase, went) = inputs.carry_out(request, &plugin.affinity, &mut plugin.worker);
                stream.phase = phase;
                (went, Side::Request)
            }
            (Phase::Held(held), CallOutcome::Write(written)) => {
                match plugin.affinity.on_written(*held, written, &mut plugin.worker, &inputs) {
                    Response::Proceed(edits) => inputs.apply(Map::ResponseHeaders, edits),
                    Response::Wait(_, held) => {
                        stream.phase = Phase::Held(held);
                        return Progress::Continues;
                    }
                };
                (Progress::Continues, Side::Response)
            }
            (phase, CallOutcome::Lookup(_) | CallOutcome::Write(_)) => {
                stream.phase = phase;
                return Progress::Continues;
            }
        };
        inputs.attribute_calls(&mut plugin.worker);
        if went == Progress::Continues && !own {
            inputs.known(host.resume(side));
        }
        inputs.count_faults(&mut plugin.worker);
        went
    }
}

/// A root's plugin. There are as many roots as configurations: hardly ever more than two.
fn configured(roots: &mut [(ContextId, Option<Plugin>)], root: ContextId) -> Option<&mut Plugin> {
    roots.iter_mut().find(|(id, _)| *id == root)?.1.as_mut()
}

impl Plugin {
    /// The configuration is gone: tells the proxy what is left to tell.
    fn retire<H: Host>(&mut self, host: &H) {
        let Worker { store, counts, .. } = &mut self.worker;
        if let Some(store) = store {
            store.on_done(counts);
        }
        self.metrics.hand_over(host, counts);
        self.metrics.take_back_gauges(host);
    }

    fn leave(&mut self, stream: StreamId) {
        if let Some(store) = &mut self.worker.store {
            store.forget_waiter(stream);
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It goes on, or waits.
    Continues,
    /// It was answered.
    Answered,
}

/// A host as the core sees it: answers, or none, and how often there should have been one.
struct HostInputs<'a, H> {
    host: &'a H,
    carried_name: &'a str,
    clock: Option<UnixTime>,
    failed: Cell<bool>,
}

impl<'a, H: Host> HostInputs<'a, H> {
    fn new(host: &'a H, carried_name: &'a str, clock: Option<UnixTime>) -> Self {
        Self { host, carried_name, clock, failed: Cell::new(false) }
    }

    /// The answer of a host call, if there is one.
    fn known<T>(&self, answer: Result<T, Status>) -> Option<T> {
        if answer.is_err() {
            self.failed.set(true);
        }
        answer.ok()
    }

    /// Does to a request what was decided.
    fn carry_out(&self, request: RequestStep<'_>, affinity: &Affinity, worker: &mut Worker) -> (Phase, Progress) {
        let (exchange, edits) = match request {
            RequestStep::Wait(waiting) => return (Phase::Waiting(waiting), Progress::Continues),
            RequestStep::Refuse(seconds, exchange, edits) => {
                if self.refuse(seconds) {
                    self.apply(Map::ResponseHeaders, affinity.on_refused(&exchange, worker).into_iter().collect());
                    return (Phase::Over, Progress::Answered);
                }
                (exchange, edits)
            }
            RequestStep::Proceed(exchange, edits) => (exchange, edits),
        };
        let asked = self.apply(Map::RequestHeaders, edits);
        (Phase::Response(if asked { exchange } else { exchange.unasked() }), Progress::Continues)
    }

    /// Answers in the upstream's place that the store does not. `false` when that cannot be.
    fn refuse(&self, seconds: u64) -> bool {
        let retry_after = text::decimal(seconds);
        let headers = Headers::from_pairs([
            (&b"retry-after"[..], retry_after.as_bytes()),
            (b"cache-control", b"no-store"),
            (b"content-type", b"text/plain"),
        ]);
        let body = "the session store does not answer\n";
        self.known(self.host.respond(503, "mooring_store_unavailable", &headers, body)).is_some()
    }

    /// What a call came back with.
    fn answer(&self, body_size: usize) -> Answer {
        if body_size > MAX_ANSWER {
            return Answer::TooLarge;
        }
        let header = |name| self.known(self.host.header(Map::CallResponseHeaders, name)).flatten();
        let status = header(":status").and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok());
        if status >= Some(500) && header("x-envoy-overloaded").is_some() && header(SERVED_AFTER).is_none() {
            return Answer::Overloaded;
        }
        let body = if body_size == 0 { Some(Vec::new()) } else { self.known(self.host.call_response_body(MAX_ANSWER)) };
        match (status, body) {
            (Some(status), Some(body)) => Answer::Response { status, etag: header("etag"), body },
            _ => Answer::Nothing,
        }
    }

    /// Applies every edit. `false` when the proxy refused one.
    fn apply(&self, map: Map, edits: Vec<Edit<'_>>) -> bool {
        let mut applied = true;
        for edit in edits {
            let done = match edit {
                Edit::Set(name, value) => self.host.set_header(map, name, &value),
                Edit::Add(name, value) => self.host.add_header(map, name, &value),
                Edit::Remove(name) => self.host.remove_header(map, name),
                Edit::Log(line) => self.host.set_property(&[LOGGED], line.as_bytes()),
            };
            applied &= self.known(done).is_some();
        }
        applied
    }

    /// Says for which client calls are that were asked for on behalf of its stream, where that matters.
    fn attribute_calls(&self, worker: &mut Worker) {
        if let Some(store) = &mut worker.store
            && store.must_queue()
        {
            let id = self.property(&["connection", "id"]);
            store.attribute(id.and_then(|id| id.try_into().ok()).map(u64::from_le_bytes));
        }
    }

    /// Counts a callback in which a host call failed.
    fn count_faults(&self, worker: &mut Worker) {
        if self.failed.get() {
            worker.count(Counter::Fault(Fault::ProxyCall));
        }
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.known(self.host.property(path)).flatten()
    }

    fn random<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.known(self.host.random(&mut bytes)).map(|()| bytes)
    }
}

impl<H: Host> Inputs for HostInputs<'_, H> {
    fn now(&self) -> Option<UnixTime> {
        self.clock
    }

    fn now_exactly(&self) -> Option<UnixTime> {
        self.known(self.host.now())
    }

    fn monotonic(&self) -> Option<Monotonic> {
        self.known(self.host.monotonic())
    }

    fn random_id(&self) -> Option<SessionId> {
        self.random().map(SessionId)
    }

    fn random_nonce(&self) -> Option<[u8; 24]> {
        self.random()
    }

    fn cluster_name(&self) -> Option<Vec<u8>> {
        self.property(&["xds", "cluster_name"])
    }

    fn upstream_address(&self) -> Option<Vec<u8>> {
        self.property(&["upstream", "address"])
    }

    fn code_details(&self) -> Option<Vec<u8>> {
        self.property(&["response", "code_details"])
    }

    fn response_header(&self, name: &str) -> Option<Vec<u8>> {
        self.known(self.host.header(Map::ResponseHeaders, name)).flatten()
    }

    fn attempts(&self) -> Option<u64> {
        let count = self.property(&["upstream", "request_attempt_count"])?;
        count.try_into().ok().map(u64::from_le_bytes)
    }

    fn response_headers(&self) -> Option<Headers> {
        self.known(self.host.headers(Map::ResponseHeaders))
    }

    fn carried(&self) -> Option<Vec<u8>> {
        self.property(&[self.carried_name])
    }
}
