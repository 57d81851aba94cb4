/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests of the agent.  A request that needs readers is sent to all of them;
 * it is complete when all that live have answered, and goes out with what is
 * there after REQUEST_MS, before the agent gives up.  A task is put when
 * its rules stand, so that what follows the reply is counted.
 *
 * Loss.  "Matched" is the kernel's count for a direction, "received" the
 * readers'.  When a task is put, readers say what they had received by then;
 * what was missed earlier is the business of loss.c.  Later, matched is read
 * after all images are in.  So matched = received + missed for the task's own
 * time, and what a dead reader took with it is missed.
 */
#include "monitor/request.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "monitor/supervisor.h"
#include "monitor/windows.h"

#define PUT_MS  1500 /* rules of both families, on a busy host */
#define READ_MS 300

/* Answers without delay: head and status, or a whole struct. */
static void reply(struct control_client *c, union control_message *m,
		  int status, size_t len)
{
	m->head.status = status;
	m->head.len = (uint32_t)len;
	control_reply(c, m, NULL, 0);
}

static void request_free(struct request *q)
{
	loop_timer_cancel(&q->timer);
	for (uint32_t i = 0; i < q->n_fds; i++)
		close(q->fds[i]);
	q->n_fds = 0;
	q->client = NULL;
	explicit_bzero(&q->m, sizeof(q->m));
}

static struct ctl_volume volume_sub(struct ctl_volume a, struct ctl_volume b)
{
	return (struct ctl_volume){
		.packets = a.packets > b.packets ? a.packets - b.packets : 0,
		.bytes = a.bytes > b.bytes ? a.bytes - b.bytes : 0,
	};
}

static struct ctl_volume volume_add(struct ctl_volume a, struct ctl_volume b)
{
	return (struct ctl_volume){ a.packets + b.packets, a.bytes + b.bytes };
}

/* TASK_PUT */

/* These readers were told to begin the task. */
static void task_begins(struct task_entry *e, uint64_t seq, uint32_t readers)
{
	e->begin_seq = seq;
	e->begin_readers = readers;
	e->begin_sum = (struct ctl_volume){ 0 };
}

/* One of them did, and says what it had received; or it is gone. */
static void task_began(struct supervisor *s, struct task_entry *e,
		       uint32_t reader, const struct ctl_volume *received)
{
	const struct ctl_volume *lost = &s->crew.lost[e->spec.filter.dir];

	if (!(e->begin_readers >> reader & 1))
		return;
	e->begin_readers &= ~(1u << reader);
	e->begin_sum = volume_add(e->begin_sum, *received);
	if (!e->begin_readers)
		e->received_base = volume_add(e->begin_sum, *lost);
}

static void put_undo(struct supervisor *s, uint64_t id)
{
	struct reader_request q = { .op = READER_DEL, .id = id };

	tasks_del(&s->tasks, id);
	crew_broadcast(&s->crew, &q);
	(void)supervisor_follow_tasks(s);
}

static void put_finish(struct request *q)
{
	struct supervisor *s = q->supervisor;
	struct control_client *c = q->client;
	union control_message m = q->m;
	int status = q->status;

	/* without its rules a task would count nothing and not know it */
	if (!status && s->rules && (q->rules || rules_failed(s->rules)))
		status = q->rules ? -EAGAIN : -EIO;
	request_free(q);
	if (status)
		put_undo(s, m.put.task.id);
	reply(c, &m, status, sizeof(m.head));
	explicit_bzero(&m, sizeof(m));
}

/* TASK_READ */

static enum ctl_rules capture_state(const struct supervisor *s)
{
	if (s->state == SUPERVISOR_OFF)
		return CTL_RULES_OFF;
	return s->rules ? rules_state(s->rules) : CTL_RULES_NONE;
}

static void read_loss(struct request *q, struct ctl_loss *out)
{
	struct supervisor *s = q->supervisor;
	const struct task_entry *e = tasks_find(&s->tasks, q->m.read.id);
	struct ctl_volume matched = q->received;

	if (s->rules && e &&
	    !meter_read(&s->meter, (enum packet_dir)e->spec.filter.dir,
			&matched))
		matched = volume_sub(matched, volume_add(e->received_base,
							 e->missed_base));
	out->received = q->received;
	out->matched.packets = MAX(matched.packets, q->received.packets);
	out->matched.bytes = MAX(matched.bytes, q->received.bytes);
}

