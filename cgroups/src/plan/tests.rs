use std::collections::BTreeSet;

use super::*;
use crate::controller::Absence;

fn facts(version: Version) -> Facts {
    Facts {
        controllers: BTreeMap::from(Controller::ALL.map(|one| (one, Ok(version)))),
        online_cpus: 2,
        cpus: BTreeSet::from([0, 1]),
        mems: BTreeSet::from([0]),
        huge_page_sizes: BTreeSet::from(["2MB".to_owned()]),
        swap: true,
        v1_io_weight: Some("blkio.bfq.weight"),
    }
}

fn everything() -> Limits {
    serde_json::from_str(
        r#"{"memoryBytes":67108864,"memoryReservationBytes":33554432,"swapBytes":1048576,"cpus":0.5,"cpuWeight":50,
            "cpusetCpus":"0","cpusetMems":"0","pids":32,"ioWeight":500,
            "io":[{"device":"8:0","readBps":1,"writeBps":2,"readIops":3,"writeIops":4}],
            "hugetlb":[{"pageSize":"2MB","limitBytes":0}]}"#,
    )
    .unwrap()
}

fn written(plan: &Plan) -> Vec<String> {
    let setting = |setting: &Setting| {
        let pairs = setting.files.iter().zip(&setting.values);
        pairs.map(|(file, value)| format!("{file} = {value}")).collect::<Vec<_>>().join(" and ")
    };
    plan.settings().map(|(_, _, one)| setting(one)).collect()
}

#[test]
fn s23_every_limit_has_its_file_in_v1() {
    let plan = Plan::new(&facts(Version::V1), &everything(), &[(8, 0)]).unwrap();
    assert_eq!(
        written(&plan),
        [
            "memory.limit_in_bytes = 67108864",
            "memory.memsw.limit_in_bytes = 68157440",
            "memory.soft_limit_in_bytes = 33554432",
            "cpu.shares = 512",
            "cpu.cfs_period_us = 100000",
            "cpu.cfs_quota_us = 50000",
            "cpuset.cpus = 0",
            "cpuset.mems = 0",
            "pids.max = 32",
            "blkio.bfq.weight = 500",
            "blkio.throttle.read_bps_device = 8:0 1",
            "blkio.throttle.write_bps_device = 8:0 2",
            "blkio.throttle.read_iops_device = 8:0 3",
            "blkio.throttle.write_iops_device = 8:0 4",
            "hugetlb.2MB.limit_in_bytes = 0",
            "hugetlb.2MB.rsvd.limit_in_bytes = 0",
        ]
    );
}

#[test]
fn s23_every_limit_has_its_file_in_v2() {
    let plan = Plan::new(&facts(Version::V2), &everything(), &[(8, 0)]).unwrap();
    assert_eq!(
        written(&plan),
        [
            "memory.max = 67108864",
            "memory.swap.max = 1048576",
            "memory.low = 33554432",
            "cpu.weight = 50",
            "cpu.max = 50000 100000",
            "cpuset.cpus = 0",
            "cpuset.mems = 0",
            "pids.max = 32",
            "io.bfq.weight = 500 and io.weight = default 4950",
            "io.max = 8:0 rbps=1 wbps=2 riops=3 wiops=4",
            "hugetlb.2MB.max = 0",
            "hugetlb.2MB.rsvd.max = 0",
        ]
    );
}

#[test]
fn s23_swap_is_limited_with_memory_as_docker_does() {
    let limits = Limits { memory_bytes: Some(8 << 20), ..Limits::default() };
    let v1 = Plan::new(&facts(Version::V1), &limits, &[]).unwrap();
    assert_eq!(written(&v1), ["memory.limit_in_bytes = 8388608", "memory.memsw.limit_in_bytes = 16777216"]);
    let v2 = Plan::new(&facts(Version::V2), &limits, &[]).unwrap();
    assert_eq!(written(&v2), ["memory.max = 8388608", "memory.swap.max = 8388608"]);
}

#[test]
fn no_limit_is_written_as_the_version_writes_it() {
    let limits =
        Limits { memory_bytes: Some(Limits::UNLIMITED), pids: Some(Limits::UNLIMITED), ..Limits::default() };
    let v1 = Plan::new(&facts(Version::V1), &limits, &[]).unwrap();
    let expected = ["memory.limit_in_bytes = -1", "memory.memsw.limit_in_bytes = -1", "pids.max = max"];
    assert_eq!(written(&v1), expected);
    let v2 = Plan::new(&facts(Version::V2), &limits, &[]).unwrap();
    assert_eq!(written(&v2), ["memory.max = max", "memory.swap.max = max", "pids.max = max"]);
}

#[test]
fn s23_a_limit_without_its_controller_is_refused_by_both_names() {
    let mut facts = facts(Version::V2);
    for (controller, absence, expected) in [
        (
            Controller::Memory,
            Absence::DisabledAtBoot,
            "limit memoryBytes needs the memory controller, which is disabled on the kernel's command line \
             (cgroup_disable)",
        ),
        (
            Controller::Hugetlb,
            Absence::NotInKernel,
            "limit hugetlb needs the hugetlb controller, which this kernel does not have",
        ),
        (
            Controller::Io,
            Absence::NotMounted,
            "limit ioWeight needs the io controller, which is bound to a cgroup v1 hierarchy that is not mounted here",
        ),
        (
            Controller::Cpuset,
            Absence::NotDelegated,
            "limit cpusetCpus needs the cpuset controller, which is not delegated to this part of the cgroup v2 \
             hierarchy",
        ),
    ] {
        let before = facts.controllers.insert(controller, Err(absence)).unwrap();
        let error = Plan::new(&facts, &everything(), &[(8, 0)]).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.is_refusal());
        facts.controllers.insert(controller, before);
    }
}

#[test]
fn nothing_asked_for_needs_no_controller() {
    let mut facts = facts(Version::V1);
    for controller in Controller::ALL {
        facts.controllers.insert(controller, Err(Absence::NotInKernel));
    }
    assert!(Plan::new(&facts, &Limits::default(), &[]).unwrap().parts.is_empty());
}

#[test]
fn controllers_of_both_versions_are_used_side_by_side() {
    let mut facts = facts(Version::V1);
    facts.controllers.insert(Controller::Pids, Ok(Version::V2)).unwrap().unwrap();
    let limits = Limits { memory_bytes: Some(8 << 20), pids: Some(9), ..Limits::default() };
    let plan = Plan::new(&facts, &limits, &[]).unwrap();
    assert_eq!(plan.parts[&Controller::Memory].version, Version::V1);
    assert_eq!(plan.parts[&Controller::Pids].version, Version::V2);
}

#[test]
fn one_device_under_two_names_is_refused() {
    let mut limits = everything();
    limits.io.push(crate::IoLimit {
        device: "/dev/sda".into(),
        read_bps: Some(5),
        ..crate::IoLimit::default()
    });
    let error = Plan::new(&facts(Version::V2), &limits, &[(8, 0), (8, 0)]).unwrap_err();
    assert_eq!(error.to_string(), "limit io[/dev/sda]: is there twice");
}

#[test]
fn swap_that_is_not_accounted_for_is_refused_only_when_asked_for() {
    for version in [Version::V1, Version::V2] {
        let facts = Facts { swap: false, ..facts(version) };
        let error = Plan::new(&facts, &everything(), &[(8, 0)]).unwrap_err();
        assert_eq!(error.to_string(), "limit swapBytes: this kernel does not account for swap");
        let without = Limits { swap_bytes: None, ..everything() };
        assert!(Plan::new(&facts, &without, &[(8, 0)]).is_ok());
    }
}
