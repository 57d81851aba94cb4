/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What clients ask for: a task is made, put as it was once made, deleted, or
 * goes round again with another threshold.  The change is made in the block
 * that this agent owns, then spreads; a refusal is told like an outcome, from
 * the loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay.h"
#include "agent/taskops_private.h"
#include "common/util.h"

static uint64_t new_id(const struct registry *r)
{
	uint64_t id;

	do {
		id = random_u64();
	} while (!id || blocks_find(r->blocks, id, NULL) || entry_find(r, id));
	return id;
}

/* The client is told so, and nothing else happens. */
static struct registry_op *op_refused(struct registry_op *op)
{
	op->asked = op->made = op->retune = false;
	op->children_in = true;
	if (!op_local_later(op))
		return op;
	op_free(op);
	return NULL;
}

/* in goes into the block that this agent owns: 0, or the error is set. */
static int op_change(struct registry_op *op, const struct incoming *in)
{
	struct registry *r = op->registry;
	struct blocks_item item = entry_item(&in->t, (void *)in);
	int ret = 0;

	registry_place(r->agent);
	switch (blocks_change(r->blocks, &item)) {
	case BLOCKS_DONE:
		registry_save(r);
		break;
	case BLOCKS_SAME:
		break;
	case BLOCKS_OLDER:
		error_set(&op->error, ERR_CONFLICT, "", "an older generation");
		ret = -EPERM;
		break;
	case BLOCKS_OTHER:
		error_set(&op->error, ERR_CONFLICT, "",
			  "this generation has another content");
		ret = -EPERM;
		break;
	case BLOCKS_HALF:
		error_set(&op->error, ERR_UNAVAILABLE, "", "");
		ret = -EAGAIN;
		break;
	case BLOCKS_FULL:
		error_set(&op->error, ERR_LIMIT, "", "tasks");
		ret = -ENOSPC;
		break;
	case BLOCKS_FOREIGN:
	case BLOCKS_STALE:
		error_set(&op->error, ERR_CONFLICT, "",
			  "the parent has this task");
		ret = -EPERM;
		break;
	}
	(void)blocks_find(r->blocks, op->id, &op->block);
	return ret;
}

/* A new row, of this host alone or in a block; NULL: the error is set. */
static struct entry *op_make(struct registry_op *op, struct incoming *in)
{
	struct registry *r = op->registry;
	uint64_t evict[REGISTRY_EVICT];
	unsigned n_evict;
	struct entry *e;

	if (registry_room(r, &in->t, evict, &n_evict, &op->error))
		return NULL;
	op_evicts(op, evict, n_evict, false);
	in->pending = true;
	in->left_ms = (uint64_t)in->t.expires_s * 1000;
	in->t.created_ms = clock_wall_ms();
	in->t.owner = *overlay_self(r->agent->overlay); /* of a local one */
	random_bytes(in->t.spec.seed.b, sizeof(in->t.spec.seed.b));
	op->id = in->t.spec.id;
	if (!in->local)
		return op_change(op, in) ? NULL : entry_find(r, op->id);
	e = entry_add(r, in);
	if (e)
		registry_save(r);
	else
		error_set(&op->error, ERR_LIMIT, "", "tasks");
	return e;
}

/* To all; made: a row that goes again if that cannot even begin. */
static struct registry_op *op_begin(struct registry_op *op, struct entry *e,
				    uint32_t budget_ms)
{
	if (!e)
		return op_refused(op);
	op->asked = true;
	if (!op_spread(op, e, budget_ms))
		return op;
	op_undo(op, e);
	op_free(op);
	return NULL;
}

struct registry_op *
registry_create(struct agent *a, const struct task *t, bool host_only,
		uint32_t budget_ms,
		void (*done)(void *arg, const struct error *e,
			     const struct task *t, const struct coverage *c),
		void *arg)
{
	struct registry *r = a->registry;
	struct registry_op *op = op_new(r, 0, done, arg);
	const struct entry *sketch = t->sketch ? entry_find(r, t->sketch)
					       : NULL;
	/* a counter reaches as far as its sketch does */
	struct incoming in = {
		.t = *t, .local = host_only || (sketch && sketch->local)
	};

	if (!op)
		return NULL;
	op->made = true;
	in.t.spec.id = new_id(r);
	in.t.spec.generation = 1;
	return op_begin(op, op_make(op, &in), budget_ms);
}

/* What a client says of a task; ids, seeds and dates are not its own. */
static bool same_content(const struct task *a, const struct task *b)
{
	struct task_spec spec = a->spec;

	spec.seed = b->spec.seed;
	return task_equal(&spec, &b->spec) && a->expires_s == b->expires_s &&
	       a->origin == b->origin && a->is_sketch == b->is_sketch &&
	       a->sketch == b->sketch && strcmp(a->name, b->name) == 0 &&
	       strcmp(a->params, b->params) == 0;
}

