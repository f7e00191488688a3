//! Light functions: what a request to one is, and its answer; what there is to say of them.
//!
//! ```text
//! package.fetch ──▶ host: which entry has this path? ──▶ module.call "fetch" ──▶ its process ──▶ an isolate
//!                     ◀── status, headers, the first part of the body ◀── FunctionResponse
//!                                             module.call "next" ──▶ part by part, until there is no more
//! ```
//! The process that runs them speaks as a worker does (see [`crate::worker`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::Data;
use crate::broker::TaskInfo;
use crate::worker::WorkerInfo;

/// Bytes of a request's body, at most.
pub const MAX_FUNCTION_REQUEST: usize = 512 << 10;
/// Bytes of a response's body, at most, all of its parts together.
pub const MAX_FUNCTION_RESPONSE: usize = 4 << 20;
/// Bytes of one part of a response's body, at most.
pub const FUNCTION_PART: usize = 256 << 10;
/// Bytes of all names and values of headers, at most.
pub const MAX_FUNCTION_HEADERS: usize = 32 << 10;

/// Name and value. A name may be there more than once.
pub type Header = (String, String);

/// Parameters of `package.fetch`: a request to a function or template of a package that is active.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FetchParams {
    /// Its id.
    pub package_id: String,
    /// One of its paths, with a query behind a `?` if there is one.
    pub path: String,
    /// Default: GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub method: Option<String>,
    /// Default: none.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub headers: Vec<Header>,
    /// Default: none. 512 KiB at most.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub body: Data,
}

/// Result of `package.fetch`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FetchResult {
    /// The entry that answered.
    pub entry: String,
    /// 200 to 599.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<Header>,
    /// 4 MiB at most.
    pub body: Data,
}

/// Input of `fetch` of a function: a request.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionRequest {
    /// `GET`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What is behind the `?`; empty where there is none.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<Header>,
    /// What is sent.
    pub body: Data,
}

/// Output of `fetch` of a function: a response, with the first part of its body.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionResponse {
    /// 200 to 599.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<Header>,
    /// The first part of the body.
    pub body: Data,
    /// There is more of it: by which number. It is kept until the time of the call is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
}

/// Input of `next` of a function: the next part of a body.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NextPartParams {
    /// [`FunctionResponse::more`]
    pub more: u64,
}

/// Output of `next` of a function.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NextPartResult {
    /// The next part.
    pub body: Data,
    /// It was the last.
    pub last: bool,
}

/// Input of `run` of a function: it is due.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunFunctionParams {
    /// Since when, in milliseconds since the Unix epoch.
    pub scheduled: u64,
}

/// What can be said of a package's functions and templates.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FunctionsInfo {
    /// The process that runs them.
    pub process: WorkerInfo,
    /// Those that run at certain times, by name.
    pub scheduled: Vec<ScheduledInfo>,
}

/// A function that runs at certain times.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledInfo {
    /// When, as the manifest has it. In UTC.
    pub schedule: String,
    /// When it is due next, in milliseconds since the Unix epoch; absent where it does not wait for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub next: Option<u64>,
    /// Times at which it was due and was left out, because it ran still or its process did not run.
    #[ts(type = "number")]
    pub skipped: u64,
    /// What became of its last run.
    pub last: TaskInfo,
}
