//! The image config as it comes, and the part of it that the store keeps at hand.
//!
//! Read leniently where producers differ (Docker writes null for an empty list) and never trusted for paths.

use std::collections::BTreeMap;

use protocol::image::{Healthcheck, ImageConfig};
use serde::Deserialize;

use crate::{Digest, Error, Result};

/// What an image config says, as far as it concerns us. The whole document is kept as a blob.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) run: ImageConfig,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    config: Option<Run>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    healthcheck: Option<Check>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Check {
    test: Option<Vec<String>>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u32,
}

impl Config {
    pub(crate) fn parse(bytes: &[u8], document: &str) -> Result<Self> {
        let read: Document = serde_json::from_slice(bytes)
            .map_err(|source| Error::Json { document: document.to_owned(), source })?;
        let run = read.config.unwrap_or_default();
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let env = run.env.unwrap_or_default();
        if let Some(bad) = env.iter().find(|variable| variable.contains('\0') || variable.starts_with('=')) {
            return Err(Error::Document {
                document: document.to_owned(),
                reason: format!("{bad:?} is no environment variable"),
            });
        }
        Ok(Self {
            os: if read.os.is_empty() { "linux".to_owned() } else { read.os },
            architecture: read.architecture,
            diff_ids: read.rootfs.diff_ids.unwrap_or_default(),
            run: ImageConfig {
                env,
                user: filled(run.user),
                workdir: filled(run.working_dir),
                entrypoint: run.entrypoint.unwrap_or_default(),
                cmd: run.cmd.unwrap_or_default(),
                stop_signal: filled(run.stop_signal),
                labels: run.labels.unwrap_or_default(),
                exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
                volumes: run.volumes.unwrap_or_default().into_keys().collect(),
                healthcheck: run.healthcheck.map(|check| Healthcheck {
                    test: check.test.unwrap_or_default(),
                    interval: check.interval,
                    timeout: check.timeout,
                    start_period: check.start_period,
                    retries: check.retries,
                }),
            },
        })
    }

    /// The config of an image that is nothing but a root file system. The same layer gives the same config.
    pub(crate) fn of_rootfs(diff_id: Digest) -> Vec<u8> {
        let document = serde_json::json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        });
        document.to_string().into_bytes()
    }
}

/// This machine's architecture, in the image format's words (those of Go).
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_the_whole_config_is_kept() {
        let document = serde_json::json!({
            "architecture": "arm64", "os": "linux",
            "config": {
                "Env": ["PATH=/bin", "KEY=-----BEGIN\nline two\n-----END"], "User": "postgres:ssl", "WorkingDir": "/srv",
                "Entrypoint": ["/entry", "-x"], "Cmd": null, "StopSignal": "SIGINT", "Labels": {"a": "b"},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}},
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64, "Retries": 3}
            },
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"x")]}, "history": [{}]
        });
        let config = Config::parse(document.to_string().as_bytes(), "config").unwrap();
        assert_eq!(config.architecture, "arm64");
        assert_eq!(config.diff_ids, [Digest::of(b"x")]);
        let run = config.run;
        assert_eq!(run.env[1], "KEY=-----BEGIN\nline two\n-----END");
        assert_eq!((run.user.as_deref(), run.workdir.as_deref()), (Some("postgres:ssl"), Some("/srv")));
        assert_eq!((run.entrypoint.len(), run.cmd.len()), (2, 0));
        assert_eq!(run.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(run.labels["a"], "b");
        assert_eq!(run.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!(run.volumes, ["/data"]);
        let check = run.healthcheck.unwrap();
        assert_eq!((check.test.len(), check.interval, check.retries), (2, 30_000_000_000, 3));
    }
}
