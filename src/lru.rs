//! A bounded memory: what was written, or said to be used, longest ago goes first.
//!
//! Its keys are random, so their own bits spread them, and no hash is needed. They are ids of sessions, and ends of tokens that verified.
//! Nobody can choose them, and to find many whose bits agree takes many more sessions.

/// A key of random bits.
pub(crate) trait RandomKey: Copy + Eq {
    /// Some of the bits.
    fn bits(&self) -> usize;
}

/// Remembers the `capacity` keys (one at the least) that were written or used last, with a value each.
#[derive(Clone, Debug)]
pub(crate) struct Lru<K, V> {
    capacity: usize,
    /// By the bits of a key, the first of the slots that share them. A power of two, and no fewer than there are slots.
    places: Vec<Option<usize>>,
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
    /// The next of those that share a place.
    neighbour: Option<usize>,
}

/// How many places there are at first.
const PLACES: usize = 8;

impl<K: RandomKey, V> Lru<K, V> {
    /// An empty memory. Takes no space before it is used.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), places: Vec::new(), slots: Vec::new(), first: None, last: None }
    }

    /// What is remembered of `key`.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.slots.get(self.find(key)?).map(|slot| &slot.value)
    }

    /// What is remembered of `key`. It counts as used: every other key goes before it.
    pub(crate) fn used(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key)?;
        if self.first != Some(at) {
            self.unlink(at);
            self.link(at);
        }
        self.slots.get_mut(at).map(|slot| &mut slot.value)
    }

    /// Writes what is remembered of `key`. Makes room where there is none, and returns what had to go.
    pub(crate) fn put(&mut self, key: K, value: V) -> Option<V> {
        if let Some(known) = self.used(&key) {
            *known = value;
            return None;
        }
        let slot = Slot { key, value, earlier: None, later: None, neighbour: None };
        let mut gone = None;
        let at = match self.last.filter(|_| self.slots.len() >= self.capacity) {
            Some(last) => {
                self.unlink(last);
                self.displace(last);
                if let Some(place) = self.slots.get_mut(last) {
                    gone = Some(std::mem::replace(place, slot).value);
                }
                last
            }
            None => {
                self.slots.push(slot);
                if self.slots.len() > self.places.len() {
                    self.spread();
                }
                self.slots.len().saturating_sub(1)
            }
        };
        self.place(at);
        self.link(at);
        gone
    }

    /// How many keys are remembered.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    fn find(&self, key: &K) -> Option<usize> {
        let mut next = *self.places.get(self.place_of(key))?;
        while let Some(at) = next {
            let slot = self.slots.get(at)?;
            if slot.key == *key {
                break;
            }
            next = slot.neighbour;
        }
        next
    }

    fn place_of(&self, key: &K) -> usize {
        key.bits() & self.places.len().wrapping_sub(1)
    }

    /// Gives a slot its place, before those that share it.
    fn place(&mut self, at: usize) {
        let Some(place) = self.slots.get(at).map(|slot| self.place_of(&slot.key)) else { return };
        if let (Some(slot), Some(first)) = (self.slots.get_mut(at), self.places.get_mut(place)) {
            slot.neighbour = first.replace(at);
        }
    }

    /// Takes a slot from its place.
    fn displace(&mut self, at: usize) {
        let Some(slot) = self.slots.get(at) else { return };
        let (place, neighbour) = (self.place_of(&slot.key), slot.neighbour);
        let Some(mut link) = self.places.get_mut(place) else { return };
        while let Some(next) = link.filter(|next| *next != at) {
            let Some(slot) = self.slots.get_mut(next) else { return };
            link = &mut slot.neighbour;
        }
        *link = neighbour;
    }

    /// Makes twice as many places, for every slot but the last, which has none yet.
    fn spread(&mut self) {
        let places = self.places.len().saturating_mul(2).max(PLACES);
        self.places = vec![None; places];
        (0..self.slots.len().saturating_sub(1)).for_each(|at| self.place(at));
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

    /// Spread badly: three share a place.
    impl RandomKey for u32 {
        fn bits(&self) -> usize {
            (*self / 3) as usize
        }
    }

    #[test]
    fn what_was_written_or_used_longest_ago_goes_when_there_is_no_room() {
        let mut recent = Lru::new(2);
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
    fn the_table_does_what_a_list_would() {
        for capacity in [1, 2, 3, 10, 16, 17] {
            let mut recent = Lru::new(capacity);
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
                    let gone = recent.put(key, step);
                    list.push((key, step));
                    let first = (list.len() > capacity).then(|| list.remove(0));
                    assert_eq!(gone, first.map(|(_, value)| value));
                }
                assert_eq!(recent.count(), list.len());
                assert!(recent.places.len() < 4 * list.len().max(PLACES), "{}", recent.places.len());
                for key in 0..17 {
                    let expected = list.iter().find(|(k, _)| *k == key).map(|(_, value)| value);
                    assert_eq!(recent.get(&key), expected);
                }
            }
        }
    }
}
