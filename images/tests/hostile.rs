//! Hostile archives: each is refused with an error that names layer, entry and reason; nothing is left in the
//! store, nothing is touched outside.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod common;

use std::fs;
use std::path::Path;

use common::{Data, Head, Layer, Layout, Tar, chain, gzip, zstd};
use images::{Limits, Rootfs};
use proptest::prelude::*;
use protocol::ErrorKind;
use serde_json::json;

fn small() -> Limits {
    Limits {
        layers: 4,
        compressed: 4 << 20,
        expanded: 8 << 20,
        ratio: 50,
        ratio_from: 1 << 20,
        entries: 100,
        depth: 20,
        file: 6 << 20,
        document: 64 << 10,
        extended_header: 64 << 10,
        ..Limits::default()
    }
}

/// Imports what must be refused; returns the whole error.
fn refused(data: &Data, what: &str, path: &Path) -> (String, ErrorKind) {
    let before = data.tree();
    let error = match data.import(path, Some("hostile")) {
        Ok(image) => panic!("{what}: was imported as {}", image.digest),
        Err(error) => error,
    };
    assert_eq!(data.tree(), before, "{what}: something is left");
    assert!(data.store.list().unwrap().is_empty(), "{what}: an image is visible");
    (chain(&error), error.kind())
}

