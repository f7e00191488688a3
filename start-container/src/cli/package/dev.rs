//! `package dev`: a package runs from its source folder, and what is saved runs a moment later.
//!
//! ```text
//! check, build ─▶ packed, signed by a key of the folder's own ─▶ installed or updated, granted, active ─▶ its logs and health are shown
//!      ▲                 only the script is another: the worker loads it, the rest goes on ─▶ ┘
//!      └── something was saved                                      an error is told; what ran goes on
//! ```
//! The key is trusted with this one package. A package of the same id that was not installed by this is never replaced.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use indicatif::ProgressBar;
use packages::keys::PrivateKey;
use packages::manifest::PackageId;
use protocol::ErrorKind;
use protocol::package::{
    DisableParams, GrantParams, InstallParams, PackageInfo, PackageParams, PackageRun, PackageSource,
    PackageStatus, ReloadParams, RemovePackageParams,
};
use protocol::subcontainer::{Empty, ListResult};
use sha2::{Digest as _, Sha256};

use super::super::client::Client;
use super::super::image::cancel_on_ctrl_c;
use super::decide::connect;
use super::develop::{LOOK, Running, Source, interrupted, trust_key, wrong};
use super::{Context, now, output};
use crate::error::{Failure, Result};

/// How often the package is looked at.
const STATUS: Duration = Duration::from_millis(500);
/// An editor may save more than one file.
const SETTLED: Duration = Duration::from_millis(150);
/// Where this keeps what is its own, in the source folder.
const OWN: &str = ".dev";
/// What nobody edits.
const NOT_SOURCES: [&str; 6] = ["node_modules", "build", "build-test", OWN, ".git", "package-lock.json"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
For development: everything that the package asks for is granted, without a question. It is signed by a key that this makes in .dev/,
which the host trusts with this package alone, and it takes a host: `start-container daemon`, best on a data directory for this.

What is saved is checked and built. Where only code has changed, its worker loads it; else the package is updated. An error is
told with its place, and what ran goes on. Ctrl-C disables the package; with --rm it goes, with its data and the trust in its key.")]
pub(in crate::cli) struct Dev {
    /// The package's source folder
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// At the end, remove the package and its data
    #[arg(long)]
    rm: bool,
}

impl Dev {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let source = Source::open(&self.directory)?;
        let client = connect(context).inspect_err(|_| {
            output::error("hint: `package dev` takes a host that runs: start-container daemon");
        })?;
        let own = source.dir.join(OWN);
        linux::tree::ensure_dir(&own, 0o700)
            .map_err(|errno| Failure::kernel("make", own.display(), errno))?;
        let key = match PrivateKey::read(&own.join("key")) {
            Ok(key) => key,
            Err(_) if !own.join("key").exists() => PrivateKey::create(&own.join("key"))?,
            Err(error) => return Err(error.into()),
        };
        let cancel = cancel_on_ctrl_c()?;
        let (sender, lines) = channel();
        let screen = Screen::new();
        let mut work = Work {
            context,
            source,
            client,
            key,
            own,
            screen,
            id: None,
            before: None,
            logs: HashMap::new(),
            lines,
            sender,
            told: Told::default(),
        };
        let ended = work.turn_until(&cancel);
        let left = work.leave(self.rm);
        ended.and(left)
    }
}

/// What is built, in two parts: the worker's code, and the rest.
struct Built {
    code: [u8; 32],
    rest: [u8; 32],
}

/// What was said last.
#[derive(Default)]
struct Told {
    run: String,
    health: BTreeMap<String, String>,
}

struct Work<'a> {
    context: &'a Context,
    source: Source,
    client: Client,
    key: PrivateKey,
    own: PathBuf,
    screen: Screen,
    /// Once it was installed by this.
    id: Option<PackageId>,
    /// What runs.
    before: Option<Built>,
    /// Those that follow the logs of subcontainers, by their ids.
    logs: HashMap<String, Running>,
    lines: Receiver<String>,
    sender: Sender<String>,
    told: Told,
}

