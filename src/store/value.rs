//! What stands in the store: `v1.<key id>.<body>.<tag>`, signed over the store key too, so that a value under another key, or of
//! somebody else's making, is refused.

use super::protocol::StoreKey;
use crate::credential::keyring::{Key, KeyPosition, Keyring};
use crate::credential::token::payload;
use crate::session::Session;
use crate::session::pin::Pins;
use crate::text;
use crate::text::base64;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The length of a tag, in characters: 32 bytes.
const TAG: usize = 43;

const TOMBSTONE: u8 = 0;
const SESSION: u8 = 1;

/// A session as the store has it, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The session.
    Session {
        /// Counts the changes of its pins.
        generation: u32,
        /// Its pins.
        pins: Pins,
    },
    /// It ended.
    Tombstone,
}

/// The value of a session, under the key that signs.
pub fn seal(session: &Session, key: &StoreKey, keyring: &Keyring) -> String {
    // The id is not at rest: it leads the payload and is left out.
    let payload = payload::encode(session);
    let rest = payload.get(session.id.0.len()..).unwrap_or_default();
    signed(&[&[SESSION], rest].concat(), key, keyring.signing())
}

/// The value of a session that ended.
pub fn tombstone(key: &StoreKey, keyring: &Keyring) -> String {
    signed(&[TOMBSTONE], key, keyring.signing())
}

fn signed(body: &[u8], store_key: &StoreKey, key: &Key) -> String {
    let untagged = text::concat(&["v1.", key.id.as_str(), ".", &base64::url_safe(body)]);
    let tag = mac(store_key, key, untagged.as_bytes()).finalize().into_bytes();
    text::concat(&[&untagged, ".", &base64::url_safe(&tag)])
}

/// Of the store's key, a dot, and the value without its tag. The dot keeps the two apart: a key has none.
fn mac(store_key: &StoreKey, key: &Key, untagged: &[u8]) -> Hmac<Sha256> {
    key.mac_store.clone().chain_update(store_key.as_str().as_bytes()).chain_update(b".").chain_update(untagged)
}

