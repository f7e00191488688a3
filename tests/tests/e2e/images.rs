//! Images by command line: every form of archive in, everything kept, nothing hostile believed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::archive::Archive;
use tests::cli::finish;
use tests::{Cli, image, isolated};

fn run(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command, b"").ok();
}

/// The busybox image in another form, made by skopeo.
fn as_form(form: &str, path: &Path) -> PathBuf {
    let source = format!("oci-archive:{}", image::busybox().display());
    let tag = if form.contains("archive") { ":busybox:latest" } else { ":latest" };
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "--tmpdir",
            "/tmp",
            "copy",
            "-q",
            &source,
            &format!("{form}:{}{tag}", path.display()),
        ],
    );
    path.to_path_buf()
}

#[test]
fn i1_every_form_of_an_image_is_imported_and_runs() {
    isolated(|| {
        let cli = Cli::new();
        let work = cli.data().join("work");
        fs::create_dir_all(work.join("rootfs")).unwrap();
        let layout = as_form("oci", &work.join("layout"));
        let archive = as_form("oci-archive", &work.join("oci.tar"));
        let docker = as_form("docker-archive", &work.join("docker.tar"));
        let plain = image::target_directory().join("xtask/images/layers/busybox.tar");
        let (gzip, zstd) = (work.join("rootfs.tar.gz"), work.join("rootfs.tar.zst"));
        run("sh", &["-c", &format!("gzip -c {} > {}", plain.display(), gzip.display())]);
        run("zstd", &["-q", plain.to_str().unwrap(), "-o", zstd.to_str().unwrap()]);
        run("tar", &["-C", work.join("rootfs").to_str().unwrap(), "-xf", plain.to_str().unwrap()]);
        for (name, path) in [
            ("layout", layout),
            ("archive", archive),
            ("docker", docker),
            ("plain", plain),
            ("gzip", gzip),
            ("zstd", zstd),
            ("directory", work.join("rootfs")),
        ] {
            cli.import(&path, name);
            let rootfs = cli.create_fs(name);
            let said = cli
                .run(["subcontainer", "launch", &rootfs.path, "/bin/sh", "-c", "echo hello from $0; id -u"])
                .ok()
                .out();
            assert_eq!(said, "hello from /bin/sh\n0", "{name}");
            cli.destroy_fs(&rootfs);
        }
    });
}

#[test]
fn i1_whiteouts_hard_links_modes_xattrs_and_devices_are_kept() {
    isolated(|| {
        let cli = Cli::new();
        let work = cli.data().join("work");
        fs::create_dir(&work).unwrap();
        let script = r#"
set -eu
cd "$1"; mkdir -p lower/gone lower/replaced lower/stays upper/replaced upper/dev
echo a > lower/gone/a; echo b > lower/removed; echo c > lower/replaced/old; echo d > lower/stays/d
ln lower/stays/d lower/stays/hard
touch upper/.wh.removed upper/.wh.gone upper/replaced/.wh..wh..opq; echo new > upper/replaced/new
echo x > upper/setuid; chmod 6755 upper/setuid; chown 12:34 upper/setuid; chmod 6755 upper/setuid
echo x > upper/cap; setfattr -n user.note -v kept upper/cap; setcap cap_net_raw+ep upper/cap
mkfifo upper/fifo; mknod upper/dev/null0 c 1 3; ln -s /absolute upper/link; chmod 1777 upper/dev
touch -d @1234567890 upper/setuid
tar --xattrs --xattrs-include='*' -C lower -cf lower.tar .; tar --xattrs --xattrs-include='*' -C upper -cf upper.tar .
"#;
        run("sh", &["-c", script, "sh", work.to_str().unwrap()]);
        let archive = layout(&work, &[work.join("lower.tar"), work.join("upper.tar")], &json!({}));
        cli.import(&archive, "odd");
        let rootfs = cli.create_fs("odd");
        let listing = format!(
            "cd {}; find . -mindepth 1 -printf '%P %y %m %U:%G %n %l\\n' | sort; getfattr --only-values -n user.note cap; getcap cap; stat -c '%t:%T' dev/null0; stat -c %Y setuid",
            rootfs.path
        );
        let mut shell = Command::new("sh");
        let seen = finish(
            {
                shell.args(["-c", &listing]);
                shell
            },
            b"",
        )
        .ok()
        .out();
        for line in [
            "cap f 644 0:0 1 ",
            "dev d 1777 0:0 2 ",
            "fifo p 644 0:0 1 ",
            "link l 777 0:0 1 /absolute",
            "replaced/new f 644 0:0 1 ",
            "setuid f 6755 12:34 1 ",
            "stays/d f 644 0:0 2 ",
            "stays/hard f 644 0:0 2 ",
            "1:3",
            "1234567890",
        ] {
            assert!(seen.lines().any(|seen| seen == line), "no {line:?} in\n{seen}");
        }
        assert!(seen.contains("kept") && seen.contains("cap_net_raw=ep"), "{seen}");
        for gone in ["gone", "removed", "replaced/old", ".wh"] {
            assert!(!seen.contains(gone), "{gone} in\n{seen}");
        }
        cli.destroy_fs(&rootfs);
    });
}

