//! The command line: parses, calls, speaks. Hints and exit codes live only here.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use protocol::ErrorKind;

use crate::arguments::{self, Group};
use crate::error::{Failure, Result};
use crate::sealed;
use crate::subcontainer::Machine;

mod attach;
mod bind_mount;
mod bounds;
mod client;
mod command;
mod doctor;
mod events;
mod gc;
mod generate;
mod image;
mod limits;
mod logs;
mod ls;
mod metrics;
mod output;
mod package;
mod pipe_wrap;
mod relay;
mod runtime;
mod sandbox;
mod stats;
mod stop;
mod streams;
mod subcontainer;
mod times;
mod top;

/// The exit code of our own failures, as Docker's.
const OWN_FAILURE: u8 = 125;

/// Hold real Linux containers.
///
/// An image becomes a writable rootfs (`subcontainer create-fs`); a rootfs becomes a container when its first
/// process is launched in it (`subcontainer launch`); commands run in a container that runs (`subcontainer exec`).
/// None of these needs a daemon. The daemon (`start-container daemon`) serves the same to the TypeScript SDK.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Try it, as root:
  start-container image import busybox.tar --name busybox
  start-container run busybox echo hello
or, in parts:
  rootfs=$(start-container subcontainer create-fs busybox)
  start-container subcontainer launch $rootfs &
  start-container subcontainer exec $rootfs echo hello
  start-container subcontainer destroy-fs $rootfs

Exit codes: the command's own; 128+N when signal N ended it; 127 when it does not exist inside; 126 when it cannot
be executed; 125 when start-container itself failed."
)]
struct Cli {
    /// Where images, volumes and rootfs are kept [default: where the rootfs lies that the command names, else
    /// /var/lib/start-container]
    #[arg(long, global = true, env = "START_CONTAINER_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the state of running subcontainers is kept; not to outlive a boot.
    #[arg(
        long,
        global = true,
        env = "START_CONTAINER_RUN_DIR",
        default_value = "/run/start-container",
        value_name = "DIR",
        hide_short_help = true
    )]
    run_dir: PathBuf,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Make a throw-away container, run a command in it as PID 1, and remove it: for once
    ///
    /// Stays in the foreground, passes signals on, and ends as the command ends. When start-container itself is killed, everything
    /// inside ends; its files are left then, for `rm`.
    Run(Box<command::Run>),
    /// Make, run, look at and destroy subcontainers
    Subcontainer(Box<Group<subcontainer::Subcontainer>>),
    /// Make, look at and destroy sandboxes: what the subcontainers of one package share, and what bounds them
    ///
    /// A sandbox has user, network, pid, ipc and mount namespaces, a /dev, /sys and /run, and limits of its own. Subcontainers
    /// in it (`subcontainer create-fs --sandbox ID`) share its users, network, ipc, /dev and /sys, on request /run, and are
    /// bounded by its limits. Nothing in one sandbox reaches another, and everything in one ends with it.
    Sandbox(Box<Group<sandbox::Sandbox>>),
    /// Import, pull, list and remove images
    Image(Group<image::Image>),
    /// Say what runs the TypeScript of packages
    Runtime(Group<runtime::Runtime>),
    /// List subcontainers, whether they run or not
    Ls(ls::Ls),
    /// Show one subcontainer, whole
    Inspect(subcontainer::Which),
    /// Write, sign, look at and install packages
    Package(Box<Group<package::Package>>),
    /// Show what a container has written to streams that are kept
    ///
    /// Those are streams that were asked to be "log" where the host (the daemon) launched it: `launch` on a command line
    /// shows them there instead. What went to standard error goes to ours. They are kept for as long as the subcontainer
    /// exists, the newest 30 MB unless the launch said otherwise.
    Logs(logs::Logs),
    /// Show what has happened: created, launched, exited and why, limits, health, images
    ///
    /// What the host (the daemon) has done or seen; what a command line does by itself is not among it. The last one to two
    /// megabytes are kept.
    Events(events::Events),
    /// Show what containers use; with --watch, again and again
    Stats(stats::Stats),
    /// Show the processes in a container
    Top(top::Top),
    /// Connect to the first process of a container: its streams, its signals, its end
    Attach(subcontainer::Which),
    /// Ask what runs in containers to end, and end it by force after a time
    ///
    /// The first process gets the image's stop signal, else SIGTERM. The subcontainers stay, and can be launched again.
    Stop(stop::Stop),
    /// Send a signal to the first process of containers
    Kill(stop::Kill),
    /// Remove subcontainers, with what they have written
    Rm(stop::Rm),
    /// Remove what nobody uses: layers without an image, logs and directories without a subcontainer
    Gc(gc::Gc),
    /// Try what containers need of this machine, and say what is missing and what that costs
    ///
    /// Leaves nothing. Ends with 0 when containers run here, if perhaps not with everything; with 1 when something is missing
    /// without which none does.
    Doctor(doctor::Doctor),
    /// Print the metrics of the host (the daemon), in the text format of Prometheus
    ///
    /// The host answers `GET /metrics` on its own socket, which is root's alone, with the same.
    Metrics,
    /// Print a completion script for a shell
    ///
    /// For bash: start-container completions bash > /etc/bash_completion.d/start-container
    Completions(generate::Completions),
    /// Write a manual page for each command
    #[command(hide = true)]
    Man(generate::Man),
    /// Serve the SDK on DATA_DIR/rpc/host.sock
    Daemon(crate::host::Daemon),
    /// Mount a file or directory of the host somewhere else, with its ids mapped
    BindMount(bind_mount::BindMount),
    /// Run a command whose stdout and stderr can be reopened through /dev/stdout and /dev/stderr
    ///
    /// They are pipes for the command, whatever they are for us: a socket, for one, cannot be reopened.
    PipeWrap(pipe_wrap::PipeWrap),
    /// Run OCI bundles, for podman, containerd and other engines
    ///
    /// As a program of its own, by a link named start-container-oci: that is what engines call. See
    /// `start-container oci --help`.
    #[command(disable_help_flag = true)]
    Oci {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        args: Vec<std::ffi::OsString>,
    },
}

