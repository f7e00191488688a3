//! Threads on which commands start whose bounding set is the default one.
//!
//! The kernel takes one capability out of a bounding set in a call, 29 for each command. These threads have the default set from
//! their beginning, and what they clone has it from them. They start commands and nothing else, end when there have been
//! none to start for a while, and are as many as there are starts at a time: somebody inside may hold one up.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use protocol::ErrorKind;
use tokio::sync::oneshot;

use super::state::blocking;
use crate::engine::compile::mask;
use crate::engine::lock;
use crate::engine::privileges::CAPABILITIES;
use crate::error::{Failure, Result};

/// How long a thread waits for work.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most threads. More starts than that go to the runtime's own, which have them wait.
const MOST: usize = 256;

type Work = Box<dyn FnOnce() + Send>;

static STARTERS: Mutex<Starters> = Mutex::new(Starters { work: VecDeque::new(), threads: 0, idle: 0 });
static MORE: Condvar = Condvar::new();

struct Starters {
    /// What a thread is about to take.
    work: VecDeque<Work>,
    threads: usize,
    /// Those of the threads that wait.
    idle: usize,
}

/// Does the start of a command where it may block. `plainly`: it is one for these threads.
pub(super) async fn starting<T: Send + 'static>(
    plainly: bool,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if !plainly {
        return blocking(work).await;
    }
    let (sender, result) = oneshot::channel();
    let done = move || {
        // Nobody waits any more: the host is about to end.
        let _gone = sender.send(work());
    };
    if let Err(done) = give(Box::new(done)) {
        // There may be as many threads as there can be; those of the runtime are there already.
        blocking(move || {
            done();
            Ok(())
        })
        .await?;
    }
    result.await.unwrap_or_else(|error| Err(Failure::new(ErrorKind::Internal, "work", "").because(error)))
}

/// Or gives it back.
fn give(work: Work) -> std::result::Result<(), Work> {
    let mut starters = lock(&STARTERS);
    if starters.idle > starters.work.len() {
        starters.work.push_back(work);
        MORE.notify_one();
        return Ok(());
    }
    if starters.threads == MOST {
        return Err(work);
    }
    starters.work.push_back(work);
    match std::thread::Builder::new().name("starter".to_owned()).spawn(serve) {
        Ok(_thread) => {
            starters.threads += 1;
            Ok(())
        }
        // Nobody has taken it: that takes the lock.
        Err(_) => starters.work.pop_back().map_or(Ok(()), Err),
    }
}

/// The life of a thread.
fn serve() {
    // Where this fails, commands do it.
    let _as_before = linux::caps::bound_thread(mask(&CAPABILITIES));
    let mut starters = lock(&STARTERS);
    loop {
        if let Some(work) = starters.work.pop_front() {
            drop(starters);
            work();
            starters = lock(&STARTERS);
            continue;
        }
        starters.idle += 1;
        let (woken, late) = MORE.wait_timeout(starters, PATIENCE).unwrap_or_else(PoisonError::into_inner);
        starters = woken;
        starters.idle -= 1;
        if late.timed_out() && starters.work.is_empty() {
            starters.threads -= 1;
            return;
        }
    }
}
