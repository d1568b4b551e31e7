//! The JSON Schema of the configuration (`docs/mooring.schema.json`), for editors. Never part of the plugin.
//!
//! Types, words, ranges and members are what the reader tells of itself; what a field does, and its default, is what the tables
//! of `docs/configuration.md` say, which the tests hold against the reader. Rules about the form of a text, or about several
//! fields, are the reader's alone.

use super::description::{Known, Note};
use super::fields::Report;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const PAGE: &str = include_str!("../../docs/configuration.md");

/// The schema, of JSON Schema's draft 2020-12.
pub fn schema() -> Value {
    let fields = Report::describe(|root| super::read(root, &|_| None)).into_fields();
    let mut schema = value(&fields, "");
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "The configuration of Mooring".into());
    schema.into()
}

fn value(fields: &BTreeMap<String, Known>, path: &str) -> Map<String, Value> {
    let Some(Known { kind: Some(kind), nullable, exactly_one, .. }) = fields.get(path) else { return Map::new() };
    let member = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let (name, rules) = match kind {
        Note::Boolean => ("boolean", json!({})),
        Note::Text => ("string", json!({})),
        Note::Words(words) => ("string", json!({"enum": words})),
        Note::Whole(range) => ("integer", json!({"minimum": range.start(), "maximum": range.end()})),
        Note::Duration { shortest, longest, whole_seconds } => {
            ("string", json!({"pattern": pattern(*shortest, *longest, *whole_seconds)}))
        }
        Note::Items(count) => {
            let items = value(fields, &format!("{path}[]"));
            ("array", json!({"items": items, "minItems": count.start(), "maxItems": count.end()}))
        }
        Note::Members(names) => {
            let members: Map<_, _> =
                names.iter().map(|name| (name.clone(), value(fields, &member(name)).into())).collect();
            let is_required = |name: &&String| fields.get(&member(name)).is_some_and(|known| known.required);
            let required: Vec<_> = names.iter().filter(is_required).collect();
            let mut rules = json!({"properties": members, "additionalProperties": false});
            if !required.is_empty() {
                merge(&mut rules, json!({"required": required}));
            }
            if *exactly_one {
                merge(&mut rules, json!({"minProperties": 1, "maxProperties": 1}));
            }
            ("object", rules)
        }
        // No kinds of values.
        Note::Required | Note::Nullable | Note::ExactlyOne => return Map::new(),
    };
    let mut schema = if *nullable { json!({"type": [name, "null"]}) } else { json!({"type": name}) };
    merge(&mut schema, rules);
    if let (true, Some(Value::Array(words))) = (*nullable, schema.get_mut("enum")) {
        words.push(Value::Null);
    }
    if let Some(row) = rows().find(|row| row.field == path) {
        merge(&mut schema, json!({"description": row.description()}));
        if let Some(default) = row.default() {
            merge(&mut schema, json!({"default": default}));
        }
    }
    match schema {
        Value::Object(schema) => schema,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

fn merge(schema: &mut Value, more: Value) {
    if let (Value::Object(schema), Value::Object(more)) = (schema, more) {
        schema.extend(more);
    }
}

/// A row of the tables: field, type, default, accepted, what it does.
pub struct Row {
    /// The field's path, as in `keys[].id`.
    pub field: &'static str,
    /// Its type, in words.
    pub kind: &'static str,
    default: &'static str,
    /// What is accepted, in words.
    pub accepted: &'static str,
    purpose: &'static str,
}

/// The rows of every table of fields.
pub fn rows() -> impl Iterator<Item = Row> {
    PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let mut cell = || cells.next();
        let (field, kind, default) = (cell()?.trim_end_matches('`'), cell()?, cell()?);
        Some(Row { field, kind, default, accepted: cell()?, purpose: cell()? })
    })
}

impl Row {
    /// Whether the field has to be there.
    pub fn is_required(&self) -> bool {
        self.default == "required"
    }

    /// The default, where it is always the same.
    pub fn default(&self) -> Option<Value> {
        serde_json::from_str(self.default.strip_prefix('`')?.strip_suffix('`')?).ok()
    }

    /// What an editor shows: what the field does, and what it accepts.
    fn description(&self) -> String {
        let accepted = if self.accepted.is_empty() { String::new() } else { format!(" Accepted: {}.", self.accepted) };
        plain(&format!("{}{accepted}", self.purpose))
    }
}

/// Without Markdown's marks: a link is its text.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    for (at, part) in markdown.split("](").enumerate() {
        let part = if at == 0 { part } else { part.split_once(')').map_or(part, |(_, rest)| rest) };
        text.push_str(&part.replace(['`', '['], ""));
    }
    text
}

