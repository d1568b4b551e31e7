//! The JSON Schema of the configuration (`docs/mooring.schema.json`), for editors. Never part of the plugin.
//!
//! Types, words, ranges, members and defaults are what the reader tells of itself; what a field does is what the tables of
//! `docs/configuration.md` say. Rules about the form of a text, or about several fields, are the reader's alone.

use super::description::{FieldDescription, Note};
use super::reader::Report;
use crate::text::json::Json;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../docs/configuration.md");

/// The schema, of JSON Schema's draft 2020-12.
pub fn schema() -> Value {
    let fields = Report::describe(|root| super::read(root, &|_| None)).into_fields();
    let mut schema = value(&fields, "");
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "The configuration of Mooring".into());
    schema.into()
}

fn value(fields: &BTreeMap<String, FieldDescription>, path: &str) -> Map<String, Value> {
    let Some(FieldDescription { kind: Some(kind), nullable, exactly_one, default, .. }) = fields.get(path) else {
        return Map::new();
    };
    let member = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let (name, rules) = match kind {
        Note::Boolean => ("boolean", json!({})),
        Note::Text => ("string", json!({})),
        Note::Words(words) => ("string", json!({"enum": words})),
        Note::Whole(range) => ("integer", json!({"minimum": range.start(), "maximum": range.end()})),
        // Its range is in words, and the reader's: as a pattern nobody could read it.
        Note::Duration => ("string", json!({"pattern": "^[0-9]+(ms|s|m|h|d)$"})),
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
        Note::Required | Note::Nullable | Note::ExactlyOne | Note::Default(_) => return Map::new(),
    };
    let mut schema = if *nullable { json!({"type": [name, "null"]}) } else { json!({"type": name}) };
    merge(&mut schema, rules);
    if let (true, Some(Value::Array(words))) = (*nullable, schema.get_mut("enum")) {
        words.push(Value::Null);
    }
    if let Some(row) = rows().find(|row| row.field == path) {
        merge(&mut schema, json!({"description": row.description()}));
    }
    if let Some(default) = default {
        merge(&mut schema, json!({"default": plain_value(default)}));
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

/// A default: its numbers are whole.
fn plain_value(json: &Json) -> Value {
    match json {
        Json::Bool(value) => (*value).into(),
        Json::String(text) => text.as_str().into(),
        #[allow(clippy::cast_possible_truncation)]
        Json::Number(number) => (*number as i64).into(),
        Json::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), plain_value(value))).collect::<Map<_, _>>().into()
        }
        Json::Array(items) => items.iter().map(plain_value).collect(),
        Json::Null => Value::Null,
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
