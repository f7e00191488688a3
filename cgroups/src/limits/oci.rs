//! Limits as the OCI runtime specification writes them (`config-linux.md`, "Control groups"). No input or output but
//! for the numbers of devices that were given by path.
//!
//! What [`write_to`] writes, [`from_oci`] reads again without loss.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimitBuilder, LinuxMemory, LinuxPids, LinuxPidsBuilder,
    LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
};

use super::{HugePageLimit, IoLimit, Limits};
use crate::error::{Error, Result};
use crate::machine;

/// Reads them from a configuration. `devices` is left to whoever makes devices; each other field that is set and
/// that this crate cannot apply is refused.
///
/// # Errors
/// [`Error::Unsupported`], or [`Error::Invalid`] where two fields contradict each other.
pub fn from_oci(resources: &LinuxResources) -> Result<Limits> {
    let mut limits = Limits::default();
    refuse("network", resources.network().is_some())?;
    refuse("rdma", resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()))?;
    refuse("unified", resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()))?;
    if let Some(memory) = resources.memory() {
        read_memory(memory, &mut limits)?;
    }
    if let Some(cpu) = resources.cpu() {
        read_cpu(cpu, &mut limits)?;
    }
    limits.pids = resources.pids().as_ref().map(LinuxPids::limit).and_then(positive);
    if let Some(block_io) = resources.block_io() {
        read_block_io(block_io, &mut limits)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let limit_bytes = u64::try_from(limit.limit()).unwrap_or(Limits::UNLIMITED);
        limits.hugetlb.push(HugePageLimit { page_size: limit.page_size().clone(), limit_bytes });
    }
    Ok(limits)
}

/// Writes them into a configuration, over what was there of these controllers.
///
/// # Errors
/// [`Error::Invalid`] for a device that is no whole disk of this machine.
pub fn write_to(limits: &Limits, resources: &mut LinuxResources) -> Result<()> {
    resources.set_memory(oci_memory(limits));
    resources.set_cpu(oci_cpu(limits));
    resources.set_pids(limits.pids.and_then(|pids| {
        let limit = if pids >= Limits::UNLIMITED { -1 } else { signed(pids) };
        LinuxPidsBuilder::default().limit(limit).build().ok()
    }));
    resources.set_block_io(oci_block_io(limits)?);
    let hugetlb = limits.hugetlb.iter().filter_map(|limit| {
        let builder = LinuxHugepageLimitBuilder::default().page_size(limit.page_size.clone());
        let bytes = limit.limit_bytes;
        builder.limit(if bytes >= Limits::UNLIMITED { -1 } else { signed(bytes) }).build().ok()
    });
    resources.set_hugepage_limits((!limits.hugetlb.is_empty()).then(|| hugetlb.collect()));
    Ok(())
}

fn oci_memory(limits: &Limits) -> Option<LinuxMemory> {
    let limit = |bytes: u64| if bytes >= Limits::UNLIMITED { -1 } else { signed(bytes) };
    let mut memory = LinuxMemory::default();
    memory.set_limit(limits.memory_bytes.map(limit));
    memory.set_reservation(limits.memory_reservation_bytes.map(limit));
    if let (Some(bytes), Some(swap)) = (limits.memory_bytes, limits.swap_bytes) {
        memory.set_swap(Some(limit(if swap >= Limits::UNLIMITED {
            swap
        } else {
            bytes.saturating_add(swap)
        })));
    }
    (memory != LinuxMemory::default()).then_some(memory)
}

fn oci_cpu(limits: &Limits) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_weight.map(|weight| (weight * 1024 + 50) / 100));
    if let Some((quota, period)) = limits.quota() {
        cpu.set_quota(Some(signed(quota))).set_period(Some(period));
    }
    cpu.set_cpus(limits.cpuset_cpus.clone()).set_mems(limits.cpuset_mems.clone());
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn oci_block_io(limits: &Limits) -> Result<Option<LinuxBlockIo>> {
    let mut tables: [Vec<LinuxThrottleDevice>; 4] = Default::default();
    for limit in &limits.io {
        let (major, minor) = machine::device(&limit.device)?;
        for (table, (_, rate)) in tables.iter_mut().zip(limit.rates()) {
            let device = rate.and_then(|rate| {
                let builder = LinuxThrottleDeviceBuilder::default();
                builder.major(i64::from(major)).minor(i64::from(minor)).rate(rate).build().ok()
            });
            table.extend(device);
        }
    }
    let [read_bps, write_bps, read_iops, write_iops] =
        tables.map(|table| (!table.is_empty()).then_some(table));
    let mut block_io = LinuxBlockIo::default();
    block_io
        .set_weight(limits.io_weight)
        .set_throttle_read_bps_device(read_bps)
        .set_throttle_write_bps_device(write_bps)
        .set_throttle_read_iops_device(read_iops)
        .set_throttle_write_iops_device(write_iops);
    Ok((block_io != LinuxBlockIo::default()).then_some(block_io))
}

