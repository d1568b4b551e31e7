//! What the pages under `docs/` and those beside the README show is tried: configs, YAML, and the tables of fields. Its links are
//! for `scripts/test lint`.
//!
//! A `json` block is a config that is accepted. A comment in front of it says otherwise: `<!-- refused: PATH, … -->`, with the place of
//! each error; `<!-- defaults -->` and `<!-- store defaults -->`, configs that say what the defaults are, of the whole and of a store;
//! `<!-- vectors -->`, no config, left to the tests of the token; `<!-- store vectors -->`, none either, read here.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use mooring::clock::UnixTime;
use mooring::config::{Config, ConfigErrors};
use mooring::credential::keyring::{KeyPosition, Keyring};
use mooring::session::pin::{ClusterId, HostAddr, Pin, Pins};
use mooring::session::{Session, SessionId};
use mooring::store::protocol::StoreKey;
use mooring::store::value::{self, Stored};
use mooring_test_kit::pages::{Block, Page, blocks, configs_within, pages, root};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const UNKNOWN: &str = "is an unknown field; accepted is ";

fn configuration() -> Page {
    pages().into_iter().find(|page| page.path.ends_with("docs/configuration.md")).expect("docs/configuration.md")
}

/// An environment with every variable, each with a secret of its own.
fn environment(name: &str) -> Option<Vec<u8>> {
    Some(STANDARD.encode(format!("{name:_>32}")).into_bytes())
}

fn parse(json: &str) -> Result<Config, ConfigErrors> {
    Config::parse(json.as_bytes(), &environment)
}

#[test]
fn every_config_is_accepted_or_refused_as_its_page_says() {
    for Block { place, marker, text, .. } in blocks("json") {
        match marker.as_deref() {
            Some("vectors" | "store vectors") => {}
            None | Some("defaults" | "store defaults") => {
                parse(&text).unwrap_or_else(|errors| panic!("{place}: {errors}"));
            }
            Some(marker) => {
                let refused = marker.strip_prefix("refused:").unwrap_or_else(|| panic!("{place}: what is {marker:?}?"));
                let expected: Vec<&str> = refused.split(',').map(str::trim).collect();
                let errors = parse(&text).map(drop).expect_err(&place);
                let paths: Vec<&str> = errors.0.iter().map(|error| error.path.as_str()).collect();
                assert_eq!(paths, expected, "{place}: {errors}");
            }
        }
    }
}

#[test]
fn a_refusal_that_is_quoted_is_what_the_program_says() {
    let mut quoted: u32 = 0;
    for page in pages() {
        let mut refused = None;
        for block in page.blocks() {
            if block.text.starts_with("mooring: the config is refused") {
                let errors: ConfigErrors =
                    refused.take().unwrap_or_else(|| panic!("{}: of which config?", block.place));
                assert_eq!(block.text.trim_end(), errors.to_string(), "{}", block.place);
                quoted = quoted.saturating_add(1);
            } else {
                refused =
                    Some(block).filter(|block| block.language == "json").and_then(|block| parse(&block.text).err());
            }
        }
    }
    assert!(quoted > 0);
}

#[test]
fn yaml_is_yaml_and_a_config_within_it_is_accepted() {
    let mut tried: u32 = 0;
    for Block { place, text, .. } in blocks("yaml") {
        for config in configs_within(&text).unwrap_or_else(|error| panic!("{place}: {error}")) {
            parse(&config).unwrap_or_else(|errors| panic!("{place}: {errors}"));
            tried = tried.saturating_add(1);
        }
    }
    assert!(tried > 0);
}

