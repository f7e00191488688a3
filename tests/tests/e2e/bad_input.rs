//! Bad input by command line: an error that names the step and the thing, a non-zero exit, and nothing left behind
//! (which `isolated` checks).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tests::{Cli, isolated};

#[test]
fn an_unknown_image() {
    isolated(|| {
        let cli = Cli::new();
        let said = cli.run(["subcontainer", "create-fs", "no-such-image"]).failed(125);
        assert!(said.contains("image") && said.contains("no-such-image"), "{said}");
        for command in ["inspect", "rm"] {
            let said = cli.run(["image", command, "no-such-image"]).failed(125);
            assert!(said.contains("no-such-image"), "{said}");
        }
        for odd in ["../../etc/passwd", "", "/", "sha256:..", "a\nb"] {
            cli.run(["subcontainer", "create-fs", odd]).failed(125);
        }
    });
}

#[test]
fn a_file_that_is_no_image() {
    isolated(|| {
        let cli = Cli::new();
        let path = cli.data().join("nonsense");
        for content in
            [&b""[..], b"nonsense", &[0x1f, 0x8b, 8, 0, 1, 2, 3], &[0x28, 0xb5, 0x2f, 0xfd, 9], &[0; 512]]
        {
            fs::write(&path, content).unwrap();
            let said = cli.run(["image", "import", path.to_str().unwrap()]).failed(125);
            assert!(said.contains("nonsense"), "{content:?}: {said}");
        }
        let said = cli.run(["image", "import", "/no/such/file"]).failed(125);
        assert!(said.contains("/no/such/file"), "{said}");
        cli.run(["image", "import", "/dev/null"]).failed(125);
    });
}

#[test]
fn a_rootfs_that_is_not_ours() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        fs::create_dir("/tmp/other").unwrap();
        symlink(&rootfs.path, "/tmp/link").unwrap();
        let parent = Path::new(&rootfs.path).parent().unwrap().to_str().unwrap().to_owned();
        let beneath = format!("{}/etc", rootfs.path);
        let unknown = format!("{parent}/00000000-0000-4000-8000-000000000000");
        for path in [
            "/",
            "/tmp/other",
            "/no/such/place",
            "",
            &parent,
            &beneath,
            &unknown,
            "00000000-0000-4000-8000-000000000000",
            "../x",
        ] {
            for command in [&["launch"][..], &["exec"]] {
                let mut words = vec!["subcontainer"];
                words.extend(command);
                words.extend([path, "true"]);
                let said = cli.run(words).failed(125);
                assert!(path.is_empty() || said.contains(path), "{path}: {said}");
            }
            cli.run(["subcontainer", "inspect", path]).failed(125);
        }
        // What is not ours is never destroyed.
        for path in ["/tmp/other", &parent, &beneath] {
            let _ = cli.run(["subcontainer", "destroy-fs", path]);
        }
        assert!(Path::new("/tmp/other").exists() && Path::new(&beneath).join("passwd").exists());
        fs::remove_file("/tmp/link").unwrap();
        fs::remove_dir("/tmp/other").unwrap();
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn exec_where_nothing_runs() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let said = cli.exec(&rootfs, &[], &["true"]).failed(125);
        assert!(said.contains("not running"), "{said}");
        let said = cli.run(["subcontainer", "attach", &rootfs.path]).failed(125);
        assert!(said.contains("not running"), "{said}");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn a_second_leader() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let said = cli.run(["subcontainer", "launch", &rootfs.path, "true"]).failed(125);
        assert!(said.contains("launch"), "{said}");
        assert_eq!(cli.state(&rootfs), "running", "the first one is unharmed");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn a_command_that_cannot_be_run() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        fs::write(Path::new(&rootfs.path).join("not-a-program"), "\x7fELF and then nothing").unwrap();
        cli.exec(&rootfs, &[], &["chmod", "755", "/not-a-program"]).ok();
        for (command, code) in [
            ("no-such", 127),
            ("/no/such", 127),
            ("/etc", 126),
            ("/etc/passwd", 126),
            ("/not-a-program", 126),
            ("", 125),
        ] {
            let said = cli.exec(&rootfs, &[], &[command]).failed(code);
            assert!(said.contains(command), "{command}: {said}");
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn flags_that_make_no_sense() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        for flags in [
            &["-e", "NOVALUE"][..],
            &["-e", "=x"],
            &["--pty-size", "x"],
            &["--pty-size", "1:2:3"],
            &["--pty-size", "99999:1"],
            &["--env-file", "/no/such/file"],
            &["-w", "/no/such/directory"],
            &["-w", "/etc/passwd"],
            &["--no-such-flag"],
        ] {
            let said = cli.exec(&rootfs, flags, &["true"]).failed(125);
            assert!(said.contains(flags.last().unwrap()) || said.contains(flags[0]), "{flags:?}: {said}");
        }
        cli.destroy_fs(&rootfs);
    });
}
