/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A monitor that says what the test wants, an agent around a registry, and
 * clients that wait for the outcome of what they ask for.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/agent.h"
#include "agent/monlink.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/registry_private.h"
#include "agent/state.h"
#include "agent/taskops.h"
#include "common/features.h"
#include "common/sketch/sketch.h"
#include "common/util.h"

#include "registry_world.h"

/* ---- a monitor ---- */

static void monitor_io(void *arg, uint32_t events)
{
	struct world *w = arg;
	union {
		struct ctl_head head;
		struct ctl_hello hello;
		struct ctl_stats stats;
		struct ctl_task_list list;
		uint8_t b[CTL_MAX_BYTES];
	} m;
	ssize_t n;

	(void)events;
	while ((n = recv(w->fd, &m, sizeof(m), MSG_DONTWAIT)) > 0) {
		size_t len = sizeof(m.head);

		if (m.head.type == CTL_HELLO)
			len = sizeof(m.hello);
		else if (m.head.type == CTL_STATS)
			len = sizeof(m.stats);
		else if (m.head.type == CTL_TASK_LIST)
			len = sizeof(m.list);
		else if (m.head.type == CTL_TASK_PUT)
			w->puts++;
		else if (m.head.type == CTL_TASK_DEL)
			w->dels++, w->full = false;
		memset(m.b + sizeof(m.head), 0, sizeof(m) - sizeof(m.head));
		if (m.head.type == CTL_HELLO)
			m.hello.memory_limit = w->memory_limit;
		m.head.len = (uint32_t)len;
		m.head.status = 0;
		if (m.head.type == CTL_TASK_PUT)
			m.head.status = w->full ? -ENOSPC : w->put_status;
		assert_int_equal(send(w->fd, &m, len, 0), len);
	}
}

static void monitor_accept(void *arg, uint32_t events)
{
	struct world *w = arg;

	(void)events;
	w->fd = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(w->fd >= 0);
	loop_io_add(w->a.loop, &w->io, w->fd, EPOLLIN, monitor_io, w);
}

static void monitor_start(struct world *w)
{
	struct sockaddr_un sun;
	socklen_t len = ctl_address(w->conf.instance, &sun);

	w->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(w->listen_fd, (struct sockaddr *)&sun, len), 0);
	assert_int_equal(listen(w->listen_fd, 4), 0);
	loop_io_add(w->a.loop, &w->accept_io, w->listen_fd, EPOLLIN,
		    monitor_accept, w);
}

/* ---- the agent around it ---- */

static void too_long(void *arg)
{
	(void)arg;
	fail_msg("not within 10 s");
}

bool attached(struct world *w)
{
	return monlink_state(w->a.monlink) == MONLINK_ATTACHED;
}

bool is_refused(struct world *w)
{
	return registry_find(w->a.registry, 0xfeed)->monitor_status < 0;
}

bool is_active(struct world *w)
{
	return registry_find(w->a.registry, 0xfeed)->monitor_status == 0;
}

bool is_expired(struct world *w)
{
	return !registry_find(w->a.registry, 0xfeed);
}

bool is_finished(struct world *w)
{
	return w->finished;
}

struct wait {
	struct world *w;
	bool (*until)(struct world *w);
};

static int no_timeout(void *arg)
{
	struct wait *wait = arg;

	return wait->until(wait->w) ? 0 : -1;
}

static void look(void *arg)
{
	struct wait *wait = arg;

	if (wait->until(wait->w))
		loop_stop(wait->w->a.loop);
}

void run(struct world *w, bool (*until)(struct world *w))
{
	struct wait wait = { w, until };

	loop_timer_in(w->a.loop, &w->guard, 10000, too_long, w);
	loop_set_hook(w->a.loop, no_timeout, look, &wait);
	assert_int_equal(loop_run(w->a.loop), 0);
	loop_set_hook(w->a.loop, NULL, NULL, NULL);
	loop_timer_cancel(&w->guard);
}

uint64_t registry_hash(const struct registry *r)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < blocks_count(r->blocks); i++)
		sum += blocks_at(r->blocks, i)->head.hash;
	return sum;
}

