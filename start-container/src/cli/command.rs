//! `run`, `subcontainer launch`, `exec` and `attach`: a process in the foreground.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use images::Rootfs;
use linux::signalfd::SignalFd;
use protocol::ErrorKind;
use protocol::process::{self as wire, CommandOptions, TerminalSize, Ulimit};

use super::Context;
use super::bounds::Networking;
use super::limits::{LimitFlags, parse_bytes};
use super::relay::{self, Ended, Ends, Foreground};
use super::streams::{self, Wanted};
use super::subcontainer::find;
use crate::engine::privileges::Privileges;
use crate::engine::process;
use crate::error::{Failure, Result};
use crate::subcontainer::{self as sub, Io, Machine};

// What `launch` and `exec` share.
// No documentation: clap would show it in place of the command's own.
#[derive(Debug, Args)]
struct Options {
    /// Set an environment variable inside; NAME alone takes our own value, and no other process sees it
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", value_parser = parse_env)]
    env: Vec<(String, String)>,
    /// Read environment variables from a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Working directory inside [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who to run as, by name or number [default: the image's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// File mode creation mask, in octal [default: the launch's, else 022]
    #[arg(long, value_name = "MODE", value_parser = parse_umask)]
    umask: Option<u32>,
    /// A limit of each process: nofile=1024:4096, nproc=100, core=-1, …; -1 is none [default: the launch's, else one
    /// that is not inherited from us: nofile is 1024:524288]
    #[arg(long, value_name = "TYPE=SOFT[:HARD]", value_parser = parse_ulimit)]
    ulimit: Vec<(String, Ulimit)>,
    /// How early the kernel kills it when memory runs out, -1000 to 1000; less than our own needs CAP_SYS_RESOURCE
    /// [default: the launch's, else 0]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// Give the command a terminal even if ours is none
    #[arg(long)]
    force_tty: bool,
    /// Give its stderr a terminal of its own, apart from stdout
    #[arg(long)]
    force_stderr_tty: bool,
    /// Size of the terminal, instead of ours
    #[arg(long, value_name = "ROWS:COLS[:X:Y]", value_parser = parse_size)]
    pty_size: Option<TerminalSize>,
}

// What `run` and `launch` share: what the first process of a container is allowed.
// No documentation: clap would show it in place of the command's own.
#[derive(Debug, Args)]
struct First {
    #[command(flatten)]
    options: Options,
    /// Run the command beneath a small init instead of as PID 1
    #[arg(long)]
    init: bool,
    /// Share the host's /dev and /sys with it, instead of a private /dev and a read-only /sys
    #[arg(long)]
    shared_dev_sys: bool,
    /// Share the host's /run with it
    #[arg(long)]
    shared_run: bool,
    /// Give root inside a capability beyond the default ones, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability from root inside, or ALL; before --cap-add gives any
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Which system calls it may make: "default", "socketcall", "unconfined", or a file with an OCI seccomp filter
    ///
    /// "socketcall" is the default and socketcall(2), which most 32-bit programs need for their sockets. No filter sees
    /// what kind of socket is asked for by it, so they can reach the hypervisor (AF_VSOCK) and the kernel's ciphers
    /// (AF_ALG), too.
    #[arg(long, value_name = "PROFILE", default_value = "default")]
    seccomp: String,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    network: Networking,
}

#[derive(Debug, Args)]
pub(super) struct Launch {
    #[command(flatten)]
    first: First,
    /// The rootfs, and the command with its arguments
    #[arg(required = true, trailing_var_arg = true, value_names = ["ROOTFS", "COMMAND"])]
    args: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Try it, as root:
  start-container run busybox echo hello
  echo 1+2 | start-container run --userns --network none -m 64m busybox bc")]
pub(super) struct Run {
    #[command(flatten)]
    first: First,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// Give it a user namespace: root inside is nobody outside
    #[arg(long)]
    userns: bool,
    /// The sandbox that it is in: its users, network, /dev and /sys are that one's
    #[arg(long, value_name = "ID", conflicts_with = "userns")]
    sandbox: Option<String>,
    /// How much of the machine's disk what it writes takes at most: bytes, or with k, m, g; at least 16m
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    rootfs_size: Option<u64>,
    /// The image (see `start-container image ls`), and the command with its arguments, instead of the image's own
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    args: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Exec {
    #[command(flatten)]
    options: Options,
    /// The rootfs, and the command with its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["ROOTFS", "COMMAND"])]
    args: Vec<String>,
}

impl Options {
    fn command(&self) -> Result<CommandOptions> {
        let mut env = BTreeMap::new();
        if let Some(file) = &self.env_file {
            let fail = |error: std::io::Error| {
                Failure::new(ErrorKind::NotFound, "read environment file", file.display()).because(error)
            };
            let text = std::fs::read_to_string(file).map_err(fail)?;
            env.extend(images::env_file::parse(&text));
        }
        env.extend(self.env.iter().cloned());
        Ok(CommandOptions {
            env,
            cwd: self.workdir.clone(),
            user: self.user.clone(),
            umask: self.umask,
            ulimits: self.ulimit.iter().cloned().collect(),
            oom_score_adj: self.oom_score_adj,
        })
    }

