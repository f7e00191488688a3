//! A script, turned into the words that the child reads ([`super::bare::script`]).

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::bare::script;
use super::{Op, Program, Script};

/// The words so far.
pub(super) struct Encoder {
    words: Vec<u64>,
    /// Capabilities that the child will not have in its bounding set, as whoever clones it has not.
    pub(super) taken: u64,
}

impl Encoder {
    /// Adds words. Returns their place.
    pub(super) fn words(&mut self, words: &[u64]) -> u64 {
        let place = self.words.len() as u64;
        self.words.extend_from_slice(words);
        place
    }

    /// Adds bytes, with at least one zero behind them. Returns their place.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let place = self.words.len() as u64;
        let chunks = bytes.chunks_exact(8);
        let rest = chunks.remainder();
        self.words.extend(chunks.map(|chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        }));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.words.push(u64::from_ne_bytes(last));
        place
    }

    /// Adds a string with its zero byte. Returns its place.
    pub(super) fn string(&mut self, string: &CStr) -> u64 {
        self.bytes(string.to_bytes())
    }

    /// Adds a list with a null behind it, and its place and length to the header.
    fn list(&mut self, header: usize, entries: &[u64]) {
        let place = self.words(entries);
        self.words.push(0);
        self.header(header, &[place, entries.len() as u64]);
    }

    fn strings(&mut self, header: usize, strings: &[CString]) {
        let places: Vec<u64> = strings.iter().map(|string| self.string(string)).collect();
        self.list(header, &places);
    }

    fn ops(&mut self, header: usize, ops: &[Op], descriptors: &mut Descriptors) {
        let steps: Vec<u64> = ops.iter().flat_map(|op| op.encode(self, descriptors)).collect();
        let place = self.words(&steps);
        self.header(header, &[place, ops.len() as u64]);
    }

    fn header(&mut self, at: usize, words: &[u64]) {
        self.words[at..][..words.len()].copy_from_slice(words);
    }
}

/// Which numbers the descriptors of a script have in the process that clones the child.
pub(super) enum Descriptors {
    /// Those that they have here. Copies that were made to move some out of the way live as long as this.
    Here(Vec<OwnedFd>),
    /// They are inherited in this order, the first as this number.
    From(u64, Vec<Arc<OwnedFd>>),
}

impl Descriptors {
    /// The number of a descriptor that the child uses before any is moved.
    pub(super) fn number(&mut self, fd: &Arc<OwnedFd>) -> u64 {
        match self {
            Self::Here(_) => u64::from(fd.as_raw_fd().unsigned_abs()),
            Self::From(first, inherited) => {
                let index = inherited.iter().position(|other| Arc::ptr_eq(other, fd)).unwrap_or_else(|| {
                    inherited.push(Arc::clone(fd));
                    inherited.len() - 1
                });
                *first + index as u64
            }
        }
    }

    /// The number of a descriptor that the child moves, when those below `lowest_free` are what it moves them to.
    /// One that stays at its own number may.
    fn moved(&mut self, fd: &Arc<OwnedFd>, lowest_free: u64, own: Option<u64>) -> Result<u64, Errno> {
        let number = self.number(fd);
        if number >= lowest_free || Some(number) == own {
            return Ok(number);
        }
        match self {
            Self::Here(copies) => {
                let copy = rustix::io::fcntl_dupfd_cloexec(fd, lowest_free as i32)?;
                let number = u64::from(copy.as_raw_fd().unsigned_abs());
                copies.push(copy);
                Ok(number)
            }
            Self::From(..) => Err(Errno::INVAL),
        }
    }
}

/// The first number that no descriptor of a child has at the end: its streams, those it keeps, its program, and the
/// two that a child of its own memory speaks through.
pub(super) fn lowest_free(script: &Script) -> u64 {
    3 + script.keep.len() as u64 + 3
}

/// What only a child of its own memory has ([`super::apart`]).
pub(super) struct Apart<'a> {
    pub(super) before: &'a [Op],
    pub(super) report: &'a Arc<OwnedFd>,
    pub(super) listener: Option<&'a Arc<OwnedFd>>,
}

/// The words of a script. Lists hold places still: whoever clones the child relocates them.
pub(super) fn encode(
    from: &Script,
    apart: Option<&Apart<'_>>,
    descriptors: &mut Descriptors,
) -> Result<Vec<u64>, Errno> {
    if from.vestibule.is_some() && !matches!(descriptors, Descriptors::Here(_)) {
        // Whoever clones the child then does not look for it.
        return Err(Errno::INVAL);
    }
    // Who enters a user namespace has all of them again.
    let taken = if apart.is_some() || from.enters_user_namespace() { 0 } else { crate::caps::taken() };
    let mut to = Encoder { words: Vec::with_capacity(1024), taken };
    to.words(&[script::NONE; script::HEADER]);
    let lowest_free = lowest_free(from);
    to.header(script::NAMESPACES, &[from.namespaces]);
    if let Some(process) = &from.container {
        to.header(script::CONTAINER, &[descriptors.number(process)]);
    }
    if let Some(process) = &from.above {
        to.header(script::ABOVE, &[descriptors.number(process)]);
    }
    if let Some(cgroup) = &from.cgroup {
        to.header(script::CGROUP, &[descriptors.number(cgroup)]);
    }
    for (i, fd) in from.stdio.iter().enumerate() {
        let number = descriptors.moved(fd, lowest_free, Some(i as u64))?;
        to.header(script::STDIO + i, &[number]);
    }
    let keep = from.keep.iter().map(|fd| descriptors.moved(fd, lowest_free, None));
    let keep = keep.collect::<Result<Vec<_>, _>>()?;
    to.list(script::KEEP, &keep);
    let candidates: &[CString] = match &from.program {
        Program::Candidates(paths) => paths,
        Program::File(file) => {
            let number = descriptors.moved(file, lowest_free, None)?;
            to.header(script::PROGRAM, &[number]);
            &[]
        }
    };
    to.strings(script::CANDIDATES, candidates);
    to.strings(script::ARGV, &from.argv);
    to.strings(script::ENVP, &from.envp);
    to.ops(script::OPS, &from.ops, descriptors);
    to.ops(script::CLOSED_OPS, &from.closed_ops, descriptors);
    to.header(script::BEFORE, &[0, 0]);
    let ignored = match descriptors {
        Descriptors::Here(_) => super::clone::ignored_signals(),
        // Whoever clones it has been started by such a script itself.
        Descriptors::From(..) => 0,
    };
    to.header(script::IGNORED, &[ignored]);
    if let Some(Apart { before, report, listener }) = apart {
        to.ops(script::BEFORE, before, descriptors);
        to.header(script::REPORT, &[descriptors.moved(report, lowest_free, None)?]);
        if let Some(listener) = listener {
            to.header(script::LISTENER, &[descriptors.moved(listener, lowest_free, None)?]);
        }
    }
    Ok(to.words)
}
