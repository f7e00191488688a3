//! Doors, kinds of containers, relaxations, verdicts, and careless engines to compare with.

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::cli::finish;
use tests::rpc::bytes;
use tests::{Host, Rpc, attacks};

/// A file outside every container. Who reaches it is out.
pub(crate) const MARKER: &str = "/tmp/marker";

/// How a process comes into a container.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Door {
    /// As the leader, by `subcontainer launch`.
    Launch,
    /// By `subcontainer exec`.
    Exec,
    /// By `subcontainer.exec` on the host's socket, in a container that the host launched.
    Host,
}

pub(crate) const DOORS: [Door; 3] = [Door::Launch, Door::Exec, Door::Host];

/// A kind of container in which every attempt must fail. A new dimension is a line in [`KINDS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Names of parameters of `subcontainer.createFs` that are true.
    pub(crate) create: &'static [&'static str],
    /// In a sandbox of its own.
    pub(crate) sandboxed: bool,
    /// For `subcontainer launch`.
    pub(crate) flags: &'static [&'static str],
    /// The same for `subcontainer.launch`: the mode of its network, if that is not the machine's.
    pub(crate) network: Option<&'static str>,
}

pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "root of the machine", create: &[], sandboxed: false, flags: &[], network: None },
    Kind {
        name: "root of a user namespace",
        create: &["userns"],
        sandboxed: false,
        flags: &[],
        network: None,
    },
    Kind {
        name: "root of a private network",
        create: &["userns"],
        sandboxed: false,
        flags: &["--network", "private"],
        network: Some("private"),
    },
    Kind { name: "root in a sandbox", create: &[], sandboxed: true, flags: &[], network: None },
];

impl Kind {
    /// A throw-away rootfs of this kind, over busybox; with these settings, if it is in a sandbox, for that. Both are this
    /// connection's.
    pub(crate) fn create(&self, rpc: &mut Rpc, settings: &Value) -> String {
        self.create_sized(rpc, settings, None)
    }

    fn create_sized(&self, rpc: &mut Rpc, settings: &Value, size: Option<u64>) -> String {
        let mut params = json!({"imageId": "busybox", "throwaway": true});
        if let Some(size) = size {
            params["rootfsSize"] = json!(size);
        }
        for name in self.create {
            params[name] = json!(true);
        }
        if self.sandboxed {
            let sandbox = rpc.call("sandbox.create", json!({"throwaway": true, "settings": settings}));
            params["sandbox"] = sandbox["guid"].clone();
        }
        rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned()
    }
}

/// Guards that are switched off by name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Relaxed {
    pub(crate) capabilities: &'static [&'static str],
    pub(crate) unconfined: bool,
    /// The default filter and `socketcall(2)`.
    pub(crate) socketcall: bool,
    pub(crate) shared_dev_sys: bool,
    /// Without the limits, the network and the size of the attempt.
    pub(crate) unlimited: bool,
}

/// Nothing.
pub(crate) const GUARDED: Relaxed = Relaxed {
    capabilities: &[],
    unconfined: false,
    socketcall: false,
    shared_dev_sys: false,
    unlimited: false,
};

/// What `--privileged` of other engines comes to: no filter, and the right to mount.
pub(crate) const MAY_MOUNT: Relaxed = Relaxed { capabilities: &["SYS_ADMIN"], unconfined: true, ..GUARDED };

/// Every system call, but no capability beyond the default.
pub(crate) const UNCONFINED: Relaxed = Relaxed { unconfined: true, ..GUARDED };

/// Without the limits and the network of the attempt.
pub(crate) const UNLIMITED: Relaxed = Relaxed { unlimited: true, ..GUARDED };

impl Relaxed {
    pub(crate) fn flags(&self) -> Vec<&'static str> {
        let mut flags = Vec::new();
        for capability in self.capabilities {
            flags.extend(["--cap-add", capability]);
        }
        if self.unconfined {
            flags.extend(["--seccomp", "unconfined"]);
        }
        if self.socketcall {
            flags.extend(["--seccomp", "socketcall"]);
        }
        if self.shared_dev_sys {
            flags.push("--shared-dev-sys");
        }
        flags
    }

    pub(crate) fn launch(&self, guid: &str, kind: &Kind) -> Value {
        let seccomp = match (self.unconfined, self.socketcall) {
            (true, _) => "unconfined",
            (_, true) => "socketcall",
            _ => "default",
        };
        let mut params = json!({
            "guid": guid,
            "sharedDevSys": self.shared_dev_sys,
            "privileges": {"capAdd": self.capabilities, "seccomp": seccomp},
        });
        if let Some(mode) = kind.network {
            params["network"] = json!({"mode": mode});
        }
        params
    }
}

/// What an attempt said: one line for each thing that it tried.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) lines: Vec<String>,
    at: String,
}

