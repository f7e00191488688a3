//! What the tests of this room share: a data directory that cleans up after itself, and archives made by hand.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part, and may fail loudly")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use images::{Cancel, Error, Limits, Rootfs, Silent, Store};
use protocol::image::ImageInfo;

/// A data directory. Dropped, it destroys every rootfs, unmounts, and is gone.
pub(crate) struct Data {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    data_dir: PathBuf,
}

impl Data {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root: layers have owners and devices");
        let dir = tempfile::Builder::new().prefix("images-test-").tempdir_in("/tmp").unwrap();
        let data_dir = dir.path().join("d");
        let store = Store::open_with(&data_dir, limits).unwrap();
        Self { dir, store, data_dir }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.data_dir.clone()
    }

    pub(crate) fn import(&self, path: &Path, name: Option<&str>) -> Result<ImageInfo, Error> {
        self.store.import(path, name, &Silent, &Cancel::new())
    }

    /// One in memory, for thousands of rounds: ext4 searches long for an inode that was not freed just now.
    pub(crate) fn in_memory(options: &str) -> Self {
        let mut data = Self::new();
        let mount = data.dir.path().join("tmpfs");
        std::fs::create_dir(&mount).unwrap();
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&mount)
            .status();
        assert!(status.unwrap().success());
        data.data_dir = mount.join("d");
        data.store = Store::open(&data.data_dir).unwrap();
        data
    }

    /// A file beside the data directory.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Every path in the store, for comparing before and after.
    pub(crate) fn tree(&self) -> Vec<String> {
        let mut paths = Vec::new();
        walk(&self.path(), &mut paths);
        // Empty files to lock, made on first use.
        paths.retain(|path| !path.ends_with("/lock"));
        paths.sort();
        paths
    }

    /// Nothing half-done is left.
    pub(crate) fn assert_clean(&self) {
        let store = self.path().join("store");
        for name in ["tmp", "partial"] {
            let left: Vec<_> =
                std::fs::read_dir(store.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(left.is_empty(), "left in {name}: {left:?}");
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let dir = self.path();
        let rootfs =
            Rootfs::list(&dir).unwrap_or_default().into_iter().map(|rootfs| rootfs.guid().to_owned());
        for guid in rootfs.chain(Rootfs::remnants(&dir).unwrap_or_default()).collect::<Vec<_>>() {
            let destroyed = Rootfs::destroy(&dir, &guid);
            assert!(destroyed.is_ok() || std::thread::panicking(), "{destroyed:?}");
        }
        // What a failed test could not take away itself; the latest first.
        let base = self.dir.path().to_owned();
        let mut mounts = linux::mounts::list(None, linux::kernel::Features::get()).unwrap();
        mounts.reverse();
        for point in mounts.iter().map(|mount| Path::new(OsStr::from_bytes(&mount.mountpoint))) {
            if point.starts_with(&base) {
                rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).ok();
            }
        }
    }
}

fn walk(dir: &Path, paths: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        paths.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), paths);
        }
    }
}

/// The causes of an error, outermost first, as a person reads them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// A tar archive made entry by entry, honest or not.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// One header, changed at will before it is summed.
pub(crate) struct Head(pub(crate) tar::Header);

impl Head {
    pub(crate) fn new(kind: u8, name: &str) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len().min(100)]
            .copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        Self(header)
    }

    pub(crate) fn link(mut self, target: &str) -> Self {
        self.0.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.0.set_mode(mode);
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.0.set_uid(uid);
        self.0.set_gid(gid);
        self
    }

    pub(crate) fn size(mut self, size: u64) -> Self {
        self.0.set_size(size);
        self
    }

    pub(crate) fn device(mut self, major: u32, minor: u32) -> Self {
        self.0.set_device_major(major).unwrap();
        self.0.set_device_minor(minor).unwrap();
        self
    }
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn head(self, mut head: Head) -> Self {
        head.0.set_cksum();
        self.raw(head.0.as_bytes())
    }

    pub(crate) fn padded(self, bytes: &[u8]) -> Self {
        let padding = bytes.len().next_multiple_of(512) - bytes.len();
        self.raw(bytes).raw(&vec![0; padding])
    }

    pub(crate) fn entry(self, head: Head, bytes: &[u8]) -> Self {
        self.head(head.size(bytes.len() as u64)).padded(bytes)
    }

    pub(crate) fn file(self, name: &str, bytes: &[u8]) -> Self {
        self.entry(Head::new(b'0', name), bytes)
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.head(Head::new(b'5', name))
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.head(Head::new(b'2', name).link(target))
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.head(Head::new(b'1', name).link(target))
    }

    /// Extended records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|length| length.to_string().len() + rest == *length).unwrap();
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(Head::new(b'x', "pax"), &body)
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A layer as it is stored, and the digest of what it contains.
pub(crate) struct Layer {
    pub(crate) media_type: &'static str,
    pub(crate) stored: Vec<u8>,
    pub(crate) diff_id: String,
}

