//! What each process of a container has of the kernel's limits on single processes: resource limits, file mode mask,
//! and how early it is killed when memory runs out.
//!
//! Nothing of that is inherited from whoever starts it: what nobody asked for is the same under a shell, a service
//! manager and the daemon. Only where our own hard limits or our own score leave no choice, they hold.
//!
//! | | default | why |
//! |---|---|---|
//! | `nofile` | 1024:524288 | systemd's: beyond 1023 a descriptor breaks `select(2)`; programs that need more raise it |
//! | `core` | 0:unlimited | nobody looks for core files in a container, and they fill it |
//! | `stack` | 8 MiB:unlimited | the kernel's |
//! | `memlock` | 8 MiB | the kernel's since 5.16 |
//! | `msgqueue`, `nice`, `rtprio` | 819200, 0, 0 | the kernel's |
//! | `nproc`, `sigpending` | our hard limit | counted for each user, not for each process: `pids` limits a container |
//! | others | unlimited | the kernel's |
//!
//! Why, and what others do: docs/decisions/0014-what-a-process-starts-with.md.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use linux::proc::Procfs;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use protocol::ErrorKind;
use protocol::process::{CommandOptions, Ulimit};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};

/// What was asked for at a launch, for it and for every command beside it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) umask: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ulimits: BTreeMap<String, Ulimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) oom_score_adj: Option<i32>,
}

impl Settings {
    pub(crate) fn of(options: &CommandOptions) -> Self {
        let CommandOptions { umask, ulimits, oom_score_adj, .. } = options.clone();
        Self { umask, ulimits, oom_score_adj }
    }

    /// As a launch asks for them.
    pub(crate) fn options(&self) -> CommandOptions {
        let Self { umask, ulimits, oom_score_adj } = self.clone();
        CommandOptions { umask, ulimits, oom_score_adj, ..CommandOptions::default() }
    }
}

/// What a process starts with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Planned {
    pub(crate) umask: u32,
    /// Those that differ from ours.
    pub(crate) rlimits: Vec<PosixRlimit>,
    /// If it differs from ours.
    pub(crate) oom_score_adj: Option<i32>,
}

/// What this process has itself, and so what it can give.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// By [`RESOURCES`].
    limits: [(u64, u64); RESOURCES.len()],
    oom_score_adj: i32,
    /// `CAP_SYS_RESOURCE`.
    may_raise: bool,
}

/// `setrlimit(2)`'s, by the names that `ulimit` has in Docker.
const RESOURCES: [(&str, Resource, PosixRlimitType); 16] = [
    ("cpu", Resource::Cpu, PosixRlimitType::RlimitCpu),
    ("fsize", Resource::Fsize, PosixRlimitType::RlimitFsize),
    ("data", Resource::Data, PosixRlimitType::RlimitData),
    ("stack", Resource::Stack, PosixRlimitType::RlimitStack),
    ("core", Resource::Core, PosixRlimitType::RlimitCore),
    ("rss", Resource::Rss, PosixRlimitType::RlimitRss),
    ("nproc", Resource::Nproc, PosixRlimitType::RlimitNproc),
    ("nofile", Resource::Nofile, PosixRlimitType::RlimitNofile),
    ("memlock", Resource::Memlock, PosixRlimitType::RlimitMemlock),
    ("as", Resource::As, PosixRlimitType::RlimitAs),
    ("locks", Resource::Locks, PosixRlimitType::RlimitLocks),
    ("sigpending", Resource::Sigpending, PosixRlimitType::RlimitSigpending),
    ("msgqueue", Resource::Msgqueue, PosixRlimitType::RlimitMsgqueue),
    ("nice", Resource::Nice, PosixRlimitType::RlimitNice),
    ("rtprio", Resource::Rtprio, PosixRlimitType::RlimitRtprio),
    ("rttime", Resource::Rttime, PosixRlimitType::RlimitRttime),
];

/// `RLIM_INFINITY`.
const UNLIMITED: u64 = u64::MAX;

/// Soft and hard.
fn default(name: &str, own_hard: u64) -> (u64, u64) {
    const MIB: u64 = 1 << 20;
    match name {
        "nofile" => (1024, 524_288),
        "core" => (0, UNLIMITED),
        "stack" => (8 * MIB, UNLIMITED),
        "memlock" => (8 * MIB, 8 * MIB),
        "msgqueue" => (819_200, 819_200),
        "nice" | "rtprio" => (0, 0),
        "nproc" | "sigpending" => (own_hard, own_hard),
        _ => (UNLIMITED, UNLIMITED),
    }
}

