//! A directory as a tar stream: the way a rootfs directory becomes a layer with a digest.
//!
//! The same tree gives the same bytes: names are sorted, times and ids are the files' own, and nothing of the
//! machine (user names, inode numbers) is written.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use tar::{EntryType, Header};

use linux::tree::{BENEATH, names_in, open_dir_at};

const BLOCK: u64 = 512;

/// Writes the directory as a tar archive. An error's text names the file.
pub(crate) fn write_tree(
    root: &OwnedFd,
    keep_xattr: fn(&[u8]) -> bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut walk = Walk { out, keep_xattr, seen: HashMap::new(), buffer: vec![0; 1 << 18] };
    let stat = rustix::fs::fstat(root)?;
    let xattrs = walk.xattrs(root.as_fd())?;
    walk.header(b"./", EntryType::Directory, &stat, &[], xattrs, 0)?;
    walk.directory(root.as_fd(), &mut Vec::new(), 0)?;
    walk.out.write_all(&[0; 1024])
}

struct Walk<'w> {
    out: &'w mut dyn Write,
    keep_xattr: fn(&[u8]) -> bool,
    /// Files with several names, by device and inode, with the first name met.
    seen: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// Names and values, of attributes or of pax records.
pub(crate) type Records = Vec<(Vec<u8>, Vec<u8>)>;

