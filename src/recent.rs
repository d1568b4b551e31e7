//! A bounded memory: what was written longest ago goes first.
//!
//! Depends on nothing of the crate. Ordered by key, so that it needs no random seed; its keys are session ids that verified,
//! which nobody can choose.

use std::collections::{BTreeMap, VecDeque};

/// Remembers the `capacity` keys (one at the least) that were written last, with a value each.
#[derive(Clone, Debug)]
pub struct Recent<K, V> {
    capacity: usize,
    stamp: u64,
    values: BTreeMap<K, (u64, V)>,
    /// Keys in the order of writing. A key stands here once for each time; only the latest, by its stamp, counts.
    order: VecDeque<(u64, K)>,
}

impl<K: Copy + Ord, V: Default> Recent<K, V> {
    /// An empty memory. Takes no space before it is used.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), stamp: 0, values: BTreeMap::new(), order: VecDeque::new() }
    }

    /// What is remembered of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }

    /// What is remembered of `key`, to be written; at first the default. Makes room where there is none.
    pub fn entry(&mut self, key: K) -> &mut V {
        self.stamp = self.stamp.saturating_add(1);
        if self.order.len() >= self.capacity.saturating_mul(2) {
            self.order.retain(|(stamp, key)| self.values.get(key).is_some_and(|(latest, _)| latest == stamp));
        }
        while self.values.len() >= self.capacity && !self.values.contains_key(&key) {
            let Some((stamp, oldest)) = self.order.pop_front() else { break };
            if self.values.get(&oldest).is_some_and(|(latest, _)| *latest == stamp) {
                self.values.remove(&oldest);
            }
        }
        self.order.push_back((self.stamp, key));
        let (stamp, value) = self.values.entry(key).or_default();
        *stamp = self.stamp;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_was_written_longest_ago_goes_when_there_is_no_room() {
        let mut recent = Recent::new(2);
        *recent.entry(1) = "a";
        *recent.entry(2) = "b";
        *recent.entry(1) = "c";
        assert_eq!((recent.get(&1), recent.get(&2)), (Some(&"c"), Some(&"b")));
        *recent.entry(3) = "d";
        assert_eq!((recent.get(&1), recent.get(&2), recent.get(&3)), (Some(&"c"), None, Some(&"d")));
    }

    #[test]
    fn it_never_holds_more_than_its_capacity() {
        let mut recent = Recent::new(10);
        for key in 0..1000 {
            *recent.entry(key % 37) = key;
            *recent.entry(5) = key;
            assert!(recent.values.len() <= 10 && recent.order.len() <= 20, "{}", recent.order.len());
            assert_eq!(recent.get(&5), Some(&key), "what is written again and again stays");
        }
    }
}
