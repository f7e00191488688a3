//! Request and image config to OCI runtime `Spec`: pure, and tested without root.

use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxBuilder, LinuxCapabilitiesBuilder, LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType,
    Mount, MountBuilder, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
    get_default_maskedpaths, get_default_readonly_paths,
};
use protocol::ErrorKind;
use protocol::image::ImageConfig;
use protocol::process::CommandOptions;
use protocol::subcontainer::OWN_IDS;

use super::privileges::Privileges;
use super::settings::Planned;
use super::user::User;
use crate::error::{Failure, Result};

/// Where a shell without a PATH would look.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What tells of others' work by its timing, and is not in the list of the OCI libraries (CVE-2020-8694).
const MASKED: [&str; 2] = ["/proc/interrupts", "/sys/devices/virtual/powercap"];

/// A command to run inside, before anything is looked up.
#[derive(Clone, Debug)]
pub(crate) struct Command<'a> {
    pub(crate) args: &'a [String],
    pub(crate) options: &'a CommandOptions,
    pub(crate) image: &'a ImageConfig,
    pub(crate) terminal: bool,
}

impl Command<'_> {
    /// The user that was asked for, else the image's.
    pub(crate) fn user(&self) -> &str {
        self.options.user.as_deref().or(self.image.user.as_deref()).unwrap_or("")
    }
}

/// The OCI `process` of a command.
pub(crate) fn process(
    command: &Command<'_>,
    user: &User,
    privileges: &Privileges,
    settings: &Planned,
) -> Result<Process> {
    if command.args.first().is_none_or(String::is_empty) {
        return Err(Failure::new(ErrorKind::Invalid, "read command", "(empty)"));
    }
    for text in command.args {
        no_nul("read command", text)?;
    }
    let cwd =
        command.options.cwd.as_deref().or(command.image.workdir.as_deref()).filter(|dir| !dir.is_empty());
    let cwd = cwd.unwrap_or("/");
    no_nul("read working directory", cwd)?;
    if !cwd.starts_with('/') {
        return Err(Failure::new(ErrorKind::Invalid, "read working directory (not absolute)", cwd));
    }
    let capabilities = privileges.capabilities.clone();
    let own = if user.uid == 0 { capabilities.clone() } else { Default::default() };
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(capabilities)
        .effective(own.clone())
        .permitted(own)
        .inheritable(std::collections::HashSet::new())
        .ambient(std::collections::HashSet::new())
        .build()
        .map_err(internal)?;
    let process = ProcessBuilder::default()
        .terminal(command.terminal)
        .args(command.args)
        .env(environment(command, user)?)
        .cwd(cwd)
        .user(
            UserBuilder::default()
                .uid(user.uid)
                .gid(user.gid)
                .umask(settings.umask)
                .additional_gids(user.groups.clone())
                .build()
                .map_err(internal)?,
        )
        .capabilities(capabilities)
        .no_new_privileges(true)
        .rlimits(settings.rlimits.clone());
    let process = match settings.oom_score_adj {
        Some(score) => process.oom_score_adj(score),
        None => process,
    };
    process.build().map_err(internal)
}

/// The image's environment, then the caller's, then what a program may take for granted.
fn environment(command: &Command<'_>, user: &User) -> Result<Vec<String>> {
    let mut env: Vec<String> = command.image.env.clone();
    for (name, value) in &command.options.env {
        if name.is_empty() || name.contains('=') {
            return Err(Failure::new(ErrorKind::Invalid, "read environment variable", name));
        }
        no_nul("read environment variable", name)?;
        no_nul("read environment variable", value)?;
        let prefix = format!("{name}=");
        env.retain(|entry| !entry.starts_with(&prefix));
        env.push(format!("{prefix}{value}"));
    }
    let mut default = |name: &str, value: &str| {
        if !env.iter().any(|entry| entry.split_once('=').is_some_and(|(n, _)| n == name)) {
            env.push(format!("{name}={value}"));
        }
    };
    default("PATH", DEFAULT_PATH);
    default("HOME", &user.home);
    if command.terminal {
        default("TERM", "xterm");
    }
    Ok(env)
}

