//! Configurations: any bytes are read or refused, what is accepted keeps every documented range, and no secret is told.
//!
//! An input is the plugin's JSON. The saved ones come from `docs/configuration.md`; the environment has the variables that these
//! name.

use crate::keys;
use mooring::carrier::cookie::CookieCarrier;
use mooring::config::AccessToken;
use mooring::config::Protocol;
use mooring::config::{Config, ConfigErrors, CreateWhen, Failover, OnMissing, Via, WriteMode};
use std::time::Duration;

const DAY: u32 = 24 * 60 * 60;

/// Checks an input.
pub fn check(data: &[u8]) {
    let parsed = parse(data, 0, "user:first");
    match &parsed {
        Ok(config) => in_range(config),
        Err(errors) => bounded(errors, data.len()),
    }
    // The same configuration with other secrets reads the same: nothing that is shown depends on them.
    let other = parse(&with_other_secrets(data), 1, "user:other");
    assert_eq!(shown(&parsed), shown(&other));
}

fn parse(json: &[u8], key: usize, token: &str) -> Result<Config, ConfigErrors> {
    Config::parse(json, &|name| match name {
        "MOORING_KEY_2026_11" => Some(keys::secret_text(key).into_bytes()),
        "MOORING_KEY_2026_10" => Some(keys::secret_text(key + 2).into_bytes()),
        "STORE_TOKEN" => Some(token.into()),
        _ => None,
    })
}

fn shown(parsed: &Result<Config, ConfigErrors>) -> String {
    match parsed {
        Ok(config) => format!("{config:?}"),
        Err(errors) => format!("{errors} {errors:?}"),
    }
}

/// Puts other letters into what stands under `base64` and `text`, so that it stays base64 and as long as it was.
fn with_other_secrets(json: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuv";
    let mut json = json.to_vec();
    let mut at = 0;
    while at < json.len() {
        let rest = &json[at..];
        let Some(member) = ["\"base64\"", "\"text\""].iter().find(|name| rest.starts_with(name.as_bytes())) else {
            at += 1;
            continue;
        };
        at += member.len();
        let opening = json[at..].iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b':');
        let Some(start) = opening.map(|skipped| at + skipped).filter(|start| json[*start] == b'"') else { continue };
        let closing = json[start + 1..].iter().position(|byte| *byte == b'"' || *byte == b'\\');
        // An escape could become something else.
        let Some(end) = closing.map(|length| start + 1 + length).filter(|end| json[*end] == b'"') else { continue };
        for byte in &mut json[start + 1..end] {
            // The low bits stay: those of the last letter may have to be 0.
            if let Some(letter) = ALPHABET.iter().position(|letter| letter == byte) {
                *byte = ALPHABET[(letter + 16) % ALPHABET.len()];
            }
        }
        at = end;
    }
    json
}

fn bounded(errors: &ConfigErrors, length: usize) {
    assert!(!errors.0.is_empty());
    assert!(errors.0.len() <= 32 + length, "{} errors of {length} bytes", errors.0.len());
    for error in &errors.0 {
        assert!(error.to_string().len() <= 512, "{error}");
    }
}

/// A byte of a token of RFC 9110, section 5.6.2.
fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn visible(text: &str, most: usize) {
    assert!((1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
}

/// A cookie that browsers take as it is meant.
fn kept_by_browsers(cookie: &CookieCarrier) {
    let name = cookie.set_cookie.name();
    assert!((1..=128).contains(&name.len()) && name.bytes().all(token));
    assert!(cookie.path.starts_with('/'));
    visible(&cookie.path, 1024);
    let line = cookie.set_cookie.issue("v", None);
    let has = |attribute: &str| line.split("; ").any(|part| part == attribute);
    assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && line.len() < 2048, "{line:?}");
    let prefixed = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if prefixed("__Host-") {
        assert!(has("Secure") && has("Path=/") && !line.contains("; Domain="), "{line}");
    }
    if prefixed("__Secure-") || has("SameSite=None") || has("Partitioned") {
        assert!(has("Secure"), "{line}");
    }
}

fn in_range(config: &Config) {
    assert!((1..=128).contains(&config.shared.scope.len()) && !config.shared.scope.contains(char::is_control));

    assert!((1..=8).contains(&config.policy.identify.len()));
    if let Some(cookie) = config.policy.cookie() {
        kept_by_browsers(cookie);
    }

    let session = &config.policy.session;
    for timeout in [session.absolute, session.idle].into_iter().flatten() {
        assert!((1..=400 * DAY).contains(&timeout));
    }
    assert!(session.clock_skew <= 3600);
    assert!((1..=1_000_000).contains(&config.shared.cache.entries));
    assert!((Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&config.shared.cache.ttl));

    let upstream = &config.policy.upstream;
    assert!(upstream.via == Via::StatefulSession || upstream.failover != Failover::None);
    let app = &config.policy.app;
    let mut headers = vec![&upstream.header, &app.action_header.name, &app.session_header.name];
    headers.extend(&config.policy.debug_header);
    for (at, header) in headers.iter().enumerate() {
        let header = header.as_str();
        assert!((1..=128).contains(&header.len()) && header.bytes().all(token), "{header}");
        assert_eq!(header, header.to_ascii_lowercase());
        assert!(!["cookie", "set-cookie", "host", "content-length", "transfer-encoding"].contains(&header));
        assert!(headers.iter().take(at).all(|earlier| earlier.as_str() != header), "{header} has two jobs");
    }

    if let Some(store) = &config.shared.store {
        assert!(session.absolute.is_some(), "a store must know when it may forget");
        if store.on_missing == OnMissing::NewSession {
            assert!((store.create, store.write) == (CreateWhen::AtOnce, WriteMode::Sync));
        }
        let gateway = &store.endpoint;
        visible(&gateway.cluster, 255);
        visible(&gateway.authority, 253);
        visible(&gateway.namespace, 64);
        assert!(gateway.namespace.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)));
        assert!((Duration::from_millis(1)..=Duration::from_secs(10)).contains(&gateway.timeout));
        if gateway.protocol == Protocol::Webdis {
            assert!(gateway.token.as_ref().is_none_or(AccessToken::is_basic));
        }
    }
}