/// What the page about clients shows is what `tests/clients` runs: whole lines of a program in `examples/clients`.
#[test]
fn every_program_on_the_page_about_clients_is_one_that_the_tests_run() {
    let page = pages().into_iter().find(|page| page.path.ends_with("docs/clients.md")).expect("docs/clients.md");
    let programs = fs::read_dir(root().join("examples/clients")).expect("programs");
    let programs =
        programs.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().unwrap() != "proto");
    let programs: Vec<(PathBuf, String)> =
        programs.map(|path| (path.clone(), format!("\n{}", fs::read_to_string(path).unwrap()))).collect();
    let mut seen = BTreeSet::new();
    for Block { place, text, .. } in
        page.blocks().into_iter().filter(|block| ["js", "python"].contains(&&*block.language))
    {
        let program = programs.iter().find(|(_, program)| program.contains(&format!("\n{text}")));
        seen.insert(&program.unwrap_or_else(|| panic!("{place} is in no program")).0);
    }
    let unseen: Vec<_> = programs.iter().filter(|(path, _)| !seen.contains(path)).map(|(path, _)| path).collect();
    assert!(unseen.is_empty(), "not on the page: {unseen:?}");
}

/// The tests that a page names: links to Rust files, with a name in code marks as text, as in [`name`](file.rs).
fn tests_named(page: &Page) -> Vec<(String, PathBuf)> {
    let links = page.text.split("[`").skip(1).filter_map(|rest| rest.split_once("`]("));
    let named = links.filter_map(|(name, rest)| Some((name.to_owned(), rest.split_once(')')?.0)));
    let folder = page.path.parent().unwrap();
    named.filter(|(_, file)| file.ends_with(".rs")).map(|(name, file)| (name, folder.join(file))).collect()
}

#[test]
fn every_test_that_a_page_names_is_one() {
    let mut found: u32 = 0;
    for page in pages() {
        for (name, file) in tests_named(&page) {
            let code = fs::read_to_string(&file)
                .unwrap_or_else(|_| panic!("{}: {} leads nowhere", page.name(), file.display()));
            let test = code.split(&format!("fn {name}(")).next().filter(|before| before.len() < code.len());
            let is_test = test.is_some_and(|before| before.trim_end().ends_with("#[test]"));
            let scenario = code.contains(&format!("pub fn {name}<W: World>")) && code.contains(&format!(" {name},\n"));
            assert!(is_test || scenario, "{}: {} has no test {name}", page.name(), file.display());
            found = found.saturating_add(1);
        }
    }
    assert!(found > 50, "{found}");
}

#[test]
fn every_attack_on_the_page_about_security_has_a_test() {
    let page = pages().into_iter().find(|page| page.path.ends_with("docs/security.md")).expect("docs/security.md");
    let rows = page.rows("attack");
    assert!(rows.len() > 20, "{}", rows.len());
    for row in rows {
        assert!(row[2].starts_with("[`"), "{} has no test", row[0]);
    }
}

#[test]
fn what_measurements_write_is_there() {
    let mut filled = 0;
    for page in pages() {
        for marker in page.text.split("<!-- end of ").skip(1).filter_map(|end| Some(end.split_once(" -->")?.0)) {
            let begin = format!("<!-- {marker} -->");
            let block = page.text.split_once(&begin).and_then(|(_, block)| block.split_once("<!-- end of "));
            assert!(block.is_some_and(|(block, _)| block.lines().count() > 3), "{}: {marker}", page.name());
            filled += 1;
        }
    }
    assert!(filled > 5, "{filled}");
}

/// The fields that the parser accepts, as `cookie.name` or `keys[].id`. It is asked for them: the error of an unknown field tells.
fn accepted_fields() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let mut unexplored = vec![String::new()];
    while let Some(path) = unexplored.pop() {
        for section in [path.clone(), format!("{path}[]")] {
            for name in members_of(&section) {
                let field = if section.is_empty() { name } else { format!("{section}.{name}") };
                if fields.insert(field.clone()) {
                    unexplored.push(field);
                }
            }
        }
    }
    fields
}

/// The names that are accepted in an object at this place; none where there is no object.
fn members_of(section: &str) -> Vec<String> {
    let steps = section.split('.').filter(|step| !step.is_empty()).rev();
    let config = steps.fold(json!({"?": 0}), |inner, step| match step.strip_suffix("[]") {
        Some(name) => json!({name: [inner]}),
        None => json!({step: inner}),
    });
    let place = section.replace("[]", "[0]");
    let place = if place.is_empty() { "?".to_owned() } else { format!("{place}.?") };
    let errors = parse(&config.to_string()).map(drop).expect_err("a config without keys");
    let rules = errors.0.iter().filter(|error| error.path == place);
    let names = rules.filter_map(|error| error.rule.strip_prefix(UNKNOWN)).flat_map(|names| names.split(", "));
    names.map(str::to_owned).collect()
}

