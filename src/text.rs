//! Text put together without a path that panics.
//!
//! [`base64`], [`json`] and [`words`] (closed sets of them) are here too.

pub(crate) mod base64;
pub(crate) mod json;
pub(crate) mod words;

/// The words one after the other. (The standard library's `concat` of strings panics where a length overflows.)
pub(crate) fn concat(words: &[&str]) -> String {
    joined(words, "")
}

/// A number in decimal digits. (The standard library's `to_string` panics where formatting fails.)
pub(crate) fn decimal(number: impl Into<u64>) -> String {
    let mut text = Vec::new();
    push_decimal(&mut text, number);
    String::from_utf8(text).unwrap_or_default()
}

/// Writes a number in decimal digits at the end of a text.
pub(crate) fn push_decimal(text: &mut Vec<u8>, number: impl Into<u64>) {
    let mut rest = number.into();
    let mut digits = [0; 20];
    let mut count: usize = 0;
    for place in &mut digits {
        *place = b'0'.wrapping_add(u8::try_from(rest % 10).unwrap_or_default());
        count = count.saturating_add(1);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits.iter().take(count).rev().for_each(|digit| text.push(*digit));
}

/// The words with `separator` between them. (The standard library's `join` panics where a length overflows.)
pub(crate) fn joined<T: AsRef<str>>(words: impl IntoIterator<Item = T>, separator: &str) -> String {
    let mut joined = String::new();
    for (at, word) in words.into_iter().enumerate() {
        joined.push_str(if at == 0 { "" } else { separator });
        joined.push_str(word.as_ref());
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 99, 100, 3600, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(decimal(number), number.to_string());
        }
    }

    #[test]
    fn words_are_joined_by_what_stands_between_them() {
        assert_eq!(joined([""; 0], ", "), "");
        assert_eq!(concat(&["a", "", "bc"]), "abc");
        assert_eq!(joined(["a"], ", "), "a");
        assert_eq!(joined(["a", "", "c"], ", "), "a, , c");
    }
}
