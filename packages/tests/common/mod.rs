//! Bundles for tests: honest ones by the crate's own hand, others byte by byte.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]
#![allow(unreachable_pub, reason = "a module of several test programs")]
#![allow(dead_code, reason = "each test program uses some of it")]

pub mod host;

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::Path;

use packages::bundle::{self, Limits, Sealed};
use packages::keys::PrivateKey;
use packages::trust::TrustedKey;
use packages::{Store, Trust};
use tempfile::TempDir;

pub const NOW: u64 = 1_800_000_000_000;

/// A manifest with nothing in it.
pub fn manifest(id: &str, version: &str) -> String {
    format!(r#"{{"manifest":1,"id":"{id}","name":"A package","version":"{version}"}}"#)
}

/// An operator's machine: a data directory with a trust file, and a key for its friend.
pub struct World {
    pub dir: TempDir,
    pub key: PrivateKey,
}

impl World {
    /// With a key that is trusted for everything.
    pub fn new() -> Self {
        let world = Self::stranger();
        world.trust(&world.key, "friend", &["*"]);
        world
    }

    /// With a key that nobody trusts.
    pub fn stranger() -> Self {
        let dir = TempDir::new().unwrap();
        let key = PrivateKey::create(&dir.path().join("key")).unwrap();
        Self { dir, key }
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.data()).unwrap()
    }

    pub fn trust(&self, key: &PrivateKey, name: &str, packages: &[&str]) {
        let key = TrustedKey {
            key: key.public(),
            name: name.parse().unwrap(),
            packages: packages.iter().map(|one| one.parse().unwrap()).collect(),
            added: NOW,
            expires: None,
            revoked: None,
        };
        self.change(|trust| trust.add(key).unwrap());
    }

    pub fn change(&self, change: impl FnOnce(&mut Trust)) {
        Trust::change(&self.data().join("trust.json"), |trust| {
            change(trust);
            Ok(())
        })
        .unwrap();
    }

    /// Another key.
    pub fn another_key(&self, name: &str) -> PrivateKey {
        PrivateKey::create(&self.dir.path().join(name)).unwrap()
    }

    /// Signed by our key.
    pub fn signed(&self, payload: &[u8]) -> Vec<u8> {
        signed(payload, &self.key)
    }
}

/// A file that has these bytes and no name.
pub fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// The bundle with a signature more.
pub fn signed(payload: &[u8], key: &PrivateKey) -> Vec<u8> {
    let sealed = Sealed::open(file(payload), &Limits::default()).unwrap();
    let mut out = tempfile::tempfile().unwrap();
    bundle::sign(&sealed, key, &mut out).unwrap();
    out.rewind().unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut out, &mut bytes).unwrap();
    bytes
}

/// A tar archive, header by header.
#[derive(Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with this manifest.
    pub fn with(manifest: &str) -> Self {
        Self::new().file("manifest.json", manifest.as_bytes())
    }

    pub fn file(self, path: &str, contents: &[u8]) -> Self {
        self.entry(path, contents, |_| {})
    }

    /// A file whose header `odd` has changed before it is summed.
    pub fn entry(mut self, path: &str, contents: &[u8], odd: impl FnOnce(&mut tar::Header)) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(contents.len() as u64);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        odd(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(contents);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn end(mut self) -> Self {
        self.0.extend_from_slice(&[0; 1024]);
        self
    }

    /// Compressed.
    pub fn packed(self) -> Vec<u8> {
        zstd::encode_all(self.end().0.as_slice(), 3).unwrap()
    }
}

/// A package's directory.
pub fn package(dir: &Path, manifest: &str, files: &[(&str, &[u8])]) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("manifest.json"), manifest).unwrap();
    for (path, contents) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
}

/// Packs it, without a signature.
pub fn pack(dir: &Path) -> packages::Result<Vec<u8>> {
    let handle = linux::tree::open_dir(dir).unwrap();
    let out = tempfile::tempfile().unwrap();
    let mut copy = out.try_clone().unwrap();
    bundle::pack(&handle, out, &Limits::default())?;
    let mut bytes = Vec::new();
    copy.rewind().unwrap();
    std::io::Read::read_to_end(&mut copy, &mut bytes).unwrap();
    Ok(bytes)
}

/// Everything beneath a directory, as text that can be compared.
pub fn everything(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            found.push(entry.path().display().to_string());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, &mut found);
    found.sort();
    found
}
