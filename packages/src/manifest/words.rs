//! The words that a manifest is made of: ids, names, lines of text, paths. Each is checked when it is read, so that
//! whoever holds one need not ask again, and none can carry what a terminal or a path would take for something else.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not the word it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no {what}: {rule}")]
pub struct NotAWord {
    /// What was given, cut where it is long.
    pub text: String,
    /// What it should be.
    pub what: &'static str,
    /// What that looks like.
    pub rule: &'static str,
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $pattern:literal, $longest:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(String);

        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAWord;

            fn from_str(text: &str) -> Result<Self, NotAWord> {
                if text.len() <= $longest && $check(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(NotAWord { text: text.chars().take(80).collect(), what: $what, rule: $rule })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schemars::json_schema!({
                    "type": "string", "description": $rule, "pattern": $pattern, "maxLength": $longest
                })
            }
        }
    };
}

word! {
    /// A package's identity: `notes`, `com.example.notes`.
    PackageId, "package id",
    "labels of a-z, 0-9 and - (not at their ends), joined by dots, 63 bytes at most",
    "^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$", 63, is_id
}
word! {
    /// A name within a package: of an entry, an image, a volume.
    Name, "name", "a-z, 0-9 and - (not at its ends), 63 bytes at most",
    "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", 63, is_label
}
word! {
    /// A line for people.
    Line, "line of text", "one line, not empty, without control characters, 500 bytes at most",
    "^[^\\p{Cc}]+$", 500, is_line
}
word! {
    /// A file or directory of the bundle.
    BundlePath, "path in a bundle",
    "names joined by /, without . and .., not absolute, 255 bytes at most", "^[^/]+(/[^/]+)*$", 255, is_bundle_path
}
word! {
    /// An absolute path, as package code sees it.
    AbsolutePath, "absolute path", "it begins with / and has no . or .., nothing twice, and no / at its end",
    "^/", 1024, is_absolute_path
}
word! {
    /// Where a connection may go: `api.example.com:443`, `192.0.2.7:5432`, `[2001:db8::1]:53`. No wildcards.
    HostPort, "host and port", "a host name in lower case, an IPv4 address or an [IPv6 address], then : and a port",
    "^.+:[0-9]{1,5}$", 261, is_host_port
}
word! {
    /// A host name.
    Domain, "domain", "a host name in lower case", "^[a-z0-9.-]+$", 253, is_host_name
}
word! {
    /// A group of keys in the store. Those that begin with `_` are the host's.
    Group, "group", "a-z, 0-9, - and _, not beginning with _, 63 bytes at most", "^[a-z0-9][a-z0-9_-]*$", 63, is_group
}
word! {
    /// A variable of the environment.
    Variable, "variable", "letters, digits and _, not beginning with a digit", "^[A-Za-z_][A-Za-z0-9_]*$", 255,
    is_variable
}

fn is_label(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

fn is_id(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// Nothing that moves the cursor, colours, ends the line or turns the direction of what stands around it.
pub(crate) fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().all(is_printable)
}

fn is_bundle_path(text: &str) -> bool {
    crate::bundle::path::judge(text.as_bytes()).is_ok()
}

fn is_absolute_path(text: &str) -> bool {
    text == "/"
        || text.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|name| !matches!(name, "" | "." | "..")) && rest.chars().all(is_printable)
        })
}

fn is_host_name(text: &str) -> bool {
    text.split('.').all(|label| is_label(label) && label.len() <= 63)
}

fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        // What looks like an address must be one: `1.2.3` and `0x7f.1` are addresses to some resolvers.
        None if host.rsplit('.').next().is_some_and(looks_numeric) => {
            host.parse::<std::net::Ipv4Addr>().is_ok()
        }
        None => is_host_name(host),
    };
    plain && port.parse::<u16>().is_ok() && host
}

fn looks_numeric(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_digit()) || label.starts_with("0x")
}

fn is_group(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    !text.is_empty() && !text.starts_with(['_', '-']) && text.bytes().all(plain)
}

fn is_variable(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty() && !text.starts_with(|first: char| first.is_ascii_digit()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p2_a_word_that_could_be_taken_for_something_else_is_refused() {
        for bad in ["", "A", "-a", "a-", "a..b", ".a", "a/b", "../a", "a b", "a\n", "é", &"a".repeat(64)] {
            assert!(bad.parse::<PackageId>().is_err(), "{bad:?}");
        }
        for bad in ["a\nb", "a\x1b[31mb", "", "  ", "a\u{202e}b", "a\u{200b}b"] {
            assert!(bad.parse::<Line>().is_err(), "{bad:?}");
        }
        for bad in ["a", "a/../b", "//", "/a/", "/a//b", "/..", "/./a", "/a\0b"] {
            assert!(bad.parse::<AbsolutePath>().is_err(), "{bad:?}");
        }
        for bad in [
            "a",
            "a:",
            "a:0",
            "a:080",
            "a:65536",
            "*:80",
            "*.a:80",
            "A:80",
            "1.2.3:80",
            "0x7f.1:80",
            "a:80:80",
            "[::1:80",
            "::1:80",
            "a/b:80",
            "a@b:80",
            "256.1.1.1:80",
            "127.1:80",
        ] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad:?}");
        }
        for bad in ["_system", "-a", "", "A", "a.b"] {
            assert!(bad.parse::<Group>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn p2_words_as_people_write_them_are_accepted() {
        for good in ["notes", "com.example.notes", "hello-world", "a", "0"] {
            assert_eq!(good.parse::<PackageId>().map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for good in ["a.example:443", "192.0.2.1:80", "[2001:db8::1]:53", "localhost:1"] {
            assert!(good.parse::<HostPort>().is_ok(), "{good}");
        }
        for good in ["/", "/a", "/a/b.c", "/a/..b"] {
            assert!(good.parse::<AbsolutePath>().is_ok(), "{good}");
        }
    }
}
