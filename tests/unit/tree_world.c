/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See tree_world.h.  Events lie in a binary heap, ordered by time and number. */
#include "tree_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

#define LATENCY_MS 1

/*
 * Its own memory never fails, where calloc() is made to; which is what a
 * compiler may make of malloc() and memset().
 */
static void *grab(size_t len)
{
	void *(*volatile take)(size_t) = malloc;
	void *p = take(len);

	assert(p);
	return memset(p, 0, len);
}

struct exchange {
	struct exchange *next, **link;
	unsigned from, to, from_life, to_life;
	uint64_t ref;
	struct tree_msg m, answer;
	bool over;              /* told or cancelled */
	struct tree_msg *heard; /* world_ask() waits for it */
	bool *done;
	int events;
};

enum what {
	AT_REQUEST,
	AT_REPLY,
	AT_LIMIT,
	AT_REFUSED,
	AT_TIMER
};

struct event_item {
	uint64_t at, seq;
	enum what what;
	struct exchange *x;
	unsigned node, life;
	uint32_t timer;
};

struct event_heap {
	struct event_item *item;
	size_t n, cap;
};

static bool before(const struct event_item *a, const struct event_item *b)
{
	return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void heap_push(struct world *w, struct event_item e)
{
	struct event_heap *h = w->heap;
	size_t i = h->n;

	if (h->n == h->cap) {
		h->cap = h->cap ? 2 * h->cap : 1024;
		h->item = realloc(h->item, h->cap * sizeof(*h->item));
		assert(h->item);
	}
	e.seq = w->seq++;
	if (e.x)
		e.x->events++;
	h->n++;
	for (; i && before(&e, &h->item[(i - 1) / 2]); i = (i - 1) / 2)
		h->item[i] = h->item[(i - 1) / 2];
	h->item[i] = e;
}

static struct event_item heap_pop(struct world *w)
{
	struct event_heap *h = w->heap;
	struct event_item top = h->item[0], last = h->item[--h->n];
	size_t i = 0, c;

	while ((c = 2 * i + 1) < h->n) {
		if (c + 1 < h->n && before(&h->item[c + 1], &h->item[c]))
			c++;
		if (!before(&h->item[c], &last))
			break;
		h->item[i] = h->item[c];
		i = c;
	}
	h->item[i] = last;
	return top;
}

/* ---- what borrows memory is copied ---- */

static void copy_message(struct tree_msg *to, const struct tree_msg *from)
{
	*to = *from;
	if (from->kind == TREE_ROWS && from->u.rows.n && from->u.rows.row) {
		size_t len = from->u.rows.n * sizeof(struct tree_row);
		to->u.rows.row = memcpy(grab(len), from->u.rows.row, len);
	}
	if (from->kind == TREE_ANNOUNCE && from->u.announce.n) {
		size_t len = from->u.announce.n * sizeof(struct tree_peer);
		to->u.announce.peer =
			memcpy(grab(len), from->u.announce.peer, len);
	}
}

static void free_message(struct tree_msg *m)
{
	if (m->kind == TREE_ROWS && m->u.rows.n)
		free((void *)m->u.rows.row);
	if (m->kind == TREE_ANNOUNCE && m->u.announce.n)
		free((void *)m->u.announce.peer);
}

static void exchange_put(struct exchange *x)
{
	if (x && --x->events == 0) {
		free_message(&x->m);
		free_message(&x->answer);
		*x->link = x->next;
		if (x->next)
			x->next->link = x->link;
		free(x);
	}
}

/* ---- env ---- */

static uint64_t env_now(void *ctx)
{
	return ((struct node *)ctx)->w->now;
}

static uint64_t env_wall(void *ctx)
{
	return 1800000000000 + env_now(ctx);
}

static uint64_t env_random(void *ctx)
{
	struct world *w = ((struct node *)ctx)->w;
	uint64_t z = w->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static int node_at(const struct world *w, const struct endpoint *ep)
{
	for (unsigned i = 0; i < w->n; i++)
		if (endpoint_equal(&w->node[i].ep, ep))
			return (int)i;
	return -1;
}

static int env_send(void *ctx, const struct endpoint *to,
		    const struct tree_msg *m, uint32_t limit_ms, bool fresh,
		    uint64_t ref)
{
	struct node *n = ctx;
	struct world *w = n->w;
	struct exchange *x = grab(sizeof(*x));
	int i = node_at(w, to);
	struct event_item e = { .at = w->now + LATENCY_MS, .x = x };

	(void)fresh;
	x->next = w->exchanges;
	x->link = &w->exchanges;
	if (x->next)
		x->next->link = &x->next;
	w->exchanges = x;
	w->sent[m->kind]++;
	x->from = n->i;
	x->from_life = n->life;
	x->ref = ref;
	copy_message(&x->m, m);
	x->to = (unsigned)MAX(i, 0);
	e.what = i < 0 ? AT_REFUSED : AT_REQUEST;
	heap_push(w, e);
	e.what = AT_LIMIT;
	e.at = w->now + limit_ms;
	heap_push(w, e);
	return 0;
}

static void env_cancel(void *ctx, uint64_t ref)
{
	struct node *n = ctx;
	struct event_heap *h = n->w->heap;

	for (size_t i = 0; i < h->n; i++) {
		struct exchange *x = h->item[i].x;

		if (x && x->from == n->i && x->from_life == n->life &&
		    x->ref == ref)
			x->over = true;
	}
}

static void env_reply(void *ctx, uint64_t ref, const struct tree_msg *m)
{
	struct node *n = ctx;
	struct exchange *x = (struct exchange *)(uintptr_t)ref;
	struct event_item e = { .at = n->w->now + LATENCY_MS,
				.what = AT_REPLY,
				.x = x };

	assert(x->to == n->i);
	copy_message(&x->answer, m);
	if (n->lie)
		n->lie(n, &x->answer);
	if (x->heard) {
		*x->heard = *m;
		*x->done = true;
	}
	if (x->to_life == n->life)
		heap_push(n->w, e);
	exchange_put(x); /* held for this answer */
}

static void env_timer(void *ctx, uint32_t id, uint64_t at_ms)
{
	struct node *n = ctx;
	struct event_item e = { .at = MAX(at_ms, n->w->now),
				.what = AT_TIMER,
				.node = n->i,
				.life = n->life,
				.timer = id };

	assert(id < TREE_TIMERS);
	n->timer[id] = at_ms == UINT64_MAX ? UINT64_MAX : e.at;
	if (at_ms != UINT64_MAX)
		heap_push(n->w, e);
}

static int env_store(void *ctx, const struct tree_stored *s)
{
	struct node *n = ctx;

	if (n->store_fails) {
		n->store_fails++;
		return -EIO;
	}
	n->stored = *s;
	free(n->members);
	n->members = grab(MAX(s->n_members, 1) * sizeof(*n->members));
	for (uint32_t i = 0; i < s->n_members; i++)
		n->members[i] = s->members[i];
	n->stored.members = n->members;
	return 0;
}

static unsigned env_blocks(void *ctx, struct tree_block out[TREE_BLOCKS])
{
	(void)ctx;
	memset(&out[0], 0, sizeof(out[0]));
	return 1;
}

static void env_blocks_heard(void *ctx, const struct node_id *child,
			     const struct tree_block *b, unsigned n)
{
	(void)ctx;
	(void)child;
	(void)b;
	assert(n <= TREE_BLOCKS);
}

static void env_event(void *ctx, enum tree_event e, const struct node_id *id)
{
	struct node *n = ctx;

	(void)id;
	n->drained |= e == TREE_EVENT_DRAINED;
	n->child_events += e == TREE_EVENT_CHILD;
}

static const struct tree_env world_env = {
	.now_ms = env_now,
	.wall_ms = env_wall,
	.random = env_random,
	.send = env_send,
	.cancel = env_cancel,
	.reply = env_reply,
	.timer = env_timer,
	.store = env_store,
	.blocks = env_blocks,
	.blocks_heard = env_blocks_heard,
	.event = env_event,
};

/* ---- providers ---- */

static int seed_parents(struct member *m, struct endpoint *out, size_t max)
{
	const struct node *n = (const struct node *)m;
	size_t k = MIN(max, n->n_seeds);

	memcpy(out, n->seeds, k * sizeof(*out));
	return (int)k;
}

static int list_parents(struct member *m, struct endpoint *out, size_t max)
{
	const struct node *n = (const struct node *)m;

	if (!n->i || !max)
		return 0;
	out[0] = n->w->node[(n->i - 1) / n->conf.fanout].ep;
	return 1;
}

static bool listed_below(const struct node *n, unsigned i)
{
	while (i > n->i)
		i = (i - 1) / n->conf.fanout;
	return i == n->i;
}

static int list_expected(struct member *m, bool below, struct endpoint *out,
			 size_t max)
{
	const struct node *n = (const struct node *)m;
	size_t k = 0;

	for (unsigned i = below ? n->i + 1 : 0; i < n->w->n && k < max; i++)
		if (!below || listed_below(n, i))
			out[k++] = n->w->node[i].ep;
	return (int)k;
}

const struct member_ops world_manual = { .name = "manual", .founds = true };
const struct member_ops world_join = { .name = "join",
				       .parents = seed_parents,
				       .seeds = true };
const struct member_ops world_static = { .name = "static",
					 .parents = list_parents,
					 .expected = list_expected };

/* ---- life ---- */

struct world *world_new(unsigned n, const struct member_ops *provider,
			uint64_t seed)
{
	struct world *w = grab(sizeof(*w));

	assert(n <= WORLD_NODES);
	w->heap = grab(sizeof(*w->heap));
	w->n = n;
	w->now = 1000;
	w->rng = seed;
	for (unsigned i = 0; i < n; i++) {
		struct node *p = &w->node[i];
		uint8_t a[4] = { 10, 0, (uint8_t)(i >> 8), (uint8_t)i };

		p->w = w;
		p->i = i;
		addr_from_v4(&p->ep.addr, a);
		p->ep.port = 8000;
		/* in the order of their numbers, as heads of ids too */
		p->stored.id.b[0] = (uint8_t)(i + 1) >> 4;
		p->stored.id.b[1] = (uint8_t)(i + 1);
		p->stored.id.b[2] = (uint8_t)((i + 1) >> 8);
		p->stored.id.b[15] = 7;
		p->stored.incarnation = 1;
		p->conf = (struct tree_conf){ .overlay = "test",
					      .rack = "",
					      .self = p->ep,
					      .provider = provider,
					      .member = (struct member *)p,
					      .fanout = 16,
					      .forget_ms = 0 };
		p->seeds[0] = w->node[0].ep;
		p->n_seeds = 1;
	}
	return w;
}

void world_roots(struct world *w, unsigned n)
{
	static_assert(TREE_ROOTS <= TREE_SEEDS, "seeds have room for them");
	for (unsigned i = 0; i < w->n; i++) {
		struct node *p = &w->node[i];

		for (unsigned k = 0; k < n; k++)
			p->seeds[k] = w->node[k].ep;
		p->n_seeds = n;
		p->conf.roots = p->seeds;
		p->conf.n_roots = n;
	}
}

void world_start(struct world *w, unsigned i)
{
	struct node *n = &w->node[i];

	assert(n->state == NODE_OFF);
	n->life++;
	n->stored.incarnation++;
	memset(n->timer, 0xff, sizeof(n->timer));
	n->state = NODE_ON;
	n->drained = false;
	n->tree = tree_new(&n->conf, &n->stored, &world_env, n);
	assert(n->tree);
	tree_start(n->tree);
}

void world_start_all(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++)
		world_start(w, i);
}

/* Those below and above it see their connections close. */
static void closed(struct world *w, unsigned i)
{
	for (unsigned k = 0; k < w->n; k++)
		if (w->node[k].state == NODE_ON &&
		    w->node[k].group == w->node[i].group &&
		    world_parent(w, k) == (int)i)
			tree_parent_closed(w->node[k].tree);
}

void world_kill(struct world *w, unsigned i)
{
	struct node *n = &w->node[i];

	n->state = NODE_OFF;
	tree_free(n->tree);
	n->tree = NULL;
	n->life++;
	closed(w, i);
}

void world_stop(struct world *w, unsigned i)
{
	w->node[i].state = NODE_STOPPED;
}

void world_resume(struct world *w, unsigned i)
{
	struct node *n = &w->node[i];

	n->state = NODE_ON;
	/* its timers are late */
	for (unsigned k = 0; k < TREE_TIMERS; k++)
		if (n->timer[k] <= w->now)
			env_timer(n, k, w->now);
}

void world_free(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		if (w->node[i].state != NODE_OFF)
			world_kill(w, i);
		free(w->node[i].members);
	}
	while (w->heap->n)
		exchange_put(heap_pop(w).x);
	/* those that the killed never answered */
	while (w->exchanges) {
		w->exchanges->events = 1;
		exchange_put(w->exchanges);
	}
	free(w->heap->item);
	free(w->heap);
	free(w);
}

