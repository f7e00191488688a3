//! The whole of an OCI `Spec` to a [`Script`] for a process that waits for its start.
//!
//! Opens what must be open (namespaces, sources of bind mounts) and decides the order of what is done:
//!
//! ```text
//! before the clone   score, clocks, namespaces by path, user namespace
//! then               groups, keyring, root inside, cgroup namespace, names, propagation
//!                    rootfs, mounts, devices, working directory
//!                    -- hooks: prestart, createRuntime, createContainer --
//!                    settings, read-only and masked paths, pivot
//!                    every descriptor of ours closed
//!                    session, limits, directory, user, filter
//!                    -- waits for start --
//! ```
//! Makes nothing but detached mounts, which end with their handles.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use linux::spawn::{Call, Mounted, Op, Script, TreeOp, new};
use oci_spec::runtime::{Linux, LinuxNamespaceType as Ns, Process, Spec};
use rustix::mount::MountPropagationFlags as Propagation;
use seccomp::Program;

use super::mounts::{self, GroupView, Kind};
use super::namespaces::Namespaces;
use super::{command, cstring, devices, invalid, process, relative};
use crate::error::Result;

/// The point at which hooks run, before the container's root is its own.
pub(crate) const HOOKS: u64 = 1;

/// What a container needs beside its Spec.
pub(crate) struct Bundle<'a> {
    pub(crate) spec: &'a Spec,
    /// Where sources of mounts that are relative begin.
    pub(crate) directory: &'a Path,
    /// The container's directory, where nodes of devices may be made.
    pub(crate) own: BorrowedFd<'a>,
    /// The rootfs, absolute.
    pub(crate) rootfs: &'a Path,
    pub(crate) namespaces: &'a Namespaces,
    /// Files through which the process joins groups.
    pub(crate) joins: Vec<Arc<OwnedFd>>,
    /// The group that the process is born in.
    pub(crate) cgroup: Option<Arc<OwnedFd>>,
    /// What a mount of type `cgroup` shows.
    pub(crate) groups: &'a GroupView,
    pub(crate) filter: Option<&'a Program>,
    /// A terminal's devpts, and the number of the terminal in it.
    pub(crate) terminal: Option<Terminal>,
    /// Hooks run at [`HOOKS`].
    pub(crate) hooks: bool,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) stdio: [Arc<OwnedFd>; 3],
    /// Descriptors that the program keeps, as 3, 4, …
    pub(crate) keep: Vec<Arc<OwnedFd>>,
}

/// The terminal that is a container's console.
pub(crate) struct Terminal {
    pub(crate) devpts: Option<Arc<OwnedFd>>,
    pub(crate) number: u32,
}

/// A script and what is done before its clone.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) script: Script,
    pub(crate) before: Vec<Op>,
}

