//! `metrics`: what the host tells Prometheus.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use protocol::ErrorKind;

use super::{Context, client, output};
use crate::error::{Failure, Result};

/// Prints them, for a collector that reads files (node_exporter's textfile) or a person.
pub(super) fn run(context: &Context) -> Result<()> {
    let socket = client::socket(&context.machine()?);
    let fail = |kind| {
        let socket = socket.display().to_string();
        move |error: std::io::Error| Failure::new(kind, "ask for metrics at", socket).because(error)
    };
    let mut stream = UnixStream::connect(&socket).map_err(fail(ErrorKind::NotFound))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").map_err(fail(ErrorKind::Kernel))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(fail(ErrorKind::Kernel))?;
    let whole = answer.split_once("\r\n\r\n");
    let Some((_, text)) = whole.filter(|(head, _)| head.starts_with("HTTP/1.1 200 ")) else {
        let said = answer.lines().next().unwrap_or_default().to_owned();
        return Err(fail(ErrorKind::Internal)(std::io::Error::other(said)));
    };
    output::line(text.trim_end());
    Ok(())
}
