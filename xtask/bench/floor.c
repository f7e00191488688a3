/* The least that the kernel asks for: what a container costs when nothing is decided, checked or remembered.
 *
 *   floor spawn N ROOTFS                posix_spawn of ROOTFS/bin/true, and its end
 *   floor cold  N ROOTFS SCRATCH        namespaces, a volatile overlay, pivot_root, exec of true, its end, clean up
 *   floor full  N ROOTFS SCRATCH        and the mounts of an OCI container, a network namespace, a seccomp filter, and
 *                                       a control group with limits in each of pids, memory and cpu
 *   floor exec  N PID                   enters the namespaces of PID and runs true there
 *   floor enter PID COMMAND...          the same once, for any command, with our own standard streams
 *
 * Prints one time in nanoseconds for each round. Linux 5.9 or later, root. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void fail(const char *step)
{
	fprintf(stderr, "floor: %s: %s\n", step, strerror(errno));
	_exit(1);
}

static void must(long result, const char *step)
{
	if (result < 0)
		fail(step);
}

static long long nanoseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Shares our memory until it execs, like vfork: nothing of our address space is copied. */
static pid_t start(int (*child)(void *), void *argument, int flags)
{
	static char stack[1 << 16] __attribute__((aligned(64)));
	pid_t pid = clone(child, stack + sizeof stack, flags | CLONE_VM | CLONE_VFORK | SIGCHLD, argument);
	must(pid, "clone");
	return pid;
}

static void finish(pid_t pid)
{
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("wait");
	if (status != 0) {
		fprintf(stderr, "floor: the command ended with %d\n", status);
		_exit(1);
	}
}

struct container {
	const char *rootfs;
	int full;
	char directory[256], upper[300], work[300], merged[300];
};

/* Decides by bisection over 512 numbers, so that each call costs nine comparisons. */
static struct sock_filter filter[1200];
static int filter_length;

static void bisect(unsigned low, unsigned high)
{
	if (high - low <= 8) {
		unsigned verdict = low < 504 ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | EPERM;
		filter[filter_length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict);
		return;
	}
	unsigned middle = (low + high) / 2;
	filter[filter_length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, middle, 0, 1);
	int jump = filter_length++;
	bisect(low, middle);
	filter[jump] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, filter_length - jump - 1);
	bisect(middle, high);
}

static void mount_oci(void)
{
	static const char *devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
	must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount proc");
	must(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL), "mount sys");
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k"), "mount dev");
	must(mkdir("dev/pts", 0755) | mkdir("dev/shm", 0755) | mkdir("dev/mqueue", 0755), "mkdir in dev");
	must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666"), "mount pts");
	must(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777"), "mount shm");
	must(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount mqueue");
	for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++) {
		char inside[32], outside[32];
		snprintf(inside, sizeof inside, "dev/%s", devices[i]);
		snprintf(outside, sizeof outside, "/dev/%s", devices[i]);
		int file = open(inside, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
		must(file, "make a device");
		close(file);
		must(mount(outside, inside, NULL, MS_BIND, NULL), "bind a device");
	}
}

static int contained(void *argument)
{
	struct container *container = argument;
	char options[1100];
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,volatile", container->rootfs,
		 container->upper, container->work);
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make mounts private");
	must(mount("overlay", container->merged, "overlay", 0, options), "mount overlay");
	must(chdir(container->merged), "chdir");
	if (container->full)
		mount_oci();
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "umount the old root");
	must(chdir("/"), "chdir");
	if (container->full) {
		struct sock_fprog program = {filter_length, filter};
		must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
		must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
	}
	char *command[] = {"/bin/true", NULL};
	execve(command[0], command, environ);
	fail("exec");
	return 1;
}

static void write_file(const char *directory, const char *name, const char *text)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	int file = open(path, O_WRONLY | O_CLOEXEC);
	must(file, path);
	must(write(file, text, strlen(text)), path);
	close(file);
}

/* Version 1 has a hierarchy for each controller. Where there is none, one group of version 2. */
static const struct group {
	const char *parent, *limit, *value;
} groups[] = {
	{"/sys/fs/cgroup/pids", "pids.max", "512"},
	{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "536870912"},
	{"/sys/fs/cgroup/cpu", "cpu.shares", "1024"},
}, group_v2 = {"/sys/fs/cgroup", "pids.max", "512"};

static const struct group *group(unsigned index)
{
	if (access("/sys/fs/cgroup/pids", F_OK) == 0)
		return index < sizeof groups / sizeof *groups ? &groups[index] : NULL;
	return index == 0 ? &group_v2 : NULL;
}

