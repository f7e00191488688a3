//! What public conformance suites showed, kept: `docs/conformance.md` names them.

use std::fs;
use std::path::Path;

use serde_json::json;
use tests::isolated;

use crate::cases::mount;
use crate::rig::{Bundle, finish};

#[test]
fn o1_of_two_variables_of_one_name_the_last_holds() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["process"]["env"] = json!(["PATH=/bin", "A=first", "B=kept", "A=last"]);
        bundle.sh("env | grep -c ^A=; echo $A $B");
        assert_eq!(bundle.run("ours").ok().out(), "1\nlast kept");
        bundle.sh("exec sleep 1000");
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        let said = bundle.ours(&["exec", "--env", "A=said", "one", "sh", "-c", "env | grep ^A="]);
        assert_eq!(said.ok().out(), "A=said");
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}

#[test]
fn o1_hooks_without_an_environment_have_ours_and_begin_in_the_bundle() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let log = bundle.path().join("log");
        let hook = |name: &str| {
            let script = format!("echo {name} $OWN $(test -e rootfs/proc/self && pwd) >> {}", log.display());
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
        };
        bundle.config["hooks"] = json!({"createRuntime": hook("createRuntime"), "createContainer": hook("createContainer"),
            "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "test \"$INSIDE\" = yes"]}]});
        bundle.config["process"]["env"] = json!(["PATH=/bin", "INSIDE=yes"]);
        bundle.sh("true");
        let id = bundle.id("ours");
        finish(bundle.runtime("ours").env("OWN", "mine").args(["run", &id])).ok();
        // Only those inside see what is mounted there.
        let here = bundle.path().display();
        let expected = format!("createRuntime mine\ncreateContainer mine {here}\n");
        assert_eq!(fs::read_to_string(&log).unwrap(), expected);
    });
}

#[test]
fn o1_a_hook_may_say_much_and_one_that_fails_is_quoted() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("echo ran");
        let much = "head -c 300000 /dev/zero; echo end >&2";
        let hook = |script: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        bundle.config["hooks"] = json!({"createRuntime": hook(much), "startContainer": hook(much)});
        assert_eq!(bundle.run("ours").ok().out(), "ran");
        for point in ["createRuntime", "startContainer"] {
            bundle.config["hooks"] = json!({point: hook("echo because of this >&2; exit 3")});
            let said = bundle.run("ours");
            assert!(said.code != 0 && said.err().contains("because of this"), "{}", said.err());
        }
    });
}

#[test]
fn o1_a_container_whose_hook_refuses_at_its_start_is_deleted() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("exec sleep 1000");
        for point in ["startContainer", "poststart"] {
            bundle.config["hooks"] = json!({point: [{"path": "/bin/sh", "args": ["sh", "-c", "exit 1"]}]});
            bundle.create("one", &[]).ok();
            let refused = bundle.ours(&["start", "one"]);
            assert!(refused.code != 0 && refused.err().contains(point), "{}", refused.err());
            assert!(bundle.ours(&["state", "one"]).err().contains("does not exist"), "{point}");
        }
    });
}

#[test]
fn o1_a_container_without_groups_stays_where_its_engine_is() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
        bundle.sh("cat /proc/self/cgroup");
        let id = bundle.id("ours");
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let run = finish(bundle.runtime("ours").args(["--cgroup-manager", "disabled", "run", &id]));
        assert_eq!(run.ok().out().trim(), own.trim());
    });
}

#[test]
fn o1_a_link_does_not_choose_where_proc_is() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("true");
        fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
        std::os::unix::fs::symlink("/tmp/elsewhere", bundle.rootfs().join("proc")).unwrap();
        let said = bundle.run("ours");
        assert!(
            said.code != 0 && said.err().contains("must be mounted on ordinary directory"),
            "{}",
            said.err()
        );
    });
}

#[test]
fn o1_a_configuration_may_have_another_name_and_no_process_until_it_starts() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config.as_object_mut().unwrap().remove("process");
        fs::write(bundle.path().join("other.json"), bundle.config.to_string()).unwrap();
        bundle.create("one", &["--config", "other.json"]).ok();
        assert_eq!(bundle.status("one"), "created");
        let refused = bundle.ours(&["start", "one"]);
        assert!(refused.code != 0 && refused.err().contains("has no process"), "{}", refused.err());
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}

#[test]
fn o1_a_device_of_a_user_namespace_has_the_owner_and_mode_that_were_asked_for() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let map = json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]);
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
        // No such name on the machine.
        bundle.config["linux"]["devices"] = json!([{"path": "/dev/own/nothing", "type": "c", "major": 1, "minor": 3,
            "fileMode": 0o622, "uid": 5, "gid": 6}]);
        bundle.config["root"]["readonly"] = json!(false);
        for directory in ["rootfs/dev", "rootfs"] {
            std::os::unix::fs::chown(bundle.path().join(directory), Some(200_000), Some(200_000)).unwrap();
        }
        fs::set_permissions(bundle.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        bundle
            .sh("stat -c '%F %a %u:%g %t:%T' /dev/own/nothing; echo x > /dev/own/nothing && echo written; \
            grep ' /dev/null ' /proc/self/mountinfo | grep -c nosuid,noexec");
        assert_eq!(bundle.run("ours").ok().out(), "character special file 622 5:6 1:3\nwritten\n1");
    });
}

