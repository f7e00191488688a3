//! The kernel's list format for processors and memory nodes: `0-3,5` (`cpuset(7)`, "List format").

use std::collections::BTreeSet;

/// No machine has more; a range beyond it is a mistake, and not worth the memory of a set.
const MOST: u32 = 8192;

/// Parses a list. An empty one is an empty set.
pub(crate) fn parse(text: &str) -> Result<BTreeSet<u32>, String> {
    let mut set = BTreeSet::new();
    for part in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .parse::<u32>()
                .ok()
                .filter(|&number| plain && number < MOST)
                .ok_or_else(|| format!("{part:?} is no number or range"))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{part:?} is no range upwards"));
        }
        set.extend(first..=last);
    }
    Ok(set)
}

/// Writes a set in the same format.
pub(crate) fn format(set: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in set {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let words = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_and_single_numbers_are_read() {
        assert_eq!(parse("0-2,5\n").unwrap(), BTreeSet::from([0, 1, 2, 5]));
        assert_eq!(parse("").unwrap(), BTreeSet::new());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in ["a", "1-", "-1", "3-1", "0,,1", "0-99999999", "+1", "1 2", "0-1:2"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(set in proptest::collection::btree_set(0_u32..300, 0..40)) {
            prop_assert_eq!(parse(&format(&set)).unwrap(), set);
        }
    }
}
