//! Root and HTTP contexts without the SDK: callbacks become calls of the core, and its edits become host calls. Decides nothing.

use crate::affinity::{Affinity, Edit, Exchange, Inputs};
use crate::clock::{Monotonic, UnixTime};
use crate::config::Config;
use crate::headers::Headers;
use crate::host::{CounterId, Host, Map, Status};
use crate::metrics::{Counter, Fault};
use crate::session::SessionId;
use crate::worker::Worker;
use std::cell::RefCell;
use std::rc::Rc;

/// How often counts are handed to the proxy, in milliseconds.
const TICK: u32 = 1000;

/// One configuration at work on one worker.
struct Plugin {
    affinity: Affinity,
    carried_name: String,
    worker: RefCell<Worker>,
    counters: Vec<(Counter, CounterId)>,
}

impl Plugin {
    /// Runs `job` on what the worker's requests share. Callbacks do not nest, so it is never in use; if it were, `None`.
    fn with_worker<T>(&self, job: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        self.worker.try_borrow_mut().ok().map(|mut worker| job(&mut worker))
    }
}

/// The root context: one for each configuration and worker.
pub struct RootFilter<H> {
    host: H,
    plugin: Option<Rc<Plugin>>,
}

impl<H: Host + Clone> RootFilter<H> {
    /// A root that is not configured yet: its requests pass untouched.
    pub fn new(host: H) -> Self {
        Self { host, plugin: None }
    }

    /// Takes the plugin's configuration. `false` when it is refused, which is logged; nothing has changed then.
    pub fn on_configure(&mut self) -> bool {
        match self.configure() {
            Ok(plugin) => {
                self.plugin = Some(Rc::new(plugin));
                true
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
        let affinity = Affinity::new(config);
        let carried_name = affinity.carried_name();
        self.host.declare_request_property(&carried_name).map_err(|status| failed("declare a property", status))?;
        let mut counters = Vec::new();
        for counter in Counter::all() {
            let id = self.host.define_counter(&counter.name()).map_err(|status| failed("define a counter", status))?;
            counters.push((counter, id));
        }
        self.host.set_tick_period(TICK).map_err(|status| failed("set a timer", status))?;
        Ok(Plugin { affinity, carried_name, worker: RefCell::default(), counters })
    }

    /// Hands what was counted to the proxy.
    pub fn on_tick(&self) {
        let Some(plugin) = &self.plugin else { return };
        let counts = plugin.with_worker(|worker| worker.counts.take());
        for (counter, count) in counts.unwrap_or_default() {
            if let Some((_, id)) = plugin.counters.iter().find(|(known, _)| *known == counter) {
                // Lost where the proxy refuses: there is nowhere left to count it.
                let _ = self.host.add_to_counter(*id, count);
            }
        }
    }

    /// The root ends: what was counted since the last tick is handed over.
    pub fn on_done(&self) {
        self.on_tick();
    }

    /// A context for one more request.
    pub fn http_filter(&self) -> HttpFilter<H> {
        HttpFilter { host: self.host.clone(), plugin: self.plugin.clone(), phase: Phase::Request }
    }
}

/// How far a stream has come.
enum Phase {
    Request,
    Response(Exchange),
    Over,
}

/// The HTTP context: one for each stream.
pub struct HttpFilter<H> {
    host: H,
    plugin: Option<Rc<Plugin>>,
    phase: Phase,
}

impl<H: Host> HttpFilter<H> {
    /// The request's headers are there.
    pub fn on_request_headers(&mut self) {
        let Some(plugin) = self.plugin.clone() else { return };
        let inputs = HostInputs::new(&self.host, &plugin);
        let headers = inputs.known(self.host.headers(Map::RequestHeaders));
        let decided = plugin.with_worker(|worker| plugin.affinity.on_request(worker, headers.as_ref(), &inputs));
        if let Some((exchange, edits)) = decided {
            let asked = inputs.apply(Map::RequestHeaders, edits);
            self.phase = Phase::Response(if asked { exchange } else { exchange.unasked() });
        }
        inputs.count_faults();
    }

    /// The response's headers are there.
    pub fn on_response_headers(&mut self) {
        let (Some(plugin), Phase::Response(exchange)) =
            (self.plugin.clone(), std::mem::replace(&mut self.phase, Phase::Over))
        else {
            return;
        };
        let inputs = HostInputs::new(&self.host, &plugin);
        let edits = plugin.with_worker(|worker| plugin.affinity.on_response(exchange, worker, &inputs));
        inputs.apply(Map::ResponseHeaders, edits.unwrap_or_default());
        inputs.count_faults();
    }

    /// The trailers of the request or of the response are there: what is internal is not for either side.
    pub fn on_trailers(&mut self, map: Map) {
        let Some(plugin) = self.plugin.clone() else { return };
        let inputs = HostInputs::new(&self.host, &plugin);
        let edits = plugin.affinity.internal_headers().map(Edit::Remove).to_vec();
        inputs.apply(map, edits);
        inputs.count_faults();
    }

    /// The stream is over, or begins anew (an internal redirect).
    pub fn on_done(&mut self) {
        let (Some(plugin), Phase::Response(exchange)) =
            (self.plugin.clone(), std::mem::replace(&mut self.phase, Phase::Over))
        else {
            return;
        };
        if let Some(value) = plugin.affinity.carry(&exchange) {
            let inputs = HostInputs::new(&self.host, &plugin);
            inputs.known(self.host.set_property(&[&plugin.carried_name], &value));
            inputs.count_faults();
        }
    }
}

/// A host as the core sees it: answers, or none, and how often there should have been one.
struct HostInputs<'a, H> {
    host: &'a H,
    plugin: &'a Plugin,
    failed: std::cell::Cell<bool>,
}

impl<'a, H: Host> HostInputs<'a, H> {
    fn new(host: &'a H, plugin: &'a Plugin) -> Self {
        Self { host, plugin, failed: std::cell::Cell::new(false) }
    }

    /// The answer of a host call, if there is one.
    fn known<T>(&self, answer: Result<T, Status>) -> Option<T> {
        if answer.is_err() {
            self.failed.set(true);
        }
        answer.ok()
    }

    /// Applies every edit. `false` when the proxy refused one.
    fn apply(&self, map: Map, edits: Vec<Edit<'_>>) -> bool {
        let mut applied = true;
        for edit in edits {
            let done = match edit {
                Edit::Set(name, value) => self.host.set_header(map, name, &value),
                Edit::Add(name, value) => self.host.add_header(map, name, &value),
                Edit::Remove(name) => self.host.remove_header(map, name),
            };
            applied &= self.known(done).is_some();
        }
        applied
    }

    /// Counts a callback in which a host call failed.
    fn count_faults(&self) {
        if self.failed.get() {
            self.plugin.with_worker(|worker| worker.count(Counter::Fault(Fault::ProxyCall)));
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

    fn response_headers(&self) -> Option<Headers> {
        self.known(self.host.headers(Map::ResponseHeaders))
    }

    fn carried(&self) -> Option<Vec<u8>> {
        self.property(&[&self.plugin.carried_name])
    }
}
