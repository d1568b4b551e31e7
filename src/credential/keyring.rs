//! The keys that sign and verify tokens, and the subkeys that are derived from each.
//!
//! `docs/token.md` specifies the derivation (HKDF-SHA256, RFC 5869).

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;
use std::fmt;

/// Fewest bytes of a secret.
pub const MIN_SECRET: usize = 32;

/// Most bytes of a secret.
pub const MAX_SECRET: usize = 1024;

/// Most keys of a keyring.
pub const MAX_KEYS: usize = 16;

/// Longest scope, in bytes.
pub const MAX_SCOPE: usize = 128;

/// The name of a key: 1 to 32 characters of `A-Z a-z 0-9 _ -`. It stands in every token in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// Takes a name that keeps the rule above.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=32).contains(&name.len());
        (fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Key material as the operator gave it: [`MIN_SECRET`] to [`MAX_SECRET`] bytes. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes key material of a fitting length.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (MIN_SECRET..=MAX_SECRET).contains(&bytes.len()).then(|| Self(bytes.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a key is used for. Each use and scope has a subkey of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    MacSigned,
    MacEncrypted,
    Encrypt,
    Store,
}

impl Use {
    fn label(self) -> &'static [u8] {
        match self {
            Self::MacSigned => b"mac-s",
            Self::MacEncrypted => b"mac-e",
            Self::Encrypt => b"enc",
            Self::Store => b"store",
        }
    }
}

/// A key, ready for use: its MACs are prepared once.
#[derive(Clone)]
pub struct Key {
    /// Its name.
    pub id: KeyId,
    pub(crate) mac_signed: Hmac<Sha256>,
    pub(crate) mac_encrypted: Hmac<Sha256>,
    pub(crate) encrypt: [u8; 32],
    pub(crate) mac_store: Hmac<Sha256>,
}

impl Key {
    /// Derives the subkeys of `secret` for `scope`. `None` when the scope is longer than [`MAX_SCOPE`].
    pub fn derive(id: KeyId, secret: &Secret, scope: &str) -> Option<Self> {
        let subkey = |usage| subkey(secret, usage, scope);
        Some(Self {
            id,
            mac_signed: Hmac::new_from_slice(&subkey(Use::MacSigned)?).ok()?,
            mac_encrypted: Hmac::new_from_slice(&subkey(Use::MacEncrypted)?).ok()?,
            encrypt: subkey(Use::Encrypt)?,
            mac_store: Hmac::new_from_slice(&subkey(Use::Store)?).ok()?,
        })
    }
}

/// Keys are not shown.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

fn subkey(secret: &Secret, usage: Use, scope: &str) -> Option<[u8; 32]> {
    let length = u16::try_from(scope.len()).ok().filter(|_| scope.len() <= MAX_SCOPE)?;
    let info = [b"mooring/1/", usage.label(), &length.to_be_bytes(), scope.as_bytes()];
    let mut okm = [0; 32];
    Hkdf::<Sha256>::new(None, &secret.0).expand_multi_info(&info, &mut okm).ok()?;
    Some(okm)
}

/// How old the key of a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPosition {
    /// The key that signs.
    Current,
    /// One that only verifies: the token is issued anew under the current key. Its position in the keyring, from 1.
    Older(u8),
}

impl KeyPosition {
    /// The key's position in the keyring: 0 signs.
    pub fn position(self) -> usize {
        match self {
            Self::Current => 0,
            Self::Older(position) => position.into(),
        }
    }
}

/// One key that signs, and others that only verify.
#[derive(Clone, Debug)]
pub struct Keyring {
    signing: Key,
    verifying: Vec<Key>,
}

impl Keyring {
    /// A keyring that signs with `signing` and verifies with it and with `verifying`.
    pub fn new(signing: Key, verifying: Vec<Key>) -> Self {
        Self { signing, verifying }
    }

    /// The key that signs.
    pub fn signing(&self) -> &Key {
        &self.signing
    }

    /// The key with this name.
    pub fn find(&self, id: &[u8]) -> Option<(&Key, KeyPosition)> {
        let named = |key: &&Key| key.id.as_str().as_bytes() == id;
        let current = Some(&self.signing).filter(named).map(|key| (key, KeyPosition::Current));
        current.or_else(|| {
            let (key, position) = self.verifying.iter().zip(1..).find(|(key, _)| named(key))?;
            Some((key, KeyPosition::Older(position)))
        })
    }

    /// The name of the key at this position.
    pub fn id(&self, position: usize) -> Option<&KeyId> {
        let verifying = || self.verifying.get(position.checked_sub(1)?);
        Some(&self.signing).filter(|_| position == 0).or_else(verifying).map(|key| &key.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn secret(byte: u8) -> Secret {
        Secret::new(vec![byte; 32]).unwrap()
    }

    #[test]
    fn every_use_scope_and_secret_has_a_subkey_of_its_own() {
        let mut subkeys = Vec::new();
        for usage in [Use::MacSigned, Use::MacEncrypted, Use::Encrypt] {
            for scope in ["shop", "shop2", ""] {
                for byte in [1, 2] {
                    subkeys.push(subkey(&secret(byte), usage, scope).unwrap());
                }
            }
        }
        let count = subkeys.len();
        subkeys.sort_unstable();
        subkeys.dedup();
        assert_eq!(subkeys.len(), count);
    }

    #[test]
    fn a_scope_that_is_too_long_derives_nothing() {
        assert!(subkey(&secret(1), Use::Encrypt, &"x".repeat(MAX_SCOPE)).is_some());
        assert!(subkey(&secret(1), Use::Encrypt, &"x".repeat(MAX_SCOPE + 1)).is_none());
    }

    #[test]
    fn key_ids_and_secrets_keep_their_rules() {
        for good in ["2026-11", "a", "A_z-9", &"k".repeat(32)] {
            assert!(KeyId::new(good).is_some(), "{good}");
        }
        for bad in ["", "a.b", "ä", "a b", &"k".repeat(33)] {
            assert!(KeyId::new(bad).is_none(), "{bad}");
        }
        for (length, fits) in [(31, false), (32, true), (1024, true), (1025, false)] {
            assert_eq!(Secret::new(vec![0; length]).is_some(), fits, "{length}");
        }
    }

    #[test]
    fn debug_shows_no_key_material() {
        let key = Key::derive(KeyId::new("k").unwrap(), &secret(0x41), "s").unwrap();
        let shown = format!("{:?} {key:?}", secret(0x41));
        assert_eq!(shown, r#"Secret(…) Key { id: KeyId("k"), .. }"#);
    }
}
