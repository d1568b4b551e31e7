//! The decisions: which host a request asks for, and what its response does to the session.
//!
//! One [`Exchange`] a request: [`Turn::on_request`] makes it, [`Turn::on_response`] consumes it. Both return the header edits
//! that the shell applies. With a session store either may have to wait: [`Turn::on_found`] and [`Turn::on_written`] go on.
//! Nothing here names the proxy; time, randomness and what the proxy knows come in through [`Inputs`].
//! `docs/how-it-works.md` tells the whole story.

mod carried;
mod request;
mod response;
mod turn;
pub(crate) mod worker;

pub(crate) use request::{PausedRequest, RequestStep};
pub(crate) use response::{HeldResponse, Response};
pub(crate) use turn::Turn;

use crate::affinity::worker::{Sequence, Worker};
use crate::carrier::{AnyCarrier, Carriers, Way};
use crate::clock::{Monotonic, UnixTime};
use crate::config::{Policy, Shared};
use crate::credential::verified::OpenedToken;
use crate::headers::{HeaderNames, Headers};
use crate::observe::decision::Basis;
use crate::session::SessionId;
use crate::session::pin::{ClusterId, HostAddr};
use std::rc::Rc;

/// Time, randomness, and what the proxy knows of one request. Asked only when a decision needs it: most answers cost a host call.
/// `None` also stands for an answer that the proxy could not give; the implementation counts that.
pub(crate) trait Inputs {
    /// Wall-clock time, up to about a second old.
    fn now(&self) -> Option<UnixTime>;
    /// Wall-clock time.
    fn now_exactly(&self) -> Option<UnixTime>;
    /// Monotonic time.
    fn monotonic(&self) -> Option<Monotonic>;
    /// 16 random bytes.
    fn random_id(&self) -> Option<SessionId>;
    /// 24 random bytes.
    fn random_nonce(&self) -> Option<[u8; 24]>;
    /// The name of the routed cluster. To be asked before a request header is changed: Envoy's answer is stale after.
    fn cluster_name(&self) -> Option<Vec<u8>>;
    /// The address of the host that served, as Envoy writes it. A local reply can have one too.
    fn upstream_address(&self) -> Option<Vec<u8>>;
    /// Envoy's `response.code_details`.
    fn code_details(&self) -> Option<Vec<u8>>;
    /// The first line of a response header.
    fn response_header(&self, name: &str) -> Option<Vec<u8>>;
    /// How often the request was sent to an upstream: Envoy's `upstream.request_attempt_count`.
    fn attempts(&self) -> Option<u64>;
    /// Every response header.
    fn response_headers(&self) -> Option<Headers>;
    /// What an earlier pass of this stream left behind (see [`Affinity::carry`]).
    fn carried(&self) -> Option<Vec<u8>>;
}

/// Decides for one policy of a worker.
#[derive(Debug)]
pub(crate) struct Affinity {
    shared: Rc<Shared>,
    policy: Rc<Policy>,
    /// The request headers that are read: [`READ_ALWAYS`] and the internal ones, then those of carriers that are not among them.
    read: HeaderNames,
    /// Which of them each carrier reads.
    read_by: Vec<usize>,
}

/// Request headers that are read whatever the configuration.
const READ_ALWAYS: [&str; 1] = [":path"];

/// What is known of a request between its headers and those of its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    arrival: Arrival,
    standing: Standing,
    asked: Asked,
}

/// What a request came with, as decisions need it.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    began: Sequence,
    basis: Basis,
    /// Of which carriers the client sent tokens, as far as was looked: valid or not.
    presented: Carriers,
    /// By which carrier its session came, or is to begin.
    by: Option<usize>,
}

/// The session that a request came with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// None that is valid. The id is the one that its new session gets.
    Fresh(SessionId),
    /// A valid one.
    Resumed(Resumed),
    /// A valid one, of which the store could not be asked, and which the operator does not want to be trusted then.
    Unconfirmed(Rc<OpenedToken>),
    /// Not known, for a failure of ours: whatever token the client has stays as it is.
    Unknown,
    /// None, and none is to begin: no carrier is for this request.
    Outside,
}

