//! Every format comes in whole.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Data, Head, Layer, Layout, Tar, chain, gzip, zstd};
use images::Rootfs;
use images::rootfs::Options;

const LONG: &str = "a-name-longer-than-the-hundred-bytes-that-a-header-holds-and-so-it-needs-an-extended-header-to-be-told-in-full";

/// cap_net_raw+ep, as setcap writes it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A layer with everything in it.
fn everything() -> Tar {
    let sparse_map = b"2\n4096\n5\n1048570\n6\n";
    let mut sparse = sparse_map.to_vec();
    sparse.resize(512, 0);
    sparse.extend_from_slice(b"early");
    sparse.extend_from_slice(b"theend");
    Tar::new()
        .head(Head::new(b'5', "./").mode(0o751).owner(3, 4))
        .dir("./bin/")
        .entry(Head::new(b'0', "./bin/su").mode(0o4755), b"set-uid")
        .pax(&[("SCHILY.xattr.security.capability", CAPABILITY), ("SCHILY.xattr.user.note", b"kept")])
        .entry(Head::new(b'0', "./bin/ping").owner(11, 12), b"capable")
        .hard_link("./bin/ping6", "./bin/ping")
        .symlink("./sbin", "bin")
        .symlink("./outside", "../../../etc/passwd")
        .pax(&[
            ("path", format!("./{LONG}").as_bytes()),
            ("mtime", b"1234567890.123456789"),
            ("uid", b"3000000"),
        ])
        .file("short", b"long")
        .entry(Head::new(b'L', "././@LongLink"), format!("gnu-{LONG}\0").as_bytes())
        .file("short", b"gnu")
        .head(Head::new(b'3', "null").mode(0o666).device(1, 3))
        .head(Head::new(b'4', "disk").mode(0o660).device(8, 1))
        .head(Head::new(b'6', "fifo").mode(0o622))
        .head(Head::new(b'5', "tmp").mode(0o1777))
        .file("no/parent/was/named", b"x")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"holes"),
            ("GNU.sparse.realsize", b"1048576"),
        ])
        .entry(Head::new(b'0', "GNUSparseFile.0/holes"), &sparse)
        .file("twice", b"first")
        .file("twice", b"second")
        .dir("was-a-directory")
        .file("was-a-directory/inner", b"x")
        .file("was-a-directory", b"now a file")
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn check_everything(root: &Path, times: bool) {
    let stat = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    let read = |name: &str| fs::read(root.join(name)).unwrap();
    let looks = stat("");
    assert_eq!((looks.mode() & 0o7777, looks.uid(), looks.gid()), (0o751, 3, 4));
    assert_eq!(stat("bin/su").mode() & 0o7777, 0o4755, "set-uid");
    assert_eq!((stat("bin/ping").uid(), stat("bin/ping").gid()), (11, 12));
    assert_eq!(xattr(&root.join("bin/ping"), "security.capability").as_deref(), Some(CAPABILITY));
    assert_eq!(xattr(&root.join("bin/ping"), "user.note").as_deref(), Some(&b"kept"[..]));
    assert_eq!(stat("bin/ping").nlink(), 2);
    assert_eq!(read("bin/ping6"), b"capable");
    assert_eq!(fs::read_link(root.join("sbin")).unwrap(), Path::new("bin"));
    assert_eq!(fs::read_link(root.join("outside")).unwrap(), Path::new("../../../etc/passwd"));
    assert_eq!(read(LONG), b"long");
    assert_eq!((stat(LONG).mtime(), stat(LONG).uid()), (1_234_567_890, 3_000_000));
    assert_eq!(read(&format!("gnu-{LONG}")), b"gnu");
    let null = stat("null");
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o666));
    assert!(stat("disk").file_type().is_block_device() && stat("disk").rdev() == rustix::fs::makedev(8, 1));
    assert!(stat("fifo").file_type().is_fifo() && stat("fifo").mode() & 0o7777 == 0o622);
    assert_eq!(stat("tmp").mode() & 0o7777, 0o1777);
    if times {
        assert_eq!(stat("bin").mtime(), 1_000_000_000, "a directory's time is not that of its last entry");
        assert_eq!(stat(LONG).mtime_nsec(), 123_456_789);
    }
    assert_eq!(read("no/parent/was/named"), b"x");
    let holes = read("holes");
    assert_eq!(
        (holes.len(), &holes[4096..4101], &holes[1_048_570..]),
        (1 << 20, &b"early"[..], &b"theend"[..])
    );
    assert!(stat("holes").blocks() * 512 < 1 << 18, "holes stay holes");
    assert_eq!(read("twice"), b"second");
    assert_eq!(read("was-a-directory"), b"now a file");
}

