/* Devices, privileges by files, terminals. */

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

/* The terminal that somebody who comes in has for a stream: opened again, and read when they have gone. */
static int take_terminal(double seconds) {
  double end = now() + seconds;
  int held = -1;
  pid_t holder = 0;
  char path[1024], typed[256];
  while (now() < end) {
    DIR *proc = held < 0 ? opendir("/proc") : NULL;
    struct dirent *entry;
    while (proc && held < 0 && (entry = readdir(proc))) {
      for (int fd = 0; is_number(entry->d_name) && atoi(entry->d_name) != getpid() && fd < 3 && held < 0; fd++) {
        snprintf(path, sizeof path, "/proc/%s/fd/%d", entry->d_name, fd);
        int again = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (again >= 0 && isatty(again) && !mount_is_known(mount_of(again))) {
          held = again;
          holder = atoi(entry->d_name);
        } else if (again >= 0) {
          close(again);
        }
      }
    }
    if (proc) closedir(proc);
    if (held < 0 || kill(holder, 0) == 0) continue;
    ssize_t length = read(held, typed, sizeof typed - 1);
    if (length > 0) {
      typed[length] = 0;
      typed[strcspn(typed, "\r\n")] = 0;
      return worked("read from the terminal of somebody who has gone: %s", typed);
    }
    usleep(10000);
  }
  errno = 0;
  return refused("a terminal of the outside, %s", held < 0 ? "never seen" : "seen");
}
