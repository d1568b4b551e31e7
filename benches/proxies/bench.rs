//! What is measured, and in which order. Each part has a module.

mod accounting;
mod chart;
mod clients;
mod contestant;
mod envoys;
mod hosts;
mod load;
mod others;
mod peers;
mod report;
mod rounds;
mod scale;
mod statistics;

use std::path::{Path, PathBuf};

/// Where figures go that are not part of the documentation.
fn folder() -> PathBuf {
    let folder = mooring_test_kit::servers::root().join("target/bench");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A page's folder for charts.
fn charts() -> PathBuf {
    let folder = mooring_test_kit::servers::root().join("docs/performance");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A whole number from the environment.
#[allow(clippy::disallowed_methods)]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

pub fn run() {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    match arguments.split_first() {
        Some((what, [])) if what == "peers" => peers::run(),
        Some((what, series)) if what == "scale" => scale::run(series),
        _ => panic!("usage: proxies peers|scale [SERIES…]"),
    }
}
