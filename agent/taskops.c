/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of tasks and how they spread: to the monitor of this host and, at
 * once, to all children, who pass them on; the coverage says which hosts hold
 * the task.  A change is the same whether a client or the parent asked for it.
 * Puts and deletes may come twice and in any order: a generation never goes
 * back, equal content changes nothing.  What was missed is repair.c's.
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

#include "agent/auth.h"
#include "agent/fanout.h"
#include "agent/monlink.h"
#include "agent/overlay.h"
#include "agent/registry_private.h"
#include "common/log.h"
#include "common/util.h"

#define BODY_MAX   65536
#define REPLY_MAX  (64 * 1024)
#define BUDGET_MAX 30000

struct registry_op {
	struct registry_op *next;
	struct registry *registry;
	uint64_t id;
	bool made; /* here, now: goes again if no host holds it */
	bool local_in, children_in;
	int local_status;
	struct monlink_op *put;
	struct fanout *children;
	struct loop_timer now;
	struct coverage coverage;
	struct error error;
	bool held;  /* by a first host */
	bool again; /* the monitor got a second put, after it was told to
		     * delete what goes */
	uint64_t evict[2 * REGISTRY_EVICT]; /* chosen above, and here */
	unsigned n_evict;
	bool retune, here; /* threshold: of the task, or of this host alone */
	double threshold;  /* < 0: as it is */
	char params[TASK_PARAMS_LEN]; /* "": as they are */
	struct http_request *rq;      /* of the parent, or NULL */
	void (*done)(void *arg, const struct error *e, const struct task *t,
		     const struct coverage *c);
	void *arg;
};

/* ---- operations ---- */

