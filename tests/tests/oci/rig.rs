//! A bundle and what runs it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::Finished;

/// A bundle in a directory of its own, and the state directories of runtimes.
pub(crate) struct Bundle {
    dir: TempDir,
    /// What `config.json` will say.
    pub(crate) config: Value,
}

/// Those that are compared. The first is ours.
pub(crate) const RUNTIMES: [&str; 3] = ["ours", "runc", "crun"];

impl Bundle {
    /// What `runc spec` writes, without a terminal, over a copy of busybox.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("oci-").tempdir().unwrap();
        let tree = tests::image::target_directory().join("xtask/images/busybox");
        assert!(tree.exists(), "{} is missing: run `cargo xtask setup` first", tree.display());
        let copied = Command::new("cp").arg("-a").arg(&tree).arg(dir.path().join("rootfs")).status().unwrap();
        assert!(copied.success());
        symlink(tests::cli::binary(), dir.path().join("start-container-oci")).unwrap();
        let written = Command::new(dir.path().join("start-container-oci"))
            .args(["spec", "--bundle"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(written.success());
        let text = fs::read_to_string(dir.path().join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        // What the others know.
        config["ociVersion"] = json!("1.0.2");
        config["process"]["terminal"] = json!(false);
        // crun refuses to show control groups where v1 and v2 are side by side.
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
        Self { dir, config }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// The container runs this.
    pub(crate) fn sh(&mut self, script: &str) -> &mut Self {
        self.config["process"]["args"] = json!(["sh", "-c", script]);
        self
    }

    /// A runtime, with a state directory beside the bundle.
    pub(crate) fn runtime(&self, name: &str) -> Command {
        fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
        let mut command = match name {
            "ours" => Command::new(self.path().join("start-container-oci")),
            // It refuses a machine that shows v1 and v2 side by side when v2 has a controller.
            "crun" => {
                let mut command = Command::new("unshare");
                let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"";
                command.args(["--mount", "--", "sh", "-c", script, "crun"]);
                command
            }
            other => Command::new(other),
        };
        command.arg("--root").arg(self.path().join(format!("state-{name}"))).current_dir(self.path());
        command
    }

    /// Ours, with these arguments, to its end.
    pub(crate) fn ours(&self, arguments: &[&str]) -> Finished {
        finish(self.runtime("ours").args(arguments))
    }

    /// `run` by a runtime, to its end.
    pub(crate) fn run(&self, name: &str) -> Finished {
        finish(self.runtime(name).args(["run", &self.id(name)]))
    }

    /// An id that no other bundle has: control groups are named by it.
    pub(crate) fn id(&self, runtime: &str) -> String {
        let own = self.path().file_name().unwrap().to_string_lossy().replace('.', "");
        format!("{own}-{runtime}")
    }

    /// `create` without waiting for what holds its output open.
    pub(crate) fn create(&self, id: &str, flags: &[&str]) -> Finished {
        let out = fs::File::create(self.path().join("out")).unwrap();
        let err = fs::File::create(self.path().join("err")).unwrap();
        let status = self
            .runtime("ours")
            .arg("create")
            .args(flags)
            .arg(id)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .status()
            .unwrap();
        Finished {
            code: status.code().unwrap_or(-1),
            stdout: Vec::new(),
            stderr: fs::read(self.path().join("err")).unwrap(),
        }
    }

    /// What a created container has written.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.path().join("out")).unwrap()
    }

    /// The status that `state` tells.
    pub(crate) fn status(&self, id: &str) -> String {
        let state = self.ours(&["state", id]).ok().out();
        let state: Value = serde_json::from_str(&state).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }
}

/// Runs to its end.
pub(crate) fn finish(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Finished { code: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr: output.stderr }
}

/// Whether a program is installed.
pub(crate) fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}
