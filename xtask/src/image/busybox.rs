//! The small image: a static busybox under all its names.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{place, say};

/// The tree itself, for engines that want a directory.
pub(crate) fn tree() -> PathBuf {
    place::images().join("busybox")
}

/// The OCI archive.
pub(crate) fn archive() -> PathBuf {
    place::images().join("busybox.tar")
}

/// Makes both when they are not there.
pub(crate) fn make() -> Result<()> {
    if archive().exists() && tree().exists() {
        say::note("busybox.tar is there");
        return Ok(());
    }
    say::step("busybox.tar", || {
        fs::create_dir_all(place::images().join("layers"))?;
        let work = tempfile::Builder::new().prefix(".busybox").tempdir_in(place::images())?;
        let tree_in_work = work.path().join("tree");
        fill(&tree_in_work)?;
        let layer = place::images().join("layers/busybox.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&tree_in_work).args(["--sort=name", "--numeric-owner", "-cf"]).arg(&layer).arg(".");
        say::output(&mut tar)?;
        if tree().exists() {
            fs::remove_dir_all(tree())?;
        }
        fs::rename(tree_in_work, tree())?;
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let config = json!({"Env": [path], "Cmd": ["/bin/sh"], "WorkingDir": "/"});
        super::oci::write(&archive(), "busybox", &config, &[layer])
    })
}

fn fill(tree: &Path) -> Result<()> {
    for directory in
        ["bin", "dev", "etc", "home", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "var"]
    {
        fs::create_dir_all(tree.join(directory))?;
    }
    for directory in [tree.to_path_buf(), tree.join("root")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    }
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    let busybox = busybox.context("busybox-static is not installed")?;
    fs::copy(busybox, tree.join("bin/busybox"))?;
    for applet in
        say::output(Command::new(busybox).arg("--list"))?.lines().filter(|applet| *applet != "busybox")
    {
        symlink("busybox", tree.join("bin").join(applet))?;
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nuser:x:1000:1000:User:/home:/bin/sh\n";
    fs::write(tree.join("etc/passwd"), passwd)?;
    fs::write(tree.join("etc/group"), "root:x:0:\ndaemon:x:1:\nuser:x:1000:\nstaff:x:50:user\n")?;
    for empty in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        fs::write(tree.join(empty), "")?;
    }
    Ok(())
}
