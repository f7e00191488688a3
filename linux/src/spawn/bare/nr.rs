//! Numbers of system calls.

macro_rules! numbers {
    ($($name:ident $x86_64:literal $aarch64:literal)*) => {$(
        #[doc = concat!("`", stringify!($name), "`")]
        #[cfg(target_arch = "x86_64")]
        pub const $name: usize = $x86_64;
        #[doc = concat!("`", stringify!($name), "`")]
        #[cfg(target_arch = "aarch64")]
        pub const $name: usize = $aarch64;
    )*};
}

numbers! {
    READ 0 63
    WRITE 1 64
    CLOSE 3 57
    MMAP 9 222
    MUNMAP 11 215
    RT_SIGACTION 13 134
    RT_SIGPROCMASK 14 135
    IOCTL 16 29
    NANOSLEEP 35 101
    GETPID 39 172
    CLONE 56 220
    EXECVE 59 221
    WAIT4 61 260
    KILL 62 129
    FCNTL 72 25
    CHDIR 80 49
    UMASK 95 166
    SETSID 112 157
    SETGROUPS 116 159
    SETRESUID 117 147
    SETRESGID 119 149
    CAPSET 126 91
    RT_SIGTIMEDWAIT 128 137
    PIVOT_ROOT 155 41
    PRCTL 157 167
    UMOUNT2 166 39
    SETHOSTNAME 170 161
    FUTEX 202 98
    EXIT_GROUP 231 94
    PPOLL 271 73
    KEYCTL 250 219
    UNLINKAT 263 35
    UNSHARE 272 97
    DUP3 292 24
    PRLIMIT64 302 261
    SETNS 308 268
    SECCOMP 317 277
    EXECVEAT 322 281
    STATX 332 291
    OPEN_TREE 428 428
    MOVE_MOUNT 429 429
    FSOPEN 430 430
    FSCONFIG 431 431
    FSMOUNT 432 432
    CLONE3 435 435
    CLOSE_RANGE 436 436
    OPENAT2 437 437
    MOUNT_SETATTR 442 442
}

#[cfg(test)]
#[test]
fn numbers_are_those_of_libc() {
    macro_rules! same {
        ($($ours:ident $libcs:ident)*) => {$( assert_eq!($ours as i64, libc::$libcs, stringify!($ours)); )*};
    }
    same! {
        READ SYS_read  WRITE SYS_write  CLOSE SYS_close  MMAP SYS_mmap  MUNMAP SYS_munmap
        RT_SIGACTION SYS_rt_sigaction  RT_SIGPROCMASK SYS_rt_sigprocmask  IOCTL SYS_ioctl
        NANOSLEEP SYS_nanosleep  GETPID SYS_getpid  CLONE SYS_clone  EXECVE SYS_execve  WAIT4 SYS_wait4  KILL SYS_kill
        FCNTL SYS_fcntl  CHDIR SYS_chdir  UMASK SYS_umask  SETSID SYS_setsid  SETGROUPS SYS_setgroups
        SETRESUID SYS_setresuid  SETRESGID SYS_setresgid  CAPSET SYS_capset
        RT_SIGTIMEDWAIT SYS_rt_sigtimedwait  PIVOT_ROOT SYS_pivot_root  PRCTL SYS_prctl
        UMOUNT2 SYS_umount2  SETHOSTNAME SYS_sethostname  EXIT_GROUP SYS_exit_group  FUTEX SYS_futex  PPOLL SYS_ppoll  KEYCTL SYS_keyctl
        UNLINKAT SYS_unlinkat  UNSHARE SYS_unshare  DUP3 SYS_dup3  PRLIMIT64 SYS_prlimit64  SETNS SYS_setns  SECCOMP SYS_seccomp
        EXECVEAT SYS_execveat  STATX SYS_statx  OPEN_TREE SYS_open_tree  MOVE_MOUNT SYS_move_mount
        FSOPEN SYS_fsopen  FSCONFIG SYS_fsconfig  FSMOUNT SYS_fsmount  CLONE3 SYS_clone3
        CLOSE_RANGE SYS_close_range  OPENAT2 SYS_openat2  MOUNT_SETATTR SYS_mount_setattr
    }
}
