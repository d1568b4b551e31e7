use super::{CommandLine, plot};
use clap::{CommandFactory as _, Parser as _};
use fleet::simulation::{Counts, Fleet, Plan, Rules, Spread, Traffic};
use mooring::config::CreateWhen;
use mooring::session::Timeouts;
use std::time::Duration;

const FOR_EVER: f64 = f64::INFINITY;

/// More than any of these clients has sessions.
const AMPLE: u32 = 1_000_000;

/// Clients that send ten requests a second without end, to one worker, whose cache knows all.
fn plan() -> Plan {
    Plan {
        workers: 1,
        sessions: 100,
        traffic: Traffic { rate: 10.0, active: FOR_EVER, pause: FOR_EVER, life: FOR_EVER, host_life: FOR_EVER },
        spread: Spread { connections: 1, hold: FOR_EVER },
        rules: Rules {
            ttl: Duration::from_secs(60),
            entries: AMPLE,
            timeouts: Timeouts { absolute: None, idle: None, clock_skew: 60 },
            create: CreateWhen::OnReturn,
        },
    }
}

/// What happens in `time` after a warm-up of as long.
fn measured(plan: Plan, time: f64) -> Counts {
    let mut fleet = Fleet::grown(plan, 1);
    fleet.run(time);
    fleet.run(time)
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    let off = (found / expected - 1.0).abs();
    assert!(off < tolerance, "{found}, not {expected}: {:.1} % off", off * 100.0);
}

#[test]
fn every_request_begins_a_session_or_hits_or_is_looked_up() {
    let busy = Traffic { rate: 1.0, active: 20.0, pause: 30.0, life: 200.0, host_life: 100.0 };
    for create in [CreateWhen::OnReturn, CreateWhen::AtOnce] {
        let timeouts = Timeouts { absolute: Some(300), idle: Some(60), clock_skew: 60 };
        let rules = Rules { ttl: Duration::from_secs(5), entries: 50, timeouts, create };
        let spread = Spread { connections: 3, hold: 20.0 };
        let counts = Fleet::new(Plan { workers: 4, traffic: busy, spread, rules, ..plan() }, 1).run(1000.0);
        assert_eq!(counts.requests, counts.begun + counts.hits + counts.lookups);
        assert_eq!(counts.cookies(), counts.begun + counts.renewals + counts.moves);
        let all = [counts.begun, counts.hits, counts.lookups, counts.creates, counts.renewals, counts.moves];
        assert!(all.iter().all(|count| *count > 100), "{counts:?}");
        match create {
            CreateWhen::AtOnce => assert_eq!(counts.creates, counts.begun),
            CreateWhen::OnReturn => assert!(counts.creates < counts.begun, "somebody never came back"),
        }
    }
}

#[test]
fn with_no_time_to_live_every_request_is_looked_up() {
    let counts = measured(Plan { rules: Rules { ttl: Duration::ZERO, ..plan().rules }, ..plan() }, 60.0);
    assert_eq!((counts.hits, counts.lookups), (0, counts.requests));
    assert_near(counts.requests as f64, 60_000.0, 0.02);
}

#[test]
fn a_busy_session_is_looked_up_once_in_a_time_to_live() {
    // A tenth of a second passes until the next request.
    let counts = measured(plan(), 601.0);
    assert!((990..=1000).contains(&counts.lookups), "{counts:?}");
}

#[test]
fn hits_are_those_of_a_cache_with_a_time_to_live_under_poisson_traffic() {
    for (rate, ttl) in [(0.05, 10), (0.5, 2), (1.0, 10)] {
        let traffic = Traffic { rate, ..plan().traffic };
        let rules = Rules { ttl: Duration::from_secs(ttl), ..plan().rules };
        let expected = rate * ttl as f64 / (1.0 + rate * ttl as f64);
        let one = Plan { sessions: (200.0 / rate) as u32, traffic, rules, ..plan() };
        assert_near(measured(one.clone(), 200.0).hit_ratio(), expected, 0.02);
        // Each request to any of ten workers: each of these sees a tenth of them.
        let traffic = Traffic { rate: rate * 10.0, ..traffic };
        let sessions = one.sessions / 10;
        let ten = Plan { workers: 10, sessions, traffic, spread: Spread { connections: 1, hold: 0.0 }, ..one };
        assert_near(measured(ten, 200.0).hit_ratio(), expected, 0.02);
    }
}

