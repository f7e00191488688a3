//! Where our top of the v2 hierarchy is not the machine's, but a group with processes in it, as in a container.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

mod common;

use cgroups::{Controller, Error, Group, Limits, Machine, Version};
use common::{Hugetlb, Scene, assert_gone, fresh_name, limits, unified};
use rustix::io::Errno;

/// A limit on a controller that v2 has on this machine.
fn limit_of_v2(machine: &Machine) -> Option<String> {
    let facts = machine.facts();
    let on_v2 = |controller| facts.controllers[&controller] == Ok(Version::V2);
    if on_v2(Controller::Memory) {
        return Some(r#"{"memoryBytes":536870912}"#.to_owned());
    }
    let size = facts.huge_page_sizes.iter().next().filter(|_| on_v2(Controller::Hugetlb))?;
    Some(format!(r#"{{"hugetlb":[{{"pageSize":"{size}","limitBytes":0}}]}}"#))
}

#[test]
fn s23_a_top_with_processes_gives_no_limits_but_groups() {
    if std::env::var_os("LIMITS_TEST_NESTED").is_some() {
        return inside();
    }
    let machine = Machine::probe().unwrap();
    let Some(limit) = limit_of_v2(&machine) else {
        eprintln!("skipped: v2 has no controller on this machine");
        return;
    };
    let unified = unified();
    let _borrowed = Hugetlb::borrowed();
    let mut scene = Scene::new(&limit);
    let test = std::env::current_exe().unwrap();
    let name = "s23_a_top_with_processes_gives_no_limits_but_groups";
    let output = scene.output(
        &format!(
            "export LIMITS_TEST_NESTED=1; exec unshare --mount --cgroup sh -c \
             'umount {unified} && mount -t cgroup2 cgroup2 {unified} && exec {} --exact {name} --nocapture' 2>&1",
            test.display()
        ),
        Vec::new(),
    );
    assert!(output.contains("1 passed"), "{output}");
    scene.end();
}

fn inside() {
    let machine = Machine::probe().unwrap();
    let limit = limit_of_v2(&machine).unwrap();
    let name = fresh_name();
    let error = Group::create(&machine, &name, &machine.plan(&limits(&limit)).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Enable { source: Errno::BUSY, .. }), "{error}");
    assert_gone(&machine, &name);
    // Nobody else is here, so the directory of all groups is gone too.
    let base = std::path::Path::new(&unified()).join("start-container");
    assert!(!base.exists());
    // What would only be counted is not, and nobody is refused for that.
    let group = Group::create(&machine, &name, &machine.plan(&Limits::default()).unwrap()).unwrap();
    assert!(group.cgroup2().is_some());
    assert!(group.stats().unwrap().cpu.is_some());
    assert!(base.exists());
    group.remove().unwrap();
    assert_gone(&machine, &name);
    assert!(!base.exists());
}
