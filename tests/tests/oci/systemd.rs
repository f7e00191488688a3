//! Scopes by systemd: a real one, as the first process of namespaces of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tests::{Finished, eventually, isolated};

use crate::engines::remove_groups;
use crate::rig::{Bundle, finish};

const SYSTEMD: &str = "/lib/systemd/systemd";

/// Its own `/run`, and no unit but a target that wants nothing.
const BEGIN: &str = "set -e; mount -t tmpfs run /run; mount -t tmpfs units /etc/systemd; mkdir /etc/systemd/system; \
    printf '[Unit]\\nDescription=nothing\\n' > /etc/systemd/system/default.target; \
    exec /lib/systemd/systemd --system --unit=default.target --show-status=0";

struct Systemd {
    unshare: Child,
    pid: String,
}

impl Systemd {
    fn start() -> Self {
        let unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--mount", "--mount-proc", "--cgroup", "--kill-child=KILL", "--"])
            .args(["sh", "-c", BEGIN])
            .env_clear()
            .env("container", "test")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let mut pid = String::new();
        eventually("systemd answers", || {
            pid = fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
            !pid.is_empty() && {
                let mut ask = Command::new("nsenter");
                ask.args(["-t", &pid, "-p", "-m", "-C", "--", "systemctl", "is-system-running"]);
                finish(&mut ask).out().trim() == "running"
            }
        });
        Self { unshare, pid }
    }

    /// What another command would be, beside systemd.
    fn beside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["-t", &self.pid, "-p", "-m", "-C", "--"]);
        if let Some(directory) = command.get_current_dir() {
            inside.args(["sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(directory);
        }
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    fn show(&self, property: &str) -> String {
        let mut show = Command::new("systemctl");
        show.args(["show", "engine-one.scope", "--value", "-p", property]);
        finish(&mut self.beside(&show)).out().trim().to_owned()
    }

    fn end(mut self) {
        self.unshare.kill().unwrap();
        self.unshare.wait().unwrap();
        // It keeps its slices.
        let tops = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let hierarchies: Vec<PathBuf> = tops.filter(|path| path.join("cgroup.procs").exists()).collect();
        eventually("its groups are empty", || {
            let mut left = 0;
            for top in &hierarchies {
                for group in fs::read_dir(top).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
                    remove_groups(&group.path());
                    left += usize::from(group.path().exists());
                }
            }
            left == 0
        });
    }
}

#[test]
fn o1_systemd_makes_the_scope_and_knows_its_limits() {
    if !Path::new(SYSTEMD).exists() {
        tests::skip!("{SYSTEMD} is not installed");
    }
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["linux"]["cgroupsPath"] = json!("machine-test.slice:engine:one");
        bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
        bundle.config["annotations"] = json!({"org.systemd.property.TimeoutStopSec": "17"});
        bundle.config["linux"]["resources"]["pids"] = json!({"limit": 100});
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
        bundle.sh("cat /proc/self/cgroup > /out/groups; exec sleep 1000");
        fs::create_dir(bundle.path().join("out")).unwrap();
        crate::cases::mount(&mut bundle.config, "/out", "bind", "out", &["bind"]);
        let systemd = Systemd::start();
        let ours = |arguments: &[&str]| -> Finished {
            let mut command = bundle.runtime("ours");
            command.arg("--systemd-cgroup").args(arguments);
            finish(systemd.beside(&command).stdout(Stdio::null()).stderr(Stdio::null()))
        };
        // Again and again by one name, as an engine restarts a container.
        for _ in 0..3 {
            ours(&["run", "--detach", "one"]).ok();
            let groups = bundle.path().join("out/groups");
            eventually("it says where it is", || {
                fs::read_to_string(&groups).is_ok_and(|text| text.ends_with('\n'))
            });
            for line in fs::read_to_string(&groups).unwrap().lines() {
                assert!(line.ends_with(":/machine.slice/machine-test.slice/engine-one.scope"), "{line}");
            }
            assert_eq!(
                (systemd.show("Slice").as_str(), systemd.show("Delegate").as_str()),
                ("machine-test.slice", "yes")
            );
            assert_eq!(systemd.show("TimeoutStopUSec"), "17s");
            let memory = || (systemd.show("MemoryLimit"), systemd.show("MemoryMax"));
            assert!([&memory().0, &memory().1].contains(&&"33554432".to_owned()), "{:?}", memory());
            assert_eq!(systemd.show("TasksMax"), "100");
            ours(&["update", "--memory", "64m", "one"]).ok();
            assert!([&memory().0, &memory().1].contains(&&"67108864".to_owned()), "{:?}", memory());
            ours(&["delete", "--force", "one"]).ok();
            eventually("the scope goes", || systemd.show("ActiveState") == "inactive");
            fs::remove_file(groups).unwrap();
        }
        // A container that fails leaves no scope, and we were not in it when it ended.
        bundle.config["process"]["args"] = json!(["nope"]);
        let mut failing = bundle.runtime("ours");
        failing.args(["--systemd-cgroup", "run", "one"]);
        assert_eq!(finish(&mut systemd.beside(&failing)).code, 1);
        eventually("the scope goes", || systemd.show("ActiveState") == "inactive");
        systemd.end();
    });
}

#[test]
fn o1_a_scope_is_refused_where_there_is_no_systemd_or_no_name_for_it() {
    isolated(|| {
        let bundle = Bundle::new();
        let said = bundle.ours(&["--systemd-cgroup", "run", "one"]);
        assert!(
            said.code == 1 && said.err().contains("systemd does not manage this machine"),
            "{}",
            said.err()
        );
    });
}