/*
 * Have the rules been there until now?  False: what is known is said.  One
 * look that began after the request is enough: where others change rules of
 * their own all the time, every look is old when it is done.
 */
static bool read_must_wait(struct request *q)
{
	struct rules *rules = q->supervisor->rules;

	if (!rules || q->looked || rules_state(rules) != CTL_RULES_OK ||
	    rules_current(rules))
		return false;
	q->looked = !rules_busy(rules);
	rules_check(rules);
	return true;
}

static void read_finish(struct request *q)
{
	struct ctl_task_read *r = &q->m.read;

	r->head.status = q->n_fds ? 0 : q->status ? q->status : -EAGAIN;
	/* what was copied ends before a hole, and is gone */
	if (q->anew != q->supervisor->requests.anew)
		r->head.status = -EAGAIN;
	r->head.len = sizeof(*r);
	r->n_images = q->n_fds;
	r->rules = q->rules ? CTL_RULES_DEGRADED : capture_state(q->supervisor);
	read_loss(q, &r->loss);
	control_reply(q->client, &q->m, q->fds, q->n_fds);
	request_free(q);
}

/* WINDOW_READ */

static void window_finish(struct request *q)
{
	struct supervisor *s = q->supervisor;
	struct ctl_window_read *r = &q->m.window;
	const struct task_entry *e = tasks_find(&s->tasks, r->id);
	bool some = q->n_fds > 0 && q->status != -EAGAIN;

	r->head.status = some ? 0 : q->status ? q->status : -EAGAIN;
	if (q->anew != s->requests.anew)
		r->head.status = -EAGAIN;
	r->head.len = sizeof(*r);
	r->n_images = q->n_fds;
	r->readers = s->crew.n;
	r->rules = q->rules ? CTL_RULES_DEGRADED : capture_state(s);
	supervisor_sample_windows(s);
	r->has_loss = e && windows_loss(e, r->interval, &r->loss);
	control_reply(q->client, &q->m, q->fds, q->n_fds);
	request_free(q);
}

/* Waiting */

static void request_finish(struct request *q)
{
	if (q->m.head.type == CTL_TASK_PUT)
		put_finish(q);
	else if (q->m.head.type == CTL_WINDOW_READ)
		window_finish(q);
	else
		read_finish(q);
}

static void request_timeout(void *arg)
{
	request_finish(arg);
}

static void request_progress(struct request *q)
{
	if (!q->readers && !q->rules)
		request_finish(q);
}

static void request_wait(struct supervisor *s, struct control_client *c,
			 const union control_message *m,
			 struct reader_request *to_readers)
{
	struct request *q = &s->requests.request[c->number];

	q->client = c;
	q->m = *m;
	q->seq = to_readers->seq = ++s->requests.seq;
	q->rules = q->looked = false;
	q->anew = s->requests.anew;
	q->received = (struct ctl_volume){ 0 };
	q->status = 0;
	q->n_fds = 0;
	q->readers = crew_broadcast(&s->crew, to_readers);
	if (loop_timer_in(s->loop, &q->timer,
			  m->head.type == CTL_TASK_PUT ? PUT_MS : READ_MS,
			  request_timeout, q))
		q->readers = 0;
}

static void request_put(struct supervisor *s, struct control_client *c,
			union control_message *m)
{
	struct request *q = &s->requests.request[c->number];
	struct reader_request to_readers = {
		.op = READER_PUT,
		.task = m->put.task,
	};
	int rc = tasks_put(&s->tasks, &m->put.task), err;
	struct task_entry *e;

	if (rc < 0 || rc == TASK_PUT_SAME) {
		reply(c, m, MIN(rc, 0), sizeof(m->head));
		return;
	}
	e = tasks_find(&s->tasks, m->put.task.id);
	loss_begin(&s->loss, e);
	request_wait(s, c, m, &to_readers);
	task_begins(e, q->seq, q->readers);
	explicit_bzero(&to_readers, sizeof(to_readers));
	q->rules = s->rules;
	err = supervisor_follow_tasks(s);
	if (err) {
		q->status = err;
		q->rules = false;
		q->readers = 0;
	}
	/* without readers the base stays as it is */
	if (q->client)
		request_progress(q);
}

static void request_read(struct supervisor *s, struct control_client *c,
			 union control_message *m)
{
	struct request *q = &s->requests.request[c->number];
	const struct task_entry *e = tasks_find(&s->tasks, m->read.id);
	struct reader_request to_readers = {
		.op = READER_READ,
		.id = m->read.id,
		.generation = m->read.generation,
		.kinds = m->read.kinds,
	};

