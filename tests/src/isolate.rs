//! A private machine for one test.
//!
//! Owns the namespaces, the cgroups and the `/run` and `/tmp` of one test, and takes them away after it, whatever
//! the test did: a leak fails the test and does not reach the next one. Never touches a mount or cgroup that it did
//! not make.
//!
//! ```text
//! test process                     the same test, run again inside
//!   | makes cgroups, a directory    |
//!   | unshare … test --exact NAME ->| look; body; look again; assert
//!   | removes both                  |
//! ```

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::machine::{Machine, Processes};

/// Set in the environment of what runs inside.
const INSIDE: &str = "START_CONTAINER_TEST_INSIDE";

/// How the names of our cgroups and directories begin; then comes who made them, as [`maker`] tells.
const NAME: &str = "start-container-test-";

/// Joins the cgroups, then becomes `unshare`, which ends with us and takes along everything inside.
const ENTER: &str = r#"
set -eu
for cgroup in $CGROUPS; do echo $$ > "$cgroup/cgroup.procs"; done
exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child=KILL --net --ipc --uts --cgroup --mount-proc -- sh -c "$SETTLE" sh "$@"
"#;

/// Runs inside the new namespaces: a cgroup view that begins at our own cgroups, an empty `/run`, our own `/tmp`.
const SETTLE: &str = r#"
set -eu
views=
for cgroup in $CGROUPS; do
  view=${cgroup%/*}
  views="$views $(stat -f -c %T "$view"):$view"
  umount "$view"
done
# Whoever makes a directory beside the hierarchies makes it for himself.
case $(stat -f -c %T /sys/fs/cgroup) in tmpfs) mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup ;; esac
for one in $views; do
  kind=${one%%:*}
  view=${one#*:}
  options=${view##*/}
  mkdir -p "$view"
  case $kind in
    cgroup2fs) mount -t cgroup2 cgroup2 "$view" ;;
    *) case $options in systemd) options=none,name=systemd ;; esac
       mount -t cgroup -o "$options" cgroup "$view" ;;
  esac
done
mount --bind "$SCRATCH" /tmp
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
unset CGROUPS SETTLE SCRATCH TMPDIR views one kind view options
cd /
"$@" &
wait $!
"#;

/// Runs the body of a test in namespaces, cgroups, `/run` and `/tmp` of its own, and fails when it leaves anything
/// there: a mount, a cgroup, a process, a network link, a file.
///
/// # Panics
/// When the body panics, or leaves something.
pub fn isolated(body: impl FnOnce()) {
    if inside() {
        // `unshare` gave us a `/proc` of our own: everything in it was started by this test.
        let temporary = [Path::new("/tmp")];
        let before = Machine::look(Processes::All, &temporary).expect("look at the machine");
        body();
        let left = before.left_after(&temporary, Duration::from_secs(5)).expect("look at the machine");
        assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
        return;
    }
    let name = std::thread::current().name().expect("a test's thread has its name").to_owned();
    let program = std::env::current_exe().expect("find the test program");
    let isolation = Isolation::new();
    let arguments = ["--exact", &name, "--nocapture", "--include-ignored", "--test-threads=1"];
    let status = isolation.command(&program, &arguments).status().expect("run unshare");
    drop(isolation);
    assert!(status.success(), "the test failed in its namespaces (see above): {status}");
}

/// Whether this process runs inside an [`Isolation`].
#[must_use]
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The cgroups and the `/tmp` of what runs in namespaces of its own. Dropping it removes both.
#[derive(Debug)]
pub struct Isolation {
    cgroups: Cgroups,
    scratch: TempDir,
}

impl Default for Isolation {
    fn default() -> Self {
        Self::new()
    }
}

impl Isolation {
    /// Makes them.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this needs root");
        sweep();
        let prefix = format!("{NAME}{}-", maker());
        let scratch =
            tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp").expect("make a directory in /tmp");
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o1777))
            .expect("open it to all users");
        Self { cgroups: Cgroups::make(), scratch }
    }

    /// A command that runs the program inside, with no descriptor but the three: what the tests were started with must
    /// not decide what an attack finds.
    ///
    /// # Panics
    /// On a kernel before 5.11.
    #[must_use]
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        linux::process::close_range_on_exec(3).expect("close what was inherited");
        let mut command = Command::new("sh");
        command
            .args(["-c", ENTER, "sh"])
            .arg(program)
            .args(arguments)
            .env("CGROUPS", self.cgroups.list())
            .env("SETTLE", SETTLE)
            .env("SCRATCH", self.scratch.path())
            .env(INSIDE, "1");
        command
    }
}

/// The pid namespace of this process, and its number there: others on the machine may have the same number in theirs.
fn maker() -> String {
    let namespace = fs::metadata("/proc/self/ns/pid").expect("look at the pid namespace").ino();
    format!("{namespace}-{}", std::process::id())
}

/// Takes away what those left who were killed before they could. Of other pid namespaces nobody here knows who lives.
fn sweep() {
    let maker = maker();
    let (namespace, _) = maker.split_once('-').expect("two parts");
    let ours = format!("{NAME}{namespace}-");
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for parent in hierarchies.chain([PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/tmp")]) {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix(&ours).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                if entry.path().starts_with("/tmp") {
                    // Another test may sweep at the same time.
                    fs::remove_dir_all(entry.path()).ok();
                } else {
                    remove_cgroups(&entry.path());
                }
            }
        }
    }
}

/// One new cgroup in each hierarchy; removed on drop, deepest first.
#[derive(Debug)]
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    fn make() -> Self {
        let mut made = Self(Vec::new());
        let name = format!("{NAME}{}", maker());
        let top = PathBuf::from("/sys/fs/cgroup");
        let entries = fs::read_dir(&top).expect("list /sys/fs/cgroup");
        let candidates: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).chain([top]).collect();
        for hierarchy in candidates {
            // A pure v2 machine has its root at the top; what is beneath are cgroups, not hierarchies.
            let is_root = hierarchy.join("cgroup.procs").exists() && is_mount_root(&hierarchy);
            if !is_root {
                continue;
            }
            let cgroup = hierarchy.join(&name);
            fs::create_dir(&cgroup).expect("make a cgroup");
            if hierarchy.ends_with("cpuset") {
                // A v1 cpuset takes no process until it has been given processors and memory.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    fs::copy(hierarchy.join(file), cgroup.join(file))
                        .expect("give the cpuset its processors");
                }
            }
            made.0.push(cgroup);
        }
        made
    }

    fn list(&self) -> String {
        self.0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    }
}

fn is_mount_root(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(path) != path.parent().and_then(device)
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for cgroup in &self.0 {
            remove_cgroups(cgroup);
        }
    }
}

fn remove_cgroups(cgroup: &Path) {
    for child in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&child.path());
        }
    }
    // The last process of a killed pid namespace takes a moment to leave its cgroup.
    for _ in 0..200 {
        if fs::remove_dir(cgroup).is_ok() || !cgroup.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
