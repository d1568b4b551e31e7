//! What a request of the REST contract may say: keys, values, times to live and conditions, each read into a type that holds its
//! rule. No I/O here.

use axum::body::Bytes;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use sha1::{Digest as _, Sha1};
use store_contract::{MAX_TTL, MAX_VALUE, TTL_HEADER, is_namespace, namespace_of};

const KEY_RULE: Refusal =
    Refusal(StatusCode::BAD_REQUEST, "a key is a namespace, a colon, and 43 of A-Z a-z 0-9 _ - (SHA-256 in base64url)");
const NAMESPACE_RULE: Refusal =
    Refusal(StatusCode::FORBIDDEN, "the key's namespace is not served here; --namespace names those that are");
const TTL_RULE: Refusal =
    Refusal(StatusCode::BAD_REQUEST, "Mooring-TTL is required, once: whole seconds, 1 to 40000000");
const VALUE_RULE: Refusal = Refusal(StatusCode::BAD_REQUEST, "a value is 1 to 4096 bytes of visible ASCII");
const CONDITION_RULE: Refusal =
    Refusal(StatusCode::BAD_REQUEST, "a condition is If-None-Match: * or If-Match: with one strong etag, not both");
const CONDITION_MISSING: Refusal = Refusal(
    StatusCode::PRECONDITION_REQUIRED,
    "a PUT needs If-None-Match: * to create, or If-Match: with one strong etag to replace",
);
/// A value is longer than [`MAX_VALUE`].
pub(crate) const VALUE_TOO_LONG: Refusal =
    Refusal(StatusCode::PAYLOAD_TOO_LARGE, "a value is 1 to 4096 bytes of visible ASCII");

/// A request that breaks a rule: the status, and one line that says the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub StatusCode, pub &'static str);

/// The namespaces whose keys are served: what else is in the same Redis is nobody's business here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespaces(Vec<String>);

impl Namespaces {
    /// These; `None` where there is none, or one is not 1 to 64 of `[A-Za-z0-9_.-]`, the rule of the plugin's `store.namespace`.
    pub(crate) fn new(names: Vec<String>) -> Option<Self> {
        (!names.is_empty() && names.iter().all(|name| is_namespace(name))).then_some(Self(names))
    }

    /// A key of the first of them that no session can have, to try with whether a backend takes writes.
    pub(crate) fn probe(&self) -> String {
        self.0.iter().take(1).map(|name| format!("{name}:probe")).collect()
    }

    fn serve(&self, namespace: &str) -> bool {
        self.0.iter().any(|name| name == namespace)
    }
}

/// The name of a session: a namespace that is served, a colon, and 43 of `[A-Za-z0-9_-]`. Never logged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SessionKey(String);

impl SessionKey {
    /// The rule of keys, to refuse with.
    pub(crate) const RULE: Refusal = KEY_RULE;

    /// Reads a key, percent-decoded.
    ///
    /// # Errors
    /// When it breaks the rule.
    pub(crate) fn parse(text: String, namespaces: &Namespaces) -> Result<Self, Refusal> {
        let namespace = namespace_of(&text).ok_or(KEY_RULE)?;
        if namespaces.serve(namespace) { Ok(Self(text)) } else { Err(NAMESPACE_RULE) }
    }

    /// The key as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a session's key leads to: opaque to the store. Never logged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Value(Bytes);

impl Value {
    /// Reads a value that a client sends: 1 to 4096 bytes of visible ASCII. The empty string is what a tombstone is in Redis.
    ///
    /// # Errors
    /// When it breaks the rule.
    pub(crate) fn parse(bytes: Bytes) -> Result<Self, Refusal> {
        if bytes.len() > MAX_VALUE {
            return Err(VALUE_TOO_LONG);
        }
        let good = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic);
        if good { Ok(Self(bytes)) } else { Err(VALUE_RULE) }
    }

    /// A value that a backend holds. What somebody else wrote there is passed on, for the client to refuse; `None` when it is too long.
    pub(crate) fn stored(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() <= MAX_VALUE).then(|| Self(bytes.into()))
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, as a body.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The etag of this value.
    pub(crate) fn etag(&self) -> ETag {
        ETag::of(&self.0)
    }
}

/// A strong etag, without its quotes. That of a value is the SHA-1 of the value in lower-case hex, which Lua in Redis can compute too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ETag(String);

impl ETag {
    /// The etag of a value.
    pub(crate) fn of(value: &[u8]) -> Self {
        Self(lower_case_sha1(value))
    }

    /// The etag as text, without its quotes.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The etag as a header's value.
    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("\"{}\"", self.0)).ok()
    }

    /// Reads one strong etag; `None` for a weak one, a list, `*` and anything else.
    fn parse(header: &HeaderValue) -> Option<Self> {
        let etag = header.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?;
        (!etag.contains(['"', ' ', '\t'])).then(|| Self(etag.to_owned()))
    }
}

/// The SHA-1 of some bytes, in lower-case hex: `redis.sha1hex`, and the name of a script in Redis.
pub(crate) fn lower_case_sha1(bytes: &[u8]) -> String {
    let digits = |byte: u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default());
    Sha1::digest(bytes).into_iter().flat_map(digits).collect()
}

/// How long what is written lives: 1 to 40,000,000 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ttl(u32);

