//! Connections to ports inside: for health checks, and for whoever wants the bytes.
//!
//! ```text
//! client ── stream.connect ──▶ host ── a socket made in there ──▶ port
//!    ▲                           │
//!    └── answered, then bytes ───┘   both ways, until the client closes, or both sides have said that there is no more
//! ```
//! Who listens inside is not trusted: there is a time limit to connect, nothing that it sends is looked at, what waits
//! in between is bounded, and a client that goes is noticed whatever the other side does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use protocol::ErrorKind;
use protocol::session::ConnectParams;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};

use super::run;
use super::state::{Host, Running, blocking};
use super::streams::hang_up;
use crate::error::{Failure, Result};

const TIMEOUT: u32 = 1000;
const LONGEST: u32 = 60_000;

/// Connects, or says why not.
pub(super) async fn connect(host: &Arc<Host>, p: &ConnectParams) -> Result<TcpStream> {
    let addresses = match &p.address {
        None => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        Some(text) => vec![text.parse().map_err(|error: std::net::AddrParseError| {
            Failure::new(ErrorKind::Invalid, "read address", text).because(error)
        })?],
    };
    let limit = p.timeout.unwrap_or(TIMEOUT);
    if limit > LONGEST {
        return Err(Failure::new(ErrorKind::Invalid, "read timeout", limit)
            .because(std::io::Error::other(format!("more than {LONGEST} milliseconds"))));
    }
    let deadline = tokio::time::Instant::now() + Duration::from_millis(limit.into());
    let running = run::leader(host, &p.guid, false).await?;
    let mut first = None;
    for address in addresses {
        match connect_to(&running, SocketAddr::new(address, p.port), deadline).await {
            Ok(stream) => return Ok(stream),
            Err(failure) => first.get_or_insert(failure),
        };
    }
    Err(first.unwrap_or_else(|| Failure::new(ErrorKind::Internal, "connect", "")))
}

async fn connect_to(
    running: &Arc<Running>,
    to: SocketAddr,
    deadline: tokio::time::Instant,
) -> Result<TcpStream> {
    let fail = |error: std::io::Error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        running.leader.unreachable(to, errno)
    };
    let worker = Arc::clone(running);
    let socket = blocking(move || worker.leader.connect(to)).await?;
    let stream = TcpStream::from_std(socket.into()).map_err(fail)?;
    match tokio::time::timeout_at(deadline, stream.writable()).await {
        Err(_) => return Err(running.leader.unreachable(to, Errno::TIMEDOUT)),
        Ok(ready) => ready.map_err(fail)?,
    }
    match stream.take_error() {
        Ok(None) => Ok(stream),
        Ok(Some(error)) | Err(error) => Err(fail(error)),
    }
}

/// Carries bytes both ways. `buffered` came with the request.
pub(super) async fn relay(mut port: TcpStream, mut client: UnixStream, buffered: &[u8]) {
    if port.write_all(buffered).await.is_err() {
        return;
    }
    let (mut from_port, mut to_port) = port.split();
    let (mut from_client, mut to_client) = client.split();
    let up = async {
        // Either side may break off at any time, and that is all there is to say.
        let _broken = tokio::io::copy(&mut from_client, &mut to_port).await;
        let _broken = to_port.shutdown().await;
        // The client may only have no more to say. Nobody tells of its end: a server that says nothing would stay.
        hang_up(from_client.as_ref()).await;
    };
    let down = async {
        let _broken = tokio::io::copy(&mut from_port, &mut to_client).await;
        let _broken = to_client.shutdown().await;
        // It may still take what the client sends.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
