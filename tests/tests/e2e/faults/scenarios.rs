//! What is done while somebody is killed. Short ones: each is begun anew for each of its steps.

use std::process::{Command, Stdio};

use super::doors::Ended;
use super::look::Lab;
use super::{Asked, wait};

type Commands = fn(&mut Run<'_>) -> Option<()>;

/// By command line. `?` after a command that was killed ends the scenario.
pub(super) const COMMANDS: &[(&str, Commands)] = &[
    ("files", |run| {
        let rootfs =
            run.says(&["subcontainer", "create-fs", "busybox", "--userns", "--rootfs-size", "16m"])?;
        run.does(&["subcontainer", "destroy-fs", &rootfs])
    }),
    ("process", |run| {
        let rootfs = run.says(&["subcontainer", "create-fs", "busybox", "--throwaway"])?;
        run.does(&["subcontainer", "launch", "--memory", "64m", &rootfs, "sleep", "0.01"])?;
        run.does(&["subcontainer", "destroy-fs", &rootfs])
    }),
    ("network", |run| {
        let rootfs = run.says(&["subcontainer", "create-fs", "busybox", "--throwaway"])?;
        let network = ["--network", "private", "--publish", "8080:80"];
        run.does(&[&["subcontainer", "launch"], &network[..], &[&rootfs, "true"]].concat())?;
        run.does(&["subcontainer", "destroy-fs", &rootfs])
    }),
    ("sandbox", |run| {
        let sandbox = run.says(&["sandbox", "create", "--image", "busybox", "--throwaway", "-m", "64m"])?;
        let rootfs =
            run.says(&["subcontainer", "create-fs", "--sandbox", &sandbox, "busybox", "--throwaway"])?;
        run.does(&["subcontainer", "launch", &rootfs, "true"])?;
        run.does(&["subcontainer", "exec", &sandbox, "true"])?;
        run.does(&["sandbox", "destroy", &sandbox])
    }),
    ("beside", |run| {
        // Launched by somebody who is not killed.
        let made = run.lab.cli().create_fs("busybox");
        let running = run.lab.cli().launch(&made, &["--pids-limit", "100"], &[]);
        let done = run
            .does(&["subcontainer", "exec", &made.path, "true"])
            .and_then(|()| run.does(&["subcontainer", "update", "--pids-limit", "50", &made.path]))
            .and_then(|()| run.does(&["subcontainer", "destroy-fs", &made.path]));
        // Its guard ends the container.
        drop(running);
        done
    }),
    ("images", |run| {
        let tree = run.lab.scratch().join("tree");
        run.does(&["image", "import", tree.to_str().unwrap(), "--name", "second"])?;
        run.does(&["image", "rm", "second"])?;
        run.does(&["image", "gc"])
    }),
    ("bundle", |run| {
        run.bundle();
        for command in [&["create", "matrix"][..], &["start", "matrix"], &["delete", "--force", "matrix"]] {
            run.finish(oci(run.lab, command))?;
        }
        Some(())
    }),
];

/// A scenario on its way.
pub(super) struct Run<'a> {
    lab: &'a Lab,
    asked: &'a Asked,
}

pub(super) fn commands(lab: &Lab, scenario: &str, asked: &Asked) -> Ended {
    let (_, commands) = COMMANDS.iter().find(|(name, _)| *name == scenario).unwrap();
    match commands(&mut Run { lab, asked }) {
        Some(()) => Ended::Whole(Vec::new()),
        None => Ended::Killed(Vec::new()),
    }
}

