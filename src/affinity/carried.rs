//! What one pass of a stream leaves for the next (internal redirects). It stays within the proxy, out of anybody's reach.

use super::{Arrival, Resumed, Standing};
use crate::carrier::Carriers;
use crate::credential::keyring::KeyPosition;
use crate::credential::token::payload;
use crate::credential::verified::OpenedToken;
use crate::session::{Session, SessionId};
use std::rc::Rc;

const FRESH: u8 = 0;
const CURRENT: u8 = 1;
const OLDER: u8 = 2;
const UNCONFIRMED: u8 = 3;

/// Stands for no carrier.
const NO_CARRIER: u8 = u8::MAX;

/// What is left of an [`Arrival`].
pub(super) struct Carried {
    pub(super) presented: Carriers,
    pub(super) by: Option<usize>,
}

pub(super) fn write(arrival: &Arrival, standing: &Standing) -> Option<Vec<u8>> {
    let (kind, rest) = match standing {
        Standing::Fresh(id) => (FRESH, id.0.to_vec()),
        Standing::Resumed(Resumed { opened, .. }) => match opened.age {
            KeyPosition::Current => (CURRENT, payload::encode(&opened.session)),
            KeyPosition::Older(_) => (OLDER, payload::encode(&opened.session)),
        },
        Standing::Unconfirmed(opened) => (UNCONFIRMED, payload::encode(&opened.session)),
        Standing::Unknown | Standing::Outside => return None,
    };
    let by = arrival.by.and_then(|by| u8::try_from(by).ok()).unwrap_or(NO_CARRIER);
    Some([&[kind, arrival.presented.bits(), by], &rest[..]].concat())
}

pub(super) fn read(bytes: &[u8]) -> Option<(Carried, Standing)> {
    let ([kind, presented, by], rest) = bytes.split_first_chunk()?;
    let standing = match *kind {
        FRESH => Standing::Fresh(SessionId(rest.try_into().ok()?)),
        CURRENT => resumed(payload::decode(rest)?, KeyPosition::Current),
        // Which of the older keys it was does not matter any more.
        OLDER => resumed(payload::decode(rest)?, KeyPosition::Older(1)),
        UNCONFIRMED => Standing::Unconfirmed(Rc::new(OpenedToken::new(payload::decode(rest)?, KeyPosition::Current))),
        _ => return None,
    };
    let by = (*by != NO_CARRIER).then_some(usize::from(*by));
    Some((Carried { presented: Carriers::from_bits(*presented), by }, standing))
}

/// That the client's copy is behind, if it is, its next request will show again.
fn resumed(session: Session, age: KeyPosition) -> Standing {
    Standing::Resumed(Resumed { opened: Rc::new(OpenedToken::new(session, age)), behind: None })
}
