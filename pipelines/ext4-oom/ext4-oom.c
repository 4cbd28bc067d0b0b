// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * ext4-oom: hang ext4 by memory-cgroup OOM kills (Red Hat Bugzilla 1911392)
 *
 * THE BUG
 *   A page-cache charge loses the caller's __GFP_NOFAIL, because the gfp mask is
 *   constrained by the mapping's (3.10.0-862.el7 and later,
 *   __add_to_page_cache_locked()). In a memory cgroup at its limit this happens:
 *
 *     A  was chosen by the OOM killer while in fsync(). It sleeps uninterruptibly
 *        in jbd2_log_wait_commit(), so it can't die and its memory stays charged.
 *     J  the jbd2 thread waits in jbd2_journal_commit_transaction() until every
 *        handle on the transaction is closed.
 *     B  has one open (it creates a file, say) and needs a buffer of the block
 *        device. The page's charge fails, and __getblk_slow() tries again, for ever,
 *        because only A's death would make room.
 *
 *   A waits for J, J for B, B for A. (A and B can be one task: a victim that was
 *   killed in __getblk_slow() never leaves it.) Then everybody who starts a
 *   transaction waits too, and the whole filesystem has stopped.
 *
 * WHAT THIS PROGRAM DOES
 *   It makes some memory cgroups and runs processes in each. A process has two
 *   threads: one touches a megabyte more of private memory every 20 ms and never
 *   frees it, the other makes a file (unlinking the one that had its name), writes it,
 *   calls fsync(), closes it and starts over. So every cgroup is soon at its limit,
 *   and the victims are killed in fsync(). A process that was killed is started again.
 *   The parent stays outside the cgroups, is locked in memory, and doesn't touch the
 *   filesystem under test while it counts.
 *
 * BUILD   gcc -O2 -Wall -Wextra -static -pthread -o ext4-oom ext4-oom.c
 *
 * RUN     as root, with DIR on the ext4 under test, on a machine that you may lose:
 *           ext4-oom --dir DIR --cgroups 4 --processes 2 --limit 24M --duration 60
 *         Standard output has to be a pipe, a terminal, or a file elsewhere. On a
 *         recent kernel boot with cgroup.memory=nokmem; the journal's own
 *         allocations then don't fill the cgroups.
 *
 * EXPECT  One line per second, and one at the end:
 *           hangproof: t=12.0 ops=1234 oom_kills=56 alive=8
 *           hangproof: done ops=N oom_kills=N longest_standstill=S.S
 *         ops counts files that were written and synced; alive counts processes that
 *         aren't reaped. A kernel with the bug stops counting ops for good, within
 *         seconds, and ends with
 *           hangproof: unreaped=N
 *         and exit status 2, since not even SIGKILL ends those processes. A kernel
 *         without it goes on: ops and oom_kills both grow. If oom_kills stays at 0,
 *         nothing was tested. A standstill alone isn't the bug: with eight processes in
 *         24 MB a healthy kernel was seen to take a minute to get through one, and
 *         then all its processes can be reaped. Two in 24 MB tell the kernels apart.
 *
 * EXIT    0 all processes ended; 2 some could not be reaped; 64 wrong usage;
 *         1 anything else that went wrong here (not root, no memory controller, no
 *         space, an I/O error).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
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
enum { PATH_LEN = 512, CHUNK = 64 * 1024, MAX_CGROUPS = 1024, MAX_PROCESSES = 65536 };

static struct {
	unsigned cgroups, processes, files;
	uint64_t limit, file_size, alloc_step, alloc_interval_ms;
	double duration, reap_seconds;
	int cgroup_version; /* 0: whatever there is */
	bool rewrite;       /* keep the files, instead of making a new one each time */
	const char *dir;
} opt = {
	.cgroups = 4, .processes = 2, .files = 16,
	.limit = 24 << 20, .file_size = 2 * CHUNK,
	.alloc_step = 1 << 20, .alloc_interval_ms = 20,
	.duration = 60, .reap_seconds = 5,
};

