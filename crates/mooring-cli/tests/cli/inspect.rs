//! `mooring inspect`, against tokens that the library sealed.

use crate::{KEY, Run, folder, mooring, path, secret};
use mooring::clock::UnixTime;
use mooring::config::Config;
use mooring::credential::token::{self, Protection};
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::session::{Session, SessionId};
use mooring::store::protocol::StoreKey;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const ENCRYPTED: Protection = Protection::Encrypted { nonce: [7; 24] };

const CONFIG: &str = r#"{
  "keys": [{"id": "2026-11", "secret": {"env": "MOORING_KEY_2026_11"}}, {"id": "old", "secret": {"env": "OLD"}}],
  "cookie": {"name": "m"}, "scope": "shop", "store": {"cluster": "s", "namespace": "n"}
}"#;

/// The session began an hour ago, was renewed five minutes ago, and prefers a host each in two clusters.
fn session() -> Session {
    let mut session = Session {
        id: SessionId([9; 16]),
        created: UnixTime(NOW - 3600),
        renewed: UnixTime(NOW - 300),
        end: Some(UnixTime(NOW + 3600)),
        generation: 4,
        pins: Default::default(),
    };
    for (cluster, host) in [("app", "10.0.0.1:8080"), ("api", "[fd00::1]:9090")] {
        let host = HostAddr::parse(host.as_bytes()).unwrap();
        session.pins.set(Pin { cluster: ClusterId::of(cluster.as_bytes()), host });
    }
    session
}

fn seal(session: &Session, config: &str, protection: &Protection) -> String {
    let secrets = |name: &str| Some(secret(if name == "OLD" { 2 } else { 1 }).into_bytes());
    token::seal(session, &Config::parse(config.as_bytes(), &secrets).unwrap().shared.keyring, protection)
}

fn token() -> String {
    seal(&session(), CONFIG, &ENCRYPTED)
}

/// Looks at a text, with the config, at the time of the session.
fn inspect(text: &str, arguments: &[&str]) -> (i32, Value) {
    let files = folder([("mooring.json", CONFIG)]);
    let config = path(&files, "mooring.json");
    let at = NOW.to_string();
    let fixed = ["inspect", "--config", &config].into_iter().chain(if arguments.contains(&"--at") {
        vec![]
    } else {
        vec!["--at", &at]
    });
    with_secrets(mooring(fixed.chain(arguments.iter().copied())).stdin(text)).json()
}

fn with_secrets(run: Run) -> Run {
    run.env(KEY, &secret(1)).env("OLD", &secret(2))
}

