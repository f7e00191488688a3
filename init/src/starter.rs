//! The process that clones a child which waits for its start, and is gone.
//!
//! The child is a copy of this small program and one of the caller's children: nothing of the caller is ever in the
//! namespaces of a container, and whoever made the container need not stay until it is started.
//!
//! Descriptors: 3 the socket to report through, 4 the script, and then those that the script names.

use crate::bare::child::{self, Report, stage};
use crate::bare::nr;
use crate::bare::script::{Flat, relocate};
use crate::{exit, sys};

const REPORT: usize = 3;
const SCRIPT: usize = 4;

/// SAFETY: `words` is the length of the script.
pub(crate) unsafe fn main(words: usize) -> ! {
    const PR_SET_DUMPABLE: usize = 4;
    const READ_WRITE: usize = 3;
    const MAP_PRIVATE: usize = 2;
    // Nobody in the container may look into the child before it is a program of the container's.
    unsafe { sys(nr::PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0]) };
    let map = [0, words * 8, READ_WRITE, MAP_PRIVATE, SCRIPT, 0];
    let report = match unsafe { crate::raw::call(nr::MMAP, map) } {
        Err(errno) => Report { stage: stage::DESCRIPTORS, step: 0, errno: errno as u64 },
        Ok(base) => {
            let base = base as *mut u64;
            unsafe { relocate(base) };
            match unsafe { child::apart(Flat::new(base)) } {
                Ok(pid) => Report { stage: stage::CLONED, step: pid as u64, errno: 0 },
                Err(report) => report,
            }
        }
    };
    let said = [report.stage, report.step, report.errno];
    unsafe { sys(nr::WRITE, [REPORT, said.as_ptr() as usize, size_of_val(&said)]) };
    exit(0)
}
