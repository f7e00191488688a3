//! The files of cgroup v1 (`admin-guide/cgroup-v1/`).

use super::{Setting, cpuset, hugetlb, number, pids, swap};
use crate::controller::Controller;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::machine::{Device, Facts};

pub(super) fn settings(
    controller: Controller,
    limits: &Limits,
    devices: &[Device],
    facts: &Facts,
) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    match controller {
        Controller::Memory => memory(limits, &mut settings),
        Controller::Cpu => cpu(limits, &mut settings),
        Controller::Cpuset => cpuset(limits, &mut settings),
        Controller::Pids => pids(limits, &mut settings),
        Controller::Io => io(limits, devices, facts, &mut settings)?,
        Controller::Hugetlb => hugetlb(limits, "limit_in_bytes", "-1", &mut settings),
    }
    Ok(settings)
}

fn memory(limits: &Limits, settings: &mut Vec<Setting>) {
    if let Some(memory) = limits.memory_bytes {
        settings.push(Setting::new("memoryBytes", "memory.limit_in_bytes", number(memory, "-1")));
    }
    if let (Some(memory), Some(swap)) = (limits.memory_bytes, swap(limits)) {
        // Memory and swap together.
        let both = memory.saturating_add(swap);
        let setting = Setting::new("swapBytes", "memory.memsw.limit_in_bytes", number(both, "-1"));
        settings.push(setting.implied(limits.swap_bytes.is_none()));
    }
    if let Some(bytes) = limits.memory_reservation_bytes {
        let value = number(bytes, "-1");
        settings.push(Setting::new("memoryReservationBytes", "memory.soft_limit_in_bytes", value));
    }
}

fn cpu(limits: &Limits, settings: &mut Vec<Setting>) {
    if let Some(weight) = limits.cpu_weight {
        // The kernel's own relation, which keeps both defaults: 100 is 1024.
        let shares = (weight * 1024 + 50) / 100;
        settings.push(Setting::new("cpuWeight", "cpu.shares", shares.to_string()));
    }
    if let Some((quota, period)) = limits.quota() {
        settings.push(Setting::new("cpus", "cpu.cfs_period_us", period.to_string()));
        settings.push(Setting::new("cpus", "cpu.cfs_quota_us", quota.to_string()));
    }
}

fn io(limits: &Limits, devices: &[Device], facts: &Facts, settings: &mut Vec<Setting>) -> Result<()> {
    if let Some(weight) = limits.io_weight {
        let file = facts.v1_io_weight.ok_or_else(|| {
            Error::invalid("ioWeight", "this kernel has no scheduler with weights for cgroup v1")
        })?;
        settings.push(Setting::new("ioWeight", file, weight.to_string()));
    }
    for (limit, (major, minor)) in limits.io.iter().zip(devices) {
        let files = ["read_bps", "write_bps", "read_iops", "write_iops"];
        for ((_, rate), file) in limit.rates().into_iter().zip(files) {
            if let Some(rate) = rate {
                // 0 takes the rule away.
                let value = format!("{major}:{minor} {}", number(rate, "0"));
                settings.push(Setting::new("io", format!("blkio.throttle.{file}_device"), value));
            }
        }
    }
    Ok(())
}
