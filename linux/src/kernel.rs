//! Which of the newer calls this kernel has.
//!
//! Asked of the calls themselves, never of the version: distributions backport, and seccomp filters take away.

use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::mount::FsContext;
use crate::sys::{check, nr};

/// What a kernel can do beyond the floor, Linux 6.1.
///
/// Functions with two ways take it as an argument, so that a test takes either:
/// [`Features::get`] is this kernel, [`Features::floor`] is the oldest that we run on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Features {
    /// `MFD_EXEC` and `MFD_NOEXEC_SEAL`: Linux 6.3.
    pub memfd_exec: bool,
    /// `listmount` and `statmount`: Linux 6.8.
    pub statmount: bool,
    /// Overlay takes its layers one by one, as `lowerdir+`: Linux 6.8.
    pub overlay_lowerdir_append: bool,
    /// Overlay takes its layers as descriptors, detached mounts too: Linux 6.13 (6.15 for detached ones).
    pub overlay_layer_fds: bool,
    /// `open_tree_attr`: Linux 6.15.
    pub open_tree_attr: bool,
    /// `PIDFD_GET_INFO` tells how a reaped process ended: Linux 6.15.
    pub pidfd_exit_info: bool,
}

impl Features {
    /// This kernel's, probed once per process (about 100 µs).
    #[must_use]
    pub fn get() -> &'static Self {
        static FEATURES: OnceLock<Features> = OnceLock::new();
        FEATURES.get_or_init(Self::probe)
    }

    /// None at all: the paths taken on Linux 6.1.
    #[must_use]
    pub const fn floor() -> Self {
        Self {
            memfd_exec: false,
            statmount: false,
            overlay_lowerdir_append: false,
            overlay_layer_fds: false,
            open_tree_attr: false,
            pidfd_exit_info: false,
        }
    }

    fn probe() -> Self {
        let (overlay_lowerdir_append, overlay_layer_fds) = probe_overlay();
        Self {
            memfd_exec: rustix::fs::memfd_create(
                c"probe",
                rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::EXEC,
            )
            .is_ok(),
            statmount: has_call(nr::STATMOUNT) && has_call(nr::LISTMOUNT),
            overlay_lowerdir_append,
            overlay_layer_fds,
            open_tree_attr: has_call(nr::OPEN_TREE_ATTR),
            pidfd_exit_info: crate::pidfd::probe_exit_info(),
        }
    }
}

/// Whether the kernel knows a call at all. All of those asked for refuse these arguments before they do anything.
fn has_call(number: std::ffi::c_long) -> bool {
    // SAFETY: no pointer is passed but null, and -1 is no descriptor: the calls can only fail.
    let returned = unsafe { libc::syscall(number, -1, 0, usize::MAX, 0, 0) };
    // A seccomp filter that has never heard of the call says EPERM.
    !matches!(check(returned), Err(Errno::NOSYS | Errno::PERM))
}

/// Overlay before 6.5 had the legacy context, which takes any parameter and judges them all at `create`. One
/// that does not exist tells it apart.
fn probe_overlay() -> (bool, bool) {
    let Ok(context) = FsContext::open("overlay") else { return (false, false) };
    if context.flag("no_such_parameter").is_ok() {
        return (false, false);
    }
    let append = context.string("lowerdir+", "/").is_ok();
    let by_fd = match rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        // An O_PATH descriptor is refused by fget on kernels that have no such parameter type, too.
        Ok(root) => context.fd("lowerdir+", root.as_fd()).is_ok() || probe_overlay_fd(&context),
        Err(_) => false,
    };
    (append, by_fd)
}

fn probe_overlay_fd(context: &FsContext) -> bool {
    rustix::fs::open(c"/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .is_ok_and(|root| context.fd("lowerdir+", root.as_fd()).is_ok())
}
