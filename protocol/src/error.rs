//! Errors on the wire: the JSON-RPC code says who is at fault, `data` says what to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::package::Scopes;

/// The request was cancelled (LSP's code for it).
pub const REQUEST_CANCELLED: i32 = -32800;
/// The request could not be carried out; [`ErrorData`] says why.
pub const REQUEST_FAILED: i32 = -32000;

/// The `data` member of an error response.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    /// What sort of failure it is, for programs.
    pub kind: ErrorKind,
    /// The step that failed, for people and tests: `mount volume`, `look up user`.
    pub step: String,
    /// The thing it was done to: a path, an image, a command.
    pub subject: String,
    /// The kernel's reason, where it was the kernel: `ENOENT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub errno: Option<String>,
    /// What would have to be granted, exactly, where a grant is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub missing: Option<Scopes>,
}

/// What sort of failure an error is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum ErrorKind {
    /// The parameters make no sense.
    Invalid,
    /// The first request was not `hello`, or `hello` came twice.
    OutOfOrder,
    /// The client speaks another version.
    UnsupportedProtocol,
    /// No such image, subcontainer, process, volume or file.
    NotFound,
    /// It exists already (a mountpoint, a name, a leader).
    Exists,
    /// It is in use, or owned by another connection.
    Busy,
    /// The subcontainer has no running leader.
    NotRunning,
    /// No such user or group inside.
    UnknownUser,
    /// The command does not exist inside (a shell's 127).
    CommandNotFound,
    /// The command cannot be executed (a shell's 126).
    CommandNotExecutable,
    /// A path, link or id leads out of where it must stay.
    Escape,
    /// An archive, manifest or digest is not what it claims to be.
    Corrupt,
    /// A registry, a port inside, or the network failed.
    Network,
    /// A registry refused the credentials.
    Unauthorized,
    /// Nobody whom the operator trusts vouches for a bundle.
    Untrusted,
    /// A package asks for more than was granted.
    NeedsConsent,
    /// Package code did what it may not. `missing` names the grant that is not there, where one would help.
    Denied,
    /// The broker knows this kind of call and does not carry it out: not in this version, or not now.
    Unavailable,
    /// The package was put in quarantine; the operator may lift that.
    Quarantined,
    /// It took longer than it may.
    TimedOut,
    /// Code of a package has thrown an error.
    Thrown,
    /// It does not fit the state that something is in, or what others need.
    Conflict,
    /// No space, memory, descriptors or processes left.
    Exhausted,
    /// Anything else that the kernel refused.
    Kernel,
    /// A fault of the host itself.
    Internal,
}
