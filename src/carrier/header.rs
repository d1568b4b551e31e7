//! A token in a header of requests and responses, for clients that keep no cookies: gRPC, mobile applications, services.
//!
//! The header is a list (RFC 9110, section 5.6.1), as with any that a proxy may fold: each element may be a token. Sent empty, it asks
//! for one.

use super::{Carrier, Lines, MAX_CANDIDATES, Way, first};
use crate::headers::{Edit, HeaderName, Headers, elements};
use crate::text;
use crate::text::words::closed_set;

/// What names the response headers that scripts of other origins may read (the Fetch standard, section 3.3.3).
const EXPOSED: &str = "access-control-expose-headers";

closed_set! {
    /// To whom a token is issued that has no session yet.
    pub enum IssueTo {
        /// To clients that send the header, empty or with a token that is not valid any more.
        WhenAsked = "when_asked",
        /// To every client.
        Always = "always",
    }
}

/// The header, as the config wants it.
#[derive(Clone, Debug)]
pub struct HeaderCarrier {
    /// Its name, in requests and responses.
    pub name: HeaderName,
    /// Who gets a token.
    pub issue: IssueTo,
    /// Whether scripts of other origins may read it, where a response lets them read any.
    pub expose: bool,
}

impl Carrier for HeaderCarrier {
    fn way(&self) -> Way {
        Way::Header
    }

    fn request_header(&self) -> &str {
        self.name.as_str()
    }

    fn owns_request_header(&self) -> bool {
        true
    }

    fn covers(&self, _: &[u8]) -> bool {
        true
    }

    fn tokens<'a>(&self, lines: Lines<'_, 'a>) -> [Option<&'a [u8]>; MAX_CANDIDATES] {
        first(lines.iter().flat_map(elements))
    }

    fn may_begin(&self, lines: Lines<'_, '_>) -> bool {
        match self.issue {
            IssueTo::WhenAsked => lines.iter().next().is_some(),
            IssueTo::Always => true,
        }
    }

    fn strip<'c>(&'c self, lines: Lines<'_, '_>, edits: &mut Vec<Edit<'c>>) {
        if lines.iter().next().is_some() {
            edits.push(Edit::Remove(self.name.as_str()));
        }
    }

    fn issue<'c>(&'c self, token: &str, _: u64, response: &Headers, edits: &mut Vec<Edit<'c>>) {
        edits.push(Edit::Set(self.name.as_str(), token.into()));
        self.expose_in(response, edits);
    }

    fn describe(&self) -> String {
        let to = match self.issue {
            IssueTo::WhenAsked => ", issued to clients that send it",
            IssueTo::Always => ", issued to every client",
        };
        let exposed = if self.expose { ", exposed to scripts of other origins" } else { "" };
        text::concat(&[self.name.as_str(), to, exposed])
    }

    fn clear<'c>(&'c self, response: &Headers, edits: &mut Vec<Edit<'c>>) {
        edits.push(Edit::Set(self.name.as_str(), Vec::new()));
        self.expose_in(response, edits);
    }
}

impl HeaderCarrier {
    /// Adds the name to those that scripts of other origins may read, where there are any.
    fn expose_in<'c>(&'c self, response: &Headers, edits: &mut Vec<Edit<'c>>) {
        let mut exposed = response.values(EXPOSED).peekable();
        let is_ours = |name: &[u8]| name.eq_ignore_ascii_case(self.name.as_str().as_bytes());
        if self.expose && exposed.peek().is_some() && !exposed.flat_map(elements).any(is_ours) {
            edits.push(Edit::Add(EXPOSED, self.name.as_str().into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn carrier(issue: IssueTo, expose: bool) -> HeaderCarrier {
        HeaderCarrier { name: HeaderName::new("x-session-token").unwrap(), issue, expose }
    }

    fn tokens(lines: &[&'static [u8]]) -> Vec<&'static [u8]> {
        let selected: Vec<_> = lines.iter().map(|line| (1, *line)).chain([(0, &b"other"[..])]).collect();
        carrier(IssueTo::WhenAsked, false).tokens(Lines::of(&selected, 1)).into_iter().flatten().collect()
    }

    #[test]
    fn every_element_of_every_line_may_be_a_token_and_four_are_looked_at() {
        assert_eq!(tokens(&[b"a"]), [b"a"]);
        assert_eq!(tokens(&[b" a ,\t,b", b"c"]), [b"a", b"b", b"c"]);
        assert_eq!(tokens(&[b"a,b,c,d,e"]).len(), MAX_CANDIDATES);
        for empty in [&[][..], &[&b""[..]], &[b" ", b",,"]] {
            assert_eq!(tokens(empty), [b""; 0]);
        }
    }

    #[test]
    fn a_session_begins_for_who_sends_the_header_or_for_all() {
        let sent = [(0, &b""[..])];
        let asks = carrier(IssueTo::WhenAsked, false);
        assert!(asks.may_begin(Lines::of(&sent, 0)) && !asks.may_begin(Lines::of(&sent, 1)));
        assert!(carrier(IssueTo::Always, false).may_begin(Lines::of(&[], 0)));
    }

    #[test]
    fn the_name_is_exposed_once_and_only_where_names_are() {
        let exposes = |expose, lines: &[&str]| {
            let response = Headers::from_pairs(lines.iter().map(|line| (EXPOSED.as_bytes(), line.as_bytes())));
            let carrier = carrier(IssueTo::Always, expose);
            let mut edits = Vec::new();
            carrier.issue("t", 1, &response, &mut edits);
            assert_eq!(edits.first(), Some(&Edit::Set("x-session-token", b"t".into())));
            let mut cleared = Vec::new();
            carrier.clear(&response, &mut cleared);
            assert_eq!(cleared.get(1), edits.get(1), "what is taken away is exposed too");
            edits.get(1).is_some_and(|edit| *edit == Edit::Add(EXPOSED, b"x-session-token".into()))
        };
        assert!(exposes(true, &["x-a"]) && exposes(true, &["x-a, x-b", "x-c"]) && exposes(true, &[""]));
        assert!(!exposes(true, &[]) && !exposes(true, &["x-a, X-Session-Token"]) && !exposes(false, &["x-a"]));
    }
}
