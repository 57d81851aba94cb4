/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a question to a finished answer, where the client asked.  Most kinds
 * are one wave over the subtree.  Heavy hitters are two: the first brings rows
 * that may matter with a bound for all others, the second asks every host for
 * its amount of each candidate, so that a key that is small on every host but
 * large in the tree is neither missed nor under-counted.  Where the first has
 * said it all, as small tables do, there is no second.
 *
 * Why nothing is missed: a key that is absent from the merged rows has at most
 * floor; with floor <= T every key above T is a row, its upper bound is above
 * T, and so it is a candidate.  That is checked, not assumed; if it fails the
 * first round is asked again for whole tables.
 */
#include "agent/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/kept.h"
#include "agent/measure.h"
#include "agent/overlay.h"
#include "agent/query_private.h"
#include "common/util.h"

/* Equal questions that come so soon after one share its answer. */
#define SHARE_MS  50
/* First cut of round 1: rows from half of the host's own threshold. */
#define TOP_ALPHA 0.5

/* Somebody who asks what is being answered. */
struct asker {
	uint64_t began_ms;
	void (*done)(void *arg, const struct answer *an);
	void *arg;
};

struct answer_op {
	struct answer_op *next;
	struct agent *agent;
	struct ask ask;
	struct answer_request rq; /* as it was asked; its keys are the ask's */
	struct loop_timer timer;  /* of one that is kept */
	bool host_only, base_tree;
	uint32_t n_top;
	struct walk_scope scope;
	uint64_t began_ms, deadline_ms; /* monotonic */
	char *request_id;
	uint8_t query_id[16]; /* of both rounds */
	uint32_t budget_ms;
	void (*done)(void *arg, const struct answer *an);
	void *arg;
	struct asker *more; /* beside the first */
	unsigned n_more;
	/* heavy hitters, after round 1 */
	uint64_t threshold;
	uint64_t digest;
	bool certain, whole;
	bool degraded; /* less than could be said at another time */
	struct answer answer;
};

static void op_free(struct answer_op *op)
{
	struct answer_op **at = &op->agent->queries->answers;

	while (*at && *at != op)
		at = &(*at)->next;
	if (*at)
		*at = op->next;
	free(op->more);
	loop_timer_cancel(&op->timer);
	ask_fini(&op->ask);
	part_free(op->answer.part);
	contributors_reset(&op->answer.contributors);
	free(op->answer.hit);
	free(op->request_id);
	free(op);
}

/* What is kept here, of this reign. */
static struct kept *kept_of(const struct agent *a)
{
	const struct overlay *o = a->overlay;

	kept_reign(a->kept, overlay_is_root(o) ? overlay_term(o) : 0);
	return a->kept;
}

static const struct answer *op_kept(const struct answer_op *op)
{
	const struct answer_request *rq = &op->rq;

	return rq->window && !rq->contributors
		       ? kept_find(kept_of(op->agent), rq)
		       : NULL;
}

/* Of a time that is over, and whole: whoever asks next gets it as it is. */
static bool op_keepable(const struct answer_op *op)
{
	const struct answer *an = &op->answer;

	return op->rq.window && !op->rq.contributors && an->part &&
	       an->report.complete && !op->degraded &&
	       op->scope.as_of.term == overlay_term(op->agent->overlay);
}

static void op_keep(struct answer_op *op)
{
	struct answer_request rq = op->rq;
	const struct flow_key *keys = op->answer.keys;

	kept_take(kept_of(op->agent), &rq, &op->answer);
	if (keys && !op->answer.keys) { /* they are the ask's, and went */
		op->ask.keys = NULL;
		op->ask.n_keys = 0;
	}
}

static void op_finish(struct answer_op *op)
{
	struct answer *an = &op->answer;
	const struct ctl_loss *l = &an->coverage.loss;
	uint64_t now = clock_mono_ms();

	an->missed_packets = l->matched.packets > l->received.packets
				     ? l->matched.packets - l->received.packets
				     : 0;
	an->missed_bytes = l->matched.bytes > l->received.bytes
				   ? l->matched.bytes - l->received.bytes
				   : 0;
	if (an->part && an->part->saturated)
		an->coverage.saturated = true;
	coverage_report(op->agent, &an->coverage, &op->scope, &an->report);
	an->elapsed_ms = (uint32_t)(now - op->began_ms);
	op->done(op->arg, an);
	for (unsigned i = 0; i < op->n_more; i++) {
		an->elapsed_ms = (uint32_t)(now - op->more[i].began_ms);
		op->more[i].done(op->more[i].arg, an);
	}
	if (op_keepable(op))
		op_keep(op);
	op_free(op);
}

