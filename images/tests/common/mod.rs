//! What the tests of this room share: a data directory that cleans up after itself, and archives made by hand.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part, and may fail loudly")]

use std::path::{Path, PathBuf};

use images::{Cancel, Error, Limits, Rootfs, Silent, Store};
use protocol::image::ImageInfo;

/// A data directory. Dropped, it destroys every rootfs, unmounts, and is gone.
pub(crate) struct Data {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Data {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root: layers have owners and devices");
        let dir = tempfile::Builder::new().prefix("images-test-").tempdir_in("/tmp").unwrap();
        let store = Store::open_with(&dir.path().join("d"), limits).unwrap();
        Self { dir, store }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("d")
    }

    pub(crate) fn import(&self, path: &Path, name: Option<&str>) -> Result<ImageInfo, Error> {
        self.store.import(path, name, &Silent, &Cancel::new())
    }

    /// A file beside the data directory.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Every path in the store, for comparing before and after.
    pub(crate) fn tree(&self) -> Vec<String> {
        let mut paths = Vec::new();
        walk(&self.path(), &mut paths);
        paths.sort();
        paths
    }

    /// Nothing half-done is left.
    pub(crate) fn assert_clean(&self) {
        let store = self.path().join("store");
        for name in ["tmp", "partial"] {
            let left: Vec<_> =
                std::fs::read_dir(store.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(left.is_empty(), "left in {name}: {left:?}");
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let dir = self.path();
        let rootfs =
            Rootfs::list(&dir).unwrap_or_default().into_iter().map(|rootfs| rootfs.guid().to_owned());
        for guid in rootfs.chain(Rootfs::remnants(&dir).unwrap_or_default()).collect::<Vec<_>>() {
            Rootfs::destroy(&dir, &guid).unwrap();
        }
        let point = dir.join("subcontainers");
        while rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH).is_ok() {}
    }
}

fn walk(dir: &Path, paths: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        paths.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), paths);
        }
    }
}

/// The causes of an error, outermost first, as a person reads them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
