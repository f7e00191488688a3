/* System calls that escapes begin with, and files by their handles. */

/* Whether the kernel has looked at more than who asks: then the code behind a call can be reached. */
static void say_call(const char *name, long result) {
  int no = errno == EPERM || errno == ENOSYS || errno == EACCES || errno == EAFNOSUPPORT;
  if (result < 0 && no)
    refused("%s", name);
  else
    worked("%s: %s", name, result >= 0 ? "done" : strerrorname_np(errno));
}

/* In a child, so that what succeeds changes nothing for the next. */
#define CALL(label, ...)                 \
  do {                                         \
    fflush(stdout);                            \
    pid_t child = fork();                      \
    if (child == 0) {                          \
      errno = 0;                               \
      say_call(label, __VA_ARGS__);            \
      _exit(0);                                \
    }                                          \
    waitpid(child, NULL, 0);                   \
  } while (0)

static long namespace_by_clone(unsigned long flags) {
  long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid((pid_t)pid, NULL, 0);
  return pid;
}

static long namespace_by_clone3(uint64_t flags) {
  uint64_t arguments[11] = {flags, 0, 0, 0, SIGCHLD};
  long pid = syscall(SYS_clone3, arguments, 64);
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid((pid_t)pid, NULL, 0);
  return pid;
}

#ifdef __x86_64__
/* A call of the 32-bit table from a 64-bit program. */
static long by_int80(long number, long argument) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(argument), "c"(0L), "d"(0L) : "memory", "r8", "r9", "r10", "r11");
  if ((int)result < 0 && (int)result > -4096) {
    errno = -(int)result;
    return -1;
  }
  return (int)result;
}
#endif

#ifdef __x86_64__
/* The arguments lie in memory, where no filter sees them. */
static long socket_by_socketcall(int family, int type) {
  uint32_t *arguments = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  if (arguments == MAP_FAILED) die("mmap");
  arguments[0] = (uint32_t)family;
  arguments[1] = (uint32_t)type;
  arguments[2] = 0;
  long result;
  __asm__ volatile("int $0x80"
                   : "=a"(result)
                   : "a"(102L), "b"(1L), "c"((long)(uintptr_t)arguments), "d"(0L)
                   : "memory", "r8", "r9", "r10", "r11");
  errno = (int)result < 0 ? -(int)result : 0;
  return (int)result < 0 ? -1 : (int)result;
}
#endif

