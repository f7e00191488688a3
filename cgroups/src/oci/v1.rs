//! `linux.resources` as the files of cgroup v1.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::Setting;

pub(super) fn settings(resources: &LinuxResources) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Some(it) = resources.memory() {
        memory(it, &mut settings);
    }
    if let Some(it) = resources.cpu() {
        cpu(it, &mut settings);
    }
    if let Some(it) = resources.pids() {
        settings.push(pids(it.limit()));
    }
    if let Some(it) = resources.block_io() {
        block_io(it, &mut settings);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = |part: &str| format!("hugetlb.{}.{part}limit_in_bytes", limit.page_size());
        settings.push(Setting::new("hugepageLimits", "hugetlb", file(""), limit.limit()));
        settings.push(Setting::new("hugepageLimits", "hugetlb", file("rsvd."), limit.limit()).optional());
    }
    if let Some(network) = resources.network() {
        settings.extend(
            network.class_id().map(|id| Setting::new("network.classID", "net_cls", "net_cls.classid", id)),
        );
        for priority in network.priorities().iter().flatten() {
            let value = format!("{} {}", priority.name(), priority.priority());
            settings.push(Setting::new("network.priorities", "net_prio", "net_prio.ifpriomap", value));
        }
    }
    rdma(resources, &mut settings);
    settings
}

fn memory(memory: &LinuxMemory, settings: &mut Vec<Setting>) {
    let file = |field, file: &str, value: i64| Setting::new(field, "memory", file, value);
    let said = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = said(memory.limit());
    // Unlimited memory means unlimited swap, unless something else is said.
    let swap = said(memory.swap()).or(limit.filter(|limit| *limit == -1));
    let limit = limit.map(|limit| file("memory.limit", "memory.limit_in_bytes", limit));
    let swap = swap.map(|swap| file("memory.swap", "memory.memsw.limit_in_bytes", swap));
    match (limit, swap) {
        // The one must never be above the other: which goes first depends on what is there.
        (Some(limit), Some(swap)) => {
            let implied = memory.swap().is_none_or(|swap| swap == 0);
            let swap = if implied { swap.optional() } else { swap };
            settings.push(limit.clone().or(swap.clone()));
            settings.push(swap);
            settings.push(limit);
        }
        (limit, swap) => settings.extend(limit.into_iter().chain(swap)),
    }
    if let Some(value) = said(memory.reservation()) {
        settings.push(file("memory.reservation", "memory.soft_limit_in_bytes", value));
    }
    // Linux 5.16 knows no limit of kernel memory any more.
    if let Some(value) = said(memory.kernel_tcp()) {
        settings.push(file("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", value));
    }
    if memory.disable_oom_killer() == Some(true) {
        settings.push(file("memory.disableOOMKiller", "memory.oom_control", 1));
    }
    if let Some(value) = memory.swappiness() {
        settings.push(Setting::new("memory.swappiness", "memory", "memory.swappiness", value));
    }
    if memory.use_hierarchy() == Some(true) {
        settings.push(file("memory.useHierarchy", "memory.use_hierarchy", 1).optional());
    }
}

