//! The store: names, sharing, removal, and what a crash or a full disk leaves.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Data, Layer, Layout, Tar, chain};
use images::rootfs::Options;
use images::{Cancel, Error, Progress, Rootfs, Silent, Store};
use protocol::ErrorKind;

fn layer(name: &str, size: usize) -> Layer {
    Layer::gzip(&Tar::new().dir("d").file(&format!("d/{name}"), &vec![b'x'; size]).end())
}

/// An image on a layer that all have, with one of its own.
fn image(data: &Data, name: &str) -> PathBuf {
    let layout = Layout::new(vec![layer("base", 5000), layer(name, 300)]);
    data.file(&format!("{name}.tar"), &layout.archive())
}

#[test]
fn i3_images_are_found_by_name_digest_and_beginning() {
    let data = Data::new();
    let one = data.import(&image(&data, "one"), None).unwrap();
    let two = data.import(&image(&data, "two"), Some("reg/two:1")).unwrap();
    assert_eq!(one.names, ["one"]);
    let hex = one.digest.strip_prefix("sha256:").unwrap();
    for way in ["one", &one.digest, hex, &hex[..20], &one.digest[..20]] {
        assert_eq!(data.store.get(way).unwrap(), one, "{way}");
    }
    assert_eq!(data.store.list().unwrap(), [one.clone(), two.clone()], "oldest first");
    for unknown in ["", "three", "sha256:", "../store/names", "sha256:ffffffffffffffffffff"] {
        let error = data.store.get(unknown).unwrap_err();
        assert!(matches!(error, Error::UnknownImage(_)), "{unknown}: {error:?}");
        assert_eq!((error.kind(), chain(&error)), (ErrorKind::NotFound, format!("no image {unknown:?}")));
    }
    // The store is on disk, not in memory.
    let again = Store::open(&data.path()).unwrap();
    assert_eq!(again.list().unwrap(), [one, two]);
}

#[test]
fn i3_a_beginning_that_fits_several_is_ambiguous() {
    let data = Data::new();
    let mut firsts = std::collections::HashMap::new();
    let prefix = (0..17)
        .find_map(|number| {
            let image = data.import(&image(&data, &format!("n{number}")), None).unwrap();
            firsts.insert(image.digest.as_bytes()[7], ()).map(|()| image.digest[..8].to_owned())
        })
        .unwrap();
    assert!(matches!(data.store.get(&prefix), Err(Error::AmbiguousImage { matches: 2, .. })));
}

#[test]
fn i3_layers_are_shared_and_removed_with_their_last_image() {
    let data = Data::new();
    let one = data.import(&image(&data, "one"), None).unwrap();
    let two = data.import(&image(&data, "two"), None).unwrap();
    assert_eq!(one.layers[0], two.layers[0]);
    let layers = || fs::read_dir(data.path().join("store/layers/sha256")).unwrap().count();
    assert_eq!(layers(), 3);
    let removed = data.store.remove("one").unwrap();
    assert_eq!(removed.removed, [one.digest.clone(), one.layers[1].clone()]);
    assert_eq!((removed.freed, layers()), (300, 2));
    assert!(matches!(data.store.remove("one"), Err(Error::UnknownImage(_))));
    data.store.remove("two").unwrap();
    assert_eq!(layers(), 0);
    data.assert_clean();
}

#[test]
fn i3_a_name_moves_and_the_nameless_go_with_gc() {
    let data = Data::new();
    let old = data.import(&image(&data, "one"), Some("app")).unwrap();
    data.store.import(&image(&data, "one"), Some("also"), &Silent, &Cancel::new()).unwrap();
    let new = data.import(&image(&data, "two"), Some("app")).unwrap();
    assert_eq!(data.store.get("app").unwrap().digest, new.digest);
    // A name that is not the only one goes alone.
    assert!(data.store.gc(&Silent).unwrap().removed.is_empty());
    data.import(&image(&data, "one"), Some("third")).unwrap();
    assert!(data.store.remove("also").unwrap().removed.is_empty());
    assert_eq!(data.store.get(&old.digest).unwrap().names, ["third"]);
    data.import(&image(&data, "two"), Some("third")).unwrap();
    let rootfs = Rootfs::create(&data.store, &old.digest, Options::default()).unwrap();
    assert!(data.store.gc(&Silent).unwrap().removed.is_empty(), "a rootfs keeps its image");
    Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
    let removed = data.store.gc(&Silent).unwrap().removed;
    assert_eq!(removed, [old.digest, old.layers[1].clone()]);
    data.assert_clean();
}

