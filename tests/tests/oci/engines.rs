//! podman and containerd, with ours as their runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tests::{Finished, eventually, isolated};

use crate::rig::{finish, installed};

/// A directory with an engine's state, and ours by the name that engines know.
struct Engine {
    dir: TempDir,
}

impl Engine {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("engine-").tempdir().unwrap();
        symlink(tests::cli::binary(), dir.path().join("start-container-oci")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn runtime(&self) -> PathBuf {
        self.path("start-container-oci")
    }
}

/// podman with a storage of its own, on tmpfs: what is beneath may be an overlay already.
struct Podman(Engine);

impl Podman {
    fn new() -> Self {
        let engine = Engine::new();
        let at = |name: &str| engine.path(name).display().to_string();
        fs::write(
            engine.path("containers.conf"),
            format!(
                "[engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\nruntime=\"ours\"\ntmp_dir=\"{}\"\n\
                 [engine.runtimes]\nours=[\"{}\"]\n\
                 [containers]\ndefault_ulimits=[\"nofile=1000:1000\",\"nproc=1000:1000\"]\nlog_driver=\"k8s-file\"\n",
                at("tmp"),
                engine.runtime().display()
            ),
        )
        .unwrap();
        fs::write(
            engine.path("storage.conf"),
            format!("[storage]\ndriver=\"vfs\"\nrunroot=\"{}\"\ngraphroot=\"{}\"\n", at("run"), at("data")),
        )
        .unwrap();
        let podman = Self(engine);
        let image = tests::image::target_directory().join("xtask/images/layers/busybox.tar");
        podman.run(&["import", "-q", image.to_str().unwrap(), "busybox"]).ok();
        podman
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", self.0.path("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.0.path("storage.conf"))
            .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
            .args(arguments);
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.command(arguments))
    }

    /// `podman run --rm` without a network.
    #[track_caller]
    fn once(&self, flags: &[&str], script: &str) -> Finished {
        let mut arguments = vec!["run", "--rm", "--network", "none"];
        arguments.extend(flags);
        arguments.extend(["busybox", "sh", "-c", script]);
        self.run(&arguments)
    }

    /// Takes away what podman leaves of itself.
    fn end(self) {
        self.run(&["rm", "-fa", "-t", "0"]).ok();
        self.run(&["rmi", "-fa"]).ok();
        for place in ["data", "run"] {
            let _absent =
                Command::new("umount").arg("-R").arg(self.0.path(place)).stderr(Stdio::null()).status();
        }
        tidy_groups("libpod_parent");
        // Locks of its database lie in shared memory.
        let _absent = fs::remove_file("/dev/shm/libpod_lock");
    }
}

/// Groups above a container's are the engine's, and it leaves them.
fn tidy_groups(name: &str) {
    let tops = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for top in tops.chain([PathBuf::from("/sys/fs/cgroup")]) {
        remove_groups(&top.join(name));
    }
}

fn remove_groups(group: &Path) {
    for child in fs::read_dir(group).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&child.path());
        }
    }
    let _absent = fs::remove_dir(group);
}

fn podman(body: impl FnOnce(&Podman)) {
    for program in ["podman", "conmon"] {
        if !installed(program) {
            tests::skip!("{program} is not installed");
        }
    }
    isolated(|| {
        let podman = Podman::new();
        body(&podman);
        podman.end();
    });
}

#[test]
fn o1_podman_runs_and_says_how_it_ended() {
    podman(|podman| {
        assert_eq!(podman.once(&[], "echo hello").ok().out(), "hello");
        assert_eq!(podman.once(&[], "exit 7").code, 7);
        assert_eq!(podman.run(&["run", "--rm", "--network", "none", "busybox", "nope"]).code, 127);
        assert_eq!(podman.run(&["run", "--rm", "--network", "none", "busybox", "/etc/passwd"]).code, 126);
    });
}

