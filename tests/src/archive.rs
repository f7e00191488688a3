//! Tar archives as an attacker would write them: header by header, with no library to refuse them.

use std::fs;
use std::path::Path;

/// An archive under construction.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, b'0', 0o644, "", content.len() as u64, content.as_bytes())
    }

    /// A directory.
    #[must_use]
    pub fn directory(self, name: &str) -> Self {
        self.entry(name, b'5', 0o755, "", 0, b"")
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', 0o777, target, 0, b"")
    }

    /// A hard link.
    #[must_use]
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'1', 0o644, target, 0, b"")
    }

    /// Any entry: its header says `size`, whatever `content` holds.
    #[must_use]
    pub fn entry(mut self, name: &str, kind: u8, mode: u32, link: &str, size: u64, content: &[u8]) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// Its bytes, closed as the format wants.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    /// Writes it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).expect("write the archive");
    }
}