/// What a container is made in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Surroundings {
    /// The machine.
    Machine,
    /// The machine, and others are made in it.
    Sandbox,
    /// A sandbox, whose leader has this id.
    In(i32),
}

/// The whole container: namespaces, mounts, masked paths, and its first process.
///
/// `first_id`: the machine's id that is 0 inside, if it has a user namespace.
pub(crate) fn container(
    process: Process,
    hostname: &str,
    privileges: &Privileges,
    first_id: Option<u32>,
    surroundings: Surroundings,
) -> Result<Spec> {
    use LinuxNamespaceType as Ns;
    let new = |typ| LinuxNamespaceBuilder::default().typ(typ).build().map_err(internal);
    let namespaces = match surroundings {
        Surroundings::In(leader) => {
            let joined = |(typ, name)| {
                let path = format!("/proc/{leader}/ns/{name}");
                LinuxNamespaceBuilder::default().typ(typ).path(path).build().map_err(internal)
            };
            let joined = [(Ns::Network, "net"), (Ns::Ipc, "ipc"), (Ns::User, "user")].map(joined);
            [Ns::Pid, Ns::Mount, Ns::Uts, Ns::Cgroup].map(new).into_iter().chain(joined).collect()
        }
        Surroundings::Machine | Surroundings::Sandbox => {
            let always = [Ns::Pid, Ns::Mount, Ns::Ipc, Ns::Uts, Ns::Cgroup];
            always.into_iter().chain(first_id.map(|_| Ns::User)).map(new).collect::<Result<Vec<_>>>()
        }
    }?;
    let all_masked = || get_default_maskedpaths().into_iter().chain(MASKED.map(str::to_owned));
    // What is shared is masked where it comes from, or is to be seen.
    let shared_sys = privileges.shared_dev_sys || matches!(surroundings, Surroundings::In(_));
    let (masked, readonly): (Vec<String>, Vec<String>) = if shared_sys {
        let beneath_proc = |path: &String| path.starts_with("/proc/");
        (
            all_masked().filter(beneath_proc).collect(),
            get_default_readonly_paths().into_iter().filter(beneath_proc).collect(),
        )
    } else {
        (all_masked().collect(), get_default_readonly_paths())
    };
    let ids = first_id.filter(|_| !matches!(surroundings, Surroundings::In(_))).map(|first| {
        LinuxIdMappingBuilder::default()
            .container_id(0_u32)
            .host_id(first)
            .size(OWN_IDS)
            .build()
            .map_err(internal)
    });
    let ids: Vec<_> = ids.transpose()?.into_iter().collect();
    let linux = LinuxBuilder::default()
        .uid_mappings(ids.clone())
        .gid_mappings(ids)
        .namespaces(namespaces)
        .masked_paths(masked)
        .readonly_paths(readonly)
        .devices(Vec::new())
        .build()
        .map_err(internal)?;
    SpecBuilder::default()
        .version("1.2.0")
        .process(process)
        .root(RootBuilder::default().path("rootfs").readonly(false).build().map_err(internal)?)
        .hostname(hostname)
        .mounts(mounts(privileges, first_id.unwrap_or(0), surroundings)?)
        .linux(linux)
        .build()
        .map_err(internal)
}

