//! The proxy's contexts: callbacks become calls of the core, and what it decides becomes calls to the proxy. Decides nothing.

mod inputs;
mod metrics;
mod streams;

use crate::affinity::worker::Worker;
use crate::affinity::{Affinity, Exchange, HeldResponse, PausedRequest, Response, Turn};
use crate::clock::UnixTime;
use crate::config::{self, Config};
use crate::headers::{Edit, Headers};
use crate::ids::ContextId;
use crate::ids::{CallId, StreamId};
use crate::observe::log::Notices;
use crate::observe::metrics::{Counter, Fault};
use crate::shell::log;
use crate::shell::proxy::{HeaderMap, Proxy, Side, Status};
use crate::store::client::{CallOutcome, Event, Wake};
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
    notices: Notices,
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
                log::refused(&message);
                false
            }
        }
    }

    fn configure(&self) -> Result<Plugin, String> {
        let failed = |what: &str, status: Status| format!("mooring: the proxy cannot {what} ({status})");
        let json = self.proxy.plugin_configuration().map_err(|status| failed("give the configuration", status))?;
        let config = Config::parse(&json, &|name| self.proxy.environment_variable(name)).map_err(|e| e.to_string())?;
        let affinity = Affinity::new(Rc::clone(&config.shared), Rc::clone(&config.policy));
        let carried_name = affinity.carried_name();
        self.proxy.declare_request_property(&carried_name).map_err(|status| failed("declare a property", status))?;
        let version = config::version(&json);
        let metrics = ProxyMetrics::define(&self.proxy, &config, version.clone())
            .map_err(|status| failed("define a metric", status))?;
        self.proxy.set_tick_period(TICK).map_err(|status| failed("set a timer", status))?;
        let clock = self.proxy.now().ok();
        let mut seed = [0; 4];
        if config.shared.store.is_some() {
            // Without, workers probe a store together.
            let _ = self.proxy.random(&mut seed);
        }
        let worker = Worker::new(&config, u32::from_le_bytes(seed));
        log::started(&version, &config);
        Ok(Plugin { affinity, carried_name, worker, metrics, clock, notices: Notices::default() })
    }

    /// A second has passed: reads the clock, gives up what is overdue, and hands what was counted to the proxy.
    pub fn on_tick(&mut self, root: ContextId) {
        let Self { proxy, roots, .. } = self;
        let Some(plugin) = configured(roots, root) else { return };
        plugin.clock = proxy.now().ok();
        if plugin.clock.is_none() {
            plugin.worker.count(Counter::Fault(Fault::ProxyCall));
        }
        let (mut wakes, mut now) = (Vec::new(), None);
        if let Worker { store: Some(store), counts, .. } = &mut plugin.worker {
            now = proxy.monotonic().ok();
            wakes = store.on_tick(&mut Event { now, counts });
        }
        self.deliver(root, None, wakes);
        if let Some(Plugin { metrics, worker, notices, .. }) = configured(&mut self.roots, root) {
            log::tell(notices, worker, now);
            metrics.hand_over(&self.proxy, &mut worker.counts);
            metrics.tell_gauges(&self.proxy, worker, now);
        }
    }

    /// The request's headers are there.
    pub fn on_request_headers(&mut self, id: StreamId) -> Action {
        let Some((proxy, plugin, stream)) = self.parts(id) else { return Action::Continue };
        let progress = plugin.stream_turn(proxy, |inputs, turn| {
            let headers = inputs.known(proxy.headers(HeaderMap::RequestHeaders));
            let step = turn.on_request(id, headers.as_ref());
            inputs.carry_out(step, turn, &mut stream.phase)
        });
        let (root, calls) = (stream.root, plugin.worker.store.is_some());
        match progress {
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
            Phase::Waiting(waiting) => {
                return self.answered_meanwhile(id, |turn| turn.on_answered_while_waiting(&waiting));
            }
            Phase::Held(held) => return self.answered_meanwhile(id, |turn| turn.on_answered_while_held(&held)),
            Phase::Request | Phase::Over => return Action::Continue,
        };
        plugin.stream_turn(proxy, |inputs, turn| {
            let edits = match turn.on_response(id, exchange) {
                Response::Proceed(edits) => edits,
                Response::Wait(edits, held) => {
                    stream.phase = Phase::Held(held);
                    edits
                }
            };
            inputs.apply(HeaderMap::ResponseHeaders, edits);
        });
        let (root, calls) = (stream.root, plugin.worker.store.is_some());
        if calls { self.deliver(root, Some(id), Vec::new()) } else { Action::Continue }
    }

    /// The proxy answered a stream by itself whose request, or whose response, waited for the store.
    fn answered_meanwhile(
        &mut self,
        id: StreamId,
        report: impl for<'p> FnOnce(&mut Turn<'p, '_>) -> Option<Edit<'p>>,
    ) -> Action {
        let Some((proxy, plugin, _)) = self.parts(id) else { return Action::Continue };
        plugin.leave(id);
        plugin.turn(proxy, |inputs, turn| inputs.apply(HeaderMap::ResponseHeaders, report(turn).into_iter().collect()));
        Action::Continue
    }

    /// The trailers of the request or of the response are there: what is internal is not for either side.
    pub fn on_trailers(&mut self, id: StreamId, map: HeaderMap) {
        let Some((proxy, plugin, _)) = self.parts(id) else { return };
        plugin.turn(proxy, |inputs, turn| {
            let affinity = turn.affinity();
            let edits = if map == HeaderMap::ResponseTrailers {
                affinity.inward_headers().map(Edit::Remove).collect()
            } else {
                affinity.not_for_upstreams().map(Edit::Remove).collect()
            };
            inputs.apply(map, edits);
        });
    }

    /// A call to the store was answered; without header lines, it failed.
    pub fn on_call_response(&mut self, root: ContextId, call: CallId, lines: usize, body_size: usize) {
        let Self { proxy, roots, .. } = self;
        let Some(plugin) = configured(roots, root) else { return };
        let with_etag = plugin.worker.store.as_ref().is_some_and(|store| store.endpoint().tells_etags());
        let wakes = plugin.turn(proxy, |inputs, turn| {
            let answer = if lines == 0 { Answer::Nothing } else { inputs.answer(body_size, with_etag) };
            turn.on_answer(call, answer)
        });
        self.deliver(root, None, wakes);
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
                    let name = plugin.carried_name.clone();
                    plugin.turn(&self.proxy, |inputs, _| inputs.known(self.proxy.set_property(&[&name], &value)));
                }
            }
            Phase::Waiting(_) => {
                plugin.leave(stream);
                plugin.turn(&self.proxy, |_, turn| turn.on_left_while_waiting());
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
        let mut acting = Acting::in_callback_of(own.map_or(root, ContextId::from));
        loop {
            wakes.extend(self.make_calls(root, &mut acting));
            if wakes.is_empty() {
                break;
            }
            for (stream, news) in std::mem::take(&mut wakes) {
                let refused = self.wake(stream, news, &mut acting) == Progress::Answered;
                if refused && own == Some(stream) {
                    action = Action::Pause;
                }
            }
        }
        // Nothing follows in this callback that would need it.
        let _ = acting.switch(&self.proxy, acting.callback);
        let own = own.and_then(|id| self.streams.get_mut(id));
        match own.map(|stream| &stream.phase) {
            Some(Phase::Waiting(_) | Phase::Held(_)) => Action::Pause,
            Some(Phase::Request | Phase::Response(_) | Phase::Over) | None => action,
        }
    }

    /// Sends what is to be sent to the store, for the root: a call made for a stream would die with it. Returns whom it wakes
    /// that a call could not be made.
    fn make_calls(&mut self, root: ContextId, acting: &mut Acting) -> Vec<Wake> {
        let Self { proxy, roots, .. } = self;
        let Some(plugin) = configured(roots, root) else { return Vec::new() };
        let Worker { store: Some(store), counts, .. } = &mut plugin.worker else { return Vec::new() };
        let mut event = Event { now: None, counts };
        let mut wakes = store.admit(&mut event);
        // A call that is not made may lead to another.
        while let Some(call) = store.outgoing() {
            let request = store.request(&call);
            let lines = request.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let headers = Headers::from_pairs(lines);
            let endpoint = store.endpoint();
            let sent = acting
                .switch(proxy, root)
                .and_then(|()| proxy.call(&endpoint.cluster, &headers, request.body.as_bytes(), endpoint.timeout));
            match sent {
                Ok(id) => store.sent(id, call),
                Err(_) => wakes.extend(store.unsent(call, &mut event)),
            }
        }
        wakes
    }

    /// Lets a stream go on with what it waited for. In its own callback it need not be resumed.
    ///
    /// Never called in the callback of another stream: to turn a stream away there would stop the other, because the proxy then takes the
    /// callback's answer for a pause. Calls are made in the callback that asks for them, or in one of the root's.
    fn wake(&mut self, id: StreamId, news: CallOutcome, acting: &mut Acting) -> Progress {
        let Some((proxy, plugin, stream)) = self.parts(id) else { return Progress::Continues };
        let own = acting.callback == id.into();
        if acting.switch(proxy, id.into()).is_err() && !own {
            // It is gone, and on_delete will say so. Not so in its own callback, which must not end in a pause that nobody ends.
            return Progress::Continues;
        }
        plugin.stream_turn(proxy, |inputs, turn| {
            let (progress, side) = match (std::mem::replace(&mut stream.phase, Phase::Over), news) {
                (Phase::Waiting(waiting), CallOutcome::Lookup(found)) => {
                    let headers = inputs.known(proxy.headers(HeaderMap::RequestHeaders));
                    let step = turn.on_found(*waiting, found, headers.as_ref());
                    (inputs.carry_out(step, turn, &mut stream.phase), Side::Request)
                }
                (Phase::Held(held), CallOutcome::Write(written)) => match turn.on_written(*held, written) {
                    Response::Proceed(edits) => {
                        inputs.apply(HeaderMap::ResponseHeaders, edits);
                        (Progress::Continues, Side::Response)
                    }
                    Response::Wait(_, held) => {
                        stream.phase = Phase::Held(held);
                        return Progress::Continues;
                    }
                },
                (phase, CallOutcome::Lookup(_) | CallOutcome::Write(_)) => {
                    stream.phase = phase;
                    return Progress::Continues;
                }
            };
            if progress == Progress::Continues && !own {
                inputs.known(proxy.resume(side));
            }
            progress
        })
    }
}

