//! What was decided on a request, in words: one closed set for the counters, the access log and the debug header.

use crate::credential::token::Refusal;
use crate::text;
use crate::text::words::closed_set;

closed_set! {
    /// What became of a request's session. One of them for each response.
    pub enum Outcome {
        /// A new session began.
        Created = "created",
        /// Nothing was due: as a rule the session was served where it wanted to go. Local replies are not told apart here.
        Resumed = "resumed",
        /// A session met a cluster for which it had no pin, and got one.
        Pinned = "pinned",
        /// A session moved to the host that served it.
        Moved = "moved",
        /// Another host served, and the session keeps its pin: `failover` says so.
        Kept = "kept",
        /// Another host served, once more: the pin is not honoured, and the session is left alone.
        PinIgnored = "pin_ignored",
        /// A renewal was due.
        Renewed = "renewed",
        /// The token was of an older key and was issued anew.
        Rekeyed = "rekeyed",
        /// The store had a newer copy than the client's cookie, which follows.
        Adopted = "adopted",
        /// The application asked for a new session id.
        Rotated = "rotated",
        /// The application ended the session.
        Ended = "ended",
        /// The application let the host go.
        Released = "released",
        /// The answer could not change a session: not an upstream's, a 304, overtaken by the session's end, or outside the
        /// cookie's path.
        Untouched = "untouched",
        /// Something that the filter needs failed; the client keeps what it has.
        Failed = "failed",
    }
}

closed_set! {
    /// Why another host served than a session wanted.
    pub enum Displaced {
        /// Envoy did not choose the host: it is unhealthy, ejected, draining, or not in the cluster any more.
        Unavailable = "unavailable",
        /// The request was sent more than once, and a retry went elsewhere.
        Retried = "retried",
    }
}

closed_set! {
    /// What a request came with.
    pub enum Basis {
        /// No cookie of ours.
        None = "none",
        /// Cookies of ours, none of them valid. The reason of the last.
        Refused(refusal: Refusal) = "refused",
        /// A valid session. There is no store, or it could add nothing, and the cookie is trusted.
        Cookie = "cookie",
        /// A valid session that this worker knew.
        Cache = "cache",
        /// A valid session that was looked up in the store.
        Store = "store",
        /// A valid session that the store could not confirm, and which is not trusted without it.
        Unconfirmed = "unconfirmed",
        /// What an earlier pass of the same stream found (an internal redirect).
        Redirected = "redirected",
        /// It is outside the cookie's path.
        Outside = "outside",
        /// It could not be read.
        Unread = "unread",
    }
}

/// What was decided on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What became of its session.
    pub outcome: Outcome,
    /// What it came with.
    pub basis: Basis,
    /// Why another host served than the session wanted, if one did.
    pub displaced: Option<Displaced>,
}

impl Decision {
    /// Whether nothing was due that anybody would look for.
    pub fn is_plain(&self) -> bool {
        self.outcome == Outcome::Resumed || self.outcome == Outcome::Untouched && self.basis == Basis::Outside
    }

    /// The line of the access log: `<outcome> <basis>`, and why another host served.
    pub fn line(&self) -> String {
        let words = [Some(self.outcome.word()), Some(self.basis.word()), self.displaced.map(Displaced::word)];
        text::joined(words.into_iter().flatten(), " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_decision_is_a_line_of_two_or_three_words() {
        let created = Decision { outcome: Outcome::Created, basis: Basis::Refused(Refusal::BadTag), displaced: None };
        assert_eq!(created.line(), "created bad_tag");
        let moved = Decision { outcome: Outcome::Moved, basis: Basis::Cache, displaced: Some(Displaced::Unavailable) };
        assert_eq!(moved.line(), "moved cache unavailable");
    }
}
