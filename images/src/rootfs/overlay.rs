//! The overlay mount itself, in the newest form that the kernel takes.
//!
//! | kernel | layers are given |
//! |---|---|
//! | 6.13 | as handles |
//! | 6.5  | one by one, as paths (here of handles) |
//! | older | in one string of a page, to mount(2) |

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount,
};

use crate::tree::proc_path;

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

/// How layers are told to the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Handles,
    Paths,
    Page,
}

/// The step that failed, and why.
type Failure = (&'static str, Errno);

/// What Docker also sets: names are not redirected, so an upper directory means the same to every tool; and
/// metadata is not copied without its data.
const OPTIONS: [(&str, &str); 3] = [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];

/// Mounts an overlay at `name` in `point`, shared with nobody so far.
pub(super) fn mount(layers: &Layers<'_>, point: &OwnedFd, name: &str) -> Result<(), Failure> {
    let mut failure = ("mount overlay for", Errno::INVAL);
    for form in [Form::Handles, Form::Paths, Form::Page] {
        match mount_as(form, layers, point, name) {
            // The kernel does not know the form; or it does, and something else is wrong with it: then so it is
            // with the next.
            Err(error @ (_, Errno::INVAL | Errno::NOSYS)) => failure = error,
            result => return result,
        }
    }
    Err(failure)
}

fn mount_as(form: Form, layers: &Layers<'_>, point: &OwnedFd, name: &str) -> Result<(), Failure> {
    let root = match form {
        Form::Handles | Form::Paths => detached(form, layers, point, name)?,
        Form::Page => page(layers, point, name)?,
    };
    // Its own peer group: what is mounted beneath reaches the containers' namespaces, which are made slaves of it.
    mount_change(proc_path(&root), MountPropagationFlags::SHARED).map_err(|errno| ("share mount of", errno))
}

fn detached(form: Form, layers: &Layers<'_>, point: &OwnedFd, name: &str) -> Result<OwnedFd, Failure> {
    let step = |step| move |errno| (step, errno);
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(step("open overlay for"))?;
    let set = |key: &str, dir: &OwnedFd| match form {
        Form::Handles => fsconfig_set_fd(&overlay, key, dir),
        _ => fsconfig_set_string(&overlay, key, proc_path(dir)),
    };
    fsconfig_set_string(&overlay, "source", "start-container").map_err(step("name overlay of"))?;
    for lower in layers.lowers {
        set("lowerdir+", lower).map_err(step("add layer to overlay of"))?;
    }
    set("upperdir", layers.upper).map_err(step("set upper directory of"))?;
    set("workdir", layers.work).map_err(step("set work directory of"))?;
    for (key, value) in OPTIONS {
        fsconfig_set_string(&overlay, key, value).map_err(step("set overlay options of"))?;
    }
    if layers.volatile {
        fsconfig_set_flag(&overlay, "volatile").map_err(step("set overlay options of"))?;
    }
    fsconfig_create(&overlay).map_err(step("create overlay of"))?;
    // Device nodes come from strangers; the container's /dev is another mount.
    let root = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)
        .map_err(step("mount overlay of"))?;
    move_mount(&root, "", point, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(step("attach"))?;
    Ok(root)
}

fn page(layers: &Layers<'_>, point: &OwnedFd, name: &str) -> Result<OwnedFd, Failure> {
    let lowers: Vec<String> = layers.lowers.iter().map(proc_path).collect();
    let mut options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lowers.join(":"),
        proc_path(layers.upper),
        proc_path(layers.work)
    );
    for (key, value) in OPTIONS {
        options.push_str(&format!(",{key}={value}"));
    }
    if layers.volatile {
        options.push_str(",volatile");
    }
    if options.len() >= rustix::param::page_size() {
        return Err(("fit into one page the layers of", Errno::TOOBIG));
    }
    let target = format!("/proc/self/fd/{}/{name}", point.as_raw_fd());
    let options = std::ffi::CString::new(options).ok().ok_or(("mount overlay of", Errno::INVAL))?;
    rustix::mount::mount("start-container", &target, "overlay", MountFlags::NODEV, options.as_c_str())
        .map_err(|errno| ("mount overlay of", errno))?;
    rustix::fs::openat(point, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| ("open", errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{open_dir, open_dir_at};

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

        fn mount(&self, form: Form, lowers: usize, volatile: bool) -> Result<(), Failure> {
            let all = open_dir(self.0.path()).unwrap();
            let open = |name: &str| open_dir_at(&all, name).unwrap();
            let lowers: Vec<OwnedFd> = (0..lowers).map(|number| open(&format!("l{number}"))).collect();
            let lowers: Vec<&OwnedFd> = lowers.iter().collect();
            mount_as(
                form,
                &Layers { lowers: &lowers, upper: &open("u"), work: &open("w"), volatile },
                &all,
                "m",
            )
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            while rustix::mount::unmount(self.0.path().join("m"), rustix::mount::UnmountFlags::DETACH).is_ok()
            {
            }
        }
    }

    #[test]
    fn s12_every_form_of_the_mount_gives_the_same_tree() {
        for form in [Form::Handles, Form::Paths, Form::Page] {
            for volatile in [true, false] {
                let scratch = Scratch::new(3);
                scratch.mount(form, 3, volatile).unwrap_or_else(|error| panic!("{form:?}: {error:?}"));
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
    fn s12_what_does_not_fit_into_a_page_says_so() {
        let scratch = Scratch::new(300);
        assert_eq!(
            scratch.mount(Form::Page, 300, true),
            Err(("fit into one page the layers of", Errno::TOOBIG))
        );
        scratch.mount(Form::Paths, 300, true).unwrap();
    }
}
