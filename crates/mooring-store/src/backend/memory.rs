//! Sessions in this process' memory, bounded in number and in bytes.
//!
//! When it is full, expired entries go first, then the values that would expire next. A tombstone outlives them all: it goes when it
//! expires, and where nothing but tombstones is left, a write fails rather than displace one.

use super::{Backend, Failure, Lookup, Touch, Write};
use crate::contract::{ETag, SessionKey, Ttl, Value};
use crate::metrics::Metrics;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Milliseconds since the store began.
type Moment = u64;

/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);
/// How many expired entries go while nobody else can use the store.
const SWEPT_AT_ONCE: usize = 1000;

/// What an entry takes besides its key and its value, in bytes: at most that, while the map that holds it grows.
const OVERHEAD: usize = 256;

/// The most there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Sessions and tombstones.
    pub entries: usize,
    /// Bytes for them.
    pub bytes: usize,
}

/// What is known of a key. A tombstone has no value.
struct Entry {
    expires: Moment,
    value: Option<Box<[u8]>>,
}

impl Entry {
    fn bytes(&self, key: &str) -> usize {
        bytes(key, self.value.as_deref())
    }
}

fn bytes(key: &str, value: Option<&[u8]>) -> usize {
    OVERHEAD.saturating_add(key.len()).saturating_add(value.map_or(0, <[u8]>::len))
}

/// The entries, and in which order they expire. Time is passed in.
struct Table {
    bounds: Bounds,
    entries: HashMap<Arc<str>, Entry>,
    values: Order,
    tombstones: Order,
}

/// Entries in the order in which they expire, and the bytes that they take.
#[derive(Default)]
struct Order {
    places: BTreeSet<(Moment, Arc<str>)>,
    bytes: usize,
}

impl Order {
    fn insert(&mut self, expires: Moment, key: Arc<str>, bytes: usize) {
        self.places.insert((expires, key));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn remove(&mut self, place: &(Moment, Arc<str>), bytes: usize) {
        self.places.remove(place);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The key that has expired, or will next, other than this one.
    fn next(&self, besides: &str) -> Option<(Moment, Arc<str>)> {
        self.places.iter().find(|(_, key)| **key != *besides).cloned()
    }

    fn len(&self) -> usize {
        self.places.len()
    }
}

/// A live entry, as others see it.
enum Live<'a> {
    Value(&'a [u8]),
    Tombstone,
    Nothing,
}

/// There is nothing in the table that may go.
#[derive(Debug, PartialEq, Eq)]
struct Full;

impl Table {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, entries: HashMap::new(), values: Order::default(), tombstones: Order::default() }
    }

