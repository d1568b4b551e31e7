//! What a request costs, counted on the built plugin.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod imports;
mod kinds;
mod limits;
mod meter;
mod plugin;
mod snapshot;
mod traffic;

use kinds::kinds;
use serde_json::json;
use snapshot::Entry;
use traffic::Traffic;

/// `UPDATE_COSTS=1` writes the snapshot instead.
#[test]
fn each_kind_of_request_costs_what_the_snapshot_says() {
    let now: Vec<_> = kinds().iter().map(|kind| Entry::new(kind.name, kind.happen().plugin.cost())).collect();
    let path = mooring_test_kit::root().join(snapshot::PATH);
    if std::env::var_os("UPDATE_COSTS").is_some() {
        return std::fs::write(path, snapshot::written(&now)).expect("a snapshot that can be written");
    }
    let was = snapshot::parse(&std::fs::read_to_string(path).expect("a snapshot"));
    let differences = snapshot::differences(&was, &now);
    let path = snapshot::PATH;
    assert!(
        differences.is_empty(),
        "\n{differences}If that is as it should be: UPDATE_COSTS=1 make cost-test writes {path}"
    );
}

/// Of a session that stays where it is, with every request alike.
#[test]
fn the_thousandth_request_costs_what_the_tenth_did() {
    let mut traffic = Traffic::start(&json!({}));
    let cookie = traffic.begin();
    let mut after = |requests: u32| {
        (0..requests).for_each(|_| traffic.resume(&cookie));
        traffic.plugin.forget();
        traffic.resume(&cookie);
        (traffic.plugin.cost().clone(), traffic.plugin.pages())
    };
    let tenth = after(9);
    assert_eq!(after(989), tenth);
}

/// The room is for memory: where what is free lies elsewhere, finding some takes longer.
#[test]
fn many_keys_cost_a_request_next_to_nothing() {
    let cost = |keys| {
        let mut traffic = Traffic::start(&traffic::keys(0, keys));
        traffic.plugin.forget();
        kinds::resume_elsewhere(&mut traffic, "");
        traffic.plugin.cost().instructions()
    };
    let (one, sixteen) = (cost(1), cost(16));
    assert!(sixteen <= one + one / 20, "{sixteen} instructions, {one} with one key");
}

/// More than the cache holds. The room is for memory.
#[test]
fn many_sessions_cost_the_next_request_next_to_nothing() {
    let mut members = kinds::store();
    members["cache"] = json!({"entries": 1000});
    let mut traffic = Traffic::start(&members);
    let mut after = |sessions: u32| {
        for _ in 0..sessions {
            let cookie = traffic.begin();
            traffic.create(&cookie);
        }
        traffic.tick();
        let cookie = traffic.begin();
        traffic.plugin.forget();
        traffic.create(&cookie);
        let first = traffic.plugin.cost().instructions();
        traffic.plugin.forget();
        traffic.resume(&cookie);
        (first, traffic.plugin.cost().instructions())
    };
    let (few, many) = (after(10), after(1500));
    for (many, few) in [(many.0, few.0), (many.1, few.1)] {
        assert!(many <= few + few / 20, "{many} instructions, {few} after few sessions");
    }
}

/// For whoever makes it faster: `cargo test -p built-plugin-tests --test cost -- --ignored --nocapture`.
#[test]
#[ignore = "prints, and asserts nothing"]
fn which_functions_the_instructions_go_to() {
    for kind in kinds() {
        let traffic = kind.happen();
        let cost = traffic.plugin.cost();
        println!("\n{}: {} instructions, {} host calls", kind.name, cost.instructions(), cost.host_calls().count());
        println!("{} allocations, {} for answers", cost.allocations(), cost.returned);
        println!("{} octets copied by {} instructions", cost.copied, cost.copies);
        cost.callbacks.iter().for_each(|callback| println!("{:>9}  {}", callback.instructions, callback.name));
        println!("{:>9} {:>9} {:>7}", "own", "all", "calls");
        let mut functions = cost.functions();
        functions.sort_by_key(|(_, taken)| -taken.own);
        for (name, taken) in functions.iter().take(40) {
            println!("{:>9} {:>9} {:>7}  {name}", taken.own, taken.all, taken.calls);
        }
    }
}
