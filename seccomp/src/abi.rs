//! The ways to call a kernel: which `AUDIT_ARCH` a filter sees, and which number a name has.
//!
//! The tables are the `syscalls` crate's, generated from the kernel's own. Added here: x32, which is x86_64 with a bit
//! and 36 numbers of its own; the private calls of arm; and the names that seccomp profiles use besides the kernel's.

use std::str::FromStr;
use std::sync::LazyLock;

use oci_spec::runtime::Arch;
use syscalls::{
    aarch64, arm, loongarch64, mips, mips64, powerpc, powerpc64, riscv32, riscv64, s390x, sparc, sparc64,
    x86, x86_64,
};

/// An ABI that filters are compiled for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 64-bit x86 with 32-bit pointers. Shares its `AUDIT_ARCH` with x86_64; bit 30 of the number tells them apart.
    X32,
    /// 32-bit x86.
    X86,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

/// Bit 30 of the number: `__X32_SYSCALL_BIT`.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// The private calls of arm (`__ARM_NR_BASE`) are above all others, and say nothing about how new a filter is.
pub(crate) const ARM_PRIVATE: u32 = 0x000f_0000;

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64", target_arch = "arm")))]
compile_error!("there is no table of system calls for this architecture yet");

/// The crate's table; not by its iterator, which ends before the last call. A name that is a keyword of Rust comes as
/// Rust would write it.
macro_rules! calls {
    ($table:ident) => {
        (0..=$table::Sysno::last().id().cast_unsigned())
            .filter_map(|number| $table::Sysno::new(number as usize))
            .map(|call| (call.name().trim_start_matches("r#"), call.id().cast_unsigned()))
    };
}

impl Abi {
    /// The ABI that this was built for.
    pub(crate) const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else if cfg!(target_arch = "arm") {
        Self::Arm
    } else if cfg!(target_arch = "x86") {
        Self::X86
    } else {
        Self::X86_64
    };

    /// Every one.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X32, Self::X86, Self::Aarch64, Self::Arm];

    /// Which of them a kernel can have whose own one this is.
    #[must_use]
    pub fn of_one_kernel(self) -> &'static [Self] {
        match self {
            Self::X86_64 | Self::X32 => &[Self::X86_64, Self::X32, Self::X86],
            Self::X86 => &[Self::X86],
            Self::Aarch64 => &[Self::Aarch64, Self::Arm],
            Self::Arm => &[Self::Arm],
        }
    }

    /// The name it has in a spec.
    #[must_use]
    pub fn arch(self) -> Arch {
        match self {
            Self::X86_64 => Arch::ScmpArchX86_64,
            Self::X32 => Arch::ScmpArchX32,
            Self::X86 => Arch::ScmpArchX86,
            Self::Aarch64 => Arch::ScmpArchAarch64,
            Self::Arm => Arch::ScmpArchArm,
        }
    }

    /// What a filter sees in `seccomp_data.arch`: linux/audit.h.
    #[must_use]
    pub fn audit_arch(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are 32 bits wide. Those of x32 are not: it has the registers of x86_64.
    #[must_use]
    pub fn has_short_arguments(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }

    /// The number of a call, as a filter sees it.
    #[must_use]
    pub fn number(self, name: &str) -> Option<u32> {
        let table = self.table();
        table.binary_search_by_key(&name, |(name, _)| name).ok().map(|found| table[found].1)
    }

    /// Every call with its number, ordered by name.
    #[must_use]
    pub fn table(self) -> &'static [(&'static str, u32)] {
        static TABLES: [LazyLock<Vec<(&str, u32)>>; 5] = [
            LazyLock::new(|| sorted(calls!(x86_64).collect())),
            LazyLock::new(|| sorted(x32())),
            LazyLock::new(|| sorted(calls!(x86).collect())),
            LazyLock::new(|| sorted(aarch64())),
            LazyLock::new(|| sorted(arm())),
        ];
        &TABLES[self as usize]
    }
}

