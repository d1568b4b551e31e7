//! Header maps as bytes, in the form in which proxy-wasm hosts hand over a whole map.
//!
//! Names come in lower case from Envoy; values are bytes, never decoded, because a client may send any.
//! The form: a little-endian `u32` count, the `u32` sizes of each name and value, then each name and value followed by a NUL.

mod name;

pub use name::HeaderName;
pub(crate) use name::is_token_byte;

/// What is done to a stream: a change of a header map, as a rule. Names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// One line with this value, in place of every line of the name.
    Set(&'a str, Vec<u8>),
    /// One line more.
    Add(&'a str, Vec<u8>),
    /// No line of the name.
    Remove(&'a str),
    /// What the access log is told (`%FILTER_STATE(wasm.mooring:PLAIN)%`).
    Log(String),
}

/// Names to [select](Headers::select) lines by, in lower case.
#[derive(Clone, Debug)]
pub struct HeaderNames {
    names: Vec<Box<[u8]>>,
    /// A bit for each length, modulo 64: most lines have a name of none of them.
    lengths: u64,
}

impl HeaderNames {
    /// These names.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let names: Vec<Box<[u8]>> = names.into_iter().map(|name| name.as_bytes().into()).collect();
        let lengths = names.iter().fold(0, |lengths, name| lengths | Self::bit(name.len()));
        Self { names, lengths }
    }

    fn bit(length: usize) -> u64 {
        1_u64.wrapping_shl(u32::try_from(length).unwrap_or_default())
    }
}

/// A header map, checked once when it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    serialized: Vec<u8>,
}

impl Headers {
    /// Takes a serialized map. `None` when its sizes do not fit its bytes.
    pub fn new(serialized: Vec<u8>) -> Option<Self> {
        if serialized.is_empty() {
            return Some(Self { serialized });
        }
        let (count, rest) = u32_at(&serialized)?;
        let (sizes, data) = rest.split_at_checked(count.checked_mul(8)?)?;
        let (sizes, _) = sizes.as_chunks();
        // Each name and value has a NUL behind it. (So many sizes as fit a memory do not overflow their sum.)
        let size = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes)).wrapping_add(1);
        let told = sizes.iter().fold(0_u64, |sum, bytes| sum.wrapping_add(size(bytes)));
        (usize::try_from(told) == Ok(data.len())).then_some(Self { serialized })
    }

    /// Serializes `pairs` as a proxy would.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut sizes = Vec::new();
        let mut data = Vec::new();
        let mut count: u32 = 0;
        for (name, value) in pairs {
            count = count.saturating_add(1);
            for part in [name, value] {
                sizes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
                data.extend_from_slice(part);
                data.push(0);
            }
        }
        let mut serialized = count.to_le_bytes().to_vec();
        serialized.append(&mut sizes);
        serialized.append(&mut data);
        Self { serialized }
    }

    /// The serialized map.
    pub fn as_bytes(&self) -> &[u8] {
        &self.serialized
    }

    /// Every line of the map, in order: name and value.
    pub fn iter(&self) -> Iter<'_> {
        let (count, rest) = u32_at(&self.serialized).unwrap_or((0, &[]));
        let (sizes, data) = rest.split_at_checked(count.saturating_mul(8)).unwrap_or((&[], &[]));
        Iter { sizes, data }
    }

    /// The lines that have one of these names (lower case), in order: which of them, and the value. Quicker than to look at every
    /// line, because most names differ in length already.
    pub fn select<'a>(&'a self, names: &HeaderNames, mut found: impl FnMut(usize, &'a [u8])) {
        let Iter { sizes, data } = self.iter();
        let HeaderNames { names, lengths } = names;
        let mut start: usize = 0;
        for [a, b, c, d, e, f, g, h] in sizes.as_chunks().0 {
            let name_size = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let value = start.wrapping_add(name_size).wrapping_add(1);
            let end = value.wrapping_add(u32::from_le_bytes([*e, *f, *g, *h]) as usize);
            if lengths & HeaderNames::bit(name_size) != 0
                && let Some(name) = data.get(start..value.wrapping_sub(1))
                && let Some(which) = names.iter().position(|known| **known == *name)
                && let Some(value) = data.get(value..end)
            {
                found(which, value);
            }
            start = end.wrapping_add(1);
        }
    }

    /// The values of every line called `name` (lower case), in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }
}

/// The elements of a line that is a list (RFC 9110, section 5.6.1), without those that are empty.
pub(crate) fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Iterator over the lines of [`Headers`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    sizes: &'a [u8],
    data: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_size, sizes) = u32_at(self.sizes)?;
        let (value_size, sizes) = u32_at(sizes)?;
        let (name, data) = terminated(self.data, name_size)?;
        let (value, data) = terminated(data, value_size)?;
        *self = Self { sizes, data };
        Some((name, value))
    }
}

fn u32_at(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*size)).ok()?, rest))
}

fn terminated(data: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (value, rest) = data.split_at_checked(size)?;
    let (_nul, rest) = rest.split_first()?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const PAIRS: [(&[u8], &[u8]); 4] = [(b":path", b"/"), (b"cookie", b"a=\xff"), (b"x", b""), (b"cookie", b"b=2")];

    #[test]
    fn a_map_keeps_every_line_and_every_byte_in_order() {
        let headers = Headers::from_pairs(PAIRS);
        assert_eq!(Headers::new(headers.serialized.clone()), Some(headers.clone()));
        assert_eq!(headers.iter().collect::<Vec<_>>(), PAIRS);
        assert_eq!(headers.values("cookie").collect::<Vec<_>>(), [&b"a=\xff"[..], b"b=2"]);
        let mut selected = Vec::new();
        headers.select(&HeaderNames::new(["x", "cookie", ":part"]), |which, value| selected.push((which, value)));
        assert_eq!(selected, [(1, &b"a=\xff"[..]), (0, b""), (1, b"b=2")]);
    }

    #[test]
    fn a_map_that_is_cut_anywhere_or_lies_about_its_sizes_is_refused() {
        let whole = Headers::from_pairs(PAIRS).serialized;
        for length in 1..whole.len() {
            assert_eq!(Headers::new(whole[..length].to_vec()), None, "cut at {length}");
        }
        for lie in [u32::MAX, 99, i32::MAX.unsigned_abs()] {
            for place in [0..4, 4..8, 8..12] {
                let mut bytes = whole.clone();
                bytes[place].copy_from_slice(&lie.to_le_bytes());
                assert_eq!(Headers::new(bytes), None);
            }
        }
    }

    #[test]
    fn no_bytes_are_an_empty_map() {
        assert_eq!(Headers::new(Vec::new()).map(|headers| headers.iter().count()), Some(0));
    }
}