const DEFAULT_DATA_DIR: &str = "/var/lib/start-container";

/// What every command needs to know.
struct Context {
    data_dir: Option<PathBuf>,
    run_dir: PathBuf,
    json: bool,
}

impl Context {
    fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new(DEFAULT_DATA_DIR))
    }

    /// The same on another data directory.
    fn on(&self, data_dir: &Path) -> Self {
        Self { data_dir: Some(data_dir.to_owned()), run_dir: self.run_dir.clone(), json: self.json }
    }

    /// The machine that holds a rootfs. A client may start us with an environment of its own, without our
    /// variables: a path `D/subcontainers/<guid>` says by itself what the data directory is. Whether it is a rootfs
    /// of that directory is still for the machine to say.
    fn machine_of(&self, rootfs: &str) -> Result<Machine> {
        let path = Path::new(rootfs);
        match path.parent().filter(|parent| parent.ends_with("subcontainers")).and_then(Path::parent) {
            Some(found) if self.data_dir.is_none() && path.is_absolute() => self.open(found),
            _ => self.machine(),
        }
    }

    fn machine(&self) -> Result<Machine> {
        self.open(self.data_dir())
    }

    fn open(&self, data_dir: &Path) -> Result<Machine> {
        need_root()?;
        Machine::open(data_dir, &self.run_dir, None)
    }
}

