//! `linux.namespaces`, id mappings and clocks: which namespaces a container gets anew and which it joins.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use linux::spawn::{Op, new};
use oci_spec::runtime::{Linux, LinuxNamespaceType as Ns, LinuxTimeOffset};
use rustix::fs::{Mode, OFlags};

use super::invalid;
use super::options::extents;
use crate::error::{Failure, Result};

/// What a container's process is born into.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Made with the process.
    pub(crate) new: u64,
    /// The process gets a cgroup namespace of its own, once it is in its groups.
    pub(crate) new_cgroup: bool,
    /// Joined by whoever clones it, in this order. The user namespace comes last: what is made after that belongs to
    /// it.
    pub(crate) joined: Vec<Op>,
    /// The user namespace, if it has one other than ours.
    pub(crate) user: Option<Arc<OwnedFd>>,
    types: HashSet<Ns>,
}

/// Every type that this program knows, by its OCI name: `features` says so.
pub(crate) const TYPES: [(&str, Ns); 8] = [
    ("cgroup", Ns::Cgroup),
    ("ipc", Ns::Ipc),
    ("mount", Ns::Mount),
    ("network", Ns::Network),
    ("pid", Ns::Pid),
    ("time", Ns::Time),
    ("user", Ns::User),
    ("uts", Ns::Uts),
];

/// The kernel's flag of a type, and its name beneath `/proc/<pid>/ns`.
pub(crate) fn flag(typ: Ns) -> (u64, &'static str) {
    match typ {
        Ns::Mount => (new::MOUNT, "mnt"),
        Ns::Cgroup => (new::CGROUP, "cgroup"),
        Ns::Uts => (new::UTS, "uts"),
        Ns::Ipc => (new::IPC, "ipc"),
        Ns::User => (new::USER, "user"),
        Ns::Pid => (new::PID, "pid"),
        Ns::Network => (new::NET, "net"),
        Ns::Time => (new::TIME, "time"),
    }
}

impl Namespaces {
    /// Opens what is joined, and makes the user namespace.
    pub(crate) fn open(linux: &Linux) -> Result<Self> {
        let mut all = Self::default();
        let mut user = None;
        let mut new_user = false;
        let (uid, gid) = (extents(linux.uid_mappings().as_deref()), extents(linux.gid_mappings().as_deref()));
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let typ = namespace.typ();
            let (flag, name) = flag(typ);
            if !all.types.insert(typ) {
                return Err(invalid("linux.namespaces", &format!("{typ} is there twice")));
            }
            let path = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty());
            match (typ, path) {
                (_, Some(path)) => {
                    let handle = open(index, path)?;
                    if same(&handle, name) {
                        continue;
                    }
                    let process = Arc::new(handle);
                    if typ == Ns::User {
                        user = Some(process);
                    } else {
                        all.joined.push(Op::JoinNamespaces { process, namespaces: flag });
                    }
                }
                (Ns::User, None) => new_user = true,
                (Ns::Cgroup, None) => all.new_cgroup = true,
                (Ns::Time, None) => {
                    // For the next child of whoever makes it, and while there is none its clocks can be set.
                    let offsets = linux.time_offsets().iter().flatten().map(|(clock, by)| offset(clock, by));
                    let mut ops = vec![Op::NewNamespaces(new::TIME)];
                    let text: String = offsets.collect::<Result<_>>()?;
                    if !text.is_empty() {
                        let path = c"/proc/self/timens_offsets".to_owned();
                        ops.push(Op::WriteFile { path, bytes: text.into_bytes(), optional: false });
                    }
                    // Before any other root is joined.
                    all.joined.splice(0..0, ops);
                }
                (_, None) => all.new |= flag,
            }
        }
        if linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()) && !all.has(Ns::Time) {
            return Err(invalid("linux.timeOffsets", "needs a time namespace"));
        }
        if new_user {
            if uid.is_empty() || gid.is_empty() {
                let field = if uid.is_empty() { "linux.uidMappings" } else { "linux.gidMappings" };
                return Err(invalid(field, "a user namespace needs mappings"));
            }
            // Root inside is charged for what those inside use.
            let owner = uid.iter().find(|extent| extent.inside == 0).map_or(0, |extent| extent.outside);
            let namespace = linux::userns::owned_namespace(&uid, &gid, owner)
                .map_err(|errno| Failure::kernel("create user namespace", "", errno))?;
            user = Some(Arc::new(namespace));
        } else if !(all.has(Ns::User) || uid.is_empty() && gid.is_empty()) {
            return Err(invalid("linux.uidMappings", "needs a user namespace"));
        }
        if let Some(user) = &user {
            let process = Arc::clone(user);
            all.joined.push(Op::JoinNamespaces { process, namespaces: new::USER });
        }
        all.user = user;
        Ok(all)
    }

    /// Whether the container has one of this type other than ours, new or joined.
    pub(crate) fn has(&self, typ: Ns) -> bool {
        self.types.contains(&typ)
    }
}

fn open(index: usize, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        Failure::kernel(format!("open linux.namespaces[{index}].path"), path.display(), errno)
    })
}

/// Whether it is the one that this process is in: joining one's own user namespace is refused by the kernel.
fn same(handle: &OwnedFd, name: &str) -> bool {
    let own = rustix::fs::stat(format!("/proc/self/ns/{name}"));
    match (own, rustix::fs::fstat(handle)) {
        (Ok(own), Ok(other)) => (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

fn offset(clock: &str, by: &LinuxTimeOffset) -> Result<String> {
    if !matches!(clock, "monotonic" | "boottime") {
        return Err(invalid("linux.timeOffsets", clock));
    }
    Ok(format!("{clock} {} {}\n", by.secs().unwrap_or(0), by.nanosecs().unwrap_or(0)))
}
