//! The streams of a VM, by id.

use super::Stream;
use crate::ids::StreamId;

/// Ordered by id. The proxy counts ids upwards, so that a stream begins at the end, and one that is soon over ends near it.
pub(super) struct Streams(Vec<(StreamId, Box<Stream>)>);

impl Streams {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    fn place(&self, id: StreamId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id)
    }

    pub(super) fn insert(&mut self, id: StreamId, stream: Stream) {
        self.remove(id);
        let at = self.0.partition_point(|(known, _)| *known < id);
        self.0.insert(at, (id, Box::new(stream)));
    }

    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let at = self.place(id).ok()?;
        self.0.get_mut(at).map(|(_, stream)| &mut **stream)
    }

    pub(super) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        // That it is within bounds is said again, so that the compiler leaves the panic out.
        let at = self.place(id).ok().filter(|at| *at < self.0.len())?;
        Some(*self.0.remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Phase;
    use super::*;
    use crate::ids::ContextId;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn streams_are_found_by_id_whatever_the_order_of_their_coming_and_going() {
        let mut streams = Streams::new();
        for id in [5, 3, 9, 4, 5] {
            streams.insert(StreamId(id), Stream { root: ContextId(id), phase: Phase::Request });
        }
        assert_eq!(streams.0.len(), 4, "an id is there once");
        streams.remove(StreamId(4));
        streams.remove(StreamId(7));
        let found = [3, 4, 5, 7, 9].map(|id| streams.get_mut(StreamId(id)).map(|stream| stream.root.0));
        assert_eq!(found, [Some(3), None, Some(5), None, Some(9)]);
    }
}
