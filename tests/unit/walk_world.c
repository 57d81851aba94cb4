/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The world of walk_world.h: a view, a wire and the sums that struct walk is
 * given, and one queue of what happens next.
 */
#include "tests/unit/walk_world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct node_id world_id(unsigned i)
{
	struct node_id id = { { (uint8_t)(i >> 8), (uint8_t)i, 1 } };

	return id;
}

unsigned world_index(const struct node_id *id)
{
	return (unsigned)id->b[0] << 8 | id->b[1];
}

struct event *world_event(struct world *w, uint64_t in_ms, enum event_kind kind,
			  unsigned who)
{
	struct event *e = &w->event[w->n_events++];

	assert_true(w->n_events < WORLD_EVENTS);
	*e = (struct event){ .at_ms = w->now_ms + in_ms,
			     .order = w->order++,
			     .kind = kind,
			     .who = who };
	return e;
}

/* ---- the tree ---- */

unsigned world_below(const struct world *w, unsigned top)
{
	unsigned n = 1;

	for (unsigned i = 0; i < w->n; i++)
		if (w->agent[i].parent == top)
			n += world_below(w, i);
	return n;
}

static unsigned world_height(const struct world *w, unsigned top)
{
	unsigned h = 0;

	for (unsigned i = 0; i < w->n; i++)
		if (w->agent[i].parent == top)
			h = MAX(h, 1 + world_height(w, i));
	return h;
}

/* The i-th row below and with top; its number, or NOBODY with *i lowered. */
static unsigned world_row(const struct world *w, unsigned top, uint32_t *i)
{
	if (!(*i)--)
		return top;
	for (unsigned k = 0; k < w->n; k++) {
		unsigned row;

		if (w->agent[k].parent != top)
			continue;
		row = world_row(w, k, i);
		if (row != NOBODY)
			return row;
	}
	return NOBODY;
}

static const struct node_id *view_self(void *tree)
{
	static struct node_id id;
	const struct agent_sim *a = tree;

	id = world_id(a->self);
	return &id;
}

static struct epoch view_lease(void *tree)
{
	const struct agent_sim *a = tree;

	/* nor does anybody tell it */
	return a->world->lax ? (struct epoch){ 0 } : a->lease;
}

static uint64_t view_lease_ms(void *tree)
{
	return ((struct agent_sim *)tree)->lease_ms;
}

static struct epoch view_as_of(void *tree)
{
	return ((struct agent_sim *)tree)->seen;
}

static uint32_t view_clock_err_ms(void *tree)
{
	return ((struct agent_sim *)tree)->self;
}

static enum tree_word view_admit(void *tree, const struct epoch *lease,
				 const struct epoch *as_of)
{
	const struct agent_sim *a = tree;

	if (epoch_none(&a->lease) || epoch_compare(&a->lease, lease) != 0)
		return TREE_MOVED;
	if (!a->world->lax && epoch_compare(&a->lease, as_of) > 0)
		return TREE_MOVED;
	return TREE_OK;
}

static unsigned view_n_children(void *tree)
{
	const struct agent_sim *a = tree;
	unsigned n = 0;

	for (unsigned i = 0; i < a->world->n; i++)
		n += a->world->agent[i].parent == a->self &&
		     !a->world->agent[i].lost;
	return n;
}

static bool view_child(void *tree, unsigned at, struct walk_child *out)
{
	const struct agent_sim *a = tree, *c = NULL;
	const struct world *w = a->world;

	for (unsigned i = 0; i < w->n && !c; i++)
		if (w->agent[i].parent == a->self && !w->agent[i].lost && !at--)
			c = &w->agent[i];
	*out = (struct walk_child){
		.id = world_id(c->self),
		.lease = w->lax ? (struct epoch){ 0 } : c->lease,
		.hosts = c->hosts ? c->hosts : world_below(w, c->self),
		.height = world_height(w, c->self),
		.rtt_us = (uint32_t)w->latency_ms * 2000,
		.ask = !c->down,
		.suspect = c->suspect,
		.told = !c->untold,
		.why = MISSING_UNREACHABLE,
	};
	return true;
}

