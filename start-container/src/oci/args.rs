//! The words that engines use: those of runc's command line, as far as it is shared.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::log::Format;

/// Run containers from OCI bundles, as podman, containerd and other engines ask for it.
///
/// A bundle is a directory with a `config.json` and a root file system. `create` makes a container whose process waits;
/// `start` lets it go; `delete` takes everything away. `run` does all three.
#[derive(Debug, Parser)]
#[command(
    name = "start-container-oci",
    version = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.2.1"),
    disable_version_flag = true,
    after_help = "\
With podman:      podman --runtime /usr/local/bin/start-container-oci run ...
With containerd:  runtime_type io.containerd.runc.v2, BinaryName = \"/usr/local/bin/start-container-oci\"
where start-container-oci is a link to start-container.

Exit codes: of `run` and `exec` the process's own, 128+N when signal N ended it; 1 when the command failed (255 for
`exec`)."
)]
pub(super) struct Cli {
    /// Where the state of containers is kept [default: /run/start-container/oci, or beneath XDG_RUNTIME_DIR for others
    /// than root]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// Write messages to this file, too
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// How messages in that file look
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: Format,
    /// Say more
    #[arg(long, global = true)]
    pub(super) debug: bool,
    /// Let systemd make the control groups
    #[arg(long, global = true)]
    pub(super) systemd_cgroup: bool,
    /// Who makes the control groups
    #[arg(long, global = true, value_name = "WHO", default_value = "cgroupfs")]
    pub(super) cgroup_manager: Manager,
    /// Accepted for compatibility
    #[arg(long, global = true, value_name = "LEVEL", hide = true)]
    pub(super) log_level: Option<String>,
    /// Accepted for compatibility
    #[arg(long = "rootless", id = "privilege", value_name = "BOOL", num_args = 0..=1, require_equals = true, hide = true)]
    pub(super) rootless: Option<String>,
    /// The program that checkpoints and restores [default: criu, in PATH]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) criu: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    pub(super) version: (),
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Who makes control groups.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum, serde::Deserialize, serde::Serialize,
)]
pub(super) enum Manager {
    /// We do, in the file system
    #[default]
    Cgroupfs,
    /// systemd does
    Systemd,
    /// Nobody: the container stays where its engine is
    Disabled,
}

impl Cli {
    pub(super) fn manager(&self) -> Manager {
        if self.systemd_cgroup { Manager::Systemd } else { self.cgroup_manager }
    }
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum Command {
    /// Make a container, whose process waits for `start`
    Create(Create),
    /// Let the process of a container go
    Start { id: String },
    /// Make a container, start it, wait for its end and take it away
    Run(Run),
    /// Print the state of a container as JSON
    State { id: String },
    /// Send a signal to the first process of a container
    Kill(Kill),
    /// Take a container away
    Delete {
        /// Whatever its state is; no error if there is none
        #[arg(short, long)]
        force: bool,
        id: String,
    },
    /// List containers
    List {
        /// `table` or `json`
        #[arg(short, long, default_value = "table")]
        format: String,
        /// Only their ids
        #[arg(short, long)]
        quiet: bool,
    },
    /// Run a command in a container that runs
    Exec(Box<Exec>),
    /// List the processes of a container
    Ps {
        /// `table` or `json`
        #[arg(short, long, default_value = "table")]
        format: String,
        id: String,
        /// Options for ps(1)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Stop all processes of a container for a while
    Pause { id: String },
    /// Let them go on
    Resume { id: String },
    /// Change the limits of a container
    Update(Box<Update>),
    /// Print what a container uses, and when memory runs out, as JSON
    Events {
        /// Once
        #[arg(long)]
        stats: bool,
        /// How often: 5s, 500ms
        #[arg(long, default_value = "5s")]
        interval: String,
        id: String,
    },
    /// Write the processes of a container to files, by criu, and take it away
    Checkpoint(Box<Checkpoint>),
    /// Make a container of the files of a checkpoint
    Restore(Box<Restore>),
    /// Print what this program can do as JSON
    Features,
    /// Write a config.json to begin with
    Spec {
        /// Where to [default: here]
        #[arg(short, long, value_name = "DIR")]
        bundle: Option<PathBuf>,
        /// For a user other than root
        #[arg(long)]
        rootless: bool,
    },
}

impl Command {
    /// The exit code when it could not be carried out.
    pub(super) fn own_failure(&self) -> u8 {
        if matches!(self, Self::Exec(_)) { 255 } else { 1 }
    }
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// The directory with config.json [default: here]
    #[arg(short, long, value_name = "DIR")]
    pub(super) bundle: Option<PathBuf>,
    /// Its configuration, beneath that [default: config.json]
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// A socket that gets the master of the container's terminal
    #[arg(long, value_name = "PATH")]
    pub(super) console_socket: Option<PathBuf>,
    /// A socket that gets a handle on the container's process
    #[arg(long, value_name = "PATH")]
    pub(super) pidfd_socket: Option<PathBuf>,
    /// A file that gets the id of the container's process
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting into it, where / is an initial ramdisk
    #[arg(long)]
    pub(super) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(super) no_new_keyring: bool,
    /// Pass on descriptors 3 to 3+N-1
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) preserve_fds: u32,
    pub(super) id: String,
}

#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) create: Create,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Do not take it away after its end
    #[arg(long)]
    pub(super) keep: bool,
    /// Accepted for compatibility
    #[arg(long)]
    pub(super) no_subreaper: bool,
}

