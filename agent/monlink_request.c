/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to the monitor: one is one datagram, with a time limit from the
 * moment it is made.  Reads that are still waiting to be sent and ask for the
 * same task share one.  Requests are paced below the monitor's limit, so that
 * any number of clients of ours stays welcome there.
 *
 * A request belongs to the link; an op belongs to its request and is freed
 * before its callback runs.  Callbacks never run from inside a caller.
 */
#include "agent/monlink_private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "agent/agent.h"
#include "common/util.h"

/* Pace: a bucket of tokens, refilled below CTL_RATE. */
#define PACE_BURST 20
#define PACE_MS    12

struct monlink_op {
	struct monlink_op *next;
	struct request *request;
	void (*read_done)(void *arg, const struct monlink_read *r);
	void (*window_done)(void *arg, const struct monlink_window *w);
	void (*done)(void *arg, int status);
	void *arg;
};

static void request_unlink(struct request *r)
{
	struct request **at = &r->link->requests;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	loop_timer_cancel(&r->timeout);
}

void request_finish(struct request *r, int status,
		    const struct monlink_window *w)
{
	const struct monlink_window none = { .read.status = status };

	if (!w)
		w = &none;

	request_unlink(r);
	while (r->ops) {
		struct monlink_op op = *r->ops;

		free(r->ops);
		r->ops = op.next;
		if (op.read_done)
			op.read_done(op.arg, &w->read);
		else if (op.window_done)
			op.window_done(op.arg, w);
		else if (op.done)
			op.done(op.arg, status);
	}
	free(r);
}

static void request_expired(void *arg)
{
	struct request *r = arg;
	struct monlink *m = r->link;
	bool greeting = m->io.fd >= 0 && (r->head.type == CTL_HELLO ||
					  r->head.type == CTL_TASK_LIST);

	request_finish(r, m->state == MONLINK_ATTACHED ? -ETIMEDOUT : -ENOTCONN,
		       NULL);
	/* a monitor that does not greet may do so on a new connection */
	if (greeting)
		monlink_down(m);
}

struct request *request_new(struct monlink *m, enum ctl_type type, size_t len)
{
	struct request *r = calloc(1, sizeof(*r)), **at;
	uint32_t limit = type == CTL_TASK_PUT ? CTL_PUT_MS : CTL_REPLY_MS;
	uint32_t delay =
		m->state == MONLINK_ATTACHED || type == CTL_HELLO ? limit : 0;

	if (!r)
		return NULL;
	r->link = m;
	r->head.magic = CTL_MAGIC;
	r->head.version = CTL_VERSION;
	r->head.type = (uint16_t)type;
	r->head.len = (uint32_t)len;
	r->head.seq = ++m->seq;
	if (loop_timer_in(m->agent->loop, &r->timeout, delay, request_expired,
			  r)) {
		free(r);
		return NULL;
	}
	for (at = &m->requests; *at; at = &(*at)->next)
		;
	*at = r;
	return r;
}

static struct monlink_op *op_new(struct request *r)
{
	struct monlink_op *op = calloc(1, sizeof(*op)), **at;

	if (!op) {
		if (!r->ops) {
			request_unlink(r);
			free(r);
		}
		return NULL;
	}
	op->request = r;
	for (at = &r->ops; *at; at = &(*at)->next)
		;
	*at = op;
	return op;
}

void requests_expire(struct monlink *m)
{
	for (struct request *r = m->requests; r; r = r->next)
		loop_timer_in(m->agent->loop, &r->timeout, 0, request_expired,
			      r);
}

void requests_free(struct monlink *m)
{
	while (m->requests) {
		struct request *r = m->requests;

		m->requests = r->next;
		loop_timer_cancel(&r->timeout);
		while (r->ops) {
			struct monlink_op *op = r->ops;

			r->ops = op->next;
			free(op);
		}
		free(r);
	}
}

/* ---- pace ---- */

