//! Any bytes as a bundle's file: envelope, compression, archive.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use packages::bundle::{Limits, Sealed};

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(data).expect("written");
    let limits = Limits { expanded: 64 << 20, ..Limits::default() };
    if let Ok(sealed) = Sealed::open(file, &limits) {
        let _ = sealed.read(&limits, |_| Ok(()), &mut ());
    }
});
