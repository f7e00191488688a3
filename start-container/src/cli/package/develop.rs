//! What `package dev` and `package test` share: a package's source folder, built and signed; programs that are waited for.
//!
//! A source folder says how it is built by scripts of its `package.json`, as `package init` writes them: `check` (types),
//! `build` (a package's directory, `build/`), `tests`. Whatever runs is ended when this program is asked to end.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use packages::Manifest;
use packages::bundle::{self, Limits, Sealed};
use packages::keys::{PrivateKey, PublicKey};
use packages::manifest::{PackageId, Syntax};
use packages::trust::TrustedKey;
use protocol::ErrorKind;
use rustix::process::{Pid, Signal, kill_process_group};

use super::{Context, now, trust};
use crate::error::{Failure, Result};

/// How often somebody who waits looks.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// Between being asked to end and being killed.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// A source folder.
pub(super) struct Source {
    pub(super) dir: PathBuf,
}

pub(super) fn wrong(step: &str, what: impl std::fmt::Display, why: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Invalid, step, what).because(std::io::Error::other(why.into()))
}

pub(super) fn interrupted() -> Failure {
    Failure::new(ErrorKind::Busy, "interrupted", "")
}

impl Source {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let dir = std::fs::canonicalize(dir).map_err(Failure::io("open", dir.display()))?;
        let text = std::fs::read(dir.join("package.json"))
            .map_err(Failure::io("read package.json in", dir.display()))?;
        let package: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(ErrorKind::Invalid, "read package.json in", dir.display()).because(error)
        })?;
        for script in ["check", "build"] {
            if !package["scripts"][script].is_string() {
                let why = format!("it has no script {script:?}: `package init` writes one");
                return Err(wrong("read package.json in", dir.display(), why));
            }
        }
        if !dir.join("node_modules").is_dir() {
            return Err(wrong("build", dir.display(), "there is no node_modules: run `npm install` first"));
        }
        Ok(Self { dir })
    }

    /// A script of its `package.json`.
    pub(super) fn script(&self, name: &str) -> Command {
        let mut npm = Command::new("npm");
        npm.args(["run", "--silent", name]).current_dir(&self.dir).stdin(Stdio::null());
        npm
    }

    /// What was built.
    pub(super) fn built(&self) -> PathBuf {
        self.dir.join("build")
    }

    /// The manifest that was built.
    pub(super) fn manifest(&self) -> Result<Manifest> {
        let path = self.built().join("manifest.json");
        let text = std::fs::read(&path).map_err(Failure::io("read", path.display()))?;
        Manifest::read(&text, Syntax::Json)
            .map_err(|fault| Failure::new(ErrorKind::Invalid, "read", path.display()).because(fault))
    }

    /// Packs what was built, signed.
    pub(super) fn pack(&self, key: &PrivateKey, into: &Path) -> Result<()> {
        let built = self.built();
        let dir =
            linux::tree::open_dir(&built).map_err(|errno| Failure::kernel("open", built.display(), errno))?;
        let fail = || Failure::io("write", into.display());
        let unsigned = tempfile(into.parent().unwrap_or(Path::new("."))).map_err(fail())?;
        let (sealed, _): (Sealed, _) = bundle::pack(&dir, unsigned, &Limits::default())?;
        let mut file = File::create(into).map_err(fail())?;
        bundle::sign(&sealed, key, &mut file)?;
        Ok(())
    }
}

/// Has no name, and goes with us.
fn tempfile(dir: &Path) -> std::io::Result<File> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(dir, flags, rustix::fs::Mode::from_raw_mode(0o600));
    Ok(File::from(file.map_err(std::io::Error::from)?))
}

/// Trusts a key with one package and no other.
pub(super) fn trust_key(context: &Context, key: PublicKey, name: &str, id: &PackageId) -> Result<()> {
    let read = |text: &str| wrong("trust", id, format!("{text} cannot be written"));
    let new = TrustedKey {
        key,
        name: name.parse().map_err(|_line| read(name))?,
        packages: vec![id.as_str().parse().map_err(|_pattern| read(id.as_str()))?],
        added: now(),
        expires: None,
        revoked: None,
    };
    packages::Trust::change(&trust::file(context), |trust| trust.add(new))?;
    Ok(())
}

/// A program of its own group, which ends with this.
pub(super) struct Running {
    child: Child,
    name: String,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        // Ctrl-C is for us to pass on, when what must come before it is done.
        let child = linux::signal::unblocked(|| command.process_group(0).spawn());
        let child = child.map_err(Failure::io("start", &name))?;
        Ok(Self { child, name })
    }

    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(Failure::io("wait for", &self.name))
    }

    /// Waits for its end; where nobody wants it any more, ends it.
    pub(super) fn wait(mut self, cancel: &images::Cancel) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if cancel.is_cancelled() {
                self.end(GRACE);
                return Err(interrupted());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks it to end, and after a time makes it.
    pub(super) fn end(&mut self, grace: Duration) {
        let group = Pid::from_child(&self.child);
        // It may have ended just now.
        _ = kill_process_group(group, Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < grace {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        _ = kill_process_group(group, Signal::KILL);
        _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end(GRACE);
        }
    }
}
