/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows as contents of blocks: what of a task travels, what a block installs and
 * drops, and what beats tell of blocks.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/monlink.h"
#include "agent/overlay.h"
#include "agent/registry_private.h"
#include "common/util.h"

/* ---- what travels ---- */

static uint64_t travel_hash(const struct task *t)
{
	const struct hash_key key = { { 7 } };
	struct {
		uint64_t spec, sketch, created_ms, params;
		double threshold;
		uint32_t expires_s, origin, is_sketch;
		char name[68];
	} text = { .spec = task_hash(&t->spec),
		   .sketch = t->sketch,
		   .created_ms = t->created_ms,
		   .params = siphash24(&key, t->params, strlen(t->params)),
		   .threshold = t->threshold,
		   .expires_s = t->expires_s,
		   .origin = t->origin,
		   .is_sketch = t->is_sketch };

	static_assert(sizeof(text) == 120, "no padding");
	memcpy(text.name, t->name, sizeof(t->name));
	return siphash24(&key, &text, sizeof(text));
}

const struct task *entry_travels(const struct entry *e)
{
	return e->wanted ? e->wanted : &e->t;
}

uint64_t entry_hash(const struct entry *e)
{
	return travel_hash(entry_travels(e));
}

struct blocks_item entry_item(const struct task *t, void *content)
{
	return (struct blocks_item){ .id = t->spec.id,
				     .generation = t->spec.generation,
				     .spec = task_hash(&t->spec) + t->is_sketch,
				     .hash = travel_hash(t),
				     .order = t->created_ms,
				     .content = content };
}

bool entry_from_above(const struct registry *r, const struct entry *e)
{
	return !e->local && !blocks_owns(r->blocks, &e->t.owner);
}

/* ---- what the blocks ask for ---- */

/* Another generation: new counts, the same row. */
static void entry_renew(struct registry *r, struct entry *e,
			const struct incoming *in)
{
	uint64_t alias = e->t.alias;

	monlink_cancel(e->put);
	e->put = NULL;
	e->t = in->t;
	e->t.alias = alias;
	e->t.order = ++r->next_order;
	e->t.named_ms = clock_mono_ms();
	e->t.monitor_status = 1;
	entry_expires(e, in->left_ms);
	e->ended = e->ended && !entry_show(r, e);
}

/* What may change of a task while it counts. */
static void entry_tune(struct registry *r, struct entry *e,
		       const struct incoming *in)
{
	e->t.threshold = in->t.threshold;
	e->t.has_here = false;
	memcpy(e->t.params, in->t.params, sizeof(e->t.params));
	memcpy(e->t.name, in->t.name, sizeof(e->t.name));
	e->t.expires_s = in->t.expires_s;
	e->t.created_ms = in->t.created_ms;
	entry_expires(e, in->left_ms);
	e->t.order = ++r->next_order;
}

static void *entry_install(void *ctx, const struct node_id *owner,
			   const struct blocks_item *item,
			   const struct blocks_item *old)
{
	const struct incoming *in = item->content;
	struct entry *e = old ? old->content : NULL;
	struct task *wanted = NULL;

	if (!e) {
		e = entry_add(ctx, in);
		if (e)
			e->t.owner = *owner;
		return e;
	}
	if (in->wanted) {
		wanted = malloc(sizeof(*wanted));
		if (!wanted)
			return NULL;
		*wanted = in->t;
	} else if (item->generation != old->generation) {
		entry_renew(ctx, e, in);
	} else if (item->hash != travel_hash(&e->t)) {
		entry_tune(ctx, e, in);
	}
	free(e->wanted);
	e->wanted = wanted;
	e->t.owner = *owner;
	return e;
}

static void entry_drop(void *ctx, void *content)
{
	struct entry *e = content;

	if (!e->ended)
		entry_stop(ctx, e);
	entry_free(e);
}

/* None in a tree built by hand: there every root owns its own. */
static unsigned other_candidates(void *ctx, struct endpoint out[5])
{
	const struct overlay *o = ((struct registry *)ctx)->agent->overlay;
	struct endpoint self = overlay_endpoint(o);
	const struct endpoint *root;
	size_t n = overlay_roots(o, &root);
	unsigned others = 0;

	for (size_t i = 0; i < n; i++)
		if (!endpoint_equal(&root[i], &self))
			out[others++] = root[i];
	return others;
}

static void blocks_dirty(void *ctx)
{
	((struct registry *)ctx)->dirty = true;
}

const struct blocks_env registry_blocks_env = { .send = registry_exchange,
						.install = entry_install,
						.drop = entry_drop,
						.candidates = other_candidates,
						.changed = blocks_dirty };

static enum blocks_role role_of(const struct overlay *o)
{
	const struct endpoint *root;

	if (overlay_is_root(o) && overlay_roots(o, &root))
		return BLOCKS_ROOT;
	return !overlay_is_root(o) && overlay_rooted(o) ? BLOCKS_BELOW
							: BLOCKS_ALONE;
}

static void rename_own(struct registry *r, const struct node_id *self)
{
	const struct block *own;

	if (!blocks_rename(r->blocks, self))
		return;
	own = blocks_of(r->blocks, self);
	for (unsigned i = 0; own && i < own->n; i++)
		((struct entry *)own->item[i].content)->t.owner = *self;
}

void registry_place(struct agent *a)
{
	struct registry *r = a->registry;
	struct node_id path[OVERLAY_HOPS];
	struct blocks_place p = { .role = role_of(a->overlay),
				  .unheard = overlay_unheard(a->overlay),
				  .term = overlay_term(a->overlay),
				  .incarnation =
					  overlay_incarnation(a->overlay),
				  .n_path = overlay_path(a->overlay, path),
				  .path = path };

	if (!r)
		return;
	rename_own(r, overlay_self(a->overlay));
	blocks_place(r->blocks, &p);
	if (r->dirty)
		registry_save(r);
}

unsigned registry_blocks(const struct agent *a,
			 struct tree_block out[TREE_LEVELS_MAX])
{
	return blocks_rows(a->registry->blocks, out);
}

void registry_blocks_heard(struct agent *a, const struct node_id *child,
			   const struct tree_block *row, unsigned n)
{
	struct registry *r = a->registry;

	registry_place(a);
	blocks_heard(r->blocks, child, row, n);
	if (r->dirty)
		registry_save(r);
}

bool registry_superseded(const struct registry *r)
{
	return blocks_superseded(r->blocks);
}
