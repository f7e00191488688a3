//! The oldest kernel that is promised, and cgroup version 2 alone: Debian's kernel 6.1 in an emulator.
//!
//! ```text
//! target/xtask/guest/
//!   kernel/          the package, unpacked, never installed
//!   initramfs        busybox and the modules that find the disk
//!   disk             ext4: busybox, the test programs with their libraries, our binary, an image
//! ```
//! The guest runs every test program of `linux/`, `volumes/` and `cgroups/`, the part of the escape suite that needs no
//! long races, then one life of a subcontainer by command line, and turns itself off. What it says on its console is counted as `cargo test` would say it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::image::busybox;
use crate::test::Context;
use crate::test::counts::Counts;
use crate::test::rust::count;
use crate::{checks, place, say, setup};

const KERNEL: &str = "6.1.";
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "ext4", "overlay", "loop"];

/// `cargo xtask guest`.
pub(crate) fn run() -> Result<()> {
    setup::run(setup::For::Guest)?;
    let counts = boot()?;
    for name in &counts.failures {
        say::note(&format!("FAILED: {name}"));
    }
    say::last(&counts.to_string());
    if counts.failed > 0 {
        bail!("{} tests failed on kernel {KERNEL}x", counts.failed);
    }
    Ok(())
}

/// As a part of `cargo xtask test`.
pub(crate) fn test(_: &Context) -> Result<Counts> {
    match setup::run(setup::For::Guest) {
        Ok(()) => boot(),
        Err(error) => Ok(Counts::skip("kernel 6.1 in an emulator", &format!("{error:#}"))),
    }
}

fn boot() -> Result<Counts> {
    say::heading("the guest");
    let directory = place::cache().join("guest");
    fs::create_dir_all(&directory)?;
    let (image, modules) = kernel(&directory)?;
    let initramfs = say::step("initramfs", || initramfs(&directory, &modules))?;
    let disk = disk(&directory, &modules)?;
    say::note("boots; its console follows");
    let mut qemu = Command::new("qemu-system-x86_64");
    // Emulated on purpose: it is the same everywhere, and hardware virtualisation inside a virtual machine may hang.
    qemu.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "2048",
        "-nographic",
        "-no-reboot",
    ]);
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1"]);
    qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
    let start = Instant::now();
    let mut limited = Command::new("timeout");
    limited.arg("1500").arg(qemu.get_program()).args(qemu.get_args());
    let lines = say::follow(&mut limited)?;
    say::note(&format!("the guest ran for {}", say::time(start.elapsed())));
    if !lines.iter().any(|line| line.trim_end() == "guest: all was run") {
        bail!("the guest did not come to its end");
    }
    let mut counts = count(lines.iter().map(|line| line.trim_end()));
    for name in &mut counts.failures {
        name.push_str(" (on kernel 6.1, cgroup v2 alone)");
    }
    Ok(counts)
}