impl Work<'_> {
    fn turn_until(&mut self, cancel: &images::Cancel) -> Result<()> {
        loop {
            let seen = look_at(&self.source.dir);
            match self.turn(cancel) {
                Ok(()) => {}
                Err(_) if cancel.is_cancelled() => return Ok(()),
                // Of another's package, nothing is to be replaced, whatever is saved.
                Err(failure) if failure.kind == ErrorKind::Exists => return Err(failure),
                Err(failure) => self.screen.say(&format!("error: {}", output::plain(&failure.sentence()))),
            }
            self.screen.say("waiting for something to be saved");
            let mut looked = Instant::now();
            while look_at(&self.source.dir) == seen {
                if cancel.is_cancelled() {
                    return Ok(());
                }
                if looked.elapsed() > STATUS {
                    looked = Instant::now();
                    self.look()?;
                }
                self.show_logs();
                std::thread::sleep(LOOK);
            }
            std::thread::sleep(SETTLED);
        }
    }

    /// A script of the source folder. False: it has failed, and has said why.
    fn script(&self, name: &str, arguments: &[&str], cancel: &images::Cancel) -> Result<bool> {
        let path = self.own.join("output");
        let open = || std::fs::File::create(&path).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = open().map_err(Failure::io("make", path.display()))?;
        let mut command = self.source.script(name);
        command.args(arguments).stdout(out).stderr(err).env("NO_COLOR", "1");
        let status = Running::start(command)?.wait(cancel)?;
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            self.screen.say(&output::plain(&place_first(line)));
        }
        Ok(status.success())
    }

    /// From what is saved to what runs.
    fn turn(&mut self, cancel: &images::Cancel) -> Result<()> {
        let began = Instant::now();
        if !self.script("check", &["--", "--pretty", "false"], cancel)?
            || !self.script("build", &[], cancel)?
        {
            self.screen.say("not built: what ran goes on");
            return Ok(());
        }
        if cancel.is_cancelled() {
            return Err(interrupted());
        }
        let manifest = self.source.manifest()?;
        let built = hash(&self.source.built())?;
        let id = manifest.id.clone();
        if self.id.is_none() {
            match trust_key(self.context, self.key.public(), &format!("package dev {id}"), &id) {
                Ok(()) => {}
                Err(failure) if failure.kind == ErrorKind::Exists => {}
                Err(failure) => return Err(failure),
            }
        }
        let same = self.before.as_ref().map(|before| (before.code == built.code, before.rest == built.rest));
        let what = match same {
            Some((true, true)) => "is as it was",
            Some((false, true)) if self.has_worker(&id)? => {
                let entries = self.source.built().display().to_string();
                let params = ReloadParams { package_id: id.to_string(), files: Some(entries) };
                // It says why by its status, and may run again with what is saved next.
                self.before = Some(built);
                let _: PackageInfo = self.client.call("package.reload", &params)?;
                "reloaded"
            }
            _ => {
                self.before = None;
                self.install(&id, &manifest.version)?;
                self.before = Some(built);
                "runs"
            }
        };
        self.screen.say(&format!("{id} {what} ({:.1} s)", began.elapsed().as_secs_f64()));
        self.look()
    }

    fn has_worker(&mut self, id: &PackageId) -> Result<bool> {
        let info: PackageInfo =
            self.client.call("package.inspect", &PackageParams { package_id: id.to_string() })?;
        Ok(info.status == PackageStatus::Active && info.worker.is_some())
    }

    /// Installed, or updated, with all that it asks for.
    fn install(&mut self, id: &PackageId, version: &impl std::fmt::Display) -> Result<()> {
        // One number for each: what is known by a number is never other bytes. By its precedence it is the same version.
        let marked = format!("{version}+dev.{}", now());
        let path = self.source.built().join("manifest.json");
        let text = std::fs::read(&path).map_err(Failure::io("read", path.display()))?;
        let mut manifest: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|error| Failure::new(ErrorKind::Invalid, "read", path.display()).because(error))?;
        manifest["version"] = marked.into();
        std::fs::write(&path, manifest.to_string()).map_err(Failure::io("write", path.display()))?;
        let bundle = self.own.join("bundle");
        self.source.pack(&self.key, &bundle)?;
        let known: Option<PackageInfo> =
            match self.client.call("package.inspect", &PackageParams { package_id: id.to_string() }) {
                Ok(info) => Some(info),
                Err(failure) if failure.kind == ErrorKind::NotFound => None,
                Err(failure) => return Err(failure),
            };
        if let Some(known) = known.as_ref().filter(|known| !known.version.contains("+dev.")) {
            let why = format!(
                "version {} is installed, and not by this: take another data directory",
                known.version
            );
            return Err(Failure::new(ErrorKind::Exists, "develop", id).because(std::io::Error::other(why)));
        }
        let source = PackageSource::File { path: bundle.display().to_string() };
        let params = InstallParams { source, grant_all: known.is_some(), older: true };
        let method = if known.is_some() { "package.update" } else { "package.install" };
        // From here on there is something to disable at the end.
        let _: PackageInfo = self.client.call(method, &params)?;
        self.id = Some(id.clone());
        let all = GrantParams { package_id: id.to_string(), all: true, ..GrantParams::default() };
        let info: PackageInfo = self.client.call("package.grant", &all)?;
        let granted: Vec<&str> = info.granted.keys().map(String::as_str).collect();
        if known.is_none() && !granted.is_empty() {
            self.screen.say(&format!("granted, since this is development: {}", granted.join(", ")));
        }
        if info.status != PackageStatus::Active {
            let params = PackageParams { package_id: id.to_string() };
            let _: PackageInfo = self.client.call("package.activate", &params)?;
        }
        Ok(())
    }

    /// How it is, and whose logs there are to follow.
    fn look(&mut self) -> Result<()> {
        let Some(id) = &self.id else { return Ok(()) };
        let params = PackageParams { package_id: id.to_string() };
        let info: PackageInfo = self.client.call("package.inspect", &params)?;
        let mut run = match &info.run {
            PackageRun::Unknown => "-".to_owned(),
            PackageRun::Loading => "loading".to_owned(),
            PackageRun::Running => "running".to_owned(),
            PackageRun::Stopped => "stopped".to_owned(),
            PackageRun::Errored { reason } => format!("errored: {}", output::plain(reason)),
        };
        let mut sandbox = None;
        if let Some(worker) = &info.worker {
            if let Some(note) = super::worker::note(&info) {
                run = note;
                let stack = worker.ended.as_ref().and_then(|end| end.stack.clone()).unwrap_or_default();
                run.extend(stack.lines().skip(1).map(|line| format!("\n    {}", output::plain(line))));
            }
            sandbox = Some(worker.guid.clone());
        }
        if run != self.told.run {
            self.screen.say(&format!("{id}: {run}"));
            self.told.run = run;
        }
        let all: ListResult = self.client.call("subcontainer.list", &Empty {})?;
        let ours = all.subcontainers.iter().find(|one| Some(&one.guid) == sandbox.as_ref());
        let ours = ours.and_then(|worker| worker.sandbox.clone());
        let named = format!("{id}-");
        let mut health = BTreeMap::new();
        for one in &all.subcontainers {
            let name = one.name.clone().unwrap_or_default();
            let inside = ours.is_some() && one.sandbox == ours;
            if !(inside || name.starts_with(&named)) {
                continue;
            }
            for told in &one.health {
                let status = serde_json::to_value(told.status).unwrap_or_default();
                let status = status.as_str().unwrap_or_default().to_owned();
                let why = told.message.as_ref().map(|why| format!(" ({})", output::plain(why)));
                let name = output::plain(&told.name);
                health.insert(name, format!("{status}{}", why.unwrap_or_default()));
            }
            if !self.logs.contains_key(&one.guid) {
                let running = self.follow(&one.guid, &name)?;
                self.logs.insert(one.guid.clone(), running);
            }
        }
        for (name, status) in &health {
            if self.told.health.get(name) != Some(status) {
                self.screen.say(&format!("{name}: {status}"));
            }
        }
        let short: Vec<String> = health.iter().map(|(name, status)| format!("{name}: {status}")).collect();
        self.screen.stays(&format!(
            "{id}  {}  {}",
            self.told.run.lines().next().unwrap_or_default(),
            short.join("  ")
        ));
        self.told.health = health;
        self.logs.retain(|_, running| matches!(running.ended(), Ok(None)));
        Ok(())
    }

    /// Follows a log, as `start-container logs -f` does.
    fn follow(&self, guid: &str, name: &str) -> Result<Running> {
        let program = std::env::current_exe().map_err(Failure::io("find", "this program"))?;
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(self.context.data_dir());
        command.args(["logs", "--follow", guid]).stdin(Stdio::null());
        let (read, write) = std::io::pipe().map_err(Failure::io("follow the log of", name))?;
        let errors = write.try_clone().map_err(Failure::io("follow the log of", name))?;
        command.stdout(write).stderr(errors);
        let (sender, name) = (self.sender.clone(), name.to_owned());
        let running = Running::start(command)?;
        std::thread::spawn(move || {
            // What is no text is shown as what it is not.
            for line in BufReader::new(read).split(b'\n') {
                let Ok(line) = line else { break };
                let line = format!("{name} | {}", output::plain(&String::from_utf8_lossy(&line)));
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(running)
    }

    fn show_logs(&self) {
        for line in self.lines.try_iter() {
            self.screen.log(&line);
        }
    }

    /// Disables what this has installed.
    fn leave(mut self, rm: bool) -> Result<()> {
        self.logs.clear();
        self.screen.clear();
        let Some(id) = self.id.take() else { return Ok(()) };
        let params = PackageParams { package_id: id.to_string() };
        let info: PackageInfo = self.client.call("package.inspect", &params)?;
        if info.status == PackageStatus::Active || matches!(info.run, PackageRun::Errored { .. }) {
            let params = DisableParams { package_id: id.to_string(), dependents: true };
            let disabled: Result<PackageInfo> = self.client.call("package.disable", &params);
            if info.status == PackageStatus::Active {
                disabled?;
            }
        }
        if !rm {
            self.screen.say(&format!("{id} is disabled; its data stay (--rm removes them)"));
            return Ok(());
        }
        let params = RemovePackageParams { package_id: id.to_string(), data: true };
        let _: Empty = self.client.call("package.remove", &params)?;
        let public = self.key.public().to_string();
        packages::Trust::change(&super::trust::file(self.context), |trust| {
            trust.revoke(&public, now()).map(drop)
        })?;
        // It was revoked, and is never trusted again.
        std::fs::remove_dir_all(&self.own).map_err(Failure::io("remove", self.own.display()))?;
        self.screen.say(&format!("{id} is removed"));
        Ok(())
    }
}

/// `src/main.ts(3,5): error …` as editors and terminals know a place: `src/main.ts:3:5: error …`.
fn place_first(line: &str) -> String {
    let parts = || {
        let (file, rest) = line.split_once('(')?;
        let (place, rest) = rest.split_once("): ")?;
        let (row, column) = place.split_once(',')?;
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (number(row) && number(column)).then(|| format!("{file}:{row}:{column}: {rest}"))
    };
    parts().unwrap_or_else(|| line.to_owned())
}

/// The sources, and when each was written.
fn look_at(dir: &Path) -> BTreeMap<PathBuf, (Option<SystemTime>, u64)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(here) = waiting.pop() {
        // What goes away meanwhile is seen the next time.
        for entry in std::fs::read_dir(&here).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let bundle = name.to_string_lossy().ends_with(".bundle.tar.zst");
            if bundle || NOT_SOURCES.iter().any(|other| name == *other) {
                continue;
            }
            match entry.metadata() {
                Ok(data) if data.is_dir() => waiting.push(entry.path()),
                Ok(data) => _ = found.insert(entry.path(), (data.modified().ok(), data.len())),
                Err(_) => {}
            }
        }
    }
    found
}