/// The script of a container's first process.
pub(crate) fn compile(bundle: Bundle<'_>) -> Result<Compiled> {
    let spec = bundle.spec;
    let namespaces = bundle.namespaces;
    let none = Linux::default();
    let linux = spec.linux().as_ref().unwrap_or(&none);
    let process = spec.process().as_ref().ok_or_else(|| invalid("process", "missing"))?;
    let before = before(process, namespaces)?;

    let mut ops = Vec::with_capacity(64);
    // Itself, and not by whoever clones it: that would count as one more.
    ops.extend(bundle.joins.into_iter().map(Op::JoinCgroup));
    ops.push(every_processor());
    if !bundle.no_new_keyring {
        ops.push(Op::NewKeyring);
    }
    ops.extend(root_inside(linux, namespaces));
    ops.push(Op::Umask(0));
    if namespaces.new & new::NET != 0 {
        ops.push(Op::Loopback);
    }
    if namespaces.new_cgroup {
        ops.push(Op::NewNamespaces(new::CGROUP));
    }
    if let Some(name) = spec.hostname().as_deref().filter(|name| !name.is_empty()) {
        needs(namespaces, Ns::Uts, "hostname")?;
        ops.push(Op::Hostname(cstring("hostname", name)?));
    }
    if let Some(name) = spec.domainname().as_deref().filter(|name| !name.is_empty()) {
        needs(namespaces, Ns::Uts, "domainname")?;
        ops.push(Op::Call(Call::domain_name(&cstring("domainname", name)?)));
    }
    ops.extend(super::labels::steps(process)?);
    let rootfs = cstring("root.path", &bundle.rootfs.to_string_lossy())?;
    let propagation = mounts::root_propagation(linux)?;
    let own_mounts = namespaces.has(Ns::Mount);
    if own_mounts {
        // What is mounted on the machine later comes in, unless the Spec says otherwise, and nothing goes out.
        let flags = propagation.unwrap_or(Propagation::DOWNSTREAM | Propagation::REC);
        ops.push(attributes(c"/", flags));
        if flags.contains(Propagation::SHARED) {
            let above = mounts::mount_of(bundle.rootfs)?;
            ops.push(attributes(&cstring("root.path", &above)?, Propagation::PRIVATE));
        }
        ops.push(Op::EnterRoot(rootfs));
        ops.push(Op::Tree(TreeOp::OwnRoot));
        // Mounts that are made for the container are its own, whatever its root becomes.
        ops.push(attributes(c".", Propagation::PRIVATE));
    } else {
        if spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty()) {
            return Err(invalid("mounts", "need a mount namespace"));
        }
        ops.push(Op::EnterRoot(rootfs));
    }
    let all = spec.mounts().as_deref().unwrap_or_default();
    let mut read_only = Vec::new();
    for (index, mount) in all.iter().enumerate() {
        let place = mount.destination();
        // What is made in it comes first.
        let filled = place == Path::new("/dev")
            || all[index + 1..].iter().any(|later| later.destination().starts_with(place));
        read_only.extend(filled.then(|| mounts::read_only(mount)).flatten().transpose()?);
        let context = mounts::Context {
            filled,
            index,
            earlier: &all[..index],
            directory: bundle.directory,
            rootfs: bundle.rootfs,
            linux,
            namespaces,
            groups: bundle.groups,
            devpts: bundle.terminal.as_ref().and_then(|terminal| terminal.devpts.as_ref()),
        };
        ops.extend(mounts::steps(mount, &context)?);
    }
    if own_mounts && mounts::kind_at(spec, "/dev") != Some(Kind::Bind) {
        ops.extend(devices::steps(linux, namespaces.user.is_some().then_some(bundle.own))?);
    }
    if let Some(terminal) = &bundle.terminal
        && terminal.devpts.is_some()
        && own_mounts
    {
        ops.push(Op::Tree(TreeOp::MakeFile(c"dev/console".to_owned())));
        let source = cstring("process.terminal", &format!("dev/pts/{}", terminal.number))?;
        ops.push(Op::Tree(TreeOp::Bind { source, target: c"dev/console".to_owned() }));
    }
    if process.cwd() != Path::new("/") {
        let cwd = cstring("process.cwd", process.cwd().to_string_lossy().trim_matches('/'))?;
        ops.push(Op::Tree(TreeOp::MakeDir(cwd)));
    }
    ops.extend(read_only);
    if bundle.hooks {
        ops.push(Op::Sync(HOOKS));
    }
    ops.extend(settings(spec, linux, namespaces)?);
    // Masks last: a read-only path may hold one.
    for (paths, hide) in [(linux.readonly_paths(), false), (linux.masked_paths(), true)] {
        for (index, path) in paths.iter().flatten().enumerate() {
            // Said twice.
            if paths.as_ref().is_some_and(|paths| paths[..index].contains(path)) {
                continue;
            }
            let field = if hide { "linux.maskedPaths" } else { "linux.readonlyPaths" };
            if !own_mounts {
                return Err(invalid(field, "needs a mount namespace"));
            }
            let path = relative(Path::new(path))?;
            ops.push(Op::Tree(if hide { TreeOp::Mask(path) } else { TreeOp::ReadOnly(path) }));
        }
    }
    if spec.root().as_ref().and_then(|root| root.readonly()) == Some(true) {
        if !own_mounts {
            return Err(invalid("root.readonly", "needs a mount namespace"));
        }
        ops.push(Op::ReadOnlyRoot);
    }
    if !own_mounts {
        ops.push(Op::Call(Call::change_root()));
        ops.push(Op::WorkingDirectory(c"/".to_owned()));
    } else {
        ops.push(if bundle.no_pivot { Op::Tree(TreeOp::MoveRoot) } else { Op::PivotRoot });
        if let Some(flags) = propagation {
            ops.push(attributes(c"/", flags));
        }
    }
    let mut script = command(process, bundle.stdio, None)?;
    script.ops = ops;
    script.closed_ops = closing(process, linux, bundle.filter, true)?;
    script.namespaces = namespaces.new;
    script.cgroup = bundle.cgroup;
    script.keep = bundle.keep;
    Ok(Compiled { script, before })
}

