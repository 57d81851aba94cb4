/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions of the parent.  One is answered for one parent, under the lease
 * that this agent has from it, once: its id is remembered for a minute.  The
 * same parent asking again (its connection was reset) joins the running query
 * or gets the kept part; anybody else is told that this agent moved, so that
 * no host enters one answer twice.  A lease that is younger than the query is
 * refused for the same reason: whoever moved meanwhile may be in it already.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tree/walk_private.h"
#include "common/util.h"

#define SEEN_MAX   4096
#define SEEN_MIN   1 /* a power of two */
#define SEEN_MS    60000
#define KEPT_MAX   64 /* parts kept for a second request */
#define KEPT_BYTES ((size_t)256 * 1024)
#define KEPT_TOTAL ((size_t)4 << 20)
#define TICK_MS    100 /* until a window that has ended is closed */

/* An answer; the coverage without the room for tops that are not there. */
struct kept {
	void *part;
	size_t size, len;
	uint8_t coverage[]; /* len bytes of it */
};

struct seen {
	uint8_t id[16];
	struct epoch lease;
	uint64_t at_ms;
	uint64_t number, older; /* older: of the one before with its hash */
	struct walk_query *running;
	struct kept *kept;
	unsigned round;
	bool ahead; /* of the parent, who has not asked yet */
};

static struct seen *seen_at(const struct replay *r, uint64_t number)
{
	return &r->seen[number & (r->size - 1)];
}

/* Ids are random; who makes them up costs itself a longer search. */
static uint64_t *seen_newest(const struct replay *r, const uint8_t id[16])
{
	uint64_t half;

	memcpy(&half, id, sizeof(half));
	return &r->newest[half & (r->size - 1)];
}

static struct seen *seen_find(const struct replay *r, const uint8_t id[16],
			      unsigned round)
{
	uint64_t k = r->n ? *seen_newest(r, id) : 0;

	for (; k && k >= r->first; k = seen_at(r, k)->older) {
		struct seen *s = seen_at(r, k);

		if (s->round == round && memcmp(s->id, id, 16) == 0)
			return s;
	}
	return NULL;
}

static void kept_drop(struct walk *w, struct seen *s)
{
	if (!s->kept)
		return;
	w->replay.kept_bytes -= s->kept->size;
	w->replay.n_kept--;
	w->conf.ops->free_part(s->kept->part);
	free(s->kept);
	s->kept = NULL;
}

static void seen_drop_first(struct walk *w)
{
	struct replay *r = &w->replay;

	kept_drop(w, seen_at(r, r->first++));
	r->n--;
}

/* As if it had not come. */
static void seen_drop_last(struct walk *w)
{
	struct replay *r = &w->replay;
	struct seen *s = seen_at(r, r->first + --r->n);

	*seen_newest(r, s->id) = s->older;
}

static void seen_link(struct replay *r, uint64_t number)
{
	struct seen *s = seen_at(r, number);
	uint64_t *newest = seen_newest(r, s->id);

	s->number = number;
	s->older = *newest;
	*newest = number;
}

/* Twice the room. */
static int seen_grow(struct replay *r)
{
	struct replay big = *r;

	big.size = r->size ? 2 * r->size : SEEN_MIN;
	big.first = MAX(r->first, 1);
	big.seen = calloc(big.size, sizeof(*big.seen));
	big.newest = calloc(big.size, sizeof(*big.newest));
	if (!big.seen || !big.newest) {
		free(big.seen);
		free(big.newest);
		return -ENOMEM;
	}
	for (uint64_t k = big.first; k < big.first + r->n; k++) {
		*seen_at(&big, k) = *seen_at(r, k);
		seen_link(&big, k);
	}
	free(r->seen);
	free(r->newest);
	*r = big;
	return 0;
}

static struct seen *seen_add(struct walk *w, const struct walk_ask *m)
{
	struct replay *r = &w->replay;
	uint64_t now = walk_now(w);
	struct seen *s;

	while (r->n && seen_at(r, r->first)->at_ms + SEEN_MS < now)
		seen_drop_first(w);
	if (r->n == SEEN_MAX)
		seen_drop_first(w);
	if (r->n == r->size && seen_grow(r))
		return NULL;
	s = seen_at(r, r->first + r->n);
	memset(s, 0, sizeof(*s));
	memcpy(s->id, m->query, sizeof(s->id));
	seen_link(r, r->first + r->n++);
	s->round = m->round;
	s->lease = m->lease;
	s->at_ms = now;
	return s;
}

