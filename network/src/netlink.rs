//! A netlink socket that blocks: one request, its answers. The messages are netlink-packet-*'s.
//!
//! A socket belongs to the network namespace of the thread that opened it, for good.

use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// As large as any answer the kernel puts into one datagram (`NLMSG_GOODSIZE` is at most 8 KiB, dumps up to 32).
const BUFFER: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// A socket of a netlink family in the namespace of this thread. `None` is `NETLINK_ROUTE`, which is 0.
    pub(crate) fn open(family: Option<Protocol>) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC;
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, family).map(Self)
    }

    /// Sends a request and waits for its end: an acknowledgement, the end of a dump, or an error.
    ///
    /// An answer that the library cannot read is left out: one odd link or route of the machine's must not keep
    /// ours from being made.
    pub(crate) fn request<M>(&self, message: M, flags: u16) -> Result<Vec<M>, Errno>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Debug,
    {
        let mut request =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        rustix::net::send(&self.0, &bytes, SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let (length, _) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Ok(header) = NetlinkBuffer::new_checked(rest) {
                let length = header.length() as usize;
                let message = rest.get(..length).unwrap_or_default();
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                let Ok(message) = NetlinkMessage::<M>::deserialize(message) else { continue };
                match message.payload {
                    NetlinkPayload::Error(error) => match error.code {
                        None => return Ok(answers),
                        Some(code) => return Err(Errno::from_raw_os_error(code.get().saturating_neg())),
                    },
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
