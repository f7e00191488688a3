//! `linux.intelRdt`: the class of cache and memory bandwidth that a container is in, by the resctrl file system.
//!
//! ```text
//! <resctrl>/<class>/schemata, tasks                      the class: closID, or the container's id
//! <resctrl>/<class>/mon_groups/<container>/tasks         where it is counted by itself (enableMonitoring)
//! ```
//! A class by the container's id is the container's, and goes with it; one by closID is the administrator's, and stays.
//!
//! Source: OCI runtime spec, config-linux.md, "Intel RDT"; the kernel's `filesystems/resctrl.rst`. Linux 4.10.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIntelRdt, Spec};
use protocol::ErrorKind;

use super::config::invalid;
use crate::error::{Failure, Result};

/// What a container asks for, found on this machine.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Class {
    path: PathBuf,
    /// It must be there already.
    there: bool,
    schemata: Vec<String>,
    /// Where the container is counted.
    monitor: Option<PathBuf>,
    /// What is the container's own, and goes with it: deepest first.
    own: Vec<PathBuf>,
}

/// The class that a Spec asks for.
///
/// # Errors
/// Where resctrl is not mounted; a `closID` that is no plain name.
pub(super) fn class(spec: &Spec, id: &str) -> Result<Option<Class>> {
    let Some(rdt) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) else {
        return Ok(None);
    };
    let mounts = linux::mounts::list(None, linux::kernel::Features::get())
        .map_err(|errno| Failure::kernel("look for", "resctrl", errno))?;
    let mount = mounts.into_iter().find(|mount| mount.fs_type == "resctrl");
    let top = mount.ok_or_else(|| invalid("linux.intelRdt", "this machine has no resctrl mounted"))?;
    plan(rdt, id, Path::new(&*String::from_utf8_lossy(&top.mountpoint))).map(Some)
}

fn plan(rdt: &LinuxIntelRdt, id: &str, top: &Path) -> Result<Class> {
    let named = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
    if let Some(name) = named {
        const KERNELS: [&str; 5] = [".", "..", "info", "mon_data", "mon_groups"];
        if name.contains(['/', '\n']) || KERNELS.contains(&name) {
            return Err(invalid("linux.intelRdt.closID", &format!("{name:?} is no name of a class")));
        }
    }
    let lines =
        |text: &Option<String>| text.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    let mut schemata: Vec<String> = lines(rdt.l3_cache_schema());
    let bandwidth: Vec<String> = lines(rdt.mem_bw_schema());
    if !bandwidth.is_empty() {
        // Said in a field of its own, it holds.
        schemata.retain(|line| !line.trim_start().starts_with("MB:"));
    }
    schemata.extend(bandwidth);
    schemata.extend(rdt.schemata().iter().flatten().cloned());
    let path = top.join(named.unwrap_or(id));
    let monitor = (*rdt.enable_monitoring() == Some(true)).then(|| path.join("mon_groups").join(id));
    let class = named.is_none().then(|| path.clone());
    let own = monitor.iter().cloned().chain(class).collect();
    Ok(Class { there: named.is_some() && schemata.is_empty(), path, schemata, monitor, own })
}

impl Class {
    /// What is to be written down before it is made, and removed in that order.
    pub(super) fn own(&self) -> Vec<PathBuf> {
        self.own.clone()
    }

    /// Makes what is missing of it, and says what it may use.
    pub(super) fn make(&self) -> Result<()> {
        if self.there && !self.path.is_dir() {
            return Err(invalid("linux.intelRdt.closID", &format!("{} is not there", self.path.display())));
        }
        for dir in [Some(&self.path), self.monitor.as_ref()].into_iter().flatten() {
            match std::fs::create_dir(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(Failure::new(ErrorKind::Kernel, "create", dir.display()).because(error));
                }
                _ => {}
            }
        }
        for line in &self.schemata {
            write(&self.path.join("schemata"), &format!("{line}\n"))?;
        }
        Ok(())
    }

    /// Puts a process into it.
    pub(super) fn join(&self, pid: i32) -> Result<()> {
        for dir in [Some(&self.path), self.monitor.as_ref()].into_iter().flatten() {
            write(&dir.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| {
        Failure::new(ErrorKind::Kernel, format!("write {text:?} to"), path.display()).because(error)
    })
}

/// Removes what [`Class::own`] said. What is not there is gone.
pub(super) fn remove(own: &[PathBuf]) {
    for dir in own {
        let _gone = rustix::fs::rmdir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn planned(rdt: serde_json::Value) -> Result<Class> {
        plan(&serde_json::from_value(rdt).unwrap(), "one", Path::new("/r"))
    }

    #[test]
    fn o1_a_class_of_its_own_goes_with_the_container_and_a_named_one_stays() {
        let own = planned(
            json!({"l3CacheSchema": "L3:0=f\nMB:0=10", "memBwSchema": "MB:0=20", "schemata": ["L2:0=1"]}),
        );
        let own = own.unwrap();
        assert_eq!(own.schemata, ["L3:0=f", "MB:0=20", "L2:0=1"]);
        assert_eq!((own.there, own.own()), (false, vec![PathBuf::from("/r/one")]));
        let named = planned(json!({"closID": "gold", "enableMonitoring": true})).unwrap();
        assert_eq!(named.path, Path::new("/r/gold"));
        assert_eq!((named.there, named.own()), (true, vec![PathBuf::from("/r/gold/mon_groups/one")]));
        for name in ["../x", "info", "a/b"] {
            let sentence = planned(json!({"closID": name})).unwrap_err().sentence();
            assert!(sentence.contains("linux.intelRdt.closID"), "{sentence}");
        }
    }
}