/// The steps of whoever clones a process of a container, as long as it is root of the machine.
fn before(process: &Process, namespaces: &Namespaces) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    ops.extend(super::oom_score(process)?);
    if namespaces.user.is_some() {
        // Raising one's own needs power over the machine, which is left with the namespace.
        ops.extend(raised(process));
    }
    ops.extend(namespaces.joined.iter().cloned());
    Ok(ops)
}

/// Raises limits that are lower than those of `process`, which takes power over the machine. Lowering takes none, and
/// whoever builds a container's tree needs descriptors.
pub(crate) fn raised(process: &Process) -> Vec<Op> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = |now: Option<u64>, asked: u64| now.map_or(u64::MAX, |now| now.max(asked));
    let raise = |limit: &oci_spec::runtime::PosixRlimit| match limit.typ() {
        typ @ oci_spec::runtime::PosixRlimitType::RlimitNofile => {
            let (soft, hard) = (most(files.current, limit.soft()), most(files.maximum, limit.hard()));
            Op::ResourceLimit(typ as u32, soft.min(hard), hard)
        }
        typ => Op::ResourceLimit(typ as u32, limit.soft(), limit.hard()),
    };
    process.rlimits().iter().flatten().map(raise).collect()
}

fn limits(process: &Process) -> impl Iterator<Item = Op> {
    let limits = process.rlimits().iter().flatten();
    limits.map(|limit| Op::ResourceLimit(limit.typ() as u32, limit.soft(), limit.hard()))
}

/// What a process does once nothing of ours is open in it. `waits`: it stops before its program.
pub(crate) fn closing(
    process: &Process,
    linux: &Linux,
    filter: Option<&Program>,
    waits: bool,
) -> Result<Vec<Op>> {
    let mut ops = vec![Op::Session { controlling_terminal: process.terminal() == Some(true) }];
    ops.extend(process::steps(process)?);
    if let Some(personality) = linux.personality() {
        ops.push(process::personality(personality)?);
    }
    if let Some(policy) = linux.memory_policy() {
        ops.push(process::memory_policy(policy)?);
    }
    // In a user namespace, whoever cloned it has raised them.
    ops.extend(limits(process));
    ops.push(Op::Umask(process.user().umask().unwrap_or(0o022)));
    // After every descriptor of ours is closed, so that no working directory can be reached through one
    // (CVE-2024-21626).
    ops.push(Op::WorkingDirectory(cstring("process.cwd", &process.cwd().to_string_lossy())?));
    let credentials = Op::Credentials(super::credentials(process));
    // A container without a program is refused when it is started.
    let named = process.args().iter().flatten().next().is_some_and(|program| !program.is_empty());
    let find = || (named || !waits).then_some(Op::FindProgram);
    let waiting = || waits.then_some(Op::WaitForStart);
    let filter =
        filter.map(|filter| Op::Seccomp { filter: Arc::clone(filter.instructions()), flags: filter.flags() });
    match filter {
        // Without the promise of no new privileges it takes CAP_SYS_ADMIN, which the user may not have.
        Some(filter) if process.no_new_privileges() != Some(true) => {
            ops.extend(find());
            ops.extend(waiting());
            ops.extend([filter, credentials]);
        }
        filter => {
            ops.push(credentials);
            ops.extend(find());
            ops.extend(waiting());
            ops.extend(filter);
        }
    }
    Ok(ops)
}

