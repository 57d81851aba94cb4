/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A running question: the local read and the children's parts go into one
 * accumulator as they come; when all are in, or the time is over, whoever
 * asked gets what is there.  A query owns its parts until then; whatever comes
 * later finds no query.
 *
 * There is one timer, for what is due first of all queries and waves.
 */
#include "agent/tree/walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tree/walk_private.h"
#include "common/util.h"

#define HOSTS_MAX (UINT32_C(1) << 20)

uint64_t walk_now(const struct walk *w)
{
	return w->conf.env->now_ms(w->conf.ctx);
}

void walk_arm(struct walk *w)
{
	uint64_t at = waves_due(w);

	for (const struct walk_query *q = w->queries; q; q = q->next)
		at = MIN(at, q->begin_ms ? q->begin_ms : q->end_ms);
	if (at == w->armed_ms)
		return;
	w->armed_ms = at;
	w->conf.env->timer(w->conf.ctx, at);
}

/* ---- parts ---- */

/*
 * It has room for the names of those that are missing, and thousands may be
 * asked at one moment: it is made when there is something to say.  Without the
 * memory for it nothing is said of a host: its parent knows that it is missing.
 */
static struct coverage *coverage_make(struct walk_query *q)
{
	if (!q->coverage)
		q->coverage = calloc(1, sizeof(*q->coverage));
	return q->coverage;
}

const struct coverage *query_coverage(const struct walk_query *q)
{
	static const struct coverage none;

	return q->coverage ? q->coverage : &none;
}

static void query_missing(struct walk_query *q, const struct node_id *id,
			  enum missing_reason why, bool alone)
{
	const struct walk_ops *ops = q->walk->conf.ops;
	void *ctx = q->walk->conf.ctx;
	struct coverage *c = coverage_make(q);

	if (!c || (ops->missing &&
		   ops->missing(ctx, q->question, id, why, &q->part, c)))
		return;
	coverage_missing(c, id, why, alone);
}

/* Takes the part, or frees it; 0 or as walk_ops.merge(), nothing changed. */
static int query_take(struct walk_query *q, const struct node_id *id,
		      void *part, const struct coverage *c, bool child)
{
	const struct walk_ops *ops = q->walk->conf.ops;
	struct coverage *all = coverage_make(q);
	int ret = all ? ops->merge(q->walk->conf.ctx, q->question, id, c,
				   &q->part, part)
		      : -ENOMEM;

	if (ret)
		ops->free_part(part);
	else
		coverage_merge(all, c, child);
	return ret;
}

/* Most hosts that it can have had since it was asked: some may have joined. */
static uint32_t most_hosts(const struct walk_conf *conf,
			   const struct walk_child *c)
{
	unsigned n = conf->view->n_children(conf->tree);
	struct walk_child now;

	for (unsigned i = 0; i < n; i++)
		if (conf->view->child(conf->tree, i, &now) &&
		    node_id_equal(&now.id, &c->id))
			return MAX(now.hosts, c->hosts);
	return c->hosts;
}

/* What a child says of its hosts can be true. */
static const char *impossible(const struct walk_query *q,
			      const struct walk_child *c,
			      const struct coverage *cov)
{
	uint64_t tops = 0;

	for (unsigned r = 0; r < MISSING_REASONS; r++)
		tops += cov->reasons[r];
	if (cov->answered > c->hosts &&
	    cov->answered > most_hosts(&q->walk->conf, c))
		return "more hosts than it has";
	if (tops > HOSTS_MAX)
		return "more missing than hosts";
	if (epoch_compare(&cov->epoch_max, &q->as_of) > 0)
		return "a lease that is newer than the question";
	/* with none missing it is in there itself, under its lease */
	if (!tops && epoch_compare(&cov->epoch_max, &c->lease) < 0)
		return "a lease that is older than its own";
	return NULL;
}

static enum missing_reason child_take(struct walk_query *q,
				      const struct walk_child *c,
				      struct walk_got *got, const char **why)
{
	const struct walk_conf *conf = &q->walk->conf;
	enum missing_reason r = MISSING_REJECTED;
	struct coverage cov;
	int ret;

