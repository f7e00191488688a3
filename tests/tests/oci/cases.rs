//! The table of bundles: what each changes of the Spec that `runc spec` writes, and what its container says.

use serde_json::{Value, json};

/// A name, what it changes of the Spec, and what the container runs.
pub(crate) type Case = (&'static str, fn(&mut Value), &'static str);

fn push(config: &mut Value, pointer: &str, value: Value) {
    config.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(value);
}

pub(crate) fn mount(config: &mut Value, destination: &str, typ: &str, source: &str, options: &[&str]) {
    let mount = json!({"destination": destination, "type": typ, "source": source, "options": options});
    push(config, "/mounts", mount);
}

fn without_namespace(config: &mut Value, typ: &str) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != typ);
}

fn caps(config: &mut Value, names: &[&str]) {
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        config["process"]["capabilities"][set] = json!(names);
    }
}

/// What is left of a line of mountinfo when ids are taken away: place, options, whether it is shared or a slave.
const MOUNTS: &str = "while read id parent dev root place options rest; do \
    kind=; case $rest in *shared:*) kind=shared;; esac; case $rest in *master:*) kind=$kind-slave;; esac; \
    echo \"$place $options $kind\"; done < /proc/self/mountinfo | grep -E '^(/m|/n)'";

pub(crate) const PROCESS: &[Case] = &[
    ("exit code", |_| {}, "exit 42"),
    (
        "environment",
        |c| c["process"]["env"] = json!(["PATH=/bin", "A=b c", "B="]),
        "echo \"$A|$B|$PATH|$HOME\"",
    ),
    ("home of another", |c| c["process"]["user"] = json!({"uid": 4711, "gid": 12}), "echo $HOME"),
    ("directory", |c| c["process"]["cwd"] = json!("/etc"), "pwd"),
    (
        "absent directory",
        |c| {
            c["process"]["cwd"] = json!("/new/dir");
            c["root"]["readonly"] = json!(false);
        },
        "pwd",
    ),
    (
        "user",
        |c| c["process"]["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [7, 8]}),
        "grep -E '^(Uid|Gid|Groups)' /proc/self/status",
    ),
    ("umask", |c| c["process"]["user"]["umask"] = json!(0o27), "umask"),
    ("default umask", |_| {}, "umask"),
    ("capabilities", |_| {}, "grep Cap /proc/self/status"),
    (
        "no capabilities",
        |c| {
            c["process"].as_object_mut().unwrap().remove("capabilities");
        },
        "grep Cap /proc/self/status",
    ),
    (
        "ambient capabilities",
        |c| {
            caps(c, &["CAP_NET_RAW", "CAP_CHOWN"]);
            c["process"]["user"] = json!({"uid": 5, "gid": 6});
        },
        "grep Cap /proc/self/status",
    ),
    (
        "ambient capabilities that are not inheritable, as `runc spec` writes them",
        |c| {
            caps(c, &["CAP_KILL"]);
            c["process"]["capabilities"].as_object_mut().unwrap().remove("inheritable");
        },
        "grep Cap /proc/self/status",
    ),
    (
        "capabilities of another user",
        |c| c["process"]["user"] = json!({"uid": 5, "gid": 6}),
        "grep Cap /proc/self/status",
    ),
    ("new privileges", |c| c["process"]["noNewPrivileges"] = json!(false), "grep NoNew /proc/self/status"),
    ("no new privileges", |_| {}, "grep NoNew /proc/self/status"),
    (
        "limits",
        |c| {
            c["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}])
        },
        "grep -E 'open files|core file' /proc/self/limits",
    ),
    ("score", |c| c["process"]["oomScoreAdj"] = json!(250), "cat /proc/self/oom_score_adj"),
    ("hostname", |c| c["hostname"] = json!("other"), "hostname; cat /proc/sys/kernel/hostname"),
    ("signals are as at the beginning", |_| {}, "grep -E 'Sig(Blk|Ign|Cgt)' /proc/1/status"),
    ("descriptors", |_| {}, "echo /proc/1/fd/*"),
    ("a command that is not there", |c| c["process"]["args"] = json!(["nope"]), ""),
    ("a path that is not there", |c| c["process"]["args"] = json!(["/nope"]), ""),
    ("a command that is no program", |c| c["process"]["args"] = json!(["/etc/passwd"]), ""),
    ("personality", |c| c["linux"]["personality"] = json!({"domain": "LINUX32"}), "uname -m"),
    ("session", |_| {}, "cut -d' ' -f5,6,7 /proc/1/stat"),
];

pub(crate) const MOUNTING: &[Case] = &[
    (
        "default mounts",
        |_| {},
        "while read a b c d place options rest; do echo $place ${options}; done < \
        /proc/self/mountinfo | grep -vE '^/(proc/|sys/|dev/(console|ptmx)|etc| )' | sort",
    ),
    ("read-only root", |_| {}, "touch /x; echo $?"),
    ("writable root", |c| c["root"]["readonly"] = json!(false), "touch /x; echo $?; rm /x"),
    (
        "bind a directory",
        |c| mount(c, "/m", "bind", "/etc", &["bind", "ro"]),
        "ls /m/passwd; touch /m/x; echo $?",
    ),
    (
        "bind a file",
        |c| mount(c, "/m/deep/file", "bind", "/etc/hostname", &["rbind", "ro"]),
        "test -f /m/deep/file; echo $?",
    ),
    ("bind by option alone", |c| mount(c, "/m", "", "/etc", &["bind"]), "test -f /m/passwd; echo $?"),
    (
        "options of a bind mount",
        |c| mount(c, "/m", "bind", "/etc", &["rbind", "nosuid", "nodev", "noexec", "ro"]),
        MOUNTS,
    ),
    ("private", |c| mount(c, "/m", "bind", "/etc", &["rbind", "rprivate"]), MOUNTS),
    ("relative source", |c| mount(c, "/m", "bind", "rootfs/bin", &["bind"]), "test -e /m/busybox; echo $?"),
    ("absent source", |c| mount(c, "/m", "bind", "/nowhere/at/all", &["bind"]), "true"),
    (
        "tmpfs",
        |c| mount(c, "/m", "tmpfs", "tmpfs", &["nosuid", "noexec", "size=64k", "mode=711"]),
        "grep ' /m ' /proc/mounts; stat -c %a /m",
    ),
    ("a tmpfs has the mode of what it hides", |c| mount(c, "/etc", "tmpfs", "tmpfs", &[]), "stat -c %a /etc"),
    (
        "a tmpfs has the mode of what it hides, in another mount, too",
        |c| {
            mount(c, "/m", "bind", "/", &["bind", "ro"]);
            mount(c, "/m/root", "tmpfs", "tmpfs", &[]);
            mount(c, "/n", "tmpfs", "tmpfs", &[]);
            mount(c, "/n/new", "tmpfs", "tmpfs", &[]);
        },
        "stat -c %a /m/root /n/new",
    ),
    ("read-only tmpfs", |c| mount(c, "/m", "tmpfs", "tmpfs", &["ro"]), "touch /m/x; echo $?"),
    (
        "copy up",
        |c| mount(c, "/etc", "tmpfs", "tmpfs", &["tmpcopyup"]),
        "ls -A /etc | sort; stat -c %a /etc; touch /etc/x",
    ),
    ("access times", |c| mount(c, "/m", "tmpfs", "tmpfs", &["noatime"]), MOUNTS),
    (
        "mounts in order",
        |c| {
            mount(c, "/m", "tmpfs", "one", &[]);
            mount(c, "/m/n", "tmpfs", "two", &[]);
        },
        "grep ' /m' /proc/mounts | cut -d' ' -f1-3",
    ),
    (
        "mounts are listed in order",
        |c| {
            mount(c, "/m", "tmpfs", "one", &[]);
            mount(c, "/m/n", "bind", "/etc", &["bind"]);
            mount(c, "/n", "tmpfs", "two", &[]);
            mount(c, "/m/o", "bind", "/etc", &["rbind", "unbindable"]);
        },
        MOUNTS,
    ),
    (
        "target through a link",
        |c| mount(c, "/link/x", "tmpfs", "tmpfs", &[]),
        "grep -c ' /linked/x ' /proc/mounts",
    ),
    (
        "masked",
        |c| c["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/acpi", "/nowhere", "/etc/passwd"]),
        "wc -c < /etc/passwd; ls /proc/acpi | wc -l; head -c 4 /proc/kcore | wc -c",
    ),
    (
        "read-only paths",
        |c| {
            c["root"]["readonly"] = json!(false);
            c["linux"]["readonlyPaths"] = json!(["/proc/sys", "/etc", "/nowhere"]);
        },
        "touch /etc/x; echo $?; (echo 1 > /proc/sys/kernel/domainname) 2>&1 | cut -d: -f3-",
    ),
    ("unknown option", |c| mount(c, "/m", "tmpfs", "tmpfs", &["nonsense=1"]), "true"),
    ("proc over a link", |c| mount(c, "/link", "proc", "proc", &[]), "true"),
    (
        "root propagation private",
        |c| c["linux"]["rootfsPropagation"] = json!("private"),
        "grep ' / / ' /proc/self/mountinfo | grep -cE 'shared|master'",
    ),
    ("root propagation unknown", |c| c["linux"]["rootfsPropagation"] = json!("sideways"), "true"),
    (
        "root propagation shared",
        |c| c["linux"]["rootfsPropagation"] = json!("shared"),
        "grep -E '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ' /proc/self/mountinfo | grep -c shared",
    ),
];

pub(crate) const DEVICES: &[Case] = &[
    (
        "devices",
        |_| {},
        "cd /dev; for d in null zero full random urandom tty; do stat -c '%n %F %a %u:%g %t:%T' $d; done",
    ),
    ("links", |_| {}, "cd /dev; for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done"),
    (
        "a further device",
        |c| {
            c["linux"]["devices"] = json!([
        {"path": "/dev/sub/other", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600}])
        },
        "stat -c '%n %F %a %u:%g %t:%T' /dev/sub/other /dev/pipe",
    ),
    (
        "a device that is refused",
        |c| {
            caps(c, &["CAP_MKNOD"]);
            c["root"]["readonly"] = json!(false);
        },
        "mknod /dev/loopy b 7 0 && (head -c 1 /dev/loopy) 2>&1 | cut -d: -f3-",
    ),
    (
        "a device that is allowed",
        |c| {
            caps(c, &["CAP_MKNOD"]);
            push(
                c,
                "/linux/resources/devices",
                json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}),
            );
        },
        "mknod /dev/f c 10 229; cat < /dev/f > /dev/null; echo $?",
    ),
    (
        "the host's /dev",
        |c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            mount(c, "/dev", "bind", "/dev", &["rbind"]);
        },
        "test -c /dev/null; echo $?",
    ),
];