static const char *group_path(const struct group *group, int round)
{
	static char path[256];
	snprintf(path, sizeof path, "%s/floor-%d-%d", group->parent, getpid(), round);
	return path;
}

static void make_groups(int round)
{
	const struct group *each;
	for (unsigned i = 0; (each = group(i)); i++) {
		const char *path = group_path(each, round);
		must(mkdir(path, 0755), path);
		write_file(path, each->limit, each->value);
	}
}

static void join_groups(int round, pid_t pid)
{
	const struct group *each;
	char text[16];
	snprintf(text, sizeof text, "%d", pid);
	for (unsigned i = 0; (each = group(i)); i++)
		write_file(group_path(each, round), "cgroup.procs", text);
}

static void remove_groups(int round)
{
	const struct group *each;
	for (unsigned i = 0; (each = group(i)); i++)
		while (rmdir(group_path(each, round)))
			if (errno != EBUSY)
				fail("remove a control group");
}

static void remove_beneath(const char *directory, const char *name)
{
	char path[400];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	if (rmdir(path) && unlink(path) && errno != ENOENT)
		fail(path);
}

static void cold(struct container *container, const char *scratch, int round)
{
	snprintf(container->directory, sizeof container->directory, "%s/floor-%d-%d", scratch, getpid(), round);
	snprintf(container->upper, sizeof container->upper, "%s/upper", container->directory);
	snprintf(container->work, sizeof container->work, "%s/work", container->directory);
	snprintf(container->merged, sizeof container->merged, "%s/merged", container->directory);
	must(mkdir(container->directory, 0755) | mkdir(container->upper, 0755) | mkdir(container->work, 0755) |
		     mkdir(container->merged, 0755), "make the directories");
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (container->full ? CLONE_NEWNET : 0);
	if (container->full)
		make_groups(round);
	pid_t pid = start(contained, container, flags);
	if (container->full)
		join_groups(round, pid);
	finish(pid);
	if (container->full)
		remove_groups(round);
	static const char *left[] = {"work/work/incompat/volatile/dirty", "work/work/incompat/volatile",
				     "work/work/incompat", "work/work", "work/index", "work", "upper", "merged", "."};
	for (unsigned i = 0; i + 1 < sizeof left / sizeof *left; i++)
		remove_beneath(container->directory, left[i]);
	must(rmdir(container->directory), "remove the directory");
}

struct entry {
	int target;
	char **command;
};

static int entered(void *argument)
{
	struct entry *entry = argument;
	must(setns(entry->target, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET), "enter the namespaces");
	execve(entry->command[0], entry->command, environ);
	fail("exec");
	return 1;
}

int main(int count, char **words)
{
	if (count < 4)
		return 2;
	const char *mode = words[1];
	int rounds = atoi(words[2]);
	struct container container = {.rootfs = words[3], .full = !strcmp(mode, "full")};
	char path[512];
	snprintf(path, sizeof path, "%s/bin/true", words[3]);
	char *true_path[] = {path, NULL}, *true_inside[] = {"/bin/true", NULL};
	struct entry entry = {.command = true_inside};
	int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	filter[filter_length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
	bisect(0, 512);

	if (!strcmp(mode, "exec") || !strcmp(mode, "enter")) {
		int enter = !strcmp(mode, "enter");
		entry.target = syscall(SYS_pidfd_open, atoi(words[enter ? 2 : 3]), 0);
		must(entry.target, "open the process");
		if (enter) {
			rounds = 1;
			entry.command = words + 3;
		}
	}
	for (int round = 0; round < rounds; round++) {
		long long began = nanoseconds();
		if (!strcmp(mode, "spawn")) {
			pid_t pid;
			if (posix_spawn(&pid, path, NULL, NULL, true_path, environ))
				fail("spawn");
			finish(pid);
		} else if (!strcmp(mode, "cold") || !strcmp(mode, "full")) {
			cold(&container, words[4], round);
		} else if (entry.target) {
			/* A pid namespace counts for children only: this process stays where it is. */
			must(setns(entry.target, CLONE_NEWPID), "enter the pid namespace");
			pid_t pid = start(entered, &entry, 0);
			must(setns(own, CLONE_NEWPID), "leave the pid namespace");
			finish(pid);
		} else {
			return 2;
		}
		if (strcmp(mode, "enter"))
			printf("%lld\n", nanoseconds() - began);
	}
	return 0;
}
