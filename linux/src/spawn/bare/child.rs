//! The child of a script: the clone, and all that it does until `execve`.

use core::sync::atomic::{AtomicU32, Ordering};

use super::script::{self, Flat, NONE, credentials, op};
use super::talk::Talk;
use super::{Result, nr, raw, tree};

/// Where a script stopped. Written by the child; read after it has gone, or has become its program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// 0 as long as nothing has failed, else one of [`stage`].
    pub stage: u64,
    /// Which step of that stage.
    pub step: u64,
    /// The kernel's error.
    pub errno: u64,
}

/// Parts of a child's life.
pub mod stage {
    /// Joining the container's namespaces, before the clone.
    pub const CONTAINER: u64 = 1;
    /// The clone itself.
    pub const CLONE: u64 = 2;
    /// A step.
    pub const OP: u64 = 3;
    /// Descriptors.
    pub const DESCRIPTORS: u64 = 4;
    /// A step after that.
    pub const CLOSED_OP: u64 = 5;
    /// `execve`.
    pub const EXEC: u64 = 6;
    /// A step of whoever clones, before it does.
    pub const BEFORE: u64 = 7;
    /// Nothing has failed: the child waits at a point.
    pub const SYNC: u64 = 100;
    /// Nothing has failed: the child waits to be started.
    pub const READY: u64 = 101;
    /// Nothing has failed: whoever clones says the child's id.
    pub const CLONED: u64 = 102;
}

struct Child {
    script: Flat,
    report: *mut Report,
}

const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts the child. Returns its id when it runs its program, or when it has written to `report` and ended.
///
/// `args` says what is particular to the caller: the stack, how the child is waited for, and where its handle goes.
///
/// # Safety
/// The stack in `args` is of at least 16 KiB and nobody uses it; all signals are blocked.
pub unsafe fn vfork(script: Flat, mut args: raw::CloneArgs, report: &mut Report) -> Result<usize> {
    prepare(script, &mut args);
    args.flags |= CLONE_VFORK;
    let mut child = Child { script, report };
    // SAFETY: `run` reads `child`, which outlives the suspension, and writes only `report`, which nobody else uses.
    unsafe { raw::clone3(&args, run, (&raw mut child).cast()) }
}

fn prepare(script: Flat, args: &mut raw::CloneArgs) {
    args.flags |= script.word(script::NAMESPACES) | CLONE_CLEAR_SIGHAND | CLONE_VM;
    let cgroup = script.word(script::CGROUP);
    if cgroup != NONE {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup;
    }
}

/// As [`vfork`], but this thread is not suspended: as long as the child is on its way, it calls `meanwhile` every 20
/// milliseconds. So who starts something that may be held on its way can see whether that is still wanted.
///
/// The kernel sets a word to zero when the child gets other memory or ends, and wakes who waits for that
/// (`CLONE_CHILD_CLEARTID`, `set_tid_address(2)`).
///
/// # Safety
/// As [`vfork`]; and `meanwhile` does not return from here by any other way, nor touches the script.
pub unsafe fn start(
    script: Flat,
    mut args: raw::CloneArgs,
    report: &mut Report,
    mut meanwhile: impl FnMut(),
) -> Result<usize> {
    const FUTEX_WAIT: usize = 0;
    const TURN: [usize; 2] = [0, 20_000_000];
    prepare(script, &mut args);
    let under_way = AtomicU32::new(1);
    args.flags |= CLONE_CHILD_CLEARTID;
    args.child_tid = under_way.as_ptr() as u64;
    let mut child = Child { script, report };
    // SAFETY: `run` reads `child` and writes only `report`; both are here until the kernel has said that it is done.
    let pid = unsafe { raw::clone3(&args, run, (&raw mut child).cast()) }?;
    while under_way.load(Ordering::Acquire) != 0 {
        let wait = [under_way.as_ptr() as usize, FUTEX_WAIT, 1, TURN.as_ptr() as usize, 0, 0];
        if sys(nr::FUTEX, wait) == Err(ETIMEDOUT) {
            meanwhile();
        }
    }
    Ok(pid)
}

