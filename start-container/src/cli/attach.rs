//! `subcontainer attach`: the first process of a container that somebody else launched.
//!
//! Its end is watched by handle. Its streams are the host's, if the host launched it with any: they are attached to by
//! the host's socket, like the SDK does.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use protocol::ErrorKind;
use protocol::process::{Outcome, ResizeParams};
use protocol::session::{AttachStreamParams, StreamKind};
use protocol::subcontainer::{GuidParams, RunState, SubcontainerInfo};

use super::client::{self, Client};
use super::relay::{self, Ends, Foreground};
use super::{command, output, subcontainer};
use crate::error::{Failure, Result};
use crate::subcontainer::Machine;

/// Waits for the leader, shows what it writes, and ends as it ends.
pub(super) fn attach(machine: &Machine, rootfs: &str) -> Result<ExitCode> {
    let signals = relay::block_signals()?;
    let rootfs = subcontainer::find(machine, rootfs)?;
    let leader = machine.leader(rootfs.guid())?.ok_or_else(|| {
        Failure::new(ErrorKind::NotRunning, "attach to", rootfs.path().display())
            .because(std::io::Error::other("it is not running"))
    })?;
    let ends = streams(machine, rootfs.guid())?;
    let mut end = Foreground { process: &leader.process, signals, ends }.run()?;
    if end.outcome == Outcome::Unknown {
        end.outcome = written_down(machine, rootfs.guid())?;
    }
    if end.outcome == Outcome::Unknown {
        output::error("start-container: it ended; whoever launched it has not written down how");
    }
    command::ended(end)
}

/// What the launcher writes down when the leader has ended; the kernel tells only the launcher before 6.15.
fn written_down(machine: &Machine, guid: &str) -> Result<Outcome> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        if let RunState::Exited { outcome } = machine.info(&machine.rootfs(guid)?)?.state
            && (outcome != Outcome::Unknown || Instant::now() > deadline)
        {
            return Ok(outcome);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Those of the leader's streams that the host has and nobody is attached to.
fn streams(machine: &Machine, guid: &str) -> Result<Ends> {
    let socket = client::socket(machine);
    let Ok(mut host) = Client::connect(&socket) else { return Ok(Ends::default()) };
    let info: SubcontainerInfo = host.call("subcontainer.inspect", &GuidParams { guid: guid.to_owned() })?;
    let RunState::Running { process: Some(process), .. } = info.state else { return Ok(Ends::default()) };
    // None when it has none, or somebody else is attached.
    let open = |stream| {
        let params = AttachStreamParams { process: process.clone(), stream };
        Client::turn_into_bytes(&socket, "stream.attach", &params).ok().map(|bytes| Arc::new(bytes.into()))
    };
    let linger = Duration::from_secs(2);
    let stderr = open(StreamKind::Stderr);
    if let Some(terminal) = open(StreamKind::Terminal) {
        let host = Mutex::new(host);
        let resize = move |size| {
            let params = ResizeParams { process: process.clone(), size };
            match host.lock() {
                Ok(mut host) => {
                    host.call::<protocol::subcontainer::Empty>("subcontainer.resize", &params).map(drop)
                }
                Err(_) => Ok(()),
            }
        };
        if let Some(size) = relay::own_size() {
            resize(size)?;
        }
        let resize = Some(Box::new(resize) as relay::Resize);
        return Ok(Ends {
            stdout: Some(Arc::clone(&terminal)),
            stderr,
            stdin: Some(terminal),
            resize,
            raw: true,
            linger,
        });
    }
    let (stdout, stdin) = (open(StreamKind::Stdout), open(StreamKind::Stdin));
    Ok(Ends { stdout, stderr, stdin, resize: None, raw: false, linger })
}
