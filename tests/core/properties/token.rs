//! Tokens: what was sealed opens to the same session, and nothing else opens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mooring::clock::UnixTime;
use mooring::config::Config;
use mooring::credential::keyring::{Key, KeyId, KeyPosition, Keyring, Secret};
use mooring::credential::token::{MAX_TOKEN, Protection, Refusal, open, seal};
use mooring::session::pin::{ClusterId, HostAddr, MAX_PINS, Pin, Pins};
use mooring::session::{Session, SessionId};
use mooring_test_kit::world::plugin;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use sha2::Sha256;

const SCOPE: &str = "shop";

fn host() -> BoxedStrategy<HostAddr> {
    let segment = prop_oneof![Just(0_u16), Just(0xffff), any::<u16>()];
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| HostAddr::V4(ip.into(), port)),
        (prop::array::uniform8(segment), any::<u16>()).prop_map(|(ip, port)| HostAddr::V6(ip.into(), port)),
        "[!-+\\--~]{1,128}".prop_map(|text| HostAddr::parse(text.as_bytes()).expect("visible ASCII")),
    ]
    .boxed()
}

fn pins() -> impl Strategy<Value = Pins> {
    let clusters = prop::collection::hash_set(any::<[u8; 8]>(), 0..=MAX_PINS);
    (clusters, vec(host(), MAX_PINS)).prop_map(|(clusters, hosts)| {
        let pins = clusters.into_iter().zip(hosts).map(|(cluster, host)| Pin { cluster: ClusterId(cluster), host });
        Pins::from_vec(pins.collect()).expect("one of each cluster")
    })
}

/// Every session that a token can carry.
fn session() -> BoxedStrategy<Session> {
    let times = (0..=0xff_ffff_ffff_u64, any::<u32>(), prop::option::of(1..=u32::MAX));
    let parts = (any::<[u8; 16]>(), times, any::<u32>(), pins());
    let whole = parts.prop_map(|(id, (created, renewed, end), generation, pins)| {
        let created = UnixTime(created);
        Session {
            id: SessionId(id),
            created,
            renewed: created.plus(renewed),
            end: end.map(|end| created.plus(end)),
            generation,
            pins,
        }
    });
    whole.boxed()
}

fn protection() -> impl Strategy<Value = Protection> {
    prop_oneof![Just(Protection::Signed), any::<[u8; 24]>().prop_map(|nonce| Protection::Encrypted { nonce })]
}

fn key(id: &str, secret: [u8; 32], scope: &str) -> Key {
    Key::derive(KeyId::new(id).unwrap(), &Secret::new(secret.to_vec()).unwrap(), scope).unwrap()
}

/// The first signs.
fn keyring<const N: usize>(keys: [Key; N]) -> Keyring {
    let mut keys = keys.into_iter();
    Keyring::new(keys.next().expect("a key"), keys.collect())
}

fn usual() -> Keyring {
    keyring([key("new", [1; 32], SCOPE), key("old", [2; 32], SCOPE)])
}

/// A tag as `docs/token.md` says, without the crate's own code.
fn tag(secret: [u8; 32], usage: &str, text: &[u8]) -> String {
    let length = u16::try_from(SCOPE.len()).unwrap().to_be_bytes();
    let mut subkey = [0; 32];
    let info = [b"mooring/1/", usage.as_bytes(), &length, SCOPE.as_bytes()].concat();
    Hkdf::<Sha256>::new(None, &secret).expand(&info, &mut subkey).unwrap();
    let tag = Hmac::<Sha256>::new_from_slice(&subkey).unwrap().chain_update(text).finalize().into_bytes();
    URL_SAFE_NO_PAD.encode(tag)
}

/// Every place of a short token, and a hundred or more of a long one.
fn places(length: usize, from: usize) -> impl Iterator<Item = usize> {
    let step = 1 + length / 200;
    (from % step..length).step_by(step)
}

fn outcome(token: impl AsRef<[u8]>, keyring: &Keyring) -> Result<(), Refusal> {
    open(token.as_ref(), keyring).map(drop)
}

/// The body of a signed token: the payload of a session.
fn whole() -> impl Strategy<Value = Vec<u8>> {
    session().prop_map(|session| {
        let token = seal(&session, &usual(), &Protection::Signed);
        token.split('.').nth(2).expect("a body").to_owned().into_bytes()
    })
}

