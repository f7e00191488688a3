/* What there is not enough of. */

/* All at once, or as many as there may be; they end with us. */
static int fork_bomb(int count) {
  pid_t children[4096];
  int made = 0;
  while (made < count && made < 4096) {
    pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) pause();
    }
    if (child < 0) break;
    children[made++] = child;
  }
  int error = errno;
  for (int i = 0; i < made; i++) kill(children[i], SIGKILL);
  while (wait(NULL) > 0) {}
  errno = error;
  return made == count ? worked("%d processes at once", made) : refused("process %d", made);
}

/* In a child: whoever is killed for it, it is not us. */
static int memory_bomb(size_t size) {
  pid_t child = fork();
  if (child == 0) {
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) _exit(1);
    memset(memory, 1, size);
    _exit(memory[size / 2] == 1 ? 0 : 1);
  }
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child) die("a child");
  errno = ENOMEM;
  return status == 0 ? worked("%zu bytes of memory", size) : refused("%zu bytes of memory", size);
}

/* Files in memory, which no process is the owner of. Taken away again. */
static int fill(const char *directory, size_t size) {
  char path[4096];
  static char block[1 << 16];
  snprintf(path, sizeof path, "%s/filled", directory);
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) die(path);
  size_t done = 0;
  ssize_t count = 0;
  while (done < size && (count = write(fd, block, sizeof block)) > 0) done += (size_t)count;
  int error = errno;
  close(fd);
  unlink(path);
  errno = error;
  return done >= size ? worked("%zu bytes in %s", done, directory) : refused("%zu bytes in %s", done, directory);
}

/* Terminals, which are counted for the machine. */
static int take_terminals(int most) {
  int count = 0;
  while (count < most && posix_openpt(O_RDWR | O_NOCTTY) >= 0) count++;
  return count < most ? refused("more than %d terminals", count) : worked("took %d terminals", count);
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

static int take_watches(void) {
  unsigned count = 0;
  while (inotify_init1(IN_CLOEXEC) >= 0) count++;
  printf("holds %u\n", count);
  fflush(stdout);
  pause();
  return 0;
}
