/* What docker cp did (CVE-2019-14271): enters a container's files, and lets the C library load what it finds there. */

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **arguments) {
  if (count != 3 || chroot(arguments[1]) != 0 || chdir("/") != 0) return 1;
  struct passwd *user = getpwnam(arguments[2]);
  printf("%d\n", user ? (int)user->pw_uid : -1);
  return 0;
}