impl Walk<'_> {
    fn directory(&mut self, dir: BorrowedFd<'_>, path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        if depth > 256 {
            return Err(io::Error::other(format!("{} is too deep", String::from_utf8_lossy(path))));
        }
        let mut names: Vec<CString> = names_in(dir)?.into_iter().map(|(name, _)| name).collect();
        names.sort();
        for name in names {
            let length = path.len();
            path.extend_from_slice(name.as_bytes());
            self.file(dir, &name, path, depth).map_err(|error| {
                // Named once, by the innermost call; the wrapped error keeps its kind and its errno's text.
                if error.raw_os_error().is_some() {
                    io::Error::new(error.kind(), format!("{}: {error}", String::from_utf8_lossy(path)))
                } else {
                    error
                }
            })?;
            path.truncate(length);
        }
        Ok(())
    }

    fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CString,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        if name.as_bytes().starts_with(b".wh.") {
            return Err(io::Error::other(format!(
                "{}: a layer cannot hold a name that begins with .wh.",
                String::from_utf8_lossy(path)
            )));
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            // Nobody can listen on it any more.
            return Ok(());
        }
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.seen.get(&id) {
                let first = first.clone();
                return self.header(path, EntryType::Link, &stat, &first, Vec::new(), 0);
            }
            self.seen.insert(id, path.clone());
        }
        let open = |flags| {
            rustix::fs::openat2(dir, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), BENEATH)
        };
        match kind {
            FileType::Directory => {
                let inner = open_dir_at(dir, name)?;
                let xattrs = self.xattrs(inner.as_fd())?;
                path.push(b'/');
                self.header(path, EntryType::Directory, &stat, &[], xattrs, 0)?;
                self.directory(inner.as_fd(), path, depth + 1)
            }
            FileType::RegularFile => {
                let file = open(OFlags::RDONLY | OFlags::NOATIME)?;
                let xattrs = self.xattrs(file.as_fd())?;
                self.regular(file.as_fd(), path, &stat, xattrs)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                self.header(path, EntryType::Symlink, &stat, target.as_bytes(), Vec::new(), 0)
            }
            FileType::CharacterDevice => self.header(path, EntryType::Char, &stat, &[], Vec::new(), 0),
            FileType::BlockDevice => self.header(path, EntryType::Block, &stat, &[], Vec::new(), 0),
            FileType::Fifo => self.header(path, EntryType::Fifo, &stat, &[], Vec::new(), 0),
            _ => Err(io::Error::other(format!("{}: unknown type", String::from_utf8_lossy(path)))),
        }
    }

    fn regular(
        &mut self,
        file: BorrowedFd<'_>,
        path: &[u8],
        stat: &Stat,
        mut records: Records,
    ) -> io::Result<()> {
        let size = stat.st_size.cast_unsigned();
        let mut map = Vec::new();
        if stat.st_blocks.cast_unsigned() * BLOCK < size {
            map = data(file, size)?;
        }
        if map.is_empty() || map == [(0, size)] {
            if stat.st_blocks.cast_unsigned() * BLOCK >= size || size == 0 || map == [(0, size)] {
                self.header(path, EntryType::Regular, stat, &[], records, size)?;
                self.copy(file, path, 0, size)?;
                return self.pad(size);
            }
            map.push((size, 0));
        }
        let mut head = format!("{}\n", map.len()).into_bytes();
        for (offset, length) in &map {
            head.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
        }
        head.resize(head.len().next_multiple_of(BLOCK as usize), 0);
        let record = |key: &str, value: &[u8]| (key.as_bytes().to_vec(), value.to_vec());
        records.push(record("GNU.sparse.major", b"1"));
        records.push(record("GNU.sparse.minor", b"0"));
        records.push(record("GNU.sparse.name", path));
        records.push(record("GNU.sparse.realsize", size.to_string().as_bytes()));
        let stored = head.len() as u64 + map.iter().map(|(_, length)| length).sum::<u64>();
        self.header(path, EntryType::Regular, stat, &[], records, stored)?;
        self.out.write_all(&head)?;
        for (offset, length) in map {
            self.copy(file, path, offset, length)?;
        }
        self.pad(stored)
    }

    fn copy(
        &mut self,
        file: BorrowedFd<'_>,
        path: &[u8],
        mut offset: u64,
        mut length: u64,
    ) -> io::Result<()> {
        while length > 0 {
            let max = usize::try_from(length).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = rustix::io::pread(file, &mut self.buffer[..max], offset)?;
            if read == 0 {
                return Err(io::Error::other(format!("{} became shorter", String::from_utf8_lossy(path))));
            }
            self.out.write_all(&self.buffer[..read])?;
            offset += read as u64;
            length -= read as u64;
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = usize::try_from(size.wrapping_neg() % BLOCK).unwrap_or(0);
        self.out.write_all(&[0; BLOCK as usize][..padding])
    }

    fn xattrs(&self, file: BorrowedFd<'_>) -> io::Result<Records> {
        let mut records = Vec::new();
        for (name, value) in read_xattrs(file)? {
            if (self.keep_xattr)(&name) {
                records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value));
            }
        }
        Ok(records)
    }

    fn header(
        &mut self,
        path: &[u8],
        kind: EntryType,
        stat: &Stat,
        link: &[u8],
        mut records: Records,
        size: u64,
    ) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        let record = |key: &str, value: String| (key.as_bytes().to_vec(), value.into_bytes());
        let mut number = |key: &str, value: u64, most: u64| {
            if value > most {
                records.push(record(key, value.to_string()));
                0
            } else {
                value
            }
        };
        header.set_uid(number("uid", u64::from(stat.st_uid), 0o7_777_777));
        header.set_gid(number("gid", u64::from(stat.st_gid), 0o7_777_777));
        header.set_size(number("size", size, 0o77_777_777_777));
        let seconds = stat.st_mtime;
        let nanoseconds = stat.st_mtime_nsec;
        if nanoseconds == 0 && (0..=0o77_777_777_777).contains(&seconds) {
            header.set_mtime(seconds.cast_unsigned());
        } else {
            // The inverse of pax::time: before 1970 the fraction counts backwards in text.
            let text = match (seconds, nanoseconds) {
                (0.., _) => format!("{seconds}.{nanoseconds:09}"),
                (_, 0) => seconds.to_string(),
                _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
            };
            header.set_mtime(seconds.clamp(0, 0o77_777_777_777).cast_unsigned());
            records.push(record("mtime", text));
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(rustix::fs::major(stat.st_rdev))?;
            header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
        }
        let old = header.as_old_mut();
        let fits = |text: &[u8]| text.len() <= 100;
        let short = |text: &[u8]| text[..text.len().min(100)].to_vec();
        let (name, target) = (short(path), short(link));
        old.name[..name.len()].copy_from_slice(&name);
        old.linkname[..target.len()].copy_from_slice(&target);
        if !fits(path) {
            records.push((b"path".to_vec(), path.to_vec()));
        }
        if !fits(link) {
            records.push((b"linkpath".to_vec(), link.to_vec()));
        }
        header.set_cksum();
        if !records.is_empty() {
            let body = pax_body(&records);
            let mut extended = Header::new_ustar();
            extended.set_entry_type(EntryType::XHeader);
            extended.set_path("pax")?;
            extended.set_mode(0o644);
            extended.set_uid(0);
            extended.set_gid(0);
            extended.set_mtime(0);
            extended.set_size(body.len() as u64);
            extended.set_cksum();
            self.out.write_all(extended.as_bytes())?;
            self.out.write_all(&body)?;
            self.pad(body.len() as u64)?;
        }
        self.out.write_all(header.as_bytes())
    }
}

fn pax_body(records: &Records) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length.to_string().len() + rest != length {
            length = length.to_string().len() + rest;
        }
        body.extend_from_slice(format!("{length} ").as_bytes());
        body.extend_from_slice(key);
        body.push(b'=');
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body
}

/// The parts of a file that are not holes.
fn data(file: BorrowedFd<'_>, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut map = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if end > start {
            map.push((start, end - start));
        }
        at = end.max(start + 1);
    }
    Ok(map)
}

/// All extended attributes of an open file, sorted by name.
pub(crate) fn read_xattrs(file: BorrowedFd<'_>) -> Result<Records, Errno> {
    let mut list = vec![0; 1024];
    let length = loop {
        match rustix::fs::flistxattr(file, &mut list[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) => list.resize(list.len() * 4, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    };
    let mut xattrs = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 256];
        let length = loop {
            match rustix::fs::fgetxattr(file, name, &mut value[..]) {
                Ok(length) => break Some(length),
                Err(Errno::RANGE) => value.resize(value.len() * 4, 0),
                Err(Errno::NODATA) => break None,
                Err(errno) => return Err(errno),
            }
        };
        if let Some(length) = length {
            value.truncate(length);
            xattrs.push((name.to_vec(), value));
        }
    }
    xattrs.sort();
    Ok(xattrs)
}
