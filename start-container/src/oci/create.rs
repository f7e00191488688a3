//! `create` and `run`: a bundle becomes a container whose process waits.
//!
//! Written down before it is made: directory and record, control groups, process. What fails takes all of it back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cgroups::oci::{Groups, Hierarchies};
use linux::signalfd::SignalFd;
use linux::spawn::apart::{self, Word};
use linux::spawn::{FailedStep, Op, SpawnError};
use oci_spec::runtime::{Linux, Process, Spec};
use protocol::ErrorKind;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use seccomp::Program;

use super::config::{self, invalid};
use super::console::{self, Streams};
use super::exec::Joined;
use super::log::{self, Log};
use super::record::{Container, Record, Status};
use super::resctrl::Class;
use super::{Context, agent, args, foreground, groups, hooks, manage, resctrl, start};
use crate::engine::compile::bundle::{self, Bundle, HOOKS};
use crate::engine::compile::mounts::{GroupView, V1View};
use crate::engine::compile::namespaces::Namespaces;
use crate::engine::guard::Init;
use crate::engine::{compile, dev_null, user};
use crate::error::{Failure, Result};

/// What a bundle asks for, read and checked: nothing is made yet.
pub(super) struct Planned {
    pub(super) spec: Spec,
    pub(super) directory: PathBuf,
    pub(super) rootfs: PathBuf,
    filter: Option<Program>,
    pub(super) cgroup: PathBuf,
    pub(super) class: Option<Class>,
    /// HOME was added.
    home: bool,
}

/// A container whose process is there and waits.
struct Made<'a> {
    child: apart::Child<'a>,
    master: Option<OwnedFd>,
}

pub(super) fn create(context: &Context<'_>, args: &args::Create) -> Result<()> {
    let init = Init::new(false);
    let plan = plan(context, args)?;
    let process = plan.process()?;
    console::check(process, args.console_socket.as_deref(), true)?;
    let keep = preserved(args.preserve_fds)?;
    let mut container = record(context, args, &plan)?;
    let made = build(args, &plan, &mut container, &init, keep, true, |made, _| tell(args, &made));
    made.map_err(|failure| undone(context, container, failure))
}

/// Returns the exit code of the container's process; 0 when it is left running.
pub(super) fn run(context: &Context<'_>, args: &args::Run) -> Result<u8> {
    let init = Init::new(false);
    let plan = plan(context, &args.create)?;
    let process = plan.process()?;
    console::check(process, args.create.console_socket.as_deref(), args.detach)?;
    let keep = preserved(args.create.preserve_fds)?;
    let signals = if args.detach { None } else { Some(foreground::block_signals()?) };
    let mut container = record(context, &args.create, &plan)?;
    let result = build(&args.create, &plan, &mut container, &init, keep, false, |made, container| {
        run_to_its_end(args, made, container, &init, signals)
    });
    match result {
        Err(failure) => Err(undone(context, container, failure)),
        Ok(None) => Ok(0),
        Ok(Some(code)) => {
            if !args.keep {
                manage::take_away_unless_gone(context, container)?;
            }
            Ok(code)
        }
    }
}

fn run_to_its_end(
    args: &args::Run,
    mut made: Made<'_>,
    container: &mut Container,
    init: &Init,
    signals: Option<SignalFd>,
) -> Result<Option<u8>> {
    if args.create.console_socket.is_some() || args.detach {
        tell(&args.create, &made)?;
    } else if let Some(path) = &args.create.pid_file {
        write_pid(path, &made.child.process)?;
    }
    start::inside(container, init)?;
    made.child.answer().map_err(|errno| Failure::kernel("start", "container process", errno))?;
    loop {
        match made.child.listen().map_err(not_become)? {
            Word::Silence => break,
            Word::Listener(number) => {
                let process = made.child.process.pidfd.as_fd();
                agent::give(container, Status::Running, made.child.process.pid, process, number)?;
            }
            Word::At(_) | Word::Ready => {}
        }
        made.child.answer().map_err(|errno| Failure::kernel("start", "container process", errno))?;
    }
    start::after(container)?;
    let Some(signals) = signals else { return Ok(None) };
    let own = args.create.console_socket.is_none();
    container.unlock()?;
    let code = foreground::wait(made.child.into_process(), made.master.filter(|_| own), &signals)?;
    Ok(Some(code))
}

