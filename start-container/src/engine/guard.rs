//! Our PID 1, and the guard: the two parts of the small static program that goes where this one does not.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use linux::mount::{MountAttr, mount_setattr};
use linux::signal::Signal;
use linux::spawn::{Program, Script, Spawned, Through};
use protocol::ErrorKind;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::cgroup::Group;
use super::process::{self, Process};
use super::{dev_null, pipe};
use crate::error::{Failure, Result};

/// How long a process may be on its way in. It takes milliseconds, unless somebody inside stops it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compiled by `build.rs` from `init/`.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/start-container-init"));

/// The small program as a file that nobody can change, made on first use.
#[derive(Debug)]
pub(crate) struct Init {
    file: OnceLock<Arc<OwnedFd>>,
    shared: bool,
}

impl Init {
    /// `shared`: several containers have it as their first program. Those inside can reach it as `/proc/1/exe`: a sealed
    /// file in memory is fast to make and has an owner and a mode, which who is root could change, for all.
    pub(crate) fn new(shared: bool) -> Self {
        Self { file: OnceLock::new(), shared }
    }

    pub(crate) fn get(&self) -> Result<Arc<OwnedFd>> {
        if let Some(init) = self.file.get() {
            return Ok(Arc::clone(init));
        }
        let file = if self.shared {
            on_a_mount_of_its_own()
        } else {
            linux::memfd::memfd_sealed(c"start-container-init", INIT)
        };
        let file = file.map_err(|errno| Failure::kernel("load", "start-container-init", errno))?;
        Ok(Arc::clone(self.file.get_or_init(|| Arc::new(file))))
    }

    /// Turns a script that executes a command into one that executes our init, which executes the command.
    pub(crate) fn beneath(&self, script: &mut Script) -> Result<InitReport> {
        let (pipe, write) = pipe()?;
        let write = Arc::new(write);
        let Program::Candidates(candidates) =
            std::mem::replace(&mut script.program, Program::File(self.get()?))
        else {
            return Err(Failure::new(ErrorKind::Internal, "run beneath init", ""));
        };
        let text = |text: String| CString::new(text).unwrap_or_default();
        let mut argv = vec![text("start-container-init".into()), text(candidates.len().to_string())];
        argv.extend(candidates);
        argv.append(&mut script.argv);
        script.argv = argv;
        script.keep.push(Arc::clone(&write));
        Ok(InitReport { pipe, write })
    }
}

/// The program on a read-only mount, which nobody else has.
fn on_a_mount_of_its_own() -> std::result::Result<OwnedFd, Errno> {
    const NAME: &str = "start-container-init";
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::openat(&mount, NAME, flags, Mode::from(0o555))?);
    file.write_all(INIT).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    // The umask belongs to the whole process. Root inside may be nobody here.
    rustix::fs::fchmod(&file, Mode::from(0o555))?;
    // Nothing that is open for writing can be executed, or made read-only.
    drop(file);
    let fixed = MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    mount_setattr(&mount, false, &fixed)?;
    rustix::fs::openat(&mount, NAME, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// The pipe on which our init says that a command beneath it could not be executed.
#[derive(Debug)]
pub(crate) struct InitReport {
    pipe: OwnedFd,
    /// This process's copy of the writing end, closed before waiting.
    write: Arc<OwnedFd>,
}

impl InitReport {
    pub(crate) fn wait(self, args: &[String]) -> Result<()> {
        drop(self.write);
        let mut errno = [0];
        match rustix::io::read(&self.pipe, &mut errno) {
            Ok(0) => Ok(()),
            Ok(_) => {
                let program = args.first().map_or("", String::as_str);
                Err(process::exec_failure(program, Errno::from_raw_os_error(i32::from(errno[0]))))
            }
            Err(errno) => Err(Failure::kernel("wait for init", "", errno)),
        }
    }
}

/// A small process that started another in this one's stead, and outlives this one: if this one is killed, it ends
/// everything in a group. Dropping it without [`Guard::dismiss`] has the same effect.
#[derive(Debug)]
pub(crate) struct Guard {
    pipe: OwnedFd,
    pidfd: OwnedFd,
}

impl Guard {
    /// Starts what `script` says, in `group`, which is guarded from then on. The process is a child of this one.
    ///
    /// Nothing of this process is ever in the container: not its memory, and not its program file, which a container
    /// could overwrite through `/proc/<pid>/exe` (CVE-2019-5736).
    pub(crate) fn start(init: &Init, mut script: Script, group: Group) -> Result<(Process, Self)> {
        let (read, write) = pipe()?;
        let fail = |errno| Failure::kernel("start guard", "", errno);
        let kill = group.kill_handle().map_err(fail)?;
        let home = linux::pidfd::open(rustix::process::getpid()).map_err(fail)?;
        script.cgroup = Some(group.handle());
        let (parent, name) = group.location();
        let through = Through {
            program: init.get()?,
            args: vec![c"start-container-guard".to_owned(), CString::new(name).unwrap_or_default()],
            null: dev_null()?,
            keep: vec![Arc::new(read), Arc::new(kill), parent, Arc::new(home)],
        };
        let starting = linux::spawn::start_through(&script, &through).map_err(process::failure)?;
        // Something inside may stop the process on its way in, and our own signals are blocked: a signal that would
        // end us ends what is being started.
        let begun = Instant::now();
        while !starting.is_known_within(200) {
            let unwanted = linux::signal::is_pending(&[Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT]);
            if unwanted || begun.elapsed() > PATIENCE {
                // It may not be in there yet, or out again.
                let _gone = group.kill();
            }
        }
        let started = starting.finish().map_err(process::failure);
        let (Spawned { pid, pidfd: child }, pidfd) = started.inspect_err(|_| {
            // If the guard was killed before it could speak, there is one that nobody knows.
            let _gone = group.kill();
        })?;
        let process = Process { pid: pid.as_raw_nonzero().get(), pidfd: Arc::new(child), group, kills: None };
        Ok((process, Self { pipe: write, pidfd }))
    }

    /// The process has ended by itself: the guard has nothing to do any more. Does something while it ends.
    pub(crate) fn dismiss(self, meanwhile: impl FnOnce()) {
        // If either fails the guard is gone already.
        let _gone = rustix::io::write(&self.pipe, b".");
        meanwhile();
        if !linux::pidfd::ends_within(&self.pidfd, Duration::from_secs(1)) {
            // Somebody has stopped it.
            let _gone = linux::pidfd::send_signal(&self.pidfd, Signal::KILL);
        }
        // Waited for here, since not every init reaps what it inherits.
        let _gone = linux::pidfd::wait(&self.pidfd);
    }
}
