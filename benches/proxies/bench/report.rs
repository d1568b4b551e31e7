//! Results as a table and as CSV.

use super::rounds::Results;
use super::statistics::Spread;

const MIB: f64 = 1024.0 * 1024.0;

/// What is told of a contestant, against the floor.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    /// Microseconds of processor time for a request.
    pub cost: Spread,
    /// The same over the floor, from rounds of the same number.
    pub over: Spread,
    pub ratio: Spread,
    pub rate: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub resident: f64,
}

/// A row for each contestant; `floor` is the place of the one that the others are measured against.
pub fn rows(names: &[String], results: &Results, floor: usize) -> Vec<Row> {
    let floor = &results[floor];
    let row = |(name, rounds): (&String, &Vec<super::contestant::Measured>)| {
        let pairs = || rounds.iter().zip(floor);
        let median = |figure: fn(&super::contestant::Measured) -> f64| Spread::of(rounds.iter().map(figure)).median;
        Row {
            name: name.clone(),
            cost: Spread::of(rounds.iter().map(|measured| measured.cost())),
            over: Spread::of(pairs().map(|(measured, floor)| measured.cost() - floor.cost())),
            ratio: Spread::of(pairs().map(|(measured, floor)| measured.cost() / floor.cost())),
            rate: median(|measured| measured.load.requests as f64 / measured.load.seconds),
            p50_ms: median(|measured| measured.load.p50_ms),
            p99_ms: median(|measured| measured.load.p99_ms),
            resident: median(|measured| measured.resident as f64) / MIB,
        }
    };
    names.iter().zip(results).map(row).collect()
}

/// A table in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| proxy | CPU for a request, µs | over the floor, µs | times the floor \
         | requests/s | p50, ms | p99, ms | memory, MiB |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let Row { name, cost, over, ratio, rate, p50_ms, p99_ms, resident } = row;
        let spread = |of: &Spread| format!("{:.1} ({:.1} to {:.1})", of.median, of.low, of.high);
        let (cost, over, ratio) = (spread(cost), spread(over), ratio.median);
        table += &format!(
            "| {name} | {cost} | {over} | {ratio:.2} | {rate:.0} | {p50_ms:.2} | {p99_ms:.2} | {resident:.0} |\n"
        );
    }
    table
}

/// A line for each round of each contestant.
pub fn csv(names: &[String], results: &Results) -> String {
    let mut csv =
        String::from("contestant,round,requests,seconds,cpu_seconds,cpu_us_per_request,p50_ms,p99_ms,resident_bytes\n");
    for (name, rounds) in names.iter().zip(results) {
        for (round, measured) in rounds.iter().enumerate() {
            let (load, round) = (measured.load, round + 1);
            let (cpu, cost) = (measured.cpu.as_secs_f64(), measured.cost());
            csv += &format!(
                "\"{name}\",{round},{},{:.3},{cpu:.6},{cost:.3},{:.3},{:.3},{}\n",
                load.requests, load.seconds, load.p50_ms, load.p99_ms, measured.resident
            );
        }
    }
    csv
}
