//! Where a worker runs: what its process is told, and what it finds in its subcontainer.
//!
//! ```text
//! /bin/deno, /lib…                     the runtime's image (crate::runtime)
//! /worker.js                           what waits for modules: sdk/src/worker/bootstrap.js, of this program
//! /media/startos/entries               the entries of the bundle, read-only
//! /media/startos/assets                its assets, read-only
//! /media/startos/rpc/host.sock         the package's door
//! ```
//! The sandbox is the first wall, Deno's permissions are the second: they know of the entries and of that one socket.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use packages::Manifest;
use packages::manifest::entry::{Entry, Worker};
use packages::manifest::{Name, PackageId};
use protocol::ErrorKind;
use protocol::file::WriteParams;
use protocol::image::ImageInfo;
use protocol::limits::Limits;
use protocol::worker::ModuleKind;

use super::super::program::{ASSETS, Bundle, directory};
use super::super::state::Host;
use super::super::{files, light};
use super::{Module, Plan};
use crate::error::{Failure, Result};
use crate::runtime;

/// Nobody in particular: nothing in the rootfs is theirs.
pub(in super::super) const USER: &str = "1000:1000";
/// The program that waits for modules.
const BOOTSTRAP: &str = "/worker.js";
const BOOTSTRAP_TEXT: &str = include_str!("../../../../sdk/src/worker/bootstrap.js");
pub(in super::super) const ENTRIES: &str = "/media/startos/entries";
const SOCKET: &str = "/media/startos/rpc/host.sock";

/// The memory of a package with workers or functions that says nothing about it, in bytes. What a script keeps in array buffers is not
/// in its heap: without a limit of the sandbox, it would be the machine's.
const MEMORY: u64 = 1 << 30;

/// Between being asked to end and being killed, where the manifest says nothing.
const GRACE: Duration = Duration::from_secs(10);
/// For a call of a module's own, where the manifest says nothing.
const DEADLINE: Duration = Duration::from_secs(30);

/// The worker entries, by name.
fn workers(manifest: &Manifest) -> impl Iterator<Item = (&Name, &Worker)> {
    manifest.entries.iter().filter_map(|(name, entry)| match entry {
        Entry::Worker(worker) => Some((name, worker)),
        _ => None,
    })
}

/// The limits of a package: with code that the host runs for it, its memory is limited.
pub(in super::super) fn limits(manifest: &Manifest) -> Limits {
    let mut limits = manifest.limits.clone();
    if workers(manifest).next().is_some() || light::modules(manifest).next().is_some() {
        limits.memory_bytes.get_or_insert(MEMORY);
    }
    limits
}

/// The image of what runs workers.
pub(in super::super) fn runtime(host: &Host) -> Result<ImageInfo> {
    runtime::find(host.machine.store()?)?.ok_or_else(|| {
        Failure::new(ErrorKind::NotFound, "find what runs workers", runtime::IMAGE)
            .because(std::io::Error::other(format!("it was not added: {}", runtime::HINT)))
    })
}

