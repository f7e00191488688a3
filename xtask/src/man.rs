//! Manual pages: generated from the command line's own help, kept in `docs/man`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{checks, place, say};

/// Writes them, or fails when they are not what would be written.
pub(crate) fn run(check: bool) -> Result<()> {
    // The whole workspace: alone, the program has other features of its dependencies, which are built anew for that.
    let built = Command::new(checks::cargo()).args(["build", "--quiet", "--workspace"]).status();
    ensure!(built.context("build start-container")?.success(), "start-container cannot be built");
    let fresh = tempfile::tempdir()?;
    let status = Command::new(place::target().join("debug/start-container"))
        .arg("man")
        .arg(fresh.path())
        // Of whoever writes them, nothing is in them.
        .env_remove("START_CONTAINER_DATA_DIR")
        .env_remove("START_CONTAINER_RUN_DIR")
        .status()
        .context("run start-container")?;
    ensure!(status.success(), "start-container man: {status}");
    let kept = place::root().join("docs/man");
    let (new, old) = (pages(fresh.path())?, pages(&kept).unwrap_or_default());
    if check {
        let names = new.keys().chain(old.keys()).filter(|name| new.get(*name) != old.get(*name));
        let stale: Vec<&str> = names.map(String::as_str).collect();
        if !stale.is_empty() {
            bail!("run `cargo xtask man`; these are not what the command line says: {}", stale.join(" "));
        }
        return Ok(());
    }
    fs::create_dir_all(&kept)?;
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        fs::remove_file(kept.join(name))?;
    }
    for (name, text) in &new {
        fs::write(kept.join(name), text)?;
    }
    say::note(&format!("{} pages in {}", new.len(), kept.display()));
    Ok(())
}

fn pages(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        pages.insert(entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?);
    }
    Ok(pages)
}
