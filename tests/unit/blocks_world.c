/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tree of machines: who is below whom, beats, messages that are lost, doubled
 * and overtaken, clients, faults.  Each install is checked: in one lineage no
 * older generation and no deleted task may come.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blocks_world.h"
#include "common/util.h"

static uint64_t rnd(struct world *w, uint64_t n)
{
	w->seed += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t x = w->seed;

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (x ^ x >> 31) % n;
}

static struct node_id id_of(uint32_t i)
{
	struct node_id id = { { 0x10, (uint8_t)i } };

	return id;
}

struct blocks_item item_of(uint64_t id, uint64_t generation, uint64_t tune)
{
	static int content;

	return (struct blocks_item){ .id = id,
				     .generation = generation,
				     .spec = id * 31 + generation,
				     .hash = id * 77 + generation * 5 + tune,
				     .order = id,
				     .content = &content };
}

static void message_free(struct message *m)
{
	free(m->item);
	free(m);
}

static void post(struct world *w, const struct message *in)
{
	struct message *m = calloc(1, sizeof(*m));

	assert_true(m && w->n_queue < QUEUE);
	*m = *in;
	m->round = w->round;
	m->lease = m->reply ? 0 : w->node[m->to].lease;
	m->item = NULL;
	m->n = m->m.n;
	if (m->n) {
		m->item = calloc(m->n, sizeof(*m->item));
		assert_non_null(m->item);
		memcpy(m->item, in->m.item, m->n * sizeof(*m->item));
	}
	m->m.item = m->item;
	w->queue[w->n_queue++] = m;
}

/* ---- environment of a machine ---- */

static int env_send(void *ctx, const struct node_id *child,
		    const struct endpoint *at, const struct blocks_msg *m,
		    uint64_t ref)
{
	struct node *n = ctx;
	struct message msg = { .from = n->i,
			       .to = child ? child->b[1] : at->port,
			       .ref = ref | n->boot << 48,
			       .m = *m };

	if (child && n->w->node[msg.to].parent != n->i)
		return -ENOENT;
	post(n->w, &msg);
	return 0;
}

static void *env_install(void *ctx, const struct node_id *owner,
			 const struct blocks_item *in,
			 const struct blocks_item *old)
{
	struct node *n = ctx;
	struct world *w = n->w;
	uint64_t id = in->id % IDS;

	w->installs++;
	if (old && in->generation < old->generation)
		w->violations++;
	if (w->strict && (in->generation < n->generation[id] || n->gone[id]))
		w->violations++;
	n->generation[id] = MAX(n->generation[id], in->generation);
	w->owner[id] = *owner;
	return in->content;
}

static void env_drop(void *ctx, void *content)
{
	(void)ctx;
	assert_non_null(content);
}

static unsigned env_candidates(void *ctx, struct endpoint out[5])
{
	struct node *n = ctx;
	unsigned k = 0;

	for (uint16_t i = 0; i < ROOTS; i++)
		if (i != n->i)
			out[k++] = (struct endpoint){ .port = i };
	return k;
}

static void env_changed(void *ctx)
{
	(void)ctx;
}

static const struct blocks_env env = { .send = env_send,
				       .install = env_install,
				       .drop = env_drop,
				       .candidates = env_candidates,
				       .changed = env_changed };

/* ---- the tree ---- */

static bool below(const struct world *w, uint32_t i, uint32_t top)
{
	for (unsigned k = 0; i != NOBODY && k <= AGENTS; k++) {
		if (i == top)
			return true;
		i = w->node[i].parent;
	}
	return false;
}

static unsigned heads(const struct blocks *b, struct tree_block *out)
{
	for (unsigned i = 0; i < blocks_count(b); i++)
		out[i] = blocks_at(b, i)->head;
	return blocks_count(b);
}

static void forget_dropped(struct world *w, struct node *n,
			   const struct tree_block *was, unsigned n_was)
{
	/* what was dropped with its block was never known here */
	for (unsigned j = 0; j < n_was; j++) {
		if (blocks_of(n->b, &was[j].owner))
			continue;
		for (unsigned id = 0; id < IDS; id++) {
			if (!node_id_equal(&w->owner[id], &was[j].owner))
				continue;
			n->generation[id] = 0;
			n->gone[id] = false;
		}
	}
}