static uint32_t view_n_rows(void *tree)
{
	const struct agent_sim *a = tree;

	return world_below(a->world, a->self);
}

void view_row(void *tree, uint32_t i, struct node_id *id,
	      struct node_id *parent)
{
	const struct agent_sim *a = tree;
	unsigned row = world_row(a->world, a->self, &i);

	*id = world_id(row);
	*parent = world_id(a->world->agent[row].parent);
}

static const struct walk_view world_view = {
	.self = view_self,
	.lease = view_lease,
	.lease_ms = view_lease_ms,
	.as_of = view_as_of,
	.clock_err_ms = view_clock_err_ms,
	.admit = view_admit,
	.n_children = view_n_children,
	.child = view_child,
	.n_rows = view_n_rows,
	.row = view_row,
	.expected = view_n_rows,
};

/* ---- the wire ---- */

static uint64_t env_now_ms(void *ctx)
{
	return ((struct agent_sim *)ctx)->world->now_ms;
}

static uint64_t env_wall_ms(void *ctx)
{
	const struct agent_sim *a = ctx;

	return a->world->now_ms + (uint64_t)a->clock_ms;
}

static void env_timer(void *ctx, uint64_t at_ms)
{
	((struct agent_sim *)ctx)->timer_ms = at_ms;
}

static int env_send(void *ctx, const struct walk_send *s)
{
	struct agent_sim *a = ctx;
	struct world *w = a->world;
	unsigned to = world_index(&s->to->id), n = w->n_xfers++;
	struct agent_sim *b = &w->agent[to];
	struct xfer *x = &w->xfer[n];
	uint64_t connect = b->cold ? b->connect_ms : 0;

	assert_true(n < WORLD_XFERS);
	*x = (struct xfer){ .from = a->self, .to = to, .ref = s->ref };
	x->fresh = b->cold || s->fresh;
	x->ask.round = s->round;
	x->ask.lease = w->lax ? b->lease : s->to->lease;
	x->ask.as_of = s->as_of;
	x->ask.budget_ms = x->fresh ? s->told_fresh_ms : s->told_ms;
	x->ask.n_via = s->n_via;
	memcpy(x->via, s->via, s->n_via * sizeof(x->via[0]));
	if (s->query) {
		memcpy(x->ask.query, s->query, sizeof(x->ask.query));
		x->question = *(const struct question *)s->what;
		x->ask.window_end_ms = x->question.window_end_ms;
		x->ask.standing = x->question.standing;
	}
	w->asked[w->n_asked++ % WORLD_AGENTS] = to;
	a->running++;
	a->most = MAX(a->most, a->running);
	/* whatever happens, it is over then */
	world_event(w, s->limit_ms, EVENT_LIMIT, a->self)->xfer = n;
	x->err = -ETIMEDOUT;
	if (b->gone) {
		x->err = -ECONNREFUSED;
		world_event(w, w->latency_ms, EVENT_REPLY, a->self)->xfer = n;
	} else if (connect > s->hello_ms) {
		x->err = -EHOSTUNREACH;
		world_event(w, s->hello_ms, EVENT_REPLY, a->self)->xfer = n;
	} else if (!b->silent) {
		world_event(w, connect + w->latency_ms, EVENT_ASK, to)->xfer =
			n;
	}
	return 0;
}

/* Which of them is under way; there must be one. */
static unsigned xfer_find(const struct agent_sim *a, uint64_t ref)
{
	const struct xfer *x = a->world->xfer;
	unsigned i = 0;

	while (i < a->world->n_xfers &&
	       (x[i].from != a->self || x[i].ref != ref || x[i].over))
		i++;
	if (i == a->world->n_xfers)
		fail_msg("%u has nothing under way by this name", a->self);
	return i;
}

