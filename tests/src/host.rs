//! The host daemon on a data directory of its own.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::cli::Cli;
use crate::image;
use crate::rpc::Rpc;

/// A running host. Dropping it kills it with SIGTERM and waits for its end.
#[derive(Debug)]
pub struct Host {
    cli: Cli,
    child: Option<Child>,
}

impl Default for Host {
    fn default() -> Self {
        Self::start()
    }
}

impl Host {
    /// On an empty data directory.
    #[must_use]
    pub fn start() -> Self {
        Self::on(Cli::new())
    }

    /// With the busybox image imported as `busybox`.
    #[must_use]
    pub fn with_busybox() -> Self {
        let host = Self::start();
        host.cli.import(&image::busybox(), "busybox");
        host
    }

    /// On this data directory.
    ///
    /// # Panics
    /// When it does not listen within [`crate::PATIENCE`].
    #[must_use]
    pub fn on(cli: Cli) -> Self {
        let mut host = Self { cli, child: None };
        host.start_again();
        host
    }

    /// Starts it, after [`Host::stop`] or [`Host::kill`]. It waits for no client of the one before: this process, for one,
    /// lives on, and does not come back.
    ///
    /// # Panics
    /// When it does not listen within [`crate::PATIENCE`].
    pub fn start_again(&mut self) {
        self.start_beneath(&[]);
    }

    /// Starts it beneath another program, such as `prlimit --nofile=64`.
    ///
    /// # Panics
    /// When it does not listen within [`crate::PATIENCE`].
    pub fn start_beneath(&mut self, outer: &[&str]) {
        self.begin(outer, &["--session-grace", "0"]);
    }

    /// Starts it with these flags and no other.
    ///
    /// # Panics
    /// When it does not listen within [`crate::PATIENCE`].
    pub fn start_with(&mut self, flags: &[&str]) {
        self.begin(&[], flags);
    }

    fn begin(&mut self, outer: &[&str], flags: &[&str]) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::create(self.log()).expect("make the log");
        let mut inner = self.cli.command(["daemon"]);
        inner.args(flags);
        let mut command = match outer {
            [] => inner,
            [program, arguments @ ..] => {
                let mut command = std::process::Command::new(program);
                command.args(arguments).arg(inner.get_program()).args(inner.get_args());
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("start the host"));
        let start = Instant::now();
        // A child of one that was killed just now may hold that one's socket for a moment: to connect is not enough.
        while !self.said().contains("listening on") || UnixStream::connect(self.socket()).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("ask for the host"));
            assert!(ended.is_none(), "the host ended: {ended:?}: {}", self.said());
            assert!(start.elapsed() < crate::PATIENCE, "the host does not listen: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.cli.data().join("rpc/host.sock")
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.cli.data()
    }

    /// The command line on the same data directory.
    #[must_use]
    pub fn cli(&self) -> &Cli {
        &self.cli
    }

    /// A new connection that has said hello.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> Rpc {
        let mut rpc = self.connect_raw();
        rpc.hello();
        rpc
    }

    /// A new connection that has said nothing yet.
    #[must_use]
    #[track_caller]
    pub fn connect_raw(&self) -> Rpc {
        Rpc::connect(&self.socket())
    }

    /// As [`Host::with_busybox`], after one whole life: what it keeps until its end is there already.
    #[must_use]
    pub fn after_one_life() -> Self {
        let host = Self::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.exec(&guid, &["true"]);
        drop(rpc);
        std::thread::sleep(Duration::from_millis(300));
        host
    }

    /// What it wrote to its standard error.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Stops it with SIGTERM and waits for its end.
    ///
    /// # Panics
    /// When it does not end within [`crate::PATIENCE`], or not with 0.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal the host");
        let start = Instant::now();
        while start.elapsed() < crate::PATIENCE {
            if let Some(status) = child.try_wait().expect("wait for the host") {
                assert!(status.success(), "the host ended with {status}: {}", self.said());
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().expect("kill the host");
        child.wait().expect("wait for the host");
        panic!("the host did not stop: {}", self.said());
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill the host");
            child.wait().expect("wait for the host");
        }
    }

    /// How many descriptors it holds.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("list the host's descriptors").count()
    }

    /// How much memory is its own, in KiB: not the pages of its program, which count as private or as shared as other
    /// hosts come and go.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn own_kib(&self) -> u64 {
        let rollup =
            fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).expect("read the host's memory");
        let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).expect("its anonymous memory");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    fn log(&self) -> PathBuf {
        self.cli.data().join("host.log")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::io::Write::write_all(&mut std::io::stderr(), self.said().as_bytes()).ok();
            if let Some(mut child) = self.child.take() {
                child.kill().ok();
                child.wait().ok();
            }
        } else {
            self.stop();
        }
    }
}
