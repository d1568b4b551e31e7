//! The built plugin, and the names of its functions.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use wasmparser::{KnownCustom, Name, Parser, Payload};

/// The plugin as `make wasm` leaves it.
pub struct Built {
    /// The module.
    pub bytes: Vec<u8>,
    /// By index, as their authors wrote them, without hashes.
    pub names: BTreeMap<u32, String>,
}

impl Built {
    /// What `make wasm` made, or `MOORING_WASM` if that is set.
    pub fn read() -> Self {
        #[allow(clippy::disallowed_methods)]
        let path = std::env::var("MOORING_WASM").unwrap_or_else(|_| "dist/mooring.wasm".into());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run make wasm", path.display()));
        let beside =
            std::fs::read_to_string(path.with_extension("names")).expect("the names of the plugin's functions");
        let mut names = named_within(&bytes);
        for line in beside.lines() {
            let (index, name) = line.split_once(':').expect("a number and a name");
            names.insert(index.parse().expect("a number"), plain(name));
        }
        Self { bytes, names }
    }
}

fn named_within(module: &[u8]) -> BTreeMap<u32, String> {
    let mut functions = BTreeMap::new();
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CustomSection(section) = payload.expect("a valid module") else { continue };
        let KnownCustom::Name(names) = section.as_known() else { continue };
        for names in names {
            if let Name::Function(names) = names.expect("names") {
                functions.extend(names.into_iter().map(|name| name.expect("a name")).map(|n| (n.index, plain(n.name))));
            }
        }
    }
    functions
}

fn plain(mangled: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(mangled))
}
