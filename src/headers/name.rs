//! Names of header fields (RFC 9110, section 5.1).

use std::fmt;

/// A header's name, in lower case as Envoy keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderName(Box<str>);

/// Headers that carry HTTP itself: taking one of them over would break requests.
const TAKEN: [&str; 14] = [
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "location",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HeaderName {
    /// What is accepted, for error messages.
    pub const FORM: &str = "a header name (RFC 9110 token) that HTTP itself does not use";

    /// Takes a name. `None` unless it is a token and not one that HTTP needs for itself.
    pub fn new(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let fits = (1..=128).contains(&lower.len()) && lower.bytes().all(is_token_byte) && !TAKEN.contains(&&*lower);
        fits.then(|| Self(lower.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A byte of a token: RFC 9110, section 5.6.2, and the same for cookie names in RFC 6265, section 4.1.1.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
