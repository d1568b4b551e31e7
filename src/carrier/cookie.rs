//! The affinity cookie (RFC 6265): finding it in a request, taking it out of one, and rendering `Set-Cookie`.
//!
//! Works on bytes, in time linear in the header, and never decodes a value.

mod set_cookie;

use super::{Carrier, Lines, MAX_CANDIDATES, Way, first};
use crate::headers::{Edit, Headers};
use memchr::memchr;
pub use set_cookie::{Attributes, SameSite, SetCookie};

/// The affinity cookie, as the config wants it.
#[derive(Clone, Debug)]
pub struct CookieCarrier {
    /// Renders its `Set-Cookie` lines and knows its name.
    pub set_cookie: SetCookie,
    /// Where it belongs. Requests of other paths have no session of it.
    pub path: String,
    /// Whether it outlives the browser's session (`Max-Age`).
    pub persistent: bool,
    /// Whether the upstream may see it.
    pub forward: bool,
}

impl Carrier for CookieCarrier {
    fn way(&self) -> Way {
        Way::Cookie
    }

    fn request_header(&self) -> &str {
        "cookie"
    }

    fn owns_request_header(&self) -> bool {
        false
    }

    fn covers(&self, target: &[u8]) -> bool {
        path_matches(&self.path, target)
    }

    fn tokens<'a>(&self, lines: Lines<'_, 'a>) -> [Option<&'a [u8]>; MAX_CANDIDATES] {
        let name = self.set_cookie.name();
        first(lines.iter().flat_map(|line| values(line, name)))
    }

    fn may_begin(&self, _: Lines<'_, '_>) -> bool {
        true
    }

    fn strip<'c>(&'c self, lines: Lines<'_, '_>, edits: &mut Vec<Edit<'c>>) {
        if self.forward {
            return;
        }
        let name = self.set_cookie.name();
        let mut all = lines.iter();
        // As a rule there is one line, over HTTP/2 as well: Envoy joins them.
        if let (Some(only), None) = (all.next(), all.next()) {
            match without(only, name) {
                Removed::Untouched => {}
                Removed::Rest(rest) => edits.push(Edit::Set("cookie", rest)),
                Removed::Nothing => edits.push(Edit::Remove("cookie")),
            }
            return;
        }
        let left: Vec<_> = lines.iter().map(|line| (line, without(line, name))).collect();
        if left.iter().all(|(_, removed)| *removed == Removed::Untouched) {
            return;
        }
        // Setting a header leaves one line of it, so they are removed and added again.
        edits.push(Edit::Remove("cookie"));
        edits.extend(left.into_iter().filter_map(|(line, removed)| match removed {
            Removed::Untouched => Some(Edit::Add("cookie", line.into())),
            Removed::Rest(rest) => Some(Edit::Add("cookie", rest)),
            Removed::Nothing => None,
        }));
    }

    fn issue<'c>(&'c self, token: &str, max_age: u64, _: &Headers, edits: &mut Vec<Edit<'c>>) {
        let line = self.set_cookie.issue(token, Some(max_age).filter(|_| self.persistent));
        edits.push(Edit::Add("set-cookie", line.into_bytes()));
    }

    fn describe(&self) -> String {
        self.set_cookie.name().into()
    }

    fn clear<'c>(&'c self, _: &Headers, edits: &mut Vec<Edit<'c>>) {
        edits.push(Edit::Add("set-cookie", self.set_cookie.clear().into_bytes()));
    }
}

/// The values of the cookies called `name` in one `Cookie` line, in order, without white space and double quotes around them.
///
/// Names are compared byte for byte (RFC 6265, section 5.4). A pair without `=` has no name.
pub fn values<'a>(line: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    pairs(line).filter_map(move |pair| value_of(pair, name))
}

/// What is left of a `Cookie` line without the cookies called `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// None was there.
    Untouched,
    /// Every other byte of the line.
    Rest(Vec<u8>),
    /// Nothing else was there: the line goes.
    Nothing,
}

/// Takes the cookies called `name`, whatever their values, out of one `Cookie` line.
/// A pair goes with the `;` behind it, or, at the end, with the one before it.
pub fn without(line: &[u8], name: &str) -> Removed {
    // What stays up to the first of ours: each pair with its `;`.
    let mut before: usize = 0;
    let mut pairs = pairs(line);
    loop {
        match pairs.next() {
            Some(pair) if value_of(pair, name).is_some() => break,
            Some(pair) => before = before.saturating_add(pair.len()).saturating_add(1),
            None => return Removed::Untouched,
        }
    }
    let mut rest = Vec::with_capacity(line.len());
    rest.extend_from_slice(line.get(..before).unwrap_or_default());
    for pair in pairs.filter(|pair| value_of(pair, name).is_none()) {
        rest.extend_from_slice(pair);
        rest.push(b';');
    }
    // The last one's.
    rest.pop();
    match trim(&rest) {
        [] => Removed::Nothing,
        trimmed if trimmed.len() == rest.len() => Removed::Rest(rest),
        trimmed => Removed::Rest(trimmed.to_vec()),
    }
}

