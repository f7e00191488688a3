//! For `cargo xtask bench`: what taking a bundle in costs beside what nobody could do without, and many packages.
//!
//! ```text
//! weigh prepare DIR FILES     a key that is trusted, and DIR/bundle with these files in assets/
//! weigh floor DIR COUNT       hash of the bundle, and its decompression: milliseconds, one line each
//! weigh admit DIR COUNT       verified and unpacked into a store
//! weigh fill DIR COUNT        so many packages, installed
//! weigh list DIR COUNT        listed, as the host would say it
//! ```
#![allow(clippy::print_stdout, reason = "its output is what it is run for")]

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use packages::bundle::{self, Limits};
use packages::keys::PrivateKey;
use packages::manifest::{Entry, PackageId};
use packages::runner::{Failed, Runner, Startable};
use packages::trust::TrustedKey;
use packages::{Manifest, Packages, Store, Trust};
use sha2::{Digest as _, Sha256};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, dir, last] = arguments.as_slice() else { return Err("weigh WHAT DIR COUNT".into()) };
    let dir = Path::new(dir);
    match what.as_str() {
        "prepare" => prepare(dir, Path::new(last)),
        "floor" => times(last.parse()?, || floor(dir)),
        "admit" => {
            let store = Store::open(dir)?;
            times(last.parse()?, || {
                let start = Instant::now();
                let stored = store.admit_file(File::open(dir.join("bundle"))?, 0)?;
                let time = start.elapsed().as_secs_f64() * 1e3;
                store.remove(&stored.digest)?;
                Ok(time)
            })
        }
        "fill" => fill(dir, last.parse()?),
        "list" => {
            let packages = Packages::open(dir, Arc::new(Nothing), || 1)?;
            times(last.parse()?, || {
                let start = Instant::now();
                std::hint::black_box(serde_json::to_string(&packages.list()?)?);
                Ok(start.elapsed().as_secs_f64() * 1e3)
            })
        }
        _ => Err("no such thing to weigh".into()),
    }
}

fn times(count: usize, mut once: impl FnMut() -> Result<f64>) -> Result {
    for _ in 0..count {
        println!("{}", once()?);
    }
    Ok(())
}

/// A key, trusted for everything.
fn trusted(dir: &Path) -> Result<PrivateKey> {
    fs::create_dir_all(dir)?;
    let key = PrivateKey::create(&dir.join("key"))?;
    let public = key.public();
    Trust::change(&dir.join("trust.json"), |trust| {
        let name = "weigh".parse().map_err(|_error| packages::Error::Unknown("name".to_owned()))?;
        let all = "*".parse().map_err(|_error| packages::Error::Unknown("pattern".to_owned()))?;
        trust.add(TrustedKey {
            key: public,
            name,
            packages: vec![all],
            added: 0,
            expires: None,
            revoked: None,
        })
    })?;
    Ok(key)
}

/// The package in a directory, packed and signed.
fn pack(package: &Path, key: &PrivateKey, mut out: File) -> Result<File> {
    let scratch = tempfile::tempfile()?;
    let (sealed, _) = bundle::pack(&linux::tree::open_dir(package)?, scratch, &Limits::default())?;
    bundle::sign(&sealed, key, &mut out)?;
    out.rewind()?;
    Ok(out)
}

fn prepare(dir: &Path, files: &Path) -> Result {
    let key = trusted(dir)?;
    let package = tempfile::tempdir_in(dir)?;
    fs::write(package.path().join("manifest.json"), manifest("weigh"))?;
    let assets = package.path().join("assets");
    fs::create_dir(&assets)?;
    for (number, entry) in fs::read_dir(files)?.enumerate() {
        let path = entry?.path();
        if path.is_file() {
            fs::copy(path, assets.join(number.to_string()))?;
        }
    }
    let out = File::options().read(true).write(true).create(true).truncate(true).open(dir.join("bundle"))?;
    pack(package.path(), &key, out).map(drop)
}

fn manifest(id: &str) -> String {
    format!(
        r#"{{"manifest":1,"id":"{id}","name":"Package {id}","version":"1.0.0","capabilities":{{
            "http:egress":{{"reason":"News","hosts":["a.example:443","b.example:443"]}},
            "kv:read":{{"reason":"Settings","groups":["settings"]}}}}}}"#
    )
}

/// What nobody could do without, by the same libraries: every byte hashed, and decompressed.
fn floor(dir: &Path) -> Result<f64> {
    let start = Instant::now();
    let mut file = File::open(dir.join("bundle"))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    std::hint::black_box(hasher.finalize());
    file.rewind()?;
    let mut decoder = zstd::stream::read::Decoder::new(file)?;
    while decoder.read(&mut buffer)? > 0 {}
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Runs nothing.
struct Nothing;

impl Runner for Nothing {
    fn can_run(&self, _: &Manifest, _: &Entry) -> Result<(), String> {
        Ok(())
    }

    fn start(&self, _: &Startable<'_>) -> Result<(), Failed> {
        Ok(())
    }

    fn stop(&self, _: &PackageId, _: Option<&semver::Version>) -> Result<(), Failed> {
        Ok(())
    }
}

fn fill(dir: &Path, count: usize) -> Result {
    let key = trusted(dir)?;
    let packages = Packages::open(dir, Arc::new(Nothing), || 1)?;
    let package = tempfile::tempdir_in(dir)?;
    for number in 0..count {
        fs::write(package.path().join("manifest.json"), manifest(&format!("p{number}")))?;
        let mut bundle = pack(package.path(), &key, tempfile::tempfile()?)?;
        bundle.flush()?;
        packages.install(bundle, false)?;
    }
    Ok(())
}
