//! Holds the layers of `src/lib.rs`: who may name whom, and where `unsafe` may stand.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

/// From the outside in. A module may name those of its own layer and of those further in.
const LAYERS: [&[&str]; 9] = [
    &["shell"],
    &["affinity"],
    &["store"],
    &["config"],
    &["observe"],
    &["carrier"],
    &["credential"],
    &["session"],
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

/// The files whose code, comments aside, has `word`.
fn files_with(word: &str) -> Vec<String> {
    let code = |text: &str| text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
    let files = sources().into_iter().filter(|(_, text)| code(text));
    let mut files: Vec<String> = files.map(|(path, _)| path.to_string_lossy().into_owned()).collect();
    files.sort();
    files
}

#[test]
fn the_proxy_calls_and_is_called_in_two_files() {
    assert_eq!(files_with("extern \"C\""), ["shell/abi.rs", "shell/exports.rs"]);
}

/// What stands in the proxy's shared data is there for every plugin with the same `vm_id`, and stays when a VM crashes.
#[test]
fn the_plugin_leaves_nothing_in_data_that_plugins_share() {
    assert_eq!(files_with("shared_data"), [""; 0]);
    assert_eq!(files_with("shared_queue"), [""; 0]);
}

#[test]
fn unsafe_stands_only_where_the_proxy_calls_and_is_called() {
    assert_eq!(files_with("unsafe"), ["shell/abi.rs", "shell/exports.rs"]);
    // That each block has its reason, clippy checks (`undocumented_unsafe_blocks`).
}
