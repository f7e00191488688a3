//! criu, which takes processes apart into files and puts them together again: one conversation with `criu swrk`.
//!
//! Owns the words of that conversation and the process that it is held with. Knows nothing of containers.
//!
//! Its command line would not do: it hands out no master of a terminal, and says nothing at the moment when namespaces
//! are there and nothing runs in them yet.
//!
//! Source: criu's `images/rpc.proto`, <https://criu.org/RPC>. Needs criu 3.16.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linux::spawn::{Op, Program, Script, Spawned};
use prost::Message;
use protocol::ErrorKind;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
};

use crate::engine::dev_null;
use crate::error::{Failure, Result};

/// What criu is asked to do, `criu_req_type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Task {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
}

/// It tells of something, and waits for a word.
const NOTIFY: i32 = 6;

/// `criu_network_lock_method`.
pub(super) const NFTABLES: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(int32, required, tag = "1")]
    typ: i32,
    #[prost(message, optional, tag = "2")]
    options: Option<Options>,
    #[prost(bool, optional, tag = "3")]
    notify_success: Option<bool>,
}

/// `criu_opts`, as far as a runtime says anything. Descriptors are this process's, but for those of `inherit`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Options {
    #[prost(int32, required, tag = "1")]
    pub(super) images: i32,
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(super) leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(super) ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(super) tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub(super) evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(super) shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(super) file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub(super) log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub(super) log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub(super) page_server: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub(super) notify: Option<bool>,
    #[prost(string, optional, tag = "13")]
    pub(super) root: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub(super) parent: Option<String>,
    #[prost(bool, optional, tag = "15")]
    pub(super) track_memory: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub(super) auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub(super) work: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub(super) link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub(super) mounts: Vec<Pair>,
    #[prost(bool, optional, tag = "24")]
    pub(super) manage_cgroups: Option<bool>,
    #[prost(message, repeated, tag = "25")]
    pub(super) groups: Vec<Pair>,
    #[prost(bool, optional, tag = "26")]
    pub(super) sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(super) inherit: Vec<Inherit>,
    #[prost(int32, optional, tag = "34")]
    pub(super) cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub(super) external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub(super) empty_namespaces: Option<u32>,
    #[prost(message, repeated, tag = "39")]
    pub(super) join: Vec<Pair>,
    #[prost(string, optional, tag = "44")]
    pub(super) freezer: Option<String>,
    #[prost(bool, optional, tag = "46")]
    pub(super) tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub(super) lazy_pages: Option<bool>,
    #[prost(bool, optional, tag = "50")]
    pub(super) orphan_terminals: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub(super) config_file: Option<String>,
    #[prost(string, optional, tag = "53")]
    pub(super) lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub(super) lsm_mount_context: Option<String>,
    #[prost(int32, optional, tag = "64")]
    pub(super) network_lock: Option<i32>,
}

/// Key and value of a mount, controller and path of a group, type and file of a namespace.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Pair {
    #[prost(string, required, tag = "1")]
    pub(super) key: String,
    #[prost(string, required, tag = "2")]
    pub(super) value: String,
}

impl Pair {
    pub(super) fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

/// A descriptor of criu's own that stands in for one that was open.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Inherit {
    #[prost(string, required, tag = "1")]
    pub(super) key: String,
    #[prost(int32, required, tag = "2")]
    pub(super) descriptor: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PageServer {
    #[prost(string, optional, tag = "1")]
    pub(super) address: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(super) port: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(int32, required, tag = "1")]
    typ: i32,
    #[prost(bool, required, tag = "2")]
    success: bool,
    #[prost(message, optional, tag = "4")]
    restored: Option<Restored>,
    #[prost(message, optional, tag = "5")]
    notify: Option<Notice>,
    #[prost(int32, optional, tag = "7")]
    errno: Option<i32>,
    #[prost(string, optional, tag = "9")]
    message: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Restored {
    #[prost(int32, required, tag = "1")]
    pid: i32,
}

/// What criu tells of on its way.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Notice {
    #[prost(string, optional, tag = "1")]
    pub(super) script: Option<String>,
    /// The first process that it restores.
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
}

/// What criu begins with.
pub(super) struct Surroundings {
    /// Steps before it begins.
    pub(super) ops: Vec<Op>,
    pub(super) stdio: [Arc<OwnedFd>; 3],
    /// Descriptors that are its own 4, 5, …
    pub(super) keep: Vec<Arc<OwnedFd>>,
}

impl Surroundings {
    /// Ours.
    pub(super) fn plain() -> Result<Self> {
        let null = dev_null()?;
        let stdio = [Arc::clone(&null), Arc::clone(&null), null];
        Ok(Self { ops: Vec::new(), stdio, keep: Vec::new() })
    }
}

/// A criu that listens. Dropping it has it give up what it is at.
#[derive(Debug)]
pub(super) struct Criu {
    talk: Option<OwnedFd>,
    process: Spawned,
}

/// Where the program is.
///
/// # Errors
/// `NotFound`.
pub(super) fn find(asked: Option<&Path>) -> Result<PathBuf> {
    let runs = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let absent = |path: &Path| {
        let step = "checkpoint and restore are criu's work, which is not installed:";
        Failure::new(ErrorKind::NotFound, step, path.display())
    };
    if let Some(path) = asked.filter(|path| path.components().count() > 1) {
        return Some(path.to_owned()).filter(runs).ok_or_else(|| absent(path));
    }
    let name = asked.unwrap_or(Path::new("criu"));
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(runs).ok_or_else(|| absent(name))
}