#[test]
fn the_tables_have_every_field_and_no_other() {
    let page = configuration();
    let rows = page.rows("field");
    let documented: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let accepted = accepted_fields();
    assert!(accepted.contains("keys[].secret.env") && accepted.contains("cookie.name"), "{accepted:?}");
    assert_eq!(documented, accepted);
    assert_eq!(documented.len(), rows.len(), "a field has one row");
}

/// The config of the page that has this marker.
fn marked(page: &Page, marker: &str) -> Value {
    let blocks = page.blocks();
    let block = blocks.iter().find(|block| block.marker.as_deref() == Some(marker)).expect(marker);
    serde_json::from_str(&block.text).unwrap()
}

#[test]
fn the_defaults_are_what_the_page_says() {
    let page = configuration();
    let [defaults, with_a_store] = ["defaults", "store defaults"].map(|marker| marked(&page, marker));
    let keys_alone = json!({"keys": defaults["keys"]});
    let cluster_alone = json!({"keys": with_a_store["keys"], "store": {"cluster": with_a_store["store"]["cluster"]}});
    for (written_out, left_out) in [(&defaults, keys_alone), (&with_a_store, cluster_alone)] {
        let [written_out, left_out] =
            [written_out, &left_out].map(|json| format!("{:?}", parse(&json.to_string()).unwrap()));
        assert_eq!(written_out, left_out);
    }

    // What is in an array, or has no default, is not among them.
    for row in page.rows("field").iter().filter(|row| !row[0].contains("[]") && !row[2].is_empty()) {
        let field = row[0].trim_matches('`');
        let pointer = format!("/{}", field.replace('.', "/"));
        let defaults = if field.starts_with("store.") { &with_a_store } else { &defaults };
        let value = defaults.pointer(&pointer).unwrap_or_else(|| panic!("{field} is not among the defaults"));
        let cell = serde_json::from_str::<Value>(row[2].trim_matches('`')).ok().filter(|cell| !cell.is_object());
        if let Some(cell) = cell {
            assert_eq!(cell, *value, "{field}");
        }
    }
}

/// Which rule a config breaks in which this field, and no other, has this value.
fn rule_broken_by(field: &str, value: &str) -> String {
    let config = field.rsplit('.').fold(json!(value), |inner, step| json!({step: inner}));
    let errors = parse(&config.to_string()).map(drop).expect_err("a config without keys").0;
    errors.into_iter().find(|error| error.path == field).map(|error| error.rule).unwrap_or_default()
}

#[test]
fn words_and_durations_are_those_that_the_parser_accepts() {
    let mut compared: u32 = 0;
    for row in configuration().rows("field").iter().filter(|row| !row[0].contains("[]")) {
        let (field, documented) = (row[0].trim_matches('`'), row[3]);
        let (word, duration) = (rule_broken_by(field, "?"), rule_broken_by(field, "99999d"));
        if let Some((_, words)) = word.split_once("accepted is one of ") {
            assert_eq!(documented, words.replace('"', "`"), "{field}");
            compared = compared.saturating_add(1);
        }
        if let Some((from, to)) =
            duration.split_once("a duration from ").and_then(|(_, range)| range.split_once(" to "))
        {
            assert!(documented.starts_with(&format!("`{from}` to `{to}`")), "{field}: {duration}");
            compared = compared.saturating_add(1);
        }
    }
    assert_eq!(compared, 14, "nine fields of words, five durations");
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} of {value}"))
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The vectors of the page called so.
fn vectors(page: &str, marker: &str) -> Value {
    marked(&pages().into_iter().find(|known| known.path.ends_with(page)).expect("a page"), marker)
}