/* What the processes tell the parent: anonymous, and charged to the parent's cgroup. */
static struct shared {
	_Atomic uint64_t ops;          /* files written and synced */
	_Atomic uint64_t soft_errors;  /* system calls refused for want of memory */
	_Atomic int fatal_errno;       /* the first error that makes the run worthless */
	char fatal_what[64];
	_Atomic uint64_t next_file[];  /* per process, so that a successor reuses the names */
} *shared;

struct process {
	pid_t pid; /* 0: to be started */
	unsigned cgroup;
	int dir;   /* its own directory on the filesystem under test */
};

static struct process *process;
static unsigned processes;
static struct cgroup {
	char path[PATH_LEN];
	int procs, events;
} *cgroup;
static unsigned cgroups_made;

static int cgroup_version;
static char cgroup_mount[PATH_LEN];
static bool mounted_cgroup, mounted_tmpfs, enabled_controller;
static char test_dir[PATH_LEN];
static uint64_t kills_seen;
static sigset_t handled;
static unsigned char chunk[CHUNK];

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

	fputs("ext4-oom: ", stderr);
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

static _Noreturn void fatal_in_process(const char *what)
{
	int none = 0, error = errno ? errno : EINVAL;

	if (!atomic_load(&shared->fatal_errno)) {
		snprintf(shared->fatal_what, sizeof(shared->fatal_what), "%s", what);
		atomic_compare_exchange_strong(&shared->fatal_errno, &none, error);
	}
	_exit(EXIT_SETUP);
}

/* A cgroup at its limit makes system calls fail like this; that is no news. */
static bool is_soft(int error)
{
	return error == ENOMEM || error == EFAULT || error == EINTR || error == EAGAIN;
}

static void *allocate(void *unused)
{
	const struct timespec interval = timespec_of(opt.alloc_interval_ms / 1e3);

	(void)unused;
	for (;;) {
		unsigned char *m = mmap(NULL, opt.alloc_step, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (m != MAP_FAILED)
			memset(m, 1, opt.alloc_step); /* never freed */
		nanosleep(&interval, NULL);
	}
	return NULL;
}

/* One operation. Says what failed, or NULL; errno tells why. */
static const char *write_one_file(int dir, const char *name)
{
	uint64_t left = opt.file_size;
	const char *failed = NULL;
	int fd, error;

	if (!opt.rewrite && unlinkat(dir, name, 0) && errno != ENOENT)
		return "unlink";
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return "open";
	while (left && !failed) {
		size_t want = left < CHUNK ? (size_t)left : CHUNK;
		ssize_t n = write(fd, chunk, want);

		if (n < 0)
			failed = "write";
		else
			left -= (uint64_t)n;
	}
	if (!failed && fsync(fd))
		failed = "fsync";
	error = errno;
	close(fd);
	errno = error;
	return failed;
}

static _Noreturn void run_process(unsigned index, pid_t parent)
{
	const struct process *p = &process[index];
	const struct timespec pause = { 0, 1000000 };
	pthread_attr_t attr;
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_SETUP);
	setpgid(0, 0); /* the terminal's Ctrl-C is for the parent */
	sigprocmask(SIG_UNBLOCK, &handled, NULL);
	if (!put("/proc/self", "oom_score_adj", "0"))
		fatal_in_process("can't reset oom_score_adj");
	if (write(cgroup[p->cgroup].procs, "0", 1) != 1)
		fatal_in_process("can't join the memory cgroup");

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	if (pthread_create(&thread, &attr, allocate, NULL))
		_exit(EXIT_SETUP); /* at the limit already: the parent starts another one */

	for (;;) {
		uint64_t n = atomic_fetch_add(&shared->next_file[index], 1);
		const char *failed;
		char name[32];

		snprintf(name, sizeof(name), "%" PRIu64, n % opt.files);
		failed = write_one_file(p->dir, name);
		if (!failed) {
			atomic_fetch_add(&shared->ops, 1);
		} else if (is_soft(errno)) {
			atomic_fetch_add(&shared->soft_errors, 1);
			nanosleep(&pause, NULL);
		} else {
			fatal_in_process(failed);
		}
	}
}

static void start_process(unsigned index)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0)
		run_process(index, parent);
	if (pid > 0)
		process[index].pid = pid; /* if not, the next tick tries again */
}

