//! `package test`: a package's own tests, against a host that is there for just that.
//!
//! ```text
//! check, build ─▶ a data directory and a host of their own ─▶ packed, trusted, installed, granted, active ─▶ tests ─▶ all of it removed
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use packages::keys::PrivateKey;
use packages::manifest::Entry;
use protocol::package::{GrantParams, InstallParams, PackageInfo, PackageParams, PackageSource};

use super::super::client::Client;
use super::super::image::cancel_on_ctrl_c;
use super::develop::{LOOK, Running, Source, interrupted, trust_key, wrong};
use super::{Context, output};
use crate::error::{Failure, Result};

/// How long a host may take to listen.
const TO_LISTEN: Duration = Duration::from_secs(60);
/// How long it may take to end, with a package whose daemons take their time.
const TO_END: Duration = Duration::from_secs(180);
/// What tests are told, beside `START_CONTAINER_DATA_DIR`: which package is theirs.
const TESTED: &str = "START_CONTAINER_TESTED";
/// Deno, where npm has put it.
const DENO: &str = "node_modules/@deno/linux-x64-glibc/deno";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Types are checked, the package is built and packed as `npm run pack` does, and installed with all that it asks for on a host of its
own, with a data directory of its own: nothing of this machine's packages is touched. Then `npm run tests` runs, whose exit code
this has. Everything is removed at the end, also after a failure and Ctrl-C. In a test:

  import { connectTested } from \"start-container/package\";
  const tested = await connectTested();
  await tested.action(\"set-title\", { title: \"Mine\" });

Package code runs in Deno, of the npm package `deno` that the template asks for, or --deno PATH. This needs root.")]
pub(in crate::cli) struct Test {
    /// The package's source folder
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// The program that runs package code
    #[arg(long, value_name = "PATH")]
    deno: Option<PathBuf>,
    /// Beneath which the data directory is made
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    scratch: PathBuf,
}

impl Test {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let source = Source::open(&self.directory)?;
        let cancel = cancel_on_ctrl_c()?;
        for script in ["check", "build"] {
            let status = Running::start(source.script(script))?.wait(&cancel)?;
            if !status.success() {
                return Ok(code(status));
            }
        }
        let mut place = Place::make(&self.scratch, context)?;
        let tested = self.test(&source, &mut place, &cancel);
        let removed = place.remove();
        let code = match tested {
            Err(_) if cancel.is_cancelled() => ExitCode::from(130),
            other => other?,
        };
        removed?;
        Ok(code)
    }

    fn test(&self, source: &Source, place: &mut Place, cancel: &images::Cancel) -> Result<ExitCode> {
        let manifest = source.manifest()?;
        let id = &manifest.id;
        let context = &place.context;
        let key = PrivateKey::create(&place.dir.join("key"))?;
        trust_key(context, key.public(), "tests", id)?;
        let bundle = place.dir.join("bundle");
        source.pack(&key, &bundle)?;
        if manifest.entries.values().any(|entry| matches!(entry, Entry::Worker(_))) {
            let deno = self.deno.clone().unwrap_or_else(|| source.dir.join(DENO));
            if !deno.exists() {
                let why =
                    "npm has not put it there (`npm install --save-dev deno@2.9.6`): name it with --deno";
                return Err(wrong("find what runs package code at", deno.display(), why));
            }
            let machine = context.machine()?;
            crate::runtime::add_deno(machine.store()?, &deno, &images::Silent, cancel)?;
        }
        let mut client = place.start_host(cancel)?;
        let source_of = PackageSource::File { path: bundle.display().to_string() };
        let params = InstallParams { source: source_of, grant_all: false, older: false };
        let _: PackageInfo = client.call("package.install", &params)?;
        let all = GrantParams { package_id: id.to_string(), all: true, ..GrantParams::default() };
        let _: PackageInfo = client.call("package.grant", &all)?;
        let _: PackageInfo =
            client.call("package.activate", &PackageParams { package_id: id.to_string() })?;
        let mut tests = source.script("tests");
        tests.env("START_CONTAINER_DATA_DIR", &place.dir).env(TESTED, id.as_str());
        Ok(code(Running::start(tests)?.wait(cancel)?))
    }
}

fn code(status: std::process::ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// A data directory, and the host on it.
struct Place {
    dir: PathBuf,
    context: Context,
    host: Option<Running>,
}

impl Place {
    fn make(beneath: &Path, context: &Context) -> Result<Self> {
        let random = linux::tree::random_name()
            .map_err(|errno| crate::error::Failure::kernel("name", "a data directory", errno))?;
        let dir = beneath.join(format!("start-container-test-{random}"));
        linux::tree::ensure_dir(&dir, 0o700)
            .map_err(|errno| crate::error::Failure::kernel("make", dir.display(), errno))?;
        Ok(Self { context: context.on(&dir), dir, host: None })
    }

    fn start_host(&mut self, cancel: &images::Cancel) -> Result<Client> {
        let program = std::env::current_exe().map_err(Failure::io("find", "this program"))?;
        let path = self.dir.join("host.log");
        let log = std::fs::File::create(&path).map_err(Failure::io("make", path.display()))?;
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(&self.dir).arg("daemon");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let host = self.host.insert(Running::start(command)?);
        let (socket, began) = (self.dir.join("rpc/host.sock"), Instant::now());
        loop {
            if let Ok(client) = Client::connect(&socket) {
                return Ok(client);
            }
            let ended = host.ended()?;
            if ended.is_some() || began.elapsed() > TO_LISTEN {
                let said = std::fs::read_to_string(&path).unwrap_or_default();
                return Err(wrong("start a host on", self.dir.display(), output::plain(&said)));
            }
            if cancel.is_cancelled() {
                return Err(interrupted());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The host ends, with all that it runs, and the directory goes.
    fn remove(mut self) -> Result<()> {
        if let Some(mut host) = self.host.take() {
            // First it ends what it runs; one that was killed would leave its mounts.
            host.end(TO_END);
        }
        let parent = self.dir.parent().unwrap_or(Path::new("/"));
        let name = self.dir.file_name().map(std::ffi::OsStr::to_owned).unwrap_or_default();
        let gone = linux::tree::open_dir(parent).and_then(|parent| linux::tree::remove_all(&parent, &*name));
        gone.map_err(|errno| crate::error::Failure::kernel("remove", self.dir.display(), errno))
    }
}
