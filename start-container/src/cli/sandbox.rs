//! `start-container sandbox …`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use protocol::sandbox::{SandboxInfo, SandboxSettings};
use protocol::subcontainer::{OWN_IDS, RunState};

use super::bounds::Networking;
use super::limits::LimitFlags;
use super::subcontainer::{ago, describe_allowed, describe_network, find, status};
use super::{Context, command, output};
use crate::engine::limits;
use crate::error::Result;

#[derive(Debug, Subcommand)]
#[command(
    defer = true,
    after_help = "\
Try it, as root:
  sandbox=$(start-container sandbox create --network private -m 512m --image busybox)
  rootfs=$(start-container subcontainer create-fs --sandbox $sandbox busybox)
  start-container subcontainer launch $rootfs &
  start-container subcontainer exec $rootfs ip addr
  start-container sandbox exec $sandbox ps
  start-container sandbox destroy $sandbox"
)]
pub(super) enum Sandbox {
    /// Make a sandbox and start it, and print its id
    ///
    /// It goes on until it is destroyed. Nothing of it is the host's: its network is none, unless a private one is asked
    /// for.
    Create(Box<Create>),
    /// Start a sandbox again whose init has ended, with what it was created with
    Start(Which),
    /// List sandboxes
    Ls,
    /// Show one sandbox, whole
    Inspect(Which),
    /// Run a command in a sandbox itself, beside its subcontainers
    ///
    /// It sees the processes of all of them. What it can run is in the sandbox's image, or mounted in it.
    Exec(command::Exec),
    /// End everything in a sandbox, and remove it with its subcontainers
    Destroy(Which),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// An image for the sandbox's own processes (see `start-container image ls`) [default: an empty rootfs]
    #[arg(long)]
    image: Option<String>,
    /// Never sync its files to disk: faster, and lost when the machine crashes
    #[arg(long)]
    throwaway: bool,
    #[command(flatten)]
    network: Networking,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// Its id
    #[arg(value_name = "ID")]
    sandbox: String,
}

impl Sandbox {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        if let Self::Exec(exec) = self {
            let machine = context.machine_of(exec.rootfs())?;
            machine.sandbox(find(&machine, exec.rootfs())?.guid())?;
            return exec.run(context);
        }
        let machine = context.machine()?;
        match self {
            Self::Create(create) => {
                let mut settings = SandboxSettings { limits: create.limits.limits()?, ..Default::default() };
                if let Some(network) = create.network.read()? {
                    settings.network = network;
                }
                let (image, name) = (create.image.as_deref(), create.name);
                let rootfs = machine.create_sandbox(image, name, create.throwaway, settings, None)?;
                if let Err(failure) = machine.start_sandbox(&rootfs) {
                    // Why it could not be started is what must be heard of.
                    let _left = machine.destroy(rootfs.guid()).and_then(|_| machine.release());
                    return Err(failure);
                }
                if context.json {
                    output::json(&machine.sandbox_info(&rootfs)?)?;
                } else {
                    output::line(rootfs.guid());
                }
            }
            Self::Start(which) => {
                machine.start_sandbox(&machine.sandbox(&which.sandbox)?)?;
            }
            Self::Ls => {
                let list = machine.sandboxes()?;
                if context.json { output::json(&list)? } else { table(&list) }
            }
            Self::Inspect(which) => {
                let info = machine.sandbox_info(&machine.sandbox(&which.sandbox)?)?;
                if context.json { output::json(&info)? } else { describe(&info)? }
            }
            Self::Destroy(which) => {
                match machine.sandbox(&which.sandbox) {
                    // As `destroy-fs`: what is left is removed, and nothing left is fine.
                    Err(failure)
                        if failure.kind == protocol::ErrorKind::NotFound
                            && machine.rootfs(&which.sandbox).is_err() => {}
                    other => drop(other?),
                }
                machine.destroy(&which.sandbox)?;
                machine.release()?;
            }
            Self::Exec(_) => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(list: &[SandboxInfo]) {
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|info| {
            vec![
                info.guid.clone(),
                info.name.clone().unwrap_or_default(),
                info.subcontainers.len().to_string(),
                ago(info.created),
                status(&info.state),
            ]
        })
        .collect();
    output::table(&["ID", "NAME", "SUBCONTAINERS", "CREATED", "STATUS"], &rows);
}

fn describe(info: &SandboxInfo) -> Result<()> {
    let (first, last) = (info.first_id, info.first_id + (OWN_IDS - 1));
    let mut lines = vec![
        format!("id       {}", info.guid),
        format!("name     {}", info.name.as_deref().unwrap_or("-")),
        format!("image    {}", info.image_id.as_deref().unwrap_or("none: its rootfs began empty")),
        format!("rootfs   {}", info.rootfs),
        format!("created  {}", ago(info.created)),
        format!("status   {}", status(&info.state)),
        format!("ids      0 to 65535 inside are {first} to {last} of the machine, in its subcontainers too"),
    ];
    match &info.state {
        RunState::Running { allowed, network, .. } => {
            lines.extend(describe_allowed(allowed, false)?);
            lines.push(describe_network(&allowed.network, network.as_ref()));
        }
        _ => {
            let limits = limits::describe(&info.settings.limits)?;
            let limits = if limits.is_empty() { "none".to_owned() } else { limits.join(", ") };
            lines.push(format!("limits   {limits}"));
            lines.push("inside   nothing runs, and nothing can before it is started again".into());
        }
    }
    lines.push("others   its processes see those of its subcontainers, not the other way round".into());
    for member in &info.subcontainers {
        lines.push(format!("holds    {member}"));
    }
    output::line(&lines.join("\n"));
    Ok(())
}