static void env_leave(void *ctx, uint64_t ref)
{
	struct agent_sim *a = ctx;
	unsigned n = xfer_find(a, ref);

	assert_false(a->world->xfer[n].left);
	a->world->xfer[n].left = true;
	world_event(a->world, WALK_LATE_MS, EVENT_LIMIT, a->self)->xfer = n;
}

static void env_cancel(void *ctx, uint64_t ref)
{
	struct agent_sim *a = ctx;

	a->world->xfer[xfer_find(a, ref)].over = true;
	a->running--;
}

static void env_reply(void *ctx, uint64_t ref, enum tree_word word,
		      const struct coverage *c, const void *part)
{
	struct agent_sim *a = ctx;
	struct world *w = a->world;
	struct xfer *x = &w->xfer[ref];

	x->err = 0;
	x->word = word;
	if (c)
		x->coverage = *c;
	if (part) {
		x->part = malloc(sizeof(*x->part));
		assert_non_null(x->part);
		*x->part = *(const struct sum *)part;
	}
	if (a->lie && c)
		a->lie(&x->coverage, x->part);
	if (x->from == NOBODY)
		x->over = true;
	else
		world_event(w, w->latency_ms + a->reply_ms, EVENT_REPLY,
			    x->from)
			->xfer = (unsigned)ref;
}

static void env_suspect(void *ctx, const struct node_id *id)
{
	((struct agent_sim *)ctx)->world->agent[world_index(id)].suspected++;
}

static void env_rejected(void *ctx, const struct walk_child *c, const char *why)
{
	assert_non_null(why);
	((struct agent_sim *)ctx)->world->agent[world_index(&c->id)].rejected++;
}

static const struct walk_env world_env = {
	.now_ms = env_now_ms,
	.wall_ms = env_wall_ms,
	.timer = env_timer,
	.send = env_send,
	.leave = env_leave,
	.cancel = env_cancel,
	.reply = env_reply,
	.suspect = env_suspect,
	.rejected = env_rejected,
};

/* ---- questions and parts ---- */

static size_t ops_reply_cap(const void *question)
{
	return ((const struct question *)question)->cap;
}

static int ops_read(void *ctx, void *question, uint64_t ref)
{
	struct agent_sim *a = ctx;

	(void)question;
	world_event(a->world, a->read_ms, EVENT_READ, a->self)->ref = ref;
	return 0;
}

static void ops_read_cancel(void *ctx, void *question)
{
	(void)ctx;
	(void)question;
}

static enum missing_reason ops_check(void *ctx, const void *question,
				     const void *part, const struct coverage *c,
				     const char **why)
{
	const struct question *q = question;

	(void)ctx;
	*why = q->wrong ? "wrong" : c->answered && !part ? "no part" : NULL;
	return *why ? MISSING_REJECTED : MISSING_NONE;
}

static int ops_merge(void *ctx, void *question, const struct node_id *id,
		     const struct coverage *c, void **acc, void *in)
{
	struct agent_sim *a = ctx;
	struct sum *sum = *acc, *more = in;

	(void)question;
	(void)id;
	(void)c;
	if (!more)
		return 0;
	if (!sum) {
		*acc = more;
		return 0;
	}
	sum->value += more->value;
	for (unsigned i = 0; i < WORLD_AGENTS; i++) {
		a->world->doubles += sum->has[i] && more->has[i];
		sum->has[i] |= more->has[i];
	}
	free(more);
	return 0;
}

static size_t ops_part_size(const void *part)
{
	/* a test says it by the value */
	return (size_t)((const struct sum *)part)->value;
}

static void ops_free_question(void *ctx, void *question)
{
	(void)ctx;
	free(question);
}

