//! How what a request costs grows: the floor and Mooring side by side, in rounds of their own for each point of a series.

use super::accounting::{Cores, cpu_time, resident};
use super::chart::{self, Line};
use super::clients::{Affinity, CLIENTS, Clients};
use super::contestant::{Contestant, Proxy, Work};
use super::envoys::{self, HOST_HEADER};
use super::hosts::Hosts;
use super::peers::Plugged;
use super::report::{self, Row};
use super::rounds::{Course, KEPT};
use super::statistics::{Spread, slope};
use mooring_test_kit::memory::wasm_memories;
use mooring_test_kit::rig::Bootstrap;
use mooring_test_kit::servers::store::Store;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: f64 = 1024.0 * 1024.0;

/// Where contestants stand in each point.
const FLOOR: usize = 0;

type Series = (&'static str, fn(&Bench));

const SERIES: [Series; 8] = [
    ("sessions", sessions),
    ("keys", keys),
    ("cookies", cookies),
    ("workers", workers),
    ("hosts", hosts),
    ("routes", routes),
    ("cache", cache),
    ("start", start),
];

/// What all series have.
struct Bench {
    rounds: usize,
    seconds: u64,
    cores: Cores,
    hosts: Hosts,
}

/// One point of a series.
struct Point {
    label: String,
    at: f64,
    rows: Vec<Row>,
}

/// Runs the series with these names, or all.
pub fn run(names: &[String]) {
    let unknown = names.iter().find(|name| SERIES.iter().all(|(known, _)| known != name));
    assert!(unknown.is_none(), "no such series: {unknown:?}; there are {:?}", SERIES.map(|(name, _)| name));
    let cores = Cores::share_out();
    let (rounds, seconds) = (super::setting("ROUNDS", 3) as usize, super::setting("SECONDS_PER_ROUND", 2));
    let bench = Bench { rounds, seconds, cores, hosts: Hosts::start(3) };
    for (name, series) in SERIES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            eprintln!("series {name}");
            series(&bench);
        }
    }
}

impl Bench {
    fn course<'a>(&self, hosts: &'a Hosts, folder: &'a Path) -> Course<'a> {
        Course { rounds: self.rounds, seconds: self.seconds, cores: self.cores, hosts, folder }
    }

    /// Measures contestants side by side. The first is the floor.
    fn point(&self, label: &str, at: f64, hosts: &Hosts, mut contestants: Vec<Contestant>) -> Point {
        let folder = tempfile::tempdir().expect("a folder");
        let course = self.course(hosts, folder.path());
        eprintln!("{label}:");
        contestants.iter_mut().for_each(|contestant| course.prepare(contestant));
        let results = course.run(&mut contestants);
        let names: Vec<String> = contestants.iter().map(|contestant| contestant.name.clone()).collect();
        Point { label: label.to_owned(), at, rows: report::rows(&names, &results, FLOOR) }
    }

    /// A series as a table, CSV and a chart.
    fn report(&self, name: &str, axis: &str, points: &[Point]) {
        let contestants: Vec<&str> = points[0].rows.iter().map(|row| row.name.as_str()).collect();
        let columns = contestants.iter().enumerate().map(|(at, name)| match at {
            FLOOR => format!("{name}, µs"),
            _ => format!("{name}, µs | over the floor, µs"),
        });
        let columns: Vec<String> = columns.collect();
        let mut table = format!("{} rounds of {} s each; {}.\n\n", self.rounds, self.seconds, self.cores.describe());
        table += &format!("| {axis} | {} | requests/s | memory, MiB |\n", columns.join(" | "));
        table += &format!("| --- {}| --- | --- |\n", "| --- ".repeat(2 * contestants.len() - 1));
        let mut csv = format!(
            "{axis},contestant,cpu_us_per_request,low,high,over_the_floor_us,requests_per_second,resident_mib\n"
        );
        for Point { label, at, rows } in points {
            let cells: Vec<String> = rows.iter().enumerate().map(|(at, row)| cell(at, row)).collect();
            let last = rows.last().expect("a contestant");
            table += &format!("| {label} | {} | {:.0} | {:.0} |\n", cells.join(" | "), last.rate, last.resident);
            for Row { name, cost, over, rate, resident, .. } in rows {
                csv += &format!(
                    "{at},\"{name}\",{:.3},{:.3},{:.3},{:.3},{rate:.0},{resident:.1}\n",
                    cost.median, cost.low, cost.high, over.median
                );
            }
        }
        save(name, &table, &csv);
        let line = |(at, name): (usize, &&str)| Line {
            name: (*name).to_owned(),
            points: points.iter().map(|point| (point.at, point.rows[at].cost)).collect(),
        };
        let lines: Vec<Line> = contestants.iter().enumerate().map(line).collect();
        chart::lines(&super::charts().join(format!("scale-{name}.svg")), axis, "CPU for a request, µs", &lines);
    }

