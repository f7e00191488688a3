//! What runs the workers of packages: Deno, as an image in the store. What runs their functions is in [`own`].
//!
//! Owns which release it is, by its hash, and what goes with it: the program, and exactly the shared libraries that the
//! machine's loader finds for it. Nothing else is in that image, so nothing else is in a worker's file system. Never
//! downloads anything, and never runs the program to find out what it is.

use std::fs::File;
use std::io::{Read, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use images::Store;
use protocol::ErrorKind;
use protocol::image::ImageInfo;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::error::{Failure, Result};

pub(crate) mod own;

/// The release that this one was tested with.
pub(crate) const VERSION: &str = "2.9.6";
/// Its image.
pub(crate) const IMAGE: &str = "start-container/deno:2.9.6";
/// Where it is in there.
pub(crate) const PROGRAM: &str = "/bin/deno";
/// What to do about its absence.
pub(crate) const HINT: &str = "start-container runtime add deno --from PATH";

/// The program as its makers have published it for this machine, in the npm package that is named; the loader that it asks
/// for.
struct Release {
    npm: &'static str,
    sha256: &'static str,
    loader: &'static str,
}

#[cfg(target_arch = "x86_64")]
const RELEASE: Option<Release> = Some(Release {
    npm: "@deno/linux-x64-glibc",
    sha256: "bceb5b6a6239b0b010418406d8c77a508f67cf4337d94288f1c19fe71304aab0",
    loader: "/lib64/ld-linux-x86-64.so.2",
});
// Elsewhere nobody has tried it.
#[cfg(not(target_arch = "x86_64"))]
const RELEASE: Option<Release> = None;

/// The image of the runtime, where it was added.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn find(store: &Store) -> Result<Option<ImageInfo>> {
    match store.get(IMAGE).map_err(Failure::from) {
        Ok(image) => Ok(Some(image)),
        Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Makes the image, from the program at this path.
///
/// # Errors
/// When it is not the release that this one was tested with, or a library that it needs is missing.
pub(crate) fn add_deno(
    store: &Store,
    from: &Path,
    progress: &dyn images::Progress,
    cancel: &images::Cancel,
) -> Result<ImageInfo> {
    let refuse = |why: String| {
        Failure::new(ErrorKind::Invalid, "add runtime", from.display()).because(std::io::Error::other(why))
    };
    let release = RELEASE.ok_or_else(|| refuse("in this release, workers run on x86-64 alone".to_owned()))?;
    let mut program = File::open(from).map_err(Failure::io("open", from.display()))?;
    let found = hash(&mut program).map_err(Failure::io("read", from.display()))?;
    if found != release.sha256 {
        return Err(refuse(format!(
            "it is not Deno {VERSION} as {} has it on npm: its sha256 is {found}, not {}",
            release.npm, release.sha256
        )));
    }
    let libraries = libraries(release.loader, &program, from)?;
    let what = Contents { program: &mut program, of: from, at: PROGRAM, libraries };
    what.import(store, IMAGE, progress, cancel)
}

/// What is in an image: a program, and its libraries.
struct Contents<'a> {
    program: &'a mut File,
    /// What it is called, for people.
    of: &'a Path,
    /// Where it is in there.
    at: &'a str,
    libraries: Vec<PathBuf>,
}

impl Contents<'_> {
    fn import(
        self,
        store: &Store,
        name: &str,
        progress: &dyn images::Progress,
        cancel: &images::Cancel,
    ) -> Result<ImageInfo> {
        // Without a name: it goes with us, whatever happens.
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let archive = rustix::fs::open(store.data_dir(), flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| Failure::kernel("make a file in", store.data_dir().display(), errno))?;
        let mut archive = tar::Builder::new(File::from(archive));
        let mut made = Vec::new();
        add(&mut archive, &mut made, Path::new(self.at), self.program)
            .map_err(Failure::io("read", self.of.display()))?;
        for path in self.libraries {
            let mut file = File::open(&path).map_err(Failure::io("open", path.display()))?;
            add(&mut archive, &mut made, &path, &mut file).map_err(Failure::io("read", path.display()))?;
        }
        let finished = archive.into_inner().and_then(|mut file| file.flush().map(|()| file));
        let file = finished.map_err(Failure::io("write image of", self.of.display()))?;
        let place = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(store.import(Path::new(&place), Some(name), progress, cancel)?)
    }
}

fn hash(file: &mut File) -> std::io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    file.rewind()?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What the loader would load for a program, and itself: by absolute paths. `of`: what the program is called.
fn libraries(loader: &str, program: &File, of: &Path) -> Result<Vec<PathBuf>> {
    let fail = |why: String| {
        Failure::new(ErrorKind::NotFound, "find the libraries of", of.display())
            .because(std::io::Error::other(why))
    };
    let program = program.try_clone().map_err(|error| fail(error.to_string()))?;
    // It reads the program's needs and runs nothing of it.
    let listed = Command::new(loader)
        .args(["--list", "/proc/self/fd/0"])
        .stdin(program)
        .env_clear()
        .output()
        .map_err(|error| fail(format!("{loader} (glibc's loader): {error}")))?;
    if !listed.status.success() {
        return Err(fail(String::from_utf8_lossy(&listed.stderr).trim().to_owned()));
    }
    let mut found = vec![PathBuf::from(loader)];
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        // `name => path (address)`, `path (address)`; the kernel's own has no path.
        let (name, path) = line.trim().split_once(" => ").unwrap_or(("", line.trim()));
        let path = path.split_once(" (").map_or(path, |(path, _)| path);
        if path == "not found" {
            return Err(fail(format!("{name} is missing")));
        }
        let path = PathBuf::from(path);
        if path.is_absolute() && !found.contains(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// A file with the directories above it, root's, without a time: the same files make the same image.
fn add(
    archive: &mut tar::Builder<File>,
    made: &mut Vec<PathBuf>,
    at: &Path,
    file: &mut File,
) -> std::io::Result<()> {
    let header = |kind, size| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header
    };
    let inside = at.strip_prefix("/").unwrap_or(at);
    let above: Vec<&Path> = inside.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).collect();
    for dir in above.into_iter().rev() {
        if !made.iter().any(|known| known == dir) {
            archive.append_data(&mut header(EntryType::Directory, 0), dir, std::io::empty())?;
            made.push(dir.to_owned());
        }
    }
    let size = file.metadata()?.len();
    archive.append_data(&mut header(EntryType::Regular, size), inside, file.take(size))
}