#[test]
fn a_cache_that_is_too_small_knows_the_part_for_which_it_has_room() {
    let rules = Rules { ttl: Duration::from_secs(3600), entries: 25, ..plan().rules };
    assert_near(measured(Plan { rules, ..plan() }, 100.0).hit_ratio(), 0.25, 0.02);
}

#[test]
fn a_new_connection_is_a_lookup_on_its_worker() {
    let rules = Rules { ttl: Duration::from_secs(3600), ..plan().rules };
    let spread = Spread { connections: 1, hold: 5.0 };
    let counts = measured(Plan { workers: 10_000, spread, rules, ..plan() }, 100.0);
    // A connection ends when the next request finds it too old.
    assert_near(counts.lookups as f64, 100.0 * 100.0 / 5.1, 0.03);
    let spread = Spread { connections: 4, hold: 5.0 };
    let counts = measured(Plan { workers: 10_000, spread, rules, ..plan() }, 100.0);
    assert_near(counts.lookups as f64, 100.0 * 100.0 * 4.0 / 5.4, 0.03);
}

#[test]
fn a_busy_session_is_renewed_ten_times_in_an_idle_timeout() {
    let timeouts = Timeouts { idle: Some(100), ..plan().rules.timeouts };
    let plan = |rate| {
        let traffic = Traffic { rate, ..plan().traffic };
        Plan { traffic, rules: Rules { timeouts, ..plan().rules }, ..plan() }
    };
    let busy = measured(Plan { sessions: 20, ..plan(10.0) }, 1000.0);
    assert!((1980..=2000).contains(&busy.renewals), "{busy:?}");
    // Whole seconds: due after 9.5 s on average, and found out by the next request.
    let quiet = measured(Plan { sessions: 500, ..plan(0.2) }, 1000.0);
    assert_near(quiet.renewals as f64, 500.0 * 1000.0 / (9.5 + 5.0), 0.02);
}

#[test]
fn sessions_end_when_they_are_idle_or_too_old() {
    // Pauses of 100 s on average: exp(-0.5) of them are longer than the idle timeout.
    let traffic = Traffic { rate: 1.0, active: 10.0, pause: 100.0, ..plan().traffic };
    let timeouts = Timeouts { idle: Some(50), ..plan().rules.timeouts };
    let plan = Plan { sessions: 500, traffic, rules: Rules { timeouts, ..plan().rules }, ..plan() };
    let idle = measured(plan.clone(), 1000.0);
    // The cookie of a client that pauses was renewed up to 5 s before.
    let visits = 500.0 * 1000.0 / 110.0;
    assert!((0.60..0.66).contains(&(idle.begun as f64 / visits)), "{idle:?}");
    let timeouts = Timeouts { absolute: Some(100), ..plan.rules.timeouts };
    let traffic = Traffic { active: FOR_EVER, ..traffic };
    let old = measured(Plan { traffic, rules: Rules { timeouts, ..plan.rules }, ..plan }, 1000.0);
    assert_near(old.begun as f64, 500.0 * 1000.0 / 101.0, 0.02);
}

/// Pauses of a minute on average, of which some are longer than the idle timeout.
#[test]
fn grown_clients_are_as_they_are_after_long() {
    let traffic = Traffic { rate: 1.0, active: 20.0, pause: 60.0, life: 2000.0, ..plan().traffic };
    let timeouts = Timeouts { absolute: Some(28_800), idle: Some(100), clock_skew: 60 };
    let rules = Rules { timeouts, ..plan().rules };
    let mut fleet = Fleet::grown(Plan { sessions: 4000, traffic, rules, ..plan() }, 1);
    let early = fleet.run(60.0);
    fleet.run(400.0);
    let late = fleet.run(60.0);
    let of = |counts: &Counts| [counts.requests, counts.begun, counts.renewals];
    for (early, late) in of(&early).into_iter().zip(of(&late)) {
        assert_near(early as f64, late as f64, 0.06);
    }
}

#[test]
fn clients_that_leave_are_replaced_by_others() {
    let traffic = Traffic { rate: 1.0, life: 50.0, ..plan().traffic };
    let counts = measured(Plan { sessions: 1000, traffic, ..plan() }, 500.0);
    assert_near(counts.begun as f64, 1000.0 * 500.0 / 50.0, 0.03);
    // Those that came back before they left.
    assert_near(counts.creates as f64, counts.begun as f64 * 50.0 / 51.0, 0.01);
}

