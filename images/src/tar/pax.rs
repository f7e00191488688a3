//! Records of pax extended headers: `LENGTH KEY=VALUE\n`.

/// Key and value.
type Record<'b> = (&'b [u8], &'b [u8]);

/// The next record and the rest; `None` where it is malformed.
fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = number(&bytes[..space])?.try_into().ok()?;
    let (record, rest) = (bytes.get(space + 1..length)?, bytes.get(length..)?);
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), rest))
}

/// All records in order; `None` where one is malformed.
pub(super) fn records(mut bytes: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (next, rest) = record(bytes)?;
        records.push(next);
        bytes = rest;
    }
    Some(records)
}

/// A decimal number without sign.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A time: seconds with an optional sign and fraction. Nanoseconds count upwards also before 1970.
pub(super) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(number(parts.next()?)?).ok()?;
    let nanoseconds = match parts.next() {
        None | Some([]) => 0,
        Some(fraction) => {
            let mut digits = fraction.to_vec();
            digits.resize(9, b'0');
            if !fraction.iter().all(u8::is_ascii_digit) {
                return None;
            }
            u32::try_from(number(&digits)?).ok()?
        }
    };
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_a_lying_length_is_no_record() {
        assert_eq!(records(b"9 path=a\n"), Some(vec![(&b"path"[..], &b"a"[..])]));
        for bad in [
            &b"99 path=a\n"[..],
            b"8 path=a\n",
            b" path=a\n",
            b"3 path=a\n",
            b"0 path=a\n",
            b"9 path=a",
            b"-9 path=a\n",
            b"7 path\n",
        ] {
            assert_eq!(records(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn i1_times_keep_fractions_and_signs() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"7"), Some((7, 0)));
        assert_eq!(time(b"1.x"), None);
    }
}
