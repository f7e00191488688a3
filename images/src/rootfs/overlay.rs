//! The overlay mount itself, in the newest form that the kernel takes.
//!
//! | kernel | layers are given |
//! |---|---|
//! | 6.13 | as handles |
//! | 6.8  | one by one, as paths (here of handles) |
//! | older | in one string of a page, to mount(2) |

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use linux::kernel::Features;
use linux::mount::{ContextError, FsContext, MountAttr, mount_setattr};
use linux::userns::Extent;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, move_mount};

use linux::tree::{open_dir, proc_path, text_names_in};

/// OVL_MAX_STACK.
pub(super) const MOST_LAYERS: usize = 500;

/// What an overlay is made of.
pub(super) struct Layers<'l> {
    /// Topmost first.
    pub(super) lowers: &'l [&'l OwnedFd],
    pub(super) upper: &'l OwnedFd,
    pub(super) work: &'l OwnedFd,
    /// Nothing is synced, on fsync(2) or on unmount.
    pub(super) volatile: bool,
}

/// Layers with their ids mapped: what is stored as 0 is seen as the first id of a range.
pub(super) struct Seen<'p> {
    layers: Vec<OwnedFd>,
    /// Before Linux 6.15 an overlay takes no detached mount: they are attached meanwhile, at these names.
    attached: Vec<String>,
    point: &'p OwnedFd,
    namespace: Arc<OwnedFd>,
}

impl<'p> Seen<'p> {
    pub(super) fn new(
        lowers: &[&OwnedFd],
        first: u32,
        point: &'p OwnedFd,
        guid: &str,
        features: &Features,
    ) -> Result<Self, Errno> {
        let map = [Extent { inside: 0, outside: first, count: super::RANGE }];
        // As a container's own: its first process may join this one.
        let namespace = Arc::new(linux::userns::owned_namespace(&map, &map, first)?);
        let attr = MountAttr {
            propagation: Some(MountPropagationFlags::PRIVATE),
            userns: Some(namespace.as_fd()),
            ..MountAttr::default()
        };
        let mut seen = Self {
            layers: Vec::with_capacity(lowers.len()),
            attached: Vec::new(),
            point,
            namespace: Arc::clone(&namespace),
        };
        for (number, lower) in lowers.iter().enumerate() {
            let layer = linux::mount::clone_tree(lower, false, &attr, features)?;
            if !(features.overlay_layer_fds && features.open_tree_attr) {
                let name = format!("{guid}.layer-{number}");
                rustix::fs::mkdirat(point, name.as_str(), Mode::RWXU)?;
                seen.attached.push(name.clone());
                move_mount(&layer, "", point, name.as_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            }
            seen.layers.push(layer);
        }
        Ok(seen)
    }

    pub(super) fn layers(&self) -> Vec<&OwnedFd> {
        self.layers.iter().collect()
    }

    /// Ends it, but for what is closed.
    pub(super) fn spent(mut self) -> super::Spent {
        // Those that are attached are detached first, and closed then.
        super::Spent(if self.attached.is_empty() { std::mem::take(&mut self.layers) } else { Vec::new() })
    }

    /// What they are mapped by.
    pub(super) fn namespace(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.namespace)
    }
}

/// Takes away what somebody left who was killed while he mounted this rootfs.
pub(super) fn clear(points: &Path, guid: &str) -> Result<(), Errno> {
    let dir = match open_dir(points) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let prefix = format!("{guid}.layer-");
    for name in text_names_in(&dir)?.into_iter().filter(|name| name.starts_with(&prefix)) {
        super::detach::detach(&points.join(&name))?;
        rustix::fs::unlinkat(&dir, name.as_str(), AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        for (number, name) in self.attached.iter().enumerate() {
            // The overlay has clones of its own. What stays is empty, and found by whoever destroys the rootfs.
            let _gone = self.layers.get(number).map(linux::mount::detach);
            let _gone = rustix::fs::unlinkat(self.point, name.as_str(), AtFlags::REMOVEDIR);
        }
    }
}

/// Why an overlay cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// Something about its parameters; the kernel's own words are in it.
    #[error(transparent)]
    Configure(#[from] ContextError),
    /// The parameters do not fit into the page that this kernel (before 6.8) takes.
    #[error("{0} layers do not fit into the one page that this kernel takes")]
    Page(usize),
    /// A call after or without configuring.
    #[error("cannot {step} it")]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
}

impl OverlayError {
    /// The kernel's reason.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Configure(error) => error.errno(),
            Self::Page(_) => Errno::TOOBIG,
            Self::Kernel { source, .. } => *source,
        }
    }
}

