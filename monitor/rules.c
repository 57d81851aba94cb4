/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One step at a time: read a family's rules back (save tool), compare, write
 * the difference (restore tool), read back again; three attempts, then the
 * rules are "degraded" until something changes.  IPv4 first, then IPv6.  A new
 * wish restarts the sequence after the running tool has ended.
 *
 * nf_tables number their changes, so that to know whether what was read is
 * still true costs one small request; only if anything changed are the rules
 * read again.  Legacy tables say nothing: what was read is believed for
 * BELIEF_MS.  If somebody else changed our rules, packets passed unseen until
 * they stand again.
 *
 * A tool is run by absolute path, with fixed arguments, an empty environment,
 * standard input and output on memory files, and dies with us.  It has
 * TOOL_MS; then it is killed, which counts as a failed attempt.
 *
 * The legacy tools exclude each other by a lock on a file that is root's.  It
 * is opened while we may; for each run of a tool its child takes the lock, on
 * the description that it shares with us, and we give it back.  The tool itself
 * is shown its own standard input as the file to lock.
 */
#include "monitor/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "monitor/nfnl.h"

#define TOOL_MS      2500
#define TOOL_PATH    64
#define TRIES        3
#define REPAIR_MS    60000
#define BELIEF_MS    100
#define WATCH_MS     1000 /* from one reading to the next, unless asked */
#define RETRY_MS     5000
#define SAVE_BYTES   (16 << 20)
#define REASON_BYTES 160
#define LOCK_PATH    "/run/xtables.lock" /* as in iptables(8) */
#define LOCK_TRIES   200
#define LOCK_STEP_NS 10000000

enum rules_step {
	STEP_IDLE,
	STEP_SAVE,
	STEP_RESTORE
};

struct rules {
	struct loop *loop;
	const struct ruleset_names *names;
	const struct rules_tools *tools;
	int netlink_fd;
	void (*done)(void *arg);
	void *arg;

	struct ruleset want;
	bool again;    /* want changed while a tool ran */
	bool check;    /* this sequence is one: nothing should change */
	bool checking; /* and nothing was repaired so far */
	bool found;    /* but something should be */
	bool meddled;  /* as of the last one */
	bool hole;     /* somebody else changed our rules, they do not stand */
	bool mended;   /* they did not, and stand again */
	uint64_t repaired_ms, rested_ms;

	enum rules_step step;
	enum ruleset_family family;
	uint32_t tries;
	bool known[RULESET_FAMILIES]; /* seen is what the kernel has */
	bool ours[RULESET_FAMILIES];  /* we wrote nothing since seen */
	bool failed[RULESET_FAMILIES];
	struct ruleset_seen seen[RULESET_FAMILIES], before;
	uint32_t generation[RULESET_FAMILIES]; /* of nf_tables, when seen */
	uint64_t seen_ms[RULESET_FAMILIES];
	char reason[REASON_BYTES];

	int lock_fd; /* -1: the tools need none */
	pid_t pid;
	int out_fd, err_fd; /* memory files of the running tool */
	struct loop_timer timeout;
};

/* Tools */

static const struct rules_tools candidates[] = {
	{
		.save = { "/usr/sbin/iptables-nft-save",
			  "/usr/sbin/ip6tables-nft-save" },
		.restore = { "/usr/sbin/iptables-nft-restore",
			     "/usr/sbin/ip6tables-nft-restore" },
	},
	{
		.save = { "/sbin/iptables-nft-save",
			  "/sbin/ip6tables-nft-save" },
		.restore = { "/sbin/iptables-nft-restore",
			     "/sbin/ip6tables-nft-restore" },
	},
	{
		.legacy = true,
		.save = { "/usr/sbin/iptables-legacy-save",
			  "/usr/sbin/ip6tables-legacy-save" },
		.restore = { "/usr/sbin/iptables-legacy-restore",
			     "/usr/sbin/ip6tables-legacy-restore" },
	},
	{
		.legacy = true,
		.save = { "/sbin/iptables-legacy-save",
			  "/sbin/ip6tables-legacy-save" },
		.restore = { "/sbin/iptables-legacy-restore",
			     "/sbin/ip6tables-legacy-restore" },
	},
};

static bool executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	       access(path, X_OK) == 0;
}

int rules_find_tools(struct rules_tools *t, bool kernel_has_tables)
{
	for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
		const struct rules_tools *c = &candidates[i];
		bool usable = c->legacy || kernel_has_tables;

		for (int f = 0; f < RULESET_FAMILIES; f++)
			usable = usable && executable(c->save[f]) &&
				 executable(c->restore[f]);
		if (usable) {
			*t = *c;
			return 0;
		}
	}
	return -ENOENT;
}

