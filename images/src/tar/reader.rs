//! One entry after the other, with pax, GNU long names and every sparse form folded in.

use tar::{EntryType, Header};

use super::pax;
use crate::{Error, Limits, Refusal, Result};

pub(super) const BLOCK: usize = 512;

/// Where a tar's bytes come from.
pub(crate) trait Input {
    /// The next bytes, at least one and at most `max`; none at the end. They count as read.
    fn chunk(&mut self, max: usize) -> Result<&[u8]>;

    /// Reads past `bytes`; false where it ends before.
    fn skip(&mut self, mut bytes: u64) -> Result<bool> {
        while bytes > 0 {
            let read = self.chunk(usize::try_from(bytes).unwrap_or(usize::MAX))?.len();
            if read == 0 {
                return Ok(false);
            }
            bytes -= read as u64;
        }
        Ok(true)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// One entry, its extended headers folded in. Nothing in it has been judged except that it can be read.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As it stands in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    /// Bytes of the file as it appears, holes included.
    pub(crate) size: u64,
    /// Target of a hard or symbolic link.
    pub(crate) link: Vec<u8>,
    /// Major and minor of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes go, as (offset, length), for a sparse file.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// Its name for people.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Reads entries one by one. After each, its stored bytes are read with [`Reader::contents`] or are skipped.
pub(crate) struct Reader<'l, I> {
    input: I,
    pub(super) layer: &'l str,
    pub(super) limits: &'l Limits,
    /// Stored bytes of the current entry not yet read.
    pub(super) left: u64,
    padding: u64,
    position: u64,
}

#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_major: Option<u64>,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    /// Numbers of the map, offset and length in turn.
    sparse_map: Vec<u64>,
    bytes: u64,
    any: bool,
}

impl<'l, I: Input> Reader<'l, I> {
    pub(crate) fn new(input: I, layer: &'l str, limits: &'l Limits) -> Self {
        Self { input, layer, limits, left: 0, padding: 0, position: 0 }
    }

