//! Sessions in this process' memory, bounded in number.
//!
//! When it is full, an expired entry goes first, then the value that would expire next. A tombstone outlives them all: it goes when it
//! expires, and where nothing but tombstones is left, a write fails rather than displace one.

use super::{Backend, Failure, Lookup, Touch, Write};
use crate::contract::{ETag, Key, Ttl, Value};
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

/// What is known of a key. A tombstone has no value.
struct Entry {
    expires: Moment,
    value: Option<Box<[u8]>>,
}

/// The entries, and in which order they expire. Time is passed in.
struct Table {
    capacity: usize,
    entries: HashMap<Arc<str>, Entry>,
    values: BTreeSet<(Moment, Arc<str>)>,
    tombstones: BTreeSet<(Moment, Arc<str>)>,
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

/// What had to go for an entry to come in.
#[derive(Debug, PartialEq, Eq)]
enum Displaced {
    Nothing,
    LiveValue,
}

impl Table {
    fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), values: BTreeSet::new(), tombstones: BTreeSet::new() }
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

    /// Puts an entry in the place of whatever is under the key.
    fn set(&mut self, key: &str, value: Option<&[u8]>, expires: Moment, now: Moment) -> Result<Displaced, Full> {
        let displaced = match self.entries.contains_key(key) {
            true => Displaced::Nothing,
            false => self.make_room(now)?,
        };
        let key = self.remove(key).unwrap_or_else(|| key.into());
        self.order(value.is_none()).insert((expires, key.clone()));
        self.entries.insert(key, Entry { expires, value: value.map(Into::into) });
        Ok(displaced)
    }

    /// Lets an entry live until `expires`.
    fn prolong(&mut self, key: &str, expires: Moment) {
        if let Some((key, mut entry)) = self.entries.remove_entry(key) {
            let order = self.order(entry.value.is_none());
            order.remove(&(entry.expires, key.clone()));
            order.insert((expires, key.clone()));
            entry.expires = expires;
            self.entries.insert(key, entry);
        }
    }

    fn order(&mut self, tombstones: bool) -> &mut BTreeSet<(Moment, Arc<str>)> {
        if tombstones { &mut self.tombstones } else { &mut self.values }
    }

    fn remove(&mut self, key: &str) -> Option<Arc<str>> {
        let (key, entry) = self.entries.remove_entry(key)?;
        let place = (entry.expires, key);
        self.order(entry.value.is_none()).remove(&place);
        Some(place.1)
    }

    fn make_room(&mut self, now: Moment) -> Result<Displaced, Full> {
        if self.entries.len() < self.capacity || self.sweep(now, 1) > 0 {
            return Ok(Displaced::Nothing);
        }
        let (_, key) = self.values.pop_first().ok_or(Full)?;
        self.entries.remove(&key);
        Ok(Displaced::LiveValue)
    }

    /// Removes at most `most` expired entries, and says how many.
    fn sweep(&mut self, now: Moment, most: usize) -> usize {
        let mut swept: usize = 0;
        for order in [&mut self.values, &mut self.tombstones] {
            while swept < most && order.first().is_some_and(|(expires, _)| *expires <= now) {
                if let Some((_, key)) = order.pop_first() {
                    self.entries.remove(&key);
                }
                swept = swept.saturating_add(1);
            }
        }
        swept
    }
}

/// The backend.
#[derive(Clone)]
pub struct Memory {
    table: Arc<Mutex<Table>>,
    began: Instant,
    metrics: Metrics,
}

impl Memory {
    /// Begins with no session, and room for `capacity` sessions and tombstones. Must be called within a runtime.
    pub fn new(capacity: usize, metrics: Metrics) -> Self {
        let memory = Self { table: Arc::new(Mutex::new(Table::new(capacity))), began: Instant::now(), metrics };
        tokio::spawn(sweep(Arc::downgrade(&memory.table), memory.began, memory.metrics.clone()));
        memory
    }

    /// The table, and what time it is. A panic elsewhere while it was locked leaves it whole enough to serve.
    fn table(&self) -> (MutexGuard<'_, Table>, Moment) {
        (self.table.lock().unwrap_or_else(PoisonError::into_inner), moment(self.began))
    }