#[test]
fn i3_an_image_in_use_is_not_removed() {
    let data = Data::new();
    let image = data.import(&image(&data, "one"), None).unwrap();
    let options = |name: Option<&str>| Options { name: name.map(str::to_owned), ..Options::default() };
    let named = Rootfs::create(&data.store, "one", options(Some("db"))).unwrap();
    let bare = Rootfs::create(&data.store, "one", options(None)).unwrap();
    let error = data.store.remove("one").unwrap_err();
    let text = chain(&error);
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(text.contains(&format!("db ({})", named.guid())) && text.contains(bare.guid()), "{text}");
    for rootfs in [named, bare] {
        Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
    }
    data.store.remove(&image.digest).unwrap();
}

#[test]
fn i3_the_same_import_many_times_at_once_is_one_image() {
    let data = Data::new();
    let path = image(&data, "one");
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (data, path) = (&data, &path);
            scope.spawn(move || {
                for round in 0..5 {
                    // With a gc in between that must not take what an import counts on.
                    data.store.gc(&Silent).unwrap();
                    data.import(path, Some(&format!("n{number}-{round}")))
                        .unwrap_or_else(|error| panic!("{}", chain(&error)));
                }
            });
        }
    });
    let images = data.store.list().unwrap();
    assert_eq!((images.len(), images[0].names.len()), (1, 30));
    data.assert_clean();
}

#[test]
fn i3_creating_races_with_removing_and_either_wins_whole() {
    let data = Data::new();
    let path = image(&data, "one");
    let mut outcomes = [0, 0];
    for _ in 0..60 {
        data.import(&path, Some("one")).unwrap();
        let created = std::thread::scope(|scope| {
            let creator = scope.spawn(|| {
                Rootfs::create(&data.store, "one", Options { throwaway: true, ..Options::default() })
            });
            let removed = data.store.remove("one");
            let created = creator.join().unwrap();
            match (&created, &removed) {
                (Ok(rootfs), Err(Error::ImageInUse { .. })) => assert!(rootfs.path().join("d/base").exists()),
                (Err(Error::UnknownImage(_)), Ok(_)) => {}
                other => panic!("{other:?}"),
            }
            created
        });
        outcomes[usize::from(created.is_ok())] += 1;
        if let Ok(rootfs) = created {
            Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
        }
    }
    assert_eq!(outcomes.iter().sum::<i32>(), 60);
}

struct CancelAt(Cancel, u64);

impl Progress for CancelAt {
    fn update(&self, _stage: &str, done: u64, _total: Option<u64>) {
        if done > self.1 {
            self.0.cancel();
        }
    }
}

#[test]
fn i3_a_cancelled_import_leaves_nothing() {
    let data = Data::new();
    let layout = Layout::new(vec![Layer::plain(Tar::new().file("big", &vec![1; 8 << 20]).end())]);
    let path = data.file("big.tar", &layout.archive());
    let before = data.tree();
    let cancel = Cancel::new();
    let result = data.store.import(&path, None, &CancelAt(cancel.clone(), 1 << 20), &cancel);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(data.tree(), before);
}

#[test]
fn i3_progress_is_told_and_ends_at_the_total() {
    struct Heard(std::sync::Mutex<Vec<(String, u64, Option<u64>)>>);
    impl Progress for Heard {
        fn update(&self, stage: &str, done: u64, total: Option<u64>) {
            self.0.lock().unwrap().push((stage.to_owned(), done, total));
        }
    }
    let data = Data::new();
    let layer = Layer::plain(Tar::new().file("big", &vec![1; 2 << 20]).end());
    let size = layer.stored.len() as u64;
    let path = data.file("big.tar", &Layout::new(vec![layer]).archive());
    let heard = Heard(std::sync::Mutex::default());
    data.store.import(&path, None, &heard, &Cancel::new()).unwrap();
    let heard = heard.0.into_inner().unwrap();
    assert!(heard.len() > 4 && heard[0].0.starts_with("layer sha256:"), "{heard:?}");
    assert_eq!(heard.last().unwrap().1, size);
    assert!(heard.iter().all(|(_, done, total)| *total == Some(size) && *done <= size));
}