impl Own {
    /// Asks the kernel.
    pub(crate) fn look() -> Result<Self> {
        let fail = |errno| Failure::kernel("read", "/proc/self/oom_score_adj", errno);
        let score = own_score().map_err(fail)?;
        let capabilities = rustix::thread::capabilities(None)
            .map_err(|errno| Failure::kernel("read capabilities of", "this process", errno))?;
        Ok(Self {
            limits: RESOURCES.map(|(_, resource, _)| {
                let Rlimit { current, maximum } = rustix::process::getrlimit(resource);
                (current.unwrap_or(UNLIMITED), maximum.unwrap_or(UNLIMITED))
            }),
            oom_score_adj: score,
            may_raise: capabilities.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE),
        })
    }
}

/// From a file that stays open: a host asks for each command.
fn own_score() -> std::result::Result<i32, Errno> {
    static FILE: OnceLock<OwnedFd> = OnceLock::new();
    let file = match FILE.get() {
        Some(file) => file,
        None => {
            let opened = Procfs::shared()?.open_at("self/oom_score_adj", OFlags::RDONLY)?;
            FILE.get_or_init(|| opened)
        }
    };
    let mut text = [0; 16];
    let count = rustix::io::pread(file, &mut text, 0)?;
    Ok(String::from_utf8_lossy(&text[..count]).trim().parse().unwrap_or(0))
}

/// What was asked for, else what the leader has, else the default.
///
/// `userns`: the process will be in a user namespace, where it can no more raise a hard limit.
///
/// # Errors
/// `Invalid`: a name or value that makes no sense, or that this process cannot give.
pub(crate) fn plan(asked: &CommandOptions, leader: &Settings, own: &Own, userns: bool) -> Result<Planned> {
    let umask = asked.umask.or(leader.umask).unwrap_or(0o022);
    if umask > 0o777 {
        return Err(invalid("read umask", format!("{umask:#o}"), "not from 0 to 0o777"));
    }
    for name in asked.ulimits.keys() {
        if !RESOURCES.iter().any(|(known, ..)| known == name) {
            let names = RESOURCES.map(|(name, ..)| name).join(", ");
            return Err(invalid("read ulimit", name, format!("none of {names}")));
        }
    }
    let mut rlimits = Vec::new();
    for ((name, _, typ), ours) in RESOURCES.into_iter().zip(own.limits) {
        let (soft, hard) = match (asked.ulimits.get(name), leader.ulimits.get(name)) {
            (Some(asked), _) => {
                let (soft, hard) = parse(name, *asked)?;
                if hard > ours.1 {
                    may_raise(name, hard, ours.1, own, userns)?;
                }
                (soft, hard)
            }
            // Refused at the launch by whoever could not; as much as can be given by whoever can less.
            (None, Some(leader)) => capped(parse(name, *leader)?, ours.1),
            (None, None) => capped(default(name, ours.1), ours.1),
        };
        if (soft, hard) != ours {
            let built = PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard).build();
            rlimits.push(
                built.map_err(|error| {
                    Failure::new(ErrorKind::Internal, "build OCI spec", "").because(error)
                })?,
            );
        }
    }
    Ok(Planned { umask, rlimits, oom_score_adj: score(asked, leader, own)? })
}

fn parse(name: &str, Ulimit { soft, hard }: Ulimit) -> Result<(u64, u64)> {
    let text = || match hard {
        Some(hard) => format!("{name}={soft}:{hard}"),
        None => format!("{name}={soft}"),
    };
    let number = |value: i64| match value {
        -1 => Ok(UNLIMITED),
        value => u64::try_from(value).map_err(|_negative| {
            invalid("read ulimit", text(), "neither a number nor -1, which is no limit")
        }),
    };
    let (soft, hard) = (number(soft)?, number(hard.unwrap_or(soft))?);
    if soft > hard {
        return Err(invalid("read ulimit", text(), "the soft limit is above the hard one"));
    }
    Ok((soft, hard))
}

fn capped((soft, hard): (u64, u64), most: u64) -> (u64, u64) {
    (soft.min(most), hard.min(most))
}

/// Whether this process can give a hard limit above its own.
fn may_raise(name: &str, hard: u64, ours: u64, own: &Own, userns: bool) -> Result<()> {
    let subject = if hard == UNLIMITED { format!("{name}=-1") } else { format!("{name}={hard}") };
    let why = if !own.may_raise {
        format!("start-container's own hard limit is {ours}, and it has not CAP_SYS_RESOURCE")
    } else if userns {
        format!("start-container's own hard limit is {ours}, which nothing in a user namespace can exceed")
    } else {
        let Some(most) = (name == "nofile").then(most_descriptors).flatten().filter(|most| hard > *most)
        else {
            return Ok(());
        };
        format!("the machine's fs.nr_open is {most}")
    };
    Err(invalid("set ulimit", subject, why))
}

fn most_descriptors() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok()
}

