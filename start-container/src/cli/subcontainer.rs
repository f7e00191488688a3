//! `start-container subcontainer …`

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use images::Rootfs;
use protocol::ErrorKind;
use protocol::network::{Network, NetworkInfo};
use protocol::process::{Allowed, SeccompProfile, Ulimit};
use protocol::session::Health;
use protocol::subcontainer::{CreateFsResult, HealthInfo, OWN_IDS, RunState, SubcontainerInfo};

use super::{Context, attach, command, events, limits as flags, output, stats};
use crate::engine::limits;
use crate::engine::privileges::CAPABILITIES;
use crate::error::{Failure, Result};
use crate::events::Healths;
use crate::subcontainer::{Machine, check_guid, now};

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum Subcontainer {
    /// Make a writable rootfs over an image, and print where it is
    CreateFs(CreateFs),
    /// End everything inside a rootfs, and remove it
    ///
    /// Succeeds too when there is nothing left to remove.
    DestroyFs(Which),
    /// Start the first process of a container: PID 1 inside
    ///
    /// Without a command that is a small init, which reaps orphans and ends on SIGTERM. Stays in the foreground,
    /// passes signals on, and ends as the process ends. When start-container itself is killed, everything inside
    /// ends.
    Launch(Box<command::Launch>),
    /// Run a command in a container that runs
    ///
    /// Joins all namespaces of the container's first process. When start-container itself is killed, the command
    /// and everything it started end. Its standard streams are relayed: what it leaves running when it ends has none any
    /// more, and input that it does not read is left to whoever reads next.
    Exec(command::Exec),
    /// List subcontainers
    Ls,
    /// Show one subcontainer, whole
    Inspect(Which),
    /// Show what containers use
    ///
    /// Of one that is named, every figure that the kernel counts for it; of several, a table. What is not counted is
    /// not shown: without any limit, that is memory, processes and disks, but for the memory of processes; time and
    /// waiting are counted always.
    Stats(stats::Stats),
    /// Change the limits of a container that runs
    ///
    /// What is not named stays; -1 takes a limit away. Prints those that hold now. Less memory than is in use is refused, and
    /// so is a limit of memory for a container that was launched without any limit: what it uses was not counted.
    Update(Box<flags::Update>),
    /// Connect to the first process of a container that somebody else launched, and end as it ends
    ///
    /// Signals are passed on to it. Its terminal, or its standard streams, are ours meanwhile if the host (the daemon)
    /// launched it with any; those of a `launch` on another command line stay there.
    Attach(Which),
    /// As the top-level command
    #[command(hide = true)]
    BindMount(super::bind_mount::BindMount),
    /// As the top-level command
    #[command(hide = true)]
    PipeWrap(super::pipe_wrap::PipeWrap),
}

#[derive(Debug, Args)]
pub(super) struct CreateFs {
    /// Name or digest of an image (see `start-container image ls`)
    image: String,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// The same, as an argument
    #[arg(value_name = "NAME", conflicts_with = "name", hide = true)]
    positional_name: Option<String>,
    /// Never sync its files to disk: faster, and lost when the machine crashes
    #[arg(long)]
    throwaway: bool,
    /// Give it a user namespace: root inside is nobody outside
    #[arg(long)]
    userns: bool,
    /// The sandbox that it is in: its users, network, /dev and /sys are that one's, and it ends with it
    #[arg(long, value_name = "ID", conflicts_with = "userns")]
    sandbox: Option<String>,
    /// How much of the machine's disk what is written to it takes at most: bytes, or with k, m, g; at least 16m
    ///
    /// It is a file system of its own then, in a file that grows; what it needs for itself is in the size.
    #[arg(long, value_name = "BYTES", value_parser = flags::parse_bytes)]
    rootfs_size: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// The path of a rootfs, its id or an unambiguous beginning of that, or its name
    #[arg(value_name = "ROOTFS|ID|NAME")]
    rootfs: String,
}

/// The rootfs that a person named: by path, by id or the beginning of one, or by its name.
pub(super) fn find(machine: &Machine, text: &str) -> Result<Rootfs> {
    if text.contains('/') {
        return machine.rootfs_at(Path::new(text));
    }
    if check_guid(text).is_ok() {
        return machine.rootfs(text);
    }
    let all: Vec<Rootfs> = Rootfs::list(machine.data_dir())
        .map_err(Failure::from)?
        .into_iter()
        .filter(|rootfs| rootfs.sandbox().is_none())
        .collect();
    let named = |rootfs: &&Rootfs| rootfs.name() == Some(text);
    let begins = |rootfs: &&Rootfs| rootfs.guid().starts_with(text) && !text.is_empty();
    // A name is what somebody has given; an id may begin like one.
    let mut found: Vec<&Rootfs> = all.iter().filter(named).collect();
    if found.is_empty() {
        found = all.iter().filter(begins).collect();
    }
    match found[..] {
        [one] => machine.rootfs(one.guid()),
        [] => Err(Failure::new(ErrorKind::NotFound, "find subcontainer", text)),
        _ => {
            let ids: Vec<&str> = found.iter().map(|rootfs| rootfs.guid()).collect();
            Err(Failure::new(ErrorKind::Invalid, "find subcontainer", text)
                .because(std::io::Error::other(format!("several are meant: {}", ids.join(", ")))))
        }
    }
}

