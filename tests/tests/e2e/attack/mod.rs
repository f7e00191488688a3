//! What somebody who wants harm does: as root inside a container, as a client of the host, as the one who kills
//! processes at the wrong moment, as the maker of an image. Each test was once a fault, or guards against one that
//! others had.

use std::fs::{self};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cli::finish;
use tests::{Host, Rpc};

mod clients;
mod inside;
mod moment;
mod terminals;

#[track_caller]
pub(crate) fn outside(words: &[&str]) {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    finish(command, b"").ok();
}

pub(crate) fn create(rpc: &mut Rpc, detached: bool) -> String {
    let params = json!({"imageId": "busybox", "throwaway": true, "detached": detached});
    rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned()
}

pub(crate) fn destroy(rpc: &mut Rpc, guid: &str) {
    rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
}

pub(crate) fn rootfs(host: &Host, guid: &str) -> PathBuf {
    host.data().join("subcontainers").join(guid)
}

pub(crate) fn run_dir(guid: &str) -> PathBuf {
    Path::new("/run/start-container").join(guid)
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A connection that carries one stream.
pub(crate) fn attach(host: &Host, process: &Value, stream: &str) -> Result<UnixStream, Value> {
    let mut connection = UnixStream::connect(host.socket()).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let params = json!({"process": process, "stream": stream});
    writeln!(
        connection,
        "{}",
        json!({"jsonrpc": "2.0", "id": 1, "method": "stream.attach", "params": params})
    )
    .unwrap();
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        connection.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    let answer: Value = serde_json::from_slice(&line).unwrap();
    if answer.get("error").is_some() { Err(answer) } else { Ok(connection) }
}

pub(crate) fn read_until(stream: &mut UnixStream, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "it ended without {text:?}: {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&some[..count]);
    }
}
