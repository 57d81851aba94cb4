/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of tasks and how they spread: to the monitor of this host and, at
 * once, to all children, who pass them on; the coverage says which hosts hold
 * the task.  A change is the same whether a client (taskchange.c) or the parent
 * (taskpeer.c) asked for it.  Puts and deletes may come twice and in any order:
 * the block that a change belongs to says what it still changes.  What was
 * missed comes with the beats.
 *
 * Nothing is half-changed: old sketches that must make room go, and a new
 * threshold counts, when the first host has confirmed; if none does, all stays
 * as it was.  Who was asked chooses the sketches, all below follow its list.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/fanout.h"
#include "agent/monlink.h"
#include "agent/overlay.h"
#include "agent/taskops_private.h"
#include "common/log.h"
#include "common/util.h"

#define REPLY_MAX (64 * 1024)

/* ---- operations ---- */

struct registry_op *op_new(struct registry *r, uint64_t id,
			   void (*done)(void *arg, const struct error *e,
					const struct task *t,
					const struct coverage *c),
			   void *arg)
{
	struct registry_op *op = calloc(1, sizeof(*op));

	if (!op)
		return NULL;
	op->registry = r;
	op->id = id;
	op->done = done;
	op->arg = arg;
	op->next = r->ops;
	r->ops = op;
	return op;
}

void op_free(struct registry_op *op)
{
	struct registry_op **at = &op->registry->ops;

	while (*at != op)
		at = &(*at)->next;
	*at = op->next;
	for (unsigned i = 0; i < op->n_evict; i++)
		entry_leaves(op->registry, op->evict[i], false);
	monlink_cancel(op->put);
	fanout_free(op->children);
	loop_timer_cancel(&op->now);
	free(op);
}

void registry_cancel(struct registry_op *op)
{
	if (op)
		op_free(op);
}

void op_evicts(struct registry_op *op, const uint64_t *id, unsigned n,
	       bool above)
{
	struct registry *r = op->registry;

	for (unsigned i = 0; i < n && op->n_evict < ARRAY_SIZE(op->evict);
	     i++) {
		const struct entry *e = entry_find(r, id[i]);

		/* what is not here may be below */
		op->evict[op->n_evict++] = id[i];
		if (e && (!above || entry_from_above(r, e)))
			entry_leaves(r, id[i], true);
	}
}

/* A host may hold it now: with the first the change counts. */
static void op_held(struct registry_op *op)
{
	struct registry *r = op->registry;
	struct entry *e;

	if (op->held || !op->coverage.answered)
		return;
	op->held = true;
	for (unsigned i = 0; i < op->n_evict; i++) {
		e = entry_find(r, op->evict[i]);
		if (e && e->leaving)
			(void)entry_remove(r, op->evict[i], true);
	}
	e = entry_find(r, op->id);
	if (e)
		e->pending = false;
	if (e && op->retune)
		e->t.order = ++r->next_order;
	if (e && op->retune && op->threshold >= 0) {
		e->t.has_here = op->here;
		*(op->here ? &e->t.threshold_here : &e->t.threshold) =
			op->threshold;
	}
	if (e && op->params[0])
		memcpy(e->t.params, op->params, sizeof(op->params));
	if (e && op->retune && !op->here) {
		free(e->wanted);
		e->wanted = NULL;
	}
	if (op->n_evict || op->retune)
		registry_save(r);
}

/* Tasks of this host that go with what op puts. */
static bool op_victim(const struct registry_op *op, const struct entry *e)
{
	for (unsigned i = 0; i < op->n_evict; i++)
		if (e->leaving && !e->t.is_sketch &&
		    (e->t.sketch == op->evict[i] ||
		     e->t.spec.id == op->evict[i]))
			return true;
	return false;
}

/* The monitor was told to delete what stays after all. */
static void op_restore(struct registry_op *op)
{
	struct registry *r = op->registry;

	for (unsigned i = 0; i < r->n; i++)
		if (op_victim(op, r->row[i]))
			entry_put_monitor(r, r->row[i]);
}