	if (!e || e->spec.generation != m->read.generation) {
		reply(c, m, -ENOENT, sizeof(m->head));
		return;
	}
	/* what is kept by window is read by window, when it is closed */
	if (e->spec.kinds == TASK_FEATURES ||
	    (e->spec.window_ms && m->read.kinds & ~CTL_ALWAYS_OPEN)) {
		reply(c, m, -EINVAL, sizeof(m->head));
		return;
	}
	request_wait(s, c, m, &to_readers);
	q->rules = read_must_wait(q);
	request_progress(q);
}

static bool window_readable(const struct task_spec *t, uint32_t what)
{
	if (t->kinds == TASK_FEATURES)
		return what && !(what >> CTL_WINDOW_PARTS);
	return t->window_ms && !(what & CTL_ALWAYS_OPEN) &&
	       !(what >> SKETCH_KINDS);
}

static void request_window(struct supervisor *s, struct control_client *c,
			   union control_message *m)
{
	struct request *q = &s->requests.request[c->number];
	const struct task_entry *e = tasks_find(&s->tasks, m->window.id);
	struct reader_request to_readers = {
		.op = READER_WINDOW,
		.id = m->window.id,
		.generation = m->window.generation,
		.interval = m->window.interval,
		.kinds = m->window.what,
	};

	if (!e || e->spec.generation != m->window.generation) {
		reply(c, m, -ENOENT, sizeof(m->head));
		return;
	}
	if (!window_readable(&e->spec, m->window.what)) {
		reply(c, m, -EINVAL, sizeof(m->head));
		return;
	}
	request_wait(s, c, m, &to_readers);
	q->rules = read_must_wait(q);
	request_progress(q);
}

static void request_del(struct supervisor *s, struct control_client *c,
			union control_message *m)
{
	struct reader_request to_readers = {
		.op = READER_DEL,
		.id = m->del.id,
	};
	int status = -ENOENT;

	if (tasks_del(&s->tasks, m->del.id)) {
		crew_broadcast(&s->crew, &to_readers);
		(void)supervisor_follow_tasks(s);
		status = 0;
	}
	reply(c, m, status, sizeof(m->head));
}

static void request_hello(struct supervisor *s, struct control_client *c,
			  union control_message *m)
{
	struct ctl_hello *h = &m->hello;

	h->incarnation = s->incarnation;
	h->memory_limit = TASKS_MEMORY;
	h->memory_used = s->tasks.memory_used;
	h->tasks_max = TASKS_MAX;
	strncpy(h->backend, s->config.capture.ops->name,
		sizeof(h->backend) - 1);
	strncpy(h->version, LINNET_VERSION, sizeof(h->version) - 1);
	reply(c, m, 0, sizeof(*h));
}

static void request_list(struct supervisor *s, struct control_client *c,
			 union control_message *m)
{
	tasks_list(&s->tasks, &m->list);
	reply(c, m, 0, sizeof(m->list));
}

static void request_stats(struct supervisor *s, struct control_client *c,
			  union control_message *m)
{
	struct ctl_stats *st = &m->stats;
	uint64_t depth = 0;

	st->incarnation = s->incarnation;
	st->memory_used = s->tasks.memory_used;
	st->memory_limit = TASKS_MEMORY;
	st->reader_restarts = s->restarts;
	st->readers = crew_count(&s->crew);
	st->rules = capture_state(s);
	st->tasks = s->tasks.n;
	for (int d = 0; d < PACKET_DIRS; d++) {
		enum packet_dir dir = (enum packet_dir)d;

		st->received[d] = crew_received(&s->crew, dir);
		if (!s->rules || meter_read(&s->meter, dir, &st->matched[d]))
			st->matched[d] = st->received[d];
		depth += s->rules ? loss_waiting(&s->loss, dir) : 0;
	}
	st->queue_depth = (uint32_t)MIN(depth, UINT32_MAX);
	st->protected_packets = s->crew.protected_lost;
	st->finished = s->config.capture.ops->replay;
	for (uint32_t i = 0; i < s->crew.n; i++) {
		const struct meter_slot *slot = &s->meter.slot[i];

		st->protected_packets += atomic_load(&slot->protected_packets);
		if (!atomic_load(&slot->finished))
			st->finished = 0;
	}
	st->bad_requests = s->control.bad_requests;
	reply(c, m, 0, sizeof(*st));
}

