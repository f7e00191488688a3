//! What a package was granted, and whether a call is within that. Pure.

use std::fmt;

use protocol::package::{Scope, Scopes};

use crate::capability::Capability;

/// What one call needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Need<'a> {
    /// The kind.
    pub capability: Capability,
    /// What of it.
    pub item: Item<'a>,
}

/// What of a capability a call needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Item<'a> {
    /// The capability: it has no scope, or the call reaches nothing of it that is not the package's already.
    Nothing,
    /// This one, word for word, in this field of the scope.
    One(&'static str, &'a str),
    /// This path, or one above it.
    Path(&'a str),
}

/// A grant that is not there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    capability: Capability,
    scope: Scope,
}

impl Missing {
    /// One item of one kind.
    #[must_use]
    pub fn one(capability: Capability, field: &str, item: &str) -> Self {
        Self { capability, scope: [(field.to_owned(), [item.to_owned()].into())].into() }
    }

    /// As `package.grant` has it.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        Scopes::from([(self.capability.name().to_owned(), self.scope.clone())])
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not granted: {}", self.capability.name())?;
        for item in self.scope.values().flatten() {
            // What package code has sent goes to terminals and logs.
            write!(f, " {}", item.escape_debug())?;
        }
        Ok(())
    }
}

/// What a package was granted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants(Scopes);

impl Grants {
    /// From the operator's decision.
    #[must_use]
    pub fn new(granted: Scopes) -> Self {
        Self(granted)
    }

    /// As they were granted.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.0
    }

    /// The items of a field that were granted.
    pub(crate) fn items(&self, capability: Capability, field: &str) -> impl Iterator<Item = &str> {
        let granted = self.0.get(capability.name()).and_then(|scope| scope.get(field));
        granted.into_iter().flatten().map(String::as_str)
    }

    /// Whether a call is granted. For a path: by which grant, the longest.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self, need: &Need<'_>) -> Result<Option<&str>, Missing> {
        let capability = need.capability;
        let granted = self.0.get(capability.name());
        let missing = |field: Option<(&str, &str)>| {
            let scope = field.map(|(field, item)| (field.to_owned(), [item.to_owned()].into()));
            Err(Missing { capability, scope: scope.into_iter().collect() })
        };
        match need.item {
            Item::Nothing if granted.is_some() => Ok(None),
            Item::Nothing => missing(None),
            Item::One(field, item) => {
                let has = granted.and_then(|scope| scope.get(field)).is_some_and(|has| has.contains(item));
                if has { Ok(None) } else { missing(Some((field, item))) }
            }
            Item::Path(path) => {
                let above = |granted: &&String| covers(granted, path);
                let paths = granted.and_then(|scope| scope.get("paths"));
                match paths.and_then(|paths| paths.iter().filter(above).max_by_key(|path| path.len())) {
                    Some(by) => Ok(Some(by)),
                    None => missing(Some(("paths", path))),
                }
            }
        }
    }
}

/// A path covers itself and what is beneath it, by directory boundary.
fn covers(granted: &str, path: &str) -> bool {
    granted == path || granted == "/" || path.strip_prefix(granted).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(json: &str) -> Grants {
        Grants::new(serde_json::from_str(json).unwrap())
    }

    fn kv(group: &str) -> Need<'_> {
        Need { capability: Capability::KvRead, item: Item::One("groups", group) }
    }

    fn file(path: &str) -> Need<'_> {
        Need { capability: Capability::FilesRead, item: Item::Path(path) }
    }

    #[test]
    fn b2_one_grant_of_a_kind_is_not_all_of_that_kind() {
        let grants = grants(r#"{"kv:read": {"groups": ["a"]}}"#);
        assert_eq!(grants.check(&kv("a")), Ok(None));
        assert!(grants.check(&kv("b")).is_err());
        assert!(
            grants.check(&Need { capability: Capability::KvWrite, item: Item::One("groups", "a") }).is_err()
        );
    }

    #[test]
    fn b4_an_empty_list_denies_all() {
        for empty in ["{}", r#"{"files:read": {}}"#, r#"{"files:read": {"paths": []}}"#] {
            assert!(grants(empty).check(&file("/a")).is_err(), "{empty}");
        }
    }

    #[test]
    fn b4_a_path_is_granted_by_directory_boundary_and_by_the_longest_grant() {
        let grants = grants(r#"{"files:read": {"paths": ["/a", "/a/b"]}}"#);
        assert_eq!(grants.check(&file("/a/b/c")), Ok(Some("/a/b")));
        assert_eq!(grants.check(&file("/a/bc")), Ok(Some("/a")));
        for outside in ["/ab", "/", "/b/a"] {
            assert!(grants.check(&file(outside)).is_err(), "{outside}");
        }
    }

    #[test]
    fn b9_an_error_names_exactly_what_is_missing() {
        let missing = grants("{}").check(&kv("settings")).unwrap_err();
        assert_eq!(missing.to_string(), "not granted: kv:read settings");
        assert_eq!(
            serde_json::to_string(&missing.scopes()).unwrap(),
            r#"{"kv:read":{"groups":["settings"]}}"#
        );
        let hidden = grants("{}").check(&kv("a\u{1b}[2J\u{202e}")).unwrap_err().to_string();
        assert!(!hidden.chars().any(|one| one.is_control() || one == '\u{202e}'), "{hidden}");
    }
}