/// `root`: the machine's id that is root inside. Options of file systems mean the machine's.
fn mounts(privileges: &Privileges, root: u32, surroundings: Surroundings) -> Result<Vec<Mount>> {
    let mount = |destination: &str, typ: &str, source: &str, options: &[&str]| {
        MountBuilder::default()
            .destination(PathBuf::from(destination))
            .typ(typ)
            .source(PathBuf::from(source))
            .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
            .build()
            .map_err(internal)
    };
    let mut proc = vec!["nosuid", "noexec", "nodev"];
    if surroundings == Surroundings::Sandbox {
        // Those who are launched in it pass through its pid namespace with the machine's mounts and network, of which
        // /proc tells everybody; but it shows nobody then whom he may not trace.
        proc.push("hidepid=2");
    }
    let mut mounts = vec![mount("/proc", "proc", "proc", &proc)?];
    if let Surroundings::In(leader) = surroundings {
        for place in ["/dev", "/sys"].into_iter().chain(privileges.shared_run.then_some("/run")) {
            mounts.push(mount(
                place,
                "bind",
                &format!("/proc/{leader}/root{place}"),
                &["rbind", "rprivate"],
            )?);
        }
        return Ok(mounts);
    }
    if privileges.shared_dev_sys {
        mounts.push(mount("/dev", "bind", "/dev", &["rbind", "rslave"])?);
        mounts.push(mount("/sys", "bind", "/sys", &["rbind", "rslave"])?);
    } else {
        mounts.push(mount("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "mode=755", "size=65536k"])?);
        let gid = format!("gid={}", root + 5);
        // Terminals are counted for the machine. (kernel.pty.max: 4096.)
        let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", &gid, "max=256"];
        mounts.push(mount("/dev/pts", "devpts", "devpts", &options)?);
        let options = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
        mounts.push(mount("/dev/shm", "tmpfs", "shm", &options)?);
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
        mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?);
    }
    if privileges.shared_run {
        mounts.push(mount("/run", "bind", "/run", &["rbind", "rslave"])?);
    }
    if surroundings == Surroundings::Sandbox {
        mounts.push(mount("/run", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=755", "size=65536k"])?);
    }
    Ok(mounts)
}

fn no_nul(step: &str, text: &str) -> Result<()> {
    if text.contains('\0') {
        Err(Failure::new(ErrorKind::Invalid, format!("{step} (holds a NUL byte)"), ""))
    } else {
        Ok(())
    }
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(ErrorKind::Internal, "build OCI spec", "").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> User {
        User { uid: 0, gid: 0, groups: vec![], home: "/root".into() }
    }

    fn privileges() -> Privileges {
        Privileges::plan(&Default::default(), false, false).unwrap()
    }

    fn plan(options: &CommandOptions, image: &ImageConfig) -> Result<Process> {
        let args = ["true".to_owned()];
        let command = Command { args: &args, options, image, terminal: false };
        process(&command, &root(), &privileges(), &Planned::default())
    }

    #[test]
    fn the_callers_environment_replaces_the_images() {
        let image = ImageConfig { env: vec!["A=1\n2".into(), "B=2".into()], ..Default::default() };
        let options = CommandOptions { env: [("B".into(), "3".into())].into(), ..Default::default() };
        let env = plan(&options, &image).unwrap().env().clone().unwrap();
        assert_eq!(env, ["A=1\n2", "B=3", &format!("PATH={DEFAULT_PATH}"), "HOME=/root"]);
    }

    #[test]
    fn the_images_working_directory_is_the_default() {
        let image = ImageConfig { workdir: Some("/srv".into()), ..Default::default() };
        assert_eq!(plan(&Default::default(), &image).unwrap().cwd(), &PathBuf::from("/srv"));
        let options = CommandOptions { cwd: Some("relative".into()), ..Default::default() };
        assert_eq!(
            plan(&options, &image).unwrap_err().to_string(),
            "read working directory (not absolute) relative"
        );
    }

    #[test]
    fn other_users_start_without_capabilities() {
        let args = ["true".to_owned()];
        let command = Command {
            args: &args,
            options: &Default::default(),
            image: &Default::default(),
            terminal: false,
        };
        let user = User { uid: 7, gid: 7, groups: vec![], home: "/".into() };
        let process = process(&command, &user, &privileges(), &Planned::default()).unwrap();
        let capabilities = process.capabilities().clone().unwrap();
        assert!(capabilities.effective().as_ref().unwrap().is_empty());
        assert_eq!(capabilities.bounding().as_ref().unwrap().len(), privileges().capabilities.len());
        assert_eq!(process.no_new_privileges(), Some(true));
    }

    #[test]
    fn names_that_cannot_be_environment_variables_are_refused() {
        for name in ["", "A=B", "A\0"] {
            let options =
                CommandOptions { env: [(name.to_owned(), String::new())].into(), ..Default::default() };
            assert_eq!(plan(&options, &Default::default()).unwrap_err().kind, ErrorKind::Invalid);
        }
    }
}