pub(crate) fn main() -> ExitCode {
    // Whoever ignores it, as some starters of background jobs do, has no children to wait for.
    linux::signal::default_disposition(linux::signal::Signal::CHLD);
    let mut args = std::env::args_os();
    let own = args.next().unwrap_or_default();
    if crate::oci::is_name(Path::new(&own)) {
        return crate::oci::main(std::env::args_os());
    }
    // Not by the parser below: its own options would be taken for ours.
    match args.next() {
        Some(first) if first == "oci" => return crate::oci::main(std::env::args_os().skip(1)),
        // In the sandbox of a package, and nowhere else.
        Some(first) if first == crate::runtime::own::COMMAND => return runners::main(),
        // An engine that follows links to the program's own name.
        Some(first) if crate::oci::is_flag(&first) => return crate::oci::main(std::env::args_os()),
        _ => {}
    }
    let cli: Cli = match arguments::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { OWN_FAILURE } else { 0 };
            // Nothing to do when even the message cannot be written.
            let _closed = error.print();
            return ExitCode::from(code);
        }
    };
    let context = Context { data_dir: cli.data_dir, run_dir: cli.run_dir, json: cli.json };
    let result = match cli.command {
        Command::Run(command) => command.run(&context),
        Command::Subcontainer(group) => group.command.run(&context),
        Command::Sandbox(group) => group.command.run(&context),
        Command::Logs(logs) => logs.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Ls(ls) => ls.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Inspect(which) => context
            .machine_of(which.text())
            .and_then(|machine| which.inspect(&context, &machine))
            .map(|()| ExitCode::SUCCESS),
        Command::Events(events) => events.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Stats(stats) => {
            context.machine().and_then(|machine| stats.run(&context, &machine)).map(|()| ExitCode::SUCCESS)
        }
        Command::Top(top) => top.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Attach(which) => {
            context.machine_of(which.text()).and_then(|machine| attach::attach(&machine, which.text()))
        }
        Command::Stop(stop) => stop.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Kill(kill) => kill.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Rm(rm) => rm.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Metrics => metrics::run(&context).map(|()| ExitCode::SUCCESS),
        Command::Completions(completions) => {
            completions.run();
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(man) => man.run().map(|()| ExitCode::SUCCESS),
        Command::Doctor(doctor) => doctor.run(&context),
        Command::Gc(gc) => gc.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Image(group) => group.command.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Runtime(group) => group.command.run(&context).map(|()| ExitCode::SUCCESS),
        Command::Package(group) => group.command.run(&context),
        Command::Daemon(daemon) => need_root()
            .and_then(|()| sealed::reexecute())
            .and_then(|sealed| daemon.run(context.data_dir(), &context.run_dir, sealed))
            .map(|()| ExitCode::SUCCESS),
        Command::BindMount(command) => command.run(&context.run_dir).map(|()| ExitCode::SUCCESS),
        Command::PipeWrap(command) => command.run(),
        Command::Oci { args } => {
            return crate::oci::main(std::iter::once("oci".into()).chain(args));
        }
    };
    match result {
        Ok(code) => code,
        Err(failure) => report(&failure, context.json),
    }
}

fn need_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(ErrorKind::Kernel, "check user", "(root is needed to make containers)"))
}

/// Says what failed, and what may help.
fn report(failure: &Failure, json: bool) -> ExitCode {
    if json {
        let error = serde_json::json!({ "error": { "message": failure.sentence(), "data": failure.data() } });
        output::error(&error.to_string());
    } else {
        output::error(&format!("start-container: {}", failure.sentence()));
        if let Some(hint) = hint(failure) {
            output::error(&format!("hint: {hint}"));
        }
    }
    ExitCode::from(match failure.kind {
        ErrorKind::CommandNotFound => 127,
        ErrorKind::CommandNotExecutable => 126,
        _ => OWN_FAILURE,
    })
}

fn hint(failure: &Failure) -> Option<&'static str> {
    match failure.kind {
        ErrorKind::NotRunning if failure.step.contains("sandbox") => {
            Some("start it again: start-container sandbox start ID")
        }
        ErrorKind::NotFound if failure.step.contains("sandbox") => Some("start-container sandbox ls"),
        ErrorKind::NotFound if failure.step == "connect to" => Some("start it: start-container daemon &"),
        ErrorKind::NotRunning => Some("launch it first: start-container subcontainer launch ROOTFS &"),
        ErrorKind::NotFound if failure.step.contains("find subcontainer") => Some("start-container ls"),
        ErrorKind::NotFound if failure.step.contains("image") => Some("start-container image ls"),
        ErrorKind::Untrusted => Some("to trust a key: start-container package trust add --help"),
        ErrorKind::UnknownUser => Some(
            "names are looked up in the container's own /etc/passwd and /etc/group; numbers need no entry",
        ),
        _ => None,
    }
}
