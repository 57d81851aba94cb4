/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The order of things.  Start: take the instance's name, look for what is
 * needed, give up privileges, remove what a predecessor left, start readers,
 * serve.  Rules exist while tasks exist: accounting objects before rules, rules
 * before objects on the way back.  Stop: rules, objects, readers.
 *
 * A reader that dies is replaced at once and gets the tasks again; the fourth
 * death within a minute means that measuring does harm, or would: the rules go
 * and capture stays off until the next start.
 */
#include "monitor/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/notify.h"
#include "common/util.h"
#include "monitor/nfnl.h"
#include "monitor/priv.h"
#include "monitor/uplink.h"
#include "monitor/windows.h"

#define DEATHS_MS      60000
#define CLEAN_MS       1500 /* the kernel frees a deleted rule a moment late */
#define CLEAN_STEP_MS  10
#define UPLINK_WATCHES 10   /* routes are looked at once in so many */
#define RESTART_MS     20   /* when a fork failed */
#define END_MS         500  /* for readers to finish */
#define STOP_MS        4000 /* for everything */

static void supervisor_start_readers(struct supervisor *s);

/* Ending */

static void supervisor_exit(struct supervisor *s, int code)
{
	s->exit_code = code;
	loop_stop(s->loop);
}

static void end_timeout(void *arg)
{
	struct supervisor *s = arg;

	if (s->state != SUPERVISOR_ENDING)
		log_warnx("cannot stop in time; what is left is harmless and "
			  "will be removed at the next start");
	crew_fini(&s->crew);
	loop_stop(s->loop);
}

static void supervisor_end_readers(struct supervisor *s)
{
	s->state = SUPERVISOR_ENDING;
	if (crew_dismiss(&s->crew) ||
	    loop_timer_in(s->loop, &s->deadline, END_MS, end_timeout, s))
		loop_stop(s->loop);
}

static void supervisor_stop(struct supervisor *s, int code)
{
	if (s->state == SUPERVISOR_STOPPING || s->state == SUPERVISOR_ENDING)
		return;
	s->exit_code = code;
	s->state = SUPERVISOR_STOPPING;
	(void)notify_stopping();
	if (!s->rules) {
		supervisor_end_readers(s);
		return;
	}
	(void)loop_timer_in(s->loop, &s->deadline, STOP_MS, end_timeout, s);
	rules_set(s->rules, NULL, 0);
}

/* Rules and accounting objects */

static void cleaned(struct supervisor *s)
{
	if (s->state == SUPERVISOR_STOPPING) {
		supervisor_end_readers(s);
	} else if (s->state == SUPERVISOR_OFF) {
		crew_dismiss(&s->crew);
	} else if (s->state == SUPERVISOR_CLEANING) {
		if (s->config.mode == SUPERVISOR_REMOVE)
			supervisor_exit(s, 0);
		else
			supervisor_start_readers(s);
	}
}

/* Deletes the objects that no rule needs; again, while one is still in use. */
static void clean_step(void *arg)
{
	struct supervisor *s = arg;
	bool busy = false;

	if (rules_busy(s->rules))
		return; /* begins again when they are done */
	for (int d = 0; d < PACKET_DIRS; d++) {
		int err;

		if (rules_want(s->rules, (enum packet_dir)d))
			continue;
		err = meter_delete(&s->meter, (enum packet_dir)d);
		busy = busy || err == -EBUSY;
		if (err && err != -EBUSY)
			log_write(LOG_LEVEL_WARN, -err, "nfacct %s",
				  s->meter.name[d]);
	}
	if (busy && clock_mono_ms() < s->clean_until_ms &&
	    !loop_timer_in(s->loop, &s->clean, CLEAN_STEP_MS, clean_step, s))
		return;
	if (busy)
		log_warnx("nfacct objects stay: somebody else uses them");
	cleaned(s);
}