/* Returns how many are still there. */
static unsigned reap(void)
{
	unsigned i, alive = 0;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (i = 0; i < processes; i++)
			if (process[i].pid == pid) {
				process[i].pid = 0;
				if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
					kills_seen++;
			}
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

static bool make_cgroup(unsigned index)
{
	struct cgroup *c = &cgroup[index];
	char value[32], path[PATH_LEN + 64];

	snprintf(c->path, sizeof(c->path), "%.400s/ext4-oom.%d.%u", cgroup_mount,
		 (int)getpid(), index);
	if (mkdir(c->path, 0755)) {
		complain("can't make the cgroup %s: %s", c->path, strerror(errno));
		return false;
	}
	cgroups_made = index + 1;
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
	unsigned i;
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
	for (i = 0; i < opt.cgroups; i++)
		if (!make_cgroup(i))
			return false;
	return true;
}

static uint64_t oom_kills(void)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < opt.cgroups; i++) {
		char text[512], *at;
		ssize_t n = pread(cgroup[i].events, text, sizeof(text) - 1, 0);

		text[n < 0 ? 0 : n] = 0;
		at = strstr(text, "\noom_kill ");
		if (!at)
			return kills_seen; /* version 1 before Linux 4.13 */
		sum += strtoull(at + 10, NULL, 10);
	}
	return sum;
}

static void remove_cgroups(void)
{
	unsigned i, tries;

	for (i = 0; i < cgroups_made; i++)
		for (tries = 0; rmdir(cgroup[i].path) && errno == EBUSY && tries < 50; tries++)
			usleep(20000);
	if (enabled_controller)
		put(cgroup_mount, "cgroup.subtree_control", "-memory");
	unmount_cgroups();
}

/* ---- files ----------------------------------------------------------------------- */