struct registry_op *
registry_put(struct agent *a, const struct task *t, uint32_t budget_ms,
	     void (*done)(void *arg, const struct error *e,
			  const struct task *t, const struct coverage *c),
	     void *arg)
{
	struct registry *r = a->registry;
	struct registry_op *op = op_new(r, t->spec.id, done, arg);
	struct entry *e = entry_find(r, t->spec.id);
	struct incoming in = { .t = *t };

	if (!op)
		return NULL;
	if (!e) {
		op->made = true;
		return op_begin(op, op_make(op, &in), budget_ms);
	}
	if (e->local || e->t.origin != ORIGIN_V1 ||
	    e->t.spec.kinds == TASK_FEATURES) {
		error_set(&op->error, ERR_CONFLICT, "",
			  "another task has this id");
		return op_refused(op);
	}
	in.t.created_ms = e->t.created_ms;
	in.t.spec.seed = e->t.spec.seed;
	in.t.owner = e->t.owner;
	if (in.t.spec.generation > e->t.spec.generation) {
		in.t.created_ms = clock_wall_ms();
		in.left_ms = (uint64_t)t->expires_s * 1000;
	} else if (in.t.spec.generation == e->t.spec.generation) {
		if (!same_content(t, &e->t)) {
			error_set(&op->error, ERR_CONFLICT, "",
				  "this generation has another content");
			return op_refused(op);
		}
		in.t = *entry_travels(e);
	}
	return op_begin(op, op_change(op, &in) ? NULL : e, budget_ms);
}

struct registry_op *
registry_delete(struct agent *a, uint64_t id, uint32_t budget_ms,
		void (*done)(void *arg, const struct error *e,
			     const struct task *t, const struct coverage *c),
		void *arg)
{
	struct registry *r = a->registry;
	struct registry_op *op = op_new(r, id, done, arg);
	const struct entry *e = entry_find(r, id);
	const struct block *k;
	bool local = !e || e->local;
	int ret = 0;

	if (!op)
		return NULL;
	op->block.owner = e ? e->t.owner : op->block.owner;
	registry_place(a);
	if (!e) {
		error_set(&op->error, ERR_UNKNOWN_TASK, "", "");
	} else if ((ret = entry_remove(r, id, false))) {
		if (ret == -EAGAIN)
			error_set(&op->error, ERR_UNAVAILABLE, "", "");
		else
			error_set(&op->error, ERR_CONFLICT, "",
				  "the parent has this task");
		return op_refused(op);
	} else {
		registry_save(r);
		op_local(op, MISSING_NONE);
	}
	k = blocks_of(r->blocks, &op->block.owner);
	if (k)
		op->block = k->head;
	op->children_in = local;
	if ((!local && op_fan_out(op, HTTP_DELETE, NULL, budget_ms)) ||
	    op_local_later(op)) {
		op_free(op);
		return NULL;
	}
	return op;
}

/*
 * Round again with another threshold or parameters, here or everywhere: they
 * are not content, so that counts go on.  Who is not reached now is repaired
 * by the next beats.
 */
static struct registry_op *op_retune(struct registry_op *op, struct entry *e,
				     bool host_only, double threshold,
				     const char *params, uint32_t budget_ms)
{
	struct incoming in = { .t = *entry_travels(e), .wanted = true };

	op->retune = true;
	/* a task of this host alone has no other threshold */
	op->here = host_only && !e->local;
	op->threshold = threshold;
	if (threshold >= 0)
		in.t.threshold = threshold;
	if (params) {
		snprintf(op->params, sizeof(op->params), "%s", params);
		memcpy(in.t.params, op->params, sizeof(op->params));
	}
	(void)blocks_find(op->registry->blocks, op->id, &op->block);
	if (!op->here && !e->local &&
	    entry_item(&in.t, NULL).hash != entry_hash(e) && op_change(op, &in))
		e = NULL;
	return op_begin(op, e, budget_ms);
}

struct registry_op *
registry_retune(struct agent *a, uint64_t id, double threshold,
		const char *params, bool host_only, uint32_t budget_ms,
		void (*done)(void *arg, const struct error *e,
			     const struct task *t, const struct coverage *c),
		void *arg)
{
	struct entry *e = entry_find(a->registry, id);
	struct registry_op *op = e ? op_new(a->registry, id, done, arg) : NULL;

	return op ? op_retune(op, e, host_only, threshold, params, budget_ms)
		  : NULL;
}
