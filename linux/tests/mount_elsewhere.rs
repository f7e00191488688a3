//! Clones of mounts of another mount namespace.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use linux::mount::{MountAttr, clone_from};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

/// A process in a mount namespace of its own, in which the script has mounted. Killed on drop.
struct Elsewhere(Child, tempfile::TempDir);

impl Elsewhere {
    fn new(script: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
        command.arg(format!("cd \"$D\"; {script}; echo ready; exec sleep 1000"));
        command.env("D", scratch.path()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child, scratch)
    }

    fn clone(&self, name: &str) -> Result<std::os::fd::OwnedFd, Errno> {
        let pid = rustix::process::Pid::from_child(&self.0);
        let process = linux::pidfd::open(pid).unwrap();
        let private = MountAttr { propagation: Some(MountPropagationFlags::PRIVATE), ..MountAttr::default() };
        let path = self.1.path().join(name);
        clone_from(&process, path.strip_prefix("/").unwrap().to_str().unwrap(), &private)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn s13_what_is_mounted_elsewhere_is_cloned_with_what_is_beneath() {
    let there =
        Elsewhere::new("mkdir m; mount -t tmpfs a m; mkdir m/in; mount -t tmpfs b m/in; echo x >m/in/file");
    let tree = there.clone("m").unwrap();
    let file = rustix::fs::openat(&tree, "in/file", OFlags::RDONLY, Mode::empty()).unwrap();
    assert_eq!(std::io::read_to_string(std::fs::File::from(file)).unwrap(), "x\n");
    assert!(!there.1.path().join("m/in").exists(), "nothing of it is mounted here");
    // And this thread is where it was.
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/mnt").unwrap(), own);
}

#[test]
fn s11_a_link_and_a_mere_directory_are_refused() {
    let there = Elsewhere::new("mkdir m plain; mount -t tmpfs a m; ln -s m link");
    assert_eq!(there.clone("link").unwrap_err(), Errno::LOOP);
    assert_eq!(there.clone("plain").unwrap_err(), Errno::XDEV);
    assert_eq!(there.clone("absent").unwrap_err(), Errno::NOENT);
}
