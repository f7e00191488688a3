//! What a Unix socket knows of its peer.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::{Errno, Result};

/// Bytes written to a Unix stream socket that the peer has not read yet.
///
/// `ioctl(fd, SIOCOUTQ, &value)`, <https://man7.org/linux/man-pages/man7/unix.7.html>.
///
/// # Errors
/// `ENOTTY` for what is no socket.
pub fn unread_by_peer(socket: impl AsFd) -> Result<usize> {
    const SIOCOUTQ: libc::Ioctl = libc::TIOCOUTQ;
    let mut value: libc::c_int = 0;
    // SAFETY: the call writes one int to a valid place.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCOUTQ, &raw mut value) };
    if done < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(usize::try_from(value).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_counts_until_the_peer_has_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(unread_by_peer(&ours), Ok(0));
        ours.write_all(b"abc").unwrap();
        // The kernel counts its buffers, not only what is in them.
        assert!(unread_by_peer(&ours).unwrap() >= 3);
        theirs.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(unread_by_peer(&ours), Ok(0));
        assert_eq!(unread_by_peer(std::fs::File::open("/dev/null").unwrap()), Err(Errno::NOTTY));
    }
}
