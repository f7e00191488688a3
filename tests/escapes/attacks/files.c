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