pub(super) fn plan(context: &Context<'_>, args: &args::Create) -> Result<Planned> {
    context.root.place(&args.id)?;
    if !rustix::process::geteuid().is_root() {
        let why = "this needs root: groups, devices and mounts of a container are made by its rights, which a user has \
            not in a namespace of his own either";
        return Err(Failure::new(ErrorKind::Invalid, why, ""));
    }
    let directory = match &args.bundle {
        Some(path) => path.canonicalize(),
        None => std::env::current_dir(),
    };
    let directory = directory.map_err(|error| {
        let path = args.bundle.as_deref().unwrap_or(Path::new("."));
        Failure::new(ErrorKind::NotFound, "open bundle", path.display()).because(error)
    })?;
    let mut spec = config::read(&directory, args.config.as_deref(), context.log)?;
    hooks::check_all(&spec)?;
    let root = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
    let rootfs = directory.join(&root);
    let rootfs = rootfs
        .canonicalize()
        .map_err(|error| invalid("root.path", &rootfs.display().to_string()).because(error))?;
    let filter = filter(&mut spec, context.log)?;
    let cgroup = groups::path(&spec, &args.id, context.manager)?;
    let class = resctrl::class(&spec, &args.id)?;
    let mut home = false;
    if let Some(process) = spec.process_mut() {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&rootfs, flags, Mode::empty())
            .map_err(|errno| Failure::kernel("open root.path", rootfs.display(), errno))?;
        home = add_home(process, handle.as_fd())?;
        if let Some(count) = activated().filter(|count| *count > 0) {
            let mut env = process.env().clone().unwrap_or_default();
            env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
            process.set_env(Some(env));
        }
    }
    Ok(Planned { spec, directory, rootfs, filter, cgroup, class, home })
}

impl Planned {
    pub(super) fn process(&self) -> Result<&Process> {
        self.spec.process().as_ref().ok_or_else(|| invalid("process", "missing"))
    }
}

/// `linux.seccomp`, compiled. System calls that nobody knows are left out of it.
pub(super) fn filter(spec: &mut Spec, log: &Log) -> Result<Option<Program>> {
    let Some(filter) = spec.linux_mut().as_mut().and_then(|linux| linux.seccomp_mut().as_mut()) else {
        return Ok(None);
    };
    loop {
        match seccomp::compile_for_agent(filter) {
            Ok(program) => return Ok(Some(program)),
            Err(seccomp::Error::UnknownSyscall(unknown)) => {
                log.warn(&format!("linux.seccomp: nobody knows the system call {unknown}, it is ignored"));
                let mut rules = filter.syscalls().clone().unwrap_or_default();
                for rule in &mut rules {
                    let names =
                        rule.names().iter().filter(|name| **name != unknown).cloned().collect::<Vec<_>>();
                    rule.set_names(names);
                }
                rules.retain(|rule| !rule.names().is_empty());
                filter.set_syscalls(Some(rules));
            }
            Err(error) => return Err(invalid("linux.seccomp", "").because(error)),
        }
    }
}

/// HOME, where it is not said: what the container's own passwd says.
/// Returns whether it has.
pub(super) fn add_home(process: &mut Process, root: std::os::fd::BorrowedFd<'_>) -> Result<bool> {
    if process.env().iter().flatten().any(|entry| entry.len() > 5 && entry.starts_with("HOME=")) {
        return Ok(false);
    }
    // A passwd that cannot be read says nothing.
    let home =
        user::look_up(root, &process.user().uid().to_string()).map_or_else(|_| "/".into(), |user| user.home);
    let mut env = process.env().clone().unwrap_or_default();
    env.retain(|entry| entry != "HOME=");
    env.push(format!("HOME={home}"));
    process.set_env(Some(env));
    Ok(true)
}

