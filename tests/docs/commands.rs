//! What pages and comments point at is there: targets of make, steps of `scripts/test`, packages, tests by their names, files.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use mooring_test_kit::pages::{Page, blocks, pages};
use mooring_test_kit::root;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).expect(file)
}

/// The files of this project whose names end so; not what was built.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "dist"].contains(&&*name) && !name.starts_with('.') {
            found.extend(files(&path, suffix));
        } else if name.ends_with(suffix) {
            found.push(path);
        }
    }
    found
}

fn targets() -> BTreeSet<String> {
    let makefile = text("Makefile");
    let rules = makefile.lines().filter_map(|line| line.split_once(": ## "));
    rules.map(|(target, _)| target.to_owned()).collect()
}

fn steps() -> BTreeSet<String> {
    let script = text("scripts/test");
    let list = script.split("all_steps='").nth(1).and_then(|rest| rest.split('\'').next()).expect("all_steps");
    list.split(' ').map(str::to_owned).collect()
}

/// The manifest of a package of this workspace.
fn manifest(package: &str) -> PathBuf {
    let named = format!("\nname = \"{package}\"\n");
    let mut manifests = files(root(), "Cargo.toml").into_iter().filter(|path| {
        let manifest = fs::read_to_string(path).unwrap();
        manifest.split("[package]").nth(1).is_some_and(|package| package.starts_with(&named))
    });
    manifests.next().unwrap_or_else(|| panic!("no package {package}"))
}

/// Whether a test or a module of tests in the folder has this name, or a scenario, which packages run by a macro.
fn has_test(folder: &Path, name: &str) -> bool {
    let scenarios = root().join("crates/test-kit/src/scenarios.rs");
    let mut code = files(folder, ".rs").into_iter().chain([scenarios]).map(|path| fs::read_to_string(path).unwrap());
    let said = [format!("fn {name}("), format!("fn {name}<"), format!("mod {name};")];
    code.any(|code| said.iter().any(|said| code.contains(said)))
}

/// The package that a step tests, as the script says.
fn package_of(step: &str) -> String {
    let script = text("scripts/test");
    let function = script.split(&format!("step_{}() {{", step.replace('-', "_"))).nth(1).expect(step);
    let function = function.split("\n}\n").next().unwrap();
    let package = function.split("run_tests --package ").nth(1).expect(step);
    package.split_whitespace().next().unwrap().to_owned()
}

/// Says what is wrong with a line of commands, as far as they are known here.
fn fault(line: &str) -> Option<String> {
    line.split("&&").find_map(fault_of)
}

fn fault_of(command: &str) -> Option<String> {
    let words = command.split_whitespace().skip_while(|word| word.split('/').next().unwrap().contains('='));
    let words: Vec<&str> = words.collect();
    match &*words {
        ["make", targets_named @ ..] => {
            let unknown = targets_named.iter().find(|target| !target.contains('=') && !targets().contains(**target));
            unknown.map(|target| format!("make has no target {target}"))
        }
        ["scripts/test", rest @ ..] => {
            let (named, tests) = rest.split_at(rest.iter().position(|word| *word == "--").unwrap_or(rest.len()));
            let known = |step: &str| step == "STEP" || step == "core-test" || steps().contains(step);
            if let Some(step) = named.iter().find(|step| !known(step)) {
                return Some(format!("scripts/test has no step {step}"));
            }
            let name = tests.get(1).filter(|name| **name != "NAME")?;
            let folder = manifest(&package_of(named[0]));
            (!has_test(folder.parent().unwrap(), name)).then(|| format!("{} has no test {name}", named[0]))
        }
        ["cargo", "test", rest @ ..] => {
            let value = |of: &[&str]| {
                let at = rest.iter().position(|word| of.contains(word))?;
                rest.get(at + 1).copied()
            };
            let manifest = match (value(&["-p", "--package"]), value(&["--manifest-path"])) {
                (Some(package), _) => manifest(package),
                (None, path) => root().join(path.unwrap_or("Cargo.toml")),
            };
            let target = value(&["--test"]);
            if let Some(target) = target
                && !fs::read_to_string(&manifest).ok()?.contains(&format!("[[test]]\nname = \"{target}\"\n"))
            {
                return Some(format!("there is no --test {target}"));
            }
            let name = rest.last().filter(|last| rest.len() % 2 == 1 && !last.starts_with('-'))?;
            (!has_test(manifest.parent().unwrap(), name)).then(|| format!("no test is called {name}"))
        }
        [program, ..] if program.starts_with("scripts/") => {
            (!root().join(program).exists()).then(|| format!("there is no {program}"))
        }
        _ => None,
    }
}

