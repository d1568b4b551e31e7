//! The rules of the `cookie` section: RFC 6265 for names and attributes, RFC 6265bis for prefixes, CHIPS for `partitioned`.

use super::reader::{Field, Object};
use crate::carrier::cookie::{Attributes, CookieCarrier, SameSite, SetCookie};
use crate::headers::is_token_byte;

/// What the section says.
pub(super) struct CookieSection {
    pub(super) carrier: CookieCarrier,
    /// Whether tokens are issued encrypted as well as signed, those of other carriers too.
    pub(super) encrypt: bool,
}

const MEMBERS: [&str; 10] =
    ["name", "path", "domain", "secure", "http_only", "same_site", "partitioned", "persistent", "encrypt", "forward"];

pub(super) fn read(config: &Object<'_>) -> Option<CookieSection> {
    let cookie = config.section("cookie", &MEMBERS)?;
    let attributes = read_attributes(&cookie);
    let name = cookie.read_if_given("name", |field| read_name(&field));
    let persistent = cookie.read("persistent", false, |field| field.bool());
    let encrypt = cookie.read("encrypt", true, |field| field.bool());
    let forward = cookie.read("forward", false, |field| field.bool());

    let (attributes, name) = (attributes?, name?);
    let name = name.unwrap_or_else(|| default_name(&attributes));
    if let Some(field) = cookie.get("name") {
        check_prefix(&field, name, &attributes)?;
    }
    let set_cookie = SetCookie::new(name, &attributes);
    let carrier = CookieCarrier { set_cookie, path: attributes.path, persistent: persistent?, forward: forward? };
    Some(CookieSection { carrier, encrypt: encrypt? })
}

fn read_attributes(cookie: &Object<'_>) -> Option<Attributes> {
    let path = cookie.read("path", "/", |field| read_path(&field));
    let domain = cookie.read_or_off("domain", |field| read_domain(&field));
    let secure = cookie.read("secure", true, |field| field.bool());
    let http_only = cookie.read("http_only", true, |field| field.bool());
    let same_site = cookie.read("same_site", SameSite::Lax, |field| field.word());
    let partitioned = cookie.read("partitioned", false, |field| field.bool());

    if let (Some(false), Some(SameSite::None), Some(field)) = (secure, same_site, cookie.get("same_site")) {
        field.error::<()>("none needs secure; accepted is none with \"secure\": true, or another value");
    }
    if let (Some(false), Some(true), Some(field)) = (secure, partitioned, cookie.get("partitioned")) {
        field.error::<()>("needs secure; accepted is true with \"secure\": true, or false");
    }
    Some(Attributes {
        path: path?.into(),
        domain: domain?.map(Into::into),
        secure: secure?,
        http_only: http_only?,
        same_site: same_site?,
        partitioned: partitioned?,
    })
}

/// Browsers hold a `__Host-` cookie to the host that set it, over TLS: the best name where the attributes allow it.
fn default_name(attributes: &Attributes) -> &'static str {
    let host_only = attributes.secure && attributes.path == "/" && attributes.domain.is_none();
    if host_only { "__Host-mooring" } else { "mooring" }
}

fn read_name<'a>(field: &Field<'a>) -> Option<&'a str> {
    let accepted = "a cookie name: 1 to 128 characters of an RFC 6265 token (letters, digits and !#$%&'*+-.^_`|~)";
    let name = field.string(accepted)?;
    let fits = (1..=128).contains(&name.len()) && name.bytes().all(is_token_byte);
    if fits { Some(name) } else { field.error(format!("is not a cookie name; accepted is {accepted}")) }
}

fn read_path<'a>(field: &Field<'a>) -> Option<&'a str> {
    let accepted = "a path of up to 1024 characters that begins with / and has visible ASCII characters other than ;";
    let path = field.string(accepted)?;
    let fits = path.starts_with('/') && path.len() <= 1024 && path.bytes().all(|b| b.is_ascii_graphic() && b != b';');
    if fits { Some(path) } else { field.error(format!("is not a cookie path; accepted is {accepted}")) }
}

fn read_domain<'a>(field: &Field<'a>) -> Option<&'a str> {
    let accepted = "a host name (no IP address) without a leading dot, or null";
    let domain = field.string(accepted)?;
    let label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_address =
        domain.as_bytes().rsplit(|b| *b == b'.').next().is_some_and(|last| last.iter().all(u8::is_ascii_digit));
    let fits = domain.len() <= 253 && domain.split('.').all(label) && !is_address;
    if fits { Some(domain) } else { field.error(format!("is not a cookie domain; accepted is {accepted}")) }
}

/// Browsers drop a cookie whose name promises attributes that it does not have. They compare prefixes without regard to case.
fn check_prefix(field: &Field<'_>, name: &str, attributes: &Attributes) -> Option<()> {
    let has = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if has("__Host-") && !(attributes.secure && attributes.path == "/" && attributes.domain.is_none()) {
        return field.error("begins with __Host-; accepted with \"secure\": true, \"path\": \"/\" and no domain");
    }
    if (has("__Secure-") || has("__Http-")) && !attributes.secure {
        return field.error("begins with __Secure- or __Http-; accepted with \"secure\": true");
    }
    if (has("__Http-") || has("__Host-Http-")) && !attributes.http_only {
        return field.error("begins with __Http- or __Host-Http-; accepted with \"http_only\": true");
    }
    Some(())
}
