//! What is written down, and by what lock.
//!
//! ```text
//! <dir>/lock                locked (flock) by whoever changes anything
//! <dir>/warm                locked shared by a daemon that wants bridges and table kept while nobody uses them
//! <dir>/state.json          replaced by rename; everything below is in it before it is made, and until it is gone
//! <dir>/hosts/<network>     bind-mounted into containers: changed in place, its inode stays
//! <dir>/resolv/<network>    the same
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use ipnet::{Ipv4Net, Ipv6Net};
use linux::file::Remembered;
use linux::proc::Procfs;
use linux::step::{Step, during};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::address;
use crate::error::{Error, Result};
use crate::machine::Change;
use crate::request::Publish;
use crate::resolver::Resolver;

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// Derived once; absent before the first network and on a machine without IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ula: Option<Ipv6Net>,
    /// Counts links, so that a new one never has the name of one that is still going.
    #[serde(default)]
    pub(crate) serial: u32,
    #[serde(default)]
    pub(crate) networks: BTreeMap<String, Network>,
    /// By guid.
    #[serde(default)]
    pub(crate) attached: BTreeMap<String, Attached>,
    /// Links of released containers, which go with their namespaces or with [`tidy`](crate::Networks::tidy).
    #[serde(default)]
    pub(crate) leaving: BTreeSet<String>,
    /// Settings of the machine that we changed, as they were.
    #[serde(default)]
    pub(crate) changed: Vec<Change>,
    /// How names are resolved, as it is in our table and files.
    #[serde(default)]
    pub(crate) resolver: Option<Resolver>,
}

/// A network: siblings on one bridge.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Network {
    pub(crate) bridge: String,
    pub(crate) v4: Ipv4Net,
    pub(crate) v6: Option<Ipv6Net>,
    pub(crate) mtu: u32,
    /// Its bridge is made and in our table. When not, either may be there all the same.
    pub(crate) ready: bool,
    /// Which guid has which host number, attached or not.
    pub(crate) leases: BTreeMap<String, u8>,
}

/// A container on a network.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attached {
    pub(crate) network: String,
    /// The machine's end of its veth pair.
    pub(crate) link: String,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Option<Ipv6Addr>,
    /// Its guid and its aliases.
    pub(crate) names: Vec<String>,
    pub(crate) published: Vec<Publish>,
    pub(crate) maker: Maker,
    /// No container runs in it: it was made ahead, or its container has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) idle: bool,
}

/// Who attaches it. While it lives, recovery leaves the attachment alone, whether or not a container runs yet.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Maker {
    pid: i32,
    /// Clock ticks between boot and its start: tells it from a later process of the same number.
    start_time: u64,
}

impl Maker {
    pub(crate) fn this_process() -> Self {
        static MAKER: OnceLock<Maker> = OnceLock::new();
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        *MAKER.get_or_init(|| Self { pid, start_time: start_time(pid).unwrap_or_default() })
    }

    pub(crate) fn lives(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// Field 22 of `/proc/<pid>/stat`, unless it is a zombie.
fn start_time(pid: i32) -> Option<u64> {
    let (time, ended) = Procfs::shared().ok()?.start_time(Pid::from_raw(pid)?)?;
    (!ended).then_some(time)
}

impl Network {
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        address::v4_host(self.v4, address::BRIDGE)
    }

    pub(crate) fn gateway6(&self) -> Option<Ipv6Addr> {
        self.v6.map(|v6| address::v6_host(v6, address::BRIDGE))
    }
}

/// The state directory.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd, Remembered<State>);

const FILE: &str = "state.json";
const NEW: &str = "state.new";

/// The directory of the files that containers see as `/etc/hosts`.
pub(crate) const HOSTS: &str = "hosts";
/// The directory of the files that containers see as `/etc/resolv.conf`.
pub(crate) const RESOLV: &str = "resolv";

impl Dir {
    pub(crate) fn open(dir: OwnedFd) -> Result<Self> {
        let dir = Self(dir, Remembered::default());
        for name in [HOSTS, RESOLV] {
            match rustix::fs::mkdirat(&dir.0, name, Mode::from(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail("make directory", name)(errno)),
            }
        }
        Ok(dir)
    }

