//! A terminal for a command under test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// The master side of a terminal, and the command on its slave side.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    /// The command.
    pub child: Child,
    seen: Vec<u8>,
}

impl Terminal {
    /// Starts the command with this terminal as its standard streams and its controlling terminal.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[must_use]
    pub fn start(command: &Command, rows: u16, cols: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("open a terminal");
        grantpt(&master).expect("grant the terminal");
        unlockpt(&master).expect("unlock the terminal");
        let path = ptsname(&master, Vec::new()).expect("name the terminal");
        let slave: OwnedFd =
            rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
                .expect("open its other end");
        let dup = || slave.try_clone().expect("duplicate the terminal");
        let mut outer = Command::new("setsid");
        outer.arg("--ctty").arg("--wait").arg(command.get_program()).args(command.get_args());
        outer.stdin(dup()).stdout(dup()).stderr(dup());
        let terminal =
            Self { master: master.into(), child: outer.spawn().expect("start setsid"), seen: Vec::new() };
        terminal.resize(rows, cols);
        terminal
    }

    /// Changes its size.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn resize(&self, rows: u16, cols: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("set the terminal's size");
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is closed.
    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("write to the terminal");
    }

    /// Reads until the text has appeared, and returns all that was seen since the last time.
    ///
    /// # Panics
    /// When it has not after [`crate::PATIENCE`].
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if let Some(position) = seen.find(text) {
                self.seen = seen.as_bytes()[position + text.len()..].to_vec();
                return seen;
            }
            assert!(start.elapsed() < crate::PATIENCE, "no {text:?} in {seen:?}");
            assert!(self.read_some() || !self.ended(), "it ended without {text:?}: {seen:?}");
        }
    }

    /// Reads to the end and returns what was seen and the exit code.
    ///
    /// # Panics
    /// When it does not end within [`crate::PATIENCE`].
    #[track_caller]
    pub fn end(mut self) -> (String, Option<i32>) {
        let start = Instant::now();
        loop {
            let more = self.read_some();
            if let Some(status) = self.child.try_wait().expect("wait for the command") {
                while self.read_some() {}
                return (String::from_utf8_lossy(&self.seen).into_owned(), status.code());
            }
            if !more && start.elapsed() > crate::PATIENCE {
                self.child.kill().expect("kill the command");
                self.child.wait().expect("wait for the command");
                panic!("it did not end: {:?}", String::from_utf8_lossy(&self.seen));
            }
        }
    }

    fn ended(&mut self) -> bool {
        self.child.try_wait().expect("ask for the command").is_some()
    }

    /// Reads what is there within 20 ms; false when there was nothing.
    fn read_some(&mut self) -> bool {
        let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let ready =
            poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&wait)).expect("poll the terminal");
        if ready == 0 {
            return false;
        }
        let mut bytes = [0; 4096];
        // EIO is how a terminal says that its other end is closed.
        let Ok(count) = self.master.read(&mut bytes) else {
            std::thread::sleep(Duration::from_millis(5));
            return false;
        };
        self.seen.extend_from_slice(&bytes[..count]);
        count > 0
    }
}
