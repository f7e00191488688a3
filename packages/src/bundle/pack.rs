//! A directory as a bundle. The same files give the same bytes.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::contents::{is_or_contains, judge, needed};
use super::header::{self, BLOCK, Entry};
use super::path::{ROOTS, Seen};
use super::{Contents, Limits, MANIFEST, Refusal, Sealed};
use crate::manifest::{Fault, Manifest, Syntax};
use crate::{Error, Result};

/// What `pack` looks for, in this order; more than one is an error.
const SOURCES: [(&str, Syntax); 3] =
    [("manifest.json", Syntax::Json), ("manifest.yaml", Syntax::Yaml), ("manifest.yml", Syntax::Yaml)];

/// Level of compression. 19 takes ten times as long for a few per cent; images are mostly compressed already.
const LEVEL: i32 = 9;

/// Reads the manifest of a package's directory.
///
/// # Errors
/// When there is none, or more than one, or it is wrong.
pub(crate) fn manifest_of(dir: &OwnedFd) -> Result<Manifest> {
    let mut found: Option<(&str, Manifest)> = None;
    for (name, syntax) in SOURCES {
        let text = match linux::tree::read_file_at(dir, name) {
            Ok(text) => text,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(Error::kernel("read", name)(errno)),
        };
        let wrong = |source| Error::Manifest { file: name.to_owned(), source };
        if let Some((other, _)) = &found {
            let reason = format!("there is a {other} too, and only one of them can be meant");
            return Err(wrong(Fault { field: String::new(), place: None, reason }));
        }
        found = Some((name, Manifest::read(&text, syntax).map_err(wrong)?));
    }
    found
        .map(|(_, manifest)| manifest)
        .ok_or_else(|| Error::Unknown("manifest.yaml or manifest.json in the directory".to_owned()))
}

/// Packs the package in `dir` into `out`, and reads it again as anybody else would.
///
/// What is in the directory beside the manifest and `assets/`, `entries/`, `images/`, `precompiled/` and `ui/` is not
/// packed: sources, tests, tools.
///
/// # Errors
/// When the manifest is wrong, something in those directories cannot be in a bundle, or it is too large.
pub fn pack(dir: &OwnedFd, out: File, limits: &Limits) -> Result<(Sealed, Contents)> {
    let manifest = manifest_of(dir)?;
    let mut files = Vec::new();
    for root in ROOTS {
        match linux::tree::open_dir_at(dir, root) {
            Ok(inner) => walk(&inner, root, &mut files, limits)?,
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(Error::Entry { path: root.to_owned(), reason: Refusal::Kind });
            }
            Err(errno) => return Err(Error::kernel("open", root)(errno)),
        }
    }
    files.sort();
    let mut seen = Seen::default();
    let mut needed = needed(&manifest);
    for path in &files {
        seen.file(path)
            .map_err(|other| Error::Entry { path: path.clone(), reason: Refusal::Clash(other) })?;
        needed.retain(|wanted, _| !is_or_contains(wanted, path));
    }
    if let Some((path, field)) = needed.pop_first() {
        return Err(Error::Entry { path, reason: Refusal::Missing(field) });
    }

    let failed = || Error::io("write", "the bundle");
    let mut archive = zstd::stream::write::Encoder::new(out, LEVEL).map_err(failed())?;
    archive.include_checksum(true).map_err(failed())?;
    let text = manifest.to_json().into_bytes();
    let entry = Entry { path: MANIFEST.to_owned(), executable: false, size: text.len() as u64 };
    write_file(&mut archive, &entry, &mut text.as_slice())?;
    for path in files {
        let file =
            linux::resolve::beneath_no_links(dir, &path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
                .map_err(Error::kernel("open", &path))?;
        let stat = rustix::fs::fstat(&file).map_err(Error::kernel("look at", &path))?;
        let executable = stat.st_mode & 0o100 != 0;
        let entry = Entry { path, executable, size: stat.st_size.cast_unsigned() };
        let refused = |reason| Error::Entry { path: entry.path.clone(), reason };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(Refusal::Kind));
        }
        judge(&entry, limits).map_err(refused)?;
        write_file(&mut archive, &entry, &mut File::from(file))?;
    }
    archive.write_all(&[0; 2 * BLOCK]).map_err(failed())?;
    let mut out = archive.finish().map_err(failed())?;
    out.sync_all().and_then(|()| out.rewind()).map_err(failed())?;
    let sealed = Sealed::open(out, limits)?;
    let contents = sealed.read(limits, |_| Ok(()), &mut ())?;
    Ok((sealed, contents))
}

fn write_file(
    archive: &mut impl std::io::Write,
    entry: &Entry,
    contents: &mut dyn std::io::Read,
) -> Result<()> {
    let block = header::write(entry).map_err(|reason| Error::Entry { path: entry.path.clone(), reason })?;
    let failed = || Error::io("pack", &entry.path);
    archive.write_all(&block).map_err(failed())?;
    let copied = std::io::copy(&mut contents.take(entry.size), archive).map_err(failed())?;
    // One byte more would be another file than the one whose size was written.
    if copied != entry.size || contents.read(&mut [0]).map_err(failed())? != 0 {
        return Err(Error::Entry { path: entry.path.clone(), reason: Refusal::Moved });
    }
    let padding = usize::try_from(entry.size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
    archive.write_all(&[0; BLOCK][..padding]).map_err(failed())
}

/// The files beneath a directory. Links, devices and sockets are errors: left out silently, they would be missed later.
fn walk(dir: &OwnedFd, path: &str, files: &mut Vec<String>, limits: &Limits) -> Result<()> {
    let names = linux::tree::names_in(dir).map_err(Error::kernel("list", path))?;
    for (name, _) in names {
        let name_text = name.to_string_lossy();
        let inner = format!("{path}/{name_text}");
        let refused = |reason| Error::Entry { path: inner.clone(), reason };
        super::path::judge([path.as_bytes(), b"/", name.as_bytes()].concat().as_slice())
            .map_err(|refusal| refused(refusal.into()))?;
        let stat = rustix::fs::statat(dir, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::kernel("look at", &inner))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = linux::tree::open_dir_at(dir, &name).map_err(Error::kernel("open", &inner))?;
                walk(&below, &inner, files, limits)?;
            }
            FileType::RegularFile => {
                files.push(inner);
                if files.len() as u64 >= limits.files {
                    return Err(Error::Bundle(Refusal::TooManyFiles(limits.files)));
                }
            }
            _ => return Err(refused(Refusal::Kind)),
        }
    }
    Ok(())
}
