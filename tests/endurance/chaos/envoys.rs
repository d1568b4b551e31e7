//! Envoys that are replaced, die, or get other configurations.

use super::stage::{Scene, Stage, Storage};
use crate::load::ENVOY;
use mooring_test_kit::rig::{EnvoyWorld, Launch, eventually};
use mooring_test_kit::tokens;
use mooring_test_kit::world::World as _;
use serde_json::{Value, json};

/// How long a configuration or an Envoy that was replaced goes on, in seconds.
const LEAVE: [&str; 4] = ["--drain-time-s", "1", "--parent-shutdown-time-s", "6"];

#[test]
fn an_envoy_is_hot_restarted() {
    let storage = Storage::start();
    let title = "Both Envoys are hot-restarted";
    let scene = Scene { launch: Launch::with(&LEAVE).restartable(), control: true, ..Scene::new(8, title) };
    let mut stage = Stage::set(scene, &storage.store.address);
    stage.rotation.leaves(ENVOY);
    [0, 1].into_iter().for_each(|at| stage.remember(at));
    let parents: Vec<_> = stage.envoys().map(EnvoyWorld::hot_restart).collect();
    for mut parent in parents {
        eventually("the parent to end", || parent.try_wait().expect("a process"));
    }
    stage.rotation.is_back(ENVOY);
    stage.over();
    stage.serve();
    stage.until_normal();
    let account = stage.account();
    assert_eq!((account.moved_host_gone, account.cookies), (0, 0));
    assert!(account.lookups > 0, "the successor knows nothing");
}

#[test]
fn an_envoy_is_killed_and_started_again() {
    let storage = Storage::start();
    let mut stage = Stage::set(Scene::new(9, "An Envoy is killed, and started again"), &storage.store.address);
    stage.fleet[1].keep_port();
    stage.rotation.leaves(ENVOY);
    stage.remember(1);
    stage.fleet[1].envoy.kill();
    stage.serve();
    stage.fleet.restart(1);
    stage.rotation.is_back(ENVOY);
    stage.over();
    stage.serve();
    stage.until_normal();
    let account = stage.account();
    assert_eq!((account.moved_host_gone, account.cookies), (0, 0));
    assert!(account.lookups > 0, "the successor knows nothing");
}

#[test]
fn a_key_is_changed_in_three_steps() {
    let storage = Storage::start();
    let new_behind_old = tokens::keys_reversed();
    let old = json!([new_behind_old[0]]);
    let new = json!([new_behind_old[1]]);
    let old_behind_new = json!([new[0], old[0]]);
    let scene = Scene {
        plugin: json!({"keys": old}),
        // Envoy closes what is still open when the time to drain ends, requests under way included: long enough that every client has
        // been told to close by then, on a busy machine too.
        launch: Launch::with(&["--drain-time-s", "5"]),
        ..Scene::new(10, "The key is changed in three steps: the new one is added, put first, and the old one removed")
    };
    let mut stage = Stage::set(scene, &storage.store.address);
    for step in [&new_behind_old, &old_behind_new, &new] {
        for at in 0..2 {
            let plugin = stage.plugin(json!({"keys": step}));
            stage.fleet[at].reconfigure(plugin);
            // In between the proxies disagree.
            stage.serve();
        }
        stage.find_proxies();
        // Connections that were kept alive go by the old keys, until they are drained.
        eventually("the old configuration to be gone", || {
            let draining = |proxy: &EnvoyWorld| proxy.envoy.stat("listener_manager.total_filter_chains_draining");
            (stage.fleet.iter().map(draining).sum::<u64>() == 0).then_some(())
        });
        stage.over();
        stage.until_normal();
    }
    let account = stage.account();
    assert_eq!((account.failed, account.moved_host_gone), (0, 0));
    assert_eq!(account.cookies as u64, account.counted("mooring_sessions.outcome=rekeyed"));
    assert!(account.cookies > 0);
}

#[test]
fn a_bad_configuration_is_refused() {
    let storage = Storage::start();
    let mut stage = Stage::set(Scene::new(11, "A configuration with a mistake is rolled out"), &storage.store.address);
    for at in 0..2 {
        let listeners = |plugin: Value| {
            let mut bootstrap = mooring_test_kit::rig::Bootstrap(stage.fleet[at].bootstrap.0.clone());
            bootstrap.set_plugin(&plugin);
            bootstrap.listener().take()
        };
        let bad = json!([listeners(json!({"keys": []}))]);
        assert!(!stage.fleet[at].envoy.reload(&bad), "Envoy took it");
    }
    stage.serve();
    stage.over();
    stage.until_normal();
    let account = stage.account();
    assert_eq!((account.failed, account.moved_host_gone, account.cookies), (0, 0, 0));
}
