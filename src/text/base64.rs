//! Base64 (RFC 4648): canonical, and without a path that panics (`docs/decisions/0008-what-can-trap-is-listed.md`).

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// More than any symbol is worth.
const NONE: u8 = 0xff;

/// What each byte is worth as a symbol of base64url. Made by the compiler, which would refuse an index out of bounds.
#[allow(clippy::indexing_slicing)]
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 64 {
        values[URL_SAFE[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Base64url without padding (section 5).
pub(crate) fn url_safe(bytes: &[u8]) -> String {
    encode(bytes, URL_SAFE)
}

/// Base64 with padding (section 4).
pub(crate) fn standard(bytes: &[u8]) -> String {
    let mut text = encode(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// Reads base64url without padding. `None` for any other form: there is one text for each sequence of bytes.
pub(crate) fn from_url_safe(text: &[u8]) -> Option<Vec<u8>> {
    let groups = text.chunks_exact(4);
    let last = groups.remainder();
    let mut bytes = vec![0; groups.len().saturating_mul(3)];
    let mut seen = 0;
    for (symbols, bytes) in groups.zip(bytes.chunks_exact_mut(3)) {
        if let (&[a, b, c, d], [x, y, z]) = (symbols, bytes) {
            [*x, *y, *z] = group([a, b, c, d], &mut seen);
        }
    }
    // What is left over of the last symbol is zero, or two texts would mean the same.
    match *last {
        [] => {}
        [a, b] => match group([a, b, b'A', b'A'], &mut seen) {
            [first, 0, 0] => bytes.push(first),
            _ => return None,
        },
        [a, b, c] => match group([a, b, c, b'A'], &mut seen) {
            [first, second, 0] => bytes.extend_from_slice(&[first, second]),
            _ => return None,
        },
        _ => return None,
    }
    (seen < 64).then_some(bytes)
}

/// What four symbols stand for; `seen` is then more than any symbol is worth, if one of them is none.
fn group(symbols: [u8; 4], seen: &mut u8) -> [u8; 3] {
    // (`map` over an array is not inlined where the compiler looks for size, and takes five times as long.)
    let value = |symbol: u8| VALUES.get(usize::from(symbol)).copied().unwrap_or(NONE);
    let [a, b, c, d] = symbols;
    let (a, b, c, d) = (value(a), value(b), value(c), value(d));
    *seen |= a | b | c | d;
    let bits = u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d);
    let [_, bytes @ ..] = bits.to_be_bytes();
    bytes
}

/// Reads base64 of either alphabet, with padding or without.
pub(crate) fn from_any(text: &[u8]) -> Option<Vec<u8>> {
    let whole = text.len().is_multiple_of(4);
    let unpadded = [&b"=="[..], b"="].iter().find_map(|padding| text.strip_suffix(*padding).filter(|_| whole));
    let text = unpadded.unwrap_or(text);
    if text.iter().any(|symbol| b"-_".contains(symbol)) {
        return from_url_safe(text);
    }
    let safe = text.iter().map(|symbol| match symbol {
        b'+' => b'-',
        b'/' => b'_',
        other => *other,
    });
    from_url_safe(&safe.collect::<Vec<u8>>())
}

fn encode(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    // Six bits: always within the alphabet.
    let symbol = |bits: u32| alphabet.get((bits & 0x3f) as usize).copied().unwrap_or_default();
    let symbols = |[a, b, c]: [u8; 3]| {
        let bits = u32::from(a) << 16 | u32::from(b) << 8 | u32::from(c);
        [symbol(bits >> 18), symbol(bits >> 12), symbol(bits >> 6), symbol(bits)]
    };
    let (groups, last) = bytes.as_chunks();
    // With room for what is left over, and for padding.
    let mut text = Vec::with_capacity(groups.len().saturating_add(1).saturating_mul(4));
    text.resize(groups.len().saturating_mul(4), 0);
    for (text, group) in text.as_chunks_mut().0.iter_mut().zip(groups) {
        *text = symbols(*group);
    }
    match *last {
        [a] => text.extend(symbols([a, 0, 0]).iter().take(2)),
        [a, b] => text.extend(symbols([a, b, 0]).iter().take(3)),
        _ => {}
    }
    String::from_utf8(text).unwrap_or_default()
}
#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// RFC 4648, section 10.
    const VECTORS: [(&str, &str); 7] = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];

    #[test]
    fn the_vectors_of_the_rfc_hold() {
        for (plain, text) in VECTORS {
            let unpadded = text.trim_end_matches('=');
            assert_eq!(standard(plain.as_bytes()), text);
            assert_eq!(url_safe(plain.as_bytes()), unpadded);
            assert_eq!(from_url_safe(unpadded.as_bytes()).as_deref(), Some(plain.as_bytes()));
            for form in [text, unpadded] {
                assert_eq!(from_any(form.as_bytes()).as_deref(), Some(plain.as_bytes()), "{form}");
            }
        }
    }

    #[test]
    fn every_value_of_every_symbol_comes_back() {
        let bytes: Vec<u8> = (0..=255).rev().chain(0..=255).chain([0xfb, 0xff, 0xbf]).collect();
        for length in [bytes.len(), bytes.len() - 1, bytes.len() - 2] {
            let bytes = &bytes[..length];
            assert_eq!(from_url_safe(url_safe(bytes).as_bytes()).unwrap(), bytes);
            assert_eq!(from_any(standard(bytes).as_bytes()).unwrap(), bytes);
            assert_eq!(url_safe(bytes), standard(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_"));
        }
    }

    #[test]
    fn there_is_one_text_for_each_sequence_of_bytes() {
        // For each length of the last group, every pair of last symbols: as many texts are taken as there are values.
        let symbols = (0..=255).filter(|symbol| from_url_safe(&[b'A', b'A', b'A', *symbol]).is_some());
        let symbols: Vec<u8> = symbols.collect();
        assert_eq!(symbols.len(), 64);
        let taken = |prefix: &[u8]| {
            let pairs = symbols.iter().flat_map(|a| symbols.iter().map(move |b| (*a, *b)));
            pairs.filter(|(a, b)| from_url_safe(&[prefix, &[*a, *b]].concat()).is_some()).count()
        };
        assert_eq!(taken(b""), 256, "one byte");
        assert_eq!(taken(b"A"), 16 * 64, "the end of two bytes");
        assert_eq!(taken(b"AA"), 64 * 64, "the end of three bytes");
    }

    #[test]
    fn any_other_form_is_refused() {
        for text in ["A", "AAAAA", "AA==", "AA=", "A===", "AA+A", "AA/A", "AA A", "AAA\n", "AA\u{e9}", "=", "AAA="] {
            assert_eq!(from_url_safe(text.as_bytes()), None, "{text:?}");
        }
        for text in ["A", "AA=", "A===", "AAAA=", "AAAA==", "====", "+-AA", "_/AA", "AB==", "AAB="] {
            assert_eq!(from_any(text.as_bytes()), None, "{text:?}");
        }
    }
}
