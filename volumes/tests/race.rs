//! CVE-2021-30465 and its kin: a directory on the way to the mountpoint is exchanged with a link to the outside while
//! mounts are made.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use linux::kernel::Features;
use protocol::subcontainer::FileType;
use rustix::fs::{CWD, RenameFlags, renameat_with};

#[test]
fn s14_exchanged_links_never_move_a_mount_outside() {
    let world = World::new(On::Tmpfs);
    fs::create_dir_all(world.outside.join("victim")).unwrap();
    fs::create_dir_all(world.inside("real")).unwrap();
    symlink("..", world.inside("swap")).unwrap();
    fs::create_dir(world.inside("real/victim")).unwrap();
    let (real, swap) = (world.inside("real"), world.inside("swap"));
    let before = linux::mounts::list(None, Features::get()).unwrap().len();
    let done = AtomicBool::new(false);
    let (mut attached, mut in_the_way, mut astray) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &swap, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for round in 0..2000 {
            let (source, mountpoint) = match round % 4 {
                0 => (volume("main"), "/real/victim".to_owned()),
                1 => (volume("main"), format!("/real/new-{round}/deep")),
                2 => (volume_at("main", "file", FileType::File), format!("/real/file-{round}")),
                _ => (tmpfs(), "/swap/victim".to_owned()),
            };
            let prepared = world.sources.prepare(&at(source, &mountpoint), None).unwrap();
            if let Err(error) = volumes::attach(&prepared, &world.rootfs, &mountpoint) {
                // The exchange may make it fail; it may not make it succeed elsewhere.
                in_the_way += 1;
                assert!(error.errno().is_some(), "{error:?}");
                continue;
            }
            attached += 1;
            // The control: whoever looks the same path up from outside the rootfs is led astray.
            if let Ok(found) =
                fs::metadata(world.inside(&mountpoint)).or_else(|_| fs::metadata(world.inside("real/victim")))
                && found.dev() == fs::metadata(&world.outside).unwrap().dev()
            {
                astray += 1;
            }
            let mounts = linux::mounts::list(None, Features::get()).unwrap();
            let id = linux::mount::identify(&prepared).unwrap().mount;
            let ours = mounts.iter().find(|mount| mount.id == id).unwrap();
            let inside = world.rootfs_path.as_os_str().as_encoded_bytes();
            assert!(
                ours.mountpoint.starts_with(inside) && ours.mountpoint.get(inside.len()) == Some(&b'/'),
                "mounted on {}",
                String::from_utf8_lossy(&ours.mountpoint)
            );
            // Wherever in the rootfs it landed.
            linux::mount::detach(&prepared).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(attached > 500, "{attached} attached, {in_the_way} failed");
    assert!(astray > 0, "the links were never in the way: this test shows nothing");
    assert_eq!(linux::mounts::list(None, Features::get()).unwrap().len(), before);
    assert_eq!(fs::read_dir(world.outside.join("victim")).unwrap().count(), 0);
    for entry in fs::read_dir(&world.outside).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(["data", "rootfs", "victim"].contains(&name.as_str()), "{name} was made outside");
    }
}