/* What escapes and exploits begin with. The arguments make each harmless where it is allowed. */
static int calls(void) {
  char nothing[256] = {0};
  CALL("unshare:user", syscall(SYS_unshare, CLONE_NEWUSER));
  CALL("unshare:mount", syscall(SYS_unshare, CLONE_NEWNS));
  CALL("unshare:net", syscall(SYS_unshare, CLONE_NEWNET));
  CALL("clone:user", namespace_by_clone(CLONE_NEWUSER));
  CALL("clone:mount", namespace_by_clone(CLONE_NEWNS));
  CALL("clone3:user", namespace_by_clone3(CLONE_NEWUSER));
  CALL("setns", syscall(SYS_setns, open("/proc/self/ns/uts", O_RDONLY), 0));
#ifdef __x86_64__
  CALL("int80:unshare", by_int80(310, CLONE_NEWUSER));
  CALL("int80:keyctl", by_int80(288, KEYCTL_JOIN_SESSION_KEYRING));
  CALL("x32:unshare", syscall(0x40000000 + SYS_unshare, CLONE_NEWUSER));
#endif
  CALL("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
  CALL("mount", mount("tmpfs", "/tmp", "tmpfs", 0, "bad=option"));
  CALL("umount2", umount2("/no/such/place", 0));
  CALL("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/tmp", 1));
  CALL("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/no/such/place", 0, nothing, 32));
  CALL("move_mount", syscall(SYS_move_mount, -1, "", -1, "", 4));
  CALL("pivot_root", syscall(SYS_pivot_root, "/no/such/place", "/no/such/place"));
  CALL("bpf", syscall(SYS_bpf, 0, nothing, 8));
  CALL("perf_event_open", syscall(SYS_perf_event_open, nothing, 0, -1, -1, 0));
  CALL("userfaultfd", syscall(SYS_userfaultfd, 0));
  CALL("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL));
  CALL("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
  CALL("add_key", syscall(SYS_add_key, "user", "escape", "x", 1, KEY_SPEC_PROCESS_KEYRING));
  CALL("request_key", syscall(SYS_request_key, "user", "escape", NULL, 0));
  CALL("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, nothing, 0));
  CALL("init_module", syscall(SYS_init_module, NULL, 0, ""));
  CALL("finit_module", syscall(SYS_finit_module, -1, "", 0));
  CALL("delete_module", syscall(SYS_delete_module, "no such module", O_NONBLOCK));
  CALL("kexec_load", syscall(SYS_kexec_load, 0, 1UL << 40, NULL, 0));
  CALL("reboot", syscall(SYS_reboot, 1, 2, 3, NULL));
  CALL("swapon", syscall(SYS_swapon, "/no/such/file", 0));
  CALL("acct", syscall(SYS_acct, "/no/such/file"));
  CALL("quotactl", syscall(SYS_quotactl, 0x800001 << 8, NULL, 0, NULL));
  CALL("syslog", syscall(SYS_syslog, 10, NULL, 0));
  CALL("clock_settime", syscall(SYS_clock_settime, CLOCK_REALTIME, NULL));
  CALL("settimeofday", syscall(SYS_settimeofday, (void *)1, NULL));
  CALL("sethostname", syscall(SYS_sethostname, "", -1));
  CALL("vhangup", (setsid(), syscall(SYS_vhangup)));
  CALL("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
  CALL("vmsplice", syscall(SYS_vmsplice, -1, NULL, 0, 0));
  CALL("move_pages", syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0));
  CALL("setdomainname", syscall(SYS_setdomainname, "", -1));
#ifdef SYS_iopl
  CALL("iopl", syscall(SYS_iopl, 3));
  CALL("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
#endif
  CALL("socket:packet", socket(AF_PACKET, SOCK_RAW, 0)); /* CVE-2020-14386 */
  CALL("socket:raw", socket(AF_INET, SOCK_RAW, 1));
  CALL("socket:vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
  CALL("socket:alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
  return 0;
}

/* The same families that the filter refuses to socket(2). */
static int socket_calls(void) {
#ifdef __x86_64__
  const int families[][2] = {{AF_VSOCK, SOCK_STREAM}, {AF_ALG, SOCK_SEQPACKET}};
  for (int i = 0; i < 2; i++) {
    long result = socket_by_socketcall(families[i][0], families[i][1]);
    /* A kernel that says that it has no such family was asked. */
    if (result < 0 && (errno == ENOSYS || errno == EPERM))
      refused("socketcall of family %d", families[i][0]);
    else
      worked("socketcall of family %d: %s", families[i][0], result >= 0 ? "done" : strerrorname_np(errno));
  }
#else
  errno = ENOSYS;
  refused("socketcall");
#endif
  return 0;
}

static int print_handle(const char *path) {
  struct { struct file_handle handle; unsigned char bytes[MAX_HANDLE_SZ]; } file = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
  int mount_id;
  if (name_to_handle_at(AT_FDCWD, path, &file.handle, &mount_id, 0) != 0) die("name_to_handle_at");
  printf("%d:", file.handle.handle_type);
  for (unsigned i = 0; i < file.handle.handle_bytes; i++) printf("%02x", file.handle.f_handle[i]);
  printf("\n");
  return 0;
}

/* "Shocker": a file by its number, on whatever mount of the same file system is in sight. */
static int by_handle(const char *mountpoint, const char *text) {
  struct { struct file_handle handle; unsigned char bytes[MAX_HANDLE_SZ]; } file = {0};
  char *rest;
  file.handle.handle_type = (int)strtol(text, &rest, 10);
  for (rest++; rest[0] && rest[1]; rest += 2) {
    char digits[3] = {rest[0], rest[1], 0};
    file.handle.f_handle[file.handle.handle_bytes++] = (unsigned char)strtoul(digits, NULL, 16);
  }
  int place = open(mountpoint, O_RDONLY | O_CLOEXEC);
  if (place < 0) die(mountpoint);
  int fd = open_by_handle_at(place, &file.handle, O_RDONLY);
  if (fd < 0) return refused("open_by_handle_at");
  char content[256] = {0};
  if (read(fd, content, sizeof content - 1) < 0) die("read by handle");
  content[strcspn(content, "\n")] = 0;
  return worked("read by handle: %s", content);
}