#[test]
fn every_command_that_a_page_shows_is_one() {
    let mut tried = 0;
    for block in blocks("sh") {
        for line in block.text.lines().map(|line| line.split('#').next().unwrap()) {
            assert_eq!(fault(line), None, "{}: {line}", block.place);
            tried += 1;
        }
    }
    for page in pages() {
        for command in
            page.code().into_iter().filter(|code| ["make ", "scripts/"].iter().any(|of| code.starts_with(of)))
        {
            assert_eq!(fault(command), None, "{}: {command}", page.name());
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_command_that_is_none_is_found() {
    for (command, wrong) in [
        ("make tests", "make has no target tests"),
        ("STORE=redis make walk", "make has no target walk"),
        ("scripts/test everything", "scripts/test has no step everything"),
        ("scripts/test envoy-test -- no_such_test", "envoy-test has no test no_such_test"),
        ("cargo test -p core-tests --test none", "there is no --test none"),
        ("cargo test -p mooring no_such_test", "no test is called no_such_test"),
        ("scripts/none", "there is no scripts/none"),
    ] {
        assert_eq!(fault(command).as_deref(), Some(wrong), "{command}");
    }
}

#[test]
fn every_step_is_a_target_of_make_and_in_the_table_of_contributing() {
    let page = pages().into_iter().find(|page| page.path.ends_with("CONTRIBUTING.md")).expect("CONTRIBUTING.md");
    let rows = page.rows("step");
    let listed: BTreeSet<&str> = rows.iter().flat_map(|row| row[0].split('`').skip(1).step_by(2)).collect();
    for step in &steps() {
        assert!(targets().contains(step), "make has no target {step}");
        assert!(listed.contains(&**step), "{step} is not in the table");
    }
}

/// Where a word that is a path leads. What is built, or made by who runs it, need not be there.
fn path_in(word: &str) -> Option<&str> {
    const FOLDERS: [&str; 11] = [
        ".github/",
        "benches/",
        "crates/",
        "deploy/",
        "docs/",
        "envoy/",
        "examples/",
        "fuzz/",
        "scripts/",
        "src/",
        "tests/",
    ];
    const MADE: [&str; 4] = ["envoy/key.env", "fuzz/artifacts", "fuzz/corpus", "fuzz/target"];
    let path = word.trim_end_matches(['.', ':', ',', ';', '/']);
    let path = path.split_once(".rs:").map_or(path, |(file, _)| path.get(..file.len() + 3).unwrap());
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
    let named = FOLDERS.iter().any(|folder| path.starts_with(folder));
    (plain && named && !MADE.iter().any(|made| path.starts_with(made))).then_some(path)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "`()[]\"'".contains(c))
}

/// From the root, or from the package of who names it.
fn exists(path: &str, file: &Path) -> bool {
    file.ancestors().skip(1).take_while(|folder| folder.starts_with(root())).any(|folder| folder.join(path).exists())
}

#[test]
fn every_file_that_a_page_or_a_comment_names_is_there() {
    let mut followed = 0;
    let mut missing = Vec::new();
    let mut follow = |path: &str, file: &Path| {
        followed += 1;
        if !exists(path, file) {
            missing.push(format!("{}: {path}", file.strip_prefix(root()).unwrap().display()));
        }
    };
    for Page { path: file, text } in pages() {
        for path in words(&text).filter_map(path_in) {
            follow(path, &file);
        }
    }
    for file in files(root(), ".rs") {
        let code = fs::read_to_string(&file).unwrap();
        for comment in code.lines().filter(|line| line.trim_start().starts_with("//")) {
            for path in words(comment).filter_map(path_in) {
                follow(path, &file);
            }
        }
    }
    assert_eq!(missing, [""; 0]);
    assert!(followed > 200, "{followed}");
}