static void reply_coverage(struct http_request *rq, const struct coverage *c)
{
	struct http_reply r;
	struct json_out o;

	http_reply_init(&r, 200, HTTP_JSON);
	json_out_init(&o, &r.body);
	json_open(&o, NULL, '{');
	coverage_encode(&o, "coverage", c);
	json_close(&o, '}');
	http_send(rq, &r);
}

void op_undo(struct registry_op *op, const struct entry *e)
{
	struct registry *r = op->registry;
	struct incoming was = { 0 };
	struct blocks_item item;

	if (op->made) {
		if (e && e->t.is_sketch && e->t.alias + 1 == r->next_alias)
			r->next_alias--;
		(void)entry_remove(r, op->id, true);
	} else if (e && e->wanted && !op->here) {
		was.t = e->t;
		item = entry_item(&was.t, &was);
		(void)blocks_change(r->blocks, &item);
	}
	registry_save(r);
}

static void op_finish(struct registry_op *op)
{
	struct registry *r = op->registry;
	const struct entry *e = entry_find(r, op->id);

	if (op->again && !op->held)
		op_restore(op);
	if (op->asked && !op->held) {
		/* nobody holds it: as if it had not been asked for */
		op_undo(op, e);
		e = NULL;
		if (op->error.code != ERR_NONE)
			; /* said already */
		else if (op->local_status == -ENOSPC)
			error_set(&op->error, ERR_LIMIT, "", "memory");
		else
			error_set(&op->error, ERR_NO_HOST, "", "");
	}
	if (op->rq)
		reply_coverage(op->rq, &op->coverage);
	if (op->done)
		op->done(op->arg,
			 op->error.code == ERR_NONE ? NULL : &op->error,
			 e ? &e->t : NULL, &op->coverage);
	op_free(op);
}

static void op_check(struct registry_op *op)
{
	if (op->local_in && op->children_in)
		op_finish(op);
}

static void op_now(void *arg)
{
	struct registry_op *op = arg;

	op->local_in = true;
	op_check(op);
}

int op_local_later(struct registry_op *op)
{
	return loop_timer_in(op->registry->agent->loop, &op->now, 0, op_now,
			     op);
}

/* ---- this host ---- */

void op_local(struct registry_op *op, enum missing_reason r)
{
	struct agent *a = op->registry->agent;
	struct ctl_loss none = { 0 };
	uint64_t now = clock_wall_ms();
	struct coverage own;

	if (r != MISSING_NONE) {
		coverage_missing(&op->coverage, overlay_self(a->overlay), r,
				 true);
		return;
	}
	coverage_answered(&own, a->conf->overlay_name, overlay_self(a->overlay),
			  &none, now, now);
	coverage_merge(&op->coverage, &own, false);
	op_held(op);
}

static enum missing_reason put_reason(int status)
{
	switch (status) {
	case 0:
		return MISSING_NONE;
	case -EINVAL:
	case -EEXIST:
	case -ENOSPC:
		return MISSING_UNKNOWN_TASK;
	default:
		return MISSING_MONITOR_DOWN;
	}
}

static void put_done(void *arg, int status)
{
	struct registry_op *op = arg;
	struct registry *r = op->registry;
	struct entry *e = entry_find(r, op->id);

	op->put = NULL;
	if (status == -ENOSPC && e && op->n_evict && !op->again) {
		op->again = true;
		for (unsigned i = 0; i < r->n; i++)
			if (op_victim(op, r->row[i]))
				(void)monlink_del(r->agent->monlink,
						  r->row[i]->t.spec.id, NULL,
						  NULL);
		op->put = monlink_put(r->agent->monlink, &e->t.spec, put_done,
				      op);
		if (op->put)
			return;
	}
	op->local_status = status;
	op->local_in = true;
	if (e)
		e->t.monitor_status = status;
	op_local(op, put_reason(status));
	op_check(op);
}

/* Puts e to the monitor; a sketch has nothing there, its counters will. */
static int op_put_monitor(struct registry_op *op, struct entry *e)
{
	struct registry *r = op->registry;

	if (!e->t.is_sketch) {
		e->tried_ms = clock_mono_ms();
		op->put = monlink_put(r->agent->monlink, &e->t.spec, put_done,
				      op);
		return op->put ? 0 : -ENOMEM;
	}
	e->t.monitor_status = 0;
	op_local(op, monlink_state(r->agent->monlink) == MONLINK_ATTACHED
			     ? MISSING_NONE
			     : MISSING_MONITOR_DOWN);
	return op_local_later(op);
}

