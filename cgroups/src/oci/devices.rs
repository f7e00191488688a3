//! Which devices a container may use. In order: the last rule that matches decides.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Result};

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    /// `c`, `b`, or both.
    pub(super) kind: Option<char>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) mknod: bool,
}

/// What every container may use: nodes may be made, and those of the runtime spec's default devices and of terminals
/// be opened.
const DEFAULT: [(Option<u32>, Option<u32>); 8] = [
    (Some(1), Some(3)),
    (Some(1), Some(5)),
    (Some(1), Some(7)),
    (Some(1), Some(8)),
    (Some(1), Some(9)),
    (Some(5), Some(0)),
    (Some(5), Some(2)),
    (Some(136), None),
];

/// Nothing, then what the Spec says, then what every container needs.
pub(super) fn rules(asked: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules = vec![Rule::all(false)];
    for rule in asked {
        rules.push(read(rule)?);
    }
    for kind in ['c', 'b'] {
        rules.push(Rule { kind: Some(kind), read: false, write: false, ..Rule::all(true) });
    }
    rules.extend(DEFAULT.map(|(major, minor)| Rule { kind: Some('c'), major, minor, ..Rule::all(true) }));
    Ok(rules)
}

fn read(rule: &LinuxDeviceCgroup) -> Result<Rule> {
    let bad = |field: &str, value: String| {
        Error::invalid(format!("devices.{field}"), format!("{value} makes no sense"))
    };
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some('c'),
        Some(LinuxDeviceType::B) => Some('b'),
        Some(LinuxDeviceType::P) => return Err(bad("type", "p".into())),
    };
    let number = |field, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(bad(field, value.to_string())),
        },
    };
    let access = rule.access().as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    if !access.bytes().all(|byte| b"rwm".contains(&byte)) {
        return Err(bad("access", format!("{access:?}")));
    }
    let has = |letter| access.contains(letter);
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        read: has('r'),
        write: has('w'),
        mknod: has('m'),
    })
}

impl Rule {
    fn all(allow: bool) -> Self {
        Self { allow, kind: None, major: None, minor: None, read: true, write: true, mknod: true }
    }

    /// The file of the v1 controller, and what is written to it.
    pub(super) fn v1(&self) -> (&'static str, String) {
        let file = if self.allow { "devices.allow" } else { "devices.deny" };
        let Some(kind) = self.kind else { return (file, "a".to_owned()) };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let letters = [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')];
        let access: String = letters.into_iter().filter(|(has, _)| *has).map(|(_, letter)| letter).collect();
        (file, format!("{kind} {}:{} {access}", number(self.major), number(self.minor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_a_container_begins_with_no_device_but_those_that_each_has() {
        let rules = rules(&[]).unwrap();
        assert_eq!(rules[0].v1(), ("devices.deny", "a".to_owned()));
        assert_eq!(rules[1].v1(), ("devices.allow", "c *:* m".to_owned()));
        assert!(rules.iter().any(|rule| rule.v1().1 == "c 136:* rwm"));
    }
}