static struct registry_op *op_new(struct registry *r, uint64_t id,
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

static void op_free(struct registry_op *op)
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

/* These go once a host holds what op puts; above: only what came from there. */
static void op_evicts(struct registry_op *op, const uint64_t *id, unsigned n,
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
			entry_remove(r, op->evict[i]);
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

static void op_undo(struct registry_op *op, const struct entry *e)
{
	struct registry *r = op->registry;

	if (e && e->t.is_sketch && e->t.alias + 1 == r->next_alias)
		r->next_alias--;
	entry_remove(r, op->id);
	registry_save(r);
}

static void op_finish(struct registry_op *op)
{
	struct registry *r = op->registry;
	const struct entry *e = entry_find(r, op->id);

	if (op->again && !op->held)
		op_restore(op);
	if ((op->made || op->retune) && !op->held) {
		/* nobody holds it: as if it had not been asked for */
		if (op->made)
			op_undo(op, e);
		e = NULL;
		if (op->local_status == -ENOSPC)
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

/* ---- this host ---- */

static void op_local(struct registry_op *op, enum missing_reason r)
{
	struct agent *a = op->registry->agent;
	struct ctl_loss none = { 0 };
	uint64_t now = clock_wall_ms();
	struct coverage own;

	if (r != MISSING_NONE) {
		coverage_missing(&op->coverage, overlay_self(a->overlay), r);
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
	return loop_timer_in(r->agent->loop, &op->now, 0, op_now, op);
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
		coverage_missing(&op->coverage, &c->id, why);
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

static int op_fan_out(struct registry_op *op, enum http_method method,
		      const struct buf *body, uint32_t budget_ms)
{
	struct agent *a = op->registry->agent;
	char path[64], id[17];
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
	snprintf(path, sizeof(path), "/api/v1/peer/tasks/%s", id);
	op->children = fanout_start(a, &rq, child_replied, children_done, op);
	return op->children ? 0 : -ENOMEM;
}

void entry_write_put(struct buf *b, const struct entry *e,
		     const uint64_t *evict, unsigned n_evict)
{
	struct json_out o;
	char id[17];

	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	entry_write(&o, "task", e, false);
	json_open(&o, "evict", '[');
	for (unsigned i = 0; i < n_evict; i++) {
		hex_u64(evict[i], id);
		json_put_str(&o, NULL, id);
	}
	json_close(&o, ']');
	json_close(&o, '}');
}

/* To the monitor, and as it is in sent to the children; 0 or -ENOMEM. */
static int op_spread(struct registry_op *op, struct entry *e,
		     const struct entry *sent, uint32_t budget_ms)
{
	struct buf b = BUF_INIT;
	int ret = 0;

	if (e->local || op->here) {
		op->children_in = true;
	} else {
		entry_write_put(&b, sent, op->evict, op->n_evict);
		ret = b.failed ? -ENOMEM
			       : op_fan_out(op, HTTP_PUT, &b, budget_ms);
		if (b.data)
			explicit_bzero(b.data, b.len);
		buf_fini(&b);
	}
	return ret ? ret : op_put_monitor(op, e);
}

/* ---- what clients ask for ---- */

static uint64_t new_id(const struct registry *r)
{
	uint64_t id;

	do {
		id = random_u64();
	} while (!id || entry_find(r, id));
	return id;
}

struct registry_op *
registry_create(struct agent *a, const struct task *t, bool host_only,
		uint32_t budget_ms,
		void (*done)(void *arg, const struct error *e,
			     const struct task *t, const struct coverage *c),
		void *arg)
{
	struct registry *r = a->registry;
	struct registry_op *op = op_new(r, 0, done, arg);
	uint64_t evict[REGISTRY_EVICT];
	const struct entry *sketch = t->sketch ? entry_find(r, t->sketch)
					       : NULL;
	struct task mine = *t;
	unsigned n_evict;
	struct entry *e;

	if (!op)
		return NULL;
	if (registry_room(r, t, evict, &n_evict, &op->error)) {
		op->children_in = true;
		if (!loop_timer_in(a->loop, &op->now, 0, op_now, op))
			return op;
		op_free(op);
		return NULL;
	}
	op_evicts(op, evict, n_evict, false);
	mine.spec.id = op->id = new_id(r);
	mine.spec.generation = 1;
	random_bytes(mine.spec.seed.b, sizeof(mine.spec.seed.b));
	mine.created_ms = clock_wall_ms();
	mine.owner = *overlay_self(a->overlay);
	/* a counter reaches as far as its sketch does */
	e = entry_add(r, &mine, host_only || (sketch && sketch->local),
		      (uint64_t)t->expires_s * 1000);
	if (e) {
		e->pending = true;
		registry_save(r);
		op->made = true;
		if (!op_spread(op, e, e, budget_ms))
			return op;
		entry_remove(r, op->id);
		registry_save(r);
	}
	op_free(op);
	return NULL;
}

struct registry_op *
registry_delete(struct agent *a, uint64_t id, uint32_t budget_ms,
		void (*done)(void *arg, const struct error *e,
			     const struct task *t, const struct coverage *c),
		void *arg)
{
	struct registry *r = a->registry;
	struct registry_op *op = op_new(r, id, done, arg);
	const struct entry *e = entry_find(r, id);
	bool local = !e || e->local;

	if (!op)
		return NULL;
	if (!e) {
		error_set(&op->error, ERR_UNKNOWN_TASK, "", "");
	} else {
		entry_remove(r, id);
		registry_save(r);
		op_local(op, MISSING_NONE);
	}
	op->children_in = local;
	if ((!local && op_fan_out(op, HTTP_DELETE, NULL, budget_ms)) ||
	    loop_timer_in(a->loop, &op->now, 0, op_now, op)) {
		op_free(op);
		return NULL;
	}
	return op;
}

struct registry_op *registry_set_threshold(
	struct agent *a, uint64_t id, double threshold, bool host_only,
	uint32_t budget_ms,
	void (*done)(void *arg, const struct error *e, const struct task *t,
		     const struct coverage *c),
	void *arg)
{
	struct registry *r = a->registry;
	struct entry *e = entry_find(r, id), sent;
	struct registry_op *op = e ? op_new(r, id, done, arg) : NULL;

	if (!op)
		return NULL;
	sent = *e;
	op->retune = true;
	/* a task of this host alone has no other threshold */
	op->here = host_only && !e->local;
	op->threshold = threshold;
	if (threshold >= 0)
		sent.t.threshold = threshold;
	/* who is not reached now is repaired by the next beats */
	if (!op_spread(op, e, &sent, budget_ms))
		return op;
	op_free(op);
	return NULL;
}

struct registry_op *registry_set_params(
	struct agent *a, uint64_t id, const char *params, bool host_only,
	uint32_t budget_ms,
	void (*done)(void *arg, const struct error *e, const struct task *t,
		     const struct coverage *c),
	void *arg)
{
	struct registry *r = a->registry;
	struct entry *e = entry_find(r, id), sent;
	struct registry_op *op = e ? op_new(r, id, done, arg) : NULL;

	if (!op)
		return NULL;
	sent = *e;
	op->retune = true;
	op->here = host_only && !e->local;
	op->threshold = -1;
	snprintf(op->params, sizeof(op->params), "%s", params);
	memcpy(sent.t.params, op->params, sizeof(op->params));
	if (!op_spread(op, e, &sent, budget_ms))
		return op;
	op_free(op);
	return NULL;
}

/* ---- what the parent asks for ---- */

static void reply_error(struct http_request *rq, enum error_code code,
			const char *field)
{
	struct error e;

	error_set(&e, code, field, "");
	http_send_error(rq, &e);
}

static bool lease_right(const struct agent *a, struct http_request *rq)
{
	const char *lease = http_header(rq, "X-Linnet-Lease");

	if (strcmp(lease ? lease : "", overlay_lease(a->overlay)) == 0)
		return true;
	reply_error(rq, ERR_MOVED, "");
	return false;
}

/* What is left of the budget; 0: refused. */
static uint32_t budget_left(const struct agent *a, struct http_request *rq)
{
	const char *left = http_header(rq, "X-Linnet-Deadline");
	uint64_t budget = a->conf->query_ms, spent;

	if (left && parse_u64(left, strlen(left), 1, BUDGET_MAX, &budget)) {
		reply_error(rq, ERR_VALUE, "X-Linnet-Deadline");
		return 0;
	}
	spent = clock_mono_ms() - rq->began_ms;
	return (uint32_t)(budget > spent ? budget - spent : 1);
}

static unsigned evict_parse(const struct json *list,
			    uint64_t out[2 * REGISTRY_EVICT])
{
	unsigned n = 0;
	const char *s;
	size_t len;

	for (size_t i = 0; i < json_len(list) && n < 2 * REGISTRY_EVICT; i++)
		if (!json_str(json_at(list, i), 16, &s, &len) &&
		    !hex_parse_u64(s, len, &out[n]))
			n++;
	return n;
}

enum put_outcome {
	PUT_DONE,
	PUT_SAME,
	PUT_CONFLICT,
	PUT_FULL
};

/* Into the rows: *out is the row afterwards. */
static enum put_outcome put_row(struct registry_op *op, const struct entry *in,
				uint64_t left_ms, struct entry **out,
				struct error *err)
{
	struct registry *r = op->registry;
	struct entry *e = entry_find(r, in->t.spec.id);
	uint64_t evict[REGISTRY_EVICT];
	unsigned n_evict;

	if (e && in->t.spec.generation == e->t.spec.generation) {
		if (!task_equal(&in->t.spec, &e->t.spec) ||
		    in->t.is_sketch != e->t.is_sketch)
			return PUT_CONFLICT;
		*out = e;
		if (entry_hash(in) == entry_hash(e))
			return PUT_SAME;
		e->t.threshold = in->t.threshold;
		memcpy(e->t.params, in->t.params, sizeof(e->t.params));
		e->t.has_here = false;
		e->t.owner = in->t.owner;
		e->t.expires_s = in->t.expires_s;
		e->expire_ms = left_ms ? clock_mono_ms() + left_ms : 0;
		memcpy(e->t.name, in->t.name, sizeof(e->t.name));
		e->t.order = ++r->next_order;
		registry_save(r);
		return PUT_SAME;
	}
	if (e && in->t.spec.generation < e->t.spec.generation)
		return PUT_CONFLICT;
	if (e)
		entry_remove(r, in->t.spec.id);
	if (registry_room(r, &in->t, evict, &n_evict, err))
		return PUT_FULL;
	op_evicts(op, evict, n_evict, false);
	*out = entry_add(r, &in->t, false, left_ms);
	if (!*out) {
		error_set(err, ERR_LIMIT, "", "memory");
		return PUT_FULL;
	}
	registry_save(r);
	return PUT_DONE;
}

static void put_task(struct agent *a, struct http_request *rq,
		     const struct json *v, uint32_t budget_ms)
{
	struct registry *r = a->registry;
	const char *segment = rq->segment[0];
	struct registry_op *op;
	enum put_outcome res;
	struct entry in, *e = NULL;
	uint64_t left, id, evict[2 * REGISTRY_EVICT];
	struct error err;

	if (entry_parse(json_get(v, "task"), &in, &left, false) ||
	    hex_parse_u64(segment, strlen(segment), &id) ||
	    id != in.t.spec.id) {
		reply_error(rq, ERR_VALUE, "task");
		return;
	}
	op = op_new(r, id, NULL, NULL);
	if (!op) {
		reply_error(rq, ERR_INTERNAL, "");
		return;
	}
	op_evicts(op, evict, evict_parse(json_get(v, "evict"), evict), true);
	res = put_row(op, &in, left, &e, &err);
	if (res == PUT_CONFLICT || res == PUT_FULL) {
		if (res == PUT_CONFLICT)
			error_set(&err, ERR_CONFLICT, "", "");
		http_send_error(rq, &err);
		op_free(op);
		return;
	}
	op->rq = rq;
	/* also what is the same goes to the monitor: there it is the same too */
	if (op_spread(op, e, e, budget_ms)) {
		op_free(op);
		reply_error(rq, ERR_INTERNAL, "");
	}
}

static void serve_put(void *ctx, struct http_request *rq)
{
	struct agent *a = ctx;
	struct json *v = NULL;
	uint32_t budget_ms;

	if (!lease_right(a, rq))
		return;
	budget_ms = budget_left(a, rq);
	if (!budget_ms)
		return;
	if (json_parse(rq->body, rq->body_len, &v))
		reply_error(rq, ERR_MALFORMED, "");
	else
		put_task(a, rq, v, budget_ms);
	json_free(v);
}

static void serve_delete(void *ctx, struct http_request *rq)
{
	struct agent *a = ctx;
	struct registry *r = a->registry;
	const struct entry *e;
	struct registry_op *op;
	uint32_t budget_ms;
	uint64_t id;

	if (!lease_right(a, rq))
		return;
	budget_ms = budget_left(a, rq);
	if (!budget_ms)
		return;
	if (hex_parse_u64(rq->segment[0], strlen(rq->segment[0]), &id)) {
		reply_error(rq, ERR_VALUE, "id");
		return;
	}
	e = entry_find(r, id);
	if (e && entry_from_above(r, e)) {
		entry_remove(r, id);
		registry_save(r);
	}
	op = op_new(r, id, NULL, NULL);
	if (!op) {
		reply_error(rq, ERR_INTERNAL, "");
		return;
	}
	op->rq = rq;
	op_local(op, MISSING_NONE);
	if (op_fan_out(op, HTTP_DELETE, NULL, budget_ms) ||
	    loop_timer_in(a->loop, &op->now, 0, op_now, op)) {
		op_free(op);
		reply_error(rq, ERR_INTERNAL, "");
	}
}

static void serve_list(void *ctx, struct http_request *rq)
{
	struct registry *r = ((struct agent *)ctx)->registry;
	struct http_reply reply;
	struct json_out o;
	char text[17];

	http_reply_init(&reply, 200, HTTP_JSON);
	json_out_init(&o, &reply.body);
	json_open(&o, NULL, '{');
	json_open(&o, "tasks", '[');
	for (unsigned i = 0; i < r->n; i++) {
		if (!entry_from_above(r, r->row[i]))
			continue;
		json_open(&o, NULL, '[');
		hex_u64(r->row[i]->t.spec.id, text);
		json_put_str(&o, NULL, text);
		json_put_u64(&o, NULL, r->row[i]->t.spec.generation);
		hex_u64(entry_hash(r->row[i]), text);
		json_put_str(&o, NULL, text);
		json_close(&o, ']');
	}
	json_close(&o, ']');
	json_close(&o, '}');
	http_send(rq, &reply);
}

void ops_free(struct registry *r)
{
	while (r->ops)
		op_free(r->ops);
}

const struct http_route registry_routes[] = {
	{ .pattern = "/api/v1/peer/tasks",
	  .methods = HTTP_GET,
	  .role = ROLE_PEER,
	  .fn = serve_list },
	{ .pattern = "/api/v1/peer/tasks/*",
	  .methods = HTTP_PUT,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = BODY_MAX,
	  .fn = serve_put },
	{ .pattern = "/api/v1/peer/tasks/*",
	  .methods = HTTP_DELETE,
	  .role = ROLE_PEER,
	  .fn = serve_delete },
};
const size_t registry_n_routes = ARRAY_SIZE(registry_routes);
