//! `linux.cgroupsPath`: where a container's control groups are.
//!
//! An absolute path is beneath the top of each hierarchy. A relative one is too: where this program is itself, is not
//! where containers belong. Without one, `start-container-oci/<id>`.

use std::path::{Path, PathBuf};

use cgroups::oci::{Groups, Hierarchies};
use oci_spec::runtime::Spec;
use protocol::ErrorKind;

use crate::error::{Failure, Result};

/// The path beneath the top of each hierarchy.
pub(super) fn path(spec: &Spec, id: &str, systemd: bool) -> Result<PathBuf> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let asked = asked.filter(|path| !path.as_os_str().is_empty());
    if systemd {
        return Err(Failure::new(
            ErrorKind::Invalid,
            "the systemd cgroup driver is not supported, use the engine's cgroupfs driver",
            "",
        ));
    }
    let path =
        asked.map_or_else(|| format!("start-container-oci/{id}"), |path| path.to_string_lossy().into_owned());
    cgroups::oci::relative(&path)
        .map_err(|error| super::config::invalid("linux.cgroupsPath", &path).because(error))
}

pub(super) fn hierarchies() -> Result<Hierarchies> {
    Hierarchies::probe().map_err(Failure::from)
}

/// The groups of a container that is there.
pub(super) fn open(path: &Path) -> Result<Groups> {
    Ok(Groups::open(&hierarchies()?, path))
}