/// Imports, mounts, looks, and removes again.
fn round(data: &Data, path: &Path, name: Option<&str>) -> protocol::image::ImageInfo {
    let image =
        data.import(path, name).unwrap_or_else(|error| panic!("{}: {}", path.display(), chain(&error)));
    data.assert_clean();
    let rootfs =
        Rootfs::create(&data.store, &image.digest, Options { throwaway: true, ..Options::default() })
            .unwrap();
    check_everything(&rootfs.path(), true);
    Rootfs::destroy(&data.path(), rootfs.guid()).unwrap();
    image
}

#[test]
fn i1_rootfs_tars_are_imported_plain_and_compressed() {
    let data = Data::new();
    let tar = everything().end();
    let mut digests = Vec::new();
    for (file, bytes) in [
        ("one.tar", tar.clone()),
        ("one.tar.gz", gzip(&tar)),
        ("one.tar.zst", zstd(&tar)),
        ("odd name.tgz", gzip(&tar)),
    ] {
        digests.push(round(&data, &data.file(file, &bytes), None).digest);
    }
    assert!(
        digests.windows(2).all(|pair| pair[0] == pair[1]),
        "the same layer is the same image: {digests:?}"
    );
    assert_eq!(data.store.get("one").unwrap().names, ["odd-name", "one"]);
}

#[test]
fn i1_oci_layouts_are_imported_as_directory_and_archive() {
    let data = Data::new();
    let tar = everything().end();
    for layer in [Layer::plain(tar.clone()), Layer::gzip(&tar), Layer::zstd(&tar)] {
        let kind = layer.media_type;
        let mut layout = Layout::new(vec![layer]);
        layout.name = Some("from/the-layout:1".to_owned());
        let dir = tempfile::tempdir_in(data.dir.path()).unwrap();
        let image = round(&data, &layout.directory(dir.path()), None);
        assert_eq!(image.names, ["from/the-layout:1"], "{kind}");
        assert_eq!(
            round(&data, &data.file("oci.tar", &layout.archive()), Some("given")).digest,
            image.digest
        );
        assert_eq!(
            round(&data, &data.file("oci.tar.gz", &gzip(&layout.archive())), Some("given")).digest,
            image.digest
        );
        data.store.remove(&image.digest).unwrap();
    }
}

#[test]
fn i1_an_image_is_called_as_asked_for_or_as_it_says_or_as_its_file() {
    let data = Data::new();
    let mut layout = Layout::new(vec![Layer::plain(Tar::new().file("f", b"x").end())]);
    let cases = [
        (None, "my-app"),
        (Some("team/app:2"), "team/app:2"),
        (Some("latest"), "my-app:latest"),
        (Some("../../../etc/cron.d/x"), "my-app"),
        (Some("a b\n"), "my-app"),
        (Some("/etc/passwd"), "my-app"),
    ];
    for (said, expected) in cases {
        layout.name = said.map(str::to_owned);
        let image = data.import(&data.file("my app.oci.tar", &layout.archive()), None).unwrap();
        assert_eq!(image.names, [expected], "{said:?}");
        data.store.remove(&image.digest).unwrap();
    }
    let path = data.file("my app.oci.tar", &layout.archive());
    for bad in ["", "..", "a/../b", "/x", "a\nb"] {
        assert!(matches!(data.import(&path, Some(bad)), Err(images::Error::ImageName { .. })), "{bad:?}");
    }
}