/// An OCI layout as a directory over these layers.
fn layout(work: &Path, layers: &[PathBuf], config: &Value) -> PathBuf {
    let directory = work.join("layout");
    fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    let put = |bytes: &[u8]| {
        let path = work.join("blob");
        fs::write(&path, bytes).unwrap();
        let mut sum = Command::new("sha256sum");
        sum.arg(&path);
        let digest = finish(sum, b"").ok().out()[..64].to_owned();
        fs::rename(path, directory.join("blobs/sha256").join(&digest)).unwrap();
        (format!("sha256:{digest}"), bytes.len())
    };
    let layers: Vec<_> = layers.iter().map(|layer| put(&fs::read(layer).unwrap())).collect();
    let diff_ids: Vec<_> = layers.iter().map(|(digest, _)| digest).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let (digest, size) = put(config.to_string().as_bytes());
    let layers: Vec<_> = layers
        .iter()
        .map(|(digest, size)| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size}))
        .collect();
    let config =
        json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": size});
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers});
    let (digest, size) = put(manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size}]});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    directory
}

#[test]
fn i3_layers_are_shared_and_removed_with_their_last_image() {
    isolated(|| {
        let cli = Cli::new();
        let work = cli.data().join("work");
        fs::create_dir_all(work.join("upper")).unwrap();
        fs::write(work.join("upper/extra"), "extra").unwrap();
        run(
            "tar",
            &[
                "-C",
                work.join("upper").to_str().unwrap(),
                "-cf",
                work.join("upper.tar").to_str().unwrap(),
                ".",
            ],
        );
        let base = image::target_directory().join("xtask/images/layers/busybox.tar");
        cli.import(&layout(&work, std::slice::from_ref(&base), &json!({})), "base");
        fs::remove_dir_all(work.join("layout")).unwrap();
        cli.import(&layout(&work, &[base, work.join("upper.tar")], &json!({})), "derived");
        let inspect = |name: &str| cli.run(["--json", "image", "inspect", name]).ok().json();
        let (first, second) = (inspect("base"), inspect("derived"));
        assert_eq!(first["layers"][0], second["layers"][0], "the same layer");
        assert_eq!(second["layers"].as_array().unwrap().len(), 2);

        cli.run(["image", "rm", "base"]).ok();
        cli.run(["image", "gc"]).ok();
        let rootfs = cli.create_fs("derived");
        assert!(
            Path::new(&rootfs.path).join("bin/busybox").exists()
                && Path::new(&rootfs.path).join("extra").exists()
        );
        cli.destroy_fs(&rootfs);
        cli.run(["image", "rm", "derived"]).ok();
        cli.run(["image", "gc"]).ok();
        assert_eq!(cli.run(["--json", "image", "ls"]).ok().json(), json!([]));
        let left = files(&cli.data().join("store"));
        assert!(left.iter().all(|path| !path.contains("busybox")), "{left:?}");
    });
}

fn files(directory: &Path) -> BTreeSet<String> {
    let mut find = Command::new("find");
    find.arg(directory).args(["-mindepth", "1"]);
    finish(find, b"").ok().out().lines().map(str::to_owned).collect()
}

