//! What was decided on a request, in words: one closed set for the counters, the access log and the debug header.

use crate::carrier::Way;
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
        /// The answer could not change a session: not an upstream's, a 304, overtaken by the session's end, or of a request that has
        /// none and begins none.
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
        /// No token.
        None = "none",
        /// Tokens, none of them valid. The reason of the last.
        Refused(refusal: Refusal) = "refused",
        /// A valid session. There is no store, or it could add nothing, and the token is trusted.
        Token = "token",
        /// A valid session that this worker knew.
        Cache = "cache",
        /// A valid session that was looked up in the store.
        Store = "store",
        /// A valid session that the store could not confirm, and which is not trusted without it.
        Unconfirmed = "unconfirmed",
        /// What an earlier pass of the same stream found (an internal redirect).
        Redirected = "redirected",
        /// No token, and none is to be issued: it is outside the cookie's path, and did not ask for one.
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
    /// The way in which its session came, or begins.
    pub by: Way,
    /// Why another host served than the session wanted, if one did.
    pub displaced: Option<Displaced>,
}

impl Decision {
    /// Whether nothing was due that anybody would look for.
    pub fn is_plain(&self) -> bool {
        self.outcome == Outcome::Resumed || self.outcome == Outcome::Untouched && self.basis == Basis::Outside
    }

    /// The line of the access log: `<outcome> <basis>`, why another host served, and `by=<way>` where that is not the cookie.
    pub fn line(&self) -> String {
        let words = [Some(self.outcome.word()), Some(self.basis.word()), self.displaced.map(Displaced::word)];
        let line = text::joined(words.into_iter().flatten(), " ");
        let plain = matches!(self.by, Way::None | Way::Cookie);
        if plain { line } else { text::concat(&[&line, " by=", self.by.word()]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_decision_is_a_line_of_a_few_words() {
        let basis = Basis::Refused(Refusal::BadTag);
        let created = Decision { outcome: Outcome::Created, basis, by: Way::Cookie, displaced: None };
        assert_eq!(created.line(), "created bad_tag");
        let displaced = Some(Displaced::Unavailable);
        let moved = Decision { outcome: Outcome::Moved, basis: Basis::Cache, by: Way::Cookie, displaced };
        assert_eq!(moved.line(), "moved cache unavailable");
        assert_eq!(Decision { by: Way::Header, ..moved }.line(), "moved cache unavailable by=header");
    }
}
