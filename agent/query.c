/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions: struct walk does what is the same for all of them; here it gets
 * the tree, the clock and the measuring of this agent, and answers are made of
 * what it found.  A struct question belongs to its query, with what it keeps
 * between two rounds.
 */
#include "agent/query.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/contributors.h"
#include "agent/query_private.h"
#include "agent/registry.h"
#include "common/log.h"
#include "common/util.h"

#define SLIDING_MS 1000

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

/* ---- a question ---- */

/* Of the two that heavy hitters take. */
static bool first_round(const struct question *q)
{
	return q->ask.kind == ASK_TOP;
}

static void rounds_over(struct question *q)
{
	if (q->first && first_round(q))
		round1_keep(q->first);
	else
		round1_free(q->first);
	q->first = NULL;
}

struct question *question_new(struct agent *a, const struct ask *ask,
			      const uint8_t id[16], const char *request_id,
			      bool host_only, bool passed_on)
{
	struct queries *all = a->queries;
	struct question *q = calloc(1, sizeof(*q));

	if (!q || ask_copy(&q->ask, ask)) {
		free(q);
		return NULL;
	}
	q->all = all;
	memcpy(q->id, id, sizeof(q->id));
	snprintf(q->request_id, sizeof(q->request_id), "%s", request_id);
	/* a host alone has no second round */
	if (host_only || (!passed_on && !overlay_n_children(a->overlay)))
		return q;
	if (first_round(q))
		q->first = round1_new(all->rounds, id);
	else if (ask->round == 2)
		q->first = round1_take(all->rounds, id);
	return q;
}

void question_free(void *ctx, void *question)
{
	struct question *q = question;

	(void)ctx;
	if (!q)
		return;
	rounds_over(q);
	ask_fini(&q->ask);
	buf_fini(&q->body);
	free(q);
}

uint64_t question_created_ms(const struct question *q)
{
	const struct task *t =
		registry_find(q->all->agent->registry, q->ask.task.id);

	return t ? t->created_ms : 0;
}

/* ---- what struct walk does with it ---- */

static size_t ops_reply_cap(const void *question)
{
	const struct question *q = question;

	return measure_row(q->ask.kind)->reply_cap;
}

static void local_done(void *arg, struct measure_result *m)
{
	struct question *q = arg;
	struct agent *a = q->all->agent;
	struct coverage own;

	q->local = NULL;
	coverage_answered(&own, a->conf->overlay_name, overlay_self(a->overlay),
			  &m->loss, m->start_ms, m->end_ms);
	walk_read_done(q->all->walk, q->read_ref, m->reason, m->part, &own);
}

static int ops_read(void *ctx, void *question, uint64_t ref)
{
	struct queries *all = ctx;
	struct question *q = question;

	q->read_ref = ref;
	q->local = measure_start(all->agent, &q->ask, local_done, q);
	return q->local ? 0 : -ENOMEM;
}

static void ops_read_cancel(void *ctx, void *question)
{
	struct question *q = question;

	(void)ctx;
	measure_cancel(q->local);
	q->local = NULL;
}

static enum missing_reason ops_check(void *ctx, const void *question,
				     const void *part, const struct coverage *c,
				     const char **why)
{
	const struct question *q = question;

	(void)ctx;
	return reply_check(&q->ask, measure_row(q->ask.kind), part, c,
			   question_created_ms(q), why);
}

static int ops_merge(void *ctx, void *question, const struct node_id *id,
		     const struct coverage *c, void **acc, void *in)
{
	struct question *q = question;
	int ret;

	(void)ctx;
	ret = *acc && in ? part_merge(*acc, in) : 0;
	if (ret)
		return ret;
	if (q->contributors)
		contributors_add(q->contributors, id, MISSING_NONE,
				 &q->ask.task, in, c);
	if (!in)
		return 0;
	if (q->first && first_round(q))
		round1_add(q->first, id, in, c);
	if (*acc)
		part_free(in);
	else
		*acc = in;
	return 0;
}

static bool ops_missing(void *ctx, void *question, const struct node_id *id,
			enum missing_reason why, void **acc, struct coverage *c)
{
	struct question *q = question;
	struct part *p = *acc;
	bool in;

	(void)ctx;
	if (q->contributors)
		contributors_add(q->contributors, id, why, &q->ask.task, NULL,
				 NULL);
	if (first_round(q) || !q->first)
		return false;
	in = round1_stand_in(q->first, id, why, &q->ask, &p, c);
	*acc = p;
	return in;
}

static void ops_free_part(void *part)
{
	part_free(part);
}

static size_t ops_part_size(const void *part)
{
	return part_held(part);
}

static const struct walk_ops ops = {
	.reply_cap = ops_reply_cap,
	.read = ops_read,
	.read_cancel = ops_read_cancel,
	.check = ops_check,
	.merge = ops_merge,
	.missing = ops_missing,
	.free_part = ops_free_part,
	.part_size = ops_part_size,
	.free_question = question_free,
};

/* ---- the world ---- */

static uint64_t env_now_ms(void *ctx)
{
	(void)ctx;
	return clock_mono_ms();
}

static uint64_t env_wall_ms(void *ctx)
{
	(void)ctx;
	return clock_wall_ms();
}

static void timer_fired(void *arg)
{
	struct queries *all = arg;

	walk_timer(all->walk);
}