/// Whether a cookie with the path `cookie_path` belongs to a request for `target`: a path, and perhaps a query
/// (RFC 6265, section 5.1.4).
pub fn path_matches(cookie_path: &str, target: &[u8]) -> bool {
    match target.strip_prefix(cookie_path.as_bytes()) {
        // What is no path is no prefix of one.
        Some(_) if cookie_path.contains(['?', '#']) => false,
        Some(rest) => cookie_path.ends_with('/') || matches!(rest, [] | [b'/' | b'?' | b'#', ..]),
        None => false,
    }
}

/// The pieces of a line between its `;`.
fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let (pair, after) = match memchr(b';', line).and_then(|at| line.split_at_checked(at)) {
            Some((pair, after)) => (pair, after.split_first().map(|(_, after)| after)),
            None => (line, None),
        };
        rest = after;
        Some(pair)
    })
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = trim(pair).strip_prefix(name.as_bytes())?;
    let value = trim(trim(value).strip_prefix(b"=")?);
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn found(line: &[u8]) -> Vec<&[u8]> {
        values(line, "mooring").collect()
    }

    #[test]
    fn a_cookie_is_found_wherever_it_stands() {
        for line in [
            &b"mooring=t"[..],
            b"a=1; mooring=t",
            b"a=1;mooring=t;b=2",
            b"a=1 ;\t mooring = t ; b=2",
            b"mooring=\"t\"",
            b";; mooring=t;;",
            b"a=\xff; mooring=t; \x80",
            b"a=\"x; mooring=t; y\"",
        ] {
            assert_eq!(found(line), [b"t"], "{line:?}");
        }
    }

    #[test]
    fn another_cookie_is_not_taken_for_ours() {
        for line in [
            &b""[..],
            b";;",
            b"mooring",
            b"=mooring",
            b"xmooring=t",
            b"mooringx=t",
            b"Mooring=t",
            b"a=mooring=t",
            b"a=1, mooring=t",
            b"mooring t=1",
        ] {
            assert_eq!(found(line), [b""; 0], "{line:?}");
        }
    }

    #[test]
    fn every_value_of_the_name_is_given_as_it_stands() {
        assert_eq!(
            found(b"mooring=; mooring=a=b; mooring=\"; mooring=\"\"; mooring=\"x"),
            [&b""[..], b"a=b", b"\"", b"", b"\"x"]
        );
    }

    #[test]
    fn taking_ours_out_leaves_every_other_byte() {
        let rest = |line: &[u8]| match without(line, "mooring") {
            Removed::Rest(rest) => rest,
            Removed::Untouched | Removed::Nothing => panic!("nothing is left of {line:?}"),
        };
        for (line, left) in [
            (&b"a=1; mooring=t"[..], &b"a=1"[..]),
            (b"mooring=t; a=1", b"a=1"),
            (b"a=1; mooring=t; b=2", b"a=1; b=2"),
            (b"a=1;mooring=t;b=2", b"a=1;b=2"),
            (b"a=1;; mooring=t ;\tb = 2", b"a=1;;\tb = 2"),
            (b"mooring=t; a=\xff; mooring=u; mooring=", b"a=\xff"),
            (b"mooring; mooring=t", b"mooring"),
        ] {
            assert_eq!(rest(line), left, "{line:?}");
        }
    }

    #[test]
    fn a_path_matches_itself_and_what_is_below() {
        for (cookie_path, target, matches) in [
            ("/", "/", true),
            ("/", "/a/b?c", true),
            ("/shop", "/shop", true),
            ("/shop", "/shop/", true),
            ("/shop", "/shop/cart?x=/", true),
            ("/shop", "/shop?x", true),
            ("/shop/", "/shop/cart", true),
            ("/shop/", "/shop", false),
            ("/shop", "/shopping", false),
            ("/shop", "/", false),
            ("/shop", "/a?/shop", false),
            ("/shop", "/SHOP", false),
            ("/shop", "/shop#/x", true),
            ("/", "?", false),
            ("/a?b", "/a?b", false),
            ("/a?b/", "/a?b/c", false),
        ] {
            assert_eq!(path_matches(cookie_path, target.as_bytes()), matches, "{cookie_path} {target}");
        }
    }

    #[test]
    fn a_line_with_nothing_else_goes_and_one_without_ours_stays() {
        assert_eq!(without(b"mooring=t", "mooring"), Removed::Nothing);
        assert_eq!(without(b" mooring=t ", "mooring"), Removed::Nothing);
        assert_eq!(without(b"a=1; moorings=t", "mooring"), Removed::Untouched);
        assert_eq!(without(b"", "mooring"), Removed::Untouched);
        assert_eq!(without(b"; mooring=t", "mooring"), Removed::Nothing);
        assert_eq!(without(b"; ; mooring=t", "mooring"), Removed::Rest(b";".to_vec()));
    }
}
