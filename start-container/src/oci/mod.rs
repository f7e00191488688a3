//! The OCI runtime command line: what podman, containerd and other engines call.
//!
//! Owns the words of that command line, the state of containers under `--root`, and the order of a container's life.
//! Starts nothing by itself: a Spec goes through [`crate::engine::compile`], as everything that this program starts.
//!
//! ```text
//!   create             start              process ends         delete
//!  ---------> created --------> running ----------------> stopped -------> (nothing)
//!                |                 |  pause, resume           ^
//!                |      kill       |                          |
//!                +-----------------+--------------------------+
//! ```
//! `delete --force` works in every state, half-made ones included.
//!
//! | module | about |
//! |---|---|
//! | [`args`] | the command line |
//! | [`config`] | `config.json`: read, defaults, what is wrong with it |
//! | [`record`] | a container as it is written down |
//! | [`create`], [`start`], [`exec`] | processes |
//! | [`manage`] | state, list, kill, delete, pause, resume, ps, update, events |
//! | [`hooks`], [`agent`], [`console`], [`foreground`] | hooks, seccomp agents, terminals, a process in the foreground |
//! | [`groups`], [`resctrl`] | `cgroupsPath`, `intelRdt` |
//! | [`checkpoint`], [`restore`], [`criu`] | processes as files, and back |
//! | [`features`] | what this program can do, from the tables that it does it by |

use std::ffi::OsString;
use std::process::ExitCode;

mod agent;
mod args;
mod checkpoint;
mod config;
mod console;
mod create;
mod criu;
mod exec;
mod features;
mod foreground;
mod groups;
mod hooks;
mod log;
mod manage;
mod record;
mod resctrl;
mod restore;
mod start;
mod template;

use crate::arguments;
use crate::error::Result;

/// Names by which this program is an OCI runtime.
const NAMES: [&str; 3] = ["start-container-oci", "runc", "crun"];

/// Whether a program of this name is an OCI runtime.
pub(crate) fn is_name(program: &std::path::Path) -> bool {
    program.file_name().and_then(|name| name.to_str()).is_some_and(|name| NAMES.contains(&name))
}

/// Whether only an OCI runtime has this flag: engines begin with those, whatever they call the program by.
pub(crate) fn is_flag(argument: &std::ffi::OsStr) -> bool {
    const FLAGS: [&str; 5] = ["--root", "--log", "--log-format", "--systemd-cgroup", "--cgroup-manager"];
    argument.to_str().is_some_and(|text| FLAGS.contains(&text.split('=').next().unwrap_or_default()))
}

/// `args`: the program's own name first.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Nothing that the caller left open is for hooks.
    if linux::process::close_range_on_exec(3).is_err() {
        return ExitCode::FAILURE;
    }
    let cli: args::Cli = match arguments::parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 1 } else { 0 };
            let text = error.render().to_string();
            if error.use_stderr() {
                log::stderr(text.trim_end())
            } else {
                log::stdout(text.trim_end())
            }
            return ExitCode::from(code);
        }
    };
    let log = match log::Log::open(cli.log.as_deref(), cli.log_format, cli.debug) {
        Ok(log) => log,
        Err(failure) => {
            log::stderr(&failure.sentence());
            return ExitCode::FAILURE;
        }
    };
    log.debug(&format!("{:?}", cli.command));
    let own_failure = cli.command.own_failure();
    match cli.run(&log) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.error(&failure.sentence());
            ExitCode::from(own_failure)
        }
    }
}

impl args::Cli {
    fn run(self, log: &log::Log) -> Result<u8> {
        use args::Command;
        let root = record::Root::new(self.root.as_deref())?;
        let context = Context { root, log, manager: self.manager(), criu: self.criu };
        let done = |result: Result<()>| result.map(|()| 0);
        match self.command {
            Command::Create(args) => done(create::create(&context, &args)),
            Command::Run(args) => create::run(&context, &args),
            Command::Start { id } => done(start::start(&context, &id)),
            Command::State { id } => done(manage::state(&context, &id)),
            Command::Kill(args) => done(manage::kill(&context, &args)),
            Command::Delete { force, id } => done(manage::delete(&context, &id, force)),
            Command::List { format, quiet } => done(manage::list(&context, &format, quiet)),
            Command::Exec(args) => exec::exec(&context, &args),
            Command::Ps { format, id, options } => done(manage::ps(&context, &id, &format, &options)),
            Command::Pause { id } => done(manage::freeze(&context, &id, true)),
            Command::Resume { id } => done(manage::freeze(&context, &id, false)),
            Command::Update(args) => done(manage::update(&context, &args)),
            Command::Events { stats, interval, id } => done(manage::events(&context, &id, stats, &interval)),
            Command::Checkpoint(args) => done(checkpoint::checkpoint(&context, &args)),
            Command::Restore(args) => restore::restore(&context, &args),
            Command::Features => done(features::features(&context)),
            Command::Spec { bundle, rootless } => done(template::spec(bundle.as_deref(), rootless)),
        }
    }
}

/// What every command needs to know.
struct Context<'a> {
    root: record::Root,
    log: &'a log::Log,
    manager: args::Manager,
    /// The program that checkpoints, as it was named.
    criu: Option<std::path::PathBuf>,
}