fn step(step: &'static str) -> impl Fn(Errno) -> OverlayError {
    move |source| OverlayError::Kernel { step, source }
}

/// What Docker also sets: names are not redirected, so an upper directory means the same to every tool; and
/// metadata is not copied without its data.
const OPTIONS: [(&str, &str); 3] = [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];

/// Mounts an overlay at `name` in `point`, in a peer group of its own: what is mounted beneath reaches the
/// containers' namespaces, which are made slaves of it.
pub(super) fn mount(
    layers: &Layers<'_>,
    point: &OwnedFd,
    name: &str,
    features: &Features,
) -> Result<(), OverlayError> {
    let shared = MountAttr { propagation: Some(MountPropagationFlags::SHARED), ..MountAttr::default() };
    if features.overlay_lowerdir_append {
        let root = detached(layers, features)?;
        mount_setattr(&root, false, &shared).map_err(step("share"))?;
        return move_mount(&root, "", point, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(step("attach"));
    }
    let target = format!("/proc/self/fd/{}/{name}", point.as_raw_fd());
    let options = page(layers)?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    rustix::mount::mount("start-container", &target, "overlay", flags, options.as_c_str())
        .map_err(step("mount"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(point, name, flags, Mode::empty()).map_err(step("open"))?;
    mount_setattr(root, false, &shared).map_err(step("share"))
}

fn detached(layers: &Layers<'_>, features: &Features) -> Result<OwnedFd, ContextError> {
    let overlay = FsContext::open("overlay")?;
    let set = |key: &str, dir: &OwnedFd| match features.overlay_layer_fds {
        true => overlay.fd(key, dir.as_fd()),
        false => overlay.string(key, proc_path(dir)),
    };
    overlay.string("source", "start-container")?;
    for lower in layers.lowers {
        set("lowerdir+", lower)?;
    }
    set("upperdir", layers.upper)?;
    set("workdir", layers.work)?;
    for (key, value) in OPTIONS {
        overlay.string(key, value)?;
    }
    if layers.volatile {
        overlay.flag("volatile")?;
    }
    overlay.create()?;
    // Device nodes and setuid files come from strangers; the container's /dev is another mount, and nothing inside
    // gains privileges anyway.
    overlay.mount(MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID)
}

/// The options of mount(2), which takes one page of them.
fn page(layers: &Layers<'_>) -> Result<CString, OverlayError> {
    let lowers: Vec<String> = layers.lowers.iter().map(proc_path).collect();
    let (upper, work) = (proc_path(layers.upper), proc_path(layers.work));
    let mut options = format!("lowerdir={},upperdir={upper},workdir={work}", lowers.join(":"));
    for (key, value) in OPTIONS {
        options.push_str(&format!(",{key}={value}"));
    }
    if layers.volatile {
        options.push_str(",volatile");
    }
    let too_many = OverlayError::Page(lowers.len());
    if options.len() >= rustix::param::page_size() {
        return Err(too_many);
    }
    CString::new(options).ok().ok_or(too_many)
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux::tree::{open_dir, open_dir_at};

    /// A directory to mount in, unmounted when dropped.
    struct Scratch(tempfile::TempDir);

    impl Scratch {
        fn new(lowers: usize) -> Self {
            let scratch = Self(tempfile::tempdir_in("/tmp").unwrap());
            for name in
                (0..lowers).map(|number| format!("l{number}")).chain(["u", "w", "m"].map(str::to_owned))
            {
                std::fs::create_dir(scratch.0.path().join(&name)).unwrap();
                std::fs::write(scratch.0.path().join(&name).join(&name), name).unwrap();
            }
            std::fs::remove_file(scratch.0.path().join("w/w")).unwrap();
            scratch
        }

        fn mount(&self, features: &Features, lowers: usize, volatile: bool) -> Result<(), OverlayError> {
            let all = open_dir(self.0.path()).unwrap();
            let open = |name: &str| open_dir_at(&all, name).unwrap();
            let lowers: Vec<OwnedFd> = (0..lowers).map(|number| open(&format!("l{number}"))).collect();
            let lowers: Vec<&OwnedFd> = lowers.iter().collect();
            let layers = Layers { lowers: &lowers, upper: &open("u"), work: &open("w"), volatile };
            mount(&layers, &all, "m", features)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            while rustix::mount::unmount(self.0.path().join("m"), rustix::mount::UnmountFlags::DETACH).is_ok()
            {
            }
        }
    }

    /// Page, paths, and handles where this kernel takes them.
    fn forms() -> Vec<Features> {
        let mut paths = *Features::get();
        paths.overlay_layer_fds = false;
        vec![Features::floor(), paths, *Features::get()]
    }

    #[test]
    fn s12_every_form_of_the_mount_gives_the_same_tree() {
        for form in forms() {
            for volatile in [true, false] {
                let scratch = Scratch::new(3);
                scratch.mount(&form, 3, volatile).unwrap_or_else(|error| panic!("{form:?}: {error:?}"));
                let root = scratch.0.path().join("m");
                for name in ["l0", "l1", "l2", "u"] {
                    assert_eq!(std::fs::read_to_string(root.join(name)).unwrap(), name, "{form:?}");
                }
                std::fs::write(root.join("l0"), "changed").unwrap();
                assert_eq!(std::fs::read_to_string(scratch.0.path().join("l0/l0")).unwrap(), "l0");
                let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
                let line = table.lines().find(|line| line.contains(&root.display().to_string())).unwrap();
                assert!(
                    line.contains("nodev") && line.contains("shared:") && line.contains("start-container"),
                    "{line}"
                );
                assert_eq!(line.contains("volatile"), volatile, "{line}");
            }
        }
    }

    #[test]
    fn s14_every_form_shows_the_layers_with_their_ids_mapped() {
        use std::os::unix::fs::MetadataExt as _;
        const FIRST: u32 = 1_900_000_000;
        for form in forms() {
            let scratch = Scratch::new(2);
            std::os::unix::fs::chown(scratch.0.path().join("l0/l0"), Some(7), Some(70_000)).unwrap();
            std::os::unix::fs::chown(scratch.0.path().join("u"), Some(FIRST), Some(FIRST)).unwrap();
            let all = open_dir(scratch.0.path()).unwrap();
            let open = |name: &str| open_dir_at(&all, name).unwrap();
            let lowers = [open("l0"), open("l1")];
            let point = open_dir(scratch.0.path()).unwrap();
            let lowers: Vec<&OwnedFd> = lowers.iter().collect();
            let seen = Seen::new(&lowers, FIRST, &point, "guid", &form).unwrap();
            let (upper, work) = (open("u"), open("w"));
            let layers = Layers { lowers: &seen.layers(), upper: &upper, work: &work, volatile: true };
            mount(&layers, &all, "m", &form).unwrap_or_else(|error| panic!("{form:?}: {error:?}"));
            drop(seen);
            assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("guid.layer"));
            let of = |name: &str| {
                let metadata = std::fs::metadata(scratch.0.path().join("m").join(name)).unwrap();
                (metadata.uid(), metadata.gid())
            };
            // Whoever has an id that no range has is nobody.
            assert_eq!((of("l1"), of("l0")), ((FIRST, FIRST), (FIRST + 7, 65_534)), "{form:?}");
            {
                let _owner = linux::fsids::AsOwner::new(FIRST).unwrap();
                std::fs::write(scratch.0.path().join("m/l1"), "changed").unwrap();
                std::fs::write(scratch.0.path().join("m/new"), "").unwrap();
            }
            assert_eq!((of("new"), of("l1"), of("")), ((FIRST, FIRST), (FIRST, FIRST), (FIRST, FIRST)));
            assert_eq!(
                std::fs::metadata(scratch.0.path().join("l1/l1")).unwrap().uid(),
                0,
                "nothing was chowned"
            );
        }
    }

    #[test]
    fn s12_what_does_not_fit_into_a_page_says_so() {
        let scratch = Scratch::new(300);
        let error = scratch.mount(&Features::floor(), 300, true).unwrap_err();
        assert_eq!(error.to_string(), "300 layers do not fit into the one page that this kernel takes");
        assert_eq!(error.errno(), Errno::TOOBIG);
        scratch.mount(&forms()[1], 300, true).unwrap();
    }
}
