//! OCI `Spec` to [`Script`]: everything that can be opened, looked up or allocated before the clone is.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linux::proc::Procfs;
use linux::spawn::{Capabilities, Credentials, Mounted, Op, Script, new};
use oci_spec::runtime::{Capability, LinuxNamespaceType, Mount, Process, Spec};
use protocol::ErrorKind;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use seccomp::Program;

use super::device;
use crate::error::{Failure, Result};

pub(crate) mod bundle;
mod copy_up;
pub(crate) mod devices;
pub(crate) mod labels;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod options;
pub(crate) mod process;

use options::{Options, extents};

const MS_SLAVE: u64 = 1 << 19;

/// What a container needs beside its Spec.
pub(crate) struct Container<'a> {
    pub(crate) spec: &'a Spec,
    /// The mounted rootfs, in this process's mount namespace.
    pub(crate) rootfs: BorrowedFd<'a>,
    /// Where that is.
    pub(crate) rootfs_path: &'a Path,
    /// Mount the container's proc on the host side of the rootfs too. A client that looks for the leader there
    /// (row S27) finds it.
    pub(crate) publish_proc: bool,
    /// Files of the groups that limit it, beside the one that it starts in.
    pub(crate) joins: &'a [Arc<OwnedFd>],
    /// The network namespace that it joins.
    pub(crate) network: Option<Arc<OwnedFd>>,
    /// The sandbox that it is in.
    pub(crate) sandbox: Option<Sandbox<'a>>,
    /// Detached mounts of single files, with their places in the rootfs, which no link is on the way to.
    pub(crate) files: &'a [(Arc<OwnedFd>, PathBuf)],
    /// The filter of its system calls.
    pub(crate) filter: Option<&'a Program>,
    /// A user namespace with the Spec's id mappings that nobody has been in, if there is one already.
    pub(crate) user: Option<Arc<OwnedFd>>,
    /// A mount namespace to begin in, rather than in a copy of this process's.
    pub(crate) vestibule: Option<Arc<OwnedFd>>,
    /// The terminal's devpts, when it has one already.
    pub(crate) devpts: Option<Arc<OwnedFd>>,
}

/// What a sandbox shares with who is in it.
#[derive(Clone, Copy)]
pub(crate) struct Sandbox<'a> {
    pub(crate) leader: &'a Arc<OwnedFd>,
    /// Detached clones of its mounts, by their destinations.
    pub(crate) trees: &'a [(&'static str, Arc<OwnedFd>)],
}

