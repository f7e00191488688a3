//! Steps that acquire or release something that outlives this process, by name, so that a test can end it right before or
//! right after each.
//!
//! The list is the fault matrix: whoever writes code that takes something of the machine adds a step here and goes through
//! [`during`], and `tests/tests/e2e/faults` fails until some scenario reaches it.
//!
//! A release build goes through nothing: there the environment is not even read. In a debug build two variables are, of
//! this process's own environment, which no container has any part in:
//!
//! | variable | |
//! |---|---|
//! | `START_CONTAINER_STEPS=FILE` | appends the name of each step that is reached to the file |
//! | `START_CONTAINER_FAULT=NAME:WHEN:NTH:SIGNAL` | the process sends itself the signal (`KILL` or `STOP`) `before` or `after` the step of this name is reached for the NTH time (from 1) |

macro_rules! steps {
    ($($(#[doc = $doc:literal])* $step:ident $name:literal)*) => {
        /// A step.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[non_exhaustive]
        pub enum Step {
            $($(#[doc = $doc])* $step,)*
        }

        impl Step {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// As the environment and the tests write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)*
                }
            }
        }
    };
}

steps! {
    /// A range of ids for a rootfs.
    TakeIds "take-ids"
    /// The range is nobody's again.
    GiveBackIds "give-back-ids"
    /// The directory of a rootfs.
    MakeRootfs "make-rootfs"
    /// Its record, the first time.
    RecordRootfs "record-rootfs"
    /// Its record, with other mounts.
    RecordMounts "record-mounts"
    /// The private mount that holds all rootfs.
    MakePoint "make-point"
    /// That mount goes with the last of them.
    RemovePoint "remove-point"
    /// The directories that a rootfs is written to.
    MakeUpper "make-upper"
    /// The file that is a file system of a rootfs with a size.
    MakeDisk "make-disk"
    /// Its device and mount.
    MountDisk "mount-disk"
    /// The mount point of a rootfs.
    MakeMountpoint "make-mountpoint"
    /// The layers, with their ids mapped.
    MapLayers "map-layers"
    /// The overlay.
    MountRootfs "mount-rootfs"
    /// The overlay and all in it is unmounted.
    UnmountRootfs "unmount-rootfs"
    /// What was written to a rootfs is removed.
    RemoveUpper "remove-upper"
    /// The record and the directory of a rootfs are removed.
    RemoveRootfs "remove-rootfs"
    /// The directory of work on the store.
    BeginWork "begin-work"
    /// A layer that was unpacked gets its name.
    FinishLayer "finish-layer"
    /// Layers of an image move into the store.
    CommitLayers "commit-layers"
    /// Its blobs do.
    CommitBlobs "commit-blobs"
    /// Its record and its name do.
    CommitImage "commit-image"
    /// An image's names and record go.
    ForgetImage "forget-image"
    /// Layers that nobody needs leave the store.
    TakeLayers "take-layers"
    /// The directory of work is removed.
    EndWork "end-work"
    /// A mount in a rootfs.
    Mount "mount"
    /// It goes.
    Unmount "unmount"
    /// The directory in `/run` of a subcontainer.
    MakeState "make-state"
    /// Its state.
    WriteState "write-state"
    /// The file that our init leaves its exit code in.
    MakeExitFile "make-exit-file"
    /// The state and the directory go.
    RemoveState "remove-state"
    /// A group that finds and ends processes.
    MakeGroup "make-group"
    /// It goes, with all in it.
    RemoveGroup "remove-group"
    /// The group of a command that has ended goes.
    RetireGroup "retire-group"
    /// Groups with limits.
    MakeLimits "make-limits"
    /// Limits that change.
    ChangeLimits "change-limits"
    /// Groups with limits go.
    RemoveLimits "remove-limits"
    /// A process in a container.
    StartProcess "start-process"
    /// The process that remembers how others end.
    StartKeeper "start-keeper"
    /// It remembers one more.
    KeepHandle "keep-handle"
    /// It goes.
    EndKeeper "end-keeper"
    /// The FIFO of a stream that is kept.
    MakeFifo "make-fifo"
    /// It goes: nobody writes to it any more.
    RemoveFifo "remove-fifo"
    /// The directory of a log.
    MakeLog "make-log"
    /// It goes, with all in it.
    RemoveLog "remove-log"
    /// Who holds which lock.
    WriteLocks "write-locks"
    /// What is known of private networks.
    WriteNetworks "write-networks"
    /// Settings of the machine that private networks need.
    SetMachine "set-machine"
    /// The bridge of a network.
    MakeBridge "make-bridge"
    /// Rules.
    ApplyRules "apply-rules"
    /// The link of a container.
    MakeLink "make-link"
    /// A link goes, or the bridge.
    RemoveLink "remove-link"
    /// A container's names for others.
    WriteNames "write-names"
    /// The directory in which a bundle is unpacked, or is put out of sight to be removed.
    BeginBundle "begin-bundle"
    /// A bundle that was unpacked gets its name.
    CommitBundle "commit-bundle"
    /// That directory goes, with all in it.
    EndBundle "end-bundle"
    /// A decision on a package, and its line in the audit log.
    WriteDecision "write-decision"
    /// The data of a package go.
    RemoveData "remove-data"
    /// A backup is written beside the former one.
    WriteBackup "write-backup"
    /// It takes that one's place.
    CommitBackup "commit-backup"
    /// What a package adds to its backup, or gets from it, has a directory.
    OpenBackup "open-backup"
    /// That goes.
    CloseBackup "close-backup"
    /// A backup is unpacked beside a package's data.
    UnpackBackup "unpack-backup"
    /// What is needed to undo a restore is written down.
    BeginRestore "begin-restore"
    /// The data of a package change places with those of a backup.
    SwapData "swap-data"
    /// What a restore was made of and has replaced goes.
    EndRestore "end-restore"
    /// An OCI container's record.
    RecordBundle "record-bundle"
    /// The control groups of an OCI container.
    MakeBundleGroups "make-bundle-groups"
    /// What they may use.
    LimitBundle "limit-bundle"
    /// They go.
    RemoveBundleGroups "remove-bundle-groups"
    /// It goes, with its directory.
    RemoveBundle "remove-bundle"
}

/// Does the work of a step.
#[inline]
pub fn during<T>(step: Step, work: impl FnOnce() -> T) -> T {
    fault::reached(step, true);
    let result = work();
    fault::reached(step, false);
    result
}

#[cfg(not(debug_assertions))]
mod fault {
    #[inline(always)]
    pub(super) fn reached(_: super::Step, _before: bool) {}
}

#[cfg(debug_assertions)]
mod fault {
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Step;

    struct Fault {
        name: String,
        before: bool,
        nth: u32,
        signal: Signal,
        seen: AtomicU32,
    }

    #[derive(Default)]
    struct Asked {
        log: Option<PathBuf>,
        fault: Option<Fault>,
    }

    fn asked() -> &'static Asked {
        static ASKED: OnceLock<Asked> = OnceLock::new();
        ASKED.get_or_init(|| Asked {
            log: std::env::var_os("START_CONTAINER_STEPS").map(PathBuf::from),
            fault: std::env::var("START_CONTAINER_FAULT").ok().and_then(|text| parse(&text)),
        })
    }

    fn parse(text: &str) -> Option<Fault> {
        let mut parts = text.split(':');
        let (name, when, nth, signal) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let signal = if signal == "STOP" { Signal::STOP } else { Signal::KILL };
        let (before, nth, seen) = (when == "before", nth.parse().ok()?, AtomicU32::new(0));
        Some(Fault { name: name.to_owned(), before, nth, signal, seen })
    }

    pub(super) fn reached(step: Step, before: bool) {
        let asked = asked();
        if let Some(log) = asked.log.as_ref().filter(|_| before)
            && let Ok(mut log) = std::fs::OpenOptions::new().append(true).create(true).open(log)
        {
            // A test that finds nothing there fails. One write: other threads are there, too.
            let _lost = log.write_all(format!("{}\n", step.name()).as_bytes());
        }
        if let Some(fault) = asked.fault.as_ref().filter(|it| it.name == step.name() && it.before == before)
            && fault.seen.fetch_add(1, Ordering::Relaxed) + 1 == fault.nth
        {
            // SIGKILL does not return.
            let _never = kill_process(getpid(), fault.signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<&str> = Step::ALL.iter().map(|step| step.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Step::ALL.len());
    }
}