#[test]
fn i1_docker_archives_are_imported() {
    let data = Data::new();
    let mut layout = Layout::new(vec![Layer::plain(everything().end())]);
    layout.name = Some("team/app:1".to_owned());
    let image = round(&data, &data.file("docker.tar", &layout.docker()), None);
    assert_eq!(image.names, ["team/app:1"]);
    round(&data, &data.file("docker.tar.zst", &zstd(&layout.docker())), None);
}

#[test]
fn i1_a_directory_keeps_everything_too() {
    let data = Data::new();
    let first = round(&data, &data.file("one.tar", &everything().end()), Some("one"));
    let hex = first.layers[0].strip_prefix("sha256:").unwrap();
    let tree = data.path().join("store/layers/sha256").join(hex).join("fs");
    let copy = data.dir.path().join("copy");
    assert!(
        Command::new("cp").args(["-a", "--sparse=always"]).arg(&tree).arg(&copy).status().unwrap().success()
    );
    let image = round(&data, &copy, Some("two"));
    let again = round(&data, &copy, Some("three"));
    assert_eq!(image.digest, again.digest, "the same tree is the same image");
    assert_eq!(image.size, first.size - "firstx".len() as u64, "but for what was replaced");
}

#[test]
fn i1_whiteouts_and_opaque_directories_hide_what_is_below() {
    let data = Data::new();
    let below = Tar::new()
        .dir("d/")
        .file("d/a", b"a")
        .file("d/b", b"b")
        .dir("o")
        .file("o/old", b"x")
        .dir("r")
        .file("r/old", b"x")
        .file("f", b"f")
        .file("k", b"below");
    let above = Tar::new()
        .dir("d")
        .file("d/.wh.a", b"")
        .dir("o")
        .file("o/.wh..wh..opq", b"")
        .file("o/new", b"y")
        // Deleted and made anew, said in either order: nothing of the old shows through.
        .file(".wh.r", b"")
        .dir("r")
        .file("r/new", b"y")
        .file(".wh.f", b"")
        .file(".wh.never-there", b"")
        // Put there by this very layer: it stays.
        .file("k", b"above")
        .file(".wh.k", b"")
        .file(".wh..wh.plnk", b"");
    let layout = Layout::new(vec![Layer::gzip(&below.end()), Layer::zstd(&above.end())]);
    let image = data.import(&data.file("two.tar", &layout.archive()), Some("two")).unwrap();
    assert_eq!(image.layers.len(), 2);
    let rootfs = Rootfs::create(&data.store, "two", Options::default()).unwrap();
    let mut names = Vec::new();
    for dir in ["", "d", "o", "r"] {
        let entries = fs::read_dir(rootfs.path().join(dir)).unwrap();
        names.extend(
            entries.map(|entry| Path::new(dir).join(entry.unwrap().file_name()).display().to_string()),
        );
    }
    names.sort();
    assert_eq!(names, ["d", "d/b", "k", "o", "o/new", "r", "r/new"]);
    assert_eq!(fs::read(rootfs.path().join("k")).unwrap(), b"above");
}

#[test]
fn i1_a_layer_may_be_applied_twice_and_an_image_may_have_none() {
    let data = Data::new();
    let a = || Layer::gzip(&Tar::new().file("x", b"a").end());
    let b = || Layer::gzip(&Tar::new().file("x", b"b").file("y", b"b").end());
    let empty = Layer::plain(Tar::new().end());
    let layout = Layout::new(vec![a(), b(), a(), empty]);
    data.import(&data.file("aba.tar", &layout.archive()), Some("aba")).unwrap();
    let rootfs = Rootfs::create(&data.store, "aba", Options::default()).unwrap();
    assert_eq!(
        (fs::read(rootfs.path().join("x")).unwrap(), fs::read(rootfs.path().join("y")).unwrap()),
        (b"a".to_vec(), b"b".to_vec())
    );
    let layout = Layout::new(Vec::new());
    data.import(&data.file("scratch.tar", &layout.archive()), Some("scratch")).unwrap();
    let rootfs = Rootfs::create(&data.store, "scratch", Options::default()).unwrap();
    fs::write(rootfs.path().join("hello"), b"x").unwrap();
}

