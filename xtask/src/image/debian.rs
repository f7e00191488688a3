//! The large images: Debian's minbase, and services from Debian's packages as a second layer over it.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{place, say};

const SUITE: &str = "bookworm";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Which {
    /// `debian.tar`.
    Minbase,
    /// `postgres-demo.tar`.
    Postgres,
    /// `mariadb-demo.tar`: MariaDB, and rsync.
    Mariadb,
}

/// The tree of minbase, for engines that want a directory.
pub(crate) fn tree() -> PathBuf {
    place::images().join("debian")
}

/// The one layer of minbase.
pub(crate) fn layer() -> PathBuf {
    place::images().join("layers/debian.tar")
}

/// Its OCI archive.
pub(crate) fn archive(which: Which) -> PathBuf {
    place::images().join(match which {
        Which::Minbase => "debian.tar",
        Which::Postgres => "postgres-demo.tar",
        Which::Mariadb => "mariadb-demo.tar",
    })
}

/// Makes the image when it is not there.
pub(crate) fn make(which: Which) -> Result<()> {
    let archive = archive(which);
    let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if archive.exists() {
        say::note(&format!("{name} is there"));
        return Ok(());
    }
    fs::create_dir_all(place::images().join("layers"))?;
    minbase_layer()?;
    let (config, layers) = match which {
        Which::Minbase => (json!({"Env": [PATH], "Cmd": ["/bin/bash"]}), vec![layer()]),
        Which::Postgres => {
            let upper = service_layer("postgres", "postgresql postgresql-client", "/var/lib/postgresql/15")?;
            let binaries = "/usr/lib/postgresql/15/bin";
            let env = [
                format!("{PATH}:{binaries}"),
                "LANG=C.UTF-8".to_owned(),
                "PGDATA=/var/lib/postgresql/data".into(),
            ];
            let config = json!({
                "Env": env, "User": "postgres", "Cmd": ["postgres"], "WorkingDir": "/var/lib/postgresql",
                "StopSignal": "SIGINT", "ExposedPorts": {"5432/tcp": {}}, "Volumes": {"/var/lib/postgresql/data": {}},
            });
            (config, vec![layer(), upper])
        }
        Which::Mariadb => {
            let upper = service_layer("mariadb", "mariadb-server mariadb-client rsync", "/var/lib/mysql/*")?;
            let config = json!({
                "Env": [PATH, "LANG=C.UTF-8"], "User": "mysql", "Cmd": ["mariadbd"], "WorkingDir": "/var/lib/mysql",
                "StopSignal": "SIGTERM", "ExposedPorts": {"3306/tcp": {}}, "Volumes": {"/var/lib/mysql": {}},
            });
            (config, vec![layer(), upper])
        }
    };
    say::step(&name, || super::oci::write(&archive, name.trim_end_matches(".tar"), &config, &layers))
}

fn minbase_layer() -> Result<()> {
    if layer().exists() && tree().exists() {
        return Ok(());
    }
    let work = tempfile::Builder::new().prefix(".debian").tempdir_in(place::images())?;
    let made = work.path().join("tree");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap
        .args(["--variant=minbase", "--mode=root", "--aptopt=Apt::Install-Recommends \"false\""])
        // An archive of packages that are installed already is of no use in an image.
        .args(["--customize-hook=rm -rf \"$1\"/var/cache/apt/archives/*.deb \"$1\"/var/lib/apt/lists/*"])
        .arg(SUITE)
        .arg(&made);
    say::run("mmdebstrap --variant=minbase bookworm", &mut mmdebstrap)?;
    pack("pack Debian's layer", &made, &layer())?;
    if tree().exists() {
        fs::remove_dir_all(tree())?;
    }
    fs::rename(made, tree()).context("keep Debian's tree")
}

/// Installs packages in an overlay over minbase, in namespaces of its own, and packs the upper directory, without the
/// `data` that the installation made.
fn service_layer(name: &str, packages: &str, data: &str) -> Result<PathBuf> {
    let layer = place::images().join(format!("layers/{name}.tar"));
    if layer.exists() {
        return Ok(layer);
    }
    let work = tempfile::Builder::new().prefix(&format!(".{name}")).tempdir_in(place::images())?;
    let script = r#"
set -eu
mkdir "$WORK/upper" "$WORK/work" "$WORK/merged"
mount -t overlay -o "lowerdir=$LOWER,upperdir=$WORK/upper,workdir=$WORK/work,redirect_dir=off,metacopy=off" overlay "$WORK/merged"
cd "$WORK/merged"
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --rbind /dev dev
printf '#!/bin/sh\nexit 101\n' > usr/sbin/policy-rc.d; chmod 755 usr/sbin/policy-rc.d
: > "$WORK/resolv.conf"; [ ! -e etc/resolv.conf ] || cp etc/resolv.conf "$WORK/resolv.conf"
cp -L /etc/resolv.conf etc/resolv.conf
export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
chroot . apt-get update
chroot . apt-get install -y --no-install-recommends $PACKAGES
cp "$WORK/resolv.conf" etc/resolv.conf
rm -rf usr/sbin/policy-rc.d var/cache/apt/archives/*.deb var/lib/apt/lists/* .$DATA var/log/apt var/log/postgresql/* var/log/mysql/*
"#;
    let mut install = Command::new("unshare");
    install.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
        "--",
        "sh",
        "-c",
        script,
    ]);
    install.env("WORK", work.path()).env("LOWER", tree()).env("PACKAGES", packages).env("DATA", data);
    say::run(&format!("install {packages} over it"), &mut install)?;
    let upper = work.path().join("upper");
    turn_whiteouts(&upper, &tree())?;
    pack(&format!("pack the layer of {name}"), &upper, &layer)?;
    Ok(layer)
}

/// Overlay marks what is deleted with a device 0:0, a layer with an empty file named `.wh.` and the name; and a
/// directory that hides the one beneath it with an attribute, a layer with a file in it.
fn turn_whiteouts(upper: &Path, lower: &Path) -> Result<()> {
    for entry in fs::read_dir(upper)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_owned();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            turn_whiteouts(&path, &lower.join(&name))?;
            let mut value = [0; 1];
            let opaque =
                rustix::fs::lgetxattr(&path, "trusted.overlay.opaque", &mut value).is_ok() && value == *b"y";
            // Every new directory is marked so; it matters only where there is one to hide.
            if opaque && lower.join(&name).is_dir() {
                fs::write(path.join(".wh..wh..opq"), "")?;
            }
        } else if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
            fs::remove_file(&path)?;
            fs::write(path.with_file_name(format!(".wh.{}", name.to_string_lossy())), "")?;
        }
    }
    Ok(())
}

fn pack(name: &str, tree: &Path, layer: &Path) -> Result<()> {
    let partial = layer.with_extension("partial");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(tree).args([
        "--sort=name",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=security.capability",
    ]);
    // Devices are the engine's to make, and a tree cannot be unpacked with them where mknod is not allowed.
    tar.args(["--exclude=./dev/*", "-cf"]).arg(&partial).arg(".");
    say::run(name, &mut tar)?;
    fs::rename(partial, layer).with_context(|| format!("rename {}", layer.display()))
}
