//! Tokens: what was not issued never verifies, what was comes back, and no payload, not even a signed one, does harm.
//!
//! The first byte chooses: any bytes as a token, a token that is altered, any payload under a good tag, any session.

use crate::input::Input;
use crate::keys::{self, Subkeys};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mooring::clock::UnixTime;
use mooring::credential::keyring::{KeyPosition, Keyring};
use mooring::credential::token::{self, MAX_TOKEN, Protection, Refusal};
use mooring::session::pin::{MAX_HOST_TEXT, MAX_PINS, Pins};
use mooring::session::{Session, SessionId};
use std::cell::LazyCell;

const SCOPE: &str = "fuzz";

/// The longest time that a payload can tell.
const LAST: u64 = 0xff_ffff_ffff;

struct Setup {
    keyring: Keyring,
    /// The same keys for a scope in which nothing is ever issued: an input could repeat what it saw compared.
    unused: Keyring,
    /// One keyring for each key, which signs; the last is of a key that `keyring` lacks.
    single: [Keyring; 3],
    subkeys: [Subkeys; 2],
}

thread_local! {
    static SETUP: LazyCell<Setup> = const {
        LazyCell::new(|| Setup {
            keyring: keys::keyring(&[0, 1], SCOPE),
            unused: keys::keyring(&[0, 1], "unused"),
            single: [0, 1, 3].map(|key| keys::keyring(&[key], SCOPE)),
            subkeys: [0, 1].map(|key| Subkeys::of(key, SCOPE)),
        })
    };
}

/// Checks an input.
pub fn check(data: &[u8]) {
    SETUP.with(|setup| {
        let mut input = Input(data);
        match input.choice(4) {
            0 => assert!(token::open(input.0, &setup.unused).is_err(), "nobody issued it"),
            1 => altered(input, setup),
            2 => payload(input, setup),
            _ => session(input, setup),
        }
    });
}

fn protection(input: &mut Input<'_>) -> Protection {
    match input.choice(2) {
        0 => Protection::Signed,
        _ => Protection::Encrypted { nonce: [input.byte(); 24] },
    }
}

/// A short session: what is altered here is the token's text.
fn small(id: u8) -> Session {
    let created = UnixTime(1_800_000_000);
    let end = Some(created.plus(u32::from(id)));
    Session { id: SessionId([id; 16]), created, renewed: created, end, generation: 7, pins: Pins::default() }
}

fn altered(mut input: Input<'_>, setup: &Setup) {
    let key = input.choice(3);
    let protection = protection(&mut input);
    let issued = token::seal(&small(input.byte()), &setup.single[key], &protection).into_bytes();
    let mut token = issued.clone();
    for _ in 0..=input.choice(4) {
        let at = usize::from(input.byte()) % token.len().max(1);
        match input.choice(6) {
            0 => token[at] = input.byte(),
            1 => token[at] ^= 1 << input.choice(8),
            2 => token.insert(at, input.byte()),
            3 => drop(token.remove(at)),
            4 => token.truncate(at),
            _ => token.rotate_left(at),
        }
        if token.is_empty() {
            break;
        }
    }
    let opened = token::open(&token, &setup.keyring);
    match (token == issued, key) {
        (true, 0) => assert!(matches!(opened, Ok((_, KeyPosition::Current)))),
        (true, 1) => assert!(matches!(opened, Ok((_, KeyPosition::Older(1))))),
        (true, _) => assert_eq!(opened, Err(Refusal::UnknownKey)),
        (false, _) => assert!(opened.is_err(), "it was altered: {}", String::from_utf8_lossy(&token)),
    }
}

/// What holds of any session that was read.
fn is_in_bounds(session: &Session) {
    assert!(session.created.0 <= LAST && session.renewed >= session.created);
    assert!(session.end.is_none_or(|end| end > session.created));
    assert!(session.pins.len() <= MAX_PINS);
    for (at, pin) in session.pins.iter().enumerate() {
        assert!(session.pins.iter().take(at).all(|earlier| earlier.cluster != pin.cluster));
        let text = pin.host.to_text();
        assert!((1..=MAX_HOST_TEXT).contains(&text.len()));
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','), "{text:?}");
    }
}

fn payload(mut input: Input<'_>, setup: &Setup) {
    let key = input.choice(2);
    let protection = protection(&mut input);
    let nonce = match protection {
        Protection::Signed => None,
        Protection::Encrypted { nonce } => Some(nonce),
    };
    let token = setup.subkeys[key].token(input.0, nonce);
    match token::open(token.as_bytes(), &setup.keyring) {
        Ok((session, age)) => {
            assert_eq!(age, [KeyPosition::Current, KeyPosition::Older(1)][key]);
            is_in_bounds(&session);
            assert_eq!(token::seal(&session, &setup.single[key], &protection), token, "a session has one payload");
        }
        Err(refusal) => assert_eq!(refusal, Refusal::Malformed),
    }
}

fn session(mut input: Input<'_>, setup: &Setup) {
    let protection = protection(&mut input);
    let session = input.session();
    let token = token::seal(&session, &setup.keyring, &protection);
    assert!(token.len() <= MAX_TOKEN);
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
    let opened = token::open(token.as_bytes(), &setup.keyring);
    let (read, age) = opened.expect("what was issued is read");
    is_in_bounds(&read);
    // What does not fit is cut, as docs/token.md says.
    let created = session.created.0.min(LAST);
    let after = |time: UnixTime| time.0.saturating_sub(created).min(u32::MAX.into());
    let fits = Session {
        created: UnixTime(created),
        renewed: UnixTime(created + after(session.renewed)),
        end: session.end.map(|end| UnixTime(created + after(end).max(1))),
        ..session
    };
    assert_eq!((read, age), (fits, KeyPosition::Current));
    if protection == Protection::Signed {
        let body = token.split('.').nth(2).expect("a body");
        let payload = URL_SAFE_NO_PAD.decode(body).expect("base64url");
        assert_eq!(setup.subkeys[0].token(&payload, None), token, "as the specification says");
    }
}