/*
 * Starts one wave; of the first of two all that is large comes back, so that it
 * has two thirds of the time.
 */
static int op_wave(struct answer_op *op, bool last,
		   void (*done)(void *arg, struct query_result *r))
{
	uint64_t now = clock_mono_ms();
	uint64_t left = op->deadline_ms > now ? op->deadline_ms - now : 1;
	struct query_options opt = {
		.host_only = op->host_only,
		.budget_ms = (uint32_t)(last ? left : left - left / 3),
		.as_of = op->scope.as_of,
		.request_id = op->request_id
	};

	if (op->answer.has_contributors) {
		contributors_reset(&op->answer.contributors);
		opt.contributors = &op->answer.contributors;
	}
	if (op->ask.round == 1 && op->ask.standing)
		ask_run_id(&op->ask, op->query_id);
	else if (op->ask.round == 1)
		random_bytes(op->query_id, sizeof(op->query_id));
	memcpy(opt.query_id, op->query_id, sizeof(opt.query_id));
	return query_start(op->agent, &op->ask, &opt, done, op);
}

static void take_result(struct answer_op *op, struct query_result *r)
{
	part_free(op->answer.part);
	op->answer.part = r->part;
	op->answer.coverage = r->coverage;
}

static void single_done(void *arg, struct query_result *r)
{
	struct answer_op *op = arg;

	take_result(op, r);
	op->answer.keys = op->ask.keys;
	op_finish(op);
}

/* The scope is this host: round 1 had whole tables, its threshold is known. */
static bool op_alone(const struct answer_op *op)
{
	return op->host_only || !overlay_n_children(op->agent->overlay);
}

static int hit_order(const void *a, const void *b, void *arg)
{
	const struct hit *x = a, *y = b;
	const enum key_type *type = arg;

	if (x->v.upper != y->v.upper)
		return x->v.upper < y->v.upper ? 1 : -1;
	return key_compare(*type, &x->key, &y->key);
}

static int row_order(const void *a, const void *b, void *arg)
{
	const struct exact_row *x = a, *y = b;
	const enum key_type *type = arg;

	return key_compare(*type, &x->key, &y->key);
}

void answer_order_keys(const struct answer *an)
{
	enum key_type type = (enum key_type)an->task.key;

	qsort_r(an->part->exact.row, an->part->exact.n,
		sizeof(struct exact_row), row_order, &type);
}

static void hits_sort(struct answer_op *op)
{
	enum key_type type = (enum key_type)op->ask.task.key;

	qsort_r(op->answer.hit, op->answer.n_hits, sizeof(struct hit),
		hit_order, &type);
}

/* Amounts of the candidates are known: the test, then the order. */
static void hits_finish(struct answer_op *op)
{
	struct answer *an = &op->answer;
	uint32_t n = 0;

	for (uint32_t i = 0; i < an->n_hits; i++) {
		struct hit *h = &an->hit[i];

		if (op->base_tree && !h->v.saturated &&
		    h->v.upper <= op->threshold)
			continue;
		if (!h->v.upper) /* the hosts that had it are gone */
			continue;
		/* else, of several hosts, only what was exact is sure */
		if (op->base_tree || op_alone(op))
			h->certain = h->v.lower > op->threshold;
		an->hit[n++] = *h;
	}
	an->n_hits = n;
	hits_sort(op);
	if (op->n_top && n > op->n_top) {
		an->left_out += n - op->n_top;
		an->n_hits = op->n_top;
	}
	an->recall_certain = op->certain;
	op_finish(op);
}

static void round2_done(void *arg, struct query_result *r)
{
	struct answer_op *op = arg;
	struct answer *an = &op->answer;
	struct totals round1 = an->part ? an->part->totals
					: (struct totals){ 0 };

	if (!r->part || r->part->points.n != an->n_hits)
		an->n_hits = 0;
	for (uint32_t i = 0; i < an->n_hits; i++)
		an->hit[i].v = r->part->points.v[i];
	if (r->coverage.digest != op->digest)
		op->certain = false;
	take_result(op, r);
	an->keys = op->ask.keys;
	/* the statement is "as of round 1": shares are of its total */
	if (an->part)
		an->part->totals = round1;
	hits_finish(op);
}

static int lower_order(const void *a, const void *b)
{
	uint64_t x = ((const struct hit *)a)->v.lower;
	uint64_t y = ((const struct hit *)b)->v.lower;

	return x < y ? 1 : x > y ? -1 : 0;
}

/*
 * Only the n largest are wanted: what cannot reach the n-th largest lower
 * bound is not among them.  With a floor above that bound an absent key might.
 */
