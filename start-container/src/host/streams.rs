//! Bytes between a client's second connection and a process's stream.
//!
//! Pipes are spliced: the bytes do not pass through this process. Terminals, which cannot be, are copied.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use protocol::session::StreamKind;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::state::{Entry, Host, watched};

/// How much one splice may move; what a pipe holds bounds it.
const CHUNK: usize = 1024 * 1024;

/// How a relay ended.
enum End {
    /// The process's side: there is no more.
    Stream,
    /// The client's side: another one may attach.
    Client,
    /// Neither: it goes on in another program.
    Rest,
}

/// Carries bytes until one side ends. `buffered` came with the request that attached.
pub(super) async fn relay(
    host: &Host,
    entry: &Entry,
    kind: StreamKind,
    end: Arc<OwnedFd>,
    mut stream: UnixStream,
    buffered: Vec<u8>,
) {
    let fd = end.as_fd();
    // A pipe that holds more needs fewer wake-ups. The kernel's own size is as good where it refuses.
    if kind != StreamKind::Terminal {
        let _own_size = rustix::pipe::fcntl_setpipe_size(fd, CHUNK);
    }
    let flags = rustix::fs::fcntl_getfl(fd).unwrap_or(rustix::fs::OFlags::empty());
    // O_NONBLOCK belongs to the open file: the process has the other end, which is another one.
    let _unset = rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK);
    let interest = if kind == StreamKind::Stdin { Interest::WRITABLE } else { Interest::READABLE };
    let interest =
        if kind == StreamKind::Terminal { Interest::READABLE | Interest::WRITABLE } else { interest };
    host.replacing.relay_begins();
    let mut rest = host.replacing.rest();
    let result = match watched(Arc::clone(&end), interest) {
        Err(_) => End::Stream,
        Ok(pipe) => match kind {
            // What is spliced is on one side or on the other.
            StreamKind::Stdout | StreamKind::Stderr => tokio::select! {
                end = output(&pipe, &stream) => end,
                () = at_rest(&mut rest) => End::Rest,
            },
            StreamKind::Stdin => {
                if write_all(&pipe, &buffered).await {
                    tokio::select! {
                        end = input(&pipe, &stream) => end,
                        () = at_rest(&mut rest) => End::Rest,
                    }
                } else {
                    End::Stream
                }
            }
            StreamKind::Terminal => terminal(&pipe, &mut stream, &buffered, &rest).await,
        },
    };
    match result {
        End::Rest => host.replacing.rests(entry, kind, end, stream),
        End::Stream => drop(end),
        End::Client if kind == StreamKind::Stdin => drop(end),
        End::Client => entry.return_stream(kind, end),
    }
    host.replacing.relay_ends();
    host.settle(entry, false);
}

/// Ends when streams are to rest: another program takes this one's place.
async fn at_rest(rest: &mut watch::Receiver<bool>) {
    if rest.wait_for(|rest| *rest).await.is_err() {
        std::future::pending().await
    }
}

type Pipe = AsyncFd<Arc<OwnedFd>>;

