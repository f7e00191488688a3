//! Decompression, on a thread of its own: whoever hashes and writes what comes of it need not wait for it.
//!
//! ```text
//! that thread: file ─▶ zstd ─▶ pieces, two at most ──▶ this one: limits, headers, hashes, files
//!                                 ◀── empty ones, to be filled again
//! ```
//! Never runs further ahead than that. Ends when nobody listens any more.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Window of the decompressor, as a power of two: 8 MiB, which is what level 19 uses. More is memory that a bundle
/// would choose for us.
const WINDOW_LOG: u32 = 23;
/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait.
const AHEAD: usize = 2;

/// What comes out, in its order.
pub(super) enum Piece {
    /// Never empty.
    Bytes(Vec<u8>),
    /// The frame has ended; whether something follows it.
    End { more: bool },
}

/// The reading end.
pub(super) struct Expanded {
    pieces: Receiver<std::io::Result<Piece>>,
    empty: SyncSender<Vec<u8>>,
}

impl Expanded {
    /// Begins to decompress one frame, which lies in a part of a file.
    pub(super) fn of(file: &File, start: u64, length: u64) -> std::io::Result<Self> {
        let window = Window { file: file.try_clone()?, at: start, end: start + length };
        let (tell, pieces) = sync_channel(AHEAD);
        let (empty, emptied) = sync_channel(AHEAD + 2);
        std::thread::Builder::new().name("zstd".to_owned()).spawn(move || {
            if let Err(error) = expand(window, &tell, &emptied) {
                // Where nobody listens, nobody wants to know.
                _ = tell.send(Err(error));
            }
        })?;
        Ok(Self { pieces, empty })
    }

    /// The next piece.
    pub(super) fn next(&self) -> std::io::Result<Piece> {
        self.pieces.recv().unwrap_or_else(|_gone| Err(std::io::Error::other("the thread has ended")))
    }

    /// Gives a piece back.
    pub(super) fn done(&self, piece: Vec<u8>) {
        // One more than are needed is let go.
        _ = self.empty.try_send(piece);
    }
}

fn expand(
    window: Window,
    tell: &SyncSender<std::io::Result<Piece>>,
    emptied: &Receiver<Vec<u8>>,
) -> std::io::Result<()> {
    let window = BufReader::with_capacity(128 << 10, window);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(window)?.single_frame();
    decoder.window_log_max(WINDOW_LOG)?;
    loop {
        let mut piece = emptied.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut filled = 0;
        let ended = loop {
            match decoder.read(&mut piece[filled..])? {
                0 => break filled < PIECE,
                read => filled += read,
            }
        };
        if filled > 0 {
            piece.truncate(filled);
            if tell.send(Ok(Piece::Bytes(piece))).is_err() {
                return Ok(());
            }
        }
        if ended {
            let more = decoder.finish().read(&mut [0])? != 0;
            _ = tell.send(Ok(Piece::End { more }));
            return Ok(());
        }
    }
}

/// A part of a file, read without moving anybody's position.
struct Window {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
