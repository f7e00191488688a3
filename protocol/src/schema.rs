//! The generated forms of this crate: TypeScript declarations and a JSON Schema.
//!
//! Owns the one table of methods and notifications; whoever serves, calls or documents the protocol reads it
//! from here. Never decides what a type looks like: that is the types' own business.
//!
//! ```text
//! METHODS, PACKAGE_METHODS, WORKER_METHODS, NOTIFICATIONS -> typescript()  -> sdk/src/generated/protocol.ts
//!                                                         -> json_schema() -> protocol/schema.json
//! ```

mod json;
mod typescript;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ErrorData;
use crate::subcontainer::Empty;
use crate::{
    broker, file, function, image, logs, package, process, sandbox, session, stats, subcontainer, worker,
};

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
    method::<session::ReplaceParams, Empty>(
        "host.replace",
        "Puts the program of the process that asks in the host's place; nothing ends by it.",
    ),
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
    method::<process::RunParams, process::ExecResult>(
        "subcontainer.run",
        "Makes a throw-away subcontainer, runs a command to its end in it, and destroys it.",
    ),
    method::<process::SpawnParams, process::SpawnResult>(
        "subcontainer.spawn",
        "Starts a command and answers at once.",
    ),
    method::<process::KillParams, process::KillResult>("subcontainer.kill", "Sends a signal to a process."),
    method::<process::SignalParams, process::KillResult>(
        "subcontainer.signal",
        "Sends a signal to the leader.",
    ),
    method::<process::StopParams, process::StopResult>(
        "subcontainer.stop",
        "Asks the leader to end, and kills everything inside after a time.",
    ),
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
    method::<Empty, package::ListPackagesResult>("package.list", "Lists the packages."),
    method::<package::PackageParams, package::PackageInfo>("package.inspect", "Describes one package."),
    method::<package::InstallParams, package::PackageInfo>(
        "package.install",
        "Verifies a bundle and installs its package; nothing of it runs yet.",
    ),
    method::<package::GrantParams, package::PackageInfo>(
        "package.grant",
        "Grants what a package asks for, or takes it back.",
    ),
    method::<package::RunJobParams, broker::TaskInfo>(
        "package.run",
        "Runs a job of a package that is active to its end. A cancellation ends it.",
    ),
    method::<package::PackageParams, package::PackageInfo>(
        "package.activate",
        "Starts a package, and has it started with the host from now on.",
    ),
    method::<package::DisableParams, package::PackageInfo>(
        "package.disable",
        "Stops a package and keeps it from starting.",
    ),
    method::<package::InstallParams, package::PackageInfo>(
        "package.update",
        "Replaces a package by another version; one that asks for more is turned away without consent.",
    ),
    method::<package::RollbackParams, package::PackageInfo>(
        "package.rollback",
        "Goes back to a version that was installed before.",
    ),
    method::<package::RemovePackageParams, Empty>("package.remove", "Removes a package that does not run."),
    method::<package::BackupParams, package::BackupInfo>(
        "package.backup",
        "Backs the data of a package up; it is stopped meanwhile. A cancellation ends it.",
    ),
    method::<package::RestoreParams, package::BackupInfo>(
        "package.restore",
        "Puts the data of a backup in the place of a package's. What fails, or is cancelled, is undone.",
    ),
    method::<package::ReloadParams, package::PackageInfo>(
        "package.reload",
        "Unloads the worker entries of a package that runs, and loads them anew.",
    ),
    method::<package::CallParams, worker::CallModuleResult>(
        "package.call",
        "Calls code of a package that runs: an action.",
    ),
    method::<function::FetchParams, function::FetchResult>(
        "package.fetch",
        "Sends a request to a function or template of a package that is active.",
    ),
    method::<package::PackageParams, package::PackageInfo>(
        "package.lift",
        "Ends a package's quarantine: its calls are carried out again.",
    ),
    method::<Empty, package::RekeyResult>(
        "package.rekey",
        "Makes a new key for secrets, and encrypts all of them with it.",
    ),
    method::<package::AuditParams, package::AuditResult>(
        "package.audit",
        "Reads the audit log, and checks that it is whole.",
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
    method::<session::ConnectParams, Empty>(
        "stream.connect",
        "Turns this connection into a TCP connection to a port inside.",
    ),
    method::<logs::LogsParams, Empty>(
        "logs.read",
        "Turns this connection into what processes of a subcontainer have written to streams that are kept.",
    ),
    method::<session::AcquireParams, Empty>(
        "lock.acquire",
        "Takes a lock, which this connection then holds.",
    ),
    method::<session::LockParams, Empty>("lock.release", "Gives a lock back."),
    method::<session::SubscribeParams, Empty>("events.subscribe", "Asks for `event` notifications."),
    method::<session::EventsParams, session::EventsResult>("events.list", "Lists what has happened."),
    method::<session::HealthParams, Empty>("events.health", "Says how a subcontainer is, as an event."),
];

