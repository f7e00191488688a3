//! A rootfs: made, used, destroyed, and destroyed after every kind of crash.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

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

/// Mounts beneath `subcontainers`, itself included.
fn mounts_under(data: &Data) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = data.path().join("subcontainers").display().to_string();
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

#[test]
fn s12_a_guid_is_a_plain_name_and_used_once() {
    let data = Data::new();
    small(&data);
    let create = |guid: &str| {
        Rootfs::create(&data.store, "small", Options { guid: Some(guid.to_owned()), ..Options::default() })
    };
    for guid in ["", "..", "../x", "a/b", "-x", "a.b", &"x".repeat(65)] {
        assert!(matches!(create(guid), Err(Error::BadGuid(_))), "{guid}");
        assert!(matches!(Rootfs::destroy(&data.path(), guid), Err(Error::BadGuid(_))), "{guid}");
    }
    create("mine").unwrap();
    assert!(matches!(create("mine"), Err(Error::RootfsExists(_))));
    assert_eq!(fs::read_to_string(data.path().join("subcontainers/mine/etc/motd")).unwrap(), "hello");
    assert!(matches!(Rootfs::create(&data.store, "other", Options::default()), Err(Error::UnknownImage(_))));
    assert_eq!(Rootfs::list(&data.path()).unwrap().len(), 1);
}

#[test]
fn s12_destroy_finishes_what_was_cut_off_at_any_step() {
    let data = Data::new();
    small(&data);
    let dir = data.path();
    let at = |path: &str| dir.join(path);
    let create = || {
        Rootfs::create(&data.store, "small", Options { guid: Some("g".to_owned()), ..Options::default() })
            .unwrap()
    };
    let unmount =
        || rustix::mount::unmount(at("subcontainers/g"), rustix::mount::UnmountFlags::DETACH).unwrap();
    let remove = |path: &str| match at(path) {
        path if path.is_dir() => fs::remove_dir_all(path).unwrap(),
        path => fs::remove_file(path).unwrap(),
    };
    let cuts: &[(&str, &dyn Fn())] = &[
        ("created whole", &|| {}),
        ("before the record", &|| {
            unmount();
            for path in ["rootfs/g/upper", "rootfs/g/work", "rootfs/g/rootfs.json", "subcontainers/g"] {
                remove(path);
            }
        }),
        ("in the middle of the record", &|| {
            unmount();
            fs::write(at("rootfs/g/rootfs.json"), "{\"guid\":").unwrap();
        }),
        ("after the record", &|| {
            unmount();
            for path in ["rootfs/g/upper", "rootfs/g/work", "subcontainers/g"] {
                remove(path);
            }
        }),
        ("before the mount point", &|| {
            unmount();
            remove("subcontainers/g");
        }),
        ("before attaching", &unmount),
        ("a record being replaced", &|| fs::write(at("rootfs/g/rootfs.json.new"), "x").unwrap()),
        ("destroyed up to the upper directory", &|| {
            unmount();
            remove("subcontainers/g");
            remove("rootfs/g/work");
        }),
        ("destroyed up to the record", &|| {
            unmount();
            for path in ["subcontainers/g", "rootfs/g/work", "rootfs/g/upper"] {
                remove(path);
            }
        }),
        ("destroyed up to the directory", &|| {
            unmount();
            for path in ["subcontainers/g", "rootfs/g/work", "rootfs/g/upper", "rootfs/g/rootfs.json"] {
                remove(path);
            }
        }),
        ("only the mount point is left", &|| {
            unmount();
            remove("rootfs/g");
        }),
        ("mounted twice", &|| {
            let again = std::process::Command::new("mount")
                .args(["-t", "tmpfs", "x"])
                .arg(at("subcontainers/g"))
                .status();
            assert!(again.unwrap().success());
        }),
    ];
    for (what, cut) in cuts {
        create();
        cut();
        let known = Rootfs::list(&dir).unwrap().len() + Rootfs::remnants(&dir).unwrap().len();
        assert_eq!(known, 1, "{what}: it can be found");
        Rootfs::destroy(&dir, "g").unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
        Rootfs::destroy(&dir, "g").unwrap_or_else(|error| panic!("{what}, again: {}", chain(&error)));
        assert!(!at("rootfs/g").exists() && !at("subcontainers/g").exists(), "{what}");
        assert_eq!(mounts_under(&data), 0, "{what}");
    }
    // And all of it may be missing.
    Rootfs::destroy(&dir, "never-was").unwrap();
    Rootfs::destroy(&dir.join("no-such-directory"), "never-was").unwrap();
}

/// Where the test below is told to create and destroy for ever, when it runs as somebody's child.
const CHILD: &str = "IMAGES_TEST_CYCLE";

