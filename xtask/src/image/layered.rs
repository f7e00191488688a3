//! Images of many layers, each with one small file of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use crate::{place, say};

/// Makes one of so many layers in a directory: busybox, and above it layers of one file each.
pub(crate) fn make(directory: &Path, count: usize) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let mut layers = vec![place::images().join("layers/busybox.tar")];
    // Layers are linked into the archive.
    let base = directory.join("busybox.tar");
    if !base.exists() {
        fs::copy(&layers[0], &base)?;
    }
    layers[0] = base;
    for number in 1..count {
        let layer = directory.join(format!("{number}.tar"));
        if !layer.exists() {
            let name = format!("layer-{number}");
            fs::write(directory.join(&name), format!("{number}\n"))?;
            say::output(Command::new("tar").arg("-C").arg(directory).arg("-cf").arg(&layer).arg(&name))?;
        }
        layers.push(layer);
    }
    let archive = directory.join(format!("layers{count}.tar"));
    let config = json!({"Cmd": ["/bin/sh"], "WorkingDir": "/"});
    super::oci::write(&archive, &format!("layers{count}"), &config, &layers)?;
    Ok(archive)
}
