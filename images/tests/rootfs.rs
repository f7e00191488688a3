//! A rootfs: made, used, destroyed, and destroyed after every kind of crash.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use common::{Data, chain};
use images::rootfs::Options;
use images::{Error, Rootfs};

/// An image of a few files, from a directory.
fn small(data: &Data) {
    let tree = data.dir.path().join("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/motd"), "hello").unwrap();
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o751)).unwrap();
    std::os::unix::fs::chown(&tree, Some(7), Some(8)).unwrap();
    data.import(&tree, Some("small")).unwrap();
}

fn mounts_under(data: &Data) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = data.path().join("subcontainers/").display().to_string();
    table.lines().filter(|line| line.contains(&path)).count()
}

#[test]
fn s12_a_rootfs_is_writable_and_the_image_is_not_changed() {
    let data = Data::new();
    small(&data);
    let rootfs =
        Rootfs::create(&data.store, "small", Options { name: Some("one".to_owned()), ..Options::default() })
            .unwrap();
    let root = rootfs.path();
    assert_eq!(fs::read_to_string(root.join("etc/motd")).unwrap(), "hello");
    let looks = fs::metadata(&root).unwrap();
    assert_eq!(
        (looks.mode() & 0o7777, looks.uid(), looks.gid()),
        (0o751, 7, 8),
        "the root looks as in the image"
    );
    fs::write(root.join("etc/motd"), "changed").unwrap();
    let other = Rootfs::create(&data.store, "small", Options::default()).unwrap();
    assert_eq!(fs::read_to_string(other.path().join("etc/motd")).unwrap(), "hello");
    let found = Rootfs::from_path(&data.path(), &root).unwrap();
    assert_eq!((found.guid(), found.name()), (rootfs.guid(), Some("one")));
    assert_eq!(Rootfs::list(&data.path()).unwrap().len(), 2);
    for rootfs in [rootfs, other] {
        Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
        Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
        assert!(!rootfs.path().exists());
    }
    assert_eq!(mounts_under(&data), 0);
    assert_eq!(
        fs::read_dir(data.path().join("rootfs"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() != "lock")
            .count(),
        0
    );
}

#[test]
fn s12_a_path_that_is_not_a_rootfs_is_named() {
    let data = Data::new();
    for path in ["/etc", "/tmp/..", "relative", "/"] {
        let error = Rootfs::from_path(&data.path(), path.as_ref()).unwrap_err();
        assert!(matches!(error, Error::NotARootfs(_)), "{error:?}");
        assert!(chain(&error).contains(path));
    }
    let nearly = data.path().join("subcontainers/no-such-guid");
    assert!(matches!(Rootfs::from_path(&data.path(), &nearly), Err(Error::NotARootfs(_))));
}
