//! Streams of processes that are kept, as far as they belong to a subcontainer: where they come out.

use std::os::fd::OwnedFd;

use protocol::logs::LogStream;

use super::{Machine, state};
use crate::error::Result;
use crate::logs::fifo::{self, Fifo};

impl Machine {
    /// Makes the FIFO of a stream, and opens the end of the process that is about to be started.
    pub(crate) fn keep_stream(&self, guid: &str, stream: LogStream) -> Result<(Fifo, OwnedFd)> {
        let _lock = self.lock(guid)?;
        let (mut fifo, end) = Fifo::make(&self.run_dir, guid, &self.command_name(), stream)?;
        fifo.hold(self.keeper.get(), guid);
        Ok((fifo, end))
    }

    /// Subcontainers that are gone, and have left a log. Whoever is killed between the two does.
    pub(crate) fn stray_logs(&self) -> Result<Vec<String>> {
        let mut strays = crate::logs::guids(&self.data_dir)?;
        strays.retain(|guid| {
            super::check_guid(guid).is_ok()
                && self.rootfs(guid).is_err_and(|failure| failure.kind == protocol::ErrorKind::NotFound)
        });
        Ok(strays)
    }

    /// The streams that an earlier host has kept, by subcontainer. Their processes may have ended since.
    pub(super) fn kept_streams(&self) -> Result<Vec<(String, Vec<Fifo>)>> {
        let mut all = Vec::new();
        for guid in state::guids(&self.run_dir)? {
            // The run directory may serve several data directories.
            let ours = state::read(&self.run_dir, &guid)
                .is_ok_and(|state| state.data_dir.as_ref() == Some(&self.data_dir));
            let mut fifos = if ours { fifo::left(&self.run_dir, &guid)? } else { Vec::new() };
            for fifo in &mut fifos {
                fifo.hold(self.keeper.get(), &guid);
            }
            if !fifos.is_empty() {
                all.push((guid, fifos));
            }
        }
        Ok(all)
    }
}