/// How many descriptors systemd's socket activation has left us with.
fn activated() -> Option<u32> {
    std::env::var("LISTEN_FDS").ok()?.parse().ok()
}

/// Descriptors 3 to 3+count-1, and those of systemd's socket activation.
pub(super) fn preserved(count: u32) -> Result<Vec<Arc<OwnedFd>>> {
    let listen = activated().unwrap_or(0);
    let all = 3..3 + count.saturating_add(listen).min(1 << 16);
    let mut kept = Vec::new();
    for number in all {
        match linux::process::inherited(number) {
            Ok(descriptor) => kept.push(Arc::new(descriptor)),
            // Said by an environment that somebody passed on without them.
            Err(Errno::BADF) if number >= 3 + count => break,
            Err(errno) => return Err(Failure::kernel("preserve descriptor", number, errno)),
        }
    }
    Ok(kept)
}

pub(super) fn record(context: &Context<'_>, args: &args::Create, plan: &Planned) -> Result<Container> {
    let hierarchies = groups::hierarchies(context.manager)?;
    let made = groups::would_make(hierarchies, context.manager, &plan.cgroup).or_else(|failure| {
        // Its own groups: another container has the name.
        context.root.check_free(&args.id).and(Err(failure))
    })?;
    context.root.make(Record {
        id: args.id.clone(),
        bundle: plan.directory.clone(),
        rootfs: plan.rootfs.clone(),
        created: log::now(),
        owner: rustix::process::getuid().as_raw(),
        process: None,
        home: plan.home,
        manager: context.manager,
        cgroup: plan.cgroup.clone(),
        made,
        resctrl: plan.class.as_ref().map(Class::own).unwrap_or_default(),
        spec: plan.spec.clone(),
    })
}

