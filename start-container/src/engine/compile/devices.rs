//! The devices of a container, and the links to them that programs take for granted.
//!
//! Source: OCI runtime spec, "Devices", "Default Devices" and "Dev symbolic links".

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use linux::spawn::{Mounted, Op, TreeOp};
use oci_spec::runtime::{Linux, LinuxDeviceType};
use rustix::fs::{CWD, makedev};
use rustix::mount::OpenTreeFlags;

use super::{cstring, invalid, relative};
use crate::engine::device;
use crate::error::{Failure, Result};

struct Node {
    path: CString,
    mode: u32,
    device: u64,
    owner: (u32, u32),
    /// What the machine has by that name, and how to say it.
    host: String,
}

/// Steps that make them. `shared`: shown from the machine instead, since a user namespace can make none.
pub(super) fn steps(linux: &Linux, shared: bool) -> Result<Vec<Op>> {
    let mut nodes: Vec<Node> = Vec::new();
    for (name, major, minor) in device::DEVICES {
        nodes.push(Node {
            path: cstring("linux.devices", &format!("dev/{name}"))?,
            mode: 0o020_666,
            device: makedev(major, minor),
            owner: (0, 0),
            host: format!("/dev/{name}"),
        });
    }
    for (index, asked) in linux.devices().iter().flatten().enumerate() {
        let field = |name: &str| format!("linux.devices[{index}].{name}");
        let kind = match asked.typ() {
            LinuxDeviceType::B => 0o060_000,
            LinuxDeviceType::C | LinuxDeviceType::U => 0o020_000,
            LinuxDeviceType::P => 0o010_000,
            LinuxDeviceType::A => return Err(invalid(&field("type"), "a")),
        };
        if !asked.path().is_absolute() {
            return Err(invalid(&field("path"), &asked.path().to_string_lossy()));
        }
        let number = |name: &str, value: i64| {
            u32::try_from(value).map_err(|error| invalid(&field(name), &value.to_string()).because(error))
        };
        let device = match kind {
            0o010_000 => 0,
            _ => makedev(number("major", asked.major())?, number("minor", asked.minor())?),
        };
        let node = Node {
            path: relative(asked.path())?,
            mode: kind | asked.file_mode().unwrap_or(0o666) & 0o7777,
            device,
            owner: (asked.uid().unwrap_or(0), asked.gid().unwrap_or(0)),
            host: asked.path().to_string_lossy().into_owned(),
        };
        nodes.retain(|other| other.path != node.path);
        nodes.push(node);
    }
    let mut ops = Vec::new();
    for Node { path, mode, device, owner, host } in nodes {
        if path.as_bytes() == b"dev/ptmx" {
            // The container's own, by the link below.
            continue;
        }
        if !shared || mode & 0o170_000 == 0o010_000 {
            ops.push(Op::Tree(TreeOp::Device { path, mode, device, owner }));
            continue;
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, Path::new(&host), flags)
            .map_err(|errno| Failure::kernel("open device", &host, errno))?;
        ops.push(Op::Tree(TreeOp::MakeFile(path.clone())));
        ops.push(Op::Tree(TreeOp::Mount {
            source: Mounted::Tree(Arc::new(tree)),
            target: path,
            strict: false,
            propagation: 0,
        }));
    }
    for (to, name) in device::LINKS {
        let path = cstring("linux.devices", &format!("dev/{name}"))?;
        ops.push(Op::Tree(TreeOp::Symlink { path, to: cstring("linux.devices", to)? }));
    }
    Ok(ops)
}
