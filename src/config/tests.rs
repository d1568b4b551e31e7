use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// 32 bytes of `A`, and others.
const SECRET: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
const SECRET_2: &str = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI";

fn environment(name: &str) -> Option<Vec<u8>> {
    match name {
        "KEY" => Some(format!("{SECRET}\n").into_bytes()),
        "TOKEN" => Some(b"s3cret\n".to_vec()),
        "SHORT" => Some(b"QUFB".to_vec()),
        "RUBBISH" => Some(b"\xff*".to_vec()),
        _ => None,
    }
}

fn parse(json: &str) -> Result<Config, Vec<String>> {
    Config::parse(json.as_bytes(), &environment).map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

/// A config with a good key and these members.
fn with(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"keys":[{{"id":"k","secret":{{"base64":"{SECRET}"}}}}]{comma}{members}}}"#)
}

fn accepted(members: &str) -> Config {
    parse(&with(members)).unwrap_or_else(|errors| panic!("{members}: {errors:?}"))
}

/// Asserts that `json` is refused with exactly one error, which begins with `start`.
fn refused(json: &str, start: &str) {
    let errors = parse(json).map(|_| ()).unwrap_err();
    assert_eq!(errors.len(), 1, "{json}: {errors:?}");
    assert!(errors[0].starts_with(start), "{json}: {errors:?}");
    assert!(errors[0].contains("accepted"), "an error says what is accepted: {errors:?}");
}

#[test]
fn keys_are_enough_and_the_rest_has_the_documented_defaults() {
    let config = accepted("");
    assert_eq!(config.policy.cookie().unwrap().set_cookie.name(), "__Host-mooring");
    assert_eq!(
        config.policy.cookie().unwrap().set_cookie.issue("t", None),
        "__Host-mooring=t; Path=/; SameSite=Lax; Secure; HttpOnly"
    );
    assert_eq!(config.shared.scope, "__Host-mooring");
    let cookie = config.policy.cookie().unwrap();
    assert!(config.policy.encrypt && !cookie.forward && !cookie.persistent);
    assert_eq!(config.policy.session, Timeouts { absolute: Some(28_800), idle: Some(1_800), clock_skew: 60 });
    assert_eq!((config.policy.upstream.via, config.policy.upstream.failover), (Via::StatefulSession, Failover::Sticky));
    assert_eq!(config.policy.upstream.header.as_str(), "x-mooring-host");
    assert_eq!(config.shared.cache, CacheLimits { entries: 10_000, ttl: Duration::from_secs(30) });
    assert_eq!(config.policy.app.action_header.name.as_str(), "x-mooring-action");
    assert_eq!(config.policy.app.session_header.name.as_str(), "x-mooring-session");
    assert!(config.policy.app.action_header.enabled && config.policy.app.session_header.enabled);
    assert_eq!(config.policy.debug_header, None);
    assert_eq!(config.shared.store, None);
}

