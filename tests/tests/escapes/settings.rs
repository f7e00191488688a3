//! Files of the kernel by which it runs a program as root outside, stops, or changes for everybody.

use tests::{isolated, skip};

use super::rig::{Arena, Attempt, MAY_MOUNT, Relaxed, bare};

fn cannot_write(path: &str) {
    let arena = Arena::new();
    let attempt = Attempt::new(&["kernel-file", "write", path]);
    attempt.is_refused(&arena);
    attempt.works_with(&arena, &MAY_MOUNT);
}

fn is_there(path: &str) -> bool {
    bare(&["kernel-file", "write", path]).lines[0].starts_with("worked")
}

#[test]
fn s6_core_pattern_is_not_written() {
    isolated(|| cannot_write("/proc/sys/kernel/core_pattern"));
}

#[test]
fn s6_the_program_that_loads_modules_is_not_changed() {
    isolated(|| {
        let path = ["/proc/sys/kernel/modprobe", "/proc/sys/kernel/poweroff_cmd", "/proc/sys/kernel/hotplug"];
        let Some(path) = path.into_iter().find(|path| is_there(path)) else {
            skip!("this kernel starts no helper whose path is a setting");
        };
        cannot_write(path);
    });
}

#[test]
fn s6_uevent_helper_is_not_written() {
    isolated(|| {
        if !is_there("/sys/kernel/uevent_helper") {
            skip!("this kernel has no uevent_helper (CONFIG_UEVENT_HELPER)");
        }
        cannot_write("/sys/kernel/uevent_helper");
    });
}

#[test]
fn s6_sysfs_is_not_written() {
    isolated(|| {
        let paths =
            ["/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/profiling", "/sys/power/state"];
        let Some(path) = paths.into_iter().find(|path| is_there(path)) else {
            skip!("nothing that this test knows can be written in /sys here");
        };
        cannot_write(path);
    });
}

#[test]
fn s6_sysrq_trigger_is_not_written() {
    isolated(|| {
        if !is_there("/proc/sysrq-trigger") {
            skip!("this kernel has no /proc/sysrq-trigger (CONFIG_MAGIC_SYSRQ)");
        }
        cannot_write("/proc/sysrq-trigger");
    });
}

#[test]
fn s6_settings_and_interrupts_of_the_machine_are_not_written() {
    isolated(|| {
        for path in ["/proc/sys/vm/overcommit_memory", "/proc/irq/default_smp_affinity"] {
            if is_there(path) {
                cannot_write(path);
            }
        }
        assert!(is_there("/proc/sys/vm/overcommit_memory"));
    });
}

#[test]
fn s6_no_binary_format_is_registered() {
    isolated(|| {
        if bare(&["binfmt"]).lines[0].starts_with("refused") {
            skip!("this kernel has no binfmt_misc");
        }
        let arena = Arena::new();
        Attempt::new(&["binfmt"]).is_refused(&arena);
        Attempt::new(&["binfmt"]).works_with(&arena, &MAY_MOUNT);
    });
}

#[test]
fn s6_cve_2022_0492_no_hierarchy_of_control_groups_is_writable() {
    isolated(|| {
        let arena = Arena::new();
        Attempt::new(&["cgroups"]).is_refused(&arena);
        // A release_agent is in the root of a hierarchy only, which a cgroup namespace hides even from this: to make a
        // group in the hierarchy is what the technique begins with.
        Attempt::new(&["cgroups"]).works_with(&arena, &MAY_MOUNT);
        // Those that the machine has mounted, when they were asked for.
        let shared = Relaxed { shared_dev_sys: true, ..Relaxed::default() };
        Attempt::new(&["cgroups"]).works_with(&arena, &shared);
    });
}
