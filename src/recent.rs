//! A bounded memory: the latest entries, the oldest going first.
//!
//! Depends on nothing of the crate. Ordered by key, so that it needs no random seed; its keys are session ids that verified,
//! which nobody can choose.

use std::collections::{BTreeMap, VecDeque};

/// Remembers the latest `capacity` keys with a value each.
#[derive(Clone, Debug)]
pub struct Recent<K, V> {
    capacity: usize,
    values: BTreeMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Copy + Ord, V> Recent<K, V> {
    /// An empty memory. Takes no space before it is used.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, values: BTreeMap::new(), order: VecDeque::new() }
    }

    /// What is remembered of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    /// Remembers `value`, in place of an earlier one of the same key. An earlier one keeps its age.
    pub fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
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
        recent.insert(1, "a");
        recent.insert(2, "b");
        recent.insert(1, "c");
        assert_eq!(recent.get(&1), Some(&"c"));
        recent.insert(3, "d");
        assert_eq!((recent.get(&1), recent.get(&2), recent.get(&3)), (None, Some(&"b"), Some(&"d")));
    }

    #[test]
    fn no_room_at_all_remembers_nothing() {
        let mut recent = Recent::new(0);
        recent.insert(1, "a");
        assert_eq!(recent.get(&1), None);
    }
}
