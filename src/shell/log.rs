//! What is written to the proxy's log.

use crate::affinity::worker::Worker;
use crate::clock::Monotonic;
use crate::config::Config;
use crate::observe::log::Notices;

/// Of this plugin, and the commit that it was built from.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = match option_env!("MOORING_COMMIT") {
    Some(commit) => commit,
    None => "of no commit",
};

/// A configuration of this version takes effect.
pub(super) fn started(version: &str, config: &Config) {
    ::log::info!("mooring {VERSION} ({COMMIT}): configuration {version}: {}", config.summary());
}

/// A configuration is refused.
pub(super) fn refused(message: &str) {
    ::log::error!("{message}");
}

/// Tells what a worker has seen since the last time.
pub(super) fn tell(notices: &mut Notices, worker: &Worker, now: Option<Monotonic>) {
    for notice in notices.due(worker.seen(), now) {
        ::log::log!(notice.level(), "{}", notice.text());
    }
}
