//! Looks into the built plugin: what in it can trap, from where that can be reached, and how much stack it takes. `make artefact-test`
//! runs it, and with `-- --nocapture` it prints the whole list. `docs/decisions/0008-what-can-trap-is-listed.md` says why.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod listed;
mod module;

use built_plugin_tests::Built;
use listed::{LISTED, Listed, RECURSIVE, Reach};
use module::{Id, Kind, Module};
use std::collections::{BTreeMap, BTreeSet};

/// Where the end begins. What comes after it is the standard library's: it comes to a trap, whatever it does.
const PANICS: [&str; 12] = [
    "core::panicking::",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::result::unwrap_failed",
    "core::slice::index::slice_",
    "core::str::slice_error_fail",
    "core::cell::panic_",
    "alloc::raw_vec::handle_error",
    "alloc::raw_vec::capacity_overflow",
    "alloc::alloc::handle_alloc_error",
    "std::panicking::",
    "_Exit",
];

/// The callbacks in which the proxy hands over the configuration. All others are traffic, or its consequence.
const CONFIGURATION: [&str; 4] = ["_initialize", "proxy_abi_version_0_2_1", "proxy_on_vm_start", "proxy_on_configure"];

fn is_panic(name: &str) -> bool {
    PANICS.iter().any(|panic| name.starts_with(panic))
}

fn plugin() -> Module {
    Module::read(&Built::read(), is_panic)
}

/// Functions that run in callbacks, up to where a panic begins, with the callbacks.
fn at_work(module: &Module) -> BTreeMap<Id, BTreeSet<&str>> {
    let mut reached = BTreeMap::<Id, BTreeSet<&str>>::new();
    for (export, id) in &module.exports {
        for id in module.reachable(*id, is_panic) {
            reached.entry(id).or_default().insert(export);
        }
    }
    reached
}

/// One way to trap: in which function, what happens there, and, where a panic says so, at which place of which source.
struct Site<'a> {
    function: &'a str,
    what: &'a str,
    source: Option<(String, u32)>,
    callbacks: &'a BTreeSet<&'a str>,
}

impl Site<'_> {
    fn listed(&self) -> Option<&'static Listed> {
        LISTED.iter().find(|row| {
            row.what.is_none_or(|what| self.what.starts_with(what))
                && row.function.is_none_or(|function| self.function.starts_with(function))
                && row.source.is_none_or(|source| self.source.as_ref().is_some_and(|(file, _)| file.contains(source)))
        })
    }

    fn reach(&self) -> Reach {
        let configuration = self.callbacks.iter().all(|callback| CONFIGURATION.contains(callback));
        if configuration { Reach::Configuration } else { Reach::Traffic }
    }
}

#[test]
fn nothing_can_trap_but_what_is_listed() {
    let module = plugin();
    let at_work = at_work(&module);
    let mut unlisted = Vec::new();
    let mut places = BTreeMap::<&str, (usize, usize)>::new();
    let mut seen = 0;
    for (id, callbacks) in &at_work {
        let function = &module.functions[*id];
        for trap in &function.traps {
            let what = match trap.kind {
                Kind::Call(called) => module.name(called),
                Kind::Division => "a division",
                Kind::Conversion => "a conversion",
                Kind::Unreachable => "a trap",
            };
            let source = trap.constants.iter().find_map(|constant| module.location(*constant));
            let site = Site { function: &function.name, what, source, callbacks };
            seen += 1;
            let line = format!("{:?} {} in {}, {:?}", site.reach(), site.what, site.function, site.source);
            match site.listed() {
                Some(row) if row.reach == Reach::Traffic || site.reach() == Reach::Configuration => {
                    println!("{line}\n    {}", row.reason);
                    if let Some(most) = row.places {
                        places.entry(row.reason).or_insert((0, most)).0 += 1;
                    }
                }
                Some(_) => unlisted.push(format!("listed for the configuration alone: {line}")),
                None => unlisted.push(line),
            }
        }
    }
    assert!(
        seen > 100,
        "only {seen} places where the plugin can trap were found: they were not looked for in the right way"
    );
    assert!(unlisted.is_empty(), "not listed:\n{}", unlisted.join("\n"));
    let more: Vec<_> = places.iter().filter(|(_, (found, most))| found > most).collect();
    assert!(more.is_empty(), "more places than are listed: {more:?}");
}

