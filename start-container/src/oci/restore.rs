//! `restore`: a container of the files of a checkpoint, by criu.
//!
//! As `create`: written down, groups made, then processes; what fails takes all of it back. criu runs in a mount
//! namespace of its own, where the rootfs is mounted once more as it wants it, so nobody's death leaves a mount; and in
//! the container's groups, which it so never leaves, and nor does what it restores.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use linux::mount::in_own_namespace;
use linux::signalfd::SignalFd;
use linux::spawn::{Op, Spawned};
use oci_spec::runtime::{Linux, LinuxNamespaceType as Ns};
use protocol::ErrorKind;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::checkpoint::{self, Directory, EXTERNAL, STREAMS};
use super::config::invalid;
use super::console;
use super::create::{self, Planned};
use super::criu::{self, Criu, Inherit, Notice, Options, Pair, Surroundings, Task};
use super::record::{Container, Status};
use super::{Context, args, foreground, groups, hooks, manage, resctrl};
use crate::engine::compile::namespaces::{TYPES, flag};
use crate::engine::compile::{self, mounts};
use crate::error::{Failure, Result};

/// Returns the exit code of the container's process; 0 when it is left running.
pub(super) fn restore(context: &Context<'_>, args: &args::Restore) -> Result<u8> {
    let program = criu::find(context.criu.as_deref())?;
    let create = args::Create {
        bundle: args.bundle.clone(),
        config: None,
        console_socket: args.console_socket.clone(),
        pidfd_socket: None,
        pid_file: args.pid_file.clone(),
        no_pivot: args.no_pivot,
        no_new_keyring: false,
        preserve_fds: 0,
        id: args.id.clone(),
    };
    let images = Directory::open(&args.criu.image_path)?;
    let plan = create::plan(context, &create)?;
    console::check(plan.process()?, args.console_socket.as_deref(), args.detach)?;
    let signals = if args.detach { None } else { Some(foreground::block_signals()?) };
    let mut container = create::record(context, &create, &plan)?;
    let result = build(args, &program, &images, &plan, &mut container)
        .and_then(|restored| restored.run(args, signals.as_ref(), &container));
    match result {
        Err(failure) => Err(create::undone(context, container, failure)),
        Ok(None) => Ok(0),
        Ok(Some(code)) => {
            manage::take_away_unless_gone(context, container)?;
            Ok(code)
        }
    }
}

/// A container that runs again.
struct Restored {
    process: Spawned,
    master: Option<OwnedFd>,
}

impl Restored {
    fn run(
        self,
        args: &args::Restore,
        signals: Option<&SignalFd>,
        container: &Container,
    ) -> Result<Option<u8>> {
        let Self { process, master } = self;
        let told = match &args.pid_file {
            Some(path) => create::write_pid(path, &process),
            None => Ok(()),
        };
        if let Err(failure) = told {
            if let Some((_, handle)) = container.process() {
                let _gone = linux::pidfd::send_signal(&handle, linux::signal::Signal::KILL);
            }
            return Err(failure);
        }
        let Some(signals) = signals else { return Ok(None) };
        container.unlock()?;
        foreground::wait(process, master, signals).map(Some)
    }
}