/// Whatever whoever calls is bound to: the group says what a container may use.
pub(crate) fn every_processor() -> Op {
    Op::Call(Call::affinity(0..4096))
}

/// Root inside, for whom files are made from then on: until then the child is a user whom the namespace does not know.
pub(crate) fn root_inside(linux: &Linux, namespaces: &Namespaces) -> Vec<Op> {
    let mappings = super::options::extents(linux.uid_mappings().as_deref());
    let joined = mappings.is_empty();
    if namespaces.user.is_none() || !(joined || mappings.iter().any(|extent| extent.inside == 0)) {
        return Vec::new();
    }
    [Call::no_groups(), Call::group(0), Call::user(0)].into_iter().map(Op::Call).collect()
}

/// `linux.sysctl`: written through the machine's own `/proc`, which shows each process its own namespaces, and which
/// nothing of the image's can stand in for (CVE-2025-52881).
fn settings(spec: &Spec, linux: &Linux, namespaces: &Namespaces) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    let mut all: Vec<_> = linux.sysctl().iter().flatten().collect();
    all.sort();
    for (name, value) in all {
        let field = || format!("linux.sysctl[{name}]");
        let path = sysctl_path(name);
        if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(invalid(&field(), "is no name of a setting"));
        }
        const IPC: [&str; 8] = [
            "kernel/msgmax",
            "kernel/msgmnb",
            "kernel/msgmni",
            "kernel/sem",
            "kernel/shmall",
            "kernel/shmmax",
            "kernel/shmmni",
            "kernel/shm_rmid_forced",
        ];
        let of = if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
            Ns::Ipc
        } else if path.starts_with("net/") {
            Ns::Network
        } else if path == "kernel/hostname" || path == "kernel/domainname" {
            Ns::Uts
        } else if path.starts_with("user/") {
            Ns::User
        } else {
            return Err(invalid(&field(), "belongs to no namespace"));
        };
        needs(namespaces, of, &field())?;
        // Two words for one thing: whichever comes last would hold, unseen.
        let other = spec.domainname().as_ref().is_some_and(|name| !name.is_empty() && name != value);
        if path == "kernel/hostname" || path == "kernel/domainname" && other {
            return Err(invalid(&field(), "has a field of its own"));
        }
        let path = cstring("linux.sysctl", &format!("/proc/sys/{path}"))?;
        ops.push(Op::WriteFile { path, bytes: value.clone().into_bytes(), optional: false });
    }
    Ok(ops)
}

/// `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` are one, `sysctl.d(5)`: which of the two comes
/// first separates.
fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn needs(namespaces: &Namespaces, typ: Ns, field: &str) -> Result<()> {
    if namespaces.has(typ) { Ok(()) } else { Err(invalid(field, &format!("needs a {typ} namespace"))) }
}

fn attributes(path: &std::ffi::CStr, flags: Propagation) -> Op {
    let kinds =
        Propagation::SHARED | Propagation::DOWNSTREAM | Propagation::PRIVATE | Propagation::UNBINDABLE;
    Op::Tree(TreeOp::Attributes {
        path: path.to_owned(),
        recursive: flags.contains(Propagation::REC),
        set: 0,
        propagation: u64::from((flags & kinds).bits()),
    })
}

/// A new file system.
pub(crate) fn new_fs(fs: &str, options: Vec<(String, Option<String>)>, attributes: u64) -> Result<Mounted> {
    let text = |text: &str| cstring("mounts.options", text);
    let pair = |(key, value): (String, Option<String>)| -> Result<(CString, Option<CString>)> {
        Ok((text(&key)?, value.as_deref().map(text).transpose()?))
    };
    let options = options.into_iter().map(pair).collect::<Result<_>>()?;
    Ok(Mounted::New { fs: cstring("mounts.type", fs)?, options, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_settings_are_named_with_dots_or_slashes() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }
}
