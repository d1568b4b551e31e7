//! A bounded memory: the latest entries, the oldest going first.
//!
//! Depends on nothing of the crate. Ordered by key, so that it needs no random seed; its keys are session ids that verified,
//! which nobody can choose.

use std::collections::{BTreeMap, VecDeque};

/// Remembers the latest `capacity` keys (one at the least) with a value each.
#[derive(Clone, Debug)]
pub struct Recent<K, V> {
    capacity: usize,
    values: BTreeMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Copy + Ord, V: Default> Recent<K, V> {
    /// An empty memory. Takes no space before it is used.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, values: BTreeMap::new(), order: VecDeque::new() }
    }

    /// What is remembered of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    /// What is remembered of `key` from now on; at first the default. Makes room where there is none.
    pub fn entry(&mut self, key: K) -> &mut V {
        if !self.values.contains_key(&key) {
            while self.order.len() >= self.capacity.max(1) {
                if let Some(oldest) = self.order.pop_front() {
                    self.values.remove(&oldest);
                }
            }
            self.order.push_back(key);
        }
        self.values.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let mut recent = Recent::new(2);
        *recent.entry(1) = "a";
        *recent.entry(2) = "b";
        *recent.entry(1) = "c";
        assert_eq!((recent.get(&1), recent.get(&2)), (Some(&"c"), Some(&"b")));
        *recent.entry(3) = "d";
        assert_eq!((recent.get(&1), recent.get(&2), recent.get(&3)), (None, Some(&"b"), Some(&"d")));
    }

    #[test]
    fn it_never_holds_more_than_its_capacity() {
        let mut recent = Recent::new(10);
        for key in 0..1000 {
            *recent.entry(key % 37) = key;
            assert!(recent.values.len() <= 10 && recent.order.len() == recent.values.len());
        }
    }
}
