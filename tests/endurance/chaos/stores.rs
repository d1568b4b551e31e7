//! A store that dies, hangs, forgets, or is slow.

use super::stage::{Account, Scene, Stage, Storage};
use mooring_test_kit::fleet::over_http1;
use mooring_test_kit::meddler::{Manner, Meddler};
use serde_json::json;

/// With a short memory, so that the store is asked all the time.
fn scene(place: u32, title: &'static str) -> Scene {
    Scene { plugin: json!({"cache": {"ttl": "500ms"}}), ..Scene::new(place, title) }
}

/// The requests of sessions that the store is not asked for go where the cookie says.
fn assert_unmoved(account: &Account) {
    assert_eq!((account.failed, account.moved_host_gone, account.cookies), (0, 0, 0));
    assert!(account.lookups > 0);
}

#[test]
fn the_store_is_killed_and_started_again() {
    let mut storage = Storage::start();
    let mut stage = Stage::set(scene(12, "The store is killed, and started again"), &storage.store.address);
    storage.store.kill();
    stage.serve();
    storage.store.restart();
    stage.over();
    stage.until_the_store_is_asked();
    let account = stage.account();
    assert_unmoved(&account);
    // Envoy soon knows that no host is well, and sends nothing: then there is nothing to leave alone.
    assert!(account.counted("mooring_faults.kind=store_unavailable") > 0);
}

#[test]
fn the_store_hangs_and_goes_on() {
    let storage = Storage::start();
    let mut stage = Stage::set(scene(13, "The store hangs (SIGSTOP), and goes on"), &storage.store.address);
    storage.store.pause();
    stage.serve();
    storage.store.resume();
    stage.over();
    stage.until_the_store_is_asked();
    let account = stage.account();
    assert_unmoved(&account);
    assert!(account.counted("mooring_faults.kind=store_left_alone") > 0);
}

#[test]
fn the_store_is_wiped() {
    let storage = Storage::start();
    let mut stage = Stage::set(scene(14, "The store is wiped (FLUSHALL)"), &storage.store.address);
    storage.redis.ask::<String>(&["FLUSHALL"]).expect("Redis");
    stage.over();
    stage.serve();
    stage.until_the_store_is_asked();
    let account = stage.account();
    assert_unmoved(&account);
    assert!(account.counted("mooring_store_calls.operation=create.result=ok") > 0, "they are written again");
}

/// A store that takes so many hundredths of its timeout for each answer.
fn slow(place: u32, title: &'static str, hundredths: u32) -> Account {
    let storage = Storage::start();
    let meddler = Meddler::before(&storage.store.address);
    let mut stage = Stage::adjusted(scene(place, title), &meddler.address, over_http1);
    meddler.behave(Manner::Slow(stage.size.store_timeout * hundredths / 100));
    stage.serve();
    meddler.behave(Manner::Honest);
    stage.over();
    stage.until_the_store_is_asked();
    let account = stage.account();
    assert_unmoved(&account);
    account
}

#[test]
fn the_store_is_slow_but_in_time() {
    let account = slow(15, "The store takes a fifth of its timeout for each answer", 20);
    assert!(account.counted("mooring_store_calls.operation=lookup.result=ok") > 0);
}

#[test]
fn the_store_is_too_slow() {
    let account = slow(16, "The store takes two and a half of its timeouts for each answer", 250);
    assert!(account.counted("mooring_faults.kind=store_left_alone") > 0);
}

#[test]
fn redis_is_killed_behind_the_store_and_started_again() {
    let mut storage = Storage::start();
    let mut stage = Stage::set(
        scene(17, "Redis is killed behind `mooring-store`, and started again, empty"),
        &storage.store.address,
    );
    storage.redis.kill();
    stage.serve();
    storage.redis.restart();
    stage.over();
    stage.until_the_store_is_asked();
    let account = stage.account();
    assert_unmoved(&account);
    assert!(account.counted("mooring_store_calls.operation=create.result=ok") > 0, "they are written again");
}