/* In the child: false if others hold the lock for too long. */
static bool tool_lock(int lock_fd)
{
	const struct timespec step = { .tv_nsec = LOCK_STEP_NS };

	for (int i = 0; lock_fd >= 0 && flock(lock_fd, LOCK_EX | LOCK_NB);
	     i++) {
		if (i == LOCK_TRIES)
			return false;
		nanosleep(&step, NULL);
	}
	return true;
}

/* In the child; never returns. */
__attribute__((noreturn)) static void tool_exec(pid_t parent, int lock_fd,
						const char *path,
						char *const argv[],
						const int fd[3])
{
	static const char held[] = "others hold the lock of the rules";
	char lock[] = "XTABLES_LOCKFILE=/proc/self/fd/0";
	char *const env[] = { lock, NULL };
	char *const none[] = { NULL };
	sigset_t empty;

	sigemptyset(&empty);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(EXIT_MECHANISM);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &empty, NULL);
	for (int i = 0; i < 3; i++) {
		if (dup2(fd[i], i) < 0)
			_exit(EXIT_MECHANISM);
	}
	if (!tool_lock(lock_fd)) {
		(void)!write(STDERR_FILENO, held, sizeof(held) - 1);
		_exit(EXIT_BUSY);
	}
	close_range(3, ~0u, 0);
	execve(path, argv, lock_fd >= 0 ? env : none);
	_exit(EXIT_MECHANISM);
}

