//! Processes, processor time, processors.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

mod common;

use std::time::Duration;

use common::{Scene, limits, readable, until};
use linux::spawn::{Capabilities, Credentials, Op};

const BUSY: &str = "while :; do :; done";

#[test]
fn s23_a_fork_bomb_stops_at_the_limit() {
    let mut scene = Scene::new(r#"{"pids":16,"memoryBytes":67108864,"swapBytes":0}"#);
    scene.start("bomb() { bomb & bomb & sleep 100; }; bomb 2>/dev/null");
    let pids = |scene: &Scene| scene.group.stats().unwrap().pids.unwrap();
    until("refused forks", || {
        let now = pids(&scene);
        assert!(now.current <= 16, "{now:?}");
        now.refused > 0
    });
    // It has come as far as it comes.
    for _ in 0..50 {
        assert!(pids(&scene).current <= 16);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(pids(&scene).limit, Some(16));
    scene.end();
}

#[test]
fn s23_a_cpu_quota_throttles() {
    let mut scene = Scene::new(r#"{"cpus":0.05}"#);
    scene.start(BUSY);
    let throttled = |scene: &Scene| scene.group.stats().unwrap().cpu.unwrap().throttled_periods.unwrap();
    until("throttling", || throttled(&scene) >= 5);
    let cpu = scene.group.stats().unwrap().cpu.unwrap();
    assert!(
        cpu.usage_micros > 0 && cpu.throttled_micros.unwrap() > 0 && cpu.periods.unwrap() >= 5,
        "{cpu:?}"
    );

    // More than it can use: then the count stands still.
    scene.group.update(&scene.machine, &limits(r#"{"cpus":2,"cpuPeriodMicros":50000}"#)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let before = throttled(&scene);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(throttled(&scene), before, "the control: without a quota that it reaches");
    scene.end();
}

#[test]
fn s23_a_limit_that_comes_later_holds_for_what_runs() {
    let mut scene = Scene::new("{}");
    let first = scene.start(&format!("{BUSY} & {BUSY} & {BUSY}"));
    until("three processes", || scene.group.stats().unwrap().pids.unwrap().current == 3);
    assert_eq!(scene.group.stats().unwrap().cpu.unwrap().throttled_periods.unwrap_or(0), 0);
    let wanted = limits(r#"{"cpus":0.05,"cpusetCpus":"0","pids":4}"#);
    scene.group.update(&scene.machine, &wanted).unwrap();
    until("throttling", || scene.group.stats().unwrap().cpu.unwrap().throttled_periods >= Some(5));
    let status = std::fs::read_to_string(format!("/proc/{}/status", first.pid.as_raw_nonzero())).unwrap();
    assert!(status.contains("\nCpus_allowed_list:\t0\n"), "{status}");
    assert!(!readable(&first.pidfd, Duration::ZERO));
    // And for what joins from now on.
    let output = scene.output("exec grep Cpus_allowed_list /proc/self/status", Vec::new());
    assert_eq!(output, "Cpus_allowed_list:\t0\n");
    scene.end();
}

#[test]
fn s23_a_cpuset_keeps_a_process_to_its_processors() {
    let mut scene = Scene::new(r#"{"cpusetCpus":"1","cpusetMems":"0"}"#);
    let status = scene.output("grep -E '^(Cpus|Mems)_allowed_list' /proc/self/status", Vec::new());
    assert_eq!(status, "Cpus_allowed_list:\t1\nMems_allowed_list:\t0\n");
    scene.end();
}

#[test]
fn s23_who_opened_the_files_decides_who_may_join() {
    let mut scene = Scene::new(r#"{"pids":3,"cpusetCpus":"0"}"#);
    let nobody = Credentials {
        uid: 65534,
        gid: 65534,
        groups: Vec::new(),
        capabilities: Capabilities::default(),
        no_new_privileges: true,
    };
    let output =
        scene.output("id -u; grep Cpus_allowed_list /proc/self/status", vec![Op::Credentials(nobody)]);
    assert_eq!(output, "65534\nCpus_allowed_list:\t0\n");
    scene.end();
}

#[test]
fn s23_weights_are_written() {
    let scene = Scene::new(r#"{"cpuWeight":50}"#);
    scene.end();
    let mut scene = Scene::new(r#"{"cpuWeight":10000}"#);
    scene.group.update(&scene.machine, &limits(r#"{"cpuWeight":1}"#)).unwrap();
    scene.end();
}