/// The child's whole life until `execve`.
unsafe extern "C" fn run(argument: *mut u8) -> i32 {
    // SAFETY: `vfork` and `start` pass a `Child` that lives until the parent goes on.
    let child = unsafe { &*argument.cast::<Child>() };
    let mut talk = Talk { report: NONE, listener: NONE };
    let report = apply(child.script, &mut talk);
    // SAFETY: `report` is valid and the parent waits. Volatile, since the compiler sees no reader.
    unsafe { core::ptr::write_volatile(child.report, report) };
    1
}

/// Clones a child that shares nothing with this process, which has taken the steps before that. Returns its id; what
/// becomes of it is said through the socket of the script.
///
/// # Safety
/// This process has one thread, and all signals are blocked.
pub unsafe fn apart(script: Flat) -> core::result::Result<usize, Report> {
    const CLONE_PARENT: u64 = 0x8000;
    let failed = |stage, step: usize, errno: i32| Report { stage, step: step as u64, errno: errno as u64 };
    let mut talk = Talk { report: script.word(script::REPORT), listener: script.word(script::LISTENER) };
    steps(script, script::BEFORE, &mut talk).map_err(|(i, errno)| failed(stage::BEFORE, i, errno))?;
    let mut args = raw::CloneArgs {
        flags: script.word(script::NAMESPACES) | CLONE_CLEAR_SIGHAND | CLONE_PARENT,
        ..raw::CloneArgs::default()
    };
    let cgroup = script.word(script::CGROUP);
    if cgroup != NONE {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup;
    }
    // SAFETY: by this function's own contract.
    match unsafe { raw::fork3(&args) } {
        Ok(0) => {
            let report = apply(script, &mut talk);
            // Whoever asked may be gone.
            let _ = talk.say(&report);
            loop {
                let _ = sys(nr::EXIT_GROUP, [1]);
            }
        }
        Ok(pid) => Ok(pid),
        Err(errno) => Err(failed(stage::CLONE, 0, errno)),
    }
}

/// Returns only when something has failed.
fn apply(script: Flat, talk: &mut Talk) -> Report {
    let failed = |stage, step: usize, errno: i32| Report { stage, step: step as u64, errno: errno as u64 };
    if let Err((i, errno)) = steps(script, script::OPS, talk) {
        return failed(stage::OP, i, errno);
    }
    let program = match descriptors(script, talk) {
        Ok(program) => program,
        Err(errno) => return failed(stage::DESCRIPTORS, 0, errno),
    };
    // Before the last steps: a filter among them may forbid it.
    if let Err(errno) = default_signals(script.word(script::IGNORED)) {
        return failed(stage::DESCRIPTORS, 0, errno);
    }
    if let Err((i, errno)) = steps(script, script::CLOSED_OPS, talk) {
        let place = script.word(script::CLOSED_OPS) as usize + i * script::STEP;
        let what = if script.word(place) == op::FIND { stage::EXEC } else { stage::CLOSED_OP };
        return failed(what, i, errno);
    }
    failed(stage::EXEC, 0, exec(script, program))
}

fn steps(script: Flat, header: usize, talk: &mut Talk) -> core::result::Result<(), (usize, i32)> {
    let place = script.word(header) as usize;
    // Its descriptor is closed with the last step: others take their places then.
    let mut cover = Cover::default();
    for i in 0..script.word(header + 1) as usize {
        let at = place + i * script::STEP;
        let args = [1, 2, 3, 4, 5].map(|n| script.word(at + n));
        step(script, script.word(at), args, talk, &mut cover).map_err(|errno| (i, errno))?;
    }
    Ok(())
}

pub(super) const AT_FDCWD: usize = -100_isize as usize;
pub(super) const AT_EMPTY_PATH: usize = 0x1000;
pub(super) const AT_RECURSIVE: usize = 0x8000;
const MNT_DETACH: usize = 2;
const TIOCSCTTY: usize = 0x540e;
const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
const PR_SET_PDEATHSIG: usize = 1;