fn build(
    args: &args::Restore,
    program: &Path,
    images: &Directory,
    plan: &Planned,
    container: &mut Container,
) -> Result<Restored> {
    let none = Linux::default();
    let linux = plan.spec.linux().as_ref().unwrap_or(&none);
    let hierarchies = groups::hierarchies(container.record.manager)?;
    let resources =
        plan.spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    let visit = groups::visit(&container.record, &resources)?;
    let own = groups::make(&container.record, hierarchies, &resources)?;
    plan.class.as_ref().map_or(Ok(()), resctrl::Class::make)?;

    let mut surroundings =
        Surroundings { ops: Vec::new(), stdio: console::own(plan.process()?, &plan.spec)?, keep: Vec::new() };
    let joins = own.join_files(true).map_err(Failure::from)?;
    surroundings.ops.extend(joins.into_iter().map(|file| Op::JoinCgroup(Arc::new(file))));
    let mut options = Options::default();
    namespaces(linux, &mut options, &mut surroundings)?;
    for mount in mounts::binds(&plan.spec) {
        let source = plan.directory.join(mount.source().as_deref().unwrap_or(Path::new("")));
        options.mounts.push(Pair::new(mount.destination().to_string_lossy(), source.to_string_lossy()));
    }
    let view = create::view(hierarchies, &own);
    for (name, group) in mounts::group_views(&plan.spec, &view) {
        options.mounts.push(Pair::new(name, group.to_string_lossy()));
    }
    for path in compile::devices::shown_paths(&plan.spec) {
        options.mounts.push(Pair::new(path.clone(), path));
    }
    options.mounts.push(Pair::new("/dev/null", "/dev/null"));
    options.inherit.extend(streams(images, &surroundings.stdio)?);

    let root = container.make_root()?;
    let started = in_own_namespace(|| {
        attach(plan, &root)?;
        // Opened here, since criu mounts in them.
        let images = Directory::open(&args.criu.image_path)?;
        let work = args.criu.work_path.as_deref().map(Directory::make).transpose()?;
        Ok::<_, Failure>((Criu::start(program, surroundings)?, images, work))
    });
    let (mut criu, images, work) =
        started.map_err(|errno| Failure::kernel("create mount namespace", "", errno))??;
    if let Some(visit) = visit {
        // criu holds the scope by now.
        visit.end().map_err(Failure::from)?;
    }
    // Its children are born there.
    plan.class.as_ref().map_or(Ok(()), |class| class.join(criu.pid()))?;
    let options = Options {
        root: Some(root.to_string_lossy().into_owned()),
        groups: groups_of(criu.pid())?,
        sibling: Some(true),
        evasive_devices: Some(true),
        log_file: Some("restore.log".to_owned()),
        lsm_profile: args.lsm_profile.clone(),
        lsm_mount_context: args.lsm_mount_context.clone(),
        mounts: options.mounts,
        inherit: options.inherit,
        join: options.join,
        ..checkpoint::common(&args.criu, &plan.spec, &images, work.as_ref())
    };
    let mut master = None;
    let done = criu.ask(Task::Restore, options, |notice, descriptor| {
        on_the_way(args, linux, container, notice, descriptor, &mut master)
    });
    let log = work.as_ref().unwrap_or(&images).path.join("restore.log");
    let pid = done.map_err(|failure| checkpoint::explained("restore", &args.id, failure, &log))?;
    drop(criu);
    container.forget_root();
    let gone = || Failure::new(ErrorKind::Kernel, "find container process", "(it has ended)");
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(gone)?;
    let pidfd =
        linux::pidfd::open(pid).map_err(|errno| Failure::kernel("open", "container process", errno))?;
    Ok(Restored { process: Spawned { pid, pidfd }, master })
}

/// What criu waits for us to do.
fn on_the_way(
    args: &args::Restore,
    linux: &Linux,
    container: &mut Container,
    notice: &Notice,
    descriptor: Option<OwnedFd>,
    master: &mut Option<OwnedFd>,
) -> Result<()> {
    match (notice.script.as_deref(), notice.pid) {
        (Some("setup-namespaces"), Some(pid)) => {
            container.is_process(pid)?;
            if linux.namespaces().iter().flatten().any(|one| one.typ() == Ns::Network)
                && checkpoint::joined(linux, Ns::Network).is_none()
            {
                create::network(&container.record.spec, pid, true)?;
            }
            let spec = &container.record.spec;
            let state = container.state(Status::Creating);
            for point in ["prestart", "createRuntime"] {
                hooks::run(point, hooks::of(spec, point), &state, &container.record.bundle)?;
            }
        }
        (Some("post-restore"), Some(pid)) => container.is_process(pid)?,
        (Some("orphan-pts-master"), _) => match (&args.console_socket, descriptor) {
            (Some(path), Some(terminal)) => console::send(path, terminal.as_fd(), "terminal")?,
            (None, terminal) => *master = terminal,
            (Some(_), None) => {}
        },
        _ => {}
    }
    Ok(())
}

