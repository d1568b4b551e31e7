//! Simulates a fleet of proxies with a session store, for those who size one: `fleet --help`. See [`fleet::simulation`] for what is in it.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod plot;
#[cfg(test)]
mod tests;

use clap::{Parser, ValueEnum};
use fleet::simulation::{Counts, Fleet, Plan, Rules, Spread, Traffic};
use mooring::config::duration;
use mooring::session::Timeouts;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// So many sessions are simulated unless --part says otherwise.
const ENOUGH: f64 = 100_000.0;

/// What a fleet of proxies asks of its session store, what its caches know, and how many cookies it renews: simulated, a second's worth.
///
/// CommandLine that take LIST take several values with commas between them; each combination is simulated. Durations are as in the
/// plugin's configuration (500ms, 30s, 15m, 8h, 7d), and those of clients and hosts are means; 0s turns them off.
#[derive(Debug, Parser)]
#[command(
    name = "fleet",
    after_help = "Not simulated: what calls and responses take, failures, deployments, logins and logouts."
)]
struct CommandLine {
    /// Proxies
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    proxies: Vec<u32>,
    /// Workers of each proxy
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: u32,
    /// Clients that have a session and will come back
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10000000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    sessions: Vec<u32>,
    /// Requests a second of a client while it is active
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0.2", value_parser = rate)]
    rate: Vec<f64>,
    /// How long a client is active
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    active: Duration,
    /// How long it pauses then (0s: never)
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pause: Duration,
    /// How long it comes back; then another comes, without a cookie (0s: for ever)
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    life: Duration,
    /// How long a session's host lives; then it moves to another (0s: for ever)
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = time)]
    host_life: Duration,
    /// A client's connections; each goes to any worker
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: Vec<u32>,
    /// How long a connection is kept (0s: each request goes to any worker)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "5m", value_parser = time)]
    hold: Vec<Duration>,
    /// cache.ttl
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "30s", value_parser = time)]
    ttl: Vec<Duration>,
    /// cache.entries
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    entries: Vec<u32>,
    /// session.idle_timeout
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "30m", value_parser = whole_seconds)]
    idle_timeout: Vec<Duration>,
    /// session.absolute_timeout
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = whole_seconds)]
    absolute_timeout: Duration,
    /// store.create
    #[arg(long, value_enum, default_value = "on_return")]
    create: Create,
    /// Simulates so much of the sessions, with as much of each cache's entries, and tells what that means for the whole; 1 is all of it.
    /// By default as much as 100000 sessions are
    #[arg(long, value_parser = part)]
    part: Option<f64>,
    /// How long it goes on before it is measured
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = time)]
    warm_up: Duration,
    /// For how long it is measured
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    measure: Duration,
    /// Of all chance: the same seed, the same figures
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Print comma-separated values, all parameters among them
    #[arg(long)]
    csv: bool,
    /// Draw into this folder: fleet-hits.svg and fleet-lookups.svg over several --ttl, fleet-renewals.svg over several --idle-timeout
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Create {
    #[value(name = "on_return")]
    OnReturn,
    #[value(name = "at_once")]
    AtOnce,
}

fn time(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| duration::FORM.into())
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    time(text).and_then(|time| if time.subsec_nanos() == 0 { Ok(time) } else { Err("whole seconds are needed".into()) })
}

fn rate(text: &str) -> Result<f64, String> {
    number(text).filter(|rate| *rate > 0.0).ok_or_else(|| "a number greater than 0 is needed".into())
}

fn part(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|part| *part > 0.0 && *part <= 1.0)
        .ok_or_else(|| "a number above 0, 1 at most, is needed".into())
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// One combination of what can be given as a list.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Case {
    proxies: u32,
    sessions: u32,
    rate: f64,
    connections: u32,
    hold: Duration,
    entries: u32,
    idle_timeout: Duration,
    ttl: Duration,
}

/// A case, and what a second of it is like.
struct Outcome {
    case: Case,
    counts: Counts,
    /// What a count is to be multiplied by.
    scale: f64,
}

impl Outcome {
    fn a_second(&self, count: u64) -> f64 {
        count as f64 * self.scale
    }
}