const ETIMEDOUT: i32 = 110;
pub(super) const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EACCES: i32 = 13;
pub(super) const ENOTDIR: i32 = 20;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;

/// Applies one step.
fn step(
    script: Flat,
    what: u64,
    [a, b, c, d, e]: [u64; 5],
    talk: &mut Talk,
    cover: &mut Cover,
) -> Result<()> {
    let number = |word: u64| word as usize;
    let address = |place: u64| script.address(place);
    match what {
        op::JOIN_NAMESPACES => done(nr::SETNS, [number(a), number(b)]),
        op::NEW_NAMESPACES => done(nr::UNSHARE, [number(a)]),
        op::JOIN_CGROUP => done(nr::WRITE, [number(a), c"0".as_ptr() as usize, 1]),
        op::OOM_SCORE_ADJ => {
            const O_WRONLY: u64 = 1;
            let how: [u64; 3] = [O_WRONLY | CLOEXEC as u64, 0, 0];
            let path = c"self/oom_score_adj".as_ptr() as usize;
            let file =
                sys(nr::OPENAT2, [number(a), path, how.as_ptr() as usize, size_of_val(&how)]).map(Raw)?;
            done(nr::WRITE, [file.0, address(b), number(c)])
        }
        op::ROOT_PROPAGATION => set_attributes(
            AT_FDCWD,
            c"/".as_ptr() as usize,
            AT_RECURSIVE,
            &MountAttr { propagation: a, ..MountAttr::NONE },
        ),
        op::CHDIR => done(nr::CHDIR, [address(a)]),
        op::MOUNT_TREE => {
            let target = Raw::open_target(address(b))?;
            move_mount(number(a), target.0)
        }
        op::MOUNT_NEW => {
            let target = Raw::open_target(address(e))?;
            let mount = new_mount(script, address(a), b, c, d)?;
            move_mount(mount.0, target.0)
        }
        op::MASK => mask(script, address(a), cover),
        op::READ_ONLY => read_only(address(a)),
        op::READ_ONLY_ROOT => set_attributes(
            AT_FDCWD,
            c".".as_ptr() as usize,
            0,
            &MountAttr { set: ATTR_RDONLY, ..MountAttr::NONE },
        ),
        op::PIVOT_ROOT => {
            let here = c".".as_ptr() as usize;
            done(nr::PIVOT_ROOT, [here, here])?;
            done(nr::UMOUNT2, [here, MNT_DETACH])?;
            done(nr::CHDIR, [c"/".as_ptr() as usize])
        }
        op::HOSTNAME => done(nr::SETHOSTNAME, [address(a), number(b)]),
        op::SESSION => {
            done(nr::SETSID, [])?;
            if a != 0 { done(nr::IOCTL, [0, TIOCSCTTY, 0]) } else { Ok(()) }
        }
        op::NEW_KEYRING => match done(nr::KEYCTL, [KEYCTL_JOIN_SESSION_KEYRING, 0]) {
            Err(ENOSYS) => Ok(()),
            other => other,
        },
        op::LOOPBACK => loopback(),
        op::UMASK => done(nr::UMASK, [number(a)]),
        op::RESOURCE_LIMIT => {
            let limit = [b, c];
            done(nr::PRLIMIT64, [0, number(a), limit.as_ptr() as usize, 0])
        }
        op::CREDENTIALS => become_user(script, number(a)),
        op::DEATH_SIGNAL => prctl(PR_SET_PDEATHSIG, number(a), 0),
        op::SECCOMP => {
            const SET_MODE_FILTER: usize = 1;
            const NEW_LISTENER: usize = 1 << 3;
            let program = FilterProgram { length: b as u16, instructions: address(a) };
            let listener = sys(nr::SECCOMP, [SET_MODE_FILTER, number(c), &raw const program as usize])?;
            if number(c) & NEW_LISTENER == 0 {
                return Ok(());
            }
            // Whoever listens copies it from here for the agent, and answers.
            let listener = Raw(listener);
            talk.sync(super::talk::LISTENER | (listener.0 as u64) << 8)
        }
        op::CALL => {
            let argument = |n: u64, word| if b & (1 << n) == 0 { number(word) } else { address(word) };
            done(number(a), [argument(0, c), argument(1, d), argument(2, e)])
        }
        op::WRITE_FILE => match write_file(address(a), address(b), number(c)) {
            Err(ENOENT) if d != 0 => Ok(()),
            other => other,
        },
        op::SYNC => talk.sync(a),
        op::WAIT => talk.wait(),
        op::FIND => find(script),
        _ => tree::step(script, what, [a, b, c, d, e], cover).unwrap_or(Err(EINVAL)),
    }
}

