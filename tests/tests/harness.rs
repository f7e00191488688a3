//! What the harness itself promises.

use std::fs;
use std::process::Command;

use tests::isolated;

#[test]
fn an_isolated_test_sees_a_machine_of_its_own() {
    isolated(|| {
        assert_eq!(fs::read_dir("/tmp").unwrap().count(), 0, "an empty /tmp");
        assert_eq!(fs::read_dir("/run").unwrap().count(), 0, "an empty /run");
        let own: Vec<_> = fs::read_to_string("/proc/net/dev")
            .unwrap()
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect();
        assert_eq!(own, ["lo"], "a network of its own");
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
        for line in cgroup.lines() {
            assert!(line.ends_with(":/"), "its cgroup is the top of its view: {line}");
        }
        let mut child = Command::new("sleep").arg("0").spawn().unwrap();
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn what_an_isolated_test_leaves_fails_it() {
    isolated(|| {
        let leaked = std::panic::catch_unwind(|| isolated(|| fs::write("/tmp/left", "").unwrap()));
        fs::remove_file("/tmp/left").unwrap();
        assert!(leaked.is_err());
    });
}