static void candidates_top(struct answer_op *op)
{
	struct answer *an = &op->answer;
	uint64_t bound;
	uint32_t n = 0;

	if (!op->n_top || an->n_hits <= op->n_top)
		return;
	qsort(an->hit, an->n_hits, sizeof(struct hit), lower_order);
	bound = an->hit[op->n_top - 1].v.lower;
	for (uint32_t i = 0; i < an->n_hits; i++)
		if (an->hit[i].v.upper >= bound)
			an->hit[n++] = an->hit[i];
	an->left_out = an->n_hits - n;
	an->n_hits = n;
	op->certain |= op->base_tree && an->part->topk.floor <= bound;
}

/* Rows that may be heavy become candidates.  0 or -ENOMEM. */
static int candidates(struct answer_op *op)
{
	const struct part *p = op->answer.part;
	struct answer *an = &op->answer;
	uint32_t n = 0;

	free(an->hit);
	an->n_hits = 0;
	an->hit = calloc(p->topk.n ? p->topk.n : 1, sizeof(*an->hit));
	if (!an->hit)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->topk.n; i++) {
		const struct topk_row *row = &p->topk.row[i];

		if (op->base_tree ? row->upper <= op->threshold : !row->own)
			continue;
		an->hit[n].key = row->key;
		an->hit[n].v.upper = an->hit[n].v.point = row->upper;
		an->hit[n].v.lower = row->upper - row->err;
		an->hit[n].v.lower99 = an->hit[n].v.lower;
		an->hit[n].certain = row->err == 0;
		n++;
	}
	an->n_hits = n;
	candidates_top(op);
	if (an->n_hits > ASK_KEYS_MAX) {
		hits_sort(op);
		an->left_out += an->n_hits - ASK_KEYS_MAX;
		an->n_hits = ASK_KEYS_MAX;
		op->certain = false;
	}
	return 0;
}

/* Of no candidate is anything left to be said. */
static bool hits_exact(const struct answer *an)
{
	for (uint32_t i = 0; i < an->n_hits; i++)
		if (an->hit[i].v.lower != an->hit[i].v.upper)
			return false;
	/* who gave how much of each is told by the second round alone */
	return !an->part->saturated && !an->has_contributors;
}

/* Asks every host for its amount of every candidate. */
static int round2_start(struct answer_op *op)
{
	struct answer *an = &op->answer;

	op->ask.kind = ASK_POINTS;
	op->ask.round = 2;
	op->ask.keys = calloc(an->n_hits, sizeof(*op->ask.keys));
	if (!op->ask.keys)
		return -ENOMEM;
	op->ask.n_keys = an->n_hits;
	for (uint32_t i = 0; i < an->n_hits; i++)
		op->ask.keys[i] = an->hit[i].key;
	return op_wave(op, true, round2_done);
}

static void round1_done(void *arg, struct query_result *r)
{
	struct answer_op *op = arg;
	struct answer *an = &op->answer;
	const struct part *p;
	uint32_t cap;

	take_result(op, r);
	p = an->part;
	if (!p || !measure_heavy(op->ask.share, p->totals.weight)) {
		an->recall_certain = true;
		op_finish(op);
		return;
	}
	cap = p->params.topk_slots / 8 * 7;
	op->threshold = measure_share(op->ask.share, p->totals.weight);
	op->digest = an->coverage.digest;
	/* per host the floor is at most 2 N / cap, whatever came */
	op->certain = op->base_tree ? p->topk.floor <= op->threshold
				    : op->ask.share * cap >= 2 &&
					      p->topk.n < p->params.topk_slots;
	/* no host has dropped anything: what is not here does not exist */
	op->certain |= p->topk.floor == 0;
	if (!op->certain && !op->whole && op->base_tree) {
		op->whole = true;
		op->ask.alpha = 0;
		op->ask.standing = false; /* nobody has asked that */
		if (!op_wave(op, false, round1_done))
			return;
	}
	op->degraded = candidates(op) != 0;
	if (op->degraded || !an->n_hits) {
		an->recall_certain = op->certain;
		op_finish(op);
		return;
	}
	if (!op_alone(op) && !hits_exact(an)) {
		if (!round2_start(op))
			return;
		op->degraded = true;
	}
	hits_finish(op);
}

bool answer_request_same(const struct answer_request *a,
			 const struct answer_request *b)
{
	return a->kind == b->kind && a->window == b->window &&
	       a->host_only == b->host_only && a->share == b->share &&
	       a->base_tree == b->base_tree && a->n_top == b->n_top &&
	       a->contributors == b->contributors &&
	       task_equal(&a->task, &b->task) && a->n_keys == b->n_keys &&
	       (!a->n_keys ||
		!memcmp(a->keys, b->keys, a->n_keys * sizeof(*a->keys)));
}

