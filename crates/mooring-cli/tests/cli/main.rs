//! The command line, `mooring`: the real program, on real files.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod check;
mod docs;
mod inspect;
mod keygen;
mod rotate;
mod surroundings;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A run of the program that is not begun yet. It has no environment but what it is given.
struct Run {
    command: Command,
    stdin: Vec<u8>,
}

/// What a run left.
#[derive(Debug)]
struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

fn mooring<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mooring"));
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Run { command, stdin: Vec::new() }
}

impl Run {
    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.into();
        self
    }

    fn done(mut self) -> Done {
        let mut child = self.command.spawn().expect("mooring runs");
        // It need not read it.
        let _ = child.stdin.take().expect("a pipe").write_all(&self.stdin);
        let output = child.wait_with_output().expect("an end");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Done {
            code: output.status.code().expect("an exit code"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// What it says to programs, which must be all that it says on stdout.
    fn json(mut self) -> (i32, Value) {
        self.command.arg("--json");
        let done = self.done();
        (done.code, serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}")))
    }
}

/// A folder with these files, which goes when it is dropped.
fn folder<const N: usize>(files: [(&str, &str); N]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().expect("UTF-8").to_owned()
}

/// A config of Envoy's that comes with the project.
fn shipped(name: &str) -> PathBuf {
    mooring_test_kit::root().join("envoy").join(name)
}

fn shipped_text(name: &str) -> String {
    fs::read_to_string(shipped(name)).expect("a shipped config")
}

/// 32 bytes of one kind, as a secret.
fn secret(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

const KEY: &str = "MOORING_KEY_2026_11";

#[test]
fn a_wrong_command_line_is_told_from_a_refusal() {
    for arguments in [&["chekc"][..], &["check"], &["check", "--no-such", "x"], &["rotate"], &["keygen", "--id", "a.b"]]
    {
        assert_eq!(mooring(arguments).done().code, 2, "{arguments:?}");
    }
    assert_eq!(mooring(["check", "/no/such/file"]).done().code, 1);
    let (code, json) = mooring(["inspect", "--file", "/no/such/file"]).json();
    assert_eq!(code, 1);
    assert!(json["error"].as_str().unwrap().starts_with("cannot read /no/such/file"), "{json}");
}

#[test]
fn the_schema_is_the_librarys() {
    let done = mooring(["schema"]).done();
    assert_eq!((done.code, done.stdout), (0, format!("{:#}\n", mooring::config::schema::schema())));
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let done = mooring(["completions", shell]).done();
        assert_eq!(done.code, 0);
        assert!(done.stdout.contains("rotate") && done.stdout.contains("ignore-missing-env"), "{shell}");
    }
}