/* ---- running ---- */

static bool reaches(const struct world *w, const struct exchange *x)
{
	const struct node *a = &w->node[x->from], *b = &w->node[x->to];

	return a->group == b->group;
}

static void at_request(struct world *w, struct exchange *x)
{
	struct node *to = &w->node[x->to], *from = &w->node[x->from];
	struct event_item e = { .at = w->now + LATENCY_MS,
				.what = AT_REFUSED,
				.x = x };

	if (!reaches(w, x) || to->state == NODE_STOPPED ||
	    (w->see && !w->see(w, x->from, x->to, &x->m, false)))
		return;
	if (to->state == NODE_OFF) {
		heap_push(w, e);
		return;
	}
	x->to_life = to->life;
	x->events++; /* for env_reply() */
	tree_request(to->tree, &from->ep, &x->m, (uint64_t)(uintptr_t)x);
}

static void told(struct world *w, struct exchange *x, int err)
{
	struct node *from = &w->node[x->from];

	if (x->over || from->life != x->from_life || from->state != NODE_ON)
		return;
	x->over = true;
	tree_done(from->tree, x->ref, err, err ? NULL : &x->answer);
}

static void check_node(struct world *w, unsigned i)
{
#ifdef TREE_CHECK
	if (w->node[i].tree)
		tree_check(w->node[i].tree);
#endif
	if (!w->slow_check || w->seq % 64 == 0)
		(void)world_depth(w, i);
}

