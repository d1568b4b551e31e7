//! What a reload leaves behind.

use mooring_test_kit::fleet::{Fleet, Plan, configuration};
use mooring_test_kit::memory::{PAGE, wasm_memories};
use mooring_test_kit::rig::{Launch, eventually};
use mooring_test_kit::servers::store::Store;
use mooring_test_kit::world::World;
use serde_json::json;

#[test]
fn the_memory_of_configurations_that_are_gone_is_used_again() {
    let store = Store::start(&[]);
    let plugin = |version: u32| json!({"cache": {"entries": 2000 + version}, "store": {}});
    let launch = Launch::with(&["--drain-time-s", "1"]);
    let mut fleet = Fleet::of(&store.address, Plan { envoys: 1, workers: 1, launch, ..Plan::new(plugin(0)) });
    let pid = fleet[0].envoy.pid();
    let mut sizes = Vec::new();
    for version in 1..=12 {
        for _ in 0..100 {
            let (mut browser, _) = fleet.browser(0);
            browser.get(&mut fleet[0], "/");
        }
        let mut configuration = configuration(plugin(version));
        configuration["store"]["authority"] = store.address.as_str().into();
        fleet[0].reconfigure(configuration);
        eventually("the old configuration to be gone", || {
            (fleet[0].envoy.stat("listener_manager.total_filter_chains_draining") == 0).then_some(())
        });
        sizes.push(wasm_memories(pid));
    }
    // The first ones are for the old and the new one at a time. What nine more would leave is three pages at the least: the sessions of
    // each.
    let grown = sizes[11].iter().zip(&sizes[2]).any(|(now, then)| *now > then + PAGE);
    assert!(!grown, "{sizes:?}");
    fleet.assert_sound();
}
