// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Differences between blocks, as beats show them.
 *
 * A child that holds less than a whole block of ours, or the same with another
 * hash, is repaired: its list is compared with our set, what is gone is
 * deleted, what differs is put, one message after the other.  A child that
 * holds more than its parent is left alone; that it does is told upwards until
 * the owner hears it.  An owner that held less has lost state: it takes the set
 * back from a root candidate that has it, and otherwise writes its own above.
 * Who heard of a set and got none of it yet may be the next root: it waits for
 * it like one with half of it.  So does who came below a root and heard nothing
 * from there.  Either tells those below that there is one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tree/blocks_private.h"
#include "common/util.h"

/* More changes than this were not made since a child was heard: it lies. */
#define INDEX_AHEAD (UINT64_C(1) << 32)
#define UNHEARD     UINT64_MAX /* of a set: whatever a beat will say */

struct step {
	uint64_t id;
	bool delete, forced; /* forced: out, to be put in anew */
};

/* One message at a time with a child, or with one candidate after another. */
struct repair {
	struct repair *next;
	uint64_t ref;
	struct node_id owner, child;
	bool fetch, void_; /* fetch: for an owner; else repair of a child */
	bool of_child;     /* fetch: from the child first */
	bool first;        /* fetch: before the first change of a new root */
	bool listed;
	struct step *step; /* the last one is next */
	unsigned n_steps;
	struct tree_block heard;
	struct endpoint at[BLOCKS_ROOTS];
	unsigned n_at;
};

static struct repair *repair_new(struct blocks *b, const struct node_id *owner,
				 const struct node_id *child)
{
	struct repair *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->owner = *owner;
	r->child = *child;
	r->next = b->exchanges;
	b->exchanges = r;
	return r;
}

static void repair_free(struct blocks *b, struct repair *r)
{
	struct repair **at = &b->exchanges;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	free(r->step);
	free(r);
}

void exchanges_free(struct blocks *b)
{
	while (b->exchanges)
		repair_free(b, b->exchanges);
}

void exchanges_void(struct blocks *b)
{
	for (struct repair *r = b->exchanges; r; r = r->next)
		r->void_ |= r->fetch;
}

static int repair_send(struct blocks *b, struct repair *r,
		       const struct endpoint *at, struct blocks_msg *m)
{
	m->head.owner = r->owner;
	r->ref = ++b->next_ref;
	return b->env->send(b->ctx, at ? NULL : &r->child, at, m, r->ref);
}

/* Somebody below holds a later change than we do. */
static void claimed(struct blocks *b, struct block *k,
		    const struct node_id *child, const struct tree_block *row);

/* ---- repair of a child ---- */

static bool step_message(const struct block *k, const struct step *s,
			 struct blocks_msg *m)
{
	const struct blocks_item *it = item_find(k, s->id);

	m->head = k->head;
	if (s->delete) {
		m->act = BLOCKS_DELETE;
		m->id = s->id;
		return !it || s->forced; /* else it came again meanwhile */
	}
	m->act = BLOCKS_PUT;
	m->n = 1;
	m->item = it;
	return it;
}

/* The next message; the end if there is none, or our own set is not whole. */
static void repair_step(struct blocks *b, struct repair *r)
{
	const struct block *k = block_find(b, &r->owner);

	while (k && block_whole(k) && r->n_steps) {
		struct blocks_msg m = { 0 };

		if (!step_message(k, &r->step[r->n_steps - 1], &m)) {
			r->n_steps--;
			continue;
		}
		if (!repair_send(b, r, NULL, &m))
			return;
		break;
	}
	repair_free(b, r);
}

static int by_order(const void *a, const void *b)
{
	const struct blocks_item *const *x = a, *const *y = b;

	if ((*x)->order != (*y)->order)
		return (*x)->order < (*y)->order ? -1 : 1;
	return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

static const struct blocks_item *listed(const struct blocks_msg *m, uint64_t id)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->item[i].id == id)
			return &m->item[i];
	return NULL;
}

