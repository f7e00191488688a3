//! The steps of a script: each one kernel call, or a few that only make sense together.
//!
//! Runs in the child, on its parent's memory: no allocation, no lock, no libc.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::{Prepared, raw};

/// Where a file system in a script comes from.
#[derive(Clone, Debug)]
pub enum Mounted {
    /// A detached tree, made by the parent.
    Tree(Arc<OwnedFd>),
    /// A new instance, made by the child because it belongs to the child's namespaces (proc to its pid namespace,
    /// mqueue to its ipc namespace, sysfs to its network namespace).
    New {
        /// File system type.
        fs: CString,
        /// Options as `fsconfig(2)` strings; without a value it is a flag.
        options: Vec<(CString, Option<CString>)>,
        /// `MOUNT_ATTR_*`.
        attributes: u64,
    },
}

/// The sets of `capabilities(7)`, as bit masks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Capabilities {
    /// What the process and its children may ever have.
    pub bounding: u64,
    /// What it may take.
    pub permitted: u64,
    /// What it has.
    pub effective: u64,
    /// What it may pass on through `execve` of a file with inheritable capabilities.
    pub inheritable: u64,
    /// What it passes on through `execve` of any other file.
    pub ambient: u64,
}

/// Who the program runs as.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups; always set, also to none.
    pub groups: Vec<u32>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// `execve` gives no privileges (setuid and file capabilities have no effect).
    pub no_new_privileges: bool,
}

/// One step.
#[derive(Clone, Debug)]
pub enum Op {
    /// `setns(2)`: joins these namespaces of the process behind a pidfd.
    JoinNamespaces {
        /// Whose.
        process: Arc<OwnedFd>,
        /// Which: a union of [`super::new`].
        namespaces: u64,
    },
    /// `mount_setattr(2)` on `/`, recursively: `MS_PRIVATE`, `MS_SLAVE`.
    RootPropagation(u64),
    /// `chdir(2)` into the mount that becomes the root.
    EnterRoot(CString),
    /// `move_mount(2)` onto a path of the new root, which is the working directory. No link is followed in it.
    Mount {
        /// What.
        source: Mounted,
        /// Relative path.
        target: CString,
    },
    /// Hides a path of the new root: an empty read-only tmpfs over a directory, the host's `/dev/null` over
    /// anything else. An absent path is left alone. Comes before [`Op::PivotRoot`].
    Mask {
        /// Relative path.
        target: CString,
    },
    /// Makes a path of the new root read-only, recursively. An absent path is left alone.
    ReadOnly {
        /// Relative path.
        target: CString,
    },
    /// Makes the root mount itself read-only, not what is mounted beneath it.
    ReadOnlyRoot,
    /// `pivot_root(2)` into the working directory, and the old root away.
    PivotRoot,
    /// `sethostname(2)`.
    Hostname(CString),
    /// `setsid(2)`, and standard input as the controlling terminal if it is one to be. Belongs to
    /// [`super::Script::closed_ops`]: before, standard input is still the parent's.
    Session {
        /// Descriptor 0 is the terminal.
        controlling_terminal: bool,
    },
    /// `keyctl(KEYCTL_JOIN_SESSION_KEYRING)`: a new, empty session keyring. Kernels without keys have none.
    NewKeyring,
    /// `chdir(2)`.
    WorkingDirectory(CString),
    /// `umask(2)`.
    Umask(u32),
    /// `prlimit(2)` on itself: resource, soft, hard.
    ResourceLimit(u32, u64, u64),
    /// Groups, user, capabilities, in the one order that works.
    Credentials(Credentials),
    /// `prctl(PR_SET_PDEATHSIG)`: this signal when the thread that spawned it ends. Comes after [`Op::Credentials`],
    /// which clears it.
    DeathSignal(i32),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |p: &CString| format!("/{}", p.to_string_lossy());
        match self {
            Self::JoinNamespaces { .. } => f.write_str("join namespaces"),
            Self::RootPropagation(_) => f.write_str("set propagation of mounts"),
            Self::EnterRoot(path) => write!(f, "enter rootfs {}", path.to_string_lossy()),
            Self::Mount { source: Mounted::New { fs, .. }, target } => {
                write!(f, "mount {} on {}", fs.to_string_lossy(), path(target))
            }
            Self::Mount { source: Mounted::Tree(_), target } => write!(f, "mount on {}", path(target)),
            Self::Mask { target } => write!(f, "mask {}", path(target)),
            Self::ReadOnly { target } => write!(f, "make {} read-only", path(target)),
            Self::ReadOnlyRoot => f.write_str("make rootfs read-only"),
            Self::PivotRoot => f.write_str("pivot into rootfs"),
            Self::Hostname(name) => write!(f, "set hostname {}", name.to_string_lossy()),
            Self::Session { .. } => f.write_str("start session"),
            Self::NewKeyring => f.write_str("join a new session keyring"),
            Self::WorkingDirectory(dir) => write!(f, "change to working directory {}", dir.to_string_lossy()),
            Self::Umask(_) => f.write_str("set umask"),
            Self::ResourceLimit(resource, ..) => write!(f, "set resource limit {resource}"),
            Self::Credentials(c) => write!(f, "become user {}:{}", c.uid, c.gid),
            Self::DeathSignal(_) => f.write_str("set parent death signal"),
        }
    }
}