impl Subcontainer {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Launch(launch) => return launch.run(context),
            Self::Exec(exec) => return exec.run(context),
            Self::BindMount(command) => return command.run(&context.run_dir).map(|()| ExitCode::SUCCESS),
            Self::PipeWrap(command) => return command.run(),
            _ => {}
        }
        let machine = context.machine()?;
        match self {
            Self::CreateFs(create) => {
                let name = create.name.or(create.positional_name);
                let (throwaway, own_ids) = (create.throwaway, create.userns);
                let (within, size) = (create.sandbox, create.rootfs_size);
                let options =
                    images::rootfs::Options { name, throwaway, own_ids, within, size, ..Default::default() };
                let rootfs = machine.make_fs(Some(&create.image), options, None)?;
                let path = rootfs.path().display().to_string();
                if context.json {
                    let image_id = rootfs.image().map(|image| image.to_string()).unwrap_or_default();
                    output::json(&CreateFsResult { guid: rootfs.guid().to_owned(), rootfs: path, image_id })?;
                } else {
                    output::line(&path);
                }
            }
            Self::DestroyFs(which) => {
                // The last part of a path is the id; the path itself may be gone already.
                let name =
                    Path::new(&which.rootfs).file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if which.rootfs.contains('/') && Path::new(&which.rootfs).exists() {
                    machine.rootfs_at(Path::new(&which.rootfs))?;
                }
                machine.destroy(name)?;
                machine.release()?;
            }
            Self::Ls => ls(context, &machine, false, &table)?,
            Self::Inspect(which) => which.inspect(context, &machine)?,
            Self::Stats(stats) => stats.run(context, &machine)?,
            Self::Update(update) => update.run(context, &machine)?,
            Self::Attach(which) => return attach::attach(&machine, &which.rootfs),
            Self::Launch(_) | Self::Exec(_) | Self::BindMount(_) | Self::PipeWrap(_) => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Lists subcontainers: in JSON, as the host does.
pub(super) fn ls(
    context: &Context,
    machine: &Machine,
    running: bool,
    show: &dyn Fn(&[SubcontainerInfo]),
) -> Result<()> {
    let mut list = machine.list()?;
    list.retain(|info| !running || matches!(info.state, RunState::Running { .. }));
    let healths = Healths::read(machine.data_dir());
    list.iter_mut().for_each(|info| info.health = healths.of(&info.guid));
    if context.json {
        return output::json(&list);
    }
    show(&list);
    Ok(())
}

impl Which {
    /// Its rootfs.
    pub(super) fn find(&self, machine: &Machine) -> Result<Rootfs> {
        find(machine, &self.rootfs)
    }

    /// What was said.
    pub(super) fn text(&self) -> &str {
        &self.rootfs
    }

    pub(super) fn inspect(&self, context: &Context, machine: &Machine) -> Result<()> {
        let mut info = machine.inspect(&self.find(machine)?)?;
        info.health = Healths::read(machine.data_dir()).of(&info.guid);
        if context.json { output::json(&info) } else { describe(&info) }
    }
}

fn table(list: &[SubcontainerInfo]) {
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|info| {
            vec![
                info.guid.clone(),
                info.name.clone().unwrap_or_default(),
                info.image_id.chars().take(19).collect(),
                ago(info.created),
                status(&info.state),
            ]
        })
        .collect();
    output::table(&["ID", "NAME", "IMAGE", "CREATED", "STATUS"], &rows);
}

fn describe(info: &SubcontainerInfo) -> Result<()> {
    let mut lines = vec![
        format!("id       {}", info.guid),
        format!("name     {}", info.name.as_deref().unwrap_or("-")),
        format!("image    {}", info.image_id),
        format!("rootfs   {}", info.rootfs),
        format!("created  {}", ago(info.created)),
        format!("status   {}", status(&info.state)),
        match info.first_id {
            Some(first) => {
                format!("ids      0 to 65535 inside are {first} to {} of the machine", first + (OWN_IDS - 1))
            }
            None => "ids      the machine's: root inside is its root".into(),
        },
    ];
    if let Some(sandbox) = &info.sandbox {
        lines.push(format!(
            "sandbox  {sandbox}: its ids, network, /dev and /sys; everything here ends with it"
        ));
    }
    if let RunState::Running { allowed, network, .. } = &info.state {
        lines.extend(describe_allowed(allowed, info.sandbox.is_some())?);
        lines.push(describe_network(&allowed.network, network.as_ref()));
    }
    if let Some(size) = info.rootfs_size {
        lines.push(format!("size     {} at most: a file system of its own, in a file", output::bytes(size)));
    }
    for HealthInfo { name, status, message, time } in &info.health {
        let status = events::health(*status);
        let message = message.as_deref().map(|text| format!(": {}", output::plain(text))).unwrap_or_default();
        lines.push(format!("health   {}: {status}, said {}{message}", output::plain(name), ago(*time)));
    }
    if info.throwaway {
        lines.push("files    not synced to disk (throw-away)".into());
    }
    for mount in &info.mounts {
        let access = if mount.readonly { "read-only" } else { "read and write" };
        let source = serde_json::to_string(&mount.source).unwrap_or_default();
        lines.push(format!("mount    {} from {source}, {access}", mount.mountpoint));
        for map in &mount.idmap {
            let (from, to, range) = (map.from_id, map.to_id, map.range);
            lines.push(format!(
                "         ids {from}..{} there are {to}..{} inside",
                from + range,
                to + range
            ));
        }
    }
    output::line(&lines.join("\n"));
    Ok(())
}

