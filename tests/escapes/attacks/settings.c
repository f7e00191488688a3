/* Settings, secrets and control groups of the machine, plainly and by every way around a mask. */

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
