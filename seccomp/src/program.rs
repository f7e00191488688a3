//! What is loaded.

use std::fmt;
use std::sync::Arc;

use linux::seccomp::{Instruction, MOST_INSTRUCTIONS, flag};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag as Flag};

use crate::{Abi, Error, rules, tree};

/// A compiled filter. A clone of it is a reference.
#[derive(Clone, Eq, PartialEq)]
pub struct Program {
    instructions: Arc<[Instruction]>,
    flags: u32,
}

impl Program {
    /// For the `filter` of a `struct sock_fprog`; never empty, never more than
    /// [`linux::seccomp::MOST_INSTRUCTIONS`].
    #[must_use]
    pub fn instructions(&self) -> &Arc<[Instruction]> {
        &self.instructions
    }

    /// For the `flags` of `seccomp(2)`.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// What [`Self::from_bytes`] reads: for processes that join a container later, which get the filter it was launched
    /// with and need not compile it again. Belongs where only the host writes: who can change it changes the filter.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let instruction = |i: &Instruction| {
            let ([c0, c1], [k0, k1, k2, k3]) = (i.code.to_le_bytes(), i.k.to_le_bytes());
            [c0, c1, i.jt, i.jf, k0, k1, k2, k3]
        };
        let mut bytes = self.flags.to_le_bytes().to_vec();
        bytes.extend(self.instructions.iter().flat_map(instruction));
        bytes
    }

    /// The program that was written by [`Self::to_bytes`]; `None` for bytes of another length than it writes. The
    /// kernel checks the rest when it is loaded.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first_chunk()?;
        let (instructions, []) = rest.as_chunks() else { return None };
        if instructions.is_empty() || instructions.len() > MOST_INSTRUCTIONS {
            return None;
        }
        let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
            code: u16::from_le_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_le_bytes([k0, k1, k2, k3]),
        };
        Some(Self {
            instructions: instructions.iter().map(instruction).collect(),
            flags: u32::from_le_bytes(*flags),
        })
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("instructions", &self.instructions.len())
            .field("flags", &self.flags)
            .finish()
    }
}

/// Compiles a filter for the machine this was built for.
///
/// # Errors
/// Everything that is wrong with the filter, which is then never loaded in part.
pub fn compile(filter: &LinuxSeccomp) -> Result<Program, Error> {
    compile_for(filter, Abi::NATIVE)
}

/// As [`compile`], for a process whose maker gives an agent the listener: calls may be asked about
/// (`SCMP_ACT_NOTIFY`), and then the flags ask the kernel for that.
///
/// # Errors
/// As [`compile`]; and [`Error::Notify`] for what the process and its maker do before the agent is there, and without a
/// listener path.
pub fn compile_for_agent(filter: &LinuxSeccomp) -> Result<Program, Error> {
    let asks = |action| action == LinuxSeccompAction::ScmpActNotify;
    let rules = || filter.syscalls().iter().flatten().filter(|rule| asks(rule.action()));
    let early = rules().flat_map(|rule| rule.names()).any(|name| matches!(name.as_str(), "read" | "write"));
    if asks(filter.default_action()) || early {
        return Err(Error::Notify);
    }
    let listens = rules().next().is_some();
    if listens && filter.listener_path().is_none() {
        return Err(Error::Notify);
    }
    let mut plain = filter.clone();
    let killable = Flag::SeccompFilterFlagWaitKillableRecv;
    let mut own = filter.flags().clone().unwrap_or_default();
    let waits = own.contains(&killable);
    own.retain(|flag| *flag != killable);
    plain.set_flags(Some(own));
    let instructions = tree::program(&rules::resolve(&plain, Abi::NATIVE)?)?;
    let flags = flags(&plain)?
        | if listens { flag::NEW_LISTENER } else { 0 }
        | if listens && waits { flag::WAIT_KILLABLE_RECV } else { 0 };
    Ok(Program { instructions: instructions.into(), flags })
}

fn flags(filter: &LinuxSeccomp) -> Result<u32, Error> {
    filter.flags().iter().flatten().try_fold(0, |flags, &flag| match flag {
        Flag::SeccompFilterFlagTsync => Ok(flags | flag::TSYNC),
        Flag::SeccompFilterFlagLog => Ok(flags | flag::LOG),
        Flag::SeccompFilterFlagSpecAllow => Ok(flags | flag::SPEC_ALLOW),
        Flag::SeccompFilterFlagWaitKillableRecv => Err(Error::Flag(flag.to_string())),
    })
}

/// Compiles a filter for a kernel whose own ABI is `native`, which is always among the architectures. Those that such
/// a kernel cannot have are left out: a call under one of them never comes.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(filter: &LinuxSeccomp, native: Abi) -> Result<Program, Error> {
    let notify = LinuxSeccompAction::ScmpActNotify;
    if filter.default_action() == notify
        || filter.syscalls().iter().flatten().any(|rule| rule.action() == notify)
    {
        return Err(Error::Notify);
    }
    let flags = flags(filter)?;
    let instructions = tree::program(&rules::resolve(filter, native)?)?;
    Ok(Program { instructions: instructions.into(), flags })
}
