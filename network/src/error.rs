use ipnet::IpNet;
use protocol::error::ErrorKind;
use rustix::io::Errno;

/// A result of this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A step towards or away from a private network that failed. What was made before it is gone again, or written
/// down for [`recover`](crate::Networks::recover).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A guid, network or alias that is no plain name.
    #[error("{what} {name:?} is not a plain name")]
    InvalidName {
        /// `guid`, `network` or `alias`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A port to publish that makes no sense.
    #[error("published port {text:?} {why}")]
    InvalidPublish {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The guid has a private network already.
    #[error("{guid} is attached to network {network:?} already")]
    Attached {
        /// Whose.
        guid: String,
        /// Which.
        network: String,
    },
    /// A sibling has the name.
    #[error("name {name:?} is taken by {owner} on network {network:?}")]
    NameTaken {
        /// The name.
        name: String,
        /// The network.
        network: String,
        /// The guid of who has it.
        owner: String,
    },
    /// We publish the port already.
    #[error("port {port} is published by {owner} already")]
    PortPublished {
        /// As it was asked for.
        port: String,
        /// The guid of who has it.
        owner: String,
    },
    /// A program of the machine has the port.
    #[error("port {port} is in use by {owner}")]
    PortInUse {
        /// As it was asked for.
        port: String,
        /// The program and its process id, as far as they can be known.
        owner: String,
        /// `EADDRINUSE`.
        source: Errno,
    },
    /// The port cannot be had: no such address on this machine, for one.
    #[error("try port {port}")]
    TryPort {
        /// As it was asked for.
        port: String,
        /// Why.
        source: Errno,
    },
    /// Every subnet that we may take lies in one that the machine has a route to.
    #[error("no free subnet in {pools}: {route} goes through {device}")]
    SubnetsTaken {
        /// Where we may take from.
        pools: String,
        /// The last route found in the way.
        route: IpNet,
        /// Its network link.
        device: String,
    },
    /// No address is left.
    #[error("network {network:?} has no free address in {subnet}")]
    AddressesTaken {
        /// Which.
        network: String,
        /// Its subnet.
        subnet: IpNet,
    },
    /// The state on disk.
    #[error("{step} {file}")]
    File {
        /// What was done: `open`, `write`, `lock`.
        step: &'static str,
        /// To what, beneath the state directory.
        file: String,
        /// Why it failed.
        source: Errno,
    },
    /// The state on disk is not what we wrote.
    #[error("read state.json")]
    Corrupt {
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// A file that says how names are resolved.
    #[error("read {path}")]
    Resolver {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A setting of the machine, or of a new namespace.
    #[error("set sysctl {name} to {value:?}")]
    Sysctl {
        /// Which, with slashes.
        name: String,
        /// To what.
        value: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// No network namespace.
    #[error("{step} network namespace")]
    Namespace {
        /// `make` or `enter`.
        step: &'static str,
        /// Why.
        source: Errno,
    },
    /// A request to the kernel about links, addresses or routes.
    #[error("{step} {subject}")]
    Netlink {
        /// What was asked: `make veth`, `add address`.
        step: &'static str,
        /// Of what.
        subject: String,
        /// What the kernel said.
        source: Errno,
    },
    /// The program `nft` is missing or cannot be started.
    #[error("start nft")]
    StartNft {
        /// Why.
        source: std::io::Error,
    },
    /// nftables refused; nothing of that transaction happened.
    #[error("{step}: nft said {message:?}")]
    Nft {
        /// What it was for: `install table`, `publish ports`.
        step: &'static str,
        /// Its words, in one line.
        message: String,
    },
}

impl Error {
    /// What sort of failure it is, for programs.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidName { .. } | Self::InvalidPublish { .. } => ErrorKind::Invalid,
            Self::Attached { .. } | Self::NameTaken { .. } => ErrorKind::Exists,
            Self::PortPublished { .. } | Self::PortInUse { .. } => ErrorKind::Busy,
            Self::SubnetsTaken { .. } | Self::AddressesTaken { .. } => ErrorKind::Exhausted,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::TryPort { source: Errno::ADDRNOTAVAIL, .. } => ErrorKind::Invalid,
            _ => ErrorKind::Kernel,
        }
    }

    /// The kernel's reason, where it was the kernel.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::PortInUse { source, .. }
            | Self::TryPort { source, .. }
            | Self::File { source, .. }
            | Self::Namespace { source, .. }
            | Self::Netlink { source, .. } => Some(*source),
            Self::Resolver { source, .. } | Self::Sysctl { source, .. } | Self::StartNft { source } => {
                Errno::from_io_error(source)
            }
            _ => None,
        }
    }

    pub(crate) fn netlink(step: &'static str, subject: impl ToString) -> impl FnOnce(Errno) -> Self {
        let subject = subject.to_string();
        move |source| Self::Netlink { step, subject, source }
    }

    pub(crate) fn name_taken(name: &str, network: &str, owner: &str) -> Self {
        Self::NameTaken { name: name.to_owned(), network: network.to_owned(), owner: owner.to_owned() }
    }
}
