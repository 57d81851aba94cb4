/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A running question: the local read and the children's parts go into one
 * accumulator as they come; when all are in, or the time is over, the callback
 * gets what is there.  A query owns its parts until then; whatever comes later
 * finds no query.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/fanout.h"
#include "agent/measure.h"
#include "agent/overlay.h"
#include "agent/query_private.h"
#include "common/log.h"
#include "common/util.h"

/* A tenth of the sliding second. */
#define SKEW_MS 100

struct query {
	struct query *next;
	struct queries *all;
	struct agent *agent;
	struct ask ask;
	struct measure *local;
	struct fanout *children;
	struct loop_timer end;
	bool local_in, children_in;
	struct part *part;
	struct coverage coverage;
	struct round1 *first; /* of two: what is given; then what was */
	void (*done)(void *arg, struct query_result *r);
	void *arg;
};

int ask_copy(struct ask *dst, const struct ask *src)
{
	*dst = *src;
	dst->keys = NULL;
	if (!src->n_keys)
		return 0;
	dst->keys = calloc(src->n_keys, sizeof(*dst->keys));
	if (!dst->keys) {
		dst->n_keys = 0;
		return -ENOMEM;
	}
	memcpy(dst->keys, src->keys, src->n_keys * sizeof(*dst->keys));
	return 0;
}

void ask_fini(struct ask *a)
{
	free(a->keys);
	a->keys = NULL;
	a->n_keys = 0;
}

/* ---- the query ---- */

/* Of the two that heavy hitters take. */
static bool first_round(const struct query *q)
{
	return q->ask.kind == ASK_TOP;
}

static void query_missing(struct query *q, const struct node_id *id,
			  enum missing_reason r)
{
	if (first_round(q) || !q->first ||
	    !round1_stand_in(q->first, id, r, &q->ask, &q->part, &q->coverage))
		coverage_missing(&q->coverage, id, r);
}

/* Takes p, what id gave, or NULL; 0 or as part_merge(), nothing changed. */
static int query_take(struct query *q, const struct node_id *id, struct part *p,
		      const struct coverage *c)
{
	int ret = p && q->part ? part_merge(q->part, p) : 0;

	if (p && !ret && first_round(q) && q->first)
		round1_add(q->first, id, p, c);
	if (!ret)
		coverage_merge(&q->coverage, c, false);
	if (!ret && !q->part)
		q->part = p;
	else
		part_free(p);
	return ret;
}

static void child_replied(void *arg, const struct fanout_child *c,
			  const struct json *v, enum missing_reason r)
{
	struct query *q = arg;
	struct coverage cov = { 0 };
	struct part *p = NULL;
	const char *why = "";
	int ret;

	if (r == MISSING_NONE) {
		r = reply_merge(v, &q->ask, measure_row(q->ask.kind), c->hosts,
				&p, &cov, &why);
		ret = r == MISSING_NONE ? query_take(q, &c->id, p, &cov) : 0;
		if (ret) {
			why = "does not merge";
			r = ret < 0 ? MISSING_BUSY : MISSING_INCOMPATIBLE;
		}
		if (r != MISSING_NONE)
			fanout_rejected(c, why);
	}
	if (r != MISSING_NONE)
		query_missing(q, &c->id, r);
}

static void query_unlink(struct query *q)
{
	struct query **at = &q->all->running;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	q->all->n_running--;
}

static void query_free(struct query *q)
{
	query_unlink(q);
	loop_timer_cancel(&q->end);
	measure_cancel(q->local);
	fanout_free(q->children);
	ask_fini(&q->ask);
	part_free(q->part);
	round1_free(q->first);
	free(q);
}

static void query_finish(struct query *q)
{
	struct query_result r = { .part = q->part, .coverage = q->coverage };
	void (*done)(void *, struct query_result *) = q->done;
	void *arg = q->arg;

	q->part = NULL;
	r.coverage.skew = measure_row(q->ask.kind)->end_slot &&
			  r.coverage.clock_err_ms > SKEW_MS;
	if (!r.coverage.answered && !r.coverage.reasons[MISSING_PARTIAL]) {
		part_free(r.part);
		r.part = NULL;
	}
	if (first_round(q) && q->first) {
		round1_keep(q->first);
		q->first = NULL;
	}
	query_free(q);
	done(arg, &r);
}

