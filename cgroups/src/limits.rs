//! What is asked for, and whether it makes sense.

use std::collections::BTreeSet;

pub use protocol::limits::{HugePageLimit, IoLimit, Limits};

use crate::error::{Error, Result};
use crate::list;
use crate::machine::Facts;

mod oci;

pub use oci::{from_oci, write_to};

/// Whether each value makes sense by itself and on this machine. Touches nothing.
///
/// # Errors
/// [`Error::Invalid`], which names the limit.
pub fn check(limits: &Limits, facts: &Facts) -> Result<()> {
    check_memory(limits)?;
    check_cpu(limits, facts)?;
    within("pids", limits.pids, 1, Limits::UNLIMITED)?;
    within("ioWeight", limits.io_weight.map(u64::from), 10, 1000)?;
    check_io(limits)?;
    check_hugetlb(limits, facts)
}

fn check_memory(limits: &Limits) -> Result<()> {
    if let Some(bytes) = limits.memory_bytes.filter(|&bytes| bytes < Limits::LEAST_MEMORY) {
        return Err(Error::invalid("memoryBytes", format!("{bytes} is less than 6 MiB")));
    }
    within("memoryBytes", limits.memory_bytes, 0, Limits::UNLIMITED)?;
    within("swapBytes", limits.swap_bytes, 0, Limits::UNLIMITED)?;
    let most = limits.memory_bytes.unwrap_or(Limits::UNLIMITED);
    within("memoryReservationBytes", limits.memory_reservation_bytes, 0, most)?;
    if limits.swap_bytes.is_some() && limits.memory_bytes.is_none() {
        return Err(Error::invalid("swapBytes", "needs memoryBytes"));
    }
    Ok(())
}

fn check_cpu(limits: &Limits, facts: &Facts) -> Result<()> {
    within("cpuPeriodMicros", limits.cpu_period_micros, 1000, 1_000_000)?;
    within("cpuWeight", limits.cpu_weight, 1, 10_000)?;
    if let Some(cpus) = limits.cpus {
        let online = facts.online_cpus;
        // Not a number is in no range.
        if !(0.01..=f64::from(online)).contains(&cpus) {
            let why = format!("{cpus} is not from 0.01 to {online}, the processors online");
            return Err(Error::invalid("cpus", why));
        }
        if let Some((quota, period)) = limits.quota().filter(|(quota, _)| *quota < Limits::LEAST_QUOTA) {
            let why = format!("{cpus} in a period of {period} µs is {quota} µs, less than 1,000 µs");
            return Err(Error::invalid("cpus", why));
        }
    } else if limits.cpu_period_micros.is_some() {
        return Err(Error::invalid("cpuPeriodMicros", "needs cpus"));
    }
    check_set("cpusetCpus", limits.cpuset_cpus.as_deref(), &facts.cpus)?;
    check_set("cpusetMems", limits.cpuset_mems.as_deref(), &facts.mems)
}

fn check_io(limits: &Limits) -> Result<()> {
    for limit in &limits.io {
        let name = |field: &str| format!("io[{}].{field}", limit.device);
        for (field, value) in limit.rates() {
            within(&name(field), value, 1, Limits::UNLIMITED)?;
        }
        if limit.rates().iter().all(|(_, value)| value.is_none()) {
            return Err(Error::invalid(format!("io[{}]", limit.device), "limits nothing"));
        }
    }
    Ok(())
}

fn check_hugetlb(limits: &Limits, facts: &Facts) -> Result<()> {
    let mut seen = BTreeSet::new();
    for HugePageLimit { page_size, limit_bytes } in &limits.hugetlb {
        let name = format!("hugetlb[{page_size}]");
        if !facts.huge_page_sizes.contains(page_size) {
            let sizes = facts.huge_page_sizes.iter().map(String::as_str).collect::<Vec<_>>();
            let why = format!("this machine has huge pages of {}", sizes.join(", "));
            return Err(Error::invalid(
                name,
                if sizes.is_empty() { "there are none here".into() } else { why },
            ));
        }
        within(&name, Some(*limit_bytes), 0, Limits::UNLIMITED)?;
        if !seen.insert(page_size) {
            return Err(Error::invalid(name, "is there twice"));
        }
    }
    Ok(())
}

fn within(limit: &str, value: Option<u64>, least: u64, most: u64) -> Result<()> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(Error::invalid(limit, format!("{value} is not from {least} to {most}")))
        }
        _ => Ok(()),
    }
}

fn check_set(limit: &str, text: Option<&str>, allowed: &BTreeSet<u32>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    let set = list::parse(text).map_err(|why| Error::invalid(limit, why))?;
    if set.is_empty() {
        return Err(Error::invalid(limit, "names none"));
    }
    let absent: BTreeSet<u32> = set.difference(allowed).copied().collect();
    if !absent.is_empty() {
        let why = format!("{} is not among {}", list::format(&absent), list::format(allowed));
        return Err(Error::invalid(limit, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