#[derive(Args, Debug)]
pub(super) struct Kill {
    /// To every process of the container
    #[arg(short, long)]
    pub(super) all: bool,
    pub(super) id: String,
    /// By name or number
    #[arg(default_value = "SIGTERM")]
    pub(super) signal: String,
}

#[derive(Args, Debug)]
pub(super) struct Exec {
    /// A socket that gets the master of the terminal
    #[arg(long, value_name = "PATH")]
    pub(super) console_socket: Option<PathBuf>,
    /// A socket that gets a handle on the process
    #[arg(long, value_name = "PATH")]
    pub(super) pidfd_socket: Option<PathBuf>,
    /// Its working directory
    #[arg(long, value_name = "DIR")]
    pub(super) cwd: Option<PathBuf>,
    /// NAME=VALUE for its environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// With a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// By number
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(super) user: Option<String>,
    /// Further groups
    #[arg(short = 'g', long, value_name = "GID")]
    pub(super) additional_gids: Vec<u32>,
    /// A file with an OCI `process`
    #[arg(short, long, value_name = "FILE")]
    pub(super) process: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(super) detach: bool,
    /// A file that gets the id of the process
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Its SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(super) process_label: Option<String>,
    /// Its AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(super) apparmor: Option<String>,
    /// It can gain no privileges
    #[arg(long)]
    pub(super) no_new_privs: bool,
    /// A further capability
    #[arg(short, long, value_name = "CAPABILITY")]
    pub(super) cap: Vec<String>,
    /// Pass on descriptors 3 to 3+N-1
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) preserve_fds: u32,
    /// In this group beneath the container's
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup: Vec<String>,
    /// In a paused container, too: it begins when that is resumed
    #[arg(long)]
    pub(super) ignore_paused: bool,
    pub(super) id: String,
    /// The command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}

// What criu is told in both directions. Each is an option of its own by that name: criu(8).
// No documentation: clap would show it in place of the command's own.
#[derive(Args, Debug)]
pub(super) struct Criu {
    /// Where the files of the checkpoint are [default: checkpoint]
    #[arg(long, value_name = "DIR", default_value = "checkpoint", hide_default_value = true)]
    pub(super) image_path: PathBuf,
    /// Where criu writes its log [default: the same]
    #[arg(long, value_name = "DIR")]
    pub(super) work_path: Option<PathBuf>,
    /// Keep TCP connections, whose other ends must be there afterwards
    #[arg(long)]
    pub(super) tcp_established: bool,
    /// Let Unix sockets be connected with others outside, which they are not afterwards
    #[arg(long)]
    pub(super) ext_unix_sk: bool,
    /// It was started from a shell, whose terminal it has
    #[arg(long)]
    pub(super) shell_job: bool,
    /// Keep locks on files
    #[arg(long)]
    pub(super) file_locks: bool,
    /// How control groups beneath the container's are taken along
    #[arg(long, value_name = "MODE")]
    pub(super) manage_cgroups_mode: Option<GroupsMode>,
    /// Namespaces that are made and left as they are then (`network` always is)
    #[arg(long, value_name = "TYPE", value_parser = ["network"])]
    pub(super) empty_ns: Vec<String>,
    /// Each page of memory only once
    #[arg(long)]
    pub(super) auto_dedup: bool,
    /// Memory is fetched when it is used
    #[arg(long)]
    pub(super) lazy_pages: bool,
}

