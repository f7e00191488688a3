//! The machine around the kernel: control groups, networks, disks, programs, services.

use std::path::Path;

use images::Store;
use rustix::fs::{MemfdFlags, StatVfs};

use super::{Finding, Tried, needed, useful};
use crate::engine::cgroup::Hierarchy;
use crate::error::Failure;
use crate::runtime;

pub(super) fn examine(data_dir: &Path) -> Vec<Finding> {
    let mut all = vec![needed(
        "cgroup-v2",
        cgroup(),
        "what runs in a container cannot be found and ended as a whole: nothing is started",
    )];
    all.extend(controllers());
    all.extend(networks());
    all.extend([
        needed("data-dir", data_dir_is_usable(data_dir), "images and rootfs cannot be kept there"),
        useful(
            "disk-space",
            space(data_dir),
            "imports and writes fail when it is full, and processes whose output is kept wait",
        ),
        useful("loop-devices", loop_device(), "no --rootfs-size: a rootfs takes what the disk has"),
        useful(
            "mkfs.ext4",
            program(&["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4", "/bin/mkfs.ext4"]),
            "no --rootfs-size (Debian: package e2fsprogs)",
        ),
        useful(
            "journald",
            there("/run/systemd/journal/socket"),
            "no --log-driver journald: the daemon's own messages go to its standard error, output of containers to files",
        ),
        useful(
            "criu",
            program(&["/usr/sbin/criu", "/usr/bin/criu", "/usr/local/sbin/criu"]),
            "no `start-container-oci checkpoint` and `restore` (Debian 13: package criu)",
        ),
        useful(
            "deno",
            deno(data_dir),
            "no worker entries of packages, until `start-container runtime add deno --from PATH` (its --help says from where)",
        ),
        useful("mac", mac(), "no second boundary of AppArmor or SELinux behind the first one; ours do not need it"),
        useful("daemon", daemon(data_dir), "no SDK, no kept output, no events, until `start-container daemon` runs"),
    ]);
    all
}

fn cgroup() -> Tried {
    let make = || {
        let hierarchy = Hierarchy::open()?;
        let made = hierarchy.create(&format!("doctor-{}", std::process::id()))?;
        let killed = made.kill();
        made.destroy()?;
        hierarchy.tidy();
        Ok::<_, Failure>(killed)
    };
    match make() {
        Ok(Ok(())) => Ok("a group was made, killed and removed".into()),
        Ok(Err(errno)) => Err(format!("cgroup.kill (Linux 5.14): {errno}")),
        Err(failure) => Err(failure.sentence()),
    }
}

fn controllers() -> Vec<Finding> {
    let machine = match cgroups::Machine::probe().map_err(Failure::from) {
        Ok(machine) => machine,
        Err(failure) => {
            return vec![useful("cgroup-controllers", Err(failure.sentence()), "no limits")];
        }
    };
    let facts = machine.facts();
    let controllers = facts.controllers.iter().map(|(controller, place)| {
        use cgroups::Controller as C;
        let (name, cost) = match controller {
            C::Memory => ("cgroup-memory", "no limits of memory (-m), and no notice of running out of it"),
            C::Cpu => ("cgroup-cpu", "no limits of processor time (--cpus)"),
            C::Cpuset => ("cgroup-cpuset", "processors cannot be chosen (--cpuset-cpus)"),
            C::Pids => ("cgroup-pids", "no limit of processes: a fork bomb is the machine's"),
            C::Io => ("cgroup-io", "no limits of block devices (--device-read-bps and others)"),
            C::Hugetlb => ("cgroup-hugetlb", "no limits of huge pages"),
        };
        let tried = match place {
            Ok(version) => Ok(format!("on {version}")),
            Err(absence) => Err(format!("{controller} {absence}")),
        };
        useful(name, tried, cost)
    });
    let mut all: Vec<Finding> = controllers.collect();
    let swap = if facts.swap { Ok("can be limited".into()) } else { Err("cannot be limited".into()) };
    all.push(useful("cgroup-swap", swap, "no --memory-swap"));
    all
}