/// Has criu find the rootfs as it wants it: a mount of its own that nothing else lies on, with places for all mounts.
fn attach(plan: &Planned, root: &Path) -> Result<()> {
    let fail = |errno| Failure::kernel("mount root.path", plan.rootfs.display(), errno);
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, &plan.rootfs, flags).map_err(fail)?;
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, c"", CWD, root, whole).map_err(fail)?;
    for (place, is_file) in mounts::places(&plan.spec, &plan.directory) {
        let mode = Mode::from_raw_mode(if is_file { 0o644 } else { 0o755 });
        let made = match is_file {
            true => linux::resolve::create_file_in_root(&tree, &place, mode),
            false => linux::resolve::mkdir_in_root(&tree, &place, mode),
        };
        made.map_err(|errno| Failure::kernel("make", place.display(), errno))?;
    }
    Ok(())
}

/// Namespaces that are there already.
fn namespaces(linux: &Linux, options: &mut Options, surroundings: &mut Surroundings) -> Result<()> {
    for (name, typ) in TYPES {
        let Some(path) = checkpoint::joined(linux, typ) else { continue };
        if let Some((_, _, key)) = EXTERNAL.iter().find(|(external, ..)| *external == typ) {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let handle = rustix::fs::open(path, flags, Mode::empty())
                .map_err(|errno| Failure::kernel("open", path.display(), errno))?;
            // Beside its streams and the socket to us.
            let descriptor = 4 + surroundings.keep.len() as i32;
            surroundings.keep.push(Arc::new(handle));
            options.inherit.push(Inherit { key: (*key).to_owned(), descriptor });
        } else if typ == Ns::Cgroup {
            return Err(invalid("linux.namespaces", &format!("criu joins no {name} namespace")));
        } else {
            options.join.push(Pair::new(flag(typ).1, path.to_string_lossy()));
        }
    }
    Ok(())
}

/// What stands in for the streams that the container had: criu's own, which are ours.
fn streams(images: &Directory, own: &[Arc<OwnedFd>; 3]) -> Result<Vec<Inherit>> {
    let path = images.path.join(STREAMS);
    let fail =
        |error: std::io::Error| Failure::new(ErrorKind::NotFound, "read", path.display()).because(error);
    let text = std::fs::read_to_string(&path).map_err(fail)?;
    let names: Vec<String> = serde_json::from_str(&text)
        .map_err(|error| Failure::new(ErrorKind::Invalid, "parse", path.display()).because(error))?;
    let ours = |name: &String| name.starts_with("pipe:[") || name.starts_with("file[");
    let numbered: Vec<_> = names.into_iter().take(3).zip(0..).filter(|(name, _)| ours(name)).collect();
    for (name, number) in &numbered {
        // criu goes on at the place in the file where it was.
        let stream = &own[*number as usize];
        if name.starts_with("file[") && rustix::fs::tell(stream).is_err() {
            let text = format!("stream {number} of the container was a file, so it has to be one here");
            return Err(Failure::new(ErrorKind::Invalid, text, ""));
        }
    }
    Ok(numbered.into_iter().map(|(key, descriptor)| Inherit { key, descriptor }).collect())
}

/// The groups of a process, by controller: where those of the checkpoint are now.
fn groups_of(pid: i32) -> Result<Vec<Pair>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::new(ErrorKind::Kernel, "read", &path).because(error))?;
    let parts = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    Ok(parts.map(|(controllers, path)| Pair::new(controllers, path)).collect())
}