/// criu's `--manage-cgroups`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum GroupsMode {
    Ignore = 0,
    Soft = 3,
    Full = 4,
    Strict = 5,
}

#[derive(Args, Debug)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    pub(super) criu: Criu,
    /// Let it run on
    #[arg(long)]
    pub(super) leave_running: bool,
    /// Only its memory, as a base for a later one; it runs on
    #[arg(long)]
    pub(super) pre_dump: bool,
    /// A checkpoint that this one says the differences to, relative to its own files
    #[arg(long, value_name = "DIR")]
    pub(super) parent_path: Option<PathBuf>,
    /// Leave TCP connections out that are being made
    #[arg(long)]
    pub(super) tcp_skip_in_flight: bool,
    /// Give files that have no name any more one
    #[arg(long)]
    pub(super) link_remap: bool,
    /// Send memory to criu there
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) page_server: Option<String>,
    /// A descriptor that gets a zero byte once memory can be fetched (--lazy-pages)
    #[arg(long, value_name = "N")]
    pub(super) status_fd: Option<i32>,
    pub(super) id: String,
}

#[derive(Args, Debug)]
pub(super) struct Restore {
    #[command(flatten)]
    pub(super) criu: Criu,
    /// The directory with config.json [default: here]
    #[arg(short, long, value_name = "DIR")]
    pub(super) bundle: Option<PathBuf>,
    /// A socket that gets the master of the container's terminal
    #[arg(long, value_name = "PATH")]
    pub(super) console_socket: Option<PathBuf>,
    /// A file that gets the id of the container's process
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Another profile than before, TYPE:NAME
    #[arg(long, value_name = "PROFILE")]
    pub(super) lsm_profile: Option<String>,
    /// Another context of mounts than before
    #[arg(long, value_name = "CONTEXT")]
    pub(super) lsm_mount_context: Option<String>,
    /// Accepted for compatibility
    #[arg(long)]
    pub(super) no_subreaper: bool,
    /// Accepted for compatibility
    #[arg(long)]
    pub(super) no_pivot: bool,
    pub(super) id: String,
}

#[derive(Args, Debug)]
pub(super) struct Update {
    /// A file with an OCI `linux.resources`; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(super) resources: Option<PathBuf>,
    #[arg(long, value_name = "WEIGHT")]
    pub(super) blkio_weight: Option<u16>,
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_period: Option<u64>,
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(super) cpu_quota: Option<i64>,
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_burst: Option<u64>,
    #[arg(long, value_name = "SHARES", alias = "cpu-shares")]
    pub(super) cpu_share: Option<u64>,
    #[arg(long, value_name = "MICROSECONDS")]
    pub(super) cpu_rt_period: Option<u64>,
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(super) cpu_rt_runtime: Option<i64>,
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub(super) cpu_idle: Option<i64>,
    #[arg(long, value_name = "LIST")]
    pub(super) cpuset_cpus: Option<String>,
    #[arg(long, value_name = "LIST")]
    pub(super) cpuset_mems: Option<String>,
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(super) memory: Option<String>,
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(super) memory_reservation: Option<String>,
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(super) memory_swap: Option<String>,
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    pub(super) kernel_memory: Option<String>,
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    pub(super) kernel_memory_tcp: Option<String>,
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pub(super) pids_limit: Option<i64>,
    pub(super) id: String,
}
