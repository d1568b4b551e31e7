//! A bounded memory: what was written, or said to be used, longest ago goes first.
//!
//! Depends on nothing of the crate. Ordered by key, so that it needs no random seed; its keys are session ids that verified,
//! which nobody can choose.

use std::collections::BTreeMap;

/// Remembers the `capacity` keys (one at the least) that were written or used last, with a value each.
#[derive(Clone, Debug)]
pub struct Recent<K, V> {
    capacity: usize,
    places: BTreeMap<K, usize>,
    /// Linked from the one used last to the one that goes first. `None` at the ends.
    slots: Vec<Slot<K, V>>,
    first: Option<usize>,
    last: Option<usize>,
}

#[derive(Clone, Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    earlier: Option<usize>,
    later: Option<usize>,
}

impl<K: Copy + Ord, V> Recent<K, V> {
    /// An empty memory. Takes no space before it is used.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), places: BTreeMap::new(), slots: Vec::new(), first: None, last: None }
    }

    /// What is remembered of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.slots.get(*self.places.get(key)?).map(|slot| &slot.value)
    }

    /// What is remembered of `key`, which then goes as late as if it were written now.
    pub fn used(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.places.get(key)?;
        self.unlink(at);
        self.link(at);
        self.slots.get_mut(at).map(|slot| &mut slot.value)
    }

    /// Writes what is remembered of `key`. Makes room where there is none.
    pub fn put(&mut self, key: K, value: V) {
        if let Some(known) = self.used(&key) {
            *known = value;
            return;
        }
        let slot = Slot { key, value, earlier: None, later: None };
        let at = match self.last.filter(|_| self.slots.len() >= self.capacity) {
            Some(last) => {
                self.unlink(last);
                if let Some(place) = self.slots.get_mut(last) {
                    self.places.remove(&place.key);
                    *place = slot;
                }
                last
            }
            None => {
                self.slots.push(slot);
                self.slots.len().saturating_sub(1)
            }
        };
        self.places.insert(key, at);
        self.link(at);
    }

    /// Takes a slot out of the order.
    fn unlink(&mut self, at: usize) {
        let Some(slot) = self.slots.get(at) else { return };
        let (earlier, later) = (slot.earlier, slot.later);
        match earlier.and_then(|at| self.slots.get_mut(at)) {
            Some(slot) => slot.later = later,
            None => self.first = later,
        }
        match later.and_then(|at| self.slots.get_mut(at)) {
            Some(slot) => slot.earlier = earlier,
            None => self.last = earlier,
        }
    }

    /// Puts a slot that is not in the order to its front.
    fn link(&mut self, at: usize) {
        match self.first.and_then(|first| self.slots.get_mut(first)) {
            Some(slot) => slot.earlier = Some(at),
            None => self.last = Some(at),
        }
        if let Some(slot) = self.slots.get_mut(at) {
            (slot.earlier, slot.later) = (None, self.first);
        }
        self.first = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_was_written_or_used_longest_ago_goes_when_there_is_no_room() {
        let mut recent = Recent::new(2);
        recent.put(1, "a");
        recent.put(2, "b");
        recent.put(1, "c");
        assert_eq!((recent.get(&1), recent.get(&2)), (Some(&"c"), Some(&"b")));
        recent.put(3, "d");
        assert_eq!((recent.get(&1), recent.get(&2), recent.get(&3)), (Some(&"c"), None, Some(&"d")));
        assert_eq!(recent.used(&1), Some(&mut "c"));
        recent.put(4, "e");
        assert_eq!((recent.get(&1), recent.get(&3), recent.get(&4)), (Some(&"c"), None, Some(&"e")));
    }

    /// Against a plain list, the one that goes first at its front.
    #[test]
    fn it_does_what_a_list_would() {
        for capacity in [1, 2, 3, 10] {
            let mut recent = Recent::new(capacity);
            let mut list: Vec<(u32, u32)> = Vec::new();
            let mut random: u32 = 1;
            for step in 0..5000 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let key = (random >> 16) % 17;
                let known = list.iter().position(|(k, _)| *k == key).map(|at| list.remove(at));
                if random >> 31 == 0 {
                    assert_eq!(recent.used(&key).map(|value| *value), known.map(|(_, value)| value));
                    list.extend(known);
                } else {
                    recent.put(key, step);
                    list.push((key, step));
                    if list.len() > capacity {
                        list.remove(0);
                    }
                }
                assert_eq!(recent.slots.len(), list.len());
                for key in 0..17 {
                    let expected = list.iter().find(|(k, _)| *k == key).map(|(_, value)| value);
                    assert_eq!(recent.get(&key), expected);
                }
            }
        }
    }
}
