//! System calls without libc: no errno in thread-local storage, nothing that a process which shares its parent's
//! memory could disturb.

use super::{Result, nr};

/// A system call. Arguments that it does not have are not looked at.
///
/// # Safety
/// As the system call asks: pointers among the arguments are valid for what the kernel does with them.
#[inline(always)]
pub unsafe fn call<const N: usize>(number: usize, args: [usize; N]) -> Result<usize> {
    let [a, b, c, d, e, f] = six(args);
    let result: isize;
    // SAFETY: the kernel clobbers rcx and r11 only; the rest is the caller's contract.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: the kernel clobbers x0 only; the rest is the caller's contract.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    check(result)
}

#[inline(always)]
fn six<const N: usize>(args: [usize; N]) -> [usize; 6] {
    const { assert!(N <= 6) };
    let mut all = [0; 6];
    let mut i = 0;
    while i < N {
        all[i] = args[i];
        i += 1;
    }
    all
}

#[inline(always)]
fn check(result: isize) -> Result<usize> {
    if (-4095..0).contains(&result) { Err(-result as i32) } else { Ok(result as usize) }
}

/// `struct clone_args`, linux/sched.h, as far as Linux 5.7 knows it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CloneArgs {
    /// `CLONE_*`.
    pub flags: u64,
    /// Where a descriptor on the child goes (`CLONE_PIDFD`).
    pub pidfd: u64,
    /// The word that is set to zero when the child has gone its own way (`CLONE_CHILD_CLEARTID`).
    pub child_tid: u64,
    /// Unused.
    pub parent_tid: u64,
    /// The signal that says that the child has ended.
    pub exit_signal: u64,
    /// Its lowest address.
    pub stack: u64,
    /// Its length in bytes.
    pub stack_size: u64,
    /// Unused.
    pub tls: u64,
    /// Unused.
    pub set_tid: u64,
    /// Unused.
    pub set_tid_size: u64,
    /// The group that the child begins in (`CLONE_INTO_CGROUP`).
    pub cgroup: u64,
}

/// `clone3(2)` with `CLONE_VM` onto another stack, where the child calls `entry(argument)` and, should
/// that return, exits with its result. Returns the child's id.
///
/// # Safety
/// The stack in `args` is writable and large enough for `entry`; `entry` touches no memory that the parent's
/// threads use without synchronisation.
pub unsafe fn clone3(
    args: &CloneArgs,
    entry: unsafe extern "C" fn(*mut u8) -> i32,
    argument: *mut u8,
) -> Result<usize> {
    let result: isize;
    // SAFETY: in the child the stack is the new one, so nothing of this frame is touched; it never returns here.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const nr::EXIT_GROUP,
            inlateout("rax") nr::CLONE3 as isize => result,
            in("rdi") args, in("rsi") size_of::<CloneArgs>(), in("r12") entry, in("r13") argument,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "mov x8, {exit}",
            "svc 0",
            "brk 1",
            "2:",
            exit = const nr::EXIT_GROUP,
            in("x8") nr::CLONE3,
            inlateout("x0") args => result,
            in("x1") size_of::<CloneArgs>(), in("x20") entry, in("x21") argument,
        );
    }
    check(result)
}

/// `clone3(2)` without shared memory: a copy of this process, which goes on here with 0.
///
/// # Safety
/// This process has one thread; `args` asks for no stack and no shared memory.
pub unsafe fn fork3(args: &CloneArgs) -> Result<usize> {
    // SAFETY: the child has a copy of everything that this function touches.
    unsafe { call(nr::CLONE3, [&raw const *args as usize, size_of::<CloneArgs>()]) }
}
