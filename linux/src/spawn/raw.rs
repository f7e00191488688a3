//! System calls without libc: no errno in thread-local storage, nothing that a process which shares its parent's
//! memory could disturb.

use rustix::io::Errno;

/// `syscall` with up to five arguments.
///
/// # Safety
/// As the system call asks: pointers among the arguments are valid for what the kernel does with them.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn call(number: i64, args: [usize; 5]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the kernel clobbers rcx and r11 only; the rest is the caller's contract.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    check(result)
}

/// `svc 0` with up to five arguments.
///
/// # Safety
/// As the system call asks: pointers among the arguments are valid for what the kernel does with them.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(super) unsafe fn call(number: i64, args: [usize; 5]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the kernel clobbers x0 only; the rest is the caller's contract.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4],
            options(nostack),
        );
    }
    check(result)
}

#[inline(always)]
fn check(result: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&result) {
        Err(Errno::from_raw_os_error(-result as i32))
    } else {
        Ok(result as usize)
    }
}

/// `clone3` with `CLONE_VM | CLONE_VFORK` onto another stack, where the child calls `entry(argument)` and, should
/// that return, exits with its result.
///
/// # Safety
/// `args` is a valid `struct clone_args` of `size` bytes whose stack is writable and large enough for `entry`;
/// `entry` touches no memory that the suspended parent's other threads use without synchronisation.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn clone3(
    args: *const u64,
    size: usize,
    entry: unsafe extern "C" fn(*mut u8) -> i32,
    argument: *mut u8,
) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: in the child the stack is the new one, so nothing of this frame is touched; it never returns here.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, 231",
            "syscall",
            "ud2",
            "2:",
            inlateout("rax") 435_isize => result,
            in("rdi") args, in("rsi") size, in("r12") entry, in("r13") argument,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    check(result)
}

/// As above, for this architecture.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn clone3(
    args: *const u64,
    size: usize,
    entry: unsafe extern "C" fn(*mut u8) -> i32,
    argument: *mut u8,
) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: in the child the stack is the new one, so nothing of this frame is touched; it never returns here.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "mov x8, 94",
            "svc 0",
            "brk 1",
            "2:",
            in("x8") 435,
            inlateout("x0") args => result,
            in("x1") size, in("x20") entry, in("x21") argument,
        );
    }
    check(result)
}