    /// Bytes read so far: after [`Reader::next`], where the entry's stored bytes begin.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn layer_error(&self, reason: Refusal) -> Error {
        Error::Layer { layer: self.layer.to_owned(), reason }
    }

    pub(super) fn entry_error(&self, entry: &[u8], reason: Refusal) -> Error {
        Error::Entry {
            layer: self.layer.to_owned(),
            entry: String::from_utf8_lossy(entry).into_owned(),
            reason,
        }
    }

    /// The next stored bytes of the current entry; none when all are read.
    pub(crate) fn contents(&mut self) -> Result<&[u8]> {
        self.contents_at_most(usize::MAX)
    }

    /// The same, at most `most` bytes of them.
    pub(crate) fn contents_at_most(&mut self, most: usize) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let max = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        let chunk = self.input.chunk(max)?;
        if chunk.is_empty() {
            return Err(Error::Layer { layer: self.layer.to_owned(), reason: Refusal::Truncated });
        }
        self.left -= chunk.len() as u64;
        self.position += chunk.len() as u64;
        Ok(chunk)
    }

    /// Fills a block; false at a clean end.
    pub(super) fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            let chunk = self.input.chunk(BLOCK - filled)?;
            if chunk.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(self.layer_error(Refusal::Truncated)) };
            }
            block[filled..filled + chunk.len()].copy_from_slice(chunk);
            filled += chunk.len();
        }
        self.position += BLOCK as u64;
        Ok(true)
    }

    /// Reads past what is left of the current entry. False where it ends within the padding of its last block.
    fn finish_entry(&mut self) -> Result<bool> {
        let (left, padding) = (self.left, self.padding);
        (self.left, self.padding) = (0, 0);
        if !self.input.skip(left)? {
            return Err(self.layer_error(Refusal::Truncated));
        }
        self.position += left + padding;
        self.input.skip(padding)
    }

    /// The next entry; `None` at the end, after which only zeros may follow. `must_end` says whether an archive
    /// that just stops, without the two blocks of zeros, counts as cut short.
    pub(crate) fn next(&mut self, must_end: bool) -> Result<Option<Entry>> {
        let mut extended = Extended::default();
        let mut block = [0; BLOCK];
        loop {
            // Some writers (umoci's insert) never finish: the contents are whole, padding and end are missing.
            let whole = self.finish_entry()?;
            if !whole || !self.block(&mut block)? {
                let reason = if extended.any { Refusal::Truncated } else { Refusal::NoEnd };
                return if must_end || extended.any { Err(self.layer_error(reason)) } else { Ok(None) };
            }
            if block == [0; BLOCK] {
                return self.end(extended.any, must_end).map(|()| None);
            }
            let header = Header::from_byte_slice(&block);
            let path = header.path_bytes().into_owned();
            if !has_right_sum(header) {
                return Err(self.entry_error(&path, Refusal::Header("checksum")));
            }
            let size =
                header.entry_size().ok().ok_or_else(|| self.entry_error(&path, Refusal::Header("size")))?;
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                    extended.any = true;
                    let bytes = self.extended(&path, size, &mut extended.bytes)?;
                    match kind {
                        EntryType::XHeader => {
                            self.pax(&path, &bytes, &mut extended)?;
                        }
                        EntryType::GNULongName => extended.path = Some(until_zero(bytes)),
                        _ => extended.link = Some(until_zero(bytes)),
                    }
                }
                EntryType::XGlobalHeader => {
                    let bytes = self.extended(&path, size, &mut extended.bytes)?;
                    self.global(&path, &bytes)?;
                }
                _ => return self.entry(&block, path, extended).map(Some),
            }
        }
    }

    /// After a block of zeros: at most zeros may follow.
    fn end(&mut self, in_extended: bool, must_end: bool) -> Result<()> {
        if in_extended {
            return Err(self.layer_error(Refusal::Truncated));
        }
        let mut zeros = BLOCK as u64;
        loop {
            let chunk = self.input.chunk(usize::MAX)?;
            if chunk.is_empty() {
                break;
            }
            let (length, clean) = (chunk.len() as u64, is_zero(chunk));
            zeros += length;
            self.position += length;
            if !clean {
                return Err(self.layer_error(Refusal::AfterEnd));
            }
        }
        if must_end && zeros < 2 * BLOCK as u64 {
            return Err(self.layer_error(Refusal::NoEnd));
        }
        Ok(())
    }

    /// The contents of an extended header.
    fn extended(&mut self, entry: &[u8], size: u64, total: &mut u64) -> Result<Vec<u8>> {
        *total = total.saturating_add(size);
        if *total > self.limits.extended_header {
            return Err(self.entry_error(entry, Refusal::ExtendedHeader(self.limits.extended_header)));
        }
        self.begin(size);
        let mut bytes = Vec::new();
        while self.left > 0 {
            let chunk = self.contents()?;
            bytes.extend_from_slice(chunk);
        }
        Ok(bytes)
    }

    fn begin(&mut self, stored: u64) {
        self.left = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
    }

    fn pax(&self, entry: &[u8], bytes: &[u8], extended: &mut Extended) -> Result<()> {
        let malformed = |what| self.entry_error(entry, Refusal::Header(what));
        let records = pax::records(bytes).ok_or_else(|| malformed("pax record"))?;
        for (key, value) in records {
            let number = |what| pax::number(value).ok_or_else(|| malformed(what));
            match key {
                b"path" => extended.path = Some(value.to_vec()),
                b"linkpath" => extended.link = Some(value.to_vec()),
                b"size" => extended.size = Some(number("pax size")?),
                b"uid" => extended.uid = Some(number("pax uid")?),
                b"gid" => extended.gid = Some(number("pax gid")?),
                b"mtime" => extended.mtime = Some(pax::time(value).ok_or_else(|| malformed("pax mtime"))?),
                b"GNU.sparse.major" => extended.sparse_major = Some(number("sparse version")?),
                b"GNU.sparse.name" => extended.sparse_name = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    extended.sparse_size = Some(number("sparse size")?)
                }
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    extended.sparse_map.push(number("sparse map")?)
                }
                b"GNU.sparse.map" => {
                    for part in value.split(|byte| *byte == b',') {
                        extended.sparse_map.push(pax::number(part).ok_or_else(|| malformed("sparse map"))?);
                    }
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        extended.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }

    /// A global header may comment, but one that renames every entry after it is no honest layer.
    fn global(&self, entry: &[u8], bytes: &[u8]) -> Result<()> {
        let malformed = |what| self.entry_error(entry, Refusal::Header(what));
        for (key, _) in pax::records(bytes).ok_or_else(|| malformed("pax record"))? {
            if matches!(key, b"path" | b"linkpath" | b"size")
                || key.starts_with(b"GNU.sparse.")
                || key.starts_with(b"SCHILY.xattr.")
            {
                return Err(malformed("global pax header that applies to every entry"));
            }
        }
        Ok(())
    }

    fn entry(&mut self, block: &[u8; BLOCK], short_path: Vec<u8>, extended: Extended) -> Result<Entry> {
        let header = Header::from_byte_slice(block);
        let gnu_sparse = header.entry_type() == EntryType::GNUSparse;
        let mut path = extended.sparse_name.or(extended.path).unwrap_or(short_path);
        let label = path.clone();
        let refused = |reason| Error::Entry {
            layer: self.layer.to_owned(),
            entry: String::from_utf8_lossy(&label).into_owned(),
            reason,
        };
        let malformed = |what| refused(Refusal::Header(what));
        let mut kind = match header.entry_type() {
            // Contiguous is an ordinary file to everyone.
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char => Kind::Character,
            EntryType::Block => Kind::Block,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => return Err(refused(Refusal::Type(char::from(other.as_byte())))),
        };
        // Before ustar a directory was a file whose name ends in a slash, and Go's reader still agrees.
        if kind == Kind::File && !gnu_sparse && path.ends_with(b"/") {
            kind = Kind::Directory;
        }
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let stored = match extended.size {
            Some(size) => size,
            None => header.entry_size().ok().ok_or_else(|| malformed("size"))?,
        };
        if kind != Kind::File && stored != 0 {
            // Readers differ on whether such bytes follow; whoever hides an entry there does so on purpose.
            return Err(refused(Refusal::UnexpectedContents(stored)));
        }
        let id = |id: Option<u64>, short: std::io::Result<u64>, what| match id.map_or(short, Ok) {
            Ok(id) => u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| malformed(what)),
            Err(_) => Err(malformed(what)),
        };
        let uid = id(extended.uid, header.uid(), "uid")?;
        let gid = id(extended.gid, header.gid(), "gid")?;
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            // The tar crate reads a time before 1970 in GNU's binary form as a huge one.
            None => (header.mtime().ok().ok_or_else(|| malformed("mtime"))?.cast_signed(), 0),
        };
        let device = match kind {
            Kind::Character | Kind::Block => {
                let number = |number: std::io::Result<Option<u32>>| match number {
                    Ok(number) => Ok(number.unwrap_or(0)),
                    Err(_) => Err(malformed("device number")),
                };
                (number(header.device_major())?, number(header.device_minor())?)
            }
            _ => (0, 0),
        };
        let link = match kind {
            Kind::HardLink | Kind::Symlink => extended
                .link
                .or_else(|| header.link_name_bytes().map(|link| link.into_owned()))
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        let mode = header.mode().ok().ok_or_else(|| malformed("mode"))? & 0o7777;
        let old_sparse = if gnu_sparse {
            let gnu = header.as_gnu().ok_or_else(|| malformed("sparse header"))?;
            let mut map = Vec::new();
            for part in gnu.sparse.iter().filter(|part| !part.is_empty()) {
                map.push(part.offset().ok().ok_or_else(|| malformed("sparse map"))?);
                map.push(part.length().ok().ok_or_else(|| malformed("sparse map"))?);
            }
            Some((gnu.real_size().ok().ok_or_else(|| malformed("sparse size"))?, map, gnu.is_extended()))
        } else {
            None
        };
        drop(label);
        self.begin(stored);
        let mut entry = Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            size: stored,
            link,
            device,
            xattrs: extended.xattrs,
            sparse: None,
        };
        if let Some((size, mut map, is_extended)) = old_sparse {
            if is_extended {
                self.old_sparse(&entry, &mut map)?;
            }
            self.sparse(&mut entry, size, &map)?;
        } else if extended.sparse_major == Some(1) {
            let size = extended
                .sparse_size
                .ok_or_else(|| self.entry_error(&entry.path, Refusal::Header("sparse size")))?;
            let map = self.new_sparse(&entry)?;
            self.sparse(&mut entry, size, &map)?;
        } else if let Some(size) = extended.sparse_size {
            self.sparse(&mut entry, size, &extended.sparse_map)?;
        }
        Ok(entry)
    }
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Does the header's checksum fit? Every variant of tar has one.
pub(crate) fn has_right_sum(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let sum: u32 = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    header.cksum().is_ok_and(|cksum| cksum == sum)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