fn write_file(path: usize, bytes: usize, count: usize) -> Result<()> {
    const O_WRONLY: usize = 1;
    let file = Raw(sys(nr::OPENAT, [AT_FDCWD, path, O_WRONLY | CLOEXEC, 0])?);
    done(nr::WRITE, [file.0, bytes, count])
}

/// As [`exec`] would: whether one of the candidates is there, and a file that may be executed.
fn find(script: Flat) -> Result<()> {
    const X_OK: usize = 1;
    // As `execve` looks: with the capabilities that it has, which `access(2)` leaves out for all but root.
    const AT_EACCESS: usize = 0x200;
    let mut found = ENOENT;
    for candidate in script.list(script::CANDIDATES) {
        let file = match sys(nr::OPENAT, [AT_FDCWD, candidate as usize, O_PATH | CLOEXEC, 0]) {
            Err(ENOENT | ENOTDIR) => continue,
            Err(EACCES) => {
                found = EACCES;
                continue;
            }
            other => Raw(other?),
        };
        if !file.is_dir()? && done(nr::FACCESSAT2, [AT_FDCWD, candidate as usize, X_OK, AT_EACCESS]).is_ok() {
            return Ok(());
        }
        found = EACCES;
    }
    if script.word(script::CANDIDATES + 1) == 0 { Ok(()) } else { Err(found) }
}

/// `struct sock_fprog`, linux/filter.h.
#[repr(C)]
struct FilterProgram {
    length: u16,
    instructions: usize,
}

const F_SETFD: usize = 2;
const FD_CLOEXEC: usize = 1;

/// Standard streams, kept descriptors and the program in their places; everything else closed. Returns where the
/// program's descriptor went. What the child speaks through stays open until it is its program.
fn descriptors(script: Flat, talk: &mut Talk) -> Result<usize> {
    let mut next = 0;
    for from in [0, 1, 2].map(|n| script.word(script::STDIO + n)).into_iter().chain(script.list(script::KEEP))
    {
        place(from as usize, next, false)?;
        next += 1;
    }
    let program = next;
    let from = script.word(script::PROGRAM);
    if from != NONE {
        place(from as usize, program, true)?;
        next += 1;
    }
    for own in [&mut talk.report, &mut talk.listener] {
        if *own != NONE {
            place(*own as usize, next, true)?;
            *own = next as u64;
            next += 1;
        }
    }
    done(nr::CLOSE_RANGE, [next, u32::MAX as usize, 0])?;
    Ok(program)
}

/// `dup3(2)`, which refuses to copy a descriptor onto itself: then only the flag changes.
fn place(from: usize, to: usize, close_on_exec: bool) -> Result<()> {
    if from == to {
        return done(nr::FCNTL, [to, F_SETFD, usize::from(close_on_exec) * FD_CLOEXEC]);
    }
    done(nr::DUP3, [from, to, usize::from(close_on_exec) * CLOEXEC])
}

const SIG_SETMASK: usize = 2;