    /// What the process gets for our streams, and our ends of that.
    fn streams(&self) -> Result<(Io, Ends)> {
        let (terminal, stderr_terminal) = (self.force_tty, self.force_stderr_tty);
        streams::open(&Wanted { terminal, stderr_terminal, size: self.size() })
    }

    fn size(&self) -> TerminalSize {
        self.pty_size.or_else(relay::own_size).unwrap_or(TerminalSize { rows: 24, cols: 80 })
    }
}

impl First {
    fn privileges(&self) -> Result<Privileges> {
        let seccomp = match self.seccomp.as_str() {
            "default" => wire::Seccomp::Profile(wire::SeccompProfile::Default),
            "socketcall" => wire::Seccomp::Profile(wire::SeccompProfile::Socketcall),
            "unconfined" => wire::Seccomp::Profile(wire::SeccompProfile::Unconfined),
            file => {
                let fail = |kind, error: std::io::Error| {
                    Failure::new(kind, "read seccomp filter", file).because(error)
                };
                let text = std::fs::read(file).map_err(|error| fail(ErrorKind::NotFound, error))?;
                let filter = serde_json::from_slice(&text);
                wire::Seccomp::Filter(filter.map_err(|error| fail(ErrorKind::Invalid, error.into()))?)
            }
        };
        let (cap_add, cap_drop) = (self.cap_add.clone(), self.cap_drop.clone());
        let asked = wire::Privileges { cap_add, cap_drop, seccomp };
        Privileges::plan(&asked, self.shared_dev_sys, self.shared_run)
    }

    /// Launches it, and returns when it has ended.
    fn lead(
        &self,
        machine: &Machine,
        rootfs: &Rootfs,
        command: Option<&[String]>,
        signals: SignalFd,
    ) -> Result<Ended> {
        let options = self.options.command()?;
        let (io, mut ends) = self.options.streams()?;
        let launch = sub::Launch {
            command,
            init: self.init,
            options: &options,
            privileges: self.privileges()?,
            limits: self.limits.limits()?,
            network: self.network.read()?,
            publish_proc: true,
            stays: false,
            implicit: false,
            io,
        };
        let sub::Launched { leader, terminal, guard } = machine.launch(rootfs, &launch)?;
        // With our copies of what the process has: at its end, the streams end.
        drop(launch);
        streams::add_terminal(&mut ends, terminal);
        let end = Foreground { process: &leader.process, signals, ends }.run()?;
        if let Some(guard) = guard {
            guard.dismiss(|| {});
        }
        machine.leader_ended(rootfs.guid(), leader.process.pid, end.outcome.clone())?;
        Ok(end)
    }
}

impl Launch {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let (rootfs, command) = split(&self.args)?;
        let signals = relay::block_signals()?;
        let machine = context.machine_of(rootfs)?;
        let rootfs = find(&machine, rootfs)?;
        let command = (!command.is_empty()).then_some(command);
        ended(self.first.lead(&machine, &rootfs, command, signals)?)
    }
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let (image, command) = split(&self.args)?;
        let signals = relay::block_signals()?;
        let machine = context.machine()?;
        let info = machine.store()?.get(image).map_err(Failure::from)?;
        let own = info.config.command();
        let command = if command.is_empty() { &own } else { command };
        if command.is_empty() {
            return Err(Failure::new(ErrorKind::Invalid, "find command of", image)
                .because(std::io::Error::other("the image has none, and none was given")));
        }
        let options = images::rootfs::Options {
            name: self.name,
            throwaway: true,
            own_ids: self.userns,
            within: self.sandbox,
            size: self.rootfs_size,
            ..Default::default()
        };
        let rootfs = machine.make_fs(Some(&info.digest), options, None)?;
        let end = self.first.lead(&machine, &rootfs, Some(command), signals);
        let gone = machine.destroy(rootfs.guid()).and_then(|_alone| machine.release());
        let end = end?;
        gone?;
        ended(end)
    }
}