static void step(struct world *w)
{
	struct event_item e = heap_pop(w);
	struct node *n = &w->node[e.node];

	assert(e.at >= w->now);
	w->now = e.at;
	switch (e.what) {
	case AT_REQUEST:
		at_request(w, e.x);
		check_node(w, e.x->to);
		break;
	case AT_REPLY:
		if (reaches(w, e.x) && (!w->see || w->see(w, e.x->to, e.x->from,
							  &e.x->answer, true)))
			told(w, e.x, 0);
		check_node(w, e.x->from);
		break;
	case AT_REFUSED:
		told(w, e.x, -ECONNREFUSED);
		break;
	case AT_LIMIT:
		told(w, e.x, -ETIMEDOUT);
		break;
	case AT_TIMER:
		if (n->life != e.life || n->state != NODE_ON ||
		    n->timer[e.timer] != e.at)
			break;
		n->timer[e.timer] = UINT64_MAX;
		tree_timer(n->tree, e.timer);
		check_node(w, e.node);
		break;
	}
	exchange_put(e.x);
}

void world_run(struct world *w, uint64_t ms)
{
	uint64_t end = w->now + ms;

	while (w->heap->n && w->heap->item[0].at <= end)
		step(w);
	w->now = end;
}

uint64_t world_until(struct world *w, bool (*is)(struct world *w, void *arg),
		     void *arg, uint64_t limit_ms)
{
	uint64_t begin = w->now;

	while (!is(w, arg)) {
		if (w->now - begin >= limit_ms)
			return UINT64_MAX;
		world_run(w, 10);
	}
	return w->now - begin;
}

