//! OCI seccomp rules (`linux.seccomp` of a runtime spec) to a program that the kernel runs before every system call,
//! and the default profile.
//!
//! Owns: what a rule means, which number a name has under which ABI, the shape of the program, and the reason for
//! every call of the default profile. Never loads a filter: [`linux::seccomp::install`] and the child between `clone`
//! and `execve` do that. Pure: nothing here asks the machine anything, besides which architecture it was built for.
//!
//! ```text
//! JSON ──json──▶ LinuxSeccomp ──rules──▶ numbers of each ABI, with actions ──tree──▶ Program
//!                     ▲
//! capabilities ──default
//! ```
//!
//! ```
//! # fn main() -> Result<(), seccomp::Error> {
//! let filter = seccomp::from_json(
//!     br#"{"defaultAction": "SCMP_ACT_ALLOW",
//!          "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}"#,
//! )?;
//! let program = seccomp::compile(&filter)?;
//! assert!(program.instructions().len() < 20);
//! # Ok(())
//! # }
//! ```
//!
//! # What a rule means
//!
//! The runtime spec names the fields and leaves the rest to libseccomp. Here:
//!
//! * A rule holds for a call when the call has one of its names and all its `args` hold. Where one rule compares the
//!   same argument more than once, each comparison is a rule of its own, as runc and crun read it.
//! * Of the rules that hold, **the strictest action** decides, whatever their order: kill process, kill thread, trap,
//!   errno, trace, log, allow. Among equals the first decides. That is the kernel's way with several filters, and never
//!   looser than libseccomp, where a rule without arguments makes the ones with arguments vanish.
//! * An argument is compared as the word of its ABI: 64 bits, and 32 under x86 and arm, where both sides lose their
//!   upper half. For the upper half of a 32-bit call is whatever 64-bit code left in the register (`int 0x80` on
//!   x86_64), and the kernel's own code does not look at it.
//! * With an errno as default, a call whose number is above every number that the filter names under that ABI gets
//!   `ENOSYS`: the filter is older than the call, and libc then does what it does on an old kernel. So does runc.
//! * The ABI the program was built for is always among the `architectures`. What comes under an ABI that is not gets
//!   `ENOSYS` where the default is an errno; the default where that kills or traps; else the process is killed, for a
//!   list of what is refused must not have a way around it.

#[cfg(target_endian = "big")]
compile_error!("the halves of arguments are read in little-endian order");

mod abi;
mod action;
mod assembler;
mod default;
mod error;
mod json;
mod program;
mod rules;
mod tree;

pub use abi::Abi;
pub use default::{Comparison, For, GROUPS, Group, REFUSED, Refused, When, default_profile, default_program};
pub use error::Error;
pub use json::from_json;
pub use program::{Program, compile, compile_for, compile_for_agent};
