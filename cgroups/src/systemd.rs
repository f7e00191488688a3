//! Scopes: control groups that systemd makes, because a machine's groups are its own.
//!
//! Asks systemd for a transient scope over D-Bus (`bus`), and says what a `cgroupsPath` for it means. A scope begins with a
//! process: ours, which goes home once the container's is in it. So one that is killed between the two leaves nothing:
//! systemd takes an empty scope away.
//!
//! ```text
//! cgroupsPath  machine.slice:engine:name      slice, prefix, name
//! the scope    engine-name.scope
//! its group    /machine.slice/engine-name.scope
//! ```
//! Limits are written into the group by [`crate::oci`], as without systemd, and told to systemd, which would else write its
//! own when it is reloaded. Sources: systemd.scope(5), org.freedesktop.systemd1(5), systemd's `CGROUP_DELEGATION.md`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::fs::CWD;

use crate::dir;
use crate::error::{Error, Result};

mod bus;
mod property;

pub use bus::Value;
pub use property::property;

/// A scope as it is named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scope {
    /// `a-b.slice`.
    pub slice: String,
    /// `prefix-name.scope`.
    pub unit: String,
}

impl Scope {
    /// Reads `slice:prefix:name`. Nothing: a scope of ours in the slice of the system's services.
    ///
    /// # Errors
    /// [`Error::Name`] for what is no name of a unit.
    pub fn read(path: Option<&str>, id: &str) -> Result<Self> {
        let bad = |name: &str| Error::Name { name: name.to_owned() };
        let (slice, prefix, name) = match path {
            None => ("", "start-container-oci", id),
            Some(path) => {
                let mut parts = path.split(':');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
                    _ => return Err(bad(path)),
                }
            }
        };
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let whole = |text: &str| !text.is_empty() && text.len() < 200 && text.chars().all(plain);
        let stem = slice.strip_suffix(".slice").filter(|stem| whole(stem)).ok_or_else(|| bad(slice))?;
        // `-.slice` is the top; else no part between dashes is empty.
        if stem != "-" && stem.split('-').any(str::is_empty) {
            return Err(bad(slice));
        }
        let unit = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        if name.is_empty() || !whole(&unit) {
            return Err(bad(&unit));
        }
        Ok(Self { slice: slice.to_owned(), unit })
    }

    /// Its group, beneath the top of the hierarchy: `a-b.slice` lies in `a.slice`.
    #[must_use]
    pub fn group(&self) -> PathBuf {
        let stem = self.slice.trim_end_matches(".slice");
        let mut path = PathBuf::new();
        if stem != "-" {
            for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
                path.push(format!("{}.slice", &stem[..end]));
            }
        }
        path.join(&self.unit)
    }
}

/// This process, in a scope for a moment.
#[derive(Debug)]
#[must_use = "this process stays in the scope"]
pub struct Visit {
    home: Vec<PathBuf>,
}