    /// Waits for the lock; it is held until what is returned is dropped.
    pub(crate) fn lock(&self) -> Result<Lock<'_>> {
        let file = self.file("lock", OFlags::RDWR | OFlags::CREATE)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(fail("lock", "lock"))?;
        Ok(Lock { dir: self, _file: file })
    }

    /// The state at this moment, without the lock.
    pub(crate) fn read(&self) -> Result<State> {
        let failed = |errno| fail("read", FILE)(errno);
        let understand =
            |text: &[u8]| serde_json::from_slice(text).map_err(|source| Error::Corrupt { source });
        let state = self.1.read(&self.0, FILE, failed, understand)?;
        Ok(state.as_deref().cloned().unwrap_or_default())
    }

    /// Says that bridges and table are to be kept, until what is returned is dropped.
    pub(crate) fn keep_warm(&self) -> Result<OwnedFd> {
        let file = self.file("warm", OFlags::RDWR | OFlags::CREATE)?;
        rustix::fs::flock(&file, FlockOperation::LockShared).map_err(fail("lock", "warm"))?;
        Ok(file)
    }

    /// Whether somebody wants bridges and table kept.
    pub(crate) fn is_kept_warm(&self) -> Result<bool> {
        let file = self.file("warm", OFlags::RDWR | OFlags::CREATE)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(fail("lock", "warm")(errno)),
        }
    }

    /// Opens a file of the directory; a new one is for our eyes only.
    pub(crate) fn file(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        self.file_with_mode(name, flags, 0o600)
    }

    /// Opens a file that containers see, made if need be. Everybody may read it.
    pub(crate) fn shown(&self, directory: &str, network: &str, flags: OFlags) -> Result<OwnedFd> {
        let name = format!("{directory}/{network}");
        let file = self.file_with_mode(&name, flags, 0o644)?;
        if flags.contains(OFlags::CREATE) {
            // Whatever the umask is.
            rustix::fs::fchmod(&file, Mode::from(0o644)).map_err(fail("set mode of", &name))?;
        }
        Ok(file)
    }

    fn file_with_mode(&self, name: &str, flags: OFlags, mode: u32) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.0, name, flags, Mode::from(mode)).map_err(fail("open", name))
    }

    /// Removes a file that containers saw.
    pub(crate) fn remove_shown(&self, directory: &str, network: &str) -> Result<()> {
        let name = format!("{directory}/{network}");
        match rustix::fs::unlinkat(&self.0, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fail("remove", &name)(errno)),
        }
    }
}

/// The right to change the state.
#[derive(Debug)]
pub(crate) struct Lock<'a> {
    dir: &'a Dir,
    _file: OwnedFd,
}

impl Lock<'_> {
    pub(crate) fn read(&self) -> Result<State> {
        self.dir.read()
    }

    /// Replaces the state by rename. Not synced: the state says what is in the kernel, which ends with the machine.
    pub(crate) fn write(&self, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state).map_err(|source| Error::Corrupt { source })?;
        let file = self.dir.file(NEW, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let count = rustix::io::write(&file, rest).map_err(fail("write", NEW))?;
            rest = rest.get(count..).unwrap_or_default();
        }
        self.dir.1.wrote(file, state.clone()).map_err(fail("look at", NEW))?;
        let replaced = || rustix::fs::renameat(&self.dir.0, NEW, &self.dir.0, FILE);
        during(Step::WriteNetworks, replaced).map_err(fail("replace", FILE))
    }
}

pub(crate) fn fail(step: &'static str, file: &str) -> impl FnOnce(Errno) -> Error {
    let file = file.to_owned();
    move |source| Error::File { step, file, source }
}
