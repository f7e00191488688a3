//! What a container uses, as it is told while it runs. (row S23)

use std::io::BufRead as _;

use serde_json::{Value, json};
use tests::{Cli, Host, isolated};

/// Uses a processor for a while.
const BUSY: [&str; 3] = ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"];

#[test]
fn s23_what_a_container_with_limits_uses_is_told_by_every_door() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let limits = json!({"memoryBytes": 32 << 20, "swapBytes": 0, "pids": 20, "cpus": 0.5});
        rpc.call("subcontainer.launch", json!({"guid": guid, "limits": limits}));
        rpc.exec(&guid, &BUSY);
        rpc.exec(&guid, &["sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"]);
        let stats = rpc.call("subcontainer.stats", json!({"guid": guid}));
        let number = |path: &str| {
            stats.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {stats}"))
        };
        assert_eq!(number("/processes"), 1);
        assert_eq!(number("/memoryBytes"), number("/memory/currentBytes"));
        assert!(number("/memory/currentBytes") > 0 && number("/memory/currentBytes") < 32 << 20, "{stats}");
        assert!(number("/memory/peakBytes") > 8 << 20 && number("/memory/peakBytes") <= 32 << 20, "{stats}");
        assert_eq!((number("/memory/limitBytes"), number("/memory/oomKills")), (32 << 20, 1));
        assert_eq!((number("/pids/current"), number("/pids/limit"), number("/pids/refused")), (1, 20, 0));
        // Of commands that have ended, too.
        assert!(number("/cpuMicros") > 1000 && number("/cpuMicros") == number("/cpu/usageMicros"), "{stats}");
        assert!(number("/cpu/periods") > 0 && stats["cpu"]["throttledMicros"].is_u64(), "{stats}");
        // On v1 disks are counted where they are limited.
        let counted = !std::path::Path::new("/sys/fs/cgroup/blkio").exists();
        assert_eq!(stats["io"]["readBytes"].is_u64(), counted, "{stats}");
        assert!(stats.get("rootfs").is_none(), "{stats}");
        // Where the kernel measures pressure, it does so for each group.
        assert_eq!(stats["pressure"]["memory"]["some"]["avg10"].is_number(), pressure(), "{stats}");
        let cli = Cli::at(&tests::cli::binary(), host.data());
        let same = cli.run(["--json", "subcontainer", "stats", &guid]).ok().json();
        assert_eq!(same["memory"]["limitBytes"], stats["memory"]["limitBytes"]);
        let said = cli.run(["subcontainer", "stats", &guid]).ok().out();
        for words in ["processes  1", "20 at most", "33.6 MB at most", "1 processes killed", "held back in"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

fn pressure() -> bool {
    std::fs::read_to_string("/proc/pressure/memory").is_ok()
}

#[test]
fn s23_what_is_not_counted_is_absent_and_not_zero() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let stats = || cli.run(["--json", "subcontainer", "stats", &rootfs.guid]).ok().json();
        assert_eq!(stats(), json!({"processes": 0, "cpuMicros": 0, "memoryBytes": 0}), "nothing runs");
        let running = cli.launch_idle(&rootfs);
        cli.exec(&rootfs, &[], &BUSY).ok();
        let now = stats();
        assert_eq!(now["processes"], 1, "{now}");
        assert!(
            now["memoryBytes"].as_u64().unwrap() > 0 && now["cpuMicros"].as_u64().unwrap() > 1000,
            "{now}"
        );
        // Only where another container on v2 has limits is it counted without any.
        if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
            assert!(
                now.get("memory").is_none() && now.get("pids").is_none() && now.get("io").is_none(),
                "{now}"
            );
        }
        assert_eq!(now["pressure"]["cpu"].is_object(), pressure(), "{now}");
        let said = cli.run(["subcontainer", "stats"]).ok().out();
        assert!(said.contains(&rootfs.guid) && said.contains("OOM KILLS"), "{said}");
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s23_stats_are_watched_until_nothing_runs() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let running = cli.launch(&rootfs, &["--memory", "16m"], &["sleep", "1000"]);
        let mut watch =
            cli.command(["--json", "subcontainer", "stats", "--watch", "--interval", "0.05", &rootfs.path]);
        let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufReader::new(watch.stdout.take().unwrap()).lines();
        for _ in 0..3 {
            let look: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(
                (look["guid"].as_str(), look["memory"]["limitBytes"].as_u64()),
                (Some(&*rootfs.guid), Some(16 << 20))
            );
            assert!(look["time"].as_u64().unwrap() > 1_000_000_000_000, "{look}");
        }
        drop(running);
        assert!(lines.map_while(Result::ok).count() < 1000, "it ends with what it watches");
        assert!(watch.wait().unwrap().success());
        let said = cli.run(["subcontainer", "stats", "--watch", "--interval", "0", &rootfs.path]).failed(125);
        assert!(said.contains("read interval 0: not from 0.01"), "{said}");
        cli.destroy_fs(&rootfs);
    });
}
