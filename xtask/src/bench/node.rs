//! A Node with the SDK: told on its standard input what to measure, answers with one line of JSON.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{place, setup};

/// The process.
pub(super) struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Node {
    /// Starts `xtask/bench/sdk.mjs` for the host with this data directory; podman may listen at the socket later.
    pub(super) fn start(data: &Path, podman: &Path) -> Result<Self> {
        let mut child = Command::new("node")
            .arg(place::root().join("xtask/bench/sdk.mjs"))
            .env("START_CONTAINER_DATA_DIR", data)
            .env("SDK", place::root().join("sdk/dist/index.js"))
            .env("DOCKERODE", setup::dockerode().path())
            .env("PODMAN_SOCKET", podman)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start node")?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, input, output })
    }

    /// Asks for one thing.
    pub(super) fn ask(&mut self, what: &str, count: usize) -> Result<Value> {
        writeln!(self.input, "{what} {count}").context("ask node")?;
        let mut line = String::new();
        self.output.read_line(&mut line).context("read node's answer")?;
        let answer: Value =
            serde_json::from_str(&line).with_context(|| format!("parse node's answer {line:?}"))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{what}: {error}");
        }
        Ok(answer)
    }

    /// Asks for samples, in milliseconds.
    pub(super) fn samples(&mut self, what: &str, count: usize) -> Result<Vec<f64>> {
        let answer = self.ask(what, count)?;
        let samples = answer["samples"].as_array().context("samples")?;
        Ok(samples.iter().filter_map(Value::as_f64).collect())
    }

    /// Ends it.
    pub(super) fn stop(mut self) -> Result<()> {
        drop(self.input);
        let status = self.child.wait().context("wait for node")?;
        if !status.success() {
            bail!("node ended with {status}");
        }
        Ok(())
    }
}
