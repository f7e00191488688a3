//! The demo: builds everything, starts a host, runs the example from `sdk/examples/`, and looks at the machine
//! afterwards.
//!
//! ```text
//! target/xtask/demo/
//!   data/            the host's data directory; its image store is kept, so that a second run starts at once
//!   program/         the example, compiled, and a link to the SDK
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;
use tests::Machine;
use tests::machine::Processes;

use crate::image::{busybox, debian};
use crate::orphans::{self, Role};
use crate::{place, release, say, setup};

/// What to show.
#[derive(Args)]
pub(crate) struct Options {
    /// A first taste: a busybox image of 2 MB and one exec.
    #[arg(long)]
    small: bool,
}

/// Runs it. The machine is as it was before, or this is an error.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let family = match orphans::role()? {
        Role::Collector(ended) => return Ok(ended),
        Role::Worker(family) => family,
    };
    let start = Instant::now();
    let interrupted = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&interrupted);
    // The example gets Ctrl-C by itself, from the terminal; we stay to clean up.
    ctrlc::set_handler(move || seen.store(true, Ordering::Relaxed)).context("catch Ctrl-C")?;

    let (purpose, image, archive, example) = if options.small {
        (setup::For::SmallDemo, "busybox", busybox::archive(), "small")
    } else {
        (setup::For::Demo, "postgres-demo", debian::archive(debian::Which::Postgres), "postgres")
    };
    setup::run(purpose)?;
    build()?;
    let program = compile(example)?;

    let data = place::cache().join("demo/data");
    fs::create_dir_all(&data)?;
    clear(&data)?;
    let before = Machine::look(Processes::DescendantsOf(family), &[])?;
    say::heading("the host");
    let mut host = Host::start(&data)?;
    let ran = host.import(image, &archive).and_then(|()| {
        say::heading(&format!("sdk/examples/{example}.ts"));
        run_program(&program, &data)
    });
    say::heading("afterwards");
    let stopped = say::step("stop the host", || host.stop());
    let files = left_in(&data);
    clear(&data)?;
    let left = before.left_after(&[], Duration::from_secs(5))?;
    for thing in left.iter().chain(&files) {
        say::note(&format!("left: {thing}"));
    }
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted; {} things were left", left.len() + files.len());
    }
    ran?;
    stopped?;
    if !left.is_empty() || !files.is_empty() {
        bail!("the machine is not as it was");
    }
    say::note(
        "looked at mounts, cgroups, processes, network links, /run/start-container and the data directory:",
    );
    say::note("nothing is left but the image, which is kept for the next run");
    say::last(&format!("all of it took {}", say::time(start.elapsed())));
    Ok(ExitCode::SUCCESS)
}

/// Builds the binary and the SDK.
pub(crate) fn build() -> Result<()> {
    say::heading("build");
    release::build()?;
    let mut npm = Command::new("npm");
    say::run("npm run build in sdk/", npm.current_dir(place::root().join("sdk")).args(["run", "build"]))
}

/// Compiles an example next to a link to the SDK, as a project of its own would have it.
fn compile(example: &str) -> Result<PathBuf> {
    let sdk = place::root().join("sdk");
    let program = place::cache().join("demo/program");
    fs::create_dir_all(program.join("node_modules"))?;
    let link = program.join("node_modules/start-container");
    if !link.exists() {
        symlink(&sdk, &link).context("link the SDK")?;
    }
    let config = json!({
        "compilerOptions": {
            "target": "es2022", "lib": ["es2022", "esnext.disposable"], "module": "nodenext", "strict": true,
            "skipLibCheck": true, "outDir": ".", "rootDir": sdk.join("examples"),
            "types": ["node"], "typeRoots": [sdk.join("node_modules/@types")],
        },
        "files": [sdk.join(format!("examples/{example}.ts"))],
    });
    fs::write(program.join("package.json"), r#"{"private": true, "type": "module"}"#)?;
    fs::write(program.join("tsconfig.json"), config.to_string())?;
    let tsc = sdk.join("node_modules/.bin/tsc");
    let name = format!("compile sdk/examples/{example}.ts");
    say::run(&name, Command::new(tsc).current_dir(&program).args(["-p", "tsconfig.json"]))?;
    Ok(program.join(format!("{example}.js")))
}

fn run_program(program: &Path, data: &Path) -> Result<()> {
    let status = Command::new("node")
        .arg(program)
        .env("START_CONTAINER_DATA_DIR", data)
        .stdin(Stdio::null())
        .status()
        .context("start node")?;
    if !status.success() {
        bail!("the example ended with {status}");
    }
    Ok(())
}

/// Everything in the data directory but the image store: what the example made and must have taken away, and its
/// volumes, which are its owner's to keep.
fn left_in(data: &Path) -> Vec<String> {
    ["rootfs", "subcontainers", "rpc"]
        .iter()
        .flat_map(|name| fs::read_dir(data.join(name)).into_iter().flatten().flatten())
        // The lock stays with the directory.
        .filter(|entry| entry.file_name() != "lock")
        .map(|entry| format!("file {}", entry.path().display()))
        .collect()
}

/// Removes the volumes and backups of the example.
fn clear(data: &Path) -> Result<()> {
    for name in ["volumes", "backup"] {
        match fs::remove_dir_all(data.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", data.join(name).display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// A host on a data directory that stays.
pub(crate) struct Host {
    data: PathBuf,
    child: Child,
}

impl Host {
    /// Starts it and waits until it listens.
    pub(crate) fn start(data: &Path) -> Result<Self> {
        say::step("start-container daemon", || {
            let log = data.join("host.log");
            let child = Command::new(release::binary())
                .arg("--data-dir")
                .arg(data)
                .arg("daemon")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(&log)?)
                // Ctrl-C is for the example and for us; the host is stopped when they are done.
                .process_group(0)
                .spawn()
                .context("start the host")?;
            let mut host = Self { data: data.to_path_buf(), child };
            let start = Instant::now();
            while std::os::unix::net::UnixStream::connect(data.join("rpc/host.sock")).is_err() {
                if let Some(status) = host.child.try_wait()? {
                    bail!("it ended with {status}: {}", fs::read_to_string(&log)?);
                }
                if start.elapsed() > Duration::from_secs(10) {
                    host.stop()?;
                    bail!("it does not listen: {}", fs::read_to_string(&log)?);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(host)
        })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Imports the image, unless it is there.
    pub(crate) fn import(&self, name: &str, archive: &Path) -> Result<()> {
        let cli = || {
            let mut command = Command::new(release::binary());
            command.arg("--data-dir").arg(&self.data);
            command
        };
        if say::output(cli().args(["image", "inspect", name])).is_ok() {
            say::note(&format!("the image {name} is imported"));
            return Ok(());
        }
        let mut import = cli();
        say::run(&format!("import {name}"), import.args(["image", "import", "--name", name]).arg(archive))
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.data.join("rpc/host.sock")
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill the host")?;
        self.child.wait().context("wait for the host").map(drop)
    }

    /// Stops it with SIGTERM.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("signal the host")?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    bail!("it ended with {status}: {}", fs::read_to_string(self.data.join("host.log"))?);
                }
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().context("kill the host")?;
        self.child.wait().context("wait for the host")?;
        bail!("it did not stop within ten seconds")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Only a net for an early return; after `stop` there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