#[test]
fn i4_the_files_of_start_sdk_are_written() {
    let data = Data::new();
    let layout = Layout::new(vec![Layer::gzip(&Tar::new().file("x", b"a").end())]);
    let path = data.file("app.tar", &layout.archive());
    let image = data.import(&path, Some("app")).unwrap();
    let read = |name: &str| fs::read_to_string(data.path().join("images").join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("app.json")).unwrap();
    assert_eq!(json["user"], "7:8");
    assert_eq!((&json["workdir"], &json["entrypoint"]), (&serde_json::json!("/"), &serde_json::Value::Null));
    assert_eq!(json["cmd"], serde_json::json!(["/bin/sh"]));
    assert_eq!(json["env"], serde_json::json!(["PATH=/bin", "MULTI=a\nb"]));
    assert_eq!(read("app.env"), "PATH=/bin\n#json \"MULTI=a\\nb\"\n");
    data.import(&path, Some("reg.io/team/app:1")).unwrap();
    assert_eq!(read("reg.io/team/app:1.env"), read("app.env"));
    data.store.remove(&image.digest).unwrap();
    assert_eq!(fs::read_dir(data.path().join("images")).unwrap().count(), 0);
}

fn run(program: &str, args: &[&str]) {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn i1_what_other_tools_write_is_read() {
    let data = Data::new();
    let base: PathBuf = data.dir.path().to_owned();
    let at = |name: &str| text(&base.join(name));
    let layout = Layout::new(vec![Layer::gzip(&everything().end())]);
    layout.directory(&base.join("ours"));
    let mut digests = vec![round(&data, &base.join("ours"), Some("ours")).digest];
    // skopeo, from our layout to all that it can write.
    run("skopeo", &["copy", "-q", &format!("oci:{}", at("ours")), &format!("oci:{}:tag", at("skopeo-oci"))]);
    run(
        "skopeo",
        &["copy", "-q", &format!("oci:{}", at("ours")), &format!("oci-archive:{}:tag", at("skopeo-oci.tar"))],
    );
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            &format!("oci:{}", at("ours")),
            &format!("docker-archive:{}:team/app:2", at("skopeo-docker.tar")),
        ],
    );
    for name in ["skopeo-oci", "skopeo-oci.tar"] {
        digests.push(round(&data, &base.join(name), None).digest);
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
    let docker = round(&data, &base.join("skopeo-docker.tar"), None);
    assert!(docker.names.iter().any(|name| name.ends_with("team/app:2")), "{:?}", docker.names);
    // umoci, with a layer of its own on top of it.
    run(
        "umoci",
        &["insert", "--image", &format!("{}:tag", at("skopeo-oci")), "--opaque", &at("ours"), "/no"],
    );
    let image = data.import(&base.join("skopeo-oci"), Some("umoci")).unwrap();
    let rootfs = Rootfs::create(&data.store, &image.digest, Options::default()).unwrap();
    assert!(rootfs.path().join("no/oci-layout").exists() && !rootfs.path().join("no/parent").exists());
    // GNU tar in both its formats, with its own ways to say attributes and holes.
    let hex = image.layers[0].strip_prefix("sha256:").unwrap();
    let tree = text(&data.path().join("store/layers/sha256").join(hex).join("fs"));
    for (name, format) in
        [("gnu.tar", &["--format=gnu"][..]), ("pax.tar", &["--format=pax", "--xattrs", "--xattrs-include=*"])]
    {
        let archive = at(name);
        let mut args = vec!["--sparse", "--numeric-owner", "-C", &tree, "-cf", &archive];
        args.extend(format);
        args.push(".");
        run("tar", &args);
        let image =
            data.import(&base.join(name), None).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        let rootfs = Rootfs::create(&data.store, &image.digest, Options::default()).unwrap();
        assert_eq!(fs::read(rootfs.path().join("holes")).unwrap().len(), 1 << 20, "{name}");
        assert!(fs::metadata(rootfs.path().join("holes")).unwrap().blocks() * 512 < 1 << 18, "{name}");
        if name == "pax.tar" {
            check_everything(&rootfs.path(), true);
        }
    }
}
