//! The host: the daemon behind `host.sock`.
//!
//! ```text
//! accept ──▶ connection: lines ──▶ methods ──▶ run, files ──▶ subcontainer::Machine (on blocking threads)
//!                │                                │
//!                └── stream.attach ──▶ streams ◀──┘ ends of pipes and terminals
//! ```
//! Owns who owns what: a subcontainer belongs to the connection that created it until it is detached, a process to
//! the connection that spawned it; a connection that ends takes both with it. Never starts a process itself: that is
//! the engine's, on threads where nothing else waits.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::ErrorKind;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Failure, Result};
use crate::sealed::Sealed;
use crate::subcontainer::Machine;

mod connection;
mod files;
mod methods;
mod recover;
mod run;
mod sandbox;
mod state;
mod streams;

use state::Host;

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
        let machine = Machine::open(data_dir, run_dir, Some(sealed))?;
        machine.open_all()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::new(ErrorKind::Exhausted, "start runtime", "").because(error))?;
        let result = runtime.block_on(self.serve(machine));
        // A blocking thread may wait for a file system that never answers.
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        result
    }

    async fn serve(self, machine: Machine) -> Result<()> {
        let fail = |step: &'static str| {
            move |error: std::io::Error| Failure::new(ErrorKind::Kernel, step, "").because(error)
        };
        let (socket, _only_one) = self.door(machine.data_dir())?;
        let host = Host::new(machine);
        // Before anybody can connect: whoever finds the door open may at once ask for its end.
        let mut terminate = signal(SignalKind::terminate()).map_err(fail("watch SIGTERM"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fail("watch SIGINT"))?;
        let listener = listen(&socket)?;
        let recovery = tokio::spawn(recover::recover(Arc::clone(&host)));
        tracing::info!("listening on {}", socket.display());
        let methods = Arc::new(methods::methods(&host)?);
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
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        tracing::info!("stopping");
        drop(listener);
        // The next host replaces a stale socket anyway.
        let _absent = rustix::fs::unlink(&socket);
        host.close_all().await;
        // What an earlier host left is not left a second time; the next one goes on with what takes longer.
        let _late = tokio::time::timeout(std::time::Duration::from_secs(5), recovery).await;
        state::blocking(move || host.machine.close().and(host.machine.release())).await
    }

    /// The socket's path, and the lock that makes this the only host of its data directory.
    fn door(&self, data_dir: &Path) -> Result<(PathBuf, OwnedFd)> {
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
            Ok(()) => Ok((self.socket.clone().unwrap_or_else(|| dir.join("host.sock")), lock)),
            Err(Errno::WOULDBLOCK) => Err(Failure::new(ErrorKind::Busy, "serve", data_dir.display())
                .because(std::io::Error::other("another host serves it already"))),
            Err(errno) => Err(fail("lock")(errno)),
        }
    }
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