/* A put that nobody waits for: its result is in the row. */
static void quiet_done(void *arg, int status)
{
	struct entry *e = arg;

	e->put = NULL;
	if (status && status != e->t.monitor_status)
		log_write(LOG_LEVEL_WARN, -status,
			  "task %016" PRIx64 ": not at the monitor",
			  e->t.spec.id);
	e->t.monitor_status = status;
}

void entry_put_monitor(struct registry *r, struct entry *e)
{
	monlink_cancel(e->put);
	e->tried_ms = clock_mono_ms();
	e->put = monlink_put(r->agent->monlink, &e->t.spec, quiet_done, e);
}

void registry_replay(struct agent *a)
{
	struct registry *r = a->registry;

	for (unsigned i = 0; r && i < r->n; i++)
		if (!r->row[i]->t.is_sketch)
			entry_put_monitor(r, r->row[i]);
}

/* ---- children ---- */

static void child_replied(void *arg, const struct fanout_child *c,
			  const struct json *v, enum missing_reason why)
{
	struct registry_op *op = arg;
	struct coverage cov;

	if (why == MISSING_NONE &&
	    coverage_decode(json_get(v, "coverage"), &cov)) {
		fanout_rejected(c, "malformed coverage");
		why = MISSING_REJECTED;
	} else if (why == MISSING_NONE && cov.answered > c->hosts) {
		fanout_rejected(c, "more hosts than it has");
		why = MISSING_REJECTED;
	}
	if (why == MISSING_NONE)
		coverage_merge(&op->coverage, &cov, true);
	else
		coverage_missing(&op->coverage, &c->id, why, false);
	op_held(op);
}

static void children_done(void *arg)
{
	struct registry_op *op = arg;

	fanout_free(op->children);
	op->children = NULL;
	op->children_in = true;
	op_check(op);
}

int op_fan_out(struct registry_op *op, enum http_method method,
	       const struct buf *body, uint32_t budget_ms)
{
	struct agent *a = op->registry->agent;
	char path[64 + BLOCK_TEXT], id[17], block[BLOCK_TEXT];
	struct fanout_request rq = {
		.method = method,
		.path = path,
		.body = body ? body->data : NULL,
		.len = body ? body->len : 0,
		.reply_max = REPLY_MAX,
		.budget_ms = budget_ms,
		.request_id = op->rq ? op->rq->id : "",
		.for_parent = op->rq && !overlay_is_root(a->overlay)
	};

	if (!overlay_n_children(a->overlay)) {
		op->children_in = true;
		return 0;
	}
	hex_u64(op->id, id);
	block_format(&op->block, block);
	snprintf(path, sizeof(path), "%s/%s?block=%s", registry_tasks_path, id,
		 block);
	op->children = fanout_start(a, &rq, child_replied, children_done, op);
	return op->children ? 0 : -ENOMEM;
}

void entry_write_put(struct buf *b, const struct entry *e,
		     const uint64_t *evict, unsigned n_evict)
{
	struct json_out o;

	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	entry_write(&o, "task", e, false);
	json_open(&o, "evict", '[');
	for (unsigned i = 0; i < n_evict; i++)
		json_put_hex(&o, NULL, evict[i]);
	json_close(&o, ']');
	json_close(&o, '}');
}

int op_spread(struct registry_op *op, struct entry *e, uint32_t budget_ms)
{
	struct buf b = BUF_INIT;
	int ret = 0;

	if (e->local || op->here) {
		op->children_in = true;
	} else {
		entry_write_put(&b, e, op->evict, op->n_evict);
		ret = b.failed ? -ENOMEM
			       : op_fan_out(op, HTTP_PUT, &b, budget_ms);
		if (b.data)
			explicit_bzero(b.data, b.len);
		buf_fini(&b);
	}
	return ret ? ret : op_put_monitor(op, e);
}

void ops_free(struct registry *r)
{
	while (r->ops)
		op_free(r->ops);
}