/* Deletes go first, so that there is room; puts in their order. */
static int repair_plan(const struct block *k, struct repair *r,
		       const struct blocks_msg *m)
{
	const struct blocks_item *put[BLOCKS_ITEMS];
	unsigned n = 0;

	r->step = calloc((size_t)m->n + k->n + 2, sizeof(*r->step));
	if (!r->step)
		return -ENOMEM;
	for (unsigned i = 0; i < k->n; i++) {
		const struct blocks_item *is = listed(m, k->item[i].id);

		if (!is || is->generation != k->item[i].generation ||
		    is->hash != k->item[i].hash)
			put[n++] = &k->item[i];
	}
	qsort(put, n, sizeof(put[0]), by_order);
	while (n)
		r->step[r->n_steps++] = (struct step){ .id = put[--n]->id };
	for (unsigned i = 0; i < m->n; i++)
		if (!item_find(k, m->item[i].id))
			r->step[r->n_steps++] =
				(struct step){ .id = m->item[i].id,
					       .delete = true };
	return 0;
}

static void repair_done(struct blocks *b, struct repair *r, int err,
			const struct blocks_msg *m)
{
	struct block *k = block_find(b, &r->owner);
	bool refused = !err &&
		       (m->word == BLOCKS_OLDER || m->word == BLOCKS_OTHER);
	struct step s;

	if (err || !k || m->word == BLOCKS_STALE || m->word == BLOCKS_FOREIGN)
		goto out;
	if (!r->listed) {
		r->listed = true;
		claimed(b, k, &r->child, &m->head);
		if (m->n > 4 * BLOCKS_ITEMS ||
		    head_compare(&m->head, &k->head) > 0 ||
		    repair_plan(k, r, m))
			goto out;
		repair_step(b, r);
		return;
	}
	s = r->step[--r->n_steps];
	if (refused && !s.delete) {
		/* another lineage of this task: ours is the later word on it */
		if (s.forced)
			goto out;
		r->step[r->n_steps++] = (struct step){ s.id, false, true };
		r->step[r->n_steps++] = (struct step){ s.id, true, true };
	}
	repair_step(b, r);
	return;
out:
	repair_free(b, r);
}

static void repair_start(struct blocks *b, const struct block *k,
			 const struct node_id *child)
{
	struct blocks_msg m = { .act = BLOCKS_LIST };
	struct repair *r;

	for (r = b->exchanges; r; r = r->next)
		if (!r->fetch && node_id_equal(&r->owner, &k->head.owner) &&
		    node_id_equal(&r->child, child))
			return;
	r = repair_new(b, &k->head.owner, child);
	if (r && repair_send(b, r, NULL, &m))
		repair_free(b, r);
}

/* ---- an owner that lost state ---- */

static void supersede(struct blocks *b, struct block *k,
		      const struct tree_block *heard)
{
	if (heard->hash != k->head.hash)
		b->superseded++;
	k->head.term = MAX(k->head.term, heard->term);
	k->head.index = MAX(k->head.index, heard->index);
	block_declare(b, k);
}

static void fetch_next(struct blocks *b, struct repair *r)
{
	struct block *k = block_find(b, &r->owner);
	struct blocks_msg m = { .act = BLOCKS_FETCH };

	if (r->of_child) {
		r->of_child = false;
		r->n_at++; /* done takes one off */
		if (!repair_send(b, r, NULL, &m))
			return;
		r->n_at--;
	}
	for (; r->n_at; r->n_at--)
		if (!repair_send(b, r, &r->at[r->n_at - 1], &m))
			return;
	if (k && !r->first && head_compare(&r->heard, &k->head) > 0)
		supersede(b, k, &r->heard);
	repair_free(b, r);
}

static void adopt(struct blocks *b, struct block *k, const struct blocks_msg *m)
{
	for (unsigned i = k->n; i-- > 0;)
		if (!listed(m, k->item[i].id))
			item_remove(b, k, k->item[i].id);
	for (unsigned i = 0; i < m->n; i++) {
		const struct blocks_item *in = &m->item[i];
		const struct blocks_item *is = item_find(k, in->id);

		if (is && is->generation == in->generation &&
		    is->hash == in->hash)
			continue;
		if (is && is->generation >= in->generation)
			item_remove(b, k, in->id);
		(void)item_install(b, k, in, &m->head);
	}
	raise_head(k, &m->head);
	k->settle = 0;
	b->env->changed(b->ctx);
}

