//! Where functions run: what is in their subcontainer.
//!
//! ```text
//! /bin/start-container, /lib…          our own program (crate::runtime::own), and what it needs; nothing else
//! /media/startos/entries               the entries of the bundle, read-only
//! /media/startos/rpc/host.sock         the package's door
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use packages::Manifest;
use packages::manifest::entry::Entry;
use protocol::worker::ModuleKind;

use super::super::program::Bundle;
use super::super::state::Host;
use super::super::worker::place::{ENTRIES, limits};
use super::super::worker::{Module, Plan};
use crate::error::Result;
use crate::runtime::own;

/// For each entry: to be compiled and looked at, which has a limit of its own there.
const DEADLINE: Duration = Duration::from_secs(15);
/// Between being asked to end and being killed. A call under way is not waited for.
const GRACE: Duration = Duration::from_secs(2);

/// The entries that are run here.
pub(in super::super) fn modules(manifest: &Manifest) -> impl Iterator<Item = Module> {
    manifest.entries.iter().filter_map(|(name, entry)| {
        let (file, kind) = match entry {
            Entry::UrlFunction(function) => (&function.function, ModuleKind::Function),
            Entry::ScheduledFunction(function) => (&function.function, ModuleKind::Function),
            Entry::Template(template) => (&template.file, ModuleKind::Template),
            _ => return None,
        };
        Some(Module { name: name.clone(), script: file.to_string(), kind })
    })
}

/// Makes the subcontainer of a package's functions, if it has some. It ends with the package's sandbox at the latest.
pub(in super::super) fn make(host: &Arc<Host>, bundle: &Bundle) -> Result<Option<Plan>> {
    let manifest = &bundle.manifest;
    let modules: Vec<Module> = modules(manifest).collect();
    if modules.is_empty() {
        return Ok(None);
    }
    let image = own::image(host.machine.store()?)?;
    let guid = bundle.make_fs(host, &image, "functions")?;
    bundle.mount_part(host, &guid, "entries", ENTRIES)?;
    Ok(Some(Plan {
        package: manifest.id.clone(),
        guid,
        called: "function runner",
        modules,
        command: vec![own::PROGRAM.to_owned(), own::COMMAND.to_owned()],
        env: BTreeMap::new(),
        deadline: DEADLINE,
        grace: GRACE,
        memory: limits(manifest).memory_bytes.unwrap_or_default(),
        restored: false,
    }))
}