void place(struct world *w, uint32_t i)
{
	struct node *n = &w->node[i];
	struct node_id path[AGENTS];
	struct blocks_place p = { .unheard = n->unheard,
				  .incarnation = n->incarnation,
				  .term = w->term,
				  .path = path };
	uint32_t up[AGENTS], k = 0, top = i;
	struct tree_block was[BLOCKS_MAX];
	unsigned n_was = heads(n->b, was);

	for (uint32_t at = n->parent; at != NOBODY && k < AGENTS;
	     at = w->node[at].parent)
		up[k++] = top = at;
	n->level = k;
	p.role = BLOCKS_ALONE;
	if (n->root) {
		p.role = BLOCKS_ROOT;
	} else if (k && w->node[top].root) {
		p.role = BLOCKS_BELOW;
		p.n_path = k;
		for (uint32_t j = 0; j < k; j++)
			path[j] = w->node[up[k - 1 - j]].id;
	}
	blocks_place(n->b, &p);
	forget_dropped(w, n, was, n_was);
}

static void agent_up(struct world *w, uint32_t i)
{
	struct node *n = &w->node[i];

	n->w = w;
	n->i = i;
	n->id = id_of(i);
	n->incarnation++;
	n->boot++;
	n->lease++;
	n->b = blocks_new(&n->id, &env, n);
	assert_non_null(n->b);
	n->alive = true;
}

void agent_restart(struct world *w, uint32_t i, bool disk)
{
	struct node *n = &w->node[i];
	struct blocks *old = n->b;
	bool strict = w->strict;

	agent_up(w, i);
	if (!disk) {
		memset(n->generation, 0, sizeof(n->generation));
		memset(n->gone, 0, sizeof(n->gone));
	}
	w->strict = false;
	for (unsigned k = 0; disk && k < blocks_count(old); k++) {
		const struct block *at = blocks_at(old, k);

		assert_int_equal(blocks_restore(n->b, &at->head, at->want,
						at->item, at->n),
				 0);
		assert_int_equal(blocks_at(n->b, k)->head.hash, at->head.hash);
	}
	w->strict = strict;
	blocks_free(old);
}

void world_init(struct world *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->term = 1;
	w->next_id = 1;
	for (uint32_t i = 0; i < AGENTS; i++) {
		agent_up(w, i);
		w->node[i].parent = i ? (i - 1) / 3 : NOBODY;
	}
	w->node[0].root = true;
	for (uint32_t i = 0; i < AGENTS; i++)
		place(w, i);
}

void world_fini(struct world *w)
{
	for (unsigned i = 0; i < w->n_queue; i++)
		message_free(w->queue[i]);
	for (uint32_t i = 0; i < AGENTS; i++)
		blocks_free(w->node[i].b);
}

/* ---- messages ---- */

static void fan(struct world *w, uint32_t from, enum blocks_act act,
		const struct tree_block *head, uint64_t id,
		const struct blocks_item *item)
{
	for (uint32_t i = 0; i < AGENTS; i++) {
		struct message m = { .from = from, .to = i, .fan = true };

		if (w->node[i].parent != from)
			continue;
		m.m = (struct blocks_msg){ .act = act,
					   .head = *head,
					   .id = id,
					   .n = item ? 1 : 0,
					   .item = item };
		post(w, &m);
	}
}

static void heads_check(struct world *w, const struct node *n,
			const struct tree_block *was, unsigned n_was)
{
	for (unsigned i = 0; i < n_was; i++) {
		const struct block *k = blocks_of(n->b, &was[i].owner);

		if (k && (k->head.term < was[i].term ||
			  (k->head.term == was[i].term &&
			   k->head.index < was[i].index)))
			w->violations++;
	}
}

/* A message under the right lease: the parent's, or a question of a root. */
static void serve(struct world *w, const struct message *m)
{
	struct node *n = &w->node[m->to];
	struct message r = { .from = m->to,
			     .to = m->from,
			     .reply = true,
			     .ref = m->ref,
			     .m = m->m };
	struct tree_block head = m->m.head, was[BLOCKS_MAX];
	unsigned n_was = heads(n->b, was);
	const struct block *k = blocks_of(n->b, &head.owner);

	r.m.n = 0;
	if (m->m.act == BLOCKS_LIST || m->m.act == BLOCKS_FETCH) {
		blocks_list(n->b, &head.owner, &r.m);
		r.m.act = m->m.act;
		post(w, &r);
		return;
	}
	if (n->parent != m->from || n->lease != m->lease)
		return; /* 409 moved: no reply that matters here */
	if (w->forge && k) {
		head.term = MAX(head.term, k->head.term);
		head.index = MAX(head.index, k->head.index);
	}
	if (m->m.act == BLOCKS_PUT) {
		r.m.word = blocks_put(n->b, &head, m->m.item);
	} else {
		r.m.word = blocks_delete(n->b, &head, m->m.id);
		if (r.m.word == BLOCKS_DONE && m->fan)
			n->gone[m->m.id % IDS] = true;
	}
	heads_check(w, n, was, n_was);
	w->refusals += r.m.word > BLOCKS_SAME;
	if (r.m.word <= BLOCKS_SAME)
		fan(w, m->to, m->m.act, &head, m->m.id, m->m.item);
	if (!m->fan)
		post(w, &r);
}

