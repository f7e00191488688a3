/* Names that change, streams that are files, links. */

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

/* What is changed of a stream that others have, too: for all of them, and for what it is of. */
static int spoil(int fd) {
  const char *what = NULL;
  int flags = fcntl(fd, F_GETFL);
  if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0) what = "its flags";
  if (fchmod(fd, 0) == 0) what = "its mode";
  if (fchown(fd, 4321, 4321) == 0) what = "its owner";
  if (shutdown(fd, SHUT_RDWR) == 0) what = "its connection";
  return what ? worked("changed %s", what) : refused("change descriptor %d", fd);
}

/* What others write into the same pipe, read by who was given it to write. */
static int listen_in(int fd) {
  char path[64], text[256];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int again = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (again < 0) return refused("open descriptor %d again", fd);
  double end = now() + 2;
  while (now() < end) {
    ssize_t length = read(again, text, sizeof text - 1);
    if (length > 0 && memmem(text, (size_t)length, "secret", 6)) {
      fprintf(stderr, "worked: read what another wrote\n");
      return 0;
    }
    usleep(5000);
  }
  fprintf(stderr, "refused: nothing of another was read\n");
  return 0;
}

/* The mode of every masked file, which may be that of a device of the machine's. */
static int change_mask(const char *path) {
  if (chmod(path, 0600) == 0) return worked("changed the mode of %s", path);
  return refused("change %s", path);
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