fn networks() -> Vec<Finding> {
    const COST: &str = "no private networks (--network private), no published ports";
    match network::probe() {
        Ok(network::Probe { links, rules }) => {
            let tried = |result: network::Result<()>, what: &str| {
                result.map(|()| what.to_owned()).map_err(|error| Failure::from(error).sentence())
            };
            vec![
                useful("veth-and-bridge", tried(links, "a pair and a bridge were made"), COST),
                useful("nftables", tried(rules, "a table was made"), COST),
            ]
        }
        Err(errno) => vec![useful("network-namespaces", Err(format!("make one: {errno}")), COST)],
    }
}

/// It, or where it would be made.
fn nearest(data_dir: &Path) -> &Path {
    data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn data_dir_is_usable(data_dir: &Path) -> Tried {
    /// What cannot be the upper layer of an overlay, by the magic of `statfs(2)`.
    const NOT_UPPER: [(u64, &str); 5] = [
        (0x794c_7630, "overlay"),
        (0x6969, "nfs"),
        (0xff53_4d42, "cifs"),
        (0x6573_5546, "fuse"),
        (0x4d44, "vfat"),
    ];
    let path = nearest(data_dir);
    let stat = rustix::fs::statfs(path).map_err(|errno| format!("{}: {errno}", path.display()))?;
    let magic = stat.f_type as u64 & 0xffff_ffff;
    if let Some((_, name)) = NOT_UPPER.iter().find(|(number, _)| *number == magic) {
        return Err(format!("{} is on {name}, which cannot be the upper part of an overlay", path.display()));
    }
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK)
        .map(|()| data_dir.display().to_string())
        .map_err(|errno| format!("write to {}: {errno}", path.display()))
}

fn space(data_dir: &Path) -> Tried {
    let StatVfs { f_bavail, f_blocks, f_frsize, f_ffree, .. } =
        rustix::fs::statvfs(nearest(data_dir)).map_err(|errno| errno.to_string())?;
    let free = f_bavail.saturating_mul(f_frsize);
    let found =
        format!("{} MB free of {} MB", free / 1_000_000, f_blocks.saturating_mul(f_frsize) / 1_000_000);
    if free < 1_000_000_000 || f_bavail < f_blocks / 20 {
        return Err(found);
    }
    // File systems without a fixed number of inodes say 0.
    if (1..10_000).contains(&f_ffree) {
        Err(format!("{found}, but only {f_ffree} inodes"))
    } else {
        Ok(found)
    }
}

/// What runs the TypeScript of packages. Looked for only where there is a store: nothing is made.
fn deno(data_dir: &Path) -> Tried {
    let missing = || Err(format!("{} was not added", runtime::IMAGE));
    if !data_dir.join("store").is_dir() {
        return missing();
    }
    let found = Store::open(data_dir).map_err(Failure::from).and_then(|store| runtime::find(&store));
    match found {
        Ok(Some(_)) => Ok(runtime::IMAGE.to_owned()),
        Ok(None) => missing(),
        Err(failure) => Err(failure.sentence()),
    }
}

/// On a file in memory; it goes with its descriptor.
fn loop_device() -> Tried {
    let attach = || {
        let file = rustix::fs::memfd_create("doctor", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, 1 << 20)?;
        linux::loopdev::attach(&file)
    };
    attach()
        .map(|device| format!("{} was attached", device.path.display()))
        .map_err(|errno| format!("attach: {errno}"))
}

fn program(paths: &[&str]) -> Tried {
    let found = paths.iter().find(|path| Path::new(path).exists());
    found.map(|path| (*path).to_owned()).ok_or_else(|| "not installed".into())
}

fn there(path: &str) -> Tried {
    if Path::new(path).exists() { Ok(path.to_owned()) } else { Err("not running".into()) }
}

fn mac() -> Tried {
    let apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if apparmor.trim() == "Y" {
        Ok("AppArmor".into())
    } else if Path::new("/sys/fs/selinux/enforce").exists() {
        Ok("SELinux".into())
    } else {
        Err("neither AppArmor nor SELinux".into())
    }
}

fn daemon(data_dir: &Path) -> Tried {
    let socket = data_dir.join("rpc/host.sock");
    match std::os::unix::net::UnixStream::connect(&socket) {
        Ok(_) => Ok(format!("listens on {}", socket.display())),
        Err(error) => Err(format!("connect to {}: {error}", socket.display())),
    }
}