	*why = got->coverage ? impossible(q, c, got->coverage) : "no coverage";
	if (!*why)
		r = conf->ops->check(conf->ctx, q->question, got->part,
				     got->coverage, why);
	if (*why || r != MISSING_NONE) {
		conf->ops->free_part(got->part);
		return r;
	}
	cov = *got->coverage;
	tops_check(q->walk, &c->id, &cov);
	ret = query_take(q, &c->id, got->part, &cov, true);
	*why = "does not merge";
	return !ret      ? MISSING_NONE
	       : ret < 0 ? MISSING_BUSY
			 : MISSING_INCOMPATIBLE;
}

static void child_over(void *arg, const struct walk_child *c,
		       struct walk_got *got, enum missing_reason why)
{
	struct walk_query *q = arg;
	const struct walk_conf *conf = &q->walk->conf;
	const char *words;

	if (got) {
		why = child_take(q, c, got, &words);
		got->part = NULL;
		if (why != MISSING_NONE)
			conf->env->rejected(conf->ctx, c, words);
	}
	if (why != MISSING_NONE)
		query_missing(q, &c->id, why, false);
}

/* ---- queries ---- */

static void read_stop(struct walk_query *q)
{
	if (q->read_ref)
		q->walk->conf.ops->read_cancel(q->walk->conf.ctx, q->question);
	q->read_ref = 0;
}

void query_free(struct walk_query *q)
{
	struct walk *w = q->walk;
	struct walk_query **at;

	for (at = &w->queries; *at != q; at = &(*at)->next)
		;
	*at = q->next;
	w->n_running--;
	read_stop(q);
	waves_free(q->children);
	w->conf.ops->free_part(q->part);
	if (q->question)
		w->conf.ops->free_question(w->conf.ctx, q->question);
	free(q->coverage);
	free(q);
}

static void query_finish(struct walk_query *q)
{
	void (*done)(void *, void *, const struct coverage *) = q->done;
	const struct walk_conf *conf = &q->walk->conf;
	void *arg = q->arg, *part, *question = q->question;
	const struct coverage *said = query_coverage(q);
	struct coverage c;

	if (!said->answered && !said->reasons[MISSING_PARTIAL]) {
		conf->ops->free_part(q->part);
		q->part = NULL;
	}
	if (!done) {
		serve_reply(q);
		query_free(q);
		return;
	}
	read_stop(q);
	part = q->part;
	c = *said;
	q->part = q->question = NULL;
	query_free(q);
	done(arg, part, &c); /* which may start another */
	conf->ops->free_question(conf->ctx, question);
}

static void query_check(struct walk_query *q)
{
	if (q->local_in && q->children_in)
		query_finish(q);
}

static void local_missing(struct walk_query *q, enum missing_reason why)
{
	q->local_in = true;
	query_missing(q, q->walk->conf.view->self(q->walk->conf.tree), why,
		      true);
}

static void children_over(void *arg)
{
	struct walk_query *q = arg;

	q->children = NULL;
	q->children_in = true;
	query_check(q);
}

/* Children were told to be earlier: here only the local read may be late. */
static void query_over(struct walk_query *q)
{
	if (!q->local_in)
		local_missing(q, MISSING_TIMEOUT);
	query_finish(q);
}

static int query_children(struct walk_query *q, const struct query_start *s)
{
	struct walk *w = q->walk;
	struct waves_conf conf = { .what = q->question,
				   .query = q->id,
				   .round = s->round,
				   .as_of = s->as_of,
				   .budget_ms = s->budget_ms,
				   .wait_ms = s->wait_ms,
				   .reply_max =
					   w->conf.ops->reply_cap(q->question),
				   .for_parent = s->for_parent,
				   .n_via = s->n_via,
				   .via = s->via,
				   .child = child_over,
				   .done = children_over,
				   .arg = q };

	q->children_in = true;
	if (s->host_only || !w->conf.view->n_children(w->conf.tree))
		return 0;
	q->children = waves_new(w, &conf);
	if (!q->children)
		return -ENOMEM;
	q->children_in = false;
	return 0;
}

static int read_begin(struct walk_query *q)
{
	struct walk *w = q->walk;

	q->begin_ms = 0;
	q->read_ref = ++w->last_read;
	if (!w->conf.ops->read(w->conf.ctx, q->question, q->read_ref))
		return 0;
	q->read_ref = 0;
	return -ENOMEM;
}

