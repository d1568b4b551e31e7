//! `scripts/tools`, on a machine that has nothing: whatever it is asked for, it goes and gets it, or says why it cannot. So does
//! `scripts/containers`, of an engine.
//!
//! The machine is made up. The PATH holds what every system has, and package managers that write down what they are asked for, and fail.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::expect_used)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const BASICS: [&str; 29] = [
    "awk", "bash", "cat", "chmod", "cksum", "cp", "cut", "dirname", "dpkg-deb", "env", "find", "flock", "grep", "head",
    "id", "ldd", "ln", "ls", "mkdir", "mktemp", "mv", "printf", "rm", "sed", "sh", "sort", "tail", "tr", "uname",
];

/// What stands for them: each writes itself and its arguments into a file, and fails.
const MANAGERS: [(&str, &str); 6] = [
    (
        "apt-get",
        // It knows a mirror of this machine's release, and has read its lists.
        r#"[ "$1" != update ] || exit 0; [ "$1" != indextargets ] || { . /etc/os-release; echo "$VERSION_CODENAME http://127.0.0.1:9/"; exit 0; }"#,
    ),
    ("dpkg-query", "exit 1"),
    ("cargo", ""),
    ("npm", ""),
    // Its environments have a Python that is such a manager too.
    (
        "python3",
        r#"[ "$2" != venv ] || { for folder; do :; done; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python"; exit 0; }"#,
    ),
    ("cc", "exit 1"),
];

struct Machine {
    folder: TempDir,
}

impl Machine {
    fn bare() -> Self {
        let machine = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(machine.programs()).expect("a folder");
        for program in BASICS {
            if let Some(path) = found(program) {
                symlink(path, machine.programs().join(program)).expect("a link");
            }
        }
        for (name, first) in MANAGERS {
            machine.put(name, &format!("{first}\necho \"{name} $*\" >>'{}'\nexit 1", machine.asked_file().display()));
        }
        machine
    }

    fn programs(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    fn asked_file(&self) -> PathBuf {
        self.folder.path().join("asked")
    }

    fn put(&self, name: &str, script: &str) {
        let path = self.programs().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("a mode");
    }

    fn tools(&self, argument: &str) -> Output {
        self.script("scripts/tools").arg(argument).output().expect("bash")
    }

    fn script(&self, path: &str) -> Command {
        let mut command = Command::new(self.programs().join("bash"));
        command
            .arg(mooring_test_kit::root().join(path))
            .env_clear()
            .env("PATH", self.programs())
            .env("HOME", self.folder.path());
        command
    }

    /// What the package managers were asked to install.
    fn asked(&self) -> Vec<String> {
        let lines = std::fs::read_to_string(self.asked_file()).unwrap_or_default();
        let verbs = [" install ", " download "];
        lines.lines().filter(|line| verbs.iter().any(|verb| line.contains(verb))).map(str::to_owned).collect()
    }
}

/// Where this machine has the program.
fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.exists())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn names() -> Vec<String> {
    let list = text(&Machine::bare().tools("--list").stdout);
    assert!(list.lines().count() > 20, "scripts/tools lists {list}");
    list.lines().map(str::to_owned).collect()
}

/// A machine on which `scripts/tools NAME` was run, and what that said.
fn asked_for(name: &str) -> (Machine, Output) {
    let machine = Machine::bare();
    // What comes from npm needs Node.js first.
    if name != "node" {
        machine.put("node", "echo v22.0.0");
    }
    let output = machine.tools(name);
    (machine, output)
}

#[test]
fn every_tool_that_a_machine_lacks_is_asked_for() {
    for name in names().iter().filter(|name| *name != "node") {
        let (machine, output) = asked_for(name);
        // Where there are no Debian packages, that is said.
        let cannot = text(&output.stderr).contains("can only be fetched on Debian");
        assert!(!machine.asked().is_empty() || cannot, "{name}: nothing was installed: {output:?}");
    }
    let (machine, output) = asked_for("node");
    assert!(machine.asked().concat().contains("nodejs"), "{output:?}");
}

#[test]
fn a_tool_that_cannot_be_had_is_an_error_that_says_why() {
    for name in names() {
        let (_, output) = asked_for(&name);
        let says = text(&output.stderr);
        if name == "wasm-opt" {
            assert!(output.status.success() && says.contains("going on without it"), "{output:?}");
        } else {
            assert!(!output.status.success(), "{name}: {output:?}");
            assert!(says.contains("tools: error: ") || says.contains("tools: failed "), "{name}: {output:?}");
        }
        assert_eq!(text(&output.stdout), "", "{name}");
    }
}

#[test]
fn a_name_that_is_not_in_the_list_is_refused_with_the_list() {
    for name in ["", "served", "pip_install", "rm"] {
        let output = Machine::bare().tools(name);
        assert!(!output.status.success() && text(&output.stderr).contains("There are: caddy "), "{name}: {output:?}");
    }
}

#[test]
fn containers_that_cannot_be_had_are_skipped_but_not_in_ci() {
    let machine = Machine::bare();

    let skipped = machine.script("scripts/containers").output().expect("bash");
    let in_ci = machine.script("scripts/containers").env("CI", "true").output().expect("bash");

    let says = text(&skipped.stderr);
    assert!(
        skipped.status.success() && says.contains("containers: skipped: no engine for containers answers"),
        "{says}"
    );
    let counted = text(&skipped.stdout);
    assert!(
        counted.starts_with("test result: ok. 0 passed; 0 failed; ") && counted.ends_with(" ignored;\n"),
        "{counted}"
    );
    let says = text(&in_ci.stderr);
    assert!(!in_ci.status.success() && says.contains("containers: error: no engine for containers answers"), "{says}");
    assert_eq!(text(&in_ci.stdout), "");
}

/// As for a machine on which no package is installed.
#[test]
fn debian_has_every_package_that_is_asked_for() {
    let of_debian =
        std::fs::read_to_string("/etc/os-release").is_ok_and(|os| os.lines().any(|line| line == "ID=debian"));
    let known =
        || Command::new("apt-cache").args(["show", "umoci"]).output().is_ok_and(|output| output.status.success());
    if !of_debian || !known() {
        eprintln!("not tried: this is no Debian, or it has no lists of packages");
        return;
    }
    let mut packages = Vec::new();
    for name in names() {
        for line in asked_for(&name).0.asked().iter().filter_map(|line| line.strip_prefix("apt-get ")) {
            let words = line.split(' ').skip_while(|word| !["install", "download"].contains(word)).skip(1);
            // Not those of another release than this one.
            packages
                .extend(words.filter(|word| !word.starts_with('-') && !word.contains(['/', '='])).map(str::to_owned));
        }
    }
    assert!(packages.len() > 10, "{packages:?}");

    let output = Command::new("apt-get")
        .args(["--simulate", "--no-install-recommends", "-o", "Dir::State::status=/dev/null", "install"])
        .args(packages)
        .output();

    let output = output.expect("apt-get");
    assert!(output.status.success(), "{}", text(&output.stderr));
}