static bool make_files(void)
{
	double need = (double)processes * opt.files * (double)opt.file_size;
	struct statvfs space;
	struct stat here, out;
	unsigned i;
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
		complain("--dir %s: needs %.0f MiB free; lower --files or --processes",
			 opt.dir, need * 1.1 / 1048576);
		return false;
	}
	snprintf(test_dir, sizeof(test_dir), "%.400s/ext4-oom.%d", opt.dir, (int)getpid());
	if (mkdir(test_dir, 0700)) {
		complain("can't make %s: %s", test_dir, strerror(errno));
		test_dir[0] = 0;
		return false;
	}
	for (i = 0; i < processes; i++) {
		char path[PATH_LEN + 32];

		snprintf(path, sizeof(path), "%s/%u", test_dir, i);
		if (mkdir(path, 0700) ||
		    (process[i].dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
			complain("can't make %s: %s", path, strerror(errno));
			return false;
		}
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
		unsigned i, f;
		char path[PATH_LEN + 64];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (i = 0; i < processes; i++) {
			for (f = 0; f < opt.files; f++) {
				snprintf(path, sizeof(path), "%s/%u/%u", test_dir, i, f);
				unlink(path);
			}
			snprintf(path, sizeof(path), "%s/%u", test_dir, i);
			rmdir(path);
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
	uint64_t last_ops = 0, ops;
	unsigned i, alive;
	bool stop = false, over;

	for (;;) {
		struct timespec pause = timespec_of(tick);
		int signal;

		alive = reap();
		t = now();
		ops = atomic_load(&shared->ops);
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
			    " alive=%u\n", t - start, ops, oom_kills(), alive);
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
		if (stop || over || atomic_load(&shared->fatal_errno))
			break;
		for (i = 0; i < processes; i++)
			if (!process[i].pid)
				start_process(i);
		signal = sigtimedwait(&handled, NULL, &pause);
		stop = signal > 0 && signal != SIGCHLD;
	}
	say(2000, "hangproof: done ops=%" PRIu64 " oom_kills=%" PRIu64
	    " longest_standstill=%.1f\n", ops, oom_kills(), longest);
	complain("cgroup version %d, %" PRIu64 " system calls refused for want of memory",
		 cgroup_version, atomic_load(&shared->soft_errors));
	if (atomic_load(&shared->fatal_errno)) {
		complain("%s: %s", shared->fatal_what, strerror(shared->fatal_errno));
		return false;
	}
	return true;
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
	const size_t size = sizeof(*shared) + processes * sizeof(shared->next_file[0]);
	bool good;
	unsigned alive, i;

	process = calloc(processes, sizeof(*process));
	cgroup = calloc(opt.cgroups, sizeof(*cgroup));
	shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!process || !cgroup || shared == MAP_FAILED) {
		complain("out of memory");
		return EXIT_SETUP;
	}
	memset(chunk, 0xa5, sizeof(chunk));
	for (i = 0; i < processes; i++)
		process[i].cgroup = i % opt.cgroups;

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
		complain("%u processes don't die of SIGKILL; left behind: %s and %s/ext4-oom.%d.*",
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
	fputs("usage: ext4-oom --dir DIR [options]      (as root; it may hang DIR's filesystem)\n"
	      "  --dir DIR               a directory on the filesystem under test\n"
	      "  --cgroups N             memory cgroups (4)\n"
	      "  --processes N           processes in each (2)\n"
	      "  --limit BYTES           each cgroup's limit (24M)\n"
	      "  --duration SECONDS      (60)\n"
	      "  --alloc-step BYTES      memory that a process takes at a time (1M)\n"
	      "  --alloc-interval-ms N   and how often (20)\n"
	      "  --alloc-rate BYTES      bytes per second, instead of --alloc-step\n"
	      "  --file-size BYTES       written in chunks of 64K, then synced (128K)\n"
	      "  --files N               names that a process uses in turn (16)\n"
	      "  --rewrite               keep the files and write them again, instead of making\n"
	      "                          a new one each time: hangs later, and not always\n"
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
	enum { DIR_ = 1, CGROUPS, PROCESSES, LIMIT, DURATION, STEP, INTERVAL, RATE, FILE_SIZE,
	       FILES, REWRITE, VERSION, REAP, HELP };
	static const struct option known[] = {
		{ "dir", required_argument, NULL, DIR_ },
		{ "cgroups", required_argument, NULL, CGROUPS },
		{ "processes", required_argument, NULL, PROCESSES },
		{ "limit", required_argument, NULL, LIMIT },
		{ "duration", required_argument, NULL, DURATION },
		{ "alloc-step", required_argument, NULL, STEP },
		{ "alloc-interval-ms", required_argument, NULL, INTERVAL },
		{ "alloc-rate", required_argument, NULL, RATE },
		{ "file-size", required_argument, NULL, FILE_SIZE },
		{ "files", required_argument, NULL, FILES },
		{ "rewrite", no_argument, NULL, REWRITE },
		{ "cgroup-version", required_argument, NULL, VERSION },
		{ "reap-seconds", required_argument, NULL, REAP },
		{ "help", no_argument, NULL, HELP },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t rate = 0;
	bool step = false;
	int c, index;

	while ((c = getopt_long(argc, argv, "", known, &index)) != -1) {
		const char *name = c == '?' ? "" : known[index].name;

		switch (c) {
		case DIR_: opt.dir = optarg; break;
		case CGROUPS: opt.cgroups = count(name, optarg, MAX_CGROUPS); break;
		case PROCESSES: opt.processes = count(name, optarg, 4096); break;
		case LIMIT: opt.limit = bytes(name, optarg); break;
		case DURATION: opt.duration = seconds(name, optarg); break;
		case STEP: opt.alloc_step = bytes(name, optarg); step = true; break;
		case INTERVAL: opt.alloc_interval_ms = count(name, optarg, 3600000); break;
		case RATE: rate = bytes(name, optarg); break;
		case FILE_SIZE: opt.file_size = bytes(name, optarg); break;
		case FILES: opt.files = count(name, optarg, 1000000); break;
		case REWRITE: opt.rewrite = true; break;
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
	if (rate && step) {
		complain("--alloc-rate and --alloc-step exclude each other");
		exit(EXIT_USAGE);
	}
	if (rate)
		opt.alloc_step = (rate * opt.alloc_interval_ms + 999) / 1000;
	processes = opt.cgroups * opt.processes;
	if (processes > MAX_PROCESSES) {
		complain("%u processes are too many: at most %d", processes, MAX_PROCESSES);
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