/// A valid session, as a request goes on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resumed {
    /// As its token has it, or as the store does.
    opened: Rc<OpenedToken>,
    /// The generation of the client's copy, where the store's is another.
    behind: Option<u32>,
}

/// What the bridge was asked for.
#[derive(Debug, Default)]
struct Asked {
    /// The routed cluster, where it was needed to choose the host.
    cluster: Option<ClusterId>,
    /// The host.
    host: Option<HostAddr>,
}

impl Exchange {
    /// The same request after the proxy refused the edits. It was not asked for a host, so who serves it says nothing about the session.
    pub(crate) fn unasked(self) -> Self {
        Self { standing: Standing::Unknown, ..self }
    }
}

impl Affinity {
    /// Decisions by this policy.
    pub(crate) fn new(shared: Rc<Shared>, policy: Rc<Policy>) -> Self {
        let mut affinity = Self { shared, policy, read: HeaderNames::new([]), read_by: Vec::new() };
        let mut read: Vec<&str> = READ_ALWAYS.into_iter().chain(affinity.internal_headers()).collect();
        let mut read_by = Vec::new();
        for carrier in &affinity.policy.identify {
            let header = carrier.request_header();
            read_by.push(read.iter().position(|known| *known == header).unwrap_or(read.len()));
            if !read.contains(&header) {
                read.push(header);
            }
        }
        (affinity.read, affinity.read_by) = (HeaderNames::new(read), read_by);
        affinity
    }

    /// How clients carry sessions: the first that yields one wins.
    fn carriers(&self) -> &[AnyCarrier] {
        &self.policy.identify
    }

    /// The carrier at this place, in a word.
    fn way(&self, carrier: Option<usize>) -> Way {
        carrier.and_then(|place| self.carriers().get(place)).map_or(Way::None, |carrier| carrier.way())
    }

    /// One callback of a stream of this configuration.
    pub(crate) fn turn<'p, 't>(&'p self, worker: &'t mut Worker, proxy: &'t dyn Inputs) -> Turn<'p, 't> {
        Turn::new(self, worker, proxy)
    }

    /// What is to be kept for a later pass of a stream that ended before a response came: on an internal redirect Envoy runs
    /// the filter chain anew, on headers from which this pass may have taken the cookie.
    pub(crate) fn carry(&self, exchange: &Exchange) -> Option<Vec<u8>> {
        carried::write(&exchange.arrival, &exchange.standing)
    }

    /// The name under which [`Affinity::carry`] is kept, distinct for each scope.
    pub(crate) fn carried_name(&self) -> String {
        format!("mooring.session.{}", self.shared.scope)
    }

    /// What clients may send for the filter, and no upstream gets as it came: taken out of trailers, and of headers that cannot be read.
    pub(crate) fn not_for_upstreams(&self) -> impl Iterator<Item = &str> {
        self.internal_headers().into_iter().chain(self.token_headers())
    }

    /// Headers that are for tokens alone.
    pub(crate) fn token_headers(&self) -> impl Iterator<Item = &str> {
        let own = self.carriers().iter().filter(|carrier| carrier.owns_request_header());
        own.map(|carrier| carrier.request_header())
    }

    /// Headers that are between filter, bridge and application. Clients neither send nor get them.
    pub(crate) fn internal_headers(&self) -> [&str; 3] {
        let Policy { upstream, app, .. } = &*self.policy;
        [&upstream.header, &app.action_header.name, &app.session_header.name].map(|name| name.as_str())
    }

    /// What is taken out of the trailers of responses: those of them that are enabled, and token headers. One that is switched off is the application's own, and costs nothing.
    pub(crate) fn inward_headers(&self) -> impl Iterator<Item = &str> {
        let Policy { app, .. } = &*self.policy;
        let enabled = [true, app.action_header.enabled, app.session_header.enabled];
        let internal = self.internal_headers().into_iter().zip(enabled).filter(|(_, enabled)| *enabled);
        internal.map(|(name, _)| name).chain(self.token_headers())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