/// What was built, by what is in it.
fn hash(built: &Path) -> Result<Built> {
    let (mut code, mut rest) = (Sha256::new(), Sha256::new());
    let mut files: Vec<PathBuf> = look_at(built).into_keys().collect();
    files.sort();
    let entries = built.join("entries");
    for path in files {
        let hasher = if path.starts_with(&entries) { &mut code } else { &mut rest };
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        let mut file = std::fs::File::open(&path).map_err(Failure::io("open", path.display()))?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match std::io::Read::read(&mut file, &mut buffer).map_err(Failure::io("read", path.display()))? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
    }
    if code.clone().finalize() == Sha256::new().finalize()
        && rest.clone().finalize() == Sha256::new().finalize()
    {
        return Err(wrong("read what was built in", built.display(), "there is nothing"));
    }
    Ok(Built { code: code.finalize().into(), rest: rest.finalize().into() })
}

/// Lines; on a terminal, with one below them that stays.
struct Screen {
    below: Option<ProgressBar>,
}

impl Screen {
    fn new() -> Self {
        let below = output::watched().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self { below }
    }

    fn stays(&self, text: &str) {
        if let Some(bar) = &self.below {
            bar.set_message(text.to_owned());
        }
    }

    fn say(&self, text: &str) {
        match &self.below {
            Some(bar) => bar.println(text),
            None => output::error(text),
        }
    }

    fn log(&self, text: &str) {
        match &self.below {
            Some(bar) => bar.println(text),
            None => output::line(text),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.below {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::place_first;

    #[test]
    fn j_the_place_of_an_error_comes_first() {
        let told = [
            "src/main.ts(3,15): error TS2322: Type 'string' is not (a,b) assignable",
            "error TS5023: Unknown compiler option (here)",
            "  Types of f(1,x): no",
        ];
        assert_eq!(
            told.map(place_first),
            [
                "src/main.ts:3:15: error TS2322: Type 'string' is not (a,b) assignable",
                "error TS5023: Unknown compiler option (here)",
                "  Types of f(1,x): no",
            ]
        );
    }
}
