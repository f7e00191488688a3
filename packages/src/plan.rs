//! Who needs whom: which versions fit, in which order packages start, what a failure takes along. Pure.

use std::collections::{BTreeMap, BTreeSet};

use semver::{Version, VersionReq};

use crate::manifest::PackageId;

/// What a package needs of others.
pub type Needs = BTreeMap<PackageId, VersionReq>;

/// Who needs what, where it does not fit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// Who.
    pub who: PackageId,
    /// Needs whom.
    pub needs: PackageId,
    /// In which versions.
    pub range: VersionReq,
    /// What there is: another version, or none.
    pub found: Option<Version>,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { who, needs, range, found } = self;
        match found {
            Some(found) => write!(f, "{who} needs {needs} {range}, not {found}"),
            None => write!(f, "{who} needs {needs} {range}, which is not active"),
        }
    }
}

/// What `who` needs and does not find among what is there.
#[must_use]
pub fn unmet(who: &PackageId, needs: &Needs, there: &BTreeMap<PackageId, Version>) -> Vec<Conflict> {
    needs
        .iter()
        .filter(|(id, range)| !there.get(*id).is_some_and(|version| range.matches(version)))
        .map(|(id, range)| Conflict {
            who: who.clone(),
            needs: id.clone(),
            range: range.clone(),
            found: there.get(id).cloned(),
        })
        .collect()
}

/// Of those that are there, who would lose what they need if `id` became `version`, or went away.
#[must_use]
pub fn hurt(id: &PackageId, version: Option<&Version>, others: &BTreeMap<PackageId, Needs>) -> Vec<Conflict> {
    others
        .iter()
        .filter(|(who, _)| *who != id)
        .filter_map(|(who, needs)| Some((who, needs.get(id)?)))
        .filter(|(_, range)| !version.is_some_and(|version| range.matches(version)))
        .map(|(who, range)| Conflict {
            who: who.clone(),
            needs: id.clone(),
            range: range.clone(),
            found: version.cloned(),
        })
        .collect()
}

/// The order in which to start: whoever is needed before whoever needs them; by id where it does not matter. Those that
/// need each other in a circle, and those who need these, come last: they find what they need missing, and say so.
/// Shutdown is the reverse.
#[must_use]
pub fn order(packages: &BTreeMap<PackageId, Needs>) -> Vec<PackageId> {
    let mut order = Vec::with_capacity(packages.len());
    let mut waiting: BTreeMap<&PackageId, usize> = BTreeMap::new();
    let mut needed_by: BTreeMap<&PackageId, Vec<&PackageId>> = BTreeMap::new();
    let mut ready = BTreeSet::new();
    for (id, needs) in packages {
        let known: Vec<_> = needs.keys().filter(|needed| packages.contains_key(*needed)).collect();
        if known.is_empty() {
            ready.insert(id);
        }
        waiting.insert(id, known.len());
        for needed in known {
            needed_by.entry(needed).or_default().push(id);
        }
    }
    while let Some(id) = ready.pop_first() {
        waiting.remove(id);
        order.push(id.clone());
        for dependent in needed_by.remove(id).unwrap_or_default() {
            if let Some(count) = waiting.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(dependent);
                }
            }
        }
    }
    order.extend(waiting.into_keys().cloned());
    order
}

