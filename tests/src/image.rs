//! Where the images are that the tests stand on. `cargo xtask setup` makes them.

use std::path::{Path, PathBuf};

/// The busybox image (an OCI archive of about 2 MB) of `cargo xtask setup`.
///
/// # Panics
/// When it has not been made.
#[must_use]
pub fn busybox() -> PathBuf {
    cached("busybox.tar")
}

/// The Debian image (an OCI archive, minbase) of `cargo xtask setup`, where it was made.
#[must_use]
pub fn debian() -> Option<PathBuf> {
    let path = cached_path("debian.tar");
    path.exists().then_some(path)
}

/// PostgreSQL on Debian (an OCI archive of 540 MB), of `cargo xtask setup`, where it was made.
#[must_use]
pub fn postgres() -> Option<PathBuf> {
    let path = cached_path("postgres-demo.tar");
    path.exists().then_some(path)
}

/// The Deno that workers run in, of `cargo xtask setup`.
///
/// # Panics
/// When it was not installed.
#[must_use]
pub fn deno() -> PathBuf {
    let path = target_directory().join("xtask/runtimes/deno-2.9.6/node_modules/@deno/linux-x64-glibc/deno");
    assert!(path.exists(), "{} is missing: run `cargo xtask setup` first", path.display());
    path
}

/// The directory of npm packages with the bundler of packages' TypeScript, of `cargo xtask setup`.
///
/// # Panics
/// When it was not installed.
#[must_use]
pub fn bundler() -> PathBuf {
    let path = target_directory().join("xtask/runtimes/esbuild/node_modules");
    assert!(path.exists(), "{} is missing: run `cargo xtask setup` first", path.display());
    path
}

fn cached(name: &str) -> PathBuf {
    let path = cached_path(name);
    assert!(path.exists(), "{} is missing: run `cargo xtask setup` first", path.display());
    path
}

fn cached_path(name: &str) -> PathBuf {
    target_directory().join("xtask/images").join(name)
}

/// Cargo's target directory: test programs lie in `target/<profile>/deps`.
#[must_use]
pub fn target_directory() -> PathBuf {
    if let Some(path) = std::env::var_os("START_CONTAINER_TARGET") {
        return path.into();
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}