/* Nobody honest knows a later term than this owner's, or so many changes. */
static bool plausible(const struct blocks *b, const struct block *k,
		      const struct tree_block *head)
{
	return head->term <= MAX(block_term(b, k), k->head.term) &&
	       (head->index <= k->head.index ||
		head->index - k->head.index <= INDEX_AHEAD);
}

/* What a candidate has is all of the set, and later than what is here. */
static bool adoptable(const struct blocks *b, const struct block *k,
		      const struct repair *r, const struct blocks_msg *m)
{
	int c = head_compare(&m->head, &k->head);
	uint64_t hash = 0;

	if (m->n > BLOCKS_ITEMS || !plausible(b, k, &m->head) ||
	    head_compare(&m->head, &r->heard) < 0)
		return false;
	for (unsigned i = 0; i < m->n; i++)
		hash += item_mark(&m->item[i]);
	if (hash != m->head.hash)
		return false;
	return c > 0 || (c == 0 && !block_whole(k) && hash == k->want);
}

static void fetch_done(struct blocks *b, struct repair *r, int err,
		       const struct blocks_msg *m)
{
	struct block *k = block_find(b, &r->owner);
	bool adopted;

	if (r->void_ || !k) {
		repair_free(b, r);
		return;
	}
	r->n_at--;
	adopted = !err && adoptable(b, k, r, m);
	if (adopted)
		adopt(b, k, m);
	/* a new root takes the latest of all candidates */
	if (adopted && !r->first)
		repair_free(b, r);
	else
		fetch_next(b, r);
}

void accession(struct blocks *b)
{
	struct block *k = block_need(b, &block_of_root);
	struct repair *r = k ? repair_new(b, &k->head.owner, &b->self) : NULL;

	if (!r)
		return;
	r->fetch = r->first = true;
	r->n_at = b->env->candidates(b->ctx, r->at);
	fetch_next(b, r);
}

bool accession_runs(const struct blocks *b)
{
	for (const struct repair *r = b->exchanges; r; r = r->next)
		if (r->first && !r->void_)
			return true;
	return false;
}

/* of_child: what it holds is what ours should be. */
static void fetch_start(struct blocks *b, const struct block *k,
			const struct node_id *child,
			const struct tree_block *heard, bool of_child)
{
	struct repair *r;

	for (r = b->exchanges; r; r = r->next)
		if (r->fetch && !r->void_ &&
		    node_id_equal(&r->owner, &k->head.owner))
			return;
	r = repair_new(b, &k->head.owner, child);
	if (!r)
		return;
	r->fetch = true;
	r->of_child = of_child;
	r->heard = *heard;
	/* an inner agent's set is held by nobody who may teach it */
	if (!of_child && !node_id_equal(&k->head.owner, &b->self))
		r->n_at = b->env->candidates(b->ctx, r->at);
	fetch_next(b, r);
}

/* ---- what beats say ---- */

unsigned blocks_rows(const struct blocks *b, struct tree_block out[BLOCKS_MAX])
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->n; i++) {
		const struct block *k = &b->block[i];

		if (!k->head.index && !k->heard.index && block_whole(k))
			continue; /* as if there were none */
		out[n] = k->head;
		/* nobody may take half a block for the owner's */
		if (!block_whole(k)) {
			out[n].term = out[n].index = 0;
			/* there is one, and this is not it */
			if (!k->head.index)
				out[n].hash = UNHEARD;
		}
		n++;
	}
	/* but that there are such changes is to be known above */
	for (unsigned i = 0; i < b->n && n < BLOCKS_MAX; i++) {
		const struct block *k = &b->block[i];

		if (head_compare(&k->heard, &k->head) > 0) {
			out[n++] = k->heard;
		} else if (k->head.index && !block_whole(k)) {
			out[n] = k->head;
			out[n++].hash = k->want;
		}
	}
	return n;
}

static void claimed(struct blocks *b, struct block *k,
		    const struct node_id *child, const struct tree_block *row)
{
	if (head_compare(row, &k->head) <= 0)
		return;
	if (!blocks_owns(b, &k->head.owner)) {
		if (head_compare(row, &k->heard) > 0)
			k->heard = *row;
	} else if (plausible(b, k, row)) {
		fetch_start(b, k, child, row, false);
	}
}