/// Reads a value. `None`: it is not one of ours for this key.
pub fn open(value: &[u8], store_key: &StoreKey, keyring: &Keyring) -> Option<(Stored, KeyPosition)> {
    let tag = tag(value)?;
    let untagged = value.get(..value.len().checked_sub(TAG)?.checked_sub(1)?)?;
    let mut parts = untagged.split(|byte| *byte == b'.');
    let (Some(b"v1"), Some(id), Some(body), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let (key, age) = keyring.find(id)?;
    mac(store_key, key, untagged).verify_slice(&base64::from_url_safe(tag)?).ok()?;

    let body = base64::from_url_safe(body)?;
    match body.split_first()? {
        (&TOMBSTONE, []) => Some((Stored::Tombstone, age)),
        (&SESSION, rest) => {
            let session = payload::decode(&[&[0; 16], rest].concat())?;
            Some((Stored::Session { generation: session.generation, pins: session.pins }, age))
        }
        _ => None,
    }
}

/// The tag of a value, its last part. `None` where it has no such form.
pub(super) fn tag(value: &[u8]) -> Option<&[u8]> {
    let (rest, tag) = value.split_at_checked(value.len().checked_sub(TAG)?)?;
    (rest.ends_with(b".") && tag.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b))).then_some(tag)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::credential::keyring::{Key, KeyId, Secret};
    use crate::session::SessionId;
    use crate::session::pin::{ClusterId, HostAddr, MAX_PINS, Pin};
    use crate::store::protocol::MAX_ANSWER;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn key(id: &str, byte: u8, scope: &str) -> Key {
        Key::derive(KeyId::new(id).unwrap(), &Secret::new(vec![byte; 32]).unwrap(), scope).unwrap()
    }

    fn keyring() -> Keyring {
        Keyring::new(key("new", 1, "s"), vec![key("old", 2, "s")])
    }

    fn session() -> Session {
        let pin = Pin { cluster: ClusterId::of(b"app"), host: HostAddr::parse(b"127.0.0.1:9001").unwrap() };
        Session {
            id: SessionId([7; 16]),
            created: UnixTime(1_800_000_000),
            renewed: UnixTime(1_800_000_100),
            end: Some(UnixTime(1_800_028_800)),
            generation: 3,
            pins: Pins::from_vec(vec![pin]).unwrap(),
        }
    }

    fn store_key(id: u8) -> StoreKey {
        StoreKey::of(&SessionId([id; 16]), "s", "mooring")
    }

    fn stored() -> Stored {
        Stored::Session { generation: 3, pins: session().pins }
    }

    #[test]
    fn a_session_and_a_tombstone_come_back() {
        let value = seal(&session(), &store_key(7), &keyring());
        assert_eq!(open(value.as_bytes(), &store_key(7), &keyring()), Some((stored(), KeyPosition::Current)));
        let tombstone = tombstone(&store_key(7), &keyring());
        assert_eq!(
            open(tombstone.as_bytes(), &store_key(7), &keyring()),
            Some((Stored::Tombstone, KeyPosition::Current))
        );
    }

    #[test]
    fn the_id_is_not_at_rest() {
        let value = seal(&session(), &store_key(7), &keyring());
        let body = base64::from_url_safe(value.split('.').nth(2).unwrap().as_bytes()).unwrap();
        assert!(!body.windows(16).any(|window| window == [7; 16]));
        assert!(!value.contains(&session().id.to_text()) && !store_key(7).as_str().contains(&session().id.to_text()));
    }

    #[test]
    fn a_value_of_an_older_key_is_read_and_one_of_a_strange_key_is_not() {
        let old = Keyring::new(key("old", 2, "s"), Vec::new());
        let value = seal(&session(), &store_key(7), &old);
        assert_eq!(open(value.as_bytes(), &store_key(7), &keyring()), Some((stored(), KeyPosition::Older(1))));
        for strange in [key("strange", 3, "s"), key("new", 3, "s"), key("new", 1, "another scope")] {
            let value = seal(&session(), &store_key(7), &Keyring::new(strange, Vec::new()));
            assert_eq!(open(value.as_bytes(), &store_key(7), &keyring()), None);
        }
    }

    #[test]
    fn a_value_is_good_for_its_key_alone() {
        for value in [seal(&session(), &store_key(7), &keyring()), tombstone(&store_key(7), &keyring())] {
            assert_eq!(open(value.as_bytes(), &store_key(8), &keyring()), None);
        }
    }

    #[test]
    fn any_change_of_any_character_is_refused() {
        for value in [seal(&session(), &store_key(7), &keyring()), tombstone(&store_key(7), &keyring())] {
            for at in 0..value.len() {
                for byte in [b'A', b'B', b'.', b'_', 0, 0xff] {
                    let mut altered = value.clone().into_bytes();
                    altered[at] = byte;
                    if altered != value.as_bytes() {
                        assert_eq!(open(&altered, &store_key(7), &keyring()), None, "{byte} at {at}");
                    }
                }
                assert_eq!(open(&value.as_bytes()[..at], &store_key(7), &keyring()), None, "cut at {at}");
            }
            assert_eq!(open(format!("{value}A").as_bytes(), &store_key(7), &keyring()), None);
        }
    }

    #[test]
    fn a_signed_body_that_we_would_not_write_is_refused() {
        for body in [&[][..], &[0, 0], &[2], &[1], &[1, 0, 0]] {
            let value = signed(body, &store_key(7), keyring().signing());
            assert_eq!(open(value.as_bytes(), &store_key(7), &keyring()), None, "{body:?}");
        }
    }

    #[test]
    fn the_largest_value_can_be_read_back() {
        let pin = |at: usize| Pin {
            cluster: ClusterId::of(at.to_string().as_bytes()),
            host: HostAddr::parse(format!("{at}{}", "h".repeat(127)).as_bytes()).unwrap(),
        };
        let pins = Pins::from_vec((0..MAX_PINS).map(pin).collect()).unwrap();
        let long = "k".repeat(32);
        let value = seal(&Session { pins, ..session() }, &store_key(7), &Keyring::new(key(&long, 1, "s"), Vec::new()));
        // What a gateway puts around it takes less than 64 bytes.
        assert!(value.len() + 64 < MAX_ANSWER, "{}", value.len());
    }
}
