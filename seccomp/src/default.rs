//! The default profile: what a container may call unless it was given something else.
//!
//! An allow list. What is not on it gets `EPERM`, or `ENOSYS` where libc knows a way without. Nothing kills: programs
//! handle an error, and a filter that kills turns a missing call into an outage. The list, each call with its reason,
//! is [`GROUPS`]; what is left out and why is [`REFUSED`]; a test holds the two together against every number of
//! every table, so that a new call has to be judged before it is in or out.

mod refused;
mod table;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::{
    Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

pub use refused::{REFUSED, Refused};
pub use table::GROUPS;

use crate::{Abi, Error, Program, compile};

/// Calls that are treated alike, for one reason.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Why.
    pub reason: &'static str,
    /// For whom.
    pub when: When,
    /// Which.
    pub names: &'static [&'static str],
    /// `None`: whatever the arguments. Else one rule for each.
    pub only: Option<&'static [Comparison]>,
    /// `None`: allowed. Else refused with this.
    pub errno: Option<u32>,
}

/// Which capability sets a group is for.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// All.
    Always,
    /// Those with one of these. The kernel asks for it again.
    With(&'static [Capability]),
    /// Those without.
    Without(Capability),
    /// All, where `socketcall(2)` was asked for by name, or where it was not.
    SocketCall(bool),
}

/// For whom a default profile is.
#[derive(Clone, Debug, Default)]
pub struct For {
    /// The bounding set.
    pub capabilities: HashSet<Capability>,
    /// `socketcall(2)` passes, and with it every family of sockets.
    pub socketcall: bool,
}

impl From<HashSet<Capability>> for For {
    fn from(capabilities: HashSet<Capability>) -> Self {
        Self { capabilities, socketcall: false }
    }
}

/// An argument under a mask. All of them have one, because the kernel takes these arguments as 32-bit integers: a
/// comparison of 64 bits is passed by with a bit that the kernel does not look at (CVE-2019-7303).
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// Which argument, from 0.
    pub argument: usize,
    /// Which bits of it.
    pub mask: u32,
    /// What they are.
    pub value: u32,
}

impl When {
    fn holds(self, whom: &For) -> bool {
        match self {
            Self::Always => true,
            Self::With(any) => any.iter().any(|capability| whom.capabilities.contains(capability)),
            Self::Without(capability) => !whom.capabilities.contains(&capability),
            Self::SocketCall(passes) => passes == whom.socketcall,
        }
    }
}

fn applying(whom: &For) -> impl Iterator<Item = (usize, &'static Group)> {
    GROUPS.iter().enumerate().filter(|(_, group)| group.when.holds(whom))
}

/// The default profile, in OCI form.
///
/// It serializes to JSON that [`crate::from_json`] reads, to start a profile of one's own from. Other runtimes read it
/// too, but where an allowed call has refused arguments (`ioctl`, `socket`) libseccomp lets the rule without arguments
/// win.
///
/// Its ABIs are the machine's own and the 32-bit one beside it; not x32, which distributions switch off.
#[must_use]
pub fn default_profile(whom: &For) -> LinuxSeccomp {
    profile_for(whom, Abi::NATIVE)
}

fn profile_for(whom: &For, native: Abi) -> LinuxSeccomp {
    let abis: Vec<Abi> = native.of_one_kernel().iter().copied().filter(|&abi| abi != Abi::X32).collect();
    let mut filter = LinuxSeccomp::default();
    filter
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(1))
        .set_architectures(Some(abis.iter().map(|abi| abi.arch()).collect()))
        .set_syscalls(Some(applying(whom).flat_map(|(_, group)| rules(group, &abis)).collect()));
    filter
}

/// The rules of a group, with the names that these ABIs have.
fn rules(group: &Group, abis: &[Abi]) -> Vec<LinuxSyscall> {
    let has = |name: &&str| abis.iter().any(|abi| abi.number(name).is_some());
    let names: Vec<String> = group.names.iter().copied().filter(has).map(str::to_owned).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let rule = |args: Option<Vec<LinuxSeccompArg>>| {
        let action = match group.errno {
            Some(_) => LinuxSeccompAction::ScmpActErrno,
            None => LinuxSeccompAction::ScmpActAllow,
        };
        let mut rule = LinuxSyscall::default();
        rule.set_names(names.clone()).set_action(action).set_errno_ret(group.errno).set_args(args);
        rule
    };
    match group.only {
        None => vec![rule(None)],
        Some(comparisons) => {
            comparisons.iter().map(|comparison| rule(Some(vec![comparison.arg()]))).collect()
        }
    }
}

