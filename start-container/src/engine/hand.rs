//! A second hand for a daemon: a thread that does one thing while its caller does the next.
//!
//! A launch, a creation are short and their parts wait for the kernel one after the other; where two of them do not need
//! each other, a machine has another processor. There is one such thread, made on first use; while it is busy, and in a
//! command line, which has none, whoever asks does it himself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use protocol::ErrorKind;

use crate::error::{Failure, Result};

type Work = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub(crate) struct Hand {
    /// None where there is none.
    work: Option<OnceLock<Option<Sender<Work>>>>,
    busy: Arc<AtomicBool>,
}

impl Hand {
    pub(crate) fn new(yes: bool) -> Self {
        Self { work: yes.then(OnceLock::new), busy: Arc::default() }
    }

    /// Begins something that is asked for later.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Begun<T> {
        let (sender, result) = channel();
        let done = move || {
            // Nobody asks any more: he has failed, and waits only for the end.
            let _gone = sender.send(work());
        };
        match self.give(Box::new(done)) {
            Ok(()) => {}
            Err(work) => work(),
        }
        Begun(result)
    }

    /// Does something that nobody waits for, and that cannot fail.
    pub(crate) fn aside(&self, work: impl FnOnce() + Send + 'static) {
        if let Err(work) = self.give(Box::new(work)) {
            work();
        }
    }

    /// Or gives it back.
    fn give(&self, work: Work) -> std::result::Result<(), Work> {
        let Some(thread) = &self.work else { return Err(work) };
        let Some(thread) = thread.get_or_init(start) else { return Err(work) };
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(work);
        }
        let busy = Arc::clone(&self.busy);
        let whole: Work = Box::new(move || {
            work();
            busy.store(false, Ordering::Release);
        });
        thread.send(whole).map_err(|unsent| unsent.0)
    }
}

/// Ends when the last sender is gone.
fn start() -> Option<Sender<Work>> {
    let (sender, work) = channel::<Work>();
    let run = move || work.into_iter().for_each(|work| work());
    std::thread::Builder::new().name("hand".to_owned()).spawn(run).ok()?;
    Some(sender)
}

/// What was begun. Dropped, it is waited for: what undoes it comes after it.
#[derive(Debug)]
pub(crate) struct Begun<T>(Receiver<Result<T>>);

impl<T> Begun<T> {
    /// Waits for it.
    pub(crate) fn finish(self) -> Result<T> {
        let lost = |error| Failure::new(ErrorKind::Internal, "work", "").because(error);
        self.0.recv().map_err(lost)?
    }
}

impl<T> Drop for Begun<T> {
    fn drop(&mut self) {
        // None: it was asked for before, or there was none.
        let _result = self.0.recv();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_begun_is_done_beside_and_waited_for() {
        for hand in [Hand::new(true), Hand::new(false)] {
            let count = Arc::new(AtomicU32::new(0));
            let add = |slowly: bool| {
                let count = Arc::clone(&count);
                move || {
                    if slowly {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    Ok(count.fetch_add(1, Ordering::SeqCst))
                }
            };
            let (one, two) = (hand.begin(add(true)), hand.begin(add(false)));
            assert_eq!(one.finish().unwrap() + two.finish().unwrap(), 1);
            drop(hand.begin(add(true)));
            assert_eq!(count.load(Ordering::SeqCst), 3, "a dropped one is waited for");
        }
    }

    #[test]
    fn a_failure_is_told() {
        let hand = Hand::new(true);
        let failure = hand.begin(|| Err::<(), _>(Failure::new(ErrorKind::Invalid, "try", "it")));
        assert_eq!(failure.finish().unwrap_err().kind, ErrorKind::Invalid);
    }
}