#[test]
fn a_move_is_written_and_every_other_worker_asks_again() {
    let traffic = Traffic { rate: 2.0, host_life: 200.0, ..plan().traffic };
    let rules = Rules { ttl: Duration::from_secs(100_000), ..plan().rules };
    let spread = Spread { connections: 1, hold: 0.0 };
    let counts = measured(Plan { workers: 4, traffic, spread, rules, ..plan() }, 1000.0);
    assert_near(counts.moves as f64, 100.0 * 1000.0 / 200.0, 0.1);
    assert_near(counts.lookups as f64, counts.moves as f64 * 3.0, 0.02);
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let counts = |seed| Fleet::grown(plan(), seed).run(10.0);
    assert_eq!(counts(1), counts(1));
    assert_ne!(counts(1), counts(2));
}

/// Under everything at once, a cache that is too small included.
#[test]
fn a_part_tells_what_the_whole_is_like() {
    let traffic = Traffic { rate: 0.5, active: 60.0, pause: 120.0, life: 1800.0, host_life: 3600.0 };
    let timeouts = Timeouts { absolute: Some(28_800), idle: Some(600), clock_skew: 60 };
    let rules = Rules { ttl: Duration::from_secs(30), entries: 400, timeouts, ..plan().rules };
    for hold in [0.0, 60.0] {
        let spread = Spread { connections: 2, hold };
        let plan = Plan { workers: 20, sessions: 40_000, traffic, spread, rules };
        let (whole, part) = (measured(plan.clone(), 60.0), measured(plan.part(0.25), 60.0));
        let of = |counts: &Counts| [counts.requests, counts.lookups, counts.hits, counts.renewals];
        for (whole, part) in of(&whole).into_iter().zip(of(&part)) {
            assert_near(part as f64 * 4.0, whole as f64, 0.05);
        }
    }
}

fn options(arguments: &[&str]) -> CommandLine {
    // Small: a table is wanted, not what stands in it.
    let small = ["fleet", "--sessions", "200", "--warm-up", "1s", "--measure", "10s"];
    CommandLine::try_parse_from(small.iter().chain(arguments)).unwrap()
}

fn printed(options: &CommandLine) -> String {
    let mut out = Vec::new();
    options.run(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_command_line_is_sound_and_refuses_what_cannot_be() {
    CommandLine::command().debug_assert();
    for arguments in [
        ["--rate", "0"],
        ["--rate", "NaN"],
        ["--part", "1.5"],
        ["--ttl", "30"],
        ["--idle-timeout", "1500ms"],
        ["--connections", "0"],
    ] {
        assert!(CommandLine::try_parse_from(["fleet"].iter().chain(&arguments)).is_err(), "{arguments:?}");
    }
}

#[test]
fn every_combination_has_a_line_and_people_see_what_differs() {
    let lists = ["--ttl", "1s,30s,5m", "--entries", "10,100"];
    let table = printed(&options(&lists));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("| entries | ttl | requests | hit ratio | lookups |"), "{table}");
    assert_eq!(lines.len(), 2 + 6);
    assert!(lines[2].starts_with("| 10 | 1s | "), "{table}");
    assert!(lines[7].starts_with("| 100 | 5m | "), "{table}");
    let csv = printed(&options(&[&lists[..], &["--csv"]].concat()));
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 6);
    assert_eq!(
        lines[0],
        "proxies,sessions,rate,connections,hold,entries,idle_timeout,ttl,requests,hit ratio,lookups,creates,renewals,moves,begun,cookies"
    );
    assert!(lines[6].starts_with("100,200,0.2,1,300,100,1800,300,"), "{csv}");
}

#[test]
fn a_second_of_the_whole_is_told_whatever_part_is_simulated() {
    for part in ["1", "0.1"] {
        let options = options(&["--rate", "100", "--pause", "0s", "--life", "0s", "--part", part]);
        let outcome = options.simulate(options.cases()[0]);
        assert_near(outcome.a_second(outcome.counts.requests), 200.0 * 100.0, 0.02);
    }
}

#[test]
fn plots_have_a_line_for_each_combination() {
    let folder = tempfile::tempdir().unwrap();
    let found = options(&["--ttl", "1s,30s,5m", "--entries", "10,100"]).run(&mut Vec::new()).unwrap();
    plot::draw(&found, folder.path()).unwrap();
    for name in ["fleet-hits.svg", "fleet-lookups.svg"] {
        let svg = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(svg.matches("<circle ").count(), 6, "{name}");
        for text in ["entries 10\n", "entries 100\n", "1s\n", "30s\n", "5m\n"] {
            assert!(svg.contains(text), "{name}: {text}");
        }
    }
    assert!(!folder.path().join("fleet-renewals.svg").exists(), "one idle timeout is no line");
}
