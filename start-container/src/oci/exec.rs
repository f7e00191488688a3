//! `exec`: a further process in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use linux::spawn::apart::{self, Word};
use linux::spawn::{Call, FailedStep, Op, Script, SpawnError, new};
use oci_spec::runtime::{Box as Size, Capability, Linux, Process};
use protocol::ErrorKind;
use rustix::fs::{Mode, OFlags};

use super::config::{self, invalid};
use super::console::{self, Streams};
use super::create::{add_home, filter, not_become, not_started, preserved, write_pid};
use super::record::{Container, Status};
use super::{Context, agent, args, foreground, groups};
use crate::engine::compile::bundle;
use crate::engine::compile::namespaces::{TYPES, flag};
use crate::engine::compile::process::processors;
use crate::engine::guard::Init;
use crate::engine::{compile, dev_null};
use crate::error::{Failure, Result};

/// How a process gets into a container that is there.
pub(super) struct Joined {
    /// Steps of whoever clones it.
    pub(super) before: Vec<Op>,
    /// Its own first ones.
    pub(super) first: Vec<Op>,
}

impl Joined {
    /// Into the namespaces of a process that are not ours, and into groups.
    pub(super) fn of(
        pid: i32,
        linux: &Linux,
        joins: Vec<Arc<OwnedFd>>,
        process: Option<&Process>,
    ) -> Result<Self> {
        let mut before = Vec::new();
        let mut first: Vec<Op> = joins.into_iter().map(Op::JoinCgroup).collect();
        let mut user = None;
        let mut together = 0;
        if let Some(process) = process {
            before.extend(compile::oom_score(process)?);
        }
        for (_, typ) in TYPES {
            let (flag, name) = flag(typ);
            let path = format!("/proc/{pid}/ns/{name}");
            let stat = |path: &str| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
            let theirs = match stat(&path) {
                // A kernel without that type.
                Err(rustix::io::Errno::NOENT) if stat(&format!("/proc/self/ns/{name}")).is_err() => continue,
                other => other.map_err(|errno| Failure::kernel("join namespaces of", pid, errno))?,
            };
            if stat(&format!("/proc/self/ns/{name}")) == Ok(theirs) {
                continue;
            }
            if flag != new::CGROUP && flag != new::USER {
                together |= flag;
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let handle = rustix::fs::open(&path, flags, Mode::empty())
                .map_err(|errno| Failure::kernel("open", &path, errno))?;
            let join = Op::JoinNamespaces { process: Arc::new(handle), namespaces: flag };
            if flag == new::USER { user = Some(join) } else { first.push(join) }
        }
        let in_user = user.is_some();
        if in_user && let Some(process) = process {
            before.extend(bundle::raised(process));
        }
        if together != 0 {
            let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| invalid("pid", "0"))?;
            let handle = linux::pidfd::open(pid)
                .map_err(|errno| Failure::kernel("open", "container process", errno))?;
            before.push(Op::JoinNamespaces { process: Arc::new(handle), namespaces: together });
        }
        before.extend(user);
        if in_user {
            let zero = linux.uid_mappings().iter().flatten().any(|mapping| mapping.container_id() == 0);
            if zero || linux.uid_mappings().is_none() {
                first.extend([Call::no_groups(), Call::group(0), Call::user(0)].map(Op::Call));
            }
        }
        Ok(Self { before, first })
    }
}

