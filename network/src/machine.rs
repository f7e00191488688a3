//! Settings of the machine that a private network needs, changed only where they are not so already, written down
//! as they were, and put back when the last container goes.
//!
//! | setting | why |
//! |---|---|
//! | `net/ipv4/ip_forward` = 1 | packets between bridge and the way out |
//! | `net/ipv6/conf/all/forwarding` = 1 | the same |
//! | `net/ipv6/conf/<link>/accept_ra` = 2 where it is 1 | a machine that forwards forgets the routes it learned from router advertisements, unless told to keep them |
//!
//! Putting back does not override others: a setting that is no longer as we set it stays as it is.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;

use linux::step::{Step, during};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nft::Strangers;

/// A setting that we changed, or are about to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The file beneath `/proc/sys`: `net/ipv4/ip_forward`.
    pub sysctl: String,
    /// What it was.
    pub was: String,
    /// What we set.
    pub set: String,
}

const DISABLED6: &str = "net/ipv6/conf/all/disable_ipv6";
const FORWARD4: &str = "net/ipv4/ip_forward";
const FORWARD6: &str = "net/ipv6/conf/all/forwarding";

/// Whether this network namespace has IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    read(DISABLED6).as_deref() == Some("0")
}

/// Settings that are asked for often, by open files.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    disabled6: OnceLock<OwnedFd>,
    forward4: OnceLock<OwnedFd>,
    forward6: OnceLock<OwnedFd>,
}

impl Watched {
    /// Whether [`wanted`] has anything to change.
    pub(crate) fn is_as_wanted(&self) -> bool {
        let is_off = |file, sysctl| value(file, sysctl).as_deref() == Some("0");
        let ipv6 = is_off(&self.disabled6, DISABLED6);
        !(is_off(&self.forward4, FORWARD4) || ipv6 && is_off(&self.forward6, FORWARD6))
    }
}

/// What a setting is, by a file that is opened once. The kernel makes the text for each read from its beginning.
fn value(file: &OnceLock<OwnedFd>, sysctl: &str) -> Option<String> {
    let file = match file.get() {
        Some(file) => file,
        None => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(path(sysctl), flags, Mode::empty()).ok()?;
            file.get_or_init(|| opened)
        }
    };
    let mut text = [0; 64];
    let count = rustix::io::pread(file, &mut text, 0).ok()?;
    Some(String::from_utf8_lossy(text.get(..count)?).trim().to_owned())
}

/// What is to be changed, in that order. Changes nothing.
pub(crate) fn wanted(ipv6: bool) -> Vec<Change> {
    let change = |sysctl: &str, was: &str, set: &str| Change {
        sysctl: sysctl.to_owned(),
        was: was.to_owned(),
        set: set.to_owned(),
    };
    let mut changes = Vec::new();
    if let Some(was) = read(FORWARD4).filter(|was| was == "0") {
        changes.push(change(FORWARD4, &was, "1"));
    }
    if let Some(was) = read(FORWARD6).filter(|was| ipv6 && was == "0") {
        for link in links() {
            let accept = format!("net/ipv6/conf/{link}/accept_ra");
            if let Some(was) = read(&accept).filter(|was| was == "1") {
                changes.push(change(&accept, &was, "2"));
            }
        }
        changes.push(change(FORWARD6, &was, "1"));
    }
    changes
}

/// Links that may take router advertisements: none of ours, and not the templates of links to come.
fn links() -> Vec<String> {
    let entries = fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let others = |name: &String| {
        !["all", "default", "lo"].contains(&name.as_str())
            && !name.starts_with(crate::BRIDGE_PREFIX)
            && !name.starts_with(crate::VETH_PREFIX)
    };
    let mut names: Vec<String> = names.filter(others).collect();
    names.sort();
    names
}

/// Makes the changes, which are written down already.
pub(crate) fn apply(changes: &[Change]) -> Result<()> {
    let set = |change: &Change| during(Step::SetMachine, || write(&change.sysctl, &change.set));
    changes.iter().try_for_each(set)
}

/// Puts back what is still as we set it, last first.
pub(crate) fn restore(changes: &[Change]) -> Result<()> {
    for change in changes.iter().rev() {
        if read(&change.sysctl).as_ref() == Some(&change.set) {
            write(&change.sysctl, &change.was)?;
        }
    }
    Ok(())
}

/// In which families the machine forwards only for us.
pub(crate) fn strangers(changes: &[Change]) -> Strangers {
    let changed = |name: &str| changes.iter().any(|change| change.sysctl == name);
    Strangers { v4: changed(FORWARD4), v6: changed(FORWARD6) }
}

fn path(sysctl: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(sysctl)
}

fn read(sysctl: &str) -> Option<String> {
    fs::read_to_string(path(sysctl)).ok().map(|text| text.trim().to_owned())
}

/// Sets a sysctl of this thread's network namespace.
pub(crate) fn write(sysctl: &str, value: &str) -> Result<()> {
    fs::write(path(sysctl), value).map_err(|source| Error::Sysctl {
        name: sysctl.to_owned(),
        value: value.to_owned(),
        source,
    })
}