fn read_memory(memory: &LinuxMemory, limits: &mut Limits) -> Result<()> {
    refuse("memory.kernel", memory.kernel().is_some())?;
    refuse("memory.kernelTCP", memory.kernel_tcp().is_some())?;
    refuse("memory.swappiness", memory.swappiness().is_some())?;
    refuse("memory.disableOOMKiller", memory.disable_oom_killer() == Some(true))?;
    limits.memory_bytes = memory.limit().and_then(bytes);
    limits.memory_reservation_bytes = memory.reservation().and_then(bytes);
    limits.swap_bytes = match (memory.swap().and_then(bytes), limits.memory_bytes) {
        (None, _) => None,
        (Some(Limits::UNLIMITED), None) => None,
        (Some(Limits::UNLIMITED), Some(_)) => Some(Limits::UNLIMITED),
        (Some(both), Some(memory)) if both >= memory => Some(both - memory),
        (Some(both), memory) => {
            let memory = memory.map_or_else(|| "none".to_owned(), |memory| memory.to_string());
            let why = format!("{both} bytes with swap are less than the limit without ({memory})");
            return Err(Error::invalid("linux.resources.memory.swap", why));
        }
    };
    Ok(())
}

fn read_cpu(cpu: &LinuxCpu, limits: &mut Limits) -> Result<()> {
    refuse("cpu.idle", cpu.idle().is_some_and(|idle| idle != 0))?;
    refuse("cpu.burst", cpu.burst().is_some_and(|burst| burst != 0))?;
    refuse("cpu.realtimeRuntime", cpu.realtime_runtime().is_some_and(|runtime| runtime != 0))?;
    refuse("cpu.realtimePeriod", cpu.realtime_period().is_some_and(|period| period != 0))?;
    // 0 is how runtimes write that nothing is asked for.
    let shares = cpu.shares().filter(|&shares| shares != 0);
    limits.cpu_weight =
        shares.map(|shares| (shares.min(1 << 18) * 100 + 512).div_euclid(1024).clamp(1, 10_000));
    if let Some(quota) = cpu.quota().and_then(positive) {
        let period = cpu.period().filter(|&period| period != 0);
        limits.cpus = Some(quota as f64 / period.unwrap_or(Limits::DEFAULT_PERIOD) as f64);
        limits.cpu_period_micros = period.filter(|&period| period != Limits::DEFAULT_PERIOD);
    }
    limits.cpuset_cpus = cpu.cpus().clone().filter(|cpus| !cpus.is_empty());
    limits.cpuset_mems = cpu.mems().clone().filter(|mems| !mems.is_empty());
    Ok(())
}

fn read_block_io(block_io: &LinuxBlockIo, limits: &mut Limits) -> Result<()> {
    refuse("blockIO.leafWeight", block_io.leaf_weight().is_some_and(|weight| weight != 0))?;
    refuse("blockIO.weightDevice", block_io.weight_device().as_ref().is_some_and(|list| !list.is_empty()))?;
    limits.io_weight = block_io.weight().filter(|&weight| weight != 0);
    let tables = [
        block_io.throttle_read_bps_device(),
        block_io.throttle_write_bps_device(),
        block_io.throttle_read_iops_device(),
        block_io.throttle_write_iops_device(),
    ];
    for (index, table) in tables.into_iter().enumerate() {
        for entry in table.iter().flatten() {
            let device = format!("{}:{}", entry.major(), entry.minor());
            let at = limits.io.iter().position(|limit| limit.device == device).unwrap_or_else(|| {
                limits.io.push(IoLimit { device, ..IoLimit::default() });
                limits.io.len() - 1
            });
            let limit = &mut limits.io[at];
            let rates =
                [&mut limit.read_bps, &mut limit.write_bps, &mut limit.read_iops, &mut limit.write_iops];
            *rates[index] = Some(entry.rate());
        }
    }
    Ok(())
}

fn refuse(field: &'static str, present: bool) -> Result<()> {
    if present { Err(Error::Unsupported { field }) } else { Ok(()) }
}

/// -1 is unlimited, 0 is nothing said.
fn bytes(value: i64) -> Option<u64> {
    match u64::try_from(value) {
        Ok(0) => None,
        Ok(bytes) => Some(bytes.min(Limits::UNLIMITED)),
        Err(_) => Some(Limits::UNLIMITED),
    }
}

/// 0 and -1 are no limit.
fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|&value| value != 0)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