#[test]
fn a_store_needs_a_cluster_and_the_rest_has_the_documented_defaults() {
    let store = accepted(r#""store":{"cluster":"session_store"}"#).shared.store.clone().unwrap();
    let endpoint = Endpoint {
        protocol: Protocol::Rest,
        cluster: "session_store".into(),
        authority: "session-store".into(),
        token: None,
        namespace: "mooring".into(),
        timeout: Duration::from_millis(100),
    };
    let defaults = StoreConfig {
        endpoint,
        create: CreateWhen::OnReturn,
        on_missing: OnMissing::TrustCookie,
        on_error: OnError::TrustCookie,
        write: WriteMode::Async,
    };
    assert_eq!(store, defaults);
    assert_eq!(accepted(r#""store":null"#).shared.store, None);
}

#[test]
fn every_field_of_a_store_is_read() {
    let store = accepted(
        r#""store":{"protocol":"upstash","cluster":"c","authority":"a.example","token":{"env":"TOKEN"},"namespace":"n.1",
        "timeout":"2s","create":"at_once","on_missing":"new_session","on_error":"fail","write":"sync"}"#,
    )
    .shared
    .store
    .clone()
    .unwrap();
    let endpoint = Endpoint {
        protocol: Protocol::Upstash,
        cluster: "c".into(),
        authority: "a.example".into(),
        token: AccessToken::new(b"s3cret"),
        namespace: "n.1".into(),
        timeout: Duration::from_secs(2),
    };
    let expected = StoreConfig {
        endpoint,
        create: CreateWhen::AtOnce,
        on_missing: OnMissing::NewSession,
        on_error: OnError::Fail,
        write: WriteMode::Sync,
    };
    assert_eq!(store, expected);
    assert!(store.endpoint.token.is_some() && !format!("{store:?}").contains("s3cret"));
    let webdis = r#""store":{"protocol":"webdis","cluster":"c","token":{"text":"user:password"}}"#;
    assert_eq!(accepted(webdis).shared.store.as_ref().unwrap().endpoint.token, AccessToken::new(b"user:password"));
}

#[test]
fn the_default_name_promises_only_what_the_attributes_keep() {
    for members in [r#""secure":false"#, r#""path":"/shop""#, r#""domain":"example.com""#] {
        assert_eq!(
            accepted(&format!(r#""cookie":{{{members}}}"#)).policy.cookie().unwrap().set_cookie.name(),
            "mooring",
            "{members}"
        );
    }
    assert_eq!(accepted(r#""cookie":{"domain":null}"#).policy.cookie().unwrap().set_cookie.name(), "__Host-mooring");
}

#[test]
fn every_field_is_read() {
    let config = accepted(
        r#""scope":"shop","cookie":{"name":"m","path":"/p","domain":"example.com","secure":true,"http_only":false,
        "same_site":"none","partitioned":true,"persistent":true,"encrypt":false,"forward":true},
        "session":{"absolute_timeout":"0s","idle_timeout":"7d","clock_skew":"1m"},
        "upstream":{"via":"override_host","header":"X-Pin","failover":"temporary"},
        "store":null,"cache":{"entries":1e4,"ttl":"500ms"},
        "app":{"action_header":null,"session_header":"x-s"},"debug_header":"X-Debug""#,
    );
    assert_eq!(
        config.policy.cookie().unwrap().set_cookie.issue("t", None),
        "m=t; Path=/p; Domain=example.com; SameSite=None; Secure; Partitioned"
    );
    assert_eq!(config.shared.scope, "shop");
    let cookie = config.policy.cookie().unwrap();
    assert!(cookie.persistent && !config.policy.encrypt && cookie.forward);
    assert_eq!(config.policy.session, Timeouts { absolute: None, idle: Some(604_800), clock_skew: 60 });
    assert_eq!((config.policy.upstream.via, config.policy.upstream.failover), (Via::OverrideHost, Failover::Temporary));
    assert_eq!(config.policy.upstream.header.as_str(), "x-pin");
    assert_eq!(config.shared.cache, CacheLimits { entries: 10_000, ttl: Duration::from_millis(500) });
    assert!(!config.policy.app.action_header.enabled, "null turns it off");
    assert_eq!(
        config.policy.app.action_header.name.as_str(),
        "x-mooring-action",
        "and a client's own is dropped all the same"
    );
    assert_eq!(config.policy.app.session_header.name.as_str(), "x-s");
    assert_eq!(config.policy.debug_header.as_ref().map(|name| name.to_string()).as_deref(), Some("x-debug"));
}

#[test]
fn secrets_come_from_the_environment_or_the_config() {
    let config = parse(&format!(
        r#"{{"keys":[{{"id":"new","secret":{{"env":"KEY"}}}},{{"id":"old","secret":{{"base64":"{SECRET_2}"}}}}]}}"#
    ))
    .unwrap();
    assert_eq!(config.shared.keyring.signing().id.as_str(), "new");
    assert!(config.shared.keyring.find(b"old").is_some());
    assert!(config.shared.keyring.find(b"other").is_none());
    let url_safe = "-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_8";
    assert!(parse(&format!(r#"{{"keys":[{{"id":"k","secret":{{"base64":"{url_safe}"}}}}]}}"#)).is_ok());
}

#[test]
fn keys_keep_their_rules() {
    refused("{}", "keys: is missing");
    refused(r#"{"keys":{}}"#, "keys: is an object");
    refused(r#"{"keys":[]}"#, "keys: has 0 keys");
    refused(r#"{"keys":[1]}"#, "keys[0]: is a number");
    let key = |id: &str, secret: &str| format!(r#"{{"id":{id},"secret":{secret}}}"#);
    let base64 = |text: &str| format!(r#"{{"base64":"{text}"}}"#);
    let keys = |keys: &[String]| format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    let one = |id: &str, secret: &str| keys(&[key(id, secret)]);

    refused(&one("\"a.b\"", &base64(SECRET)), "keys[0].id: is not a key id");
    refused(&one("7", &base64(SECRET)), "keys[0].id: is a number");
    refused(r#"{"keys":[{"secret":{"env":"KEY"}}]}"#, "keys[0].id: is missing");
    refused(r#"{"keys":[{"id":"k"}]}"#, "keys[0].secret: is missing");
    refused(&one("\"k\"", "\"KEY\""), "keys[0].secret: is a string");
    refused(&one("\"k\"", "{}"), "keys[0].secret: names not exactly one source");
    refused(&one("\"k\"", r#"{"env":"KEY","base64":"QUFB"}"#), "keys[0].secret: names not exactly one source");
    refused(&one("\"k\"", r#"{"env":"ABSENT"}"#), "keys[0].secret.env: names an environment variable that is not set");
    refused(&one("\"k\"", r#"{"env":"SHORT"}"#), "keys[0].secret.env: has 3 bytes once decoded");
    refused(&one("\"k\"", r#"{"env":"RUBBISH"}"#), "keys[0].secret.env: is not base64");
    refused(&one("\"k\"", &base64("no base64!")), "keys[0].secret.base64: is not base64");
    refused(&one("\"k\"", &base64("QUFB")), "keys[0].secret.base64: has 3 bytes once decoded");
    refused(
        &keys(&[key("\"k\"", &base64(SECRET)), key("\"k\"", &base64(SECRET_2))]),
        "keys[1].id: is the id of an earlier key",
    );
    refused(
        &keys(&[key("\"k\"", &base64(SECRET)), key("\"l\"", r#"{"env":"KEY"}"#)]),
        "keys[1]: has the secret of an earlier key",
    );
    let many: Vec<String> = (0..17u8)
        .map(|n| {
            let secret = base64::engine::general_purpose::STANDARD;
            key(&format!("\"k{n}\""), &base64(&base64::Engine::encode(&secret, [n; 32])))
        })
        .collect();
    refused(&keys(&many), "keys: has 17 keys");
    assert!(parse(&keys(&many[..16])).is_ok());
}

#[test]
fn the_cookie_keeps_the_rules_of_rfc_6265_and_of_browsers() {
    for (members, start) in [
        (r#""name":"""#, "cookie.name: is not a cookie name"),
        (r#""name":"a b""#, "cookie.name: is not a cookie name"),
        (r#""name":"a=b""#, "cookie.name: is not a cookie name"),
        (r#""name":"ä""#, "cookie.name: is not a cookie name"),
        (r#""name":null"#, "cookie.name: is null"),
        (r#""path":"shop""#, "cookie.path: is not a cookie path"),
        (r#""path":"/a;b""#, "cookie.path: is not a cookie path"),
        (r#""path":"/a b""#, "cookie.path: is not a cookie path"),
        (r#""path":"/ä""#, "cookie.path: is not a cookie path"),
        (r#""domain":"-a.example""#, "cookie.domain: is not a cookie domain"),
        (r#""domain":"a-.example""#, "cookie.domain: is not a cookie domain"),
        (r#""domain":"a..example""#, "cookie.domain: is not a cookie domain"),
        (r#""name":"__Http-m","secure":false"#, "cookie.name: begins with __Secure-"),
        (r#""path":"/a\r\nx: y""#, "cookie.path: is not a cookie path"),
        (r#""domain":".example.com""#, "cookie.domain: is not a cookie domain"),
        (r#""domain":"a_b""#, "cookie.domain: is not a cookie domain"),
        (r#""domain":"127.0.0.1""#, "cookie.domain: is not a cookie domain"),
        (r#""secure":"yes""#, "cookie.secure: is a string"),
        (r#""same_site":"Lax""#, "cookie.same_site: is not known"),
        (r#""same_site":"none","secure":false"#, "cookie.same_site: none needs secure"),
        (r#""partitioned":true,"secure":false"#, "cookie.partitioned: needs secure"),
        (r#""name":"__Host-m","secure":false"#, "cookie.name: begins with __Host-"),
        (r#""name":"__Host-m","path":"/p""#, "cookie.name: begins with __Host-"),
        (r#""name":"__host-m","domain":"example.com""#, "cookie.name: begins with __Host-"),
        (r#""name":"__Secure-m","secure":false"#, "cookie.name: begins with __Secure-"),
        (r#""name":"__Http-m","http_only":false"#, "cookie.name: begins with __Http-"),
        (r#""name":"__Host-Http-m","http_only":false"#, "cookie.name: begins with __Http-"),
        (r#""max_age":1"#, "cookie.max_age: is an unknown field"),
    ] {
        refused(&with(&format!(r#""cookie":{{{members}}}"#)), start);
    }
    for members in [r#""name":"__Secure-m","path":"/p""#, r#""name":"__Host-m""#, r#""name":"!#$%&'*+-.^_`|~""#] {
        accepted(&format!(r#""cookie":{{{members}}}"#));
    }
}

#[test]
fn every_other_section_keeps_its_rules() {
    for (members, start) in [
        (r#""scope":"""#, "scope: is not a scope"),
        (r#""scope":"a\u0000b""#, "scope: is not a scope"),
        (r#""scope":7"#, "scope: is a number"),
        (r#""session":[]"#, "session: is an array"),
        (r#""session":{"idle_timeout":30}"#, "session.idle_timeout: is a number"),
        (r#""session":{"idle_timeout":"30"}"#, "session.idle_timeout: is not a duration"),
        (r#""session":{"idle_timeout":"1500ms"}"#, "session.idle_timeout: is not a whole number of seconds"),
        (r#""session":{"absolute_timeout":"401d"}"#, "session.absolute_timeout: is out of range"),
        (r#""session":{"clock_skew":"2h"}"#, "session.clock_skew: is out of range"),
        (r#""upstream":{"via":"original_dst"}"#, "upstream.via: is not known"),
        (r#""upstream":{"header":"x pin"}"#, "upstream.header: is not a header name"),
        (r#""upstream":{"header":":authority"}"#, "upstream.header: is not a header name"),
        (r#""upstream":{"header":"Cookie"}"#, "upstream.header: is not a header name"),
        (r#""upstream":{"failover":"never"}"#, "upstream.failover: is not known"),
        (r#""upstream":{"failover":"none","via":"override_host"}"#, "upstream.failover: none needs a strict bridge"),
        (r#""store":[]"#, "store: is an array"),
        (r#""store":{}"#, "store.cluster: is missing"),
        (r#""store":{"cluster":""}"#, "store.cluster: breaks a rule"),
        (r#""store":{"cluster":"a b"}"#, "store.cluster: breaks a rule"),
        (r#""store":{"cluster":"c","protocol":"redis"}"#, "store.protocol: is not known"),
        (r#""store":{"cluster":"c","authority":"a\u000ab"}"#, "store.authority: breaks a rule"),
        (r#""store":{"cluster":"c","namespace":"a:b"}"#, "store.namespace: breaks a rule"),
        (r#""store":{"cluster":"c","timeout":"11s"}"#, "store.timeout: is out of range"),
        (r#""store":{"cluster":"c","timeout":"0s"}"#, "store.timeout: is out of range"),
        (r#""store":{"cluster":"c","create":"never"}"#, "store.create: is not known"),
        (r#""store":{"cluster":"c","on_error":"new_session"}"#, "store.on_error: is not known"),
        (r#""store":{"cluster":"c","write":"lazy"}"#, "store.write: is not known"),
        (r#""store":{"cluster":"c","ttl":"1h"}"#, "store.ttl: is an unknown field"),
        (r#""store":{"cluster":"c","on_missing":"new_session"}"#, "store.on_missing: new_session refuses"),
        (
            r#""store":{"cluster":"c","on_missing":"new_session","create":"at_once"}"#,
            "store.on_missing: new_session refuses",
        ),
        (
            r#""store":{"cluster":"c","on_missing":"new_session","write":"sync"}"#,
            "store.on_missing: new_session refuses",
        ),
        (r#""store":{"cluster":"c","token":"t"}"#, "store.token: is a string"),
        (r#""store":{"cluster":"c","token":{}}"#, "store.token: names not exactly one source"),
        (r#""store":{"cluster":"c","token":{"env":"A","text":"b"}}"#, "store.token: names not exactly one source"),
        (r#""store":{"cluster":"c","token":{"env":"ABSENT"}}"#, "store.token.env: names an environment variable"),
        (r#""store":{"cluster":"c","token":{"env":"RUBBISH"}}"#, "store.token.env: is not a token"),
        (r#""store":{"cluster":"c","token":{"text":"a b"}}"#, "store.token.text: is not a token"),
        (r#""store":{"cluster":"c","protocol":"webdis","token":{"text":"t"}}"#, "store.token: is none that webdis"),
        (
            r#""store":{"cluster":"c"},"session":{"absolute_timeout":"0s"}"#,
            "session.absolute_timeout: is off, and a store",
        ),
        (r#""cache":{"entries":0}"#, "cache.entries: is out of range"),
        (r#""cache":{"entries":1.5}"#, "cache.entries: is out of range"),
        (r#""cache":{"entries":-1}"#, "cache.entries: is out of range"),
        (r#""cache":{"ttl":"2h"}"#, "cache.ttl: is out of range"),
        (r#""cache":{"ttl":"99ms"}"#, "cache.ttl: is out of range"),
        (r#""":1"#, "(a name that is not shown): is an unknown field"),
        (r#""a\nb":1"#, "(a name that is not shown): is an unknown field"),
        (r#""app":{"action_header":"a:b"}"#, "app.action_header: is not a header name"),
        (r#""app":{"session_header":"x-mooring-action"}"#, "app.session_header: is the header of app.action_header"),
        (r#""access_log":"none""#, "access_log: is not known"),
        (r#""access_log":true"#, "access_log: is a boolean"),
        (r#""debug_header":"X-Mooring-Host""#, "debug_header: is the header of upstream.header"),
        (r#""debug_header":"""#, "debug_header: is not a header name"),
        (r#""keyz":1"#, "keyz: is an unknown field"),
        (r#""scope":"a","scope":"b""#, "scope: is given twice"),
    ] {
        refused(&with(members), start);
    }
}

#[test]
fn a_version_names_the_json_that_was_given() {
    // As `printf '{}' | sha256sum` says.
    assert_eq!(version(b"{}"), "44136fa3");
    assert_ne!(version(b"{}"), version(b"{ }"));
}

#[test]
fn what_is_no_json_object_is_refused_as_a_whole() {
    for json in ["", "{", "[]", "null", "{\"keys\":[],}", "\u{0}", &"[".repeat(100_000)] {
        let errors = parse(json).map(|_| ()).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
    assert!(Config::parse(b"{\"scope\":\"\xff\"}", &environment).is_err());
}

#[test]
fn one_report_has_every_error() {
    let errors = parse(
        r#"{"keys":[{"id":"a b","secret":{"env":"ABSENT"}},{"id":"k","secret":{"base64":"QUFB"}},{"di":"k"}],
        "cookie":{"name":"","path":""},"session":{"idle_timeout":"x"},"app":{"action_header":""},"other":{}}"#,
    )
    .map(|_| ())
    .unwrap_err();
    let places: Vec<&str> = errors.iter().map(|error| error.split(": ").next().unwrap_or("")).collect();
    assert_eq!(
        places,
        [
            "other",
            "keys[0].id",
            "keys[0].secret.env",
            "keys[1].secret.base64",
            "keys[2].di",
            "keys[2].id",
            "keys[2].secret",
            "cookie.path",
            "cookie.name",
            "session.idle_timeout",
            "app.action_header"
        ]
    );
}

#[test]
fn no_error_repeats_what_may_be_a_secret() {
    let secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA==";
    for json in [
        format!(r#"{{"keys":[{{"id":"{secret}","secret":"{secret}"}}]}}"#),
        format!(r#"{{"keys":[{{"id":"k","secret":{{"base64":"{secret}*"}}}}]}}"#),
        format!(r#"{{"keys":[{{"id":"k","secret":{{"env":"{secret}"}}}}]}}"#),
        format!(r#"{{"keys":[{{"id":"k","secret":{{"{secret}":1}}}}]}}"#),
        format!(r#"{{"keys":"{secret}","cookie":{{"name":"{secret} ","same_site":"{secret}"}}}}"#),
        format!(r#"{{"keys":["{secret}"],"debug_header":"{secret}:"}}"#),
        format!(r#"{{"keys":["{secret}""#),
    ] {
        let errors = Config::parse(json.as_bytes(), &environment).map(|_| ()).unwrap_err();
        for shown in [errors.to_string(), format!("{errors:?}")] {
            assert!(!shown.contains("c2VjcmV0"), "{json}: {shown}");
        }
    }
}

#[test]
fn sessions_are_identified_by_cookie_unless_the_config_says_otherwise() {
    let ways = |members: &str| -> Vec<&str> {
        accepted(members).policy.identify.iter().map(|carrier| carrier.way().word()).collect()
    };
    assert_eq!(ways(r#""cookie":{}"#), ["cookie"]);
    assert_eq!(ways(r#""identify":[{"header":{}},{"cookie":{}}]"#), ["header", "cookie"]);
    assert_eq!(
        ways(r#""identify":[{"header":{}},{"header":{"name":"x-other","issue":"always","expose":true}}]"#).len(),
        2
    );
}

#[test]
fn a_way_is_there_once_and_is_exactly_one() {
    for (identify, path, rule) in [
        ("[]", "identify", "has 0 ways"),
        (r#"[{"cookie":{}},{"header":{}},{"cookie":{}}]"#, "identify[2].cookie", "is there already, as identify[0]"),
        (
            r#"[{"header":{}},{"header":{"name":"X-Session-Token"}}]"#,
            "identify[1].header.name",
            "is the header of identify[0].header.name as well",
        ),
        (
            r#"[{"header":{"name":"x-mooring-host"}}]"#,
            "identify[0].header.name",
            "is the header of upstream.header as well",
        ),
        (r#"[{"header":{"name":"cookie"}}]"#, "identify[0].header.name", "is not a header name"),
        (r#"[{"header":{"issue":"never"}}]"#, "identify[0].header.issue", "is not known"),
        (r#"[{"cookie":{"name":"a"}}]"#, "identify[0].cookie.name", "is an unknown field, and there are none here"),
        (r#"[{"cookie":{},"header":{}}]"#, "identify[0]", "has 2 of cookie, header; accepted is exactly one"),
        ("[{}]", "identify[0]", "has 0 of cookie, header"),
        (r#"[{"query":{}}]"#, "identify[0].query", "is an unknown field"),
    ] {
        refused(&with(&format!(r#""identify":{identify}"#)), &format!("{path}: {rule}"));
    }
}

#[test]
fn a_summary_names_what_matters_and_no_secret() {
    let config = accepted(r#""identify":[{"header":{}},{"cookie":{}}],"scope":"shop","session":{"idle_timeout":"0s"}"#);
    assert_eq!(
        config.summary(),
        "scope shop; keys k; by header x-session-token, issued to clients that send it or cookie __Host-mooring; absolute timeout 8h, idle timeout none; failover sticky, by stateful_session; \
         store none"
    );
    let store = accepted(r#""store":{"cluster":"sessions","token":{"text":"hush"}}"#).summary();
    assert!(store.ends_with("store rest in the cluster sessions"), "{store}");
}
