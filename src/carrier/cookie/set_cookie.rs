//! `Set-Cookie` (RFC 6265, section 4.1; RFC 6265bis for `SameSite` and prefixes; CHIPS for `Partitioned`).

use crate::text;
use crate::text::words::closed_set;

closed_set! {
    /// Which cross-site requests carry the cookie.
    pub enum SameSite {
        /// None.
        Strict = "strict",
        /// Top-level navigations with a safe method.
        Lax = "lax",
        /// All. Browsers ask for `Secure` with it.
        None = "none",
    }
}

/// The attributes of the cookie, apart from its age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// `Path`.
    pub path: String,
    /// `Domain`. `None`: the host that set it, and no other.
    pub domain: Option<String>,
    /// `Secure`.
    pub secure: bool,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Partitioned`.
    pub partitioned: bool,
}

/// Renders the `Set-Cookie` lines of one cookie. What does not change is rendered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie {
    name: String,
    suffix: String,
}

impl SetCookie {
    /// For the cookie called `name`, with `attributes` on each line.
    pub fn new(name: &str, attributes: &Attributes) -> Self {
        let mut suffix = format!("; Path={}", attributes.path);
        if let Some(domain) = &attributes.domain {
            suffix.push_str("; Domain=");
            suffix.push_str(domain);
        }
        suffix.push_str(match attributes.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        for (attribute, set) in [
            ("; Secure", attributes.secure),
            ("; HttpOnly", attributes.http_only),
            ("; Partitioned", attributes.partitioned),
        ] {
            suffix.push_str(if set { attribute } else { "" });
        }
        Self { name: name.into(), suffix }
    }

    /// The name of the cookie.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the browser a value, for `max_age` seconds or, without, until it is closed.
    pub fn issue(&self, value: &str, max_age: Option<u64>) -> String {
        let Self { name, suffix } = self;
        match max_age {
            Some(seconds) => text::concat(&[name, "=", value, "; Max-Age=", &text::decimal(seconds), suffix]),
            None => text::concat(&[name, "=", value, suffix]),
        }
    }

    /// Takes the cookie away from the browser. Same path and domain: else it would be another cookie.
    pub fn clear(&self) -> String {
        let Self { name, suffix } = self;
        text::concat(&[name, "=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT", suffix])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_attribute_of_the_config_is_rendered() {
        let all = Attributes {
            path: "/shop".into(),
            domain: Some("example.com".into()),
            secure: true,
            http_only: true,
            same_site: SameSite::None,
            partitioned: true,
        };
        let attributes = "; Path=/shop; Domain=example.com; SameSite=None; Secure; HttpOnly; Partitioned";
        let cookie = SetCookie::new("m", &all);
        assert_eq!(cookie.issue("t", None), format!("m=t{attributes}"));
        assert_eq!(cookie.issue("t", Some(60)), format!("m=t; Max-Age=60{attributes}"));
        assert_eq!(cookie.clear(), format!("m=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT{attributes}"));
    }

    #[test]
    fn what_the_config_leaves_out_is_left_out() {
        let few = Attributes {
            path: "/".into(),
            domain: None,
            secure: false,
            http_only: false,
            same_site: SameSite::Strict,
            partitioned: false,
        };
        assert_eq!(SetCookie::new("m", &few).issue("t", None), "m=t; Path=/; SameSite=Strict");
    }
}
