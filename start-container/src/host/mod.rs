//! The host: the daemon behind `host.sock`.
//!
//! ```text
//! accept ──▶ connection: lines ──▶ methods ──▶ run, files ──▶ subcontainer::Machine (on blocking threads)
//!                │                                │
//!                ├── stream.attach ──▶ streams ◀──┤ ends of pipes and terminals
//!                └── logs.read ──────▶ logs ◀─────┘ streams that are kept
//! doors: a socket of each package ──▶ broker
//! ```
//! Owns who owns what: a subcontainer belongs to the connection that created it until it is detached, a process to
//! the connection that spawned it; a connection that ends takes both with it. Never starts a process itself: that is
//! the engine's, on threads where nothing else waits.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::ErrorKind;
use protocol::logs::LogDriver;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Failure, Result};
use crate::sealed::Sealed;
use crate::subcontainer::Machine;

mod backup;
mod connect;
mod connection;
mod doors;
mod exec;
mod files;
mod hands;
mod jobs;
mod journal;
mod light;
mod locks;
mod logs;
mod manager;
mod methods;
mod metrics;
mod once;
mod packages;
mod program;
mod recover;
mod replace;
mod run;
mod runner;
mod sandbox;
mod sessions;
mod starters;
mod state;
mod streams;
mod worker;

use replace::Handed;
use state::{Host, Settings};

/// Arguments of `start-container daemon`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Stays in the foreground; says on stderr when it is ready. SIGTERM or Ctrl-C ends it: subcontainers that belong to a
connection end with it, detached ones go on and are found again at the next start. RUST_LOG sets what is logged
(RUST_LOG=debug).")]
pub(crate) struct Daemon {
    /// Listen here instead of DATA_DIR/rpc/host.sock
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// After a start, wait so long for the clients of the host before this one; what belongs to those who do not come back
    /// is destroyed then
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    session_grace: u64,
    /// Where streams that are kept go beside the files that `logs` reads, unless a launch says otherwise: `journald` is the
    /// machine's journal, with CONTAINER_ID, CONTAINER_NAME and a PRIORITY for each line
    #[arg(long, value_name = "DRIVER", default_value = "files")]
    log_driver: Driver,
    /// Let packages reach this network though it is not public, where they were granted the host: `192.168.1.0/24` (may be given
    /// more than once)
    #[arg(long = "package-network", value_name = "CIDR")]
    package_networks: Vec<ipnet::IpNet>,
    /// Do not stay: put this program, with these flags, in the place of the host that runs. Nothing ends by it but `exec`
    /// calls that are under way
    #[arg(long)]
    replace: bool,
}

/// [`LogDriver`], as a flag.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Driver {
    Files,
    Journald,
}

impl From<Driver> for LogDriver {
    fn from(driver: Driver) -> Self {
        match driver {
            Driver::Files => Self::Files,
            Driver::Journald => Self::Journald,
        }
    }
}