/*
 * With the same time, asked a moment ago.  A moment only, so that who asks sees
 * what it did before; but what is over does not change.
 */
static bool op_fits(const struct answer_op *op, const struct answer_request *rq,
		    uint64_t end_slot)
{
	uint64_t now = clock_mono_ms();

	if (rq->window)
		return op->deadline_ms <= now + rq->budget_ms;
	return op->budget_ms == rq->budget_ms &&
	       op->began_ms + SHARE_MS >= now &&
	       (!measure_row(rq->kind)->end_slot ||
		op->ask.end_slot == end_slot);
}

/* The same question: its answer is the answer to this one, too. */
static struct answer_op *
op_find(struct agent *a, const struct answer_request *rq, uint64_t end_slot)
{
	struct answer_op *op;
	struct walk_scope now;

	if (rq->contributors)
		return NULL;
	for (op = a->queries->answers; op; op = op->next)
		if (op_fits(op, rq, end_slot) &&
		    answer_request_same(&op->rq, rq))
			break;
	if (!op)
		return NULL;
	coverage_begin(a, rq->host_only, &now);
	if (now.expected != op->scope.expected ||
	    now.digest != op->scope.digest)
		return NULL;
	return op;
}

/* One more for this answer; false: no memory. */
static bool op_join(struct answer_op *op,
		    void (*done)(void *arg, const struct answer *an), void *arg)
{
	struct asker *more =
		reallocarray(op->more, op->n_more + 1, sizeof(*more));

	if (!more)
		return false;
	op->more = more;
	more[op->n_more++] = (struct asker){ clock_mono_ms(), done, arg };
	return true;
}

static int op_ask(struct answer_op *op)
{
	bool top = op->rq.kind == ASK_TOP;

	return op_wave(op, !top, top ? round1_done : single_done);
}

/* It is kept, unless others took its place in this turn. */
static void op_tell(void *arg)
{
	struct answer_op *op = arg;
	const struct answer *an = op_kept(op);

	if (an) {
		op->done(op->arg, an);
		for (unsigned i = 0; i < op->n_more; i++)
			op->more[i].done(op->more[i].arg, an);
		op_free(op);
	} else if (op_ask(op)) {
		op_finish(op);
	}
}

void answer_ask(const struct answer_request *rq, struct ask *out)
{
	*out = (struct ask){ .kind = rq->kind,
			     .round = 1,
			     .task = rq->task,
			     .share = rq->share,
			     .alpha = TOP_ALPHA,
			     /* the newest slot that is closed, also where a
			      * clock is 50 ms behind */
			     .end_slot = (clock_wall_ms() - 50) / 100 - 1,
			     .window = rq->window,
			     .standing = rq->standing,
			     .keys = (struct flow_key *)rq->keys,
			     .n_keys = rq->n_keys };
}

struct answer_op *answer_start(struct agent *a, const struct answer_request *rq,
			       void (*done)(void *arg, const struct answer *an),
			       void *arg)
{
	struct answer_op *op;
	struct ask ask;
	int ret;

	answer_ask(rq, &ask);
	op = op_find(a, rq, ask.end_slot);
	if (op)
		return op_join(op, done, arg) ? op : NULL;
	op = calloc(1, sizeof(*op));
	if (!op)
		return NULL;
	op->agent = a;
	op->host_only = rq->host_only;
	op->base_tree = rq->base_tree;
	op->n_top = rq->n_top;
	op->began_ms = clock_mono_ms();
	coverage_begin(a, rq->host_only, &op->scope);
	op->budget_ms = rq->budget_ms;
	op->deadline_ms = op->began_ms + rq->budget_ms;
	op->done = done;
	op->arg = arg;
	op->answer.kind = rq->kind;
	op->answer.has_contributors = rq->contributors;
	op->answer.task = rq->task;
	op->answer.window = rq->window;
	op->rq = *rq;
	op->request_id = strdup(rq->request_id ? rq->request_id : "");
	op->next = a->queries->answers;
	a->queries->answers = op;
	if (!op->request_id || ask_copy(&op->ask, &ask))
		goto fail;
	op->rq.keys = op->ask.keys;
	if (op_kept(op))
		ret = loop_timer_in(a->loop, &op->timer, 0, op_tell, op);
	else
		ret = op_ask(op);
	if (!ret)
		return op;
fail:
	op_free(op);
	return NULL;
}
