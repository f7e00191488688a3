//! `bind-mount`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::*;
use protocol::error::ErrorKind;
use volumes::{BindOptions, bind, parse_id_map};

#[test]
fn s3_a_directory_and_a_file_are_bound() {
    let world = World::new(On::Disk);
    let source = world.stored("backup");
    fs::write(source.join("file"), "text").unwrap();
    let target = world.inside("a/b");
    bind(&source, &target, &BindOptions::default()).unwrap();
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "text");
    let target = world.inside("c/file");
    let options = BindOptions { file: true, ..BindOptions::default() };
    bind(&source.join("file"), &target, &options).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "text");
    let error = bind(&source, &world.inside("d"), &options).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is not a file", source.display()));
    let error = bind(&source.join("none"), &world.inside("d"), &options).unwrap_err();
    assert_eq!((error.step(), error.kind()), ("open mount source", ErrorKind::NotFound));
    assert!(!world.inside("d").exists());
}

#[test]
fn s3_recursive_and_readonly_reach_what_is_beneath() {
    let world = World::new(On::Disk);
    let source = world.stored("backup");
    fs::create_dir(source.join("inner")).unwrap();
    mount_tmpfs(&source.join("inner"));
    fs::write(source.join("inner/deep"), "").unwrap();
    let (plain, deep) = (world.inside("plain"), world.inside("deep"));
    bind(&source, &plain, &BindOptions::default()).unwrap();
    assert!(!plain.join("inner/deep").exists());
    let options = BindOptions { recursive: true, readonly: true, ..BindOptions::default() };
    bind(&source, &deep, &options).unwrap();
    assert!(deep.join("inner/deep").exists());
    for path in [deep.join("x"), deep.join("inner/x")] {
        assert_eq!(fs::write(path, "").unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    fs::write(source.join("inner/still-writable"), "").unwrap();
    linux::mount::detach(open(&source.join("inner"))).unwrap();
}

#[test]
fn s3_id_maps_of_the_command_line_are_those_of_the_sdk() {
    let world = World::new(On::Disk);
    let source = world.stored("backup");
    fs::write(source.join("a"), "").unwrap();
    chown(&source.join("a"), 1005);
    let idmap = vec![parse_id_map("0:70").unwrap(), parse_id_map("1000:2000:10").unwrap()];
    bind(&source, &world.inside("t"), &BindOptions { idmap, ..BindOptions::default() }).unwrap();
    assert_eq!(owner(&world.inside("t")), (70, 70));
    assert_eq!(owner(&world.inside("t/a")), (2005, 2005));
    let idmap = vec![parse_id_map("0:70:5").unwrap(), parse_id_map("4:100").unwrap()];
    let error =
        bind(&source, &world.inside("u"), &BindOptions { idmap, ..BindOptions::default() }).unwrap_err();
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "id maps 0:70:5 and 4:100:1 overlap in the source"
    );
}

#[test]
fn s11_with_a_root_the_target_stays_in_it() {
    let world = World::new(On::Disk);
    fs::create_dir(world.outside.join("victim")).unwrap();
    symlink(world.outside.join("victim"), world.inside("link")).unwrap();
    let source = world.stored("backup");
    let options = BindOptions { root: Some(world.rootfs_path.clone()), ..BindOptions::default() };
    bind(&source, Path::new("/link/x"), &options).unwrap();
    assert_eq!(fs::read_dir(world.outside.join("victim")).unwrap().count(), 0);
    let inside = world.inside(world.outside.join("victim/x").to_str().unwrap());
    mount_at(&inside);
    // The operator's own links are followed.
    bind(&source, &world.inside("link/y"), &BindOptions::default()).unwrap();
    mount_at(&world.outside.join("victim/y"));
}
