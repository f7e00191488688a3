//! Many at once and many in a row. `cargo xtask soak` runs the full numbers of each; by default they are smaller.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Cli, Host, Machine, isolated, machine::Processes};

/// The full number in a soak, a smaller one otherwise.
fn rounds(full: usize, usual: usize) -> usize {
    if std::env::var_os("START_CONTAINER_SOAK").is_some() { full } else { usual }
}

#[test]
fn s6_16_parallel_execs_never_fail_on_the_socket() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let rounds = rounds(2000, 300);
        std::thread::scope(|scope| {
            for worker in 0..16 {
                let (host, guid) = (&host, &guid);
                scope.spawn(move || {
                    let mut rpc = host.connect();
                    for round in 0..rounds {
                        let text = format!("{worker} {round}");
                        assert_eq!(rpc.output(guid, &["echo", "-n", &text]), text);
                    }
                });
            }
        });
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s6_16_parallel_execs_never_fail_on_the_command_line() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let rounds = rounds(2000, 60);
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for worker in 0..16 {
                let (cli, rootfs, done) = (&cli, &rootfs, &done);
                scope.spawn(move || {
                    for round in 0..rounds {
                        let text = format!("{worker} {round}");
                        assert_eq!(cli.exec(rootfs, &[], &["echo", &text]).ok().out(), text);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(done.load(Ordering::Relaxed), 16 * rounds);
        cli.destroy_fs(&rootfs);
    });
}

/// What a host makes once is made by whoever comes first, and here all do.
#[test]
fn s6_the_first_launches_of_a_host_may_come_at_once() {
    isolated(|| {
        for _ in 0..rounds(20, 4) {
            let host = Host::with_busybox();
            let mut rpc = host.connect();
            let guids: Vec<String> = (0..16).map(|_| rpc.create_fs("busybox")).collect();
            let launches: Vec<u64> =
                guids.iter().map(|guid| rpc.send("subcontainer.launch", json!({"guid": guid}))).collect();
            for id in launches {
                rpc.answer(id).unwrap();
            }
            for guid in &guids {
                rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
            }
        }
    });
}

#[test]
fn s12_thousands_of_lives_leak_nothing() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let mut life = || {
            let guid = rpc.create_fs("busybox");
            let result = rpc.exec(&guid, &["/bin/true"]);
            assert_eq!(result["outcome"], json!({"kind": "exit", "code": 0}), "{result}");
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        };
        // What is allocated once is there after some lives.
        (0..500).for_each(|_| life());
        let before = Machine::look(Processes::All, &[host.data()]).unwrap();
        let (descriptors, memory) = (host.descriptors(), host.own_kib());
        let rounds = rounds(10_000, 1_000);
        (0..rounds).for_each(|_| life());
        let left = before.left_after(&[host.data()], Duration::from_secs(5)).unwrap();
        assert!(left.is_empty(), "{left:?}");
        let start = Instant::now();
        while host.descriptors() > descriptors {
            assert!(
                start.elapsed().as_secs() < 5,
                "{} descriptors, {descriptors} before",
                host.descriptors()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let grown = host.own_kib().saturating_sub(memory);
        assert!(grown < 4096, "the host grew by {grown} KiB over {rounds} lives");
        for directory in ["rootfs", "subcontainers"] {
            let left: Vec<_> = std::fs::read_dir(host.data().join(directory)).unwrap().flatten().collect();
            assert!(left.iter().all(|entry| entry.file_name() == "lock"), "in {directory}: {left:?}");
        }
    });
}