    fn set(&self, table: &mut Table, key: &Key, value: Option<&Value>, ttl: Ttl, now: Moment) -> Result<(), Failure> {
        let outcome = table.set(key.as_str(), value.map(Value::as_bytes), after(now, ttl), now);
        self.metrics.kept(table.values.len(), table.tombstones.len());
        match outcome {
            Ok(Displaced::Nothing) => Ok(()),
            Ok(Displaced::LiveValue) => {
                self.metrics.evicted();
                Ok(())
            }
            Err(Full) => Err(Failure::Full),
        }
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
    metrics.kept(table.values.len(), table.tombstones.len());
    swept
}

impl Backend for Memory {
    async fn lookup(&self, key: &Key) -> Result<Lookup, Failure> {
        let (table, now) = self.table();
        Ok(match table.live(key.as_str(), now) {
            Live::Value(value) => Value::stored(value.to_vec()).map_or(Lookup::Missing, Lookup::Found),
            Live::Tombstone => Lookup::Revoked,
            Live::Nothing => Lookup::Missing,
        })
    }

    async fn create(&self, key: &Key, value: &Value, ttl: Ttl) -> Result<Write, Failure> {
        let (mut table, now) = self.table();
        match table.live(key.as_str(), now) {
            Live::Value(current) => Value::stored(current.to_vec()).map(Write::Differs).ok_or(Failure::Foreign),
            Live::Tombstone => Ok(Write::Revoked),
            Live::Nothing => self.set(&mut table, key, Some(value), ttl, now).map(|()| Write::Done),
        }
    }

    async fn move_to(&self, key: &Key, from: &ETag, value: &Value, ttl: Ttl) -> Result<Write, Failure> {
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

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<Touch, Failure> {
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

    async fn revoke(&self, key: &Key, ttl: Ttl) -> Result<(), Failure> {
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

    #[test]
    fn an_entry_is_gone_when_its_time_has_come_swept_or_not() {
        let mut table = Table::new(10);
        table.set("a", Some(b"v"), 100, 0).unwrap();
        assert!(value(&table, "a", 99).is_some());
        assert!(matches!(table.live("a", 100), Live::Nothing));
        assert_eq!((table.sweep(99, 10), table.sweep(100, 10), table.sweep(100, 10)), (0, 1, 0));
        assert!(table.entries.is_empty() && table.values.is_empty());
    }

    #[test]
    fn a_full_table_lets_the_value_go_that_expires_next() {
        let mut table = Table::new(2);
        table.set("a", Some(b"v"), 100, 0).unwrap();
        table.set("b", Some(b"v"), 200, 0).unwrap();
        table.prolong("a", 300);
        assert_eq!(table.set("c", Some(b"v"), 150, 1), Ok(Displaced::LiveValue));
        assert!(value(&table, "a", 1).is_some() && value(&table, "b", 1).is_none() && value(&table, "c", 1).is_some());
        assert_eq!(table.entries.len(), table.values.len());
    }

    #[test]
    fn what_has_expired_goes_before_what_lives() {
        let mut table = Table::new(2);
        table.set("a", None, 10, 0).unwrap();
        table.set("b", Some(b"v"), 20, 0).unwrap();
        assert_eq!(table.set("c", Some(b"v"), 100, 15), Ok(Displaced::Nothing));
        assert!(value(&table, "b", 15).is_some());
    }

    #[test]
    fn no_tombstone_makes_room_for_anything() {
        let mut table = Table::new(2);
        table.set("a", None, 100, 0).unwrap();
        table.set("b", Some(b"v"), 900, 0).unwrap();
        assert_eq!(table.set("c", None, 50, 1), Ok(Displaced::LiveValue));
        assert_eq!(table.set("d", None, 50, 1), Err(Full));
        assert_eq!(table.set("d", Some(b"v"), 50, 1), Err(Full));
        assert!(matches!(table.live("a", 1), Live::Tombstone) && matches!(table.live("c", 1), Live::Tombstone));
        assert_eq!(table.set("a", None, 200, 1), Ok(Displaced::Nothing), "one that is there may live longer");
        assert_eq!(table.set("d", None, 90, 50), Ok(Displaced::Nothing), "one has expired");
    }

    #[test]
    fn a_value_that_becomes_a_tombstone_changes_sides() {
        let mut table = Table::new(2);
        table.set("a", Some(b"v"), 100, 0).unwrap();
        table.set("a", None, 50, 0).unwrap();
        assert_eq!((table.values.len(), table.tombstones.len(), table.entries.len()), (0, 1, 1));
    }
}