/// The script of a container's first process. `program`, `stdio`, `cgroup` are the caller's to fill in.
pub(crate) fn container(container: &Container<'_>, mut stdio: [Arc<OwnedFd>; 3]) -> Result<Script> {
    let spec = container.spec;
    let process = spec.process().as_ref().ok_or_else(|| invalid("process", "missing"))?;
    let mut ops = Vec::with_capacity(32);
    let mut namespaces = 0;
    let mut new_cgroup = None;
    let mut joined = 0;
    ops.extend(oom_score(process)?);
    ops.extend(container.joins.iter().cloned().map(Op::JoinCgroup));
    for namespace in spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()) {
        if namespace.path().is_some() {
            joined |= match namespace.typ() {
                LinuxNamespaceType::Ipc => new::IPC,
                LinuxNamespaceType::Network => new::NET,
                LinuxNamespaceType::User => new::USER,
                other => return Err(invalid("linux.namespaces", &format!("{other:?} cannot be joined"))),
            };
            continue;
        }
        namespaces |= match namespace.typ() {
            LinuxNamespaceType::Mount => new::MOUNT,
            // After the groups are joined, whose names it hides.
            LinuxNamespaceType::Cgroup => {
                new_cgroup = Some(Op::NewNamespaces(new::CGROUP));
                0
            }
            LinuxNamespaceType::Uts => new::UTS,
            LinuxNamespaceType::Ipc => new::IPC,
            LinuxNamespaceType::Pid => new::PID,
            LinuxNamespaceType::Network => new::NET,
            // Joined below: nothing else of the container's belongs to it.
            LinuxNamespaceType::User => 0,
            other => return Err(invalid("linux.namespaces", &format!("{other:?} is not supported yet"))),
        };
    }
    ops.extend(new_cgroup);
    // By handle, not by the path: a number may be somebody else's by now.
    let sandbox = container.sandbox.filter(|_| joined != 0);
    if joined != 0 && sandbox.is_none() {
        return Err(invalid("linux.namespaces", "paths are those of a sandbox"));
    }
    if let Some(Sandbox { leader, .. }) = sandbox {
        ops.push(Op::JoinNamespaces { process: Arc::clone(leader), namespaces: joined & !new::USER });
    }
    // Before sysfs is mounted, which shows the links of its mounter's.
    if let Some(network) = &container.network {
        ops.push(Op::JoinNamespaces { process: Arc::clone(network), namespaces: new::NET });
    }
    // On the host side of the rootfs something appears only from the copy of our own namespace.
    let vestibule = container.vestibule.clone().filter(|_| !container.publish_proc && sandbox.is_none());
    if vestibule.is_some() {
        // Of what is mounted on the rootfs between this and the child's attaching it, nothing reaches the clone: whoever
        // holds the subcontainer's lock, as all do who mount on it, sees to that.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(container.rootfs, c"", flags)
            .map_err(|errno| Failure::kernel("clone mounts of", container.rootfs_path.display(), errno))?;
        let place = linux::mount::VESTIBULE_PLACE;
        let target = relative(Path::new(std::ffi::OsStr::from_bytes(place.to_bytes())))?;
        ops.push(Op::Mount { source: Mounted::Tree(Arc::new(tree)), target });
        ops.push(Op::EnterRoot(place.to_owned()));
    } else {
        // The child's mount namespace begins as a copy of ours.
        let path = container.rootfs_path.to_string_lossy();
        ops.push(Op::EnterRoot(cstring("root.path", &path)?));
    }
    // From here on mounts come in and none goes out. Until then the copy is a peer of the host's: what is mounted on
    // it appears on both sides.
    let mut slave = Some(Op::RootPropagation(MS_SLAVE));
    if !container.publish_proc {
        ops.extend(slave.take());
    }
    for mount in spec.mounts().iter().flatten() {
        let target = relative(mount.destination())?;
        mountpoint(container.rootfs, mount)?;
        if mount.typ().as_deref() != Some("proc") {
            ops.extend(slave.take());
        }
        let shared = sandbox.and_then(|sandbox| {
            sandbox.trees.iter().find(|(place, _)| Path::new(place) == mount.destination())
        });
        let source = match (mount.typ().as_deref(), &container.devpts, shared) {
            (Some("bind"), _, Some((_, tree))) => Mounted::Tree(Arc::clone(tree)),
            (Some("bind"), _, None) if sandbox.is_some() => {
                return Err(invalid("mounts.source", "nothing of the machine's is in a sandbox"));
            }
            (Some("devpts"), Some(devpts), _) => Mounted::Tree(Arc::clone(devpts)),
            _ => source(mount)?,
        };
        if let (true, Mounted::Tree(dev)) = (is_private_dev(mount), &source) {
            device::give_own_null(&mut stdio, || device::null_of(dev).map(Arc::new))
                .map_err(|errno| Failure::kernel("open", "/dev/null", errno))?;
        }
        ops.push(Op::Mount { source, target });
    }
    ops.extend(slave.take());
    for (tree, place) in container.files {
        ops.push(Op::Mount { source: Mounted::Tree(Arc::clone(tree)), target: relative(place)? });
    }
    if let Some(linux) = spec.linux() {
        for path in linux.masked_paths().iter().flatten() {
            ops.push(Op::Mask { target: relative(Path::new(path))? });
        }
        for path in linux.readonly_paths().iter().flatten() {
            ops.push(Op::ReadOnly { target: relative(Path::new(path))? });
        }
    }
    if spec.root().as_ref().and_then(|root| root.readonly()) == Some(true) {
        ops.push(Op::ReadOnlyRoot);
    }
    ops.push(Op::PivotRoot);
    if let Some(hostname) = spec.hostname() {
        ops.push(Op::Hostname(cstring("hostname", hostname)?));
    }
    // The last thing that root of the machine does. The other namespaces stay root's: root inside has no power over
    // its own mounts and hostname.
    if let Some(process) = user_namespace(spec, container.user.as_ref())? {
        ops.push(Op::JoinNamespaces { process, namespaces: new::USER });
    }
    if let Some(Sandbox { leader, .. }) = sandbox {
        ops.push(Op::JoinNamespaces { process: Arc::clone(leader), namespaces: new::USER });
    }
    let mut script = command(process, stdio, container.filter)?;
    ops.append(&mut script.ops);
    let above = sandbox.map(|sandbox| Arc::clone(sandbox.leader));
    Ok(Script { namespaces, above, vestibule, ops, ..script })
}

