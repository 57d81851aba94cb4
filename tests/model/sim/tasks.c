/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tasks: the machine that keeps sets of them equal, on top of the tree.  A
 * client changes tasks at the root; changes go down at once, what is missed is
 * repaired by what beats say.  At the end every agent must hold the root's set,
 * and what was put while all was calm must be in it.
 *
 * A task has no content here.  What an agent holds is on its disk.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "sim.h"

#define LIMIT_MS 500
#define FAN_REF  (UINT64_C(1) << 63) /* nobody waits for the reply */

struct task_msg {
	struct blocks_msg m;
	struct epoch lease;
	struct blocks_item item[]; /* m.n */
};

/* A block as it is on disk. */
struct kept_block {
	struct kept_block *next;
	struct tree_block head;
	uint64_t want;
	unsigned n;
	struct blocks_item item[];
};

static uint32_t index_of(const struct agent *a)
{
	return (uint32_t)(a - a->w->agent);
}

/* ---- messages ---- */

static struct task_msg *task_msg(const struct blocks_msg *m,
				 const struct epoch *lease)
{
	struct task_msg *c = calloc(1, sizeof(*c) + m->n * sizeof(*m->item));

	if (!c)
		abort();
	c->m = *m;
	c->lease = *lease;
	if (m->n)
		memcpy(c->item, m->item, m->n * sizeof(*m->item));
	c->m.item = c->item;
	return c;
}

static void *task_copy(struct world *w, const void *from, bool reply)
{
	const struct task_msg *m = from;

	(void)w, (void)reply;
	return task_msg(&m->m, &m->lease);
}

static void task_free(struct world *w, void *m)
{
	(void)w;
	free(m);
}

static void send_to(struct agent *a, const struct endpoint *ep,
		    const struct epoch *lease, const struct blocks_msg *m,
		    uint64_t ref)
{
	struct task_msg *c = task_msg(m, lease);

	net_send(a->w, &proto_tasks, index_of(a), ep, c, LIMIT_MS, false, ref);
	free(c);
}

/* A change goes on to all children. */
static void fan(struct agent *a, const struct blocks_msg *m)
{
	for (unsigned i = 0; i < tree_n_children(a->tree); i++) {
		struct tree_child c;

		tree_child_at(a->tree, i, &c);
		if (c.state == CHILD_UP || c.state == CHILD_SUSPECT)
			send_to(a, &c.ep, &c.lease, m, FAN_REF);
	}
}

static void serve_change(struct agent *a, const struct task_msg *t,
			 struct blocks_msg *r)
{
	const struct blocks_msg *m = &t->m;

	if (tree_admit(a->tree, &t->lease, NULL) != TREE_OK) {
		r->word = BLOCKS_STALE;
		return;
	}
	r->word = m->act == BLOCKS_PUT
			  ? blocks_put(a->blocks, &m->head, m->item)
			  : blocks_delete(a->blocks, &m->head, m->id);
	if (r->word <= BLOCKS_SAME)
		fan(a, m);
}

static void task_request(struct world *w, uint32_t to, uint32_t from,
			 const void *msg, uint64_t handle)
{
	const struct task_msg *t = msg;
	struct agent *a = &w->agent[to];
	struct task_msg *r;
	struct blocks_msg m = { .act = t->m.act, .head = t->m.head };

	(void)from;
	if (t->m.act == BLOCKS_LIST || t->m.act == BLOCKS_FETCH)
		blocks_list(a->blocks, &t->m.head.owner, &m);
	else
		serve_change(a, t, &m);
	r = task_msg(&m, &t->lease);
	net_reply(w, to, handle, r);
	free(r);
}

static void task_done(struct world *w, uint32_t from, uint32_t to, uint64_t ref,
		      int err, void *msg)
{
	struct task_msg *t = msg;

	(void)to;
	if (ref != FAN_REF)
		blocks_done(w->agent[from].blocks, ref, err, t ? &t->m : NULL);
}

const struct proto proto_tasks = {
	.copy = task_copy,
	.free = task_free,
	.request = task_request,
	.done = task_done,
};

/* ---- what the machine reaches ---- */

static int env_send(void *ctx, const struct node_id *child,
		    const struct endpoint *at, const struct blocks_msg *m,
		    uint64_t ref)
{
	struct epoch none = { 0 };
	struct agent *a = ctx;

	if (!child) {
		send_to(a, at, &none, m, ref);
		return 0;
	}
	for (unsigned i = 0; i < tree_n_children(a->tree); i++) {
		struct tree_child c;

		tree_child_at(a->tree, i, &c);
		if (!node_id_equal(&c.id, child))
			continue;
		send_to(a, &c.ep, &c.lease, m, ref);
		return 0;
	}
	return -ENOENT;
}