static void request_take(void *arg, struct control_client *c,
			 union control_message *m)
{
	struct supervisor *s = arg;
	bool off = s->state != SUPERVISOR_SERVING;

	switch ((enum ctl_type)m->head.type) {
	case CTL_HELLO:
		request_hello(s, c, m);
		return;
	case CTL_TASK_LIST:
		request_list(s, c, m);
		return;
	case CTL_STATS:
		request_stats(s, c, m);
		return;
	case CTL_TASK_DEL:
		request_del(s, c, m);
		return;
	case CTL_TASK_PUT:
	case CTL_TASK_READ:
	case CTL_WINDOW_READ:
		break;
	case CTL_TYPES:
		return;
	}
	if (off)
		reply(c, m, -ESHUTDOWN, sizeof(m->head));
	else if (m->head.type == CTL_TASK_PUT)
		request_put(s, c, m);
	else if (m->head.type == CTL_TASK_READ)
		request_read(s, c, m);
	else
		request_window(s, c, m);
}

static void request_gone(void *arg, struct control_client *c)
{
	struct supervisor *s = arg;
	struct request *q = &s->requests.request[c->number];

	if (q->client)
		request_free(q);
}

const struct control_ops request_ops = {
	.request = request_take,
	.gone = request_gone,
};

void requests_init(struct supervisor *s)
{
	for (int i = 0; i < CTL_CLIENTS; i++)
		s->requests.request[i] = (struct request){ .supervisor = s };
}

void requests_fini(struct supervisor *s)
{
	for (int i = 0; i < CTL_CLIENTS; i++)
		request_free(&s->requests.request[i]);
}

static void request_answer(struct request *q, uint32_t reader,
			   const struct reader_answer *a, int *fd)
{
	q->readers &= ~(1u << reader);
	/* a reader that is late decides */
	if (a->status && (!q->status || a->status == -EAGAIN))
		q->status = a->status;
	if (!a->status)
		q->received = volume_add(q->received, a->received);
	if (!a->status && *fd >= 0) {
		q->fds[q->n_fds++] = *fd;
		*fd = -1;
	}
	request_progress(q);
}

void requests_answer(struct supervisor *s, uint32_t reader,
		     const struct reader_answer *a, int fd)
{
	for (uint32_t i = 0; i < s->tasks.n; i++) {
		struct task_entry *e = &s->tasks.entry[i];

		if (a->op == READER_PUT && e->begin_seq == a->seq)
			task_began(s, e, reader, &a->received);
	}
	for (int i = 0; i < CTL_CLIENTS; i++) {
		struct request *q = &s->requests.request[i];

		if (q->client && q->seq == a->seq && q->readers >> reader & 1) {
			request_answer(q, reader, a, &fd);
			break;
		}
	}
	/* too late, or nobody's */
	if (fd >= 0)
		close(fd);
}

void requests_reader_gone(struct supervisor *s, uint32_t reader)
{
	const struct ctl_volume none = { 0 };

	for (uint32_t i = 0; i < s->tasks.n; i++)
		task_began(s, &s->tasks.entry[i], reader, &none);
	for (int i = 0; i < CTL_CLIENTS; i++) {
		struct request *q = &s->requests.request[i];

		if (!q->client || !(q->readers >> reader & 1))
			continue;
		q->readers &= ~(1u << reader);
		request_progress(q);
	}
}

void requests_rules_done(struct supervisor *s)
{
	for (int i = 0; i < CTL_CLIENTS; i++) {
		struct request *q = &s->requests.request[i];

		if (!q->client || !q->rules)
			continue;
		q->rules = q->m.head.type != CTL_TASK_PUT && read_must_wait(q);
		request_progress(q);
	}
}

void requests_begin_anew(struct supervisor *s)
{
	s->requests.anew++;
	for (uint32_t i = 0; i < s->tasks.n; i++) {
		struct task_entry *e = &s->tasks.entry[i];
		struct reader_request q = {
			.op = READER_PUT,
			.seq = ++s->requests.seq,
			.task = e->spec,
		};

		loss_begin(&s->loss, e);
		task_begins(e, q.seq, crew_broadcast(&s->crew, &q));
		explicit_bzero(&q, sizeof(q));
	}
	if (s->tasks.n > 0)
		log_warnx("packets passed unseen: all tasks begin anew");
}
