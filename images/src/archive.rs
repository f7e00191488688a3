//! What is in a file or directory: which format, which image, which layers.
//!
//! Everything is read through handles: the members of a tar by their offset in the one open file, the blobs of a
//! layout directory beneath its handle. Links inside either are never followed out of it.

mod docker;
mod index;
pub(crate) mod oci;

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use protocol::image::ImageInfo;
use rustix::fs::{FileType, Mode, OFlags};

use self::index::Members;
use crate::config::Config;
use crate::layer::{self, Compression, Layer};
use crate::store::{Image, LayerRecord, Store, Work, check_name};
use crate::tar::write_tree;
use crate::{Cancel, Digest, Error, Progress, Refusal, Result};
use linux::tree::open_dir_at;

/// Layers still to be read, and the documents that name them.
pub(crate) struct Found<'a> {
    /// Names in the archive, best first.
    pub(crate) names: Vec<String>,
    pub(crate) manifest: Option<Vec<u8>>,
    pub(crate) config: Vec<u8>,
    /// `None` where all of them are in the work directory or the store already.
    pub(crate) layers: Option<Vec<LayerSource<'a>>>,
}

/// One layer of an image, opened when its turn comes: it may be in the store already.
pub(crate) struct LayerSource<'a> {
    pub(crate) label: String,
    pub(crate) digest: Option<Digest>,
    pub(crate) size: Option<u64>,
    pub(crate) open: Box<dyn FnOnce() -> Result<Box<dyn Read + Send + 'a>> + Send + 'a>,
}

/// What an import works with.
pub(crate) struct Import<'a> {
    pub(crate) store: &'a Store,
    pub(crate) work: Work<'a>,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancel: &'a Cancel,
}

pub(crate) fn import(
    store: &Store,
    path: &Path,
    name: Option<&str>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<ImageInfo> {
    let shown = path.display().to_string();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened =
        rustix::fs::open(path, flags, Mode::empty()).map_err(Error::kernel("open", shown.clone()))?;
    let stat = rustix::fs::fstat(&opened).map_err(Error::kernel("look at", shown.clone()))?;
    let import = Import { store, work: Work::begin(store)?, progress, cancel };
    let default = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let source = Source { path: &shown, wanted: name, default: &default };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => directory(import, &source, opened),
        FileType::RegularFile => file(import, &source, File::from(opened)),
        _ => Err(source.not_an_image("neither a file nor a directory")),
    }
}

/// What is imported, for errors and names.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    pub(crate) wanted: Option<&'a str>,
    pub(crate) default: &'a str,
}

impl Source<'_> {
    pub(crate) fn not_an_image(&self, reason: impl Into<String>) -> Error {
        Error::NotAnImage { path: self.path.to_owned(), reason: reason.into() }
    }

    /// What the image is called: as it is asked for, else as the archive says, else as its file. An OCI layout often
    /// says a mere tag; `latest` alone would name every image, so the file's name comes before it.
    fn name(&self, names: &[String]) -> String {
        if let Some(wanted) = self.wanted {
            return wanted.to_owned();
        }
        let full = |name: &String| {
            if name.contains(['/', ':']) { name.clone() } else { format!("{}:{name}", self.file_name()) }
        };
        // A stranger's archive may say anything.
        names.iter().map(full).find(|name| check_name(name).is_ok()).unwrap_or_else(|| self.file_name())
    }

    /// The name of the file without what it says of its format, in the characters of names.
    fn file_name(&self) -> String {
        let mut stem = self.default;
        for extension in [".zst", ".gz", ".tgz", ".tar", ".oci"] {
            stem = stem.strip_suffix(extension).unwrap_or(stem);
        }
        let clean: String =
            stem.chars()
                .map(|character| {
                    if character.is_ascii_alphanumeric() || "._-".contains(character) {
                        character
                    } else {
                        '-'
                    }
                })
                .collect();
        let clean: String = clean.trim_start_matches(['.', '-']).chars().take(100).collect();
        if clean.is_empty() { "image".to_owned() } else { clean }
    }
}

