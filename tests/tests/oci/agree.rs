//! One table of bundles, run by ours, runc and crun. The other two check the test: where they agree, we must; where they
//! do not, there is no telling what is right, and what we do is written down in decision 0011.

use tests::isolated;

use crate::cases::{Case, DEVICES, GROUPS, LINUX, MOUNTING, PROCESS, mount};
use crate::rig::{Bundle, RUNTIMES, installed};

/// Runs a table; every disagreement at once. `both`: with crun. Where v1 and v2 are side by side it refuses to show control
/// groups when v2 has a controller, and leaves some behind when it has none.
fn agree(cases: &'static [Case], both: bool) {
    for peer in &RUNTIMES[1..] {
        if !installed(peer) {
            tests::skip!("{peer} is not installed");
        }
    }
    isolated(|| {
        let mut wrong = Vec::new();
        for (name, change, script) in cases {
            let mut bundle = Bundle::new();
            std::fs::create_dir(bundle.rootfs().join("linked")).unwrap();
            std::os::unix::fs::symlink("/linked", bundle.rootfs().join("link")).unwrap();
            bundle.sh(script);
            change(&mut bundle.config);
            if !both {
                mount(
                    &mut bundle.config,
                    "/sys/fs/cgroup",
                    "cgroup",
                    "cgroup",
                    &["nosuid", "noexec", "nodev", "ro"],
                );
            }
            let [ours, runc, crun] = RUNTIMES.map(|runtime| {
                if runtime == "crun" && !both {
                    return (0, String::new(), String::new());
                }
                // Each begins with the same files.
                let ended = bundle.run(runtime);
                // Failures are failures, whatever their number; what a command says by exiting is its own.
                let code = if ended.out().is_empty() && ended.code != 0 && ended.code != 42 {
                    1
                } else {
                    ended.code
                };
                (code, ended.out(), ended.err())
            });
            let same = |a: &(i32, String, String), b: &(i32, String, String)| (a.0, &a.1) == (b.0, &b.1);
            let said = format!("{name}:\n  ours {ours:?}\n  runc {runc:?}\n  crun {crun:?}");
            if same(&runc, &crun) || !both {
                if !same(&ours, &runc) {
                    wrong.push(said);
                }
            } else if !same(&ours, &runc) && !same(&ours, &crun) {
                eprintln!("(the peers differ) {said}");
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn o1_the_process_is_as_in_the_other_runtimes() {
    agree(PROCESS, true);
}

#[test]
fn o1_mounts_are_as_in_the_other_runtimes() {
    agree(MOUNTING, true);
}

#[test]
fn o1_devices_are_as_in_the_other_runtimes() {
    agree(DEVICES, true);
}

#[test]
fn o1_namespaces_settings_and_filters_are_as_in_the_other_runtimes() {
    agree(LINUX, true);
}

#[test]
fn o1_control_groups_are_as_in_the_other_runtimes() {
    agree(GROUPS, false);
}