#[test]
fn i5_hostile_entries_are_refused_by_name() {
    let data = Data::with(small());
    let canary = data.dir.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "untouched").unwrap();
    let outside = canary.display().to_string();
    let up = "../".repeat(30);
    let long = "x/".repeat(21);
    let t = Tar::new;
    let table: Vec<(&str, Tar, &str)> = vec![
        ("dotdot", t().file("../evil", b"x"), r#"entry "../evil": its path contains .."#),
        (
            "dotdot inside",
            t().dir("a").file("a/../../evil", b"x"),
            r#"entry "a/../../evil": its path contains .."#,
        ),
        ("dotdot directory", t().dir("a/.."), "its path contains .."),
        ("dotdot in pax", t().pax(&[("path", b"../evil")]).file("fine", b"x"), r#"entry "../evil""#),
        (
            "dotdot in a long name",
            t().entry(Head::new(b'L', "././@LongLink"), b"../evil\0").file("fine", b"x"),
            r#"entry "../evil""#,
        ),
        ("zero byte", t().pax(&[("path", b"a\0b")]).file("fine", b"x"), "its path contains a zero byte"),
        (
            "deep",
            t().file(&format!("{long}f"), b"x"),
            "its path is 22 directories deep, over the limit of 20",
        ),
        (
            "long",
            t().pax(&[("path", "y".repeat(5000).as_bytes())]).file("fine", b"x"),
            "its path is 5000 bytes long, over the limit of 4095",
        ),
        (
            "through a link out",
            t().symlink("l", &outside).file("l/evil", b"x"),
            r#"entry "l/evil": its path goes through a symbolic link"#,
        ),
        (
            "through a relative link",
            t().symlink("l", &up).file("l/tmp/evil", b"x"),
            "its path goes through a symbolic link",
        ),
        (
            "through a link within",
            t().dir("d").symlink("l", "d").file("l/x", b"x"),
            "its path goes through a symbolic link",
        ),
        (
            "through links in a row",
            t().dir("a").symlink("a/b", "/").file("a/b/c/d", b"x"),
            "its path goes through a symbolic link",
        ),
        (
            "directory through a link",
            t().symlink("l", &outside).dir("l/file"),
            "its path goes through a symbolic link",
        ),
        (
            "link swapped for a directory",
            t().dir("d").file("d/a", b"x").symlink("d", &outside).file("d/evil", b"x"),
            "goes through a symbolic link",
        ),
        (
            "whiteout through a link",
            t().symlink("l", &outside).file("l/.wh.file", b""),
            "its path goes through a symbolic link",
        ),
        (
            "opaque through a link",
            t().symlink("l", &outside).file("l/.wh..wh..opq", b""),
            "its path goes through a symbolic link",
        ),
        (
            "through a file",
            t().file("f", b"x").file("f/x", b"x"),
            "its path goes through something that is not a directory",
        ),
        (
            "through a device",
            t().head(Head::new(b'3', "n").device(1, 3)).file("n/x", b"x"),
            "is not a directory",
        ),
        (
            "hard link out",
            t().hard_link("h", "../../etc/passwd"),
            r#"its link target "../../etc/passwd" leaves the layer"#,
        ),
        (
            "hard link absolute",
            t().hard_link("h", "/etc/passwd"),
            r#"its link target "/etc/passwd" is absolute"#,
        ),
        (
            "hard link through a link",
            t().symlink("l", "/etc").hard_link("h", "l/passwd"),
            r#"its link target "l/passwd" leaves the layer"#,
        ),
        (
            "hard link to nothing",
            t().hard_link("h", "missing"),
            r#"its link target "missing" is not in the layer before it"#,
        ),
        ("hard link to later", t().hard_link("h", "f").file("f", b"x"), "is not in the layer before it"),
        ("hard link to itself", t().hard_link("h", "h"), "is not in the layer before it"),
        (
            "hard link to a directory",
            t().dir("d").hard_link("h", "d"),
            r#"its link target "d" is a directory"#,
        ),
        (
            "hard link to a whiteout",
            t().file(".wh.w", b"").hard_link("h", "w"),
            "is not in the layer before it",
        ),
        ("hard link to nowhere", t().head(Head::new(b'1', "h")), "its link target is empty"),
        ("link to nowhere", t().head(Head::new(b'2', "l")), "its link target is empty"),
        (
            "link too long",
            t().pax(&[("linkpath", &[b'x'; 5000])]).symlink("l", "x"),
            "its link target is 5000 bytes long",
        ),
        ("root replaced", t().symlink("./", &outside), "it would replace the root directory"),
        ("root replaced by a file", t().file(".", b"x"), "it would replace the root directory"),
        (
            "overlay redirect",
            t().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")]).dir("d"),
            r#"extended attribute "trusted.overlay.redirect" may not"#,
        ),
        (
            "overlay opaque",
            t().pax(&[("SCHILY.xattr.user.overlay.opaque", b"y")]).dir("d"),
            "user.overlay.opaque",
        ),
        ("unknown attribute", t().pax(&[("SCHILY.xattr.odd", b"y")]).dir("d"), r#"extended attribute "odd""#),
        (
            "whiteout device",
            t().head(Head::new(b'3', "w").device(0, 0)),
            "a character device 0:0 would act as a whiteout",
        ),
        (
            "huge device",
            t().head(Head::new(b'3', "w").device(5000, 0)),
            "its header is malformed: device number",
        ),
        ("whiteout of dotdot", t().dir("d").file("d/.wh...", b""), "it is no valid whiteout"),
        ("whiteout of dot", t().file(".wh..", b""), "it is no valid whiteout"),
        ("whiteout of nothing", t().file(".wh.", b""), "it is no valid whiteout"),
        ("whiteout directory", t().dir(".wh.d"), "it is no valid whiteout"),
        ("unknown type", t().entry(Head::new(b'D', "dump"), b"x"), "entries of type 'D' are not supported"),
        ("multi-volume", t().entry(Head::new(b'M', "part"), b"x"), "entries of type 'M'"),
        (
            "link with contents",
            t().entry(Head::new(b'2', "l").link("x"), b"hidden"),
            "it has a size of 6 though its type has no contents",
        ),
        (
            "directory with contents",
            t().entry(Head::new(b'5', "d"), &t().file("hidden", b"x").0),
            "it has a size of 1024",
        ),
        (
            "renaming everything",
            t().entry(Head::new(b'g', "g"), b"16 path=../evil\n").file("f", b"x"),
            "global pax header",
        ),
        (
            "pax size lies",
            t().pax(&[("size", b"99999")]).file("f", b"x"),
            "it ends in the middle of an entry",
        ),
        (
            "pax record lies",
            t().entry(Head::new(b'x', "x"), b"999 path=a\n").file("f", b"x"),
            "its header is malformed: pax record",
        ),
        ("negative size", t().pax(&[("size", b"-1")]).file("f", b"x"), "its header is malformed: pax size"),
        (
            "owner out of range",
            t().pax(&[("uid", b"4294967295")]).file("f", b"x"),
            "its header is malformed: uid",
        ),
        (
            "file too large",
            t().head(Head::new(b'0', "f").size(7 << 20)),
            "it is 7340032 bytes, over the limit of 6291456",
        ),
        (
            "sparse file too large",
            t().pax(&[("GNU.sparse.size", b"99999999999"), ("GNU.sparse.map", b"0,1")]).file("f", b"x"),
            "over the limit of",
        ),
        (
            "sparse overlap",
            t().pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"5,1,0,1")]).file("f", b"xy"),
            "malformed: sparse map",
        ),
        (
            "sparse beyond the end",
            t().pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"9,2")]).file("f", b"xy"),
            "malformed: sparse map",
        ),
        (
            "sparse overflow",
            t().pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"1,18446744073709551615")])
                .file("f", b"xy"),
            "malformed: sparse map",
        ),
        (
            "sparse counts wrong",
            t().pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,1")]).file("f", b"xy"),
            "malformed: sparse map",
        ),
        (
            "extended header bomb",
            t().head(Head::new(b'x', "x").size(1 << 30)),
            "its extended headers are over the limit of 65536 bytes",
        ),
        (
            "too many entries",
            (0..101).fold(t(), |tar, number| tar.dir(&format!("d{number}"))),
            "it has more than 100 entries",
        ),
        ("extended header and then nothing", t().pax(&[("path", b"x")]), "it ends in the middle of an entry"),
        (
            "bad checksum",
            t().raw(&{
                let mut bytes = t().file("f", b"x").0;
                bytes[0] = b'g';
                bytes
            })
            .dir("d"),
            "malformed: checksum",
        ),
        (
            "holes beyond the limit",
            (0..3).fold(t(), |tar, number| {
                tar.pax(&[("GNU.sparse.size", b"6000000"), ("GNU.sparse.map", b"0,1")])
                    .file(&format!("f{number}"), b"x")
            }),
            "it expands to over the limit of 8388608 bytes",
        ),
    ];
    for (what, tar, expected) in table {
        let bytes = tar.end();
        // As a layer, where the digest is right, and alone.
        let layout = Layout::new(vec![Layer::gzip(&bytes)]);
        for (form, path) in [
            ("layer", data.file("hostile-oci.tar", &layout.archive())),
            ("rootfs", data.file("hostile.tar.gz", &gzip(&bytes))),
        ] {
            let (error, kind) = refused(&data, what, &path);
            assert!(error.contains(expected), "{what} as {form}: {error:?} does not say {expected:?}");
            assert!(error.starts_with("layer "), "{what} as {form}: {error:?} does not name the layer");
            assert!(matches!(kind, ErrorKind::Escape | ErrorKind::Corrupt), "{what}: {kind:?}");
        }
    }
    let left: Vec<_> = fs::read_dir(&canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["file"]);
    assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "untouched");
}