struct walk_query *query_new(struct walk *w, const struct query_start *s,
			     void *question)
{
	struct walk_query *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->walk = w;
	memcpy(q->id, s->id, sizeof(q->id));
	q->round = s->round;
	q->as_of = s->as_of;
	q->lease = w->conf.view->lease(w->conf.tree);
	q->question = question;
	q->end_ms = walk_now(w) + s->budget_ms - MIN(s->budget_ms / 20, 50);
	q->next = w->queries;
	w->queries = q;
	w->n_running++;
	if (s->wait_ms)
		q->begin_ms = walk_now(w) + s->wait_ms;
	if (query_children(q, s) || (!s->wait_ms && read_begin(q))) {
		q->question = NULL; /* the caller's again */
		query_free(q);
		return NULL;
	}
	/* the read is under way, so that this cannot end the query */
	if (q->children && !s->wait_ms)
		waves_go(q->children);
	return q;
}

struct walk_query *
walk_start(struct walk *w, const struct walk_options *opt, void *question,
	   void (*done)(void *arg, void *part, const struct coverage *c),
	   void *arg)
{
	struct query_start s = { .id = opt->query,
				 .round = opt->round,
				 .as_of = opt->as_of,
				 .host_only = opt->host_only,
				 .budget_ms = opt->budget_ms };
	struct walk_query *q;

	if (w->n_running >= WALK_RUNNING - WALK_RESERVED)
		return NULL;
	q = query_new(w, &s, question);
	if (!q)
		return NULL;
	q->done = done;
	q->arg = arg;
	walk_arm(w);
	return q;
}

void walk_cancel(struct walk_query *q)
{
	struct walk *w = q->walk;

	query_free(q);
	walk_arm(w);
}

/* ---- events ---- */

static void query_due(struct walk_query *q, uint64_t now)
{
	if (q->end_ms <= now) {
		query_over(q);
	} else if (read_begin(q)) {
		local_missing(q, MISSING_BUSY);
		query_check(q);
	}
}

void walk_timer(struct walk *w)
{
	uint64_t now = walk_now(w);
	struct walk_query *q;

	w->armed_ms = WALK_NEVER;
	waves_timer(w, now);
	/* the end of one may end others: from the start again */
	for (q = w->queries; q;) {
		if (q->end_ms > now && (!q->begin_ms || q->begin_ms > now)) {
			q = q->next;
			continue;
		}
		query_due(q, now);
		q = w->queries;
	}
	walk_arm(w);
}

void walk_done(struct walk *w, uint64_t ref, struct walk_got *got)
{
	waves_done(w, ref, got);
	w->conf.ops->free_part(got->part);
	got->part = NULL;
	walk_arm(w);
}

void walk_read_done(struct walk *w, uint64_t ref, enum missing_reason why,
		    void *part, const struct coverage *own)
{
	const struct walk_view *view = w->conf.view;
	struct walk_query *q = w->queries;
	struct coverage c;

	while (q && q->read_ref != ref)
		q = q->next;
	if (!q) {
		w->conf.ops->free_part(part);
		return;
	}
	q->read_ref = 0;
	if (why != MISSING_NONE) {
		w->conf.ops->free_part(part);
		local_missing(q, why);
	} else {
		c = *own;
		c.clock_err_ms = view->clock_err_ms(w->conf.tree);
		c.clock_id = *view->self(w->conf.tree);
		c.epoch_max = q->lease;
		q->local_in = true;
		if (query_take(q, view->self(w->conf.tree), part, &c, false))
			local_missing(q, MISSING_INCOMPATIBLE);
	}
	query_check(q);
	walk_arm(w);
}

/* ---- begin and end ---- */

struct walk *walk_new(const struct walk_conf *conf)
{
	struct walk *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->conf = *conf;
	w->armed_ms = WALK_NEVER;
	return w;
}

void walk_free(struct walk *w)
{
	if (!w)
		return;
	while (w->queries)
		query_free(w->queries);
	spreads_free(w);
	ways_free(w);
	replay_free(w);
	free(w);
}

unsigned walk_running(const struct walk *w)
{
	return w->n_running;
}

uint64_t walk_late(const struct walk *w)
{
	return w->late;
}

uint64_t walk_served(const struct walk *w)
{
	return w->served;
}