#[test]
fn o1_a_read_only_dev_holds_its_devices() {
    isolated(|| {
        let mut bundle = Bundle::new();
        for mount in bundle.config["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/dev" {
                mount["options"].as_array_mut().unwrap().push(json!("ro"));
            }
        }
        bundle.sh("test -c /dev/null && test -e /dev/pts/ptmx; echo $?; touch /dev/x 2>/dev/null; echo $?");
        assert_eq!(bundle.run("ours").ok().out(), "0\n1");
    });
}

#[test]
fn o1_a_container_may_use_every_processor_whatever_its_engine_may() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let allowed = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned()
        };
        bundle.sh("grep Cpus_allowed_list /proc/self/status");
        let id = bundle.id("ours");
        let ours = bundle.runtime("ours");
        let mut bound = std::process::Command::new("taskset");
        bound.args(["-c", "0"]).arg(ours.get_program()).args(ours.get_args()).args(["run", &id]);
        assert_eq!(finish(bound.current_dir(bundle.path())).ok().out(), allowed());
    });
}

#[test]
fn o1_a_group_that_somebody_is_in_takes_no_container() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("exec sleep 1000");
        bundle.config["linux"]["cgroupsPath"] = json!("/taken/group");
        bundle.create("one", &[]).ok();
        let second = bundle.create("two", &[]);
        assert!(second.code != 0 && second.err().contains("cgroup is not empty"), "{}", second.err());
        // Nor does the one that failed take the group away.
        bundle.ours(&["start", "one"]).ok();
        assert_eq!(bundle.status("one"), "running");
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}

#[test]
fn o1_a_group_that_is_stopped_takes_no_container() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["linux"]["cgroupsPath"] = json!("/pod/one");
        let v1 = Path::new("/sys/fs/cgroup/freezer");
        let (group, file, stop, go) = match v1.exists() {
            true => (v1.join("pod/one"), "freezer.state", "FROZEN", "THAWED"),
            false => (Path::new("/sys/fs/cgroup/pod/one").to_owned(), "cgroup.freeze", "1", "0"),
        };
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join(file), stop).unwrap();
        bundle.sh("echo ran");
        let refused = bundle.run("ours");
        assert!(
            refused.code != 0 && refused.err().contains("cgroup unexpectedly frozen"),
            "{}",
            refused.err()
        );
        // What was refused took away what it had, which was there before.
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join(file), go).unwrap();
        assert_eq!(bundle.run("ours").ok().out(), "ran");
        fs::remove_dir(group.parent().unwrap()).unwrap();
    });
}

#[test]
fn o1_killing_a_container_without_a_pid_namespace_kills_all_of_it() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        bundle.sh("(trap '' TERM HUP; setsid sleep 1000) & exec sleep 1000");
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        let processes = || bundle.ours(&["ps", "--format", "json", "one"]).ok().out();
        tests::eventually("both run", || processes().split(',').count() == 2);
        bundle.ours(&["kill", "one", "KILL"]).ok();
        tests::eventually("none does", || processes() == "[]");
        bundle.ours(&["delete", "one"]).ok();
    });
}

#[test]
fn o1_home_is_that_of_each_user_unless_it_is_said() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let passwd = bundle.rootfs().join("etc/passwd");
        let own = fs::read_to_string(&passwd).unwrap() + "other:x:4711:4711::/home/other:/bin/sh\n";
        fs::write(&passwd, own).unwrap();
        bundle.config["process"]["env"] = json!(["PATH=/bin", "HOME="]);
        bundle.sh("echo $HOME; exec sleep 1000");
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        tests::eventually("it says so", || bundle.said().trim() == "/root");
        let home =
            |user: &str| bundle.ours(&["exec", "--user", user, "one", "sh", "-c", "echo $HOME"]).ok().out();
        assert_eq!(
            (home("4711").as_str(), home("12").as_str(), home("0").as_str()),
            ("/home/other", "/", "/root")
        );
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}

#[test]
fn o1_output_of_a_terminal_that_is_shown_has_the_ends_of_lines_that_were_written() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["process"]["terminal"] = json!(true);
        bundle.sh("test -t 1 && echo one; echo two");
        let said = bundle.run("ours").ok();
        assert_eq!(said.stdout, b"one\ntwo\n");
    });
}

#[test]
fn o1_a_program_that_is_called_by_a_link_is_the_same_by_its_own_name() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("echo same");
        mount(&mut bundle.config, "/m", "tmpfs", "tmpfs", &[]);
        let linked = bundle.runtime("ours");
        let arguments: Vec<_> = linked.get_args().map(ToOwned::to_owned).collect();
        let mut direct = std::process::Command::new(tests::cli::binary());
        direct.args(arguments).args(["run", "direct"]).current_dir(bundle.path());
        assert_eq!(finish(&mut direct).ok().out(), "same");
    });
}
