use std::collections::BTreeMap;

use oci_spec::runtime::LinuxResources;
use proptest::prelude::*;

use super::*;
use crate::controller::{Absence, Controller};

/// A machine of two processors without any controller: checking needs none.
fn facts() -> Facts {
    Facts {
        controllers: BTreeMap::from(Controller::ALL.map(|one| (one, Err(Absence::NotInKernel)))),
        online_cpus: 2,
        cpus: BTreeSet::from([0, 1]),
        mems: BTreeSet::from([0]),
        huge_page_sizes: BTreeSet::from(["2MB".to_owned()]),
        swap: true,
        v1_io_weight: None,
    }
}

fn refusal(json: &str) -> String {
    let limits: Limits = serde_json::from_str(json).unwrap();
    let error = check(&limits, &facts()).unwrap_err();
    assert!(error.is_refusal());
    error.to_string()
}

#[test]
fn s23_each_refused_limit_is_named_with_the_reason() {
    for (json, expected) in [
        (r#"{"memoryBytes":6291455}"#, "limit memoryBytes: 6291455 is less than 6 MiB"),
        (r#"{"swapBytes":1}"#, "limit swapBytes: needs memoryBytes"),
        (
            r#"{"memoryBytes":8388608,"memoryReservationBytes":8388609}"#,
            "limit memoryReservationBytes: 8388609 is not from 0 to 8388608",
        ),
        (r#"{"pids":0}"#, "limit pids: 0 is not from 1 to 9007199254740991"),
        (r#"{"cpus":0}"#, "limit cpus: 0 is not from 0.01 to 2, the processors online"),
        (r#"{"cpus":-1}"#, "limit cpus: -1 is not from 0.01 to 2, the processors online"),
        (r#"{"cpus":2.01}"#, "limit cpus: 2.01 is not from 0.01 to 2, the processors online"),
        (
            r#"{"cpus":0.01,"cpuPeriodMicros":5000}"#,
            "limit cpus: 0.01 in a period of 5000 µs is 50 µs, less than 1,000 µs",
        ),
        (r#"{"cpuPeriodMicros":5000}"#, "limit cpuPeriodMicros: needs cpus"),
        (r#"{"cpus":1,"cpuPeriodMicros":999}"#, "limit cpuPeriodMicros: 999 is not from 1000 to 1000000"),
        (r#"{"cpuWeight":0}"#, "limit cpuWeight: 0 is not from 1 to 10000"),
        (r#"{"cpusetCpus":"0-4"}"#, "limit cpusetCpus: 2-4 is not among 0-1"),
        (r#"{"cpusetCpus":""}"#, "limit cpusetCpus: names none"),
        (r#"{"cpusetCpus":"a"}"#, r#"limit cpusetCpus: "a" is no number or range"#),
        (r#"{"cpusetMems":"1"}"#, "limit cpusetMems: 1 is not among 0"),
        (r#"{"ioWeight":9}"#, "limit ioWeight: 9 is not from 10 to 1000"),
        (r#"{"io":[{"device":"8:0"}]}"#, "limit io[8:0]: limits nothing"),
        (
            r#"{"io":[{"device":"8:0","readBps":0}]}"#,
            "limit io[8:0].readBps: 0 is not from 1 to 9007199254740991",
        ),
        (
            r#"{"hugetlb":[{"pageSize":"3MB","limitBytes":1}]}"#,
            "limit hugetlb[3MB]: this machine has huge pages of 2MB",
        ),
        (
            r#"{"hugetlb":[{"pageSize":"2MB","limitBytes":1},{"pageSize":"2MB","limitBytes":2}]}"#,
            "limit hugetlb[2MB]: is there twice",
        ),
    ] {
        assert_eq!(refusal(json), expected);
    }
}

#[test]
fn a_number_that_is_none_is_refused() {
    for cpus in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(check(&Limits { cpus: Some(cpus), ..Limits::default() }, &facts()).is_err(), "{cpus}");
    }
}

#[test]
fn a_misspelt_limit_is_refused() {
    for json in [r#"{"memory":67108864}"#, r#"{"memory_bytes":67108864}"#, r#"{"pids":-1}"#] {
        assert!(serde_json::from_str::<Limits>(json).is_err(), "{json}");
    }
}

#[test]
fn what_is_absent_is_not_written() {
    assert_eq!(serde_json::to_string(&Limits::default()).unwrap(), "{}");
}

fn from_oci(json: &str) -> Result<Limits> {
    super::from_oci(&serde_json::from_str(json).unwrap())
}

#[test]
fn s23_an_oci_configuration_becomes_limits() {
    let limits = from_oci(
        r#"{"devices":[{"allow":false,"access":"rwm"}],
            "memory":{"limit":67108864,"swap":100663296,"reservation":33554432},
            "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1","mems":"0"},
            "pids":{"limit":32},
            "blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],
                       "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":10}]},
            "hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
    );
    let expected = Limits {
        memory_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        swap_bytes: Some(32 << 20),
        cpus: Some(0.5),
        cpu_period_micros: None,
        cpu_weight: Some(100),
        cpuset_cpus: Some("0-1".into()),
        cpuset_mems: Some("0".into()),
        pids: Some(32),
        io_weight: Some(500),
        io: vec![IoLimit {
            device: "8:0".into(),
            read_bps: Some(1000),
            write_iops: Some(10),
            ..IoLimit::default()
        }],
        hugetlb: vec![HugePageLimit { page_size: "2MB".into(), limit_bytes: 4 << 20 }],
    };
    assert_eq!(limits.unwrap(), expected);
}

#[test]
fn zero_and_minus_one_are_no_limit_in_oci() {
    for value in [0, -1] {
        let json = format!(
            r#"{{"memory":{{"limit":0,"swap":0}},"cpu":{{"shares":0,"quota":{value}}},"pids":{{"limit":{value}}}}}"#
        );
        assert_eq!(from_oci(&json).unwrap(), Limits::default());
    }
    let limits = from_oci(r#"{"memory":{"limit":67108864,"swap":-1}}"#).unwrap();
    assert_eq!(limits.swap_bytes, Some(Limits::UNLIMITED));
}

#[test]
fn what_cannot_be_applied_is_refused_not_dropped() {
    for (json, field) in [
        (r#"{"memory":{"swappiness":10}}"#, "memory.swappiness"),
        (r#"{"memory":{"disableOOMKiller":true}}"#, "memory.disableOOMKiller"),
        (r#"{"cpu":{"realtimeRuntime":1000}}"#, "cpu.realtimeRuntime"),
        (r#"{"unified":{"memory.high":"1"}}"#, "unified"),
        (r#"{"network":{"classID":1}}"#, "network"),
    ] {
        let message = from_oci(json).unwrap_err().to_string();
        assert_eq!(message, format!("linux.resources.{field} is not supported"));
    }
    let less = from_oci(r#"{"memory":{"limit":67108864,"swap":1}}"#).unwrap_err();
    assert!(less.to_string().contains("less than the limit without"), "{less}");
}

prop_compose! {
    /// Devices are left out: their numbers are this machine's.
    fn any_limits()(
        memory in proptest::option::of(Limits::LEAST_MEMORY..1 << 50),
        swap in proptest::option::of(0_u64..1 << 50),
        hundredths in proptest::option::of(1_u32..=200),
        period in proptest::option::of(100_000_u64..=1_000_000),
        cpu_weight in proptest::option::of(1_u64..=10_000),
        pids in proptest::option::of(1_u64..1 << 40),
        io_weight in proptest::option::of(10_u16..=1000),
        huge in proptest::option::of(0_u64..1 << 50),
    ) -> Limits {
        Limits {
            memory_bytes: memory,
            memory_reservation_bytes: memory,
            swap_bytes: swap.filter(|_| memory.is_some()),
            cpus: hundredths.map(|hundredths| f64::from(hundredths) / 100.0),
            cpu_period_micros: period.filter(|_| hundredths.is_some()),
            cpu_weight,
            cpuset_cpus: Some("0".into()),
            cpuset_mems: None,
            pids,
            io_weight,
            io: Vec::new(),
            hugetlb: huge.map(|limit_bytes| HugePageLimit { page_size: "2MB".into(), limit_bytes }).into_iter().collect(),
        }
    }
}

proptest! {
    #[test]
    fn limits_survive_the_way_through_oci(limits in any_limits()) {
        prop_assert!(check(&limits, &facts()).is_ok());
        let mut resources = LinuxResources::default();
        write_to(&limits, &mut resources).unwrap();
        let mut read = super::from_oci(&resources).unwrap();
        // What the kernel gets, in whole microseconds.
        prop_assert_eq!(read.quota(), limits.quota());
        (read.cpus, read.cpu_period_micros) = (limits.cpus, limits.cpu_period_micros);
        prop_assert_eq!(read, limits);
    }
}
