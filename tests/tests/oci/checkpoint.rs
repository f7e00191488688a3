//! Containers that become files and containers again, by criu.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tests::{Finished, eventually, isolated};

use crate::cases::mount;
use crate::life::receive;
use crate::rig::{Bundle, finish};

/// The program that `cargo xtask setup` has put there, or the reason to skip.
pub(crate) fn criu() -> Option<PathBuf> {
    let path = tests::image::target_directory().join("xtask/criu/criu");
    path.exists().then_some(path)
}

/// `PATH` with criu's directory in it.
pub(crate) fn path_with(criu: &Path) -> String {
    format!("{}:{}", criu.parent().unwrap().display(), std::env::var("PATH").unwrap())
}

macro_rules! criu_or_skip {
    () => {
        match criu() {
            Some(path) => path,
            None => tests::skip!("criu is not there: run `cargo xtask setup` first"),
        }
    };
}
pub(crate) use criu_or_skip;

/// Where root may raise no limits (`CAP_SYS_RESOURCE`), criu takes this process's for the machine's as long as this is
/// there: it raises its own to that, and does not go on when it cannot.
pub(crate) struct LowLimit;

const NR_OPEN: &str = "/proc/sys/fs/nr_open";

impl LowLimit {
    pub(crate) fn new(dir: &Path) -> Self {
        let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(1 << 20);
        fs::write(dir.join("nr_open"), format!("{hard}\n")).unwrap();
        rustix::mount::mount_bind(dir.join("nr_open"), NR_OPEN).unwrap();
        Self
    }
}

