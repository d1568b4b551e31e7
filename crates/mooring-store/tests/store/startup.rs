//! The command line: what it explains, and what it refuses.

use mooring_test_kit::servers::certs::Certificates;
use mooring_test_kit::servers::store::{Store, command};
use std::process::Output;

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command().args(arguments).envs(environment.iter().copied()).output().expect("mooring-store")
}

/// Runs in vain, and returns the one line that it says.
fn refused(arguments: &[&str], environment: &[(&str, &str)], code: i32) -> String {
    let output = run(arguments, environment);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty());
    let last = said.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("mooring-store: "), "{said}");
    assert!(code == 1 || said.lines().count() == 1, "{said}");
    last
}

#[test]
fn a_wrong_option_is_named_with_its_rule() {
    let certificates = Certificates::new();
    let [cert, key, ca, absent, empty, many] =
        ["server.pem", "server.key", "ca.pem", "absent", "empty", "many"].map(|name| certificates.path(name));
    std::fs::write(&empty, "").unwrap();
    std::fs::write(&many, "a\nb\nc\n").unwrap();
    let stranger = Certificates::new();
    let (other_key, redis) = (stranger.path("server.key"), "redis://127.0.0.1:1");
    let cases: &[(&[&str], &str)] = &[
        (&["--nonsense"], "--nonsense"),
        (&["--listen", "nowhere"], "--listen"),
        (&["--listen", "127.0.0.1:99999"], "--listen"),
        (&["--listen", ":80"], "--listen"),
        (&["--metrics-listen", "9480"], "--metrics-listen"),
        (&["--max-sessions", "0"], "--max-sessions"),
        (&["--max-sessions", "many"], "--max-sessions"),
        (&["--max-memory", "1KiB"], "--max-memory"),
        (&["--max-memory", "much"], "--max-memory"),
        (&["--anonymous-timeout", "0s"], "--anonymous-timeout"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--request-timeout", "500"], "--request-timeout"),
        (&["--request-timeout", "0s"], "--request-timeout"),
        (&["--drain-timeout=-1s"], "--drain-timeout"),
        (&["--idle-timeout", "1ms"], "--idle-timeout"),
        (&["--log-format", "xml"], "--log-format"),
        (&["--log-level", "loud"], "--log-level"),
        (&["--redis", "127.0.0.1:6379"], "--redis"),
        (&["--redis", "http://127.0.0.1"], "--redis"),
        (&["--redis", redis, "--redis", redis], "--redis"),
        (&["--redis", redis, "--redis-mode", "ring"], "--redis-mode"),
        (&["--redis-mode", "cluster"], "--redis-mode"),
        (&["--redis", redis, "--redis-mode", "sentinel"], "--redis-sentinel-master"),
        (&["--redis", redis, "--redis-sentinel-master", "x"], "--redis-sentinel-master"),
        (&["--redis", redis, "--redis", "rediss://127.0.0.1:1", "--redis-mode", "cluster"], "--redis"),
        (&["--redis", redis, "--redis-password-file", &absent], "--redis-password-file"),
        (&["--redis", redis, "--redis-password-file", &empty], "--redis-password-file"),
        (&["--redis", "redis://:a@127.0.0.1:1", "--redis-password-file", &many], "--redis-password-file"),
        (&["--redis-password-file", &many], "--redis-password-file"),
        (&["--redis", redis, "--redis-ca-cert", &ca], "--redis-ca-cert"),
        (&["--redis", "rediss://127.0.0.1:1", "--redis-ca-cert", &absent], "--redis-ca-cert"),
        (&["--redis", "rediss://127.0.0.1:1", "--redis-ca-cert", &empty], "--redis-ca-cert"),
        (&["--redis", "rediss://127.0.0.1:1", "--redis-client-cert", &cert], "--redis-client-cert"),
        (&["--redis", "rediss://127.0.0.1:1", "--redis-client-key", &key], "--redis-client-key"),
        (&["--tls-cert", &cert], "--tls-cert"),
        (&["--tls-key", &key], "--tls-key"),
        (&["--tls-cert", &absent, "--tls-key", &key], "--tls-cert"),
        (&["--tls-cert", &cert, "--tls-key", &cert], "--tls-key"),
        (&["--tls-cert", &key, "--tls-key", &key], "--tls-cert"),
        (&["--tls-cert", &cert, "--tls-key", &other_key], "--tls-key"),
        (&["--namespace", "a:b"], "--namespace"),
        (&["--namespace", "mooring", "--namespace", "*"], "--namespace"),
        (&["--namespace", ""], "--namespace"),
        (&["--token-file", ""], "--token-file"),
        (&["--token-file", &absent], "--token-file"),
        (&["--token-file", &empty], "--token-file"),
        (&["--token-file", &many], "--token-file"),
    ];
    for (arguments, option) in cases {
        let said = refused(arguments, &[], 2);
        assert!(said.contains(option), "{arguments:?}: {said}");
    }
    let said = refused(&["--token-file", &cert], &[("MOORING_STORE_TOKEN", "t")], 2);
    assert!(said.contains("--token-file") && said.contains("MOORING_STORE_TOKEN"), "{said}");
    assert!(refused(&[], &[("MOORING_STORE_TOKEN", "a b")], 2).contains("MOORING_STORE_TOKEN"));
    assert!(refused(&[], &[("MOORING_STORE_MAX_SESSIONS", "x")], 2).contains("--max-sessions"));
}

#[test]
fn an_empty_secret_is_not_taken_for_the_wish_to_go_without() {
    for (arguments, variable) in [
        (&[][..], "MOORING_STORE_TOKEN"),
        (&[], "MOORING_STORE_TOKEN_FILE"),
        (&[], "MOORING_STORE_NAMESPACE"),
        (&["--redis", "redis://127.0.0.1:1"], "MOORING_STORE_REDIS_PASSWORD"),
    ] {
        let said = refused(arguments, &[(variable, "")], 2);
        let option = variable.trim_start_matches("MOORING_STORE_").to_lowercase().replace('_', "-");
        assert!(said.contains(variable) || said.contains(&format!("--{option}")), "{variable}: {said}");
    }
    for blank in [" ", "\n"] {
        assert!(refused(&[], &[("MOORING_STORE_TOKEN", blank)], 2).contains("MOORING_STORE_TOKEN"));
    }
}

#[test]
fn to_be_open_to_others_is_warned_of() {
    let warned = |listen: &str, environment: &[(&str, &str)]| {
        Store::listening(listen, &[], environment).log().contains("no token is configured")
    };
    assert!(warned("0.0.0.0:0", &[]));
    assert!(!warned("127.0.0.1:0", &[]));
    assert!(!warned("0.0.0.0:0", &[("MOORING_STORE_TOKEN", "t")]));
}

#[test]
fn a_secret_in_a_wrong_url_is_not_repeated() {
    for url in ["redis://:hunter2@", "http://:hunter2@host", "redis://u:hunter2@host:port"] {
        assert!(!refused(&["--redis", url], &[], 2).contains("hunter2"), "{url}");
    }
    let help = run(&["--help"], &[("MOORING_STORE_REDIS", "redis://:hunter2@host")]);
    assert!(!String::from_utf8_lossy(&help.stdout).contains("hunter2"));
}

#[test]
fn a_port_in_use_is_told() {
    let store = Store::start(&[]);
    let said = refused(&["--listen", &store.address], &[], 1);
    assert!(said.contains("--listen") && said.contains(&store.address), "{said}");
}

#[test]
fn options_come_from_the_environment_too() {
    let store = Store::with(&[], &[("MOORING_STORE_LOG_FORMAT", "json"), ("MOORING_STORE_MAX_SESSIONS", "7")]);
    assert!(store.log().contains("\"entries\":7"), "{}", store.log());
}

#[test]
fn the_help_explains_every_option_exit_code_and_endpoint() {
    let output = run(&["--help"], &[]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let options = "listen metrics-listen redis redis-mode redis-sentinel-master redis-username redis-password-file redis-ca-cert redis-client-cert \
                   redis-client-key namespace token-file tls-cert tls-key max-sessions max-memory max-connections anonymous-timeout request-timeout idle-timeout \
                   drain-timeout log-format log-level";
    for option in options.split_whitespace() {
        let variable = format!("MOORING_STORE_{}", option.to_uppercase().replace('-', "_"));
        assert!(help.contains(&format!("--{option} <")) && help.contains(&variable), "{option}:\n{help}");
    }
    for told in
        ["MOORING_STORE_TOKEN", "Exit codes", "/v1/sessions/{key}", "/readyz", "/metrics", "Examples:", "noeviction"]
    {
        assert!(help.contains(told), "{told}:\n{help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 125), "{help}");
    let version = run(&["--version"], &[]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("mooring-store ", env!("CARGO_PKG_VERSION"), "\n"));
}
