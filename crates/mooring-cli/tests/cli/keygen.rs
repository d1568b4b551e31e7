//! `mooring keygen`.

use crate::{folder, mooring, path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fs;

#[test]
fn a_secret_is_32_bytes_and_new_each_time() {
    let secrets = [(); 2].map(|()| mooring(["keygen"]).done().stdout);
    for secret in &secrets {
        assert_eq!(STANDARD.decode(secret.trim_end()).unwrap().len(), 32);
    }
    assert_ne!(secrets[0], secrets[1]);
}

#[test]
fn it_says_how_to_use_a_secret_which_is_all_of_stdout() {
    let done = mooring(["keygen", "--id", "2026-12"]).done();
    assert_eq!(done.stdout.lines().count(), 1);
    assert!(done.stderr.contains("MOORING_KEY_2026_12"), "{done:?}");
    let entry = done.stderr.lines().last().unwrap();
    let config = folder([("mooring.json", &format!("{{\"keys\": [{entry}]}}"))]);
    let checked = mooring(["check", &path(&config, "mooring.json")]).env("MOORING_KEY_2026_12", done.stdout.trim_end());
    assert_eq!(checked.done().code, 0);
    let (_, json) = mooring(["keygen", "--id", "k"]).json();
    assert_eq!((&json["variable"], json["secret"].as_str().unwrap().len()), (&"MOORING_KEY_K".into(), 44));
}

#[test]
fn a_file_is_its_owners_alone_and_never_overwritten() {
    let files = folder([]);
    let file = path(&files, "secret");
    let done = mooring(["keygen", "--out", &file]).done();
    assert_eq!((done.code, done.stdout.as_str()), (0, ""));
    let secret = fs::read_to_string(&file).unwrap();
    assert_eq!(STANDARD.decode(secret.trim_end()).unwrap().len(), 32);
    assert!(!done.stderr.contains(secret.trim_end()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(mooring(["keygen", "--out", &file]).done().code, 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
}
