//! What the default profile leaves out, and why. The rules say nothing about these: they get the default action, and
//! `ENOSYS` when they are newer than all that is allowed.

/// Calls that no capability opens.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Why.
    pub reason: &'static str,
    /// Which.
    pub names: &'static [&'static str],
}

/// Every call that is in no group of [`super::GROUPS`].
pub const REFUSED: &[Refused] = &[
    Refused {
        reason: "keyrings belong to users, not to containers: keys of others with the same user id are in reach, and \
                 the code has a history (CVE-2016-0728, CVE-2017-6951)",
        names: &["add_key", "keyctl", "request_key"],
    },
    Refused {
        reason: "its operations pass every filter of system calls by, and many gave privileges (CVE-2022-29582, \
                 CVE-2023-2598); libraries fall back",
        names: &["io_uring_enter", "io_uring_register", "io_uring_setup"],
    },
    Refused {
        reason: "stops the kernel in the middle of a copy, which makes races certain (as exploits of CVE-2016-6187 \
                 did); /dev/userfaultfd is not in a container either",
        names: &["userfaultfd"],
    },
    Refused {
        reason: "a pipe of pages that stay the giver's: what a process wrote later was read by another \
                 (CVE-2020-29374); splice and tee are allowed",
        names: &["vmsplice"],
    },
    Refused {
        reason: "loads another kernel, which no namespace bounds",
        names: &["kexec_file_load", "kexec_load"],
    },
    Refused { reason: "swap is the machine's", names: &["swapoff", "swapon"] },
    Refused {
        reason: "moves pages of a process between nodes; the machine's memory is not a container's to arrange",
        names: &["migrate_pages", "move_pages"],
    },
    Refused {
        reason: "reads and writes of PCI configuration space",
        names: &["pciconfig_iobase", "pciconfig_read", "pciconfig_write"],
    },
    Refused {
        reason: "virtual 8086 mode: code that nobody maintains, for programs that nobody runs",
        names: &["vm86", "vm86old"],
    },
    Refused {
        reason: "removed from the kernel, or never there",
        names: &[
            "_sysctl",
            "afs_syscall",
            "bdflush",
            "break",
            "create_module",
            "ftime",
            "get_kernel_syms",
            "getpmsg",
            "gtty",
            "idle",
            "lock",
            "lookup_dcookie",
            "mpx",
            "nfsservctl",
            "prof",
            "profil",
            "putpmsg",
            "query_module",
            "security",
            "stty",
            "tuxcall",
            "ulimit",
            "vserver",
        ],
    },
    Refused {
        reason: "calls of the last century that libraries have replaced",
        names: &[
            "nice",
            "oldfstat",
            "oldlstat",
            "oldolduname",
            "oldstat",
            "olduname",
            "readdir",
            "sgetmask",
            "ssetmask",
            "sysfs",
            "uselib",
            "ustat",
        ],
    },
    Refused { reason: "private calls of ARM without users: 26-bit mode is gone", names: &["usr26", "usr32"] },
    Refused {
        reason: "newer than the engines' lists: ENOSYS, so that libraries use what they used before",
        names: &["file_getattr", "file_setattr"],
    },
];