static void print_check(const struct supervisor *s)
{
	const struct ruleset_names *n = &s->config.names;

	printf("back end: %s\n", s->config.capture.ops->name);
	if (s->config.capture.path)
		printf("file: %s\n", s->config.capture.path);
	if (s->rules) {
		printf("rules: %s, %s\n", s->tools.restore[RULESET_IP4],
		       s->tools.restore[RULESET_IP6]);
		printf("accounting: nfacct\n");
		printf("queues: %u to %u, whole super-packets, fail-open\n",
		       n->queue_first, n->queue_first + n->queues - 1u);
	}
	printf("instance: %s\n", n->instance);
}

static void rules_done(void *arg)
{
	struct supervisor *s = arg;

	if (s->state == SUPERVISOR_CLEANING && rules_failed(s->rules)) {
		supervisor_exit(s, EXIT_MECHANISM);
		return;
	}
	if (s->state == SUPERVISOR_TRYING) {
		bool failed = rules_failed(s->rules);

		if (!failed)
			print_check(s);
		supervisor_stop(s, failed ? EXIT_MECHANISM : 0);
		return;
	}
	if (rules_mended(s->rules))
		requests_begin_anew(s);
	requests_rules_done(s);
	if (rules_busy(s->rules))
		return;
	s->clean_until_ms = clock_mono_ms() + CLEAN_MS;
	clean_step(s);
}

int supervisor_follow_tasks(struct supervisor *s)
{
	struct filter filter[RULESET_FILTERS];
	size_t n = tasks_filters(&s->tasks, filter);

	if (!s->rules || s->state != SUPERVISOR_SERVING)
		return 0;
	for (size_t i = 0; i < n; i++) {
		enum packet_dir dir = (enum packet_dir)filter[i].dir;
		int err = meter_create(&s->meter, dir);

		if (err) {
			log_write(LOG_LEVEL_ERR, -err, "nfacct %s",
				  s->meter.name[dir]);
			return err;
		}
	}
	rules_set(s->rules, filter, n);
	return 0;
}

/* Watching */

void supervisor_sample_windows(struct supervisor *s)
{
	struct ctl_volume matched[PACKET_DIRS] = { 0 };

	if (!s->rules)
		return;
	for (int d = 0; d < PACKET_DIRS; d++) {
		if (meter_read(&s->meter, (enum packet_dir)d, &matched[d]))
			return;
	}
	windows_sample(&s->tasks, clock_wall_ms(), matched, s->loss.floor);
}

static void window_begins(void *arg)
{
	supervisor_sample_windows(arg);
}

/* A window that begins before the next watch has a timer of its own. */
static void watch_windows(struct supervisor *s)
{
	uint64_t next_ms = windows_next_ms(&s->tasks, clock_wall_ms());

	supervisor_sample_windows(s);
	if (next_ms <= CREW_WATCH_MS)
		(void)loop_timer_in(s->loop, &s->boundary, next_ms + 1,
				    window_begins, s);
}

/* Tells the readers, on the page, which interfaces are uplinks. */
static void publish_uplinks(struct supervisor *s)
{
	static const sa_family_t family[] = { AF_INET, AF_INET6 };

	for (size_t f = 0; f < ARRAY_SIZE(family); f++) {
		uint32_t ifindex = uplink_find(s->uplink_fd, family[f]);

		for (uint32_t i = 0; i < CTL_READERS; i++)
			atomic_store_explicit(&s->meter.slot[i].uplink[f],
					      ifindex, memory_order_relaxed);
	}
}

static void watch(void *arg)
{
	struct supervisor *s = arg;
	uint64_t matched = 0;

	if (s->uplink_fd >= 0 && s->watches++ % UPLINK_WATCHES == 0)
		publish_uplinks(s);

	for (int d = 0; s->rules && d < PACKET_DIRS; d++) {
		struct ctl_volume v = { 0 };

		if (!meter_read(&s->meter, (enum packet_dir)d, &v))
			matched += v.packets;
	}
	if (s->rules)
		loss_sample(&s->loss);
	if (s->rules && s->state == SUPERVISOR_SERVING && s->tasks.n > 0)
		rules_watch(s->rules);
	watch_windows(s);
	crew_watch(&s->crew, matched);
	(void)loop_timer_in(s->loop, &s->watch, CREW_WATCH_MS, watch, s);
}