/// Where the test below is told to import what, when it runs as somebody's child.
const CHILD: &str = "IMAGES_TEST_IMPORT";

#[test]
fn i3_an_import_in_a_process_of_its_own() {
    match std::env::var(CHILD) {
        Ok(told) => {
            let (dir, path) = told.split_once(':').unwrap();
            Store::open(dir.as_ref())
                .unwrap()
                .import(path.as_ref(), Some("victim"), &Silent, &Cancel::new())
                .unwrap();
        }
        Err(_) => {
            let data = Data::new();
            data.import(&image(&data, "one"), Some("victim")).unwrap();
        }
    }
}

#[test]
fn i3_a_killed_import_leaves_nothing_visible() {
    let data = Data::new();
    let mut big = Tar::new();
    for number in 0..400 {
        big = big.file(&format!("f{number}"), &vec![number as u8; 20_000]);
    }
    let layout = Layout::new(vec![layer("base", 5000), Layer::gzip(&big.end()), layer("top", 5000)]);
    let path = data.file("victim.tar", &layout.archive());
    let exe = std::env::current_exe().unwrap();
    let spawn = || {
        Command::new(&exe)
            .args(["--exact", "i3_an_import_in_a_process_of_its_own"])
            .env(CHILD, format!("{}:{}", data.path().display(), path.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let started = std::time::Instant::now();
    assert!(spawn().wait().unwrap().success());
    let whole = started.elapsed();
    data.store.remove("victim").unwrap();
    let before = data.tree();
    let (mut killed, mut half_way) = (0, 0);
    for round in 0..40_u32 {
        let mut child = spawn();
        std::thread::sleep(whole * round / 36);
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        let tmp = fs::read_dir(data.path().join("store/tmp")).unwrap().count();
        half_way += u32::from(tmp > 0);
        // Opening is enough to clear up the work; gc takes what was renamed and never named.
        let store = Store::open(&data.path()).unwrap();
        match store.list().unwrap().as_slice() {
            [] => {}
            [image] => {
                assert_eq!(image.layers.len(), 3);
                let rootfs = Rootfs::create(&store, &image.digest, Options::default()).unwrap();
                assert_eq!(fs::read(rootfs.path().join("f399")).unwrap(), vec![399_u32 as u8; 20_000]);
                Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
                store.remove(&image.digest).unwrap();
            }
            more => panic!("{more:?}"),
        }
        store.gc(&Silent).unwrap();
        let mut after = data.tree();
        after.retain(|path| !path.ends_with("/names.json"));
        let mut before = before.clone();
        before.retain(|path| !path.ends_with("/names.json"));
        assert_eq!(after, before, "round {round}");
    }
    assert!(killed > 10 && half_way > 3, "the kills came at the wrong moments: {killed}, {half_way}");
}

#[test]
fn i3_a_full_disk_ends_an_import_with_nothing_left() {
    let data = Data::in_memory("size=3m");
    let store = &data.store;
    let used = || rustix::fs::statvfs(data.path()).unwrap();
    let before = used();
    for layer in [
        Layer::plain(Tar::new().file("big", &vec![1; 8 << 20]).end()),
        Layer::gzip(&Tar::new().dir("a").file("a/big", &vec![1; 8 << 20]).end()),
    ] {
        let path = data.file("big.tar", &Layout::new(vec![layer]).archive());
        let error = store.import(&path, None, &Silent, &Cancel::new()).unwrap_err();
        let text = chain(&error);
        assert!(
            text.starts_with("layer sha256:") && text.contains("cannot write") && text.contains("big"),
            "{text}"
        );
        assert!(text.contains("No space left on device"), "{text}");
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        assert!(store.list().unwrap().is_empty());
        let after = used();
        assert!(
            after.f_bfree + 2 >= before.f_bfree && after.f_ffree + 2 >= before.f_ffree,
            "something is left"
        );
    }
    // Compressed archives are spooled: that fills it as well.
    let path = data.file(
        "big.tar.gz",
        &common::gzip(
            &Layout::new(vec![Layer::plain(Tar::new().file("big", &vec![1; 8 << 20]).end())]).archive(),
        ),
    );
    let text = chain(&store.import(&path, None, &Silent, &Cancel::new()).unwrap_err());
    assert!(text.contains("cannot write decompressed") && text.contains("No space left"), "{text}");
    // And after all that it works.
    store.import(&image(&data, "one"), None, &Silent, &Cancel::new()).unwrap();
}

#[test]
fn s12_a_full_disk_ends_a_creation_with_nothing_left() {
    let data = Data::in_memory("size=1m,nr_inodes=80");
    let (dir, store) = (data.path(), &data.store);
    store.import(&image(&data, "one"), None, &Silent, &Cancel::new()).unwrap();
    let mut made = Vec::new();
    let error = loop {
        match Rootfs::create(store, "one", Options { throwaway: true, ..Options::default() }) {
            Ok(rootfs) => made.push(rootfs.guid().to_owned()),
            Err(error) => break error,
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(!made.is_empty());
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{}", chain(&error));
    assert!(chain(&error).contains("rootfs "), "{}", chain(&error));
    assert_eq!(Rootfs::list(&dir).unwrap().len(), made.len());
    assert!(Rootfs::remnants(&dir).unwrap().is_empty());
    for guid in made {
        Rootfs::destroy(&dir, &guid).unwrap();
    }
    let rootfs = Rootfs::create(store, "one", Options::default()).unwrap();
    Rootfs::destroy(&dir, rootfs.guid()).unwrap();
}

#[test]
fn i3_an_import_that_fails_at_the_last_step_is_not_seen() {
    let data = Data::new();
    data.import(&image(&data, "one"), Some("app")).unwrap();
    let before = data.tree();
    // Its files for start-sdk would have to lie in what is a file.
    let error = data.import(&image(&data, "two"), Some("app.json/inner")).unwrap_err();
    assert!(chain(&error).contains("images/app.json/inner.json"), "{}", chain(&error));
    assert_eq!(data.store.list().unwrap().len(), 1);
    data.store.gc(&Silent).unwrap();
    assert_eq!(data.tree(), before);
    data.import(&image(&data, "two"), Some("fine")).unwrap();
}

#[test]
fn i3_gc_removes_files_that_have_no_image() {
    let data = Data::new();
    data.import(&image(&data, "one"), Some("team/app")).unwrap();
    let images = data.path().join("images");
    let ours = fs::read_to_string(images.join("team/app.json")).unwrap();
    for (stale, contents) in [
        ("x.json", &*ours),
        ("x.env", ""),
        ("team/y.json", &ours),
        ("theirs.json", "{}"),
        ("theirs.env", "A=b"),
    ] {
        fs::write(images.join(stale), contents).unwrap();
    }
    data.store.gc(&Silent).unwrap();
    let left: Vec<_> = data.tree().into_iter().filter(|path| path.contains("/d/images/")).collect();
    let expected = ["team", "team/app.env", "team/app.json", "theirs.env", "theirs.json"];
    assert_eq!(left, expected.map(|name| images.join(name).display().to_string()));
}

#[test]
fn i3_a_layer_that_an_import_counts_on_is_not_taken_away_under_it() {
    /// Removes the image that the layer came with, in the middle of the import.
    struct Meanwhile<'d>(&'d Data, std::sync::Once);
    impl Progress for Meanwhile<'_> {
        fn update(&self, _stage: &str, _done: u64, _total: Option<u64>) {
            self.1.call_once(|| {
                self.0.store.remove("one").unwrap();
                self.0.store.gc(&Silent).unwrap();
            });
        }
    }
    let data = Data::new();
    let one = data.import(&image(&data, "one"), None).unwrap();
    let path = image(&data, "two");
    let meanwhile = Meanwhile(&data, std::sync::Once::new());
    let two = data
        .store
        .import(&path, None, &meanwhile, &Cancel::new())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(meanwhile.1.is_completed() && one.layers[0] == two.layers[0]);
    let rootfs = Rootfs::create(&data.store, "two", Options::default()).unwrap();
    assert!(rootfs.path().join("d/base").exists());
}
