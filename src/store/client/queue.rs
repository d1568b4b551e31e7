//! Calls that wait for their turn, in a queue for each client.

use super::Call;
use std::collections::VecDeque;

/// A client's connection, as the proxy numbers them. All whose number is not known count as one.
pub(super) type Connection = Option<u64>;

/// Clients take turns, so that what one of them asks for holds no other back. In each client's own queue the first comes first.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// Whose turn it is stands first. No queue is empty.
    clients: VecDeque<(Connection, VecDeque<Call>)>,
    calls: usize,
}

impl FairQueue {
    /// How many calls wait.
    pub(super) fn len(&self) -> usize {
        self.calls
    }

    /// How many calls of a client's wait.
    pub(super) fn len_of(&self, client: Connection) -> usize {
        self.clients.iter().find(|(known, _)| *known == client).map_or(0, |(_, calls)| calls.len())
    }

    /// A call of its client's waits, behind all that the client asked for before.
    pub(super) fn push(&mut self, call: Call) {
        self.calls = self.calls.saturating_add(1);
        match self.clients.iter_mut().find(|(known, _)| *known == call.client) {
            Some((_, calls)) => calls.push_back(call),
            None => self.clients.push_back((call.client, VecDeque::from([call]))),
        }
    }

    /// The next call. Its client's next one comes after one of every other client's.
    pub(super) fn pop(&mut self) -> Option<Call> {
        let (client, mut calls) = self.clients.pop_front()?;
        let call = calls.pop_front()?;
        self.calls = self.calls.saturating_sub(1);
        if !calls.is_empty() {
            self.clients.push_back((client, calls));
        }
        Some(call)
    }

    /// Takes out every call of which this is true.
    pub(super) fn take(&mut self, mut wanted: impl FnMut(&Call) -> bool) -> Vec<Call> {
        let mut taken = Vec::new();
        for (_, calls) in &mut self.clients {
            // Whole queues are left alone as a rule.
            if calls.iter().any(&mut wanted) {
                let (out, rest) = std::mem::take(calls).into_iter().partition::<Vec<_>, _>(&mut wanted);
                taken.extend(out);
                *calls = rest.into();
            }
        }
        self.clients.retain(|(_, calls)| !calls.is_empty());
        self.calls = self.calls.saturating_sub(taken.len());
        taken
    }

    /// Every call that waits.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Call> {
        self.clients.iter_mut().flat_map(|(_, calls)| calls)
    }
}