/// The script of a command in a container that runs: joins `leader`'s namespaces.
pub(crate) fn join(
    process: &Process,
    leader: &Arc<OwnedFd>,
    stdio: [Arc<OwnedFd>; 3],
    joins: &[Arc<OwnedFd>],
    filter: Option<&Program>,
    userns: bool,
) -> Result<Script> {
    let mut script = command(process, stdio, filter)?;
    let join = |namespaces| Op::JoinNamespaces { process: Arc::clone(leader), namespaces };
    let namespaces = [join(new::CGROUP)].into_iter().chain(userns.then(|| join(new::USER)));
    let first = oom_score(process)?.into_iter().chain(joins.iter().cloned().map(Op::JoinCgroup));
    script.ops.splice(0..0, first.chain(namespaces));
    Ok(Script { container: Some(Arc::clone(leader)), ..script })
}

/// A namespace with the Spec's id mappings, if it has any.
fn user_namespace(spec: &Spec, made: Option<&Arc<OwnedFd>>) -> Result<Option<Arc<OwnedFd>>> {
    let Some(linux) = spec.linux().as_ref() else { return Ok(None) };
    let (uid, gid) = (extents(linux.uid_mappings().as_deref()), extents(linux.gid_mappings().as_deref()));
    if uid.is_empty() && gid.is_empty() {
        return Ok(None);
    }
    if let Some(made) = made {
        return Ok(Some(Arc::clone(made)));
    }
    // Root inside is charged for what those inside use, not root of the machine.
    let owner = uid.iter().find(|extent| extent.inside == 0).map_or(0, |extent| extent.outside);
    linux::userns::owned_namespace(&uid, &gid, owner)
        .map(|namespace| Some(Arc::new(namespace)))
        .map_err(|errno| Failure::kernel("create user namespace", "", errno))
}

/// Before anything else: what the kernel allows is decided by our own privileges, not those inside.
pub(crate) fn oom_score(process: &Process) -> Result<Option<Op>> {
    let Some(score) = process.oom_score_adj() else { return Ok(None) };
    let proc = Procfs::open().map_err(|errno| Failure::kernel("open", "/proc", errno))?;
    Ok(Some(Op::OomScoreAdj { proc: Arc::new(proc.into_root()), score }))
}

/// What launch and exec share: everything after the namespaces.
pub(crate) fn command(
    process: &Process,
    stdio: [Arc<OwnedFd>; 3],
    filter: Option<&Program>,
) -> Result<Script> {
    let mut closed_ops = Vec::with_capacity(6);
    // Its standard input is the container's by now: that is what becomes the controlling terminal.
    closed_ops.push(Op::Session { controlling_terminal: process.terminal() == Some(true) });
    for limit in process.rlimits().iter().flatten() {
        closed_ops.push(Op::ResourceLimit(limit.typ() as u32, limit.soft(), limit.hard()));
    }
    if let Some(mask) = process.user().umask() {
        closed_ops.push(Op::Umask(mask));
    } else {
        closed_ops.push(Op::Umask(0o022));
    }
    // After every descriptor of ours is closed, so that no working directory can be reached through one
    // (CVE-2024-21626); before the change of user, who may not be allowed to pass through a parent.
    closed_ops.push(Op::WorkingDirectory(cstring("process.cwd", &process.cwd().to_string_lossy())?));
    closed_ops.push(Op::Credentials(credentials(process)));
    if let Some(filter) = filter {
        // Last: what comes before it is forbidden by most.
        let (filter, flags) = (Arc::clone(filter.instructions()), filter.flags());
        closed_ops.push(Op::Seccomp { filter, flags });
    }
    let args = process.args().as_deref().unwrap_or_default();
    let env = process.env().as_deref().unwrap_or_default();
    let name = args.first().ok_or_else(|| invalid("process.args", "empty"))?;
    let program = linux::spawn::Program::Candidates(candidates(name, env)?);
    let argv = args.iter().map(|arg| cstring("process.args", arg)).collect::<Result<_>>()?;
    let envp = env.iter().map(|entry| cstring("process.env", entry)).collect::<Result<_>>()?;
    Ok(Script { ops: vec![Op::NewKeyring], closed_ops, envp, ..Script::of(program, argv, stdio) })
}