const AT_FDCWD: usize = -100_isize as usize;
const AT_EMPTY_PATH: usize = 0x1000;
const AT_RECURSIVE: usize = 0x8000;

/// Applies one step.
pub(super) fn apply(op: &Op) -> Result<(), Errno> {
    match op {
        Op::JoinNamespaces { process, namespaces } => {
            sys(libc::SYS_setns, [fd(process), *namespaces as usize, 0, 0, 0]).map(drop)
        }
        Op::RootPropagation(propagation) => set_attributes(
            AT_FDCWD,
            c"/",
            AT_RECURSIVE,
            &MountAttr { propagation: *propagation, ..MountAttr::NONE },
        ),
        Op::EnterRoot(path) => sys(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0]).map(drop),
        Op::Mount { source, target } => {
            let target = Raw::open_target(target)?;
            match source {
                Mounted::Tree(tree) => move_mount(fd(tree), target.0, c""),
                Mounted::New { fs, options, attributes } => {
                    let mount = new_mount(fs, options, *attributes)?;
                    move_mount(mount.0, target.0, c"")
                }
            }
        }
        Op::Mask { target } => mask(target),
        Op::ReadOnly { target } => match Raw::open_target(target) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
            Ok(target) => {
                let clone = Raw(sys(
                    libc::SYS_open_tree,
                    [
                        target.0,
                        c"".as_ptr() as usize,
                        OPEN_TREE_CLONE | CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE,
                        0,
                        0,
                    ],
                )?);
                let attributes = MountAttr { set: ATTR_RDONLY, ..MountAttr::NONE };
                set_attributes(clone.0, c"", AT_EMPTY_PATH | AT_RECURSIVE, &attributes)?;
                move_mount(clone.0, target.0, c"")
            }
        },
        Op::ReadOnlyRoot => {
            set_attributes(AT_FDCWD, c".", 0, &MountAttr { set: ATTR_RDONLY, ..MountAttr::NONE })
        }
        Op::PivotRoot => {
            let here = c".".as_ptr() as usize;
            sys(libc::SYS_pivot_root, [here, here, 0, 0, 0])?;
            sys(libc::SYS_umount2, [here, libc::MNT_DETACH as usize, 0, 0, 0])?;
            sys(libc::SYS_chdir, [c"/".as_ptr() as usize, 0, 0, 0, 0]).map(drop)
        }
        Op::Hostname(name) => {
            sys(libc::SYS_sethostname, [name.as_ptr() as usize, name.as_bytes().len(), 0, 0, 0]).map(drop)
        }
        Op::Session { controlling_terminal } => {
            sys(libc::SYS_setsid, [0; 5])?;
            if *controlling_terminal {
                sys(libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 0, 0, 0])?;
            }
            Ok(())
        }
        Op::NewKeyring => match sys(libc::SYS_keyctl, [1, 0, 0, 0, 0]) {
            Err(Errno::NOSYS) | Ok(_) => Ok(()),
            Err(errno) => Err(errno),
        },
        Op::WorkingDirectory(dir) => sys(libc::SYS_chdir, [dir.as_ptr() as usize, 0, 0, 0, 0]).map(drop),
        Op::Umask(mask) => sys(libc::SYS_umask, [*mask as usize, 0, 0, 0, 0]).map(drop),
        Op::ResourceLimit(resource, soft, hard) => {
            let limit = [*soft, *hard];
            sys(libc::SYS_prlimit64, [0, *resource as usize, limit.as_ptr() as usize, 0, 0]).map(drop)
        }
        Op::Credentials(credentials) => become_user(credentials),
        Op::DeathSignal(signal) => prctl(libc::PR_SET_PDEATHSIG, *signal as usize, 0),
    }
}