static void query_check(struct query *q)
{
	if (q->local_in && q->children_in)
		query_finish(q);
}

static void local_missing(struct query *q, enum missing_reason r)
{
	q->local_in = true;
	query_missing(q, overlay_self(q->agent->overlay), r);
}

static void local_done(void *arg, struct measure_result *m)
{
	struct query *q = arg;
	struct coverage own;

	q->local = NULL;
	if (m->reason != MISSING_NONE) {
		local_missing(q, m->reason);
		query_check(q);
		return;
	}
	q->local_in = true;
	coverage_answered(&own, q->agent->conf->overlay_name,
			  overlay_self(q->agent->overlay), &m->loss,
			  m->start_ms, m->end_ms);
	own.clock_err_ms = overlay_clock_err_ms(q->agent->overlay);
	if (query_take(q, overlay_self(q->agent->overlay), m->part, &own))
		local_missing(q, MISSING_INCOMPATIBLE);
	query_check(q);
}

static void children_done(void *arg)
{
	struct query *q = arg;

	fanout_free(q->children);
	q->children = NULL;
	q->children_in = true;
	query_check(q);
}

/* Children were told to be earlier: here only the local read may be late. */
static void query_over(void *arg)
{
	struct query *q = arg;

	if (!q->local_in)
		local_missing(q, MISSING_TIMEOUT);
	query_finish(q);
}

static int children_ask(struct query *q, const struct query_options *opt)
{
	struct buf body = BUF_INIT;
	struct fanout_request rq = {
		.method = HTTP_POST,
		.path = "/api/v1/peer/ask",
		.reply_max = measure_row(q->ask.kind)->reply_cap,
		.budget_ms = opt->budget_ms,
		.via = opt->via ? opt->via : "",
		.request_id = opt->request_id ? opt->request_id : "",
		.for_parent = opt->for_parent
	};

	if (opt->host_only || !overlay_n_children(q->agent->overlay)) {
		q->children_in = true;
		return 0;
	}
	ask_write(&body, &q->ask, opt->query_id);
	rq.body = body.data;
	rq.len = body.len;
	if (!body.failed)
		q->children = fanout_start(q->agent, &rq, child_replied,
					   children_done, q);
	buf_fini(&body);
	return q->children ? 0 : -ENOMEM;
}

/* A host alone has no second round. */
static void rounds_start(struct query *q, const struct query_options *opt)
{
	struct rounds *all = q->all->rounds;

	if (opt->host_only ||
	    (!opt->for_parent && !overlay_n_children(q->agent->overlay)))
		return;
	if (first_round(q))
		q->first = round1_new(all, opt->query_id);
	else if (q->ask.round == 2)
		q->first = round1_take(all, opt->query_id);
}

struct query *query_start(struct agent *a, const struct ask *ask,
			  const struct query_options *opt,
			  void (*done)(void *arg, struct query_result *r),
			  void *arg)
{
	struct queries *all = a->queries;
	unsigned most = opt->for_parent ? QUERIES_MAX
					: QUERIES_MAX - QUERIES_PARENT;
	struct query *q;

	if (all->n_running >= most)
		return NULL;
	q = calloc(1, sizeof(*q));
	if (!q)
		return NULL;
	q->all = all;
	q->agent = a;
	q->done = done;
	q->arg = arg;
	q->next = all->running;
	all->running = q;
	all->n_running++;
	if (ask_copy(&q->ask, ask))
		goto fail;
	rounds_start(q, opt);
	if (children_ask(q, opt))
		goto fail;
	q->local = measure_start(a, &q->ask, local_done, q);
	if (!q->local ||
	    loop_timer_in(a->loop, &q->end,
			  opt->budget_ms - MIN(opt->budget_ms / 20, 50),
			  query_over, q))
		goto fail;
	return q;
fail:
	query_free(q);
	return NULL;
}

void query_cancel(struct query *q)
{
	if (q)
		query_free(q);
}

unsigned query_running(const struct agent *a)
{
	return a->queries->n_running;
}

