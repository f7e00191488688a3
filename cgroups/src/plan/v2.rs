//! The files of cgroup v2 (`admin-guide/cgroup-v2.rst`).

use super::{Setting, cpuset, hugetlb, number, pids, swap};
use crate::controller::Controller;
use crate::limits::Limits;
use crate::machine::{Device, Facts};

pub(super) fn settings(
    controller: Controller,
    limits: &Limits,
    devices: &[Device],
    facts: &Facts,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    match controller {
        Controller::Memory => memory(limits, facts, &mut settings),
        Controller::Cpu => {
            settings
                .extend(limits.cpu_weight.map(|w| Setting::new("cpuWeight", "cpu.weight", w.to_string())));
            settings.extend(
                limits
                    .quota()
                    .map(|(quota, period)| Setting::new("cpus", "cpu.max", format!("{quota} {period}"))),
            );
        }
        Controller::Cpuset => cpuset(limits, &mut settings),
        Controller::Pids => pids(limits, &mut settings),
        Controller::Io => io(limits, devices, &mut settings),
        Controller::Hugetlb => hugetlb(limits, "max", "max", &mut settings),
    }
    settings
}

fn memory(limits: &Limits, facts: &Facts, settings: &mut Vec<Setting>) {
    if let Some(memory) = limits.memory_bytes {
        settings.push(Setting::new("memoryBytes", "memory.max", number(memory, "max")));
    }
    if let Some(swap) = swap(limits).filter(|_| facts.swap) {
        let setting = Setting::new("swapBytes", "memory.swap.max", number(swap, "max"));
        settings.push(setting.implied(limits.swap_bytes.is_none()));
    }
    if let Some(bytes) = limits.memory_reservation_bytes {
        settings.push(Setting::new("memoryReservationBytes", "memory.low", number(bytes, "max")));
    }
}

fn io(limits: &Limits, devices: &[Device], settings: &mut Vec<Setting>) {
    if let Some(weight) = limits.io_weight {
        // bfq takes the number as it is; the cost model has a scale of 1 to 10,000, on which crun and runc lay
        // 10 to 1,000 evenly.
        let scaled = 1 + (u32::from(weight) - 10) * 9999 / 990;
        let setting = Setting::new("ioWeight", "io.bfq.weight", weight.to_string());
        settings.push(setting.or("io.weight", format!("default {scaled}")));
    }
    for (limit, (major, minor)) in limits.io.iter().zip(devices) {
        let mut value = format!("{major}:{minor}");
        for ((_, rate), key) in limit.rates().into_iter().zip(["rbps", "wbps", "riops", "wiops"]) {
            if let Some(rate) = rate {
                value += &format!(" {key}={}", number(rate, "max"));
            }
        }
        settings.push(Setting::new("io", "io.max", value));
    }
}
