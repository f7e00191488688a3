//! Whatever an operator tries in whatever order: what happens is what a small model says.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use common::host::{Host, id};
use proptest::prelude::*;
use protocol::package::{PackageRun, PackageStatus};

/// What an operator may try with two packages, of which `b` needs `a`, in three versions each.
#[derive(Clone, Debug)]
enum Act {
    Install(usize, u64),
    Update(usize, u64, bool),
    Rollback(usize),
    Grant(usize),
    Revoke(usize),
    Activate(usize),
    Disable(usize),
    Remove(usize),
    Fail(bool),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let which = || 0..2_usize;
    let version = || 1..4_u64;
    prop_oneof![
        3 => (which(), version()).prop_map(|(p, v)| Act::Install(p, v)),
        3 => (which(), version(), any::<bool>()).prop_map(|(p, v, all)| Act::Update(p, v, all)),
        1 => which().prop_map(Act::Rollback),
        3 => which().prop_map(Act::Grant),
        1 => which().prop_map(Act::Revoke),
        5 => which().prop_map(Act::Activate),
        3 => which().prop_map(Act::Disable),
        1 => which().prop_map(Act::Remove),
        1 => any::<bool>().prop_map(Act::Fail),
        1 => Just(Act::Restart),
    ]
}

const IDS: [&str; 2] = ["a", "b"];

/// Version n asks for n hosts; `b` needs `a` below version 3.
fn manifest(package: usize, version: u64) -> String {
    let hosts: Vec<String> = (1..=version).map(|n| format!("h{n}:1")).collect();
    let mut manifest = serde_json::json!({ "manifest": 1, "id": IDS[package], "name": "n",
        "version": format!("{version}.0.0"),
        "capabilities": { "http:egress": { "reason": "r", "hosts": hosts } } });
    if package == 1 {
        manifest["dependencies"] = serde_json::json!({ "a": { "version": "<3" } });
    }
    manifest.to_string()
}

#[derive(Clone, Debug, Default)]
struct Model {
    there: [Option<One>; 2],
    highest: [u64; 2],
    fails: bool,
}

#[derive(Clone, Debug)]
struct One {
    version: u64,
    known: BTreeSet<u64>,
    /// How many hosts were granted.
    granted: u64,
    status: PackageStatus,
    running: bool,
    errored: bool,
}

impl One {
    fn stopped(&mut self) {
        self.status = PackageStatus::Disabled;
        self.running = false;
        self.errored = false;
    }
}

impl Model {
    fn a_suits_b(&self) -> bool {
        self.there[0].as_ref().is_some_and(|a| a.running && a.version < 3)
    }

    fn b_is_active(&self) -> bool {
        self.there[1].as_ref().is_some_and(|b| b.status == PackageStatus::Active)
    }

    /// Whether it starts; changes what a start changes.
    fn start(&mut self, package: usize) -> bool {
        let suits = package == 0 || self.a_suits_b();
        let fails = self.fails;
        let Some(one) = &mut self.there[package] else { return false };
        if one.granted < one.version || !suits {
            return false;
        }
        one.running = !fails;
        one.errored = fails;
        if !fails {
            one.status = PackageStatus::Active;
        }
        !fails
    }

    fn replace(&mut self, package: usize, version: u64, all: bool) -> bool {
        let hurts = package == 0 && version >= 3 && self.b_is_active();
        let suits = package == 0 || self.a_suits_b();
        let Some(one) = &mut self.there[package] else { return false };
        if one.granted < version && !all {
            return false;
        }
        let active = one.status == PackageStatus::Active;
        if active && (hurts || !suits) {
            return false;
        }
        one.granted = if all { version } else { one.granted.min(version) };
        one.version = version;
        one.known.insert(version);
        self.highest[package] = self.highest[package].max(version);
        if active {
            one.stopped();
            return self.start(package);
        }
        true
    }

