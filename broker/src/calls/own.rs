//! Calls about what a package brings, has and stands on: its jobs, its volumes, the files that it shows, the machine.

use protocol::broker::{
    DependencyParams, FilesReadParams, NodeInfo, TaskReadParams, TaskReadResult, TaskRunParams, VolumeInfo,
    VolumesResult,
};
use protocol::subcontainer::Empty;
use serde::Deserialize;

use super::{Act, Call, Caller, Capability, Class, Item, check_path, json};
use crate::error::{Error, Result};

impl Call for TaskRunParams {
    const METHOD: &'static str = "task.run";
    const CAPABILITY: Capability = Capability::TaskRun;
    const CLASS: Class = Class::Act;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::One("names", &self.task)
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let hands = caller.hands();
        Act::Work(Box::new(move || json(&hands.run_task(&self.task)?)))
    }
}

impl Call for TaskReadParams {
    const METHOD: &'static str = "task.read";
    const CAPABILITY: Capability = Capability::TaskRead;
    const CLASS: Class = Class::Scan;
    const ANSWER: usize = 512 << 10;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::Nothing
    }

    fn subject(&self) -> String {
        self.task.clone().unwrap_or_default()
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let tasks = caller.hands().tasks(self.task.as_deref()).map_err(Error::from);
        Act::Now(tasks.and_then(|tasks| json(&TaskReadResult { tasks })))
    }
}

impl Call for DependencyParams {
    const METHOD: &'static str = "dependencies.read";
    const CAPABILITY: Capability = Capability::DependenciesRead;
    const CLASS: Class = Class::Read;
    const ANSWER: usize = 128 << 10;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::One("packages", &self.package_id)
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let hands = caller.hands();
        Act::Work(Box::new(move || json(&hands.dependency(&self.package_id)?)))
    }
}

/// Where the bundle's files are that a package shows.
const SHOWN: [&str; 2] = ["/media/startos/assets", "/media/startos/ui"];

#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct StaticRead(FilesReadParams);

impl Call for StaticRead {
    const METHOD: &'static str = "static.read";
    const CAPABILITY: Capability = Capability::StaticRead;
    const CLASS: Class = Class::Read;
    const ANSWER: usize = FilesReadParams::ANSWER;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::Path(&self.0.path)
    }

    fn may_be(&self) -> Result<()> {
        check_path(&self.0.path)?;
        let shown = |at: &&str| self.0.path.strip_prefix(*at).is_some_and(|rest| rest.starts_with('/'));
        match SHOWN.iter().any(shown) {
            true => Ok(()),
            false => Err(Error::Denied("only files of the bundle's assets and ui are shown".to_owned())),
        }
    }

    fn act(self, caller: &Caller, by: Option<&str>) -> Act {
        self.0.act(caller, by)
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Volumes(
    #[allow(dead_code, reason = "it has no parameters, and is refused with some")] Empty,
);

impl Call for Volumes {
    const METHOD: &'static str = "volumes.list";
    const CAPABILITY: Capability = Capability::Volumes;
    const CLASS: Class = Class::Scan;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::Nothing
    }

    fn act(self, caller: &Caller, _: Option<&str>) -> Act {
        let (roots, grants) = (caller.roots(), caller.grants());
        Act::Work(Box::new(move || {
            let mut volumes = Vec::new();
            for name in grants.items(Self::CAPABILITY, "names") {
                let at = format!("/media/startos/volumes/{name}");
                let Some(root) = roots.iter().find(|root| root.at == at) else { continue };
                let stat = rustix::fs::fstatvfs(&root.dir).map_err(Error::kernel("look at", &at))?;
                let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
                volumes.push(VolumeInfo {
                    volume_id: name.to_owned(),
                    available_bytes: bytes(stat.f_bavail),
                    total_bytes: bytes(stat.f_blocks),
                });
            }
            json(&VolumesResult { volumes })
        }))
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct NodeRead(
    #[allow(dead_code, reason = "it has no parameters, and is refused with some")] Empty,
);

impl Call for NodeRead {
    const METHOD: &'static str = "node.read";
    const CAPABILITY: Capability = Capability::NodeRead;
    const CLASS: Class = Class::Read;

    fn item<'a>(&'a self, _: &'a mut String) -> Item<'a> {
        Item::Nothing
    }

    fn act(self, _: &Caller, _: Option<&str>) -> Act {
        Act::Now(json(&node()))
    }
}

/// What the machine is like. Not its name, its addresses, nor how long it is up: by these one machine is told from another.
fn node() -> NodeInfo {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (system, info) = (rustix::system::uname(), rustix::system::sysinfo());
    NodeInfo {
        server: concat!("start-container ", env!("CARGO_PKG_VERSION")).to_owned(),
        architecture: architecture.to_owned(),
        kernel: plain_version(&system.release().to_string_lossy()),
        memory_bytes: info.totalram.saturating_mul(info.mem_unit.into()),
        cpus: std::thread::available_parallelism()
            .map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
    }
}

/// `6.18` of `6.18.3-somebodys-own`.
fn plain_version(release: &str) -> String {
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    release.split(['.', '-']).take(2).take_while(number).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_a_kernels_version_says_not_who_has_built_it() {
        for (release, version) in
            [("6.18.3-acme-router7", "6.18"), ("6.18-rc1", "6.18"), ("acme", ""), ("6", "6")]
        {
            assert_eq!(plain_version(release), version, "{release}");
        }
    }
}
