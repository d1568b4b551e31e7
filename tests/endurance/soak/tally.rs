//! What all lives together came to.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts, while clients go on.
#[derive(Default)]
pub struct Tally {
    counts: [AtomicU64; Count::ALL.len()],
    /// Cookies, by the plugin's word for the reason.
    cookies: Mutex<BTreeMap<String, u64>>,
    /// The first things that went wrong.
    wrongs: Mutex<Vec<String>>,
}

macro_rules! counts {
    ($($(#[$comment:meta])* $name:ident),* $(,)?) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count { $($(#[$comment])* $name),* }
        impl Count {
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

counts! {
    Requests,
    /// Clients that have a session, now.
    Alive,
    Born,
    /// By the application.
    Ended,
    Rotated,
    Released,
    /// Left without a word.
    Abandoned,
    /// Refused, as they should be, because they came back too late or are too old.
    Expired,
    /// Requests with garbage for a cookie, or beside it.
    Garbage,
    /// Moved because their host was out of rotation.
    Moved,
    /// What the store may be asked for by these clients' requests, at most.
    LookupsAllowed,
    /// Broken by a host that died while it served: sending those again is nobody's right.
    DiedWithHost,

    // From here on, what must not be.
    Failed,
    /// Moved although their host was in rotation.
    Misplaced,
    /// A valid session that was replaced by a new one.
    Lost,
    /// A session that ended and was believed all the same.
    Revived,
    /// Renewed more often than ten times in an idle period.
    OverRenewed,
}

impl Count {
    /// What must not be.
    pub const WRONGS: [Self; 5] = [Self::Failed, Self::Misplaced, Self::Lost, Self::Revived, Self::OverRenewed];
}

impl Tally {
    pub fn add(&self, count: Count) {
        self.counts[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn remove(&self, count: Count) {
        self.counts[count as usize].fetch_sub(1, Ordering::Relaxed);
    }

    pub fn of(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// Adds one to what must not be.
    pub fn wrong(&self, count: Count, what: impl FnOnce() -> String) {
        self.add(count);
        let mut wrongs = self.wrongs.lock().expect("a lock");
        if wrongs.len() < 20 {
            wrongs.push(format!("{count:?}: {}", what()));
        }
    }

    pub fn wrongs(&self) -> Vec<String> {
        self.wrongs.lock().expect("a lock").clone()
    }

    pub fn cookie(&self, reason: &str) {
        *self.cookies.lock().expect("a lock").entry(reason.to_owned()).or_default() += 1;
    }

    pub fn cookies(&self) -> BTreeMap<String, u64> {
        self.cookies.lock().expect("a lock").clone()
    }
}