impl Daemon {
    pub(crate) fn run(self, data_dir: &Path, run_dir: &Path, sealed: Sealed) -> Result<()> {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_target(false)
            .init();
        if self.replace {
            return replace::ask(self.socket(data_dir), data_dir, run_dir);
        }
        let handed = replace::Handed::take()?;
        if self.log_driver == Driver::Journald {
            crate::logs::journal::Journal::open()?;
        }
        let machine = Machine::open(data_dir, run_dir, Some(sealed))?;
        // The keeper has as many as this has.
        raise_descriptors();
        machine.open_all()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::new(ErrorKind::Exhausted, "start runtime", "").because(error))?;
        let result = runtime.block_on(self.serve(machine, handed));
        // A blocking thread may wait for a file system that never answers.
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        result
    }

    async fn serve(self, machine: Machine, handed: Option<Handed>) -> Result<()> {
        let fail = |step: &'static str| {
            move |error: std::io::Error| Failure::new(ErrorKind::Kernel, step, "").because(error)
        };
        let socket = self.socket(machine.data_dir());
        let only_one = match &handed {
            Some(handed) => handed.lock.try_clone().map_err(fail("keep lock"))?,
            None => lock_door(machine.data_dir())?,
        };
        let settings = Settings {
            grace: Duration::from_secs(self.session_grace),
            log_driver: self.log_driver.into(),
            package_networks: self.package_networks.clone(),
        };
        let (host, mut successors) = Host::new(machine, settings)?;
        // Before anybody can connect: whoever finds the door open may at once ask for its end.
        let mut terminate = signal(SignalKind::terminate()).map_err(fail("watch SIGTERM"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fail("watch SIGINT"))?;
        let listener = match &handed {
            Some(handed) => {
                let listener = handed.listener.try_clone().map_err(fail("keep socket"))?;
                UnixListener::from_std(listener.into()).map_err(fail("keep socket"))?
            }
            None => listen(&socket)?,
        };
        let inherited = handed.as_ref().map(Handed::groups).unwrap_or_default();
        // Who connects waits until it is known what was there before: nothing of a client's can be taken for that.
        let worker = Arc::clone(&host);
        let mut left = state::blocking(move || worker.machine.left_behind(&inherited)).await?;
        host.remember_owners(std::mem::take(&mut left.awaited), host.locks.owners_away());
        let named = handed.as_ref().map(Handed::pids).unwrap_or_default();
        recover::adopt(&host, std::mem::take(&mut left.running), &named);
        if let Some(handed) = handed {
            handed.count_on(&host);
            handed.go_on(&host);
        }
        let recovery = tokio::spawn({
            let host = Arc::clone(&host);
            async move {
                recover::recover(Arc::clone(&host), left).await;
                packages::boot(host).await;
            }
        });
        let keeper = tokio::spawn(recover::look_after_keeper(Arc::clone(&host)));
        let methods = Arc::new(methods::methods(&host)?);
        tracing::info!("listening on {}", socket.display());
        manager::ready(&host);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        tokio::spawn(connection::serve(Arc::clone(&host), Arc::clone(&methods), stream));
                    }
                    // Out of descriptors: those that wait are served when some are free.
                    Err(error) => {
                        tracing::warn!("accept: {error}");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                },
                Some(request) = successors.recv() => {
                    replace::become_the_next(&host, request, [listener.as_fd(), only_one.as_fd()]).await;
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        tracing::info!("stopping");
        manager::stopping();
        drop(listener);
        // The next host replaces a stale socket anyway.
        let _absent = rustix::fs::unlink(&socket);
        packages::shutdown(Arc::clone(&host)).await;
        host.close_all().await;
        // What an earlier host left is not left a second time; the next one goes on with what takes longer.
        let _late = tokio::time::timeout(std::time::Duration::from_secs(5), recovery).await;
        // It is about to end in order.
        keeper.abort();
        state::blocking(move || host.machine.close().and(host.machine.release())).await
    }

    fn socket(&self, data_dir: &Path) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| data_dir.join("rpc/host.sock"))
    }
}

/// The lock that makes this the only host of its data directory.
fn lock_door(data_dir: &Path) -> Result<OwnedFd> {
    let dir = data_dir.join("rpc");
    let fail = |step| {
        let dir = dir.clone();
        move |errno| Failure::kernel(step, dir.display(), errno)
    };
    match rustix::fs::mkdir(&dir, Mode::from(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(fail("create")(errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::open(&dir, flags, Mode::empty()).map_err(fail("open"))?;
    rustix::fs::fchmod(&lock, Mode::from(0o700)).map_err(fail("make private"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(Failure::new(ErrorKind::Busy, "serve", data_dir.display())
            .because(std::io::Error::other("another host serves it already"))),
        Err(errno) => Err(fail("lock")(errno)),
    }
}

/// Each stream of each container takes one. What we start gets limits of its own.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    // As many as there are.
    let _fewer = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
}

/// A socket that only root can connect to, from its first moment.
fn listen(socket: &Path) -> Result<UnixListener> {
    match rustix::fs::unlink(socket) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(Failure::kernel("remove old socket", socket.display(), errno)),
    }
    let before = rustix::process::umask(Mode::from(0o177));
    let listener = UnixListener::bind(socket);
    rustix::process::umask(before);
    listener.map_err(|error| Failure::new(ErrorKind::Kernel, "listen on", socket.display()).because(error))
}
