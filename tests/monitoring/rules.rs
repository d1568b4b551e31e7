//! What the recording rules come to and which alerts fire, after things that really happened.

use crate::dashboard;
use crate::stage::{ENDED, FORGED, SESSIONS, Stage, rotated_version, shipped};
use mooring_test_kit::servers::prometheus::Prometheus;
use mooring_test_kit::servers::root;
use std::collections::BTreeSet;
use std::time::Duration;

/// Of the rules' windows, most of which are longer than the test: rates are of five minutes, however much is known of them.
const WINDOW: f64 = 300.0;

/// Tries until it is so; what is wrong with it is told otherwise.
fn until(mut probe: impl FnMut() -> Result<(), String>) {
    let mut wrong = String::new();
    for _ in 0..200 {
        match probe() {
            Ok(()) => return,
            Err(seen) => wrong = seen,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{wrong}");
}

/// Waits until an expression comes to about this: scrapes are half a second apart, and rates are extrapolated by as much.
fn about(prometheus: &Prometheus, expression: &str, expected: f64) {
    until(|| {
        let seen = prometheus.value(expression);
        let near = seen.is_some_and(|value| (value - expected).abs() <= expected.abs() * 0.1);
        if near { Ok(()) } else { Err(format!("{expression} is {seen:?}, not about {expected}")) }
    });
}

/// Waits until just these alerts fire.
fn firing(prometheus: &Prometheus, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
    until(|| {
        let alerts = prometheus.query("ALERTS{alertstate=\"firing\"}");
        let seen: BTreeSet<String> =
            alerts.into_iter().filter_map(|(mut labels, _)| labels.remove("alertname")).collect();
        if seen == expected { Ok(()) } else { Err(format!("there fire {seen:?}, not {expected:?}")) }
    });
}

/// Where GitHub puts the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|&c| c.is_alphanumeric() || c == '-' || c == '_').collect()
}

#[test]
fn every_alert_leads_to_a_heading() {
    let rules = shipped("mooring.rules.yaml");
    let groups = rules["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    let alerts: Vec<_> = rules.filter(|rule| !rule["alert"].is_null()).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        let link = alert["annotations"]["runbook_url"].as_str().expect("a link");
        let (page, wanted) = link.split_once('#').expect("an anchor");
        let page = std::fs::read_to_string(root().join(page)).expect("a page");
        let mut headings = page.lines().filter_map(|line| line.strip_prefix("## "));
        assert!(headings.any(|heading| anchor(heading) == wanted), "{}: {link} leads nowhere", alert["alert"]);
    }
}

#[test]
fn what_happens_shows_in_rules_alerts_and_dashboard() {
    let mut stage = Stage::set();
    firing(&stage.prometheus, &[]);
    stage.let_sessions_move();
    sessions_show(&stage);
    let mut alerts = vec!["MooringSessionsMoving"];
    firing(&stage.prometheus, &alerts);

    stage.forge();
    forgeries_show(&stage);
    alerts.push("MooringTokensRefused");
    firing(&stage.prometheus, &alerts);

    stage.rotate_key(0);
    firing(&stage.prometheus, &[&alerts[..], &["MooringConfigsDiffer"]].concat());
    stage.rotate_key(1);
    firing(&stage.prometheus, &alerts);
    stage.let_sessions_end();
    keys_and_ends_show(&stage);
    // Whichever key came less often: the test is too short for the busiest to be the one that signs.
    alerts.push("MooringOlderKeyInUse");
    firing(&stage.prometheus, &alerts);

    stage.lose_the_store();
    store_shows(&stage);
    alerts.extend(["MooringBreakerOpen", "MooringStoreUnavailable"]);
    firing(&stage.prometheus, &alerts);

    annotations_are_whole(&stage.prometheus);
    every_selector_finds_something(&stage.prometheus);
    dashboard::every_query_returns_data(&stage.prometheus);
    stage.fleet.assert_sound();
}

fn sessions_show(stage: &Stage) {
    let (prometheus, counted) = (&stage.prometheus, |name, labels: &[&str]| stage.counted(name, labels));
    let decided = |word: &str| stage.tally.decisions.get(word).copied().unwrap_or_default() as f64;
    let valid: f64 = ["token", "cache", "store"].map(|word| counted("mooring_requests", &[word])).iter().sum();
    assert_eq!((decided("created"), valid), (SESSIONS as f64, SESSIONS as f64 * 4.0));
    about(prometheus, &format!("job_session:mooring_requests:rate5m{{session=\"none\"}} * {WINDOW}"), SESSIONS as f64);

    assert!(decided("moved") > 0.0);
    let moves = format!("job_reason:mooring_sessions_displaced:rate5m{{reason=\"unavailable\"}} * {WINDOW}");
    about(prometheus, &moves, decided("moved"));
    about(prometheus, "job:mooring_sessions_displaced:ratio5m", decided("moved") / valid);

    let pins: Vec<f64> = stage.tally.pinned.values().map(|&pins| pins as f64).collect();
    let (total, most) = (pins.iter().sum::<f64>(), pins.iter().copied().fold(0.0, f64::max));
    assert_eq!(pins.len(), 3, "every host was pinned");
    for (host, &pins) in &stage.tally.pinned {
        let share = format!("job_host:mooring_sessions_pinned:share1h{{host=\"{host}\"}}");
        about(prometheus, &share, pins as f64 / total);
    }
    about(prometheus, "job:mooring_sessions_pinned:max_to_mean1h", most * 3.0 / total);

    let [hits, misses] = ["mooring_cache_hits", "mooring_cache_misses"].map(|name| counted(name, &["sessions"]));
    about(prometheus, "job_cache:mooring_cache:hit_ratio5m{cache=\"sessions\"}", hits / (hits + misses));
    let lookups = format!("sum(job_result:mooring_store_lookups:rate5m) * {WINDOW}");
    about(prometheus, &lookups, counted("mooring_store_calls", &["operation=\"lookup\""]));
    about(prometheus, "job:mooring_store_calls:error_ratio5m", 0.0);
    let slowest = "job_operation:mooring_store_call_time_milliseconds:p99_5m{operation=\"lookup\"}";
    about(prometheus, &format!("{slowest} > bool 0 < bool 5000"), 1.0);
}

fn forgeries_show(stage: &Stage) {
    let (accepted, forged) = (stage.counted("mooring_tokens_accepted", &[]), FORGED as f64);
    assert_eq!(accepted, SESSIONS as f64 * 4.0);
    let total = accepted + 3.0 * forged;
    about(&stage.prometheus, "job:mooring_requests:refused_ratio5m", 3.0 * forged / total);
    for reason in ["malformed", "unknown_key", "bad_tag"] {
        assert_eq!(stage.counted("mooring_tokens_refused", &[reason]), forged, "{reason}");
        let ratio = format!("job_reason:mooring_tokens_refused:ratio5m{{reason=\"{reason}\"}}");
        about(&stage.prometheus, &ratio, forged / total);
    }
}

fn keys_and_ends_show(stage: &Stage) {
    for (key, accepted) in [("new", SESSIONS * 5), ("old", SESSIONS + ENDED)] {
        assert_eq!(stage.counted("mooring_tokens_accepted", &[key]), accepted as f64, "{key}");
        let rate = format!("job_key:mooring_tokens_accepted:rate5m{{key=\"{key}\"}} * {WINDOW}");
        about(&stage.prometheus, &rate, accepted as f64);
    }
    about(&stage.prometheus, "sum(mooring_session_lifetime_count{reason=\"ended\"})", ENDED as f64);
    // Two workers and a main thread, twice.
    about(&stage.prometheus, &format!("sum(mooring_config{{version=\"{}\"}})", rotated_version()), 6.0);
}

fn store_shows(stage: &Stage) {
    let calls = |result: &str| stage.counted("mooring_store_calls", &[&format!("result=\"{result}\"")]);
    let failed = calls("failed");
    let made: f64 = ["ok", "conflict", "missing", "revoked", "failed"].map(calls).iter().sum();
    assert!(failed > 0.0 && calls("skipped") > 0.0, "{failed} calls failed, {} were not made", calls("skipped"));
    about(&stage.prometheus, "job:mooring_store_calls:error_ratio5m", failed / made);
}

fn annotations_are_whole(prometheus: &Prometheus) {
    let alerts = prometheus.ask("alerts", &[]);
    for alert in alerts["alerts"].as_array().expect("alerts") {
        for name in ["summary", "description", "runbook_url"] {
            let text = alert["annotations"][name].as_str().unwrap_or_else(|| panic!("{alert} has no {name}"));
            assert!(!text.is_empty() && !text.contains(['<', '{']), "{text}");
        }
    }
}

/// What an expression reads, with its matchers; what other rules record is left out.
fn selectors(expression: &str) -> Vec<&str> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut found, mut rest) = (Vec::new(), expression);
    while let Some(at) = rest.find(|c| of_name(c) || c == '{') {
        rest = rest.split_at(at).1;
        let name = rest.find(|c| !of_name(c)).unwrap_or(rest.len());
        let (_, after) = rest.split_at(name);
        let matchers = if after.starts_with('{') { after.find('}').expect("an end") + 1 } else { 0 };
        let (word, left) = rest.split_at(name + matchers);
        if ["mooring_", "envoy_", "{"].iter().any(|start| word.starts_with(start)) {
            found.push(word);
        }
        rest = left;
    }
    found
}

/// promtool's tests go by the names that the rules have; these are the ones that Envoy has.
fn every_selector_finds_something(prometheus: &Prometheus) {
    let rules = shipped("mooring.rules.yaml");
    let groups = rules["groups"].as_array().expect("groups");
    let expressions = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    let mut tried = 0;
    for expression in expressions.map(|rule| rule["expr"].as_str().expect("an expression")) {
        for selector in selectors(expression) {
            assert!(!prometheus.query(selector).is_empty(), "{selector} finds nothing, in: {expression}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} selectors");
}