#[test]
fn s12_create_and_destroy_in_a_process_of_its_own() {
    let cycle = |dir: &std::path::Path, throwaway| {
        let store = images::Store::open(dir).unwrap();
        let rootfs = Rootfs::create(&store, "small", Options { throwaway, ..Options::default() }).unwrap();
        fs::write(rootfs.path().join("etc/motd"), "changed").unwrap();
        Rootfs::destroy(dir, rootfs.guid()).unwrap();
    };
    match std::env::var(CHILD) {
        Ok(dir) => loop {
            cycle(dir.as_ref(), true);
            cycle(dir.as_ref(), false);
        },
        Err(_) => {
            let data = Data::new();
            small(&data);
            cycle(&data.path(), true);
        }
    }
}

#[test]
fn s12_killed_at_random_moments_everything_can_be_taken_away() {
    let data = Data::new();
    small(&data);
    let dir = data.path();
    let exe = std::env::current_exe().unwrap();
    let mut found = 0;
    for round in 0..40_u64 {
        let mut child = std::process::Command::new(&exe)
            .args(["--exact", "s12_create_and_destroy_in_a_process_of_its_own"])
            .env(CHILD, &dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(15_000 + round * 777));
        child.kill().unwrap();
        child.wait().unwrap();
        let guids: Vec<String> =
            Rootfs::list(&dir).unwrap().iter().map(|rootfs| rootfs.guid().to_owned()).collect();
        for guid in guids.into_iter().chain(Rootfs::remnants(&dir).unwrap()) {
            found += 1;
            Rootfs::destroy(&dir, &guid).unwrap();
        }
        assert_eq!(mounts_under(&data), 0);
        assert_eq!(fs::read_dir(dir.join("subcontainers")).unwrap().count(), 0);
        assert!(fs::read_dir(dir.join("rootfs")).unwrap().all(|entry| entry.unwrap().file_name() == "lock"));
    }
    assert!(found > 5, "the kills came at the wrong moments: {found}");
}

#[test]
fn s11_a_handle_is_on_the_mounted_tree_or_there_is_none() {
    let data = Data::new();
    small(&data);
    let rootfs = Rootfs::create(&data.store, "small", Options::default()).unwrap();
    let beneath = {
        rustix::mount::unmount(rootfs.path(), rustix::mount::UnmountFlags::empty()).unwrap();
        let directory = fs::metadata(rootfs.path()).unwrap();
        rootfs.ensure_mounted().unwrap();
        directory.dev()
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asks = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if let Ok(handle) = rootfs.handle() {
                    // A file made through it would lie in the data directory.
                    assert_ne!(rustix::fs::fstat(handle).unwrap().st_dev, beneath);
                }
            }
        });
        for _ in 0..300 {
            rustix::mount::unmount(rootfs.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
            rootfs.ensure_mounted().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        asks.join().unwrap();
    });
    Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
}

#[test]
fn s12_a_persistent_rootfs_is_mounted_again_with_what_was_written() {
    let data = Data::new();
    small(&data);
    let create = |throwaway| {
        Rootfs::create(&data.store, "small", Options { throwaway, ..Options::default() }).unwrap()
    };
    let (kept, lost) = (create(false), create(true));
    for rootfs in [&kept, &lost] {
        fs::write(rootfs.path().join("etc/written"), "yes").unwrap();
        // As after the machine was restarted; a detached overlay is cleanly unmounted, so the mark that it was not
        // is put back.
        rustix::mount::unmount(rootfs.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    fs::create_dir_all(data.path().join("rootfs").join(lost.guid()).join("work/work/incompat/volatile"))
        .unwrap();
    let kept = Rootfs::open(&data.path(), kept.guid()).unwrap();
    assert!(kept.handle().is_err());
    kept.ensure_mounted().unwrap();
    kept.ensure_mounted().unwrap();
    assert_eq!(fs::read_to_string(kept.path().join("etc/written")).unwrap(), "yes");
    let stat = rustix::fs::fstat(kept.handle().unwrap()).unwrap();
    assert_eq!(stat.st_ino, fs::metadata(kept.path()).unwrap().ino());
    let lost = Rootfs::open(&data.path(), lost.guid()).unwrap();
    assert!(matches!(lost.ensure_mounted(), Err(Error::Lost(_))));
    Rootfs::destroy(&data.path(), lost.guid()).unwrap();
}

#[test]
fn s12_mounts_are_recorded_in_order_and_whole() {
    use protocol::subcontainer::{Mount, MountSource};
    let data = Data::new();
    small(&data);
    let rootfs = Rootfs::create(&data.store, "small", Options::default()).unwrap();
    let guid = rootfs.guid().to_owned();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let (data, guid) = (&data, &guid);
            scope.spawn(move || {
                let mount = Mount {
                    source: MountSource::Tmpfs { size: Some(number), mode: None },
                    mountpoint: format!("/m{number}"),
                    readonly: false,
                    idmap: Vec::new(),
                };
                let rootfs = Rootfs::open(&data.path(), guid).unwrap();
                rootfs
                    .update_mounts::<_, Error>(|mounts| {
                        mounts.push(mount);
                        Ok(())
                    })
                    .unwrap();
            });
        }
    });
    assert_eq!(rootfs.mounts().unwrap().len(), 20);
    let refused: Result<(), Error> = rootfs.update_mounts(|mounts| {
        mounts.clear();
        Err(Error::Cancelled)
    });
    refused.unwrap_err();
    assert_eq!(Rootfs::open(&data.path(), &guid).unwrap().mounts().unwrap().len(), 20);
}

