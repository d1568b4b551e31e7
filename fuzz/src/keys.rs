//! The keys of every target, and what `docs/token.md` and `docs/store.md` derive from them, written anew from those pages.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20::XChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mooring::credential::keyring::{Key, KeyId, Keyring, Secret};
use sha2::Sha256;

/// Ids of keys. The last is of no configuration.
pub const IDS: [&str; 4] = ["new", "old", "2026-10", "strange"];

fn secret(key: usize) -> Vec<u8> {
    (0..32 + key as u8).map(|at| at.wrapping_mul(73) ^ (key as u8 + 1).wrapping_mul(151)).collect()
}

/// The secret of a key, as a configuration has it.
pub fn secret_text(key: usize) -> String {
    STANDARD.encode(secret(key))
}

/// A keyring. The first key signs.
pub fn keyring(keys: &[usize], scope: &str) -> Keyring {
    let derive = |key: &usize| {
        let (id, secret) = (KeyId::new(IDS[*key]), Secret::new(secret(*key)));
        Key::derive(id.expect("an id"), &secret.expect("long enough"), scope).expect("a short scope")
    };
    Keyring::new(derive(&keys[0]), keys[1..].iter().map(derive).collect())
}

/// The subkeys of a key.
pub struct Subkeys {
    mac_signed: Hmac<Sha256>,
    mac_encrypted: Hmac<Sha256>,
    encrypt: [u8; 32],
    mac_store: Hmac<Sha256>,
    id: &'static str,
}

impl Subkeys {
    /// Those of a key for a scope.
    pub fn of(key: usize, scope: &str) -> Self {
        let subkey = |usage: &str| {
            let mut info = [b"mooring/1/", usage.as_bytes(), &(scope.len() as u16).to_be_bytes()].concat();
            info.extend_from_slice(scope.as_bytes());
            let mut subkey = [0; 32];
            Hkdf::<Sha256>::new(None, &secret(key)).expand(&info, &mut subkey).expect("a short output");
            subkey
        };
        let mac = |usage| Hmac::new_from_slice(&subkey(usage)).expect("any length");
        Self {
            mac_signed: mac("mac-s"),
            mac_encrypted: mac("mac-e"),
            encrypt: subkey("enc"),
            mac_store: mac("store"),
            id: IDS[key],
        }
    }

    /// A token around any payload.
    pub fn token(&self, payload: &[u8], nonce: Option<[u8; 24]>) -> String {
        let (version, mac, body) = match nonce {
            None => ("m1s", &self.mac_signed, payload.to_vec()),
            Some(nonce) => {
                let mut body = [&nonce[..], payload].concat();
                XChaCha20::new(&self.encrypt.into(), &nonce.into()).apply_keystream(&mut body[24..]);
                ("m1e", &self.mac_encrypted, body)
            }
        };
        tagged(format!("{version}.{}.{}", self.id, URL_SAFE_NO_PAD.encode(body)), mac.clone())
    }

    /// A value of the store around any body.
    pub fn value(&self, store_key: &str, body: &[u8]) -> String {
        let mac = self.mac_store.clone().chain_update(store_key).chain_update(".");
        tagged(format!("v1.{}.{}", self.id, URL_SAFE_NO_PAD.encode(body)), mac)
    }
}

fn tagged(text: String, mac: Hmac<Sha256>) -> String {
    let tag = mac.chain_update(&text).finalize().into_bytes();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}