    /// What is under a key; an expired entry is nothing, swept or not.
    fn live(&self, key: &str, now: Moment) -> Live<'_> {
        match self.entries.get(key).filter(|entry| entry.expires > now) {
            Some(Entry { value: Some(value), .. }) => Live::Value(value),
            Some(Entry { value: None, .. }) => Live::Tombstone,
            None => Live::Nothing,
        }
    }

    fn expiry(&self, key: &str) -> Option<Moment> {
        self.entries.get(key).map(|entry| entry.expires)
    }

    /// Puts an entry in the place of whatever is under the key. Says how many live values had to go for it.
    fn set(&mut self, key: &str, value: Option<&[u8]>, expires: Moment, now: Moment) -> Result<u64, Full> {
        let bytes = bytes(key, value);
        let displaced = self.make_room(key, bytes, now)?;
        let key = self.remove(key).unwrap_or_else(|| key.into());
        self.order(value.is_none()).insert(expires, key.clone(), bytes);
        self.entries.insert(key, Entry { expires, value: value.map(Into::into) });
        Ok(displaced)
    }

    /// Lets an entry live until `expires`.
    fn prolong(&mut self, key: &str, expires: Moment) {
        if let Some((key, mut entry)) = self.entries.remove_entry(key) {
            let bytes = entry.bytes(&key);
            let order = self.order(entry.value.is_none());
            order.remove(&(entry.expires, key.clone()), bytes);
            order.insert(expires, key.clone(), bytes);
            entry.expires = expires;
            self.entries.insert(key, entry);
        }
    }

    fn order(&mut self, tombstones: bool) -> &mut Order {
        if tombstones { &mut self.tombstones } else { &mut self.values }
    }

    fn remove(&mut self, key: &str) -> Option<Arc<str>> {
        let (key, entry) = self.entries.remove_entry(key)?;
        let bytes = entry.bytes(&key);
        let place = (entry.expires, key);
        self.order(entry.value.is_none()).remove(&place, bytes);
        Some(place.1)
    }

    /// Whether an entry of so many bytes fits in the place of `present`, beside so many others.
    fn fits(&self, (entries, taken): (usize, usize), present: Option<usize>, bytes: usize) -> bool {
        let others = entries.saturating_sub(usize::from(present.is_some()));
        let taken = taken.saturating_sub(present.unwrap_or_default());
        others < self.bounds.entries && taken.saturating_add(bytes) <= self.bounds.bytes
    }

    /// Makes room for an entry of so many bytes under `key`, or changes nothing that lives. Says how many live values went.
    fn make_room(&mut self, key: &str, bytes: usize, now: Moment) -> Result<u64, Full> {
        let mut displaced: u64 = 0;
        loop {
            let present = self.entries.get(key);
            let (held, is_tombstone) =
                (present.map(|entry| entry.bytes(key)), present.is_some_and(|entry| entry.value.is_none()));
            let all = (self.entries.len(), self.values.bytes.saturating_add(self.tombstones.bytes));
            if self.fits(all, held, bytes) {
                return Ok(displaced);
            }
            if self.sweep(now, 1) > 0 {
                continue;
            }
            let lasting = (self.tombstones.len(), self.tombstones.bytes);
            if !self.fits(lasting, held.filter(|_| is_tombstone), bytes) {
                return Err(Full);
            }
            let (_, next) = self.values.next(key).ok_or(Full)?;
            self.remove(&next);
            displaced = displaced.saturating_add(1);
        }
    }

    fn show(&self, metrics: &Metrics) {
        let bytes = self.values.bytes.saturating_add(self.tombstones.bytes);
        metrics.kept(self.values.len(), self.tombstones.len(), bytes);
    }

    /// Removes at most `most` expired entries, and says how many.
    fn sweep(&mut self, now: Moment, most: usize) -> usize {
        let mut swept: usize = 0;
        for tombstones in [false, true] {
            while swept < most
                && let Some((_, key)) =
                    self.order(tombstones).places.first().filter(|(expires, _)| *expires <= now).cloned()
            {
                self.remove(&key);
                swept = swept.saturating_add(1);
            }
        }
        swept
    }
}

/// The backend.
#[derive(Clone)]
pub(crate) struct Memory {
    table: Arc<Mutex<Table>>,
    began: Instant,
    metrics: Metrics,
}

impl Memory {
    /// Begins with no session. Must be called within a runtime.
    pub(crate) fn new(bounds: Bounds, metrics: Metrics) -> Self {
        let memory = Self { table: Arc::new(Mutex::new(Table::new(bounds))), began: Instant::now(), metrics };
        tokio::spawn(sweep(Arc::downgrade(&memory.table), memory.began, memory.metrics.clone()));
        memory
    }

    /// The table, and what time it is. A panic elsewhere while it was locked leaves it whole enough to serve.
    fn table(&self) -> (MutexGuard<'_, Table>, Moment) {
        (self.table.lock().unwrap_or_else(PoisonError::into_inner), moment(self.began))
    }

    fn set(
        &self,
        table: &mut Table,
        key: &SessionKey,
        value: Option<&Value>,
        ttl: Ttl,
        now: Moment,
    ) -> Result<(), Failure> {
        let outcome = table.set(key.as_str(), value.map(Value::as_bytes), after(now, ttl), now);
        table.show(&self.metrics);
        let displaced = outcome.map_err(|Full| Failure::Full)?;
        self.metrics.evicted(displaced);
        Ok(())
    }
}

fn moment(began: Instant) -> Moment {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(Moment::MAX)
}

fn after(now: Moment, ttl: Ttl) -> Moment {
    now.saturating_add(u64::from(ttl.seconds()).saturating_mul(1000))
}

/// Removes what has expired, for as long as the table is there.
async fn sweep(table: Weak<Mutex<Table>>, began: Instant, metrics: Metrics) {
    loop {
        tokio::time::sleep(SWEEP).await;
        while let Some(table) = table.upgrade()
            && sweep_once(&table, began, &metrics) == SWEPT_AT_ONCE
        {
            tokio::task::yield_now().await;
        }
        if table.strong_count() == 0 {
            return;
        }
    }
}

