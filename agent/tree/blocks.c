// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Blocks of tasks: what is held, and which change may still be made.
 *
 * A change carries the (term, index) that its owner gave it and the hash of
 * the owner's set after it.  The highest that was taken is the block's; the
 * set is whole if its hash is the one that came along.  Messages overtake each
 * other, so a change below the highest counts if nothing that came after it
 * says otherwise: each task knows the change that put it here, and what was
 * deleted lately is remembered.  Only a whole block, or its owner, speaks for
 * others.
 *
 * The machine owns its rows; contents belong to whoever made them, and are
 * dropped through the environment.
 */
#include "agent/tree/blocks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tree/blocks_private.h"
#include "common/hash.h"
#include "common/util.h"

#define SETTLE_TICKS 5 /* a root with half a block waits for the rest */

const struct node_id block_of_root;

int head_compare(const struct tree_block *a, const struct tree_block *b)
{
	if (a->term != b->term)
		return a->term < b->term ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static int stamp_compare(uint64_t term, uint64_t index,
			 const struct tree_block *head)
{
	const struct tree_block stamp = { .term = term, .index = index };

	return head_compare(&stamp, head);
}

/* ---- rows ---- */

struct block *block_find(const struct blocks *b, const struct node_id *owner)
{
	for (unsigned i = 0; i < b->n; i++)
		if (node_id_equal(&b->block[i].head.owner, owner))
			return &b->block[i];
	return NULL;
}

struct block *block_need(struct blocks *b, const struct node_id *owner)
{
	struct block *k = block_find(b, owner), *grown;

	if (k || b->n == BLOCKS_MAX)
		return k;
	if (b->n == b->size) {
		grown = realloc(b->block, (b->size + 2) * sizeof(*grown));
		if (!grown)
			return NULL;
		b->block = grown;
		b->size += 2;
	}
	assert(b->block);
	k = &b->block[b->n++];
	*k = (struct block){ .head.owner = *owner };
	return k;
}

struct blocks_item *item_find(const struct block *k, uint64_t id)
{
	for (unsigned i = 0; i < k->n; i++)
		if (k->item[i].id == id)
			return &k->item[i];
	return NULL;
}

uint64_t item_mark(const struct blocks_item *it)
{
	const struct hash_key key = { { 8 } };
	const uint64_t text[] = { it->id, it->generation, it->hash };

	return siphash24(&key, text, sizeof(text));
}

static int item_room(struct block *k)
{
	struct blocks_item *grown;

	if (k->n < k->size)
		return 0;
	if (k->n >= BLOCKS_ITEMS)
		return -ENOSPC;
	grown = realloc(k->item, (k->size + 4) * sizeof(*grown));
	if (!grown)
		return -ENOSPC;
	k->item = grown;
	k->size += 4;
	return 0;
}

int item_install(struct blocks *b, struct block *k,
		 const struct blocks_item *in, const struct tree_block *head)
{
	struct blocks_item *old = item_find(k, in->id), *at = old;
	void *content;
	unsigned i = 0;

	if (!old && item_room(k))
		return -ENOSPC;
	content = b->env->install(b->ctx, &k->head.owner, in, old);
	if (!content)
		return -ENOSPC;
	if (old) {
		k->head.hash -= item_mark(old);
	} else {
		while (i < k->n && k->item[i].id < in->id)
			i++;
		at = &k->item[i];
		memmove(at + 1, at, (k->n - i) * sizeof(*at));
		k->n++;
	}
	*at = *in;
	at->content = content;
	at->term = head->term;
	at->index = head->index;
	k->head.hash += item_mark(at);
	return 0;
}

void item_remove(struct blocks *b, struct block *k, uint64_t id)
{
	struct blocks_item *it = item_find(k, id);
	void *content;

	if (!it)
		return;
	content = it->content;
	k->head.hash -= item_mark(it);
	k->n--;
	memmove(it, it + 1, (size_t)(&k->item[k->n] - it) * sizeof(*it));
	b->env->drop(b->ctx, content);
}

static void block_drop(struct blocks *b, unsigned i)
{
	struct block *k = &b->block[i];

	while (k->n)
		item_remove(b, k, k->item[k->n - 1].id);
	free(k->item);
	free(k->gone);
	b->n--;
	memmove(k, k + 1, (b->n - i) * sizeof(*k));
}

/* The block that holds this task, if any. */
static struct block *block_holding(const struct blocks *b, uint64_t id)
{
	for (unsigned i = 0; i < b->n; i++)
		if (item_find(&b->block[i], id))
			return &b->block[i];
	return NULL;
}

/* ---- what was deleted ---- */

static void gone_add(struct block *k, uint64_t id, const struct tree_block *at)
{
	if (!k->gone)
		k->gone = calloc(BLOCKS_GONE, sizeof(*k->gone));
	if (!k->gone || k->n_gone == BLOCKS_GONE) {
		/* what came before the one that is forgotten is too late */
		k->floor = MAX(k->floor,
			       k->gone ? k->gone[0].index : k->head.index);
		if (!k->gone)
			return;
		memmove(k->gone, k->gone + 1, --k->n_gone * sizeof(*k->gone));
	}
	k->gone[k->n_gone++] = (struct blocks_gone){ id, at->term, at->index };
}

static bool gone_after(const struct block *k, uint64_t id,
		       const struct tree_block *head)
{
	for (unsigned i = 0; i < k->n_gone; i++)
		if (k->gone[i].id == id &&
		    stamp_compare(k->gone[i].term, k->gone[i].index, head) > 0)
			return true;
	return false;
}

/* ---- who owns what ---- */

bool blocks_owns(const struct blocks *b, const struct node_id *owner)
{
	return node_id_equal(owner, &b->self) ||
	       (b->role == BLOCKS_ROOT && node_id_equal(owner, &block_of_root));
}

uint64_t block_term(const struct blocks *b, const struct block *k)
{
	return node_id_equal(&k->head.owner, &block_of_root) ? b->term
							     : b->incarnation;
}

void block_declare(struct blocks *b, struct block *k)
{
	k->head.term = MAX(k->head.term, block_term(b, k));
	k->head.index++;
	k->want = k->head.hash;
	k->settle = 0;
	b->env->changed(b->ctx);
}

bool on_path(const struct blocks *b, const struct node_id *owner)
{
	if (node_id_equal(owner, &block_of_root) ||
	    node_id_equal(owner, &b->self))
		return true;
	for (unsigned i = 0; i < b->n_path; i++)
		if (node_id_equal(&b->path[i], owner))
			return true;
	return false;
}

void drop_strangers(struct blocks *b, const struct tree_block *row, unsigned n)
{
	unsigned was = b->n;

	for (unsigned i = b->n; i-- > 0;) {
		const struct node_id *owner = &b->block[i].head.owner;
		bool keep = on_path(b, owner);

		for (unsigned k = 0; k < n; k++)
			keep |= node_id_equal(&row[k].owner, owner);
		if (!keep)
			block_drop(b, i);
	}
	if (b->n != was)
		b->env->changed(b->ctx);
}

void blocks_place(struct blocks *b, const struct blocks_place *p)
{
	bool acceded = p->role == BLOCKS_ROOT && b->role != BLOCKS_ROOT;
	struct block *own;

	if (b->role != p->role)
		exchanges_void(b);
	b->role = p->role;
	b->term = p->term;
	b->incarnation = p->incarnation;
	b->n_path = MIN(p->n_path, TREE_LEVELS_MAX);
	if (b->n_path)
		memcpy(b->path, p->path, b->n_path * sizeof(*b->path));
	if (b->role == BLOCKS_ROOT)
		drop_strangers(b, NULL, 0);
	if (p->unheard)
		root_unheard(b);
	own = block_find(b, &b->self);
	if (own && !block_whole(own))
		block_declare(b, own);
	if (acceded)
		accession(b);
}

bool blocks_rename(struct blocks *b, const struct node_id *self)
{
	struct block *own = block_find(b, &b->self);

	if (node_id_equal(&b->self, self))
		return false;
	b->self = *self;
	exchanges_void(b);
	if (own) {
		own->head.owner = *self;
		own->heard = (struct tree_block){ 0 };
		block_declare(b, own);
	}
	return true;
}

void blocks_tick(struct blocks *b)
{
	struct block *k = block_find(b, &block_of_root);

	if (!k || b->role != BLOCKS_ROOT || block_whole(k))
		return;
	k->settle = MIN(k->settle + 1, SETTLE_TICKS);
	/* nobody brought the rest: this is all there is; of nothing at all
	 * that is a client's to say */
	if (k->settle == SETTLE_TICKS && k->head.index) {
		b->superseded++;
		block_declare(b, k);
	}
}

/* ---- changes from above ---- */

/* May this come in place of what is here? */
static enum blocks_word judge(const struct blocks_item *is,
			      const struct blocks_item *in)
{
	if (!is || in->generation > is->generation)
		return BLOCKS_DONE;
	if (in->generation < is->generation)
		return BLOCKS_OLDER;
	if (in->spec != is->spec)
		return BLOCKS_OTHER;
	return in->hash == is->hash ? BLOCKS_SAME : BLOCKS_DONE;
}

void raise_head(struct block *k, const struct tree_block *head)
{
	if (head_compare(head, &k->head) < 0)
		return;
	if (k->head.term != head->term)
		k->floor = 0;
	k->head.term = head->term;
	k->head.index = head->index;
	k->want = head->hash;
	if (head_compare(&k->heard, &k->head) <= 0)
		k->heard = (struct tree_block){ 0 };
}

/* Of an earlier term, or from before what is remembered. */
static bool too_late(const struct block *k, const struct tree_block *head)
{
	return head_compare(head, &k->head) < 0 &&
	       (head->term != k->head.term || head->index <= k->floor);
}

static bool overtaken(const struct blocks_item *is,
		      const struct tree_block *head)
{
	return stamp_compare(is->term, is->index, head) > 0;
}

enum blocks_word blocks_put(struct blocks *b, const struct tree_block *head,
			    const struct blocks_item *in)
{
	struct block *k, *other;
	const struct blocks_item *is;
	enum blocks_word word;

	if (blocks_owns(b, &head->owner))
		return BLOCKS_FOREIGN;
	k = block_need(b, &head->owner);
	if (!k)
		return BLOCKS_FULL;
	if (too_late(k, head) || gone_after(k, in->id, head))
		return BLOCKS_STALE;
	is = item_find(k, in->id);
	word = judge(is, in);
	if (word == BLOCKS_OLDER || word == BLOCKS_OTHER)
		return is && overtaken(is, head) ? BLOCKS_STALE : word;
	/* what was changed after this stays, and the sender is not told */
	if (word == BLOCKS_DONE && is && is->generation == in->generation &&
	    overtaken(is, head))
		word = BLOCKS_SAME;
	other = block_holding(b, in->id); /* rows may have moved */
	if (other && other != k) {
		/* what comes from above goes before an own task of that id */
		item_remove(b, other, in->id);
		if (blocks_owns(b, &other->head.owner))
			block_declare(b, other);
	}
	if (word == BLOCKS_DONE && item_install(b, k, in, head))
		return BLOCKS_FULL;
	raise_head(k, head);
	b->env->changed(b->ctx);
	return word;
}

enum blocks_word blocks_delete(struct blocks *b, const struct tree_block *head,
			       uint64_t id)
{
	const struct blocks_item *is;
	struct block *k;

	if (blocks_owns(b, &head->owner))
		return BLOCKS_FOREIGN;
	k = block_need(b, &head->owner);
	if (!k)
		return BLOCKS_FULL;
	if (too_late(k, head))
		return BLOCKS_STALE;
	is = item_find(k, id);
	if (is && overtaken(is, head))
		return BLOCKS_SAME; /* it was put again since */
	gone_add(k, id, head);
	item_remove(b, k, id);
	raise_head(k, head);
	b->env->changed(b->ctx);
	return is ? BLOCKS_DONE : BLOCKS_SAME;
}

/* ---- changes here ---- */

/* A change now would be above others that are not known here yet. */
static bool too_early(const struct blocks *b, const struct block *k)
{
	return node_id_equal(&k->head.owner, &block_of_root) &&
	       ((!block_whole(k) && k->settle < SETTLE_TICKS) ||
		accession_runs(b));
}

enum blocks_word blocks_change(struct blocks *b, const struct blocks_item *in)
{
	const struct node_id *owner = b->role == BLOCKS_ROOT ? &block_of_root
							     : &b->self;
	struct block *k = block_holding(b, in->id);
	enum blocks_word word;
	struct tree_block next;
	bool half;

	if (!k)
		k = block_need(b, owner);
	if (!k)
		return BLOCKS_FULL;
	if (!blocks_owns(b, &k->head.owner))
		return BLOCKS_FOREIGN;
	word = judge(item_find(k, in->id), in);
	if (word != BLOCKS_DONE)
		return word;
	if (too_early(b, k))
		return BLOCKS_HALF;
	half = !block_whole(k);
	next = k->head;
	next.term = MAX(next.term, block_term(b, k));
	next.index++;
	if (item_install(b, k, in, &next))
		return BLOCKS_FULL;
	b->superseded += half;
	block_declare(b, k);
	return BLOCKS_DONE;
}

enum blocks_word blocks_remove(struct blocks *b, uint64_t id)
{
	struct block *k = block_holding(b, id);

	if (!k)
		return BLOCKS_SAME;
	if (blocks_owns(b, &k->head.owner)) {
		if (too_early(b, k))
			return BLOCKS_HALF;
		item_remove(b, k, id);
		block_declare(b, k);
		gone_add(k, id, &k->head);
		return BLOCKS_DONE;
	}
	if (b->role == BLOCKS_BELOW)
		return BLOCKS_FOREIGN;
	/* its owner, once it is back, has another hash under this head */
	item_remove(b, k, id);
	k->want = k->head.hash;
	b->env->changed(b->ctx);
	return BLOCKS_DONE;
}

void blocks_forget(struct blocks *b, uint64_t id)
{
	struct block *k = block_holding(b, id);

	if (!k)
		return;
	item_remove(b, k, id);
	b->env->changed(b->ctx);
}

/* ---- reading, disk ---- */

void blocks_list(const struct blocks *b, const struct node_id *owner,
		 struct blocks_msg *reply)
{
	const struct block *k = block_find(b, owner);

	*reply = (struct blocks_msg){ .head.owner = *owner };
	if (!k)
		return;
	reply->head = k->head;
	if (!block_whole(k)) /* as in beats */
		reply->head.term = reply->head.index = 0;
	reply->item = k->item;
	reply->n = k->n;
}

unsigned blocks_count(const struct blocks *b)
{
	return b->n;
}

const struct block *blocks_at(const struct blocks *b, unsigned i)
{
	return &b->block[i];
}

const struct block *blocks_of(const struct blocks *b,
			      const struct node_id *owner)
{
	return block_find(b, owner);
}

const struct blocks_item *blocks_find(const struct blocks *b, uint64_t id,
				      struct tree_block *head)
{
	const struct block *k = block_holding(b, id);

	if (!k)
		return NULL;
	if (head)
		*head = k->head;
	return item_find(k, id);
}

uint64_t blocks_superseded(const struct blocks *b)
{
	return b->superseded;
}

struct blocks *blocks_new(const struct node_id *self,
			  const struct blocks_env *env, void *ctx)
{
	struct blocks *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->self = *self;
	b->env = env;
	b->ctx = ctx;
	return b;
}

int blocks_restore(struct blocks *b, const struct tree_block *head,
		   uint64_t want, const struct blocks_item *item, unsigned n)
{
	struct block *k = block_find(b, &head->owner)
				  ? NULL
				  : block_need(b, &head->owner);

	if (!k)
		return -EINVAL;
	k->head.term = head->term;
	k->head.index = head->index;
	k->floor = head->index;
	k->want = want;
	for (unsigned i = 0; i < n; i++) {
		const struct tree_block at = { .term = item[i].term,
					       .index = item[i].index };

		if (item_find(k, item[i].id) || item_room(k) ||
		    item_install(b, k, &item[i], &at))
			return -EINVAL;
	}
	return 0;
}

void blocks_free(struct blocks *b)
{
	if (!b)
		return;
	exchanges_free(b);
	for (unsigned i = 0; i < b->n; i++) {
		free(b->block[i].item);
		free(b->block[i].gone);
	}
	free(b->block);
	free(b);
}