impl Comparison {
    fn arg(&self) -> LinuxSeccompArg {
        LinuxSeccompArgBuilder::default()
            .index(self.argument)
            .value(self.mask)
            .value_two(self.value)
            .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
            .build()
            .expect("every field has a default")
    }
}

/// The default profile, compiled once for each set of capabilities that makes a difference to it.
///
/// # Errors
/// None that could come: a test compiles it for every set.
pub fn default_program(whom: &For) -> Result<Program, Error> {
    static COMPILED: Mutex<Option<HashMap<u64, Program>>> = Mutex::new(None);
    // The groups that apply, as bits: sets that differ in what no group asks for are one.
    let key = applying(whom).fold(0, |key, (group, _)| key | 1 << group);
    let cached = |program: Option<Program>| {
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = compiled.get_or_insert_default();
        match program {
            Some(program) => Some(compiled.entry(key).or_insert(program).clone()),
            None => compiled.get(&key).cloned(),
        }
    };
    if let Some(program) = cached(None) {
        return Ok(program);
    }
    let program = compile(&default_profile(whom))?;
    Ok(cached(Some(program.clone())).unwrap_or(program))
}

const _: () = assert!(GROUPS.len() <= 64, "the key of the cache has a bit for each group");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_of_every_table_is_judged_once() {
        let allowed: BTreeSet<&str> = GROUPS.iter().flat_map(|group| group.names).copied().collect();
        let mut refused: BTreeSet<&str> = BTreeSet::new();
        for group in REFUSED {
            for name in group.names {
                assert!(refused.insert(name), "{name} is refused twice");
                assert!(!allowed.contains(name), "{name} is allowed and refused");
            }
        }
        let judged: BTreeSet<&str> = allowed.union(&refused).copied().collect();
        let known: BTreeSet<&str> =
            Abi::ALL.iter().flat_map(|abi| abi.table()).map(|(name, _)| *name).collect();
        assert_eq!(known.difference(&judged).collect::<Vec<_>>(), Vec::<&&str>::new(), "not judged");
        assert_eq!(judged.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "no such call");
    }

    #[test]
    fn no_call_is_in_two_groups_for_the_same_process_by_mistake() {
        // More than one rule for a call: those whose arguments decide, and those that one of two capabilities allows.
        let several = [
            "clone",
            "clone3",
            "ioctl",
            "personality",
            "socket",
            "socketcall",
            "unshare",
            "bpf",
            "perf_event_open",
            "syslog",
        ];
        let mut seen = BTreeSet::new();
        for name in GROUPS.iter().flat_map(|group| group.names) {
            assert!(seen.insert(name) || several.contains(name), "{name}");
        }
    }

    #[test]
    fn it_compiles_for_every_machine_and_every_capability() {
        for native in [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm] {
            let every: HashSet<Capability> = all().collect();
            for set in all().map(|one| HashSet::from([one])).chain([HashSet::new(), every]) {
                for socketcall in [false, true] {
                    let whom = For { capabilities: set.clone(), socketcall };
                    let program = crate::compile_for(&profile_for(&whom, native), native).unwrap();
                    assert!(program.instructions().len() < 1000);
                }
            }
        }
    }

    #[test]
    fn it_is_compiled_once() {
        let with = |capability| For::from(HashSet::from([capability]));
        let first = default_program(&with(Capability::Chown)).unwrap();
        assert!(std::sync::Arc::ptr_eq(
            first.instructions(),
            default_program(&with(Capability::Kill)).unwrap().instructions()
        ));
        assert_ne!(first, default_program(&with(Capability::SysAdmin)).unwrap());
    }

    fn all() -> impl Iterator<Item = Capability> {
        linux::caps::NAMES.iter().map(|name| name[4..].parse().unwrap())
    }
}