#[test]
fn o1_podman_keeps_a_container_and_does_all_with_it() {
    podman(|podman| {
        let script = "trap 'exit 3' TERM; echo started; while :; do sleep 0.1; done";
        podman
            .run(&[
                "run",
                "-d",
                "--name",
                "one",
                "--network",
                "none",
                "--health-cmd",
                "echo ok",
                "--health-interval",
                "0",
                "busybox",
                "sh",
                "-c",
                script,
            ])
            .ok();
        eventually("it has started", || podman.run(&["logs", "one"]).out() == "started");
        assert_eq!(podman.run(&["exec", "one", "sh", "-c", "echo in; exit 5"]).code, 5);
        let as_user = [
            "exec",
            "-u",
            "12:13",
            "-w",
            "/tmp",
            "-e",
            "X=y",
            "one",
            "sh",
            "-c",
            "id -u; id -g; pwd; echo $X",
        ];
        assert_eq!(podman.run(&as_user).ok().out(), "12\n13\n/tmp\ny");
        assert_eq!(podman.run(&["exec", "one", "nope"]).code, 127);
        podman.run(&["healthcheck", "run", "one"]).ok();
        podman.run(&["pause", "one"]).ok();
        let status = || podman.run(&["inspect", "-f", "{{.State.Status}}", "one"]).ok().out();
        assert_eq!(status(), "paused");
        podman.run(&["unpause", "one"]).ok();
        let stats = podman.run(&["stats", "--no-stream", "--format", "{{.PIDs}}", "one"]).ok().out();
        assert!(stats.parse::<u32>().is_ok_and(|count| count > 0), "{stats}");
        assert!(podman.run(&["top", "one"]).ok().out().contains("sleep"));
        podman.run(&["restart", "-t", "5", "one"]).ok();
        podman.run(&["stop", "-t", "5", "one"]).ok();
        let code = podman.run(&["inspect", "-f", "{{.State.ExitCode}}", "one"]).ok().out();
        assert_eq!((status().as_str(), code.as_str()), ("exited", "3"));
        podman.run(&["start", "one"]).ok();
        podman.run(&["kill", "one"]).ok();
        eventually("it is killed", || status() == "exited");
    });
}

#[test]
fn o1_podman_flags_hold() {
    podman(|podman| {
        let read_only = podman.once(&["--read-only"], "touch /x 2>&1; touch /tmp/x && echo tmp").out();
        assert_eq!(read_only, "touch: /x: Read-only file system\ntmp");
        let volume = podman.0.path("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "kept").unwrap();
        let mount = format!("{}:/v:ro", volume.display());
        assert_eq!(
            podman.once(&["-v", &mount], "cat /v/file; touch /v/x 2>/dev/null || echo ' ro'").out(),
            "kept ro"
        );
        let limits = podman.once(
            &["--memory", "32m", "--pids-limit", "20"],
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null || \
             cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max",
        );
        assert_eq!(limits.ok().out(), "33554432\n20");
        let ids = podman
            .once(
                &["--uidmap", "0:200000:1000", "--gidmap", "0:200000:1000"],
                "cat /proc/self/uid_map; touch /made; stat -c %u /made",
            )
            .ok()
            .out();
        assert_eq!(ids.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "1000", "0"]);
        assert_eq!(podman.once(&["--tmpfs", "/t:size=1m,mode=700"], "stat -c %a /t").ok().out(), "700");
        assert_eq!(
            podman
                .once(
                    &["--hostname", "named", "--ulimit", "nofile=100:200", "--ulimit", "nproc=900:900"],
                    "hostname; ulimit -n"
                )
                .ok()
                .out(),
            "named\n100"
        );
        let caps =
            podman.once(&["--cap-drop", "all", "--cap-add", "net_raw"], "grep CapEff /proc/self/status");
        assert_eq!(caps.ok().out(), "CapEff:\t0000000000002000");
        assert_eq!(
            podman
                .once(&["--privileged"], "test -e /dev/loop-control || test -e /dev/kmsg; echo $?")
                .ok()
                .out(),
            "0"
        );
        if installed("catatonit") || Path::new("/usr/libexec/podman/catatonit").exists() {
            assert!(podman.once(&["--init"], "cat /proc/1/cmdline").ok().out().contains("podman-init"));
        }
        let mut terminal = Command::new("script");
        let podman_itself =
            podman.command(&["run", "--rm", "-t", "--network", "none", "busybox", "sh", "-c", "tty; exit 4"]);
        terminal.envs(podman_itself.get_envs().filter_map(|(name, value)| Some((name, value?))));
        terminal.args(["-qec", "podman run --rm -t --network none busybox sh -c 'tty; exit 4'", "/dev/null"]);
        let said = finish(&mut terminal);
        assert!(said.code == 4 && said.out().contains("/dev/pts/0"), "{} {}", said.code, said.out());
    });
}