/// Makes groups and process, and passes the points before the start with it. `then`: what is done while the child is
/// at hand; where anything fails, it is ended.
#[allow(clippy::too_many_arguments, reason = "each is one thing, and they are passed once")]
fn build<T>(
    args: &args::Create,
    plan: &Planned,
    container: &mut Container,
    init: &Init,
    keep: Vec<Arc<OwnedFd>>,
    leaves: bool,
    then: impl FnOnce(Made<'_>, &mut Container) -> Result<T>,
) -> Result<T> {
    let none = Linux::default();
    let linux = plan.spec.linux().as_ref().unwrap_or(&none);
    let process = plan.process()?;
    let hierarchies = groups::hierarchies(container.record.manager)?;
    let resources =
        plan.spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    // Where this fails we end, and a scope without us is systemd's to take away.
    let visit = groups::visit(&container.record, &resources)?;
    let own = groups::make(&container.record, hierarchies, &resources)?;
    plan.class.as_ref().map_or(Ok(()), Class::make)?;
    let namespaces = Namespaces::open(linux)?;
    let Streams { stdio, master, terminal } = console::of_container(&plan.spec, process)?;
    if let (Some(master), None) = (&master, &args.console_socket) {
        foreground::plain_lines(master)?;
    }
    let listener = if leaves { Some(Arc::new(container.listener()?)) } else { None };
    // A user of another namespace may not be born in a group of ours: it goes there by itself.
    let unified = namespaces.user.is_some();
    let joins = own.join_files(unified).map_err(Failure::from)?.into_iter().map(Arc::new).collect();
    let cgroup = own.cgroup2().filter(|_| !unified).map(|dir| dir.try_clone_to_owned()).transpose();
    let cgroup =
        cgroup.map_err(|error| Failure::new(ErrorKind::Kernel, "open", "control group").because(error))?;
    let hooked = |point: &&str| !hooks::of(&plan.spec, point).is_empty();
    let waits = ["prestart", "createRuntime", "createContainer"].iter().any(hooked)
        || !config::net_devices(linux).is_empty();
    let compiled = bundle::compile(Bundle {
        spec: &plan.spec,
        directory: &plan.directory,
        own: container.directory(),
        rootfs: &plan.rootfs,
        namespaces: &namespaces,
        joins,
        cgroup: cgroup.map(Arc::new),
        groups: &view(hierarchies, &own),
        filter: plan.filter.as_ref(),
        terminal,
        hooks: waits,
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        stdio,
        keep,
    })?;
    let start = apart::Start { program: init.get()?, null: dev_null()?, before: compiled.before, listener };
    let mut child = apart::start(&compiled.script, &start).map_err(not_started)?;
    drop(start);
    let result =
        pass_points(container, &mut child, init, linux, plan.class.as_ref()).and_then(|()| match visit {
            // The container's process holds the scope by now.
            Some(visit) => visit.end().map_err(Failure::from),
            None => Ok(()),
        });
    if let Err(failure) = result {
        child.kill();
        return Err(failure);
    }
    let process = child.process.pid.as_raw_nonzero().get();
    let result = then(Made { child, master }, container);
    if result.is_err()
        && let Some((pid, handle)) = container.process()
        && pid == process
    {
        let _gone = linux::pidfd::send_signal(&handle, linux::signal::Signal::KILL);
        let _gone = linux::pidfd::wait(&handle);
    }
    result
}

/// From the clone of the child until it waits to be started.
fn pass_points(
    container: &mut Container,
    child: &mut apart::Child<'_>,
    init: &Init,
    linux: &Linux,
    class: Option<&Class>,
) -> Result<()> {
    let pid = child.process.pid.as_raw_nonzero().get();
    let gone = || Failure::new(ErrorKind::Kernel, "create container process", "(it was killed)");
    container.is_process(pid)?;
    class.map_or(Ok(()), |class| class.join(pid))?;
    loop {
        match child.listen().map_err(not_started)? {
            Word::Ready => return Ok(()),
            Word::Silence => return Err(gone()),
            Word::At(HOOKS) => {
                network(&container.record.spec, pid, false)?;
                let state = container.state(Status::Creating);
                let spec = &container.record.spec;
                // config.md has `prestart` after `start`, when a container is created; nobody calls them as late.
                for (point, status) in [("prestart", Status::Created), ("createRuntime", Status::Creating)] {
                    let state = container.state(status);
                    hooks::run(point, hooks::of(spec, point), &state, &container.record.bundle)?;
                }
                let inside = hooks::of(spec, "createContainer");
                if !inside.is_empty() {
                    let joined = Joined::of(pid, linux, Vec::new(), spec.process().as_ref())?;
                    // Where the root is still the machine's, and what they say of files is said from the bundle.
                    let there = compile::cstring("bundle", &container.record.bundle.to_string_lossy())?;
                    let ours: Vec<String> =
                        std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
                    let first = [Op::WorkingDirectory(there)];
                    hooks::run_inside("createContainer", inside, &state, &joined, init, &first, &ours)?;
                }
            }
            Word::At(_) | Word::Listener(_) => {}
        }
        child.answer().map_err(|_gone| gone())?;
    }
}

/// Gives the container of this process the links that its Spec names. `loopback`: its own is put up, too.
pub(super) fn network(spec: &Spec, pid: i32, loopback: bool) -> Result<()> {
    let devices = spec.linux().as_ref().map(config::net_devices).unwrap_or_default();
    if devices.is_empty() && !loopback {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/net");
    let netns = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Failure::kernel("open", &path, errno))?;
    if loopback {
        network::devices::loopback_up(netns.as_fd()).map_err(Failure::from)?;
    }
    network::devices::give(netns.as_fd(), &devices).map_err(Failure::from)
}

/// What a mount of type `cgroup` is to show.
pub(super) fn view(hierarchies: &Hierarchies, own: &Groups) -> GroupView {
    if hierarchies.is_v2() {
        let group = own.directories().next().map(|(_, dir)| dir);
        return GroupView { v1: Vec::new(), v2: group };
    }
    let v1 =
        own.directories().filter(|(hierarchy, _)| !hierarchy.options.is_empty()).map(|(hierarchy, group)| {
            V1View { name: hierarchy.name.clone(), options: hierarchy.options.clone(), group }
        });
    GroupView { v1: v1.collect(), v2: None }
}

/// Gives the engine what it asked for of a container that is there.
fn tell(args: &args::Create, made: &Made<'_>) -> Result<()> {
    if let (Some(path), Some(master)) = (&args.console_socket, &made.master) {
        console::send(path, master.as_fd(), "terminal")?;
    }
    if let Some(path) = &args.pidfd_socket {
        console::send(path, made.child.process.pidfd.as_fd(), "pidfd")?;
    }
    match &args.pid_file {
        Some(path) => write_pid(path, &made.child.process),
        None => Ok(()),
    }
}

/// Whole or not at all.
pub(super) fn write_pid(path: &Path, process: &linux::spawn::Spawned) -> Result<()> {
    let fail =
        |error: std::io::Error| Failure::new(ErrorKind::Kernel, "write", path.display()).because(error);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&new, process.pid.as_raw_nonzero().to_string()).map_err(fail)?;
    std::fs::rename(&new, path).map_err(fail)
}

