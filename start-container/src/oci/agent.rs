//! The agent that is asked about system calls (`SCMP_ACT_NOTIFY`): it gets the listener of a process's filter.
//!
//! Source: OCI runtime spec, config-linux.md, "The Container Process State".

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use linux::spawn::apart;
use protocol::ErrorKind;
use rustix::process::Pid;
use serde_json::json;

use super::console;
use super::record::{Container, Status};
use crate::error::{Failure, Result};

/// Sends the agent of a container the listener, which is this descriptor of a process of it that waits.
pub(super) fn give(
    container: &Container,
    status: Status,
    pid: Pid,
    process: BorrowedFd<'_>,
    number: i32,
) -> Result<()> {
    let spec = &container.record.spec;
    let Some(filter) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(());
    };
    let Some(path) = filter.listener_path() else { return Ok(()) };
    let listener = apart::copy_descriptor(process, number)
        .map_err(|errno| Failure::kernel("copy seccomp listener of", "container process", errno))?;
    let mut message = json!({
        "ociVersion": spec.version(),
        "fds": ["seccompFd"],
        "pid": pid.as_raw_nonzero().get(),
        "state": container.state(status),
    });
    if let Some(metadata) = filter.listener_metadata() {
        message["metadata"] = json!(metadata);
    }
    let fail = |error: std::io::Error| {
        Failure::new(ErrorKind::NotFound, "connect to linux.seccomp.listenerPath", path.display())
            .because(error)
    };
    let socket = UnixStream::connect(path).map_err(fail)?;
    console::pass(&socket, listener.as_fd(), message.to_string().as_bytes())
        .map_err(|errno| fail(errno.into()))
}
