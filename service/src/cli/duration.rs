//! Spans of time as people write and read them.

use std::time::Duration;

/// The units of an argument, each with its milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// The text is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationError {
    /// A number alone could mean seconds or milliseconds.
    #[error("{0} of what? Add a unit, such as {0}s or {0}ms")]
    UnitMissing(String),
    /// It is no whole number with a unit.
    #[error("a time is a whole number and a unit, ms, s, m or h, such as 15s, 500ms, 2m or 1h")]
    Malformed,
    /// It is longer than anything that is counted here.
    #[error("that is too long")]
    TooLong,
}

/// Reads an argument such as `15s`, `500ms`, `2m` or `1h`.
///
/// # Errors
/// [`DurationError`] says how to write it.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::Malformed);
    }
    if unit.is_empty() {
        return Err(DurationError::UnitMissing(number.to_owned()));
    }
    let (_, unit_ms) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(DurationError::Malformed)?;
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or(DurationError::TooLong)
}

/// How long something has lasted, in two units at most: `850ms`, `41s`, `2m5s`, `3h0m`, `2d4h`.
pub(super) fn brief(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        86_400.. => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        assert_eq!(parse("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_bare_number_is_refused_with_a_hint() {
        let error = parse("15").unwrap_err();
        assert_eq!(error, DurationError::UnitMissing("15".to_owned()));
        assert_eq!(error.to_string(), "15 of what? Add a unit, such as 15s or 15ms");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "s", "-1s", "1.5s", "1 s", "1d", "1S", "10s5"] {
            assert_eq!(parse(text), Err(DurationError::Malformed), "{text:?}");
        }
        assert_eq!(parse("99999999999999999999s"), Err(DurationError::TooLong));
        assert_eq!(parse("18446744073709551615h"), Err(DurationError::TooLong));
    }

    #[test]
    fn a_span_is_shown_in_two_units_at_most() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (125_000, "2m5s"),
            (10_800_000, "3h0m"),
            (187_200_000, "2d4h"),
        ] {
            assert_eq!(brief(millis), text);
        }
    }
}
