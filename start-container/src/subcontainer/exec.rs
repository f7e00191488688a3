//! Starting a command beside a leader.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::process::{CommandOptions, TerminalSize};
use rustix::io::Errno;

use super::{Leader, Machine};
use crate::engine::cgroup::Group;
use crate::engine::guard::Guard;
use crate::engine::limits::Limited;
use crate::engine::process::Process;
use crate::engine::settings::{self, Own};
use crate::engine::terminal::Terminal;
use crate::engine::{compile, device, plan, user};
use crate::error::{Failure, Result};

/// Standard streams of a process to start.
#[derive(Clone, Debug)]
pub(crate) struct Io {
    pub(crate) stdio: [Arc<OwnedFd>; 3],
    /// Replace standard input and output by a terminal of this size, and standard error too unless it stays apart.
    pub(crate) terminal: Option<TerminalSize>,
    pub(crate) stderr_apart: bool,
    /// The descriptors were made for this process: its user becomes their owner, so that `/dev/stdout` can be
    /// opened.
    pub(crate) own: bool,
}

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: Process,
    /// The host's end of its terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// What ends it when this process is killed, if that is a command line.
    pub(crate) guard: Option<Guard>,
}

impl Machine {
    /// A group for a command to start beside `leader`. Whoever starts one retires it after the command.
    pub(crate) fn command_group(&self, leader: &Leader) -> Result<Group> {
        leader.group.child(self.command_name()).map_err(|failure| match failure.errno() {
            Some(Errno::NOENT | Errno::NODEV) => leader.not_running(),
            _ => failure,
        })
    }

    /// How many commands were named, and from which number on they are.
    pub(crate) fn commands_so_far(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// As [`Machine::commands_so_far`]: another program of the same process goes on.
    pub(crate) fn count_commands_from(&self, number: u64) {
        self.commands.store(number, Ordering::Relaxed);
    }

    /// The name of a group: whose it is, and which of theirs.
    pub(super) fn command_name(&self) -> String {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", std::process::id())
    }

    /// Starts a command in a running subcontainer.
    pub(crate) fn exec(
        &self,
        leader: &Leader,
        args: &[String],
        options: &CommandOptions,
        io: &Io,
        group: Group,
    ) -> Result<Started> {
        let command =
            plan::Command { args, options, image: &leader.record.image, terminal: io.terminal.is_some() };
        let user = user::look_up(leader.root.as_fd(), command.user())?;
        let userns = leader.record.first_id.is_some();
        let settings = settings::plan(options, &leader.record.settings, &Own::look()?, userns)?;
        let oci = plan::process(&command, &user, &leader.record.privileges, &settings)?;
        let own = |id: u32| leader.record.first_id.unwrap_or(0) + id;
        let terminal = match io.terminal {
            Some(size) => Some(Terminal::open_in(leader.root.as_fd(), size, own(user.uid))?),
            None => None,
        };
        let (mut stdio, master) = streams(io, terminal, own(user.uid))?;
        device::give_own_null(&mut stdio, || leader.null())
            .map_err(|errno| Failure::kernel("open", "/dev/null", errno))?;
        let (stamp, limited) = self.limited(leader)?;
        let joins = limited.as_ref().map(Limited::joins).transpose()?.unwrap_or_default();
        let filter = leader.record.privileges.program();
        let script = compile::join(&oci, &leader.process.pidfd, stdio, &joins, filter, userns)?;
        let kills = limited.as_ref().map(Limited::count_kills);
        let started = self.start(script, group);
        let (mut process, guard) = started.map_err(|failure| match failure.errno() {
            // So the kernel refuses a process in a pid namespace whose first one is on its way out.
            Some(Errno::NOMEM) if leader.is_ending() => leader.not_running(),
            _ => failure,
        })?;
        process.kills = kills;
        self.catch_up(leader, stamp, &mut process).map_err(|failure| {
            process.end();
            // Its groups go with it.
            if leader.is_ending() { leader.not_running() } else { failure }
        })?;
        Ok(Started { process, terminal: master, guard })
    }
}

/// The streams that the process gets, and the host's end of its terminal.
pub(super) fn streams(
    io: &Io,
    terminal: Option<Terminal>,
    uid: u32,
) -> Result<([Arc<OwnedFd>; 3], Option<OwnedFd>)> {
    let mut stdio = io.stdio.clone();
    if io.own {
        let fail = |errno| Failure::kernel("give streams to user", uid, errno);
        for fd in &stdio {
            // Pipes only: anything else, /dev/null for one, is the machine's.
            let stat = rustix::fs::fstat(fd).map_err(fail)?;
            let is_pipe = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo;
            if is_pipe && stat.st_uid != uid {
                rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None).map_err(fail)?;
            }
        }
    }
    let Some(Terminal { master, slave }) = terminal else { return Ok((stdio, None)) };
    let slave = Arc::new(slave);
    stdio[0] = Arc::clone(&slave);
    stdio[1] = Arc::clone(&slave);
    if !io.stderr_apart {
        stdio[2] = slave;
    }
    Ok((stdio, Some(master)))
}
