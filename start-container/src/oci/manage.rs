//! What is done with containers that are there.

use std::path::Path;
use std::time::Duration;

use cgroups::oci;
use linux::signal::Signal;
use linux::step::{Step, during};
use oci_spec::runtime::{LinuxNamespaceType as Ns, LinuxResources};
use protocol::ErrorKind;
use serde_json::{Value, json};

use super::record::{Container, State, Status};
use super::{Context, args, config, groups, hooks, log};
use crate::error::{Failure, Result};

pub(super) fn state(context: &Context<'_>, id: &str) -> Result<()> {
    let container = context.root.look(id)?;
    let state = container.state(container.status());
    log::stdout(&serde_json::to_string_pretty(&state).unwrap_or_default());
    Ok(())
}

pub(super) fn list(context: &Context<'_>, format: &str, quiet: bool) -> Result<()> {
    context.root.check()?;
    let ids = context.root.ids();
    // One that is being made or taken away just now is none.
    let there = ids.into_iter().filter_map(|id| context.root.look(&id).ok());
    let containers: Vec<Container> = there.collect();
    let mut rows = Vec::new();
    for container in &containers {
        if quiet {
            log::stdout(&container.record.id);
            continue;
        }
        let mut state = container.state(container.status());
        state.owner = owner(container.record.owner);
        rows.push(state);
    }
    match (quiet, format) {
        (true, _) => {}
        (false, "json") => log::stdout(&serde_json::to_string(&rows).unwrap_or_default()),
        (false, "table") => table(&rows),
        (false, other) => return Err(Failure::new(ErrorKind::Invalid, "invalid format option", other)),
    }
    Ok(())
}

fn owner(uid: u32) -> String {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let name = || {
        let root = rustix::fs::open("/", flags, rustix::fs::Mode::empty()).ok()?;
        crate::engine::user::name_of(std::os::fd::AsFd::as_fd(&root), uid)
    };
    name().unwrap_or_else(|| format!("#{uid}"))
}

fn table(rows: &[State<'_>]) {
    let rows: Vec<Value> = rows.iter().map(|row| json!(row)).collect();
    let text = |row: &Value, key: &str| match &row[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    let keys = ["id", "pid", "status", "bundle", "created", "owner"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| keys.map(|key| text(row, key))));
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        log::stdout(cells.join("   ").trim_end());
    }
}

pub(super) fn kill(context: &Context<'_>, args: &args::Kill) -> Result<()> {
    let container = context.root.look(&args.id)?;
    if matches!(args.signal.as_str(), "0" | "SIG0") {
        // Only whether there is something to signal.
        return match container.process() {
            _ if args.all => Ok(()),
            Some(_) => Ok(()),
            None => Err(Failure::new(ErrorKind::NotRunning, "container not running", "")),
        };
    }
    let signal: Signal = match args.signal.parse::<i32>() {
        Ok(number) => Signal::from_raw(number),
        Err(_name) => args.signal.to_uppercase().parse().ok(),
    }
    .ok_or_else(|| Failure::new(ErrorKind::Invalid, "unknown signal", format!("{:?}", args.signal)))?;
    let own = groups::open(&container.record)?;
    // Nothing else ends those whom no pid namespace of the container's takes along.
    let alone = signal == Signal::KILL && !container.has_namespace(Ns::Pid) && !own.processes().is_empty();
    if args.all || alone {
        if signal == Signal::KILL {
            own.kill();
            return Ok(());
        }
        for pid in own.processes() {
            send(pid, signal)?;
        }
        return Ok(());
    }
    let Some((_, handle)) = container.process() else {
        return Err(Failure::new(ErrorKind::NotRunning, "container not running", ""));
    };
    match linux::pidfd::send_signal(&handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(errno) => return Err(Failure::kernel("signal", "container process", errno)),
    }
    if signal == Signal::KILL && own.is_frozen() {
        // What is stopped cannot die.
        own.freeze(false).map_err(Failure::from)?;
    }
    Ok(())
}

fn send(pid: i32, signal: Signal) -> Result<()> {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return Ok(()) };
    match linux::pidfd::open(pid).and_then(|handle| linux::pidfd::send_signal(handle, signal)) {
        // Ended meanwhile.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Failure::kernel("signal", format!("process {pid}"), errno)),
    }
}

