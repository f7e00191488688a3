//! The form in which a script reaches the child: words of 64 bits, one after another, that mean the same wherever
//! they lie in memory.
//!
//! ```text
//! word 0…24    the header: see the constants
//! then         steps (six words each: what, and five arguments), lists, and strings that end in a zero byte
//! ```
//! Places in it are counted in words from its beginning. Only the lists that `execve` reads hold addresses, which
//! [`relocate`] puts there.

/// No descriptor.
pub const NONE: u64 = u64::MAX;
/// The namespaces that a child begins in: pid, mount, uts, ipc, network. Not the cgroup namespace, which must be joined
/// from within the group.
pub const CONTAINERS: usize = 0x2000_0000 | 0x0002_0000 | 0x0400_0000 | 0x0800_0000 | 0x4000_0000;

/// Words of a step.
pub const STEP: usize = 6;

/// Namespaces that the child gets anew: flags of `clone(2)`.
pub const NAMESPACES: usize = 0;
/// The process whose namespaces ([`CONTAINERS`]) the child is to begin in, or [`NONE`].
pub const CONTAINER: usize = 1;
/// The group that it starts in, or [`NONE`].
pub const CGROUP: usize = 2;
/// Three words: what becomes its standard streams.
pub const STDIO: usize = 3;
/// Place and length of the list of descriptors that become 3, 4, …
pub const KEEP: usize = 6;
/// The open program, or [`NONE`].
pub const PROGRAM: usize = 8;
/// Place and length of the list of paths to try, if there is no open program.
pub const CANDIDATES: usize = 9;
/// Place and length of the list of arguments. Behind its end stands a null.
pub const ARGV: usize = 11;
/// Place and length of the list of environment variables. Behind its end stands a null.
pub const ENVP: usize = 13;
/// Place and number of the steps.
pub const OPS: usize = 15;
/// Place and number of the steps after descriptors are closed.
pub const CLOSED_OPS: usize = 17;
/// The process beneath whose pid namespace the child's is made, or [`NONE`]. For whoever can do that.
pub const ABOVE: usize = 19;
/// Place and number of the steps that whoever clones the child takes before it does.
pub const BEFORE: usize = 20;
/// The socket that a child of its own memory speaks through, or [`NONE`].
pub const REPORT: usize = 22;
/// The socket that such a child waits on to be started, or [`NONE`].
pub const LISTENER: usize = 23;
/// The signals that whoever clones the child ignores, bit 0 for signal 1: the child sets them to their defaults. Handlers
/// the clone resets by itself.
pub const IGNORED: usize = 24;
/// Words of the header.
pub const HEADER: usize = 25;

/// What a step is; its arguments behind the arrow.
pub mod op {
    /// `setns(2)` → process, namespaces.
    pub const JOIN_NAMESPACES: u64 = 1;
    /// Propagation of `/`, recursively → propagation.
    pub const ROOT_PROPAGATION: u64 = 2;
    /// `chdir(2)` → path.
    pub const CHDIR: u64 = 3;
    /// `move_mount(2)` of a detached tree → tree, path.
    pub const MOUNT_TREE: u64 = 4;
    /// A new file system → type, options (place and number of pairs of places, 0 for no value), attributes, path.
    pub const MOUNT_NEW: u64 = 5;
    /// → path.
    pub const MASK: u64 = 6;
    /// → path.
    pub const READ_ONLY: u64 = 7;
    /// No argument.
    pub const READ_ONLY_ROOT: u64 = 8;
    /// No argument.
    pub const PIVOT_ROOT: u64 = 9;
    /// → name, its length in bytes.
    pub const HOSTNAME: u64 = 10;
    /// `setsid(2)` → 1 if standard input becomes the controlling terminal.
    pub const SESSION: u64 = 11;
    /// No argument.
    pub const NEW_KEYRING: u64 = 12;
    /// → mask.
    pub const UMASK: u64 = 13;
    /// → resource, soft, hard.
    pub const RESOURCE_LIMIT: u64 = 14;
    /// → the words of [`super::credentials`].
    pub const CREDENTIALS: u64 = 15;
    /// → signal.
    pub const DEATH_SIGNAL: u64 = 16;
    /// `seccomp(2)` → instructions (one word each), their number, flags.
    pub const SECCOMP: u64 = 17;
    /// `unshare(2)` → namespaces.
    pub const NEW_NAMESPACES: u64 = 18;
    /// → the `tasks` or `cgroup.procs` of a group.
    pub const JOIN_CGROUP: u64 = 19;
    /// A system call → its number, which of its arguments are places (bits), three arguments.
    pub const CALL: u64 = 20;
    /// Opens a file and writes to it → path, bytes, how many, 1 if it may be absent.
    pub const WRITE_FILE: u64 = 21;
    /// Says that it is here, and waits for an answer → which point.
    pub const SYNC: u64 = 22;
    /// Waits to be started. No argument.
    pub const WAIT: u64 = 23;
    /// Looks whether there is something to execute. No argument.
    pub const FIND: u64 = 24;
    /// → the root of a procfs, text, its length in bytes.
    pub const OOM_SCORE_ADJ: u64 = 25;
    /// Brings the loopback of the own network namespace up. No argument.
    pub const LOOPBACK: u64 = 26;
}