async fn output(pipe: &Pipe, stream: &UnixStream) -> End {
    loop {
        match move_some(pipe.as_fd(), stream.as_fd()) {
            Ok(0) => return End::Stream,
            Ok(_) => {}
            Err(Errno::AGAIN) => {
                if has_bytes(pipe.as_fd()) {
                    if !writable(stream).await {
                        return End::Client;
                    }
                } else {
                    tokio::select! {
                        ready = pipe.readable() => match ready {
                            Ok(mut ready) => {
                                if !has_bytes(pipe.as_fd()) {
                                    ready.clear_ready();
                                }
                            }
                            Err(_) => return End::Stream,
                        },
                        () = client_gone(stream) => return End::Client,
                    }
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return End::Client,
        }
    }
}

async fn input(pipe: &Pipe, stream: &UnixStream) -> End {
    loop {
        match move_some(stream.as_fd(), pipe.as_fd()) {
            // The client shut its writing half down: end of file.
            Ok(0) => return End::Client,
            Ok(_) => {}
            Err(Errno::AGAIN) => {
                if readable_now(stream.as_fd()) {
                    // Bytes that came since the splice are no full pipe, and one that never was full gives no edge
                    // to wait for.
                    if !has_room(pipe.as_fd()) {
                        match pipe.writable().await {
                            Ok(mut ready) => ready.clear_ready(),
                            Err(_) => return End::Stream,
                        }
                    }
                } else {
                    let read = stream.async_io(Interest::READABLE, || {
                        if readable_now(stream.as_fd()) {
                            Ok(())
                        } else {
                            Err(std::io::ErrorKind::WouldBlock.into())
                        }
                    });
                    tokio::select! {
                        ready = read => if ready.is_err() { return End::Client },
                        // Nobody reads any more.
                        () = reader_gone(pipe) => return End::Stream,
                    }
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return End::Stream,
        }
    }
}

/// Writes all of it. False when the process's side takes no more.
async fn write_all(pipe: &Pipe, mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        match rustix::io::write(pipe.as_fd(), rest) {
            Ok(n) => rest = &rest[n..],
            Err(Errno::AGAIN) => match pipe.writable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return false,
            },
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

async fn terminal(
    pipe: &Pipe,
    stream: &mut UnixStream,
    buffered: &[u8],
    rest: &watch::Receiver<bool>,
) -> End {
    let (mut from_client, mut to_client) = stream.split();
    // It rests where nothing is in a buffer here.
    let (mut typed_rests, mut shown_rests) = (rest.clone(), rest.clone());
    let typed = async {
        let mut buffer = buffered.to_vec();
        loop {
            if !write_all(pipe, &buffer).await {
                return End::Stream;
            }
            buffer.resize(16 * 1024, 0);
            let read = tokio::select! {
                read = from_client.read(&mut buffer) => read,
                () = at_rest(&mut typed_rests) => return End::Rest,
            };
            match read {
                Ok(n @ 1..) => buffer.truncate(n),
                Ok(0) => {
                    // It may still want to read.
                    while !hung_up(from_client.as_ref()) {
                        tokio::time::sleep(HANG_UP).await;
                    }
                    return End::Client;
                }
                Err(_) => return End::Client,
            }
        }
    };
    let shown = async {
        let mut buffer = [0; 16 * 1024];
        loop {
            // What is read from a terminal is gone from it: not before somebody is there to take it.
            let writable = tokio::select! {
                writable = to_client.writable() => writable,
                () = at_rest(&mut shown_rests) => return End::Rest,
            };
            if writable.is_err() || hung_up(to_client.as_ref()) {
                return End::Client;
            }
            match rustix::io::read(pipe.as_fd(), &mut buffer) {
                Ok(0) => return End::Stream,
                Ok(n) => {
                    if to_client.write_all(&buffer[..n]).await.is_err() {
                        return End::Client;
                    }
                }
                Err(Errno::AGAIN) => {
                    let ready = tokio::select! {
                        ready = pipe.readable() => ready,
                        () = at_rest(&mut shown_rests) => return End::Rest,
                    };
                    match ready {
                        Ok(mut ready) => {
                            if !readable_now(pipe.as_fd()) {
                                ready.clear_ready();
                            }
                        }
                        Err(_) => return End::Stream,
                    }
                }
                Err(Errno::INTR) => {}
                // EIO: nobody has the other end open any more.
                Err(_) => return End::Stream,
            }
        }
    };
    let (mut typed, mut shown) = (std::pin::pin!(typed), std::pin::pin!(shown));
    let (first, was_typed) = tokio::select! {
        biased;
        end = &mut typed => (end, true),
        end = &mut shown => (end, false),
    };
    match (first, was_typed) {
        (End::Rest, true) => shown.await,
        (End::Rest, false) => typed.await,
        (end, _) => end,
    }
}

/// How often a client that has shut its writing half down is looked at: the kernel tells of its end only those who
/// still read from it.
const HANG_UP: std::time::Duration = std::time::Duration::from_millis(50);

fn move_some(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<usize, Errno> {
    splice(from, None, to, None, CHUNK, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)
}

/// A pipe that takes more now, or whose reader has gone.
fn has_room(pipe: BorrowedFd<'_>) -> bool {
    let mut fds = [rustix::event::PollFd::new(&pipe, rustix::event::PollFlags::OUT)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// A pipe that can be read now, or has come to its end.
fn has_bytes(pipe: BorrowedFd<'_>) -> bool {
    readable_now(pipe)
}

fn readable_now(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Waits until the client takes more. False when it has gone.
async fn writable(stream: &UnixStream) -> bool {
    let write = stream.async_io(Interest::WRITABLE, || {
        let mut fds = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::OUT)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::event::poll(&mut fds, Some(&now)) {
            Ok(0) => Err(std::io::ErrorKind::WouldBlock.into()),
            _ => Ok(fds[0].revents()),
        }
    });
    write
        .await
        .is_ok_and(|events| !events.intersects(rustix::event::PollFlags::ERR | rustix::event::PollFlags::HUP))
}

/// Ends when the client has closed its connection. What it sends meanwhile means nothing here.
async fn client_gone(stream: &UnixStream) {
    let mut buffer = [0; 256];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut buffer) {
            // Only its writing half may be shut.
            Ok(0) => return hang_up(stream).await,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Ends when the client, which has shut its writing half down, has closed the other one, too.
pub(super) async fn hang_up(stream: &UnixStream) {
    while !hung_up(stream) {
        tokio::time::sleep(HANG_UP).await;
    }
}

fn hung_up(stream: &UnixStream) -> bool {
    let mut fds = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(_) => fds[0].revents().intersects(rustix::event::PollFlags::HUP | rustix::event::PollFlags::ERR),
        Err(_) => true,
    }
}

/// Ends when nobody has the reading end of a pipe open any more.
async fn reader_gone(pipe: &Pipe) {
    loop {
        match pipe.writable().await {
            Err(_) => return,
            Ok(mut ready) => {
                let mut fds = [rustix::event::PollFd::new(pipe.get_ref(), rustix::event::PollFlags::OUT)];
                let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
                let events = rustix::event::poll(&mut fds, Some(&now)).map(|_| fds[0].revents());
                if events.is_ok_and(|events| events.contains(rustix::event::PollFlags::ERR)) {
                    return;
                }
                ready.clear_ready();
            }
        }
    }
}