/// As which context calls to the proxy are made: at first as the one whose callback this is.
struct Acting {
    callback: ContextId,
    now: ContextId,
}

impl Acting {
    fn in_callback_of(context: ContextId) -> Self {
        Self { callback: context, now: context }
    }

    fn switch<P: Proxy>(&mut self, proxy: &P, to: ContextId) -> Result<(), Status> {
        if self.now != to {
            proxy.act_as(to)?;
            self.now = to;
        }
        Ok(())
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
            store.on_done(&mut Event { now: None, counts });
        }
        let now = if self.worker.store.is_some() { proxy.monotonic().ok() } else { None };
        log::tell(&mut self.notices, &self.worker, now);
        self.metrics.hand_over(proxy, &mut self.worker.counts);
        self.metrics.take_back_gauges(proxy);
    }

    /// Runs `job` in one callback, and counts it where a call to the proxy failed.
    fn turn<P: Proxy, T>(
        &mut self,
        proxy: &P,
        job: impl for<'p> FnOnce(&ProxyInputs<'_, P>, &mut Turn<'p, '_>) -> T,
    ) -> T {
        let inputs = ProxyInputs::new(proxy, &self.carried_name, self.clock);
        let done = job(&inputs, &mut self.affinity.turn(&mut self.worker, &inputs));
        inputs.count_faults(&mut self.worker);
        done
    }

    /// As [`Plugin::turn`], of a stream that may ask for calls to the store: they are for its client.
    fn stream_turn<P: Proxy, T>(
        &mut self,
        proxy: &P,
        job: impl for<'p> FnOnce(&ProxyInputs<'_, P>, &mut Turn<'p, '_>) -> T,
    ) -> T {
        self.turn(proxy, |inputs, turn| {
            let done = job(inputs, turn);
            inputs.attribute_calls(turn.worker);
            done
        })
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
