//! A full disk, no descriptors, no memory, no processes: an error, and nothing left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tests::cli::finish;
use tests::{Cli, Host, image, isolated};

/// A command line whose data directory is a tmpfs of this size.
fn small_disk(size: &str, body: impl FnOnce(&Cli)) {
    isolated(|| {
        fs::create_dir("/tmp/small").unwrap();
        let mount = |words: &[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            finish(command, b"").ok();
        };
        mount(&["mount", "-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", "/tmp/small"]);
        body(&Cli::at(&tests::cli::binary(), Path::new("/tmp/small")));
        mount(&["umount", "/tmp/small"]);
        fs::remove_dir("/tmp/small").unwrap();
    });
}

fn no_space(said: &str) {
    assert!(said.to_lowercase().contains("no space") || said.contains("ENOSPC"), "{said}");
}

#[test]
fn a_full_disk_during_import_leaves_no_image() {
    small_disk("1m", |cli| {
        no_space(
            &cli.run(["image", "import", image::busybox().to_str().unwrap(), "--name", "busybox"])
                .failed(125),
        );
        assert_eq!(cli.run(["--json", "image", "ls"]).ok().json(), json!([]));
        cli.run(["image", "gc"]).ok();
        let mut used = Command::new("du");
        used.args(["-sk", "/tmp/small"]);
        let used = finish(used, b"").ok().out();
        assert!(used.split_whitespace().next().unwrap().parse::<u32>().unwrap() < 300, "{used}");
    });
}

#[test]
fn a_full_disk_during_create_and_write_is_an_error() {
    small_disk("6m", |cli| {
        cli.import(&image::busybox(), "busybox");
        let rootfs = cli.create_fs("busybox");
        let running = cli.launch_idle(&rootfs);
        let fill = cli.exec(&rootfs, &[], &["dd", "if=/dev/zero", "of=/big", "bs=64k"]);
        assert_ne!(fill.code, 0);
        no_space(&fill.err());
        no_space(&cli.run(["subcontainer", "create-fs", "busybox"]).failed(125));
        assert_eq!(cli.exec(&rootfs, &[], &["echo", "still works"]).ok().out(), "still works");
        let list = cli.run(["--json", "subcontainer", "ls"]).ok().json();
        assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
        drop(running);
        cli.destroy_fs(&rootfs);
        let again = cli.create_fs("busybox");
        cli.destroy_fs(&again);
    });
}

#[test]
fn a_full_disk_is_a_typed_error_on_the_socket() {
    small_disk("6m", |cli| {
        cli.import(&image::busybox(), "busybox");
        let host = Host::on(Cli::at(&tests::cli::binary(), cli.data()));
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let big = "x".repeat(8 << 20);
        let error =
            rpc.call_fails("file.write", json!({"guid": guid, "path": "/big", "data": {"text": big}}));
        assert_eq!((error.kind(), &error.data["errno"]), ("exhausted", &json!("ENOSPC")), "{error:?}");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

/// Starts with more and more of a scarce thing until it succeeds; every failure before that must be clean.
fn with_rising_limits(limit: &str, values: impl Iterator<Item = u64>) {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        for (failures, value) in values.enumerate() {
            let outer = ["prlimit".to_owned(), format!("--{limit}={value}")];
            let outer: Vec<&str> = outer.iter().map(String::as_str).collect();
            let ended = cli.run_beneath(&outer, ["subcontainer", "launch", &rootfs.path, "/bin/true"]);
            if ended.code == 0 {
                assert!(failures > 0 || limit == "as", "the first limit was no limit");
                cli.destroy_fs(&rootfs);
                return;
            }
            assert!(!ended.stderr.is_empty(), "{limit}={value}: it failed without a word");
            assert!(!ended.err().contains("panicked"), "{limit}={value}: {}", ended.err());
            assert_ne!(cli.state(&rootfs), "running", "{limit}={value}");
        }
        panic!("it never started");
    });
}

#[test]
fn too_few_descriptors_while_starting() {
    with_rising_limits("nofile", 5..80);
}

#[test]
fn too_little_memory_while_starting() {
    // With less than this, the program is not even loaded.
    let enough = |mib: &u64| {
        let limit = format!("--as={}", mib << 20);
        let mut version = Command::new("prlimit");
        version.arg(limit).arg(tests::cli::binary()).arg("--version");
        finish(version, b"").code == 0
    };
    let first = (1..200).find(enough).unwrap();
    with_rising_limits("as", (0..800).map(|step| (first << 20) + (step << 17)));
}

#[test]
fn a_host_without_descriptors_says_so_and_recovers() {
    isolated(|| {
        let mut host = Host::with_busybox();
        host.stop();
        host.start_beneath(&["prlimit", "--nofile=64"]);
        let mut rpc = host.connect();
        let mut made = Vec::new();
        let error = loop {
            assert!(made.len() < 200, "64 descriptors were enough for 200 containers");
            let guid = match rpc
                .try_call("subcontainer.createFs", json!({"imageId": "busybox", "throwaway": true}))
            {
                Ok(result) => result["guid"].clone(),
                Err(error) => break error,
            };
            made.push(guid.clone());
            if let Err(error) = rpc.try_call("subcontainer.launch", json!({"guid": guid})) {
                break error;
            }
        };
        assert_eq!(error.kind(), "exhausted", "{error:?}");
        for guid in made {
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
        let guid = rpc.create_fs("busybox");
        assert_eq!(rpc.output(&guid, &["echo", "recovered"]), "recovered\n");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn an_exec_that_runs_out_of_descriptors_harms_no_container_that_runs() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let running = cli.launch_idle(&rootfs);
        let mut failed = 0;
        for descriptors in 6..40 {
            let limit = format!("--nofile={descriptors}");
            let exec = ["subcontainer", "exec", &rootfs.path, "true"];
            failed += usize::from(cli.run_beneath(&["prlimit", &limit], exec).code != 0);
            assert_eq!(cli.state(&rootfs), "running", "after an exec with {descriptors} descriptors");
        }
        assert!((1..34).contains(&failed), "{failed} of 34 failed");
        assert_eq!(cli.exec(&rootfs, &[], &["echo", "unharmed"]).ok().out(), "unharmed");
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn a_starter_that_ignores_the_end_of_children_takes_no_exit_code_away() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let running = cli.launch_idle(&rootfs);
        let beneath = ["sh", "-c", "trap '' CHLD; exec \"$@\"", "sh"];
        for _ in 0..20 {
            let exec = ["subcontainer", "exec", &rootfs.path, "sh", "-c", "exit 7"];
            let finished = cli.run_beneath(&beneath, exec);
            assert_eq!(finished.code, 7, "{}", finished.err());
        }
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn a_command_that_init_cannot_execute_leaves_no_zombie() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        for _ in 0..3 {
            let params = json!({"guid": guid, "command": ["/no/such"], "init": true});
            assert_eq!(rpc.call_fails("subcontainer.launch", params).kind(), "commandNotFound");
        }
        // A host has one child that stays: what tells the next one how containers ended.
        let zombies = || -> Vec<String> {
            let threads = fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap();
            let of =
                |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children: String = threads.map(|thread| of(thread.unwrap())).collect();
            let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let stats = children.split_ascii_whitespace().map(stat);
            stats.filter(|stat| stat.contains(") Z ")).collect()
        };
        assert_eq!(zombies(), [""; 0]);
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}
