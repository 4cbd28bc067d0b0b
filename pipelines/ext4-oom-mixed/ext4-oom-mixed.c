// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * ext4-oom-mixed: hang ext4 by memory-cgroup OOM kills beside fio
 * (Red Hat Bugzilla 1911392)
 *
 * THE BUG
 *   A page-cache charge loses the caller's __GFP_NOFAIL (3.10.0-862.el7 and later,
 *   __add_to_page_cache_locked()). In a memory cgroup at its limit a victim of the OOM
 *   killer waits in fsync() for the journal, the journal for a task that has a handle
 *   open, and that task, in __getblk_slow(), for the victim's memory.
 *
 * WHAT THIS PROGRAM DOES
 *   In one memory cgroup it runs hogs, which touch private memory at a steady rate and
 *   never free it, and fio's that write at random to large files and sync them now and
 *   then. Outside the cgroup it runs more fio's on other files. Who was killed is started
 *   again. Mostly hogs are killed, because they are the largest; the hang needs a killed
 *   fio (or a hog whose page fault waits), so this takes long: the original setup hung
 *   once in 7 hours. The parent stays outside the cgroup, is locked in memory, and
 *   doesn't touch the filesystem under test while it counts.
 *
 * BUILD   gcc -O2 -Wall -Wextra -static -o ext4-oom-mixed ext4-oom-mixed.c
 *
 * RUN     as root, with DIR on the ext4 under test, on a machine that you may lose; it
 *         needs fio (3.x):
 *           ext4-oom-mixed --dir DIR --limit 128M --file-size 16M --duration 60
 *         Standard output has to be a pipe, a terminal, or a file elsewhere. On a
 *         recent kernel boot with cgroup.memory=nokmem.
 *
 * EXPECT  One line per second, and one at the end:
 *           hangproof: t=12.0 ops=1234 oom_kills=56 alive=9 fio_kills=2
 *           hangproof: done ops=N oom_kills=N longest_standstill=S.S
 *         ops counts KiB that the fio's say to have written (once a second each); alive
 *         counts processes that aren't reaped; fio_kills those of the kills that hit a
 *         fio. A kernel with the bug, if it hangs at all, stops counting ops for good and
 *         ends with
 *           hangproof: unreaped=N
 *         and exit status 2. If oom_kills stays at 0, nothing was tested.
 *
 * EXIT    0 all processes ended; 2 some could not be reaped; 64 wrong usage;
 *         1 anything else that went wrong here (not root, no memory controller, no fio,
 *         no space).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_OK = 0, EXIT_SETUP = 1, EXIT_STUCK = 2, EXIT_USAGE = 64 };
enum { PATH_LEN = 512 };

static struct {
	unsigned hogs, writers, outside, fsync_every;
	uint64_t limit, file_size, block_size, rate;
	double duration, reap_seconds;
	int cgroup_version; /* 0: whatever there is */
	const char *dir, *fio;
} opt = {
	.hogs = 3, .writers = 3, .outside = 3, .fsync_every = 16,
	/* The limit is reached in about 15 s. */
	.limit = 128 << 20, .file_size = 16 << 20, .block_size = 1 << 20, .rate = 3 << 20,
	.duration = 60, .reap_seconds = 5, .fio = "/usr/bin/fio",
};

enum kind { HOG, WRITER, OUTSIDE };

struct process {
	pid_t pid; /* 0: to be started */
	enum kind kind;
	unsigned number;
	int output;        /* fio's reports; -1: none */
	char line[2048];   /* the one that is being read */
	size_t length;
	uint64_t written;  /* KiB, as this fio last reported */
	double started;
};

static struct process *process;
static unsigned processes;
static struct cgroup {
	char path[PATH_LEN];
	int procs, events;
} cgroup;
static bool cgroup_made;
static uint64_t ops, fio_kills;
static char failure[128]; /* why the run is worthless */

static int cgroup_version;
static char cgroup_mount[PATH_LEN];
static bool mounted_cgroup, mounted_tmpfs, enabled_controller;
static char test_dir[PATH_LEN];
static uint64_t kills_seen;
static sigset_t handled;

