/* Processes outside, and what a process was left by who started it. */

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

/* A child that is only told to sleep: somebody to be attacked. */
static _Noreturn void victim(void) {
  signal(SIGUSR1, SIG_DFL);
  for (;;) pause();
}

/* A socket that no file stands for: who is in its network reaches it. */
static int abstract(const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strnlen(name, sizeof address.sun_path - 1);
  memcpy(address.sun_path + 1, name, length);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
  return connect(fd, (struct sockaddr *)&address, size) == 0 ? worked("reached @%s", name) : refused("reach @%s", name);
}

/* A socket of this network is handed to somebody in another container, by a directory that both have. */
static int leave_socket(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int to = socket(AF_UNIX, SOCK_STREAM, 0), left = socket(AF_INET, SOCK_STREAM, 0);
  if (to < 0 || left < 0) die("socket");
  if (connect(to, (struct sockaddr *)&address, sizeof address) != 0) return refused("find who takes it");
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.header), &left, sizeof left);
  struct iovec data = {.iov_base = "x", .iov_len = 1};
  struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
  return sendmsg(to, &message, 0) == 1 ? worked("left a socket") : refused("leave a socket");
}

/* Takes it, and calls the loopback of whoever has that network by then. */
static int use_socket(const char *path, int port, double seconds) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  /* Whoever waits for the name finds somebody who listens. */
  char made[sizeof address.sun_path];
  if (snprintf(made, sizeof made, "%s.new", path) >= (int)sizeof made) die("a name that long");
  strcpy(address.sun_path, made);
  unlink(made);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0 ||
      rename(made, path) != 0)
    die("listen");
  int from = accept(listener, NULL, NULL);
  /* The next who waits for it must not find this one. */
  unlink(path);
  char byte, space[CMSG_SPACE(sizeof(int))];
  struct iovec data = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
  if (from < 0 || recvmsg(from, &message, 0) != 1 || !CMSG_FIRSTHDR(&message)) die("receive");
  int left;
  memcpy(&left, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof left);
  struct sockaddr_in loopback = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  unsigned calls = 0;
  for (double end = now() + seconds; now() < end; calls++) {
    if (connect(left, (struct sockaddr *)&loopback, sizeof loopback) == 0) return worked("called another's loopback");
    usleep(1000);
  }
  return refused("call another's loopback, %u times", calls);
}
