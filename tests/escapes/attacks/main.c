/* What root inside a container tries, one published technique for each word on the command line.
 *
 * Linked statically, so that it runs in any root file system. Every attempt ends in a line that begins with `worked:`
 * or with `refused:` and says what was tried and the kernel's answer; the tests read nothing else. An attempt stops
 * before it harms: a setting of the kernel is opened for writing, and nothing is written to it.
 *
 * One program of several parts, compiled as one: `cc -static main.c`. `naive-…` are what careless container engines did,
 * for the tests to compare with. */

#include "say.h"

#include "handles.c"
#include "settings.c"
#include "calls.c"
#include "processes.c"
#include "devices.c"
#include "files.c"
#include "exhaustion.c"
#include "networks.c"
#include "sandboxes.c"
#include "naive.c"

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "";
  char **rest = arguments + 2;
  count -= 2;
#define WORD(word, least, call) \
  if (strcmp(what, word) == 0 && count >= (least)) return call
  WORD("reach", 1, reach(rest[0], count > 1 ? atof(rest[1]) : 0));
  WORD("chroot-climb", 1, chroot_climb(rest[0]));
  WORD("hunt-programs", 1, hunt_programs(atof(rest[0])));
  if (strcmp(what, "kernel-file") == 0 && count >= 2) {
    for (int i = 1; i < count; i++) kernel_file(rest[0], rest[i]);
    return 0;
  }
  WORD("cgroups", 0, cgroups());
  WORD("binfmt", 0, binfmt());
  WORD("masks", 1, masks(count, rest));
  WORD("calls", 0, calls());
  WORD("socket-calls", 0, socket_calls());
  WORD("handle", 1, print_handle(rest[0]));
  WORD("by-handle", 2, by_handle(rest[0], rest[1]));
  WORD("outer", 2, outer(rest[0], atoi(rest[1])));
  WORD("abstract", 1, abstract(rest[0]));
  WORD("leave-socket", 1, leave_socket(rest[0]));
  WORD("use-socket", 3, use_socket(rest[0], atoi(rest[1]), atof(rest[2])));
  WORD("signal-all", 1, signal_all(atoi(rest[0])));
  WORD("inherited", 1, inherited(rest[0]));
  WORD("find-key", 1, find_key(rest[0]));
  WORD("with-key", 2, with_key(rest));
  WORD("device", 0, device(count > 0 ? rest[0] : NULL));
  WORD("privileged", 0, privileged());
  WORD("inheritable", 0, inheritable());
  WORD("type-into", 1, type_into(rest[0]));
  WORD("take-terminal", 1, take_terminal(atof(rest[0])));
  WORD("console", 0, console());
  WORD("exchange", 3, (exchange(rest[0], rest[1], rest[2]), 0));
  WORD("wander", 3, (wander(rest[0], rest[1], rest[2]), 0));
  WORD("reopen", 1, reopen(atoi(rest[0])));
  WORD("spoil", 1, spoil(atoi(rest[0])));
  WORD("listen-in", 1, listen_in(atoi(rest[0])));
  WORD("change-mask", 1, change_mask(rest[0]));
  WORD("hard-link", 2, hard_link(rest[0], rest[1]));
  WORD("fork-bomb", 1, fork_bomb(atoi(rest[0])));
  WORD("memory-bomb", 1, memory_bomb((size_t)atol(rest[0])));
  WORD("fill", 2, fill(rest[0], (size_t)atol(rest[1])));
  WORD("take-watches", 0, take_watches());
  WORD("take-terminals", 1, take_terminals(atoi(rest[0])));
  WORD("take-descriptors", 0, take_descriptors());
  WORD("machine-service", 1, machine_service((uint16_t)atoi(rest[0])));
  WORD("other-network", 2, other_network(rest[0], (uint16_t)atoi(rest[1])));
  WORD("spoof", 3, spoof(rest[0], rest[1], (uint16_t)atoi(rest[2])));
  WORD("rewire", 0, rewire());
  WORD("memory-of", 2, shared_memory(rest[0], (key_t)atoi(rest[1])));
  WORD("listen-abstract", 1, listen_abstract(rest[0]));
  WORD("hunt-roots", 2, hunt_roots(rest[0], atof(rest[1])));
  WORD("stop-all", 1, stop_all(atof(rest[0])));
  WORD("victim", 0, (victim(), 0));
  WORD("sleep", 0, (int)(sleep(1), 0));
  WORD("naive-enter", 2, naive_enter(rest, 1));
  WORD("naive-beside", 2, naive_enter(rest, 0));
  WORD("naive-chroot", 3, naive_chroot(rest));
  fprintf(stderr, "attacks: no such word: %s\n", what);
  return 98;
}