/* ---- small things ---------------------------------------------------------------- */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct timespec timespec_of(double seconds)
{
	struct timespec t = { 0, 0 };

	if (seconds > 0) {
		t.tv_sec = (time_t)seconds;
		t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
	}
	return t;
}

/* Never blocks: a reader that is gone or asleep costs a line, not the run. */
static void say(int patience_ms, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void say(int patience_ms, const char *format, ...)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	char line[256];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (poll(&out, 1, patience_ms) == 1 && (out.revents & POLLOUT) &&
	    write(STDOUT_FILENO, line, (size_t)length) != length)
		return; /* nobody is left to be told */
}

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *format, ...)
{
	va_list args;

	fputs("ext4-oom-mixed: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static bool put(const char *dir, const char *name, const char *value)
{
	char path[PATH_LEN + 64];
	size_t length = strlen(value);
	ssize_t written;
	int fd, error;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	written = write(fd, value, length);
	error = errno;
	close(fd);
	errno = error;
	return written == (ssize_t)length;
}

/* Whether the file holds the word, for lists such as cgroup.controllers. */
static bool has_word(const char *dir, const char *name, const char *word)
{
	char path[PATH_LEN + 64], text[1024], *save, *w;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = 0;
	for (w = strtok_r(text, " \n,", &save); w; w = strtok_r(NULL, " \n,", &save))
		if (!strcmp(w, word))
			return true;
	return false;
}

/* ---- the processes under test ---------------------------------------------------- */

static _Noreturn void run_hog(void)
{
	const uint64_t step = opt.rate / 50 + 1;
	const struct timespec interval = timespec_of(0.02);

	for (;;) {
		unsigned char *m = mmap(NULL, step, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (m != MAP_FAILED)
			memset(m, 1, step); /* never freed */
		nanosleep(&interval, NULL);
	}
}

/* fio in one process: its jobs are threads, and it reports once a second. */
static _Noreturn void run_fio(const struct process *p)
{
	char name[64], file[PATH_LEN + 96], size[48], block[48], sync[48];
	char *environment[] = { "PATH=/usr/bin:/bin", NULL };

	snprintf(name, sizeof(name), "--name=%s%u", p->kind == WRITER ? "inside" : "outside",
		 p->number);
	snprintf(file, sizeof(file), "--filename=%s/%s", test_dir, name + 7);
	snprintf(size, sizeof(size), "--size=%" PRIu64, opt.file_size);
	snprintf(block, sizeof(block), "--bs=%" PRIu64, opt.block_size);
	snprintf(sync, sizeof(sync), "--fsync=%u", opt.fsync_every);
	char *arguments[] = { "fio", name, file, size, block, sync, "--rw=randwrite",
			      "--ioengine=psync", "--thread", "--time_based",
			      "--runtime=100000000", "--status-interval=1",
			      "--output-format=terse", "--terse-version=3", NULL };
	execve(opt.fio, arguments, environment);
	_exit(127);
}

static void start_process(struct process *p)
{
	pid_t parent = getpid(), pid;
	int output[2] = { -1, -1 };

	if (p->kind != HOG && pipe2(output, O_CLOEXEC | O_NONBLOCK))
		return; /* the next tick tries again */
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(EXIT_SETUP);
		setpgid(0, 0); /* the terminal's Ctrl-C is for the parent */
		sigprocmask(SIG_UNBLOCK, &handled, NULL);
		signal(SIGPIPE, SIG_DFL);
		if (p->kind != OUTSIDE && (!put("/proc/self", "oom_score_adj", "0") ||
					   write(cgroup.procs, "0", 1) != 1))
			_exit(126);
		if (p->kind == HOG)
			run_hog();
		if (dup2(output[1], STDOUT_FILENO) < 0)
			_exit(126);
		run_fio(p);
	}
	if (output[1] >= 0)
		close(output[1]);
	if (pid < 0) {
		if (output[0] >= 0)
			close(output[0]);
		return;
	}
	p->pid = pid;
	p->output = output[0];
	p->length = 0;
	p->written = 0;
	p->started = now();
}

/* Reads what a fio reported: field 47 of a terse line is KiB written since its start. */
static void read_reports(struct process *p)
{
	char *end, *field;
	ssize_t n;

	while (p->output >= 0 && (n = read(p->output, p->line + p->length,
					   sizeof(p->line) - 1 - p->length)) > 0) {
		p->length += (size_t)n;
		p->line[p->length] = 0;
		while ((end = strchr(p->line, '\n'))) {
			unsigned i;

			*end = 0;
			for (i = 1, field = p->line; i < 47 && field; i++)
				field = (field = strchr(field, ';')) ? field + 1 : NULL;
			if (field && !strncmp(p->line, "3;", 2)) {
				uint64_t written = strtoull(field, NULL, 10);

				if (written > p->written) {
					ops += written - p->written;
					p->written = written;
				}
			}
			p->length -= (size_t)(end + 1 - p->line);
			memmove(p->line, end + 1, p->length + 1);
		}
		if (p->length == sizeof(p->line) - 1)
			p->length = 0; /* no report is so long */
	}
}

/* A fio that ends by itself tells nothing, unless it does so at once and every time. */
static void note_end(struct process *p, int status)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		kills_seen++;
		fio_kills += p->kind != HOG;
	} else if (WIFEXITED(status) && (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127)) {
		snprintf(failure, sizeof(failure), WEXITSTATUS(status) == 127
			 ? "%.64s can't be run" : "can't join the memory cgroup%.0s", opt.fio);
	} else if (p->kind == OUTSIDE) {
		snprintf(failure, sizeof(failure), "a fio outside the cgroup ended by itself (%d)",
			 status);
	}
	if (p->output >= 0)
		close(p->output);
	p->output = -1;
	p->pid = 0;
}

