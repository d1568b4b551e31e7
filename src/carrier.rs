//! How clients carry a session: one seam, [`Carrier`], and what stands behind it. And what caches are told of responses that carry one.
//!
//! A new carrier is a module here, a variant of [`AnyCarrier`] and a word of [`Way`]; its settings are read in `config/identify.rs`.

pub(crate) mod cache_control;
pub mod cookie;
pub mod header;

use crate::headers::{Edit, Headers};
use crate::text::words::closed_set;
use cookie::CookieCarrier;
use header::HeaderCarrier;
use std::ops::Deref;

/// How many carriers a configuration may have.
pub const MAX_CARRIERS: usize = 8;

/// How many tokens of one carrier are looked at in one request.
pub const MAX_CANDIDATES: usize = 4;

closed_set! {
    /// The way in which a session came, or is to begin.
    pub enum Way {
        /// None: the request has no session, and none is to begin.
        None = "none",
        /// A cookie.
        Cookie = "cookie",
        /// A header of requests and responses.
        Header = "header",
    }
}

/// How a client carries its session: what Envoy's `SessionStateFactory` and `SessionState` are, for a token.
pub trait Carrier {
    /// The word for its kind.
    fn way(&self) -> Way;

    /// The request header in which tokens come, in lower case.
    fn request_header(&self) -> &str;

    /// Whether that header is for tokens alone, in requests and responses. Then no upstream gets it, and none can send it.
    fn owns_request_header(&self) -> bool;

    /// Whether a request for this target (a path, and perhaps a query) can have a session of this carrier.
    fn covers(&self, target: &[u8]) -> bool;

    /// The tokens in the lines of its request header, valid or not, in order: the first few.
    fn tokens<'a>(&self, lines: Lines<'_, 'a>) -> [Option<&'a [u8]>; MAX_CANDIDATES];

    /// Whether a new session of a client that sent these lines may begin this way.
    fn may_begin(&self, lines: Lines<'_, '_>) -> bool;

    /// Takes the tokens out of what goes to the upstream.
    fn strip<'c>(&'c self, lines: Lines<'_, '_>, edits: &mut Vec<Edit<'c>>);

    /// Gives the client a token of a session that lasts for another `max_age` seconds, beside what `response` has already.
    fn issue<'c>(&'c self, token: &str, max_age: u64, response: &Headers, edits: &mut Vec<Edit<'c>>);

    /// What it is like, in a few words for people.
    fn describe(&self) -> String;

    /// Takes the token away from the client, beside what `response` has already.
    fn clear<'c>(&'c self, response: &Headers, edits: &mut Vec<Edit<'c>>);
}

/// One of the carriers that there are.
#[derive(Clone, Debug)]
pub enum AnyCarrier {
    /// The affinity cookie.
    Cookie(CookieCarrier),
    /// A header.
    Header(HeaderCarrier),
}

impl Deref for AnyCarrier {
    type Target = dyn Carrier;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Cookie(carrier) => carrier,
            Self::Header(carrier) => carrier,
        }
    }
}

/// Some of a configuration's carriers, by their places in it: a bit for each of [`MAX_CARRIERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carriers(u8);

impl Carriers {
    /// All that there may be.
    pub(crate) const ALL: Self = Self(u8::MAX);

    /// The one at this place.
    pub(crate) fn only(place: usize) -> Self {
        Self(u32::try_from(place).ok().and_then(|place| 1_u8.checked_shl(place)).unwrap_or_default())
    }

    /// As [`Carriers::bits`] gave it.
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// One bit for each.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// These and those.
    pub(crate) fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether the one at this place is among them.
    pub(crate) fn contain(self, place: usize) -> bool {
        self.0 & Self::only(place).0 != 0
    }
}

/// The lines of one request header, among those of several that were selected.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'r, 'a> {
    selected: &'r [(usize, &'a [u8])],
    header: usize,
}

impl<'r, 'a> Lines<'r, 'a> {
    /// Those with this number.
    pub fn of(selected: &'r [(usize, &'a [u8])], header: usize) -> Self {
        Self { selected, header }
    }

    /// Their values, in order.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> + use<'r, 'a> {
        self.selected.iter().filter(move |(header, _)| *header == self.header).map(|(_, value)| *value)
    }
}

/// The first few.
pub(crate) fn first<T, const N: usize>(mut items: impl Iterator<Item = T>) -> [Option<T>; N] {
    std::array::from_fn(|_| items.next())
}
