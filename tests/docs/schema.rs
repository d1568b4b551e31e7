//! The JSON Schema in `docs/` is what the reader of configs and the tables of `docs/configuration.md` give, and every config
//! that is shown or shipped keeps it. It takes what the reader takes, but for ranges of durations and rules about the form of a text or about several fields.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use jsonschema::Validator;
use mooring::config::Config;
use mooring::config::schema::{rows, schema};
use mooring_test_kit::pages::{Block, blocks, configs_within, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

fn validator() -> Validator {
    assert!(jsonschema::meta::is_valid(&schema()), "the schema is one of its draft");
    jsonschema::draft202012::new(&schema()).expect("a schema")
}

fn assert_valid(validator: &Validator, place: &str, config: &str) {
    let config = serde_json::from_str(config).unwrap_or_else(|error| panic!("{place}: {error}"));
    let errors: Vec<_> = validator.iter_errors(&config).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{place}: {errors:?}");
}

#[test]
fn the_schema_in_docs_is_the_one_that_the_reader_gives() {
    let committed = fs::read_to_string(root().join("docs/mooring.schema.json")).expect("docs/mooring.schema.json");
    let generated = format!("{:#}\n", schema());
    assert!(committed == generated, "it is out of date: cargo run -p mooring-cli -- schema > docs/mooring.schema.json");
}

#[test]
fn every_config_of_the_pages_keeps_the_schema() {
    let validator = validator();
    let mut tried: u32 = 0;
    for Block { place, marker, text, .. } in blocks("json") {
        if matches!(marker.as_deref(), None | Some("defaults" | "store defaults")) {
            assert_valid(&validator, &place, &text);
            tried = tried.saturating_add(1);
        }
    }
    for Block { place, text, .. } in blocks("yaml") {
        for config in configs_within(&text).expect("YAML") {
            assert_valid(&validator, &place, &config);
            tried = tried.saturating_add(1);
        }
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn every_config_that_is_shipped_keeps_the_schema() {
    let validator = validator();
    let mut tried: u32 = 0;
    for folder in ["envoy", "deploy/istio/gateway", "deploy/istio/sidecar"] {
        for entry in fs::read_dir(root().join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                for config in configs_within(&fs::read_to_string(&path).expect("UTF-8")).expect("YAML") {
                    assert_valid(&validator, &path.display().to_string(), &config);
                    tried = tried.saturating_add(1);
                }
            }
        }
    }
    assert!(tried >= 8, "{tried}");
}

/// What the schema has for a field, as in `keys[].id`; and whether the field is required.
fn node(schema: &Value, field: &str) -> (Value, bool) {
    field.split('.').fold((schema.clone(), false), |(node, _), step| {
        let name = step.trim_end_matches("[]");
        let required = node["required"].as_array().is_some_and(|names| names.iter().any(|known| known == name));
        let member = &node["properties"][name];
        (if step.ends_with("[]") { member["items"].clone() } else { member.clone() }, required)
    })
}

#[test]
fn the_tables_and_the_schema_say_the_same_of_every_field() {
    let schema = schema();
    let mut ranges: u32 = 0;
    for row in rows() {
        let (node, required) = node(&schema, row.field);
        assert_eq!(row.is_required(), required, "{}", row.field);
        let kinds = node["type"].as_array().into_iter().flatten().chain([&node["type"]]);
        let kinds: BTreeSet<&str> = kinds.filter_map(Value::as_str).collect();
        let documented = row.kind.split(" or ").map(|kind| match kind {
            "number" => "integer",
            "duration" => "string",
            kind => kind,
        });
        assert_eq!(documented.collect::<BTreeSet<_>>(), kinds, "{}", row.field);
        assert_eq!(row.kind == "duration", node["pattern"].is_string(), "{}", row.field);
        if let Some(default) = row.default() {
            assert_eq!(node["default"], default, "{}", row.field);
            assert!(jsonschema::is_valid(&node, &default), "{}: {default}", row.field);
        }
        for range in [["minimum", "maximum"], ["minItems", "maxItems"]] {
            if let [Some(from), Some(to)] = range.map(|bound| node[bound].as_u64()) {
                let documented = row.accepted.replace(',', "");
                assert!(documented.contains(&format!("{from} to {to}")), "{}: {documented}", row.field);
                ranges = ranges.saturating_add(1);
            }
        }
    }
    assert_eq!(ranges, 3, "keys, identify and cache.entries");
}

/// The places of all fields in the schema.
fn fields(node: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (name, member) in node["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        found.push((path.clone(), member.clone()));
        fields(member, &path, found);
        fields(&member["items"], &format!("{path}[]"), found);
    }
}

#[test]
fn every_field_of_the_schema_has_a_row_that_describes_it() {
    let mut found = Vec::new();
    fields(&schema(), "", &mut found);
    let documented: BTreeSet<&str> = rows().map(|row| row.field).collect();
    assert_eq!(found.iter().map(|(path, _)| path.as_str()).collect::<BTreeSet<_>>(), documented);
    for (path, node) in found {
        let description = node["description"].as_str().unwrap_or_else(|| panic!("{path} has no description"));
        assert!(!description.contains(['`', '[', '|']), "{path}: {description}");
    }
}

/// How the reader's rules begin that the schema holds as well.
const HELD_BY_BOTH: [&str; 16] = [
    "has 0 keys;",
    "has 0 ways;",
    "has 0 of",
    "is null;",
    "is a boolean;",
    "is a number;",
    "is a string;",
    "is an array;",
    "is an object;",
    "is not known;",
    "is not a duration;",
    "is out of range; accepted is a whole number",
    "is an unknown field;",
    "is an unknown field, and there are none here;",
    "is missing;",
    "names not exactly one source;",
];

/// The smallest config that is accepted, with this value at a path, as in `keys[].id`.
fn config_with(path: &str, value: Value) -> Value {
    let mut config = json!({
        "keys": [{"id": "k", "secret": {"base64": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}}],
    });
    if path.starts_with("store") {
        config["store"] = json!({"cluster": "session_store"});
    }
    if path.starts_with("identify[]") {
        config["identify"] = json!([{}]);
    }
    let mut node = &mut config;
    for step in path.split('.') {
        // One source of a secret, not two.
        if matches!(step, "env" | "base64" | "text") {
            *node = json!({});
        }
        node = &mut node[step.trim_end_matches("[]")];
        if step.ends_with("[]") {
            node = &mut node[0];
        }
    }
    *node = value;
    config
}

#[test]
fn the_schema_takes_what_the_reader_takes_of_every_field() {
    let schema = schema();
    let validator = validator();
    let mut found = Vec::new();
    fields(&schema, "", &mut found);
    let (mut taken, mut refused): (u32, u32) = (0, 0);
    for (path, node) in found {
        let of_kinds = [
            json!(null),
            json!(true),
            json!(0),
            json!(1),
            json!(-1),
            json!(1.5),
            json!(1e9),
            json!(""),
            json!("x"),
            json!("0s"),
            json!("5m"),
            json!("250ms"),
            json!("5"),
            json!("5 m"),
            json!("5w"),
            json!([]),
            json!({}),
            json!({"unknown": 1}),
        ];
        let words = node["enum"].as_array().cloned().unwrap_or_default();
        let bounds = ["minimum", "maximum"].into_iter().filter_map(|bound| node[bound].as_i64());
        let near = bounds.flat_map(|bound| [bound - 1, bound, bound + 1]).map(Value::from);
        for value in of_kinds.into_iter().chain(words).chain(near) {
            let config = config_with(&path, value);
            let read = Config::parse(config.to_string().as_bytes(), &|_| Some(b"x".to_vec()));
            let broken = read.err().is_some_and(|errors| {
                let rules = errors.0.iter().map(|error| &error.rule);
                rules.into_iter().any(|rule| HELD_BY_BOTH.iter().any(|start| rule.starts_with(start)))
            });
            assert_eq!(validator.is_valid(&config), !broken, "{path}: {config}");
            *if broken { &mut refused } else { &mut taken } += 1;
        }
    }
    assert!(taken > 100 && refused > 400, "{taken} were taken, {refused} refused");
}
