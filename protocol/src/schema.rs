//! The generated forms of this crate: TypeScript declarations and a JSON Schema.
//!
//! Owns the one table of methods and notifications; whoever serves, calls or documents the protocol reads it
//! from here. Never decides what a type looks like: that is the types' own business.
//!
//! ```text
//! METHODS, NOTIFICATIONS -> typescript()  -> sdk/src/generated/protocol.ts
//!                        -> json_schema() -> protocol/schema.json
//! ```

mod json;
mod typescript;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ErrorData;
use crate::subcontainer::Empty;
use crate::{file, image, process, sandbox, session, stats, subcontainer};

pub use json::json_schema;
pub use typescript::typescript;

/// One request that the host answers.
pub struct Method {
    /// As it stands in the message: `subcontainer.exec`.
    pub name: &'static str,
    /// What it does, in one line.
    pub doc: &'static str,
    /// Its parameters.
    pub params: Form,
    /// Its result.
    pub result: Form,
}

/// One message without an answer.
pub struct Notification {
    /// As it stands in the message: `$/progress`.
    pub name: &'static str,
    /// Who sends it and when, in one line.
    pub doc: &'static str,
    /// Its parameters.
    pub params: Form,
}

/// A type of this crate, as a value.
pub struct Form {
    visit: fn(&mut typescript::Declarations),
    name: fn() -> String,
    schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    reparse: fn(Value) -> serde_json::Result<Value>,
}

impl Form {
    const fn of<T>() -> Self
    where
        T: ts_rs::TS + schemars::JsonSchema + Serialize + DeserializeOwned + 'static,
    {
        Self {
            visit: typescript::visit::<T>,
            name: typescript::name::<T>,
            schema: |generator| generator.subschema_for::<T>(),
            reparse: |value| serde_json::from_value::<T>(value).and_then(serde_json::to_value),
        }
    }

    /// Parses a message's part as this type and writes it again: what comes back is what this crate understood.
    ///
    /// # Errors
    /// When it is not of this type.
    pub fn reparse(&self, value: Value) -> serde_json::Result<Value> {
        (self.reparse)(value)
    }
}

const fn method<P, R>(name: &'static str, doc: &'static str) -> Method
where
    P: ts_rs::TS + schemars::JsonSchema + Serialize + DeserializeOwned + 'static,
    R: ts_rs::TS + schemars::JsonSchema + Serialize + DeserializeOwned + 'static,
{
    Method { name, doc, params: Form::of::<P>(), result: Form::of::<R>() }
}

const fn notification<P>(name: &'static str, doc: &'static str) -> Notification
where
    P: ts_rs::TS + schemars::JsonSchema + Serialize + DeserializeOwned + 'static,
{
    Notification { name, doc, params: Form::of::<P>() }
}

