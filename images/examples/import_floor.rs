//! For `cargo xtask bench`: what an import could not do without, alone, by the libraries that it uses, in one thread.
//!
//! ```text
//! import_floor hash FILE...     SHA-256 of each: milliseconds of all
//! import_floor inflate LAYER    the decompression of a layer: milliseconds
//! ```
#![allow(clippy::print_stdout, reason = "its output is what it is run for")]

use std::fs::File;
use std::io::{BufReader, Read};
use std::time::Instant;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// As much as an import reads at once.
const CHUNK: usize = 128 << 10;

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (what, files) = arguments.split_first().ok_or("import_floor hash|inflate FILE...")?;
    let start = Instant::now();
    for file in files {
        let file = File::open(file)?;
        match what.as_str() {
            "hash" => {
                let mut hasher = Sha256::new();
                read(file, |bytes| hasher.update(bytes))?;
                std::hint::black_box(hasher.finalize());
            }
            "inflate" => {
                let decoder = MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file));
                read(decoder, |bytes| {
                    std::hint::black_box(bytes);
                })?;
            }
            _ => return Err("no such floor".into()),
        }
    }
    println!("{}", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// All of it, a chunk at a time.
fn read(mut from: impl Read, mut with: impl FnMut(&[u8])) -> Result {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => with(&buffer[..count]),
        }
    }
}
