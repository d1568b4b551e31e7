//! Replays what is saved under `seeds/`, and thousands of mutations of it. What fails is kept in `artifacts`.

use mooring_fuzz::TARGETS;
use std::fs;
use std::path::{Path, PathBuf};

/// How many mutations of its saved inputs a target gets, in all.
const MUTATIONS: usize = 20_000;

/// Xorshift: quick, and the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target)
}

fn saved(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder("seeds", target)).expect("saved inputs");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("an input"))).collect()
}

/// Says which input it was, when its check panics.
struct Running<'a> {
    target: &'a str,
    name: String,
    input: &'a [u8],
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let folder = folder("artifacts", self.target);
            let path = folder.join("replay");
            let kept = fs::create_dir_all(folder).and_then(|()| fs::write(&path, self.input));
            eprintln!("{} fails; kept as {}: {kept:?}", self.name, path.display());
        }
    }
}

fn replay(target: &str) {
    let (_, check) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a target");
    let saved = saved(target);
    assert!(!saved.is_empty(), "nothing is saved for {target}");
    for (path, input) in &saved {
        let _running = Running { target, name: path.display().to_string(), input };
        check(input);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for at in 0..MUTATIONS {
        let (path, input) = &saved[at % saved.len()];
        let mut input = input.clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &saved, &mut random);
        }
        let _running = Running { target, name: format!("mutation {at}, of {}", path.display()), input: &input };
        check(&input);
    }
}

fn mutate(input: &mut Vec<u8>, saved: &[(PathBuf, Vec<u8>)], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = at + random.below((input.len() - at).min(32) + 1);
    match random.below(6) {
        0 if at < input.len() => input[at] = random.below(256) as u8,
        1 if at < input.len() => input[at] ^= 1 << random.below(8),
        2 => input.insert(at, b"0123456789abcdefghijklmnop=.;\"{}\n"[random.below(33)]),
        3 => drop(input.drain(at..end)),
        4 => input.extend_from_within(at..end),
        _ => {
            let (_, other) = &saved[random.below(saved.len())];
            let from = random.below(other.len() + 1);
            let part = &other[from..from + random.below(other.len() - from + 1)];
            input.truncate(at);
            input.extend_from_slice(part);
        }
    }
    input.truncate(8192);
}

#[test]
fn every_target_has_saved_inputs_and_no_other_folder_does() {
    let mut folders: Vec<String> = fs::read_dir(folder("seeds", ""))
        .expect("saved inputs")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    assert_eq!(folders, TARGETS.map(|(name, _)| name));
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn cookie() {
    replay("cookie");
}

#[test]
fn filter() {
    replay("filter");
}

#[test]
fn store_answer() {
    replay("store_answer");
}

#[test]
fn token() {
    replay("token");
}
