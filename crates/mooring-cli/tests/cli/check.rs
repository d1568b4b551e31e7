//! `mooring check`: what is accepted, refused, and found.

use crate::{KEY, Run, folder, mooring, path, secret, shipped, shipped_text};
use mooring::config::Config;
use mooring_test_kit::pages::root;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const PLAIN: &str = r#"{"keys": [{"id": "2026-11", "secret": {"env": "MOORING_KEY_2026_11"}}], "scope": "shop"}"#;

/// Checks a text, given on stdin. The one config in it.
fn check(text: &str) -> (i32, Value) {
    with_key(mooring(["check", "-"]).stdin(text))
}

fn with_key(run: Run) -> (i32, Value) {
    let (code, json) = run.env(KEY, &secret(1)).json();
    let configs = json["files"][0]["configs"].as_array().unwrap_or_else(|| panic!("{json}")).clone();
    assert_eq!(configs.len(), 1, "{json}");
    (code, configs[0].clone())
}

/// The places of the errors.
fn errors(config: &Value) -> Vec<&str> {
    config["errors"].as_array().into_iter().flatten().map(|error| error["path"].as_str().unwrap()).collect()
}

#[test]
fn every_shipped_config_is_accepted_without_a_warning_and_without_secrets() {
    let envoy = ["envoy.yaml", "override-host.yaml", "store.yaml", "store-tls.yaml", "strict.yaml"].map(shipped);
    let deploy = ["gateway/mooring.yaml", "gateway/traffic-extension.yaml", "sidecar/mooring.yaml"];
    let deploy = deploy.map(|file| root().join("deploy/istio").join(file));
    for file in envoy.into_iter().chain(deploy).chain([root().join("deploy/envoy-gateway/mooring.yaml")]) {
        let (code, json) = mooring(["check", "--strict", "--ignore-missing-env", file.to_str().unwrap()]).json();
        assert_eq!((code, &json["fine"]), (0, &true.into()), "{json}");
        let notes = &json["files"][0]["configs"][0]["notes"];
        assert!(notes[0].as_str().unwrap().contains("MOORING_KEY_2026_11 is not set here: a made-up"), "{notes}");
    }
}

