//! `mooring rotate`.

use crate::{KEY, folder, mooring, path, secret, shipped_text};
use mooring::clock::UnixTime;
use mooring::config::Config;
use mooring::credential::keyring::KeyPosition;
use mooring::credential::token::{self, Protection, Refusal};
use mooring::session::{Session, SessionId};
use serde_json::Value;
use std::fs;

const OLD: &str = "2026-11";
const NEW: &str = "2026-12";

/// With comments of YAML, a layout of its own, and two keys, so that every step has neighbours.
const JSON: &str = r#"{
  "keys": [
    { "id": "2026-11", "secret": { "env": "MOORING_KEY_2026_11" } },
    {"secret": {"env": "MOORING_KEY_2026_10"}, "id": "2026-10"}
  ],
  "scope" : "shop",
  "session": {"idle_timeout": "45m"}
}
"#;

/// The config of a proxy that has every secret.
fn config(json: &str) -> Config {
    let variable = |name: &str| {
        let secrets = [("MOORING_KEY_2026_10", 10), (KEY, 11), ("MOORING_KEY_2026_12", 12)];
        secrets.iter().find(|(known, _)| *known == name).map(|(_, byte)| secret(*byte).into_bytes())
    };
    Config::parse(json.as_bytes(), &variable).unwrap_or_else(|errors| panic!("{errors}: {json}"))
}

/// A token as this proxy signs it.
fn sealed(config: &Config) -> String {
    let session = Session::begin(SessionId([3; 16]), UnixTime(1_800_000_000), &config.policy.session);
    token::seal(&session, &config.shared.keyring, &Protection::Encrypted { nonce: [5; 24] })
}

fn opened(token: &str, config: &Config) -> Result<KeyPosition, Refusal> {
    token::open(token.as_bytes(), &config.shared.keyring).map(|(_, age)| age)
}

/// The text after a step.
fn step(arguments: &[&str], text: &str) -> String {
    let done = mooring(["rotate"].iter().chain(arguments).chain(&["-"])).stdin(text).done();
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout
}

#[test]
fn no_token_is_refused_before_its_key_is_retired() {
    let mut texts = vec![JSON.to_owned()];
    for arguments in [&["add", "--id", NEW][..], &["promote", NEW], &["retire", OLD]] {
        let text = step(arguments, texts.last().unwrap());
        texts.push(text);
    }
    let proxies: Vec<Config> = texts.iter().map(|text| config(text)).collect();
    let tokens: Vec<String> = proxies.iter().map(sealed).collect();
    let signing: Vec<&str> = proxies.iter().map(|proxy| proxy.shared.keyring.signing().id.as_str()).collect();
    assert_eq!(signing, [OLD, OLD, NEW, NEW]);
    // While a step is rolled out, proxies have it or the one before: each takes the other's tokens.
    for (before, after) in [(0, 1), (1, 2), (2, 3)] {
        assert!(opened(&tokens[after], &proxies[before]).is_ok(), "step {after}: a proxy that does not have it yet");
        assert!(opened(&tokens[before], &proxies[after]).is_ok(), "step {after}: a proxy that has it already");
    }
    assert_eq!(opened(&tokens[0], &proxies[3]), Err(Refusal::UnknownKey), "only now is the old key gone");
    assert_eq!(opened(&tokens[3], &proxies[3]), Ok(KeyPosition::Current));
}

#[test]
fn nothing_but_the_keys_changes() {
    let added = step(&["add", "--id", NEW, "--env", "ELSEWHERE"], JSON);
    let behind = "\"id\": \"2026-10\"},\n    { \"id\": \"2026-12\", \"secret\": { \"env\": \"ELSEWHERE\" } }\n";
    assert_eq!(added, JSON.replace("\"id\": \"2026-10\"}\n", behind));
    let promoted = step(&["promote", "2026-10"], JSON);
    let [first, second] = [
        r#"{ "id": "2026-11", "secret": { "env": "MOORING_KEY_2026_11" } }"#,
        r#"{"secret": {"env": "MOORING_KEY_2026_10"}, "id": "2026-10"}"#,
    ];
    assert_eq!(promoted, JSON.replace(first, "…").replace(second, first).replace('…', second));
    assert_eq!(step(&["retire", "2026-10"], JSON), JSON.replace(&format!(",\n    {second}"), ""));
}

