//! `linux.resources` as the files of cgroup v2.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{Setting, v1};

pub(super) fn settings(resources: &LinuxResources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(it) = resources.memory() {
        memory(it, &mut settings);
    }
    if let Some(it) = resources.cpu() {
        cpu(it, &mut settings);
    }
    if let Some(it) = resources.pids() {
        settings.push(v1::pids(it.limit()));
    }
    if let Some(it) = resources.block_io() {
        block_io(it, &mut settings);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = |part: &str| format!("hugetlb.{}.{part}max", limit.page_size());
        settings.push(Setting::new("hugepageLimits", "hugetlb", file(""), limit.limit()));
        settings.push(Setting::new("hugepageLimits", "hugetlb", file("rsvd."), limit.limit()).optional());
    }
    v1::rdma(resources, &mut settings);
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        // The name says whose file it is; it is a name, no path.
        let (controller, _) = file.split_once('.').unwrap_or((file, ""));
        let known = ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"];
        let controller = known.into_iter().find(|name| *name == controller).unwrap_or("cgroup");
        let name = file.replace('/', "_");
        for line in value.lines() {
            settings.push(Setting::new("unified", controller, name.clone(), line));
        }
    }
    settings
}

/// -1 is no limit.
fn most(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn memory(memory: &LinuxMemory, settings: &mut Vec<Setting>) {
    let said = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = said(memory.limit());
    // Here swap is counted by itself.
    let swap = match (limit, said(memory.swap())) {
        (_, Some(-1)) => Some("max".to_owned()),
        (Some(limit), Some(swap)) if limit > 0 => Some((swap - limit).max(0).to_string()),
        (_, Some(swap)) => Some(swap.to_string()),
        (Some(-1), None) => Some("max".to_owned()),
        (_, None) => None,
    };
    if let Some(swap) = swap {
        let setting = Setting::new("memory.swap", "memory", "memory.swap.max", swap);
        settings.push(if memory.swap().is_none_or(|swap| swap <= 0) { setting.optional() } else { setting });
    }
    if let Some(limit) = limit {
        settings.push(Setting::new("memory.limit", "memory", "memory.max", most(limit)));
    }
    if let Some(value) = said(memory.reservation()) {
        settings.push(Setting::new("memory.reservation", "memory", "memory.low", most(value)));
    }
}

fn cpu(cpu: &LinuxCpu, settings: &mut Vec<Setting>) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        // 2 to 262144 laid on 1 to 10000, as the other runtimes do.
        settings.push(Setting::new("cpu.shares", "cpu", "cpu.weight", weight(shares)));
    }
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    if period.is_some() || quota.is_some() {
        let quota = quota.map_or_else(|| "max".to_owned(), most);
        let period = period.map_or_else(String::new, |period| format!(" {period}"));
        settings.push(Setting::new("cpu.quota", "cpu", "cpu.max", format!("{quota}{period}")));
    }
    if let Some(burst) = cpu.burst() {
        settings.push(Setting::new("cpu.burst", "cpu", "cpu.max.burst", burst));
    }
    if let Some(idle) = cpu.idle() {
        settings.push(Setting::new("cpu.idle", "cpu", "cpu.idle", idle));
    }
    v1::cpuset(cpu, settings);
}

fn block_io(block_io: &LinuxBlockIo, settings: &mut Vec<Setting>) {
    let scaled = |weight: u16| 1 + (u32::from(weight).max(10) - 10) * 9999 / 990;
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        let other = Setting::new("blockIO.weight", "io", "io.weight", format!("default {}", scaled(weight)));
        settings.push(Setting::new("blockIO.weight", "io", "io.bfq.weight", weight).or(other));
    }
    for device in block_io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let at = format!("{}:{}", device.major(), device.minor());
            let value = format!("{at} {}", scaled(weight));
            let other = Setting::new("blockIO.weightDevice", "io", "io.weight", value);
            let value = format!("{at} {weight}");
            settings.push(Setting::new("blockIO.weightDevice", "io", "io.bfq.weight", value).or(other));
        }
    }
    let tables = [
        ("blockIO.throttleReadBpsDevice", "rbps", block_io.throttle_read_bps_device()),
        ("blockIO.throttleWriteBpsDevice", "wbps", block_io.throttle_write_bps_device()),
        ("blockIO.throttleReadIOPSDevice", "riops", block_io.throttle_read_iops_device()),
        ("blockIO.throttleWriteIOPSDevice", "wiops", block_io.throttle_write_iops_device()),
    ];
    for (field, key, table) in tables {
        for entry in table.iter().flatten() {
            let value = format!("{}:{} {key}={}", entry.major(), entry.minor(), entry.rate());
            settings.push(Setting::new(field, "io", "io.max", value));
        }
    }
}

/// `cpu.shares` of v1 as `cpu.weight`: a curve through (2, 1), (1024, 100) and (262144, 10000), so that what is ordinary
/// stays ordinary. That of the runc of today; earlier ones drew a line, on which 1024 is 39.
#[must_use]
pub fn weight(shares: u64) -> u64 {
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent) + 0.99) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let all = settings(&resources).into_iter();
        all.map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn o1_swap_is_what_is_above_memory() {
        assert_eq!(
            written(r#"{"memory": {"limit": 1000, "swap": 3000}}"#),
            ["memory.swap.max=2000", "memory.max=1000"]
        );
        assert_eq!(written(r#"{"memory": {"limit": -1}}"#), ["memory.swap.max=max", "memory.max=max"]);
    }

    #[test]
    fn o1_shares_quota_and_unified_files() {
        assert_eq!(
            written(r#"{"cpu": {"shares": 1024, "quota": 5000}, "unified": {"memory.high": "1"}}"#),
            ["cpu.weight=100", "cpu.max=5000", "memory.high=1"]
        );
    }
}
