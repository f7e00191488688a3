//! What an id map means on the real kernel: for files that are there, for those that are made, and for ids that no
//! range gives a number.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;

use common::*;
use protocol::error::ErrorKind;

/// Files of these owners, stored in the volume `main`.
fn world_with(on: On, owners: &[u32]) -> World {
    let world = World::new(on);
    let directory = world.stored("volumes/main");
    fs::create_dir_all(&directory).unwrap();
    for owner in owners {
        fs::write(directory.join(owner.to_string()), "").unwrap();
        chown(&directory.join(owner.to_string()), *owner);
    }
    world
}

#[test]
fn s14_from_id_on_the_source_appears_as_to_id_inside() {
    for &on in everywhere_mapped() {
        let world = world_with(on, &[0, 5, 999, 1000, 1001, 1002, 70]);
        world.mount(&mapped(at(volume("main"), "/mnt"), &[(1000, 70, 2)])).unwrap();
        for (stored, seen) in [
            (0, 0),
            (5, 5),
            (999, 999),
            (1000, 70),
            (1001, 71),
            (1002, 1002),
            // 70 appears as nobody: its number is given to 1000.
            (70, 65534),
        ] {
            assert_eq!(owner(&world.inside("mnt").join(stored.to_string())), (seen, seen), "{stored}");
        }
    }
}

#[test]
fn s14_what_is_made_inside_as_to_id_is_stored_as_from_id() {
    for &on in everywhere_mapped() {
        let world = world_with(on, &[]);
        world.mount(&mapped(at(volume("main"), "/mnt"), &[(0, 70, 1), (100_000, 1000, 10)])).unwrap();
        // The volume's root, stored as root's, is 70's inside: the point of the map.
        let inside = world.inside("mnt");
        assert_eq!(owner(&inside), (70, 70));
        sh(70, &format!("touch {0}/a && mkdir {0}/d && ln -s a {0}/l && chmod 777 {0}", inside.display()))
            .unwrap();
        sh(1003, &format!("touch {}/b", inside.display())).unwrap();
        sh(1234, &format!("touch {}/c", inside.display())).unwrap();
        for (name, seen, stored) in
            [("a", 70, 0), ("d", 70, 0), ("l", 70, 0), ("b", 1003, 100_003), ("c", 1234, 1234)]
        {
            assert_eq!(owner(&inside.join(name)), (seen, seen), "{name}");
            assert_eq!(owner(&world.stored("volumes/main").join(name)), (stored, stored), "{name}");
        }
    }
}

#[test]
fn s14_chown_inside_is_stored_mapped_and_nobody_cannot_be_stored() {
    for &on in everywhere_mapped() {
        let world = world_with(on, &[1]);
        world.mount(&mapped(at(volume("main"), "/mnt"), &[(1000, 70, 1)])).unwrap();
        let file = world.inside("mnt/1");
        chown(&file, 70);
        assert_eq!(owner(&world.stored("volumes/main/1")), (1000, 1000));
        // 1000 is given away and nothing appears as it.
        let error = std::os::unix::fs::lchown(&file, Some(1000), None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(75), "EOVERFLOW: {error}");
        assert_eq!(owner(&world.stored("volumes/main/1")), (1000, 1000));
    }
}

#[test]
fn s14_who_has_no_id_in_the_source_can_make_nothing_there() {
    for &on in everywhere_mapped() {
        let world = world_with(on, &[]);
        world.mount(&mapped(at(volume("main"), "/mnt"), &[(0, 70, 1)])).unwrap();
        // Root inside is nobody on the source: 0 is given to 70. Not even root gets past it.
        let error = sh(0, &format!("touch {}/file", world.inside("mnt").display())).unwrap_err();
        assert!(error.contains("Value too large"), "EOVERFLOW: {error}");
        assert_eq!(fs::read_dir(world.stored("volumes/main")).unwrap().count(), 0);
    }
}

