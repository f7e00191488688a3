//! The machine of a fault matrix: what is repaired, what is compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::machine::Processes;
use tests::{Cli, Host, Machine};

use super::doors::Kept;

/// A data directory with an image, and what the machine was like before.
pub(super) struct Lab {
    host: Host,
    scratch: tempfile::TempDir,
    before: Option<(Machine, BTreeSet<String>)>,
}

impl Lab {
    pub(super) fn new() -> Self {
        let mut host = Host::with_busybox();
        host.stop();
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "of a second image\n").unwrap();
        let lab = Self { host, scratch, before: None };
        lab.write_package();
        // What a dump leaves there is its client's, and removed by that.
        fs::create_dir_all(lab.cli().data().join("backup")).unwrap();
        lab
    }

    /// A package that the operator trusts, with one service.
    fn write_package(&self) {
        let package = self.scratch.path().join("package");
        fs::create_dir_all(package.join("images")).unwrap();
        let program = json!({
            "image": "main", "command": ["sleep", "1000"],
            "mounts": [{ "path": "/data", "from": { "volume": "data" } }]
        });
        let manifest = json!({
            "manifest": 1, "id": "matrix", "name": "Matrix", "version": "1.0.0",
            "images": { "main": { "file": "images/main.tar" } },
            "volumes": { "data": {} },
            "entries": { "web": { "service": { "program": program, "graceSeconds": 0 } } }
        });
        fs::write(package.join("manifest.json"), manifest.to_string()).unwrap();
        fs::copy(tests::image::busybox(), package.join("images/main.tar")).unwrap();
        let key = self.scratch.path().join("key").display().to_string();
        let run = |arguments: &[&str]| self.cli().run(["package"].iter().chain(arguments)).ok().out();
        let public = run(&["keygen", &key]);
        run(&["trust", "add", &public, "--name", "author", "--package", "*"]);
        run(&["pack", package.to_str().unwrap(), "-o", self.package().to_str().unwrap(), "--key", &key]);
    }

    /// Its bundle.
    pub(super) fn package(&self) -> std::path::PathBuf {
        self.scratch.path().join("matrix.bundle")
    }

    pub(super) fn cli(&self) -> &Cli {
        self.host.cli()
    }

    pub(super) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// From now on this is what it must be like.
    pub(super) fn remember(&mut self) {
        self.before = Some((Machine::look(Processes::All, &[]).unwrap(), self.files()));
    }

    /// A host starts, which repairs; what is whole by then is destroyed by name.
    pub(super) fn repair(&mut self) {
        let bundle = self.scratch.path().join("bundle");
        if bundle.exists() {
            super::scenarios::oci(self, &["delete", "--force", "matrix"]).output().unwrap();
        }
        self.host.start_again();
        let start = Instant::now();
        let mut rpc = self.host.connect();
        while rpc.call("package.list", json!({}))["packages"].as_array().is_some_and(|all| !all.is_empty()) {
            // The host may be about to start it again.
            rpc.try_call("package.disable", json!({"packageId": "matrix"})).ok();
            rpc.try_call("package.remove", json!({"packageId": "matrix", "data": true})).ok();
            assert!(start.elapsed() < Duration::from_secs(10), "a package stays");
        }
        for dump in fs::read_dir(self.cli().data().join("backup")).unwrap().flatten() {
            fs::remove_file(dump.path()).unwrap();
        }
        loop {
            let list = |rpc: &mut tests::Rpc, what: &str, of: &str| -> Vec<String> {
                let list = rpc.call(&format!("{what}.list"), json!({}));
                let list = list[of].as_array().unwrap();
                list.iter().map(|info| info["guid"].as_str().unwrap().to_owned()).collect()
            };
            let sandboxes = list(&mut rpc, "sandbox", "sandboxes");
            let subcontainers = list(&mut rpc, "subcontainer", "subcontainers");
            if sandboxes.is_empty() && subcontainers.is_empty() {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{sandboxes:?} {subcontainers:?} stay");
            let mut waits = false;
            for guid in &subcontainers {
                let ask = |rpc: &mut tests::Rpc, what: &str| rpc.try_call(what, json!({"guid": guid}));
                let (info, stats) =
                    (ask(&mut rpc, "subcontainer.inspect"), ask(&mut rpc, "subcontainer.stats"));
                if let (Ok(info), Ok(stats)) = (info, stats) {
                    let unknown = info["state"]["status"] == "created" && stats["processes"] != 0;
                    assert!(
                        !unknown || start.elapsed().as_secs() < 5,
                        "{guid} is not known, and runs: {stats}"
                    );
                    waits |= unknown;
                }
            }
            if waits {
                // Recovery ends it in a moment.
                continue;
            }
            for guid in sandboxes {
                // Recovery may be faster.
                rpc.try_call("sandbox.destroy", json!({"guid": guid})).ok();
            }
            for guid in subcontainers {
                rpc.try_call("subcontainer.destroyFs", json!({"guid": guid})).ok();
            }
        }
        rpc.try_call("image.remove", json!({"imageId": "second"})).ok();
        rpc.call("image.gc", json!({}));
        drop(rpc);
        self.host.stop();
    }

    /// Starts a host to see whether it has lost a container that it answered for.
    pub(super) fn lost(&mut self, kept: &Kept) -> Vec<String> {
        if kept.is_empty() {
            return Vec::new();
        }
        self.host.start_again();
        let mut rpc = self.host.connect();
        let mut lost = Vec::new();
        for (guid, pid) in kept {
            let state = rpc
                .try_call("subcontainer.inspect", json!({"guid": guid}))
                .map_or(Value::Null, |info| info["state"].clone());
            if (&state["status"], &state["pid"]) != (&json!("running"), &json!(pid)) {
                lost.push(format!("lost {guid}: {state}"));
            }
        }
        drop(rpc);
        self.host.kill();
        lost
    }

    /// What is left.
    pub(super) fn left(&self) -> Vec<String> {
        let (machine, files) = self.before.as_ref().expect("it was looked at");
        let mut left = machine.left_after(&[], Duration::from_secs(3)).unwrap();
        let start = Instant::now();
        loop {
            let more: Vec<String> = self.files().difference(files).cloned().collect();
            // A loop device goes a moment after its mount.
            if more.is_empty() || start.elapsed() > Duration::from_secs(2) {
                left.extend(more);
                return left;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Files of the data directory, loop devices, rules and settings, and what is known of networks.
    fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        walk(self.cli().data(), &mut found);
        let data = self.cli().data().file_name().unwrap().to_str().unwrap().to_owned();
        for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let backing = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            if backing.contains(&data) {
                found.insert(format!("loop device {} of {}", device.path().display(), backing.trim()));
            }
        }
        let rules = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        found.extend(String::from_utf8_lossy(&rules.stdout).lines().map(|line| format!("rule {line}")));
        let forward = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        found.insert(format!("ip_forward {forward}"));
        let networks = fs::read("/run/start-container/networks/state.json").unwrap_or_default();
        let networks: Value = serde_json::from_slice(&networks).unwrap_or_default();
        for what in ["attached", "leaving", "changed", "networks"] {
            let there = &networks[what];
            let none = there.is_null() || *there == json!({}) || *there == json!([]);
            if !none {
                found.insert(format!("networks: {what} {there}"));
            }
        }
        found
    }
}

fn walk(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // Not what is written of a host by its test, nor what has happened, which is kept within bounds.
        if entry.file_name() == "host.log" || entry.file_name() == "events" {
            continue;
        }
        found.insert(format!("file {}", entry.path().display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        }
    }
}

/// Whether a process is stopped.
pub(super) fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Kills the first process of every container: whoever is PID 1 in a pid namespace beneath ours.
pub(super) fn kill_leaders() {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let Some(ids) = status.lines().find_map(|line| line.strip_prefix("NSpid:")) else { continue };
        let ids: Vec<&str> = ids.split_ascii_whitespace().collect();
        if let [own, .., "1"] = ids[..]
            && let Some(pid) = own.parse().ok().and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}
