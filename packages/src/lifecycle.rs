//! The states of a package that an operator decides, and which may follow which.
//!
//! ```text
//! verified ──▶ installed ──▶ active ◀──▶ disabled
//!                   └───────────────────────▲
//! ```
//! Pure. What runs is another matter, and has another word ([`protocol::package::PackageRun`]): a package that is active
//! may have failed, and one that is disabled has stopped, or will in a moment.

use protocol::package::PackageStatus;

/// Why a change is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// That state does not follow this one.
    #[error("a package that is {} cannot become {}", word(*from), word(*to))]
    NoSuchStep {
        /// What it is.
        from: PackageStatus,
        /// What it should become.
        to: PackageStatus,
    },
    /// Its record cannot be trusted any more; all that is left to do is to disable it, or to remove it.
    #[error("its bundle cannot be used: {0}")]
    Stale(String),
}

/// Whether `to` may follow `from`. `stale` says why its bundle cannot be used, where that is so: such a package can be
/// disabled, whatever it is, and nothing else.
///
/// # Errors
/// Why not.
pub fn step(from: PackageStatus, to: PackageStatus, stale: Option<&str>) -> Result<(), Refused> {
    use PackageStatus::{Active, Disabled, Installed, Verified};
    match (from, to) {
        (Installed | Active, Disabled) => Ok(()),
        (Verified, Installed) | (Installed | Disabled, Active) => match stale {
            None => Ok(()),
            Some(reason) => Err(Refused::Stale(reason.to_owned())),
        },
        _ => Err(Refused::NoSuchStep { from, to }),
    }
}

/// As people say it.
#[must_use]
pub fn word(status: PackageStatus) -> &'static str {
    match status {
        PackageStatus::Verified => "verified",
        PackageStatus::Installed => "installed",
        PackageStatus::Active => "active",
        PackageStatus::Disabled => "disabled",
    }
}

/// From [`word`].
pub(crate) fn parse(word: &str) -> Option<PackageStatus> {
    use PackageStatus::{Active, Disabled, Installed, Verified};
    [Verified, Installed, Active, Disabled].into_iter().find(|status| self::word(*status) == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PackageStatus::{Active, Disabled, Installed, Verified};

    #[test]
    fn p4_only_five_steps_are_there() {
        let all = [Verified, Installed, Active, Disabled];
        let steps: Vec<_> = all
            .iter()
            .flat_map(|from| all.map(|to| (*from, to)))
            .filter(|(from, to)| step(*from, *to, None).is_ok())
            .collect();
        let expected = [
            (Verified, Installed),
            (Installed, Active),
            (Installed, Disabled),
            (Active, Disabled),
            (Disabled, Active),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn p4_a_stale_record_can_be_disabled_and_not_activated() {
        for from in [Installed, Active] {
            assert_eq!(step(from, Disabled, Some("gone")), Ok(()));
        }
        for from in [Installed, Disabled] {
            assert_eq!(step(from, Active, Some("gone")), Err(Refused::Stale("gone".to_owned())));
        }
    }
}