/// The keys of the vectors, the one called `first` in front.
fn keyring(first: &str, scope: &str) -> Keyring {
    let vectors = vectors("docs/token.md", "vectors");
    let mut secrets: Vec<_> = vectors["secrets"].as_object().unwrap().iter().collect();
    secrets.sort_by_key(|(id, _)| *id != first);
    let key = |(id, secret): (&String, &Value)| {
        let secret = STANDARD.encode(bytes(secret.as_str().unwrap()));
        json!({"id": id, "secret": {"base64": secret}})
    };
    let keys: Vec<Value> = secrets.into_iter().map(key).collect();
    parse(&json!({"keys": keys, "scope": scope}).to_string()).unwrap().shared.keyring.clone()
}

fn store_key(vector: &Value, id: &str) -> StoreKey {
    StoreKey::of(&SessionId(bytes(id).try_into().unwrap()), text(vector, "scope"), text(vector, "namespace"))
}

fn session(vector: &Value) -> Session {
    let number = |member: &str| vector[member].as_u64().unwrap_or_else(|| panic!("{member} of {vector}"));
    let pins = vector["pins"].as_array().unwrap().iter().map(|pin| Pin {
        cluster: ClusterId::of(text(pin, "cluster").as_bytes()),
        host: HostAddr::parse(text(pin, "host").as_bytes()).unwrap(),
    });
    Session {
        id: SessionId(bytes(text(vector, "id")).try_into().unwrap()),
        created: UnixTime(number("created")),
        renewed: UnixTime(number("renewed")),
        end: Some(UnixTime(number("end"))),
        generation: u32::try_from(number("generation")).unwrap(),
        pins: Pins::from_vec(pins.collect()).unwrap(),
    }
}

#[test]
fn the_keys_of_the_store_are_those_of_the_page() {
    let vectors = vectors("docs/store.md", "store vectors");
    for vector in vectors["keys"].as_array().unwrap() {
        assert_eq!(store_key(vector, text(vector, "id")).as_str(), text(vector, "key"));
    }
}

#[test]
fn every_value_of_the_page_is_what_its_session_gives_and_reads_as_it() {
    let vectors = vectors("docs/store.md", "store vectors");
    let first = &vectors["keys"][0];
    let key = store_key(first, text(first, "id"));
    for vector in vectors["accepted"].as_array().unwrap() {
        let (name, id, scope, sealed) =
            (text(vector, "name"), text(vector, "key"), text(vector, "scope"), text(vector, "value"));
        let signing = keyring(id, scope);
        let (given, stored) = if vector["session"].is_null() {
            (value::tombstone(&key, &signing), Stored::Tombstone)
        } else {
            let session = session(&vector["session"]);
            let stored = Stored::Session { generation: session.generation, pins: session.pins.clone() };
            (value::seal(&session, &key, &signing), stored)
        };
        assert_eq!(given, sealed, "{name}");
        let age = if id == "2026-11" { KeyPosition::Current } else { KeyPosition::Older(1) };
        assert_eq!(value::open(sealed.as_bytes(), &key, &keyring("2026-11", scope)), Some((stored, age)), "{name}");

        let (untagged, tag) = sealed.rsplit_once('.').unwrap();
        let (_, body) = untagged.rsplit_once('.').unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(body).unwrap(), bytes(text(vector, "body")), "{name}");
        let subkeys = vectors["subkeys"].as_array().unwrap();
        let subkey = subkeys.iter().find(|subkey| subkey["key"] == id && subkey["scope"] == scope).expect(name);
        let mac = Hmac::<Sha256>::new_from_slice(&bytes(text(subkey, "store"))).unwrap();
        let mac = mac.chain_update(key.as_str()).chain_update(".").chain_update(untagged);
        assert_eq!(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()), tag, "{name}");
    }
    for vector in vectors["refused"].as_array().unwrap() {
        let opened = value::open(text(vector, "value").as_bytes(), &key, &keyring("2026-11", text(first, "scope")));
        assert_eq!(opened, None, "{}", text(vector, "name"));
    }
}