void requests_refill(struct monlink *m)
{
	m->tokens = PACE_BURST;
	m->refilled_ms = clock_mono_ms();
}

static void refill(struct monlink *m)
{
	uint64_t now = clock_mono_ms(), n = (now - m->refilled_ms) / PACE_MS;

	if (!n)
		return;
	m->refilled_ms += n * PACE_MS;
	m->tokens = n > PACE_BURST - m->tokens ? PACE_BURST
					       : m->tokens + (unsigned)n;
}

static void pump_later(void *arg)
{
	requests_pump(arg);
}

void requests_pump(struct monlink *m)
{
	struct request *r;

	if (m->io.fd < 0)
		return;
	refill(m);
	for (r = m->requests; r; r = r->next) {
		if (r->sent)
			continue;
		if (m->state != MONLINK_ATTACHED && r->head.type != CTL_HELLO)
			continue;
		if (!m->tokens) {
			loop_timer_in(m->agent->loop, &m->pace, PACE_MS,
				      pump_later, m);
			return;
		}
		if (send(m->io.fd, &r->head, r->head.len,
			 MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			if (errno == EAGAIN || errno == EINTR) {
				loop_timer_in(m->agent->loop, &m->pace, PACE_MS,
					      pump_later, m);
				return;
			}
			monlink_down(m);
			return;
		}
		m->tokens--;
		r->sent = true;
	}
}

/* ---- what clients ask ---- */

struct monlink_op *
monlink_read(struct monlink *m, uint64_t id, uint64_t generation,
	     uint32_t kinds,
	     void (*done)(void *arg, const struct monlink_read *r), void *arg)
{
	struct request *r;
	struct monlink_op *op;

	for (r = m->requests; r; r = r->next)
		if (!r->sent && r->head.type == CTL_TASK_READ &&
		    r->read.id == id && r->read.generation == generation)
			break;
	if (!r)
		r = request_new(m, CTL_TASK_READ, sizeof(r->read));
	if (!r)
		return NULL;
	r->read.id = id;
	r->read.generation = generation;
	r->read.kinds |= kinds;
	op = op_new(r);
	if (!op)
		return NULL;
	op->read_done = done;
	op->arg = arg;
	requests_pump(m);
	return op;
}

struct monlink_op *
monlink_window(struct monlink *m, uint64_t id, uint64_t generation,
	       uint64_t interval, uint32_t what,
	       void (*done)(void *arg, const struct monlink_window *w),
	       void *arg)
{
	struct request *r = request_new(m, CTL_WINDOW_READ, sizeof(r->window));
	struct monlink_op *op = r ? op_new(r) : NULL;

	if (!op)
		return NULL;
	r->window.id = id;
	r->window.generation = generation;
	r->window.interval = interval;
	r->window.what = what;
	op->window_done = done;
	op->arg = arg;
	requests_pump(m);
	return op;
}

struct monlink_op *monlink_put(struct monlink *m, const struct task_spec *t,
			       void (*done)(void *arg, int status), void *arg)
{
	struct request *r = request_new(m, CTL_TASK_PUT, sizeof(r->put));
	struct monlink_op *op = r ? op_new(r) : NULL;

	if (!op)
		return NULL;
	r->put.task = *t;
	op->done = done;
	op->arg = arg;
	requests_pump(m);
	return op;
}

struct monlink_op *monlink_del(struct monlink *m, uint64_t id,
			       void (*done)(void *arg, int status), void *arg)
{
	struct request *r = request_new(m, CTL_TASK_DEL, sizeof(r->del));
	struct monlink_op *op = r ? op_new(r) : NULL;

	if (!op)
		return NULL;
	r->del.id = id;
	op->done = done;
	op->arg = arg;
	requests_pump(m);
	return op;
}

void monlink_cancel(struct monlink_op *op)
{
	struct monlink_op **at;

	if (!op)
		return;
	for (at = &op->request->ops; *at != op; at = &(*at)->next)
		;
	*at = op->next;
	free(op);
}
