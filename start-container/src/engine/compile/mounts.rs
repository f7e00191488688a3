//! `mounts` of a Spec: each as the steps that make its place and put it there.
//!
//! Sources of bind mounts are opened and given their attributes here, while detached; new file systems are made by the
//! child, whose namespaces they belong to.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linux::mount::{MountAttr, mount_setattr};
use linux::spawn::{Mounted, Op, TreeOp};
use oci_spec::runtime::{Linux, LinuxNamespaceType as Ns, Mount, Spec};
use rustix::fs::{AtFlags, CWD, FileType, OFlags, StatxFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags as Propagation, OpenTreeFlags};

use super::bundle::new_fs;
use super::namespaces::Namespaces;
use super::options::{Options, extents};
use super::{cstring, invalid, relative};
use crate::error::{Failure, Result};

/// What steps for a mount depend on.
pub(super) struct Context<'a> {
    /// Something is made in it later.
    pub(super) filled: bool,
    pub(super) index: usize,
    /// Mounts that come before.
    pub(super) earlier: &'a [Mount],
    pub(super) directory: &'a Path,
    pub(super) rootfs: &'a Path,
    pub(super) linux: &'a Linux,
    pub(super) namespaces: &'a Namespaces,
    pub(super) groups: &'a GroupView,
    pub(super) devpts: Option<&'a Arc<OwnedFd>>,
}

/// What a mount of type `cgroup` shows.
#[derive(Debug, Default)]
pub(crate) struct GroupView {
    /// cgroup v1 hierarchies, by the name of their directory: how each is mounted, and the container's own directory.
    pub(crate) v1: Vec<V1View>,
    /// The container's own directory of cgroup v2, where that is the machine's way.
    pub(crate) v2: Option<PathBuf>,
}

/// One cgroup v1 hierarchy.
#[derive(Debug)]
pub(crate) struct V1View {
    pub(crate) name: String,
    /// Options of the file system: its controllers, or `name=…`.
    pub(crate) options: Vec<String>,
    pub(crate) group: PathBuf,
}

/// Sorts of mounts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Bind,
    New,
    Cgroup,
}

fn kind(mount: &Mount, options: &Options) -> Kind {
    match mount.typ().as_deref() {
        _ if options.bind.is_some() => Kind::Bind,
        Some("cgroup" | "cgroup2") => Kind::Cgroup,
        _ => Kind::New,
    }
}

/// What is mounted at a place of the container, by the last mount that says so.
pub(super) fn kind_at(spec: &Spec, place: &str) -> Option<Kind> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let there = mounts.iter().rfind(|mount| mount.destination() == Path::new(place));
    there.map(|mount| kind(mount, &Options::of(mount)))
}

/// Mounts that show what is there without the container, in their order.
pub(crate) fn binds(spec: &Spec) -> impl Iterator<Item = &Mount> {
    let all = spec.mounts().iter().flatten();
    all.filter(|mount| kind(mount, &Options::of(mount)) == Kind::Bind)
}

/// Mounts of control groups that show the machine's directories: where, and which.
pub(crate) fn group_views(spec: &Spec, view: &GroupView) -> Vec<(String, PathBuf)> {
    let namespaces = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    if namespaces.into_iter().any(|namespace| namespace.typ() == Ns::Cgroup) {
        return Vec::new();
    }
    let all = spec.mounts().iter().flatten();
    let places = all.filter(|mount| kind(mount, &Options::of(mount)) == Kind::Cgroup);
    places
        .flat_map(|mount| {
            let place = mount.destination().to_string_lossy();
            let v1 = view.v1.iter().map(|one| (format!("{place}/{}", one.name), one.group.clone()));
            let v2 = view.v2.iter().map(|group| (place.to_string(), group.clone()));
            v1.chain(v2).collect::<Vec<_>>()
        })
        .collect()
}

/// The places of mounts in a rootfs, and whether each is a file; but for those that lie in other mounts.
pub(crate) fn places(spec: &Spec, directory: &Path) -> Vec<(PathBuf, bool)> {
    let all = spec.mounts().as_deref().unwrap_or_default();
    let mut places = Vec::new();
    for (index, mount) in all.iter().enumerate() {
        let place = mount.destination();
        if all[..index]
            .iter()
            .any(|earlier| place != earlier.destination() && place.starts_with(earlier.destination()))
        {
            continue;
        }
        let is_file = kind(mount, &Options::of(mount)) == Kind::Bind
            && mount.source().as_ref().is_some_and(|source| !directory.join(source).is_dir());
        places.push((place.clone(), is_file));
    }
    places
}