impl Run<'_> {
    fn does(&mut self, arguments: &[&str]) -> Option<()> {
        self.says(arguments).map(drop)
    }

    fn says(&mut self, arguments: &[&str]) -> Option<String> {
        let command = self.lab.cli().command(arguments);
        self.finish(command)
    }

    /// What it prints; none when it was killed.
    fn finish(&self, mut command: Command) -> Option<String> {
        self.asked.to(&mut command);
        let out = self.lab.scratch().join("out");
        let err = self.lab.scratch().join("err");
        let create = |path: &std::path::Path| std::fs::File::create(path).unwrap();
        command.stdin(Stdio::null()).stdout(create(&out)).stderr(create(&err));
        let mut child = command.spawn().unwrap();
        let status = wait(&mut child);
        let said = std::fs::read_to_string(&out).unwrap().trim().to_owned();
        match (self.asked, status.code()) {
            (_, Some(0)) => Some(said),
            // An init that was killed meanwhile is a failure to most, and they may say so.
            (Asked::Fault(_), _) => None,
            (_, code) => {
                panic!("{command:?} ended with {code:?}: {}", std::fs::read_to_string(&err).unwrap())
            }
        }
    }

    /// A bundle over the busybox tree.
    fn bundle(&self) {
        let dir = self.lab.scratch().join("bundle");
        if dir.exists() {
            return;
        }
        std::fs::create_dir(&dir).unwrap();
        let tree = tests::image::target_directory().join("xtask/images/busybox");
        assert!(Command::new("cp").arg("-a").arg(tree).arg(dir.join("rootfs")).status().unwrap().success());
        assert!(oci(self.lab, &["spec"]).status().unwrap().success());
        let path = dir.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["process"]["terminal"] = serde_json::json!(false);
        config["process"]["args"] = serde_json::json!(["sleep", "1000"]);
        config["linux"]["resources"]["pids"] = serde_json::json!({"limit": 100});
        std::fs::write(&path, config.to_string()).unwrap();
    }
}

/// The OCI command line, in the directory of the bundle.
pub(super) fn oci(lab: &Lab, arguments: &[&str]) -> Command {
    let dir = lab.scratch().join("bundle");
    let mut command = Command::new(tests::cli::binary());
    command.arg("oci").arg("--root").arg(lab.scratch().join("bundles")).args(arguments).current_dir(dir);
    command
}

/// A client of the host's that says what it was told.
pub(super) const CLIENT: &str = r#"
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile('rw')
n, tolerant = 0, sys.argv[3] == 'tolerant'
def call(method, **params):
    global n; n += 1
    if method.endswith(('destroyFs', 'sandbox.destroy', 'stop')): print('destroying', params['guid'], flush=True)
    f.write(json.dumps({'jsonrpc': '2.0', 'id': n, 'method': method, 'params': params}) + '\n'); f.flush()
    while True:
        line = f.readline()
        if not line: sys.exit(1)
        m = json.loads(line)
        if m.get('id') != n: continue
        if 'error' in m and not tolerant: sys.exit(str(m))
        return m.get('result') or {'guid': '-', 'pid': 0}
def launch(guid, **params):
    pid = call('subcontainer.launch', guid=guid, **params)['pid']
    if pid: print('launched', guid, pid, flush=True)
call('hello', protocol=1, client='matrix')
"#;

/// What a scenario is there for, where others go through its other steps as well: those are enough for one life of a test.
/// Not in a soak. None: all of its steps.
pub(super) fn own_steps(scenario: &str) -> Option<&'static [&'static str]> {
    match scenario {
        "job" => Some(&["write-locks", "mount", "unmount", "record-mounts", "start-process", "retire-group"]),
        "logs" => {
            Some(&["make-fifo", "remove-fifo", "make-log", "remove-log", "keep-handle", "start-process"])
        }
        "package" => Some(&[
            "begin-bundle",
            "commit-bundle",
            "end-bundle",
            "write-decision",
            "remove-data",
            "start-process",
        ]),
        // What becomes of the data is looked at for all of them by the tests of backups.
        "backup" => Some(&["commit-backup", "close-backup", "swap-data", "end-restore"]),
        _ => None,
    }
}

