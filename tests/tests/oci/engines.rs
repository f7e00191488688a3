//! What engines that drive ours have in common: a directory of their own, and what they leave of themselves.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::rig::finish;

/// A directory with an engine's state, and ours by the name that engines know.
pub(crate) struct Engine {
    pub(crate) dir: TempDir,
}

impl Engine {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("engine-").tempdir().unwrap();
        symlink(tests::cli::binary(), dir.path().join("start-container-oci")).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.path("start-container-oci")
    }

    /// Whether its directory can hold an overlay, which lies on no other.
    pub(crate) fn holds_overlays(&self) -> bool {
        finish(Command::new("stat").args(["-f", "-c", "%T"]).arg(self.dir.path())).out().trim() != "overlayfs"
    }
}

/// Groups above a container's are the engine's, and it leaves them.
pub(crate) fn tidy_groups(name: &str) {
    let tops = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for top in tops.chain([PathBuf::from("/sys/fs/cgroup")]) {
        remove_groups(&top.join(name));
    }
}

pub(crate) fn remove_groups(group: &Path) {
    for child in fs::read_dir(group).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&child.path());
        }
    }
    let _absent = fs::remove_dir(group);
}

/// The place of a stored archive, or the reason to skip.
pub(crate) fn stored(name: &str) -> PathBuf {
    let path = tests::image::target_directory().join("xtask/images").join(name);
    assert!(path.exists(), "{} is missing: run `cargo xtask setup` first", path.display());
    path
}
