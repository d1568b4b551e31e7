//! The vectors of `docs/token.md`, and what must hold for every token.

use super::*;
use crate::clock::UnixTime;
use crate::credential::keyring::{KeyId, MAX_SCOPE, Secret};
use crate::session::pin::{ClusterId, HostAddr, MAX_HOST_TEXT, MAX_PINS, Pin, Pins};
use crate::session::{SessionId, Timeouts};
use hmac::KeyInit as _;
use serde_json::Value;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const HOST: &str = "192.0.2.1:8080";
const NONCE_OF_TESTS: [u8; NONCE] = [0x5a; NONCE];
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const FOREIGN: &[u8] = b".=+/ \t\"%,;\0\n\x7f\x80\xff";

fn vectors() -> Value {
    let page = include_str!("../../../docs/token.md");
    let (_, rest) = page.split_once("<!-- vectors -->\n```json\n").unwrap();
    serde_json::from_str(rest.split_once("\n```\n").unwrap().0).unwrap()
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    let items = value[member].as_array().unwrap();
    assert!(!items.is_empty(), "{member}");
    items
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} of {value}"))
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn number(value: &Value, member: &str) -> Option<u64> {
    let number = Some(&value[member]).filter(|number| !number.is_null());
    number.map(|number| number.as_u64().unwrap_or_else(|| panic!("{member} of {value}")))
}

fn small(value: &Value, member: &str) -> Option<u32> {
    number(value, member).map(|number| number.try_into().unwrap())
}

fn key(id: &str, secret: &[u8], scope: &str) -> Key {
    Key::derive(KeyId::new(id).unwrap(), &Secret::new(secret.to_vec()).unwrap(), scope).unwrap()
}

/// The keyring of the vectors, as the key `first` has it for `scope`.
fn keyring_of(vectors: &Value, first: &str, scope: &str) -> Keyring {
    let derived = vectors["secrets"].as_object().unwrap().iter().map(|(id, secret)| {
        let secret = bytes(secret.as_str().unwrap());
        key(id, &secret, scope)
    });
    let (signing, others): (Vec<Key>, Vec<Key>) = derived.partition(|key| key.id.as_str() == first);
    Keyring::new(signing.into_iter().next().unwrap(), others)
}

fn session_of(vector: &Value) -> Session {
    let pins = vector["pins"].as_array().unwrap().iter().map(|pin| Pin {
        cluster: ClusterId::of(text(pin, "cluster").as_bytes()),
        host: HostAddr::parse(text(pin, "host").as_bytes()).unwrap(),
    });
    Session {
        id: SessionId(bytes(text(vector, "id")).try_into().unwrap()),
        created: UnixTime(number(vector, "created").unwrap()),
        renewed: UnixTime(number(vector, "renewed").unwrap()),
        end: number(vector, "end").map(UnixTime),
        generation: small(vector, "generation").unwrap(),
        pins: Pins::from_vec(pins.collect()).unwrap(),
    }
}

fn refusal(word: &str) -> Refusal {
    match word {
        "malformed" => Refusal::Malformed,
        "unknown_key" => Refusal::UnknownKey,
        "bad_tag" => Refusal::BadTag,
        "expired_absolute" => Refusal::ExpiredAbsolute,
        "expired_idle" => Refusal::ExpiredIdle,
        "future" => Refusal::Future,
        other => panic!("no refusal is called {other}"),
    }
}

fn session(hosts: &[&str]) -> Session {
    let pins = hosts.iter().enumerate().map(|(at, host)| Pin {
        cluster: ClusterId::of(&[u8::try_from(at).unwrap()]),
        host: HostAddr::parse(host.as_bytes()).unwrap(),
    });
    Session {
        id: SessionId([7; 16]),
        created: UnixTime(1_800_000_000),
        renewed: UnixTime(1_800_000_000),
        end: Some(UnixTime(1_800_028_800)),
        generation: 0,
        pins: Pins::from_vec(pins.collect()).unwrap(),
    }
}

fn keyring() -> Keyring {
    Keyring::new(key("now", &[1; 32], "shop"), vec![key("before", &[2; 32], "shop")])
}

fn protections() -> [Protection; 2] {
    [Protection::Signed, Protection::Encrypted { nonce: NONCE_OF_TESTS }]
}

/// A signed and an encrypted token of one session.
fn tokens() -> [String; 2] {
    protections().map(|protection| seal(&session(&[HOST]), &keyring(), &protection))
}

#[test]
fn subkeys_and_cluster_hashes_are_those_of_the_page() {
    let vectors = vectors();
    for vector in list(&vectors, "subkeys") {
        let keyring = keyring_of(&vectors, text(vector, "key"), text(vector, "scope"));
        let key = keyring.signing();
        for (derived, expected) in [(&key.mac_signed, "mac-s"), (&key.mac_encrypted, "mac-e")] {
            let expected = Hmac::<Sha256>::new_from_slice(&bytes(text(vector, expected))).unwrap();
            assert_eq!(derived.clone().finalize().into_bytes(), expected.finalize().into_bytes(), "{vector}");
        }
        assert_eq!(key.encrypt.to_vec(), bytes(text(vector, "enc")));
    }
    for (name, hash) in vectors["clusters"].as_object().unwrap() {
        assert_eq!(ClusterId::of(name.as_bytes()).0.to_vec(), bytes(hash.as_str().unwrap()), "{name}");
    }
}