static int tool_file(const void *data, size_t len)
{
	int fd = memfd_create("linnet-rules", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	/* a memory file takes it whole, or there is no memory */
	if (write(fd, data, len) != (ssize_t)len ||
	    lseek(fd, 0, SEEK_SET) != 0) {
		close(fd);
		return -ENOMEM;
	}
	return fd;
}

static void tool_close(struct rules *r)
{
	loop_timer_cancel(&r->timeout);
	if (r->lock_fd >= 0)
		(void)flock(r->lock_fd, LOCK_UN);
	if (r->out_fd >= 0)
		close(r->out_fd);
	if (r->err_fd >= 0)
		close(r->err_fd);
	r->out_fd = r->err_fd = -1;
	r->pid = -1;
}

static void tool_timeout(void *arg)
{
	struct rules *r = arg;

	/* the rest happens when its end is reported */
	kill(r->pid, SIGKILL);
}

static int tool_start(struct rules *r, const char *path, char *const argv[],
		      const void *input, size_t len)
{
	int in_fd = tool_file(input, len), fd[3];
	pid_t parent = getpid();
	int err = in_fd < 0 ? in_fd : 0;

	r->out_fd = tool_file("", 0);
	r->err_fd = tool_file("", 0);
	if (!err && (r->out_fd < 0 || r->err_fd < 0))
		err = -ENOMEM;
	if (!err) {
		fd[0] = in_fd;
		fd[1] = r->out_fd;
		fd[2] = r->err_fd;
		r->pid = fork();
		if (r->pid == 0)
			tool_exec(parent, r->lock_fd, path, argv, fd);
		err = r->pid < 0 ? -errno : 0;
	}
	if (!err)
		err = loop_timer_in(r->loop, &r->timeout, TOOL_MS, tool_timeout,
				    r);
	if (in_fd >= 0)
		close(in_fd);
	if (err && r->pid < 0)
		tool_close(r);
	return err;
}

/* 0: not known. */
static uint32_t rules_generation(const struct rules *r)
{
	uint32_t generation = 0;

	if (!r->tools->legacy)
		(void)nfnl_generation(r->netlink_fd, &generation);
	return generation;
}

/* The tools look at the name that they are called by. */
static int run_save(struct rules *r)
{
	const char *path = r->tools->save[r->family];
	char name[TOOL_PATH], opt_t[] = "-t", mangle[] = "mangle";
	char *const argv[] = { name, opt_t, mangle, NULL };

	snprintf(name, sizeof(name), "%s", path);
	/* before: a change under way counts as one that was not seen */
	r->seen_ms[r->family] = clock_mono_ms();
	r->generation[r->family] = rules_generation(r);
	return tool_start(r, path, argv, "", 0);
}

static int run_restore(struct rules *r)
{
	const char *path = r->tools->restore[r->family];
	char name[TOOL_PATH], opt_n[] = "-n", opt_w[] = "-w", two[] = "2";
	char *const argv[] = { name, opt_n, opt_w, two, NULL };
	struct ruleset_text *text = calloc(1, sizeof(*text));
	int err = -ENOMEM;

	if (!text)
		return err;
	snprintf(name, sizeof(name), "%s", path);
	ruleset_print(text, &r->seen[r->family], r->names, &r->want, r->family);
	r->ours[r->family] = false;
	r->generation[r->family] = rules_generation(r);
	err = text->cut ? -ENOSPC
			: tool_start(r, path, argv, text->s, text->len);
	free(text);
	return err;
}

/* The sequence */

static void rules_fail(struct rules *r, const char *what, const char *why)
{
	snprintf(r->reason, sizeof(r->reason), "%s: %s", what, why);
	log_debug("rules: %s", r->reason);
	r->tries++;
	r->known[r->family] = false;
}

static bool family_stands(const struct rules *r, enum ruleset_family f)
{
	return r->known[f] &&
	       ruleset_matches(&r->seen[f], r->names, &r->want, f);
}

static void rules_rest(struct rules *r)
{
	bool whole;

	r->step = STEP_IDLE;
	r->rested_ms = clock_mono_ms();
	if (r->check)
		r->meddled = r->found;
	r->check = r->checking = false;
	whole = family_stands(r, RULESET_IP4) && family_stands(r, RULESET_IP6);
	r->meddled = r->meddled && !whole;
	r->mended = r->mended || (r->hole && whole);
	r->hole = r->hole && !whole;
	r->done(r->arg);
}

static bool repair_is_due(const struct rules *r)
{
	return !r->repaired_ms || clock_mono_ms() - r->repaired_ms >= REPAIR_MS;
}

/* True if a difference must be left alone for now. */
static bool rules_paused(struct rules *r)
{
	if (!r->checking)
		return false;
	if (!repair_is_due(r)) {
		r->found = true;
		return true;
	}
	log_warnx("somebody else changed our rules; putting them back");
	r->repaired_ms = clock_mono_ms();
	r->checking = false;
	return false;
}

/* Starts the next tool, or comes to rest. */
static void rules_next(struct rules *r)
{
	while (r->family < RULESET_FAMILIES) {
		const char *path = r->tools->save[r->family];
		bool known = r->known[r->family];
		int err;

		if (r->again) {
			r->again = false;
			r->family = RULESET_IP4;
			r->tries = 0;
			continue;
		}
		if (known && (family_stands(r, r->family) || rules_paused(r))) {
			r->failed[r->family] = false;
			r->family++;
			r->tries = 0;
			continue;
		}
		if (r->tries == TRIES) {
			if (!r->failed[r->family])
				log_errx("rules: %s", r->reason);
			r->failed[r->family] = true;
			r->family++;
			r->tries = 0;
			continue;
		}
		r->step = known ? STEP_RESTORE : STEP_SAVE;
		err = known ? run_restore(r) : run_save(r);
		if (!err)
			return;
		rules_fail(r, path, strerrordesc_np(-err));
	}
	rules_rest(r);
}

/* First line of what the tool said, in r->reason. */
static void tool_complain(struct rules *r, const char *path, int status)
{
	char text[REASON_BYTES] = "";
	ssize_t n = pread(r->err_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (!text[0] && WIFSIGNALED(status))
		snprintf(text, sizeof(text), "ended by signal %d",
			 WTERMSIG(status));
	else if (!text[0])
		snprintf(text, sizeof(text), "exit status %d",
			 WEXITSTATUS(status));
	rules_fail(r, path, text);
}

/* If we wrote nothing, nothing should have changed. */
static void look_for_hole(struct rules *r)
{
	const struct ruleset_seen *a = &r->before, *b = &r->seen[r->family];
	bool same = a->jumps == b->jumps && a->body.len == b->body.len &&
		    !memcmp(a->chain, b->chain, sizeof(a->chain)) &&
		    !memcmp(a->body.s, b->body.s, a->body.len);

	if (r->ours[r->family] && !same)
		r->hole = true;
	r->ours[r->family] = true;
}

static int read_save(struct rules *r)
{
	struct ruleset_seen *seen = &r->seen[r->family];
	struct stat st;
	void *map;

	if (fstat(r->out_fd, &st) < 0)
		return -errno;
	if (st.st_size > SAVE_BYTES)
		return -EFBIG;
	if (st.st_size == 0) {
		ruleset_parse(seen, r->names, "", 0);
		return 0;
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, r->out_fd,
		   0);
	if (map == MAP_FAILED)
		return -errno;
	ruleset_parse(seen, r->names, map, (size_t)st.st_size);
	munmap(map, (size_t)st.st_size);
	return 0;
}

/* Our own change does not make the other family's rules unknown. */
static void count_own_change(struct rules *r)
{
	uint32_t now = rules_generation(r), before = r->generation[r->family];

	for (int f = 0; f < RULESET_FAMILIES; f++) {
		if (now == before + 1 && r->generation[f] == before)
			r->generation[f] = now;
	}
}

bool rules_child(struct rules *r, pid_t pid, int status)
{
	bool restore = r->step == STEP_RESTORE;
	const char *path;

	if (pid != r->pid)
		return false;
	path = restore ? r->tools->restore[r->family]
		       : r->tools->save[r->family];
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		tool_complain(r, path, status);
	} else if (restore) {
		count_own_change(r);
		/* counted now: a restore that changes nothing must end */
		r->tries++;
		r->known[r->family] = false;
		snprintf(r->reason, sizeof(r->reason),
			 "%s: the rules are not what was written", path);
	} else {
		int err;

		r->before = r->seen[r->family];
		err = read_save(r);
		if (err)
			rules_fail(r, path, strerrordesc_np(-err));
		else
			look_for_hole(r);
		r->known[r->family] = !err;
	}
	tool_close(r);
	rules_next(r);
	return true;
}

/* True if what was seen is so now. */
static bool family_current(const struct rules *r, enum ruleset_family f)
{
	uint32_t generation = rules_generation(r);

	if (!r->known[f])
		return false;
	if (!generation)
		return clock_mono_ms() - r->seen_ms[f] < BELIEF_MS;
	return generation == r->generation[f];
}

static void rules_start(struct rules *r)
{
	for (int f = 0; f < RULESET_FAMILIES; f++)
		r->known[f] = family_current(r, (enum ruleset_family)f);
	r->family = RULESET_IP4;
	r->tries = 0;
	rules_next(r);
}

void rules_set(struct rules *r, const struct filter *f, size_t n)
{
	ruleset_reduce(&r->want, f, n);
	r->check = r->checking = false;
	if (r->step == STEP_IDLE)
		rules_start(r);
	else
		r->again = true;
}

void rules_check(struct rules *r)
{
	if (r->step != STEP_IDLE)
		return;
	r->check = r->checking = true;
	r->found = false;
	rules_start(r);
}

bool rules_current(const struct rules *r)
{
	return r->step == STEP_IDLE && family_current(r, RULESET_IP4) &&
	       family_current(r, RULESET_IP6);
}

void rules_watch(struct rules *r)
{
	uint64_t rest_ms = clock_mono_ms() - r->rested_ms;

	if (rest_ms < (rules_failed(r) ? RETRY_MS : WATCH_MS))
		return;
	if (!rules_current(r) || (r->meddled && repair_is_due(r)))
		rules_check(r);
}

bool rules_mended(struct rules *r)
{
	bool mended = r->mended;

	r->mended = false;
	return mended;
}

bool rules_busy(const struct rules *r)
{
	return r->step != STEP_IDLE;
}

bool rules_failed(const struct rules *r)
{
	return r->failed[RULESET_IP4] || r->failed[RULESET_IP6];
}

enum ctl_rules rules_state(const struct rules *r)
{
	if (rules_failed(r) || r->meddled)
		return CTL_RULES_DEGRADED;
	return r->want.n ? CTL_RULES_OK : CTL_RULES_NONE;
}

bool rules_want(const struct rules *r, enum packet_dir dir)
{
	return ruleset_uses(&r->want, dir);
}

struct rules *rules_new(struct loop *loop, const struct ruleset_names *names,
			const struct rules_tools *tools, int netlink_fd,
			void (*done)(void *arg), void *arg)
{
	struct rules *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->loop = loop;
	r->names = names;
	r->tools = tools;
	r->netlink_fd = netlink_fd;
	r->done = done;
	r->arg = arg;
	r->lock_fd = r->pid = r->out_fd = r->err_fd = -1;
	return r;
}

int rules_open_lock(struct rules *r, const char **path)
{
	const char *named = getenv("XTABLES_LOCKFILE");

	*path = named && named[0] ? named : LOCK_PATH;
	if (!r->tools->legacy)
		return 0;
	r->lock_fd =
		open(*path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
	return r->lock_fd < 0 ? -errno : 0;
}

void rules_free(struct rules *r)
{
	if (!r)
		return;
	if (r->pid > 0) {
		kill(r->pid, SIGKILL);
		waitpid(r->pid, NULL, 0);
	}
	tool_close(r);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	free(r);
}
