//! The kernel: capabilities, calls, mounts, namespaces, filters.

use std::os::fd::{AsFd, OwnedFd};

use linux::kernel::Features;
use linux::mount::{FsContext, MountAttr};
use linux::userns::Extent;
use rustix::fs::Mode;
use rustix::mount::MountAttrFlags;
use rustix::thread::CapabilitySet;

use super::{Finding, Tried, needed, useful};

/// A machine's first id that is 0 inside: any will do.
const SOME_ID: u32 = 100_000;

pub(super) fn examine() -> Vec<Finding> {
    let features = Features::get();
    let newer =
        |have: bool, since: &str| if have { Ok("there".into()) } else { Err(format!("not before {since}")) };
    let mut all = vec![
        needed("kernel", kernel(), "nothing here is tested on kernels before 6.1"),
        needed(
            "capabilities",
            capabilities(),
            "making containers takes the capabilities of root: run it as root, outside of other containers",
        ),
        useful(
            "cap-sys-resource",
            capability(CapabilitySet::SYS_RESOURCE, "CAP_SYS_RESOURCE"),
            "limits of a process (--ulimit) cannot be above our own, nor can it be spared from the out-of-memory killer \
             (--oom-score-adj below ours)",
        ),
        useful(
            "cap-mac",
            capability(CapabilitySet::MAC_ADMIN, "CAP_MAC_ADMIN"),
            "OCI bundles with labels of AppArmor or SELinux may be refused",
        ),
        needed("overlay", overlay(), "images cannot be stacked: no rootfs"),
        needed(
            "idmapped-mounts",
            idmapped(),
            "no user namespaces (--userns), no sandboxes, no id maps of volumes",
        ),
        needed(
            "user-namespaces",
            user_namespace().map(|_| "one was made".into()),
            "no --userns, no sandboxes",
        ),
        needed(
            "seccomp",
            seccomp(),
            "system calls cannot be filtered: no container starts without --seccomp unconfined",
        ),
    ];
    all.extend([
        useful(
            "overlay-layers",
            newer(features.overlay_lowerdir_append, "Linux 6.8"),
            "layers are named in one string: images with very many layers are refused",
        ),
        useful(
            "overlay-layer-handles",
            newer(features.overlay_layer_fds, "Linux 6.13"),
            "layers are found by path, not by handle: mounting with a user namespace takes longer",
        ),
        useful(
            "statmount",
            newer(features.statmount, "Linux 6.8"),
            "mounts are read from text: slower with many",
        ),
        useful(
            "exit-info",
            newer(features.pidfd_exit_info, "Linux 6.15"),
            "how a container ended while no host ran is not known",
        ),
        useful(
            "open-tree-attr",
            newer(features.open_tree_attr, "Linux 6.15"),
            "one more call for each mount",
        ),
    ]);
    all
}

fn kernel() -> Tried {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 1) { Ok(release) } else { Err(release) }
}

fn capabilities() -> Tried {
    let needed = [
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::SYS_CHROOT, "CAP_SYS_CHROOT"),
        (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
        (CapabilitySet::SETUID, "CAP_SETUID"),
        (CapabilitySet::SETGID, "CAP_SETGID"),
        (CapabilitySet::SETPCAP, "CAP_SETPCAP"),
        (CapabilitySet::SETFCAP, "CAP_SETFCAP"),
        (CapabilitySet::CHOWN, "CAP_CHOWN"),
        (CapabilitySet::FOWNER, "CAP_FOWNER"),
        (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
        (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
        (CapabilitySet::MKNOD, "CAP_MKNOD"),
        (CapabilitySet::KILL, "CAP_KILL"),
    ];
    let missing: Vec<&str> = needed.iter().filter(|(one, _)| !has(*one)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        Ok("all that are needed".into())
    } else {
        Err(format!("without {}", missing.join(", ")))
    }
}

fn capability(one: CapabilitySet, name: &str) -> Tried {
    if has(one) { Ok("there".into()) } else { Err(format!("without {name}")) }
}

fn has(one: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(one))
}

/// A file system in memory that nobody else sees.
fn tmpfs() -> std::result::Result<OwnedFd, String> {
    let make = || {
        let context = FsContext::open("tmpfs")?;
        context.create()?;
        context.mount(MountAttrFlags::empty())
    };
    make().map_err(|error| format!("tmpfs: {error}"))
}

fn overlay() -> Tried {
    let tmpfs = tmpfs()?;
    for name in ["lower", "upper", "work"] {
        rustix::fs::mkdirat(&tmpfs, name, Mode::from(0o755))
            .map_err(|errno| format!("create {name}: {errno}"))?;
    }
    let place = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&tmpfs));
    let make = || {
        let context = FsContext::open("overlay")?;
        for (key, name) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
            context.string(key, format!("{place}/{name}"))?;
        }
        context.create()?;
        context.mount(MountAttrFlags::empty())
    };
    make().map(|_| "one was mounted".into()).map_err(|error| error.to_string())
}

fn user_namespace() -> std::result::Result<OwnedFd, String> {
    let map = [Extent { inside: 0, outside: SOME_ID, count: 65_536 }];
    linux::userns::idmap_namespace(&map, &map).map_err(|errno| format!("make one: {errno}"))
}

fn idmapped() -> Tried {
    let (tmpfs, namespace) = (tmpfs()?, user_namespace()?);
    let attributes = MountAttr { userns: Some(namespace.as_fd()), ..MountAttr::default() };
    match linux::mount::mount_setattr(&tmpfs, false, &attributes) {
        Ok(()) => Ok("one was made".into()),
        Err(errno) => Err(format!("give a mount an id map: {errno}")),
    }
}

/// On a thread of its own, which has the filter until it ends.
fn seccomp() -> Tried {
    /// `BPF_RET | BPF_K`, `SECCOMP_RET_ALLOW`.
    const ALLOW: linux::seccomp::Instruction =
        linux::seccomp::Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
    let thread = std::thread::Builder::new().spawn(|| linux::seccomp::install(&[ALLOW], 0, true));
    let installed = thread.map_err(|error| error.to_string())?.join();
    match installed {
        Ok(Ok(())) => Ok("a filter was installed".into()),
        Ok(Err(errno)) => Err(format!("install a filter: {errno}")),
        Err(_panicked) => Err("install a filter".into()),
    }
}
