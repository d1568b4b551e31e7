//! `Cache-Control` of a response (RFC 9111, section 5.2): is it kept out of shared caches already?

/// Whether one of the `lines` of a response says `private` for the whole response, or `no-store`.
/// `private="field"` speaks of that field alone and does not count.
pub(crate) fn is_private<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> bool {
    lines.into_iter().any(|line| directives(line).any(keeps_out_shared_caches))
}

fn keeps_out_shared_caches(directive: &[u8]) -> bool {
    let directive = directive.trim_ascii();
    directive.eq_ignore_ascii_case(b"private") || directive.eq_ignore_ascii_case(b"no-store")
}

/// Splits at commas that do not stand within double quotes.
fn directives(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn private_and_no_store_are_strict_enough() {
        for lines in [
            vec![&b"private"[..]],
            vec![b"no-store"],
            vec![b"max-age=60, Private"],
            vec![b"public", b" \tNO-STORE "],
            vec![b"no-cache=\"a, b\", private"],
        ] {
            assert!(is_private(lines.clone()), "{lines:?}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for lines in [
            vec![],
            vec![&b""[..]],
            vec![b"public, max-age=60"],
            vec![b"no-cache"],
            vec![b"private=\"set-cookie\""],
            vec![b"no-cache=\"a, private, b\""],
            vec![b"x-private", b"\xff"],
        ] {
            assert!(!is_private(lines.clone()), "{lines:?}");
        }
    }
}
