//! The flags for limits, and `subcontainer update`.

use std::path::PathBuf;

use clap::Args;
use protocol::ErrorKind;
use protocol::limits::{HugePageLimit, IoLimit, Limits};

use super::subcontainer::find;
use super::{Context, output};
use crate::engine::limits;
use crate::error::{Failure, Result};
use crate::subcontainer::Machine;

// What everything in a container may use together. Where a number of bytes or processes is asked for, -1 is no limit.
// No documentation: clap would show it in place of the command's own.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitFlags {
    /// Memory that everything inside may use together: bytes, or with k, m, g; beyond it the kernel kills
    #[arg(short, long, value_name = "BYTES", value_parser = parse_limit, allow_hyphen_values = true)]
    memory: Option<u64>,
    /// Memory that is reclaimed last when the machine runs short
    #[arg(long, value_name = "BYTES", value_parser = parse_limit, allow_hyphen_values = true)]
    memory_reservation: Option<u64>,
    /// Swap space beside the memory [default: as much again]
    #[arg(long, value_name = "BYTES", value_parser = parse_limit, requires = "memory", allow_hyphen_values = true)]
    swap: Option<u64>,
    /// Processors' worth of time: 0.5 is half of one
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// Share of processor time when there is not enough for all, 1 to 10000; others have 100
    #[arg(long, value_name = "NUMBER")]
    cpu_weight: Option<u64>,
    /// Processors that may be used, as 0-3,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used, as 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Processes and threads together
    #[arg(long, value_name = "NUMBER", value_parser = parse_count, allow_hyphen_values = true)]
    pids_limit: Option<u64>,
    /// Share of block devices' time, 10 to 1000
    #[arg(long, value_name = "NUMBER")]
    blkio_weight: Option<u16>,
    /// Bytes read from a block device in a second: /dev/sda:10m
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = parse_bytes_of)]
    device_read_bps: Vec<(String, u64)>,
    /// Bytes written to a block device in a second
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = parse_bytes_of)]
    device_write_bps: Vec<(String, u64)>,
    /// Reads from a block device in a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = parse_count_of)]
    device_read_iops: Vec<(String, u64)>,
    /// Writes to a block device in a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = parse_count_of)]
    device_write_iops: Vec<(String, u64)>,
    /// Huge pages of one size: 2MB:64m
    #[arg(long, value_name = "SIZE:BYTES", value_parser = parse_bytes_of)]
    hugetlb: Vec<(String, u64)>,
    /// A file with limits, in JSON as the SDK has them; flags replace what it says
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
}

/// One of the rates of a device.
type RateOf = fn(&mut IoLimit) -> &mut Option<u64>;

#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    limits: LimitFlags,
    /// The path of a rootfs, or its id
    #[arg(value_name = "ROOTFS|ID")]
    rootfs: String,
}

impl LimitFlags {
    pub(super) fn limits(&self) -> Result<Limits> {
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
        limits.memory_reservation_bytes = self.memory_reservation.or(limits.memory_reservation_bytes);
        limits.swap_bytes = self.swap.or(limits.swap_bytes);
        limits.cpus = self.cpus.or(limits.cpus);
        limits.cpu_weight = self.cpu_weight.or(limits.cpu_weight);
        limits.cpuset_cpus = self.cpuset_cpus.clone().or(limits.cpuset_cpus);
        limits.cpuset_mems = self.cpuset_mems.clone().or(limits.cpuset_mems);
        limits.pids = self.pids_limit.or(limits.pids);
        limits.io_weight = self.blkio_weight.or(limits.io_weight);
        let rates: [(_, RateOf); 4] = [
            (&self.device_read_bps, |limit| &mut limit.read_bps),
            (&self.device_write_bps, |limit| &mut limit.write_bps),
            (&self.device_read_iops, |limit| &mut limit.read_iops),
            (&self.device_write_iops, |limit| &mut limit.write_iops),
        ];
        for (flags, rate) in rates {
            for (device, value) in flags {
                *rate(of_device(&mut limits.io, device)) = Some(*value);
            }
        }
        for (size, bytes) in &self.hugetlb {
            limits.hugetlb.retain(|limit| limit.page_size != *size);
            limits.hugetlb.push(HugePageLimit { page_size: size.clone(), limit_bytes: *bytes });
        }
        Ok(limits)
    }
}

/// The limit for a device, made where there is none.
fn of_device<'l>(all: &'l mut Vec<IoLimit>, device: &str) -> &'l mut IoLimit {
    let at = all.iter().position(|limit| limit.device == device).unwrap_or_else(|| {
        all.push(IoLimit { device: device.to_owned(), ..IoLimit::default() });
        all.len() - 1
    });
    &mut all[at]
}

impl Update {
    pub(super) fn run(&self, context: &Context, machine: &Machine) -> Result<()> {
        let change = self.limits.limits()?;
        let now = machine.update(find(machine, &self.rootfs)?.guid(), &change)?;
        if context.json {
            return output::json(&now);
        }
        let said = limits::describe(&now)?;
        output::line(&if said.is_empty() { "none".to_owned() } else { said.join("\n") });
        Ok(())
    }
}

pub(super) fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
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

fn parse_limit(text: &str) -> std::result::Result<u64, String> {
    if text == "-1" { Ok(Limits::UNLIMITED) } else { parse_bytes(text) }
}

fn parse_count(text: &str) -> std::result::Result<u64, String> {
    match text {
        "-1" => Ok(Limits::UNLIMITED),
        text => text.parse().map_err(|_error| format!("{text:?} is not a number")),
    }
}

/// The name may have a colon in it: `8:0`.
fn parse_of(
    text: &str,
    value: fn(&str) -> std::result::Result<u64, String>,
) -> std::result::Result<(String, u64), String> {
    let (name, number) = text.rsplit_once(':').ok_or("must be NAME:VALUE")?;
    Ok((name.to_owned(), value(number)?))
}

fn parse_bytes_of(text: &str) -> std::result::Result<(String, u64), String> {
    parse_of(text, parse_limit)
}

fn parse_count_of(text: &str) -> std::result::Result<(String, u64), String> {
    parse_of(text, parse_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s23_amounts_are_read_as_docker_has_them() {
        assert_eq!((parse_bytes("5"), parse_bytes("2K"), parse_bytes("3gb")), (Ok(5), Ok(2048), Ok(3 << 30)));
        assert!(
            parse_bytes("5t").is_err() && parse_bytes("m").is_err() && parse_bytes("99999999999g").is_err()
        );
        assert_eq!((parse_limit("-1"), parse_count("-1")), (Ok(Limits::UNLIMITED), Ok(Limits::UNLIMITED)));
        assert!(parse_limit("-2").is_err() && parse_count("1m").is_err());
        assert_eq!(parse_bytes_of("/dev/sda:1m").unwrap(), ("/dev/sda".into(), 1 << 20));
        assert_eq!(parse_count_of("8:0:7").unwrap(), ("8:0".into(), 7));
        assert!(parse_bytes_of("1m").is_err());
    }
}
