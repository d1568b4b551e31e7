//! Tokens: sessions, signed and usually encrypted, as text that fits a cookie.
//!
//! `docs/token.md` specifies them byte by byte, with the vectors that the tests here read.
//! Times are checked by [`crate::session::Timeouts`], not here.

pub(crate) mod payload;

use crate::credential::keyring::{Key, KeyPosition, Keyring};
use crate::session::{Session, Untimely};
use crate::text;
use crate::text::base64;
use crate::text::words::closed_set;
use chacha20::XChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// Longest token that is read, in bytes.
pub const MAX_TOKEN: usize = 3500;

const NONCE: usize = 24;
const SIGNED: &str = "m1s";
const ENCRYPTED: &str = "m1e";

/// How the payload of a token is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Whoever holds the token can read it, nobody can alter it.
    Signed,
    /// Nobody but the holders of the key can read it. The nonce must be random and new for each token.
    Encrypted {
        /// XChaCha20's nonce.
        nonce: [u8; NONCE],
    },
}

closed_set! {
    /// Why a token was refused: a closed set, for counters. Never a reason to fail a request.
    pub enum Refusal {
        /// Not a token of this version, too long, or a payload that was not written by us.
        Malformed = "malformed",
        /// Names a key that is not configured.
        UnknownKey = "unknown_key",
        /// Altered, of another scope, or signed with another secret.
        BadTag = "bad_tag",
        /// Past its absolute end.
        ExpiredAbsolute = "expired_absolute",
        /// Idle for too long.
        ExpiredIdle = "expired_idle",
        /// Created in the future.
        Future = "future",
        /// The store says that its session ended, or does not know it where it must.
        Revoked = "revoked",
    }
}

impl From<Untimely> for Refusal {
    fn from(untimely: Untimely) -> Self {
        match untimely {
            Untimely::ExpiredAbsolute => Self::ExpiredAbsolute,
            Untimely::ExpiredIdle => Self::ExpiredIdle,
            Untimely::Future => Self::Future,
        }
    }
}

/// Makes the token of `session` under the key that signs.
pub fn seal(session: &Session, keyring: &Keyring, protection: &Protection) -> String {
    let key = keyring.signing();
    let mut payload = payload::encode(session);
    let (version, mac, body) = match protection {
        Protection::Signed => (SIGNED, &key.mac_signed, payload),
        Protection::Encrypted { nonce } => {
            encrypt_or_decrypt(key, nonce, &mut payload);
            (ENCRYPTED, &key.mac_encrypted, [&nonce[..], &payload].concat())
        }
    };
    let untagged = text::concat(&[version, ".", key.id.as_str(), ".", &base64::url_safe(&body)]);
    let tag = mac.clone().chain_update(untagged.as_bytes()).finalize().into_bytes();
    text::concat(&[&untagged, ".", &base64::url_safe(&tag)])
}

/// Reads a token: the tag is checked, in constant time, before anything that it protects is decoded.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::UnknownKey`] or [`Refusal::BadTag`]; times are not looked at.
pub fn open(token: &[u8], keyring: &Keyring) -> Result<(Session, KeyPosition), Refusal> {
    if token.len() > MAX_TOKEN {
        return Err(Refusal::Malformed);
    }
    let parts = Parts::split(token).ok_or(Refusal::Malformed)?;
    let (key, age) = keyring.find(parts.key_id).ok_or(Refusal::UnknownKey)?;
    let mac = if parts.encrypted { &key.mac_encrypted } else { &key.mac_signed };
    verify(mac, parts.authenticated, parts.tag)?;

    let body = base64::from_url_safe(parts.body).ok_or(Refusal::Malformed)?;
    let payload = if parts.encrypted { decrypt(key, &body).ok_or(Refusal::Malformed)? } else { body };
    let session = payload::decode(&payload).ok_or(Refusal::Malformed)?;
    Ok((session, age))
}

/// What anybody can see of a token. Nothing of it is verified.
#[cfg(feature = "description")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    /// Whether the payload is encrypted.
    pub encrypted: bool,
    /// The key that it names.
    pub key_id: String,
    /// Its session, where that is not encrypted and can be read.
    pub session: Option<Session>,
}

/// Looks at a token without a key. `None` when it does not have a token's form.
#[cfg(feature = "description")]
pub fn look(token: &[u8]) -> Option<Visible> {
    let Parts { encrypted, key_id, body, .. } = Parts::split(token).filter(|_| token.len() <= MAX_TOKEN)?;
    let key_id = crate::credential::keyring::KeyId::new(std::str::from_utf8(key_id).ok()?)?.as_str().to_owned();
    let session = base64::from_url_safe(body).filter(|_| !encrypted).and_then(|payload| payload::decode(&payload));
    Some(Visible { encrypted, key_id, session })
}

/// `<version>.<key id>.<body>.<tag>`; what is authenticated is everything before the last dot.
struct Parts<'a> {
    encrypted: bool,
    key_id: &'a [u8],
    body: &'a [u8],
    authenticated: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(token: &'a [u8]) -> Option<Self> {
        let mut parts = token.split(|byte| *byte == b'.');
        let encrypted = match parts.next()? {
            version if version == SIGNED.as_bytes() => false,
            version if version == ENCRYPTED.as_bytes() => true,
            _ => return None,
        };
        let (key_id, body, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let authenticated = token.get(..token.len().checked_sub(tag.len())?.checked_sub(1)?)?;
        parts.next().is_none().then_some(Self { encrypted, key_id, body, authenticated, tag })
    }
}

fn verify(mac: &Hmac<Sha256>, authenticated: &[u8], tag: &[u8]) -> Result<(), Refusal> {
    let tag = base64::from_url_safe(tag).filter(|tag| tag.len() == 32).ok_or(Refusal::Malformed)?;
    mac.clone().chain_update(authenticated).verify_slice(&tag).map_err(|_| Refusal::BadTag)
}

fn decrypt(key: &Key, body: &[u8]) -> Option<Vec<u8>> {
    let (nonce, ciphertext) = body.split_first_chunk::<NONCE>()?;
    let mut payload = ciphertext.to_vec();
    encrypt_or_decrypt(key, nonce, &mut payload);
    Some(payload)
}

/// XChaCha20 is its own inverse. A payload is far shorter than the key stream, so this cannot run out of it.
fn encrypt_or_decrypt(key: &Key, nonce: &[u8; NONCE], payload: &mut [u8]) {
    let mut cipher = XChaCha20::new(&key.encrypt.into(), &(*nonce).into());
    if cipher.try_apply_keystream(payload).is_err() {
        payload.fill(0);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