impl Layer {
    pub(crate) fn plain(tar: Vec<u8>) -> Self {
        let diff_id = images::Digest::of(&tar).to_string();
        Self { media_type: "application/vnd.oci.image.layer.v1.tar", stored: tar, diff_id }
    }

    pub(crate) fn gzip(tar: &[u8]) -> Self {
        let diff_id = images::Digest::of(tar).to_string();
        Self { media_type: "application/vnd.oci.image.layer.v1.tar+gzip", stored: gzip(tar), diff_id }
    }

    pub(crate) fn zstd(tar: &[u8]) -> Self {
        let diff_id = images::Digest::of(tar).to_string();
        Self { media_type: "application/vnd.oci.image.layer.v1.tar+zstd", stored: zstd(tar), diff_id }
    }
}

/// An OCI layout: documents that can be changed before it is written.
pub(crate) struct Layout {
    pub(crate) config: serde_json::Value,
    pub(crate) manifest: serde_json::Value,
    pub(crate) name: Option<String>,
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    images::Digest::of(bytes).hex()
}

impl Layout {
    pub(crate) fn new(layers: Vec<Layer>) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = serde_json::json!({
            "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"), "os": "linux",
            "config": {"Env": ["PATH=/bin", "MULTI=a\nb"], "User": "7:8", "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let described: Vec<_> = layers
            .iter()
            .map(|layer| serde_json::json!({"mediaType": layer.media_type, "digest": format!("sha256:{}", hex(&layer.stored)), "size": layer.stored.len()}))
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {}, "layers": described,
        });
        let blobs = layers.into_iter().map(|layer| (hex(&layer.stored), layer.stored)).collect();
        Self { config, manifest, name: None, blobs }
    }

    /// All files of the layout, by path.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let config = self.config.to_string().into_bytes();
        let mut manifest = self.manifest.clone();
        if manifest["config"] == serde_json::json!({}) {
            manifest["config"] = serde_json::json!({
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": format!("sha256:{}", hex(&config)), "size": config.len(),
            });
        }
        let manifest = manifest.to_string().into_bytes();
        let mut described = serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{}", hex(&manifest)), "size": manifest.len(),
        });
        if let Some(name) = &self.name {
            described["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
        }
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [described]});
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
            (format!("blobs/sha256/{}", hex(&config)), config),
            (format!("blobs/sha256/{}", hex(&manifest)), manifest),
        ];
        files.extend(self.blobs.iter().map(|(hex, bytes)| (format!("blobs/sha256/{hex}"), bytes.clone())));
        files
    }

    pub(crate) fn directory(&self, dir: &Path) -> PathBuf {
        for (path, bytes) in self.files() {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        dir.to_owned()
    }

    pub(crate) fn archive(&self) -> Vec<u8> {
        // The index last, as writers that stream have it.
        let mut files = self.files();
        files.reverse();
        files.iter().fold(Tar::new(), |tar, (path, bytes)| tar.file(path, bytes)).end()
    }

    /// The same image as a docker-archive.
    pub(crate) fn docker(&self) -> Vec<u8> {
        let config = self.config.to_string().into_bytes();
        let names: Vec<String> = self.blobs.iter().map(|(hex, _)| format!("{hex}/layer.tar")).collect();
        let manifest = serde_json::json!([{
            "Config": format!("{}.json", hex(&config)), "RepoTags": self.name.iter().collect::<Vec<_>>(), "Layers": names,
        }]);
        let mut tar = Tar::new();
        for (name, (hex, bytes)) in names.iter().zip(&self.blobs) {
            tar = tar.dir(&format!("{hex}/")).file(name, bytes);
        }
        tar.file(&format!("{}.json", hex(&config)), &config)
            .file("manifest.json", manifest.to_string().as_bytes())
            .end()
    }
}