/// Returns the exit code of the process; 0 when it is left running.
pub(super) fn exec(context: &Context<'_>, args: &args::Exec) -> Result<u8> {
    let container = context.root.look(&args.id)?;
    let status = container.status();
    let refuse = |why: &str| Err(Failure::new(ErrorKind::NotRunning, why, ""));
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => {
            return refuse("cannot exec in a paused container (use --ignore-paused to override)");
        }
        Status::Creating | Status::Stopped => return refuse("cannot exec in a stopped container"),
    }
    let Some((pid, _handle)) = container.process() else {
        return refuse("cannot exec in a stopped container");
    };
    let mut process = process(context, args, &container)?;
    console::check(&process, args.console_socket.as_deref(), args.detach)?;
    let keep = preserved(args.preserve_fds)?;
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty())
        .map_err(|errno| Failure::kernel("open", &path, errno))?;
    add_home(&mut process, root.as_fd())?;
    let mut spec = container.record.spec.clone();
    let filter = filter(&mut spec, context.log)?;
    let none = Linux::default();
    let linux = spec.linux().as_ref().unwrap_or(&none);

    let mut own = groups::open(&container.record)?;
    for place in &args.cgroup {
        // `controllers:path` or a path for all of them.
        let place = place.rsplit_once(':').map_or(place.as_str(), |(_, path)| path);
        if place.trim_matches('/').is_empty() {
            continue;
        }
        let place: PathBuf = cgroups::oci::relative(place).map_err(Failure::from)?;
        own = own.beneath(&place).map_err(Failure::from)?;
    }
    let joins = own.join_files(true).map_err(Failure::from)?.into_iter().map(Arc::new).collect();
    let Joined { mut before, first } = Joined::of(pid, linux, joins, Some(&process))?;
    let Streams { stdio, master, .. } = console::of_command(root.as_fd(), &spec, &process)?;
    if let (Some(master), None) = (&master, &args.console_socket) {
        foreground::plain_lines(master)?;
    }
    let mut closed_ops = bundle::closing(&process, linux, filter.as_ref(), false)?;
    if let Some(affinity) = process.exec_cpu_affinity() {
        let set = |list: &str| {
            processors("process.execCPUAffinity", list).map(|cpus| Op::Call(Call::affinity(cpus)))
        };
        if let Some(initial) = affinity.initial() {
            let mask = processors("process.execCPUAffinity", initial)?;
            let mask = mask.into_iter().filter(|cpu| *cpu < 128).fold(0_u128, |mask, cpu| mask | 1 << cpu);
            context.log.debug(&format!("initial CPU affinity: 0x{mask:x}"));
            before.insert(0, set(initial)?);
        }
        if let Some(last) = affinity.cpu_affinity_final() {
            closed_ops.insert(0, set(last)?);
        }
    }
    let mut ops = vec![Op::NewKeyring];
    ops.extend(first);
    if process.exec_cpu_affinity().is_none() {
        ops.push(bundle::every_processor());
    }
    ops.extend(compile::labels::steps(&process)?);
    let script = Script { ops, closed_ops, keep, ..compile::command(&process, stdio, None)? };
    let init = Init::new(false);
    let start = apart::Start { program: init.get()?, null: dev_null()?, before, listener: None };
    let signals = if args.detach { None } else { Some(foreground::block_signals()?) };
    let mut child = apart::start(&script, &start).map_err(not_started)?;
    loop {
        let not_started = |error: SpawnError| {
            let there = |program: &str| {
                program.contains('/')
                    && linux::resolve::in_root(&root, program, OFlags::PATH, Mode::empty()).is_ok()
            };
            match &error.step {
                FailedStep::Exec(program) if there(program) => not_become(error),
                _ => not_started(error),
            }
        };
        match child.listen().map_err(not_started)? {
            Word::Silence => break,
            Word::Listener(number) => {
                let process = child.process.pidfd.as_fd();
                if let Err(failure) = agent::give(&container, status, child.process.pid, process, number) {
                    child.kill();
                    return Err(failure);
                }
            }
            Word::At(_) | Word::Ready => {}
        }
        child.answer().map_err(|errno| Failure::kernel("start", "process", errno))?;
    }
    let told = || {
        if let (Some(path), Some(master)) = (&args.console_socket, &master) {
            console::send(path, master.as_fd(), "terminal")?;
        }
        if let Some(path) = &args.pidfd_socket {
            console::send(path, child.process.pidfd.as_fd(), "pidfd")?;
        }
        match &args.pid_file {
            Some(path) => write_pid(path, &child.process),
            None => Ok(()),
        }
    };
    if let Err(failure) = told() {
        child.kill();
        return Err(failure);
    }
    let Some(signals) = signals else { return Ok(0) };
    let own = args.console_socket.is_none();
    foreground::wait(child.into_process(), master.filter(|_| own), &signals)
}

/// What is to run: from a file, or the container's own process with other arguments.
fn process(context: &Context<'_>, args: &args::Exec, container: &Container) -> Result<Process> {
    if let Some(path) = &args.process {
        let mut process = config::read_process(path, context.log)?;
        if args.tty {
            process.set_terminal(Some(true));
        }
        return Ok(process);
    }
    let own = container.record.spec.process().clone();
    let mut process = own.ok_or_else(|| invalid("process", "missing"))?;
    if args.command.is_empty() {
        return Err(Failure::new(ErrorKind::Invalid, "process args cannot be empty", ""));
    }
    if container.record.home
        && let Some(env) = process.env()
    {
        // That of another user, maybe.
        let others = env.iter().filter(|entry| !entry.starts_with("HOME=")).cloned().collect::<Vec<_>>();
        process.set_env(Some(others));
    }
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    process.set_console_size(None::<Size>);
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if !args.env.is_empty() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(args.env.iter().cloned());
        config::last_of_each(&mut env, |entry| entry.split_once('=').map(|(name, _)| name));
        process.set_env(Some(env));
    }
    if let Some(user) = &args.user {
        let number = |text: &str| {
            text.parse::<u32>()
                .map_err(|error| Failure::new(ErrorKind::Invalid, "read --user", user).because(error))
        };
        let (uid, gid) = match user.split_once(':') {
            Some((uid, gid)) => (number(uid)?, Some(number(gid)?)),
            None => (number(user)?, None),
        };
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        process.user_mut().set_additional_gids(Some(args.additional_gids.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    for name in &args.cap {
        let capability: Capability = serde_json::from_value(name.as_str().into())
            .map_err(|error| Failure::new(ErrorKind::Invalid, "read --cap", name).because(error))?;
        let mut sets = process.capabilities().clone().unwrap_or_default();
        let with = |set: &Option<std::collections::HashSet<Capability>>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        // Ambient ones are inheritable: where the container has such, as in runc.
        if sets.inheritable().as_ref().is_some_and(|set| !set.is_empty()) {
            sets.set_inheritable(with(sets.inheritable()));
            sets.set_ambient(with(sets.ambient()));
        }
        sets.set_bounding(with(sets.bounding()));
        sets.set_effective(with(sets.effective()));
        sets.set_permitted(with(sets.permitted()));
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}