/// By calls of the host.
pub(super) const CALLS: &[(&str, &str)] = &[
    (
        "files",
        r#"
g = call('subcontainer.createFs', imageId='busybox', userns=True, rootfsSize=16777216)['guid']
call('subcontainer.mount', guid=g, mount={'source': {'type': 'volume', 'volumeId': 'main'}, 'mountpoint': '/data'})
call('subcontainer.unmount', guid=g, mountpoint='/data')
call('subcontainer.destroyFs', guid=g)
"#,
    ),
    (
        "process",
        r#"
g = call('subcontainer.createFs', imageId='busybox', throwaway=True, detached=True)['guid']
launch(g, limits={'pids': 100}, command=['sleep', '1000'])
call('subcontainer.exec', guid=g, command=['true'])
call('subcontainer.spawn', guid=g, command=['sh', '-c', 'setsid sleep 1000 & sleep 1000'])
call('subcontainer.update', guid=g, limits={'pids': 50})
call('subcontainer.destroyFs', guid=g)
"#,
    ),
    (
        "owned",
        r#"
g = call('subcontainer.createFs', imageId='busybox', throwaway=True)['guid']
call('subcontainer.exec', guid=g, command=['true'])
call('subcontainer.detach', guid=g)
call('subcontainer.attach', guid=g)
"#,
    ),
    (
        "network",
        r#"
g = call('subcontainer.createFs', imageId='busybox', throwaway=True, detached=True)['guid']
launch(g, network={'mode': 'private', 'publish': ['8080:80']})
call('subcontainer.destroyFs', guid=g)
"#,
    ),
    (
        "sandbox",
        r#"
s = call('sandbox.create', imageId='busybox', throwaway=True, settings={'limits': {'pids': 100}})['guid']
g = call('subcontainer.createFs', imageId='busybox', throwaway=True, sandbox=s)['guid']
call('subcontainer.launch', guid=g, command=['sleep', '1000'])
call('sandbox.destroy', guid=s)
"#,
    ),
    (
        "job",
        r#"
call('lock.acquire', name='backup:people', purpose='nightly')
mounts = [({'type': 'volume', 'volumeId': 'main'}, '/data'), ({'type': 'backup'}, '/backup')]
g = call('subcontainer.createFs', imageId='busybox', throwaway=True)['guid']
for source, mountpoint in mounts: call('subcontainer.mount', guid=g, mount={'source': source, 'mountpoint': mountpoint})
dump = 'cat /data/* >/backup/.new; sha256sum </backup/.new >/backup/dump.sha256; mv /backup/.new /backup/dump'
call('subcontainer.exec', guid=g, command=['sh', '-c', dump])
call('subcontainer.exec', guid=g, command=['sh', '-c', 'sha256sum </backup/dump | cmp - /backup/dump.sha256'])
call('subcontainer.destroyFs', guid=g)
call('lock.release', name='backup:people')
"#,
    ),
    (
        "logs",
        r#"
g = call('subcontainer.createFs', imageId='busybox', throwaway=True, detached=True)['guid']
log = {'stdout': 'log', 'stderr': 'log'}
launch(g, streams=log, command=['sh', '-c', 'echo one; echo two >&2; exec sleep 1000'])
call('subcontainer.spawn', guid=g, streams=log, command=['echo', 'three'])
call('subcontainer.stop', guid=g, timeout=0)
call('subcontainer.exec', guid=g, command=['true'])
call('subcontainer.destroyFs', guid=g)
"#,
    ),
    (
        "package",
        r#"
call('package.install', source={'from': 'file', 'path': sys.argv[4]})
call('package.activate', packageId='matrix')
call('package.disable', packageId='matrix')
call('package.remove', packageId='matrix', data=True)
"#,
    ),
    (
        "backup",
        r#"
import os
target = os.path.join(os.path.dirname(sys.argv[4]), 'target')
os.makedirs(target, exist_ok=True)
call('package.install', source={'from': 'file', 'path': sys.argv[4]})
call('package.activate', packageId='matrix')
call('package.backup', packageId='matrix', target=target)
call('package.restore', packageId='matrix', target=target)
call('package.disable', packageId='matrix')
call('package.remove', packageId='matrix', data=True)
"#,
    ),
    (
        "images",
        r#"
call('image.import', path=sys.argv[2], name='second')
call('image.remove', imageId='second')
call('image.gc')
"#,
    ),
];
