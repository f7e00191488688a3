//! `linux.cgroupsPath`: where a container's control groups are.
//!
//! An absolute path is beneath the top of each hierarchy. A relative one is too: where this program is itself, is not
//! where containers belong. Without one, `start-container-oci/<id>`. With systemd, it is `slice:prefix:name`, and systemd
//! makes the group.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cgroups::oci::{Groups, Hierarchies};
use cgroups::systemd::{self, Scope, Visit};
use linux::step::{Step, during};
use oci_spec::runtime::{LinuxResources, Spec};
use protocol::ErrorKind;

use super::args::Manager;
use super::record::Record;
use crate::error::{Failure, Result};

/// The path beneath the top of each hierarchy.
pub(super) fn path(spec: &Spec, id: &str, manager: Manager) -> Result<PathBuf> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let asked = asked.filter(|path| !path.as_os_str().is_empty());
    if manager == Manager::Systemd {
        if !systemd::is_there() {
            let why = "systemd does not manage this machine, use the engine's cgroupfs driver";
            return Err(Failure::new(ErrorKind::Invalid, why, ""));
        }
        let path = asked.map(|path| path.to_string_lossy());
        let scope = Scope::read(path.as_deref(), id).map_err(|error| {
            super::config::invalid("linux.cgroupsPath", path.as_deref().unwrap_or_default()).because(error)
        })?;
        annotated(spec)?;
        return Ok(scope.group());
    }
    let path =
        asked.map_or_else(|| format!("start-container-oci/{id}"), |path| path.to_string_lossy().into_owned());
    cgroups::oci::relative(&path)
        .map_err(|error| super::config::invalid("linux.cgroupsPath", &path).because(error))
}

/// Properties of the scope that annotations ask for.
fn annotated(spec: &Spec) -> Result<Vec<(String, systemd::Value)>> {
    let all = spec.annotations().iter().flatten();
    all.filter_map(|(name, value)| systemd::property(name, value))
        .map(|property| property.map_err(|error| super::config::invalid("annotations", "").because(error)))
        .collect()
}

/// The hierarchies in which a container has groups; looked for once.
pub(super) fn hierarchies(manager: Manager) -> Result<&'static Hierarchies> {
    static NONE: Hierarchies = Hierarchies::none();
    static ALL: OnceLock<Hierarchies> = OnceLock::new();
    match (manager, ALL.get()) {
        (Manager::Disabled, _) => Ok(&NONE),
        (Manager::Cgroupfs | Manager::Systemd, Some(all)) => Ok(all),
        (Manager::Cgroupfs | Manager::Systemd, None) => {
            let all = Hierarchies::probe().map_err(Failure::from)?;
            Ok(ALL.get_or_init(|| all))
        }
    }
}

/// Directories that are a container's to make, and to remove. Of those that systemd makes, none is.
///
/// # Errors
/// Groups that somebody is in.
pub(super) fn would_make(hierarchies: &Hierarchies, manager: Manager, path: &Path) -> Result<Vec<PathBuf>> {
    let mut all = hierarchies.would_make(path);
    hierarchies.check_empty(path, &all).map_err(Failure::from)?;
    if manager == Manager::Systemd {
        all.retain(|dir| !hierarchies.is_systemds(dir));
    }
    Ok(all)
}

/// Has systemd make a container's scope, with us in it until [`Visit::end`].
pub(super) fn visit(record: &Record, resources: &LinuxResources) -> Result<Option<Visit>> {
    if record.manager != Manager::Systemd {
        return Ok(None);
    }
    let name = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let slice = record.cgroup.parent().and_then(Path::file_name);
    let scope = Scope {
        slice: slice.map_or_else(|| "-.slice".to_owned(), |slice| name(Some(slice))),
        unit: name(record.cgroup.file_name()),
    };
    let mut properties = limits(record.manager, resources)?;
    properties.extend(annotated(&record.spec)?);
    systemd::start(&scope, properties).map(Some).map_err(Failure::from)
}

/// Tells systemd of other limits, where the scope is its.
pub(super) fn tell(record: &Record, resources: &LinuxResources) -> Result<()> {
    if record.manager != Manager::Systemd {
        return Ok(());
    }
    let unit = record.cgroup.file_name().unwrap_or_default().to_string_lossy();
    systemd::update(&unit, &limits(record.manager, resources)?).map_err(Failure::from)
}

/// Has systemd forget the scope.
pub(super) fn forget(record: &Record) {
    if record.manager == Manager::Systemd {
        systemd::stop(&record.cgroup.file_name().unwrap_or_default().to_string_lossy());
    }
}

fn limits(manager: Manager, resources: &LinuxResources) -> Result<Vec<(String, systemd::Value)>> {
    Ok(systemd::properties(resources, hierarchies(manager)?.is_v2()))
}

/// Makes the groups of a container that is written down, with its limits.
///
/// # Errors
/// Groups that somebody has stopped: nothing goes on in them, not even to be killed.
pub(super) fn make(record: &Record, hierarchies: &Hierarchies, resources: &LinuxResources) -> Result<Groups> {
    let own = during(Step::MakeBundleGroups, || Groups::create(hierarchies, &record.cgroup));
    let own = own.map_err(Failure::from)?;
    if !hierarchies.all_new(&record.cgroup, &record.made) && own.is_frozen() {
        let path = record.cgroup.display();
        return Err(Failure::new(ErrorKind::Busy, "container's cgroup unexpectedly frozen:", path));
    }
    during(Step::LimitBundle, || own.apply(resources, false)).map_err(Failure::from)?;
    Ok(own)
}

/// The groups of a container that is there.
pub(super) fn open(record: &Record) -> Result<Groups> {
    Ok(Groups::open(hierarchies(record.manager)?, &record.cgroup))
}
