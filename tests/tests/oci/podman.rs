//! podman, with ours as its runtime.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::{Finished, eventually, isolated};

use crate::checkpoint::{LowLimit, criu, criu_or_skip, path_with};
use crate::engines::{Engine, stored, tidy_groups};
use crate::rig::{finish, installed};

/// podman with a storage of its own.
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
                 [network]\nnetwork_backend=\"netavark\"\nnetwork_config_dir=\"{}\"\n\
                 [containers]\ndefault_ulimits=[\"nofile=1000:1000\",\"nproc=1000:1000\"]\nlog_driver=\"k8s-file\"\n",
                at("tmp"),
                engine.runtime().display(),
                at("networks")
            ),
        )
        .unwrap();
        // Locks of its database lie in shared memory: that of one test alone.
        assert!(Command::new("mount").args(["-t", "tmpfs", "shm", "/dev/shm"]).status().unwrap().success());
        let driver = if engine.holds_overlays() { "overlay" } else { "vfs" };
        fs::write(
            engine.path("storage.conf"),
            format!(
                "[storage]\ndriver=\"{driver}\"\nrunroot=\"{}\"\ngraphroot=\"{}\"\n",
                at("run"),
                at("data")
            ),
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
        for place in [self.0.path("data"), self.0.path("run"), "/run/netns".into()] {
            let _absent = Command::new("umount").arg("-R").arg(place).stderr(Stdio::null()).status();
        }
        // Its bridge. Its rules are in the namespace of the test.
        finish(Command::new("ip").args(["link", "del", "podman0"]));
        tidy_groups("libpod_parent");
        assert!(Command::new("umount").arg("/dev/shm").status().unwrap().success());
    }
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

#[test]
fn o1_podman_chooses_ids() {
    podman(|podman| {
        // Those that the machine leaves to containers; this one's own list may name nobody.
        let list = podman.0.path("ids");
        fs::write(&list, "containers:500000:200000\n").unwrap();
        let places = ["/etc/subuid", "/etc/subgid"].map(Path::new);
        for place in places.iter().filter(|place| place.exists()) {
            rustix::mount::mount_bind(&list, *place).unwrap();
        }
        let script = "cat /proc/self/uid_map; touch /made /v/made; stat -c %u /made /v/made";
        let said = podman.once(&["--userns", "auto:size=2000", "-v", "own:/v"], script).ok().out();
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "500000", "2000", "0", "0"]);
        podman.run(&["volume", "rm", "own"]).ok();
        for place in places.iter().filter(|place| place.exists()) {
            rustix::mount::unmount(*place, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    });
}

#[test]
fn o1_podman_publishes_ports() {
    if !["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"]
        .iter()
        .any(|path| Path::new(path).exists())
    {
        tests::skip!("netavark is not installed");
    }
    podman(|podman| {
        let served = podman.0.path("served");
        fs::create_dir(&served).unwrap();
        fs::write(served.join("file"), "served").unwrap();
        let (volume, port) = (format!("{}:/served:ro", served.display()), ["-p", "127.0.0.1:8080:80"]);
        let mut run = vec!["run", "-d", "--name", "web", "-v", &volume];
        run.extend(port);
        run.extend(["busybox", "httpd", "-f", "-p", "80", "-h", "/served"]);
        podman.run(&run).ok();
        let get = || {
            let mut stream = TcpStream::connect("127.0.0.1:8080").ok()?;
            stream.write_all(b"GET /file HTTP/1.0\r\n\r\n").ok()?;
            let mut said = String::new();
            stream.read_to_string(&mut said).ok()?;
            Some(said)
        };
        eventually("it serves", || get().is_some_and(|said| said.ends_with("served")));
        // After a restart, too: the engine makes the network anew, and the runtime joins it.
        podman.run(&["restart", "-t", "0", "web"]).ok();
        eventually("it serves again", || get().is_some_and(|said| said.ends_with("served")));
        let others =
            ["run", "--rm", "--network", "container:web", "busybox", "wget", "-qO-", "127.0.0.1/file"];
        assert_eq!(podman.run(&others).ok().out(), "served");
        podman.run(&["rm", "-f", "-t", "0", "web"]).ok();
        assert_eq!(get(), None);
    });
}

#[test]
fn o1_podman_runs_pods() {
    podman(|podman| {
        podman.run(&["pod", "create", "--name", "pod", "--network", "none", "--hostname", "pod"]).ok();
        let run = |name: &str, script: &str| {
            podman.run(&["run", "-d", "--pod", "pod", "--name", name, "busybox", "sh", "-c", script]).ok()
        };
        run("one", "echo here > /dev/shm/file; exec httpd -f -p 127.0.0.1:8080 -h /dev/shm");
        run("two", "exec sleep 1000");
        let said = || {
            podman.run(&[
                "exec",
                "two",
                "sh",
                "-c",
                "wget -qO- 127.0.0.1:8080/file; hostname; cat /dev/shm/file",
            ])
        };
        eventually("they share", || said().out() == "here\npod\nhere");
        podman.run(&["pod", "pause", "pod"]).ok();
        podman.run(&["pod", "unpause", "pod"]).ok();
        assert!(podman.run(&["pod", "stats", "--no-stream", "pod"]).ok().out().contains("one"));
        podman.run(&["pod", "stop", "-t", "0", "pod"]).ok();
        podman.run(&["pod", "start", "pod"]).ok();
        eventually("they share again", || said().out() == "here\npod\nhere");
        podman.run(&["pod", "rm", "-f", "-t", "0", "pod"]).ok();
    });
}

