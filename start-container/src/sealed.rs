//! Running from a file that nobody inside a container can overwrite (CVE-2019-5736).
//!
//! A child that is cloned from this process runs our program on its way into a container; a container that makes it
//! execute `/proc/self/exe`, or opens `/proc/<pid>/exe`, would hold the host's binary. So a daemon first executes
//! itself from a detached, read-only clone of the mount it is on: the link then leads to a file that cannot be opened
//! for writing, by whatever user, and no mount table holds that clone. It costs one `execve` and no copy; a command
//! line, which starts one process in its life, lets a guard start it instead ([`crate::engine::guard`]).

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;

use linux::mount::{MountAttr, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::process::DumpableBehavior;

use crate::error::{Failure, Result};

/// The proof that this program may start containers from its own memory.
#[derive(Debug)]
pub(crate) struct Sealed(());

/// Returns when the program is safe already; otherwise starts it again, and does not return.
pub(crate) fn reexecute() -> Result<Sealed> {
    let exe = "/proc/self/exe";
    let fail = |errno| Failure::kernel("open", exe, errno);
    let file = rustix::fs::open(exe, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let mount = rustix::fs::fstatvfs(&file).map_err(fail)?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        // And nothing that shares our memory on its way into a container may be looked into from there.
        return rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map(|()| Sealed(()))
            .map_err(|errno| Failure::kernel("set dumpable", "", errno));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = rustix::mount::open_tree(CWD, exe, flags)
        .map_err(|errno| Failure::kernel("clone mount of", exe, errno))?;
    mount_setattr(
        &clone,
        false,
        &MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..MountAttr::default() },
    )
    .map_err(|errno| Failure::kernel("make read-only", exe, errno))?;
    let text = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default();
    let args: Vec<CString> = std::env::args_os().map(|arg| text(arg.into_vec())).collect();
    let env: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| text([name.into_vec(), value.into_vec()].join(&b'=')))
        .collect();
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let env: Vec<&CStr> = env.iter().map(CString::as_c_str).collect();
    match linux::process::execveat(&clone, &args, &env) {
        Ok(never) => match never {},
        Err(errno) => Err(Failure::kernel("execute", exe, errno)),
    }
}
