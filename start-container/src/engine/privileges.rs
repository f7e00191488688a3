//! What a container is allowed beyond its own files: capabilities, system calls, parts of the host.
//!
//! Decided once, at launch, before anything is made; written down with the leader, so that every command that runs in
//! the container later is under the same rules. Each relaxation was asked for by name.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use oci_spec::runtime::Capability;
use protocol::ErrorKind;
use protocol::limits::Limits;
use protocol::network::Network;
use protocol::process::{self as wire, SeccompProfile};
use seccomp::Program;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::settings::Settings;
use crate::error::{Failure, Result};

/// What Docker, podman and containerd leave to root inside, but two. `CAP_MKNOD` would open every block device of the
/// machine while nothing (a device cgroup, a user namespace) stands between a node and its device; `CAP_NET_RAW` would
/// read the machine's traffic while the network is the machine's.
pub(crate) const CAPABILITIES: [Capability; 12] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// What a container is allowed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Privileges {
    /// What root inside may ever have: the bounding set.
    pub(crate) capabilities: HashSet<Capability>,
    pub(crate) filter: Filter,
    /// The host's `/dev` and `/sys`, recursively.
    pub(crate) shared_dev_sys: bool,
    /// The host's `/run`, recursively.
    pub(crate) shared_run: bool,
}

/// Which system calls pass.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Filter {
    Default(Compiled),
    Socketcall(Compiled),
    Own(Compiled),
    Unconfined,
}

/// A filter as the kernel takes it. A record holds it, so that it is compiled once for a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compiled(pub(crate) Program);

impl Serialize for Compiled {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(self.0.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Compiled {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error;
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(Error::custom)?;
        Program::from_bytes(&bytes).map(Self).ok_or_else(|| Error::custom("not a compiled seccomp filter"))
    }
}

impl Privileges {
    /// Whether its bounding set is no larger than the default one.
    pub(crate) fn are_bounded_by_default(&self) -> bool {
        self.capabilities.iter().all(|capability| CAPABILITIES.contains(capability))
    }

    /// Whether nothing was asked for beyond the default.
    pub(crate) fn are_least(&self) -> bool {
        self.are_bounded_by_default()
            && matches!(self.filter, Filter::Default(_))
            && !self.shared_dev_sys
            && !self.shared_run
    }

    /// What was asked for.
    ///
    /// # Errors
    /// `Invalid`: a capability or system call of which nobody has heard, a filter that makes no sense.
    pub(crate) fn plan(asked: &wire::Privileges, shared_dev_sys: bool, shared_run: bool) -> Result<Self> {
        let mut capabilities: HashSet<Capability> = CAPABILITIES.into_iter().collect();
        for dropped in named("drop capability", &asked.cap_drop)? {
            capabilities.remove(&dropped);
        }
        capabilities.extend(named("add capability", &asked.cap_add)?);
        let fail = |error: seccomp::Error| {
            Failure::new(ErrorKind::Invalid, "read seccomp filter", "").because(error)
        };
        let filter = match &asked.seccomp {
            wire::Seccomp::Profile(SeccompProfile::Default) => {
                let whom = seccomp::For { capabilities: capabilities.clone(), socketcall: false };
                Filter::Default(Compiled(seccomp::default_program(&whom).map_err(fail)?))
            }
            wire::Seccomp::Profile(SeccompProfile::Socketcall) => {
                let whom = seccomp::For { capabilities: capabilities.clone(), socketcall: true };
                Filter::Socketcall(Compiled(seccomp::default_program(&whom).map_err(fail)?))
            }
            wire::Seccomp::Profile(SeccompProfile::Unconfined) => Filter::Unconfined,
            wire::Seccomp::Profile(SeccompProfile::Own) => {
                return Err(Failure::new(ErrorKind::Invalid, "read seccomp filter", "own")
                    .because(std::io::Error::other("the filter itself belongs here")));
            }
            wire::Seccomp::Filter(filter) => {
                let json = serde_json::to_vec(filter).unwrap_or_default();
                let filter = seccomp::from_json(&json).map_err(fail)?;
                Filter::Own(Compiled(seccomp::compile(&filter).map_err(fail)?))
            }
        };
        Ok(Self { capabilities, filter, shared_dev_sys, shared_run })
    }