#[test]
fn i5_an_absolute_path_is_one_beneath_the_root() {
    let data = Data::new();
    data.import(&data.file("a.tar", &Tar::new().file("/etc/evil-for-a-test", b"x").end()), Some("a"))
        .unwrap();
    assert!(!Path::new("/etc/evil-for-a-test").exists());
    let rootfs = Rootfs::create(&data.store, "a", images::rootfs::Options::default()).unwrap();
    assert!(rootfs.path().join("etc/evil-for-a-test").exists());
}

#[test]
fn i5_lying_streams_are_refused() {
    let data = Data::with(small());
    let tar = Tar::new().file("f", &[b'x'; 3000]).end();
    let whole = Tar::new().file("f", &[b'x'; 3000]).0;
    let cut = |bytes: &[u8], length: usize| bytes[..length].to_vec();
    let and = |bytes: &[u8], more: &[u8]| [bytes, more].concat();
    let zeros = vec![0; 7 << 20];
    let bomb = Tar::new().file("zeros", &zeros[..5 << 20]).end();
    let fat =
        Tar::new().file("a", &noise(3 << 20)).file("b", &noise(5 << 20)).file("c", &noise(2 << 20)).end();
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("cut in a header", cut(&tar, 300), "neither a tar archive"),
        ("cut in a file", cut(&tar, 1500), "it ends in the middle of an entry"),
        ("cut at an entry", whole.clone(), "it ends without an end-of-archive mark"),
        ("half an end", and(&whole, &[0; 512]), "it ends without an end-of-archive mark"),
        ("garbage after the end", and(&tar, b"garbage"), "it goes on after its end"),
        ("an archive after the end", and(&tar, &tar), "it goes on after its end"),
        ("cut gzip", cut(&gzip(&tar), 40), "cannot read"),
        ("garbage after gzip", and(&gzip(&tar), b"garbage"), "cannot read"),
        ("cut zstd", cut(&zstd(&tar), 20), "cannot read"),
        ("garbage after zstd", and(&zstd(&tar), b"garbage"), "cannot read"),
        ("an archive in a second gzip", and(&gzip(&tar), &gzip(&tar)), "it goes on after its end"),
        ("gzip bomb", gzip(&bomb), "it expands to more than 50 times its size"),
        ("zstd bomb", zstd(&bomb), "it expands to more than 50 times its size"),
        ("zeros for ever", gzip(&and(&tar, &vec![0; 20 << 20])), "it expands to more than 50 times its size"),
        ("too large", zstd(&fat), "over the limit of"),
        (
            "not an image",
            b"#!/bin/sh\necho hello\n".repeat(100),
            "neither a tar archive (plain, gzip, zstd), an OCI layout, nor a directory",
        ),
        ("empty", Vec::new(), "neither a tar archive"),
        ("gzip of nothing like it", gzip(&b"hello".repeat(1000)), "malformed: checksum"),
    ];
    for (what, bytes, expected) in table {
        let (error, _) = refused(&data, what, &data.file("stream", &bytes));
        assert!(error.contains(expected), "{what}: {error:?} does not say {expected:?}");
    }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