/// The score to set, if any.
fn score(asked: &CommandOptions, leader: &Settings, own: &Own) -> Result<Option<i32>> {
    let ours = own.oom_score_adj;
    let score = match (asked.oom_score_adj, leader.oom_score_adj) {
        (Some(score), _) => {
            if !(-1000..=1000).contains(&score) {
                return Err(invalid("read oom score adjustment", score, "not from -1000 to 1000"));
            }
            if score < ours && !own.may_raise {
                let why = format!(
                    "start-container's own is {ours}, and without CAP_SYS_RESOURCE it can only be raised"
                );
                return Err(invalid("set oom score adjustment", score, why));
            }
            score
        }
        // A daemon that the kernel is to spare does not pass that on.
        (None, leader) if own.may_raise => leader.unwrap_or(0),
        (None, leader) => leader.unwrap_or(0).max(ours),
    };
    Ok((score != ours).then_some(score))
}

fn invalid(step: &'static str, subject: impl std::fmt::Display, why: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Invalid, step, subject).because(std::io::Error::other(why.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        let mut limits = [(UNLIMITED, UNLIMITED); RESOURCES.len()];
        limits[7] = (65_536, 1_048_576);
        Own { limits, oom_score_adj: 0, may_raise: false }
    }

    fn asked(json: &str) -> CommandOptions {
        serde_json::from_str(json).unwrap()
    }

    fn nofile(planned: &Planned) -> (u64, u64) {
        let of = |limit: &&PosixRlimit| limit.typ() == PosixRlimitType::RlimitNofile;
        planned.rlimits.iter().find(of).map(|limit| (limit.soft(), limit.hard())).unwrap()
    }

    #[test]
    fn s6_what_nobody_asked_for_is_not_inherited() {
        let none = CommandOptions::default();
        let planned = plan(&none, &Settings::default(), &own(), false).unwrap();
        assert_eq!((planned.umask, planned.oom_score_adj, nofile(&planned)), (0o022, None, (1024, 524_288)));
        // A ceiling that cannot be raised holds.
        let mut low = Own { oom_score_adj: 300, ..own() };
        low.limits[7] = (512, 2048);
        let planned = plan(&none, &Settings::default(), &low, false).unwrap();
        assert_eq!((planned.oom_score_adj, nofile(&planned)), (None, (1024, 2048)));
        let spared = Own { oom_score_adj: -900, ..own() };
        assert_eq!(plan(&none, &Settings::default(), &spared, false).unwrap().oom_score_adj, Some(0));
    }

    #[test]
    fn s6_a_command_has_what_its_leader_was_given_unless_it_asks() {
        let launch = asked(r#"{"umask":63,"ulimits":{"nofile":{"soft":64,"hard":128}},"oomScoreAdj":500}"#);
        let leader = Settings::of(&launch);
        let planned = plan(&CommandOptions::default(), &leader, &own(), true).unwrap();
        assert_eq!((planned.umask, planned.oom_score_adj, nofile(&planned)), (63, Some(500), (64, 128)));
        let exec = asked(r#"{"umask":0,"ulimits":{"nofile":{"soft":7}},"oomScoreAdj":600}"#);
        let planned = plan(&exec, &leader, &own(), true).unwrap();
        assert_eq!((planned.umask, planned.oom_score_adj, nofile(&planned)), (0, Some(600), (7, 7)));
    }

    #[test]
    fn s6_what_cannot_be_given_is_refused() {
        for (json, words) in [
            (r#"{"umask":512}"#, "read umask 0o1000: not from 0 to 0o777"),
            (r#"{"ulimits":{"files":{"soft":1}}}"#, "read ulimit files: none of cpu, fsize"),
            (r#"{"ulimits":{"nofile":{"soft":2,"hard":1}}}"#, "nofile=2:1: the soft limit is above"),
            (r#"{"ulimits":{"nofile":{"soft":-2}}}"#, "nofile=-2: neither a number nor -1"),
            (
                r#"{"ulimits":{"nofile":{"soft":1,"hard":-1}}}"#,
                "nofile=-1: start-container's own hard limit is 1048576",
            ),
            (r#"{"oomScoreAdj":-1}"#, "set oom score adjustment -1: start-container's own is 0"),
            (r#"{"oomScoreAdj":2000}"#, "not from -1000 to 1000"),
        ] {
            let failure = plan(&asked(json), &Settings::default(), &own(), false).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::Invalid);
            assert!(failure.sentence().contains(words), "{words}: {}", failure.sentence());
        }
        let mighty = Own { may_raise: true, ..own() };
        let more = asked(r#"{"ulimits":{"nproc":{"soft":-1}},"oomScoreAdj":-500}"#);
        assert_eq!(plan(&more, &Settings::default(), &mighty, false).unwrap().oom_score_adj, Some(-500));
    }
}