/// For people, and in CSV.
type Column<T> = (&'static str, fn(&T) -> String, fn(&T) -> String);

const GIVEN: [Column<Case>; 8] = [
    ("proxies", |case| case.proxies.to_string(), |case| case.proxies.to_string()),
    ("sessions", |case| case.sessions.to_string(), |case| case.sessions.to_string()),
    ("rate", |case| case.rate.to_string(), |case| case.rate.to_string()),
    ("connections", |case| case.connections.to_string(), |case| case.connections.to_string()),
    ("hold", |case| duration::show(case.hold), |case| case.hold.as_secs_f64().to_string()),
    ("entries", |case| case.entries.to_string(), |case| case.entries.to_string()),
    ("idle_timeout", |case| duration::show(case.idle_timeout), |case| case.idle_timeout.as_secs().to_string()),
    ("ttl", |case| duration::show(case.ttl), |case| case.ttl.as_secs_f64().to_string()),
];

const FOUND: [Column<Outcome>; 8] = [
    ("requests", |found| whole(found, found.counts.requests), |found| exact(found, found.counts.requests)),
    (
        "hit ratio",
        |found| format!("{:.1} %", found.counts.hit_ratio() * 100.0),
        |found| format!("{:.5}", found.counts.hit_ratio()),
    ),
    ("lookups", |found| whole(found, found.counts.lookups), |found| exact(found, found.counts.lookups)),
    ("creates", |found| whole(found, found.counts.creates), |found| exact(found, found.counts.creates)),
    ("renewals", |found| whole(found, found.counts.renewals), |found| exact(found, found.counts.renewals)),
    ("moves", |found| whole(found, found.counts.moves), |found| exact(found, found.counts.moves)),
    ("begun", |found| whole(found, found.counts.begun), |found| exact(found, found.counts.begun)),
    ("cookies", |found| whole(found, found.counts.cookies()), |found| exact(found, found.counts.cookies())),
];

/// Three digits tell more than chance does.
fn whole(found: &Outcome, count: u64) -> String {
    let a_second = found.a_second(count);
    let digits = 10_f64.powf((a_second.max(1.0).log10().floor() - 2.0).max(0.0));
    format!("{:.0}", (a_second / digits).round() * digits)
}

fn exact(found: &Outcome, count: u64) -> String {
    format!("{:.3}", found.a_second(count))
}

impl CommandLine {
    /// Every combination, the last of the lists running fastest.
    fn cases(&self) -> Vec<Case> {
        let first = Case {
            proxies: 0,
            sessions: 0,
            rate: 0.0,
            connections: 0,
            hold: Duration::ZERO,
            entries: 0,
            idle_timeout: Duration::ZERO,
            ttl: Duration::ZERO,
        };
        let cases = vary(&[first], &self.proxies, |case, proxies| Case { proxies, ..case });
        let cases = vary(&cases, &self.sessions, |case, sessions| Case { sessions, ..case });
        let cases = vary(&cases, &self.rate, |case, rate| Case { rate, ..case });
        let cases = vary(&cases, &self.connections, |case, connections| Case { connections, ..case });
        let cases = vary(&cases, &self.hold, |case, hold| Case { hold, ..case });
        let cases = vary(&cases, &self.entries, |case, entries| Case { entries, ..case });
        let cases = vary(&cases, &self.idle_timeout, |case, idle_timeout| Case { idle_timeout, ..case });
        vary(&cases, &self.ttl, |case, ttl| Case { ttl, ..case })
    }

    fn plan(&self, case: &Case) -> Plan {
        let on = |time: Duration| Some(time).filter(|time| !time.is_zero());
        let mean = |time| on(time).map_or(f64::INFINITY, |time| time.as_secs_f64());
        let timeout = |time| on(time).map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
        Plan {
            workers: case.proxies * self.workers,
            sessions: case.sessions,
            traffic: Traffic {
                rate: case.rate,
                active: on(self.pause).map_or(f64::INFINITY, |_| mean(self.active)),
                pause: mean(self.pause),
                life: mean(self.life),
                host_life: mean(self.host_life),
            },
            spread: Spread { connections: case.connections, hold: case.hold.as_secs_f64() },
            rules: Rules {
                ttl: case.ttl,
                entries: case.entries,
                timeouts: Timeouts {
                    absolute: timeout(self.absolute_timeout),
                    idle: timeout(case.idle_timeout),
                    clock_skew: 60,
                },
                create: match self.create {
                    Create::OnReturn => mooring::config::CreateWhen::OnReturn,
                    Create::AtOnce => mooring::config::CreateWhen::AtOnce,
                },
            },
        }
    }

    fn simulate(&self, case: Case) -> Outcome {
        let part = self.part.unwrap_or_else(|| (ENOUGH / f64::from(case.sessions)).min(1.0));
        let mut fleet = Fleet::grown(self.plan(&case).part(part), self.seed);
        fleet.run(self.warm_up.as_secs_f64());
        let counts = fleet.run(self.measure.as_secs_f64());
        Outcome { case, counts, scale: 1.0 / (self.measure.as_secs_f64() * part) }
    }

    fn run(&self, out: &mut impl Write) -> io::Result<Vec<Outcome>> {
        let cases = self.cases();
        // People see what differs; programs see all.
        let differs =
            |column: &&Column<Case>| self.csv || cases.iter().any(|case| column.1(case) != column.1(&cases[0]));
        let given: Vec<_> = GIVEN.iter().filter(differs).collect();
        let heads = given.iter().map(|column| column.0).chain(FOUND.iter().map(|column| column.0));
        self.line(out, heads.clone().map(String::from))?;
        if !self.csv {
            self.line(out, heads.map(|_| "---".into()))?;
        }
        let form = |people: String, csv: String| if self.csv { csv } else { people };
        let mut found = Vec::new();
        for case in &cases {
            let outcome = self.simulate(*case);
            let given = given.iter().map(|column| form(column.1(case), column.2(case)));
            self.line(out, given.chain(FOUND.iter().map(|column| form(column.1(&outcome), column.2(&outcome)))))?;
            found.push(outcome);
        }
        Ok(found)
    }

    fn line(&self, out: &mut impl Write, cells: impl Iterator<Item = String>) -> io::Result<()> {
        let cells: Vec<String> = cells.collect();
        if self.csv { writeln!(out, "{}", cells.join(",")) } else { writeln!(out, "| {} |", cells.join(" | ")) }
    }
}

/// Each of the cases with each of the values.
fn vary<T: Copy>(cases: &[Case], values: &[T], with: fn(Case, T) -> Case) -> Vec<Case> {
    cases.iter().flat_map(|case| values.iter().map(move |value| with(*case, *value))).collect()
}

fn main() -> ExitCode {
    let options = CommandLine::parse();
    let outcome = options.run(&mut io::stdout().lock()).map_err(|error| error.to_string());
    let outcome = outcome.and_then(|found| match &options.plot {
        Some(folder) => plot::draw(&found, folder),
        None => Ok(()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error}");
            ExitCode::FAILURE
        }
    }
}