/// Never returns on success.
fn exec(script: Flat, program: usize) -> i32 {
    let (argv, envp) = (script.address(script.word(script::ARGV)), script.address(script.word(script::ENVP)));
    if script.word(script::PROGRAM) != NONE {
        let result = sys(nr::EXECVEAT, [program, c"".as_ptr() as usize, argv, envp, AT_EMPTY_PATH]);
        return result.err().unwrap_or(EIO);
    }
    // As execvp(3): go on past what is not there, remember what may not be executed.
    let mut found = ENOENT;
    for candidate in script.list(script::CANDIDATES) {
        match sys(nr::EXECVE, [candidate as usize, argv, envp]) {
            Err(ENOENT | ENOTDIR) => {}
            Err(EACCES) => found = EACCES,
            Err(errno) => return errno,
            Ok(_) => return EIO,
        }
    }
    found
}

/// Every signal to its default, and none blocked. `CLONE_CLEAR_SIGHAND` resets handlers, but what the parent ignores (Rust's
/// runtime: SIGPIPE; a shell's background job: SIGINT) would stay ignored, through `execve` too.
fn default_signals(ignored: u64) -> Result<()> {
    // `struct sigaction` of the kernel: SIG_DFL, no flags, no restorer, an empty mask.
    let default = [0_u64; 4];
    for signal in (1..=64).filter(|signal| ignored & 1 << (signal - 1) != 0) {
        done(nr::RT_SIGACTION, [signal, default.as_ptr() as usize, 0, 8])?;
    }
    let none = 0_u64;
    done(nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const none as usize, 0, 8])
}

pub(super) const CLOEXEC: usize = 0o2_000_000;
pub(super) const O_PATH: usize = 0o10_000_000;
pub(super) const OPEN_TREE_CLONE: usize = 1;
const ATTR_RDONLY: u64 = 1;

/// `struct mount_attr`, linux/mount.h.
#[repr(C)]
pub(super) struct MountAttr {
    pub(super) set: u64,
    pub(super) clear: u64,
    pub(super) propagation: u64,
    pub(super) userns: u64,
}

impl MountAttr {
    pub(super) const NONE: Self = Self { set: 0, clear: 0, propagation: 0, userns: 0 };
}

pub(super) fn set_attributes(dir: usize, path: usize, flags: usize, attributes: &MountAttr) -> Result<()> {
    let pointer = (&raw const *attributes) as usize;
    done(nr::MOUNT_SETATTR, [dir, path, flags, pointer, size_of::<MountAttr>()])
}

pub(super) fn move_mount(from: usize, to: usize) -> Result<()> {
    const F_EMPTY_PATH: usize = 0x4;
    const T_EMPTY_PATH: usize = 0x40;
    let empty = c"".as_ptr() as usize;
    done(nr::MOVE_MOUNT, [from, empty, to, empty, F_EMPTY_PATH | T_EMPTY_PATH])
}

/// `options`: the place of `count` pairs of places.
pub(super) fn new_mount(script: Flat, fs: usize, options: u64, count: u64, attributes: u64) -> Result<Raw> {
    const FSOPEN_CLOEXEC: usize = 1;
    const FSMOUNT_CLOEXEC: usize = 1;
    const SET_FLAG: usize = 0;
    const SET_STRING: usize = 1;
    const CREATE: usize = 6;
    let context = Raw(sys(nr::FSOPEN, [fs, FSOPEN_CLOEXEC])?);
    for i in 0..count as usize {
        let pair = options as usize + 2 * i;
        let key = script.address(script.word(pair));
        let (command, value) = match script.word(pair + 1) {
            0 => (SET_FLAG, 0),
            place => (SET_STRING, script.address(place)),
        };
        done(nr::FSCONFIG, [context.0, command, key, value, 0])?;
    }
    done(nr::FSCONFIG, [context.0, CREATE, 0, 0, 0])?;
    sys(nr::FSMOUNT, [context.0, FSMOUNT_CLOEXEC, attributes as usize]).map(Raw)
}

/// What hides directories: one empty, read-only tmpfs, and copies of its mount.
#[derive(Default)]
pub(super) struct Cover(Option<Raw>);