/* Takes the part, and frees it if it is not to be kept. */
static void seen_keep(struct walk *w, struct seen *s, void *part,
		      const struct coverage *c)
{
	size_t cov = offsetof(struct coverage, missing) +
		     c->n_missing * sizeof(c->missing[0]);
	size_t size = sizeof(struct kept) + cov +
		      (part ? w->conf.ops->part_size(part) : 0);
	struct replay *r = &w->replay;
	struct kept *k = NULL;

	if (s && size <= (s->ahead ? KEPT_TOTAL : KEPT_BYTES)) {
		r->kept_from = MAX(r->kept_from, r->first);
		while (r->n_kept >= KEPT_MAX ||
		       r->kept_bytes + size > KEPT_TOTAL)
			kept_drop(w, seen_at(r, r->kept_from++));
		k = malloc(sizeof(*k) + cov);
	}
	if (!k) {
		w->conf.ops->free_part(part);
		return;
	}
	k->part = part;
	k->size = size;
	k->len = cov;
	memcpy(k->coverage, c, cov);
	s->kept = k;
	/* it may have run for longer than those after it */
	r->kept_from = MIN(r->kept_from, s->number);
	r->kept_bytes += size;
	r->n_kept++;
}

void replay_free(struct walk *w)
{
	while (w->replay.n)
		seen_drop_first(w);
	free(w->replay.seen);
	free(w->replay.newest);
}

/* ---- what may be asked ---- */

/* Ids above this agent: ours among them is a loop, as are too many. */
static bool via_loops(const struct walk *w, const struct walk_ask *m)
{
	const struct node_id *self = w->conf.view->self(w->conf.tree);

	if (m->n_via > WALK_VIA)
		return true;
	for (unsigned i = 0; i < m->n_via; i++)
		if (node_id_equal(&m->via[i], self))
			return true;
	return false;
}

enum tree_word walk_admit(const struct walk *w, const struct walk_ask *m)
{
	if (via_loops(w, m))
		return TREE_LOOP;
	return w->conf.view->admit(w->conf.tree, &m->lease, &m->as_of);
}

static void refuse(struct walk *w, uint64_t ref, enum tree_word word)
{
	w->conf.env->reply(w->conf.ctx, ref, word, NULL, NULL);
}

/* This agent cannot read its own, nor what is below it either. */
static void reply_none(struct walk *w, uint64_t ref, enum missing_reason why)
{
	const struct walk_view *view = w->conf.view;
	struct coverage c = { 0 };
	struct walk_child child;

	coverage_missing(&c, view->self(w->conf.tree), why, true);
	for (unsigned i = 0; i < view->n_children(w->conf.tree); i++)
		if (view->child(w->conf.tree, i, &child))
			coverage_missing(&c, &child.id, MISSING_BEHIND, false);
	w->conf.env->reply(w->conf.ctx, ref, TREE_OK, &c, NULL);
}

static bool lease_equal(const struct epoch *a, const struct epoch *b)
{
	return a->term == b->term && a->root == b->root && a->n == b->n;
}

static void kept_reply(struct walk *w, const struct kept *k, uint64_t ref)
{
	struct coverage c = { 0 };

	memcpy(&c, k->coverage, k->len);
	w->conf.env->reply(w->conf.ctx, ref, TREE_OK, &c, k->part);
}

/* A question that came before: joins it, repeats it, or refuses. */
static void serve_again(struct walk *w, struct seen *s,
			const struct walk_ask *m, uint64_t ref)
{
	struct walk_query *q = s->running;

	if (!lease_equal(&s->lease, &m->lease))
		refuse(w, ref, TREE_MOVED);
	else if (q && q->n_waiters < SERVED_WAITERS)
		q->waiter[q->n_waiters++] = ref;
	else if (!q && s->kept)
		kept_reply(w, s->kept, ref);
	else
		refuse(w, ref, TREE_BUSY);
	s->ahead = false;
}

/*
 * May this window be answered?  Who took its lease after the end may have been
 * counted under another one, even before a restart; and until the end comes by
 * its own clock, it could take a lease that looks older.
 */
static enum tree_word window_admit(const struct walk *w,
				   const struct walk_ask *m)
{
	const struct walk_conf *conf = &w->conf;

	return m->standing && conf->view->lease_ms(conf->tree) >=
				       m->window_end_ms
		       ? TREE_MOVED
		       : TREE_OK;
}