#[test]
fn i3_an_image_in_use_is_not_removed_beneath_its_rootfs() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let removed = cli.run(["image", "rm", "busybox"]);
        cli.run(["image", "gc"]).ok();
        let said = cli.run(["subcontainer", "launch", &rootfs.path, "echo", "still here"]).ok().out();
        assert_eq!(said, "still here", "after: {removed:?}");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn i3_an_import_killed_half_way_leaves_nothing_visible() {
    let Some(debian) = image::debian() else { tests::skip!("debian.tar was not made") };
    isolated(|| {
        let cli = Cli::new();
        let before = cli.run(["--json", "image", "ls"]).ok().json();
        for delay in [5, 30, 80, 150, 300] {
            let mut child = cli
                .command(["image", "import", debian.to_str().unwrap(), "--name", "debian"])
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            child.kill().unwrap();
            let ended = child.wait().unwrap();
            if ended.success() {
                break;
            }
            assert_eq!(cli.run(["--json", "image", "ls"]).ok().json(), before, "after {delay} ms");
            cli.run(["subcontainer", "create-fs", "debian"]).failed(125);
        }
        let _ = cli.run(["image", "rm", "debian"]);
        cli.run(["image", "gc"]).ok();
        let left = files(&cli.data().join("store"));
        assert!(left.len() < 20, "the collector takes what killed imports left: {left:?}");
        cli.import(&debian, "debian");
        let rootfs = cli.create_fs("debian");
        let said = cli.run(["subcontainer", "launch", &rootfs.path, "cat", "/etc/debian_version"]).ok().out();
        assert!(said.starts_with("12"), "{said}");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn i4_the_whole_config_is_kept_and_written_for_start_sdk() {
    isolated(|| {
        let cli = Cli::new();
        let work = cli.data().join("work");
        fs::create_dir(&work).unwrap();
        let layer = image::target_directory().join("xtask/images/layers/busybox.tar");
        let config = json!({
            "Env": ["PATH=/bin", "MULTI=one\ntwo", "EMPTY="], "User": "user", "WorkingDir": "/home",
            "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo hi"], "StopSignal": "SIGINT",
            "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64, "Retries": 3},
        });
        cli.import(&layout(&work, &[layer], &config), "full");
        let image = cli.run(["--json", "image", "inspect", "full"]).ok().json();
        let kept = &image["config"];
        assert_eq!(kept["env"], config["Env"]);
        assert_eq!((&kept["user"], &kept["workdir"]), (&json!("user"), &json!("/home")));
        assert_eq!((&kept["entrypoint"], &kept["cmd"]), (&config["Entrypoint"], &config["Cmd"]));
        assert_eq!((&kept["stopSignal"], &kept["labels"]), (&json!("SIGINT"), &config["Labels"]));
        assert_eq!((&kept["exposedPorts"], &kept["volumes"]), (&json!(["80/tcp"]), &json!(["/data"])));
        assert_eq!(
            (&kept["healthcheck"]["test"], &kept["healthcheck"]["retries"]),
            (&json!(["CMD", "true"]), &json!(3))
        );

        let env = fs::read_to_string(cli.data().join("images/full.env")).unwrap();
        assert!(env.lines().any(|line| line == "PATH=/bin"), "{env}");
        let json: Value =
            serde_json::from_slice(&fs::read(cli.data().join("images/full.json")).unwrap()).unwrap();
        assert!(json.to_string().contains("/home"), "{json}");

        let rootfs = cli.create_fs("full");
        let said = cli
            .run(["subcontainer", "launch", &rootfs.path, "/bin/sh", "-c", "id -un; pwd; echo \"$MULTI\""])
            .ok()
            .out();
        assert_eq!(said, "user\n/home\none\ntwo");
        cli.destroy_fs(&rootfs);
    });
}

/// Archives that want out, lie or overwhelm. Each is refused, or is harmless.
fn hostile() -> Vec<(&'static str, Archive)> {
    let file = |name: &str| Archive::new().file(name, "evil");
    vec![
        ("a name with dots", file("../../escaped")),
        ("a name with dots inside", file("a/../../escaped")),
        ("an absolute name", file("/escaped")),
        ("through an absolute link", Archive::new().symlink("link", "/tmp").file("link/escaped", "evil")),
        (
            "through a relative link",
            Archive::new().symlink("link", "../../../../../../../tmp").file("link/escaped", "evil"),
        ),
        (
            "through two links",
            Archive::new().symlink("a", "b").symlink("b", "/tmp").file("a/escaped", "evil"),
        ),
        (
            "a directory becomes a link",
            Archive::new().directory("d").symlink("d", "/tmp").file("d/escaped", "evil"),
        ),
        ("a file over a link", Archive::new().symlink("link", "/tmp/escaped").file("link", "evil")),
        ("a hard link out", Archive::new().hardlink("link", "/etc/passwd").file("link", "evil")),
        (
            "a hard link up",
            Archive::new().hardlink("link", "../../../../../../etc/passwd").file("link", "evil"),
        ),
        (
            "a hard link through a link",
            Archive::new().symlink("d", "/etc").hardlink("link", "d/passwd").file("link", "evil"),
        ),
        ("a whiteout up", file("a/.wh...")),
        ("a whiteout of nothing", file(".wh.")),
        ("a whiteout through a link", Archive::new().symlink("d", "/tmp").file("d/.wh.keep", "")),
        ("an opaque mark through a link", Archive::new().symlink("d", "/tmp").file("d/.wh..wh..opq", "")),
        ("a name of nothing", file("")),
        ("a truncated file", Archive::new().entry("big", b'0', 0o644, "", 1 << 20, b"short")),
        ("a size beyond all disks", Archive::new().entry("big", b'0', 0o644, "", 0o7_7777_7777, b"")),
        ("an unknown kind", Archive::new().entry("odd", b'Z', 0o644, "", 0, b"")),
    ]
}

#[test]
fn i5_hostile_archives_touch_nothing_outside_the_store() {
    isolated(|| {
        let cli = Cli::new();
        let work = cli.data().join("work");
        fs::create_dir(&work).unwrap();
        fs::write("/tmp/keep", "keep").unwrap();
        let passwd = fs::read("/etc/passwd").unwrap();
        for (name, archive) in hostile() {
            let path = work.join("hostile.tar");
            archive.write(&path);
            let outside = files(Path::new("/tmp"))
                .into_iter()
                .filter(|path| !path.contains("/store"))
                .collect::<BTreeSet<_>>();
            let plain = cli.run(["image", "import", path.to_str().unwrap(), "--name", "hostile"]);
            if plain.code == 0 {
                // It was read as the rootfs tar that it claims to be: then what is in it stays in it.
                let rootfs = cli.create_fs("hostile");
                cli.destroy_fs(&rootfs);
                cli.run(["image", "rm", "hostile"]).ok();
            } else {
                assert_eq!(plain.code, 125, "{name}: {}", plain.err());
                assert!(plain.err().len() > 20, "{name}: says too little: {}", plain.err());
            }
            cli.run(["image", "gc"]).ok();
            let left = files(Path::new("/tmp"))
                .into_iter()
                .filter(|path| !path.contains("/store"))
                .collect::<BTreeSet<_>>();
            let new: Vec<_> = left
                .difference(&outside)
                .filter(|path| {
                    !path.contains("/images") && !path.contains("/rootfs") && !path.contains("/subcontainers")
                })
                .collect();
            assert_eq!(new, Vec::<&String>::new(), "{name}");
            assert!(!Path::new("/tmp/escaped").exists() && !Path::new("/escaped").exists(), "{name}");
            assert_eq!(fs::read_to_string("/tmp/keep").unwrap(), "keep", "{name}");
            assert_eq!(fs::read("/etc/passwd").unwrap(), passwd, "{name}");
        }
        fs::remove_file("/tmp/keep").unwrap();
    });
}

#[test]
fn i5_names_that_lead_out_are_refused_by_name() {
    isolated(|| {
        let cli = Cli::new();
        for (name, archive) in hostile()
            .into_iter()
            .filter(|(name, _)| name.starts_with("a name with dots") || name.contains("link up"))
        {
            let path = cli.data().join("hostile.tar");
            archive.write(&path);
            let said = cli.run(["image", "import", path.to_str().unwrap(), "--name", "hostile"]).failed(125);
            assert!(
                said.contains("escaped") || said.contains("passwd") || said.contains("link"),
                "{name}: {said}"
            );
        }
    });
}

#[test]
fn i5_lying_layouts_are_refused() {
    isolated(|| {
        let cli = Cli::new();
        let work = cli.data().join("work");
        let blobs = work.join("layout/blobs/sha256");
        let layer = image::target_directory().join("xtask/images/layers/busybox.tar");
        let fresh = || {
            let _ = fs::remove_dir_all(&work);
            fs::create_dir(&work).unwrap();
            layout(&work, std::slice::from_ref(&layer), &json!({}))
        };
        let refused = |what: &str| {
            let said = cli
                .run(["image", "import", work.join("layout").to_str().unwrap(), "--name", "lie"])
                .failed(125);
            assert!(said.len() > 20, "{what}: {said}");
            assert_eq!(cli.run(["--json", "image", "ls"]).ok().json(), json!([]), "{what}");
        };
        let sized = |large: bool| {
            fs::read_dir(&blobs)
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .find(|path| (fs::metadata(path).unwrap().len() > 100_000) == large)
                .unwrap()
        };
        fresh();
        let mut bytes = fs::read(sized(true)).unwrap();
        bytes[1_000_000] ^= 1;
        fs::write(sized(true), &bytes).unwrap();
        refused("a changed layer");
        fresh();
        fs::write(sized(true), &bytes[..500_000]).unwrap();
        refused("a truncated layer");
        fresh();
        fs::remove_file(sized(true)).unwrap();
        refused("a missing layer");
        fresh();
        fs::write(sized(false), "{}").unwrap();
        refused("a changed manifest or config");
        fresh();
        fs::write(work.join("layout/index.json"), "{\"manifests\": [").unwrap();
        refused("a truncated index");
        fresh();
        fs::write(work.join("layout/index.json"), "{\"schemaVersion\": 2, \"manifests\": []}").unwrap();
        refused("an empty index");
        fresh();
        let index = fs::read_to_string(work.join("layout/index.json")).unwrap();
        let at = index.find("sha256:").unwrap();
        let evil = format!("{}sha256:../../../../etc/passwd{}", &index[..at], &index[at + 71..]);
        fs::write(work.join("layout/index.json"), evil).unwrap();
        refused("a digest that is a path");
    });
}
