//! Where things are.

use std::path::{Path, PathBuf};

/// The workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_path_buf()
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |path| root().join(path))
}

/// What these commands keep between runs.
pub(crate) fn cache() -> PathBuf {
    target().join("xtask")
}

/// The finished images.
pub(crate) fn images() -> PathBuf {
    cache().join("images")
}