fn mount(args: &[&str]) {
    let output = std::process::Command::new("mount").args(args).output().unwrap();
    assert!(output.status.success(), "mount {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn s12_mounts_of_others_beneath_are_taken_away_and_their_originals_are_not() {
    let data = Data::new();
    small(&data);
    // Something like the machine's /dev: shared, with a mount in it.
    let original = data.dir.path().join("dev");
    fs::create_dir(&original).unwrap();
    let text = |path: &std::path::Path| path.display().to_string();
    let name = text(&original);
    mount(&["-t", "tmpfs", "x", &name]);
    mount(&["--make-shared", &name]);
    for inner in ["pts", "with space"] {
        fs::create_dir(original.join(inner)).unwrap();
        mount(&["-t", "tmpfs", "x", &text(&original.join(inner))]);
    }
    fs::write(original.join("pts/alive"), "").unwrap();
    let rootfs = Rootfs::create(&data.store, "small", Options::default()).unwrap();
    let target = rootfs.path().join("dev");
    fs::create_dir(&target).unwrap();
    mount(&["--rbind", &name, &text(&target)]);
    // Busy as well: a handle is open inside.
    let busy = fs::File::open(target.join("pts")).unwrap();
    assert!(target.join("pts/alive").exists());
    Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
    assert_eq!(mounts_under(&data), 0);
    assert!(original.join("pts/alive").exists(), "the original's own mount was taken away");
    drop(busy);
    for path in ["pts", "with space", "."] {
        rustix::mount::unmount(original.join(path), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn s12_a_mount_made_beneath_reaches_a_namespace_that_was_cloned_from_it() {
    let data = Data::new();
    small(&data);
    let rootfs = Rootfs::create(&data.store, "small", Options::default()).unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = |path: &std::path::Path| {
        table.lines().find(|line| line.contains(&format!(" {} ", path.display()))).unwrap().to_owned()
    };
    assert!(line(&rootfs.path()).contains(" shared:"), "the rootfs has a peer group");
    assert!(!line(&data.path().join("subcontainers")).contains("shared:"), "and what holds it has none");
    assert!(line(&rootfs.path()).contains("nodev"));
}

#[test]
fn s12_whatever_a_container_left_is_removed() {
    use rustix::fs::{CWD, FileType, IFlags, Mode};
    let data = Data::new();
    small(&data);
    let outside = data.file("outside", b"untouched");
    for throwaway in [true, false] {
        let rootfs =
            Rootfs::create(&data.store, "small", Options { throwaway, ..Options::default() }).unwrap();
        let root = rootfs.path();
        // Deeper than any path can say, with more levels than there may be descriptors.
        let mut dir = rustix::fs::open(&root, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&dir, "deeper-and-deeper", Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, "deeper-and-deeper", rustix::fs::OFlags::PATH, Mode::empty())
                .unwrap();
        }
        drop(dir);
        let wide = root.join("wide");
        fs::create_dir(&wide).unwrap();
        for number in 0..3000 {
            fs::write(wide.join(format!("{number}")), "").unwrap();
        }
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        std::os::unix::fs::symlink(data.dir.path(), root.join("etc/link")).unwrap();
        rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        rustix::fs::mknodat(
            CWD,
            root.join("null"),
            FileType::CharacterDevice,
            Mode::RWXU,
            rustix::fs::makedev(1, 3),
        )
        .unwrap();
        fs::remove_file(root.join("etc/motd")).unwrap();
        fs::set_permissions(&wide, fs::Permissions::from_mode(0o0)).unwrap();
        let marked = root.join("marked");
        fs::create_dir(&marked).unwrap();
        fs::write(marked.join("file"), "x").unwrap();
        for path in [marked.join("file"), marked] {
            let handle = fs::File::open(&path).unwrap();
            rustix::fs::ioctl_setflags(&handle, IFlags::IMMUTABLE).unwrap();
        }
        Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
        assert!(!data.path().join("rootfs").join(rootfs.guid()).exists());
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
}

#[test]
fn s12_ten_thousand_throw_away_rootfs_leave_nothing() {
    let data = Data::in_memory("size=64m");
    small(&data);
    let handles = || fs::read_dir("/proc/self/fd").unwrap().count();
    let memory = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let cycle = || {
        let rootfs =
            Rootfs::create(&data.store, "small", Options { throwaway: true, ..Options::default() }).unwrap();
        Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
    };
    for _ in 0..100 {
        cycle();
    }
    let before = (data.tree(), handles(), mounts_under(&data));
    let resident = memory();
    for _ in 0..10_000 {
        cycle();
    }
    assert_eq!((data.tree(), handles(), mounts_under(&data)), before);
    assert!(memory() < resident + 2048, "{resident} -> {} KB", memory());
}

#[test]
fn s12_many_layers_and_many_rootfs_at_once() {
    use common::{Layer, Layout, Tar};
    let data = Data::new();
    let layers = (0..130).map(|number| {
        Layer::gzip(
            &Tar::new().file(&format!("f{number}"), b"x").file("same", number.to_string().as_bytes()).end(),
        )
    });
    let layout = Layout::new(layers.collect());
    data.import(&data.file("many.tar", &layout.archive()), Some("many")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let rootfs = Rootfs::create(
                        &data.store,
                        "many",
                        Options { throwaway: true, ..Options::default() },
                    )
                    .unwrap();
                    assert_eq!(fs::read_to_string(rootfs.path().join("same")).unwrap(), "129");
                    assert!(rootfs.path().join("f0").exists());
                    Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
                }
            });
        }
    });
    assert_eq!(mounts_under(&data), 0);
}

