//! Tokens that verified, remembered: the next request with one of them needs no cryptography.
//!
//! Bounded: the token that was not used for longest goes first. Only what verified is remembered, so that nobody without a session of ours
//! can fill it. (Envoy's `jwt_authn` has such a cache for the same reason.)

use crate::credential::keyring::{KeyPosition, Keyring};
use crate::credential::token::{self, Refusal};
use crate::lru::{Lru, RandomKey};
use crate::session::Session;
use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;

/// The tokens that verified of late, under one keyring.
#[derive(Debug)]
pub(crate) struct VerifiedTokens {
    tokens: Lru<TagEnd, VerifiedToken>,
}

/// The last 16 characters of a token, which are of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TagEnd(u128);

/// A token, and what it says.
#[derive(Debug)]
struct VerifiedToken {
    token: Box<[u8]>,
    opened: Rc<OpenedToken>,
}

/// How a token was found to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recall {
    /// It had been before.
    Remembered,
    /// It was verified just now.
    Verified {
        /// Whether another had to go for it.
        evicted: bool,
    },
}

/// What a token says.
pub(crate) struct OpenedToken {
    /// The session.
    pub session: Session,
    /// Of the token's key.
    pub age: KeyPosition,
    /// The override header of its requests, once one was made, where it is the same for all.
    pub host_header: OnceCell<Vec<u8>>,
    /// The header with its id, once one was made.
    pub id_header: OnceCell<Vec<u8>>,
}

impl OpenedToken {
    /// A session, and the age of the key of its token.
    pub(crate) fn new(session: Session, age: KeyPosition) -> Self {
        Self { session, age, host_header: OnceCell::new(), id_header: OnceCell::new() }
    }
}

impl RandomKey for TagEnd {
    fn bits(&self) -> usize {
        // A character has six random bits, not eight: a multiplication spreads them.
        let [a, b, c, d, e, f, g, h, ..] = self.0.to_le_bytes();
        let spread = u64::from_le_bytes([a, b, c, d, e, f, g, h]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (spread >> 32) as usize
    }
}

impl PartialEq for OpenedToken {
    fn eq(&self, other: &Self) -> bool {
        self.session == other.session && self.age == other.age
    }
}

impl Eq for OpenedToken {}

/// Hosts and ids are not logged.
impl fmt::Debug for OpenedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedToken").field("session", &self.session).field("age", &self.age).finish_non_exhaustive()
    }
}

impl VerifiedTokens {
    /// A memory for `capacity` tokens. Takes no space before it is used.
    pub(crate) fn new(capacity: u32) -> Self {
        Self { tokens: Lru::new(usize::try_from(capacity).unwrap_or(usize::MAX)) }
    }

    /// How many tokens are remembered.
    pub(crate) fn count(&self) -> usize {
        self.tokens.count()
    }

    /// Reads a token as [`token::open`] does. The keyring is the same each time.
    ///
    /// # Errors
    /// As [`token::open`]; times are not looked at.
    pub(crate) fn open(&mut self, token: &[u8], keyring: &Keyring) -> Result<(Rc<OpenedToken>, Recall), Refusal> {
        let end = token.last_chunk().map(|end| TagEnd(u128::from_le_bytes(*end)));
        let known = end.and_then(|end| self.tokens.used(&end)).filter(|known| equal(&known.token, token));
        if let Some(known) = known {
            return Ok((Rc::clone(&known.opened), Recall::Remembered));
        }
        let (session, age) = token::open(token, keyring)?;
        let opened = Rc::new(OpenedToken::new(session, age));
        let token = VerifiedToken { token: token.into(), opened: Rc::clone(&opened) };
        let evicted = end.and_then(|end| self.tokens.put(end, token)).is_some();
        Ok((opened, Recall::Verified { evicted }))
    }
}

