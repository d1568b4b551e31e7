//! What one pass of a stream leaves for the next (internal redirects). It stays within the proxy, out of anybody's reach.

use super::{Resumed, Standing};
use crate::credential::keyring::KeyPosition;
use crate::credential::token::payload;
use crate::credential::verified::OpenedToken;
use crate::session::{Session, SessionId};
use std::rc::Rc;

const FRESH: u8 = 0;
const CURRENT: u8 = 1;
const OLDER: u8 = 2;
const UNCONFIRMED: u8 = 3;

pub(super) fn write(presented: bool, standing: &Standing) -> Option<Vec<u8>> {
    let (kind, rest) = match standing {
        Standing::Fresh(id) => (FRESH, id.0.to_vec()),
        Standing::Resumed(Resumed { opened, .. }) => match opened.age {
            KeyPosition::Current => (CURRENT, payload::encode(&opened.session)),
            KeyPosition::Older(_) => (OLDER, payload::encode(&opened.session)),
        },
        Standing::Unconfirmed(opened) => (UNCONFIRMED, payload::encode(&opened.session)),
        Standing::Unknown | Standing::OutOfPath => return None,
    };
    Some([&[kind, u8::from(presented)], &rest[..]].concat())
}

pub(super) fn read(bytes: &[u8]) -> Option<(bool, Standing)> {
    let ([kind, presented], rest) = bytes.split_first_chunk()?;
    let standing = match *kind {
        FRESH => Standing::Fresh(SessionId(rest.try_into().ok()?)),
        CURRENT => resumed(payload::decode(rest)?, KeyPosition::Current),
        // Which of the older keys it was does not matter any more.
        OLDER => resumed(payload::decode(rest)?, KeyPosition::Older(1)),
        UNCONFIRMED => Standing::Unconfirmed(Rc::new(OpenedToken::new(payload::decode(rest)?, KeyPosition::Current))),
        _ => return None,
    };
    Some((*presented != 0, standing))
}

/// That the client's copy is behind, if it is, its next request will show again.
fn resumed(session: Session, age: KeyPosition) -> Standing {
    Standing::Resumed(Resumed { opened: Rc::new(OpenedToken::new(session, age)), behind: None })
}
