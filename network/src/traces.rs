//! What a network namespace shows of its use, by the kernel's own counters.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::state;

/// How many sockets there were before anybody came: the kernel has some of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Traces {
    sockets: u64,
}

impl Traces {
    /// Those of this thread's namespace.
    pub(crate) fn now() -> Result<Self> {
        let sockets = number(&read("sockstat")?, "sockets:", "used");
        sockets.map(|sockets| Self { sockets }).ok_or_else(|| unreadable("sockstat"))
    }

    /// Whether a namespace shows these still and nothing else: no socket is left in it, and nothing went in or out.
    /// The kernel takes closed sockets apart a little later, and is given a few milliseconds for that.
    pub(crate) fn are_those_of(self, netns: BorrowedFd<'_>) -> Result<bool> {
        let look = || {
            for _ in 0..LOOKS {
                if Self::now()? == self {
                    // After that nobody is there who could send.
                    return Ok(is_silent(&read("sockstat")?, &read("snmp")?, read6()?.as_deref()));
                }
                std::thread::sleep(BETWEEN_LOOKS);
            }
            Ok(false)
        };
        linux::netns::visit(netns, look)
            .map_err(|source| Error::Namespace { step: "enter", source })
            .flatten()
    }
}

const LOOKS: u32 = 12;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

fn is_silent(sockets: &str, snmp: &str, snmp6: Option<&str>) -> bool {
    number(sockets, "TCP:", "tw") == Some(0)
        && of_table(snmp, "Ip:", "InReceives") == Some(0)
        && of_table(snmp, "Ip:", "OutRequests") == Some(0)
        && snmp6.is_none_or(only_announced)
}

/// Whether of IPv6 nothing was sent but what the kernel says of itself, which is all ICMP.
fn only_announced(snmp6: &str) -> bool {
    let number = |name: &str| number(snmp6, name, name);
    number("Ip6OutRequests").is_some_and(|sent| number("Icmp6OutMsgs") == Some(sent))
        && number("Icmp6OutEchos") == Some(0)
        && number("Udp6InDatagrams") == Some(0)
        && number("Icmp6InEchos") == Some(0)
}

fn read(name: &str) -> Result<String> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let bytes = rustix::fs::open(format!("/proc/thread-self/net/{name}"), flags, rustix::fs::Mode::empty())
        .and_then(linux::file::read)
        .map_err(state::fail("read", &format!("net/{name}")))?;
    String::from_utf8(bytes).map_err(|_not_text| unreadable(name))
}

/// None on a machine without IPv6.
fn read6() -> Result<Option<String>> {
    match read("snmp6") {
        Err(Error::File { source: rustix::io::Errno::NOENT, .. }) => Ok(None),
        other => other.map(Some),
    }
}

fn unreadable(name: &str) -> Error {
    state::fail("read", &format!("net/{name}"))(rustix::io::Errno::INVAL)
}

/// The number after a word, in the line that begins with another: `TCP: inuse 0 orphan 0 tw 0`.
fn number(text: &str, line: &str, word: &str) -> Option<u64> {
    let mut words = text
        .lines()
        .find(|text| text.split_ascii_whitespace().next() == Some(line))?
        .split_ascii_whitespace();
    words.find(|found| *found == word)?;
    words.next()?.parse().ok()
}

/// The same where names are in one line and numbers in the next.
fn of_table(text: &str, line: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|text| text.split_ascii_whitespace().next() == Some(line));
    let place = lines.next()?.split_ascii_whitespace().position(|found| found == name)?;
    lines.next()?.split_ascii_whitespace().nth(place)?.parse().ok()
}
