/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /api/v1/tasks/ID/…: what may be asked of a task, and when there is no answer
 * to send.  How an answer looks is in v1_answer_json.c.
 *
 * A call belongs to the measurement from ask() until answered().  The windows
 * that may be asked for are those that other hosts have closed, too.
 */
#include <string.h>

#include "agent/measure.h"
#include "agent/messages.h"
#include "agent/standing.h"
#include "agent/v1.h"
#include "common/util.h"

#define KEYS_MAX        32
#define WINDOW_GRACE_MS 200 /* until other hosts have closed it, too */

static void answered(void *arg, const struct answer *an)
{
	struct v1_call *c = arg;

	if (!an->part) {
		v1_error(c,
			 an->report.expected == 1 ? ERR_NO_MONITOR
						  : ERR_NO_HOST,
			 "", "");
		return;
	}
	if (c->f.require_all && !an->report.complete) {
		v1_error(c, ERR_INCOMPLETE, "", "");
		return;
	}
	v1_answer_send(c, an);
}

/* The newest window that every host has closed, its clock being right. */
static uint64_t window_last(const struct task_spec *t)
{
	return (clock_wall_ms() - WINDOW_GRACE_MS) / t->window_ms - 1;
}

/* Which window is meant.  False: the problem is sent. */
static bool window_choose(struct v1_call *c, const struct task_spec *t,
			  struct answer_request *q)
{
	uint64_t last;

	if (v1_answer_sliding(q->kind))
		return true;
	if (!t->window_ms && c->f.set & FIELD(WINDOW)) {
		v1_error(c, ERR_VALUE, "window",
			 "nothing: this task has no windows");
		return false;
	}
	if (!t->window_ms)
		return true;
	q->window = last = window_last(t);
	if (!c->f.window_ms)
		q->window = standing_last(c->agent, q, last);
	else
		q->window = c->f.window_ms / t->window_ms;
	if (q->window <= last && q->window + TASK_CLOSED > last)
		return true;
	v1_error(c, ERR_VALUE, "window", "one of the last 4 that are closed");
	return false;
}

static void ask(struct v1_call *c, const struct task *t,
		struct answer_request *q)
{
	if (!measure_possible(q->kind, &t->spec)) {
		v1_error(c, ERR_WRONG_SKETCH, "", "");
		return;
	}
	if (c->f.contributors &&
	    auth_allows(c->agent->auth, c->rq->roles, ROLE_ADMIN) != AUTH_OK) {
		v1_error(c, ERR_FORBIDDEN, "", "");
		return;
	}
	q->contributors = c->f.contributors;
	q->task = t->spec;
	q->host_only = c->f.host_only;
	q->budget_ms = v1_budget(c);
	q->request_id = c->rq->id;
	if (!window_choose(c, &t->spec, q))
		return;
	if (!answer_start(c->agent, q, answered, c))
		v1_error(c, ERR_UNAVAILABLE, "", "too many queries");
}

#define ASK_FIELDS \
	(FIELD(SCOPE) | FIELD(TIMEOUT) | FIELD(REQUIRE) | FIELD(CONTRIBUTORS))
#define WINDOW_FIELDS (ASK_FIELDS | FIELD(WINDOW))

static void get_estimate(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_list_call(ctx, rq, WINDOW_FIELDS, "key");
	const struct task *t = c ? v1_task(c) : NULL;
	struct answer_request q = { .kind = ASK_POINTS };
	struct flow_key keys[KEYS_MAX];

	if (!t)
		return;
	if (!measure_possible(q.kind, &t->spec)) {
		v1_error(c, ERR_WRONG_SKETCH, "", "");
		return;
	}
	for (unsigned i = 0; i < c->form.n; i++) {
		if (strcmp(c->form.pair[i].name, "key") != 0)
			continue;
		if (q.n_keys == KEYS_MAX ||
		    key_parse((enum key_type)t->spec.key, c->form.pair[i].value,
			      c->form.pair[i].len, &keys[q.n_keys])) {
			v1_error(c, ERR_VALUE, "key",
				 "1 to 32 keys of the task's key type, "
				 "each with addresses of one family");
			return;
		}
		q.n_keys++;
	}
	if (!q.n_keys) {
		v1_error(c, ERR_MISSING, "key", "");
		return;
	}
	q.keys = keys;
	ask(c, t, &q);
}

static void get_top(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_list_call(
		ctx, rq,
		WINDOW_FIELDS | FIELD(N) | FIELD(SHARE) | FIELD(TREE_BASE),
		NULL);
	const struct task *t = c ? v1_task(c) : NULL;
	struct answer_request q = { .kind = ASK_TOP };

	if (!t)
		return;
	q.share = c->f.threshold;
	q.n_top = fields_n_top(&c->f);
	q.base_tree = fields_base_tree(&c->f);
	ask(c, t, &q);
}

static void get_simple(void *ctx, struct http_request *rq, enum ask_kind kind,
		       uint64_t takes)
{
	struct v1_call *c = v1_list_call(ctx, rq, ASK_FIELDS | takes, NULL);
	const struct task *t = c ? v1_task(c) : NULL;
	struct answer_request q = { .kind = kind };

	if (!t)
		return;
	if (c->f.distinct)
		q.kind = ASK_REALTIME_DISTINCT;
	ask(c, t, &q);
}

static void get_distinct(void *ctx, struct http_request *rq)
{
	get_simple(ctx, rq, ASK_DISTINCT, FIELD(WINDOW));
}

static void get_realtime(void *ctx, struct http_request *rq)
{
	get_simple(ctx, rq, ASK_REALTIME, FIELD(DISTINCT));
}

static void get_totals(void *ctx, struct http_request *rq)
{
	get_simple(ctx, rq, ASK_TOTALS, FIELD(WINDOW));
}

static void get_windows(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	const struct task *t = c ? v1_task(c) : NULL;
	struct http_reply r;
	struct json_out o;

	if (!t)
		return;
	v1_begin(&r, &o, 200);
	json_open(&o, "data", '[');
	for (uint64_t i = 0; t->spec.window_ms && i < TASK_CLOSED; i++) {
		uint64_t number = window_last(&t->spec) - i;

		/* the one in which it began is not whole on any host */
		if (number * t->spec.window_ms < t->created_ms)
			break;
		json_open(&o, NULL, '{');
		v1_put_time(&o, "start", number * t->spec.window_ms);
		json_put_fixed(&o, "seconds", t->spec.window_ms / 1000.0, 1);
		json_close(&o, '}');
	}
	json_close(&o, ']');
	v1_end(c, &r, &o);
}

#define ANSWER_ROUTE(name, handler)                                 \
	{                                                           \
		.pattern = "/api/v1/tasks/*/" name,                 \
		.methods = HTTP_GET | HTTP_HEAD, .role = ROLE_READ, \
		.fn = handler                                       \
	}

const struct http_route answer_routes[] = {
	ANSWER_ROUTE("estimate", get_estimate),
	ANSWER_ROUTE("top", get_top),
	ANSWER_ROUTE("distinct", get_distinct),
	ANSWER_ROUTE("realtime", get_realtime),
	ANSWER_ROUTE("totals", get_totals),
	ANSWER_ROUTE("windows", get_windows),
};
const size_t answer_n_routes = ARRAY_SIZE(answer_routes);