/// Steps that build the tree, see [`super::tree`]. `pairs`: place and number of a list of two places for each part of
/// a path: the path up to there, and the part.
pub mod tree {
    /// → pairs.
    pub const MAKE_DIR: u64 = 32;
    /// → pairs.
    pub const MAKE_FILE: u64 = 33;
    /// → pairs, mode with type, device, owner.
    pub const DEVICE: u64 = 34;
    /// → pairs, what it leads to.
    pub const SYMLINK: u64 = 35;
    /// → tree, path, 1 for no links, 1 for a copy that is made now.
    pub const MOUNT_TREE: u64 = 36;
    /// → words of the file system, path, 1 for no links.
    pub const MOUNT_NEW: u64 = 37;
    /// → from, to.
    pub const BIND: u64 = 38;
    /// → path, options (place of one pair) of the tmpfs.
    pub const MASK: u64 = 39;
    /// → path.
    pub const READ_ONLY: u64 = 40;
    /// → path, 1 for recursive, attributes to set, propagation.
    pub const ATTRIBUTES: u64 = 41;
    /// No argument.
    pub const OWN_ROOT: u64 = 42;
    /// No argument.
    pub const MOVE_ROOT: u64 = 43;
}

/// Words of credentials.
pub mod credentials {
    /// User id.
    pub const UID: usize = 0;
    /// Group id.
    pub const GID: usize = 1;
    /// Place (an array of 32-bit numbers) and number of supplementary groups.
    pub const GROUPS: usize = 2;
    /// Bounding, permitted, effective, inheritable, ambient set.
    pub const CAPABILITIES: usize = 4;
    /// 1 for no new privileges.
    pub const NO_NEW_PRIVILEGES: usize = 9;
    /// Number of words.
    pub const WORDS: usize = 10;
}

/// A script in memory.
#[derive(Clone, Copy)]
pub struct Flat {
    base: *const u64,
}

impl Flat {
    /// # Safety
    /// A whole, relocated script lies at `base` for as long as this and its copies are used.
    pub unsafe fn new(base: *const u64) -> Self {
        Self { base }
    }

    /// A word.
    pub fn word(self, place: usize) -> u64 {
        // SAFETY: places in a script lie within it.
        unsafe { *self.base.add(place) }
    }

    /// The address of a place, for the kernel.
    pub fn address(self, place: u64) -> usize {
        self.base.wrapping_add(place as usize) as usize
    }

    /// The words of a list whose place and length begin at `header`.
    pub fn list(self, header: usize) -> impl Iterator<Item = u64> {
        let place = self.word(header) as usize;
        (place..place + self.word(header + 1) as usize).map(move |place| self.word(place))
    }
}

/// Turns places into addresses in the lists that the kernel reads.
///
/// # Safety
/// A whole script lies at `base`, not relocated yet, and nobody else uses it.
pub unsafe fn relocate(base: *mut u64) {
    for list in [CANDIDATES, ARGV, ENVP] {
        // SAFETY: places in a script lie within it.
        unsafe {
            let (place, length) = (*base.add(list) as usize, *base.add(list + 1) as usize);
            for i in place..place + length {
                let string = base.add(*base.add(i) as usize);
                *base.add(i) = string as u64;
            }
        }
    }
}
