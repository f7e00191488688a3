//! What runs the functions of packages: our own program, started by a name of its own, as an image in the store.
//!
//! Made when it is first needed, of the program that the host runs: the operator has nothing to add, and no two versions ever
//! meet. A copy: what happens to it in a sandbox happens to no file of the host's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use images::Store;
use protocol::ErrorKind;
use protocol::image::ImageInfo;

use super::{Contents, hash, libraries};
use crate::error::{Failure, Result};

/// The program's first argument.
pub(crate) const COMMAND: &str = "functions";
/// Where the program is in its image.
pub(crate) const PROGRAM: &str = "/bin/start-container";
const NAME: &str = "start-container/functions";

#[cfg(target_arch = "aarch64")]
const LOADER: &str = "/lib/ld-linux-aarch64.so.1";
#[cfg(not(target_arch = "aarch64"))]
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// The image of this program. Made where it is missing.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn image(store: &Store) -> Result<ImageInfo> {
    // Two packages that start at once need one image.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = crate::engine::lock(&ONE_AT_A_TIME);
    // The program of a process does not change.
    static HASH: OnceLock<String> = OnceLock::new();
    let exe = Path::new("/proc/self/exe");
    let mut program = File::open(exe).map_err(Failure::io("open", exe.display()))?;
    let digest = match HASH.get() {
        Some(digest) => digest.clone(),
        None => {
            let digest = hash(&mut program).map_err(Failure::io("read", exe.display()))?;
            HASH.get_or_init(|| digest).clone()
        }
    };
    let name = format!("{NAME}:{}", &digest[..32]);
    match store.get(&name).map_err(Failure::from) {
        Err(failure) if failure.kind == ErrorKind::NotFound => {}
        found => return found,
    }
    // Nothing else in there but what a program that is not static needs.
    let libraries: Vec<PathBuf> =
        if cfg!(target_feature = "crt-static") { Vec::new() } else { libraries(LOADER, &program, exe)? };
    let what = Contents { program: &mut program, of: exe, at: PROGRAM, libraries };
    let image = what.import(store, &name, &images::Silent, &images::Cancel::new())?;
    forget_others(store, &name);
    Ok(image)
}

/// Those of programs that this one has replaced. What runs of them goes on: layers in use stay.
fn forget_others(store: &Store, name: &str) {
    let others = store.list().into_iter().flatten().flat_map(|image| image.names);
    for other in others.filter(|other| other.starts_with(&format!("{NAME}:")) && other != name) {
        if let Err(error) = store.remove(&other) {
            tracing::warn!("remove image {other}: {}", Failure::from(error).sentence());
        }
    }
}