/* Until it is closed here, too. */
static uint64_t window_wait(const struct walk *w, const struct walk_ask *m)
{
	uint64_t now, closed = m->window_end_ms + TICK_MS;

	if (!m->window_end_ms)
		return 0;
	now = w->conf.env->wall_ms(w->conf.ctx);
	return closed > now ? closed - now : 0;
}

/* Another parent had the first round, and may have kept it. */
static bool moved_since(const struct walk *w, const struct walk_ask *m)
{
	const struct seen *first =
		m->round == 2 ? seen_find(&w->replay, m->query, 1) : NULL;

	return first && !lease_equal(&first->lease, &m->lease);
}

/* Takes the question if it returns what is remembered of it. */
static struct seen *serve_new(struct walk *w, const struct walk_ask *m,
			      uint32_t wait_ms, void *question)
{
	struct query_start s = { .id = m->query,
				 .round = m->round,
				 .as_of = m->as_of,
				 .for_parent = true,
				 .budget_ms = m->budget_ms,
				 .wait_ms = wait_ms,
				 .n_via = m->n_via,
				 .via = m->via };
	struct seen *seen;
	struct walk_query *q;

	if (w->n_running >= WALK_RUNNING)
		return NULL;
	seen = seen_add(w, m);
	if (!seen)
		return NULL;
	q = query_new(w, &s, question);
	if (!q) {
		seen_drop_last(w);
		return NULL;
	}
	seen->running = q;
	return seen;
}

/* The same for a request. */
static bool serve_first(struct walk *w, const struct walk_ask *m,
			void *question, uint64_t ref)
{
	uint64_t wait = window_wait(w, m);
	struct seen *s;

	if (wait > m->budget_ms / 2) {
		reply_none(w, ref, MISSING_NO_WINDOW);
		return false;
	}
	s = serve_new(w, m, (uint32_t)wait, question);
	if (s)
		s->running->waiter[s->running->n_waiters++] = ref;
	else
		refuse(w, ref, TREE_BUSY);
	return s;
}

void walk_request(struct walk *w, const struct walk_ask *m, void *question,
		  uint64_t ref)
{
	enum tree_word word = walk_admit(w, m);
	struct seen *seen = seen_find(&w->replay, m->query, m->round);
	bool taken = false;

	if (word == TREE_OK && moved_since(w, m))
		word = TREE_MOVED;
	if (word == TREE_OK)
		word = window_admit(w, m);
	w->served += word == TREE_OK;
	if (word != TREE_OK)
		refuse(w, ref, word);
	else if (!question)
		reply_none(w, ref, MISSING_UNKNOWN_TASK);
	else if (seen)
		serve_again(w, seen, m, ref);
	else
		taken = serve_first(w, m, question, ref);
	if (question && !taken)
		w->conf.ops->free_question(w->conf.ctx, question);
	walk_arm(w);
}

void walk_collect(struct walk *w, const struct walk_ask *m, void *question)
{
	const struct walk_view *view = w->conf.view;
	struct walk_ask ask = *m;
	struct seen *s = NULL;

	ask.round = 1;
	ask.lease = view->lease(w->conf.tree);
	ask.as_of = view->as_of(w->conf.tree);
	ask.standing = true;
	if (!epoch_none(&ask.lease) && !window_wait(w, &ask) &&
	    window_admit(w, &ask) == TREE_OK &&
	    w->n_running < WALK_RUNNING - WALK_RESERVED &&
	    !seen_find(&w->replay, ask.query, ask.round))
		s = serve_new(w, &ask, 0, question);
	if (s)
		s->ahead = true;
	else
		w->conf.ops->free_question(w->conf.ctx, question);
	walk_arm(w);
}

/* The query is about to be freed: nothing may point at it. */
void serve_reply(struct walk_query *q)
{
	struct walk *w = q->walk;
	const struct coverage *c = query_coverage(q);
	struct seen *seen = seen_find(&w->replay, q->id, q->round);

	if (seen && seen->running == q)
		seen->running = NULL;
	else
		seen = NULL;
	for (unsigned i = 0; i < q->n_waiters; i++)
		w->conf.env->reply(w->conf.ctx, q->waiter[i], TREE_OK, c,
				   q->part);
	seen_keep(w, seen, q->part, c);
	q->part = NULL;
}