/// The step that makes a new file system read-only, once it holds what it is to hold.
pub(super) fn read_only(mount: &Mount) -> Option<Result<Op>> {
    let options = Options::of(mount);
    let asked = (options.own.set | options.all.set).contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
    (asked && !options.copy_up && kind(mount, &options) == Kind::New).then(|| {
        let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
        let path = relative(mount.destination())?;
        Ok(Op::Tree(TreeOp::Attributes { path, recursive: false, set, propagation: 0 }))
    })
}

/// The steps of one mount.
pub(super) fn steps(mount: &Mount, context: &Context<'_>) -> Result<Vec<Op>> {
    let options = Options::of(mount);
    let destination = mount.destination();
    if destination.as_os_str().is_empty() {
        return Err(context.invalid("destination", "empty"));
    }
    let target = relative(destination)
        .map_err(|_plain| context.invalid("destination", &destination.to_string_lossy()))?;
    match kind(mount, &options) {
        Kind::Bind => bind(mount, &options, target, context),
        Kind::New => new(mount, &options, target, context),
        Kind::Cgroup => groups(mount, &options, target, context),
    }
}

impl Context<'_> {
    fn invalid(&self, field: &str, what: &str) -> Failure {
        invalid(&format!("mounts[{}].{field}", self.index), what)
    }
}

fn bind(
    mount: &Mount,
    options: &Options,
    target: std::ffi::CString,
    context: &Context<'_>,
) -> Result<Vec<Op>> {
    let source = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty());
    let source = source.ok_or_else(|| context.invalid("source", "missing"))?;
    let source = context.directory.join(source);
    let fail = |errno| Failure::kernel("open mount source", source.display(), errno);
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if options.bind == Some(true) {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = rustix::mount::open_tree(CWD, &source, flags).map_err(fail)?;
    let what = rustix::fs::statx(&tree, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE).map_err(fail)?;
    let is_dir = FileType::from_raw_mode(what.stx_mode.into()).is_dir();
    dress(&tree, mount, options, context)?;
    let place = if is_dir { TreeOp::MakeDir(target.clone()) } else { TreeOp::MakeFile(target.clone()) };
    let source = Mounted::Tree(Arc::new(tree));
    let mut ops = vec![
        Op::Tree(place),
        Op::Tree(TreeOp::Mount {
            source,
            target: target.clone(),
            strict: false,
            in_order: true,
            propagation: 0,
        }),
    ];
    if let Some(flags) = unbindable(options) {
        let recursive = flags.contains(Propagation::REC);
        let propagation = u64::from(Propagation::UNBINDABLE.bits());
        ops.push(Op::Tree(TreeOp::Attributes { path: target, recursive, set: 0, propagation }));
    }
    Ok(ops)
}

/// What can be cloned no more once it is so: comes last.
fn unbindable(options: &Options) -> Option<Propagation> {
    options.propagation.last().copied().filter(|flags| flags.contains(Propagation::UNBINDABLE))
}

/// Gives a detached mount its ids, attributes and propagation.
fn dress(tree: &OwnedFd, mount: &Mount, options: &Options, context: &Context<'_>) -> Result<()> {
    let destination = mount.destination().display();
    if let Some(recursive) = options.idmap {
        let (uid, gid) = (extents(mount.uid_mappings().as_deref()), extents(mount.gid_mappings().as_deref()));
        let fail = |errno| Failure::kernel("map ids of mount", &destination, errno);
        let own;
        let namespace = match (uid.is_empty() && gid.is_empty(), &context.namespaces.user) {
            (false, _) => {
                own = linux::userns::idmap_namespace(&uid, &gid).map_err(fail)?;
                own.as_fd()
            }
            (true, Some(user)) => user.as_fd(),
            (true, None) => {
                return Err(context.invalid("uidMappings", "missing, and there is no user namespace"));
            }
        };
        let attr = MountAttr { userns: Some(namespace), ..MountAttr::default() };
        mount_setattr(tree, recursive, &attr).map_err(fail)?;
    }
    let fail = |errno| Failure::kernel("set attributes of mount", &destination, errno);
    for (change, recursive) in [(options.all, true), (options.own, false)] {
        if !change.is_empty() {
            let attr = MountAttr { set: change.set, clear: change.clear, ..MountAttr::default() };
            mount_setattr(tree, recursive, &attr).map_err(fail)?;
        }
    }
    let above = root_propagation(context.linux)?;
    // A peer of the machine's mount would carry what is mounted inside out, unless that was asked for.
    let first = match above {
        Some(flags) if flags.contains(Propagation::SHARED) => None,
        Some(flags) => Some(flags | Propagation::REC),
        None => Some(Propagation::DOWNSTREAM | Propagation::REC),
    };
    let asked = &options.propagation;
    let whole = asked.first().is_some_and(|flags| *flags == Propagation::PRIVATE | Propagation::REC);
    let asked = &asked[..asked.len() - usize::from(unbindable(options).is_some())];
    for flags in first.filter(|_| !whole).iter().chain(asked) {
        let recursive = flags.contains(Propagation::REC);
        let attr =
            MountAttr { propagation: Some(flags.difference(Propagation::REC)), ..MountAttr::default() };
        mount_setattr(tree, recursive, &attr).map_err(fail)?;
    }
    Ok(())
}