static void env_timer(void *ctx, uint64_t at_ms)
{
	struct queries *all = ctx;

	if (at_ms == UINT64_MAX)
		loop_timer_cancel(&all->timer);
	else if (loop_timer_at(all->agent->loop, &all->timer, MAX(at_ms, 1),
			       timer_fired, all))
		log_warnx("no memory for a timer");
}

static void env_suspect(void *ctx, const struct node_id *id)
{
	struct queries *all = ctx;

	overlay_suspect(all->agent->overlay, id);
}

static const struct walk_env env = {
	.now_ms = env_now_ms,
	.wall_ms = env_wall_ms,
	.timer = env_timer,
	.send = exchange_send,
	.leave = exchange_leave,
	.cancel = exchange_cancel,
	.reply = ask_reply,
	.suspect = env_suspect,
	.rejected = exchange_rejected,
};

struct epoch epoch_of_text(const char *s)
{
	struct epoch e = { 0 };

	(void)epoch_parse(s, &e);
	return e;
}

/* ---- what a client asks ---- */

/* A clock that is wrong by more than a tenth of what was asked about. */
static bool skewed(const struct ask *ask, const struct coverage *c)
{
	uint32_t ms = measure_row(ask->kind)->end_slot ? SLIDING_MS
		      : ask->window                    ? ask->task.window_ms
						       : UINT32_MAX;

	return c->clock_err_ms > ms / 10;
}

static void client_done(void *arg, void *part, const struct coverage *c)
{
	struct question *q = arg;
	struct query_result r = { .part = part, .coverage = *c };

	r.coverage.skew = skewed(&q->ask, c);
	/* the next round wants what was given in this one */
	rounds_over(q);
	q->done(q->arg, &r);
}

int query_start(struct agent *a, const struct ask *ask,
		const struct query_options *opt,
		void (*done)(void *arg, struct query_result *r), void *arg)
{
	struct walk_options o = { .round = ask->round,
				  .as_of = opt->as_of,
				  .host_only = opt->host_only,
				  .budget_ms = opt->budget_ms };
	struct question *q = question_new(
		a, ask, opt->query_id, opt->request_id, opt->host_only, false);

	if (!q)
		return -EBUSY;
	q->done = done;
	q->arg = arg;
	q->contributors = opt->contributors;
	memcpy(o.query, opt->query_id, sizeof(o.query));
	if (walk_start(a->queries->walk, &o, q, client_done, q))
		return 0;
	question_free(a->queries, q);
	return -EBUSY;
}

uint64_t query_served(const struct agent *a)
{
	return walk_served(a->queries->walk);
}

uint64_t query_late(const struct agent *a)
{
	return walk_late(a->queries->walk);
}

void coverage_begin(struct agent *a, bool host_only, struct walk_scope *out)
{
	walk_scope(a->queries->walk, host_only, out);
}

/* The first is this host, which may not say where it is. */
static struct endpoint row_endpoint(const struct agent *a,
				    const struct tree_row *rows, uint32_t i)
{
	return i ? rows[i].ep : overlay_endpoint(a->overlay);
}

void coverage_report(struct agent *a, const struct coverage *c,
		     const struct walk_scope *scope,
		     struct coverage_report *out)
{
	const struct tree_row *rows;
	struct walk_report r;
	struct endpoint ep;
	unsigned n;

	walk_report(a->queries->walk, c, scope, &r);
	rows = overlay_rows(a->overlay, &n);
	*out = (struct coverage_report){ .expected = r.expected,
					 .answered = r.answered,
					 .partial = r.partial,
					 .all_in = r.all_in,
					 .complete = r.complete,
					 .epoch = scope->as_of.n,
					 .n_missing = r.n_missing,
					 .missing_more = r.missing_more };
	for (uint32_t i = 0; i < r.n_missing; i++) {
		const struct tree_row *row = &rows[r.missing[i].row];

		ep = row_endpoint(a, rows, r.missing[i].row);
		endpoint_format(&ep, 8000, out->missing[i].host);
		out->missing[i].reason = r.missing[i].reason;
		out->missing[i].last_seen_ms = row->seen_ms;
	}
	for (unsigned i = 0; c->skew && i < n && !out->skewed[0]; i++) {
		ep = row_endpoint(a, rows, i);
		if (node_id_equal(&rows[i].id, &c->clock_id))
			endpoint_format(&ep, 8000, out->skewed);
	}
}

/* ---- begin and end ---- */

int queries_open(struct queries **out, struct agent *a)
{
	struct queries *all = calloc(1, sizeof(*all));
	struct walk_conf conf = { .overlay = a->conf->overlay_name,
				  .env = &env,
				  .ops = &ops,
				  .ctx = all,
				  .view = &walk_tree_view,
				  .tree = overlay_tree(a->overlay) };

	if (!all)
		return -ENOMEM;
	all->agent = a;
	all->walk = walk_new(&conf);
	if (!all->walk || rounds_open(&all->rounds, a)) {
		walk_free(all->walk);
		free(all);
		return -ENOMEM;
	}
	*out = all;
	return 0;
}

void queries_free(struct queries *all)
{
	if (!all)
		return;
	fanouts_free(all);
	walk_free(all->walk);
	rounds_free(all->rounds);
	loop_timer_cancel(&all->timer);
	free(all);
}