/// Downloads and unpacks the kernel: its image, and the directory of its modules.
fn kernel(directory: &Path) -> Result<(PathBuf, PathBuf)> {
    let unpacked = directory.join("kernel");
    if !unpacked.exists() {
        let depends = say::output(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
        let package = depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .context("apt-cache names the kernel's package")?;
        if !package.contains(&format!("-{KERNEL}")) {
            bail!("this Debian's kernel is {package}, not {KERNEL}x");
        }
        let work = tempfile::Builder::new().prefix(".kernel").tempdir_in(directory)?;
        // apt-get downloads as a user of its own.
        fs::set_permissions(work.path(), fs::Permissions::from_mode(0o777))?;
        let mut download = Command::new("apt-get");
        say::run(
            &format!("download {package}"),
            download.current_dir(work.path()).args(["download", package]),
        )?;
        let archive =
            fs::read_dir(work.path())?.flatten().map(|entry| entry.path()).next().context("the package")?;
        let target = work.path().join("unpacked");
        say::run("unpack it", Command::new("dpkg-deb").arg("-x").arg(archive).arg(&target))?;
        fs::rename(target, &unpacked)?;
    }
    let only = |path: PathBuf, prefix: &str| -> Result<PathBuf> {
        let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
        let mut found =
            entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        Ok(found.next().with_context(|| format!("find {prefix}* in {}", path.display()))?.path())
    };
    Ok((only(unpacked.join("boot"), "vmlinuz-")?, only(unpacked.join("lib/modules"), KERNEL)?))
}

const FIND_THE_DISK: &str = r#"#!/bin/sh
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in $(cat /modules); do modprobe $module || echo "guest: no module $module"; done
mount -t ext4 /dev/vda /disk || { echo "guest: no disk"; poweroff -f; }
# A root of its own, on a real mount: nothing can be pivoted away from an initramfs.
exec switch_root /disk /init
"#;

fn initramfs(directory: &Path, modules: &Path) -> Result<PathBuf> {
    let root = tempfile::Builder::new().prefix(".initramfs").tempdir_in(directory)?;
    let version = modules.file_name().context("a version")?;
    let inside = root.path().join("lib/modules").join(version);
    let parts = [
        "kernel/fs",
        "kernel/drivers/virtio",
        "kernel/drivers/block",
        "kernel/lib",
        "kernel/crypto",
        "kernel/arch",
    ];
    copy_modules(modules, &parts, &inside)?;
    say::output(Command::new("depmod").arg("-b").arg(root.path()).arg(version))?;
    install_busybox(root.path())?;
    fs::create_dir(root.path().join("disk"))?;
    fs::write(root.path().join("modules"), MODULES.join("\n"))?;
    executable(&root.path().join("init"), FIND_THE_DISK)?;
    let archive = directory.join("initramfs");
    let script = "cd \"$1\" && find . | cpio --quiet -o -H newc > \"$2\"";
    say::output(Command::new("sh").args(["-c", script, "sh"]).arg(root.path()).arg(&archive))?;
    Ok(archive)
}

fn copy_modules(modules: &Path, parts: &[&str], inside: &Path) -> Result<()> {
    for part in parts {
        if modules.join(part).exists() {
            fs::create_dir_all(inside.join(part).parent().context("a parent")?)?;
            say::output(Command::new("cp").arg("-r").arg(modules.join(part)).arg(inside.join(part)))?;
        }
    }
    for file in ["modules.builtin", "modules.order"] {
        fs::copy(modules.join(file), inside.join(file))?;
    }
    Ok(())
}

const RUN_ALL: &str = r#"#!/bin/sh
export PATH=/bin HOME=/root RUST_BACKTRACE=0
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
echo "guest: Linux $(uname -r), cgroups: $(grep -c cgroup /proc/mounts) mount, $(stat -f -c %T /sys/fs/cgroup)"
for program in /tests/*; do
  echo "guest: $program"
  timeout 300 $program --test-threads=1 --show-output 2>&1 || echo "guest: $program ended with $?"
done
export START_CONTAINER_BIN=/bin/start-container START_CONTAINER_TARGET=/target TMPDIR=/tmp
echo "guest: the escape suite"
timeout 600 /target/debug/deps/escapes --test-threads=1 --show-output ESCAPES 2>&1 || {
  echo "guest: the escape suite ended with $?"
  echo "test the escape suite ... FAILED"
  echo "test result: FAILED. 0 passed; 1 failed; 0 ignored"
}
for script in life limits oci bind; do
  echo "guest: $script by command line"
  if sh -eux /$script; then echo "test result: ok. 1 passed; 0 failed; 0 ignored"
  else echo "test $script by command line ... FAILED"; echo "test result: FAILED. 0 passed; 1 failed; 0 ignored"; fi
done
echo "guest: all was run"
poweroff -f
"#;

/// Create, launch, exec, an id-mapped volume, kill of a whole tree, destroy; and nothing left.
const LIFE: &str = r#"
mounts() { cat /proc/self/mountinfo | wc -l; }
groups() { find /sys/fs/cgroup -mindepth 1 -type d | wc -l; }
export START_CONTAINER_DATA_DIR=/data
before="$(mounts) $(groups)"
start-container image import /busybox.tar --name busybox
rootfs=$(start-container subcontainer create-fs busybox)
start-container subcontainer launch $rootfs &
leader=$!
until start-container subcontainer exec $rootfs true 2>/dev/null; do sleep 0.1; done
[ "$(start-container subcontainer exec -u 7:8 $rootfs sh -c 'echo $(id -u):$(id -g)')" = 7:8 ]
mkdir -p /data/volumes/main $rootfs/mnt
touch /data/volumes/main/file
chown 1000:1000 /data/volumes/main/file
start-container bind-mount --source /data/volumes/main --target $rootfs/mnt --idmap 1000:5
[ "$(start-container subcontainer exec $rootfs stat -c %u:%g /mnt/file)" = 5:5 ]
start-container subcontainer exec -u 5:5 $rootfs sh -c 'echo written > /mnt/file'
[ "$(cat /data/volumes/main/file)" = written ]
start-container subcontainer exec $rootfs sh -c 'setsid sleep 1000 & echo on; sleep 1000' &
exec=$!
sleep 2; kill -KILL $exec; sleep 1
[ "$(start-container subcontainer exec $rootfs sh -c 'cat /proc/[0-9]*/comm | grep -c sleep; true')" = 0 ]
start-container subcontainer destroy-fs $rootfs
wait $leader || true
sleep 1
[ "$(mounts) $(groups)" = "$before" ] || { cat /proc/self/mountinfo; find /sys/fs/cgroup -type d; false; }
[ -z "$(ls /run/start-container 2>/dev/null)" ]
"#;

/// Limits with every controller on v2, changed while it runs; a rootfs with a size, where an overlay takes no detached
/// mount.
const LIMITS: &str = r#"
export START_CONTAINER_DATA_DIR=/data
before="$(cat /proc/self/mountinfo | wc -l) $(find /sys/fs/cgroup -mindepth 1 -type d | wc -l)"
inside() { start-container subcontainer exec $rootfs "$@"; }
stats() { start-container --json subcontainer stats $rootfs; }
bomb='x=0123456789abcdef; while :; do x=$x$x; done'
rootfs=$(start-container subcontainer create-fs busybox --rootfs-size 32m)
start-container subcontainer launch --memory 48m --swap 0 --ulimit nofile=64:128 --oom-score-adj 100 $rootfs &
leader=$!
until inside true 2>/dev/null; do sleep 0.1; done
[ "$(inside sh -c 'ulimit -n; cat /proc/self/oom_score_adj' | tr '\n' ' ')" = "64 100 " ]
inside sh -c 'cat /dev/zero > /full' && false
size=$(inside stat -c %s /full)
[ $size -gt 20000000 ] && [ $size -lt 33554432 ]
inside rm /full
inside sh -c "$bomb" && false || [ $? = 137 ]
stats | grep -q '"limitBytes":50331648.*"oomKills":1'
stats | grep -q '"rootfs":{"usedBytes":[0-9]*,"sizeBytes":33554432}'
start-container subcontainer update $rootfs --memory 32m --swap 0 --pids-limit 20 --cpus 0.5
stats | grep -q '"limitBytes":33554432' && stats | grep -q '"pids":{"current":1,"limit":20'
inside sh -c "$bomb" && false || [ $? = 137 ]
start-container subcontainer update $rootfs --pids-limit -1
stats | grep -q '"pids":{"current":1,"refused":0}'
start-container subcontainer destroy-fs $rootfs
wait $leader || true
rootfs=$(start-container subcontainer create-fs busybox)
start-container subcontainer launch $rootfs sleep 1000 &
leader=$!
until inside true 2>/dev/null; do sleep 0.1; done
start-container subcontainer update $rootfs --memory 32m && false
start-container subcontainer update $rootfs --pids-limit 3
inside sh -c 'for i in 1 2 3 4 5; do sleep 1 & done' && false
stats | grep -q '"pids":{"current":[0-9]*,"limit":3,"refused":[1-9]'
start-container subcontainer destroy-fs $rootfs
wait $leader || true
sleep 1
[ "$(cat /proc/self/mountinfo | wc -l) $(find /sys/fs/cgroup -mindepth 1 -type d | wc -l)" = "$before" ]
[ -z "$(cat /sys/block/loop*/loop/backing_file 2>/dev/null)" ]
"#;

/// A bundle, where cgroup version 2 is all there is: limits, devices, pause, exec, and nothing left.
const OCI: &str = r#"
mkdir -p /bundle/rootfs/bin /bundle/rootfs/etc
cp /bin/busybox /bundle/rootfs/bin/
for name in sh sleep cat mknod grep true; do ln -s busybox /bundle/rootfs/bin/$name; done
cp /etc/passwd /bundle/rootfs/etc/
cd /bundle
before="$(cat /proc/self/mountinfo | wc -l) $(find /sys/fs/cgroup -mindepth 1 -type d | wc -l)"
oci() { start-container oci --root /run/bundles "$@"; }
oci spec
sed -i 's/"terminal": true/"terminal": false/; s/^ *"sh"$/"sleep", "1000"/' config.json
sed -i 's/"resources": {/"resources": {"memory": {"limit": 33554432}, "pids": {"limit": 30},/' config.json
oci create one </dev/null >/dev/null 2>&1
oci state one | grep -q '"status": "created"'
oci start one
[ "$(oci exec one cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max | tr '\n' ' ')" = "33554432 30 " ]
[ "$(oci exec one cat /proc/self/cgroup)" = "0::/" ]
oci exec --cap CAP_MKNOD one sh -c 'mknod /dev/disk b 254 0 && cat /dev/disk' 2>&1 | grep -q 'not permitted'
oci exec one sh -c 'cat /dev/null && echo > /dev/full' 2>&1 | grep -q 'No space'
oci update --memory 64m --pids-limit 40 one
oci events --stats one | grep -q '"limit":67108864'
oci pause one
oci state one | grep -q '"status": "paused"'
oci resume one
oci exec one sh -c 'x=0123456789abcdef; while :; do x=$x$x; done' && false || [ $? = 137 ]
oci pause one
oci delete --force one
[ "$(cat /proc/self/mountinfo | wc -l) $(find /sys/fs/cgroup -mindepth 1 -type d | wc -l)" = "$before" ]
[ ! -e /run/bundles ]
"#;

/// An id-mapped, read-only mount.
const BIND: &str = r#"
mkdir -p /source /target
touch /source/file
chown 1000:1000 /source/file
start-container bind-mount --source /source --target /target --idmap 1000:5 --readonly
[ "$(stat -c %u:%g /target/file)" = 5:5 ]
! touch /target/new 2>/dev/null
umount /target
"#;

/// Programs that the tests run and that busybox's applets do not quite replace: some look at their own name.
const PROGRAMS: &[&str] = &[
    "bash",
    "cat",
    "chmod",
    "chown",
    "cp",
    "dash",
    "dd",
    "echo",
    "env",
    "false",
    "find",
    "grep",
    "id",
    "ip",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mkfs.ext4",
    "mknod",
    "mount",
    "mv",
    "nft",
    "nsenter",
    "printf",
    "prlimit",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setpriv",
    "setsid",
    "sleep",
    "stat",
    "tail",
    "tar",
    "touch",
    "true",
    "umount",
    "unshare",
];

/// What the guest runs of the escape suite, by the beginnings of names: what depends on the kernel or on the version of
/// control groups. Each takes half a minute there. (Limits are tried in `cgroups/tests`: a group that holds a test cannot
/// give controllers to those beneath it.)
const ESCAPES: &[&str] = &[
    "calls::s6_cve_2022_0185",
    "devices::s6_root_inside",
    "networks::s22_no_container",
    "proc::s6_cve_2025",
    "processes::s22_cve_2020_15257",
    "settings::s6_cve_2022_0492",
    "streams::s6_no_device",
];

/// What a private network is made of, loaded by the kernel when it is asked for.
const NETWORK_MODULES: &[&str] =
    &["kernel/net", "kernel/drivers/net/veth.ko", "kernel/lib", "kernel/crypto", "kernel/arch"];

fn disk(directory: &Path, modules: &Path) -> Result<PathBuf> {
    let root = tempfile::Builder::new().prefix(".disk").tempdir_in(directory)?;
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
    install_busybox(root.path())?;
    for name in ["dev", "proc", "sys", "run", "tmp", "root", "etc", "mnt", "home", "tests", "var"] {
        fs::create_dir_all(root.path().join(name))?;
    }
    fs::set_permissions(root.path().join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.path().join("etc/group"), "root:x:0:\n")?;
    executable(&root.path().join("init"), &RUN_ALL.replace("ESCAPES", &ESCAPES.join(" ")))?;
    fs::create_dir(root.path().join("sbin"))?;
    symlink("../bin/busybox", root.path().join("sbin/modprobe"))?;
    let version = modules.file_name().context("a version")?;
    copy_modules(modules, NETWORK_MODULES, &root.path().join("lib/modules").join(version))?;
    say::output(Command::new("depmod").arg("-b").arg(root.path()).arg(version))?;
    fs::write(root.path().join("life"), LIFE)?;
    fs::write(root.path().join("limits"), LIMITS)?;
    fs::write(root.path().join("oci"), OCI)?;
    fs::write(root.path().join("bind"), BIND)?;
    fs::copy(busybox::archive(), root.path().join("busybox.tar"))?;
    for (directory, file) in [("images", busybox::archive()), ("escapes", tests::attacks::program())] {
        let directory = root.path().join("target/xtask").join(directory);
        fs::create_dir_all(&directory)?;
        fs::copy(&file, directory.join(file.file_name().context("a name")?))?;
    }
    fs::create_dir_all(root.path().join("target/debug/deps"))?;

    let mut build = Command::new(checks::cargo());
    let binary = place::target().join("debug/start-container");
    say::run("cargo build", build.args(["build", "--locked", "--workspace"]))?;
    let mut programs = vec![(binary, root.path().join("bin/start-container"))];
    for (room, test, program) in say::step("cargo test --no-run", test_programs)? {
        if room == "tests" && test == "escapes" {
            programs.push((program, root.path().join("target/debug/deps/escapes")));
        } else if ["linux", "volumes", "cgroups"].contains(&&*room) {
            let name = program.file_name().context("a name")?.to_os_string();
            programs.push((program, root.path().join("tests").join(name)));
        }
    }
    for name in PROGRAMS {
        if let Some(path) = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .map(|dir| Path::new(dir).join(name))
            .into_iter()
            .find(|path| path.exists())
        {
            programs.push((path, root.path().join("bin").join(name)));
        }
    }
    let mut libraries = BTreeSet::new();
    for (program, target) in &programs {
        if target.is_symlink() {
            fs::remove_file(target)?;
        }
        fs::copy(program, target).with_context(|| format!("copy {}", program.display()))?;
        libraries.extend(libraries_of(program)?);
    }
    for library in libraries {
        let target = root.path().join(library.strip_prefix("/").context("an absolute path")?);
        fs::create_dir_all(target.parent().context("a parent")?)?;
        fs::copy(&library, target).with_context(|| format!("copy {}", library.display()))?;
    }
    fs::remove_file(root.path().join("bin/sh"))?;
    symlink("dash", root.path().join("bin/sh"))?;
    let disk = directory.join("disk");
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-d"]).arg(root.path()).arg(&disk).arg("1500M");
    say::run("mkfs.ext4", &mut mkfs)?;
    Ok(disk)
}

/// All test programs, each with its room and name. Of all rooms, since some of them alone have other features of their
/// dependencies, which would be built anew.
fn test_programs() -> Result<Vec<(String, String, PathBuf)>> {
    let mut build = Command::new(checks::cargo());
    build.args(["test", "--locked", "--no-run", "--workspace", "--message-format=json"]);
    let mut programs = Vec::new();
    for line in say::output(&mut build)?.lines() {
        let message: Value = serde_json::from_str(line).context("parse cargo's message")?;
        if message["profile"]["test"] == true
            && let Some(path) = message["executable"].as_str()
        {
            let manifest = Path::new(message["manifest_path"].as_str().context("a manifest")?);
            let room = manifest.parent().and_then(Path::file_name).context("a room")?;
            let name = message["target"]["name"].as_str().context("a name")?;
            programs.push((room.to_string_lossy().into_owned(), name.to_owned(), PathBuf::from(path)));
        }
    }
    Ok(programs)
}

fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = say::output(Command::new("ldd").arg(program))?;
    Ok(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn install_busybox(root: &Path) -> Result<()> {
    for name in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(name))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    let busybox = busybox.context("busybox-static is not installed")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    for applet in
        say::output(Command::new(busybox).arg("--list"))?.lines().filter(|applet| *applet != "busybox")
    {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

fn executable(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("make it executable")
}