/// Standard streams, kept descriptors and the program in their places; everything else closed. Returns where the
/// program's descriptor went.
pub(super) fn descriptors(prepared: &Prepared) -> Result<usize, Errno> {
    for (number, &from) in prepared.stdio.iter().enumerate() {
        place(from, number, false)?;
    }
    let mut next = 3;
    for &from in &prepared.keep {
        place(from, next, false)?;
        next += 1;
    }
    let program = next;
    if let Some(from) = prepared.program {
        place(from, program, true)?;
        next += 1;
    }
    sys(libc::SYS_close_range, [next, u32::MAX as usize, 0, 0, 0])?;
    Ok(program)
}

/// `dup3(2)`, which refuses to copy a descriptor onto itself: then only the flag changes.
fn place(from: i32, to: usize, close_on_exec: bool) -> Result<(), Errno> {
    if from as usize == to {
        let flag = usize::from(close_on_exec) * libc::FD_CLOEXEC as usize;
        return sys(libc::SYS_fcntl, [to, libc::F_SETFD as usize, flag, 0, 0]).map(drop);
    }
    let flag = usize::from(close_on_exec) * CLOEXEC;
    sys(libc::SYS_dup3, [from as usize, to, flag, 0, 0]).map(drop)
}

/// Never returns on success.
pub(super) fn exec(prepared: &Prepared, program: usize) -> Errno {
    default_signals();
    let none = 0_u64;
    let unblock = [libc::SIG_SETMASK as usize, &raw const none as usize, 0, 8, 0];
    if let Err(errno) = sys(libc::SYS_rt_sigprocmask, unblock) {
        return errno;
    }
    let (argv, envp) = (prepared.argv.as_ptr() as usize, prepared.envp.as_ptr() as usize);
    if prepared.program.is_some() {
        let result = sys(libc::SYS_execveat, [program, c"".as_ptr() as usize, argv, envp, AT_EMPTY_PATH]);
        return result.err().unwrap_or(Errno::IO);
    }
    // As execvp(3): go on past what is not there, remember what may not be executed.
    let mut found = Errno::NOENT;
    for &candidate in &prepared.candidates {
        match sys(libc::SYS_execve, [candidate as usize, argv, envp, 0, 0]) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::ACCESS) => found = Errno::ACCESS,
            Err(errno) => return errno,
            Ok(_) => return Errno::IO,
        }
    }
    found
}

/// Every signal to its default. `CLONE_CLEAR_SIGHAND` resets handlers, but what the parent ignores (Rust's runtime:
/// SIGPIPE; a shell's background job: SIGINT) would stay ignored, through `execve` too.
fn default_signals() {
    // `struct sigaction` of the kernel: SIG_DFL, no flags, no restorer, an empty mask.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SIGKILL and SIGSTOP refuse.
        let _ = sys(libc::SYS_rt_sigaction, [signal, default.as_ptr() as usize, 0, 8, 0]);
    }
}

const CLOEXEC: usize = libc::O_CLOEXEC as usize;
const OPEN_TREE_CLONE: usize = 1;
const ATTR_RDONLY: u64 = 1;

/// `struct mount_attr`, linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

impl MountAttr {
    const NONE: Self = Self { set: 0, clear: 0, propagation: 0, userns: 0 };
}

fn set_attributes(dir: usize, path: &CStr, flags: usize, attributes: &MountAttr) -> Result<(), Errno> {
    let pointer = (&raw const *attributes) as usize;
    sys(libc::SYS_mount_setattr, [dir, path.as_ptr() as usize, flags, pointer, size_of::<MountAttr>()])
        .map(drop)
}

fn move_mount(from: usize, to: usize, path: &CStr) -> Result<(), Errno> {
    const F_EMPTY_PATH: usize = 0x4;
    const T_EMPTY_PATH: usize = 0x40;
    let flags = if path.is_empty() { F_EMPTY_PATH | T_EMPTY_PATH } else { F_EMPTY_PATH };
    sys(libc::SYS_move_mount, [from, c"".as_ptr() as usize, to, path.as_ptr() as usize, flags]).map(drop)
}

fn new_mount(fs: &CStr, options: &[(CString, Option<CString>)], attributes: u64) -> Result<Raw, Errno> {
    const SET_FLAG: usize = 0;
    const SET_STRING: usize = 1;
    const CREATE: usize = 6;
    let context = Raw(sys(libc::SYS_fsopen, [fs.as_ptr() as usize, 1, 0, 0, 0])?);
    for (key, value) in options {
        let (command, value) = match value {
            Some(value) => (SET_STRING, value.as_ptr() as usize),
            None => (SET_FLAG, 0),
        };
        sys(libc::SYS_fsconfig, [context.0, command, key.as_ptr() as usize, value, 0])?;
    }
    sys(libc::SYS_fsconfig, [context.0, CREATE, 0, 0, 0])?;
    sys(libc::SYS_fsmount, [context.0, 1, attributes as usize, 0, 0]).map(Raw)
}