#[test]
fn a_summary_shows_every_way_in_its_order() {
    let ways = r#""identify": [{"header": {"issue": "always", "expose": true}}, {"cookie": {}}], "scope""#;
    let config = PLAIN.replacen(r#""scope""#, ways, 1);
    assert_ne!(config, PLAIN);
    let (code, found) = check(&config);
    assert_eq!(code, 0, "{found}");
    let header = "x-session-token, issued to every client, exposed to scripts of other origins";
    let ways = json!([{"way": "header", "is": header}, {"way": "cookie", "is": "__Host-mooring"}]);
    assert_eq!(found["summary"]["identify"], ways);
    assert_eq!(found["summary"]["cookie"]["path"], "/");
    let done = mooring(["check", "-"]).stdin(&config).env(KEY, &secret(1)).done();
    let line =
        "  header    x-session-token, issued to every client, exposed to scripts of other origins\n  cookie    __Host-";
    assert!(done.stdout.contains(line), "{}", done.stdout);
}

#[test]
fn a_summary_says_what_will_happen() {
    let (code, config) = check(PLAIN);
    assert_eq!(code, 0);
    let summary = &config["summary"];
    assert_eq!(summary["cookie"]["set_cookie"], "__Host-mooring=…; Path=/; SameSite=Lax; Secure; HttpOnly");
    assert_eq!((&summary["keys"], &summary["scope"]), (&json!(["2026-11"]), &json!("shop")));
    assert_eq!(summary["session"], json!({"absolute_timeout": 28_800, "idle_timeout": 1_800, "clock_skew": 60}));
    assert_eq!(
        summary["upstream"],
        json!({"via": "stateful_session", "header": "x-mooring-host", "failover": "sticky"})
    );
    assert_eq!(summary["store"], Value::Null);

    let done = mooring(["check", "-"]).stdin(PLAIN).env(KEY, &secret(1)).done();
    for part in ["-: accepted", "2026-11 signs", "absolute timeout 8h, idle timeout 30m", "__Host-mooring=…; Path=/"]
    {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
}

#[test]
fn the_errors_are_the_plugins_own() {
    let config =
        r#"{"keys": [{"id": "a.b", "secret": {"env": "ABSENT"}}], "scoop": 1, "cookie": {"same_site": "Lax"}}"#;
    let errors = Config::parse(config.as_bytes(), &|_| None).map(drop).unwrap_err().0;
    assert_eq!(errors.len(), 4);
    let done = mooring(["check", "-"]).stdin(config).done();
    assert_eq!(done.code, 1);
    assert!(done.stdout.starts_with("-: refused, 4 errors\n"), "{}", done.stdout);
    for error in errors {
        assert!(done.stdout.contains(&format!("\n  {error}\n")), "{error}: {}", done.stdout);
    }
    for text in ["{", "", "[]", r#"{"keys": []} {}"#, "{}", r#"{"scope": "s", "cookie": {}}"#] {
        assert_eq!(check(text).0, 1, "{text}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let inline = format!(r#"{{"keys": [{{"id": "k", "secret": {{"base64": "{}"}}}}]}}"#, secret(7));
    for text in [inline.clone(), inline.replace('"', "'"), PLAIN.to_owned()] {
        for json in [true, false] {
            let mut run = mooring(["check", "-"]).stdin(&text).env(KEY, &secret(7));
            if json {
                run.command.arg("--json");
            }
            let done = run.done();
            assert!(!done.stdout.contains(&secret(7)) && !done.stderr.contains(&secret(7)), "{done:?}");
        }
    }
}

#[test]
fn the_version_is_that_of_the_json_as_the_plugin_gets_it() {
    let version = |json: &str| {
        let digest = Sha256::digest(json.as_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(check(PLAIN).1["summary"]["version"], version(PLAIN));
    // The block in the YAML ends with a line break, which is part of it.
    let json = "{\"keys\": [{\"id\": \"2026-11\", \"secret\": {\"env\": \"MOORING_KEY_2026_11\"}}]}\n";
    let (_, config) = with_key(mooring(["check", shipped("envoy.yaml").to_str().unwrap()]));
    assert_eq!(config["summary"]["version"], version(json));
    assert_eq!(check(WASM_PLUGIN).1["summary"]["version"], Value::Null, "Istio writes JSON of its own");
}

const WASM_PLUGIN: &str = "
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: affinity}
spec:
  url: oci://registry.example.com/affinity:1
  pluginConfig:
    keys:
    - id: '2026-11'
      secret: {env: MOORING_KEY_2026_11}
    cache: {entries: 5000}
  vmConfig:
    env:
    - {name: MOORING_KEY_2026_11, valueFrom: HOST}
";

const TRAFFIC_EXTENSION: &str = "
apiVersion: extensions.istio.io/v1alpha1
kind: TrafficExtension
metadata: {name: affinity}
spec:
  phase: AUTHN
  wasm:
    url: oci://registry.example.com/affinity:1
    pluginConfig:
      keys:
      - {id: '2026-11', secret: {env: MOORING_KEY_2026_11}}
    vmConfig:
      env:
      - {name: MOORING_KEY_2026_11, valueFrom: HOST}
";

const EXTENSION_POLICY: &str = "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyExtensionPolicy
metadata: {name: affinity}
spec:
  wasm:
  - name: other
    config: {parameter: 1}
  - name: affinity
    rootID: r
    code: {type: Image, image: {url: registry.example.com/affinity:1}}
    config:
      keys:
      - {id: '2026-11', secret: {env: MOORING_KEY_2026_11}}
    env:
      hostKeys: [MOORING_KEY_2026_11]
";

const ENVOY_FILTER: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: affinity}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: GATEWAY}
    patch:
      operation: INSERT_FIRST
      value:
        name: affinity
        typed_config:
          '@type': type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
          value:
            config:
              configuration:
                '@type': type.googleapis.com/google.protobuf.StringValue
                value: |
                  {\"keys\": [{\"id\": \"2026-11\", \"secret\": {\"env\": \"MOORING_KEY_2026_11\"}}]}
              vmConfig:
                environmentVariables: {hostEnvKeys: [MOORING_KEY_2026_11]}
";

#[test]
fn it_finds_a_config_wherever_people_keep_it() {
    for (yaml, place) in [
        (WASM_PLUGIN, "spec.pluginConfig"),
        (TRAFFIC_EXTENSION, "spec.wasm.pluginConfig"),
        (EXTENSION_POLICY, "spec.wasm[1].config"),
        (ENVOY_FILTER, "spec.configPatches[0].patch.value.typed_config.value.config.configuration.value"),
        ("keys:\n- {id: '2026-11', secret: {env: MOORING_KEY_2026_11}}\n", ""),
    ] {
        let (code, config) = check(yaml);
        assert_eq!((code, &config["place"]), (0, &place.into()), "{config}");
        // And a mistake in it is found there.
        let (code, config) = check(&yaml.replace("2026-11'", "2026.11'").replace("\"2026-11\"", "\"2026.11\""));
        assert_eq!((code, errors(&config)), (1, vec!["keys[0].id"]), "{config}");
        assert_eq!(config["place"], place);
    }
    // Envoy's own, as JSON, as in a dump of its configuration.
    let bootstrap: Value = serde_norway::from_str(&shipped_text("envoy.yaml")).unwrap();
    let (code, config) = check(&json!({"configs": [{"bootstrap": bootstrap}]}).to_string());
    assert_eq!(code, 0);
    assert!(config["place"].as_str().unwrap().starts_with("configs[0].bootstrap.static_resources"), "{config}");
}

#[test]
fn an_error_in_one_of_several_documents_names_it() {
    let yaml = format!("{WASM_PLUGIN}---\nkind: Service\n---{}", TRAFFIC_EXTENSION.replace("keys:", "keyz:"));
    let (code, json) = mooring(["check", "-"]).stdin(&yaml).env(KEY, &secret(1)).json();
    let configs = json["files"][0]["configs"].as_array().unwrap();
    assert_eq!((code, configs.len()), (0, 1), "without keys it is not known to be ours, unless it is called so");
    let yaml = yaml.replace("oci://registry.example.com/affinity:1", "oci://registry.example.com/mooring:1");
    let (code, json) = mooring(["check", "-"]).stdin(&yaml).env(KEY, &secret(1)).json();
    let configs = json["files"][0]["configs"].as_array().unwrap();
    assert_eq!(
        (code, &configs[0]["place"], &configs[1]["place"]),
        (1, &"1:spec.pluginConfig".into(), &"3:spec.wasm.pluginConfig".into())
    );
    assert_eq!((&configs[0]["accepted"], errors(&configs[1])), (&true.into(), vec!["keyz", "keys"]));
}

#[test]
fn other_plugins_are_left_alone_and_a_file_without_ours_is_an_error() {
    let other = WASM_PLUGIN.replace("keys:", "rules:");
    for yaml in [other.as_str(), "kind: Service\n", "a: [\n", "just text\n"] {
        let (code, json) = mooring(["check", "-"]).stdin(yaml).json();
        assert_eq!(code, 1, "{json}");
        assert!(json["files"][0]["error"].is_string(), "{json}");
    }
    let file = folder([("other.yaml", &other), ("mooring.json", PLAIN)]);
    let both = ["check", &path(&file, "mooring.json"), &path(&file, "other.yaml")];
    let (code, json) = mooring(both).env(KEY, &secret(1)).json();
    assert_eq!(
        (code, &json["files"][0]["configs"][0]["accepted"]),
        (1, &true.into()),
        "the others are checked all the same"
    );
}

#[test]
fn a_struct_is_refused_where_the_plugin_would_get_protobuf() {
    let yaml = "
http_filters:
- name: mooring
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      configuration:
        '@type': type.googleapis.com/google.protobuf.Struct
        value:
          keys:
          - {id: '2026-11', secret: {env: MOORING_KEY_2026_11}}
";
    let (code, config) = check(yaml);
    assert_eq!((code, errors(&config)), (1, vec![""]));
    assert!(config["errors"][0]["rule"].as_str().unwrap().contains("StringValue"), "{config}");
    let rotated = mooring(["rotate", "add", "--id", "new", "-"]).stdin(yaml).done();
    assert!(rotated.code == 1 && rotated.stderr.contains("it is no google.protobuf.StringValue"), "{rotated:?}");
}

#[test]
fn a_variable_counts_as_set_when_the_plugin_would_have_it() {
    let run = |text: &str, arguments: &[&str]| mooring(["check", "-"].iter().chain(arguments)).stdin(text);
    let accepted = |run: Run| run.done().code == 0;
    let shipped = shipped_text("envoy.yaml");
    assert!(accepted(run(&shipped, &[]).env(KEY, &secret(1))));
    assert!(!accepted(run(&shipped, &[])));
    // A value in the file needs none here.
    let given = shipped.replace(
        "{host_env_keys: [MOORING_KEY_2026_11]}",
        &format!("{{key_values: {{MOORING_KEY_2026_11: {}}}}}", secret(1)),
    );
    assert!(given != shipped && accepted(run(&given, &[])));
    let given = WASM_PLUGIN.replace("valueFrom: HOST", &format!("value: '{}'", secret(1)));
    assert!(given != WASM_PLUGIN && accepted(run(&given, &[])));
    // One that is not passed on is not there, whoever has it.
    for yaml in [
        shipped.replace("host_env_keys: [MOORING_KEY_2026_11]", "host_env_keys: [OTHER]"),
        WASM_PLUGIN.replace("- {name: MOORING", "- {name: X_MOORING"),
    ] {
        for arguments in [&[][..], &["--ignore-missing-env"]] {
            let (code, config) = with_key(run(&yaml, arguments));
            assert_eq!((code, errors(&config)), (1, vec!["keys[0].secret.env"]));
            assert_eq!(config["warnings"][0]["kind"], "variable_not_passed", "{config}");
        }
    }
}

#[test]
fn variables_come_from_a_file_too() {
    let lines = format!("# secrets\n\nexport {KEY}=\"{}\"\nOTHER='x=y'\n", secret(1));
    let files = folder([("env", &lines), ("wrong", "NAME"), ("mooring.json", PLAIN)]);
    let check = |env: &str| mooring(["check", "--env-file", &path(&files, env), &path(&files, "mooring.json")]);
    assert_eq!(check("env").done().code, 0);
    // It goes before the environment.
    assert_eq!(check("env").env(KEY, "c2hvcnQ=").done().code, 0);
    let done = check("wrong").done();
    assert!(done.code == 1 && done.stderr.contains("wrong, line 1 is not of the form NAME=VALUE"), "{done:?}");
    assert_eq!(check("absent").done().code, 1);
}

#[test]
fn made_up_secrets_do_for_several_keys_and_for_any_store() {
    for protocol in ["rest", "webdis", "upstash"] {
        let config = json!({
            "keys": [{"id": "a", "secret": {"env": "A"}}, {"id": "b", "secret": {"env": "B"}}],
            "store": {"cluster": "c", "protocol": protocol, "token": {"env": "T"}},
        });
        let (code, json) = mooring(["check", "--ignore-missing-env", "-"]).stdin(&config.to_string()).json();
        let notes = json["files"][0]["configs"][0]["notes"].as_array().unwrap().clone();
        assert_eq!((code, notes.len()), (0, 3), "{json}");
    }
    // What is set is not made up.
    let run = mooring(["check", "--ignore-missing-env", "-"]).stdin(PLAIN).env(KEY, "c2hvcnQ=");
    assert_eq!(run.done().code, 1);
}

#[test]
fn a_byte_order_mark_is_refused_in_json_as_the_plugin_does_and_taken_in_yaml() {
    let json = format!("\u{feff}{}", r#"{"keys": [{"id": "k", "secret": {"env": "MOORING_KEY_2026_11"}}]}"#);
    let done = mooring(["check", "-"]).env(KEY, &secret(1)).stdin(&json).done();
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stdout.contains("is not JSON"), "{done:?}");
    let done =
        mooring(["check", "-"]).env(KEY, &secret(1)).stdin(&format!("\u{feff}{}", shipped_text("envoy.yaml"))).done();
    assert_eq!(done.code, 0, "{done:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_a_failure_and_no_crash() {
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("a device that is full");
    let binary = env!("CARGO_BIN_EXE_mooring");
    for arguments in [&["keygen"][..], &["schema"], &["completions", "bash"]] {
        let output = std::process::Command::new(binary).args(arguments).stdout(full()).output().expect("a run");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"), "{arguments:?}");
    }
    let code = |arguments: &[&str]| {
        std::process::Command::new(binary).args(arguments).stderr(full()).output().expect("a run").status.code()
    };
    assert_eq!((code(&["keygen"]), code(&["check", "absent.json"])), (Some(0), Some(1)));
}

#[test]
fn an_object_without_a_configuration_is_told_which_member_is_missing() {
    let object = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: mooring}\nspec:\n  pluginConfg: {}\n";
    let done = mooring(["check", "-"]).stdin(object).done();
    assert_eq!(done.code, 1);
    assert!(done.stdout.contains("spec.pluginConfig: refused") && done.stdout.contains("is missing"), "{done:?}");
}