void agent_up(struct world *w)
{
	struct agent *a = &w->a;

	a->conf = &w->conf;
	a->loop = loop_new();
	assert_non_null(a->loop);
	w->accept_io = w->io = LOOP_IO_INIT;
	monitor_start(w);
	assert_int_equal(peers_open(&a->peers, a->loop, NULL, NULL, 0), 0);
	assert_int_equal(monlink_open(&a->monlink, a), 0);
	assert_int_equal(overlay_open(&a->overlay, a), 0);
	assert_int_equal(registry_open(&a->registry, a), 0);
	run(w, attached);
}

void agent_down(struct world *w)
{
	struct agent *a = &w->a;

	registry_free(a->registry);
	overlay_free(a->overlay);
	monlink_free(a->monlink);
	peers_free(a->peers);
	loop_io_del(&w->io);
	loop_io_del(&w->accept_io);
	loop_free(a->loop);
	close(w->fd);
	close(w->listen_fd);
}

int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	snprintf(w->dir, sizeof(w->dir), "/tmp/linnet-registry-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->conf.instance, sizeof(w->conf.instance), "t%u",
		 (unsigned)getpid());
	snprintf(w->conf.state_dir, sizeof(w->conf.state_dir), "%s", w->dir);
	snprintf(w->conf.overlay_name, sizeof(w->conf.overlay_name), "linnet");
	snprintf(w->conf.monitor_user, sizeof(w->conf.monitor_user), "%u",
		 (unsigned)getuid());
	w->conf.query_ms = 2000;
	w->conf.port = 8000;
	agent_up(w);
	*state = w;
	return 0;
}

int teardown(void **state)
{
	static const char *const names[] = { "node.json", "tasks.json",
					     "tasks.json.bad",
					     "children.json" };
	struct world *w = *state;
	char path[128];

	agent_down(w);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", w->dir, names[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(w->dir), 0);
	free(w);
	return 0;
}

void done(void *arg, const struct error *e, const struct task *t,
	  const struct coverage *c)
{
	struct world *w = arg;

	w->finished = true;
	w->code = e ? e->code : ERR_NONE;
	snprintf(w->what, sizeof(w->what), "%s", e ? e->detail : "");
	memset(&w->task, 0, sizeof(w->task));
	if (t)
		w->task = *t;
	w->coverage = *c;
}

/* Creates; 0 or the error. */
enum error_code create(struct world *w, const struct task *t)
{
	w->finished = false;
	assert_non_null(registry_create(&w->a, t, false, 500, done, w));
	assert_false(w->finished);
	run(w, is_finished);
	return w->code;
}

enum error_code put(struct world *w, const struct task *t)
{
	w->finished = false;
	assert_non_null(registry_put(&w->a, t, 500, done, w));
	assert_false(w->finished);
	run(w, is_finished);
	return w->code;
}

enum error_code delete (struct world *w, uint64_t id) {
	w->finished = false;
		assert_non_null(registry_delete(&w->a, id, 500, done, w));
		run(w, is_finished); return w->code;
}

enum error_code retune(struct world *w, uint64_t id, double threshold,
		       bool host_only)
{
	w->finished = false;
	assert_non_null(registry_retune(&w->a, id, threshold, NULL, host_only,
					500, done, w));
	run(w, is_finished);
	return w->code;
}

struct task counter(uint64_t sketch, enum task_origin origin, enum key_type key)
{
	struct task t = { .origin = origin,
			  .sketch = sketch,
			  .threshold = 0.1 };

	t.spec.key = (uint8_t)key;
	t.spec.kinds = key == KEY_NONE ? 0 : SKETCH_DEFAULT_KINDS;
	return t;
}

struct task sketch(void)
{
	return (struct task){ .origin = ORIGIN_LEGACY, .is_sketch = true };
}

/* As if nobody had named it for so long. */
void make_old(struct world *w, uint64_t id, uint64_t ms)
{
	entry_find(w->a.registry, id)->t.named_ms = clock_mono_ms() - ms;
}
