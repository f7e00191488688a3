//! `hello`, cancellation, progress, streams and events: what a connection itself is made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::limits::Limits;
use crate::process::Outcome;

/// Parameters of `hello`, the first request of every connection.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelloParams {
    /// The protocol version that the client speaks.
    pub protocol: u32,
    /// Name and version of the client, for the host's log.
    pub client: String,
    /// The session that an earlier host gave on a connection of this same process: what that connection owned when the
    /// host went away is this one's. One that is not known, or is another process's, is no error: a new one begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub session: Option<String>,
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
    /// The session of this connection, for [`HelloParams::session`] after the host has gone away and another has come. It
    /// ends with the connection. A secret: whoever has it, and is this process, owns what this connection owns.
    pub session: String,
    /// How long a host that has started waits for the clients of the one before it, in milliseconds. What belongs to who has
    /// not come back by then, or has ended, is destroyed.
    #[ts(type = "number")]
    pub grace: u64,
    /// What was owned in the session that goes on, and is again: guids of subcontainers and sandboxes.
    pub resumed: Vec<String>,
    /// The locks that were held in it, and are again.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub locks: Vec<String>,
}

/// Parameters of `host.replace`. It is answered with an error, or not at all: then the connection ends, and the next host
/// serves the same socket as the same process.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplaceParams {
    /// The arguments of the next host, its name first. Its program is that of the process which asks.
    pub args: Vec<String>,
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

/// Parameters of `stream.connect`, the first and only request of a connection that then carries the bytes of a TCP
/// connection to a port inside, in the container's own network. Shutting the writing half down does so there.
///
/// Fails with [`ErrorKind::Network`](crate::ErrorKind) and the kernel's reason: `ECONNREFUSED` when nobody listens
/// there, `ETIMEDOUT` when nobody answers in time.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectParams {
    /// The subcontainer or sandbox. It has to run.
    pub guid: String,
    /// The port.
    pub port: u16,
    /// An IP address there, never a name. Default: its loopback, 127.0.0.1 and then `::1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub address: Option<String>,
    /// Milliseconds until the attempt has failed, at most 60,000. Default 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub timeout: Option<u32>,
}

/// Parameters of `lock.acquire`: answered when this connection holds the lock, which it does until it releases it or ends.
/// When the host is killed, the next one keeps it for whoever goes on with the session, for as long as the grace is.
///
/// Fails with [`ErrorKind::Busy`](crate::ErrorKind) and the name of who holds it, unless `wait` is set. A connection does
/// not get a lock twice.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcquireParams {
    /// Its name, 1 to 255 bytes without control characters. What it stands for is agreed between clients.
    pub name: String,
    /// Wait until it is free, after those that came before. A cancellation ends that.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub wait: bool,
    /// What for, to tell others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub purpose: Option<String>,
}

/// Parameters of `lock.release`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockParams {
    /// Its name.
    pub name: String,
}

/// Parameters of `events.subscribe`. The host then sends each event as the notification `event`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscribeParams {
    /// Only events of this subcontainer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub guid: Option<String>,
    /// First those that happened at or after this time, in milliseconds since the Unix epoch, as far as they are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub since: Option<u64>,
}

/// Parameters of `events.list`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventsParams {
    /// Only events of this subcontainer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub guid: Option<String>,
    /// Only those at or after this time, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub since: Option<u64>,
}

/// Result of `events.list`: those that are kept, one to two megabytes of them, oldest first.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct EventsResult {
    /// The events.
    pub events: Vec<Event>,
}

/// Parameters of `events.health`: a client that looks after a subcontainer says how it is.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthParams {
    /// The subcontainer: one that this connection owns, or that is detached.
    pub guid: String,
    /// What was looked at: the name of a daemon or a check, 1 to 200 bytes.
    pub name: String,
    /// How it is.
    pub status: Health,
    /// Why, for people; what is beyond 1000 bytes is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub message: Option<String>,
}

/// How something is that is looked after.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// It has not been well yet, and there is still time.
    Starting,
    /// It does what it should.
    Healthy,
    /// It does not.
    Unhealthy,
}

/// Who ended a leader that did not end by itself.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum EndedBy {
    /// It was asked to stop, and did.
    Stop,
    /// It was asked to stop, and was killed after the time that it had.
    StopTimeout,
    /// A client has sent the signal that ended it.
    Kill,
    /// Its subcontainer was destroyed.
    Destroy,
}

/// Something that happened to a subcontainer, a sandbox or an image: the parameters of the notification `event`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Counts them, also across restarts of the host. 0 for what only this subscriber is told.
    #[serde(default)]
    #[ts(type = "number")]
    pub id: u64,
    /// Milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub time: u64,
    /// The subcontainer; empty where an image is what it happened to.
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
        /// Who ended it, if the host was asked to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        by: Option<EndedBy>,
    },
    /// Somebody who looks after it has said how it is.
    Health {
        /// What was looked at.
        name: String,
        /// How it is.
        status: Health,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        message: Option<String>,
    },
    /// Its limits were changed.
    Updated {
        /// Those that hold now.
        limits: Limits,
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
    /// What was written to streams that are kept could not be: that much of it is lost. Told at once, then not more often
    /// than every ten seconds, and when it can be written again.
    LogLost {
        /// How many bytes, since this was told last.
        #[ts(type = "number")]
        bytes: u64,
        /// Why, for people.
        message: String,
    },
    /// An image was imported.
    Imported {
        /// Its digest.
        image_id: String,
    },
    /// An image was pulled.
    Pulled {
        /// Its digest.
        image_id: String,
        /// What was asked for.
        reference: String,
    },
    /// An image, or one of its names, was removed.
    Removed {
        /// As it was asked for.
        image_id: String,
    },
    /// A package has something to say to the operator. Every text in it is the package's.
    Notice {
        /// Which package.
        package_id: String,
        /// Through which of the channels that it was granted.
        channel: String,
        /// A line.
        title: String,
        /// More of it.
        message: String,
    },
    /// A function of a package that was due has run.
    FunctionRan {
        /// Which package.
        package_id: String,
        /// Which of its entries.
        entry: String,
        /// Why it did not come to a good end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        error: Option<String>,
    },
    /// This subscriber was too slow and events were dropped.
    Lagged {
        /// How many.
        dropped: u32,
    },
}
