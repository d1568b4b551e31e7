//! One callback of a stream, as decisions see it.

use super::{Affinity, Arrival, Exchange, HeldResponse, Inputs, PausedRequest};
use crate::affinity::worker::Worker;
use crate::clock::Monotonic;
use crate::config::{AccessLog, Policy, Shared};
use crate::headers::Edit;
use crate::ids::CallId;
use crate::observe::decision::{Basis, Decision, Outcome};
use crate::observe::metrics::{By, Counter};
use crate::store::client::{Event, StoreClient, Wake};
use crate::store::protocol::Answer;
use std::cell::Cell;

/// One callback of a stream: by which configuration it is decided, what the worker remembers, what the proxy says, and when it is.
pub(crate) struct Turn<'p, 't> {
    pub(super) affinity: &'p Affinity,
    pub(crate) worker: &'t mut Worker,
    pub(super) proxy: &'t dyn Inputs,
    /// `None`: not asked for yet.
    moment: Cell<Option<Option<Monotonic>>>,
}

impl<'p, 't> Turn<'p, 't> {
    pub(super) fn new(affinity: &'p Affinity, worker: &'t mut Worker, proxy: &'t dyn Inputs) -> Self {
        Self { affinity, worker, proxy, moment: Cell::new(None) }
    }

    /// The configuration's decisions that need no turn.
    pub(crate) fn affinity(&self) -> &'p Affinity {
        self.affinity
    }

    pub(super) fn policy(&self) -> &'p Policy {
        &self.affinity.policy
    }

    /// What every policy of the worker shares.
    pub(super) fn shared(&self) -> &'p Shared {
        &self.affinity.shared
    }

    /// The time of the callback. The proxy is asked once, at the first need.
    pub(super) fn moment(&self) -> Option<Monotonic> {
        self.moment.get().unwrap_or_else(|| {
            let read = self.proxy.monotonic();
            self.moment.set(Some(read));
            read
        })
    }

    pub(super) fn count(&mut self, counter: Counter) {
        self.worker.count(counter);
    }

    /// The store, where there is one, and what it is told of this callback.
    pub(super) fn store(&mut self) -> Option<(&mut StoreClient, Event<'_>)> {
        // Without a store nobody needs to know what time it is.
        let now = if self.worker.store.is_some() { self.moment() } else { None };
        let Worker { store, counts, .. } = &mut *self.worker;
        Some((store.as_mut()?, Event { now, counts }))
    }

    /// A call to the store was answered. Whom that wakes.
    pub(crate) fn on_answer(&mut self, call: CallId, answer: Answer) -> Vec<Wake> {
        let Some((store, mut event)) = self.store() else { return Vec::new() };
        store.answered(call, answer, &mut event)
    }

    /// A request was turned away: it has no response that would say so.
    pub(crate) fn on_refused(&mut self, exchange: &Exchange) -> Option<Edit<'p>> {
        self.report_plain(Outcome::Failed, &exchange.arrival)
    }

    /// The proxy answers a request by itself while it waits for the store.
    pub(crate) fn on_answered_while_waiting(&mut self, waiting: &PausedRequest) -> Option<Edit<'p>> {
        self.on_left_while_waiting();
        self.report_plain(Outcome::Untouched, &waiting.arrival(Basis::Unconfirmed))
    }

    /// A client does not wait for the store any longer.
    pub(crate) fn on_left_while_waiting(&mut self) {
        self.count(Counter::Request(Basis::Unconfirmed));
    }

    /// The proxy answers by itself in place of a response that waits for the store.
    pub(crate) fn on_answered_while_held(&mut self, held: &HeldResponse) -> Option<Edit<'p>> {
        self.report_plain(Outcome::Untouched, held.arrival())
    }

    fn report_plain(&mut self, outcome: Outcome, arrival: &Arrival) -> Option<Edit<'p>> {
        let Arrival { basis, by, .. } = *arrival;
        self.report(Decision { outcome, basis, by: self.affinity.way(by), displaced: None })
    }

    /// Counts what was decided on a request, and tells the access log.
    pub(super) fn report(&mut self, decision: Decision) -> Option<Edit<'p>> {
        self.count(Counter::Session(decision.outcome, By(decision.by)));
        if let Some(why) = decision.displaced {
            self.count(Counter::Displaced(why));
        }
        let logged = self.policy().access_log == AccessLog::All || !decision.is_plain();
        logged.then(|| Edit::Log(decision.line()))
    }
}