/// containerd with a root of its own.
struct Containerd {
    engine: Engine,
    daemon: Child,
}

impl Containerd {
    fn start() -> Self {
        let engine = Engine::new();
        let at = |name: &str| engine.path(name).display().to_string();
        fs::write(
            engine.path("config.toml"),
            format!(
                "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\n  address = {:?}\n",
                at("root"),
                at("state"),
                at("socket")
            ),
        )
        .unwrap();
        let log = fs::File::create(engine.path("log")).unwrap();
        let daemon = Command::new("containerd")
            .arg("-c")
            .arg(engine.path("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Self { engine, daemon };
        eventually("containerd answers", || containerd.ctr(&["version"]).code == 0);
        let image = tests::image::busybox();
        containerd.ctr(&["images", "import", "--base-name", "busybox", image.to_str().unwrap()]).ok();
        containerd
    }

    fn ctr(&self, arguments: &[&str]) -> Finished {
        finish(Command::new("ctr").arg("-a").arg(self.engine.path("socket")).args(arguments))
    }

    fn image(&self) -> String {
        self.ctr(&["images", "ls", "-q"]).ok().out().lines().next().unwrap().to_owned()
    }

    fn once(&self, flags: &[&str], command: &[&str]) -> Finished {
        let (runtime, image) = (self.engine.runtime().display().to_string(), self.image());
        let mut arguments = vec!["run", "--rm", "--snapshotter", "native", "--runc-binary", &runtime];
        arguments.extend(flags);
        arguments.extend([image.as_str(), "once"]);
        arguments.extend(command);
        self.ctr(&arguments)
    }

    fn end(mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        tidy_groups("default");
        let _absent = fs::remove_dir_all("/run/containerd");
    }
}

#[test]
fn o1_containerd_runs_tasks() {
    for program in ["containerd", "ctr", "containerd-shim-runc-v2"] {
        if !installed(program) {
            tests::skip!("{program} is not installed");
        }
    }
    isolated(|| {
        let containerd = Containerd::start();
        assert_eq!(containerd.once(&[], &["echo", "hello"]).ok().out(), "hello");
        assert_eq!(containerd.once(&[], &["sh", "-c", "exit 9"]).code, 9);
        let missing = containerd.once(&[], &["nope"]);
        assert!(missing.err().contains("executable file not found in $PATH"), "{}", missing.err());
        assert_eq!(containerd.once(&["--read-only"], &["touch", "/x"]).code, 1);

        let (runtime, image) = (containerd.engine.runtime().display().to_string(), containerd.image());
        let run = [
            "run",
            "-d",
            "--snapshotter",
            "native",
            "--runc-binary",
            &runtime,
            "--memory-limit",
            "33554432",
            &image,
            "two",
            "sleep",
            "1000",
        ];
        containerd.ctr(&run).ok();
        let said = containerd.ctr(&["task", "exec", "--exec-id", "e", "two", "sh", "-c", "echo in; exit 4"]);
        assert_eq!((said.code, said.out().as_str()), (4, "in"));
        assert!(containerd.ctr(&["task", "ls"]).ok().out().contains("RUNNING"));
        containerd.ctr(&["task", "pause", "two"]).ok();
        assert!(containerd.ctr(&["task", "ls"]).ok().out().contains("PAUSED"));
        containerd.ctr(&["task", "resume", "two"]).ok();
        assert!(containerd.ctr(&["task", "metrics", "two"]).ok().out().contains("memory"));
        containerd.ctr(&["task", "kill", "-s", "KILL", "two"]).ok();
        eventually("it stops", || containerd.ctr(&["task", "ls"]).out().contains("STOPPED"));
        // It says how the task has ended by its own exit code.
        containerd.ctr(&["task", "rm", "two"]);
        containerd.ctr(&["container", "rm", "two"]).ok();
        containerd.end();
    });
}
