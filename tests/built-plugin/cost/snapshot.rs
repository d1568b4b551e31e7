//! What each kind of request cost when the snapshot was last written, and how that compares.

use crate::plugin::Cost;
use std::fmt;

pub const PATH: &str = "tests/built-plugin/cost/snapshot.txt";

/// One kind of request in the snapshot.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    name: String,
    instructions: i64,
    /// A line for each callback that made host calls.
    calls: Vec<String>,
}

impl Entry {
    pub fn new(name: &str, cost: &Cost) -> Self {
        Self { name: name.into(), instructions: cost.instructions(), calls: cost.calls() }
    }

    fn parse(block: &str) -> Option<Self> {
        let mut lines = block.lines();
        let (name, instructions) = lines.next()?.strip_suffix(" instructions")?.rsplit_once(": ")?;
        let calls = lines.map(|line| line.trim_start().into()).collect();
        Some(Self { name: name.into(), instructions: instructions.parse().ok()?, calls })
    }

    /// Other compilers and optimisers arrange the same code otherwise: a build without wasm-opt needs 1 to 4 % more, and some fifty
    /// instructions more where there are only a thousand.
    fn is_like(&self, now: &Self) -> bool {
        let tolerance = self.instructions / 20 + 100;
        self.calls == now.calls && (now.instructions - self.instructions).abs() <= tolerance
    }

    fn difference(&self, now: &Self) -> String {
        let percent = 100.0 * (now.instructions as f64 / self.instructions as f64 - 1.0);
        let lines = |sign, of: &Self, than: &Self| -> String {
            of.calls.iter().filter(|line| !than.calls.contains(line)).map(|line| format!("\n{sign} {line}")).collect()
        };
        let (name, was, is) = (&self.name, self.instructions, now.instructions);
        let (less, more) = (lines('-', self, now), lines('+', now, self));
        format!("{name}: {was} instructions, now {is} ({percent:+.1} %){less}{more}\n")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} instructions", self.name, self.instructions)?;
        self.calls.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

pub fn parse(text: &str) -> Vec<Entry> {
    text.split("\n\n")
        .map(|block| Entry::parse(block).unwrap_or_else(|| panic!("no kind of request: {block}")))
        .collect()
}

pub fn written(entries: &[Entry]) -> String {
    entries.iter().map(Entry::to_string).collect::<Vec<_>>().join("\n")
}

/// What differs, kind by kind.
pub fn differences(was: &[Entry], now: &[Entry]) -> String {
    let of_the_name = |entries: &'_ [Entry], name: &str| entries.iter().position(|entry| entry.name == name);
    let gone =
        was.iter().filter(|was| of_the_name(now, &was.name).is_none()).map(|was| format!("no longer there: {was}"));
    let other = now.iter().filter_map(|now| match of_the_name(was, &now.name).map(|at| &was[at]) {
        None => Some(format!("not yet there: {now}")),
        Some(was) => (!was.is_like(now)).then(|| was.difference(now)),
    });
    gone.chain(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(instructions: i64, calls: &[&str]) -> Entry {
        Entry { name: "new".into(), instructions, calls: calls.iter().map(|&line| line.into()).collect() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let entries = [entry(5, &["on_tick: log, random_get (2 times)", "on_delete: log"]), entry(0, &[])];
        assert_eq!(parse(&written(&entries)), entries);
    }

    #[test]
    fn a_twentieth_is_another_compiler_and_a_tenth_is_a_change() {
        let found = |now| differences(&[entry(10_000, &[])], &[entry(now, &[])]);
        assert_eq!([found(9_500), found(10_500)], ["", ""]);
        assert_eq!(found(11_000), "new: 10000 instructions, now 11000 (+10.0 %)\n");
        assert_eq!(found(9_000), "new: 10000 instructions, now 9000 (-10.0 %)\n");
    }

    #[test]
    fn another_host_call_is_found_and_so_is_a_kind_that_is_only_on_one_side() {
        let (was, now) = ([entry(10, &["on_tick: log"])], [entry(10, &["on_tick: log, log"])]);
        let found = "new: 10 instructions, now 10 (+0.0 %)\n- on_tick: log\n+ on_tick: log, log\n";
        assert_eq!(differences(&was, &now), found);
        assert_eq!(differences(&was, &[]), "no longer there: new: 10 instructions\n  on_tick: log\n");
        assert_eq!(differences(&[], &was), "not yet there: new: 10 instructions\n  on_tick: log\n");
    }
}