fn mask(path: &CStr) -> Result<(), Errno> {
    let target = match Raw::open_target(path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if target.is_dir()? {
        let empty = new_mount(c"tmpfs", &[], ATTR_RDONLY)?;
        return move_mount(empty.0, target.0, c"");
    }
    // Only a mount of the caller's own namespace can be cloned, so the parent cannot have opened it.
    let null = c"/dev/null".as_ptr() as usize;
    let clone = Raw(sys(libc::SYS_open_tree, [AT_FDCWD, null, OPEN_TREE_CLONE | CLOEXEC, 0, 0])?);
    move_mount(clone.0, target.0, c"")
}

/// Groups before user, for only root may set them; the bounding set before the user, for only a process with
/// CAP_SETPCAP may shrink it; capabilities last, kept across the change of user by PR_SET_KEEPCAPS.
fn become_user(c: &Credentials) -> Result<(), Errno> {
    const LAST_KNOWN: u32 = 63;
    for capability in 0..=LAST_KNOWN {
        if c.capabilities.bounding & (1 << capability) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability as usize, 0) {
            // The kernel knows no capability of this number, and none above it.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    sys(libc::SYS_setgroups, [c.groups.len(), c.groups.as_ptr() as usize, 0, 0, 0])?;
    let (gid, uid) = (c.gid as usize, c.uid as usize);
    sys(libc::SYS_setresgid, [gid, gid, gid, 0, 0])?;
    sys(libc::SYS_setresuid, [uid, uid, uid, 0, 0])?;
    set_capabilities(&c.capabilities)?;
    prctl(libc::PR_SET_KEEPCAPS, 0, 0)?;
    for capability in 0..=LAST_KNOWN {
        if c.capabilities.ambient & (1 << capability) != 0 {
            prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as usize, capability as usize)?;
        }
    }
    if c.no_new_privileges {
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    }
    Ok(())
}

/// `capset(2)`, version 3: two halves of 32 bits.
fn set_capabilities(c: &Capabilities) -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let half = |shift: u32| [c.effective, c.permitted, c.inheritable].map(|set| (set >> shift) as u32);
    let data = [half(0), half(32)];
    sys(libc::SYS_capset, [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0]).map(drop)
}

fn prctl(option: i32, a: usize, b: usize) -> Result<(), Errno> {
    sys(libc::SYS_prctl, [option as usize, a, b, 0, 0]).map(drop)
}

/// A descriptor of the child's own, closed when done with.
struct Raw(usize);

impl Raw {
    /// Opens a relative path beneath the working directory, the new root, following no link: an image whose
    /// `/proc` is a link must not choose where proc is mounted (CVE-2019-19921).
    fn open_target(path: &CStr) -> Result<Self, Errno> {
        const NO_MAGICLINKS: u64 = 0x02;
        const NO_SYMLINKS: u64 = 0x04;
        const BENEATH: u64 = 0x08;
        let how: [u64; 3] =
            [(libc::O_PATH | libc::O_CLOEXEC) as u64, 0, NO_MAGICLINKS | NO_SYMLINKS | BENEATH];
        let pointers = [AT_FDCWD, path.as_ptr() as usize, how.as_ptr() as usize, size_of_val(&how), 0];
        sys(libc::SYS_openat2, pointers).map(Self)
    }

    fn is_dir(&self) -> Result<bool, Errno> {
        let mut statx = std::mem::MaybeUninit::<libc::statx>::zeroed();
        let args = [
            self.0,
            c"".as_ptr() as usize,
            AT_EMPTY_PATH,
            libc::STATX_TYPE as usize,
            statx.as_mut_ptr() as usize,
        ];
        sys(libc::SYS_statx, args)?;
        // SAFETY: zeroed is a valid statx, and the kernel has filled it in.
        let mode = unsafe { statx.assume_init() }.stx_mode;
        Ok(u32::from(mode) & libc::S_IFMT == libc::S_IFDIR)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done about a failing close, and the descriptor is gone all the same.
        let _ = sys(libc::SYS_close, [self.0, 0, 0, 0, 0]);
    }
}

fn fd(fd: &Arc<OwnedFd>) -> usize {
    fd.as_raw_fd() as usize
}

fn sys(number: i64, args: [usize; 5]) -> Result<usize, Errno> {
    // SAFETY: every call in this file passes pointers to live values of the size that the call reads or writes:
    // C strings of the script, or locals of the calling function.
    unsafe { raw::call(number, args) }
}
