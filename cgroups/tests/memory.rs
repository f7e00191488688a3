//! Memory: the limit holds, the kill is seen, and a live limit never kills.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

mod common;

use std::time::Duration;

use cgroups::Error;
use common::{Scene, limits, readable, until, wait};
use linux::pidfd::ExitStatus;
use linux::signal::Signal;

/// Takes 32 MiB and a few copies, then ends well. (The second limit protects the machine should the first not hold.)
const TAKE: &str =
    "ulimit -v 2097152; x=0123456789abcdef; while [ ${#x} -lt 33554432 ]; do x=$x$x; done; exit 7";

/// Takes all there is.
const BOMB: &str = "ulimit -v 2097152; x=0123456789abcdef; while :; do x=$x$x; done";

fn killed() -> ExitStatus {
    ExitStatus::Signaled { signal: Signal::KILL, core: false }
}

#[test]
fn s23_a_memory_limit_holds() {
    let mut enough = Scene::new(r#"{"memoryBytes":536870912,"swapBytes":0}"#);
    let process = enough.start(TAKE);
    assert_eq!(wait(&process), ExitStatus::Exited(7), "the control: with enough memory it ends well");
    assert_eq!(enough.group.oom_kills().unwrap(), Some(0));
    enough.end();

    let mut little = Scene::new(r#"{"memoryBytes":16777216,"swapBytes":0}"#);
    let process = little.start(TAKE);
    assert_eq!(wait(&process), killed());
    assert_eq!(little.group.oom_kills().unwrap(), Some(1));
    let memory = little.group.stats().unwrap().memory.unwrap();
    assert_eq!(memory.limit_bytes, Some(16 << 20));
    // The machine was not harmed: it never gave more. (Kernel 6.1 has memory.peak.)
    assert!(memory.peak_bytes.unwrap() <= 16 << 20, "{memory:?}");
    little.end();
}

#[test]
fn s23_an_out_of_memory_kill_wakes_who_waits_for_it() {
    let mut scene = Scene::new(r#"{"memoryBytes":16777216,"swapBytes":0}"#);
    let watch = scene.group.watch_oom().unwrap().unwrap();
    assert!(!readable(&watch, Duration::from_millis(50)), "nothing has happened yet");
    for round in 1..=3 {
        let process = scene.start(BOMB);
        assert!(readable(&watch, common::PATIENCE), "round {round}");
        assert_eq!(wait(&process), killed());
        until("the count", || watch.kills().unwrap() == round);
        until("quiet", || {
            watch.kills().unwrap();
            !readable(&watch, Duration::from_millis(20))
        });
    }
    scene.end();
}

#[test]
fn s23_only_the_group_pays_for_what_it_takes() {
    let mut bomb = Scene::new(r#"{"memoryBytes":16777216,"swapBytes":0}"#);
    let mut neighbour = Scene::new(r#"{"memoryBytes":16777216,"swapBytes":0}"#);
    let steady = neighbour.start("while :; do sleep 0.05; done");
    assert_eq!(wait(&bomb.start(BOMB)), killed());
    assert!(!readable(&steady.pidfd, Duration::from_millis(200)), "the neighbour runs on");
    assert_eq!(neighbour.group.oom_kills().unwrap(), Some(0));
    bomb.end();
    neighbour.end();
}

#[test]
fn s23_a_memory_limit_is_raised_and_lowered_live_and_never_kills() {
    let mut scene = Scene::new(r#"{"memoryBytes":67108864,"swapBytes":0}"#);
    // Holds more than 8 MiB, then waits.
    let hold = "x=0123456789abcdef; while [ ${#x} -lt 8388608 ]; do x=$x$x; done; while :; do sleep 1; done";
    let process = scene.start(hold);
    until("use of memory", || scene.group.stats().unwrap().memory.unwrap().anonymous_bytes > 8 << 20);
    // Growing goes on for a moment.
    std::thread::sleep(Duration::from_millis(300));

    let limit = |scene: &Scene| scene.group.stats().unwrap().memory.unwrap().limit_bytes;
    for mebibytes in [128_u64, 48, 256] {
        let wanted = limits(&format!(r#"{{"memoryBytes":{},"swapBytes":0}}"#, mebibytes << 20));
        scene.group.update(&scene.machine, &wanted).unwrap();
        assert_eq!(limit(&scene), Some(mebibytes << 20));
    }
    let too_little = limits(r#"{"memoryBytes":6291456,"swapBytes":0,"pids":77}"#);
    let refused = scene.group.update(&scene.machine, &too_little).unwrap_err();
    assert!(matches!(refused, Error::MemoryInUse { limit: 6_291_456, .. }), "{refused}");
    let stats = scene.group.stats().unwrap();
    assert_eq!(stats.memory.unwrap().limit_bytes, Some(256 << 20), "the old limit stays");
    assert_eq!(stats.pids.unwrap().limit, None, "and no other was changed");
    assert!(!readable(&process.pidfd, Duration::from_millis(100)), "it runs on");
    assert_eq!(scene.group.oom_kills().unwrap(), Some(0));

    let unlimited = cgroups::Limits { memory_bytes: Some(cgroups::Limits::UNLIMITED), ..Default::default() };
    scene.group.update(&scene.machine, &unlimited).unwrap();
    assert_eq!(limit(&scene), None);
    scene.end();
}
