//! A child that is a copy of the program that cloned it speaks with whoever asked for it, and waits to be told to
//! go on.
//!
//! It speaks through one socket that keeps messages apart (`SOCK_SEQPACKET`): a [`Report`] of its own, one word for an
//! answer. An end of the conversation without an answer means that the other side has ended: then so does the child.

use super::child::{Report, done, stage, sys};
use super::script::NONE;
use super::{Result, nr};

/// The point at which an agent gets the listener of a filter; its number in the child is above the lowest byte.
pub const LISTENER: u64 = 0xff;

const EPIPE: i32 = 32;
const EINTR: i32 = 4;
const CLOEXEC: usize = 0o2_000_000;

/// The descriptors of the conversation.
pub(super) struct Talk {
    /// Where it reports, or [`NONE`].
    pub(super) report: u64,
    /// A socket that others connect to, to tell it to go on; or [`NONE`].
    pub(super) listener: u64,
}

impl Talk {
    /// Says something. Nobody may be listening any more.
    pub(super) fn say(&self, report: &Report) -> Result<()> {
        let words = [report.stage, report.step, report.errno];
        done(nr::WRITE, [self.report as usize, words.as_ptr() as usize, size_of_val(&words)])
    }

    /// Says that it has come to a point, and waits for an answer.
    pub(super) fn sync(&self, point: u64) -> Result<()> {
        self.say(&Report { stage: stage::SYNC, step: point, errno: 0 })?;
        answer(self.report as usize)
    }

    /// Says that nothing is left to do but what is done at the start, and waits for that.
    ///
    /// Who connects and says nothing has looked whether it still waits.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.say(&Report { stage: stage::READY, step: 0, errno: 0 })?;
        if self.listener == NONE {
            return answer(self.report as usize);
        }
        loop {
            let connection = match sys(nr::ACCEPT4, [self.listener as usize, 0, 0, CLOEXEC]) {
                Err(EINTR) => continue,
                other => other?,
            };
            if answer(connection).is_ok() {
                // What fails from here on is for whoever starts it.
                done(nr::DUP3, [connection, self.report as usize, CLOEXEC])?;
                done(nr::CLOSE, [connection])?;
                done(nr::CLOSE, [self.listener as usize])?;
                self.listener = NONE;
                return Ok(());
            }
            done(nr::CLOSE, [connection])?;
        }
    }
}

fn answer(from: usize) -> Result<()> {
    let mut word = 0_u64;
    loop {
        match sys(nr::READ, [from, (&raw mut word) as usize, size_of::<u64>()]) {
            Err(EINTR) => {}
            Ok(1..) => return Ok(()),
            Ok(_) => return Err(EPIPE),
            Err(errno) => return Err(errno),
        }
    }
}