/// Every request on the socket of a package, in the order of the documentation.
pub const PACKAGE_METHODS: &[Method] = &[
    method::<session::HelloParams, broker::PackageHelloResult>(
        "hello",
        "Agrees on a version; the first request.",
    ),
    method::<Empty, Empty>("ping", "Does nothing. Needs no grant, and is not written down."),
    method::<broker::KvGetParams, broker::KvGetResult>(
        "kv.get",
        "Reads a key. Needs `kv:read` for its group.",
    ),
    method::<broker::KvSetParams, broker::KvSetResult>(
        "kv.set",
        "Writes a key, if it is as expected. Needs `kv:write` for its group.",
    ),
    method::<broker::KvListParams, broker::KvListResult>(
        "kv.list",
        "Lists the keys of a group. Needs `kv:read` for it.",
    ),
    method::<broker::KvDeleteParams, broker::DeletedResult>(
        "kv.delete",
        "Deletes a key. Needs `kv:write` for its group.",
    ),
    method::<broker::SecretParams, broker::SecretResult>(
        "secrets.get",
        "Reads a secret. Needs `secrets` for its name, as the next two do.",
    ),
    method::<broker::SetSecretParams, Empty>("secrets.set", "Writes a secret, encrypted."),
    method::<broker::SecretParams, broker::DeletedResult>("secrets.delete", "Deletes a secret."),
    method::<broker::FilesReadParams, broker::FilesReadResult>(
        "files.read",
        "Reads a part of a file. Needs `files:read` for a path above it.",
    ),
    method::<broker::FilesWriteParams, Empty>(
        "files.write",
        "Writes a file, or adds to its end. Needs `files:write` for a path above it.",
    ),
    method::<broker::FilesListParams, broker::FilesListResult>(
        "files.list",
        "Lists a directory. Needs `files:read` for it or a path above it.",
    ),
    method::<broker::FilesDeleteParams, broker::DeletedResult>(
        "files.delete",
        "Deletes a file or a directory. Needs `files:write` for a path above it.",
    ),
    method::<broker::FilesStreamParams, broker::FilesStreamResult>(
        "files.stream",
        "Carries the bytes of a file, which may be large. Needs `files:read` or `files:write`.",
    ),
    method::<broker::ProcessRunParams, broker::ProcessRunResult>(
        "process.run",
        "Starts a command in the package's sandbox. Needs `process:run` for exactly this command.",
    ),
    method::<broker::ProcessParams, broker::ProcessStatusResult>(
        "process.status",
        "Says whether a process of this package runs, or how it ended. Needs `process:run`, as the next does.",
    ),
    method::<broker::ProcessParams, Empty>(
        "process.stop",
        "Ends a process of this package, with all that it started.",
    ),
    method::<broker::HttpFetchParams, broker::HttpFetchResult>(
        "http.fetch",
        "Sends a request to the outside. Needs `http:egress` for its host and port.",
    ),
    method::<broker::LogWriteParams, Empty>("log.write", "Writes to the host's log. Needs `log:write`."),
    method::<broker::NotifySendParams, Empty>(
        "notify.send",
        "Tells the operator, as an event. Needs `notify:send` for the channel.",
    ),
    method::<Empty, stats::StatsResult>(
        "monitor.read",
        "Says what the package's own sandbox uses. Needs `monitor:read`.",
    ),
    method::<broker::AuditReadParams, broker::AuditReadResult>(
        "audit.read",
        "Reads what was written down about this package. Needs `audit:read`.",
    ),
    method::<broker::LaterParams, Empty>("monitor.admin", "Not in this version. Needs `monitor:admin`."),
    method::<Empty, broker::NodeInfo>(
        "node.read",
        "Says what the machine is like, not which one. Needs `node:read`.",
    ),
    method::<broker::LaterParams, Empty>("node.admin", "Not in this version. Needs `node:admin`."),
    method::<broker::FilesReadParams, broker::FilesReadResult>(
        "static.read",
        "Reads a part of a file of the bundle's assets or ui. Needs `static:read` for a path above it.",
    ),
    method::<broker::LaterParams, Empty>("static.write", "Not in this version. Needs `static:write`."),
    method::<broker::TaskReadParams, broker::TaskReadResult>(
        "task.read",
        "Says what became of the manifest's jobs. Needs `task:read`.",
    ),
    method::<broker::TaskRunParams, broker::TaskInfo>(
        "task.run",
        "Starts a job of the manifest. Needs `task:run` for its name.",
    ),
    method::<broker::LaterParams, Empty>("tunnel.admin", "Not in this version. Needs `tunnel:admin`."),
    method::<broker::LaterParams, Empty>("worker.route", "Not in this version. Needs `worker:route`."),
    method::<broker::LaterParams, Empty>("network.plan", "Not in this version. Needs `network:plan`."),
    method::<broker::LaterParams, Empty>("network.apply", "Not in this version. Needs `network:apply`."),
    method::<broker::LaterParams, Empty>("ddns.admin", "Not in this version. Needs `ddns:admin`."),
    method::<broker::NetConnectParams, Empty>(
        "net.connect",
        "Carries the bytes of a TCP connection to the outside. Needs `net` for exactly this host and port.",
    ),
    method::<Empty, broker::VolumesResult>(
        "volumes.list",
        "Lists the volumes that `volumes` grants, and their room.",
    ),
    method::<broker::DependencyParams, broker::DependencyInfo>(
        "dependencies.read",
        "Says which version of a dependency there is, and how it is. Needs `dependencies:read` for its id.",
    ),
    method::<broker::LaterParams, Empty>("backups.read", "Not in this version. Needs `backups`."),
    method::<broker::LaterParams, Empty>("uiProxy.route", "Not in this version. Needs `ui-proxy`."),
    method::<broker::LaterParams, Empty>("debug.attach", "Not in this version. Needs `debug`."),
    method::<broker::LaterParams, Empty>("plugin.admin", "Not in this version. Needs `plugin:admin`."),
];