/// The body of a session with one pin, whose host stands as text, whether it could be packed or not.
fn unpacked() -> impl Strategy<Value = Vec<u8>> {
    (session(), host()).prop_map(|(session, host)| {
        let token = seal(&Session { pins: Pins::default(), ..session }, &usual(), &Protection::Signed);
        let mut payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(2).expect("a body")).expect("base64url");
        let host = host.to_text();
        *payload.last_mut().expect("the number of pins") = 1;
        payload.extend_from_slice(&[7; 8]);
        payload.extend_from_slice(&[0, u8::try_from(host.len()).expect("at most 128")]);
        payload.extend_from_slice(host.as_bytes());
        URL_SAFE_NO_PAD.encode(payload).into_bytes()
    })
}

/// Bodies of every kind: of sessions, whole or cut or with something behind, and of random bytes, in base64url or as they come.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let no_dot = any::<u8>().prop_filter("would begin another part", |byte| *byte != b'.');
    prop_oneof![
        whole(),
        unpacked(),
        (whole(), any::<prop::sample::Index>()).prop_map(|(body, at)| body[..at.index(body.len())].to_vec()),
        (whole(), "[A-Za-z0-9_=-]{1,4}").prop_map(|(body, more)| [&body[..], more.as_bytes()].concat()),
        vec(any::<u8>(), 0..200).prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes).into_bytes()),
        vec(no_dot, 0..200),
    ]
}

/// The same bytes in base64url, but for the last bits, which decode to nothing.
fn with_bits(text: &str, bits: u8) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = text.split_at(text.len() - 1);
    let at = ALPHABET.iter().position(|c| c == &last.as_bytes()[0]).expect("base64url");
    format!("{rest}{}", char::from(ALPHABET[at ^ usize::from(bits)]))
}

/// Everything of a token but its tag.
fn untagged(version: &str, body: &[u8]) -> Vec<u8> {
    [version.as_bytes(), b".new.", body].concat()
}