#[test]
fn what_would_lose_sessions_is_refused() {
    let alone = JSON.replace(",\n    {\"secret\": {\"env\": \"MOORING_KEY_2026_10\"}, \"id\": \"2026-10\"}", "");
    for (arguments, text, reason) in [
        (&["retire", OLD][..], JSON, "is the key that signs: promote another first"),
        (&["retire", OLD], alone.as_str(), "is the only key: add another first"),
        (&["retire", "2025"], JSON, "there is no key 2025, but 2026-11, 2026-10"),
        (&["promote", OLD], JSON, "is the first key already"),
        (&["promote", NEW], JSON, "there is no key 2026-12"),
        (&["add", "--id", OLD], JSON, "there is a key 2026-11 already"),
        (&["add", "--id", NEW, "--env", KEY], JSON, "keys[2]: has the secret of an earlier key"),
        (&["retire", "2026-10"], "{\"keys\": 1}", "keys: is a number"),
    ] {
        let files = folder([("mooring.json", text)]);
        let file = path(&files, "mooring.json");
        let done = mooring(["rotate"].iter().chain(arguments).chain(&["--in-place", &file])).done();
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(done.stderr.contains(reason), "{arguments:?}: {}", done.stderr);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    let many: Vec<_> = (0..16).map(|n| format!(r#"{{"id": "k{n}", "secret": {{"env": "K{n}"}}}}"#)).collect();
    let done =
        mooring(["rotate", "add", "--id", NEW, "-"]).stdin(&format!("{{\"keys\": [{}]}}", many.join(", "))).done();
    assert!(done.code == 1 && done.stderr.contains("has 17 keys"), "{done:?}");
}

#[test]
fn each_step_says_what_to_wait_for() {
    let next = |arguments: &[&str], text: &str| {
        let (code, json) = mooring(["rotate"].iter().chain(arguments).chain(&["-"])).stdin(text).json();
        assert_eq!(code, 0, "{json}");
        (json["next"].as_str().unwrap().to_owned(), json)
    };
    let (added, json) = next(&["add", "--id", NEW], JSON);
    for part in ["MOORING_KEY_2026_12", "keygen --id 2026-12", "mooring rotate promote 2026-12"] {
        assert!(added.contains(part), "{part}: {added}");
    }
    let checked = mooring(["check", "--ignore-missing-env", "-"]).stdin(json["output"].as_str().unwrap()).json().1;
    assert_eq!(checked["files"][0]["configs"][0]["summary"]["version"], json["version"]);
    assert!(added.contains(&format!("{{version=\"{}\"}}", json["version"].as_str().unwrap())), "{added}");
    assert_eq!(json["keys"], serde_json::json!([OLD, "2026-10", NEW]));

    let (promoted, _) = next(&["promote", "2026-10"], JSON);
    let watch = "and mooring_tokens_accepted{key=\"2026-11\"} has not risen for 45m:\n  mooring rotate retire 2026-11";
    assert!(promoted.contains(watch), "{promoted}");
    // With a store, its values are signed with the key as well, and live for the absolute timeout and two minutes.
    let (promoted, _) =
        next(&["promote", "2026-10"], &JSON.replace("\"session\"", "\"store\": {\"cluster\": \"c\"}, \"session\""));
    assert!(promoted.contains("and 8h 2m have passed"), "{promoted}");
    let (promoted, _) = next(&["promote", "2026-10"], &JSON.replace("45m", "0s"));
    assert!(promoted.contains("has not risen for 8h:\n"), "{promoted}");
}

#[test]
fn yaml_keeps_its_comments_and_its_layout() {
    for file in ["envoy.yaml", "store.yaml", "strict.yaml", "store-tls.yaml", "override-host.yaml"] {
        let yaml = shipped_text(file);
        let files = folder([("envoy.yaml", &yaml)]);
        let file = path(&files, "envoy.yaml");
        let done = mooring(["rotate", "add", "--id", NEW, "--in-place", &file]).done();
        assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{done:?}");
        let added = fs::read_to_string(&file).unwrap();
        let key = r#", { "id": "2026-12", "secret": { "env": "MOORING_KEY_2026_12" } }]"#;
        assert_eq!(added.replacen(key, "]", 1), yaml);
        assert_ne!(added, yaml);
        assert_eq!(step(&["promote", NEW], &added).lines().count(), yaml.lines().count());
        assert_eq!(fs::read_dir(files.path()).unwrap().count(), 1, "nothing else is left there");
    }
}

#[test]
fn of_several_configs_the_one_that_is_named_changes() {
    let one = shipped_text("envoy.yaml");
    let yaml = format!("{one}---\n{one}");
    let rotate = ["rotate", "add", "--id", NEW, "-"];
    let done = mooring(rotate).stdin(&yaml).done();
    assert_eq!(done.code, 1);
    let filter = "filter_chains[0].filters[0].typed_config.http_filters[0]";
    let place = format!("2:static_resources.listeners[0].{filter}.typed_config.config.configuration.value");
    assert!(done.stderr.contains("--place") && done.stderr.contains(&place), "{done:?}");
    let done = mooring(rotate.iter().chain(&["--place", &place])).stdin(&yaml).done();
    let (first, second) = done.stdout.split_once("---\n").unwrap();
    assert!(first == one && second.contains("MOORING_KEY_2026_12"), "{done:?}");
    assert_eq!(mooring(rotate.iter().chain(&["--place", "elsewhere"])).stdin(&yaml).done().code, 1);
}

#[test]
fn of_two_blocks_that_are_the_same_the_right_one_changes() {
    let block = r#"configuration:
  '@type': type.googleapis.com/google.protobuf.StringValue
  value: |- # the plugin's
    {
      "keys": [
        {"id": "a", "secret": {"env": "A"}}
      ],

      "scope": "s"
    }

"#;
    let indented = block
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") })
        .collect::<String>();
    let yaml = format!("one:\n  config:\n{indented}two:\n  config:\n{indented}# the end\n");
    let done =
        mooring(["rotate", "add", "--id", "b", "--place", "two.config.configuration.value", "-"]).stdin(&yaml).done();
    assert_eq!(done.code, 0, "{done:?}");
    let (first, second) = done.stdout.split_once("two:\n").unwrap();
    assert_eq!(first, yaml.split_once("two:\n").unwrap().0);
    let key = ",\n            { \"id\": \"b\", \"secret\": { \"env\": \"MOORING_KEY_B\" } }";
    assert_eq!(second.replace(key, ""), yaml.split_once("two:\n").unwrap().1);
    assert_ne!(second, yaml.split_once("two:\n").unwrap().1);
}

#[test]
fn where_the_file_cannot_be_edited_the_part_that_changes_is_printed() {
    let plugin = "
kind: WasmPlugin
spec:
  pluginConfig: # ours
    keys:
    - {id: '2026-11', secret: {env: A}}
    scope: shop
";
    let quoted = shipped_text("envoy.yaml");
    let (before, rest) = quoted.split_once("value: |").unwrap();
    let (_, after) = rest.split_once("vm_config").unwrap();
    let json = r#"'{"keys": [{"id": "2026-11", "secret": {"env": "A"}}]}'"#;
    let quoted = format!("{before}value: {json}\n                vm_config{after}");
    let keys = "{ \"id\": \"2026-12\", \"secret\": { \"env\": \"MOORING_KEY_2026_12\" } }";
    let value = |text: &str| serde_norway::from_str::<Value>(text).unwrap();
    for (yaml, expected) in [
        (plugin, format!("keys:\n- {{\"id\": \"2026-11\", \"secret\": {{\"env\": \"A\"}}}}\n- {keys}")),
        (&quoted, format!("{{\"keys\": [{{\"id\": \"2026-11\", \"secret\": {{\"env\": \"A\"}}}}, {keys}]}}")),
    ] {
        let files = folder([("f.yaml", yaml)]);
        let file = path(&files, "f.yaml");
        let done = mooring(["rotate", "add", "--id", NEW, &file]).done();
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(value(&done.stdout), value(&expected));
        let done = mooring(["rotate", "add", "--id", NEW, "--in-place", &file]).done();
        assert!(done.code == 1 && done.stderr.starts_with("mooring: --in-place"), "{done:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), yaml);
    }
}

#[cfg(unix)]
#[test]
fn a_file_keeps_its_permissions_and_may_be_a_link() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let files = folder([("real.json", JSON)]);
    let (real, link) = (path(&files, "real.json"), path(&files, "link.json"));
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &link).unwrap();
    assert_eq!(mooring(["rotate", "add", "--id", NEW, "--in-place", &link]).done().code, 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains(NEW));
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn in_place_no_secret_is_printed() {
    let inline = secret(9);
    let json = format!(r#"{{"keys": [{{"id": "2026-11", "secret": {{"base64": "{inline}"}}}}]}}"#);
    let files = folder([("mooring.json", &json)]);
    let file = path(&files, "mooring.json");
    let (code, said) = mooring(["rotate", "add", "--id", NEW, "--in-place", &file]).json();
    assert_eq!((code, said["written"].as_bool()), (0, Some(true)));
    assert!(!said.to_string().contains(&inline), "{said}");
    assert!(fs::read_to_string(&file).unwrap().contains(&inline));
}

#[test]
fn a_file_that_a_run_which_was_killed_left_is_named() {
    let files = folder([("mooring.json", JSON), ("mooring.json.partial", "")]);
    let done = mooring(["rotate", "add", "--id", NEW, "--in-place", &path(&files, "mooring.json")]).done();
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("mooring.json.partial: "), "{done:?}");
    assert_eq!(fs::read_to_string(path(&files, "mooring.json")).unwrap(), JSON);
}

#[cfg(unix)]
#[test]
fn in_place_a_file_keeps_its_owner_and_its_mode() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    let files = folder([("mooring.json", JSON)]);
    let file = path(&files, "mooring.json");
    // Who is not root owns it already.
    let _ = chown(&file, Some(1234), Some(2345));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let kept = || fs::metadata(&file).map(|now| (now.uid(), now.gid(), now.mode())).unwrap();
    let before = kept();
    let done = mooring(["rotate", "add", "--id", NEW, "--in-place", &file]).done();
    assert_eq!(done.code, 0, "{done:?}");
    assert_ne!(fs::read_to_string(&file).unwrap(), JSON);
    assert_eq!(kept(), before);
}

#[test]
fn the_next_step_is_for_the_same_place() {
    let place = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.config\
                 .configuration.value";
    let done = mooring(["rotate", "add", "--id", NEW, "--place", place, "-"]).stdin(&shipped_text("envoy.yaml")).done();
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains(&format!("mooring rotate promote {NEW} --place '{place}' -")), "{done:?}");
}