fn directory(import: Import<'_>, source: &Source<'_>, dir: OwnedFd) -> Result<ImageInfo> {
    let is_layout = rustix::fs::statat(&dir, "oci-layout", rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if is_layout {
        let found = oci::find(&import, source, &oci::Blobs::Directory(dir))?;
        return import.finish(found, source);
    }
    // A plain tree becomes a tar on a pipe, and then a layer like any other: one way in, and it has a digest.
    let (read, write) = std::io::pipe().map_err(|error| source.not_an_image(error.to_string()))?;
    let packed = std::thread::scope(|scope| {
        let packer = scope.spawn(move || {
            let mut out = std::io::BufWriter::with_capacity(1 << 18, write);
            write_tree(&dir, layer::keep_xattr, &mut out).and_then(|()| std::io::Write::flush(&mut out))
        });
        let unpacked = import.rootfs(Box::new(read), source);
        match packer.join() {
            // Where the reader gave up first, its error is the cause.
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::Read { subject: source.path.to_owned(), source: error })
            }
            _ => unpacked,
        }
    })?;
    import.finish(packed, source)
}

fn file(import: Import<'_>, source: &Source<'_>, mut file: File) -> Result<ImageInfo> {
    let failed = |error| Error::Read { subject: source.path.to_owned(), source: error };
    let mut head = [0; 512];
    let length = read_up_to(&mut file, &mut head).map_err(failed)?;
    let compression = layer::sniff(&head[..length]);
    let limits = import.store.limits();
    if compression == Compression::None && !index::looks_like_tar(&head[..length]) {
        return Err(
            source.not_an_image("neither a tar archive (plain, gzip, zstd), an OCI layout, nor a directory")
        );
    }
    file.rewind().map_err(failed)?;
    let rewound = file.try_clone().map_err(failed)?;
    let is_archive = match compression {
        Compression::None => true,
        // A compressed archive has to be read once to the end before its parts can be found. A root file system,
        // the commoner case, should not be: the first name tells them apart.
        _ => index::begins_like_an_archive(file, source.path, limits)?,
    };
    let mut file = rewound;
    file.rewind().map_err(failed)?;
    if is_archive {
        let plain = match compression {
            Compression::None => file.try_clone().map_err(failed)?,
            _ => spool(&import, source, &mut file)?,
        };
        let plain = Arc::new(plain);
        let members = Members::read(&plain, source.path, limits)?;
        if members.has("oci-layout") && members.has("index.json") {
            let found = oci::find(&import, source, &oci::Blobs::Archive(members))?;
            return import.finish(found, source);
        }
        if members.has("manifest.json") {
            let found = docker::find(&import, source, &members)?;
            return import.finish(found, source);
        }
        file = plain.try_clone().map_err(failed)?;
        file.rewind().map_err(failed)?;
    }
    let found = import.rootfs(Box::new(file), source)?;
    import.finish(found, source)
}