impl Cover {
    /// `options`: the place of `count` pairs of places, for the tmpfs.
    pub(super) fn hide(&mut self, script: Flat, directory: &Raw, options: u64, count: u64) -> Result<()> {
        if let Some(first) = &self.0 {
            let flags = OPEN_TREE_CLONE | CLOEXEC | AT_EMPTY_PATH;
            let copy = Raw(sys(nr::OPEN_TREE, [first.0, c"".as_ptr() as usize, flags])?);
            return move_mount(copy.0, directory.0);
        }
        let first = new_mount(script, c"tmpfs".as_ptr() as usize, options, count, ATTR_RDONLY)?;
        move_mount(first.0, directory.0)?;
        self.0 = Some(first);
        Ok(())
    }
}

fn mask(script: Flat, path: usize, cover: &mut Cover) -> Result<()> {
    let target = match Raw::open_target(path) {
        Err(ENOENT) => return Ok(()),
        other => other?,
    };
    if target.is_dir()? {
        return cover.hide(script, &target, 0, 0);
    }
    // Only a mount of the caller's own namespace can be cloned, so the parent cannot have opened it.
    let null = c"/dev/null".as_ptr() as usize;
    let clone = Raw(sys(nr::OPEN_TREE, [AT_FDCWD, null, OPEN_TREE_CLONE | CLOEXEC])?);
    // It is the machine's own: its mode and owner are not for those inside to change.
    set_attributes(
        clone.0,
        c"".as_ptr() as usize,
        AT_EMPTY_PATH,
        &MountAttr { set: ATTR_RDONLY, ..MountAttr::NONE },
    )?;
    move_mount(clone.0, target.0)
}

fn read_only(path: usize) -> Result<()> {
    let target = match Raw::open_target(path) {
        Err(ENOENT) => return Ok(()),
        other => other?,
    };
    let flags = OPEN_TREE_CLONE | CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE;
    let clone = Raw(sys(nr::OPEN_TREE, [target.0, c"".as_ptr() as usize, flags])?);
    let attributes = MountAttr { set: ATTR_RDONLY, ..MountAttr::NONE };
    set_attributes(clone.0, c"".as_ptr() as usize, AT_EMPTY_PATH | AT_RECURSIVE, &attributes)?;
    move_mount(clone.0, target.0)
}

const PR_SET_DUMPABLE: usize = 4;
const PR_SET_KEEPCAPS: usize = 8;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const PR_CAP_AMBIENT: usize = 47;
const PR_CAP_AMBIENT_RAISE: usize = 2;

/// Groups before user, for only root may set them; the bounding set before the user, for only a process with
/// CAP_SETPCAP may shrink it; capabilities last, kept across the change of user by PR_SET_KEEPCAPS.
fn become_user(script: Flat, at: usize) -> Result<()> {
    const LAST_KNOWN: usize = 63;
    // With what whoever cloned this one had not either, which need not be taken away.
    let [bounding, permitted, effective, inheritable, ambient] =
        [0, 1, 2, 3, 4].map(|n| script.word(at + credentials::CAPABILITIES + n));
    for capability in 0..=LAST_KNOWN {
        if bounding & (1 << capability) != 0 {
            continue;
        }
        match prctl(PR_CAPBSET_DROP, capability, 0) {
            // The kernel knows no capability of this number, and none above it.
            Err(EINVAL) => break,
            other => other?,
        }
    }
    prctl(PR_SET_KEEPCAPS, 1, 0)?;
    let groups = script.address(script.word(at + credentials::GROUPS));
    done(nr::SETGROUPS, [script.word(at + credentials::GROUPS + 1) as usize, groups])?;
    let (gid, uid) =
        (script.word(at + credentials::GID) as usize, script.word(at + credentials::UID) as usize);
    done(nr::SETRESGID, [gid, gid, gid])?;
    done(nr::SETRESUID, [uid, uid, uid])?;
    set_capabilities([effective, permitted, inheritable])?;
    // A change of ids may make the memory readable to others of that id (`fs.suid_dumpable`).
    prctl(PR_SET_DUMPABLE, 0, 0)?;
    prctl(PR_SET_KEEPCAPS, 0, 0)?;
    for capability in 0..=LAST_KNOWN {
        if ambient & (1 << capability) != 0 {
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)?;
        }
    }
    if script.word(at + credentials::NO_NEW_PRIVILEGES) != 0 {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0)?;
    }
    Ok(())
}