#[test]
fn a_token_is_taken_apart() {
    let (code, json) = inspect(&token(), &["--cluster", "app"]);
    assert_eq!((code, &json["accepted"]), (0, &true.into()));
    let key = StoreKey::of(&SessionId([9; 16]), "shop", "n");
    let hash: String = ClusterId::of(b"api").0.iter().map(|byte| format!("{byte:02x}")).collect();
    let app: String = ClusterId::of(b"app").0.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = json!({
        "encrypted": true, "key": "2026-11", "verified": true, "accepted": true, "refused": null,
        "session": {
            "id": SessionId([9; 16]).to_text(), "store_key": key.as_str(), "generation": 4,
            "created": NOW - 3600, "renewed": NOW - 300, "ends": NOW + 3600, "idle_until": NOW - 300 + 1800,
            "pins": [
                {"host": "[fd00::1]:9090", "cluster": null, "cluster_hash": hash},
                {"host": "10.0.0.1:8080", "cluster": "app", "cluster_hash": app},
            ],
        },
    });
    assert_eq!(json["tokens"][0], expected);

    let files = folder([("mooring.json", CONFIG)]);
    let arguments =
        ["inspect", "--config", &path(&files, "mooring.json"), "--at", "2027-01-15T08:00:00Z", "--cluster", "api"];
    let done = with_secrets(mooring(arguments).stdin(&token())).done();
    for part in [
        "signed and encrypted, with the key 2026-11",
        "accepted   yes\n",
        "2027-01-15T07:00:00Z (1h ago)",
        "2027-01-15T09:00:00Z (in 1h)",
        "[fd00::1]:9090 in api\n",
        &format!("10.0.0.1:8080 in the cluster {app}\n"),
    ] {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
}

#[test]
fn it_says_why_a_token_is_refused_in_the_words_of_the_counter() {
    let altered = |token: &str| token.replacen("m1e.2026-11.", "m1e.2026-11.A", 1);
    let with = |change: fn(&mut Session)| {
        let mut session = session();
        change(&mut session);
        seal(&session, CONFIG, &ENCRYPTED)
    };
    let unknown = CONFIG.replace("2026-11\", \"secret", "other\", \"secret");
    for (text, word) in [
        ("no-token".to_owned(), "malformed"),
        (format!("{}.{}", token(), "x"), "malformed"),
        (seal(&session(), &unknown, &ENCRYPTED), "unknown_key"),
        (altered(&token()), "bad_tag"),
        (seal(&session(), &CONFIG.replace("shop", "admin"), &ENCRYPTED), "bad_tag"),
        (with(|session| session.end = Some(UnixTime(NOW))), "expired_absolute"),
        (with(|session| session.renewed = UnixTime(NOW - 1800)), "expired_idle"),
        (with(|session| session.created = UnixTime(NOW + 61)), "future"),
    ] {
        let (code, json) = inspect(&text, &[]);
        assert_eq!(
            (code, &json["tokens"][0]["refused"], &json["accepted"]),
            (1, &word.into(), &false.into()),
            "{json}"
        );
    }
}

#[test]
fn it_judges_by_the_time_that_it_is_given() {
    for (at, code, refused) in [
        ("2027-01-15T08:00:00Z", 0, Value::Null),
        ("2027-01-15 08:24:59", 0, Value::Null),
        ("2027-01-15T08:25:00Z", 1, "expired_idle".into()),
        ("2027-01-15T09:00:00Z", 1, "expired_absolute".into()),
        ("1799990000", 1, "future".into()),
    ] {
        let (exit, json) = inspect(&token(), &["--at", at]);
        assert_eq!((exit, &json["tokens"][0]["refused"]), (code, &refused), "{at}");
    }
    assert_eq!(mooring(["inspect", "--at", "noon"]).done().code, 2);
    // Without it, by the clock: the token ended in 2027 or is of a future.
    let files = folder([("mooring.json", CONFIG)]);
    let run = mooring(["inspect", "--config", &path(&files, "mooring.json")]).stdin(&token());
    assert_eq!(with_secrets(run).done().code, 1);
}

#[test]
fn a_line_of_a_header_is_as_good_as_a_token() {
    let token = token();
    for text in [
        format!("{token}\n"),
        format!("Cookie: a=1; m={token}; b=m1e.x.y.z"),
        format!("cookie: m=\"{token}\""),
        format!("Set-Cookie: m={token}; Path=/; Secure"),
        format!("a=1; m={token}"),
        format!("Cookie: a=1\r\nCookie: m={token}\r\n"),
    ] {
        let (code, json) = inspect(&text, &[]);
        assert_eq!((code, json["tokens"].as_array().unwrap().len()), (0, 1), "{text}: {json}");
    }
    for text in ["", "Cookie: a=1", &format!("Cookie: x{token}={token}")] {
        let (code, json) = inspect(text, &[]);
        assert_eq!(code, 1);
        assert!(json["error"].as_str().unwrap().starts_with("there is no token"), "{json}");
    }
    let files = folder([("cookie", &format!("Cookie: m={token}"))]);
    assert_eq!(inspect("", &["--file", &path(&files, "cookie")]).0, 0);
}

#[test]
fn of_several_cookies_the_one_counts_that_the_plugin_would_take() {
    let aged = |renewed: u64, generation: u32| {
        let session = Session { renewed: UnixTime(renewed), generation, ..session() };
        seal(&session, CONFIG, &ENCRYPTED)
    };
    let (older, newer) = (aged(NOW - 300, 4), aged(NOW - 600, 5));
    let files = folder([("mooring.json", CONFIG)]);
    let arguments = ["inspect", "--config", &path(&files, "mooring.json"), "--at", "1800000000"];
    let done = with_secrets(mooring(arguments).stdin(&format!("m=bad; m={older}; m={newer}"))).done();
    assert_eq!(done.code, 0);
    assert!(done.stdout.contains("token 3 of 3, the one that counts\n"), "{}", done.stdout);
    let (code, json) = inspect(&format!("m=1.; m=2.; m=3.; m=4.; m={newer}"), &[]);
    assert_eq!((code, json["tokens"].as_array().unwrap().len()), (1, 4), "the fifth is not looked at");
}

#[test]
fn a_token_is_found_in_the_header_that_the_configuration_names_and_without_one_in_any() {
    let config = CONFIG.replacen('{', r#"{"identify": [{"header": {"name": "x-session"}}], "#, 1);
    let token = seal(&session(), &config, &ENCRYPTED);
    let files = folder([("mooring.json", &config)]);
    let arguments = ["inspect", "--config", &path(&files, "mooring.json"), "--at", "1800000000"];
    let inspect = |text: &str| with_secrets(mooring(arguments).stdin(text)).done();
    let done = inspect(&format!("< X-Session: {token}"));
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(inspect(&format!("x-session: garbage, {token}")).stdout.contains("token 2 of 2, the one that counts"));
    let done = inspect(&format!("x-other: {token}\nCookie: a={token}"));
    assert!(done.stderr.contains("expected one, or a line of x-session"), "{}", done.stderr);
    let bare = mooring(["inspect", "--at", "1800000000"]).stdin(&format!("x-any: {token}")).done();
    assert_eq!(bare.code, 0, "{}", bare.stderr);
}

#[test]
fn a_token_of_an_older_key_is_accepted() {
    let before = CONFIG.replace(r#"{"id": "2026-11", "secret": {"env": "MOORING_KEY_2026_11"}}, "#, "");
    assert_ne!(before, CONFIG);
    let (code, json) = inspect(&seal(&session(), &before, &ENCRYPTED), &[]);
    assert_eq!((code, &json["tokens"][0]["key"]), (0, &"old".into()));
}

#[test]
fn without_keys_it_shows_what_anybody_can_see() {
    let inspect = |text: &str| mooring(["inspect", "--at", "1800000000"]).stdin(text).json();
    let (code, json) = inspect(&format!("Cookie: anything={}", token()));
    let found = &json["tokens"][0];
    assert_eq!((code, &found["key"], &found["encrypted"]), (0, &"2026-11".into(), &true.into()));
    assert_eq!(
        (&found["session"], &found["verified"], &found["accepted"]),
        (&Value::Null, &false.into(), &Value::Null)
    );
    let (code, json) = inspect(&seal(&session(), CONFIG, &Protection::Signed));
    let found = &json["tokens"][0];
    assert_eq!((code, &found["session"]["created"], &found["verified"]), (0, &(NOW - 3600).into(), &false.into()));
    assert_eq!(found["session"]["pins"][0]["host"], "[fd00::1]:9090");
    // What says that it is encrypted is not taken apart.
    let (_, json) = inspect(&seal(&session(), CONFIG, &Protection::Signed).replacen("m1s", "m1e", 1));
    assert_eq!(json["tokens"][0]["session"], Value::Null);
    assert_eq!(inspect("rubbish").0, 1);
    let done = mooring(["inspect"]).stdin(&token()).done();
    assert!(done.stdout.contains("not verified: there are no keys without --config"), "{}", done.stdout);
}

#[test]
fn keys_and_clusters_come_from_envoys_configuration_too() {
    let config = crate::shipped("envoy.yaml");
    let plain = r#"{"keys": [{"id": "2026-11", "secret": {"env": "MOORING_KEY_2026_11"}}]}"#;
    let token = seal(&session(), plain, &ENCRYPTED);
    let run = mooring(["inspect", "--at", "1800000000", "--config", config.to_str().unwrap()]);
    let (code, json) = run.stdin(&format!("__Host-mooring={token}")).env(KEY, &secret(1)).json();
    assert_eq!(code, 0, "{json}");
    assert_eq!(json["tokens"][0]["session"]["pins"][1]["cluster"], "app");
}

#[test]
fn a_jar_of_curl_s_and_what_curl_shows_are_read() {
    let token = token();
    let jar = format!(
        "# Netscape HTTP Cookie File\n# This file was generated by libcurl! Edit at your own risk.\n\n\
         #HttpOnly_127.0.0.1\tFALSE\t/\tTRUE\t0\tm\t{token}\n127.0.0.1\tFALSE\t/\tFALSE\t0\tother\tx\n"
    );
    for text in [jar, format!("> Cookie: a=b; m={token}\n"), format!("< set-cookie: m={token}; Path=/\n")] {
        let (code, said) = inspect(&text, &[]);
        assert_eq!((code, said["tokens"].as_array().map(Vec::len)), (0, Some(1)), "{text}: {said}");
    }
}

#[test]
fn a_cookie_that_is_cleared_is_no_token() {
    let files = folder([("mooring.json", CONFIG)]);
    let arguments = ["inspect", "--config", &path(&files, "mooring.json")];
    let run = mooring(arguments).env(KEY, &secret(1)).env("OLD", &secret(2)).stdin("Set-Cookie: m=; Max-Age=0\n");
    let done = run.done();
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("there is no token"), "{done:?}");
}

#[test]
fn the_store_s_token_is_not_needed() {
    let config = CONFIG.replace(r#""cluster": "s""#, r#""cluster": "s", "token": {"env": "STORE_TOKEN"}"#);
    let files = folder([("mooring.json", &config)]);
    let token = seal(&session(), CONFIG, &ENCRYPTED);
    let arguments = ["inspect", "--config", &path(&files, "mooring.json"), "--at", &NOW.to_string()];
    let done = mooring(arguments).env(KEY, &secret(1)).env("OLD", &secret(2)).stdin(&token).done();
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn spans_are_told_in_the_units_of_a_config() {
    for (ago, shown) in
        [(0, "0s ago"), (59, "59s ago"), (3_661, "1h 1m ago"), (86_400, "1d ago"), (1_000_000, "11d 13h ago")]
    {
        let at = (NOW - 3600 + ago).to_string();
        let done = mooring(["inspect", "--at", &at]).stdin(&seal(&session(), CONFIG, &Protection::Signed)).done();
        assert!(done.stdout.contains(&format!("({shown})")), "{shown}: {done:?}");
    }
}
