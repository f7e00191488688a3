//! A program of raw system calls, made on the spot: x86_64 machine code that does each call, keeps what it returned,
//! and writes all of that to standard output. Libraries would not make the calls that hostile code makes, and a
//! process under test must not be the test.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// How a call is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Abi {
    /// `syscall`.
    X86_64,
    /// `int 0x80`.
    X86,
}

/// A call. Arguments not given are 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    abi: Abi,
    number: u32,
    args: [u64; 6],
}

impl Call {
    pub(crate) fn new(abi: Abi, number: u32, given: &[u64]) -> Self {
        let mut args = [0; 6];
        args[..given.len()].copy_from_slice(given);
        Self { abi, number, args }
    }

    /// In a child, 0 is returned: it ends there.
    fn forks(&self) -> bool {
        let of = |abi: seccomp::Abi, name: &str| abi.number(name) == Some(self.number);
        match self.abi {
            Abi::X86_64 => ["clone", "vfork"].iter().any(|name| of(seccomp::Abi::X86_64, name)),
            Abi::X86 => ["clone", "vfork"].iter().any(|name| of(seccomp::Abi::X86, name)),
        }
    }
}

/// Which filter the program runs under.
pub(crate) enum Filter {
    /// None.
    None,
    /// The default profile for these capabilities.
    Default(seccomp::For),
    /// A user's.
    Json(&'static str),
}

/// Where the program is in memory.
const BASE: u64 = 0x40_0000;
/// Where it keeps what calls returned: a page that is written to.
const RESULTS: u64 = 0x50_0000;

/// What each call returned: a negative errno, as the kernel gives it.
pub(crate) fn run(calls: &[Call], filter: Filter) -> Vec<i64> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("probe");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path).unwrap();
    file.write_all(&program(calls)).unwrap();
    drop(file);
    let filter = match filter {
        Filter::None => None,
        Filter::Default(whom) => Some(seccomp::default_program(&whom).unwrap()),
        Filter::Json(json) => Some(seccomp::compile(&seccomp::from_json(json.as_bytes()).unwrap()).unwrap()),
    };
    // The filter is on a thread of its own, which becomes the parent of nothing else and ends.
    let output = std::thread::spawn(move || {
        if let Some(filter) = filter {
            linux::seccomp::install(filter.instructions(), filter.flags(), true).unwrap();
        }
        Command::new(&path).arg0("probe").stdin(Stdio::null()).output().unwrap()
    })
    .join()
    .unwrap();
    drop(dir);
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let returned: Vec<i64> =
        output.stdout.chunks_exact(8).map(|word| i64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(returned.len(), calls.len());
    let short = |(value, call): (i64, &Call)| match call.abi {
        Abi::X86_64 => value,
        // 32 bits, sign and all.
        Abi::X86 => i64::from(u32::try_from(value & 0xffff_ffff).unwrap().cast_signed()),
    };
    returned.into_iter().zip(calls).map(short).collect()
}

/// A static ELF executable.
fn program(calls: &[Call]) -> Vec<u8> {
    let mut code = Vec::new();
    for (call, result) in calls.iter().zip((RESULTS..).step_by(8)) {
        // r10, r8 and r9 are the last of `syscall`; rsi, rdi and rbp the last of `int 0x80`.
        let registers: [[u8; 2]; 6] = match call.abi {
            Abi::X86_64 => {
                [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]]
            }
            Abi::X86 => [[0x48, 0xbb], [0x48, 0xb9], [0x48, 0xba], [0x48, 0xbe], [0x48, 0xbf], [0x48, 0xbd]],
        };
        // mov register, argument
        for (register, value) in registers.into_iter().zip(call.args) {
            code.extend(register);
            code.extend(value.to_le_bytes());
        }
        // mov eax, number
        code.push(0xb8);
        code.extend(call.number.to_le_bytes());
        code.extend(match call.abi {
            Abi::X86_64 => [0x0f, 0x05],
            Abi::X86 => [0xcd, 0x80],
        });
        if call.forks() {
            // test rax, rax; jnz over; mov eax, exit_group; xor edi, edi; syscall
            code.extend([0x48, 0x85, 0xc0, 0x75, 9, 0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]);
        }
        // mov [result], rax
        code.extend([0x48, 0xa3]);
        code.extend(result.to_le_bytes());
    }
    // write(1, results, length)
    code.extend([0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0xbe]);
    code.extend(RESULTS.to_le_bytes());
    code.push(0xba);
    code.extend(u32::try_from(calls.len() * 8).unwrap().to_le_bytes());
    code.extend([0x0f, 0x05]);
    // exit_group(0)
    code.extend([0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]);

    const HEADERS: u64 = 64 + 2 * 56;
    let length = HEADERS + code.len() as u64;
    let mut elf = Vec::new();
    elf.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend(u64::to_le_bytes(word));
    }
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    // The code, readable and executable; and the results, anonymous memory that can be written.
    for (flags, address, in_file, in_memory) in [(5_u32, BASE, length, length), (6, RESULTS, 0, 4096)] {
        elf.extend(1_u32.to_le_bytes());
        elf.extend(flags.to_le_bytes());
        for word in [0, address, address, in_file, in_memory, 4096] {
            elf.extend(u64::to_le_bytes(word));
        }
    }
    elf.extend(code);
    elf
}