/// Every request of the host to a worker.
pub const WORKER_METHODS: &[Method] = &[
    method::<worker::LoadModuleParams, Empty>("module.load", "Imports a module, and calls its `init`."),
    method::<worker::UnloadModuleParams, Empty>(
        "module.unload",
        "Calls a module's `uninit`, and forgets it.",
    ),
    method::<Empty, worker::ModuleStatusResult>("module.status", "Says which modules there are."),
    method::<worker::CallModuleParams, worker::CallModuleResult>("module.call", "Calls a module's `call`."),
];

/// Every notification of a worker to the host.
pub const WORKER_NOTIFICATIONS: &[Notification] = &[
    notification::<worker::WorkerReadyParams>("ready", "It waits for modules. First, and once."),
    notification::<worker::ModuleTold>(
        "told",
        "What the operator may want to know of a module that is loaded.",
    ),
    notification::<worker::WorkerFault>("failed", "It ends: an error was caught by nobody."),
];

/// Those of [`METHODS`] that the socket of a package has, too: with `subcontainers`, for what the package has made.
pub const SHARED_METHODS: &[&str] = &[
    "subcontainer.createFs",
    "subcontainer.destroyFs",
    "subcontainer.mount",
    "subcontainer.unmount",
    "subcontainer.launch",
    "subcontainer.exec",
    "subcontainer.spawn",
    "subcontainer.kill",
    "subcontainer.signal",
    "subcontainer.stop",
    "subcontainer.wait",
    "subcontainer.resize",
    "subcontainer.list",
    "subcontainer.inspect",
    "subcontainer.stats",
    "subcontainer.detach",
    "subcontainer.attach",
    "file.read",
    "file.write",
    "file.stat",
    "file.readdir",
    "file.readlink",
    "file.mkdir",
    "file.remove",
    "file.rename",
    "file.symlink",
    "file.chmod",
    "file.chown",
    "stream.attach",
    "stream.connect",
    "logs.read",
    "lock.acquire",
    "lock.release",
    "events.health",
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
