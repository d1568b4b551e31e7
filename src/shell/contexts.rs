//! The proxy's contexts: callbacks become calls of the core, and what it decides becomes calls to the proxy. Decides nothing.

mod inputs;
mod metrics;
mod streams;

use crate::affinity::worker::Worker;
use crate::affinity::{Affinity, Edit, Exchange, HeldResponse, Inputs, PausedRequest, Response};
use crate::clock::{Monotonic, UnixTime};
use crate::config::{self, Config};
use crate::headers::Headers;
use crate::ids::ContextId;
use crate::ids::{CallId, StreamId};
use crate::observe::metrics::{Counter, Fault};
use crate::shell::proxy::{HeaderMap, Proxy, Side, Status};
use crate::store::client::{CallOutcome, Wake};
use crate::store::protocol::Answer;
use inputs::ProxyInputs;
use metrics::ProxyMetrics;
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
pub struct Contexts<P> {
    proxy: P,
    /// `None`: not configured, or refused; its requests pass untouched.
    roots: Vec<(ContextId, Option<Plugin>)>,
    streams: Streams,
}

impl<P: Proxy> Contexts<P> {
    /// No context yet.
    pub const fn new(proxy: P) -> Self {
        Self { proxy, roots: Vec::new(), streams: Streams::new() }
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
                        before.retire(&self.proxy);
                    }
                    true
                })
            }
            Err(message) => {
                self.proxy.log_error(&message);
                false
            }
        }
    }

    fn configure(&self) -> Result<Plugin, String> {
        let failed = |what: &str, status: Status| format!("mooring: the proxy cannot {what} ({status})");
        let json = self.proxy.plugin_configuration().map_err(|status| failed("give the configuration", status))?;
        let config = Config::parse(&json, &|name| self.proxy.environment_variable(name)).map_err(|e| e.to_string())?;
        let config = Rc::new(config);
        let affinity = Affinity::new(Rc::clone(&config));
        let carried_name = affinity.carried_name();
        self.proxy.declare_request_property(&carried_name).map_err(|status| failed("declare a property", status))?;
        let version = config::version(&json);
        let metrics =
            ProxyMetrics::define(&self.proxy, &config, version).map_err(|status| failed("define a metric", status))?;
        self.proxy.set_tick_period(TICK).map_err(|status| failed("set a timer", status))?;
        let clock = self.proxy.now().ok();
        Ok(Plugin { affinity, carried_name, worker: Worker::new(&config), metrics, clock })
    }

    /// A second has passed: reads the clock, gives up what is overdue, and hands what was counted to the proxy.
    pub fn on_tick(&mut self, root: ContextId) {
        let Self { proxy, roots, .. } = self;
        let Some(plugin) = configured(roots, root) else { return };
        plugin.clock = proxy.now().ok();
        if plugin.clock.is_none() {
            plugin.worker.count(Counter::Fault(Fault::ProxyCall));
        }
        let (mut wakes, mut now) = (Vec::new(), Monotonic::default());
        if let Some(store) = &mut plugin.worker.store
            && let Ok(read) = proxy.monotonic()
        {
            now = read;
            wakes = store.on_tick(now, &mut plugin.worker.counts);
        }
        self.deliver(root, None, wakes);
        if let Some(Plugin { metrics, worker, .. }) = configured(&mut self.roots, root) {
            metrics.hand_over(&self.proxy, &mut worker.counts);
            metrics.tell_gauges(&self.proxy, worker, now);
        }
    }

    /// The request's headers are there.
    pub fn on_request_headers(&mut self, id: StreamId) -> Action {
        let Some((proxy, plugin, stream)) = self.parts(id) else { return Action::Continue };
        let inputs = ProxyInputs::new(proxy, &plugin.carried_name, plugin.clock);
        let headers = inputs.known(proxy.headers(HeaderMap::RequestHeaders));
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
        let Some((proxy, plugin, stream)) = self.parts(id) else { return Action::Continue };
        let exchange = match std::mem::replace(&mut stream.phase, Phase::Over) {
            Phase::Response(exchange) => exchange,
            // The proxy answers by itself, and waits no longer.
            Phase::Waiting(_) => return self.answered_meanwhile(id, None),
            Phase::Held(held) => return self.answered_meanwhile(id, Some(&held)),
            Phase::Request | Phase::Over => return Action::Continue,
        };
        let inputs = ProxyInputs::new(proxy, &plugin.carried_name, plugin.clock);
        let edits = match plugin.affinity.on_response(id, exchange, &mut plugin.worker, &inputs) {
            Response::Proceed(edits) => edits,
            Response::Wait(edits, held) => {
                stream.phase = Phase::Held(held);
                edits
            }
        };
        inputs.apply(HeaderMap::ResponseHeaders, edits);
        inputs.attribute_calls(&mut plugin.worker);
        inputs.count_faults(&mut plugin.worker);
        let (root, calls) = (stream.root, plugin.worker.store.is_some());
        if calls { self.deliver(root, Some(id), Vec::new()) } else { Action::Continue }
    }

    /// The proxy answered a stream by itself whose request, or whose response, waited for the store.
    fn answered_meanwhile(&mut self, id: StreamId, held: Option<&HeldResponse>) -> Action {
        let Some((proxy, plugin, _)) = self.parts(id) else { return Action::Continue };
        plugin.leave(id);
        let edit = match held {
            Some(held) => plugin.affinity.on_answered_while_held(held, &mut plugin.worker),
            None => plugin.affinity.on_answered_while_waiting(&mut plugin.worker),
        };
        let inputs = ProxyInputs::new(proxy, &plugin.carried_name, plugin.clock);
        inputs.apply(HeaderMap::ResponseHeaders, edit.into_iter().collect());
        inputs.count_faults(&mut plugin.worker);
        Action::Continue
    }

    /// The trailers of the request or of the response are there: what is internal is not for either side.
    pub fn on_trailers(&mut self, id: StreamId, map: HeaderMap) {
        let Some((proxy, plugin, _)) = self.parts(id) else { return };
        let inputs = ProxyInputs::new(proxy, &plugin.carried_name, plugin.clock);
        let edits = if map == HeaderMap::ResponseTrailers {
            plugin.affinity.inward_headers().map(Edit::Remove).collect()
        } else {
            plugin.affinity.internal_headers().map(Edit::Remove).to_vec()
        };
        inputs.apply(map, edits);
        inputs.count_faults(&mut plugin.worker);
    }

    /// A call to the store came to something; without header lines, to nothing.
    pub fn on_call_response(&mut self, root: ContextId, call: CallId, lines: usize, body_size: usize) {
        let Self { proxy, roots, .. } = self;
        let Some(plugin) = configured(roots, root) else { return };
        let inputs = ProxyInputs::new(proxy, &plugin.carried_name, plugin.clock);
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
            plugin.retire(&self.proxy);
        }
        self.roots.retain(|(root, _)| *root != id);
        let stream = StreamId(id.0);
        let Some(Stream { root, phase }) = self.streams.remove(stream) else { return };
        let Some(plugin) = configured(&mut self.roots, root) else { return };
        match phase {
            Phase::Response(exchange) => {
                if let Some(value) = plugin.affinity.carry(&exchange) {
                    let inputs = ProxyInputs::new(&self.proxy, &plugin.carried_name, plugin.clock);
                    inputs.known(self.proxy.set_property(&[&plugin.carried_name], &value));
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

    fn parts(&mut self, id: StreamId) -> Option<(&P, &mut Plugin, &mut Stream)> {
        let stream = self.streams.get_mut(id)?;
        let plugin = configured(&mut self.roots, stream.root)?;
        Some((&self.proxy, plugin, stream))
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
            let _ = self.proxy.act_as(callback);
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
        let Self { proxy, roots, .. } = self;
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
            let sent = proxy
                .act_as(root)
                .and_then(|()| proxy.call(&endpoint.cluster, &headers, request.body.as_bytes(), endpoint.timeout));
            match sent {
                Ok(id) => store.sent(id, call),
                Err(_) => wakes.extend(store.unsent(call, proxy.monotonic().unwrap_or_default(), counts)),
            }
        }
        wakes
    }

    /// Lets a stream go on with what it waited for. In its own callback it need not be resumed.
    ///
    /// Never called in the callback of another stream: to turn a stream away there would stop the other, because the proxy then takes the
    /// callback's answer for a pause. Calls are made in the callback that asks for them, or in one of the root's.
    fn wake(&mut self, id: StreamId, news: CallOutcome, own: bool) -> Progress {
        let Some((proxy, plugin, stream)) = self.parts(id) else { return Progress::Continues };
        if proxy.act_as(id.into()).is_err() && !own {
            // It is gone, and on_delete will say so. Not so in its own callback, which must not end in a pause that nobody ends.
            return Progress::Continues;
        }
        let inputs = ProxyInputs::new(proxy, &plugin.carried_name, plugin.clock);
        let (went, side) = match (std::mem::replace(&mut stream.phase, Phase::Over), news) {
            (Phase::Waiting(waiting), CallOutcome::Lookup(found)) => {
                let headers = inputs.known(proxy.headers(HeaderMap::RequestHeaders));
                let request = plugin.affinity.on_found(*waiting, found, &mut plugin.worker, headers.as_ref(), &inputs);
                let (phase, went) = inputs.carry_out(request, &plugin.affinity, &mut plugin.worker);
                stream.phase = phase;
                (went, Side::Request)
            }
            (Phase::Held(held), CallOutcome::Write(written)) => {
                match plugin.affinity.on_written(*held, written, &mut plugin.worker, &inputs) {
                    Response::Proceed(edits) => inputs.apply(HeaderMap::ResponseHeaders, edits),
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
            inputs.known(proxy.resume(side));
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
    fn retire<P: Proxy>(&mut self, proxy: &P) {
        let Worker { store, counts, .. } = &mut self.worker;
        if let Some(store) = store {
            store.on_done(counts);
        }
        self.metrics.hand_over(proxy, counts);
        self.metrics.take_back_gauges(proxy);
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
