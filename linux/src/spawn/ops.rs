//! The steps of a script: each one kernel call, or a few that only make sense together.
//!
//! Here is what they mean to whoever writes a script; what they do in the child is in [`super::bare::child`].

use std::ffi::CString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::bare::script::{STEP, credentials, op};
use super::flat::{Descriptors, Encoder};
use crate::seccomp::Instruction;

mod call;
mod tree;

pub use call::{Call, SchedulerAttributes};
pub use tree::TreeOp;

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
    /// `unshare(2)`: namespaces of its own, beside those of [`super::Script::namespaces`]: a cgroup namespace whose
    /// root is the groups that the child has joined by then.
    NewNamespaces(u64),
    /// Moves itself into a group: a write to its open `tasks` or `cgroup.procs`. Who opened that file decides whether it
    /// may.
    JoinCgroup(Arc<OwnedFd>),
    /// Writes its own `oom_score_adj`. Comes before [`Op::Credentials`]; less than before needs `CAP_SYS_RESOURCE`.
    /// Whoever shares the memory until `execve` keeps his: the kernel passes over a child of vfork's.
    OomScoreAdj {
        /// The root of a procfs of our pid namespace or one above.
        proc: Arc<OwnedFd>,
        /// -1000 to 1000.
        score: i32,
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
    /// `lo` of the process's own network namespace up.
    Loopback,
    /// `umask(2)`.
    Umask(u32),
    /// `prlimit(2)` on itself: resource, soft, hard.
    ResourceLimit(u32, u64, u64),
    /// Groups, user, capabilities, in the one order that works.
    Credentials(Credentials),
    /// `prctl(PR_SET_PDEATHSIG)`: this signal when the thread that spawned it ends. Comes after [`Op::Credentials`],
    /// which clears it.
    DeathSignal(i32),
    /// `seccomp(2)`: system calls pass this filter from here on. Comes last; without `CAP_SYS_ADMIN` it needs
    /// [`Credentials::no_new_privileges`].
    Seccomp {
        /// Its instructions.
        filter: Arc<[Instruction]>,
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u32,
    },
    /// A step on the tree that becomes the root.
    Tree(TreeOp),
    /// A plain system call.
    Call(Call),
    /// Opens a file, by a path as the child sees it then, and writes to it once.
    WriteFile {
        /// Which.
        path: CString,
        /// What.
        bytes: Vec<u8>,
        /// It may be absent.
        optional: bool,
    },
    /// Says that it has come to this point, and waits until it is told to go on. Only of a child that
    /// [`super::apart`] starts.
    Sync(u64),
    /// Says that it is ready, and waits to be started. Only of such a child; belongs to
    /// [`super::Script::closed_ops`].
    WaitForStart,
    /// Fails as the `execve` would if none of the candidates is a file that this user may execute.
    FindProgram,
}