impl Drop for LowLimit {
    fn drop(&mut self) {
        rustix::mount::unmount(NR_OPEN, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

/// Without the machine's own configuration of criu.
fn bundle() -> (Bundle, LowLimit) {
    let mut bundle = Bundle::new();
    bundle.config["annotations"]["org.criu.config"] = json!("");
    let limit = LowLimit::new(bundle.path());
    (bundle, limit)
}

/// Its streams are files, as those of [`Bundle::create`] are.
fn ours(bundle: &Bundle, criu: &Path, arguments: &[&str]) -> Finished {
    let file = |name: &str| fs::File::create(bundle.path().join(name)).unwrap();
    let mut command = bundle.runtime("ours");
    command.env("PATH", path_with(criu)).args(arguments).stdin(Stdio::null());
    let status = command.stdout(file("out2")).stderr(file("err2")).status().unwrap();
    let read = |name: &str| fs::read(bundle.path().join(name)).unwrap();
    Finished { code: status.code().unwrap_or(-1), stdout: read("out2"), stderr: read("err2") }
}

/// Counts on, into a file of a volume.
fn counting(bundle: &mut Bundle) -> PathBuf {
    let volume = bundle.path().join("volume");
    fs::create_dir(&volume).unwrap();
    mount(&mut bundle.config, "/volume", "bind", "volume", &["bind", "rprivate"]);
    bundle.sh("i=0; echo kept > /dev/shm/file; while :; do i=$((i+1)); echo $i > /volume/new; mv /volume/new /volume/count; \
        sleep 0.05; done");
    volume.join("count")
}

fn count(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn o1_a_container_goes_on_where_its_checkpoint_was_taken() {
    let criu = criu_or_skip!();
    isolated(|| {
        let (mut bundle, _limit) = bundle();
        let counter = counting(&mut bundle);
        bundle.config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
        bundle.create("one", &[]).ok();
        let created = ours(&bundle, &criu, &["checkpoint", "one"]);
        assert!(created.code != 0 && created.err().contains("that is created"), "{}", created.err());
        bundle.ours(&["start", "one"]).ok();
        eventually("it counts", || count(&counter) > 3);

        // It runs on.
        let files = bundle.path().join("files");
        let path = files.to_str().unwrap();
        ours(&bundle, &criu, &["checkpoint", "--leave-running", "--image-path", path, "one"]).ok();
        assert_eq!(bundle.status("one"), "running");
        let then = count(&counter);
        eventually("it counts on", || count(&counter) > then);

        // It is gone.
        fs::remove_dir_all(&files).unwrap();
        ours(&bundle, &criu, &["checkpoint", "--image-path", path, "one"]).ok();
        assert!(bundle.ours(&["state", "one"]).err().contains("does not exist"));
        let then = count(&counter);
        assert!(then > 3);

        for _ in 0..2 {
            let pid_file = bundle.path().join("pid");
            let flags =
                ["restore", "-d", "--image-path", path, "--pid-file", pid_file.to_str().unwrap(), "one"];
            ours(&bundle, &criu, &flags).ok();
            assert_eq!(bundle.status("one"), "running");
            eventually("it goes on", || count(&counter) > then);
            // In its own groups, with its limits, and one can join it.
            let pid = fs::read_to_string(&pid_file).unwrap();
            let said = bundle.ours(&[
                "exec",
                "one",
                "sh",
                "-c",
                "cat /dev/shm/file; cat /proc/1/comm; ip link show lo",
            ]);
            let said = said.ok().out();
            assert!(said.starts_with("kept\nsh\n") && said.contains("UP"), "{said}");
            let pids = bundle.ours(&["ps", "--format", "json", "one"]).ok().out();
            assert!(pids.contains(pid.trim()), "{pids} {pid}");
            let stats: serde_json::Value =
                serde_json::from_str(&bundle.ours(&["events", "--stats", "one"]).ok().out()).unwrap();
            assert_eq!(stats["data"]["memory"]["usage"]["limit"], 67_108_864);
            bundle.ours(&["pause", "one"]).ok();
            bundle.ours(&["resume", "one"]).ok();
            bundle.ours(&["delete", "--force", "one"]).ok();
        }
    });
}

#[test]
fn o1_streams_of_a_restored_container_are_those_of_who_restored_it() {
    let criu = criu_or_skip!();
    isolated(|| {
        let (mut bundle, _limit) = bundle();
        bundle.sh("while read line; do echo got $line; done; exit 5");
        let path = bundle.path().join("files");
        let path = path.to_str().unwrap();
        // Streams of a shell's: pipes, and a file of the machine's.
        let mut first = bundle
            .runtime("ours")
            .args(["run", "one"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(bundle.path().join("err")).unwrap())
            .spawn()
            .unwrap();
        writeln!(first.stdin.as_mut().unwrap(), "one").unwrap();
        let mut said = [0; 8];
        first.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"got one\n");
        ours(&bundle, &criu, &["checkpoint", "--image-path", path, "one"]).ok();
        first.wait().unwrap();

        let mut second = bundle
            .runtime("ours")
            .env("PATH", path_with(&criu))
            .args(["restore", "--image-path", path, "two"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(bundle.path().join("err3")).unwrap())
            .spawn()
            .unwrap();
        writeln!(second.stdin.as_mut().unwrap(), "two").unwrap();
        let output = second.wait_with_output().unwrap();
        let err = fs::read_to_string(bundle.path().join("err3")).unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).trim()),
            (Some(5), "got two"),
            "{err}"
        );
        assert!(bundle.ours(&["state", "two"]).err().contains("does not exist"));
    });
}

#[test]
fn o1_the_terminal_of_a_restored_container_is_given_to_whoever_listens() {
    let criu = criu_or_skip!();
    isolated(|| {
        let (mut bundle, _limit) = bundle();
        bundle.sh("stty -echo; echo ready; while read line; do echo got $line; done");
        bundle.config["process"]["terminal"] = json!(true);
        let path = bundle.path().join("files");
        let path = path.to_str().unwrap();
        let socket = bundle.path().join("console");
        let listener = UnixListener::bind(&socket).unwrap();
        bundle.create("one", &["--console-socket", socket.to_str().unwrap()]).ok();
        let mut master = fs::File::from(receive(&listener));
        bundle.ours(&["start", "one"]).ok();
        let mut said = [0; 7];
        master.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"ready\r\n");
        ours(&bundle, &criu, &["checkpoint", "--image-path", path, "one"]).ok();
        let alone = ours(&bundle, &criu, &["restore", "-d", "--image-path", path, "one"]);
        assert!(alone.code != 0 && alone.err().contains("--console-socket"), "{}", alone.err());
        let flags =
            ["restore", "-d", "--image-path", path, "--console-socket", socket.to_str().unwrap(), "one"];
        ours(&bundle, &criu, &flags).ok();
        let mut master = fs::File::from(receive(&listener));
        master.write_all(b"more\n").unwrap();
        let mut said = [0; 10];
        master.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"got more\r\n");
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}

#[test]
fn o1_what_criu_cannot_do_is_said_and_changes_nothing() {
    isolated(|| {
        let (mut bundle, _limit) = bundle();
        bundle.sh("exec sleep 1000");
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        let nothing =
            |arguments: &[&str]| finish(bundle.runtime("ours").env("PATH", "/nowhere").args(arguments));
        for command in ["checkpoint", "restore"] {
            let said = nothing(&[command, "one"]);
            assert!(
                said.code == 1 && said.err().contains("criu's work, which is not installed"),
                "{}",
                said.err()
            );
            nothing(&[command, "--help"]).ok();
        }
        assert!(nothing(&["features"]).ok().out().contains("checkpoint.enabled\": \"false\""));
        assert_eq!(bundle.status("one"), "running");
        bundle.ours(&["delete", "--force", "one"]).ok();
        if let Some(criu) = criu() {
            let empty = bundle.path().join("empty");
            fs::create_dir(&empty).unwrap();
            fs::write(empty.join("descriptors.json"), "[]").unwrap();
            let said =
                ours(&bundle, &criu, &["restore", "-d", "--image-path", empty.to_str().unwrap(), "two"]);
            assert!(said.code == 1 && said.err().contains("restore container two"), "{}", said.err());
            assert!(bundle.ours(&["state", "two"]).err().contains("does not exist"));
        }
    });
}

#[test]
fn o1_a_restore_that_is_killed_can_be_deleted() {
    let criu = criu_or_skip!();
    isolated(|| {
        let (mut bundle, _limit) = bundle();
        counting(&mut bundle);
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        let path = bundle.path().join("files");
        let path = path.to_str().unwrap();
        ours(&bundle, &criu, &["checkpoint", "--image-path", path, "one"]).ok();
        for step in 0..6_u64 {
            let mut restoring = bundle.runtime("ours");
            restoring.env("PATH", path_with(&criu)).args(["restore", "-d", "--image-path", path, "one"]);
            let quiet = restoring.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut restoring = quiet.spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(step * 40));
            restoring.kill().unwrap();
            restoring.wait().unwrap();
            bundle.ours(&["delete", "--force", "one"]).ok();
            assert!(!bundle.path().join("state-ours/one").exists(), "step {step}");
        }
        // Where criu puts mounts together; it has no other place for that.
        for entry in fs::read_dir("/tmp").unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".criu.mntns.") {
                fs::remove_dir(entry.path()).unwrap();
            }
        }
    });
}

#[test]
fn o1_a_checkpoint_that_is_killed_leaves_a_container_that_runs() {
    let criu = criu_or_skip!();
    isolated(|| {
        let (mut bundle, _limit) = bundle();
        let counter = counting(&mut bundle);
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        let path = bundle.path().join("files");
        for step in 0..6_u64 {
            let mut dumping = bundle.runtime("ours");
            dumping.env("PATH", path_with(&criu)).args(["checkpoint", "--leave-running", "--image-path"]);
            let quiet = dumping.arg(&path).arg("one").stdin(Stdio::null()).stdout(Stdio::null());
            let mut dumping = quiet.stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(step * 30));
            dumping.kill().unwrap();
            dumping.wait().unwrap();
            let then = count(&counter);
            eventually("it goes on", || bundle.status("one") == "running" && count(&counter) > then);
        }
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}
