//! Read-only is read-only, for every kind; devices are no devices.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;

use common::*;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

#[test]
fn s14_readonly_holds_for_every_kind_with_and_without_an_id_map() {
    for &on in everywhere_mapped() {
        let world = World::new(on);
        fs::create_dir_all(world.stored("volumes/main")).unwrap();
        for directory in ["volumes/main", "assets", "packages/dep/volumes/main", "backup"] {
            fs::write(world.stored(directory).join("file"), "unchanged").unwrap();
        }
        for source in every_kind() {
            for maps in [&[][..], &[(0, 1000, 1)]] {
                let mount = mapped(readonly(at(source.clone(), "/mnt")), maps);
                world.mount(&mount).unwrap();
                let attributes = mount_at(&world.inside("mnt")).attributes;
                assert!(attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY), "{source:?}");
                let inside = world.inside("mnt").display().to_string();
                let all = ["touch new", "chmod 777 .", "mkdir d", "chown 5 .", "echo x >> file", "rm file"];
                // A tmpfs has no file to begin with.
                let scripts = if source == tmpfs() { &all[..4] } else { &all[..] };
                for script in scripts {
                    let error = sh(0, &format!("cd {inside} && {script}")).unwrap_err();
                    assert!(error.contains("Read-only file system"), "{script} {source:?}: {error}");
                }
                world.unmount("/mnt").unwrap();
            }
        }
        assert_eq!(fs::read_to_string(world.stored("volumes/main/file")).unwrap(), "unchanged");
    }
}

#[test]
fn s14_assets_are_readonly_unasked_and_the_rest_is_not() {
    let world = World::new(On::Disk);
    for source in every_kind() {
        world.mount(&at(source.clone(), "/mnt")).unwrap();
        let written = fs::write(world.inside("mnt/new"), "");
        let is_assets = source == assets();
        assert_eq!(written.is_err(), is_assets, "{source:?}");
        if is_assets {
            assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        }
        world.unmount("/mnt").unwrap();
    }
}

#[test]
fn s14_volume_stays_readonly_while_another_mount_of_it_is_writable() {
    let world = World::new(On::Disk);
    world.mount(&at(volume("main"), "/rw")).unwrap();
    world.mount(&readonly(at(volume("main"), "/ro"))).unwrap();
    fs::write(world.inside("rw/file"), "seen").unwrap();
    assert_eq!(fs::read_to_string(world.inside("ro/file")).unwrap(), "seen");
    assert!(fs::write(world.inside("ro/file"), "x").is_err());
}

#[test]
fn s14_a_device_file_on_a_volume_is_no_device() {
    let world = World::new(On::Disk);
    for source in [volume("main"), backup(), pointer("dep", "main"), tmpfs()] {
        world.mount(&at(source.clone(), "/mnt")).unwrap();
        let device = world.inside("mnt/null");
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &device, kind, mode, rustix::fs::makedev(1, 3)).unwrap();
        assert_eq!(fs::read(&device).unwrap_err().raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
        world.unmount("/mnt").unwrap();
    }
}
