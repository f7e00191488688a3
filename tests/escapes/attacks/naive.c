/* What careless engines have done, for the tests to compare with. */

static void enter(pid_t pid, const char *name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, name);
  int fd = open(path, O_RDONLY);
  if (fd < 0 || setns(fd, 0) != 0) die(path);
  close(fd);
}

/* Enters with its own program, which those inside then see as /proc/<pid>/exe; and leaves them its descriptors. */
static int naive_enter(char **arguments, int with_mounts) {
  pid_t pid = atoi(arguments[0]);
  open("/", O_RDONLY | O_DIRECTORY);
  enter(pid, "pid");
  if (with_mounts) enter(pid, "mnt");
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