/* Returns how many are still there. */
static unsigned reap(void)
{
	unsigned i, alive = 0;
	int status;
	pid_t pid;

	for (i = 0; i < processes; i++)
		read_reports(&process[i]);
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (i = 0; i < processes; i++)
			if (process[i].pid == pid)
				note_end(&process[i], status);
	for (i = 0; i < processes; i++)
		alive += process[i].pid != 0;
	return alive;
}

/* ---- memory cgroups -------------------------------------------------------------- */

/* Where a cgroup filesystem is mounted; v1 has to have the memory controller. */
static bool find_mount(int version, char *where)
{
	const char *want = version == 2 ? "cgroup2" : "cgroup";
	char line[2048], root[PATH_LEN], at[PATH_LEN], type[64], options[512], *rest;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		rest = strstr(line, " - ");
		if (!rest || sscanf(line, "%*s %*s %*s %511s %511s", root, at) != 2 ||
		    sscanf(rest, " - %63s %*s %511s", type, options) != 2 ||
		    strcmp(type, want))
			continue;
		if (version == 1) {
			char *save, *o = strtok_r(options, ",\n", &save);

			while (o && strcmp(o, "memory"))
				o = strtok_r(NULL, ",\n", &save);
			if (!o)
				continue;
		}
		strcpy(where, at);
		found = true;
	}
	if (f)
		fclose(f);
	return found;
}

static void unmount_cgroups(void)
{
	if (mounted_cgroup)
		umount2(cgroup_mount, MNT_DETACH);
	mounted_cgroup = false;
	if (mounted_tmpfs)
		umount2("/sys/fs/cgroup", MNT_DETACH);
	mounted_tmpfs = false;
}