#[test]
fn i5_lying_documents_are_refused() {
    let data = Data::with(small());
    let tar = Tar::new().file("f", b"x").end();
    let layer = || Layer::gzip(&tar);
    let one = || Layout::new(vec![layer()]);
    let change = |change: &dyn Fn(&mut Layout)| {
        let mut layout = one();
        change(&mut layout);
        layout
    };
    let zero = format!("sha256:{}", "0".repeat(64));
    let table: Vec<(&str, Layout, &str)> = vec![
        (
            "wrong diff id",
            change(&|layout| layout.config["rootfs"]["diff_ids"][0] = json!(zero)),
            "contents of layer",
        ),
        (
            "diff id no digest",
            change(&|layout| layout.config["rootfs"]["diff_ids"][0] = json!("../../x")),
            "is not valid JSON of its kind",
        ),
        (
            "more diff ids",
            change(&|layout| layout.config["rootfs"]["diff_ids"] = json!([zero, zero])),
            "it has 2 diff ids for 1 layers",
        ),
        (
            "no diff ids",
            change(&|layout| layout.config["rootfs"]["diff_ids"] = json!(null)),
            "it has 0 diff ids for 1 layers",
        ),
        (
            "too many layers",
            Layout::new((0..5).map(|_| layer()).collect()),
            "it has 5 layers, over the limit of 4",
        ),
        (
            "another system",
            change(&|layout| layout.config["os"] = json!("windows")),
            "it is for windows, not for linux",
        ),
        (
            "media type",
            change(&|layout| layout.manifest["layers"][0]["mediaType"] = json!("application/x-evil")),
            r#"media type "application/x-evil" is not supported"#,
        ),
        (
            "encrypted",
            change(&|layout| {
                layout.manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")
            }),
            "encrypted",
        ),
        (
            "layer size less",
            change(&|layout| layout.manifest["layers"][0]["size"] = json!(3)),
            "bytes, not 3",
        ),
        (
            "layer size more",
            change(&|layout| layout.manifest["layers"][0]["size"] = json!(99999)),
            "bytes, not 99999",
        ),
        (
            "layer larger than allowed",
            change(&|layout| layout.manifest["layers"][0]["size"] = json!(1_u64 << 40)),
            "over the limit of 4194304 bytes compressed",
        ),
        (
            "layer of other contents",
            change(&|layout| layout.blobs[0].1 = gzip(&Tar::new().file("f", b"y").end())),
            "has digest",
        ),
        (
            "a bit flipped in a layer",
            change(&|layout| {
                let at = layout.blobs[0].1.len() / 2;
                layout.blobs[0].1[at] ^= 4;
            }),
            "has digest",
        ),
        (
            "a bit flipped in a plain layer",
            {
                let mut layout = Layout::new(vec![Layer::plain(tar.clone())]);
                layout.blobs[0].1[0] ^= 4;
                layout
            },
            "has digest",
        ),
        (
            "a layer cut short",
            change(&|layout| {
                let half = layout.blobs[0].1.len() / 2;
                layout.blobs[0].1.truncate(half);
            }),
            "bytes, not",
        ),
        ("layer missing", change(&|layout| layout.blobs.clear()), "is missing"),
        (
            "digest is a path",
            change(&|layout| layout.manifest["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd")),
            "manifest",
        ),
        (
            "other algorithm",
            change(&|layout| {
                layout.manifest["layers"][0]["digest"] = json!(format!("sha512:{}", "0".repeat(128)))
            }),
            "is not sha256",
        ),
        (
            "huge config",
            change(&|layout| layout.config["x"] = json!("x".repeat(70_000))),
            "over the limit of 65536",
        ),
        (
            "bad variable",
            change(&|layout| layout.config["config"]["Env"] = json!(["A=\0"])),
            "is no environment variable",
        ),
    ];
    for (what, layout, expected) in table {
        let dir = tempfile::tempdir_in(data.dir.path()).unwrap();
        for path in [layout.directory(dir.path()), data.file("lying.tar", &layout.archive())] {
            let (error, _) = refused(&data, what, &path);
            assert!(error.contains(expected), "{what}: {error:?} does not say {expected:?}");
        }
    }
}

