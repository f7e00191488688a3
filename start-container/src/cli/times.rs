//! Points in time, as people write and read them.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};

use crate::subcontainer::now;

/// `2026-11-21T12:00:00Z`, seconds since the Unix epoch, or how long ago: `90s`, `10m`, `1h30m`, `2d`. In milliseconds
/// since the Unix epoch.
pub(super) fn parse(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("{text:?} is neither a time (2026-11-21T12:00:00Z) nor how long ago (10m)");
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return u64::try_from(time.timestamp_millis()).map_err(|_before| wrong());
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let time = Duration::try_from_secs_f64(seconds).map_err(|_no_time| wrong())?;
        return u64::try_from(time.as_millis()).map_err(|_late| wrong());
    }
    Ok(now().saturating_sub(parse_duration(text).ok_or_else(wrong)?))
}

/// `1h30m` in milliseconds.
fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let letters = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let factor = match &unit[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(factor)?)?;
        rest = &unit[letters..];
    }
    (!text.is_empty()).then_some(sum)
}

/// As RFC 3339 has it, with nanoseconds.
pub(super) fn format(nanoseconds: u64) -> String {
    let time = DateTime::from_timestamp_nanos(i64::try_from(nanoseconds).unwrap_or(i64::MAX));
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s28_times_are_read_and_written() {
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Ok(1500));
        assert_eq!(parse("1970-01-01T01:00:01+01:00"), Ok(1000));
        assert_eq!(parse("12.25"), Ok(12_250));
        assert_eq!(parse_duration("1h30m"), Some(5_400_000));
        let ago = parse("2d").unwrap();
        assert!((172_800_000..172_810_000).contains(&(now() - ago)));
        for wrong in ["", "x", "10", "m", "10w", "-1s", "1h-3m", "99999999999999999999d"] {
            assert!(parse_duration(wrong).is_none(), "{wrong}");
        }
        assert!(parse("yesterday").is_err() && parse("-5").is_err() && parse("1e300").is_err());
        assert_eq!(format(1_500_000_001), "1970-01-01T00:00:01.500000001Z");
    }
}