#[test]
fn o1_podman_takes_a_container_to_files_and_back() {
    let criu = criu_or_skip!();
    podman(|podman| {
        let nr_open = LowLimit::new(podman.0.dir.path());
        // Its own configuration of criu's, rather than the machine's.
        let with = |arguments: &[&str]| finish(podman.command(arguments).env("PATH", path_with(&criu)));
        let script = "i=0; while :; do i=$((i+1)); echo $i > /count; echo $i; sleep 0.05; done";
        let run = ["run", "-d", "--name", "one", "--network", "none", "--annotation", "org.criu.config="];
        podman.run(&[&run[..], &["busybox", "sh", "-c", script]].concat()).ok();
        let count = || podman.run(&["exec", "one", "cat", "/count"]).out().trim().parse::<u64>().unwrap_or(0);
        eventually("it counts", || count() > 3);
        let status =
            || podman.run(&["inspect", "-f", "{{.State.Status}} {{.State.Checkpointed}}", "one"]).ok().out();
        with(&["container", "checkpoint", "one"]).ok();
        assert_eq!(status(), "exited true");
        with(&["container", "restore", "one"]).ok();
        let then = count();
        assert!(then > 3, "it goes on at {then}");
        eventually("it counts on", || count() > then);
        // As one file, and as another container.
        let file = podman.0.path("checkpoint.tar");
        with(&["container", "checkpoint", "-e", file.to_str().unwrap(), "one"]).ok();
        podman.run(&["rm", "-f", "one"]).ok();
        with(&["container", "restore", "-i", file.to_str().unwrap()]).ok();
        eventually("it is there again", || count() > then);
        podman.run(&["stop", "-t", "0", "one"]).ok();
        podman.run(&["rm", "one"]).ok();
        drop(nr_open);
    });
}

#[test]
fn o1_podman_runs_postgresql_through_its_life() {
    podman(|podman| {
        let loaded =
            podman.run(&["load", "-q", "-i", stored("postgres-demo.tar").to_str().unwrap()]).ok().out();
        let image = loaded.rsplit(": ").next().unwrap().trim().to_owned();
        let data = "data:/var/lib/postgresql/data";
        podman.run(&["run", "--rm", "--network", "none", "-v", data, &image, "initdb", "--no-sync"]).ok();
        let health = ["--health-cmd", "pg_isready -h /tmp", "--health-interval", "0"];
        let limits = ["--memory", "512m", "--pids-limit", "100", "--shm-size", "32m", "--read-only"];
        let mut run = vec!["run", "-d", "--name", "pg", "--network", "none", "-v", data];
        run.extend(health.iter().chain(&limits));
        run.extend([&image, "postgres", "-k", "/tmp", "-c", "listen_addresses=", "-c", "fsync=off"]);
        podman.run(&run).ok();
        let sql =
            |text: &str| podman.run(&["exec", "pg", "psql", "-h", "/tmp", "-d", "postgres", "-Atc", text]);
        let inspect = |what: &str| podman.run(&["inspect", "-f", what, "pg"]).ok().out();
        eventually("it answers", || sql("select 1").out() == "1");
        podman.run(&["healthcheck", "run", "pg"]).ok();
        sql("create table kept as select 42 as answer").ok();
        assert!(podman.run(&["logs", "pg"]).err().contains("ready to accept connections"));
        podman.run(&["pause", "pg"]).ok();
        podman.run(&["unpause", "pg"]).ok();
        podman.run(&["update", "--memory", "600m", "pg"]);
        // By SIGINT, as its image says: it ends by itself.
        podman.run(&["stop", "-t", "20", "pg"]).ok();
        assert_eq!(inspect("{{.State.ExitCode}}"), "0");
        podman.run(&["start", "pg"]).ok();
        eventually("it answers again", || sql("select answer from kept").out() == "42");

        // Its first process is killed, by nobody's leave.
        let pid = inspect("{{.State.Pid}}");
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        eventually("that is seen", || inspect("{{.State.ExitCode}}") == "137");
        podman.run(&["start", "pg"]).ok();
        eventually("it comes back", || sql("select answer from kept").out() == "42");

        // Whoever watches it is killed: it can be taken away all the same.
        let conmon = inspect("{{.ConmonPidFile}}");
        let conmon = fs::read_to_string(conmon).unwrap();
        assert!(Command::new("kill").args(["-9", conmon.trim()]).status().unwrap().success());
        let id = inspect("{{.Id}}");
        podman.run(&["rm", "-f", "-t", "0", "pg"]).ok();
        // Without it, podman asks no runtime to delete, whichever that is.
        finish(Command::new(podman.0.runtime()).args(["delete", "--force", &id])).ok();
        podman.run(&["volume", "rm", "data"]).ok();
    });
}

#[test]
fn o1_podman_runs_debian_in_a_user_namespace() {
    podman(|podman| {
        podman.run(&["import", "-q", stored("layers/debian.tar").to_str().unwrap(), "debian"]).ok();
        let said = podman.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--uidmap",
            "0:300000:65536",
            "--gidmap",
            "0:300000:65536",
            "--tmpfs",
            "/run",
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "debian",
            "sh",
            "-c",
            "cat /etc/debian_version; cat /proc/sys/net/ipv4/ip_forward; apt-get --version | head -c 3; \
             touch /var/x && stat -c %U /var/x; head -1 /proc/self/uid_map | tr -s ' '",
        ]);
        let said = said.ok().out();
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("12"), "{said}");
        assert_eq!(&lines[1..4], &["1", "aptroot", " 0 300000 65536"], "{said}");
    });
}