pub(super) fn delete(context: &Context<'_>, id: &str, force: bool) -> Result<()> {
    let container = match context.root.open(id) {
        Ok(container) => container,
        Err(failure) if force => {
            // One that was never written down has nothing else.
            match context.root.remains(id)? {
                None => return Ok(()),
                Some(path) if failure.kind == ErrorKind::NotFound => {
                    super::record::remove_directory(&path);
                    return Ok(());
                }
                Some(_) => return Err(failure),
            }
        }
        Err(failure) => return Err(failure),
    };
    // One that has just been told to end, or that has done its work, is on its way.
    if !force && let Some((_, handle)) = container.process() {
        let _ending = linux::pidfd::ends_within(&handle, Duration::from_millis(100));
    }
    let status = container.status();
    if !force && status != Status::Stopped {
        let text = format!("cannot delete container {id} that is not stopped: {}", status.name());
        return Err(Failure::new(ErrorKind::Busy, text, ""));
    }
    take_away(context, container)
}

/// Ends what runs, takes everything away and runs the hooks for that.
pub(super) fn take_away(context: &Context<'_>, container: Container) -> Result<()> {
    remove_all(&container)?;
    let record = &container.record;
    let state = container.state(Status::Stopped);
    for (index, hook) in hooks::of(&record.spec, "poststop").iter().enumerate() {
        // Each gets its turn, whatever became of those before.
        let result = hooks::run_one("poststop", index, hook, &state, Path::new("/"));
        if let Err(failure) = result {
            context.log.warn(&failure.sentence());
        }
    }
    Ok(())
}

/// As [`take_away`], of one that was left to others meanwhile: who took it away has done so for us.
pub(super) fn take_away_unless_gone(context: &Context<'_>, container: Container) -> Result<()> {
    if container.lock_again()? { take_away(context, container) } else { Ok(()) }
}

/// Ends what runs and takes everything away.
pub(super) fn remove_all(container: &Container) -> Result<()> {
    let record = &container.record;
    let hierarchies = groups::hierarchies(record.manager)?;
    let own = oci::Groups::open(hierarchies, &record.cgroup);
    if let Some((_, handle)) = container.process() {
        own.kill();
        // It may have left its groups.
        let _gone = linux::pidfd::send_signal(&handle, Signal::KILL);
        if own.is_frozen() {
            own.freeze(false).map_err(Failure::from)?;
        }
        if !linux::pidfd::ends_within(&handle, Duration::from_secs(10)) {
            return Err(Failure::new(ErrorKind::Busy, "end", "container process"));
        }
    }
    own.end();
    groups::forget(record);
    super::resctrl::remove(&record.resctrl);
    let removed = during(Step::RemoveBundleGroups, || oci::remove(hierarchies, &record.cgroup, &record.made));
    removed.map_err(Failure::from)?;
    container.remove_directory();
    Ok(())
}

pub(super) fn freeze(context: &Context<'_>, id: &str, frozen: bool) -> Result<()> {
    let container = context.root.open(id)?;
    let status = container.status();
    let fits =
        if frozen { matches!(status, Status::Running | Status::Created) } else { status == Status::Paused };
    if !fits {
        let text = if frozen { "container not running" } else { "container not paused" };
        return Err(Failure::new(ErrorKind::NotRunning, text, ""));
    }
    groups::open(&container.record)?.freeze(frozen).map_err(Failure::from)
}

pub(super) fn ps(context: &Context<'_>, id: &str, format: &str, options: &[String]) -> Result<()> {
    let container = context.root.look(id)?;
    let pids = groups::open(&container.record)?.processes();
    if format == "json" {
        log::stdout(&json!(pids).to_string());
        return Ok(());
    }
    let options: &[String] = if options.is_empty() { &["-ef".to_owned()] } else { options };
    let output = std::process::Command::new("ps")
        .args(options)
        .output()
        .map_err(|error| Failure::new(ErrorKind::NotFound, "run", "ps").because(error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_ascii_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Failure::new(ErrorKind::Invalid, "find PID in the output of", "ps"))?;
    log::stdout(head);
    for line in lines {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            log::stdout(line);
        }
    }
    Ok(())
}