impl Criu {
    pub(super) fn start(program: &Path, surroundings: Surroundings) -> Result<Self> {
        let fail = |errno| Failure::kernel("start", program.display(), errno);
        let flags = SocketFlags::CLOEXEC;
        let (talk, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(fail)?;
        let text = |bytes: &[u8]| {
            CString::new(bytes)
                .map_err(|error| Failure::new(ErrorKind::Invalid, "start", program.display()).because(error))
        };
        let own = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            text(&[name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let Surroundings { ops, stdio, keep } = surroundings;
        let criu = Program::Candidates(vec![text(program.as_os_str().as_bytes())?]);
        let argv = vec![c"criu".to_owned(), c"swrk".to_owned(), c"3".to_owned()];
        let script = Script {
            ops,
            keep: std::iter::once(Arc::new(theirs)).chain(keep).collect(),
            envp: std::env::vars_os().map(own).collect::<Result<_>>()?,
            ..Script::of(criu, argv, stdio)
        };
        let process = linux::spawn::spawn(&script).map_err(|error| {
            Failure::new(crate::error::kind_of(error.errno), "start", program.display()).because(error)
        })?;
        Ok(Self { talk: Some(talk), process })
    }

    pub(super) fn pid(&self) -> i32 {
        self.process.pid.as_raw_nonzero().get()
    }

    /// Has it done. `told`: what it tells of on its way, with a descriptor where one belongs to that.
    /// Returns the first process that was restored, or 0.
    pub(super) fn ask(
        &mut self,
        task: Task,
        options: Options,
        mut told: impl FnMut(&Notice, Option<OwnedFd>) -> Result<()>,
    ) -> Result<i32> {
        self.say(&Request { typ: task as i32, options: Some(options), notify_success: None })?;
        loop {
            let (response, descriptor) = self.hear()?;
            if !response.success {
                let mut failure = Failure::new(ErrorKind::Kernel, "criu failed", "");
                if let Some(message) = response.message {
                    failure.subject = message;
                }
                if let Some(errno) = response.errno.filter(|errno| *errno > 0) {
                    failure = failure.because(rustix::io::Errno::from_raw_os_error(errno));
                }
                return Err(failure);
            }
            if response.typ != NOTIFY {
                self.end();
                return Ok(response.restored.map_or(0, |restored| restored.pid));
            }
            told(&response.notify.unwrap_or_default(), descriptor)?;
            self.say(&Request { typ: NOTIFY, options: None, notify_success: Some(true) })?;
        }
    }

    fn talk(&self) -> Result<&OwnedFd> {
        self.talk.as_ref().ok_or_else(|| Failure::new(ErrorKind::Internal, "talk to", "criu"))
    }

    fn say(&self, request: &Request) -> Result<()> {
        rustix::net::send(self.talk()?, &request.encode_to_vec(), SendFlags::NOSIGNAL)
            .map(drop)
            .map_err(|errno| Failure::kernel("talk to", "criu", errno))
    }

    fn hear(&self) -> Result<(Response, Option<OwnedFd>)> {
        let mut bytes = vec![0; 64 << 10];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let count = loop {
            let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(self.talk()?, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received.bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Failure::kernel("listen to", "criu", errno)),
            }
        };
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        if count == 0 {
            return Err(Failure::new(ErrorKind::Kernel, "criu ended without an answer", ""));
        }
        let response = Response::decode(&bytes[..count])
            .map_err(|error| Failure::new(ErrorKind::Internal, "understand", "criu").because(error))?;
        Ok((response, descriptor))
    }

    /// Lets it go, and waits for that.
    fn end(&mut self) {
        if self.talk.take().is_some() {
            // What became of it, it has said.
            let _status = linux::pidfd::wait(&self.process.pidfd);
        }
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of a log of criu's that tell of errors.
pub(super) fn errors_of(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines: Vec<&str> = text.lines().rev().filter(|line| line.contains("Error")).take(3).collect();
    lines.reverse();
    let lines = lines.iter().map(|line| line.trim());
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_words_for_criu_are_as_its_protocol_has_them() {
        let options = Options { images: 7, log_file: Some("a".into()), ..Options::default() };
        let request = Request { typ: Task::Dump as i32, options: Some(options), notify_success: None };
        // Field 1: 1; field 2, five bytes: field 1: 7, field 10: "a".
        assert_eq!(request.encode_to_vec(), [0x08, 1, 0x12, 5, 0x08, 7, 0x52, 1, b'a']);
        let response = [0x08, 6, 0x10, 1, 0x2a, 5, 0x0a, 1, b's', 0x10, 9];
        let response = Response::decode(&response[..]).unwrap();
        let notice = Notice { script: Some("s".into()), pid: Some(9) };
        assert_eq!((response.typ, response.success, response.notify), (NOTIFY, true, Some(notice)));
    }

    #[test]
    fn o1_an_absent_criu_is_named() {
        let sentence = find(Some(Path::new("/nowhere/criu"))).unwrap_err().sentence();
        assert!(sentence.contains("criu's work, which is not installed: /nowhere/criu"), "{sentence}");
    }
}
