//! The proxy in one callback: what the core asks of it, and what is done to it.

use super::{LOGGED, Phase, Progress, SERVED_AFTER};
use crate::affinity::worker::Worker;
use crate::affinity::{Inputs, RequestStep, Turn};
use crate::clock::{Monotonic, UnixTime};
use crate::headers::{Edit, Headers};
use crate::observe::metrics::{Counter, Fault};
use crate::session::SessionId;
use crate::shell::proxy::{HeaderMap, Proxy, Status};
use crate::store::protocol::{Answer, MAX_ANSWER};
use crate::text;
use std::cell::Cell;

/// A proxy as the core sees it: answers, or none, and how often there should have been one.
pub(super) struct ProxyInputs<'a, P> {
    proxy: &'a P,
    carried_name: &'a str,
    clock: Option<UnixTime>,
    failed: Cell<bool>,
}

impl<'a, P: Proxy> ProxyInputs<'a, P> {
    pub(super) fn new(proxy: &'a P, carried_name: &'a str, clock: Option<UnixTime>) -> Self {
        Self { proxy, carried_name, clock, failed: Cell::new(false) }
    }

    /// The answer of a call to the proxy, if there is one.
    pub(super) fn known<T>(&self, answer: Result<T, Status>) -> Option<T> {
        if answer.is_err() {
            self.failed.set(true);
        }
        answer.ok()
    }

    /// Does to a request what was decided.
    pub(super) fn carry_out<'p>(&self, step: RequestStep<'p>, turn: &mut Turn<'p, '_>, phase: &mut Phase) -> Progress {
        let (exchange, edits) = match step {
            RequestStep::Wait(waiting) => {
                *phase = Phase::Waiting(waiting);
                return Progress::Continues;
            }
            RequestStep::Refuse(seconds, exchange, edits) => {
                if self.refuse(seconds) {
                    self.apply(HeaderMap::ResponseHeaders, turn.on_refused(&exchange).into_iter().collect());
                    *phase = Phase::Over;
                    return Progress::Answered;
                }
                (exchange, edits)
            }
            RequestStep::Proceed(exchange, edits) => (exchange, edits),
        };
        let asked = self.apply(HeaderMap::RequestHeaders, edits);
        *phase = Phase::Response(if asked { exchange } else { exchange.unasked() });
        Progress::Continues
    }

    /// Answers in the upstream's place that the store does not. `false` when that cannot be.
    pub(super) fn refuse(&self, seconds: u64) -> bool {
        let retry_after = text::decimal(seconds);
        let headers = Headers::from_pairs([
            (&b"retry-after"[..], retry_after.as_bytes()),
            (b"cache-control", b"no-store"),
            (b"content-type", b"text/plain"),
        ]);
        let body = "the session store does not answer\n";
        self.known(self.proxy.respond(503, "mooring_store_unavailable", &headers, body)).is_some()
    }

    /// What a call came back with. `with_etag`: its `ETag` matters.
    pub(super) fn answer(&self, body_size: usize, with_etag: bool) -> Answer {
        if body_size > MAX_ANSWER {
            return Answer::TooLarge;
        }
        let header = |name| self.known(self.proxy.header(HeaderMap::CallResponseHeaders, name)).flatten();
        let status = header(":status").and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok());
        if status >= Some(500) && header("x-envoy-overloaded").is_some() && header(SERVED_AFTER).is_none() {
            return Answer::Overloaded;
        }
        let body =
            if body_size == 0 { Some(Vec::new()) } else { self.known(self.proxy.call_response_body(MAX_ANSWER)) };
        match (status, body) {
            (Some(status), Some(body)) => {
                let etag = if with_etag { header("etag") } else { None };
                Answer::Response { status, etag, body }
            }
            _ => Answer::Nothing,
        }
    }

    /// Applies every edit. `false` when the proxy refused one.
    pub(super) fn apply(&self, map: HeaderMap, edits: Vec<Edit<'_>>) -> bool {
        let mut applied = true;
        for edit in edits {
            let done = match edit {
                Edit::Set(name, value) => self.proxy.set_header(map, name, &value),
                Edit::Add(name, value) => self.proxy.add_header(map, name, &value),
                Edit::Remove(name) => self.proxy.remove_header(map, name),
                Edit::Log(line) => self.proxy.set_property(&[LOGGED], line.as_bytes()),
            };
            applied &= self.known(done).is_some();
        }
        applied
    }

    /// Says for which client calls are that were asked for on behalf of its stream, where that matters.
    pub(super) fn attribute_calls(&self, worker: &mut Worker) {
        if let Some(store) = &mut worker.store
            && store.must_queue()
        {
            let id = self.property(&["connection", "id"]);
            store.attribute(id.and_then(|id| id.try_into().ok()).map(u64::from_le_bytes));
        }
    }

    /// Counts a callback in which a call to the proxy failed.
    pub(super) fn count_faults(&self, worker: &mut Worker) {
        if self.failed.get() {
            worker.count(Counter::Fault(Fault::ProxyCall));
        }
    }

    pub(super) fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.known(self.proxy.property(path)).flatten()
    }

    pub(super) fn random<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.known(self.proxy.random(&mut bytes)).map(|()| bytes)
    }
}

impl<P: Proxy> Inputs for ProxyInputs<'_, P> {
    fn now(&self) -> Option<UnixTime> {
        self.clock
    }

    fn now_exactly(&self) -> Option<UnixTime> {
        self.known(self.proxy.now())
    }

    fn monotonic(&self) -> Option<Monotonic> {
        self.known(self.proxy.monotonic())
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
        self.known(self.proxy.header(HeaderMap::ResponseHeaders, name)).flatten()
    }

    fn attempts(&self) -> Option<u64> {
        let count = self.property(&["upstream", "request_attempt_count"])?;
        count.try_into().ok().map(u64::from_le_bytes)
    }

    fn response_headers(&self) -> Option<Headers> {
        self.known(self.proxy.headers(HeaderMap::ResponseHeaders))
    }

    fn carried(&self) -> Option<Vec<u8>> {
        self.property(&[self.carried_name])
    }
}