    fn floor(&self, hosts: &Hosts, workers: u32) -> Contestant {
        let bootstrap = envoys::filters(&hosts.ports, envoys::floor());
        floor_of(&bootstrap, workers)
    }
}

fn floor_of(bootstrap: &Bootstrap, workers: u32) -> Contestant {
    let clients = Clients::with(Affinity::Header(HOST_HEADER));
    Contestant::new("the floor", Proxy::envoy(bootstrap, workers), clients, None)
}

fn cell(at: usize, row: &Row) -> String {
    let Row { cost, over, .. } = row;
    match at {
        FLOOR => format!("{:.1}", cost.median),
        _ => format!("{:.1} | {:.1} ({:.1} to {:.1})", cost.median, over.median, over.low, over.high),
    }
}

fn save(name: &str, table: &str, csv: &str) {
    super::write(&super::folder().join(format!("{name}.md")), table);
    super::write(&super::folder().join(format!("scale-{name}.csv")), csv);
}

fn mooring(hosts: &Hosts, members: Value) -> Plugged {
    Plugged::new("envoy.yaml", hosts, members)
}

/// Distinct sessions, to ten millions. Tokens that are too many to be made for each round must not come to be renewed in one.
fn sessions(bench: &Bench) {
    let long = json!({"idle_timeout": "8h"});
    let store = Store::start(&[]);
    let mut points = Vec::new();
    for power in 1..=7 {
        let count = 10_usize.pow(power);
        let mut alone = mooring(&bench.hosts, json!({"session": long})).start("Mooring", 1, Work::Resume);
        alone.clients.count = count;
        let mut contestants = vec![bench.floor(&bench.hosts, 1), alone];
        contestants[FLOOR].clients.count = count.min(CLIENTS);
        if count <= 1_000_000 {
            let cache = json!({"entries": 10_000, "ttl": "1h"});
            let plugged = Plugged::with_store(&bench.hosts, &store, json!({"session": long, "cache": cache}));
            let mut with_store = plugged.start("Mooring with a store", 1, Work::Ask);
            with_store.clients.count = count;
            contestants.push(with_store);
        }
        points.push(bench.point(&format!("{count}"), count as f64, &bench.hosts, contestants));
    }
    // The last point lacks a contestant: a series of its own.
    let few = |rows: &[Row], names: &[&str]| -> Vec<Row> {
        rows.iter().filter(|row| names.contains(&row.name.as_str())).cloned().collect()
    };
    let of = |points: &[Point], names: &[&str]| -> Vec<Point> {
        let point = |point: &Point| Point { label: point.label.clone(), at: point.at, rows: few(&point.rows, names) };
        points.iter().map(point).filter(|point| point.rows.len() == names.len()).collect()
    };
    bench.report("sessions", "sessions", &of(&points, &["the floor", "Mooring"]));
    bench.report("stored", "sessions", &of(&points, &["the floor", "Mooring with a store"]));
}

/// Keys that the plugin has; the first signed.
fn keys(bench: &Bench) {
    let key = |number: usize| json!({"id": format!("k{number}"), "secret": {"base64": secret(number)}});
    let points = [1, 4, 16].map(|count| {
        let keys: Vec<Value> = (0..count).map(key).collect();
        let contestants = vec![
            bench.floor(&bench.hosts, 1),
            mooring(&bench.hosts, json!({"keys": keys})).start("Mooring", 1, Work::Resume),
        ];
        bench.point(&format!("{count}"), count as f64, &bench.hosts, contestants)
    });
    bench.report("keys", "keys", &points);
}