/// Makes a scope, with this process in it.
///
/// # Errors
/// [`Error::Systemd`].
pub fn start(scope: &Scope, properties: Vec<(String, Value)>) -> Result<Visit> {
    let home = own_groups()?;
    let mut all = vec![
        ("Description".to_owned(), Value::Text(format!("start-container {}", scope.unit))),
        ("Slice".to_owned(), Value::Text(scope.slice.clone())),
        ("Delegate".to_owned(), Value::Flag(true)),
        ("DefaultDependencies".to_owned(), Value::Flag(false)),
        ("PIDs".to_owned(), Value::Numbers(vec![std::process::id()])),
    ];
    for what in ["MemoryAccounting", "CPUAccounting", "TasksAccounting", "IOAccounting"] {
        all.push((what.to_owned(), Value::Flag(true)));
    }
    all.extend(properties);
    let start = [Value::Text(scope.unit.clone()), Value::Text("replace".to_owned())];
    let mut bus = bus::Bus::connect()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match bus.call("StartTransientUnit", &start, Some(&all)) {
            Ok(()) => break,
            // The last one of this name failed, or is on its way out.
            Err(Error::Systemd { why, .. }) if why.contains("already") && Instant::now() < deadline => {
                bus.tell("ResetFailedUnit", &[&scope.unit])?;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
        }
    }
    // It is there when this process is in it.
    let end = format!("/{}", scope.unit);
    while !dir::read(CWD, "/proc/self/cgroup").is_ok_and(|text| text.lines().any(|line| line.ends_with(&end)))
    {
        if Instant::now() > deadline {
            return Err(Error::Systemd {
                what: format!("start {}", scope.unit),
                why: "it takes too long".into(),
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // It is put into one hierarchy after another, and nobody is answered in between.
    bus.call("GetUnit", &start[..1], None)?;
    Ok(Visit { home })
}

impl Visit {
    /// This process goes back to where it came from.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn end(mut self) -> Result<()> {
        self.go_home()
    }

    fn go_home(&mut self) -> Result<()> {
        for group in std::mem::take(&mut self.home) {
            let file = group.join("cgroup.procs");
            dir::write(CWD, &file.to_string_lossy(), "0").map_err(|source| Error::Write {
                file: "cgroup.procs".into(),
                value: "0".into(),
                group: group.display().to_string(),
                source,
            })?;
        }
        Ok(())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // Whatever failed: who ends the scope must not be in it.
        self.go_home().ok();
    }
}

/// The directories of the groups that this process is in.
fn own_groups() -> Result<Vec<PathBuf>> {
    let path = "/proc/self/cgroup";
    let text = dir::read(CWD, path).map_err(|source| Error::ReadMachine { path: path.to_owned(), source })?;
    let hierarchies = crate::oci::Hierarchies::probe()?;
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let of = |hierarchy: &&crate::oci::Hierarchy| {
            let mut options: Vec<&str> = hierarchy.options.iter().map(String::as_str).collect();
            let mut named: Vec<&str> = controllers.split(',').filter(|name| !name.is_empty()).collect();
            options.sort_unstable();
            named.sort_unstable();
            options == named
        };
        if let Some(hierarchy) = hierarchies.all().find(of) {
            groups.push(hierarchy.point.join(group.trim_start_matches('/')));
        }
    }
    Ok(groups)
}

/// Tells systemd other limits of a scope that is there.
///
/// # Errors
/// [`Error::Systemd`].
pub fn update(unit: &str, properties: &[(String, Value)]) -> Result<()> {
    if properties.is_empty() {
        return Ok(());
    }
    let arguments = [Value::Text(unit.to_owned()), Value::Flag(true)];
    bus::Bus::connect()?.call("SetUnitProperties", &arguments, Some(properties))
}

/// Forgets a scope. One that is not there is no error: an empty scope goes by itself.
pub fn stop(unit: &str) {
    if let Ok(mut bus) = bus::Bus::connect() {
        // Nothing waits for it: one that is still there when its name is used again is waited for then.
        bus.tell("StopUnit", &[unit, "replace"]).ok();
        bus.tell("ResetFailedUnit", &[unit]).ok();
    }
}

/// Limits as systemd names them. What it has no word for is in the group alone. `v2`: which words.
#[must_use]
pub fn properties(resources: &LinuxResources, v2: bool) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    // -1 is how OCI says that there is none, and the largest number is how systemd does.
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let mut number = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            all.push((name.to_owned(), Value::Number(value)));
        }
    };
    if let Some(memory) = resources.memory() {
        number(if v2 { "MemoryMax" } else { "MemoryLimit" }, memory.limit().map(limit));
        number("MemoryLow", memory.reservation().filter(|_| v2).map(limit));
    }
    if let Some(cpu) = resources.cpu() {
        let shares = cpu.shares().filter(|shares| *shares > 0);
        if v2 {
            number("CPUWeight", shares.map(crate::oci::weight));
        } else {
            number("CPUShares", shares);
        }
        let period = cpu.period().filter(|period| *period > 0).unwrap_or(100_000);
        let per_second = |quota: i64| match u64::try_from(quota) {
            // In steps of ten milliseconds, upwards.
            Ok(quota) if quota > 0 => (quota.saturating_mul(1_000_000) / period).div_ceil(10_000) * 10_000,
            _ => u64::MAX,
        };
        number("CPUQuotaPerSecUSec", cpu.quota().map(per_second));
        number("CPUQuotaPeriodUSec", cpu.period().filter(|period| *period > 0));
    }
    number("TasksMax", resources.pids().map(|pids| limit(pids.limit())));
    all
}

/// Whether systemd manages this machine, `sd_booted(3)`.
#[must_use]
pub fn is_there() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_a_scope_is_named_by_slice_prefix_and_name() {
        let group = |path| Scope::read(Some(path), "id").unwrap().group();
        assert_eq!(group("machine.slice:libpod:abc"), Path::new("machine.slice/libpod-abc.scope"));
        assert_eq!(group("a-b-c.slice:p:n"), Path::new("a.slice/a-b.slice/a-b-c.slice/p-n.scope"));
        assert_eq!(group(":cri:n"), Path::new("system.slice/cri-n.scope"));
        assert_eq!(group("-.slice::n"), Path::new("n.scope"));
        let own = Scope::read(None, "id").unwrap();
        assert_eq!(own.group(), Path::new("system.slice/start-container-oci-id.scope"));
    }

    #[test]
    fn o1_what_is_no_scope_is_refused() {
        for bad in [
            "/a/b",
            "a:b",
            "a:b:c:d",
            "a.slice:p:",
            "a/../b.slice:p:n",
            "a--b.slice:p:n",
            "a.slice:p:../n",
            "a:p:n",
        ] {
            assert!(Scope::read(Some(bad), "id").is_err(), "{bad}");
        }
    }

    #[test]
    fn o1_limits_have_systemds_names() {
        let text = r#"{"memory": {"limit": 1024, "reservation": -1}, "pids": {"limit": -1},
            "cpu": {"quota": 25000, "period": 100000, "shares": 1024}}"#;
        let resources: LinuxResources = serde_json::from_str(text).unwrap();
        let said = format!("{:?}", properties(&resources, true));
        for one in [
            "\"MemoryMax\", Number(1024)",
            "\"CPUQuotaPerSecUSec\", Number(250000)",
            "\"TasksMax\", Number(18446744073709551615)",
        ] {
            assert!(said.contains(one), "{one}: {said}");
        }
    }
}
