//! Block devices and huge pages.
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

mod common;

use std::time::Instant;

use cgroups::{Controller, Version};
use common::{Hugetlb, Scene, limits};

/// The whole disk that the root is on, and its name in `/dev`; nothing where the root is on no block device.
fn disk() -> Option<(String, String)> {
    let device = rustix::fs::stat("/").unwrap().st_dev;
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mut path = std::fs::canonicalize(format!("/sys/dev/block/{number}")).ok()?;
    if path.join("partition").exists() {
        path.pop();
    }
    let number = std::fs::read_to_string(path.join("dev")).ok()?.trim().to_owned();
    Some((number, format!("/dev/{}", path.file_name()?.to_str()?)))
}

/// A file on the disk of the root, removed when dropped.
struct Scratch(String);

impl Scratch {
    fn of_pages(pages: usize) -> Self {
        let path = format!("/var/{}", common::fresh_name());
        let on_root = rustix::fs::stat("/").unwrap().st_dev == rustix::fs::stat("/var").unwrap().st_dev;
        assert!(on_root, "/var is on another disk than /");
        let file = Self(path);
        std::fs::write(&file.0, vec![7; pages * 4096]).unwrap();
        std::fs::File::open(&file.0).unwrap().sync_all().unwrap();
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

#[test]
fn s23_reads_are_held_to_their_rate_and_counted() {
    let Some((number, _)) = disk() else {
        eprintln!("skipped: the root is on no block device");
        return;
    };
    let file = Scratch::of_pages(40);
    let read = format!("dd if={} of=/dev/null bs=4096 iflag=direct 2>/dev/null && echo done", file.0);
    let timed = |json: &str| {
        let mut scene = Scene::new(json);
        let start = Instant::now();
        assert_eq!(scene.output(&read, Vec::new()), "done\n");
        let time = start.elapsed();
        let io = scene.group.stats().unwrap().io;
        scene.end();
        (time, io)
    };
    let (free, _) = timed("{}");
    // 40 reads at 20 in a second; the first few are let through.
    let (held, io) = timed(&format!(r#"{{"io":[{{"device":"{number}","readIops":20}}]}}"#));
    let io = io.unwrap();
    assert!(held.as_secs_f64() > 1.2 && held > free, "{held:?}, without a limit {free:?}");
    assert!(io.reads >= 40 && io.read_bytes >= 40 * 4096, "{io:?}");
}

#[test]
fn s23_a_device_is_named_by_path_or_number_and_changed_live() {
    let Some((number, name)) = disk() else {
        eprintln!("skipped: the root is on no block device");
        return;
    };
    let mut scene =
        Scene::new(&format!(r#"{{"io":[{{"device":"{name}","writeBps":1048576,"readBps":1048576}}]}}"#));
    let without = format!(r#"{{"io":[{{"device":"{number}","readBps":{}}}]}}"#, cgroups::Limits::UNLIMITED);
    scene.group.update(&scene.machine, &limits(&without)).unwrap();
    // The plan for both is the same file; the name was resolved.
    let plan = scene.machine.plan(&limits(&without)).unwrap();
    let values: Vec<&str> =
        plan.settings().flat_map(|(_, _, setting)| setting.values.iter().map(String::as_str)).collect();
    assert!(values[0].starts_with(&number), "{values:?}");
    scene.end();
}

#[test]
fn s23_what_is_no_whole_disk_is_refused() {
    let machine = cgroups::Machine::probe().unwrap();
    for (device, why) in [
        ("/dev/null", "is no block device"),
        ("/no/such/device", "cannot be looked at: No such file or directory (os error 2)"),
        ("4095:4095", "is no block device of this machine"),
        ("sda", "is neither major:minor nor a path"),
    ] {
        let error =
            machine.plan(&limits(&format!(r#"{{"io":[{{"device":"{device}","readBps":1}}]}}"#))).unwrap_err();
        assert_eq!(error.to_string(), format!("limit io[{device}]: {why}"));
        assert!(error.is_refusal());
    }
}

#[test]
fn s23_huge_pages_are_limited_where_they_are() {
    let machine = cgroups::Machine::probe().unwrap();
    let facts = machine.facts();
    let Some(size) = facts.huge_page_sizes.iter().next() else {
        eprintln!("skipped: this kernel has no huge pages");
        return;
    };
    if facts.controllers[&Controller::Hugetlb].is_err() {
        let error =
            machine.plan(&limits(&format!(r#"{{"hugetlb":[{{"pageSize":"{size}","limitBytes":0}}]}}"#)));
        assert!(error.unwrap_err().to_string().starts_with("limit hugetlb needs the hugetlb controller"));
        return;
    }
    let bytes = if size.ends_with("GB") { 1_u64 << 30 } else { 64 << 20 };
    // Memory may be bound to v1 and huge pages to v2: one group, both limits.
    let on_v2 = facts.controllers[&Controller::Hugetlb] == Ok(Version::V2);
    let _borrowed = on_v2.then(Hugetlb::borrowed);
    let scene = Scene::new(&format!(
        r#"{{"memoryBytes":67108864,"hugetlb":[{{"pageSize":"{size}","limitBytes":{bytes}}}]}}"#
    ));
    if on_v2 {
        assert_eq!(scene.cgroup2_file(&format!("hugetlb.{size}.max")).trim(), bytes.to_string());
        assert_eq!(scene.cgroup2_file(&format!("hugetlb.{size}.rsvd.max")).trim(), bytes.to_string());
    }
    assert_eq!(scene.group.stats().unwrap().memory.unwrap().limit_bytes, Some(64 << 20));
    scene.end();
}