#[test]
fn s14_what_we_make_on_the_source_belongs_to_root_inside() {
    use protocol::subcontainer::FileType;
    let world = World::new(On::Disk);
    let maps = [(1000, 0, 1)];
    world.mount(&mapped(at(volume("new"), "/a"), &maps)).unwrap();
    assert_eq!(owner(&world.stored("volumes/new")), (1000, 1000));
    assert_eq!(owner(&world.inside("a")), (0, 0));
    for (subpath, filetype) in [("d/e", FileType::Directory), ("f/g", FileType::File)] {
        let mount = mapped(at(volume_at("new", subpath, filetype), &format!("/{subpath}")), &maps);
        world.mount(&mount).unwrap();
        assert_eq!(owner(&world.inside(subpath)), (0, 0), "{subpath}");
    }
    // Where nobody inside is root on the source, root makes it, and it appears as whom the map says.
    world.mount(&mapped(at(volume("other"), "/b"), &[(0, 70, 1)])).unwrap();
    assert_eq!(owner(&world.inside("b")), (70, 70));
}

#[test]
fn s14_every_kind_takes_an_id_map() {
    for &on in everywhere_mapped() {
        let world = world_with(on, &[0]);
        for source in every_kind() {
            world.mount(&mapped(at(source.clone(), "/mnt"), &[(0, 70, 1)])).unwrap();
            assert_eq!(owner(&world.inside("mnt")), (70, 70), "{source:?}");
            if source != assets() {
                sh(70, &format!("touch {}/file", world.inside("mnt").display())).unwrap();
                assert_eq!(owner(&world.inside("mnt/file")), (70, 70), "{source:?}");
            }
            world.unmount("/mnt").unwrap();
        }
        for stored in ["volumes/main/file", "backup/file", "packages/dep/volumes/main/file"] {
            assert_eq!(owner(&world.stored(stored)), (0, 0), "{stored}");
        }
    }
}

#[test]
fn s14_one_volume_under_two_maps_at_once() {
    let world = world_with(On::Disk, &[0]);
    world.mount(&mapped(at(volume("main"), "/a"), &[(0, 70, 1)])).unwrap();
    world.mount(&mapped(at(volume("main"), "/b"), &[(0, 999, 1)])).unwrap();
    world.mount(&at(volume("main"), "/c")).unwrap();
    for (path, seen) in [("a/0", 70), ("b/0", 999), ("c/0", 0)] {
        assert_eq!(owner(&world.inside(path)), (seen, seen));
    }
}

#[test]
fn s14_bad_id_maps_are_refused_before_anything_is_made() {
    let world = World::new(On::Disk);
    for source in [volume("new"), tmpfs()] {
        for maps in [&[(0, 5, 0)][..], &[(0, 5, 2), (1, 9, 1)], &[(0, 5, 2), (9, 6, 1)], &[(u32::MAX, 0, 1)]]
        {
            let error = world.mount(&mapped(at(source.clone(), "/mnt"), maps)).unwrap_err();
            assert_eq!((error.step(), error.kind()), ("check id map", ErrorKind::Invalid));
            assert!(std::error::Error::source(&error).unwrap().to_string().contains("id map"));
        }
    }
    assert!(!world.stored("volumes/new").exists() && !world.inside("mnt").exists());
}

#[test]
fn s14_a_file_system_without_id_maps_is_named() {
    let world = World::new(On::Disk);
    let assets_path = world.stored("assets");
    // procfs has none, and never will.
    let proc = linux::proc::Procfs::detached().unwrap();
    linux::mount::attach(&proc, open(&assets_path)).unwrap();
    let error = world.mount(&mapped(at(assets(), "/mnt"), &[(0, 70, 1)])).unwrap_err();
    assert_eq!(error.to_string(), "set the id map of assets: its file system may not support any");
    linux::mount::detach(open(&assets_path)).unwrap();
}

#[test]
fn many_different_maps_leave_no_descriptors_behind() {
    let world = world_with(On::Disk, &[0]);
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    let mut after_some = 0;
    for round in 0..200 {
        world.mount(&mapped(at(volume("main"), "/mnt"), &[(0, 100 + round, 1)])).unwrap();
        world.unmount("/mnt").unwrap();
        if round == 50 {
            after_some = count();
        }
    }
    assert_eq!(count(), after_some);
}
