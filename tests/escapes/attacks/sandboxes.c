/* What others in a sandbox, or in another one, have. */

/* Memory of System V by its key; made by whoever has something to lose. */
static int shared_memory(const char *how, key_t key) {
  if (strcmp(how, "make") == 0) {
    if (shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0666) < 0) die("shmget");
    return worked("made memory %d", key);
  }
  errno = 0;
  return shmget(key, 4096, 0) >= 0 ? worked("found memory %d", key) : refused("memory %d", key);
}

/* A socket without a name in any file system, for as long as somebody waits for its end. */
static int listen_abstract(const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "%s", name);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 8) != 0) die("listen");
  worked("listens on %s", name);
  for (;;) pause();
}

/* Whether a file holds a text. */
static int file_tells(const char *path, const char *text) {
  static char content[1 << 20];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  size_t length = 0;
  ssize_t count;
  while (length < sizeof content && (count = read(fd, content + length, sizeof content - length)) > 0)
    length += (size_t)count;
  close(fd);
  return memmem(content, length, text, strlen(text)) != NULL;
}

/* The root of whoever comes by, and what is said of his mounts and sockets: a process on its way in may still have the
 * machine's. */
static int hunt_roots(const char *marker, double seconds) {
  double end = now() + seconds;
  unsigned looks = 0;
  errno = 0;
  do {
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc && (entry = readdir(proc))) {
      if (!is_number(entry->d_name)) continue;
      char path[1024];
      snprintf(path, sizeof path, "/proc/%s/root%s", entry->d_name, marker);
      looks++;
      if (access(path, F_OK) == 0) return worked("%s", path);
      /* For everybody to read: where the machine mounts containers, and the socket of the host. */
      snprintf(path, sizeof path, "/proc/%s/mountinfo", entry->d_name);
      if (file_tells(path, "/subcontainers ")) return worked("%s", path);
      snprintf(path, sizeof path, "/proc/%s/net/unix", entry->d_name);
      if (file_tells(path, "/rpc/host.sock")) return worked("%s", path);
    }
    if (proc) closedir(proc);
  } while (now() < end);
  errno = 0;
  return refused("%u looks", looks);
}

/* Everybody in sight is stopped, again and again: who is on his way in, too. */
static int stop_all(double seconds) {
  double end = now() + seconds;
  while (now() < end) kill(-1, SIGSTOP);
  errno = 0;
  return refused("stopping everybody");
}
