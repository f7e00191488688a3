//! Properties of a scope that an annotation asks for: `org.systemd.property.NAME` and a value as text.
//!
//! Source: runc's `docs/systemd.md`; GVariant's text format, as far as systemd's properties are of these types. A name that
//! ends in `Sec` is in seconds, and systemd's own, `USec`, in microseconds.

use super::bus::Value;
use crate::error::{Error, Result};

/// What the name of such an annotation begins with.
const PREFIX: &str = "org.systemd.property.";

/// The property that an annotation asks for, if it does.
///
/// # Errors
/// [`Error::Name`] for a name that is none, or a value of no such type.
pub fn property(annotation: &str, value: &str) -> Option<Result<(String, Value)>> {
    let name = annotation.strip_prefix(PREFIX)?;
    let bad = || Error::Name { name: format!("{annotation}={value}") };
    let plain = name.len() > 2 && name.chars().all(|c| c.is_ascii_alphanumeric());
    let read = || {
        let value = read(value.trim())?;
        let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) else {
            return Some((name.to_owned(), value));
        };
        let seconds = match value {
            Value::Number(seconds) => seconds,
            Value::Unsigned(seconds) => seconds.into(),
            Value::Signed(seconds) => u64::try_from(seconds).ok()?,
            _ => return None,
        };
        Some((format!("{stem}USec"), Value::Number(seconds.checked_mul(1_000_000)?)))
    };
    Some(if plain { read().ok_or_else(bad) } else { Err(bad()) })
}

fn read(text: &str) -> Option<Value> {
    let quoted = |text: &str| {
        let inner = ['\'', '"'].into_iter().find_map(|mark| text.strip_prefix(mark)?.strip_suffix(mark))?;
        // What would need more than this to be read is refused.
        (!inner.contains(['\'', '"', '\\', '\0'])).then(|| inner.to_owned())
    };
    if let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let all = list.split(',').map(|one| quoted(one.trim()));
        return all.collect::<Option<_>>().map(Value::Texts);
    }
    match (text, text.split_once(' ').map(|(typ, rest)| (typ, rest.trim()))) {
        ("true", _) => Some(Value::Flag(true)),
        ("false", _) => Some(Value::Flag(false)),
        (_, Some(("boolean", flag))) => flag.parse().ok().map(Value::Flag),
        (_, Some(("uint64", number))) => number.parse().ok().map(Value::Number),
        (_, Some(("uint32", number))) => number.parse().ok().map(Value::Unsigned),
        (_, Some(("int32", number))) => number.parse().ok().map(Value::Signed),
        _ => quoted(text).map(Value::Text).or_else(|| text.parse().ok().map(Value::Signed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_properties_of_a_scope_are_read_as_runc_reads_them() {
        let read = |name: &str, value: &str| property(&format!("{PREFIX}{name}"), value).unwrap();
        let is = |name: &str, value: &str, other: &str, expected: Value| {
            assert_eq!(read(name, value).unwrap(), (other.to_owned(), expected));
        };
        is("TimeoutStopUSec", "uint64 123", "TimeoutStopUSec", Value::Number(123));
        is("TimeoutStopSec", "5", "TimeoutStopUSec", Value::Number(5_000_000));
        is("CollectMode", "'inactive-or-failed'", "CollectMode", Value::Text("inactive-or-failed".into()));
        is("KillSignal", "int32 15", "KillSignal", Value::Signed(15));
        is("SendSIGHUP", "true", "SendSIGHUP", Value::Flag(true));
        is(
            "After",
            "['a.service', \"b.service\"]",
            "After",
            Value::Texts(vec!["a.service".into(), "b.service".into()]),
        );
        for (name, value) in
            [("X", "1"), ("Kill Mode", "'x'"), ("KillMode", "'a'b'"), ("KillMode", "mixed"), ("ASec", "'x'")]
        {
            assert!(matches!(read(name, value), Err(Error::Name { .. })), "{name} {value}");
        }
        assert!(property("org.example", "x").is_none());
    }
}