/// Where a command may be: itself if it is a path, else each directory of the container's PATH.
pub(crate) fn candidates(name: &str, env: &[String]) -> Result<Vec<CString>> {
    if name.contains('/') {
        return Ok(vec![cstring("process.args", name)?]);
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("");
    path.split(':')
        .map(|dir| if dir.is_empty() { "." } else { dir })
        .map(|dir| cstring("process.env", &format!("{dir}/{name}")))
        .collect()
}

/// Capabilities as the kernel has them.
pub(crate) fn mask<'a>(capabilities: impl IntoIterator<Item = &'a Capability>) -> u64 {
    capabilities.into_iter().fold(0, |mask, capability| mask | 1 << number(*capability))
}

fn credentials(process: &Process) -> Credentials {
    let user = process.user();
    let mask = |set: &Option<std::collections::HashSet<Capability>>| mask(set.iter().flatten());
    let capabilities =
        process.capabilities().as_ref().map_or_else(Capabilities::default, |sets| Capabilities {
            bounding: mask(sets.bounding()),
            permitted: mask(sets.permitted()),
            effective: mask(sets.effective()),
            inheritable: mask(sets.inheritable()),
            // Others cannot be raised (capabilities(7)), and are no error to other runtimes: `runc spec` itself writes
            // them.
            ambient: mask(sets.ambient()) & mask(sets.permitted()) & mask(sets.inheritable()),
        });
    Credentials {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        capabilities,
        no_new_privileges: process.no_new_privileges() == Some(true),
    }
}

/// The kernel's number of a capability, linux/capability.h.
fn number(capability: Capability) -> u32 {
    use Capability as C;
    match capability {
        C::Chown => 0,
        C::DacOverride => 1,
        C::DacReadSearch => 2,
        C::Fowner => 3,
        C::Fsetid => 4,
        C::Kill => 5,
        C::Setgid => 6,
        C::Setuid => 7,
        C::Setpcap => 8,
        C::LinuxImmutable => 9,
        C::NetBindService => 10,
        C::NetBroadcast => 11,
        C::NetAdmin => 12,
        C::NetRaw => 13,
        C::IpcLock => 14,
        C::IpcOwner => 15,
        C::SysModule => 16,
        C::SysRawio => 17,
        C::SysChroot => 18,
        C::SysPtrace => 19,
        C::SysPacct => 20,
        C::SysAdmin => 21,
        C::SysBoot => 22,
        C::SysNice => 23,
        C::SysResource => 24,
        C::SysTime => 25,
        C::SysTtyConfig => 26,
        C::Mknod => 27,
        C::Lease => 28,
        C::AuditWrite => 29,
        C::AuditControl => 30,
        C::Setfcap => 31,
        C::MacOverride => 32,
        C::MacAdmin => 33,
        C::Syslog => 34,
        C::WakeAlarm => 35,
        C::BlockSuspend => 36,
        C::AuditRead => 37,
        C::Perfmon => 38,
        C::Bpf => 39,
        C::CheckpointRestore => 40,
    }
}

