//! Processes: how they are started, fed, watched and ended.

use protocol::limits::Limits;
use protocol::logs::{LogBounds, LogDriver};
use protocol::process::{
    CommandOptions, ExecParams, KillParams, LaunchParams, Privileges, ResizeParams, Seccomp, SeccompProfile,
    SignalParams, SpawnParams, StopParams, Streams, WaitParams,
};
use protocol::session::AttachStreamParams;

use super::{About, Confine, Own, refuse, unless_absent};
use crate::error::Result;

/// What `exec` keeps of each output where nobody says how much, and at most.
const KEPT: u64 = 512 << 10;
const MOST_KEPT: u64 = 8 << 20;
/// Bytes that the streams of one subcontainer may keep on disk.
const LOGS: u64 = 64_000_000;
/// Milliseconds that a leader has after it was asked to end: a thread of the host's waits for it.
const LONGEST_STOP: u64 = 60_000;
/// Limits of processes that are a process's own business; the others reach what belongs to the machine.
const ULIMITS: [&str; 9] = ["nofile", "nproc", "core", "fsize", "stack", "data", "as", "cpu", "rss"];

/// What is written down of a command: a secret may stand among its arguments.
fn program(guid: &str, command: &[String]) -> String {
    let count = command.len().saturating_sub(1);
    let program = command.first().map_or("", String::as_str);
    if count == 0 { format!("{guid} {program}") } else { format!("{guid} {program} (+{count})") }
}

fn options(options: CommandOptions) -> Result<CommandOptions> {
    let CommandOptions { env, cwd, user, umask, ulimits, oom_score_adj } = options;
    if let Some(name) = ulimits.keys().find(|name| !ULIMITS.contains(&name.as_str())) {
        let name = name.chars().take(32).collect::<String>();
        return refuse(&format!("ulimits.{name}"), "it is not a package's to set");
    }
    if oom_score_adj.is_some_and(|score| score < 0) {
        return refuse("oomScoreAdj", "others of the machine would be killed in its place");
    }
    Ok(CommandOptions { env, cwd, user, umask, ulimits, oom_score_adj })
}

fn streams(streams: Streams) -> Result<Streams> {
    let Streams { stdin, stdout, stderr, terminal, log, log_driver } = streams;
    if let Some(LogBounds { size, files }) = log
        && size.saturating_mul(files.into()) > LOGS
    {
        return refuse("streams.log", "a subcontainer keeps 64 MB at most");
    }
    if log_driver == Some(LogDriver::Journald) {
        return refuse("streams.logDriver", "the machine's journal is not a package's");
    }
    Ok(Streams { stdin, stdout, stderr, terminal, log, log_driver })
}

fn privileges(privileges: Privileges) -> Result<Privileges> {
    let Privileges { cap_add, cap_drop, seccomp } = privileges;
    unless_absent(&cap_add, "privileges.capAdd", "a package's root has the default capabilities, or less")?;
    if seccomp != Seccomp::Profile(SeccompProfile::Default) {
        return refuse("privileges.seccomp", "a package's system calls pass the default filter");
    }
    Ok(Privileges { cap_add, cap_drop, seccomp })
}

impl Confine for LaunchParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn subject(&self) -> String {
        program(&self.guid, self.command.as_deref().unwrap_or_default())
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self {
            guid,
            command,
            init,
            shared_dev_sys,
            shared_run,
            privileges: asked,
            limits,
            network,
            options: how,
            streams: wanted,
        } = self;
        unless_absent::<Limits>(&limits, "limits", "it is limited with the package's sandbox")?;
        unless_absent(&network, "network", "it is that of the package's sandbox")?;
        Ok(Self {
            guid,
            command,
            init,
            // Of the sandbox: the engine shares nothing else with those who are in one.
            shared_dev_sys,
            shared_run,
            privileges: privileges(asked)?,
            limits,
            network,
            options: options(how)?,
            streams: streams(wanted)?,
        })
    }
}

impl Confine for SpawnParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn subject(&self) -> String {
        program(&self.guid, &self.command)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { guid, command, options: how, streams: wanted, tree } = self;
        Ok(Self { guid, command, options: options(how)?, streams: streams(wanted)?, tree })
    }
}

impl Confine for ExecParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn subject(&self) -> String {
        program(&self.guid, &self.command)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { guid, command, options: how, input, timeout, grace, max_buffer } = self;
        let max_buffer = Some(max_buffer.unwrap_or(KEPT).min(MOST_KEPT));
        Ok(Self { guid, command, options: options(how)?, input, timeout, grace, max_buffer })
    }
}

impl Confine for StopParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { guid, signal, timeout } = self;
        Ok(Self { guid, signal, timeout: timeout.map(|timeout| timeout.min(LONGEST_STOP)) })
    }
}

impl Confine for SignalParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn subject(&self) -> String {
        format!("{} {}", self.guid, self.signal)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { guid, signal } = self;
        Ok(Self { guid, signal })
    }
}

impl Confine for KillParams {
    fn about(&self) -> About<'_> {
        About::Process(&self.process)
    }

    fn subject(&self) -> String {
        format!("{} {}", self.process, self.signal.as_deref().unwrap_or("SIGTERM"))
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { process, signal, tree } = self;
        Ok(Self { process, signal, tree })
    }
}

impl Confine for WaitParams {
    fn about(&self) -> About<'_> {
        About::Process(&self.process)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { process } = self;
        Ok(Self { process })
    }
}

impl Confine for ResizeParams {
    fn about(&self) -> About<'_> {
        About::Process(&self.process)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { process, size } = self;
        Ok(Self { process, size })
    }
}

impl Confine for AttachStreamParams {
    fn about(&self) -> About<'_> {
        About::Process(&self.process)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { process, stream } = self;
        Ok(Self { process, stream })
    }
}