pub(super) fn update(context: &Context<'_>, args: &args::Update) -> Result<()> {
    let mut container = context.root.open(&args.id)?;
    if container.process().is_none() {
        return Err(Failure::new(ErrorKind::NotRunning, "container not running", ""));
    }
    let path = args.resources.as_deref();
    let mut asked = match path {
        Some(path) => config::read_json(path)?,
        None => json!({}),
    };
    let mut set = |group: &str, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            asked[group][key] = value;
        }
    };
    let bytes = |text: &Option<String>| text.as_deref().map(bytes).transpose();
    set("blockIO", "weight", args.blkio_weight.map(Into::into));
    set("cpu", "period", args.cpu_period.map(Into::into));
    set("cpu", "quota", args.cpu_quota.map(Into::into));
    set("cpu", "burst", args.cpu_burst.map(Into::into));
    set("cpu", "shares", args.cpu_share.map(Into::into));
    set("cpu", "realtimePeriod", args.cpu_rt_period.map(Into::into));
    set("cpu", "realtimeRuntime", args.cpu_rt_runtime.map(Into::into));
    set("cpu", "idle", args.cpu_idle.map(Into::into));
    set("cpu", "cpus", args.cpuset_cpus.clone().map(Into::into));
    set("cpu", "mems", args.cpuset_mems.clone().map(Into::into));
    set("memory", "limit", bytes(&args.memory)?.map(Into::into));
    set("memory", "reservation", bytes(&args.memory_reservation)?.map(Into::into));
    set("memory", "swap", bytes(&args.memory_swap)?.map(Into::into));
    set("memory", "kernelTCP", bytes(&args.kernel_memory_tcp)?.map(Into::into));
    set("pids", "limit", args.pids_limit.map(Into::into));
    let merged = merge(&container, &asked);
    let resources: LinuxResources = config::typed(path.unwrap_or(Path::new("resources")), asked)?;
    groups::tell(&container.record, &resources)?;
    groups::open(&container.record)?.apply(&resources, true).map_err(Failure::from)?;
    if let (Some(linux), Ok(merged)) = (container.record.spec.linux_mut(), serde_json::from_value(merged)) {
        linux.set_resources(Some(merged));
    }
    container.write()
}

/// What the container has now, as a later look at its record tells.
fn merge(container: &Container, asked: &Value) -> Value {
    let linux = container.record.spec.linux().as_ref();
    let mut all = json!(linux.and_then(|linux| linux.resources().as_ref()));
    if all.is_null() {
        all = json!({});
    }
    for (group, values) in asked.as_object().into_iter().flatten() {
        match (all.get_mut(group).and_then(Value::as_object_mut), values.as_object()) {
            (Some(there), Some(values)) => there.extend(values.clone()),
            _ => all[group] = values.clone(),
        }
    }
    all
}

/// `64m`, `-1`.
fn bytes(text: &str) -> Result<i64> {
    let bad = || Failure::new(ErrorKind::Invalid, "read size", text);
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, shift) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 10),
        Some(b'm') => (&lower[..lower.len() - 1], 20),
        Some(b'g') => (&lower[..lower.len() - 1], 30),
        Some(b't') => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: i64 = digits.parse().map_err(|error: std::num::ParseIntError| bad().because(error))?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

pub(super) fn events(context: &Context<'_>, id: &str, once: bool, interval: &str) -> Result<()> {
    let container = context.root.look(id)?;
    if container.process().is_none() {
        return Err(Failure::new(ErrorKind::NotRunning, "container with id", format!("{id} is not running")));
    }
    let interval = duration(interval)?;
    let own = groups::open(&container.record)?;
    let say = || {
        // In the order in which the others say it: there are readers who look for its beginning.
        let (id, data) = (json!(id), json!(own.stats()));
        log::stdout(&format!("{{\"type\":\"stats\",\"id\":{id},\"data\":{data}}}"));
    };
    say();
    if once {
        return Ok(());
    }
    let mut kills = own.stats().oom_kills();
    while let Some((_, handle)) = container.process() {
        if linux::pidfd::ends_within(&handle, interval) {
            break;
        }
        let now = own.stats().oom_kills();
        if now > kills {
            log::stdout(&format!("{{\"type\":\"oom\",\"id\":{}}}", json!(id)));
        }
        kills = now;
        say();
    }
    Ok(())
}

/// `5s`, `500ms`, `1m`.
fn duration(text: &str) -> Result<Duration> {
    let bad = || Failure::new(ErrorKind::Invalid, "read --interval", text);
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let found = units.into_iter().find_map(|(unit, length)| Some((text.strip_suffix(unit)?, length)));
    let (number, length): (&str, u64) = found.ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|error: std::num::ParseIntError| bad().because(error))?;
    if number == 0 {
        return Err(bad());
    }
    Ok(Duration::from_millis(number.saturating_mul(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_sizes_and_times_are_read_as_engines_write_them() {
        assert_eq!(bytes("64m").unwrap(), 64 << 20);
        assert_eq!(bytes("1GiB").unwrap(), 1 << 30);
        assert_eq!(bytes("-1").unwrap(), -1);
        assert!(bytes("many").is_err());
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert!(duration("0s").is_err());
    }
}
