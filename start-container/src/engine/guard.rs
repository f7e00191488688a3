//! Our PID 1, and the guard: the two parts of the small static program that goes where this one does not.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use linux::signal::Signal;
use linux::spawn::{Program, Script, Spawned, Through};
use protocol::ErrorKind;
use rustix::io::Errno;

use super::cgroup::Group;
use super::process::{self, Process};
use super::{dev_null, pipe};
use crate::error::{Failure, Result};

/// How long a process may be on its way in. It takes milliseconds, unless somebody inside stops it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compiled by `build.rs` from `init/`.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/start-container-init"));

/// The small program as a sealed file in memory, made on first use.
#[derive(Debug, Default)]
pub(crate) struct Init(OnceLock<Arc<OwnedFd>>);

impl Init {
    pub(crate) fn get(&self) -> Result<Arc<OwnedFd>> {
        if let Some(init) = self.0.get() {
            return Ok(Arc::clone(init));
        }
        let file = linux::memfd::memfd_sealed(c"start-container-init", INIT)
            .map_err(|errno| Failure::kernel("load", "start-container-init", errno))?;
        Ok(Arc::clone(self.0.get_or_init(|| Arc::new(file))))
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
            null: Arc::new(dev_null()?),
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