static void *env_install(void *ctx, const struct node_id *owner,
			 const struct blocks_item *in,
			 const struct blocks_item *old)
{
	struct agent *a = ctx;

	(void)owner;
	if (old && in->generation < old->generation)
		world_fail(a->w, "O6: agent %u takes generation %u after %u",
			   index_of(a), (unsigned)in->generation,
			   (unsigned)old->generation);
	return in->content;
}

static void env_drop(void *ctx, void *content)
{
	(void)ctx, (void)content;
}

static unsigned env_candidates(void *ctx, struct endpoint out[5])
{
	const struct agent *a = ctx;
	unsigned n = 0;

	for (unsigned i = 0; i < a->conf.n_roots; i++)
		if (!endpoint_equal(&a->conf.roots[i], &a->conf.self))
			out[n++] = a->conf.roots[i];
	return n;
}

static void env_changed(void *ctx)
{
	(void)ctx;
}

static const struct blocks_env env = {
	.send = env_send,
	.install = env_install,
	.drop = env_drop,
	.candidates = env_candidates,
	.changed = env_changed,
};

/* ---- a process and its disk ---- */

void tasks_begin(struct world *w, uint32_t agent)
{
	struct agent *a = &w->agent[agent];

	if (!w->conf.tasks)
		return;
	a->blocks = blocks_new(tree_self(a->tree), &env, a);
	if (!a->blocks)
		abort();
	for (const struct kept_block *k = a->kept; k; k = k->next)
		if (blocks_restore(a->blocks, &k->head, k->want, k->item, k->n))
			world_fail(w, "agent %u cannot restore its tasks",
				   agent);
	a->placed = 0;
	agent_timer(a, TASK_TIMER, tree_now_ms(a) + 1000);
}

void tasks_forget(struct agent *a)
{
	while (a->kept) {
		struct kept_block *k = a->kept;

		a->kept = k->next;
		free(k);
	}
}

void tasks_end(struct world *w, uint32_t agent)
{
	struct agent *a = &w->agent[agent];

	if (!a->blocks)
		return;
	w->superseded |= blocks_superseded(a->blocks) != 0;
	tasks_forget(a);
	for (unsigned i = 0; i < blocks_count(a->blocks); i++) {
		const struct block *b = blocks_at(a->blocks, i);
		struct kept_block *k =
			malloc(sizeof(*k) + b->n * sizeof(b->item[0]));

		if (!k)
			abort();
		k->head = b->head;
		k->want = b->want;
		k->n = b->n;
		if (b->n)
			memcpy(k->item, b->item, b->n * sizeof(b->item[0]));
		k->next = a->kept;
		a->kept = k;
	}
	blocks_free(a->blocks);
	a->blocks = NULL;
}

void tasks_tick(struct agent *a)
{
	blocks_tick(a->blocks);
	agent_timer(a, TASK_TIMER, tree_now_ms(a) + 1000);
}

/* After every call of the tree: the path may be another. */
void tasks_place(struct agent *a)
{
	struct node_id path[TREE_LEVELS];
	struct blocks_place p = {
		.term = tree_epoch(a->tree).term,
		.incarnation = a->disk.incarnation,
		.unheard = tree_unheard(a->tree),
		.path = path,
	};
	uint64_t now = p.term;

	(void)blocks_rename(a->blocks, tree_self(a->tree));
	p.role = tree_is_root(a->tree)  ? BLOCKS_ROOT
		 : tree_rooted(a->tree) ? BLOCKS_BELOW
					: BLOCKS_ALONE;
	if (p.role == BLOCKS_BELOW)
		p.n_path = tree_path(a->tree, path);
	now = (now * 31 + p.role) * 2 + p.unheard;
	for (unsigned i = 0; i < p.n_path; i++) {
		uint64_t v;

		memcpy(&v, path[i].b, 8);
		now = (now ^ v) * UINT64_C(0x9e3779b97f4a7c15) + i;
	}
	if (now == a->placed)
		return;
	a->placed = now;
	blocks_place(a->blocks, &p);
}

/* ---- the client and what must be in the end ---- */

static struct blocks_item item_of(uint64_t id, uint64_t generation)
{
	static char content;