/// Decompresses a whole archive into an unnamed file.
fn spool(import: &Import<'_>, source: &Source<'_>, file: &mut File) -> Result<File> {
    let failed = |error| Error::Read { subject: source.path.to_owned(), source: error };
    let limits = import.store.limits();
    let compressed = file.metadata().map_err(failed)?.len();
    let mut plain = import.work.spool()?;
    let mut decoder = layer::decoder(layer::buffered(file)).map_err(failed)?;
    let mut buffer = vec![0; 1 << 18];
    let mut written = 0_u64;
    loop {
        import.cancel.check()?;
        let read = decoder.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        written += read as u64;
        let refused = |reason| Err(Error::Layer { layer: source.path.to_owned(), reason });
        if written > limits.image {
            return refused(Refusal::ExpandedTooLarge(limits.image));
        }
        if written > limits.ratio_from && written / limits.ratio > compressed {
            return refused(Refusal::Ratio(limits.ratio));
        }
        linux::tree::write_all(plain.as_fd(), &buffer[..read])
            .map_err(Error::kernel("write decompressed", source.path))?;
        import.progress.update("decompress archive", written, None);
    }
    plain.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(plain)
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

impl Import<'_> {
    /// Unpacks a stream that is a root file system; what it says is its config is made up.
    fn rootfs<'a>(&self, bytes: Box<dyn Read + Send + '_>, source: &Source<'_>) -> Result<Found<'a>> {
        let label = source.path.to_owned();
        let diff_id = self.unpack(Layer { label, bytes, digest: None, size: None, diff_id: None })?;
        // Known only now: it may be in the store already, and then ours need not be written to disk.
        if self.work.uses(&diff_id)?.is_some() {
            self.work.forget_layer(&diff_id)?;
        }
        let config = Config::of_rootfs(diff_id);
        Ok(Found { names: Vec::new(), manifest: None, config, layers: None })
    }

    /// Unpacks one layer into the work directory.
    fn unpack(&self, layer: Layer<'_>) -> Result<Digest> {
        let name = "unpacking";
        let root = self.work.layer(name)?;
        let unpacked = layer::unpack(layer, root, self.store.limits(), self.progress, self.cancel)?;
        let record =
            LayerRecord { size: unpacked.size, entries: unpacked.entries, has_root: unpacked.has_root };
        self.work.finish_layer(name, &unpacked.diff_id, &record)?;
        Ok(unpacked.diff_id)
    }

    /// Unpacks a blob whose own digest was verified as it arrived.
    pub(crate) fn unpack_blob(&self, digest: Digest, bytes: File, diff_id: Digest) -> Result<()> {
        let label = digest.to_string();
        self.unpack(Layer { label, bytes: Box::new(bytes), digest: None, size: None, diff_id: Some(diff_id) })
            .map(drop)
    }

    /// Unpacks the layers that are not there yet, in order, and commits.
    pub(crate) fn finish(self, found: Found<'_>, source: &Source<'_>) -> Result<ImageInfo> {
        let limits = self.store.limits();
        let digest = Digest::of(&found.config);
        let document = format!("config {digest}");
        let config = Config::parse(&found.config, &document)?;
        if let Some(layers) = found.layers.as_ref().filter(|layers| layers.len() != config.diff_ids.len()) {
            let reason = format!("it has {} diff ids for {} layers", config.diff_ids.len(), layers.len());
            return Err(Error::Document { document, reason });
        }
        if config.diff_ids.len() > limits.layers {
            let reason =
                format!("it has {} layers, over the limit of {}", config.diff_ids.len(), limits.layers);
            return Err(Error::Document { document, reason });
        }
        if config.os != "linux" {
            let reason = format!("it is for {}, not for linux", config.os);
            return Err(Error::Document { document, reason });
        }
        let mut total = 0_u64;
        for (layer, diff_id) in found.layers.into_iter().flatten().zip(&config.diff_ids) {
            self.cancel.check()?;
            let known = match self.work.own_layer(diff_id)? {
                Some(record) => Some(record),
                None => self.work.uses(diff_id)?,
            };
            if known.is_none() {
                let LayerSource { label, digest, size, open } = layer;
                self.unpack(Layer { label, bytes: open()?, digest, size, diff_id: Some(*diff_id) })?;
            }
            let record = match known {
                Some(record) => Some(record),
                None => self.work.own_layer(diff_id)?,
            };
            total += record.map_or(0, |record| record.size);
            if total > limits.image {
                let reason = format!("its layers expand to over the limit of {} bytes", limits.image);
                return Err(Error::Document { document, reason });
            }
        }
        let name = source.name(&found.names);
        self.work.commit(Image { name, config: found.config, manifest: found.manifest })
    }
}

/// Opens a file beneath a directory that may be a stranger's.
pub(crate) fn open_beneath(dir: &OwnedFd, path: &str) -> Result<File, rustix::io::Errno> {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    let parent = open_dir_at(dir, parent)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat2(&parent, name, flags, Mode::empty(), linux::tree::BENEATH).map(File::from)
}