#[test]
fn s12_more_layers_than_overlay_takes_is_an_error_that_says_so() {
    use common::{Layer, Layout, Tar};
    let data = Data::with(images::Limits { layers: 600, ..images::Limits::default() });
    let layers = (0..501).map(|number| Layer::plain(Tar::new().file(&format!("f{number}"), b"x").end()));
    let image =
        data.import(&data.file("many.tar", &Layout::new(layers.collect()).archive()), Some("many")).unwrap();
    let error = Rootfs::create(&data.store, "many", Options::default()).unwrap_err();
    assert_eq!(chain(&error), format!("image {} has 501 layers, and overlay takes 500", image.digest));
    assert!(Rootfs::list(&data.path()).unwrap().is_empty());
    let layers = (0..500).map(|number| Layer::plain(Tar::new().file(&format!("f{number}"), b"x").end()));
    data.import(&data.file("most.tar", &Layout::new(layers.collect()).archive()), Some("most")).unwrap();
    let rootfs = Rootfs::create(&data.store, "most", Options::default()).unwrap();
    assert!(rootfs.path().join("f0").exists() && rootfs.path().join("f499").exists());
}

#[test]
fn s12_the_mount_that_holds_them_is_private_and_goes_with_the_last() {
    let data = Data::new();
    small(&data);
    // As on a machine where everything is shared.
    let base = data.dir.path().display().to_string();
    mount(&["--bind", &base, &base]);
    mount(&["--make-shared", &base]);
    let line = |path: &std::path::Path| {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().find(|line| line.contains(&format!(" {} ", path.display()))).map(str::to_owned)
    };
    let point = data.path().join("subcontainers");
    let create = || Rootfs::create(&data.store, "small", Options::default()).unwrap();
    let (one, two) = (create(), create());
    assert!(!line(&point).unwrap().contains("shared:"), "{:?}", line(&point));
    Rootfs::destroy(&data.path(), one.guid()).unwrap();
    assert!(line(&point).is_some() && two.path().join("etc/motd").exists());
    Rootfs::destroy(&data.path(), two.guid()).unwrap();
    assert_eq!(line(&point), None);
    // A file system that the operator put there stays.
    mount(&["-t", "tmpfs", "theirs", &point.display().to_string()]);
    let three = create();
    assert!(!line(&point).unwrap().contains("shared:"), "{:?}", line(&point));
    Rootfs::destroy(&data.path(), three.guid()).unwrap();
    assert!(line(&point).unwrap().contains("theirs"));
    rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH).unwrap();
    rustix::mount::unmount(data.dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn s12_first_and_last_race_without_losing_a_rootfs() {
    let data = Data::new();
    small(&data);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let options = Options { throwaway: true, ..Options::default() };
                    let rootfs = Rootfs::create(&data.store, "small", options).unwrap();
                    assert!(rootfs.path().join("etc/motd").exists(), "mounted where nobody sees it");
                    Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
                }
            });
        }
    });
    assert_eq!(mounts_under(&data), 0);
}