/// Every request, in the order of the documentation.
pub const METHODS: &[Method] = &[
    method::<session::HelloParams, session::HelloResult>("hello", "Agrees on a version; the first request."),
    method::<image::ImportParams, image::ImageInfo>(
        "image.import",
        "Imports an image from a path on the host.",
    ),
    method::<image::PullParams, image::ImageInfo>("image.pull", "Pulls an image from a registry."),
    method::<Empty, image::ImageListResult>("image.list", "Lists the images."),
    method::<image::ImageParams, image::ImageInfo>("image.inspect", "Describes one image."),
    method::<image::ImageParams, image::RemovedResult>(
        "image.remove",
        "Removes a name, and the image with its last name.",
    ),
    method::<Empty, image::RemovedResult>("image.gc", "Removes layers that no image and no rootfs uses."),
    method::<subcontainer::CreateFsParams, subcontainer::CreateFsResult>(
        "subcontainer.createFs",
        "Creates a writable rootfs over an image.",
    ),
    method::<subcontainer::GuidParams, Empty>(
        "subcontainer.destroyFs",
        "Ends everything inside, unmounts everything and deletes the rootfs.",
    ),
    method::<subcontainer::MountParams, Empty>("subcontainer.mount", "Mounts a source inside."),
    method::<subcontainer::UnmountParams, Empty>("subcontainer.unmount", "Unmounts what `mount` mounted."),
    method::<process::LaunchParams, process::SpawnResult>(
        "subcontainer.launch",
        "Starts the leader, PID 1 inside.",
    ),
    method::<process::ExecParams, process::ExecResult>("subcontainer.exec", "Runs a command to its end."),
    method::<process::SpawnParams, process::SpawnResult>(
        "subcontainer.spawn",
        "Starts a command and answers at once.",
    ),
    method::<process::KillParams, process::KillResult>("subcontainer.kill", "Sends a signal to a process."),
    method::<process::WaitParams, process::WaitResult>(
        "subcontainer.wait",
        "Answers when a process has ended.",
    ),
    method::<process::ResizeParams, Empty>(
        "subcontainer.resize",
        "Changes the size of a process's terminal.",
    ),
    method::<Empty, subcontainer::ListResult>("subcontainer.list", "Lists the subcontainers."),
    method::<subcontainer::GuidParams, subcontainer::SubcontainerInfo>(
        "subcontainer.inspect",
        "Describes one subcontainer.",
    ),
    method::<subcontainer::GuidParams, stats::StatsResult>(
        "subcontainer.stats",
        "Says what everything inside uses together.",
    ),
    method::<subcontainer::UpdateParams, subcontainer::UpdateResult>(
        "subcontainer.update",
        "Changes limits while it runs.",
    ),
    method::<subcontainer::GuidParams, Empty>(
        "subcontainer.detach",
        "Lets it outlive this connection, which owned it.",
    ),
    method::<subcontainer::GuidParams, subcontainer::SubcontainerInfo>(
        "subcontainer.attach",
        "Makes this connection the owner of a detached subcontainer.",
    ),
    method::<sandbox::CreateSandboxParams, sandbox::SandboxInfo>(
        "sandbox.create",
        "Creates a sandbox and starts it.",
    ),
    method::<subcontainer::GuidParams, sandbox::SandboxInfo>(
        "sandbox.start",
        "Starts a sandbox again whose init has ended.",
    ),
    method::<Empty, sandbox::ListSandboxesResult>("sandbox.list", "Lists the sandboxes."),
    method::<subcontainer::GuidParams, sandbox::SandboxInfo>("sandbox.inspect", "Describes one sandbox."),
    method::<subcontainer::GuidParams, Empty>(
        "sandbox.destroy",
        "Ends everything in a sandbox, and deletes it with its subcontainers.",
    ),
    method::<subcontainer::GuidParams, Empty>(
        "sandbox.detach",
        "Lets a sandbox outlive this connection, which owned it; not its subcontainers, which are detached one by one.",
    ),
    method::<subcontainer::GuidParams, sandbox::SandboxInfo>(
        "sandbox.attach",
        "Makes this connection the owner of a detached sandbox.",
    ),
    method::<file::ReadParams, file::ReadResult>("file.read", "Reads a part of a file."),
    method::<file::WriteParams, Empty>("file.write", "Writes a file, or adds to its end."),
    method::<file::PathParams, file::StatResult>("file.stat", "Describes a file."),
    method::<file::PathParams, file::ReaddirResult>("file.readdir", "Lists a directory."),
    method::<file::PathParams, file::ReadlinkResult>("file.readlink", "Says where a symbolic link points."),
    method::<file::MkdirParams, Empty>("file.mkdir", "Creates a directory."),
    method::<file::RemoveParams, Empty>("file.remove", "Removes a file or a directory."),
    method::<file::RenameParams, Empty>("file.rename", "Renames a file or a directory."),
    method::<file::SymlinkParams, Empty>("file.symlink", "Creates a symbolic link."),
    method::<file::ChmodParams, Empty>("file.chmod", "Changes permission bits."),
    method::<file::ChownParams, Empty>("file.chown", "Changes owner and group."),
    method::<session::AttachStreamParams, Empty>(
        "stream.attach",
        "Turns this connection into a byte stream of a process.",
    ),
    method::<session::SubscribeParams, Empty>("events.subscribe", "Asks for `event` notifications."),
];

/// Every notification.
pub const NOTIFICATIONS: &[Notification] = &[
    notification::<session::CancelParams>("$/cancelRequest", "Client to host: end a request under way."),
    notification::<session::ProgressParams>("$/progress", "Host to client: how far a request is."),
    notification::<session::Event>("event", "Host to client: something happened to a subcontainer."),
];

/// The `data` member of an error response.
pub const ERROR_DATA: Form = Form::of::<ErrorData>();

/// The generated files: path from the root of the repository, and content.
#[must_use]
pub fn files() -> Vec<(&'static str, String)> {
    let mut schema = format!("{:#}", json_schema());
    schema.push('\n');
    vec![("sdk/src/generated/protocol.ts", typescript()), ("protocol/schema.json", schema)]
}
