//! `hello`, cancellation, progress, streams and events: what a connection itself is made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::process::Outcome;

/// Parameters of `hello`, the first request of every connection.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelloParams {
    /// The protocol version that the client speaks.
    pub protocol: u32,
    /// Name and version of the client, for the host's log.
    pub client: String,
}

/// Result of `hello`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct HelloResult {
    /// The protocol version that both will speak.
    pub protocol: u32,
    /// Name and version of the host, `start-container 0.1.0`.
    pub server: String,
    /// The host's data directory.
    pub data_dir: String,
}

/// Parameters of the notification `$/cancelRequest`, client to host. The request named is answered with code
/// -32800 once whatever it had started is gone.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelParams {
    /// The id of the request to cancel.
    pub id: u64,
}

/// Parameters of the notification `$/progress`, host to client.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ProgressParams {
    /// The id of the request that progresses.
    pub id: u64,
    /// What is being done, for a person: `layer sha256:1234…`.
    pub stage: String,
    /// Units done (bytes unless `stage` says otherwise).
    pub done: u64,
    /// Units in all, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub total: Option<u64>,
}

/// Which of a process's streams a second connection carries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum StreamKind {
    /// Bytes from the client to the process. Shutting the writing half down is end of file.
    Stdin,
    /// Bytes from the process. The host closes the connection at end of file.
    Stdout,
    /// Bytes from the process. The host closes the connection at end of file.
    Stderr,
    /// Both directions of the process's terminal.
    Terminal,
}

/// Parameters of `stream.attach`, the first and only request of a connection that then carries bytes.
/// A stream can be attached once at a time; after a detach it can be attached again.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttachStreamParams {
    /// The process, as `subcontainer.spawn` or `subcontainer.launch` named it.
    pub process: String,
    /// Which stream.
    pub stream: StreamKind,
}

/// Parameters of `events.subscribe`. The host then sends each event as the notification `event`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscribeParams {
    /// Only events of this subcontainer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub guid: Option<String>,
}

/// Something that happened to a subcontainer or a sandbox: the parameters of the notification `event`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub time: u64,
    /// The subcontainer.
    pub guid: String,
    /// What happened.
    #[serde(flatten)]
    pub what: EventKind,
}

/// What an [`Event`] reports.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EventKind {
    /// The rootfs was created.
    Created {
        /// The image beneath it; empty for a sandbox without one.
        image_id: String,
    },
    /// The leader runs.
    Launched {
        /// Its process id on the host.
        pid: u32,
    },
    /// The leader ended, and with it everything inside.
    Exited {
        /// How.
        outcome: Outcome,
    },
    /// Something was mounted.
    Mounted {
        /// Where.
        mountpoint: String,
    },
    /// Something was unmounted.
    Unmounted {
        /// Where.
        mountpoint: String,
    },
    /// The rootfs was destroyed.
    Destroyed,
    /// This subscriber was too slow and events were dropped.
    Lagged {
        /// How many.
        dropped: u32,
    },
}