impl Said {
    /// # Panics
    /// When there is no verdict: then nothing was tried.
    #[track_caller]
    pub(crate) fn read(at: impl fmt::Display, output: &str, errors: &str) -> Self {
        let verdict = |line: &&str| line.starts_with("worked: ") || line.starts_with("refused: ");
        let lines: Vec<String> = output.lines().map(str::trim).filter(verdict).map(str::to_owned).collect();
        assert!(!lines.is_empty(), "{at}: nothing was tried: {output:?}, {errors:?}");
        Self { lines, at: at.to_string() }
    }

    /// # Panics
    /// When any of it worked.
    #[track_caller]
    pub(crate) fn all_refused(&self) {
        let worked: Vec<_> = self.lines.iter().filter(|line| line.starts_with("worked")).collect();
        assert!(worked.is_empty(), "AN ESCAPE, {}: {worked:?}", self.at);
    }

    /// # Panics
    /// When any of it did not work.
    #[track_caller]
    pub(crate) fn all_worked(&self) {
        let refused: Vec<_> = self.lines.iter().filter(|line| line.starts_with("refused")).collect();
        assert!(refused.is_empty(), "the control fails, {}: {refused:?}", self.at);
    }
}

/// One machine: a host, the command line on the same data, and the marker outside.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) host: Host,
}

impl Arena {
    pub(crate) fn new() -> Self {
        fs::write(MARKER, "a file outside\n").unwrap();
        Self { host: Host::with_busybox() }
    }

    pub(crate) fn path(&self, guid: &str) -> PathBuf {
        self.host.data().join("subcontainers").join(guid)
    }

    /// A rootfs with the attacks in it, owned by this connection.
    pub(crate) fn rootfs(&self, rpc: &mut Rpc, kind: &Kind) -> String {
        self.rootfs_with(rpc, kind, &json!({}), None)
    }

    /// As [`Arena::rootfs`], with a size; in a sandbox with these settings if its kind is that.
    fn rootfs_with(&self, rpc: &mut Rpc, kind: &Kind, settings: &Value, size: Option<u64>) -> String {
        let guid = kind.create_sized(rpc, settings, size);
        fs::copy(attacks::program(), self.path(&guid).join("attacks")).unwrap();
        guid
    }

    /// Destroys a rootfs, and the sandbox that it is in.
    pub(crate) fn destroy(&self, rpc: &mut Rpc, guid: &str) {
        let sandbox = rpc.call("subcontainer.inspect", json!({"guid": guid}))["sandbox"].clone();
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        if sandbox.is_string() {
            rpc.call("sandbox.destroy", json!({"guid": sandbox}));
        }
    }

    /// What the test has made in a rootfs becomes its root's, with all beneath.
    pub(crate) fn give(&self, guid: &str, path: &str) {
        let root = fs::metadata(self.path(guid)).unwrap();
        let owner = format!("{}:{}", root.uid(), root.gid());
        outside(&["chown", "-hR", &owner, self.path(guid).join(path).to_str().unwrap()]);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // It may be what an attempt has taken away.
        fs::remove_file(MARKER).ok();
    }
}

/// A limit: the flag of the command line and its value, the name on the socket and its value.
pub(crate) type Limit = (&'static str, &'static str, &'static str, u64);

type Prepare<'a> = Box<dyn Fn(&Path) + 'a>;

/// One technique: what is prepared in the rootfs from outside (as an image would have it), and what runs inside.
pub(crate) struct Attempt<'a> {
    words: Vec<String>,
    prepare: Prepare<'a>,
    mounts: Vec<Value>,
    user: Option<&'a str>,
    limits: &'static [Limit],
    network: Option<&'static str>,
    size: Option<u64>,
}

impl<'a> Attempt<'a> {
    /// Words for `attacks`.
    pub(crate) fn new(words: &[&str]) -> Self {
        let words = [&["/attacks"], words].concat();
        Self::command(&words)
    }

    /// Any command, which prints a verdict.
    pub(crate) fn command(words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let prepare = Box::new(|_: &Path| ());
        Self { words, prepare, mounts: Vec::new(), user: None, limits: &[], network: None, size: None }
    }

    /// Done to the rootfs before anything runs in it.
    pub(crate) fn prepared(mut self, prepare: impl Fn(&Path) + 'a) -> Self {
        self.prepare = Box::new(prepare);
        self
    }

    /// Mounted before anything runs: `subcontainer.mount`.
    pub(crate) fn mounted(mut self, mount: Value) -> Self {
        self.mounts.push(mount);
        self
    }

    /// In a container with these limits.
    pub(crate) fn limited(mut self, limits: &'static [Limit]) -> Self {
        self.limits = limits;
        self
    }