static void pet(void *arg)
{
	struct supervisor *s = arg;
	bool out = !s->rules || s->state == SUPERVISOR_OFF;

	if (out || crew_healthy(&s->crew))
		(void)notify_watchdog();
	(void)loop_timer_in(s->loop, &s->pet, notify_watchdog_ms(), pet, s);
}

/* Readers */

static void start_missing(void *arg)
{
	struct supervisor *s = arg;

	for (uint32_t i = 0; i < s->crew.n; i++) {
		int err = s->crew.reader[i].pid ? 0 : crew_start(&s->crew, i);

		if (!err)
			continue;
		log_write(LOG_LEVEL_ERR, -err, "reader %u", i);
		(void)loop_timer_in(s->loop, &s->restart, RESTART_MS,
				    start_missing, s);
	}
}

static void supervisor_start_readers(struct supervisor *s)
{
	s->state = SUPERVISOR_BINDING;
	start_missing(s);
	if (loop_timer_in(s->loop, &s->watch, CREW_WATCH_MS, watch, s)) {
		log_err("watch");
		supervisor_stop(s, EXIT_MECHANISM);
	}
}

/*
 * What --check is for: rules of all forms, but for addresses that are kept for
 * documentation, so that no packet of the host's meets them.
 */
static int supervisor_try_rules(struct supervisor *s)
{
	static const char *const nobody[] = { "192.0.2.0", "2001:db8::" };
	struct filter f[PACKET_DIRS * ARRAY_SIZE(nobody)] = { 0 };
	int err = 0;

	s->state = SUPERVISOR_TRYING;
	for (size_t i = 0; i < ARRAY_SIZE(f) && !err; i++) {
		const char *text = nobody[i / PACKET_DIRS];

		f[i].dir = (uint8_t)(i % PACKET_DIRS);
		f[i].has_src = 1;
		err = prefix_parse(text, strlen(text), &f[i].src);
		if (!err)
			err = filter_normalize(&f[i]);
		if (!err)
			err = meter_create(&s->meter,
					   (enum packet_dir)f[i].dir);
	}
	if (!err)
		rules_set(s->rules, f, ARRAY_SIZE(f));
	return err;
}

static void supervisor_serve(struct supervisor *s)
{
	uint64_t pet_ms = notify_watchdog_ms();
	int err;

	if (s->config.mode == SUPERVISOR_CHECK && !s->rules) {
		print_check(s);
		supervisor_stop(s, 0);
		return;
	}
	if (s->config.mode == SUPERVISOR_CHECK) {
		err = supervisor_try_rules(s);
		if (err) {
			log_write(LOG_LEVEL_ERR, -err, "cannot try the rules");
			supervisor_stop(s, EXIT_MECHANISM);
		}
		return;
	}
	err = control_listen(&s->control, s->loop, s->config.agent_uid,
			     &request_ops, s);
	if (!err && pet_ms)
		err = loop_timer_in(s->loop, &s->pet, pet_ms, pet, s);
	if (err) {
		log_write(LOG_LEVEL_ERR, -err, "cannot serve");
		supervisor_stop(s, EXIT_MECHANISM);
		return;
	}
	s->state = SUPERVISOR_SERVING;
	log_info("instance %s, back end %s, %u reader%s",
		 s->config.names.instance, s->config.capture.ops->name,
		 s->crew.n, s->crew.n == 1 ? "" : "s");
	err = notify_ready(s->config.ready_fd);
	if (err)
		log_write(LOG_LEVEL_WARN, -err, "cannot say that we are ready");
}

static void reader_bound(void *arg, struct crew_reader *r)
{
	struct supervisor *s = arg;

	for (uint32_t i = 0; i < s->tasks.n; i++) {
		struct reader_request q = {
			.op = READER_PUT,
			.task = s->tasks.entry[i].spec,
		};

		if (!crew_send(r, &q))
			log_warnx("reader %u: cannot have the tasks",
				  r->number);
		explicit_bzero(&q, sizeof(q));
	}
	if (s->state == SUPERVISOR_BINDING && crew_count(&s->crew) == s->crew.n)
		supervisor_serve(s);
}