/// What a container may do, and which of that it was given by name.
///
/// `within`: in a sandbox, whose parts it shares.
pub(super) fn describe_allowed(allowed: &Allowed, within: bool) -> Result<Vec<String>> {
    let default: Vec<String> = CAPABILITIES.iter().map(|capability| format!("CAP_{capability}")).collect();
    let named = |names: Vec<&String>| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let more: Vec<_> = allowed.capabilities.iter().filter(|name| !default.contains(name)).collect();
    let less: Vec<_> = default.iter().filter(|name| !allowed.capabilities.contains(name)).collect();
    let mut root = format!("{} capabilities", allowed.capabilities.len());
    if more.is_empty() && less.is_empty() {
        root.push_str(", the default ones");
    }
    if !more.is_empty() {
        root.push_str(&format!("; beyond the default: {}", named(more)));
    }
    if !less.is_empty() {
        root.push_str(&format!("; not: {}", named(less)));
    }
    let calls = match allowed.seccomp {
        SeccompProfile::Default => "those of the default filter",
        SeccompProfile::Socketcall => "those of the default filter, and socketcall with every kind of socket",
        SeccompProfile::Own => "those of a filter given at launch",
        SeccompProfile::Unconfined => "all: it has no filter",
    };
    let shared = match (allowed.shared_dev_sys, allowed.shared_run) {
        (false, false) => "nothing of the host's /dev, /sys and /run",
        (true, false) => "/dev and /sys",
        (false, true) => "/run",
        (true, true) => "/dev, /sys and /run",
    };
    let shared = match within {
        true => format!("{shared} of its sandbox, nothing of the host's"),
        false => shared.to_owned(),
    };
    let limits = limits::describe(&allowed.limits)?;
    let limits = match (limits.is_empty(), within) {
        (true, _) => "none".to_owned(),
        (false, false) => limits.join(", "),
        (false, true) => format!("those of its sandbox: {}", limits.join(", ")),
    };
    Ok(vec![
        format!("root     has {root}"),
        format!("calls    {calls}"),
        format!("shared   {shared}"),
        format!("limits   {limits}"),
        format!("each     {}", describe_each(allowed)),
    ])
}

/// What each process starts with.
fn describe_each(allowed: &Allowed) -> String {
    let mut parts = vec![format!("umask {:04o}", allowed.umask.unwrap_or(0o022))];
    for (name, Ulimit { soft, hard }) in &allowed.ulimits {
        parts.push(format!("{name} {soft}:{}", hard.unwrap_or(*soft)));
    }
    if let Some(score) = allowed.oom_score_adj {
        parts.push(format!("oom score adjustment {score}"));
    }
    if allowed.ulimits.is_empty() {
        parts.push("the default ulimits".into());
    }
    parts.join(", ")
}

pub(super) fn describe_network(network: &Network, place: Option<&NetworkInfo>) -> String {
    let Some(place) = place else {
        return match network {
            Network::None => "network  none".into(),
            _ => "network  the host's".into(),
        };
    };
    let mut line = format!("network  {}: {}", place.name, place.addresses.join(", "));
    if !place.published.is_empty() {
        line.push_str(&format!("; published {}", place.published.join(", ")));
    }
    line
}

pub(super) fn status(state: &RunState) -> String {
    match state {
        RunState::Created => "created".into(),
        RunState::Running { pid, since, .. } => format!("running since {} (pid {pid})", ago(*since)),
        RunState::Exited { outcome } => match outcome {
            protocol::process::Outcome::Exit { code } => format!("exited with {code}"),
            protocol::process::Outcome::Signal { signal, .. } => format!("ended by {signal}"),
            other => format!("ended ({other:?})"),
        },
    }
}

/// How what runs is, as Docker has it: the worst, where several are looked after.
pub(super) fn health(info: &SubcontainerInfo) -> &'static str {
    let any = |status| info.health.iter().any(|one| one.status == status);
    match () {
        () if any(Health::Unhealthy) => " (unhealthy)",
        () if any(Health::Starting) => " (health: starting)",
        () if any(Health::Healthy) => " (healthy)",
        () => "",
    }
}

pub(super) fn ago(time: u64) -> String {
    let seconds = now().saturating_sub(time) / 1000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86400),
    }
}
