//! Durations as the config writes them: `500ms`, `30s`, `15m`, `8h`, `7d`.

use std::time::Duration;

/// What is accepted, for error messages.
pub const FORM: &str = "a duration: a whole number and ms, s, m, h or d, as in 500ms, 30s, 15m, 8h, 7d";

/// Reads a duration. `None` for any other form, or one that does not fit 64 bits of milliseconds.
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?))
}

/// Writes a duration in its largest whole unit.
pub fn show(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    match whole.and_then(|(unit, name)| Some((millis.checked_div(*unit)?, name))) {
        Some((number, name)) => format!("{number}{name}"),
        None if millis == 0 => "0s".into(),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, millis) in
            [("0s", 0), ("500ms", 500), ("30s", 30_000), ("15m", 900_000), ("8h", 28_800_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
        assert_eq!(show(Duration::from_secs(120)), "2m");
        assert_eq!(parse("007s"), Some(Duration::from_secs(7)));
    }

    #[test]
    fn anything_else_is_no_duration() {
        for text in ["", "s", "30", "30 s", " 30s", "1.5h", "-1s", "1S", "1h30m", "1w", "99999999999999999999s", "９s"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("18446744073709551615d"), None);
    }
}
