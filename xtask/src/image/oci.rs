//! An OCI archive around layers that are there as tar files. The layers stay uncompressed: nothing is gained by
//! compressing what the same machine unpacks again.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::say;

/// Writes `archive` with these layers, lowest first, and this `config` object (`Env`, `User`, `Cmd`, …).
pub(super) fn write(archive: &Path, name: &str, config: &Value, layers: &[PathBuf]) -> Result<()> {
    let parent = archive.parent().context("the archive has a directory")?;
    let layout = tempfile::Builder::new().prefix(".oci").tempdir_in(parent)?;
    let blobs = layout.path().join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut descriptors = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in layers {
        let (digest, size) = hash(layer)?;
        fs::hard_link(layer, blobs.join(&digest)).with_context(|| format!("link {}", layer.display()))?;
        diff_ids.push(format!("sha256:{digest}"));
        descriptors.push(descriptor("application/vnd.oci.image.layer.v1.tar", &digest, size));
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| json!({"created_by": "cargo xtask setup"})).collect::<Vec<_>>(),
    });
    let (digest, size) = blob(&blobs, &config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &digest, size),
        "layers": descriptors,
    });
    let (digest, size) = blob(&blobs, &manifest)?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &digest, size);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(layout.path().join("index.json"), index.to_string())?;
    fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let partial = archive.with_extension("partial");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(layout.path()).args([
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    say::output(tar.arg("-cf").arg(&partial).arg("."))?;
    fs::rename(&partial, archive).with_context(|| format!("rename {}", partial.display()))
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

fn blob(blobs: &Path, content: &Value) -> Result<(String, u64)> {
    let bytes = content.to_string().into_bytes();
    let digest = hex(&Sha256::digest(&bytes));
    File::create(blobs.join(&digest))?.write_all(&bytes)?;
    Ok((digest, bytes.len() as u64))
}

fn hash(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hex(&hasher.finalize()), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
