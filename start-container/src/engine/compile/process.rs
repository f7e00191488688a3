//! What an OCI `process` asks for beyond a program, a user and limits: scheduling, priorities, memory policy.

use std::collections::BTreeSet;

use linux::spawn::{Call, Op, SchedulerAttributes};
use oci_spec::runtime::{
    IOPriorityClass, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode, Process,
};

use super::invalid;
use crate::error::Result;

/// Steps that need the power the process begins with: before its user is changed.
pub(crate) fn steps(process: &Process) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let Ok(value @ 0..=7) = u64::try_from(priority.priority()) else {
            return Err(invalid("process.ioPriority.priority", &priority.priority().to_string()));
        };
        ops.push(Op::Call(Call::io_priority(class, value)));
    }
    if let Some(scheduler) = process.scheduler() {
        let policy = match scheduler.policy() {
            LinuxSchedulerPolicy::SchedOther => 0,
            LinuxSchedulerPolicy::SchedFifo => 1,
            LinuxSchedulerPolicy::SchedRr => 2,
            LinuxSchedulerPolicy::SchedBatch => 3,
            LinuxSchedulerPolicy::SchedIso => 4,
            LinuxSchedulerPolicy::SchedIdle => 5,
            LinuxSchedulerPolicy::SchedDeadline => 6,
        };
        let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| {
            flags
                | match flag {
                    LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                    LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                    LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                    LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                    LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                    LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                    LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
                }
        });
        let priority = scheduler.priority().unwrap_or(0);
        let priority = u32::try_from(priority)
            .map_err(|error| invalid("process.scheduler.priority", &priority.to_string()).because(error))?;
        ops.push(Op::Call(Call::scheduler(&SchedulerAttributes {
            policy,
            flags,
            nice: scheduler.nice().unwrap_or(0),
            priority,
            runtime: scheduler.runtime().unwrap_or(0),
            deadline: scheduler.deadline().unwrap_or(0),
            period: scheduler.period().unwrap_or(0),
        })));
    }
    Ok(ops)
}

/// `linux.personality`.
pub(crate) fn personality(personality: &LinuxPersonality) -> Result<Op> {
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(invalid("linux.personality.flags", flag));
    }
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    Ok(Op::Call(Call::personality(domain)))
}

/// Processors by number: `0-3,7`.
pub(crate) fn processors(field: &str, list: &str) -> Result<BTreeSet<u32>> {
    let bad = || invalid(field, list);
    let mut set = BTreeSet::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number < 8192);
        let (Some(first), Some(last)) = (number(first), number(last)) else { return Err(bad()) };
        if first > last {
            return Err(bad());
        }
        set.extend(first..=last);
    }
    if set.is_empty() { Err(bad()) } else { Ok(set) }
}

/// `linux.memoryPolicy.mode`, and the kernel's number: `features` says so.
pub(crate) const MEMORY_MODES: [(&str, Mode, u64); 7] = [
    ("MPOL_BIND", Mode::MpolBind, 2),
    ("MPOL_DEFAULT", Mode::MpolDefault, 0),
    ("MPOL_INTERLEAVE", Mode::MpolInterleave, 3),
    ("MPOL_LOCAL", Mode::MpolLocal, 4),
    ("MPOL_PREFERRED", Mode::MpolPreferred, 1),
    ("MPOL_PREFERRED_MANY", Mode::MpolPreferredMany, 5),
    ("MPOL_WEIGHTED_INTERLEAVE", Mode::MpolWeightedInterleave, 6),
];

/// `linux.memoryPolicy.flags`, likewise.
pub(crate) const MEMORY_FLAGS: [(&str, Flag, u64); 3] = [
    ("MPOL_F_NUMA_BALANCING", Flag::MpolFNumaBalancing, 1 << 13),
    ("MPOL_F_RELATIVE_NODES", Flag::MpolFRelativeNodes, 1 << 14),
    ("MPOL_F_STATIC_NODES", Flag::MpolFStaticNodes, 1 << 15),
];

/// `linux.memoryPolicy`, `set_mempolicy(2)`.
pub(crate) fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<Op> {
    let mode = MEMORY_MODES.iter().filter(|(_, mode, _)| *mode == policy.mode()).map(|(.., mode)| *mode);
    let asked = policy.flags().as_deref().unwrap_or_default();
    let flags = MEMORY_FLAGS.iter().filter(|(_, flag, _)| asked.contains(flag)).map(|(.., flag)| *flag);
    let flags = mode.chain(flags).fold(0, |all, one| all | one);
    let nodes = match policy.nodes().as_deref().filter(|nodes| !nodes.is_empty()) {
        Some(nodes) => processors("linux.memoryPolicy.nodes", nodes)?,
        None => BTreeSet::new(),
    };
    Ok(Op::Call(Call::memory_policy(flags, nodes)))
}