	return (struct blocks_item){
		.id = id,
		.generation = generation,
		.spec = id * 31 + generation,
		.hash = id * 77 + generation * 5,
		.order = id,
		.content = &content,
	};
}

static const struct node_id everybody; /* owner of the root's block */

/* Owner of the block that its own changes go to. */
static const struct node_id *owner_of(const struct agent *a)
{
	return tree_is_root(a->tree) ? &everybody : tree_self(a->tree);
}

/* Puts a task, a later generation of one, or deletes one. */
void tasks_change(struct world *w, uint32_t agent, bool calm)
{
	struct agent *a = &w->agent[agent];
	const struct node_id *owner = owner_of(a);
	const struct block *k = blocks_of(a->blocks, owner);
	struct blocks_msg m = { .act = BLOCKS_PUT, .n = 1 };
	struct blocks_item item;
	enum blocks_word word;

	if (!calm && k && k->n && chance_is(&w->chance, 0.6)) {
		item = k->item[chance_below(&w->chance, k->n)];
		if (item.id <= w->n_calm) /* those stay */
			return;
		if (chance_is(&w->chance, 0.5))
			m.act = BLOCKS_DELETE;
		else
			item = item_of(item.id, item.generation + 1);
	} else {
		item = item_of(++w->n_tasks, 1);
		if (calm)
			w->n_calm = w->n_tasks;
	}
	m.id = item.id;
	word = m.act == BLOCKS_PUT ? blocks_change(a->blocks, &item)
				   : blocks_remove(a->blocks, item.id);
	k = blocks_of(a->blocks, owner);
	if (word != BLOCKS_DONE || !k)
		return;
	/* a set begun anew, by a client of a root without its disk */
	w->superseded |= a->amnesia;
	m.head = k->head;
	m.item = &item;
	m.n = m.act == BLOCKS_PUT;
	fan(a, &m);
}

/* An owner without the block has an empty one. */
static bool holds(const struct agent *a, const struct agent *owner)
{
	const struct node_id *id = owner_of(owner);
	const struct block *is = blocks_of(a->blocks, id);
	const struct block *own = blocks_of(owner->blocks, id);

	return (is ? is->head.hash : 0) == (own ? own->head.hash : 0);
}

/* Everybody holds the block of each agent on its path as that one does. */
bool tasks_equal(struct world *w, char *why, size_t size)
{
	for (uint32_t i = 0; i < w->n; i++) {
		if (!w->agent[i].tree)
			continue;
		for (uint32_t at = w->agent[i].parent; at != NOBODY;
		     at = w->agent[at].parent) {
			if (w->agent[at].tree &&
			    holds(&w->agent[i], &w->agent[at]))
				continue;
			snprintf(why, size,
				 "agent %u does not hold those of %u", i, at);
			return false;
		}
	}
	return true;
}

/* All that was put while all was calm, running or on its disk. */
static bool keeps_calm(const struct world *w, const struct agent *a)
{
	const struct block *b = a->blocks ? blocks_of(a->blocks, &everybody)
					  : NULL;
	const struct blocks_item *item = b ? b->item : NULL;
	unsigned n = b ? b->n : 0;
	uint64_t held = 0;

	for (const struct kept_block *k = a->blocks ? NULL : a->kept; k;
	     k = k->next)
		if (node_id_equal(&k->head.owner, &everybody)) {
			item = k->item;
			n = k->n;
		}
	for (unsigned i = 0; i < n; i++)
		held += item[i].id <= w->n_calm;
	return held == w->n_calm;
}

void tasks_disk_lost(struct world *w)
{
	bool kept = false;

	for (uint32_t i = 0; i < MIN(3, w->n); i++)
		kept |= keeps_calm(w, &w->agent[i]);
	w->superseded |= !kept;
}

void tasks_judge(struct world *w)
{
	const struct blocks *b = NULL;

	for (uint32_t i = 0; i < w->n; i++) {
		if (w->agent[i].root)
			b = w->agent[i].blocks;
		w->superseded |= w->agent[i].blocks &&
				 blocks_superseded(w->agent[i].blocks);
	}
	if (w->superseded) /* all candidates had lost their disks */
		return;
	for (uint64_t id = 1; b && id <= w->n_calm; id++)
		if (!blocks_find(b, id, NULL) || tooth_bites(w, TOOTH_FORGET))
			world_fail(w, "O7: task %u is forgotten", (unsigned)id);
}
