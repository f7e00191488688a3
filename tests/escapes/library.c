/* A library that a hostile image brings. Loaded by any process, it says so by a file in that process's root. */

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void) {
  char program[4096];
  ssize_t length = readlink("/proc/self/exe", program, sizeof program);
  if (length < 0) {
    program[0] = '?';
    length = 1;
  }
  int fd = open("/loaded", O_WRONLY | O_CREAT | O_APPEND, 0666);
  if (fd < 0) return;
  if (write(fd, program, (size_t)length) < 0) return;
  close(fd);
}