fn sorted(mut table: Vec<(&'static str, u32)>) -> Vec<(&'static str, u32)> {
    table.sort_unstable();
    table
}

/// What x86_64 has and x32 has not: calls of old kernels, segments, and two that only the kernel's own trampolines
/// make.
const NOT_X32: [&str; 13] = [
    "_sysctl",
    "create_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "get_kernel_syms",
    "get_thread_area",
    "nfsservctl",
    "query_module",
    "set_thread_area",
    "uprobe",
    "uretprobe",
    "uselib",
    "vserver",
];

/// Calls whose structures hold pointers: x32 has these from 512 on, in this order (arch/x86/entry/syscalls).
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

fn x32() -> Vec<(&'static str, u32)> {
    calls!(x86_64)
        .filter(|(name, _)| !NOT_X32.contains(name) && !X32_OWN.contains(name))
        .chain(X32_OWN.into_iter().zip(512..))
        .map(|(name, number)| (name, X32_BIT | number))
        .collect()
}

fn aarch64() -> Vec<(&'static str, u32)> {
    calls!(aarch64)
        // What the header calls `fstatat` is `newfstatat` to libc and to libseccomp. Both are known.
        .flat_map(|call| [Some(call), (call.0 == "fstatat").then_some(("newfstatat", call.1))])
        .flatten()
        .collect()
}

fn arm() -> Vec<(&'static str, u32)> {
    let private = ["breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"];
    calls!(arm)
        // arch/arm/include/uapi/asm/unistd.h: the same call, by the name of its order of arguments.
        .flat_map(|call| {
            [Some(call), (call.0 == "arm_sync_file_range").then_some(("sync_file_range2", call.1))]
        })
        .flatten()
        .chain(private.into_iter().zip(ARM_PRIVATE + 1..))
        .collect()
}

/// Whether any architecture has a call of this name, one that filters are compiled for or not.
pub(crate) fn known_anywhere(name: &str) -> bool {
    macro_rules! known_in {
        ($($table:ident)*) => { $($table::Sysno::from_str(name).is_ok())||* };
    }
    Abi::ALL.iter().any(|abi| abi.number(name).is_some())
        || known_in!(loongarch64 mips mips64 powerpc powerpc64 riscv32 riscv64 s390x sparc sparc64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        // include/uapi/asm-generic/unistd.h and the tables of arch/x86 and arch/arm.
        for (abi, name, number) in [
            (Abi::X86_64, "read", 0),
            (Abi::X86_64, "clone3", 435),
            (Abi::X86_64, "file_setattr", 469),
            (Abi::X86, "socketcall", 102),
            (Abi::X86, "clock_gettime", 265),
            (Abi::X32, "read", X32_BIT),
            (Abi::X32, "ioctl", X32_BIT | 514),
            (Abi::X32, "pwritev2", X32_BIT | 547),
            (Abi::X32, "clone3", X32_BIT | 435),
            (Abi::Aarch64, "read", 63),
            (Abi::Aarch64, "newfstatat", 79),
            (Abi::Arm, "sync_file_range2", 341),
            (Abi::Arm, "set_tls", 0xf0005),
        ] {
            assert_eq!(abi.number(name), Some(number), "{abi:?} {name}");
        }
        assert_eq!(Abi::X32.number("uselib"), None);
        assert_eq!(Abi::X86_64.number("socketcall"), None);
    }

    #[test]
    fn a_number_has_one_name_but_for_two_aliases() {
        for abi in Abi::ALL {
            let mut numbers: Vec<u32> = abi.table().iter().map(|(_, number)| *number).collect();
            numbers.sort_unstable();
            let names = numbers.len();
            numbers.dedup();
            assert_eq!(names - numbers.len(), usize::from(matches!(abi, Abi::Aarch64 | Abi::Arm)), "{abi:?}");
        }
    }
}
