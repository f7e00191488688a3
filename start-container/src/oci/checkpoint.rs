//! `checkpoint`: the processes of a container as files, by criu.
//!
//! What is not the container's own is told criu by a name, and `restore` says what has that name then:
//!
//! | what | name |
//! |---|---|
//! | a bind mount | its destination in `config.json` |
//! | the machine's `/dev/null` over a masked file | `/dev/null` |
//! | a device shown to a user namespace | its path |
//! | a control group, without a cgroup namespace | destination, and name of the hierarchy |
//! | a network or pid namespace by path | `extRootNetNS`, `extRootPidNS` |
//! | standard streams: pipes, and files outside | `descriptors.json` beside criu's files; criu's own names |
//!
//! These are runc's words. Never writes into the container: criu stops its processes by the freezer of their group.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cgroups::oci::Groups;
use oci_spec::runtime::{Linux, LinuxNamespaceType as Ns, Spec};
use protocol::ErrorKind;
use rustix::fs::{FileType, Mode, OFlags};

use super::criu::{self, Criu, Options, PageServer, Pair, Surroundings, Task};
use super::record::{Container, Status};
use super::{Context, args, create, groups, manage};
use crate::engine::compile::{devices, mounts};
use crate::error::{Failure, Result};

/// Names of standard streams, beside criu's own files.
pub(super) const STREAMS: &str = "descriptors.json";

/// How criu names a namespace that it leaves alone.
pub(super) const EXTERNAL: [(Ns, &str, &str); 2] =
    [(Ns::Network, "net", "extRootNetNS"), (Ns::Pid, "pid", "extRootPidNS")];

pub(super) fn checkpoint(context: &Context<'_>, args: &args::Checkpoint) -> Result<()> {
    let program = criu::find(context.criu.as_deref())?;
    let container = context.root.open(&args.id)?;
    let status = container.status();
    let (Status::Running | Status::Paused, Some((pid, _handle))) = (status, container.process()) else {
        let text = format!("cannot checkpoint a container that is {}", status.name());
        return Err(Failure::new(ErrorKind::NotRunning, text, ""));
    };
    let images = Directory::make(&args.criu.image_path)?;
    let work = args.criu.work_path.as_deref().map(Directory::make).transpose()?;
    let mut options = common(&args.criu, &container.record.spec, &images, work.as_ref());
    options.log_file = Some("dump.log".to_owned());
    options.pid = Some(pid);
    options.root = Some(container.record.rootfs.to_string_lossy().into_owned());
    options.leave_running = Some(args.leave_running);
    options.tcp_skip_in_flight = Some(args.tcp_skip_in_flight);
    options.link_remap = Some(args.link_remap);
    options.freezer = freezer(&container)?;
    options.page_server = args.page_server.as_deref().map(page_server).transpose()?;
    if let Some(parent) = &args.parent_path {
        let bad =
            |why: &str| Failure::new(ErrorKind::Invalid, format!("--parent-path {why}:"), parent.display());
        if parent.is_absolute() {
            return Err(bad("is not relative"));
        }
        if !args.criu.image_path.join(parent).is_dir() {
            return Err(bad("is no directory"));
        }
        options.parent = Some(parent.to_string_lossy().into_owned());
    }
    options.track_memory = (args.pre_dump || args.parent_path.is_some()).then_some(true);
    let status_fd = args.status_fd.map(|number| {
        let bad = |error| Failure::kernel("use --status-fd", number, error);
        linux::process::inherited(number.unsigned_abs()).map_err(bad)
    });
    let mut status_fd = status_fd.transpose()?;
    external(&container, pid, &mut options)?;
    if !args.pre_dump {
        let streams = streams(pid)?;
        options.external.extend(streams.iter().filter(|name| name.starts_with("file[")).cloned());
        images.write(STREAMS, &serde_json::json!(streams).to_string())?;
    }
    let task = if args.pre_dump { Task::PreDump } else { Task::Dump };
    let mut criu = Criu::start(&program, Surroundings::plain()?)?;
    let done = criu.ask(task, options, |notice, _| {
        if notice.script.as_deref() == Some("status-ready")
            && let Some(to) = status_fd.take()
        {
            rustix::io::write(to, &[0]).map_err(|errno| Failure::kernel("write to", "--status-fd", errno))?;
        }
        Ok(())
    });
    let log = work.as_ref().unwrap_or(&images).path.join("dump.log");
    done.map_err(|failure| explained("checkpoint", &args.id, failure, &log))?;
    drop(criu);
    if args.leave_running || args.pre_dump {
        return Ok(());
    }
    manage::take_away(context, container)
}

/// A directory of files of criu's.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) handle: OwnedFd,
}

impl Directory {
    /// Makes it where it is missing, for root alone: memory is in there.
    pub(super) fn make(path: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| Failure::new(ErrorKind::Kernel, "create", path.display()).because(error))?;
        Self::open(path)
    }

    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Failure::kernel("open", path.display(), errno))?;
        Ok(Self { path: path.to_owned(), handle })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        std::fs::write(&path, text)
            .map_err(|error| Failure::new(ErrorKind::Kernel, "write", path.display()).because(error))
    }
}