/// 32 bytes in base64, others for each number.
fn secret(number: usize) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{number:_>32}"))
}

/// Other cookies in front of ours.
fn cookies(bench: &Bench) {
    let points = [100, 1_000, 4_000, 16_000, 56_000].map(|size: usize| {
        let pairs = (0..size.div_ceil(50)).map(|number| format!("cookie{number:04}={:x<37}; ", ""));
        let mut contestants =
            vec![bench.floor(&bench.hosts, 1), mooring(&bench.hosts, json!({})).start("Mooring", 1, Work::Resume)];
        let further: String = pairs.collect();
        for contestant in &mut contestants {
            contestant.clients.count = 1_000;
            contestant.clients.further.clone_from(&further);
        }
        bench.point(&format!("{size}"), size as f64, &bench.hosts, contestants)
    });
    bench.report("cookies", "other cookies, octets", &points);
}

/// Workers, on the one core.
fn workers(bench: &Bench) {
    let points = [1, 2, 4, 8].map(|count| {
        let contestants = vec![
            bench.floor(&bench.hosts, count),
            mooring(&bench.hosts, json!({})).start("Mooring", count, Work::Resume),
        ];
        bench.point(&format!("{count}"), f64::from(count), &bench.hosts, contestants)
    });
    bench.report("workers", "workers", &points);
    let memory = |at: usize| {
        let points: Vec<(f64, f64)> = points.iter().map(|point| (point.at, point.rows[at].resident)).collect();
        (points[0].1, slope(&points))
    };
    let ((floor, floor_more), (own, own_more)) = (memory(FLOOR), memory(1));
    let told = format!(
        "\nMemory with one worker, and for each further one: {floor:.1} and {floor_more:.1} MiB for the floor, \
         {own:.1} and {own_more:.1} MiB for Mooring.\n"
    );
    let path = super::folder().join("workers.md");
    let table = std::fs::read_to_string(&path).expect("the table");
    super::write(&path, &(table + &told));
}

/// Hosts of the cluster; sessions are pinned to all of them.
fn hosts(bench: &Bench) {
    let points = [3, 100, 1_000].map(|count| {
        let hosts = Hosts::start(count);
        let contestants = vec![bench.floor(&hosts, 1), mooring(&hosts, json!({})).start("Mooring", 1, Work::Resume)];
        bench.point(&format!("{count}"), count as f64, &hosts, contestants)
    });
    bench.report("hosts", "hosts", &points);
}

/// Routes by regular expressions, of which the last matches. A filter that changes a request's header has Envoy match again.
fn routes(bench: &Bench) {
    let points = [1, 100, 3_000].map(|count: usize| {
        let routed = |mut bootstrap: Bootstrap| {
            let target = json!({"cluster": "app"});
            let route = |number| {
                json!({"match": {"safe_regex": {"regex": format!("/api/v1/resource-{number}/[0-9]+")}}, "route": target})
            };
            bootstrap.routes().splice(0..0, (1..count).map(route));
            bootstrap
        };
        let ports = &bench.hosts.ports;
        let mut plugged = mooring(&bench.hosts, json!({}));
        plugged.bootstrap = routed(plugged.bootstrap);
        let bare = Proxy::envoy(&routed(envoys::filters(ports, vec![])), 1);
        let contestants = vec![
            floor_of(&routed(envoys::filters(ports, envoys::floor())), 1),
            plugged.start("Mooring", 1, Work::Resume),
            Contestant::new("no filter", bare, Clients::with(Affinity::None), None),
        ];
        bench.point(&format!("{count}"), count as f64, &bench.hosts, contestants)
    });
    bench.report("routes", "routes", &points);
}

