//! What only bad plans show, which no caller can make. As root, on the real kernel.

use std::time::Instant;

use super::*;
use crate::plan::{Part as Planned, Setting};

/// A plan whose last value the kernel refuses.
fn bad_plan(machine: &Machine) -> Plan {
    let limits = Limits { memory_bytes: Some(64 << 20), cpus: Some(0.5), ..Limits::default() };
    let mut plan = machine.plan(&limits).unwrap();
    let version = machine.facts().controllers[&Controller::Pids].unwrap();
    let setting = Setting {
        limit: "pids",
        files: vec!["pids.max".into()],
        values: vec!["many".into()],
        implied: false,
    };
    plan.parts.insert(Controller::Pids, Planned { version, settings: vec![setting] });
    plan
}

fn name(of: &str) -> String {
    format!("limits-unit-{}-{of}", std::process::id())
}

#[test]
fn s23_a_limit_that_the_kernel_refuses_takes_everything_back() {
    let machine = Machine::probe().unwrap();
    let name = name("refused");
    let error = Group::create(&machine, &name, &bad_plan(&machine)).unwrap_err();
    let Error::Write { file, value, source, .. } = &error else { panic!("{error}") };
    assert_eq!((file.as_str(), value.as_str(), *source), ("pids.max", "many", Errno::INVAL));
    assert!(Group::open(&machine, &name).unwrap().is_none(), "a directory is left");
}

#[test]
fn s23_a_directory_in_v2_that_was_there_before_is_not_taken_back() {
    let machine = Machine::probe().unwrap();
    let name = name("adopted");
    let unified = &machine.hierarchies()[0];
    let wanted = Wanted::of(unified, &machine.plan(&Limits::default()).unwrap());
    let before = Part::make(unified, &name, &wanted).unwrap().unwrap();
    Group::create(&machine, &name, &bad_plan(&machine)).unwrap_err();
    let left = Group::open(&machine, &name).unwrap().unwrap();
    assert_eq!(left.parts.len(), 1);
    assert_eq!(left.parts[0].version(), Version::V2);
    before.remove(&name, Instant::now()).unwrap();
    before.tidy();
}
