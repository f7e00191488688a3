//! The life of a group: nothing is left of it, whatever happens.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

mod common;

use std::os::fd::AsFd as _;

use cgroups::{Controller, Error, Group, Limits, Machine, Version};
use common::{Scene, assert_gone, fresh_name, limits, wait};
use linux::pidfd::ExitStatus;

#[test]
fn s23_every_controller_is_found_or_its_absence_explained() {
    let machine = Machine::probe().unwrap();
    let facts = machine.facts();
    for controller in Controller::ALL {
        // Says what the run was about.
        eprintln!("{controller}: {:?}", facts.controllers[&controller]);
    }
    // Every kernel that is supported is built with these.
    for controller in [Controller::Memory, Controller::Cpu, Controller::Pids] {
        assert!(facts.controllers[&controller].is_ok(), "{controller}: {:?}", facts.controllers[&controller]);
    }
    assert!(facts.online_cpus >= 1 && !facts.cpus.is_empty() && !facts.mems.is_empty());
}

#[test]
fn s23_refused_limits_leave_nothing() {
    let machine = Machine::probe().unwrap();
    for json in [
        r#"{"memoryBytes":1048576}"#,
        r#"{"pids":0}"#,
        r#"{"cpus":4096}"#,
        r#"{"cpusetCpus":"4095"}"#,
        r#"{"memoryBytes":67108864,"swapBytes":0,"pids":0}"#,
    ] {
        assert!(machine.plan(&limits(json)).unwrap_err().is_refusal(), "{json}");
    }
    let plan = machine.plan(&Limits::default()).unwrap();
    for name in ["", ".", "..", "a/b", ".hidden", "a b", "x\n"] {
        assert!(matches!(Group::create(&machine, name, &plan), Err(Error::Name { .. })), "{name:?}");
    }
}

#[test]
fn s23_a_refused_update_changes_nothing() {
    let mut scene = Scene::new(r#"{"pids":10}"#);
    let error = scene.group.update(&scene.machine, &limits(r#"{"pids":20,"memoryBytes":1}"#)).unwrap_err();
    assert!(error.is_refusal());
    assert_eq!(scene.group.stats().unwrap().pids.unwrap().limit, Some(10));
    scene.end();
}

#[test]
fn s23_a_group_is_found_again_by_another_process() {
    let mut scene = Scene::new(r#"{"pids":10,"memoryBytes":67108864}"#);
    let found = Group::open(&scene.machine, scene.group.name()).unwrap().unwrap();
    scene.group = found;
    let process = scene.start("exit 3");
    assert_eq!(wait(&process), ExitStatus::Exited(3));
    scene.group.update(&scene.machine, &limits(r#"{"pids":11}"#)).unwrap();
    assert_eq!(scene.group.stats().unwrap().pids.unwrap().limit, Some(11));
    scene.end();
}

#[test]
fn s23_an_empty_group_that_was_left_behind_is_replaced() {
    let machine = Machine::probe().unwrap();
    let name = fresh_name();
    let with = |json: &str| Group::create(&machine, &name, &machine.plan(&limits(json)).unwrap()).unwrap();
    drop(with(r#"{"pids":10,"cpus":0.5}"#));
    let again = with(r#"{"pids":12}"#);
    assert_eq!(again.stats().unwrap().pids.unwrap().limit, Some(12));
    // Also what only the first one had is found.
    Group::open(&machine, &name).unwrap().unwrap().remove().unwrap();
    assert_gone(&machine, &name);
}

#[test]
fn s23_a_group_in_use_is_not_removed_and_can_be_later() {
    let mut scene = Scene::new(r#"{"pids":10}"#);
    scene.start("while :; do sleep 1; done");
    let refused = scene.group.remove().unwrap_err();
    assert!(matches!(refused, Error::Remove { .. }), "{refused}");
    assert_eq!(scene.group.stats().unwrap().pids.unwrap().limit, Some(10));
    scene.end();
}

#[test]
fn s23_removing_twice_and_what_was_removed_by_another_is_no_error() {
    let scene = Scene::new(r#"{"pids":10}"#);
    Group::open(&scene.machine, scene.group.name()).unwrap().unwrap().remove().unwrap();
    scene.group.remove().unwrap();
    scene.end();
}

#[test]
fn s23_groups_come_and_go_side_by_side() {
    let machine = Machine::probe().unwrap();
    let plan = machine.plan(&limits(r#"{"pids":10,"memoryBytes":67108864,"cpusetCpus":"0"}"#)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..40 {
                    let name = fresh_name();
                    // The last one out removes the directory that all are in, at any moment.
                    let group = Group::create(&machine, &name, &plan).unwrap();
                    assert!(group.cgroup2().unwrap().as_fd().try_clone_to_owned().is_ok());
                    group.remove().unwrap();
                    assert_gone(&machine, &name);
                }
            });
        }
    });
}

#[test]
fn s23_use_and_pressure_are_seen() {
    let mut scene = Scene::new(r#"{"memoryBytes":67108864,"swapBytes":0,"pids":10}"#);
    scene.start("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; while :; do sleep 1; done");
    common::until("time used", || scene.group.stats().unwrap().cpu.unwrap().usage_micros > 50_000);
    // The kernel sums these up every two seconds.
    common::until("memory used", || scene.group.stats().unwrap().memory.unwrap().anonymous_bytes > 0);
    let stats = scene.group.stats().unwrap();
    let memory = stats.memory.unwrap();
    assert!(memory.current_bytes > 0 && memory.current_bytes <= 64 << 20, "{memory:?}");
    assert!(stats.pids.unwrap().current >= 1);
    let cpu = stats.cpu.unwrap();
    assert!(
        cpu.user_micros + cpu.system_micros > 0
            && cpu.user_micros + cpu.system_micros <= cpu.usage_micros + 10_000,
        "{cpu:?}"
    );
    // Where the kernel knows pressure at all, the group does.
    let known = std::fs::read_to_string("/proc/pressure/memory").is_ok();
    assert_eq!(stats.pressure.memory.is_some() && stats.pressure.cpu.is_some(), known);
    scene.end();
}

#[test]
fn versions_have_the_names_that_people_know() {
    assert_eq!(format!("{} {}", Version::V1, Version::V2), "cgroup v1 cgroup v2");
}
