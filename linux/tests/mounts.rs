//! What is mounted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use linux::kernel::Features;
use linux::mount::FsContext;
use linux::mounts::{Mount, beneath, list};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use common::{directory, mkdir, private_mounts, tmpfs};

fn same(mut a: Vec<Mount>, mut b: Vec<Mount>) {
    a.sort_by_key(|mount| mount.id);
    b.sort_by_key(|mount| mount.id);
    assert_eq!(a.len(), b.len());
    for (a, b) in a.into_iter().zip(b) {
        assert_eq!(a, b);
    }
}

#[test]
fn both_ways_give_the_same_list() {
    private_mounts();
    let scratch = tempfile::tempdir().unwrap();
    let odd = scratch.path().join("a b\tc\\040d\u{e9}");
    std::fs::create_dir(&odd).unwrap();
    let context = FsContext::open("tmpfs").unwrap();
    context.string("source", "a source with blanks").unwrap();
    context.string("size", "1m").unwrap();
    context.create().unwrap();
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let tree = context.mount(attributes).unwrap();
    linux::mount::attach(tree, directory(&odd)).unwrap();
    mount_change(&odd, MountPropagationFlags::SHARED).unwrap();

    let old = list(None, &Features::floor()).unwrap();
    let new = list(None, Features::get()).unwrap();
    let found = old.iter().find(|mount| mount.mountpoint == odd.as_os_str().as_encoded_bytes()).unwrap();
    assert_eq!(found.source.as_deref(), Some(&b"a source with blanks"[..]));
    assert_eq!(found.fs_type, "tmpfs");
    assert_eq!(found.attributes, attributes);
    assert!(found.peer_group.is_some() && !found.fs_readonly);
    // Others are of the kernel's configuration: Debian's adds `inode64`.
    let options = String::from_utf8(found.options.clone().unwrap()).unwrap();
    assert!(options.split(',').any(|option| option == "size=1024k"), "{options}");
    same(old, new);
    unmount(&odd, UnmountFlags::DETACH).unwrap();
}

#[test]
fn another_namespace_is_listed_both_ways() {
    private_mounts();
    let (started, is_started) = std::sync::mpsc::channel();
    let (end, is_ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        private_mounts();
        let context = FsContext::open("tmpfs").unwrap();
        context.string("source", "only-there").unwrap();
        context.create().unwrap();
        let tree = context.mount(MountAttrFlags::empty()).unwrap();
        linux::mount::attach(tree, directory(std::path::Path::new("/mnt"))).unwrap();
        started.send(rustix::thread::gettid()).unwrap();
        is_ended.recv().unwrap_err();
    });
    let thread_id = is_started.recv().unwrap();
    let old = list(Some(thread_id), &Features::floor()).unwrap();
    let new = list(Some(thread_id), Features::get()).unwrap();
    let own = list(None, Features::get()).unwrap();
    drop(end);
    thread.join().unwrap();
    let there = |mounts: &[Mount]| mounts.iter().any(|mount| mount.source.as_deref() == Some(b"only-there"));
    assert!(there(&old) && there(&new) && !there(&own));
    same(old, new);
}

#[test]
fn what_is_beneath_a_mount_is_found_both_ways() {
    private_mounts();
    let scratch = tempfile::tempdir().unwrap();
    let (outer, inner) = (tmpfs(), tmpfs());
    mkdir(&outer, "inner");
    linux::mount::attach(&outer, directory(scratch.path())).unwrap();
    let path = scratch.path().join("inner");
    for features in [Features::floor(), *Features::get()] {
        assert_eq!(beneath(&outer, &features).unwrap(), None);
    }
    linux::mount::attach(&inner, directory(&path)).unwrap();
    for features in [Features::floor(), *Features::get()] {
        let found = beneath(&outer, &features).unwrap().unwrap();
        assert_eq!(found.mountpoint, path.as_os_str().as_encoded_bytes());
        assert_eq!(beneath(&inner, &features).unwrap(), None);
    }
    unmount(scratch.path(), UnmountFlags::DETACH).unwrap();
}
