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
mod meter;
mod plugin;
mod traffic;

use kinds::{KINDS, Kind};
use plugin::Cost;
use serde_json::json;
use traffic::Traffic;

fn cost(kind: &Kind) -> Cost {
    let mut traffic = Traffic::start(&(kind.config)());
    (kind.happens)(&mut traffic);
    traffic.plugin.cost().clone()
}

#[test]
fn each_kind_of_request_costs_what_is_listed() {
    println!(
        "{:>12} {:>6} {:>8} {:>12} {:>7} {:>8}",
        "instructions", "calls", "returned", "allocations", "copies", "copied"
    );
    let mut wrong = Vec::new();
    for kind in KINDS {
        let cost = cost(kind);
        let (instructions, calls) = (cost.instructions(), cost.calls());
        let (made, returned, allocations, copied) = (cost.host_calls(), cost.returned, cost.allocations(), cost.copied);
        let copies = cost.copies;
        println!("{instructions:>12} {made:>6} {returned:>8} {allocations:>12} {copies:>7} {copied:>8}  {}", kind.name);
        if instructions > kind.instructions {
            wrong.push(format!("{}: {instructions} instructions, of {} at most", kind.name, kind.instructions));
        }
        if calls != kind.calls {
            wrong.push(format!("{}: {calls:#?}", kind.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of a session that stays where it is, with every request alike.
#[test]
fn the_thousandth_request_costs_what_the_tenth_did() {
    let mut traffic = Traffic::start(&kinds::default());
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
        let config = traffic::config(0, keys, json!({}));
        let mut traffic = Traffic::start(&config);
        kinds::resumed_from_elsewhere(&mut traffic, &config);
        traffic.plugin.cost().instructions()
    };
    let (one, sixteen) = (cost(1), cost(16));
    assert!(sixteen <= one + one / 20, "{sixteen} instructions, {one} with one key");
}

/// More than the cache holds. The room is for memory.
#[test]
fn many_sessions_cost_the_next_request_next_to_nothing() {
    let mut traffic = Traffic::start(&kinds::with_store(json!({"cache": {"entries": 1000}})));
    let mut after = |sessions: u32| {
        for _ in 0..sessions {
            let cookie = traffic.begin();
            kinds::returned(&mut traffic, &cookie);
        }
        traffic.tick();
        let cookie = traffic.begin();
        traffic.plugin.forget();
        kinds::returned(&mut traffic, &cookie);
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

/// For whoever makes it faster: `cargo test --test cost -- --ignored --nocapture`.
#[test]
#[ignore = "prints, and asserts nothing"]
fn which_functions_the_instructions_go_to() {
    for kind in KINDS {
        let cost = cost(kind);
        println!("\n{}: {} instructions", kind.name, cost.instructions());
        cost.callbacks.iter().for_each(|callback| println!("{:>9}  {}", callback.instructions, callback.name));
        println!("{:>9} {:>9} {:>7}", "own", "all", "calls");
        let mut functions = cost.functions();
        functions.sort_by_key(|(_, taken)| -taken.own);
        for (name, taken) in functions.iter().take(40) {
            println!("{:>9} {:>9} {:>7}  {name}", taken.own, taken.all, taken.calls);
        }
    }
}
