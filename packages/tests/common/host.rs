//! Installed packages with a runner that runs nothing, and remembers what it was asked to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use packages::Packages;
use packages::manifest::{Entry, PackageId};
use packages::runner::{Failed, Runner, Startable};
use protocol::package::{GrantParams, PackageInfo};

use super::{NOW, Tar, World, file};

/// What runs, and what was started (+) and stopped (-).
#[derive(Default)]
pub struct Pretend {
    pub running: Mutex<BTreeMap<String, String>>,
    pub log: Mutex<Vec<String>>,
    pub fails: AtomicBool,
}

impl Runner for Pretend {
    fn can_run(&self, _: &packages::Manifest, entry: &Entry) -> Result<(), String> {
        match entry {
            Entry::Worker(_) => Err("no runner for this in this release".to_owned()),
            _ => Ok(()),
        }
    }

    fn start(&self, package: &Startable<'_>) -> Result<(), Failed> {
        let id = package.manifest.id.to_string();
        if self.fails.load(Ordering::Relaxed) {
            return Err("it does not start today".into());
        }
        let before = self.running.lock().unwrap().insert(id.clone(), package.manifest.version.to_string());
        assert!(before.is_none(), "{id} was started twice");
        self.log.lock().unwrap().push(format!("+{id}"));
        Ok(())
    }

    fn stop(&self, id: &PackageId, next: Option<&semver::Version>) -> Result<(), Failed> {
        if self.running.lock().unwrap().remove(id.as_str()).is_some() {
            let next = next.map_or(String::new(), |next| format!(" for {next}"));
            self.log.lock().unwrap().push(format!("-{id}{next}"));
        }
        Ok(())
    }
}

pub struct Host {
    pub world: World,
    pub runner: Arc<Pretend>,
    pub packages: Packages,
}

pub fn id(text: &str) -> PackageId {
    text.parse().unwrap()
}

impl Host {
    pub fn new() -> Self {
        Self::on(World::new())
    }

    fn on(world: World) -> Self {
        let runner = Arc::<Pretend>::default();
        let packages = Packages::open(&world.data(), runner.clone(), || NOW).unwrap();
        Self { world, runner, packages }
    }

    /// As after the host was killed: nothing runs.
    pub fn restart(self) -> Self {
        let Self { world, packages, .. } = self;
        drop(packages);
        Self::on(world)
    }

    pub fn bundle(&self, manifest: &str) -> std::fs::File {
        file(&self.world.signed(&Tar::with(manifest).packed()))
    }

    pub fn install(&self, manifest: &str) -> packages::Result<PackageInfo> {
        self.packages.install(self.bundle(manifest), false)
    }

    pub fn update(&self, manifest: &str) -> packages::Result<PackageInfo> {
        self.packages.update(self.bundle(manifest), false, false)
    }

    pub fn grant(&self, of: &str, names: &[&str]) -> packages::Result<PackageInfo> {
        let grant = names.iter().map(ToString::to_string).collect();
        self.packages.grant(&id(of), &GrantParams { package_id: of.to_owned(), grant, ..Default::default() })
    }

    pub fn revoke(&self, of: &str, name: &str) -> packages::Result<PackageInfo> {
        let revoke = vec![name.to_owned()];
        self.packages.grant(&id(of), &GrantParams { package_id: of.to_owned(), revoke, ..Default::default() })
    }

    pub fn activate(&self, of: &str) -> packages::Result<PackageInfo> {
        self.packages.activate(&id(of))
    }

    pub fn disable(&self, of: &str) -> packages::Result<PackageInfo> {
        self.packages.disable(&id(of), false)
    }

    pub fn running(&self) -> Vec<String> {
        self.runner.running.lock().unwrap().iter().map(|(id, version)| format!("{id} {version}")).collect()
    }
}

/// A manifest that asks for nothing.
pub fn plain(id: &str, version: &str) -> String {
    super::manifest(id, version)
}

/// One that asks to reach hosts.
pub fn asking(id: &str, version: &str, hosts: &[&str]) -> String {
    serde_json::json!({ "manifest": 1, "id": id, "name": id, "version": version,
        "capabilities": { "http:egress": { "reason": "r", "hosts": hosts } } })
    .to_string()
}

/// One that needs another package.
pub fn needing(id: &str, version: &str, other: &str, range: &str) -> String {
    serde_json::json!({ "manifest": 1, "id": id, "name": id, "version": version,
        "dependencies": { other: { "version": range } } })
    .to_string()
}