static void reader_answer(void *arg, struct crew_reader *r,
			  const struct reader_answer *a, int fd)
{
	requests_answer(arg, r->number, a, fd);
}

static void capture_off(struct supervisor *s)
{
	log_errx("%d readers died within %d s: capture is off, the rules go",
		 DEATHS_MAX, DEATHS_MS / 1000);
	s->state = SUPERVISOR_OFF;
	loop_timer_cancel(&s->restart);
	if (s->rules)
		rules_set(s->rules, NULL, 0);
	else
		crew_dismiss(&s->crew);
}

/* True if this was one death too many. */
static bool too_many_deaths(struct supervisor *s)
{
	uint64_t now_ms = clock_mono_ms();

	memmove(s->death_ms, s->death_ms + 1,
		sizeof(s->death_ms) - sizeof(s->death_ms[0]));
	s->death_ms[DEATHS_MAX - 1] = now_ms;
	return s->death_ms[0] && now_ms - s->death_ms[0] < DEATHS_MS;
}

static void reader_ended(void *arg, struct crew_reader *r, int status)
{
	struct supervisor *s = arg;

	requests_reader_gone(s, r->number);
	loss_reader_gone(&s->loss);
	if (s->state == SUPERVISOR_ENDING) {
		if (crew_dismiss(&s->crew))
			loop_stop(s->loop);
		return;
	}
	if (s->state == SUPERVISOR_BINDING) {
		/* it said why */
		supervisor_stop(s, WIFEXITED(status) && WEXITSTATUS(status) > 1
					   ? WEXITSTATUS(status)
					   : EXIT_MECHANISM);
		return;
	}
	if (s->state != SUPERVISOR_SERVING)
		return;
	if (WIFSIGNALED(status))
		log_warnx("reader %u ended by signal %d", r->number,
			  WTERMSIG(status));
	else
		log_warnx("reader %u ended, status %d", r->number,
			  WEXITSTATUS(status));
	s->restarts++;
	if (too_many_deaths(s))
		capture_off(s);
	else
		start_missing(s);
}

static const struct crew_ops crew_ops = {
	.bound = reader_bound,
	.answer = reader_answer,
	.ended = reader_ended,
};

/* Signals */

static void reap(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (!crew_child(&s->crew, pid, status) && s->rules)
			rules_child(s->rules, pid, status);
	}
}

static void supervisor_signal(void *arg, int signo)
{
	struct supervisor *s = arg;

	switch (signo) {
	case SIGCHLD:
		reap(s);
		break;
	case SIGTERM:
	case SIGINT:
		supervisor_stop(s, 0);
		break;
	case SIGHUP:
		if (s->rules && s->state == SUPERVISOR_SERVING)
			rules_check(s->rules);
		break;
	default:
		break; /* not ours, and no reason to die */
	}
}

static int watch_signals(struct supervisor *s)
{
	static const int signals[] = { SIGCHLD, SIGTERM, SIGINT,  SIGHUP,
				       SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2 };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	return loop_signals(s->loop, &set, supervisor_signal, s);
}

/* Start */

/* What a capture by rules needs.  0 or an exit code, after one line. */
static int probe_netfilter(struct supervisor *s)
{
	uint32_t generation;
	const char *lock;
	int err;

	if (!priv_have(PRIV_NET_ADMIN)) {
		log_errx("needs CAP_NET_ADMIN, or to be started as root");
		return EXIT_PERMISSION;
	}
	err = meter_init(&s->meter, s->config.names.instance, true);
	if (!err)
		err = meter_probe(&s->meter);
	if (err) {
		log_write(LOG_LEVEL_ERR, -err,
			  "the kernel offers no nfacct objects (nfnetlink)");
		return err == -EPERM ? EXIT_PERMISSION : EXIT_MECHANISM;
	}
	err = rules_find_tools(&s->tools,
			       !nfnl_generation(s->meter.fd, &generation));
	if (err) {
		log_errx("found neither iptables-nft-restore nor "
			 "iptables-legacy-restore, for IPv4 and IPv6");
		return EXIT_MECHANISM;
	}
	/* without it all interfaces are of one class */
	s->uplink_fd = uplink_open();
	s->rules = rules_new(s->loop, &s->config.names, &s->tools, s->meter.fd,
			     rules_done, s);
	if (!s->rules) {
		log_err("rules");
		return EXIT_MECHANISM;
	}
	err = rules_open_lock(s->rules, &lock);
	if (err) {
		log_write(LOG_LEVEL_ERR, -err,
			  "%s: cannot have the lock of iptables-legacy", lock);
		return EXIT_MECHANISM;
	}
	return 0;
}