enum tree_word world_ask(struct world *w, unsigned from, unsigned to,
			 const struct tree_msg *m, struct tree_msg *answer)
{
	struct exchange *x = grab(sizeof(*x));
	struct event_item e = { .at = w->now, .what = AT_REQUEST, .x = x };
	struct tree_msg reply = { 0 };
	bool done = false;

	x->next = w->exchanges;
	x->link = &w->exchanges;
	if (x->next)
		x->next->link = &x->next;
	w->exchanges = x;
	x->from = from;
	x->to = to;
	x->over = true;
	answer = answer ? answer : &reply;
	x->heard = answer;
	x->done = &done;
	copy_message(&x->m, m);
	heap_push(w, e);
	for (unsigned i = 0; i < 2000 && !done; i++)
		world_run(w, 1);
	assert(done);
	return answer->word;
}

void world_mover(const struct world *w, unsigned i, struct tree_mover *m)
{
	const struct node *n = &w->node[i];

	*m = (struct tree_mover){ .id = n->stored.id,
				  .incarnation = n->stored.incarnation,
				  .ep = n->ep,
				  .hosts = 1 };
	memcpy(m->overlay, n->conf.overlay, strlen(n->conf.overlay));
}

void world_climb(const struct world *w, unsigned acceptor, unsigned i,
		 struct tree_msg *m)
{
	*m = (struct tree_msg){ .kind = TREE_GRANT,
				.lease = tree_lease(w->node[acceptor].tree) };
	m->u.grant.acceptor = w->node[acceptor].stored.id;
	world_mover(w, i, &m->u.grant.mover);
}

struct added {
	bool done;
	enum tree_word w;
};

static void added(void *arg, enum tree_word w, bool created)
{
	struct added *a = arg;

	(void)created;
	assert(!a->done);
	a->done = true;
	a->w = w;
}

enum tree_word world_add(struct world *w, unsigned h, unsigned x)
{
	struct added a = { 0 };

