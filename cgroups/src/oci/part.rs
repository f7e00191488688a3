//! The directory of a container in one hierarchy, and a value for a file in it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Hierarchy, label};
use crate::controller::Version;
use crate::dir;
use crate::error::{Error, Result};

/// One directory.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) hierarchy: Hierarchy,
    pub(super) path: PathBuf,
    pub(super) dir: OwnedFd,
}

/// A value for a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    /// By its field in `linux.resources`.
    pub(super) field: &'static str,
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
    /// Where the file is absent, it is left out.
    pub(super) optional: bool,
    /// What is tried when this one is refused.
    pub(super) or: Option<Box<Setting>>,
}

impl Setting {
    pub(super) fn new(
        field: &'static str,
        controller: &'static str,
        file: impl Into<String>,
        value: impl ToString,
    ) -> Self {
        let (file, value) = (file.into(), value.to_string());
        Self { field, controller, file, value, optional: false, or: None }
    }

    pub(super) fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    pub(super) fn or(mut self, other: Self) -> Self {
        self.or = Some(Box::new(other));
        self
    }
}

impl Part {
    /// Whether a controller's files are here. Those of v2 are where it was made available.
    pub(super) fn has(&self, controller: &str) -> bool {
        match self.hierarchy.version {
            Version::V1 => self.hierarchy.options.iter().any(|option| option == controller),
            Version::V2 => {
                // Every group of v2 counts processor time and has `cgroup.*`, without any controller.
                controller == "cgroup"
                    || self
                        .read("cgroup.controllers")
                        .is_ok_and(|text| text.split_ascii_whitespace().any(|there| there == controller))
            }
        }
    }

    pub(super) fn join_file(&self) -> Result<OwnedFd> {
        let file = if self.hierarchy.version == Version::V1 { "tasks" } else { "cgroup.procs" };
        dir::open(self.dir.as_fd(), file, OFlags::WRONLY).map_err(|source| Error::Read {
            file: file.into(),
            group: self.label(),
            source,
        })
    }

    pub(super) fn write(&self, file: &str, value: &str) -> Result<()> {
        dir::write(self.dir.as_fd(), file, value).map_err(|source| self.failed(file, value, source))
    }

    /// Several values, one after the other.
    pub(super) fn write_each<'a>(&self, file: &str, values: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut open = None;
        for value in values {
            let fail = |source| self.failed(file, value, source);
            let file = match &open {
                Some(open) => open,
                None => open.insert(dir::open(self.dir.as_fd(), file, OFlags::WRONLY).map_err(fail)?),
            };
            dir::write_open(file.as_fd(), value).map_err(fail)?;
        }
        Ok(())
    }

    pub(super) fn read(&self, file: &str) -> Result<String, Errno> {
        dir::read(self.dir.as_fd(), file)
    }

    pub(super) fn failed(&self, file: &str, value: &str, source: Errno) -> Error {
        Error::Write { file: file.to_owned(), value: value.to_owned(), group: self.label(), source }
    }

    pub(super) fn label(&self) -> String {
        label(&self.hierarchy, &self.path)
    }
}