/// Makes the subcontainer of a package's worker, if it has one. It ends with the package's sandbox at the latest.
pub(in super::super) fn make(host: &Arc<Host>, bundle: &Bundle) -> Result<Option<Plan>> {
    let id = &bundle.manifest.id;
    let workers: Vec<(&Name, &Worker)> = workers(&bundle.manifest).collect();
    if workers.is_empty() {
        return Ok(None);
    }
    let image = runtime(host)?;
    let guid = bundle.make_fs(host, &image, "worker")?;
    bundle.mount_part(host, &guid, "entries", ENTRIES)?;
    bundle.mount_part(host, &guid, "assets", ASSETS)?;
    let write = WriteParams {
        guid: guid.clone(),
        path: BOOTSTRAP.to_owned(),
        data: BOOTSTRAP_TEXT.as_bytes().to_vec().into(),
        append: false,
        mode: Some(0o644),
        exclusive: true,
    };
    files::write(&host.machine, write)?;
    let modules = workers.iter().map(|(name, worker)| {
        let script = worker.script.as_str().trim_start_matches("entries/");
        Module { name: (*name).clone(), script: format!("{ENTRIES}/{script}"), kind: ModuleKind::Worker }
    });
    let longest = |seconds: &dyn Fn(&Worker) -> Option<u16>, default: Duration| {
        let asked = workers.iter().filter_map(|(_, worker)| seconds(worker)).max();
        asked.map_or(default, |seconds| Duration::from_secs(seconds.into()))
    };
    let memory = limits(&bundle.manifest).memory_bytes.unwrap_or(MEMORY);
    Ok(Some(Plan {
        package: id.clone(),
        guid,
        called: "worker",
        modules: modules.collect(),
        command: command(memory),
        env: environment(),
        deadline: longest(&|worker| worker.deadline_seconds.map(Into::into), DEADLINE),
        grace: longest(&|worker| worker.grace_seconds, GRACE),
        memory,
        restored: bundle.restored,
    }))
}

/// For development: the entries of a directory of the operator's in the place of the bundle's.
pub(in super::super) fn exchange_entries(
    host: &Host,
    id: &PackageId,
    guid: &str,
    files: &Path,
) -> Result<()> {
    let dir =
        linux::tree::open_dir(files).map_err(|errno| Failure::kernel("open", files.display(), errno))?;
    // Before anything is taken away.
    linux::tree::open_dir_at(&dir, "entries")
        .map_err(|errno| Failure::kernel("open entries in", files.display(), errno))?;
    host.machine.unmount(guid, ENTRIES)?;
    let own = volumes::Package { id: id.as_str(), files: dir.as_fd(), part: "entries" };
    host.machine.mount_with(guid, &directory(ENTRIES), Some(own))
}

/// Half of the package's memory, so that a full heap ends with words and not by the kernel; 512 MiB at most.
fn heap(memory: u64) -> u64 {
    (memory / 2).clamp(16 << 20, 512 << 20) >> 20
}

/// Deno, with the permissions that a worker needs: to read its entries, and to connect to one socket, for which this
/// release asks for all three of reading, writing and the network.
fn command(memory: u64) -> Vec<String> {
    let v8 = format!("--v8-flags=--max-old-space-size={}", heap(memory));
    let read = format!("--allow-read={ENTRIES},{SOCKET}");
    let (write, net) = (format!("--allow-write={SOCKET}"), format!("--allow-net=unix:{SOCKET}"));
    let fixed = [
        runtime::PROGRAM,
        "run",
        "--quiet",
        "--no-prompt",
        "--no-config",
        "--no-lock",
        "--no-remote",
        "--no-npm",
        "--cached-only",
        "--no-code-cache",
        "--deny-import",
        "--deny-env",
        "--deny-sys",
        "--deny-run",
        "--deny-ffi",
    ];
    fixed.into_iter().map(str::to_owned).chain([v8, read, write, net, BOOTSTRAP.to_owned()]).collect()
}

/// Nothing that a package's code could read; it may not, either.
fn environment() -> BTreeMap<String, String> {
    let environment = [
        // It has nothing to keep, and nobody to ask for a newer one.
        ("DENO_DIR", "/nowhere"),
        ("DENO_NO_UPDATE_CHECK", "1"),
        // Where it cannot keep what it made of TypeScript, it tries for 150 ms, unless it is told not to.
        ("DENO_EMIT_CACHE_MODE", "disable"),
        ("NO_COLOR", "1"),
    ];
    environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[cfg(test)]
mod tests {
    use super::heap;

    #[test]
    fn j3_a_heap_is_half_of_the_memory_within_bounds() {
        assert_eq!([8 << 20, 256 << 20, 1 << 30, 64 << 30].map(heap), [16, 128, 512, 512]);
    }
}