impl Op {
    /// The words of this step.
    pub(super) fn encode(&self, to: &mut Encoder, descriptors: &mut Descriptors) -> [u64; STEP] {
        let none = |what| [what, 0, 0, 0, 0, 0];
        let one = |what, a| [what, a, 0, 0, 0, 0];
        match self {
            Self::JoinNamespaces { process, namespaces } => {
                [op::JOIN_NAMESPACES, descriptors.number(process), *namespaces, 0, 0, 0]
            }
            Self::NewNamespaces(namespaces) => one(op::NEW_NAMESPACES, *namespaces),
            Self::JoinCgroup(file) => one(op::JOIN_CGROUP, descriptors.number(file)),
            Self::OomScoreAdj { proc, score } => {
                let text = score.to_string();
                [
                    op::OOM_SCORE_ADJ,
                    descriptors.number(proc),
                    to.bytes(text.as_bytes()),
                    text.len() as u64,
                    0,
                    0,
                ]
            }
            Self::RootPropagation(propagation) => one(op::ROOT_PROPAGATION, *propagation),
            Self::EnterRoot(path) | Self::WorkingDirectory(path) => one(op::CHDIR, to.string(path)),
            Self::Mount { source: Mounted::Tree(tree), target } => {
                [op::MOUNT_TREE, descriptors.number(tree), to.string(target), 0, 0, 0]
            }
            Self::Mount { source: Mounted::New { fs, options, attributes }, target } => {
                let (place, count) = self::options(to, options);
                [op::MOUNT_NEW, to.string(fs), place, count, *attributes, to.string(target)]
            }
            Self::Mask { target } => one(op::MASK, to.string(target)),
            Self::ReadOnly { target } => one(op::READ_ONLY, to.string(target)),
            Self::ReadOnlyRoot => none(op::READ_ONLY_ROOT),
            Self::PivotRoot => none(op::PIVOT_ROOT),
            Self::Hostname(name) => [op::HOSTNAME, to.string(name), name.as_bytes().len() as u64, 0, 0, 0],
            Self::Session { controlling_terminal } => one(op::SESSION, u64::from(*controlling_terminal)),
            Self::NewKeyring => none(op::NEW_KEYRING),
            Self::Loopback => none(op::LOOPBACK),
            Self::Umask(mask) => one(op::UMASK, u64::from(*mask)),
            Self::ResourceLimit(resource, soft, hard) => {
                [op::RESOURCE_LIMIT, u64::from(*resource), *soft, *hard, 0, 0]
            }
            Self::Credentials(credentials) => one(op::CREDENTIALS, credentials.encode(to)),
            Self::DeathSignal(signal) => one(op::DEATH_SIGNAL, u64::from(signal.unsigned_abs())),
            Self::Seccomp { filter, flags } => {
                let words: Vec<u64> = filter.iter().map(instruction).collect();
                [op::SECCOMP, to.words(&words), words.len() as u64, u64::from(*flags), 0, 0]
            }
            Self::Tree(step) => step.encode(to, descriptors),
            Self::Call(call) => call.encode(to),
            Self::WriteFile { path, bytes, optional } => {
                let count = bytes.len() as u64;
                [op::WRITE_FILE, to.string(path), to.bytes(bytes), count, u64::from(*optional), 0]
            }
            Self::Sync(point) => one(op::SYNC, *point),
            Self::WaitForStart => none(op::WAIT),
            Self::FindProgram => none(op::FIND),
        }
    }
}

/// Place and number of the options of a file system.
fn options(to: &mut Encoder, options: &[(CString, Option<CString>)]) -> (u64, u64) {
    let pairs: Vec<u64> = options
        .iter()
        .flat_map(|(key, value)| [Some(key), value.as_ref()])
        .map(|text| text.map_or(0, |text| to.string(text)))
        .collect();
    (to.words(&pairs), options.len() as u64)
}

/// The eight bytes of an instruction as they lie in memory.
fn instruction(Instruction { code, jt, jf, k }: &Instruction) -> u64 {
    let ([c0, c1], [k0, k1, k2, k3]) = (code.to_ne_bytes(), k.to_ne_bytes());
    u64::from_ne_bytes([c0, c1, *jt, *jf, k0, k1, k2, k3])
}

impl Credentials {
    fn encode(&self, to: &mut Encoder) -> u64 {
        let groups: Vec<u8> = self.groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        let c = &self.capabilities;
        let mut words = [0; credentials::WORDS];
        words[credentials::UID] = u64::from(self.uid);
        words[credentials::GID] = u64::from(self.gid);
        words[credentials::GROUPS] = to.bytes(&groups);
        words[credentials::GROUPS + 1] = self.groups.len() as u64;
        let sets = [c.bounding | to.taken, c.permitted, c.effective, c.inheritable, c.ambient];
        words[credentials::CAPABILITIES..][..sets.len()].copy_from_slice(&sets);
        words[credentials::NO_NEW_PRIVILEGES] = u64::from(self.no_new_privileges);
        to.words(&words)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |p: &CString| format!("/{}", p.to_string_lossy());
        match self {
            Self::JoinNamespaces { .. } => f.write_str("join namespaces"),
            Self::NewNamespaces(_) => f.write_str("create namespaces"),
            Self::JoinCgroup(_) => f.write_str("join control group"),
            Self::OomScoreAdj { score, .. } => write!(f, "set oom score adjustment {score}"),
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
            Self::Loopback => f.write_str("bring up the loopback"),
            Self::Umask(_) => f.write_str("set umask"),
            Self::ResourceLimit(resource, ..) => write!(f, "set resource limit {resource}"),
            Self::Credentials(c) => write!(f, "become user {}:{}", c.uid, c.gid),
            Self::DeathSignal(_) => f.write_str("set parent death signal"),
            Self::Seccomp { .. } => f.write_str("install seccomp filter"),
            Self::Tree(step) => step.fmt(f),
            Self::Call(call) => call.fmt(f),
            Self::WriteFile { path, .. } => write!(f, "write {}", path.to_string_lossy()),
            Self::Sync(_) => f.write_str("wait for hooks"),
            Self::WaitForStart => f.write_str("wait to be started"),
            Self::FindProgram => f.write_str("find program"),
        }
    }
}
