//! A TCP connection from outside to a port inside, in the leader's own network namespace.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use protocol::ErrorKind;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Leader;
use crate::error::{Failure, Result};

impl Leader {
    /// Begins to connect. Whoever gets the socket waits until it can be written to, and closes it.
    ///
    /// The socket is made by a thread that is in the namespace for just that: a socket stays where it was made. Nobody in
    /// there can hold the thread up, since it waits for nothing. `setns(2)` takes the leader's pidfd, so that its
    /// namespace is meant whatever became of its number: Linux 5.8.
    ///
    /// # Errors
    /// [`ErrorKind::NotRunning`] when it has ended, [`ErrorKind::Network`] when the kernel says at once that nobody is
    /// there.
    pub(crate) fn connect(&self, to: SocketAddr) -> Result<OwnedFd> {
        let begin = || {
            let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
            match rustix::net::connect(&socket, &to) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                Err(errno) => Err(errno),
            }
        };
        linux::netns::within(self.process.pidfd.as_fd(), begin)
            .map_err(|errno| match errno {
                Errno::SRCH => self.not_running(),
                errno => Failure::kernel("enter network of", &self.guid, errno),
            })?
            .map_err(|errno| self.unreachable(to, errno))
    }

    /// Why there is no connection.
    pub(crate) fn unreachable(&self, to: SocketAddr, errno: Errno) -> Failure {
        Failure::new(ErrorKind::Network, format!("connect to {to} in"), &self.guid).because(errno)
    }
}
