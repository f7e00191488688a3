//! containerd, with ours as its runtime, driven by `ctr`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::{Finished, eventually, isolated};

use crate::engines::{Engine, stored, tidy_groups};
use crate::rig::{finish, installed};

/// containerd with a root of its own.
pub(crate) struct Containerd {
    pub(crate) engine: Engine,
    daemon: Child,
    pub(crate) snapshotter: &'static str,
}

impl Containerd {
    /// With images of these archives; an image is known by the name of its archive. `settings`: what is said of the CRI,
    /// or nothing, which leaves it out.
    fn start(archives: &[&Path], settings: impl FnOnce(&Engine, &str) -> String) -> Self {
        let engine = Engine::new();
        let snapshotter = if engine.holds_overlays() { "overlayfs" } else { "native" };
        let settings = settings(&engine, snapshotter);
        let disabled = if settings.is_empty() { "\"io.containerd.grpc.v1.cri\"" } else { "" };
        let at = |name: &str| engine.path(name).display().to_string();
        fs::write(
            engine.path("config.toml"),
            format!(
                "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [{disabled}]\n\
                 [grpc]\n  address = {:?}\n{settings}",
                at("root"),
                at("state"),
                at("socket")
            ),
        )
        .unwrap();
        let daemon = Self::daemon(&engine);
        let containerd = Self { engine, daemon, snapshotter };
        containerd.answers();
        for archive in archives {
            let name = archive.file_stem().unwrap().to_str().unwrap();
            let flags = ["images", "import", "--snapshotter", containerd.snapshotter, "--base-name", name];
            containerd.ctr(&[&flags[..], &[archive.to_str().unwrap()]].concat()).ok();
        }
        containerd
    }

    fn daemon(engine: &Engine) -> Child {
        let log = fs::File::options().create(true).append(true).open(engine.path("log")).unwrap();
        Command::new("containerd")
            .arg("-c")
            .arg(engine.path("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn answers(&self) {
        eventually("containerd answers", || self.ctr(&["version"]).code == 0);
    }

    /// Kills the daemon, not what it runs, and starts it again.
    fn again(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        self.daemon = Self::daemon(&self.engine);
        self.answers();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.engine.path("socket")).args(arguments);
        command
    }

    pub(crate) fn ctr(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.command(arguments))
    }

    /// `ctr run` of ours.
    fn run(&self, flags: &[&str], image: &str, id: &str, command: &[&str]) -> Vec<String> {
        let images = self.ctr(&["images", "ls", "-q"]).ok().out();
        let image = images.lines().find(|line| line.contains(image)).unwrap();
        let runtime = self.engine.runtime().display().to_string();
        let mut all = vec!["run", "--snapshotter", self.snapshotter, "--runc-binary", &runtime];
        all.extend(flags);
        all.extend([image, id]);
        all.extend(command);
        all.into_iter().map(str::to_owned).collect()
    }