static bool use_v2(void)
{
	if (!find_mount(2, cgroup_mount)) {
		strcpy(cgroup_mount, "/sys/fs/cgroup");
		if (access("/sys/fs/cgroup/memory", F_OK) == 0 ||
		    mount("cgroup2", cgroup_mount, "cgroup2", 0, NULL))
			return false;
		mounted_cgroup = true;
	}
	if (!has_word(cgroup_mount, "cgroup.controllers", "memory")) {
		unmount_cgroups();
		errno = ENODEV;
		return false;
	}
	if (!has_word(cgroup_mount, "cgroup.subtree_control", "memory")) {
		if (!put(cgroup_mount, "cgroup.subtree_control", "+memory")) {
			int error = errno;

			unmount_cgroups();
			errno = error;
			return false;
		}
		enabled_controller = true;
	}
	cgroup_version = 2;
	return true;
}

static bool use_v1(void)
{
	if (!find_mount(1, cgroup_mount)) {
		if (mkdir("/sys/fs/cgroup/memory", 0755) && errno != EEXIST) {
			if (mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=755"))
				return false;
			mounted_tmpfs = true;
			if (mkdir("/sys/fs/cgroup/memory", 0755))
				return false;
		}
		strcpy(cgroup_mount, "/sys/fs/cgroup/memory");
		if (mount("memory", cgroup_mount, "cgroup", 0, "memory")) {
			int error = errno;

			unmount_cgroups();
			errno = error;
			return false;
		}
		mounted_cgroup = true;
	}
	cgroup_version = 1;
	return true;
}

static bool make_cgroup(void)
{
	struct cgroup *c = &cgroup;
	char value[32], path[PATH_LEN + 64];

	snprintf(c->path, sizeof(c->path), "%.400s/ext4-oom-mixed.%d", cgroup_mount,
		 (int)getpid());
	if (mkdir(c->path, 0755)) {
		complain("can't make the cgroup %s: %s", c->path, strerror(errno));
		return false;
	}
	cgroup_made = true;
	snprintf(value, sizeof(value), "%" PRIu64, opt.limit);
	if (!put(c->path, cgroup_version == 2 ? "memory.max" : "memory.limit_in_bytes",
		 value)) {
		complain("can't limit the cgroup %s: %s", c->path, strerror(errno));
		return false;
	}
	/* No swap, where there is any: only a death shall make room. */
	if (cgroup_version == 2)
		put(c->path, "memory.swap.max", "0");
	else
		put(c->path, "memory.memsw.limit_in_bytes", value);

	snprintf(path, sizeof(path), "%s/cgroup.procs", c->path);
	c->procs = open(path, O_WRONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/%s", c->path,
		 cgroup_version == 2 ? "memory.events" : "memory.oom_control");
	c->events = open(path, O_RDONLY | O_CLOEXEC);
	if (c->procs < 0 || c->events < 0) {
		complain("can't open %s: %s", c->procs < 0 ? "cgroup.procs" : path,
			 strerror(errno));
		return false;
	}
	return true;
}

static bool make_cgroups(void)
{
	int v2_error = 0;

	if (opt.cgroup_version != 1 && !use_v2())
		v2_error = errno;
	if (!cgroup_version && (opt.cgroup_version == 2 || !use_v1())) {
		complain("no memory controller: version 2: %s; version 1: %s; "
			 "see /proc/cgroups and mount one at /sys/fs/cgroup",
			 opt.cgroup_version == 1 ? "not wanted" : strerror(v2_error),
			 opt.cgroup_version == 2 ? "not wanted" : strerror(errno));
		return false;
	}
	return make_cgroup();
}

static uint64_t oom_kills(void)
{
	char text[512], *at;
	ssize_t n = pread(cgroup.events, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = 0;
	at = strstr(text, "\noom_kill ");
	return at ? strtoull(at + 10, NULL, 10) : kills_seen; /* version 1 before Linux 4.13 */
}

static void remove_cgroups(void)
{
	unsigned tries;

	for (tries = 0; cgroup_made && rmdir(cgroup.path) && errno == EBUSY && tries < 50; tries++)
		usleep(20000);
	if (enabled_controller)
		put(cgroup_mount, "cgroup.subtree_control", "-memory");
	unmount_cgroups();
}

/* ---- files ----------------------------------------------------------------------- */

static bool make_files(void)
{
	double need = (double)(opt.writers + opt.outside) * (double)opt.file_size;
	struct statvfs space;
	struct stat here, out;
	int fd;

	if (stat(opt.dir, &here) || !S_ISDIR(here.st_mode)) {
		complain("--dir %s: not a directory", opt.dir);
		return false;
	}
	for (fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
		if (!fstat(fd, &out) && S_ISREG(out.st_mode) && out.st_dev == here.st_dev) {
			complain("standard output or error is a file on the filesystem under "
				 "test and would hang with it; use a pipe or another filesystem");
			return false;
		}
	if (!statvfs(opt.dir, &space) && need * 1.1 > (double)space.f_bavail * space.f_frsize) {
		complain("--dir %s: needs %.0f MiB free; lower --file-size",
			 opt.dir, need * 1.1 / 1048576);
		return false;
	}
	snprintf(test_dir, sizeof(test_dir), "%.400s/ext4-oom-mixed.%d", opt.dir, (int)getpid());
	if (mkdir(test_dir, 0700)) {
		complain("can't make %s: %s", test_dir, strerror(errno));
		test_dir[0] = 0;
		return false;
	}
	return true;
}

/* In a process of its own, because the filesystem may not answer. */
static void remove_files(void)
{
	double deadline = now() + 10;
	pid_t pid;

	if (!test_dir[0])
		return;
	pid = fork();
	if (pid == 0) {
		unsigned i;
		char path[PATH_LEN + 64];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (i = 0; i < processes; i++) {
			snprintf(path, sizeof(path), "%s/%s%u", test_dir,
				 process[i].kind == WRITER ? "inside" : "outside",
				 process[i].number);
			unlink(path);
		}
		_exit(rmdir(test_dir) ? EXIT_SETUP : EXIT_OK);
	}
	while (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0) {
		if (now() > deadline) {
			complain("could not remove %s: the filesystem doesn't answer", test_dir);
			kill(pid, SIGKILL);
			return;
		}
		usleep(20000);
	}
}

/* ---- the parent ------------------------------------------------------------------ */

/* Returns false if a process met an error that makes the run worthless. */
static bool supervise(void)
{
	const double start = now(), end = start + opt.duration, tick = 0.05;
	double next_line = start + 1, last_change = start, longest = 0, t;
	double resumed = start - 2;
	uint64_t last_ops = 0;
	unsigned i, alive;
	bool stop = false, over;

	for (;;) {
		struct timespec pause = timespec_of(tick);
		int signal;

		alive = reap();
		t = now();
		if (ops != last_ops) {
			last_ops = ops;
			if (t - last_change >= 2)
				resumed = t;
			last_change = t;
		} else if (t - last_change > longest) {
			longest = t - last_change;
		}
		if (t >= next_line) {
			say(0, "hangproof: t=%.1f ops=%" PRIu64 " oom_kills=%" PRIu64
			    " alive=%u fio_kills=%" PRIu64 "\n", t - start, ops, oom_kills(),
			    alive, fio_kills);
			while (next_line <= t)
				next_line += 1;
		}
		/*
		 * Not while nothing moves: killing the processes frees the memory that
		 * the others wait for, and would end the very hang. And not before it is
		 * seen that things go on after a standstill.
		 */
		over = t >= end && ((t - last_change < 2 && t - resumed >= 2) ||
				   t >= end + opt.reap_seconds);
		if (stop || over || failure[0])
			break;
		for (i = 0; i < processes; i++)
			if (!process[i].pid && t - process[i].started > 0.2)
				start_process(&process[i]);
		signal = sigtimedwait(&handled, NULL, &pause);
		stop = signal > 0 && signal != SIGCHLD;
	}
	say(2000, "hangproof: done ops=%" PRIu64 " oom_kills=%" PRIu64
	    " longest_standstill=%.1f\n", ops, oom_kills(), longest);
	complain("cgroup version %d, %" PRIu64 " kills hit a fio", cgroup_version, fio_kills);
	if (failure[0])
		complain("%s", failure);
	return !failure[0];
}

/* SIGKILL doesn't end a process in uninterruptible sleep, so the wait has an end. */
static unsigned kill_all(void)
{
	double deadline = now() + opt.reap_seconds;
	unsigned i, alive;

	for (i = 0; i < processes; i++)
		if (process[i].pid)
			kill(process[i].pid, SIGKILL);
	while ((alive = reap()) && now() < deadline)
		usleep(20000);
	if (alive)
		say(2000, "hangproof: unreaped=%u\n", alive);
	return alive;
}

static int run(void)
{
	bool good;
	unsigned alive, i;

	process = calloc(processes, sizeof(*process));
	if (!process) {
		complain("out of memory");
		return EXIT_SETUP;
	}
	for (i = 0; i < processes; i++) {
		struct process *p = &process[i];

		p->output = -1;
		p->kind = i < opt.hogs ? HOG : i < opt.hogs + opt.writers ? WRITER : OUTSIDE;
		p->number = p->kind == WRITER ? i - opt.hogs : i - (p->kind == OUTSIDE) *
			    (opt.hogs + opt.writers);
	}

	if (!put("/proc/self", "oom_score_adj", "-1000")) {
		complain("can't set /proc/self/oom_score_adj: %s; this needs /proc and "
			 "CAP_SYS_RESOURCE", strerror(errno));
		return EXIT_SETUP;
	}
	/* The program itself may lie on the filesystem under test. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE)) {
		complain("mlockall: %s", strerror(errno));
		return EXIT_SETUP;
	}
	good = make_files() && make_cgroups() && supervise();
	alive = kill_all();
	if (alive) {
		/* Neither the cgroups nor the files can go while they are in use. */
		complain("%u processes don't die of SIGKILL; left behind: %s and %s/ext4-oom-mixed.%d",
			 alive, test_dir, cgroup_mount, (int)getpid());
	} else {
		remove_cgroups();
		remove_files();
	}
	return !good ? EXIT_SETUP : alive ? EXIT_STUCK : EXIT_OK;
}

/* ---- the command line ------------------------------------------------------------ */

static void usage(FILE *to)
{
	fputs("usage: ext4-oom-mixed --dir DIR [options]      (as root; it may hang DIR's filesystem)\n"
	      "  --dir DIR               a directory on the filesystem under test\n"
	      "  --hogs N                processes that allocate, in the cgroup (3)\n"
	      "  --writers N             fio's in the cgroup (3)\n"
	      "  --outside N             fio's outside (3)\n"
	      "  --limit BYTES           the cgroup's limit (128M)\n"
	      "  --rate BYTES            what a hog allocates in a second (3M)\n"
	      "  --file-size BYTES       each fio's file (16M)\n"
	      "  --block-size BYTES      of a write (1M)\n"
	      "  --fsync-every N         writes (16)\n"
	      "  --fio PROGRAM           (/usr/bin/fio)\n"
	      "  --duration SECONDS      (60)\n"
	      "  --cgroup-version V      auto, 1 or 2 (auto)\n"
	      "  --reap-seconds S        how long to wait for killed processes (5)\n"
	      "BYTES may end in K, M or G. The source's first comment says what to expect.\n", to);
}

static _Noreturn void bad_usage(const char *option, const char *value, const char *want)
{
	complain("--%s %s: expected %s", option, value, want);
	exit(EXIT_USAGE);
}

static uint64_t bytes(const char *option, const char *text)
{
	uint64_t n, unit = 1;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*end == 'K' || *end == 'k')
		unit = 1 << 10;
	else if (*end == 'M' || *end == 'm')
		unit = 1 << 20;
	else if (*end == 'G' || *end == 'g')
		unit = 1 << 30;
	if (unit > 1)
		end++;
	if (errno || *text < '0' || *text > '9' || *end || !n || n > UINT64_C(1) << 50 ||
	    n * unit > UINT64_C(1) << 50)
		bad_usage(option, text, "a number of bytes, such as 131072, 128K or 24M");
	return n * unit;
}

static unsigned count(const char *option, const char *text, unsigned max)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || *text < '0' || *text > '9' || *end || !n || n > max) {
		char want[64];

		snprintf(want, sizeof(want), "a whole number from 1 to %u", max);
		bad_usage(option, text, want);
	}
	return (unsigned)n;
}

