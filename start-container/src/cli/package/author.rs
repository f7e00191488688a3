//! For who writes packages: new, keygen, pack, sign. None of it needs root or a daemon.

use std::fs::File;
use std::path::{Path, PathBuf};

use packages::bundle::{self, Limits, Sealed};
use packages::keys::PrivateKey;
use packages::manifest::PackageId;
use protocol::ErrorKind;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde_json::json;

use super::{Context, output};
use crate::error::{Failure, Result};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct New {
    /// Where; made if it is missing
    directory: PathBuf,
    /// The package's id [default: the directory's name]
    #[arg(long)]
    id: Option<PackageId>,
}

/// What a new package begins as. `ID` is replaced.
const MANIFEST: &str = "\
# The form of this file: start-container package schema
manifest: 1
id: ID
name: ID
version: 0.1.0
description: Says hello
images:
  main:
    file: images/main.tar
volumes:
  main: {}
entries:
  hello:
    service:
      program:
        image: main
        command: [sh, -c, 'while :; do date > /data/now; sleep 1; done']
        mounts:
          - path: /data
            from: { volume: main }
# What it asks the host for, each with a reason that the operator reads before granting it:
# capabilities:
#   http:egress:
#     reason: Looks for new versions
#     hosts: [api.example.com:443]
";

impl New {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let id = match self.id {
            Some(id) => id,
            None => name_of(&self.directory)?,
        };
        let failed = |step| {
            let shown = self.directory.display().to_string();
            move |errno| Failure::kernel(step, shown, errno)
        };
        let dir = linux::tree::ensure_dir(&self.directory, 0o755).map_err(failed("create"))?;
        for name in ["manifest.yaml", "manifest.yml", "manifest.json"] {
            match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Ok(_) => return Err(failed("write a package over the one in")(Errno::EXIST)),
                Err(errno) => return Err(failed("look into")(errno)),
            }
        }
        linux::tree::ensure_dir_at(&dir, "images", 0o755).map_err(failed("create images in"))?;
        let text = MANIFEST.replace("ID", id.as_str());
        linux::tree::replace_file_at(&dir, "manifest.yaml", text.as_bytes(), 0o644, false)
            .map_err(failed("write manifest.yaml in"))?;
        if context.json {
            return output::json(&json!({ "id": id, "manifest": self.directory.join("manifest.yaml") }));
        }
        output::line(&self.directory.join("manifest.yaml").display().to_string());
        output::error("now put an image into images/main.tar: podman save, docker save, or any rootfs tar");
        Ok(())
    }
}

/// The id that a package in this directory has, where nobody says another.
pub(super) fn name_of(directory: &Path) -> Result<PackageId> {
    let name = std::path::absolute(directory)
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_default();
    name.parse()
        .map_err(|error| Failure::new(ErrorKind::Invalid, "name the package (try --id)", "").because(error))
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Keygen {
    /// The private key's file, which must not exist yet; keep it secret
    file: PathBuf,
}

impl Keygen {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let public = PrivateKey::create(&self.file)?.public();
        if context.json {
            return output::json(&json!({ "key": public }));
        }
        output::line(&public.to_string());
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Packed are manifest.yaml (or .yml, .json) and the directories assets, entries, images, precompiled and ui. Links, devices
and sockets in these are refused. The same files give the same bytes, wherever and whenever they are packed.")]
pub(in crate::cli) struct Pack {
    /// The package's directory
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Where to write the bundle [default: ID-VERSION.bundle.tar.zst]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sign it with this private key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Pack {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let key = self.key.as_deref().map(PrivateKey::read).transpose()?;
        let dir = linux::tree::open_dir(&self.directory)
            .map_err(|errno| Failure::kernel("open", self.directory.display(), errno))?;
        let place = self.output.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let part = Part::begin(place)?;
        let (sealed, contents) = bundle::pack(&dir, part.file()?, &Limits::default())?;
        let manifest = &contents.manifest;
        let name = format!("{}-{}.bundle.tar.zst", manifest.id, manifest.version);
        let path = self.output.clone().unwrap_or_else(|| name.into());
        match key {
            None => part.finish(&path)?,
            Some(key) => {
                let signed = Part::begin(place)?;
                bundle::sign(&sealed, &key, &mut signed.file()?)?;
                signed.finish(&path)?;
            }
        }
        if context.json {
            return output::json(&json!({
                "id": manifest.id, "version": manifest.version, "digest": sealed.digest(), "path": path,
                "files": contents.files, "bytes": contents.bytes, "packed": sealed.len(),
            }));
        }
        output::line(&path.display().to_string());
        output::error(&format!("{}, {} files", sealed.digest(), contents.files));
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Sign {
    /// The bundle; it is replaced in one step
    bundle: PathBuf,
    /// The private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write the signed bundle here instead
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Sign {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let key = PrivateKey::read(&self.key)?;
        let limits = Limits::default();
        let sealed = Sealed::open(super::open(&self.bundle)?, &limits)?;
        // Nobody should put their name under what no host takes.
        let contents = sealed.read(&limits, |_| Ok(()), &mut ())?;
        let path = self.output.unwrap_or(self.bundle);
        let part = Part::begin(path.parent().unwrap_or(Path::new("")))?;
        let envelope = bundle::sign(&sealed, &key, &mut part.file()?)?;
        part.finish(&path)?;
        if context.json {
            let keys: Vec<_> = envelope.signatures.iter().map(|signature| signature.key).collect();
            return output::json(&json!({ "digest": sealed.digest(), "path": path, "signedBy": keys }));
        }
        output::line(&format!("{} {} is signed by", contents.manifest.id, contents.manifest.version));
        for signature in envelope.signatures {
            output::line(&format!("  {}", signature.key));
        }
        Ok(())
    }
}

/// A file that gets its name when it is whole. Until then it has none that anybody would use, and goes with us.
struct Part {
    dir: std::os::fd::OwnedFd,
    name: String,
    file: File,
}

impl Part {
    fn begin(dir: &Path) -> Result<Self> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let begun = || {
            let dir = linux::tree::open_dir(dir)?;
            let name = format!(".{}.part", linux::tree::random_name()?);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&dir, name.as_str(), flags, Mode::from_raw_mode(0o644))?;
            Ok(Self { dir, name, file: file.into() })
        };
        begun().map_err(|errno| Failure::kernel("create a file in", dir.display(), errno))
    }

    fn file(&self) -> Result<File> {
        self.file.try_clone().map_err(|error| Failure::new(ErrorKind::Exhausted, "write", "").because(error))
    }

    fn finish(self, path: &Path) -> Result<()> {
        let named = rustix::fs::renameat(&self.dir, self.name.as_str(), CWD, path);
        named.map_err(|errno| Failure::kernel("write", path.display(), errno))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After finish there is nothing of this name.
        _ = rustix::fs::unlinkat(&self.dir, self.name.as_str(), AtFlags::empty());
    }
}