/// Those that need `id`, those that need these, and so on: the ones to stop before it, in that order.
#[must_use]
pub fn dependents(id: &PackageId, packages: &BTreeMap<PackageId, Needs>) -> Vec<PackageId> {
    let mut found = BTreeSet::from([id]);
    loop {
        let more: Vec<_> = packages
            .iter()
            .filter(|(who, needs)| !found.contains(who) && needs.keys().any(|needed| found.contains(needed)))
            .map(|(who, _)| who)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let mut order = order(packages);
    order.retain(|one| one != id && found.contains(one));
    order.reverse();
    order
}

/// Does steps one after the other. When one fails, those done before are undone, the last one first.
///
/// # Errors
/// The failure of the step.
pub fn all_or_none<S, E>(
    steps: impl IntoIterator<Item = S>,
    mut start: impl FnMut(&S) -> Result<(), E>,
    mut stop: impl FnMut(&S),
) -> Result<(), E> {
    let mut done = Vec::new();
    for step in steps {
        if let Err(error) = start(&step) {
            for step in done.iter().rev() {
                stop(step);
            }
            return Err(error);
        }
        done.push(step);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: usize) -> PackageId {
        format!("p{number}").parse().unwrap()
    }

    proptest! {
        /// Without circles (each needs lower numbers only), everybody comes after whom they need; and nobody twice.
        #[test]
        fn p9_whoever_is_needed_starts_first(edges in proptest::collection::vec((0..20_usize, 0..20_usize), 0..60)) {
            let mut packages: BTreeMap<PackageId, Needs> = (0..20).map(|n| (id(n), Needs::new())).collect();
            for (a, b) in edges.into_iter().filter(|(a, b)| a != b) {
                packages.get_mut(&id(a.max(b))).unwrap().insert(id(a.min(b)), VersionReq::STAR);
            }
            let order = order(&packages);
            prop_assert_eq!(order.len(), 20);
            for (at, who) in order.iter().enumerate() {
                for needed in packages[who].keys() {
                    prop_assert!(order[..at].contains(needed), "{who} before {needed}");
                }
            }
            for who in packages.keys() {
                let stopped = dependents(who, &packages);
                for (at, one) in stopped.iter().enumerate() {
                    for later in &stopped[at + 1..] {
                        prop_assert!(!packages[later].contains_key(one), "{later} stops after {one}, which it needs");
                    }
                }
            }
        }

        /// With circles nobody is lost and nothing hangs.
        #[test]
        fn p9_a_circle_loses_nobody(edges in proptest::collection::vec((0..8_usize, 0..8_usize), 0..30)) {
            let mut packages: BTreeMap<PackageId, Needs> = (0..8).map(|n| (id(n), Needs::new())).collect();
            for (a, b) in edges {
                packages.get_mut(&id(a)).unwrap().insert(id(b), VersionReq::STAR);
            }
            let order: BTreeSet<_> = order(&packages).into_iter().collect();
            prop_assert_eq!(order.len(), 8);
        }

        #[test]
        fn p9_a_failed_step_undoes_those_before_it_in_reverse(count in 0..10_usize, fails in 0..12_usize) {
            let log = std::cell::RefCell::new(Vec::new());
            let start = |step: &usize| {
                if *step == fails { return Err("no"); }
                log.borrow_mut().push(i64::try_from(*step).unwrap() + 1);
                Ok(())
            };
            let result = all_or_none(0..count, start, |step| log.borrow_mut().push(-i64::try_from(*step).unwrap() - 1));
            let log = log.into_inner();
            prop_assert_eq!(result.is_err(), fails < count);
            prop_assert_eq!(log.iter().sum::<i64>() == 0, fails < count || count == 0);
            let undone: Vec<i64> = log.iter().copied().filter(|one| *one < 0).collect();
            prop_assert!(undone.is_sorted());
        }
    }

    #[test]
    fn p10_a_conflict_says_who_needs_what() {
        let needs = Needs::from([(id(1), "^1.2".parse().unwrap()), (id(2), ">=3".parse().unwrap())]);
        let there = BTreeMap::from([(id(1), Version::new(2, 0, 0))]);
        let said: Vec<String> = unmet(&id(0), &needs, &there).iter().map(ToString::to_string).collect();
        assert_eq!(said, ["p0 needs p1 ^1.2, not 2.0.0", "p0 needs p2 >=3, which is not active"]);
        let others = BTreeMap::from([(id(0), needs)]);
        assert!(hurt(&id(1), Some(&Version::new(1, 3, 0)), &others).is_empty());
        let said = hurt(&id(1), Some(&Version::new(2, 0, 0)), &others)[0].to_string();
        assert_eq!(said, "p0 needs p1 ^1.2, not 2.0.0");
    }
}
