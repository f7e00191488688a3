//! The kernel's tables, as text. No input or output.

use std::collections::{BTreeMap, BTreeSet};

use crate::controller::Version;

/// A mounted cgroup hierarchy, a line of `/proc/self/mountinfo`.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Mount {
    pub(crate) version: Version,
    pub(crate) device: (u32, u32),
    pub(crate) point: String,
    /// Of the file system: in v1 the names of its controllers are among them.
    pub(crate) options: BTreeSet<String>,
}

/// `proc_pid_mountinfo(5)`: `36 35 98:0 /root /point rw,… shared:1 - type source options`.
pub(crate) fn mounts(mountinfo: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let version = match after.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options = after.nth(1)?.split(',').map(str::to_owned).collect();
        let mut before = before.split(' ').skip(2);
        let device = device(before.next()?)?;
        Some(Mount { version, device, point: unescape(before.nth(1)?), options })
    };
    mountinfo.lines().filter_map(line).collect()
}

/// `\040` for a space, and so on.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// A line of `/proc/cgroups`.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Known {
    pub(super) on_v1: bool,
    pub(super) enabled: bool,
}

/// `cgroups(7)`: name, hierarchy, number of groups, enabled. Hierarchy 0 is v2, or none.
pub(super) fn controllers(table: &str) -> BTreeMap<String, Known> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().filter(|name| !name.starts_with('#'))?;
        let on_v1 = words.next()? != "0";
        let enabled = words.nth(1)? == "1";
        Some((name.to_owned(), Known { on_v1, enabled }))
    };
    table.lines().filter_map(line).collect()
}

/// `8:0`.
pub(super) fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    let number = |digits: &str| {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok())?
    };
    Some((number(major)?, number(minor)?))
}

/// `hugepages-2048kB` is `2MB` in the names of the controller's files (mm/hugetlb_cgroup.c, mem_fmt).
pub(super) fn huge_page_size(directory: &str) -> Option<String> {
    let kib: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        _ if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        _ if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_from_mountinfo() {
        let text = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 /a /sys/fs/cgroup/with\\040space rw shared:4 master:1 - cgroup none rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 8:1 / / rw - ext4 /dev/sda1 rw
cut off";
        let found = mounts(text);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].device, (0, 32));
        assert!(found[0].options.contains("memory"));
        assert_eq!(found[1].point, "/sys/fs/cgroup/with space");
        assert!(found[1].options.contains("cpuacct"));
        assert_eq!((found[2].version, found[2].point.as_str()), (Version::V2, "/sys/fs/cgroup/unified"));
    }

    #[test]
    fn controllers_are_bound_enabled_or_neither() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t9\t0\nhugetlb\t0\t1\t1\n";
        let known = controllers(table);
        assert_eq!(known["cpu"], Known { on_v1: true, enabled: true });
        assert_eq!(known["memory"], Known { on_v1: false, enabled: false });
        assert_eq!(known["hugetlb"], Known { on_v1: false, enabled: true });
        assert_eq!(known.len(), 3);
    }

    #[test]
    fn devices_are_two_numbers() {
        assert_eq!(device("254:16"), Some((254, 16)));
        for bad in ["8", "8:", "8:0:1", "a:b", "-1:0", "/dev/sda"] {
            assert_eq!(device(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_of_huge_pages_are_named_as_by_the_controller() {
        assert_eq!(huge_page_size("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(huge_page_size("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(huge_page_size("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(huge_page_size("other"), None);
    }
}
