//! Whoever is killed, whenever: `delete --force` leaves nothing. (The isolated machine is looked at after each test.)

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use tests::{eventually, isolated};

use crate::rig::Bundle;

#[test]
fn o1_a_container_whose_maker_is_killed_can_always_be_deleted() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("exec sleep 1000");
        // Long enough to be killed within, and with a process of its own that waits.
        bundle.config["hooks"] =
            json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "0.02"]}]});
        for step in 0..40_u64 {
            let mut creating = bundle
                .runtime("ours")
                .args(["create", "one"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            sleep(Duration::from_micros(step * 2000));
            creating.kill().unwrap();
            creating.wait().unwrap();
            bundle.ours(&["delete", "--force", "one"]).ok();
            let gone = bundle.ours(&["state", "one"]);
            assert!(gone.err().contains("does not exist"), "step {step}: {}", gone.err());
        }
    });
}

#[test]
fn o1_a_container_whose_process_is_killed_is_stopped_and_can_be_deleted() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("exec sleep 1000");
        let pid_file = bundle.path().join("pid");
        for started in [false, true] {
            bundle.create("one", &["--pid-file", pid_file.to_str().unwrap()]).ok();
            if started {
                bundle.ours(&["start", "one"]).ok();
            }
            let pid = fs::read_to_string(&pid_file).unwrap();
            assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
            eventually("it stops", || bundle.status("one") == "stopped");
            let late = bundle.ours(&["start", "one"]);
            assert!(late.code != 0 && late.err().contains("has stopped"), "{}", late.err());
            bundle.ours(&["delete", "one"]).ok();
        }
    });
}

#[test]
fn o1_what_a_container_left_running_ends_with_it() {
    isolated(|| {
        let mut bundle = Bundle::new();
        // Without a pid namespace nothing ends its processes but its groups.
        bundle.config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != "pid");
        bundle.sh("(trap '' TERM HUP; setsid sleep 1000) & exec sleep 0.1");
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        eventually("it stops", || bundle.status("one") == "stopped");
        bundle.ours(&["delete", "one"]).ok();
    });
}

#[test]
fn o1_a_paused_or_half_removed_container_can_be_deleted() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("exec sleep 1000");
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        bundle.ours(&["pause", "one"]).ok();
        bundle.ours(&["delete", "--force", "one"]).ok();
        // Its directory made, and nothing written.
        fs::create_dir_all(bundle.path().join("state-ours/two")).unwrap();
        bundle.ours(&["delete", "--force", "two"]).ok();
        assert!(!bundle.path().join("state-ours/two").exists());
        // A deletion that is killed.
        for step in 0..10_u64 {
            bundle.create("three", &[]).ok();
            bundle.ours(&["start", "three"]).ok();
            let mut deleting = bundle.runtime("ours").args(["delete", "--force", "three"]).spawn().unwrap();
            sleep(Duration::from_micros(step * 1500));
            deleting.kill().unwrap();
            deleting.wait().unwrap();
            bundle.ours(&["delete", "--force", "three"]).ok();
        }
    });
}
