//! What the harness itself promises.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
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

/// The names of the tests in these sources, with `file::` before them.
fn tests_in(directory: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let file = path.file_stem().unwrap().to_str().unwrap();
        for test in text.split("#[test]").skip(1) {
            let name = test.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            names.insert(format!("{file}::{name}"));
        }
    }
    names
}

#[test]
fn s6_every_technique_of_the_escape_suite_is_in_the_table_and_has_a_test() {
    // It shows no technique.
    const OTHERS: [&str; 1] = ["links::s6_what_the_harness_calls_a_verdict_is_one"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = tests_in(&root.join("tests/escapes"));
    let table = fs::read_to_string(root.join("../SECURITY.md")).unwrap();
    // A name may stop at a `…`; one that begins with it goes on from the file of the name before.
    let (mut named, mut file) = (BTreeSet::new(), String::new());
    // What follows is shown by tests of other rooms.
    let (boundary, _) = table.split_once("\n## As an OCI runtime").unwrap();
    for row in boundary.lines().filter(|line| line.starts_with("| ")) {
        for name in row.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2) {
            let whole = match (name.split_once("::"), name.strip_prefix('…')) {
                (Some((of, _)), _) => {
                    file = of.to_owned();
                    name.to_owned()
                }
                (None, Some(middle)) => format!("{file}::…{middle}"),
                (None, None) => continue,
            };
            let parts: Vec<&str> = whole.split('…').collect();
            let fits = |test: &&String| {
                let mut rest = test.as_str();
                let begins = rest.starts_with(parts[0]);
                begins
                    && parts.iter().all(|part| rest.split_once(part).map(|(_, after)| rest = after).is_some())
            };
            let found: Vec<&String> = tests.iter().filter(fits).collect();
            assert!(!found.is_empty(), "the table names {name}, which is no test");
            named.extend(found.into_iter().cloned());
        }
    }
    let missing: Vec<_> =
        tests.iter().filter(|test| !named.contains(*test) && !OTHERS.contains(&test.as_str())).collect();
    assert!(missing.is_empty(), "not in the table of SECURITY.md: {missing:?}");
}
