//! The REST contract between proxies and the session store (`docs/store.md`): the names, shapes and bounds that both sides must have
//! alike.
#![warn(unreachable_pub)]

/// The beginning of the path of every session; its key follows.
pub const SESSIONS: &str = "/v1/sessions/";

/// What follows the path of a session that is to be touched.
pub const TOUCH: &str = "/touch";

/// The header that says how long what is written lives, in whole seconds, 1 to [`MAX_TTL`].
pub const TTL_HEADER: &str = "mooring-ttl";

/// The longest time to live, in seconds: more than a year.
pub const MAX_TTL: u32 = 40_000_000;

/// The most that a value holds, in bytes of visible ASCII.
pub const MAX_VALUE: usize = 4096;

/// The longest token, in characters of visible ASCII.
pub const MAX_TOKEN: usize = 1024;

/// The namespace of keys where none is configured.
pub const DEFAULT_NAMESPACE: &str = "mooring";

/// The longest namespace, in bytes.
pub const MAX_NAMESPACE: usize = 64;

/// What stands in a key between its namespace and its digest.
pub const KEY_SEPARATOR: &str = ":";

/// The length of a key's digest: SHA-256 in base64url, without padding.
pub const DIGEST_LENGTH: usize = 43;

/// Whether a namespace may have this byte.
pub fn is_of_namespace(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)
}

/// Whether a text may be a namespace: 1 to [`MAX_NAMESPACE`] bytes of `[A-Za-z0-9_.-]`.
pub fn is_namespace(text: &str) -> bool {
    (1..=MAX_NAMESPACE).contains(&text.len()) && text.bytes().all(is_of_namespace)
}

/// The namespace of a key, `None` where it has not the form of one: a namespace, [`KEY_SEPARATOR`], a digest.
pub fn namespace_of(key: &str) -> Option<&str> {
    let (namespace, digest) = key.split_once(KEY_SEPARATOR)?;
    let is_of_digest = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let fits = digest.len() == DIGEST_LENGTH && digest.bytes().all(is_of_digest);
    (fits && is_namespace(namespace)).then_some(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_namespace_and_a_digest() {
        let digest = "AbC_-fghijklmnopqrstuvwxyz0123456789ABCDEFG";
        assert_eq!(namespace_of(&format!("mooring:{digest}")), Some("mooring"));
        assert_eq!(namespace_of(&format!("a.b_c-1:{digest}")), Some("a.b_c-1"));
        let (long, short) = (format!("mooring:{digest}x"), format!("mooring:{}", digest.replace("Ab", "A")));
        let unnamed = format!(":{digest}");
        for bad in ["", "mooring", "mooring:", "mooring:probe", &long, &short, &unnamed, digest] {
            assert_eq!(namespace_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_namespace_is_1_to_64_of_what_urls_and_redis_leave_alone() {
        assert!(is_namespace(DEFAULT_NAMESPACE) && is_namespace(&"n".repeat(64)));
        for bad in ["", "a b", "a:b", "a/b", "é", "*", &"n".repeat(65)] {
            assert!(!is_namespace(bad), "{bad}");
        }
    }
}