fn new(
    mount: &Mount,
    options: &Options,
    target: std::ffi::CString,
    context: &Context<'_>,
) -> Result<Vec<Op>> {
    let typ = mount.typ().as_deref().filter(|typ| !typ.is_empty() && *typ != "none");
    let typ = typ.ok_or_else(|| context.invalid("type", "missing, and it is no bind mount"))?;
    let mut ops = vec![Op::Tree(TreeOp::MakeDir(target.clone()))];
    if options.idmap.is_some() {
        return Err(context.invalid("uidMappings", "ids are mapped on bind mounts only"));
    }
    // Of these an image must not choose the place (CVE-2019-19921).
    let strict = matches!(typ, "proc" | "sysfs");
    let propagation = options
        .propagation
        .last()
        .copied()
        .map_or(0, |flags| u64::from(flags.difference(Propagation::REC).bits()));
    let mut attributes = options.own.set | options.all.set;
    if context.filled {
        attributes.remove(MountAttrFlags::MOUNT_ATTR_RDONLY);
    }
    let source = match (typ, context.devpts) {
        ("devpts", Some(devpts)) if mount.destination() == Path::new("/dev/pts") => {
            // The terminal was opened through this very mount, and criu looks for that in the container; no copy takes
            // its place.
            ops.push(Op::Mount { source: Mounted::Tree(Arc::clone(devpts)), target });
            return Ok(ops);
        }
        _ => {
            let mut data = options.data.clone();
            if typ == "tmpfs" && !options.copy_up && !data.iter().any(|(key, _)| key == "mode") {
                let mode = mode_beneath(mount.destination(), context);
                data.push(("mode".to_owned(), Some(format!("{mode:o}"))));
            }
            let name = mount.source().as_ref().map(|source| source.to_string_lossy().into_owned());
            data.push(("source".to_owned(), Some(name.unwrap_or_else(|| typ.to_owned()))));
            if let Some(label) = context.linux.mount_label().as_deref().filter(|label| !label.is_empty())
                && !matches!(typ, "proc" | "sysfs")
            {
                if !super::labels::has_selinux() {
                    return Err(invalid("linux.mountLabel", "this kernel has no SELinux"));
                }
                data.push(("context".to_owned(), Some(label.to_owned())));
            }
            if typ == "tmpfs" && options.copy_up {
                // Filled first.
                attributes.remove(MountAttrFlags::MOUNT_ATTR_RDONLY);
            }
            new_fs(typ, data, u64::from(attributes.bits()))?
        }
    };
    if typ == "tmpfs" && options.copy_up {
        return super::copy_up::steps(mount, options, target, context.rootfs, context.linux);
    }
    ops.push(Op::Tree(TreeOp::Mount { source, target, strict, in_order: false, propagation }));
    Ok(ops)
}