/// Takes back what was made of a container that failed. Once it had a process, its hooks are told, too.
pub(super) fn undone(context: &Context<'_>, container: Container, failure: Failure) -> Failure {
    let done = match container.record.process {
        Some(_) => manage::take_away(context, container),
        None => manage::remove_all(&container),
    };
    match done {
        Ok(()) => failure,
        Err(other) => {
            let text = format!("{} (and then: {})", failure.sentence(), other.sentence());
            Failure::new(failure.kind, text, "")
        }
    }
}

/// A process whose program was there, but did not become it.
pub(super) fn not_become(error: SpawnError) -> Failure {
    match &error.step {
        FailedStep::Exec(program) if error.errno == Errno::NOENT => no_interpreter(program),
        _ => not_started(error),
    }
}

/// A program that is there, and what it names to be run by is not.
pub(super) fn no_interpreter(program: &str) -> Failure {
    let text = format!("unable to start container process: exec {program}: no such file or directory");
    Failure::new(ErrorKind::CommandNotFound, text, "")
        .because(std::io::Error::other("the interpreter that it names is not there"))
}

/// A process that could not be started, in the words that engines look for.
pub(super) fn not_started(error: SpawnError) -> Failure {
    match &error.step {
        FailedStep::Exec(program) => not_executed(program, error.errno),
        // A link, or a file: nothing of the image's may choose where such a thing is (CVE-2019-19921).
        FailedStep::Op(step)
            if (step.starts_with("make directory /") || step.starts_with("mount "))
                && matches!(error.errno, Errno::EXIST | Errno::LOOP | Errno::NOTDIR) =>
        {
            let text = "unable to start container process: it must be mounted on ordinary directory";
            Failure::new(ErrorKind::Invalid, text, "").because(error)
        }
        _ => Failure::new(crate::error::kind_of(error.errno), "unable to start container process", "")
            .because(error),
    }
}

/// A program that cannot be executed, in the words that engines look for.
pub(super) fn not_executed(program: &str, errno: Errno) -> Failure {
    let kind =
        if errno == Errno::NOENT { ErrorKind::CommandNotFound } else { ErrorKind::CommandNotExecutable };
    let why = match errno {
        _ if program == config::NO_PROGRAM => "config.json has no process".to_owned(),
        Errno::NOENT | Errno::NOTDIR if !program.contains('/') => {
            "executable file not found in $PATH".to_owned()
        }
        Errno::NOENT | Errno::NOTDIR => format!("stat {program}: no such file or directory"),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        other => other.to_string(),
    };
    Failure::new(kind, format!("unable to start container process: exec: {program:?}: {why}"), "")
}
