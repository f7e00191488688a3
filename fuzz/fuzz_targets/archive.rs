//! Any bytes as the archive in a bundle. What is accepted has one form: files in order, each once, in their places.
#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use packages::Result;
use packages::bundle::{Limits, Sealed, Sink};

#[derive(Default)]
struct Names(Vec<String>, u64);

impl Sink for Names {
    fn begin(&mut self, path: &str, _: bool) -> Result<()> {
        self.0.push(path.to_owned());
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.1 += bytes.len() as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&zstd::encode_all(data, 1).expect("compressed")).expect("written");
    let limits = Limits::default();
    let sealed = Sealed::open(file, &limits).expect("a frame of zstd");
    let mut names = Names::default();
    let Ok(contents) = sealed.read(&limits, |_| Ok(()), &mut names) else { return };
    let Names(names, bytes) = names;
    assert_eq!((contents.files, contents.bytes), (names.len() as u64, bytes));
    assert_eq!(names[0], "manifest.json");
    assert!(names[1..].is_sorted_by(|a, b| a < b));
    for name in &names[1..] {
        assert!(!name.split('/').any(|part| matches!(part, "" | "." | "..")), "{name}");
        assert!(["assets", "entries", "images", "precompiled", "ui"].contains(&name.split('/').next().unwrap()), "{name}");
    }
});