#[test]
fn every_accepted_token_of_the_page_opens_to_its_session_and_is_sealed_the_same() {
    let vectors = vectors();
    for vector in list(&vectors, "accepted") {
        let (name, id, scope) = (text(vector, "name"), text(vector, "key"), text(vector, "scope"));
        let (token, session) = (text(vector, "token"), session_of(&vector["session"]));
        let (first, age) = ("2026-11", if id == "2026-11" { KeyPosition::Current } else { KeyPosition::Older(1) });
        let opened = open(token.as_bytes(), &keyring_of(&vectors, first, scope));
        assert_eq!(opened, Ok((session.clone(), age)), "{name}");

        assert_eq!(payload::encode(&session), bytes(text(vector, "payload")), "{name}");
        let nonce = vector["nonce"].as_str().map(|nonce| bytes(nonce).try_into().unwrap());
        let protection = nonce.map_or(Protection::Signed, |nonce| Protection::Encrypted { nonce });
        assert_eq!(seal(&session, &keyring_of(&vectors, id, scope), &protection), token, "{name}");
    }
}

#[test]
fn every_refused_token_of_the_page_is_refused_with_its_reason() {
    let vectors = vectors();
    for vector in list(&vectors, "refused") {
        let keyring = keyring_of(&vectors, "2026-11", text(vector, "scope"));
        let token = match vector["repeat"].as_object() {
            None => text(vector, "token").to_owned(),
            Some(_) => {
                let repeat = &vector["repeat"];
                let middle =
                    text(repeat, "character").repeat(usize::try_from(number(repeat, "times").unwrap()).unwrap());
                [text(repeat, "before"), &middle, text(repeat, "after")].concat()
            }
        };
        let opened = open(token.as_bytes(), &keyring);
        assert_eq!(opened, Err(refusal(text(vector, "reason"))), "{}", text(vector, "name"));
    }
}

#[test]
fn sessions_are_timely_or_not_as_the_page_says() {
    for vector in list(&vectors(), "times") {
        let timeouts = &vector["timeouts"];
        let timeouts = Timeouts {
            absolute: small(timeouts, "absolute"),
            idle: small(timeouts, "idle"),
            clock_skew: small(timeouts, "clock_skew").unwrap(),
        };
        let session = Session {
            created: UnixTime(number(vector, "created").unwrap()),
            renewed: UnixTime(number(vector, "renewed").unwrap()),
            end: number(vector, "end").map(UnixTime),
            ..session(&[])
        };
        let checked = timeouts.check(&session, UnixTime(number(vector, "now").unwrap())).map_err(Refusal::from);
        let expected = vector["reason"].as_str().map_or(Ok(()), |reason| Err(refusal(reason)));
        assert_eq!(checked, expected, "{}", text(vector, "name"));
    }
}

#[test]
fn no_altered_character_is_ever_accepted() {
    let keyring = keyring();
    for token in tokens() {
        let mut altered = token.clone().into_bytes();
        for at in 0..token.len() {
            let right = altered[at];
            for byte in ALPHABET.iter().chain(FOREIGN).filter(|byte| **byte != right) {
                altered[at] = *byte;
                assert!(open(&altered, &keyring).is_err(), "{token}: {byte:#x} at {at}");
            }
            altered[at] = right;
        }
        assert!(open(&altered, &keyring).is_ok());
    }
}

#[test]
fn no_part_of_a_token_is_accepted_and_nothing_longer() {
    let keyring = keyring();
    for token in tokens() {
        let token = token.as_bytes();
        for at in 0..token.len() {
            assert!(open(&token[..at], &keyring).is_err(), "cut at {at}");
            assert!(open(&token[at + 1..], &keyring).is_err(), "begun behind {at}");
            assert!(open(&[&token[..at], &token[at + 1..]].concat(), &keyring).is_err(), "without {at}");
        }
        for byte in ALPHABET.iter().chain(FOREIGN) {
            assert!(open(&[token, &[*byte]].concat(), &keyring).is_err(), "{byte:#x} behind");
            assert!(open(&[&[*byte], token].concat(), &keyring).is_err(), "{byte:#x} before");
        }
        assert!(open(&[token, token].concat(), &keyring).is_err());
    }
}

#[test]
fn parts_of_two_tokens_make_no_third() {
    let keyring = keyring();
    let [signed, encrypted] = tokens();
    let other = seal(&session(&["192.0.2.2:8080"]), &keyring, &Protection::Signed);
    for (one, two) in [(&signed, &other), (&signed, &encrypted), (&encrypted, &other)] {
        let (head, _) = one.rsplit_once('.').unwrap();
        let (_, tag) = two.rsplit_once('.').unwrap();
        assert_eq!(open(format!("{head}.{tag}").as_bytes(), &keyring), Err(Refusal::BadTag));
    }
}

