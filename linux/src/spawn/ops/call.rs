//! Steps that are one plain system call each.

use std::ffi::CString;
use std::fmt;

use crate::spawn::bare::nr;
use crate::spawn::bare::script::op;
use crate::spawn::flat::Encoder;

/// An argument of a system call.
#[derive(Clone, Debug)]
enum Argument {
    Number(u64),
    Bytes(Vec<u8>),
}

use Argument::{Bytes, Number};

/// A system call on the child itself.
#[derive(Clone, Debug)]
pub struct Call {
    step: &'static str,
    number: usize,
    arguments: [Argument; 3],
}

impl Call {
    fn new(step: &'static str, number: usize, arguments: [Argument; 3]) -> Self {
        Self { step, number, arguments }
    }

    /// `setdomainname(2)`.
    #[must_use]
    pub fn domain_name(name: &CString) -> Self {
        let bytes = name.as_bytes();
        let arguments = [Bytes(bytes.to_vec()), Number(bytes.len() as u64), Number(0)];
        Self::new("set domainname", nr::SETDOMAINNAME, arguments)
    }

    /// `personality(2)`.
    #[must_use]
    pub fn personality(persona: u64) -> Self {
        Self::new("set personality", nr::PERSONALITY, [Number(persona), Number(0), Number(0)])
    }

    /// `ioprio_set(2)` on itself: class (1 real time, 2 best effort, 3 idle) and priority (0 to 7).
    #[must_use]
    pub fn io_priority(class: u64, priority: u64) -> Self {
        const WHO_PROCESS: u64 = 1;
        let value = class << 13 | priority;
        Self::new("set I/O priority", nr::IOPRIO_SET, [Number(WHO_PROCESS), Number(0), Number(value)])
    }

    /// `sched_setattr(2)` on itself.
    #[must_use]
    pub fn scheduler(attributes: &SchedulerAttributes) -> Self {
        let arguments = [Number(0), Bytes(attributes.bytes()), Number(0)];
        Self::new("set scheduler", nr::SCHED_SETATTR, arguments)
    }

    /// `sched_setaffinity(2)` on itself: these processors.
    #[must_use]
    pub fn affinity(processors: impl IntoIterator<Item = u32>) -> Self {
        let mut mask = vec![0_u64; 1];
        for processor in processors {
            let word = processor as usize / 64;
            if mask.len() <= word {
                mask.resize(word + 1, 0);
            }
            mask[word] |= 1 << (processor % 64);
        }
        let bytes: Vec<u8> = mask.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let arguments = [Number(0), Number(bytes.len() as u64), Bytes(bytes)];
        Self::new("set CPU affinity", nr::SCHED_SETAFFINITY, arguments)
    }

    /// `set_mempolicy(2)`: `MPOL_*` with its flags, and nodes.
    #[must_use]
    pub fn memory_policy(mode: u64, nodes: impl IntoIterator<Item = u32>) -> Self {
        let mask = nodes.into_iter().filter(|node| *node < 64).fold(0_u64, |mask, node| mask | 1 << node);
        let arguments = if mask == 0 {
            [Number(mode), Number(0), Number(0)]
        } else {
            // The kernel's own idea of how many bits that is: one more.
            [Number(mode), Bytes(mask.to_ne_bytes().to_vec()), Number(65)]
        };
        Self::new("set memory policy", nr::SET_MEMPOLICY, arguments)
    }

    /// `setresuid(2)`: all three.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        Self::new("become user", nr::SETRESUID, [uid, uid, uid].map(|id| Number(u64::from(id))))
    }

    /// `setresgid(2)`: all three.
    #[must_use]
    pub fn group(gid: u32) -> Self {
        Self::new("become group", nr::SETRESGID, [gid, gid, gid].map(|id| Number(u64::from(id))))
    }

    /// `setgroups(2)`: none.
    #[must_use]
    pub fn no_groups() -> Self {
        Self::new("leave groups", nr::SETGROUPS, [Number(0), Number(0), Number(0)])
    }

    /// `chroot(2)` into the working directory.
    #[must_use]
    pub fn change_root() -> Self {
        Self::new("change root", nr::CHROOT, [Bytes(b".".to_vec()), Number(0), Number(0)])
    }

    pub(super) fn encode(&self, to: &mut Encoder) -> [u64; 6] {
        let mut places = 0;
        let mut words = [0; 3];
        for (i, argument) in self.arguments.iter().enumerate() {
            words[i] = match argument {
                Number(number) => *number,
                Bytes(bytes) => {
                    places |= 1 << i;
                    to.bytes(bytes)
                }
            };
        }
        let [a, b, c] = words;
        [op::CALL, self.number as u64, places, a, b, c]
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.step)
    }
}

/// `struct sched_attr`, `sched_setattr(2)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedulerAttributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For ordinary policies.
    pub nice: i32,
    /// For real-time policies.
    pub priority: u32,
    /// For deadlines, in nanoseconds.
    pub runtime: u64,
    /// For deadlines, in nanoseconds.
    pub deadline: u64,
    /// For deadlines, in nanoseconds.
    pub period: u64,
}

impl SchedulerAttributes {
    fn bytes(&self) -> Vec<u8> {
        const SIZE: u32 = 48;
        let mut bytes = Vec::with_capacity(SIZE as usize);
        bytes.extend(SIZE.to_ne_bytes());
        bytes.extend(self.policy.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(self.nice.to_ne_bytes());
        bytes.extend(self.priority.to_ne_bytes());
        bytes.extend(self.runtime.to_ne_bytes());
        bytes.extend(self.deadline.to_ne_bytes());
        bytes.extend(self.period.to_ne_bytes());
        bytes
    }
}
