//! `start-container pipe-wrap COMMAND…`

use std::ffi::{CString, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use linux::signal::Signal;
use linux::spawn::{Op, Program, Script};
use protocol::ErrorKind;
use rustix::event::{PollFd, PollFlags};

use super::relay;
use crate::engine::pipe;
use crate::engine::{compile, process};
use crate::error::{Failure, Result};

#[derive(Debug, Args)]
pub(super) struct PipeWrap {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl PipeWrap {
    pub(super) fn run(self) -> Result<ExitCode> {
        let signals = relay::block_signals()?;
        let (stdout, write_stdout) = pipe()?;
        let (stderr, write_stderr) = pipe()?;
        let stdin = rustix::io::fcntl_dupfd_cloexec(std::io::stdin().as_fd(), 3)
            .map_err(|errno| Failure::kernel("duplicate standard input", "", errno))?;
        let env: Vec<String> = std::env::var("PATH").map(|path| format!("PATH={path}")).into_iter().collect();
        let name = self.command.first().map_or("", String::as_str);
        let text = |text: Vec<u8>| {
            CString::new(text)
                .map_err(|error| Failure::new(ErrorKind::Invalid, "read command", "").because(error))
        };
        let program = Program::Candidates(compile::candidates(name, &env)?);
        let argv = self.command.iter().map(|arg| text(arg.clone().into_bytes())).collect::<Result<_>>()?;
        let stdio = [Arc::new(stdin), Arc::new(write_stdout), Arc::new(write_stderr)];
        let script = Script {
            ops: vec![Op::DeathSignal(Signal::KILL.as_raw())],
            envp: std::env::vars_os()
                .map(|(name, value)| text([name, value].map(OsString::into_vec).join(&b'=')))
                .collect::<Result<_>>()?,
            ..Script::of(program, argv, stdio)
        };
        let child = linux::spawn::spawn(&script).map_err(process::failure)?;
        drop(script);
        let relays = [
            std::thread::spawn(move || copy(stdout, std::io::stdout())),
            std::thread::spawn(move || copy(stderr, std::io::stderr())),
        ];
        let outcome = loop {
            let mut fds = [PollFd::new(&signals, PollFlags::IN), PollFd::new(&child.pidfd, PollFlags::IN)];
            let _interrupted = rustix::event::poll(&mut fds, None);
            while let Ok(Some(number)) = signals.next() {
                if let Some(signal) = Signal::from_raw(number) {
                    // It may have ended by now.
                    let _gone = linux::pidfd::send_signal(&child.pidfd, signal);
                }
            }
            let fail = |errno| Failure::kernel("wait for", name, errno);
            if let Some(status) = linux::pidfd::try_wait(&child.pidfd).map_err(fail)? {
                break process::outcome(status);
            }
        };
        for relay in relays {
            // A relay cannot panic, and what it could not write nobody reads.
            let _panicked = relay.join();
        }
        Ok(ExitCode::from(process::exit_code(&outcome)))
    }
}

/// Until the end, or until nobody reads.
fn copy(from: OwnedFd, mut to: impl Write) {
    let mut from = std::fs::File::from(from);
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