    /// The filter to install, if there is one.
    pub(crate) fn program(&self) -> Option<&Program> {
        match &self.filter {
            Filter::Default(Compiled(program))
            | Filter::Socketcall(Compiled(program))
            | Filter::Own(Compiled(program)) => Some(program),
            Filter::Unconfined => None,
        }
    }

    /// As the wire has it.
    pub(crate) fn allowed(&self, limits: Limits, network: Network, settings: Settings) -> wire::Allowed {
        let mut capabilities: Vec<String> =
            self.capabilities.iter().map(|capability| format!("CAP_{capability}")).collect();
        capabilities.sort();
        wire::Allowed {
            capabilities,
            seccomp: match self.filter {
                Filter::Default(_) => SeccompProfile::Default,
                Filter::Socketcall(_) => SeccompProfile::Socketcall,
                Filter::Own(_) => SeccompProfile::Own,
                Filter::Unconfined => SeccompProfile::Unconfined,
            },
            shared_dev_sys: self.shared_dev_sys,
            shared_run: self.shared_run,
            limits,
            network,
            umask: settings.umask,
            ulimits: settings.ulimits,
            oom_score_adj: settings.oom_score_adj,
        }
    }
}

/// Capabilities by name, `ALL` for all of them.
fn named(step: &'static str, names: &[String]) -> Result<Vec<Capability>> {
    let unknown = |name: &str| {
        Failure::new(ErrorKind::Invalid, step, name)
            .because(std::io::Error::other("there is no such capability"))
    };
    let mut capabilities = Vec::new();
    for name in names {
        if name.eq_ignore_ascii_case("ALL") {
            capabilities.extend(linux::caps::Capability::all().filter_map(oci));
            continue;
        }
        let capability: linux::caps::Capability = name.parse().map_err(|_error| unknown(name))?;
        capabilities.push(oci(capability).ok_or_else(|| unknown(name))?);
    }
    Ok(capabilities)
}

fn oci(capability: linux::caps::Capability) -> Option<Capability> {
    capability.name().strip_prefix("CAP_")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(add: &[&str], drop: &[&str]) -> Result<Privileges> {
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let asked = wire::Privileges { cap_add: text(add), cap_drop: text(drop), ..Default::default() };
        Privileges::plan(&asked, false, false)
    }

    #[test]
    fn s6_capabilities_are_the_default_less_and_more_what_was_named() {
        assert_eq!(asked(&[], &[]).unwrap().capabilities.len(), CAPABILITIES.len());
        let privileges = asked(&["cap_net_admin", "SYS_TIME"], &["ALL"]).unwrap();
        assert_eq!(
            privileges.allowed(Limits::default(), Network::Host, Settings::default()).capabilities,
            ["CAP_NET_ADMIN", "CAP_SYS_TIME"]
        );
        assert_eq!(asked(&["ALL"], &[]).unwrap().capabilities.len(), 41);
        let unknown = asked(&["NET_AMDIN"], &[]).unwrap_err();
        assert_eq!(
            (unknown.kind, unknown.to_string().as_str()),
            (ErrorKind::Invalid, "add capability NET_AMDIN")
        );
    }

    #[test]
    fn s6_what_is_written_down_is_the_same_filter() {
        let privileges = asked(&[], &[]).unwrap();
        let text = serde_json::to_string(&privileges).unwrap();
        assert_eq!(serde_json::from_str::<Privileges>(&text).unwrap(), privileges);
        assert!(serde_json::from_str::<Privileges>(&text.replace("default", "defualt")).is_err());
        let cut = text.replacen("AAA", "AA", 1);
        assert!(serde_json::from_str::<Privileges>(&cut).is_err(), "a damaged filter is not taken for none");
    }

    #[test]
    fn s6_a_filter_that_makes_no_sense_is_refused_when_it_is_read() {
        let json = r#"{"seccomp": {"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["swapoff", "no_such_call"], "action": "SCMP_ACT_ERRNO"}]}}"#;
        let asked: wire::Privileges = serde_json::from_str(json).unwrap();
        let failure = Privileges::plan(&asked, false, false).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Invalid);
        assert!(failure.sentence().contains("no_such_call"), "{}", failure.sentence());
    }
}