fn cpu(cpu: &LinuxCpu, settings: &mut Vec<Setting>) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        settings.push(Setting::new("cpu.shares", "cpu", "cpu.shares", shares));
    }
    let period = cpu.period().filter(|period| *period != 0);
    let period = period.map(|period| Setting::new("cpu.period", "cpu", "cpu.cfs_period_us", period));
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let quota = quota.map(|quota| Setting::new("cpu.quota", "cpu", "cpu.cfs_quota_us", quota));
    match (period, quota) {
        // A new period may be too short for the old quota: then the quota goes first.
        (Some(period), Some(quota)) => {
            settings.push(period.clone().or(quota.clone()));
            settings.push(quota);
            settings.push(period);
        }
        (period, quota) => settings.extend(period.into_iter().chain(quota)),
    }
    if let Some(burst) = cpu.burst() {
        settings.push(Setting::new("cpu.burst", "cpu", "cpu.cfs_burst_us", burst));
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        settings.push(Setting::new("cpu.realtimePeriod", "cpu", "cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        settings.push(Setting::new("cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", runtime));
    }
    if let Some(idle) = cpu.idle() {
        settings.push(Setting::new("cpu.idle", "cpu", "cpu.idle", idle));
    }
    cpuset(cpu, settings);
}

/// The same in both versions.
pub(super) fn cpuset(cpu: &LinuxCpu, settings: &mut Vec<Setting>) {
    if let Some(cpus) = cpu.cpus().as_deref().filter(|cpus| !cpus.is_empty()) {
        settings.push(Setting::new("cpu.cpus", "cpuset", "cpuset.cpus", cpus));
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|mems| !mems.is_empty()) {
        settings.push(Setting::new("cpu.mems", "cpuset", "cpuset.mems", mems));
    }
}

/// The same in both versions. Nothing below one is a limit.
pub(super) fn pids(limit: i64) -> Setting {
    let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
    Setting::new("pids.limit", "pids", "pids.max", value)
}

fn block_io(block_io: &LinuxBlockIo, settings: &mut Vec<Setting>) {
    let file =
        |field, file: &str, value: String| Setting::new(field, "blkio", format!("blkio.{file}"), value);
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        let weight = weight.to_string();
        let old = file("blockIO.weight", "weight", weight.clone());
        settings.push(file("blockIO.weight", "bfq.weight", weight).or(old));
    }
    if let Some(weight) = block_io.leaf_weight().filter(|weight| *weight != 0) {
        settings.push(file("blockIO.leafWeight", "leaf_weight", weight.to_string()));
    }
    for device in block_io.weight_device().iter().flatten() {
        let at = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            let old = file("blockIO.weightDevice", "weight_device", format!("{at} {weight}"));
            settings
                .push(file("blockIO.weightDevice", "bfq.weight_device", format!("{at} {weight}")).or(old));
        }
        if let Some(weight) = device.leaf_weight() {
            settings.push(file("blockIO.weightDevice", "leaf_weight_device", format!("{at} {weight}")));
        }
    }
    let tables = [
        ("blockIO.throttleReadBpsDevice", "throttle.read_bps_device", block_io.throttle_read_bps_device()),
        ("blockIO.throttleWriteBpsDevice", "throttle.write_bps_device", block_io.throttle_write_bps_device()),
        ("blockIO.throttleReadIOPSDevice", "throttle.read_iops_device", block_io.throttle_read_iops_device()),
        (
            "blockIO.throttleWriteIOPSDevice",
            "throttle.write_iops_device",
            block_io.throttle_write_iops_device(),
        ),
    ];
    for (field, name, table) in tables {
        for entry in table.iter().flatten() {
            settings.push(file(field, name, format!("{}:{} {}", entry.major(), entry.minor(), entry.rate())));
        }
    }
}

/// The same in both versions.
pub(super) fn rdma(resources: &LinuxResources, settings: &mut Vec<Setting>) {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| name.as_str());
    for (name, limits) in devices {
        let handles = limits.hca_handles().map(|count| format!(" hca_handle={count}"));
        let objects = limits.hca_objects().map(|count| format!(" hca_object={count}"));
        let value = format!("{name}{}{}", handles.unwrap_or_default(), objects.unwrap_or_default());
        settings.push(Setting::new("rdma", "rdma", "rdma.max", value));
    }
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
    fn o1_memory_and_swap_are_written_in_an_order_that_works_either_way() {
        assert_eq!(
            written(r#"{"memory": {"limit": 1000, "swap": 2000, "swappiness": 10}}"#),
            [
                "memory.limit_in_bytes=1000",
                "memory.memsw.limit_in_bytes=2000",
                "memory.limit_in_bytes=1000",
                "memory.swappiness=10"
            ]
        );
        assert_eq!(written(r#"{"memory": {"limit": 0}}"#), [""; 0]);
    }

    #[test]
    fn o1_no_limit_of_processes_is_max() {
        assert_eq!(written(r#"{"pids": {"limit": -1}}"#), ["pids.max=max"]);
        assert_eq!(written(r#"{"pids": {"limit": 7}}"#), ["pids.max=7"]);
    }
}