/// The mode of the directory that a new file system hides, which it takes over where none is asked for.
fn mode_beneath(place: &Path, context: &Context<'_>) -> u32 {
    let above = context.earlier.iter().rfind(|earlier| place.starts_with(earlier.destination()));
    let (tree, rest) = match above {
        None => (context.rootfs.to_owned(), place),
        Some(mount) => {
            let rest = place.strip_prefix(mount.destination()).unwrap_or(place);
            match mount.source().as_ref().filter(|_| kind(mount, &Options::of(mount)) == Kind::Bind) {
                Some(source) => (context.directory.join(source), rest),
                // What is in a new one, we make.
                None => return MADE,
            }
        }
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mode = rustix::fs::open(&tree, flags, rustix::fs::Mode::empty())
        .and_then(|tree| linux::resolve::in_root(&tree, rest, OFlags::PATH, rustix::fs::Mode::empty()))
        .and_then(|handle| rustix::fs::fstat(&handle));
    mode.map_or(MADE, |stat| stat.st_mode & 0o7777)
}

/// The mode of directories that are made for mounts.
const MADE: u32 = 0o755;

/// A mount of type `cgroup`: the container's own groups, in the machine's way.
fn groups(
    mount: &Mount,
    options: &Options,
    target: std::ffi::CString,
    context: &Context<'_>,
) -> Result<Vec<Op>> {
    let own = context.namespaces.has(Ns::Cgroup);
    let attributes = options.own.set | options.all.set;
    let make = |path: &std::ffi::CStr| Op::Tree(TreeOp::MakeDir(path.to_owned()));
    let place = |source, target| {
        Op::Tree(TreeOp::Mount { source, target, strict: false, in_order: false, propagation: 0 })
    };
    let mut ops = vec![make(&target)];
    if let Some(group) = &context.groups.v2 {
        let source = if own {
            new_fs("cgroup2", vec![("source".into(), Some("cgroup".into()))], u64::from(attributes.bits()))?
        } else {
            view(group, options, mount)?
        };
        ops.push(place(source, target));
        return Ok(ops);
    }
    // Written to until it holds the directories.
    let writable = attributes.difference(MountAttrFlags::MOUNT_ATTR_RDONLY);
    let data = vec![("mode".into(), Some("755".into())), ("source".into(), Some("tmpfs".into()))];
    ops.push(place(new_fs("tmpfs", data, u64::from(writable.bits()))?, target.clone()));
    for view_of in &context.groups.v1 {
        let text = target.to_string_lossy();
        let path = cstring("mounts.destination", &format!("{text}/{}", view_of.name))?;
        ops.push(make(&path));
        let source = if own {
            let data = view_of.options.iter().map(|option| match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.clone(), None),
            });
            let named = view_of.options.iter().any(|option| option.starts_with("name="));
            let none = named.then(|| ("none".to_owned(), None));
            let source = ("source".to_owned(), Some("cgroup".to_owned()));
            new_fs(
                "cgroup",
                none.into_iter().chain(data).chain([source]).collect(),
                u64::from(attributes.bits()),
            )?
        } else {
            view(&view_of.group, options, mount)?
        };
        ops.push(place(source, path));
        for alone in view_of.name.split(',').filter(|alone| *alone != view_of.name) {
            let path = cstring("mounts.destination", &format!("{text}/{alone}"))?;
            let to = cstring("mounts.destination", &view_of.name)?;
            ops.push(Op::Tree(TreeOp::Symlink { path, to }));
        }
    }
    if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
        ops.push(Op::Tree(TreeOp::Attributes { path: target, recursive: false, set, propagation: 0 }));
    }
    Ok(ops)
}

/// A directory of the machine's control groups.
fn view(group: &Path, options: &Options, mount: &Mount) -> Result<Mounted> {
    let fail = |errno| Failure::kernel("open control group", group.display(), errno);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, group, flags).map_err(fail)?;
    let attr = MountAttr {
        set: options.own.set | options.all.set,
        propagation: Some(Propagation::PRIVATE),
        ..MountAttr::default()
    };
    mount_setattr(&tree, false, &attr)
        .map_err(|errno| Failure::kernel("set attributes of mount", mount.destination().display(), errno))?;
    Ok(Mounted::Tree(Arc::new(tree)))
}

/// `linux.rootfsPropagation`.
pub(super) fn root_propagation(linux: &Linux) -> Result<Option<Propagation>> {
    let rec = Propagation::REC;
    Ok(Some(match linux.rootfs_propagation().as_deref() {
        None | Some("") => return Ok(None),
        Some("shared") => Propagation::SHARED,
        Some("rshared") => Propagation::SHARED | rec,
        Some("slave") => Propagation::DOWNSTREAM,
        Some("rslave") => Propagation::DOWNSTREAM | rec,
        Some("private") => Propagation::PRIVATE,
        Some("rprivate") => Propagation::PRIVATE | rec,
        Some("unbindable") => Propagation::UNBINDABLE,
        Some("runbindable") => Propagation::UNBINDABLE | rec,
        Some(other) => return Err(invalid("linux.rootfsPropagation", other)),
    }))
}

/// The mountpoint that a path is beneath.
pub(super) fn mount_of(path: &Path) -> Result<String> {
    let fail = |errno| Failure::kernel("find mount of", path.display(), errno);
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).map_err(fail)?;
    let id = found.stx_mnt_id;
    let mounts = linux::mounts::list(None, linux::kernel::Features::get()).map_err(fail)?;
    let mount = mounts.into_iter().find(|mount| mount.id == id);
    Ok(mount.map_or_else(|| "/".to_owned(), |mount| String::from_utf8_lossy(&mount.mountpoint).into_owned()))
}
