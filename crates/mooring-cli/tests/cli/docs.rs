//! What `docs/cli.md` shows is run: in a `console` block, lines that begin with `$` are commands, and what follows is what
//! they say.
//! `…` stands for anything on a line.

use crate::{KEY, folder, secret, shipped_text};
use mooring::clock::UnixTime;
use mooring::config::Config;
use mooring::credential::token::{self, Protection};
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::session::{Session, SessionId};
use mooring_test_kit::pages::pages;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Whether a line is as it is shown.
fn fits(line: &str, shown: &str) -> bool {
    match shown.split_once('…') {
        None => line == shown,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(rest.split_at(at).1, after))
        }),
    }
}

/// The cookie of a session that began at noon on 2026-12-01.
fn cookie(json: &str) -> String {
    let config = Config::parse(json.as_bytes(), &|_| Some(secret(1).into_bytes())).expect("the page's config");
    let noon = UnixTime(1_796_126_400);
    let mut session = Session::begin(SessionId([9; 16]), noon, &config.policy.session);
    session.renewed = noon.plus(1200);
    session.generation = 1;
    let host = HostAddr::parse(b"127.0.0.1:9002").unwrap();
    session.pins.set(Pin { cluster: ClusterId::of(b"app"), host });
    let token = token::seal(&session, &config.shared.keyring, &Protection::Encrypted { nonce: [4; 24] });
    format!("Cookie: theme=dark; __Host-mooring={token}\n")
}

#[test]
fn every_command_of_the_page_says_what_the_page_shows() {
    let page = pages().into_iter().find(|page| page.path.ends_with("docs/cli.md")).expect("docs/cli.md");
    let blocks = page.blocks();
    let json = &blocks.iter().find(|block| block.language == "json").expect("a config").text;
    let files = folder([("mooring.json", json), ("cookie.txt", &cookie(json))]);
    fs::create_dir(files.path().join("envoy")).unwrap();
    fs::write(files.path().join("envoy/envoy.yaml"), shipped_text("envoy.yaml")).unwrap();
    for (file, from, to) in [
        ("broken.yaml", "\"id\": \"2026-11\"", "\"id\": 2026"),
        ("renamed.yaml", "name: x-mooring-host", "name: x-host"),
    ] {
        fs::write(files.path().join(file), shipped_text("envoy.yaml").replace(from, to)).unwrap();
    }
    let programs = Path::new(env!("CARGO_BIN_EXE_mooring")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.display());

    let mut run: u32 = 0;
    for block in blocks.iter().filter(|block| block.language == "console") {
        for command in block.text.split_inclusive('\n').collect::<String>().split("$ ").skip(1) {
            let (command, shown) = command.split_once('\n').unwrap();
            let output = Command::new("sh")
                .args(["-c", &format!("({command}) 2>&1")])
                .current_dir(files.path())
                .env_clear()
                .env("PATH", &path)
                .env(KEY, secret(1))
                .output()
                .expect("a shell");
            let said = String::from_utf8(output.stdout).unwrap();
            let (said, shown): (Vec<_>, Vec<_>) =
                (said.trim_end().lines().collect(), shown.trim_end().lines().collect());
            let same = said.len() == shown.len() && said.iter().zip(&shown).all(|(line, shown)| fits(line, shown));
            assert!(same, "{}: {command}\nsays\n{}\nand not\n{}", block.place, said.join("\n"), shown.join("\n"));
            run += 1;
        }
    }
    assert!(run > 8, "{run}");
}

#[test]
fn a_shown_line_stands_for_itself_and_its_dots_for_anything() {
    for (line, shown, expected) in [
        ("abc", "abc", true),
        ("abc", "ab", false),
        ("abc", "a…", true),
        ("abc", "a…c", true),
        ("abcd", "a…c", false),
        ("=…; x", "=…; x", true),
        ("xabc", "a…", false),
    ] {
        assert_eq!(fits(line, shown), expected, "{line} {shown}");
    }
}