static double seconds(const char *option, const char *text)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end || !(n > 0) || n > 1e8)
		bad_usage(option, text, "seconds, such as 40 or 2.5");
	return n;
}

static void parse(int argc, char **argv)
{
	enum { DIR_ = 1, HOGS, WRITERS, OUTSIDES, LIMIT, RATE, FILE_SIZE, BLOCK, SYNC, FIO,
	       DURATION, VERSION, REAP, HELP };
	static const struct option known[] = {
		{ "dir", required_argument, NULL, DIR_ },
		{ "hogs", required_argument, NULL, HOGS },
		{ "writers", required_argument, NULL, WRITERS },
		{ "outside", required_argument, NULL, OUTSIDES },
		{ "limit", required_argument, NULL, LIMIT },
		{ "rate", required_argument, NULL, RATE },
		{ "file-size", required_argument, NULL, FILE_SIZE },
		{ "block-size", required_argument, NULL, BLOCK },
		{ "fsync-every", required_argument, NULL, SYNC },
		{ "fio", required_argument, NULL, FIO },
		{ "duration", required_argument, NULL, DURATION },
		{ "cgroup-version", required_argument, NULL, VERSION },
		{ "reap-seconds", required_argument, NULL, REAP },
		{ "help", no_argument, NULL, HELP },
		{ NULL, 0, NULL, 0 },
	};
	int c, index;

	while ((c = getopt_long(argc, argv, "", known, &index)) != -1) {
		const char *name = c == '?' ? "" : known[index].name;

		switch (c) {
		case DIR_: opt.dir = optarg; break;
		case HOGS: opt.hogs = count(name, optarg, 64); break;
		case WRITERS: opt.writers = count(name, optarg, 64); break;
		case OUTSIDES: opt.outside = count(name, optarg, 64); break;
		case LIMIT: opt.limit = bytes(name, optarg); break;
		case RATE: opt.rate = bytes(name, optarg); break;
		case FILE_SIZE: opt.file_size = bytes(name, optarg); break;
		case BLOCK: opt.block_size = bytes(name, optarg); break;
		case SYNC: opt.fsync_every = count(name, optarg, 1000000); break;
		case FIO: opt.fio = optarg; break;
		case DURATION: opt.duration = seconds(name, optarg); break;
		case REAP: opt.reap_seconds = seconds(name, optarg); break;
		case VERSION:
			if (!strcmp(optarg, "auto"))
				opt.cgroup_version = 0;
			else if (!strcmp(optarg, "1") || !strcmp(optarg, "2"))
				opt.cgroup_version = *optarg - '0';
			else
				bad_usage(name, optarg, "auto, 1 or 2");
			break;
		case HELP: usage(stdout); exit(EXIT_OK);
		default: usage(stderr); exit(EXIT_USAGE);
		}
	}
	if (optind < argc) {
		complain("unexpected argument: %s", argv[optind]);
		exit(EXIT_USAGE);
	}
	if (!opt.dir) {
		complain("--dir is missing: name a directory on the filesystem under test");
		exit(EXIT_USAGE);
	}
	processes = opt.hogs + opt.writers + opt.outside;
	if (opt.block_size > opt.file_size) {
		complain("--block-size is above --file-size: fio would write nothing");
		exit(EXIT_USAGE);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	if (geteuid()) {
		complain("must run as root: it makes memory cgroups");
		return EXIT_SETUP;
	}
	/* Taken by sigtimedwait(), so that nothing here runs in a handler. */
	sigemptyset(&handled);
	sigaddset(&handled, SIGCHLD);
	sigaddset(&handled, SIGTERM);
	sigaddset(&handled, SIGINT);
	sigaddset(&handled, SIGHUP);
	sigprocmask(SIG_BLOCK, &handled, NULL);
	signal(SIGPIPE, SIG_IGN);
	return run();
}