/// A pattern for the durations between these, both included.
fn pattern(shortest: Duration, longest: Duration, whole_seconds: bool) -> String {
    let (shortest, longest) = (millis(shortest), millis(longest));
    let numbers = |unit: u64| {
        let (from, to) = (shortest.div_ceil(unit), longest.checked_div(unit).unwrap_or_default());
        (from <= to).then(|| numbers(from, to))
    };
    let milliseconds = if whole_seconds {
        let zero = if shortest == 0 { "0|" } else { "" };
        numbers(1000).map(|seconds| format!("{zero}(?:{seconds})000"))
    } else {
        numbers(1)
    };
    let units = [("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let others = units.into_iter().map(|(unit, length)| (unit, numbers(length)));
    let forms = std::iter::once(("ms", milliseconds)).chain(others);
    let forms: Vec<_> = forms.filter_map(|(unit, numbers)| Some(format!("(?:{}){unit}", numbers?))).collect();
    format!("^0*(?:{})$", forms.join("|"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A pattern for the whole numbers from `from` to `to`, without zeros in front.
fn numbers(from: u64, to: u64) -> String {
    let mut patterns = Vec::new();
    let mut next = from;
    while next <= to {
        // The longest stretch that begins here and has one pattern: its last digits go from all zeros to all nines.
        let mut last = next;
        let mut free: u32 = 0;
        while let Some(power) = 10u64.checked_pow(free.saturating_add(1))
            && next.is_multiple_of(power)
            && let Some(end) = next.checked_add(power.saturating_sub(1))
            && end <= to
            && next > 0
        {
            last = end;
            free = free.saturating_add(1);
        }
        // And the digit before these may go on.
        let power = 10u64.saturating_pow(free);
        let digit = next.checked_div(power).unwrap_or_default() % 10;
        let fits = |more: &u64| {
            let end = last.saturating_add(power.saturating_mul(*more));
            digit.saturating_add(*more) <= 9 && end <= to && end.to_string().len() == next.to_string().len()
        };
        let more = (1..10).take_while(fits).last().unwrap_or_default();
        last = last.saturating_add(power.saturating_mul(more));
        let fixed = next.checked_div(power.saturating_mul(10)).filter(|fixed| *fixed > 0);
        let class = match more {
            0 => digit.to_string(),
            more => format!("[{digit}-{}]", digit.saturating_add(more)),
        };
        let fixed = fixed.map(|fixed| fixed.to_string()).unwrap_or_default();
        patterns.push(match free {
            0 => format!("{fixed}{class}"),
            1 => format!("{fixed}{class}[0-9]"),
            free => format!("{fixed}{class}[0-9]{{{free}}}"),
        });
        next = last.saturating_add(1);
    }
    patterns.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::duration;

    /// Whether JSON Schema's own rules take `value` for the pattern.
    fn matches(pattern: &str, value: &str) -> bool {
        jsonschema::is_valid(&json!({"pattern": pattern}), &value.into())
    }

    #[test]
    fn the_pattern_of_numbers_takes_those_and_no_other() {
        for (from, to) in
            [(0, 0), (0, 1), (0, 10), (1, 9), (7, 11), (1, 400), (0, 3600), (99, 101), (100, 3599), (85, 1234)]
        {
            let pattern = format!("^(?:{})$", numbers(from, to));
            let schema = jsonschema::validator_for(&json!({"pattern": pattern})).unwrap();
            for number in 0..5000u64 {
                let taken = schema.is_valid(&number.to_string().into());
                assert_eq!(taken, (from..=to).contains(&number), "{number} in {from}..={to}: {pattern}");
            }
        }
    }

    #[test]
    fn the_pattern_of_durations_agrees_with_the_reader() {
        let seconds = Duration::from_secs;
        for (shortest, longest, whole_seconds) in [
            (Duration::from_millis(1), seconds(10), false),
            (Duration::from_millis(100), seconds(3600), false),
            (seconds(0), seconds(3600), true),
            (seconds(0), seconds(400 * 86_400), true),
            (seconds(2), seconds(90), true),
        ] {
            let pattern = pattern(shortest, longest, whole_seconds);
            let near = [shortest, longest].map(millis).into_iter().flat_map(|bound| {
                let units = [1, 1000, 60_000, 3_600_000, 86_400_000];
                units.map(|unit| bound / unit).into_iter().flat_map(|n| n.saturating_sub(2)..n + 3).collect::<Vec<_>>()
            });
            let numbers: Vec<u64> = near.chain(0..20).chain([500, 1000, 1500, 2000, 60_000, 90_000]).collect();
            for unit in ["ms", "s", "m", "h", "d", "", "w"] {
                for text in
                    numbers.iter().flat_map(|n| [format!("{n}{unit}"), format!("00{n}{unit}"), format!(" {n}{unit}")])
                {
                    let read = duration::parse(&text).filter(|value| (shortest..=longest).contains(value));
                    let taken = read.is_some_and(|value| !whole_seconds || value.subsec_nanos() == 0);
                    assert_eq!(matches(&pattern, &text), taken, "{text}: {pattern}");
                }
            }
        }
    }
}