impl Exec {
    /// What it names.
    pub(super) fn rootfs(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let (rootfs, command) = split(&self.args)?;
        let signals = relay::block_signals()?;
        let machine = context.machine_of(rootfs)?;
        let rootfs = find(&machine, rootfs)?;
        let options = self.options.command()?;
        let leader = machine.leader_after_launch(rootfs.guid())?.ok_or_else(|| {
            Failure::new(ErrorKind::NotRunning, "exec in", rootfs.path().display())
                .because(std::io::Error::other("it is not running"))
        })?;
        let (io, mut ends) = self.options.streams()?;
        let group = machine.command_group(&leader)?;
        let started = machine.exec(&leader, command, &options, &io, group.clone());
        let sub::Started { process, terminal, guard } = match started {
            Ok(started) => started,
            Err(failure) => {
                // Nothing of it may go on. The failure is what the caller must hear of.
                let _left = group.destroy();
                return Err(failure);
            }
        };
        // Our copies of what the process has: at its end, the streams end.
        drop(io);
        streams::add_terminal(&mut ends, terminal);
        let end = Foreground { process: &process, signals, ends }.run()?;
        match guard {
            Some(guard) => guard.dismiss(|| group.retire()),
            None => group.retire(),
        }
        ended(end)
    }
}

/// The exit code that tells of an end. A process that ended well, and was not heard, is a failure of ours.
pub(super) fn ended(Ended { outcome, lost }: Ended) -> Result<ExitCode> {
    match (process::exit_code(&outcome), lost) {
        (0, Some(lost)) => Err(lost),
        (code, _) => Ok(ExitCode::from(code)),
    }
}

fn split(args: &[String]) -> Result<(&str, &[String])> {
    match args.split_first() {
        Some((rootfs, command)) => Ok((rootfs, command)),
        None => Err(Failure::new(ErrorKind::Invalid, "read arguments", "(no rootfs)")),
    }
}

fn parse_env(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("has no name".into()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        // What is on a command line, everybody on the machine can read.
        None => std::env::var(text)
            .map(|value| (text.to_owned(), value))
            .map_err(|error| format!("has no value, and ours has none either ({error})")),
    }
}

fn parse_umask(text: &str) -> std::result::Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_error| format!("{text:?} is not a mode in octal"))
}

fn parse_ulimit(text: &str) -> std::result::Result<(String, Ulimit), String> {
    let (name, value) = text.split_once('=').ok_or("must be TYPE=SOFT[:HARD]")?;
    let number = |text: &str| text.parse().map_err(|_error| format!("{text:?} is not a number"));
    let (soft, hard) = match value.split_once(':') {
        None => (number(value)?, None),
        Some((soft, hard)) => (number(soft)?, Some(number(hard)?)),
    };
    Ok((name.to_owned(), Ulimit { soft, hard }))
}

fn parse_size(text: &str) -> std::result::Result<TerminalSize, String> {
    let numbers: Vec<u16> = text
        .split(':')
        .map(|part| part.parse().map_err(|_error| format!("{part:?} is not a number of at most 65535")))
        .collect::<std::result::Result<_, _>>()?;
    match numbers[..] {
        [rows, cols] | [rows, cols, _, _] => Ok(TerminalSize { rows, cols }),
        _ => Err("must be ROWS:COLS or ROWS:COLS:X:Y".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_sizes_and_variables() {
        assert_eq!(parse_size("24:80").unwrap(), TerminalSize { rows: 24, cols: 80 });
        assert_eq!(parse_size("24:80:1:2").unwrap(), TerminalSize { rows: 24, cols: 80 });
        assert!(parse_size("24").is_err() && parse_size("24:x").is_err() && parse_size("1:2:3").is_err());
        assert_eq!(parse_env("A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert_eq!((parse_umask("027"), parse_umask("9").is_err()), (Ok(0o27), true));
        assert_eq!(
            parse_ulimit("nofile=1:-1").unwrap(),
            ("nofile".into(), Ulimit { soft: 1, hard: Some(-1) })
        );
        assert!(parse_ulimit("nofile").is_err() && parse_ulimit("nofile=a").is_err());
        assert!(parse_env("NOT_SET_ANYWHERE").is_err() && parse_env("=b").is_err());
        assert_eq!(parse_env("PATH").unwrap().1, std::env::var("PATH").unwrap());
    }
}