pub(crate) const LINUX: &[Case] = &[
    (
        "namespaces are others",
        |_| {},
        "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done | \
        sort -u | wc -l",
    ),
    ("the loopback is up", |_| {}, "cat /sys/class/net/lo/operstate /sys/class/net/lo/flags"),
    ("a hostname as a setting", |c| c["linux"]["sysctl"] = json!({"kernel.hostname": "other"}), "hostname"),
    (
        "a domainname as a setting",
        |c| c["linux"]["sysctl"] = json!({"kernel.domainname": "other"}),
        "cat /proc/sys/kernel/domainname",
    ),
    ("host's pid namespace", |c| without_namespace(c, "pid"), "test $$ -gt 1; echo $?"),
    (
        "host's uts namespace",
        |c| {
            without_namespace(c, "uts");
            c.as_object_mut().unwrap().remove("hostname");
        },
        "hostname",
    ),
    ("hostname without a namespace", |c| without_namespace(c, "uts"), "true"),
    ("a namespace twice", |c| push(c, "/linux/namespaces", json!({"type": "pid"})), "true"),
    ("a namespace of no type", |c| push(c, "/linux/namespaces", json!({"type": "moon"})), "true"),
    (
        "a namespace that is not there",
        |c| {
            without_namespace(c, "network");
            push(c, "/linux/namespaces", json!({"type": "network", "path": "/nowhere"}));
        },
        "true",
    ),
    (
        "a namespace by path",
        |c| {
            without_namespace(c, "network");
            push(c, "/linux/namespaces", json!({"type": "network", "path": "/proc/1/ns/net"}));
        },
        "ls /sys/class/net | head -1",
    ),
    (
        "settings",
        |c| c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "8000"}),
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
    ),
    ("a setting of the machine", |c| c["linux"]["sysctl"] = json!({"kernel.panic": "1"}), "true"),
    (
        "seccomp",
        |c| {
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]})
        },
        "mkdir /tmp/x 2>&1 | cut -d: -f3-; grep Seccomp: /proc/self/status",
    ),
    (
        "seccomp without no new privileges",
        |c| {
            c["process"]["noNewPrivileges"] = json!(false);
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
        },
        "mkdir /tmp/x 2>&1 | cut -d: -f3-",
    ),
    (
        "seccomp of unknown calls",
        |c| {
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["no_such_call", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]})
        },
        "mkdir /tmp/x 2>&1 | cut -d: -f3-",
    ),
    (
        "user namespace",
        |c| {
            push(c, "/linux/namespaces", json!({"type": "user"}));
            c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
            c["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
        },
        "cat /proc/self/uid_map /proc/self/gid_map; id -u; cat /proc/self/setgroups",
    ),
    ("user namespace without mappings", |c| push(c, "/linux/namespaces", json!({"type": "user"})), "true"),
    ("a mount that is of no type", |c| mount(c, "/m", "nosuchfs", "x", &[]), "true"),
    ("no arguments", |c| c["process"]["args"] = json!([]), ""),
    ("relative directory", |c| c["process"]["cwd"] = json!("here"), "true"),
    (
        "no root",
        |c| {
            c.as_object_mut().unwrap().remove("root");
        },
        "true",
    ),
    ("absent root", |c| c["root"]["path"] = json!("nowhere"), "true"),
    (
        "a limit of no sort",
        |c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_LUCK", "soft": 1, "hard": 1}]),
        "true",
    ),
];

pub(crate) const GROUPS: &[Case] = &[
    (
        "memory",
        |c| c["linux"]["resources"]["memory"] = json!({"limit": 33_554_432, "reservation": 16_777_216}),
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.soft_limit_in_bytes \
         /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.low 2>/dev/null",
    ),
    (
        "processor",
        |c| c["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": 20000, "period": 50000}),
        "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us \
         /sys/fs/cgroup/cpu.max 2>/dev/null",
    ),
    (
        "processors",
        |c| c["linux"]["resources"]["cpu"] = json!({"cpus": "0", "mems": "0"}),
        "cat /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset.cpus 2>/dev/null; nproc",
    ),
    (
        "processes",
        |c| c["linux"]["resources"]["pids"] = json!({"limit": 20}),
        "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null",
    ),
    (
        "unified where there is none",
        |c| c["linux"]["resources"]["unified"] = json!({"nonsense.max": "1"}),
        "true",
    ),
    ("the view of groups", |c| without_namespace(c, "cgroup"), "grep -c pids /proc/self/cgroup"),
    ("devices of the group", |_| {}, "grep -v 10:200 /sys/fs/cgroup/devices/devices.list 2>/dev/null | sort"),
];