static void deliver(struct world *w)
{
	unsigned at = (unsigned)rnd(w, w->n_queue);
	struct message *m = w->queue[at];
	struct node *to = &w->node[m->to];
	/* nothing is on its way for longer than its time limit */
	bool lost = rnd(w, 100) < w->loss || m->round + 2 < w->round;

	if (!m->reply && !lost && rnd(w, 100) < w->twice) {
		post(w, m);
		w->queue[w->n_queue - 1]->ref = 0;
		w->queue[w->n_queue - 1]->lease = m->lease;
		w->queue[w->n_queue - 1]->round = m->round;
	}
	w->queue[at] = w->queue[--w->n_queue];
	if (m->reply) {
		if (to->alive && m->ref >> 48 == to->boot)
			blocks_done(to->b, m->ref & 0xffffffffffff,
				    lost ? -ETIMEDOUT : m->err,
				    lost ? NULL : &m->m);
	} else if (!lost && to->alive) {
		serve(w, m);
		lost = m->m.act >= BLOCKS_PUT &&
		       (to->parent != m->from || to->lease != m->lease);
	} else {
		lost = true;
	}
	if (lost && !m->reply && !m->fan) {
		struct message r = { .from = m->to,
				     .to = m->from,
				     .reply = true,
				     .err = -ETIMEDOUT,
				     .ref = m->ref };

		post(w, &r);
	}
	message_free(m);
}

void drain(struct world *w)
{
	while (w->n_queue)
		deliver(w);
}

void beats(struct world *w)
{
	uint32_t first = (uint32_t)rnd(w, AGENTS);

	w->round++;
	for (uint32_t k = 0; k < AGENTS; k++) {
		struct node *n = &w->node[(first + k) % AGENTS], *up;
		struct tree_block row[BLOCKS_MAX], was[BLOCKS_MAX];
		unsigned rows, n_was;

		if (!n->alive)
			continue;
		place(w, n->i);
		blocks_tick(n->b);
		if (n->parent == NOBODY || rnd(w, 100) < w->loss)
			continue;
		up = &w->node[n->parent];
		if (!up->alive)
			continue;
		n_was = heads(n->b, was);
		rows = blocks_rows(up->b, row);
		blocks_heard(n->b, NULL, row, rows);
		heads_check(w, n, was, n_was);
		forget_dropped(w, n, was, n_was);
		rows = blocks_rows(n->b, row);
		blocks_heard(up->b, &n->id, row, rows);
	}
}

/* ---- clients ---- */

static uint32_t any_root(struct world *w)
{
	for (uint32_t i = 0; i < ROOTS; i++)
		if (w->node[i].root && w->node[i].alive)
			return i;
	return NOBODY;
}

static void client(struct world *w)
{
	uint32_t i = any_root(w);
	const struct block *k;
	struct blocks_item item;
	struct tree_block head;
	struct node_id zero = { { 0 } };
	bool tune;

	if (!rnd(w, 4) || i == NOBODY)
		i = (uint32_t)rnd(w, AGENTS); /* an inner owner, or a leaf */
	if (!w->node[i].alive)
		return;
	place(w, i);
	k = blocks_of(w->node[i].b, w->node[i].root ? &zero : &w->node[i].id);
	if (k && k->n && (k->n > 12 || !rnd(w, 3))) {
		uint64_t id = k->item[rnd(w, k->n)].id;

		if (blocks_remove(w->node[i].b, id) != BLOCKS_DONE)
			return; /* a new root that knows too little yet */
		w->node[i].gone[id % IDS] = true;
		head = blocks_of(w->node[i].b,
				 w->node[i].root ? &zero : &w->node[i].id)
			       ->head;
		fan(w, i, BLOCKS_DELETE, &head, id, NULL);
		w->changes++;
		return;
	}
	if (k && k->n && !rnd(w, 2)) {
		item = k->item[rnd(w, k->n)];
		tune = rnd(w, 2);
		item = item_of(item.id, item.generation + !tune,
			       tune ? rnd(w, 1000) : 0);
	} else {
		item = item_of(w->next_id++, 1, 0);
	}
	if (blocks_change(w->node[i].b, &item) != BLOCKS_DONE)
		return;
	assert_non_null(blocks_find(w->node[i].b, item.id, &head));
	fan(w, i, BLOCKS_PUT, &head, 0, &item);
	w->changes++;
}

