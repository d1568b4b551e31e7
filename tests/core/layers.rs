//! Holds the layers of `src/lib.rs`: who may name whom. And what nobody may name.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

/// From the outside in. A module may name those of its own layer and of those further in.
const LAYERS: [&[&str]; 6] = [
    &["shell"],
    &["affinity"],
    &["store"],
    &["config"],
    &["carrier", "credential", "observe", "session"],
    &["clock", "headers", "ids", "lru", "text"],
];

fn sources() -> Vec<(PathBuf, String)> {
    let root = mooring_test_kit::root().join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).expect("a source file");
                files.push((path.strip_prefix(&root).expect("under src").to_path_buf(), text));
            }
        }
    }
    assert!(files.len() > 20, "only {} source files found", files.len());
    files
}

/// The top-level module that a file belongs to; `None` for `lib.rs`.
fn module(path: &Path) -> Option<String> {
    let first = path.iter().next().expect("a name").to_string_lossy().replace(".rs", "");
    (first != "lib").then_some(first)
}

fn layer(module: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&module)).unwrap_or_else(|| panic!("{module} is in no layer"))
}

#[test]
fn no_module_names_one_further_out() {
    for (path, text) in sources() {
        let Some(from) = module(&path) else { continue };
        assert!(!text.contains("crate::{"), "{}: one line for each module, so that this test sees it", path.display());
        for named in text.split("crate::").skip(1) {
            let to: String =
                named.chars().take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_').collect();
            let known = LAYERS.iter().any(|layer| layer.contains(&to.as_str()));
            assert!(known || to.is_empty(), "{}: crate::{to} is in no layer", path.display());
            if known {
                assert!(layer(&from) <= layer(&to), "{}: {from} names {to}", path.display());
            }
        }
    }
}

/// What stands in the proxy's shared data is there for every plugin with the same `vm_id`, and stays when a VM crashes.
#[test]
fn the_plugin_leaves_nothing_in_data_that_plugins_share() {
    for (path, text) in sources() {
        assert!(!text.contains("shared_data") && !text.contains("shared_queue"), "{}", path.display());
    }
}