/// What a cached session takes of the plugin's memory.
fn cache(bench: &Bench) {
    let store = Store::start(&[]);
    let members = json!({"cache": {"entries": KEPT, "ttl": "1h"}});
    let mut contestant = Plugged::with_store(&bench.hosts, &store, members).start("Mooring", 1, Work::Ask);
    contestant.pin(&bench.cores);
    let folder = tempfile::tempdir().expect("a folder");
    let clients = folder.path().join("clients");
    let process = contestant.processes()[0];
    // The greatest of the VMs is the worker's.
    let used = || wasm_memories(process).into_iter().max().expect("a VM") as f64;
    let mut points = vec![(0.0, used(), resident(&[process]) as f64)];
    for count in [10_000, 50_000, KEPT] {
        contestant.clients.count = count;
        contestant.clients.write(&clients, &bench.hosts);
        contestant.meet_all(&clients);
        points.push((count as f64, used(), resident(&[process]) as f64));
    }
    let mut table =
        String::from("| cached sessions | memory of the VM, KiB | resident memory, MiB |\n| --- | --- | --- |\n");
    let mut csv = String::from("sessions,vm_bytes,resident_bytes\n");
    for (count, vm, resident) in &points {
        table += &format!("| {count} | {:.0} | {:.1} |\n", vm / 1024.0, resident / MIB);
        csv += &format!("{count},{vm},{resident}\n");
    }
    let of = |figure: fn(&(f64, f64, f64)) -> f64| {
        slope(&points.iter().map(|point| (point.0, figure(point))).collect::<Vec<_>>())
    };
    let (vm, resident) = (of(|point| point.1), of(|point| point.2));
    table += &format!("\nFor each session: {vm:.0} octets of the VM's memory, {resident:.0} of the process's.\n");
    save("cache", &table, &csv);
}

/// How long Envoy takes to start, and what of it is due to each worker.
fn start(bench: &Bench) {
    const WORKERS: [u32; 4] = [1, 4, 8, 16];
    let ports = &bench.hosts.ports;
    let contestants = [
        ("no filter", envoys::filters(ports, vec![])),
        ("the floor", envoys::filters(ports, envoys::floor())),
        ("Mooring", mooring(&bench.hosts, json!({})).bootstrap),
    ];
    let mut times = vec![Vec::new(); contestants.len() * WORKERS.len()];
    for round in 0..bench.rounds.max(5) {
        for turn in 0..times.len() {
            let at = (round + turn) % times.len();
            times[at].push(start_up(&contestants[at / WORKERS.len()].1, WORKERS[at % WORKERS.len()]));
        }
    }
    let mut table = String::from("| proxy |");
    WORKERS.iter().for_each(|workers| table += &format!(" {workers} workers: ms to ready, ms of CPU |"));
    table += " for each worker: ms to ready, ms of CPU |\n| --- | --- | --- | --- | --- | --- |\n";
    let mut csv = String::from("contestant,workers,ready_ms,cpu_ms\n");
    for ((name, _), times) in contestants.iter().zip(times.chunks(WORKERS.len())) {
        let median = |of: fn(&(Duration, Duration)) -> Duration| -> Vec<(f64, f64)> {
            let at = |(workers, times): (&u32, &Vec<_>)| {
                (f64::from(*workers), Spread::of(times.iter().map(|time| of(time).as_secs_f64() * 1e3)).median)
            };
            WORKERS.iter().zip(times).map(at).collect()
        };
        let (ready, cpu) = (median(|time| time.0), median(|time| time.1));
        let cells = ready.iter().zip(&cpu).map(|(ready, cpu)| format!("{:.0}, {:.0}", ready.1, cpu.1));
        let cells: Vec<String> = cells.collect();
        table += &format!("| {name} | {} | {:.1}, {:.1} |\n", cells.join(" | "), slope(&ready), slope(&cpu));
        for (workers, times) in WORKERS.iter().zip(times) {
            for (ready, cpu) in times {
                csv +=
                    &format!("\"{name}\",{workers},{:.1},{:.1}\n", ready.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3);
            }
        }
    }
    save("start", &table, &csv);
}

/// From the start of an Envoy until it is ready: the time that passes, and the processor time that it takes.
fn start_up(bootstrap: &Bootstrap, workers: u32) -> (Duration, Duration) {
    #[allow(clippy::disallowed_methods)]
    let begun = Instant::now();
    let Proxy::Envoy(envoy) = Proxy::envoy(bootstrap, workers) else { panic!("an Envoy is one") };
    (begun.elapsed(), cpu_time(&[envoy.pid()]))
}
