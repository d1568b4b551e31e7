//! What one pass of a stream leaves for the next (internal redirects). It stays within the proxy, out of anybody's reach.

use super::Standing;
use crate::keyring::KeyAge;
use crate::session::SessionId;
use crate::token::payload;

const FRESH: u8 = 0;
const CURRENT: u8 = 1;
const OLDER: u8 = 2;

pub(super) fn write(presented: bool, standing: &Standing) -> Option<Vec<u8>> {
    let (kind, rest) = match standing {
        Standing::Fresh(id) => (FRESH, id.0.to_vec()),
        Standing::Resumed(session, KeyAge::Current) => (CURRENT, payload::encode(session)),
        Standing::Resumed(session, KeyAge::Older) => (OLDER, payload::encode(session)),
        Standing::Unknown | Standing::Elsewhere => return None,
    };
    Some([&[kind, u8::from(presented)], &rest[..]].concat())
}

pub(super) fn read(bytes: &[u8]) -> Option<(bool, Standing)> {
    let ([kind, presented], rest) = bytes.split_first_chunk()?;
    let standing = match *kind {
        FRESH => Standing::Fresh(SessionId(rest.try_into().ok()?)),
        CURRENT => Standing::Resumed(payload::decode(rest)?, KeyAge::Current),
        OLDER => Standing::Resumed(payload::decode(rest)?, KeyAge::Older),
        _ => return None,
    };
    Some((*presented != 0, standing))
}
