//! The devices of a container, and the links to them that programs take for granted.
//!
//! Source: OCI runtime spec, "Devices", "Default Devices" and "Dev symbolic links".

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use linux::mount::{MountAttr, mount_setattr};
use linux::spawn::{Mounted, Op, TreeOp};
use oci_spec::runtime::{Linux, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, Spec};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags as Attr, OpenTreeFlags};

use super::options::extents;
use super::{cstring, invalid, outside, relative};
use crate::engine::device;
use crate::error::{Failure, Result};

struct Node {
    path: CString,
    mode: u32,
    device: u64,
    owner: (u32, u32),
    /// What the machine has by that name, and how to say it.
    host: String,
    /// Named by the Spec, with its owner and mode.
    asked: bool,
}

/// Steps that make them. `nodes_in`: the directory where nodes are made that a user namespace is shown, since it can make none.
pub(super) fn steps(linux: &Linux, nodes_in: Option<BorrowedFd<'_>>) -> Result<Vec<Op>> {
    let mut nodes: Vec<Node> = Vec::new();
    for (name, major, minor) in device::DEVICES {
        nodes.push(Node {
            path: cstring("linux.devices", &format!("dev/{name}"))?,
            mode: 0o020_666,
            device: makedev(major, minor),
            owner: (0, 0),
            host: format!("/dev/{name}"),
            asked: false,
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
            asked: true,
        };
        nodes.retain(|other| other.path != node.path);
        nodes.push(node);
    }
    let mut ops = Vec::new();
    for node in nodes {
        let Node { path, mode, device, owner, .. } = &node;
        let (path, mode, device, owner) = (path.clone(), *mode, *device, *owner);
        if path.as_bytes() == b"dev/ptmx" {
            // The container's own, by the link below.
            continue;
        }
        let Some(nodes_in) = nodes_in.filter(|_| mode & 0o170_000 != 0o010_000) else {
            ops.push(Op::Tree(TreeOp::Device { path, mode, device, owner }));
            continue;
        };
        let tree = shown(&node, linux, nodes_in)
            .map_err(|errno| Failure::kernel("show device", &node.host, errno))?;
        ops.push(Op::Tree(TreeOp::MakeFile(path.clone())));
        ops.push(Op::Tree(TreeOp::Mount {
            source: Mounted::Tree(Arc::new(tree)),
            target: path,
            strict: false,
            in_order: false,
            propagation: 0,
        }));
    }
    for (to, name) in device::LINKS {
        let path = cstring("linux.devices", &format!("dev/{name}"))?;
        ops.push(Op::Tree(TreeOp::Symlink { path, to: cstring("linux.devices", to)? }));
    }
    Ok(ops)
}

/// Devices that are not the container's own, but shown to it: those of a user namespace, which can make none.
pub(crate) fn shown_paths(spec: &Spec) -> Vec<String> {
    let none = Linux::default();
    let linux = spec.linux().as_ref().unwrap_or(&none);
    if !linux.namespaces().iter().flatten().any(|one| one.typ() == LinuxNamespaceType::User) {
        return Vec::new();
    }
    let asked = linux.devices().iter().flatten().filter(|one| one.typ() != LinuxDeviceType::P);
    let asked = asked.map(|one| one.path().to_string_lossy().into_owned());
    let mut all: Vec<String> =
        device::DEVICES.iter().map(|(name, ..)| format!("/dev/{name}")).chain(asked).collect();
    all.sort();
    all.dedup();
    all
}

/// How the names of nodes in a container's directory begin.
pub(crate) const NODE: &str = "device-";

/// A mount of one device. One that the Spec names has the owner and the mode that it says, so it is made, and stays until
/// the container's directory goes; whoever may make none shows the machine's.
fn shown(node: &Node, linux: &Linux, dir: BorrowedFd<'_>) -> std::result::Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let machines = || rustix::mount::open_tree(CWD, node.host.as_str(), flags);
    let tree = if node.asked { made(node, linux, dir, flags).or_else(|_| machines())? } else { machines()? };
    // A device is no program; and what it is made on may allow none.
    let set = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC;
    let attr = MountAttr { set, clear: Attr::MOUNT_ATTR_NODEV, ..MountAttr::default() };
    mount_setattr(&tree, false, &attr)?;
    Ok(tree)
}

fn made(
    node: &Node,
    linux: &Linux,
    dir: BorrowedFd<'_>,
    flags: OpenTreeFlags,
) -> std::result::Result<OwnedFd, Errno> {
    let name = format!("{NODE}{}", node.path.to_string_lossy().replace('/', "-"));
    let mode = Mode::from_raw_mode(node.mode);
    rustix::fs::mknodat(dir, &name, FileType::from_raw_mode(node.mode), mode, node.device)?;
    let of = |map: Option<&[LinuxIdMapping]>, id: u32| outside(&extents(map), id);
    let uid = Uid::from_raw(of(linux.uid_mappings().as_deref(), node.owner.0));
    let gid = Gid::from_raw(of(linux.gid_mappings().as_deref(), node.owner.1));
    rustix::fs::chownat(dir, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(dir, &name, mode, AtFlags::empty())?;
    rustix::mount::open_tree(dir, &name, flags)
}
