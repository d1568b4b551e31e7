//! Which hosts are in rotation, as whoever breaks them knows: a session may leave a host that is out, and no other.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Envoy's workers learn of a host's health up to a second after its admin interface (`update_merge_window`).
const WORKERS_KNOW: Duration = Duration::from_millis(1500);

/// A time during which a host was out of rotation, or may have been.
#[derive(Clone, Debug)]
struct Absence {
    host: String,
    from: Instant,
    until: Option<Instant>,
}

/// The hosts' absences.
#[derive(Clone, Debug, Default)]
pub struct Rotation(Arc<Mutex<Vec<Absence>>>);

impl Rotation {
    /// This host is about to leave.
    pub fn leaves(&self, host: &str) {
        let absence = Absence { host: host.into(), from: now(), until: None };
        self.0.lock().expect("a lock").push(absence);
    }

    /// Every proxy says that this host is back.
    pub fn is_back(&self, host: &str) {
        let mut absences = self.0.lock().expect("a lock");
        let absence = absences.iter_mut().rfind(|absence| absence.host == host).expect("a host that left");
        absence.until = Some(now() + WORKERS_KNOW);
    }

    /// Whether the host was away for any of the time between these instants.
    pub fn was_out(&self, host: &str, from: Instant, until: Instant) -> bool {
        self.absent(|absent| absent == host, from, until)
    }

    /// Whether an absence explains that a request broke: that of the session's home; of any host, where it has none.
    pub fn explains(&self, home: Option<&str>, from: Instant, until: Instant) -> bool {
        self.absent(|absent| home.is_none_or(|home| absent == home), from, until)
    }

    fn absent(&self, host: impl Fn(&str) -> bool, from: Instant, until: Instant) -> bool {
        let absences = self.0.lock().expect("a lock");
        absences.iter().any(|absence| {
            host(&absence.host) && absence.from <= until && absence.until.is_none_or(|back| back >= from)
        })
    }
}

/// The clock that requests are timed with.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}