/// Whether these are the same bytes. It takes the same time wherever they differ. Eight bytes at a time, where the C
/// library's `memcmp` for Wasm goes byte by byte.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let ((one_words, one_rest), (other_words, other_rest)) = (one.as_chunks(), other.as_chunks());
    let words = one_words.iter().zip(other_words);
    let differs = words.fold(0, |differs, (a, b)| differs | (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)));
    let rest = one_rest.iter().zip(other_rest).fold(0, |differs, (a, b)| differs | (a ^ b));
    one.len() == other.len() && differs == 0 && rest == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::credential::keyring::{Key, KeyId, Secret};
    use crate::credential::token::Protection;
    use crate::session::{SessionId, Timeouts};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const TIMEOUTS: Timeouts = Timeouts { absolute: None, idle: None, clock_skew: 0 };

    fn keyring(byte: u8) -> Keyring {
        let secret = Secret::new(vec![byte; 32]).unwrap();
        Keyring::new(Key::derive(KeyId::new("k").unwrap(), &secret, "s").unwrap(), Vec::new())
    }

    fn token(number: u8) -> (Session, String) {
        let session = Session::begin(SessionId([number; 16]), UnixTime(1_800_000_000), &TIMEOUTS);
        let token = token::seal(&session, &keyring(1), &Protection::Signed);
        (session, token)
    }

    #[test]
    fn a_token_that_verified_is_not_verified_again_and_says_the_same() {
        let (session, token) = token(1);
        let mut verified = VerifiedTokens::new(2);
        assert_eq!(verified.open(token.as_bytes(), &keyring(2)), Err(Refusal::BadTag), "and this is not remembered");
        for keyring in [keyring(1), keyring(2)] {
            let opened = verified.open(token.as_bytes(), &keyring);
            let expected = Rc::new(OpenedToken::new(session.clone(), KeyPosition::Current));
            assert_eq!(opened.map(|(opened, _)| opened), Ok(expected));
        }
    }

    #[test]
    fn another_token_with_the_same_tag_is_another_token() {
        let (session, good) = token(1);
        let mut verified = VerifiedTokens::new(2);
        verified.open(good.as_bytes(), &keyring(1)).unwrap();
        let (_, other) = token(2);
        let (body, tag) = (other.rsplit_once('.').unwrap().0, good.rsplit_once('.').unwrap().1);
        let forged = format!("{body}.{tag}");
        assert_eq!(verified.open(forged.as_bytes(), &keyring(1)), Err(Refusal::BadTag));
        let known = verified.open(good.as_bytes(), &keyring(2)).map(|(opened, _)| opened.session.clone());
        assert_eq!(known, Ok(session), "and displaces none");
        for length in 0..20 {
            let end = &good.as_bytes()[good.len() - length..];
            assert!(verified.open(end, &keyring(1)).is_err(), "{length}");
        }
    }

    #[test]
    fn what_was_remembered_and_what_had_to_go_is_said() {
        let mut verified = VerifiedTokens::new(2);
        let recalls = [1, 2, 1, 3].map(|number| verified.open(token(number).1.as_bytes(), &keyring(1)).unwrap().1);
        let verified_anew = |evicted| Recall::Verified { evicted };
        assert_eq!(recalls, [verified_anew(false), verified_anew(false), Recall::Remembered, verified_anew(true)]);
        assert_eq!(verified.count(), 2);
    }

    #[test]
    fn the_token_that_was_not_used_for_longest_goes_first() {
        let mut verified = VerifiedTokens::new(2);
        for number in [1, 2, 1, 3] {
            verified.open(token(number).1.as_bytes(), &keyring(1)).unwrap();
        }
        let known = [1, 2, 3].map(|number| verified.open(token(number).1.as_bytes(), &keyring(2)).is_ok());
        assert_eq!(known, [true, false, true]);
    }

    /// A client has a say in when it comes and where that leads it: a thousand of such tokens spread as a thousand random keys would.
    #[test]
    fn a_client_cannot_choose_where_its_tokens_are_remembered() {
        let mut shared = vec![0; 1024];
        for step in 0..1024 {
            let (mut session, _) = token(1);
            (session.renewed, session.generation) = (session.renewed.plus(step), step % 7);
            let token = token::seal(&session, &keyring(1), &Protection::Signed);
            let end = TagEnd(u128::from_le_bytes(*token.as_bytes().last_chunk().unwrap()));
            shared[end.bits() % 1024] += 1;
        }
        assert!(shared.iter().all(|tokens| *tokens < 10), "{shared:?}");
        assert!(shared.iter().filter(|tokens| **tokens > 0).count() > 600, "{shared:?}");
    }
}