int queries_open(struct queries **out, struct agent *a)
{
	struct queries *all = calloc(1, sizeof(*all));

	if (!all || replay_open(&all->replay, a) ||
	    rounds_open(&all->rounds, a)) {
		if (all)
			replay_free(all->replay);
		free(all);
		return -ENOMEM;
	}
	all->agent = a;
	*out = all;
	return 0;
}

void queries_free(struct queries *q)
{
	if (!q)
		return;
	while (q->running)
		query_free(q->running);
	replay_free(q->replay);
	rounds_free(q->rounds);
	free(q);
}

/* ---- what is missing, by name ---- */

/* The agent gave nothing, so nothing came from below it either. */
static bool hides_subtree(enum missing_reason r)
{
	switch (r) {
	case MISSING_MONITOR_DOWN:
	case MISSING_UNKNOWN_TASK:
	case MISSING_NO_WINDOW:
	case MISSING_PARTIAL:
		return false;
	default:
		return true;
	}
}

static enum missing_reason top_reason(const struct coverage *c,
				      const struct node_id *id)
{
	for (uint32_t i = 0; i < c->n_missing; i++)
		if (node_id_equal(&c->missing[i].id, id))
			return c->missing[i].reason;
	return MISSING_NONE;
}

/* Its own rows come right after a row: hidden ones are a run. */
void coverage_walk(const struct coverage *c, const struct host_row *rows,
		   unsigned n,
		   void (*each)(void *arg, const struct host_row *m,
				enum missing_reason r),
		   void *arg)
{
	struct {
		struct node_id id;
		bool hidden;
	} stack[OVERLAY_HOPS + 2];
	unsigned depth = 0;

	for (unsigned i = 0; i < n; i++) {
		enum missing_reason r = top_reason(c, &rows[i].id);
		bool hidden;

		while (depth &&
		       !node_id_equal(&stack[depth - 1].id, &rows[i].parent))
			depth--;
		if (i && !depth)
			return;
		hidden = depth && stack[depth - 1].hidden;
		if (r == MISSING_NONE && hidden)
			r = MISSING_BEHIND;
		if (depth < ARRAY_SIZE(stack)) {
			stack[depth].id = rows[i].id;
			stack[depth++].hidden = hidden || (r != MISSING_NONE &&
							   hides_subtree(r));
		}
		each(arg, &rows[i], r);
	}
}

static void report_name(void *arg, const struct host_row *m,
			enum missing_reason r)
{
	struct coverage_report *out = arg;

	if (r == MISSING_NONE || out->n_missing == COVERAGE_TOPS)
		return;
	endpoint_format(&m->ep, 8000, out->missing[out->n_missing].host);
	out->missing[out->n_missing].reason = r;
	out->missing[out->n_missing++].last_seen_ms = m->last_seen_ms;
}

void coverage_begin(struct agent *a, bool host_only, struct coverage_scope *out)
{
	const struct host_row *rows = overlay_rows(a->overlay, &out->expected);

	if (host_only)
		out->expected = MIN(out->expected, 1);
	out->digest = 0;
	for (uint32_t i = 0; i < out->expected; i++)
		out->digest +=
			coverage_digest(a->conf->overlay_name, &rows[i].id);
	out->epoch = overlay_epoch(a->overlay);
}

void coverage_report(struct agent *a, const struct coverage *c,
		     const struct coverage_scope *scope,
		     struct coverage_report *out)
{
	const struct host_row *rows;
	bool reasons = false;
	uint32_t missing;
	unsigned n;

	memset(out, 0, sizeof(*out));
	rows = overlay_rows(a->overlay, &n);
	for (unsigned r = 0; r < MISSING_REASONS; r++)
		reasons |= c->reasons[r] != 0;
	out->answered = c->answered;
	out->expected = MAX(scope->expected, c->answered);
	out->complete = c->answered == scope->expected &&
			c->digest == scope->digest && !reasons &&
			!c->saturated && !c->skew;
	out->epoch = scope->epoch;
	out->partial = c->reasons[MISSING_PARTIAL];
	if (c->n_missing)
		coverage_walk(c, rows, n, report_name, out);
	missing = out->expected - out->answered;
	/* never more names than hosts that are missing */
	out->n_missing = MIN(out->n_missing, missing);
	out->missing_more = missing - out->n_missing;
}