/* ---- faults ---- */

static void move(struct world *w)
{
	uint32_t i = 1 + (uint32_t)rnd(w, AGENTS - 1);
	uint32_t to = (uint32_t)rnd(w, AGENTS);

	if (w->node[i].root || below(w, to, i) || !w->node[to].alive)
		return;
	w->node[i].parent = to;
	w->node[i].lease++;
}

/* The root dies; another candidate, with what it has, is it now. */
static void fail_over(struct world *w)
{
	uint32_t old = any_root(w), i = (uint32_t)rnd(w, ROOTS);

	if (old == NOBODY || i == old)
		return;
	w->node[old].alive = false;
	w->node[old].root = false;
	w->node[i].root = true;
	w->node[i].parent = NOBODY;
	w->term++;
	for (uint32_t k = 0; k < AGENTS; k++)
		if (k != i && (w->node[k].parent == old || !below(w, k, i)))
			if (!below(w, i, k) && k != old)
				w->node[k].parent = i, w->node[k].lease++;
	w->node[old].parent = i;
}

void revive(struct world *w, bool lose)
{
	for (uint32_t i = 0; i < AGENTS; i++) {
		if (w->node[i].alive)
			continue;
		agent_restart(w, i, !lose || rnd(w, 2));
		place(w, i);
	}
}

static void fault(struct world *w, bool roots)
{
	uint32_t i = (uint32_t)rnd(w, AGENTS);

	switch (rnd(w, roots ? 6 : 4)) {
	case 0:
	case 1:
		move(w);
		break;
	case 2:
		agent_restart(w, i, true);
		place(w, i);
		break;
	case 3:
		if (!w->node[i].root)
			w->node[i].alive = false;
		break;
	case 4:
		fail_over(w);
		break;
	default:
		/* a disk is lost, the root's too */
		agent_restart(w, i, false);
		place(w, i);
		break;
	}
	if (!rnd(w, 3))
		revive(w, roots);
}

/* ---- what must hold in the end ---- */

static bool path_equal(struct world *w, const struct node *n)
{
	static const struct node_id zero;
	bool equal = true;

	for (unsigned k = 0; k < blocks_count(n->b); k++) {
		const struct block *own = blocks_at(n->b, k), *up;
		uint32_t at = n->i;

		if (node_id_equal(&own->head.owner, &zero))
			at = any_root(w);
		else
			at = own->head.owner.b[1];
		up = blocks_of(w->node[at].b, &own->head.owner);
		/* an owner without the block has an empty one */
		equal &= own->head.hash == (up ? up->head.hash : 0);
		equal &= below(w, n->i, at);
		equal &= up ? own->head.term == up->head.term &&
					 own->head.index == up->head.index
			    : true;
	}
	return equal;
}

/* Each block of each agent on the path is there, and is its owner's. */
static bool converged(struct world *w)
{
	static const struct node_id zero;

	for (uint32_t i = 0; i < AGENTS; i++) {
		const struct node *n = &w->node[i];
		const struct block *k;

		if (!path_equal(w, n))
			return false;
		for (uint32_t at = i; at != NOBODY; at = w->node[at].parent) {
			const struct block *own = blocks_of(
				w->node[at].b,
				w->node[at].root ? &zero : &w->node[at].id);

			if (!own || !own->head.hash)
				continue;
			k = blocks_of(n->b, &own->head.owner);
			if (!k || k->head.hash != own->head.hash)
				return false;
		}
	}
	return true;
}

unsigned rounds_until_equal(struct world *w, unsigned max)
{
	unsigned rounds = 0;

	while (rounds < max && !converged(w)) {
		beats(w);
		drain(w);
		rounds++;
	}
	return converged(w) ? rounds : max + 1;
}

uint32_t depth(const struct world *w)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < AGENTS; i++) {
		uint32_t k = 0;

		for (uint32_t at = w->node[i].parent; at != NOBODY;
		     at = w->node[at].parent)
			k++;
		most = MAX(most, k);
	}
	return most;
}

void history(struct world *w, bool roots)
{
	w->loss = 10;
	w->twice = 10;
	for (unsigned step = 0; step < 300; step++) {
		uint64_t what = rnd(w, 10);

		if (what < 3)
			client(w);
		else if (what < 4)
			fault(w, roots);
		else if (what < 6)
			beats(w);
		for (uint64_t k = rnd(w, 12); k && w->n_queue; k--)
			deliver(w);
	}
	revive(w, roots);
	w->loss = 0;
	drain(w);
}