static const struct tree_block *row_of(const struct tree_block *row, unsigned n,
				       const struct node_id *owner,
				       unsigned from)
{
	for (unsigned i = from; i < n; i++)
		if (node_id_equal(&row[i].owner, owner))
			return &row[i];
	return NULL;
}

static void child_block(struct blocks *b, struct block *k,
			const struct node_id *child,
			const struct tree_block *row)
{
	const struct tree_block none = { 0 }, *is = row ? row : &none;
	int c = head_compare(is, &k->head);

	if (c > 0)
		claimed(b, k, child, is);
	else if (block_whole(k) && is->hash != k->head.hash)
		repair_start(b, k, child);
	else if (c == 0 && !block_whole(k) && is->hash == k->want &&
		 is->hash != UNHEARD && blocks_owns(b, &k->head.owner))
		fetch_start(b, k, child, is, true);
}

static void child_heard(struct blocks *b, const struct node_id *child,
			const struct tree_block *row, unsigned n)
{
	for (unsigned i = 0; i < b->n; i++)
		child_block(b, &b->block[i], child,
			    row_of(row, n, &b->block[i].head.owner, 0));
	for (unsigned i = 0; i < n; i++) {
		struct block *k = block_find(b, &row[i].owner);

		if (!k && on_path(b, &row[i].owner))
			k = block_need(b, &row[i].owner);
		/* of two rows of an owner the second is held below it */
		if (k)
			claimed(b, k, child, &row[i]);
	}
}

/* There is a set, and none of it is here: half of one, also after a restart. */
static void root_heard(struct blocks *b, uint64_t hash)
{
	struct block *k = hash ? block_need(b, &block_of_root)
			       : block_find(b, &block_of_root);

	if (!k || k->head.index || k->want == hash)
		return;
	/* who knows less of it than is known here */
	if ((!hash || hash == UNHEARD) && k->want && k->want != UNHEARD)
		return;
	k->want = hash;
	b->env->changed(b->ctx);
}

void root_unheard(struct blocks *b)
{
	root_heard(b, UNHEARD);
}

/* Hash of the root's set, as it is told of; 0: it is not. */
static uint64_t root_told(const struct tree_block *row, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (node_id_equal(&row[i].owner, &block_of_root))
			return row[i].hash;
	return 0;
}

static void parent_heard(struct blocks *b, const struct tree_block *row,
			 unsigned n)
{
	bool raised = false;

	/* who knows no root has perhaps lost it: nothing is forgotten */
	if (b->role == BLOCKS_BELOW)
		drop_strangers(b, row, n);
	if (!blocks_owns(b, &block_of_root))
		root_heard(b, root_told(row, n));
	for (unsigned i = 0; i < n; i++) {
		const struct node_id *owner = &row[i].owner;
		struct block *k = block_find(b, owner);

		if (blocks_owns(b, owner) || row_of(row, i, owner, 0))
			continue;
		if (!row[i].index)
			continue; /* not whole */
		if (!k && !row[i].hash && on_path(b, owner))
			k = block_need(b, owner);
		if (!k || row[i].hash != k->head.hash ||
		    head_compare(&row[i], &k->head) < 0 ||
		    (block_whole(k) && !head_compare(&row[i], &k->head)))
			continue;
		raise_head(k, &row[i]); /* the same set: nothing is to come */
		raised = true;
	}
	if (raised)
		b->env->changed(b->ctx);
}

void blocks_heard(struct blocks *b, const struct node_id *child,
		  const struct tree_block *row, unsigned n)
{
	if (child)
		child_heard(b, child, row, n);
	else
		parent_heard(b, row, n);
}

void blocks_done(struct blocks *b, uint64_t ref, int err,
		 const struct blocks_msg *m)
{
	struct repair *r = b->exchanges;

	while (r && r->ref != ref)
		r = r->next;
	if (!r)
		return;
	if (r->fetch)
		fetch_done(b, r, err, m);
	else
		repair_done(b, r, err, m);
}
