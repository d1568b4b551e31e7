//! An input as a row of choices.

use mooring::clock::UnixTime;
use mooring::session::pin::{ClusterId, HostAddr, Pin, Pins};
use mooring::session::{Session, SessionId};

/// What is left of an input.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of `count` choices. The digit `0` is the first.
    pub fn choice(&mut self, count: u8) -> usize {
        usize::from(self.byte().wrapping_sub(b'0') % count)
    }

    /// Yes or no. The digit `0` is no.
    pub fn flag(&mut self) -> bool {
        self.choice(2) == 1
    }

    /// The next bytes, as many as there are up to `count`.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The bytes up to the next line break, which is dropped.
    pub fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == b'\n').unwrap_or(self.0.len());
        let line = self.take(end);
        self.byte();
        line
    }

    /// A big-endian number.
    pub fn number<const N: usize>(&mut self) -> u64 {
        (0..N).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Any session, most of them odd.
    pub fn session(&mut self) -> Session {
        let mut id = [0; 16];
        id.iter_mut().for_each(|byte| *byte = self.byte());
        let created = UnixTime(self.number::<8>() >> (8 * self.choice(4)));
        let renewed = UnixTime(created.0.wrapping_add(self.number::<5>()));
        let end = self.flag().then(|| UnixTime(created.0.wrapping_add(self.number::<5>())));
        let generation = self.number::<4>() as u32;
        let mut pins = Pins::default();
        for _ in 0..self.choice(12) {
            let cluster = ClusterId([self.byte(); 8]);
            let length = usize::from(self.byte());
            if let Some(host) = HostAddr::parse(self.take(length)) {
                pins.set(Pin { cluster, host });
            }
        }
        Session { id: SessionId(id), created, renewed, end, generation, pins }
    }
}
