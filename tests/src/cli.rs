//! The `start-container` command line, on a data directory of its own.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::image;

/// How long any one call may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test: `START_CONTAINER_BIN`, else the one next to the test program.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("START_CONTAINER_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("find the test program");
    let profile = own.ancestors().nth(2).expect("test programs lie in target/<profile>/deps");
    let path = profile.join("start-container");
    assert!(path.exists(), "{} is missing: run `cargo build` first", path.display());
    path
}

/// A data directory and the command line on it.
#[derive(Debug)]
pub struct Cli {
    binary: PathBuf,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Temporary(TempDir),
    Kept(PathBuf),
}

/// A call that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; 128 and the signal when a signal ended the binary itself.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Standard output as text, without the newline at its end.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }

    /// Standard error as text, without the newline at its end.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end_matches('\n').to_owned()
    }

    /// Itself, when it ended with 0.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.code == 0, "exit {}\nstdout: {}\nstderr: {}", self.code, self.out(), self.err());
        self
    }

    /// Standard error, when it ended with `code` and said something.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "exit code\nstdout: {}\nstderr: {}", self.out(), self.err());
        assert!(!self.stderr.is_empty(), "it failed without a word");
        self.err()
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.out()))
    }
}

impl Default for Cli {
    fn default() -> Self {
        Self::new()
    }
}

impl Cli {
    /// On an empty data directory beneath the temporary directory.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new() -> Self {
        let data = Data::Temporary(tempfile::tempdir().expect("make a data directory"));
        Self { binary: binary(), data }
    }

    /// This binary on a data directory that stays.
    #[must_use]
    pub fn at(binary: &Path, data: &Path) -> Self {
        Self { binary: binary.to_path_buf(), data: Data::Kept(data.to_path_buf()) }
    }

    /// With the busybox image imported as `busybox`.
    #[must_use]
    pub fn with_busybox() -> Self {
        let cli = Self::new();
        cli.import(&image::busybox(), "busybox");
        cli
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        match &self.data {
            Data::Temporary(directory) => directory.path(),
            Data::Kept(path) => path,
        }
    }

    /// The binary with `--data-dir` and these arguments, not yet started; its input is empty.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--data-dir").arg(self.data()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started or takes longer than a minute.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        finish(self.command(arguments), b"")
    }

    /// Runs it to its end with this input.
    ///
    /// # Panics
    /// As [`Cli::run`].
    #[track_caller]
    pub fn run_with_input<A: AsRef<OsStr>>(
        &self,
        input: &[u8],
        arguments: impl IntoIterator<Item = A>,
    ) -> Finished {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        finish(command, input)
    }

    /// Runs it beneath another program, such as `prlimit`, which is given the whole command line as its last
    /// arguments.
    ///
    /// # Panics
    /// As [`Cli::run`].
    #[track_caller]
    pub fn run_beneath<A: AsRef<OsStr>>(
        &self,
        outer: &[&str],
        arguments: impl IntoIterator<Item = A>,
    ) -> Finished {
        let inner = self.command(arguments);
        let mut command = Command::new(outer[0]);
        command.args(&outer[1..]).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
        finish(command, b"")
    }

    /// Imports an image under a name.
    #[track_caller]
    pub fn import(&self, path: &Path, name: &str) {
        let path = path.to_str().expect("a path of ours is UTF-8");
        self.run(["image", "import", path, "--name", name]).ok();
    }

    /// Makes a throw-away rootfs over the image and returns its guid and its path.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    #[must_use]
    pub fn create_fs(&self, image: &str) -> Rootfs {
        let made = self.run(["--json", "subcontainer", "create-fs", image, "--throwaway"]).ok().json();
        let text =
            |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name} in {made}")).to_owned();
        Rootfs { guid: text("guid"), path: text("rootfs") }
    }

    /// Destroys it.
    #[track_caller]
    pub fn destroy_fs(&self, rootfs: &Rootfs) {
        self.run(["subcontainer", "destroy-fs", &rootfs.path]).ok();
    }

    /// Starts the idle init in the rootfs and waits until it runs.
    ///
    /// # Panics
    /// When it does not run within [`crate::PATIENCE`].
    #[track_caller]
    #[must_use]
    pub fn launch_idle(&self, rootfs: &Rootfs) -> Running {
        self.launch(rootfs, &[], &[])
    }

    /// Starts the command as the leader of the rootfs and waits until it runs.
    ///
    /// # Panics
    /// When it does not run within [`crate::PATIENCE`].
    #[track_caller]
    #[must_use]
    pub fn launch(&self, rootfs: &Rootfs, flags: &[&str], command: &[&str]) -> Running {
        let mut arguments = vec!["subcontainer", "launch"];
        arguments.extend(flags);
        arguments.push(&rootfs.path);
        arguments.extend(command);
        let child = self
            .command(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the binary");
        let mut running = Running { child };
        let start = Instant::now();
        while self.state(rootfs) != "running" {
            if let Some(status) = running.child.try_wait().expect("ask for the child") {
                let mut said = String::new();
                if let Some(mut stderr) = running.child.stderr.take() {
                    std::io::Read::read_to_string(&mut stderr, &mut said).expect("read its errors");
                }
                panic!("launch ended before it ran: {status}: {said}");
            }
            assert!(start.elapsed() < crate::PATIENCE, "launch never runs");
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    }

    /// `created`, `running` or `exited`, as `inspect` has it.
    #[track_caller]
    #[must_use]
    pub fn state(&self, rootfs: &Rootfs) -> String {
        let info = self.run(["--json", "subcontainer", "inspect", &rootfs.guid]).ok().json();
        info["state"]["status"].as_str().unwrap_or_else(|| panic!("no state in {info}")).to_owned()
    }

    /// Runs a command in a rootfs whose leader runs.
    #[track_caller]
    pub fn exec(&self, rootfs: &Rootfs, flags: &[&str], command: &[&str]) -> Finished {
        let mut arguments = vec!["subcontainer", "exec"];
        arguments.extend(flags);
        arguments.push(&rootfs.path);
        arguments.extend(command);
        self.run(arguments)
    }
}

/// What `create-fs` made.
#[derive(Clone, Debug)]
pub struct Rootfs {
    /// Its id.
    pub guid: String,
    /// Where it is mounted.
    pub path: String,
}

/// A call of the binary that is still under way; killed on drop.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
}

impl Running {
    /// Sends the signal to the binary itself.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("send the signal");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes longer than a minute.
    #[must_use]
    pub fn end(mut self) -> Finished {
        drop(self.child.stdin.take());
        let (stdout, stderr) = (drain(self.child.stdout.take()), drain(self.child.stderr.take()));
        wait(&mut self.child, stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs any command to its end with this input.
///
/// # Panics
/// When it cannot be started or takes longer than a minute.
#[track_caller]
pub fn finish(mut command: Command, input: &[u8]) -> Finished {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}: {command:?}"));
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input to the end is no fault of the caller.
        stdin.write_all(input).ok();
    }
    wait(&mut child, stdout, stderr)
}

type Drain = std::thread::JoinHandle<Vec<u8>>;

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> Drain {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).expect("read a pipe");
        }
        bytes
    })
}

#[track_caller]
fn wait(child: &mut Child, stdout: Drain, stderr: Drain) -> Finished {
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for the child") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().expect("kill the child");
            child.wait().expect("wait for the child");
            panic!("it did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Finished {
        code,
        stdout: stdout.join().expect("read stdout"),
        stderr: stderr.join().expect("read stderr"),
    }
}