/// The crate's own sources panic nowhere: where the standard library panics on behalf of its caller, it names the caller.
#[test]
fn no_panic_names_a_source_of_ours() {
    let sources = plugin().sources();
    assert!(sources.iter().any(|file| file.contains("library/")), "no source found at all: {sources:?}");
    let ours: Vec<_> = sources.iter().filter(|file| file.starts_with("src/")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// Functions that call each other, as groups; alone where they do not.
fn groups(module: &Module, at_work: &BTreeSet<Id>) -> Vec<BTreeSet<Id>> {
    let reached: BTreeMap<Id, BTreeSet<Id>> = at_work
        .iter()
        .map(|id| {
            let called = module.calls(*id).into_iter().filter(|called| !is_panic(module.name(*called)));
            (*id, called.flat_map(|called| module.reachable(called, is_panic)).collect())
        })
        .collect();
    let mut groups: Vec<BTreeSet<Id>> = Vec::new();
    for id in at_work {
        if groups.iter().any(|group| group.contains(id)) {
            continue;
        }
        let back = reached[id].iter().filter(|other| reached.get(other).is_some_and(|back| back.contains(id)));
        groups.push(back.copied().chain([*id]).collect());
    }
    groups
}

/// The most stack that a callback can take, in bytes of linear memory. Wasm's own stack of calls holds no more frames than this one.
#[test]
fn the_stack_is_bounded_whatever_comes() {
    let module = plugin();
    let at_work: BTreeSet<Id> = at_work(&module).into_keys().collect();
    let groups = groups(&module, &at_work);
    let of: BTreeMap<Id, usize> =
        groups.iter().enumerate().flat_map(|(at, group)| group.iter().map(move |id| (*id, at))).collect();

    let own: Vec<u64> = groups
        .iter()
        .map(|group| {
            // A frame that takes nothing of the linear stack has a return address all the same: 16 stands for that.
            let frames: u64 = group.iter().map(|id| module.functions[*id].frame.max(16)).sum();
            let recursive = group.len() > 1 || group.iter().any(|id| module.calls(*id).contains(id));
            if !recursive {
                return frames;
            }
            let names: Vec<&str> = group.iter().map(|id| module.name(*id)).collect();
            let known = RECURSIVE.iter().find(|row| names.iter().all(|name| (row.of)(name)));
            let row = known.unwrap_or_else(|| panic!("these call each other, and how deep is not listed: {names:?}"));
            frames * row.depth
        })
        .collect();

    let mut deepest: Vec<Option<u64>> = vec![None; groups.len()];
    fn depth(
        at: usize,
        groups: &[BTreeSet<Id>],
        of: &BTreeMap<Id, usize>,
        own: &[u64],
        module: &Module,
        deepest: &mut [Option<u64>],
    ) -> u64 {
        if let Some(known) = deepest[at] {
            return known;
        }
        let called = groups[at].iter().flat_map(|id| module.calls(*id)).filter_map(|id| of.get(&id)).copied();
        let called: BTreeSet<usize> = called.filter(|other| *other != at).collect();
        let beyond = called.into_iter().map(|other| depth(other, groups, of, own, module, deepest)).max().unwrap_or(0);
        deepest[at] = Some(own[at] + beyond);
        own[at] + beyond
    }
    let mut most = BTreeMap::new();
    for (export, id) in &module.exports {
        most.insert(export, depth(of[id], &groups, &of, &own, &module, &mut deepest));
    }
    println!("most stack, in bytes: {most:#?}");
    assert!(most.values().any(|most| *most > 1000), "no frames were found");
    // The linker's stack has 1 MiB.
    assert!(most.values().all(|most| *most < 256 * 1024), "{most:?}");
}