proptest! {
    #[test]
    fn what_was_sealed_opens_to_the_same_session(session in session(), protection in protection()) {
        let token = seal(&session, &usual(), &protection);
        prop_assert!(token.len() <= MAX_TOKEN);
        let (opened, age) = open(token.as_bytes(), &usual()).expect("a token of ours");
        prop_assert_eq!((&opened, age), (&session, KeyPosition::Current));
        let reversed = keyring([key("old", [2; 32], SCOPE), key("new", [1; 32], SCOPE)]);
        let (opened, age) = open(token.as_bytes(), &reversed).expect("a token of ours");
        prop_assert_eq!((&opened, age), (&session, KeyPosition::Older(1)));
        let tag = token.rsplit_once('.').map(|(untagged, _)| match &protection {
            Protection::Signed => tag([1; 32], "mac-s", untagged.as_bytes()),
            Protection::Encrypted { .. } => tag([1; 32], "mac-e", untagged.as_bytes()),
        });
        prop_assert_eq!(token.rsplit('.').next(), tag.as_deref(), "the tag is that of the specification");
    }

    #[test]
    fn a_token_with_another_byte_anywhere_is_refused(
        session in session(), protection in protection(), change in 1..=255_u8, from in any::<usize>(),
    ) {
        let keyring = usual();
        let token = seal(&session, &keyring, &protection).into_bytes();
        for at in places(token.len(), from) {
            let mut changed = token.clone();
            changed[at] ^= change;
            prop_assert!(outcome(&changed, &keyring).is_err(), "{:?} at {}", changed, at);
        }
    }

    #[test]
    fn a_token_that_is_cut_or_has_more_behind_it_is_refused(
        session in session(), protection in protection(), more in vec(any::<u8>(), 1..5), from in any::<usize>(),
    ) {
        let keyring = usual();
        let token = seal(&session, &keyring, &protection).into_bytes();
        for length in places(token.len(), from) {
            prop_assert!(outcome(&token[..length], &keyring).is_err(), "cut at {}", length);
            prop_assert!(outcome(&token[token.len() - length..], &keyring).is_err(), "the last {}", length);
        }
        prop_assert!(outcome([&token[..], &more].concat(), &keyring).is_err());
        prop_assert!(outcome([&more[..], &token].concat(), &keyring).is_err());
    }

    #[test]
    fn a_token_of_another_scope_key_kind_or_secret_is_refused(
        session in session(), protection in protection(), scope in "[a-z]{0,20}", secret in any::<[u8; 32]>(),
    ) {
        prop_assume!(scope != SCOPE && secret != [1; 32]);
        let token = seal(&session, &usual(), &protection);
        prop_assert_eq!(outcome(&token, &keyring([key("new", [1; 32], &scope)])), Err(Refusal::BadTag));
        prop_assert_eq!(outcome(&token, &keyring([key("new", secret, SCOPE)])), Err(Refusal::BadTag));
        prop_assert_eq!(outcome(&token, &keyring([key("old", [1; 32], SCOPE)])), Err(Refusal::UnknownKey));
        prop_assert_eq!(outcome(token.replacen(".new.", ".old.", 1), &usual()), Err(Refusal::BadTag));
        let kind = if token.starts_with("m1s") { token.replacen("m1s", "m1e", 1) } else { token.replacen("m1e", "m1s", 1) };
        prop_assert_eq!(outcome(kind, &usual()), Err(Refusal::BadTag));
        let version = token.replacen("m1", "m0", 1);
        prop_assert_eq!(outcome(version, &usual()), Err(Refusal::Malformed));
    }

    #[test]
    fn where_no_scope_is_set_a_token_under_another_cookie_s_name_is_refused(
        session in session(), protection in protection(), names in prop::array::uniform2("[a-z]{1,12}"),
    ) {
        prop_assume!(names[0] != names[1]);
        let [one, other] = names.map(|name| {
            let json = plugin(json!({"cookie": {"name": name, "secure": false}})).to_string();
            Config::parse(json.as_bytes(), &|_| None).expect("a configuration").shared.keyring.clone()
        });
        let token = seal(&session, &one, &protection);
        prop_assert_eq!(outcome(&token, &one), Ok(()));
        prop_assert_eq!(outcome(&token, &other), Err(Refusal::BadTag));
    }

    /// Whatever the body is, the refusal is the same: nothing of it was looked at.
    #[test]
    fn of_a_token_whose_tag_is_wrong_nothing_else_matters(
        version in prop_oneof![Just("m1s"), Just("m1e")], body in body(), wrong in any::<[u8; 32]>(),
    ) {
        let token = [&untagged(version, &body)[..], b".", URL_SAFE_NO_PAD.encode(wrong).as_bytes()].concat();
        prop_assert_eq!(outcome(token, &usual()), Err(Refusal::BadTag));
    }

    /// The same bodies with a right tag, which only a holder of the key can make: now they matter.
    #[test]
    fn of_a_token_whose_tag_is_right_the_body_must_be_what_we_write(body in body()) {
        let untagged = untagged("m1s", &body);
        let token = [&untagged[..], b".", tag([1; 32], "mac-s", &untagged).as_bytes()].concat();
        match open(&token, &usual()) {
            Ok((session, _)) => {
                prop_assert_eq!(seal(&session, &usual(), &Protection::Signed).into_bytes(), token, "a session has one token");
            }
            Err(refusal) => prop_assert_eq!(refusal, Refusal::Malformed),
        }
    }

    #[test]
    fn base64_in_another_form_is_refused(session in session(), bits in 1..4_u8) {
        let token = seal(&session, &usual(), &Protection::Signed);
        let (untagged, tag) = token.rsplit_once('.').expect("a tag");
        for tag in [with_bits(tag, bits), format!("{tag}="), format!("{tag}A")] {
            prop_assert_eq!(outcome(format!("{untagged}.{tag}"), &usual()), Err(Refusal::Malformed));
        }
        let body = untagged.rsplit('.').next().expect("a body");
        let spare = URL_SAFE_NO_PAD.decode(body).expect("base64url").len() % 3 != 0;
        let bodies = [format!("{body}="), if spare { with_bits(body, bits) } else { format!("{body}A") }];
        for body in bodies {
            let untagged = format!("m1s.new.{body}");
            let token = format!("{untagged}.{}", self::tag([1; 32], "mac-s", untagged.as_bytes()));
            prop_assert_eq!(outcome(token, &usual()), Err(Refusal::Malformed));
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in vec(any::<u8>(), 0..4000), kind in 0..3) {
        let token = match kind {
            0 => bytes,
            1 => [b"m1s.new.", &bytes[..]].concat(),
            _ => [b"m1e.", &bytes[..]].concat(),
        };
        prop_assert!(outcome(token, &usual()).is_err());
    }
}