    /// Whether the act succeeds; changes what it changes.
    fn act(&mut self, act: &Act) -> bool {
        match *act {
            Act::Install(package, version) => {
                if self.there[package].is_some() || version < self.highest[package] {
                    return false;
                }
                self.highest[package] = version;
                self.there[package] = Some(One {
                    version,
                    known: BTreeSet::from([version]),
                    granted: 0,
                    status: PackageStatus::Installed,
                    running: false,
                    errored: false,
                });
                true
            }
            Act::Update(package, version, all) => {
                let current = self.there[package].as_ref().map(|one| one.version);
                current.is_some_and(|current| current != version)
                    && version >= self.highest[package]
                    && self.replace(package, version, all)
            }
            Act::Rollback(package) => {
                let Some(one) = &self.there[package] else { return false };
                let Some(version) = one.known.range(..one.version).next_back().copied() else { return false };
                self.replace(package, version, false)
            }
            Act::Grant(package) => match &mut self.there[package] {
                Some(one) => {
                    one.granted = one.version;
                    true
                }
                None => false,
            },
            Act::Revoke(package) => {
                let Some(one) = &mut self.there[package] else { return false };
                let ends = one.granted > 0 && one.status == PackageStatus::Active;
                one.granted = 0;
                if ends {
                    one.stopped();
                }
                if ends && package == 0 && self.b_is_active() {
                    self.there[1].iter_mut().for_each(One::stopped);
                }
                true
            }
            Act::Activate(package) => {
                let one = self.there[package].as_ref();
                one.is_some_and(|one| one.status != PackageStatus::Active) && self.start(package)
            }
            Act::Disable(package) => {
                let hurts = package == 0 && self.b_is_active();
                match &mut self.there[package] {
                    Some(one) if one.status == PackageStatus::Disabled && one.errored => {
                        one.errored = false;
                        true
                    }
                    Some(one) if one.status != PackageStatus::Disabled && !hurts => {
                        one.stopped();
                        true
                    }
                    _ => false,
                }
            }
            Act::Remove(package) => {
                let one = self.there[package].as_ref();
                let gone = one.is_some_and(|one| one.status != PackageStatus::Active);
                if gone {
                    self.there[package] = None;
                }
                gone
            }
            Act::Fail(fails) => {
                self.fails = fails;
                true
            }
            Act::Restart => {
                self.fails = false;
                for one in self.there.iter_mut().flatten() {
                    one.running = false;
                    one.errored = false;
                }
                for package in 0..2 {
                    let one = self.there[package].as_ref();
                    if one.is_some_and(|one| one.status == PackageStatus::Active) {
                        let started = self.start(package);
                        if let Some(one) = &mut self.there[package] {
                            one.errored = !started;
                        }
                    }
                }
                true
            }
        }
    }
}

fn apply(host: Host, act: &Act) -> (Host, bool) {
    let name = |package: usize| id(IDS[package]);
    let done = match *act {
        Act::Install(p, v) => host.packages.install(host.bundle(&manifest(p, v)), false).is_ok(),
        Act::Update(p, v, all) => host.packages.update(host.bundle(&manifest(p, v)), all, false).is_ok(),
        Act::Rollback(p) => host.packages.rollback(&name(p), None, false).is_ok(),
        Act::Grant(p) => host.grant(IDS[p], &["http:egress"]).is_ok(),
        Act::Revoke(p) => host.revoke(IDS[p], "http:egress").is_ok(),
        Act::Activate(p) => host.activate(IDS[p]).is_ok(),
        Act::Disable(p) => host.disable(IDS[p]).is_ok(),
        Act::Remove(p) => host.packages.remove(&name(p), false).is_ok(),
        Act::Fail(fails) => {
            host.runner.fails.store(fails, Ordering::Relaxed);
            true
        }
        Act::Restart => {
            let host = host.restart();
            host.packages.boot().unwrap();
            return (host, true);
        }
    };
    (host, done)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing runs that is not active and granted, nothing is active that has not started, and the audit log stays
    /// whole.
    #[test]
    fn p4_packages_do_what_the_model_says(acts in proptest::collection::vec(act(), 1..30)) {
        let mut host = Host::new();
        let mut model = Model::default();
        for act in acts {
            let expected = model.act(&act);
            let (after, done) = apply(host, &act);
            host = after;
            prop_assert_eq!(done, expected, "{:?} {:?}", act, model);
            let mut running = Vec::new();
            for (package, one) in model.there.iter().enumerate() {
                let found = host.packages.get(&id(IDS[package])).ok();
                prop_assert_eq!(found.is_some(), one.is_some());
                let (Some(found), Some(one)) = (found, one) else { continue };
                let version = format!("{}.0.0", one.version);
                prop_assert_eq!(&found.version, &version);
                prop_assert_eq!(found.status, one.status, "{:?}", act);
                prop_assert_eq!(found.run == PackageRun::Running, one.running, "{:?}", act);
                let granted = found.granted.values().flat_map(|scope| scope.values()).map(BTreeSet::len).sum::<usize>();
                prop_assert_eq!(granted as u64, one.granted);
                if one.running {
                    running.push(format!("{} {version}", IDS[package]));
                }
            }
            prop_assert_eq!(host.running(), running, "{:?}", act);
        }
        host.packages.audit(None, 1, true).unwrap();
    }
}