fn sweep_once(table: &Mutex<Table>, began: Instant, metrics: &Metrics) -> usize {
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    let swept = table.sweep(moment(began), SWEPT_AT_ONCE);
    table.show(metrics);
    swept
}

impl Backend for Memory {
    async fn lookup(&self, key: &SessionKey) -> Result<Lookup, Failure> {
        let (table, now) = self.table();
        Ok(match table.live(key.as_str(), now) {
            Live::Value(value) => Value::stored(value.to_vec()).map_or(Lookup::Missing, Lookup::Found),
            Live::Tombstone => Lookup::Revoked,
            Live::Nothing => Lookup::Missing,
        })
    }

    async fn create(&self, key: &SessionKey, value: &Value, ttl: Ttl) -> Result<Write, Failure> {
        let (mut table, now) = self.table();
        match table.live(key.as_str(), now) {
            Live::Value(current) => Value::stored(current.to_vec()).map(Write::Differs).ok_or(Failure::Foreign),
            Live::Tombstone => Ok(Write::Revoked),
            Live::Nothing => self.set(&mut table, key, Some(value), ttl, now).map(|()| Write::Done),
        }
    }

    async fn move_to(&self, key: &SessionKey, from: &ETag, value: &Value, ttl: Ttl) -> Result<Write, Failure> {
        let (mut table, now) = self.table();
        match table.live(key.as_str(), now) {
            Live::Value(current) if ETag::of(current) == *from => {
                self.set(&mut table, key, Some(value), ttl, now).map(|()| Write::Done)
            }
            Live::Value(current) => Value::stored(current.to_vec()).map(Write::Differs).ok_or(Failure::Foreign),
            Live::Tombstone => Ok(Write::Revoked),
            Live::Nothing => Ok(Write::Missing),
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Ttl) -> Result<Touch, Failure> {
        let (mut table, now) = self.table();
        match table.live(key.as_str(), now) {
            Live::Value(_) => {
                let expires = after(now, ttl);
                if table.expiry(key.as_str()).is_some_and(|current| current < expires) {
                    table.prolong(key.as_str(), expires);
                }
                Ok(Touch::Done)
            }
            Live::Tombstone => Ok(Touch::Revoked),
            Live::Nothing => Ok(Touch::Missing),
        }
    }

    async fn revoke(&self, key: &SessionKey, ttl: Ttl) -> Result<(), Failure> {
        let (mut table, now) = self.table();
        match table.live(key.as_str(), now) {
            Live::Tombstone if table.expiry(key.as_str()).is_some_and(|expires| expires >= after(now, ttl)) => Ok(()),
            Live::Tombstone | Live::Value(_) | Live::Nothing => self.set(&mut table, key, None, ttl, now),
        }
    }

    fn unready(&self) -> Option<Failure> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(table: &Table, key: &str, now: Moment) -> Option<Vec<u8>> {
        match table.live(key, now) {
            Live::Value(value) => Some(value.to_vec()),
            Live::Tombstone | Live::Nothing => None,
        }
    }

    fn table(entries: usize) -> Table {
        Table::new(Bounds { entries, bytes: usize::MAX })
    }

    /// As many bytes as so many entries take, of keys and values that have so many bytes together.
    fn table_of(entries: usize, each: usize) -> Table {
        Table::new(Bounds { entries: usize::MAX, bytes: entries.saturating_mul(OVERHEAD.saturating_add(each)) })
    }

    #[test]
    fn bytes_are_counted_as_entries_come_change_and_go() {
        let mut table = table(10);
        table.set("a", Some(b"1234"), 100, 0).unwrap();
        table.set("bc", None, 200, 0).unwrap();
        assert_eq!((table.values.bytes, table.tombstones.bytes), (OVERHEAD + 5, OVERHEAD + 2));
        table.prolong("a", 150);
        table.set("a", Some(b"12"), 100, 0).unwrap();
        assert_eq!((table.values.bytes, table.tombstones.bytes), (OVERHEAD + 3, OVERHEAD + 2));
        table.set("a", None, 100, 0).unwrap();
        assert_eq!((table.values.bytes, table.tombstones.bytes), (0, 2 * OVERHEAD + 3));
        assert_eq!(table.sweep(200, 10), 2);
        assert_eq!((table.values.bytes, table.tombstones.bytes), (0, 0));
    }

    #[test]
    fn a_long_value_displaces_as_many_as_it_needs_and_no_tombstone() {
        let mut table = table_of(4, 11);
        for (key, expires) in [("a", 100), ("b", 200), ("c", 300)] {
            table.set(key, Some(&[b'v'; 10]), expires, 0).unwrap();
        }
        table.set("t", None, 50, 0).unwrap();
        assert_eq!(table.set("d", Some(&[b'v'; OVERHEAD + 21]), 150, 1), Ok(2));
        assert!(value(&table, "c", 1).is_some() && value(&table, "d", 1).is_some());
        assert!(matches!(table.live("t", 1), Live::Tombstone));
        assert!(table.values.bytes + table.tombstones.bytes <= table.bounds.bytes);
    }

    #[test]
    fn a_value_that_grows_displaces_others_and_not_itself() {
        let mut table = table_of(2, 11);
        table.set("a", Some(&[b'v'; 10]), 100, 0).unwrap();
        table.set("b", Some(&[b'v'; 10]), 200, 0).unwrap();
        assert_eq!(table.set("a", Some(&[b'v'; 11]), 100, 1), Ok(1));
        assert!(value(&table, "a", 1).is_some() && value(&table, "b", 1).is_none());
    }

    #[test]
    fn nothing_goes_for_what_does_not_fit_anyway() {
        let mut table = table_of(2, 11);
        table.set("t", None, 900, 0).unwrap();
        table.set("a", Some(&[b'v'; 10]), 100, 0).unwrap();
        assert_eq!(table.set("b", Some(&[b'v'; 22]), 200, 1), Err(Full));
        assert_eq!(table.set("a", Some(&[b'v'; 22]), 200, 1), Err(Full));
        assert!(value(&table, "a", 1).is_some_and(|value| value.len() == 10));
    }

    #[test]
    fn an_entry_is_gone_when_its_time_has_come_swept_or_not() {
        let mut table = table(10);
        table.set("a", Some(b"v"), 100, 0).unwrap();
        assert!(value(&table, "a", 99).is_some());
        assert!(matches!(table.live("a", 100), Live::Nothing));
        assert_eq!((table.sweep(99, 10), table.sweep(100, 10), table.sweep(100, 10)), (0, 1, 0));
        assert!(table.entries.is_empty() && table.values.places.is_empty() && table.values.bytes == 0);
    }

    #[test]
    fn a_full_table_lets_the_value_go_that_expires_next() {
        let mut table = table(2);
        table.set("a", Some(b"v"), 100, 0).unwrap();
        table.set("b", Some(b"v"), 200, 0).unwrap();
        table.prolong("a", 300);
        assert_eq!(table.set("c", Some(b"v"), 150, 1), Ok(1));
        assert!(value(&table, "a", 1).is_some() && value(&table, "b", 1).is_none() && value(&table, "c", 1).is_some());
        assert_eq!(table.entries.len(), table.values.len());
    }

    #[test]
    fn what_has_expired_goes_before_what_lives() {
        let mut table = table(2);
        table.set("a", None, 10, 0).unwrap();
        table.set("b", Some(b"v"), 20, 0).unwrap();
        assert_eq!(table.set("c", Some(b"v"), 100, 15), Ok(0));
        assert!(value(&table, "b", 15).is_some());
    }

    #[test]
    fn no_tombstone_makes_room_for_anything() {
        let mut table = table(2);
        table.set("a", None, 100, 0).unwrap();
        table.set("b", Some(b"v"), 900, 0).unwrap();
        assert_eq!(table.set("c", None, 50, 1), Ok(1));
        assert_eq!(table.set("d", None, 50, 1), Err(Full));
        assert_eq!(table.set("d", Some(b"v"), 50, 1), Err(Full));
        assert!(matches!(table.live("a", 1), Live::Tombstone) && matches!(table.live("c", 1), Live::Tombstone));
        assert_eq!(table.set("a", None, 200, 1), Ok(0), "one that is there may live longer");
        assert_eq!(table.set("d", None, 90, 50), Ok(0), "one has expired");
    }

    #[test]
    fn a_value_that_becomes_a_tombstone_changes_sides() {
        let mut table = table(2);
        table.set("a", Some(b"v"), 100, 0).unwrap();
        table.set("a", None, 50, 0).unwrap();
        assert_eq!((table.values.len(), table.tombstones.len(), table.entries.len()), (0, 1, 1));
    }
}
