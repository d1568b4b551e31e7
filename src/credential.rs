//! What a client shows: the [`token`], the keys that sign it ([`keyring`]), and the tokens that verified of late (`verified`).

pub mod keyring;
pub mod token;
pub(crate) mod verified;