/// `capset(2)`, version 3: two halves of 32 bits.
fn set_capabilities(sets: [u64; 3]) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let data = [sets.map(|set| set as u32), sets.map(|set| (set >> 32) as u32)];
    done(nr::CAPSET, [header.as_ptr() as usize, data.as_ptr() as usize])
}

fn prctl(option: usize, a: usize, b: usize) -> Result<()> {
    done(nr::PRCTL, [option, a, b, 0, 0])
}

/// A descriptor of the child's own, closed when done with.
pub(super) struct Raw(pub(super) usize);

impl Raw {
    /// Opens a relative path beneath the working directory, the new root, following no link: an image whose
    /// `/proc` is a link must not choose where proc is mounted (CVE-2019-19921).
    fn open_target(path: usize) -> Result<Self> {
        const NO_MAGICLINKS: u64 = 0x02;
        const NO_SYMLINKS: u64 = 0x04;
        const BENEATH: u64 = 0x08;
        let how: [u64; 3] = [(O_PATH | CLOEXEC) as u64, 0, NO_MAGICLINKS | NO_SYMLINKS | BENEATH];
        sys(nr::OPENAT2, [AT_FDCWD, path, how.as_ptr() as usize, size_of_val(&how)]).map(Self)
    }

    pub(super) fn is_dir(&self) -> Result<bool> {
        const STATX_TYPE: usize = 1;
        const S_IFMT: u16 = 0o170_000;
        const S_IFDIR: u16 = 0o040_000;
        // `struct statx`: 256 bytes, the mode (16 bits) behind seven words of 32 bits.
        let mut statx = [0_u16; 128];
        let args = [self.0, c"".as_ptr() as usize, AT_EMPTY_PATH, STATX_TYPE, statx.as_mut_ptr() as usize];
        done(nr::STATX, args)?;
        Ok(statx[14] & S_IFMT == S_IFDIR)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done about a failing close, and the descriptor is gone all the same.
        let _ = sys(nr::CLOSE, [self.0]);
    }
}

/// `SIOCSIFFLAGS` on `lo`, `netdevice(7)`.
fn loopback() -> Result<()> {
    const AF_INET: usize = 2;
    const SOCK_DGRAM: usize = 2;
    const SIOCSIFFLAGS: usize = 0x8914;
    const LO: u32 = u32::from_ne_bytes(*b"lo\0\0");
    // The flags are 16 bits.
    const IFF_UP: u32 = u32::from_ne_bytes([1_u16.to_ne_bytes()[0], 1_u16.to_ne_bytes()[1], 0, 0]);
    let socket = Raw(sys(nr::SOCKET, [AF_INET, SOCK_DGRAM | CLOEXEC, 0])?);
    // `struct ifreq`: sixteen bytes of name, then the flags, 40 bytes in all.
    let request: [u32; 10] = [LO, 0, 0, 0, IFF_UP, 0, 0, 0, 0, 0];
    done(nr::IOCTL, [socket.0, SIOCSIFFLAGS, request.as_ptr() as usize])
}

pub(super) fn done<const N: usize>(number: usize, args: [usize; N]) -> Result<()> {
    sys(number, args).map(drop)
}

pub(super) fn sys<const N: usize>(number: usize, args: [usize; N]) -> Result<usize> {
    // SAFETY: every call in this file passes pointers to live values of the size that the call reads or writes:
    // places of the script, constants, or locals of the calling function.
    unsafe { raw::call(number, args) }
}
