//! `linux::fsids`: who owns what is made.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use linux::fsids::AsOwner;

#[test]
fn s14_files_belong_to_the_other_and_rights_over_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    // Only root may make something here.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    {
        let _owner = AsOwner::new(1_900_000_000).unwrap();
        std::fs::write(dir.path().join("theirs"), "").unwrap();
    }
    std::fs::write(dir.path().join("ours"), "").unwrap();
    let owner = |name: &str| {
        let metadata = std::fs::metadata(dir.path().join(name)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!((owner("theirs"), owner("ours")), ((1_900_000_000, 1_900_000_000), (0, 0)));
    // Another thread is not affected meanwhile.
    let path = dir.path().join("other");
    let (go, wait) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        wait.recv().unwrap();
        std::fs::write(path, "").unwrap();
    });
    let _owner = AsOwner::new(1_900_000_000).unwrap();
    go.send(()).unwrap();
    other.join().unwrap();
    assert_eq!(owner("other"), (0, 0));
}