    /// In a container whose rootfs has this size.
    pub(crate) fn sized(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// In a container with this network: `none` or `private`.
    pub(crate) fn network(mut self, mode: &'static str) -> Self {
        self.network = Some(mode);
        self
    }

    pub(crate) fn user(mut self, user: &'a str) -> Self {
        self.user = Some(user);
        self
    }

    /// It fails through every door, in every kind of container.
    #[track_caller]
    pub(crate) fn is_refused(&self, arena: &Arena) {
        for kind in KINDS {
            for door in DOORS {
                self.through(arena, door, kind, &GUARDED).all_refused();
            }
        }
    }

    /// The control: it works through every door when this is switched off. In the first kind only: what a capability
    /// opens in a user namespace is another question.
    #[track_caller]
    pub(crate) fn works_with(&self, arena: &Arena, relaxed: &Relaxed) {
        for door in DOORS {
            self.through(arena, door, &KINDS[0], relaxed).all_worked();
        }
    }

    /// Through one door.
    #[track_caller]
    pub(crate) fn through(&self, arena: &Arena, door: Door, kind: &Kind, relaxed: &Relaxed) -> Said {
        let mut rpc = arena.host.connect();
        let limits = if relaxed.unlimited { &[] } else { self.limits };
        let network = self.network.filter(|_| !relaxed.unlimited);
        let mut settings = json!({});
        for limit in limits {
            settings["limits"][limit.2] = json!(limit.3);
        }
        if let Some(mode) = network {
            settings["network"] = json!({"mode": mode});
        }
        let size = self.size.filter(|_| !relaxed.unlimited);
        let guid = arena.rootfs_with(&mut rpc, kind, &settings, size);
        let path = arena.path(&guid);
        (self.prepare)(&path);
        for mount in &self.mounts {
            rpc.call("subcontainer.mount", json!({"guid": guid, "mount": mount}));
        }
        let at = format!("{door:?}, {}, {relaxed:?}, {:?}", kind.name, self.words);
        let path = path.to_str().unwrap();
        let user: Vec<&str> = self.user.iter().flat_map(|user| ["--user", *user]).collect();
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut limit_flags: Vec<&str> = Vec::new();
        if !kind.sandboxed {
            limit_flags.extend(limits.iter().flat_map(|limit| [limit.0, limit.1]));
            limit_flags.extend(network.iter().flat_map(|mode| ["--network", *mode]));
        }
        let of_kind = if network.is_some() { &[] } else { kind.flags };
        let launch = [&["subcontainer", "launch"], of_kind, &relaxed.flags(), &limit_flags].concat();
        let cli = arena.host.cli();
        let said = match door {
            Door::Launch => {
                let ended = cli.run([&launch[..], &user, &[path], &words].concat());
                Said::read(at, &ended.out(), &ended.err())
            }
            Door::Exec => {
                let rootfs = tests::cli::Rootfs { guid: guid.clone(), path: path.to_owned() };
                let running = cli.launch(&rootfs, &launch[2..], &[]);
                let ended = cli.exec(&rootfs, &user, &words);
                drop(running);
                Said::read(at, &ended.out(), &ended.err())
            }
            Door::Host => {
                let mut params = relaxed.launch(&guid, kind);
                if !kind.sandboxed {
                    params.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
                }
                rpc.call("subcontainer.launch", params);
                let options = self.user.map_or(json!({}), |user| json!({"user": user}));
                let params = json!({"guid": guid, "command": words, "options": options});
                let result = rpc.call("subcontainer.exec", params);
                let text = |name: &str| String::from_utf8_lossy(&bytes(&result[name])).into_owned();
                Said::read(at, &text("stdout"), &text("stderr"))
            }
        };
        arena.destroy(&mut rpc, &guid);
        said
    }
}

/// The attack itself with no container around it, in the namespaces of the test.
#[track_caller]
pub(crate) fn bare(words: &[&str]) -> Said {
    // What it mounts goes with it.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--"]).arg(attacks::program()).args(words);
    let ended = finish(command, b"");
    // It is there when the attack needed a place.
    fs::remove_dir("/tmp/scratch").ok();
    Said::read(format!("bare {words:?}"), &ended.out(), &ended.err())
}

/// What a careless engine did: a shell script with mount, pid and cgroup namespaces of its own, in which `$R` is a
/// directory tree with the attacks in it, prepared by the test, and a mount.
#[track_caller]
pub(crate) fn naive(prepare: impl Fn(&Path), script: &str) -> Said {
    let tree = naive_tree();
    prepare(tree.path());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--", "sh", "-c"]);
    command.arg(format!("set -e\nmount --bind \"$R\" \"$R\"\n{script}"));
    command.env("R", tree.path());
    let ended = finish(command, b"");
    Said::read(format!("naive {script}"), &ended.out(), &ended.err())
}

/// A tree like the busybox image's, with the attacks in it.
pub(crate) fn naive_tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    for directory in ["bin", "data", "dev/shm", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(tree.path().join(directory)).unwrap();
    }
    fs::copy(attacks::program(), tree.path().join("attacks")).unwrap();
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
    tree
}

/// A command outside, which must succeed.
#[track_caller]
pub(crate) fn outside(words: &[&str]) {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    finish(command, b"").ok();
}

/// Whatever lies at the path becomes a link to the target.
pub(crate) fn plant_link(path: &Path, target: impl AsRef<Path>) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => fs::create_dir_all(path.parent().unwrap()).unwrap(),
    }
    std::os::unix::fs::symlink(target, path).unwrap();
}

/// Every mount that this process sees, by its mountpoint.
pub(crate) fn mountpoints() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect()
}
