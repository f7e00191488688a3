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
    MADVISE 28 233
    NANOSLEEP 35 101
    GETPID 39 172
    SOCKET 41 198
    RECVMSG 47 212
    CLONE 56 220
    EXECVE 59 221
    WAIT4 61 260
    KILL 62 129
    FCNTL 72 25
    CHDIR 80 49
    FCHDIR 81 50
    UMASK 95 166
    SETSID 112 157
    SETGROUPS 116 159
    SETRESUID 117 147
    SETRESGID 119 149
    CAPSET 126 91
    RT_SIGTIMEDWAIT 128 137
    PERSONALITY 135 92
    PIVOT_ROOT 155 41
    PRCTL 157 167
    CHROOT 161 51
    MOUNT 165 40
    UMOUNT2 166 39
    SETHOSTNAME 170 161
    SETDOMAINNAME 171 162
    FUTEX 202 98
    SCHED_SETAFFINITY 203 122
    EXIT_GROUP 231 94
    SET_MEMPOLICY 238 237
    KEYCTL 250 219
    IOPRIO_SET 251 30
    OPENAT 257 56
    MKDIRAT 258 34
    MKNODAT 259 33
    FCHOWNAT 260 54
    UNLINKAT 263 35
    SYMLINKAT 266 36
    FCHMODAT 268 53
    FACCESSAT2 439 439
    PPOLL 271 73
    UNSHARE 272 97
    ACCEPT4 288 242
    DUP3 292 24
    PRLIMIT64 302 261
    SETNS 308 268
    SCHED_SETATTR 314 274
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
        NANOSLEEP SYS_nanosleep  GETPID SYS_getpid  SOCKET SYS_socket  CLONE SYS_clone  EXECVE SYS_execve  WAIT4 SYS_wait4  KILL SYS_kill
        FCNTL SYS_fcntl  CHDIR SYS_chdir  UMASK SYS_umask  SETSID SYS_setsid  SETGROUPS SYS_setgroups
        SETRESUID SYS_setresuid  SETRESGID SYS_setresgid  CAPSET SYS_capset
        RT_SIGTIMEDWAIT SYS_rt_sigtimedwait  PIVOT_ROOT SYS_pivot_root  PRCTL SYS_prctl
        UMOUNT2 SYS_umount2  SETHOSTNAME SYS_sethostname  EXIT_GROUP SYS_exit_group  FUTEX SYS_futex  PPOLL SYS_ppoll  KEYCTL SYS_keyctl
        UNLINKAT SYS_unlinkat  UNSHARE SYS_unshare  DUP3 SYS_dup3  PRLIMIT64 SYS_prlimit64  SETNS SYS_setns  SECCOMP SYS_seccomp
        EXECVEAT SYS_execveat  STATX SYS_statx  OPEN_TREE SYS_open_tree  MOVE_MOUNT SYS_move_mount
        FSOPEN SYS_fsopen  FSCONFIG SYS_fsconfig  FSMOUNT SYS_fsmount  CLONE3 SYS_clone3
        CLOSE_RANGE SYS_close_range  OPENAT2 SYS_openat2  MOUNT_SETATTR SYS_mount_setattr
        MKNODAT SYS_mknodat  OPENAT SYS_openat  MKDIRAT SYS_mkdirat  FCHOWNAT SYS_fchownat
        SYMLINKAT SYS_symlinkat  FCHMODAT SYS_fchmodat  FACCESSAT2 SYS_faccessat2  FCHDIR SYS_fchdir
        CHROOT SYS_chroot  MOUNT SYS_mount  ACCEPT4 SYS_accept4  PERSONALITY SYS_personality
        SETDOMAINNAME SYS_setdomainname  SET_MEMPOLICY SYS_set_mempolicy  IOPRIO_SET SYS_ioprio_set  SCHED_SETATTR SYS_sched_setattr
        SCHED_SETAFFINITY SYS_sched_setaffinity  MADVISE SYS_madvise  RECVMSG SYS_recvmsg
    }
}
