//! `start`: the process that waits goes on.

use std::os::fd::AsFd;

use linux::spawn::apart::{self, FailedStart, Word};
use oci_spec::runtime::Linux;
use protocol::ErrorKind;

use super::create::{no_interpreter, not_executed};
use super::exec::Joined;
use super::record::{Container, Status};
use super::{Context, agent, hooks};
use crate::engine::compile::bundle;
use crate::engine::guard::Init;
use crate::error::{Failure, Result};

pub(super) fn start(context: &Context<'_>, id: &str) -> Result<()> {
    let container = context.root.open(id)?;
    let refuse = |why: &str| Err(Failure::new(ErrorKind::Invalid, why, ""));
    if container.process().is_none() {
        return refuse("cannot start a container that has stopped");
    }
    let fail = |errno| Failure::kernel("connect to", "container process", errno);
    let Some(connection) = container.connect().map_err(fail)? else {
        return refuse("cannot start an already running container");
    };
    if let Err(failure) = inside(&container, &Init::new(false)) {
        return Err(super::create::undone(context, container, failure));
    }
    apart::answer(&connection).map_err(|errno| Failure::kernel("start", "container process", errno))?;
    let result = loop {
        match apart::hear_started(&connection) {
            Ok(Word::Silence) => break Ok(()),
            Ok(Word::Listener(number)) => {
                let Some((pid, process)) = container.process() else { break Ok(()) };
                let Some(pid) = rustix::process::Pid::from_raw(pid) else { break Ok(()) };
                agent::give(&container, Status::Running, pid, process.as_fd(), number)?;
                apart::answer(&connection).map_err(fail)?;
            }
            Ok(_) => apart::answer(&connection).map_err(fail)?,
            Err(failed) => break Err(failed),
        }
    };
    container.forget_listener();
    if let Err((step, errno)) = result {
        let program =
            container.record.spec.process().as_ref().and_then(|process| process.args().as_ref()?.first());
        let program = program.map_or("", String::as_str);
        return Err(match step {
            // Whether it is there, the process has looked before it waited.
            FailedStart::Exec if errno == rustix::io::Errno::NOENT && !program.is_empty() => {
                no_interpreter(program)
            }
            FailedStart::Exec => not_executed(program, errno),
            FailedStart::Step(_) => Failure::kernel("unable to start container process", program, errno),
        });
    }
    // runtime.md, lifecycle: what hooks refuse is stopped and deleted.
    after(&container).map_err(|failure| super::create::undone(context, container, failure))
}

/// The hooks of the container itself, before its program.
pub(super) fn inside(container: &Container, init: &Init) -> Result<()> {
    let spec = &container.record.spec;
    let hooks = hooks::of(spec, "startContainer");
    let (false, Some((pid, handle))) = (hooks.is_empty(), container.process()) else { return Ok(()) };
    let process = spec.process().as_ref();
    let none = Linux::default();
    let linux = spec.linux().as_ref().unwrap_or(&none);
    let run = || {
        let joined = Joined::of(pid, linux, Vec::new(), process)?;
        // What the container's own program may not, its hooks may not either: they are the container's files.
        let closed = match process {
            Some(process) => {
                let mut process = process.clone();
                process.set_terminal(Some(false));
                process.set_cwd("/".into());
                let filter = super::create::filter(&mut spec.clone(), &super::log::Log::silent())?;
                let mut steps = bundle::closing(&process, linux, filter.as_ref(), false)?;
                steps.retain(|step| !matches!(step, linux::spawn::Op::FindProgram));
                steps
            }
            None => Vec::new(),
        };
        let own = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
        let state = container.state(Status::Created);
        hooks::run_inside("startContainer", hooks, &state, &joined, init, &closed, own)
    };
    run().inspect_err(|_| {
        let _gone = linux::pidfd::send_signal(&handle, linux::signal::Signal::KILL);
    })
}

/// The machine's hooks, once the program runs.
pub(super) fn after(container: &Container) -> Result<()> {
    let record = &container.record;
    let hooks = hooks::of(&record.spec, "poststart");
    if hooks.is_empty() {
        return Ok(());
    }
    hooks::run("poststart", hooks, &container.state(Status::Running), &record.bundle).inspect_err(|_| {
        if let Some((_, handle)) = container.process() {
            let _gone = linux::pidfd::send_signal(&handle, linux::signal::Signal::KILL);
        }
    })
}
