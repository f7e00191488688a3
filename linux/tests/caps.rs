//! Capabilities by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use linux::caps::{Capability, NAMES};

#[test]
fn names_are_numbers() {
    for (number, name) in NAMES.iter().enumerate() {
        let capability: Capability = name.parse().unwrap();
        assert_eq!(usize::from(capability.as_raw()), number);
        assert_eq!(capability.to_string(), *name);
        assert_eq!(capability.set().bits(), 1 << number);
        assert_eq!(name[4..].to_lowercase().parse::<Capability>().unwrap(), capability);
    }
    assert_eq!("CAP_NONE".parse::<Capability>().unwrap_err().to_string(), "unknown capability \"CAP_NONE\"");
}

#[test]
fn the_kernel_has_no_more_than_are_named() {
    let last: usize =
        std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    assert_eq!(last + 1, NAMES.len());
    for capability in Capability::all() {
        rustix::thread::capability_is_in_bounding_set(capability.set()).unwrap();
    }
}