static const struct walk_ops world_ops = {
	.reply_cap = ops_reply_cap,
	.read = ops_read,
	.read_cancel = ops_read_cancel,
	.check = ops_check,
	.merge = ops_merge,
	.free_part = free,
	.part_size = ops_part_size,
	.free_question = ops_free_question,
};

struct question *world_question(size_t cap)
{
	struct question *q = calloc(1, sizeof(*q));

	assert_non_null(q);
	q->cap = cap;
	return q;
}

/* ---- what happens ---- */

static void world_read(struct world *w, const struct event *e)
{
	struct agent_sim *a = &w->agent[e->who];
	struct node_id id = world_id(a->self);
	struct ctl_loss none = { 0 };
	struct coverage own;
	struct sum *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->value = a->value;
	s->has[a->self] = true;
	coverage_answered(&own, "linnet", &id, &none, w->now_ms, w->now_ms);
	walk_read_done(a->walk, e->ref, MISSING_NONE, s, &own);
}

static void world_ask(struct world *w, unsigned n)
{
	struct xfer *x = &w->xfer[n];
	struct agent_sim *a = &w->agent[x->to];
	struct question *q = world_question(x->question.cap);

	*q = x->question;
	a->asked++;
	x->ask.via = x->via;
	if (a->resets) {
		a->resets--;
		x->err = -ECONNRESET;
		free(q);
		world_event(w, w->latency_ms, EVENT_REPLY, x->from)->xfer = n;
		return;
	}
	walk_request(a->walk, &x->ask, q, n);
}

static void world_reply(struct world *w, unsigned n)
{
	struct xfer *x = &w->xfer[n];
	struct walk_got got = { .err = x->err,
				.word = x->word,
				.reused = !x->fresh,
				.part = x->part,
				.coverage = &x->coverage };

	if (x->over)
		return;
	x->over = true;
	x->part = NULL;
	w->agent[x->from].running--;
	walk_done(w->agent[x->from].walk, x->ref, &got);
	assert_null(got.part);
}

static void world_limit(struct world *w, unsigned n)
{
	struct xfer *x = &w->xfer[n];

	if (x->over)
		return;
	free(x->part);
	x->part = NULL;
	x->err = -ETIMEDOUT;
	world_reply(w, n);
}

static bool agent_works(const struct agent_sim *a)
{
	return !a->gone && !a->silent;
}

bool world_step(struct world *w)
{
	unsigned at = NOBODY, who = NOBODY;
	uint64_t first = UINT64_MAX;
	struct event e;

	for (unsigned i = 0; i < w->n; i++)
		if (w->agent[i].timer_ms < first) {
			first = w->agent[i].timer_ms;
			who = i;
		}
	for (unsigned i = 0; i < w->n_events; i++)
		if (w->event[i].at_ms < first ||
		    (w->event[i].at_ms == first && at != NOBODY &&
		     w->event[i].order < w->event[at].order)) {
			first = w->event[i].at_ms;
			at = i;
		}
	if (at == NOBODY && who == NOBODY)
		return false;
	w->now_ms = MAX(w->now_ms, first);
	if (at == NOBODY) {
		w->agent[who].timer_ms = UINT64_MAX;
		walk_timer(w->agent[who].walk);
		return true;
	}
	e = w->event[at];
	w->event[at] = w->event[--w->n_events];
	if (e.kind == EVENT_CALL)
		e.call(w);
	else if (e.kind == EVENT_REPLY)
		world_reply(w, e.xfer);
	else if (e.kind == EVENT_LIMIT)
		world_limit(w, e.xfer);
	else if (agent_works(&w->agent[e.who]) && e.kind == EVENT_ASK)
		world_ask(w, e.xfer);
	else if (agent_works(&w->agent[e.who]))
		world_read(w, &e);
	return true;
}

void world_run(struct world *w)
{
	while (world_step(w))
		;
}