impl Ttl {
    /// Reads `Mooring-TTL`.
    ///
    /// # Errors
    /// When it is missing, there more than once, or breaks the rule.
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = only(headers, TTL_HEADER).and_then(|header| header.to_str().ok()).ok_or(TTL_RULE)?;
        // `parse` alone would accept a sign.
        let seconds: u32 =
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().ok_or(TTL_RULE)?;
        if (1..=MAX_TTL).contains(&seconds) { Ok(Self(seconds)) } else { Err(TTL_RULE) }
    }

    /// Whole seconds.
    pub(crate) fn seconds(self) -> u32 {
        self.0
    }
}

/// What must hold for a PUT to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `If-None-Match: *`: nothing is there.
    Absent,
    /// `If-Match`: the value that is there has this etag.
    Matches(ETag),
}

impl Condition {
    /// Reads the condition of a PUT.
    ///
    /// # Errors
    /// When there is none, there are both, or it is not one that the contract knows.
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, Refusal> {
        match (headers.contains_key(IF_NONE_MATCH), headers.contains_key(IF_MATCH)) {
            (false, false) => Err(CONDITION_MISSING),
            (true, true) => Err(CONDITION_RULE),
            (true, false) => {
                only(headers, IF_NONE_MATCH).filter(|header| *header == "*").map(|_| Self::Absent).ok_or(CONDITION_RULE)
            }
            (false, true) => only(headers, IF_MATCH).and_then(ETag::parse).map(Self::Matches).ok_or(CONDITION_RULE),
        }
    }
}

/// The header of this name, if there is exactly one line of it.
fn only(headers: &HeaderMap, name: impl axum::http::header::AsHeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_is_a_namespace_and_43_of_base64url() {
        let namespaces = Namespaces::new(vec!["mooring".to_owned(), "shop.1".to_owned()]).unwrap();
        let parse = |text: String| SessionKey::parse(text, &namespaces).err();
        let digest = "Az09-_".to_owned() + &"k".repeat(37);
        assert_eq!(parse(format!("mooring:{digest}")), None);
        assert_eq!(parse(format!("shop.1:{digest}")), None);
        for namespace in ["moorin", "mooring2", "Mooring", "shop-1"] {
            assert_eq!(parse(format!("{namespace}:{digest}")), Some(NAMESPACE_RULE), "{namespace}");
        }
        for bad in ["", "a", &digest, &format!(":{digest}"), "mooring:", "mooring:probe", &namespaces.probe()] {
            assert_eq!(parse(bad.to_owned()), Some(KEY_RULE), "{bad}");
        }
        for bad in [format!("{digest}k"), digest.replace('A', ":"), digest.replace('A', "é"), digest.replace('A', "\n")]
        {
            assert_eq!(parse(format!("mooring:{bad}")), Some(KEY_RULE), "{bad:?}");
        }
    }

    #[test]
    fn a_namespace_is_what_the_plugin_takes_for_one() {
        let new = |names: &[&str]| Namespaces::new(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(new(&["a", &"n".repeat(64), "A_z.0-9"]).unwrap().probe(), "a:probe");
        for bad in [&[][..], &[""], &["a:b"], &["a*"], &["é"], &["a", ""], &[&"n".repeat(65)]] {
            assert_eq!(new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_value_is_1_to_4096_bytes_of_visible_ascii() {
        assert!(Value::parse(Bytes::from(vec![b'!'; 4096])).is_ok());
        assert_eq!(Value::parse(Bytes::from(vec![b'!'; 4097])).err(), Some(VALUE_TOO_LONG));
        for bad in ["", "a b", "a\n", "é", "a\u{7f}"] {
            assert_eq!(Value::parse(Bytes::from(bad)).err(), Some(VALUE_RULE), "{bad:?}");
        }
    }

    #[test]
    fn the_etag_of_a_value_is_what_lua_computes() {
        assert_eq!(ETag::of(b"abc").as_str(), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn a_ttl_is_whole_seconds() {
        for (text, seconds) in [("1", 1), ("40000000", 40_000_000), ("0060", 60)] {
            assert_eq!(Ttl::parse(&headers(&[(TTL_HEADER, text)])).unwrap().seconds(), seconds);
        }
        for bad in ["", "0", "-1", "+1", "1.5", "1s", "0x10", "40000001", "99999999999999999999", " ", "1,1"] {
            assert!(Ttl::parse(&headers(&[(TTL_HEADER, bad)])).is_err(), "{bad:?}");
        }
        assert!(Ttl::parse(&HeaderMap::new()).is_err());
        assert!(Ttl::parse(&headers(&[(TTL_HEADER, "1"), (TTL_HEADER, "1")])).is_err());
    }

    #[test]
    fn a_condition_is_one_of_two() {
        let parse = |lines: &[_]| Condition::parse(&headers(lines));
        assert_eq!(parse(&[("if-none-match", "*")]), Ok(Condition::Absent));
        assert_eq!(parse(&[("if-match", "\"a\"")]), Ok(Condition::Matches(ETag("a".to_owned()))));
        assert_eq!(parse(&[]), Err(CONDITION_MISSING));
        for bad in ["", "*", "a", "\"", "W/\"a\"", "\"a\", \"b\"", "\"a\",\"b\"", "\"a", "a\""] {
            assert_eq!(parse(&[("if-match", bad)]), Err(CONDITION_RULE), "{bad}");
        }
        for bad in ["", "\"a\"", "*, *", "\"*\""] {
            assert_eq!(parse(&[("if-none-match", bad)]), Err(CONDITION_RULE), "{bad}");
        }
        assert_eq!(parse(&[("if-match", "\"a\""), ("if-none-match", "*")]), Err(CONDITION_RULE));
        assert_eq!(parse(&[("if-match", "\"a\""), ("if-match", "\"a\"")]), Err(CONDITION_RULE));
    }
}
