//! Hosts that die, drain, fail their checks, are taken out of the cluster, or are ejected.

use super::stage::{Scene, Stage, Storage, hosts_at, read_from, write_hosts};
use mooring_test_kit::rig::eventually;
use mooring_test_kit::world::HostState;
use serde_json::json;

const HOST: &str = "b";

#[test]
fn a_host_is_killed_and_comes_back() {
    let storage = Storage::start();
    let scene = Scene { control: true, ..Scene::new(1, "A host is killed, and comes back") };
    let mut stage = Stage::set(scene, &storage.store.address);
    stage.host(HOST, HostState::Dead);
    stage.until_known(HOST, false);
    stage.serve();
    stage.host(HOST, HostState::Healthy);
    stage.over();
    stage.until_normal();
    let account = stage.account();
    assert!(account.moved_host_gone > 0);
    assert_eq!(account.counted("mooring_sessions.outcome=moved"), account.moved_host_gone as u64);
    assert_eq!(account.cookies, account.moved_host_gone, "one cookie for each that moved");
}

#[test]
fn a_host_is_killed_while_it_serves_what_may_be_sent_again() {
    let storage = Storage::start();
    let scene = Scene::new(2, "The same, with `reset` in `retry_on`, for requests that may be sent again");
    let mut stage = Stage::adjusted(scene, &storage.store.address, |bootstrap| {
        let policy = &mut bootstrap.routes().last_mut().expect("a route")["route"]["retry_policy"];
        let shipped = policy["retry_on"].as_str().expect("a list").to_owned();
        policy["retry_on"] = format!("{shipped},reset").into();
    });
    stage.host(HOST, HostState::Dead);
    stage.until_known(HOST, false);
    stage.serve();
    stage.host(HOST, HostState::Healthy);
    stage.over();
    stage.until_normal();
    let account = stage.account();
    assert_eq!(account.failed, 0);
    assert!(account.moved_host_gone > 0);
    assert_eq!(account.cookies, account.moved_host_gone, "one cookie for each that moved");
}

#[test]
fn a_host_drains() {
    let storage = Storage::start();
    let mut stage =
        Stage::set(Scene::new(3, "A host drains: it says `release`, and fails its check"), &storage.store.address);
    stage.rotation.leaves(HOST);
    stage.tell(HOST, "drain");
    stage.until_known(HOST, false);
    stage.serve();
    stage.tell(HOST, "undrain");
    stage.until_known(HOST, true);
    stage.over();
    stage.until_normal();
    let account = stage.account();
    assert_eq!(account.failed, 0);
    let (released, pinned) =
        (account.counted("mooring_sessions.outcome=released"), account.counted("mooring_sessions.outcome=pinned"));
    let moved = account.counted("mooring_sessions.outcome=moved");
    // Which of the two a session meets first, the host's word or its failed check, is a matter of moments.
    assert!(released + moved > 0);
    assert_eq!(account.cookies as u64, released + pinned + moved);
}

#[test]
fn a_host_fails_its_check_and_recovers_and_its_sessions_stay_where_they_went() {
    let storage = Storage::start();
    let scene = Scene::new(4, "A host fails its health check, and recovers; `failover: sticky`");
    let mut stage = Stage::set(scene, &storage.store.address);
    stage.host(HOST, HostState::Unhealthy);
    stage.serve();
    stage.host(HOST, HostState::Healthy);
    stage.over();
    stage.until_normal();
    let account = stage.account();
    assert_eq!(account.failed, 0);
    assert!(account.moved_host_gone > 0);
    assert_eq!(account.cookies, account.moved_host_gone, "one cookie for each that moved");
}

#[test]
fn a_host_fails_its_check_and_recovers_and_its_sessions_come_home() {
    let storage = Storage::start();
    let scene = Scene {
        plugin: json!({"upstream": {"failover": "temporary"}}),
        ..Scene::new(5, "The same with `failover: temporary`")
    };
    let mut stage = Stage::set(scene, &storage.store.address);
    stage.host(HOST, HostState::Unhealthy);
    stage.serve();
    stage.host(HOST, HostState::Healthy);
    stage.over();
    stage.until_normal();
    let account = stage.account();
    assert_eq!(account.failed, 0);
    assert!(account.moved_host_gone > 0);
    assert_eq!(account.cookies, 0, "nobody was told to follow");
}

#[test]
fn a_host_is_taken_out_of_the_cluster() {
    let storage = Storage::start();
    let folder = tempfile::tempdir().expect("a folder");
    let scene = Scene::new(6, "A host is taken out of the cluster (EDS), then fails its check");
    let mut stage = Stage::adjusted(scene, &storage.store.address, |bootstrap| {
        read_from(bootstrap.cluster("app"), folder.path());
    });
    let addresses: Vec<String> = stage.fleet[0].hosts[..3].iter().map(|host| host.address.clone()).collect();
    let all: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let hosts = stage.known_hosts();
    write_hosts(hosts_at(&[all[0], all[2]]), folder.path());
    eventually("Envoy to read the hosts", || {
        stage.fleet.iter().all(|proxy| proxy.envoy.stat("cluster.app.update_success") > 1).then_some(())
    });
    assert_eq!(stage.known_hosts(), hosts, "as long as its checks pass it is kept");
    stage.serve();
    stage.rotation.leaves(HOST);
    stage.tell(HOST, "health/fail");
    eventually("the host to be gone", || (stage.known_hosts() == hosts - 2).then_some(()));
    stage.serve();
    stage.over();
    stage.until_normal();
    let account = stage.account();
    assert_eq!(account.failed, 0);
    assert!(account.moved_host_gone > 0);
    assert_eq!(account.cookies, account.moved_host_gone, "one cookie for each that moved");
}

#[test]
fn a_host_is_ejected() {
    let storage = Storage::start();
    let scene = Scene::new(7, "A host is killed where only outlier detection watches, and comes back");
    let mut stage = Stage::adjusted(scene, &storage.store.address, |bootstrap| {
        let cluster = bootstrap.cluster("app");
        cluster.as_object_mut().expect("a cluster").remove("health_checks");
        // Half a minute, as Envoy has it, is long for a test.
        cluster["outlier_detection"]["base_ejection_time"] = "1s".into();
        cluster["outlier_detection"]["interval"] = "0.2s".into();
    });
    stage.host(HOST, HostState::Dead);
    stage.serve();
    stage.until_known(HOST, false);
    stage.serve();
    stage.host(HOST, HostState::Healthy);
    stage.over();
    stage.until_normal();
    let ejections = "cluster.app.outlier_detection.ejections_enforced_consecutive_local_origin_failure";
    assert!(stage.fleet.iter().all(|proxy| proxy.envoy.stat(ejections) > 0));
    let account = stage.account();
    assert!(account.moved_host_gone > 0);
    assert_eq!(account.cookies, account.moved_host_gone, "one cookie for each that moved");
}