fn source(mount: &Mount) -> Result<Mounted> {
    let options = Options::of(mount);
    let attributes = options.own.set | options.all.set;
    let typ = mount.typ().as_deref().unwrap_or("bind");
    let subject = || format!("{typ} for {}", mount.destination().display());
    let fail = |errno: Errno| Failure::kernel("prepare", subject(), errno);
    match typ {
        // The child mounts these: they show its own namespaces. A devpts that is mounted in the machine's mount namespace
        // may use up what is kept for the machine (kernel.pty.reserve); one of another's may not.
        "proc" | "mqueue" | "sysfs" | "devpts" => Ok(Mounted::New {
            fs: cstring("mounts", typ)?,
            options: options
                .data
                .iter()
                .map(|(key, value)| {
                    let value = value.as_deref().map(|value| cstring("mounts", value)).transpose()?;
                    Ok((cstring("mounts", key)?, value))
                })
                // What `mount` and `df` show as the device.
                .chain([Ok((c"source".to_owned(), Some(cstring("mounts", typ)?)))])
                .collect::<Result<_>>()?,
            attributes: u64::from(attributes.bits()),
        }),
        "bind" | "none" | "rbind" => {
            let source = mount.source().as_deref().ok_or_else(|| invalid("mounts.source", &subject()))?;
            let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            if options.bind == Some(true) {
                flags |= OpenTreeFlags::AT_RECURSIVE;
            }
            let tree = rustix::mount::open_tree(CWD, source, flags).map_err(fail)?;
            Ok(Mounted::Tree(Arc::new(tree)))
        }
        _ => {
            let tree = Arc::new(instance(typ, attributes, &options.data).map_err(fail)?);
            if is_private_dev(mount) {
                device::populate(&tree)
                    .map_err(|errno| Failure::kernel("create devices in", "/dev", errno))?;
            }
            Ok(Mounted::Tree(tree))
        }
    }
}

fn is_private_dev(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("tmpfs") && mount.destination() == Path::new("/dev")
}

fn instance(
    typ: &str,
    attributes: MountAttrFlags,
    data: &[(String, Option<String>)],
) -> std::result::Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(typ, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in data {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?,
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), key)?,
        }
    }
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", typ)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A devpts of its own for a terminal that is opened before the container exists.
///
/// `own_ids`: ids in its options are the machine's already.
pub(crate) fn devpts(spec: &Spec, own_ids: bool) -> Result<Option<OwnedFd>> {
    let Some(mount) = spec.mounts().iter().flatten().find(|mount| mount.typ().as_deref() == Some("devpts"))
    else {
        return Ok(None);
    };
    let mut options = Options::of(mount);
    // The superblock is ours, and so are the ids in its options.
    let mappings = spec.linux().as_ref().and_then(|linux| linux.gid_mappings().as_deref());
    let extents = extents(mappings);
    if !own_ids {
        for (key, value) in &mut options.data {
            let inside = value.as_deref().and_then(|value| value.parse::<u32>().ok());
            if let ("gid" | "uid", Some(inside)) = (key.as_str(), inside) {
                *value = Some(outside(&extents, inside).to_string());
            }
        }
    }
    instance("devpts", options.own.set | options.all.set, &options.data)
        .map(Some)
        .map_err(|errno| Failure::kernel("prepare devpts for", mount.destination().display(), errno))
}

/// The machine's id for one inside.
pub(crate) fn outside(extents: &[linux::userns::Extent], inside: u32) -> u32 {
    let extent = extents.iter().find(|extent| inside.wrapping_sub(extent.inside) < extent.count);
    extent.map_or(inside, |extent| extent.outside + (inside - extent.inside))
}

/// Makes sure that a directory of the rootfs itself is there to mount on. Directories of other mounts (`/dev/pts`)
/// are made with those.
fn mountpoint(rootfs: BorrowedFd<'_>, mount: &Mount) -> Result<()> {
    let target = relative(mount.destination())?;
    if target.as_bytes().contains(&b'/') {
        return Ok(());
    }
    let open = || {
        rustix::fs::openat2(
            rootfs,
            target.as_c_str(),
            OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    };
    let result = match open() {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(rootfs, target.as_c_str(), Mode::from(0o755)).and_then(|()| open().map(drop))
        }
        other => other.map(drop),
    };
    result.map_err(|errno| Failure::kernel("open mountpoint", mount.destination().display(), errno))
}

/// A destination as a path beneath the root.
fn relative(path: &Path) -> Result<CString> {
    let text = path.to_string_lossy();
    let inside = text.trim_matches('/');
    if inside.is_empty() || inside.split('/').any(|part| part == "..") {
        return Err(invalid("mounts.destination", &text));
    }
    cstring("mounts.destination", inside)
}

pub(crate) fn cstring(field: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|error| invalid(field, "holds a NUL byte").because(error))
}

fn invalid(field: &str, what: &str) -> Failure {
    Failure::new(ErrorKind::Invalid, format!("read config {field}:"), what)
}