static int supervisor_lock(struct supervisor *s)
{
	int err = control_bind(&s->control, s->config.names.instance);

	if (err == -EADDRINUSE) {
		log_errx("instance %s: another process has it",
			 s->config.names.instance);
		return EXIT_BUSY;
	}
	if (err) {
		log_write(LOG_LEVEL_ERR, -err, "control socket");
		return EXIT_MECHANISM;
	}
	return 0;
}

static int supervisor_init(struct supervisor *s)
{
	const struct capture_ops *ops = s->config.capture.ops;
	uint64_t caps = 0;
	int code = supervisor_lock(s);

	if (!code)
		code = ops->prepare(&s->config.capture);
	if (!code && chdir("/") < 0) {
		log_err("/");
		code = EXIT_MECHANISM;
	}
	if (!code && ops->netfilter) {
		code = probe_netfilter(s);
		caps = PRIV_NET_ADMIN | (s->tools.legacy ? PRIV_NET_RAW : 0);
	} else if (!code && meter_init(&s->meter, "", false)) {
		log_err("shared page");
		code = EXIT_MECHANISM;
	}
	if (ops->netfilter)
		priv_prefer(); /* a reader that waits holds packets */
	if (!code && priv_drop(s->config.uid, s->config.gid, caps))
		code = EXIT_PERMISSION;
	if (!code && watch_signals(s)) {
		log_err("signals");
		code = EXIT_MECHANISM;
	}
	if (code)
		return code;
	s->tasks.readers = s->config.names.queues;
	s->loss = (struct loss){ .meter = &s->meter,
				 .crew = &s->crew,
				 .tasks = &s->tasks };
	crew_init(&s->crew, s->loop, &s->config.capture, &s->meter,
		  s->config.names.queues, &crew_ops, s);
	return 0;
}

static void supervisor_fini(struct supervisor *s)
{
	requests_fini(s);
	control_fini(&s->control);
	crew_fini(&s->crew);
	if (s->uplink_fd >= 0)
		close(s->uplink_fd);
	rules_free(s->rules);
	meter_fini(&s->meter);
	loop_free(s->loop);
	explicit_bzero(&s->tasks, sizeof(s->tasks));
	free(s);
}

int supervisor_run(const struct supervisor_config *config)
{
	struct supervisor *s = calloc(1, sizeof(*s));
	int code, err;

	if (!s) {
		log_err("supervisor");
		return EXIT_MECHANISM;
	}
	s->config = *config;
	s->control.fd = s->meter.fd = s->uplink_fd = -1;
	s->incarnation = random_u64();
	requests_init(s);
	s->loop = loop_new();
	if (!s->loop) {
		log_err("event loop");
		free(s);
		return EXIT_MECHANISM;
	}
	s->exit_code = supervisor_init(s);
	if (s->exit_code)
		goto out;
	if (s->rules)
		rules_set(s->rules, NULL, 0);
	else if (config->mode != SUPERVISOR_REMOVE)
		supervisor_start_readers(s);
	else
		goto out;
	err = loop_run(s->loop);
	if (err) {
		log_write(LOG_LEVEL_ERR, -err, "event loop");
		s->exit_code = EXIT_MECHANISM;
	}
out:
	code = s->exit_code;
	supervisor_fini(s);
	return code;
}