	tree_add(w->node[h].tree, &w->node[x].ep, 900, added, &a);
	for (unsigned i = 0; i < 200 && !a.done; i++)
		world_run(w, 10);
	assert(a.done);
	return a.w;
}

/* ---- looking ---- */

int world_parent(const struct world *w, unsigned i)
{
	const struct node *n = &w->node[i];
	struct node_id path[TREE_LEVELS];
	unsigned k;

	if (!n->tree || tree_detached(n->tree))
		return -2;
	if (tree_is_root(n->tree))
		return -1;
	k = tree_path(n->tree, path);
	assert(k);
	for (unsigned j = 0; j < w->n; j++)
		if (memcmp(&w->node[j].stored.id, &path[k - 1],
			   sizeof(path[0])) == 0)
			return (int)j;
	return -2;
}

unsigned world_depth(const struct world *w, unsigned i)
{
	unsigned depth = 0;
	int p = world_parent(w, i);

	for (; p >= 0; p = world_parent(w, (unsigned)p)) {
		depth++;
		assert(depth <= w->n); /* O1 */
	}
	return depth;
}

unsigned world_leaf(const struct world *w, unsigned other)
{
	unsigned i = w->n - 1;

	while (i == other || tree_n_children(w->node[i].tree))
		i--;
	return i;
}

unsigned world_roots_now(const struct world *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < w->n; i++)
		n += w->node[i].state == NODE_ON &&
		     tree_is_root(w->node[i].tree);
	return n;
}

int world_root(const struct world *w)
{
	int root = -1;

	if (world_roots_now(w) != 1)
		return -1;
	for (unsigned i = 0; i < w->n; i++)
		if (w->node[i].state == NODE_ON &&
		    tree_is_root(w->node[i].tree))
			root = (int)i;
	return root;
}

bool world_no_rows(struct world *w, unsigned from, unsigned to,
		   const struct tree_msg *m, bool reply)
{
	(void)w;
	(void)from;
	(void)to;
	(void)reply;
	return m->kind != TREE_ROWS;
}

bool world_whole(struct world *w, void *unused)
{
	int root = world_root(w);
	const struct tree_row *r;
	unsigned on = 0, up = 0;
	uint32_t n;

	(void)unused;
	if (root < 0)
		return false;
	for (unsigned i = 0; i < w->n; i++) {
		const struct tree *t = w->node[i].tree;

		if (w->node[i].state != NODE_ON)
			continue;
		on++;
		if (!tree_rooted(t))
			return false;
	}
	r = tree_rows(w->node[root].tree, &n);
	for (uint32_t i = 0; i < n; i++)
		up += r[i].up;
	return up == on && n == tree_expected(w->node[root].tree);
}

void world_print(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct node *n = &w->node[i];
		uint32_t rows = 0, expected = 0;

		if (n->tree) {
			tree_rows(n->tree, &rows);
			expected = tree_expected(n->tree);
		}
		fprintf(stderr,
			"%u: state %d parent %d rooted %d rows %u expected %u "
			"children %u settled %d\n",
			i, (int)n->state, world_parent(w, i),
			n->tree && tree_rooted(n->tree), rows, expected,
			n->tree ? tree_n_children(n->tree) : 0,
			n->tree && tree_settled(n->tree));
	}
}

void must_be_whole(struct world *w, uint64_t limit_ms)
{
	if (world_until(w, world_whole, NULL, limit_ms) == UINT64_MAX) {
		world_print(w);
		fail_msg("not whole");
	}
}

static bool settled(struct world *w, void *unused)
{
	return world_whole(w, unused) &&
	       tree_settled(w->node[world_root(w)].tree);
}

void must_settle(struct world *w, uint64_t limit_ms)
{
	if (world_until(w, settled, NULL, limit_ms) == UINT64_MAX) {
		world_print(w);
		fail_msg("not settled");
	}
}

struct world *world_growing(unsigned n, unsigned on, unsigned fanout,
			    unsigned roots, uint64_t seed)
{
	struct world *w = world_new(n, &world_join, seed);

	world_roots(w, roots);
	for (unsigned i = 0; i < n; i++)
		w->node[i].conf.fanout = fanout;
	for (unsigned i = 0; i < on; i++) {
		world_start(w, i);
		world_run(w, i ? 100 : 1500);
	}
	must_settle(w, 60000);
	return w;
}

struct world *world_grown(unsigned n, unsigned fanout, unsigned roots,
			  uint64_t seed)
{
	return world_growing(n, n, fanout, roots, seed);
}
