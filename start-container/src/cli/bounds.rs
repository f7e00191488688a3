//! Flags that `subcontainer launch` and `sandbox create` share: limits and networks.

use std::path::PathBuf;

use clap::Args;
use protocol::ErrorKind;
use protocol::limits::Limits;
use protocol::network::Network;

use crate::error::{Failure, Result};

#[derive(Debug, Args)]
pub(super) struct Limiting {
    /// Memory that everything inside may use together: bytes, or with k, m, g; beyond it the kernel kills
    #[arg(short, long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Swap space beside that [default: as much again]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, requires = "memory")]
    swap: Option<u64>,
    /// Processors' worth of time: 0.5 is half of one
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// Processors that may be used, as 0-3,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Processes and threads together
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<u64>,
    /// A file with more limits, in JSON as the SDK has them; flags replace what it says
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Networking {
    /// Its network: "host" (the machine's), "none", "private", or "private:NAME" for one that others are on, too
    /// [default: host; in a sandbox, that one's; of a sandbox, none]
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// A name by which others on its private network resolve it
    #[arg(long, value_name = "NAME")]
    network_alias: Vec<String>,
    /// A port of the machine that leads to one of its own, in a private network; 0 for any free one
    #[arg(short, long, value_name = "[ADDRESS:]PORT:PORT[/udp]")]
    publish: Vec<String>,
}

impl Limiting {
    pub(super) fn read(&self) -> Result<Limits> {
        let mut limits = match &self.limits {
            None => Limits::default(),
            Some(file) => {
                let fail = |kind, error: std::io::Error| {
                    Failure::new(kind, "read limits", file.display()).because(error)
                };
                let text = std::fs::read(file).map_err(|error| fail(ErrorKind::NotFound, error))?;
                serde_json::from_slice(&text).map_err(|error| fail(ErrorKind::Invalid, error.into()))?
            }
        };
        limits.memory_bytes = self.memory.or(limits.memory_bytes);
        limits.swap_bytes = self.swap.or(limits.swap_bytes);
        limits.cpus = self.cpus.or(limits.cpus);
        limits.cpuset_cpus = self.cpuset_cpus.clone().or(limits.cpuset_cpus);
        limits.pids = self.pids_limit.or(limits.pids);
        Ok(limits)
    }
}

impl Networking {
    /// None: nothing was said.
    pub(super) fn read(&self) -> Result<Option<Network>> {
        let (aliases, publish) = (self.network_alias.clone(), self.publish.clone());
        let refused = |text: &str, why: &'static str| {
            Err(Failure::new(ErrorKind::Invalid, "read network", text).because(std::io::Error::other(why)))
        };
        let Some(text) = self.network.as_deref() else {
            return match publish.is_empty() && aliases.is_empty() {
                true => Ok(None),
                false => refused("(none given)", "ports and names need a private one"),
            };
        };
        let network = match text.split_once(':') {
            None if text == "private" => Network::Private { name: None, aliases, publish },
            Some(("private", name)) => Network::Private { name: Some(name.to_owned()), aliases, publish },
            None if text == "host" => Network::Host,
            None if text == "none" => Network::None,
            _ => return refused(text, "none of host, none, private, private:NAME"),
        };
        let private = matches!(network, Network::Private { .. });
        if !(private || self.publish.is_empty() && self.network_alias.is_empty()) {
            return refused(text, "ports and names need a private one");
        }
        Ok(Some(network))
    }
}

fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        unit => return Err(format!("{unit:?} is none of k, m, g")),
    };
    let number: u64 = number.parse().map_err(|_error| format!("{number:?} is not a number"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "is too much".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s23_bytes_have_units() {
        assert_eq!((parse_bytes("5"), parse_bytes("2K"), parse_bytes("3gb")), (Ok(5), Ok(2048), Ok(3 << 30)));
        for refused in ["5t", "m", "99999999999g"] {
            assert!(parse_bytes(refused).is_err(), "{refused}");
        }
    }
}