    /// Runs to its end.
    fn once(&self, flags: &[&str], image: &str, command: &[&str]) -> Finished {
        let all = self.run(&[&["--rm"], flags].concat(), image, "once", command);
        self.ctr(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Leaves it running.
    #[track_caller]
    fn detached(&self, flags: &[&str], image: &str, id: &str, command: &[&str]) {
        let all = self.run(&[&["-d"], flags].concat(), image, id, command);
        self.ctr(&all.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    }

    /// What the list of tasks says of one.
    fn status(&self, id: &str) -> String {
        let tasks = self.ctr(&["task", "ls"]).ok().out();
        let row = tasks.lines().find(|line| line.split_whitespace().next() == Some(id));
        row.and_then(|row| row.split_whitespace().nth(2)).unwrap_or_default().to_owned()
    }

    /// Takes away a task that has ended, and its container. Returns how it ended.
    fn remove(&self, id: &str) -> i32 {
        eventually("it stops", || self.status(id) == "STOPPED");
        // How it has ended, it says by its own exit code (1.7), or in a warning.
        let removed = self.ctr(&["task", "rm", id]);
        self.ctr(&["container", "rm", id]).ok();
        let said = removed.err();
        let said = said.split("exit with non-zero exit code ").nth(1);
        said.map_or(removed.code, |code| code.trim_end_matches(['"', '\n']).parse().unwrap())
    }

    fn end(mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        tidy_groups("default");
        tidy_groups("k8s.io");
        let _absent = fs::remove_dir_all("/run/containerd");
    }
}

fn containerd(archives: &[PathBuf], body: impl FnOnce(&mut Containerd)) {
    with_containerd(|_, _| String::new(), archives, body);
}

pub(crate) fn with_containerd(
    settings: impl FnOnce(&Engine, &str) -> String,
    archives: &[PathBuf],
    body: impl FnOnce(&mut Containerd),
) {
    for program in ["containerd", "ctr", "containerd-shim-runc-v2"] {
        if !installed(program) {
            tests::skip!("{program} is not installed");
        }
    }
    isolated(|| {
        let archives: Vec<&Path> = archives.iter().map(PathBuf::as_path).collect();
        let mut containerd = Containerd::start(&archives, settings);
        body(&mut containerd);
        containerd.end();
    });
}

#[test]
fn o1_containerd_runs_tasks() {
    containerd(&[tests::image::busybox()], |containerd| {
        let once = |flags: &[&str], command: &[&str]| containerd.once(flags, "busybox", command);
        assert_eq!(once(&[], &["echo", "hello"]).ok().out(), "hello");
        assert_eq!(once(&[], &["sh", "-c", "exit 9"]).code, 9);
        let missing = once(&[], &["nope"]);
        assert!(missing.err().contains("executable file not found in $PATH"), "{}", missing.err());
        assert_eq!(once(&["--read-only"], &["touch", "/x"]).code, 1);
        let map = ["--uidmap", "0:200000:1000", "--gidmap", "0:200000:1000"];
        let said = once(&map, &["sh", "-c", "cat /proc/self/uid_map; touch /made && stat -c %u /made"]);
        let said = said.ok().out();
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "1000", "0"]);

        let volume = containerd.engine.path("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "kept").unwrap();
        let mount = |options: &str| format!("type=bind,src={},dst=/v,options={options}", volume.display());
        let said = once(&["--mount", &mount("rbind:ro")], &["sh", "-c", "cat /v/file; touch /v/x"]);
        assert_eq!((said.code, said.out().as_str()), (1, "kept"), "{}", said.err());
        once(&["--mount", &mount("rbind:rw")], &["touch", "/v/x"]).ok();
        assert!(volume.join("x").exists());

        containerd.detached(&["--memory-limit", "33554432"], "busybox", "two", &["sleep", "1000"]);
        let said = containerd.ctr(&["task", "exec", "--exec-id", "e", "two", "sh", "-c", "echo in; exit 4"]);
        assert_eq!((said.code, said.out().as_str()), (4, "in"));
        assert_eq!(containerd.status("two"), "RUNNING");
        containerd.ctr(&["task", "pause", "two"]).ok();
        assert_eq!(containerd.status("two"), "PAUSED");
        containerd.ctr(&["task", "resume", "two"]).ok();
        assert!(containerd.ctr(&["task", "metrics", "two"]).ok().out().contains("memory"));
        assert_eq!(containerd.ctr(&["task", "ps", "two"]).ok().out().lines().count(), 2);
        containerd.ctr(&["task", "kill", "-s", "KILL", "two"]).ok();
        assert_eq!(containerd.remove("two"), 137);
    });
}

#[test]
fn o1_containerd_has_terminals_limits_and_events() {
    containerd(&[tests::image::busybox()], |containerd| {
        let log = containerd.engine.path("events");
        let mut events =
            containerd.command(&["events"]).stdout(fs::File::create(&log).unwrap()).spawn().unwrap();
        let typed = |arguments: Vec<String>| {
            let line =
                format!("ctr -a {} {}", containerd.engine.path("socket").display(), arguments.join(" "));
            finish(Command::new("script").args(["-qec", &line, "/dev/null"]))
        };
        let said = typed(containerd.run(&["--rm", "-t"], "busybox", "tty", &["tty"]));
        assert!(said.code == 0 && said.out().contains("/dev/pts/0"), "{} {}", said.code, said.out());

        let limits = ["--memory-limit", "16777216", "--cpus", "0.5"];
        containerd.detached(&limits, "busybox", "one", &["sleep", "1000"]);
        let exec = ["task", "exec", "-t", "--exec-id", "t", "one", "tty"].map(str::to_owned);
        let said = typed(exec.to_vec());
        assert!(said.code == 0 && said.out().contains("/dev/pts/"), "{} {}", said.code, said.out());
        let limit = |v1: &str, v2: &str| {
            let read = |path: &str| fs::read_to_string(format!("/sys/fs/cgroup/{path}")).ok();
            let text = read(v1).or_else(|| read(v2)).unwrap();
            text.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(limit("memory/default/one/memory.limit_in_bytes", "default/one/memory.max"), "16777216");
        assert_eq!(limit("cpu/default/one/cpu.cfs_quota_us", "default/one/cpu.max"), "50000");
        let user = ["task", "exec", "--user", "12:13", "--cwd", "/etc", "--exec-id", "u", "one"];
        let said = containerd.ctr(&[&user[..], &["sh", "-c", "id -u; id -g; pwd"]].concat()).ok().out();
        assert_eq!(said, "12\n13\n/etc");
        // More than it may have: it is killed, and that is told.
        let eater = ["task", "exec", "--exec-id", "m", "one", "sh", "-c", "tail /dev/zero"];
        assert_eq!(containerd.ctr(&eater).code, 137);
        let said = || fs::read_to_string(&log).unwrap();
        eventually("it tells of the lack of memory", || said().contains("/tasks/oom"));
        containerd.ctr(&["task", "kill", "-s", "KILL", "one"]);
        containerd.remove("one");
        for topic in ["create", "start", "exit", "exec-added", "exec-started", "delete"] {
            eventually(topic, || said().contains(&format!("/tasks/{topic}")));
        }
        events.kill().unwrap();
        events.wait().unwrap();
    });
}

#[test]
fn o1_containerd_runs_debian_and_postgresql_and_may_be_killed_meanwhile() {
    // Debian, with PostgreSQL over it.
    containerd(&[stored("postgres-demo.tar")], |containerd| {
        let script = "cat /etc/debian_version; apt-get --version | head -c 3; id -u";
        let said = containerd.once(&["--seccomp"], "postgres-demo", &["sh", "-c", script]).ok().out();
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("12") && lines[1] == "apt100", "{said}");

        let data = containerd.engine.path("pgdata");
        fs::create_dir(&data).unwrap();
        // postgres of the image.
        std::os::unix::fs::chown(&data, Some(POSTGRES.0), Some(POSTGRES.1)).unwrap();
        let mount = format!("type=bind,src={},dst=/var/lib/postgresql/data,options=rbind:rw", data.display());
        let tmp = "type=tmpfs,src=tmpfs,dst=/tmp,options=mode=1777:nosuid".to_owned();
        let mounts = ["--mount", &mount, "--mount", &tmp];
        containerd.once(&mounts, "postgres-demo", &["initdb", "--no-sync"]).ok();
        let flags = [&mounts[..], &["--read-only", "--memory-limit", "536870912", "--seccomp"]].concat();
        let server = ["postgres", "-k", "/tmp", "-c", "listen_addresses=", "-c", "fsync=off"];
        containerd.detached(&flags, "postgres-demo", "pg", &server);
        let count = std::cell::Cell::new(0);
        let sql = |containerd: &Containerd, text: &str| {
            count.set(count.get() + 1);
            let id = format!("sql{}", count.get());
            let exec = ["task", "exec", "--exec-id", &id, "pg"];
            containerd.ctr(&[&exec[..], &["psql", "-h", "/tmp", "-d", "postgres", "-Atc", text]].concat())
        };
        eventually("it answers", || sql(containerd, "select 1").out() == "1");
        sql(containerd, "create table kept as select 42 as answer").ok();
        containerd.ctr(&["task", "pause", "pg"]).ok();
        containerd.ctr(&["task", "resume", "pg"]).ok();

        containerd.again();
        assert_eq!(containerd.status("pg"), "RUNNING");
        assert_eq!(sql(containerd, "select answer from kept").ok().out(), "42");
        assert!(containerd.ctr(&["task", "metrics", "pg"]).ok().out().contains("memory"));
        // As its image says: it ends by itself.
        containerd.ctr(&["task", "kill", "-s", "INT", "pg"]).ok();
        assert_eq!(containerd.remove("pg"), 0);
        containerd.detached(&flags, "postgres-demo", "pg", &server);
        eventually("it comes back", || sql(containerd, "select answer from kept").out() == "42");
        // Whoever watches it is killed: the task is gone with all that ran in it.
        containerd.ctr(&["task", "kill", "-a", "-s", "KILL", "pg"]).ok();
        containerd.remove("pg");
    });
}

/// User and group of that name in the image of PostgreSQL.
const POSTGRES: (u32, u32) = (100, 102);
