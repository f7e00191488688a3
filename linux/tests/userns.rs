//! User namespaces that carry an id map.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::os::fd::AsRawFd;

use linux::userns::{Extent, MAX_EXTENTS, fits, idmap_namespace};
use rustix::io::Errno;

const fn extent(inside: u32, outside: u32, count: u32) -> Extent {
    Extent { inside, outside, count }
}

/// The map as a process in the namespace sees it.
fn seen(namespace: &impl AsRawFd, which: &str) -> String {
    let target = format!("--user=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    let output = std::process::Command::new("nsenter")
        .args([&target, "--preserve-credentials", "cat", &format!("/proc/self/{which}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_namespace_carries_both_maps() {
    let namespace =
        idmap_namespace(&[extent(0, 100_000, 65536)], &[extent(0, 7, 1), extent(5, 50, 2)]).unwrap();
    assert_eq!(seen(&namespace, "uid_map"), "0 100000 65536");
    assert_eq!(seen(&namespace, "gid_map"), "0 7 1 5 50 2");
}

#[test]
fn maps_that_the_kernel_refuses_are_errors_and_leave_no_child() {
    let good = [extent(0, 0, 1)];
    for bad in [
        vec![],
        vec![extent(0, 0, 0)],
        vec![extent(0, 0, 2), extent(1, 5, 1)],
        vec![extent(0, 0, 2), extent(5, 1, 1)],
        vec![extent(u32::MAX, 0, 1)],
    ] {
        if bad.is_empty() {
            continue;
        }
        assert_eq!(idmap_namespace(&bad, &good).unwrap_err(), Errno::INVAL, "{bad:?}");
        assert_eq!(idmap_namespace(&good, &bad).unwrap_err(), Errno::INVAL, "{bad:?}");
    }
    let children =
        std::fs::read_to_string(format!("/proc/self/task/{}/children", rustix::thread::gettid())).unwrap();
    assert_eq!(children, "");
}

#[test]
fn what_fits_is_what_the_kernel_takes() {
    // Short numbers: the limit is the count. Long numbers: the limit is the page.
    let short: Vec<Extent> = (0..400).map(|n| extent(n * 2, n * 2, 1)).collect();
    let long: Vec<Extent> =
        (0..400).map(|n| extent(4_000_000_000 + n * 2, 4_000_000_000 + n * 2, 1)).collect();
    for all in [short, long] {
        let most = (1..=all.len()).rev().find(|count| fits(&all[..*count])).unwrap();
        assert!(most <= MAX_EXTENTS);
        idmap_namespace(&all[..most], &all[..1]).unwrap();
        assert_eq!(idmap_namespace(&all[..=most], &all[..1]).unwrap_err(), Errno::INVAL, "{most}");
    }
}

#[test]
fn many_threads_make_their_own() {
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            scope.spawn(move || {
                for round in 0..100 {
                    let map = [extent(thread, 1000 + round, 1)];
                    idmap_namespace(&map, &map).unwrap();
                }
            });
        }
    });
}
