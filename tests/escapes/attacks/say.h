/* Verdicts, and what every part needs. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/keyctl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
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

/* The first refusal tells most. */
static int first_errno;
static void remember(void) {
  if (!first_errno) first_errno = errno;
}