#[test]
fn i5_a_layout_directory_is_read_without_following_links() {
    let data = Data::new();
    let layout = Layout::new(vec![Layer::gzip(&Tar::new().file("f", b"x").end())]);
    let hex = layout.blobs[0].0.clone();
    let away = data.file("away", &layout.blobs[0].1);
    for (what, victim) in [
        ("a blob", format!("blobs/sha256/{hex}")),
        ("the index", "index.json".to_owned()),
        ("the directory", "blobs".to_owned()),
    ] {
        let dir = tempfile::tempdir_in(data.dir.path()).unwrap();
        layout.directory(dir.path());
        let path = dir.path().join(&victim);
        let moved = data.dir.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        std::os::unix::fs::symlink(if victim.contains(&hex) { &away } else { &moved }, &path).unwrap();
        let (error, _) = refused(&data, what, dir.path());
        assert!(error.contains("is a symbolic link"), "{what}: {error}");
        if moved.is_dir() { fs::remove_dir_all(&moved).unwrap() } else { fs::remove_file(&moved).unwrap() }
    }
    let dir = tempfile::tempdir_in(data.dir.path()).unwrap();
    layout.directory(dir.path());
    let blob = dir.path().join(format!("blobs/sha256/{hex}"));
    fs::remove_file(&blob).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &blob, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    assert!(refused(&data, "a fifo", dir.path()).0.contains("is not a regular file"));
}

#[test]
fn i5_links_in_a_docker_archive_stay_in_it() {
    let data = Data::new();
    let layout = Layout::new(vec![Layer::plain(Tar::new().file("f", b"x").end())]);
    let config = layout.config.to_string().into_bytes();
    let name = format!("{}.json", common::hex(&config));
    let manifest = |layer: &str| {
        json!([{"Config": name, "RepoTags": ["a:b"], "Layers": [layer]}]).to_string().into_bytes()
    };
    let layer = &layout.blobs[0].1;
    let stem = "0".repeat(64);
    let with = |target: &str| {
        Tar::new()
            .dir(&format!("{stem}/"))
            .file("shared.tar", layer)
            .symlink(&format!("{stem}/layer.tar"), target)
            .file(&name, &config)
            .file("manifest.json", &manifest(&format!("{stem}/layer.tar")))
            .end()
    };
    for target in ["../../../../../../etc/passwd", "/etc/passwd", "../../shared.tar", "layer.tar"] {
        let (error, _) = refused(&data, target, &data.file("d.tar", &with(target)));
        assert!(error.contains("layer.tar is missing"), "{target}: {error}");
    }
    data.import(&data.file("d.tar", &with("../shared.tar")), None).unwrap();
}

#[test]
fn i5_what_is_no_file_is_refused() {
    let data = Data::new();
    for (path, expected) in
        [("/dev/zero", "neither a file nor a directory"), ("/no/such/file", "cannot open /no/such/file")]
    {
        let (error, _) = refused(&data, path, Path::new(path));
        assert!(error.contains(expected), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes of a good archive are changed, it is imported or refused; nothing hangs, panics, or is left.
    #[test]
    fn i5_damaged_archives_leave_nothing(flips in prop::collection::vec((0_usize..9000, any::<u8>()), 1..12), cut in prop::option::of(0_usize..9000)) {
        let data = Data::with(small());
        let mut bytes = Tar::new()
            .dir("d")
            .pax(&[("path", b"d/long"), ("SCHILY.xattr.user.a", b"b"), ("mtime", b"1.5")])
            .file("short", b"contents")
            .entry(Head::new(b'L', "././@LongLink"), b"d/another\0")
            .file("x", &[7; 700])
            .symlink("l", "d")
            .hard_link("h", "d/long")
            .pax(&[("GNU.sparse.size", b"4096"), ("GNU.sparse.map", b"0,1,4000,2")])
            .file("sparse", b"abc")
            .file(".wh.gone", b"")
            .file("d/.wh..wh..opq", b"")
            .end();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
            // Half of the time the header is made to look right again.
            if value % 2 == 0 {
                let start = at / 512 * 512;
                let header = &mut bytes[start..start + 512];
                header[148..156].fill(b' ');
                let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.max(600));
        }
        let before = data.tree();
        if data.import(&data.file("damaged.tar", &bytes), Some("x")).is_err() {
            prop_assert_eq!(data.tree(), before);
        }
        data.assert_clean();
    }
}