void world_start(struct world *w, unsigned i)
{
	struct agent_sim *a = &w->agent[i];
	struct walk_conf conf = { .overlay = "linnet",
				  .env = &world_env,
				  .ops = &world_ops,
				  .ctx = a,
				  .view = &world_view,
				  .tree = a };

	walk_free(a->walk);
	a->timer_ms = UINT64_MAX;
	a->walk = walk_new(&conf);
	assert_non_null(a->walk);
}

unsigned world_add(struct world *w, unsigned parent)
{
	unsigned i = w->n++;
	struct agent_sim *a = &w->agent[i];

	assert_true(i < WORLD_AGENTS);
	*a = (struct agent_sim){ .world = w,
				 .self = i,
				 .parent = parent,
				 .value = 1000 + i,
				 .read_ms = 1 };
	a->seen.term = 7;
	a->seen.n = 100;
	if (parent != NOBODY)
		a->lease = (struct epoch){ 7, 0, i };
	world_start(w, i);
	return i;
}

struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->now_ms = 1000000;
	w->latency_ms = 1;
	world_add(w, NOBODY);
	return w;
}

void world_free(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++)
		walk_free(w->agent[i].walk);
	for (unsigned i = 0; i < w->n_xfers; i++)
		free(w->xfer[i].part);
	free(w->part);
	free(w);
}

void world_answer(void *arg, void *part, const struct coverage *c)
{
	struct world *w = arg;

	assert_false(w->done);
	w->done = true;
	w->done_ms = w->now_ms;
	w->part = part;
	w->coverage = *c;
	walk_report(w->agent[0].walk, c, &w->scope, &w->report);
}

struct walk_query *world_begin(struct world *w, uint32_t budget_ms,
			       struct question *q)
{
	static uint8_t serial;
	struct walk_options opt = { .round = 1, .budget_ms = budget_ms };
	struct walk_query *query;

	free(w->part);
	w->part = NULL;
	w->done = false;
	opt.query[0] = ++serial;
	if (q->standing)
		memset(opt.query, q->standing, sizeof(opt.query));
	walk_scope(w->agent[0].walk, false, &w->scope);
	opt.as_of = w->scope.as_of;
	query = walk_start(w->agent[0].walk, &opt, q, world_answer, w);
	if (!query)
		free(q);
	return query;
}

void world_query(struct world *w, uint32_t budget_ms)
{
	uint64_t began = w->now_ms;

	assert_non_null(world_begin(w, budget_ms, world_question(65536)));
	world_run(w);
	assert_true(w->done);
	/* O4 */
	assert_true(w->done_ms <= began + budget_ms);
	assert_int_equal(w->doubles, 0);
	assert_int_equal(w->report.answered + w->report.n_missing +
				 w->report.missing_more,
			 w->report.expected);
}

struct xfer *world_send(struct world *w, unsigned to, uint8_t query,
			unsigned round)
{
	struct xfer *x = &w->xfer[w->n_xfers];

	*x = (struct xfer){ .from = NOBODY, .to = to };
	x->ask.query[0] = query;
	x->ask.query[1] = 99;
	x->ask.round = round;
	x->ask.lease = w->agent[to].lease;
	x->ask.as_of = (struct epoch){ 7, 0, 100 };
	x->ask.budget_ms = 1000;
	x->question.cap = 65536;
	w->n_xfers++;
	return x;
}

struct xfer *world_go(struct world *w, struct xfer *x)
{
	world_ask(w, (unsigned)(x - w->xfer));
	return x;
}

struct world *world_star(unsigned n)
{
	struct world *w = world_new();

	while (n--)
		world_add(w, 0);
	return w;
}

struct world *thirteen(void)
{
	struct world *w = world_new();

	for (unsigned i = 0; i < 12; i++)
		world_add(w, i / 3);
	return w;
}

uint64_t sum_of(const struct world *w, const struct sum *s)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < w->n; i++)
		v += s->has[i] ? w->agent[i].value : 0;
	return v;
}