/// What is said in both directions.
pub(super) fn common(
    args: &args::Criu,
    spec: &Spec,
    images: &Directory,
    work: Option<&Directory>,
) -> Options {
    // criu follows /proc/<our id>/fd/<number>.
    let number = |directory: &Directory| directory.handle.as_fd().as_raw_fd();
    let annotations = spec.annotations().as_ref();
    let config = annotations.and_then(|all| all.get("org.criu.config").cloned());
    Options {
        images: number(images),
        work: work.map(number),
        log_level: Some(4),
        notify: Some(true),
        tcp_established: Some(args.tcp_established),
        ext_unix_sk: Some(args.ext_unix_sk),
        shell_job: Some(args.shell_job),
        file_locks: Some(args.file_locks),
        auto_dedup: Some(args.auto_dedup),
        lazy_pages: Some(args.lazy_pages),
        orphan_terminals: Some(true),
        manage_cgroups: Some(true),
        // 6: criu's default.
        cgroups_mode: Some(args.manage_cgroups_mode.map_or(6, |mode| mode as i32)),
        // Links and addresses are the engine's.
        empty_namespaces: Some(linux::spawn::new::NET as u32),
        // Where the administrator tells criu more of containers, whoever runs them.
        config_file: config
            .or_else(|| Some("/etc/criu/runc.conf".to_owned()))
            .filter(|path| !path.is_empty()),
        network_lock: criu::find(Some(Path::new("iptables-restore"))).err().map(|_absent| criu::NFTABLES),
        ..Options::default()
    }
}

/// The group by which criu stops everything in the container.
fn freezer(container: &Container) -> Result<Option<String>> {
    let own = groups::open(&container.record)?;
    let all: Vec<_> = own.directories().collect();
    let v1 = all.iter().find(|(hierarchy, _)| hierarchy.options.iter().any(|option| option == "freezer"));
    let v2 = || all.iter().find(|(hierarchy, _)| hierarchy.options.is_empty());
    Ok(v1.or_else(v2).map(|(_, path)| path.to_string_lossy().into_owned()))
}

fn page_server(text: &str) -> Result<PageServer> {
    let bad = || Failure::new(ErrorKind::Invalid, "read --page-server", text);
    let (address, port) = text.rsplit_once(':').filter(|(address, _)| !address.is_empty()).ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|error: std::num::ParseIntError| bad().because(error))?;
    Ok(PageServer { address: Some(address.to_owned()), port: Some(port.into()) })
}

/// Tells criu of what is not the container's own.
fn external(container: &Container, pid: i32, options: &mut Options) -> Result<()> {
    let spec = &container.record.spec;
    let none = Linux::default();
    let linux = spec.linux().as_ref().unwrap_or(&none);
    let path = format!("/proc/{pid}/root");
    let root = Directory::open(Path::new(&path))?.handle;
    // As the container's mounts have it: a destination may lead through links.
    let look = |path: &Path| {
        let handle = linux::resolve::in_root(&root, path, OFlags::PATH, Mode::empty()).ok()?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&handle).ok()?.st_mode);
        let place = std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).ok()?;
        Some((place.to_string_lossy().into_owned(), kind))
    };
    let hierarchies = groups::hierarchies(container.record.manager)?;
    let view = create::view(hierarchies, &Groups::open(hierarchies, &container.record.cgroup));
    let binds = mounts::binds(spec).map(|mount| mount.destination().to_string_lossy().into_owned());
    let shown = mounts::group_views(spec, &view).into_iter().map(|(name, _)| name);
    for name in binds.chain(shown).chain(devices::shown_paths(spec)) {
        if let Some((place, _)) = look(Path::new(&name)) {
            options.mounts.push(Pair::new(place, name));
        }
    }
    for path in linux.masked_paths().iter().flatten() {
        if let Some((place, kind)) = look(Path::new(path))
            && !kind.is_dir()
        {
            options.mounts.push(Pair::new(place, "/dev/null"));
        }
    }
    for (typ, word, key) in EXTERNAL {
        if let Some(path) = joined(linux, typ) {
            let file = std::fs::metadata(path).map_err(|error| {
                Failure::new(ErrorKind::NotFound, "look at", path.display()).because(error)
            })?;
            options.external.push(format!("{word}[{}]:{key}", file.ino()));
        }
    }
    Ok(())
}

/// The path of a namespace that was there before the container.
pub(super) fn joined(linux: &Linux, typ: Ns) -> Option<&Path> {
    let all = linux.namespaces().iter().flatten();
    all.into_iter()
        .find(|one| one.typ() == typ)?
        .path()
        .as_deref()
        .filter(|path| !path.as_os_str().is_empty())
}

/// What the standard streams of a process are, as criu names it: pipes, and files of mounts that are not the container's.
fn streams(pid: i32) -> Result<Vec<String>> {
    let fail = |error: std::io::Error| {
        Failure::new(ErrorKind::Kernel, "look at streams of", "container process").because(error)
    };
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_err(fail)?;
    let own: HashSet<&str> = mounts.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut names = Vec::new();
    for number in 0..3 {
        let path = format!("/proc/{pid}/fd/{number}");
        // One that was closed.
        let Ok(link) = std::fs::read_link(&path) else {
            names.push(String::new());
            continue;
        };
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).map_err(fail)?;
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap_or_default().trim();
        let file = std::fs::metadata(&path).map_err(fail)?;
        let typ = FileType::from_raw_mode(file.mode());
        let outside =
            matches!(typ, FileType::RegularFile | FileType::CharacterDevice) && !own.contains(mount);
        names.push(match mount.parse::<u32>() {
            Ok(mount) if outside => format!("file[{mount:x}:{:x}]", file.ino()),
            _ => link.to_string_lossy().into_owned(),
        });
    }
    Ok(names)
}

/// A failure of criu's, with what its log says.
pub(super) fn explained(step: &str, id: &str, failure: Failure, log: &Path) -> Failure {
    let said = criu::errors_of(log);
    let text = format!("{step} container {id}: {} ({}: {said})", failure.sentence(), log.display());
    Failure::new(failure.kind, text, "")
}
