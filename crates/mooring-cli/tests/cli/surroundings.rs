//! `mooring check`: what is likely to be wrong around a plugin. Each test breaks a shipped config, which has no such fault.

use crate::{mooring, shipped_text};
use serde_json::{Value, json};

type Edit = fn(&mut Value);

/// The warnings about a shipped config after this edit. They are no errors, unless `--strict` says so.
fn warnings(file: &str, edit: Edit) -> Vec<String> {
    let mut bootstrap: Value = serde_norway::from_str(&shipped_text(file)).expect("YAML");
    edit(&mut bootstrap);
    let check = |strict: &[&str]| {
        let arguments = ["check", "--ignore-missing-env", "-"].iter().chain(strict);
        mooring(arguments).stdin(&bootstrap.to_string()).json()
    };
    let ((lax, json), (strict, _)) = (check(&[]), check(&["--strict"]));
    let config = &json["files"][0]["configs"][0];
    assert_eq!((lax, &config["accepted"]), (0, &true.into()), "{json}");
    let warnings = config["warnings"].as_array().unwrap();
    assert_eq!(strict, i32::from(!warnings.is_empty()), "{json}");
    warnings.iter().map(|warning| warning["kind"].as_str().unwrap().to_owned()).collect()
}

fn manager(bootstrap: &mut Value) -> &mut Value {
    &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

fn filters(bootstrap: &mut Value) -> &mut Vec<Value> {
    manager(bootstrap)["http_filters"].as_array_mut().expect("filters")
}

fn bridge(bootstrap: &mut Value) -> &mut Value {
    &mut filters(bootstrap)[1]["typed_config"]
}

fn cookie_state(bootstrap: &mut Value) {
    let kind = "type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState";
    bridge(bootstrap)["session_state"] =
        json!({"name": "envoy.http.stateful_session.cookie", "typed_config": {"@type": kind}});
}

#[test]
fn a_bridge_that_does_not_fit_is_warned_of() {
    let edits: [(&str, Edit); 5] = [
        ("bridge_missing", |bootstrap| drop(filters(bootstrap).remove(1))),
        ("bridge_missing", cookie_state),
        ("bridge_before_plugin", |bootstrap| filters(bootstrap).swap(0, 1)),
        ("bridge_header", |bootstrap| bridge(bootstrap)["session_state"]["typed_config"]["name"] = "x-other".into()),
        ("bridge_header", |bootstrap| {
            // Envoy takes either spelling of a field.
            let filters = filters(bootstrap).clone();
            let manager = manager(bootstrap).as_object_mut().unwrap();
            manager.remove("http_filters");
            manager.insert("httpFilters".into(), filters.into());
            manager["httpFilters"][1]["typed_config"]["session_state"]["typed_config"]["name"] = "x-other".into();
        }),
    ];
    for (kind, edit) in edits {
        assert_eq!(warnings("envoy.yaml", edit), [kind]);
    }
    // Upper case is the same header, and another filter between the two does no harm.
    assert_eq!(
        warnings("envoy.yaml", |bootstrap| bridge(bootstrap)["session_state"]["typed_config"]["name"] =
            "X-Mooring-Host".into()),
        [""; 0]
    );
    assert_eq!(
        warnings("envoy.yaml", |bootstrap| filters(bootstrap).insert(1, json!({"name": "envoy.filters.http.buffer"}))),
        [""; 0]
    );
    // The other bridge is no filter.
    assert_eq!(warnings("override-host.yaml", |_| ()), [""; 0]);
}

#[test]
fn failover_none_where_other_hosts_serve_is_warned_of() {
    assert_eq!(warnings("strict.yaml", |bootstrap| bridge(bootstrap)["strict"] = false.into()), ["bridge_not_strict"]);
    let retries: Edit = |bootstrap| {
        let route = &mut manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
        assert_eq!(route["retry_policy"], Value::Null);
        route["retry_policy"] = json!({"retry_on": "5xx"});
    };
    assert_eq!(warnings("strict.yaml", retries), ["retries"]);
}

#[test]
fn headers_that_clients_can_send_while_the_plugin_is_away_are_warned_of() {
    let none: Edit =
        |bootstrap| drop(manager(bootstrap).as_object_mut().unwrap().remove("early_header_mutation_extensions"));
    assert_eq!(warnings("envoy.yaml", none), ["headers_not_removed"]);
    let one: Edit = |bootstrap| {
        let mutations = &mut manager(bootstrap)["early_header_mutation_extensions"][0]["typed_config"]["mutations"];
        mutations.as_array_mut().unwrap().remove(0);
    };
    assert_eq!(warnings("envoy.yaml", one), ["headers_not_removed"]);
    // The second of them is the session's, which counts where the application gets it.
    let session: Edit = |bootstrap| {
        let mutations = &mut manager(bootstrap)["early_header_mutation_extensions"][0]["typed_config"]["mutations"];
        assert_eq!(mutations.as_array_mut().unwrap().remove(1)["remove"], "x-mooring-session");
    };
    assert_eq!(warnings("envoy.yaml", session), ["headers_not_removed"]);
    let unused: Edit = |bootstrap| {
        let mutations = &mut manager(bootstrap)["early_header_mutation_extensions"][0]["typed_config"]["mutations"];
        mutations.as_array_mut().unwrap().remove(1);
        let value = &mut filters(bootstrap)[0]["typed_config"]["config"]["configuration"]["value"];
        let mut plugin: Value = serde_json::from_str(value.as_str().unwrap()).unwrap();
        plugin["app"] = json!({"session_header": null});
        *value = plugin.to_string().into();
    };
    assert_eq!(warnings("envoy.yaml", unused), [""; 0]);
}

#[test]
fn a_store_whose_cluster_is_not_there_is_warned_of() {
    let renamed: Edit = |bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        let store = clusters.iter_mut().find(|cluster| cluster["name"] == "session_store").expect("the store");
        store["name"] = "session-store".into();
    };
    assert_eq!(warnings("store.yaml", renamed), ["store_cluster"]);
    let from_elsewhere: Edit = |bootstrap| {
        bootstrap["static_resources"]["clusters"] = json!([]);
        bootstrap["dynamic_resources"] = json!({"cds_config": {"path_config_source": {"path": "cds.yaml"}}});
    };
    assert_eq!(warnings("store.yaml", from_elsewhere), [""; 0], "it may come from there");
}

#[test]
fn a_part_of_a_config_is_not_blamed_for_what_it_does_not_show() {
    let chain: Edit = |bootstrap| {
        let filters = filters(bootstrap).clone();
        *bootstrap = json!({"http_filters": filters});
    };
    assert_eq!(warnings("envoy.yaml", chain), [""; 0]);
    let filter: Edit = |bootstrap| *bootstrap = filters(bootstrap)[0].clone();
    assert_eq!(warnings("envoy.yaml", filter), [""; 0]);
}