#[test]
fn a_token_of_another_scope_is_a_bad_tag() {
    for scope in ["shop2", "sho", "Shop", "", &"s".repeat(MAX_SCOPE)] {
        let other = Keyring::new(key("now", &[1; 32], scope), Vec::new());
        for token in tokens() {
            assert_eq!(open(token.as_bytes(), &other), Err(Refusal::BadTag), "{scope}");
        }
    }
}

#[test]
fn a_token_of_another_secret_is_a_bad_tag_whatever_the_key_is_called() {
    let same_name = Keyring::new(key("now", &[3; 32], "shop"), Vec::new());
    let swapped = Keyring::new(key("now", &[2; 32], "shop"), vec![key("before", &[1; 32], "shop")]);
    for token in tokens() {
        assert_eq!(open(token.as_bytes(), &same_name), Err(Refusal::BadTag));
        assert_eq!(open(token.as_bytes(), &swapped), Err(Refusal::BadTag));
        let renamed = token.replacen("now", "before", 1);
        assert_eq!(open(renamed.as_bytes(), &keyring()), Err(Refusal::BadTag));
        let unknown = token.replacen("now", "NOW", 1);
        assert_eq!(open(unknown.as_bytes(), &keyring()), Err(Refusal::UnknownKey));
    }
}

#[test]
fn an_older_key_opens_and_says_that_it_is_older() {
    let rotated = Keyring::new(key("next", &[3; 32], "shop"), vec![key("now", &[1; 32], "shop")]);
    for token in tokens() {
        assert_eq!(open(token.as_bytes(), &keyring()), Ok((session(&[HOST]), KeyPosition::Current)));
        assert_eq!(open(token.as_bytes(), &rotated), Ok((session(&[HOST]), KeyPosition::Older(1))));
    }
    assert!(seal(&session(&[HOST]), &rotated, &Protection::Signed).starts_with("m1s.next."));
}

#[test]
fn a_host_cannot_be_found_in_an_encrypted_token() {
    let contains = |body: &[u8], part: &[u8]| body.windows(part.len()).any(|window| window == part);
    for (host, packed) in [
        (HOST, &[192, 0, 2, 1, 0x1f, 0x90][..]),
        ("[2001:db8::1]:8080", &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1f, 0x90]),
        ("/run/app.sock", b"/run/app.sock"),
    ] {
        let [signed, encrypted] = protections().map(|protection| {
            let token = seal(&session(&[host]), &keyring(), &protection);
            assert!(!token.contains(host));
            let body = token.split('.').nth(2).unwrap();
            base64::from_url_safe(body.as_bytes()).unwrap()
        });
        assert!(contains(&signed, packed), "the test looks for what is there without encryption: {host}");
        for part in [packed, host.as_bytes(), &[7; 16], &session(&[]).created.0.to_be_bytes()[3..]] {
            assert!(!contains(&encrypted, part), "{host}: {part:?}");
        }
    }
}

#[test]
fn another_nonce_gives_another_ciphertext() {
    let seal = |nonce| seal(&session(&[HOST]), &keyring(), &Protection::Encrypted { nonce });
    let (one, two) = (seal([1; NONCE]), seal([2; NONCE]));
    let ciphertext =
        |token: &str| base64::from_url_safe(token.split('.').nth(2).unwrap().as_bytes()).unwrap()[NONCE..].to_vec();
    assert_ne!(ciphertext(&one), ciphertext(&two));
    assert_eq!(open(one.as_bytes(), &keyring()), open(two.as_bytes(), &keyring()));
}

#[test]
fn the_longest_token_that_can_be_made_can_be_read() {
    let hosts: Vec<String> = (0..MAX_PINS).map(|at| format!("{at}{}", "h".repeat(MAX_HOST_TEXT - 1))).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let keyring = Keyring::new(key(&"k".repeat(32), &[1; 32], "shop"), Vec::new());
    for protection in protections() {
        let token = seal(&session(&hosts), &keyring, &protection);
        assert!(token.len() <= 1631, "{}: docs/token.md says 1,631", token.len());
        assert!(token.len() <= MAX_TOKEN);
        assert_eq!(open(token.as_bytes(), &keyring), Ok((session(&hosts), KeyPosition::Current)));
    }
}

#[test]
fn what_is_no_token_at_all_is_refused() {
    let keyring = keyring();
    for junk in
        [&b""[..], b".", b"...", b"....", b"m1s", b"m1s...", b"m1e...", b"M1S.now..", b"\xff\xfe.now.a.b", &[0; 3500]]
    {
        assert!(open(junk, &keyring).is_err(), "{junk:?}");
    }
    assert_eq!(open(&vec![b'.'; MAX_TOKEN + 1], &keyring), Err(Refusal::Malformed));
}
