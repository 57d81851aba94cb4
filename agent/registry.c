/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tasks of this agent, at most 32 and as many legacy sketches, in the
 * order they came.  A task of this host alone is a row and nothing else; any
 * other is in a block as well, which says who owns it and keeps it equal down
 * the tree (agent/tree/blocks.c).  Every change is on disk before anybody is
 * told.
 *
 * The registry owns its rows; a row stays where it is until it is removed.
 * What belongs to a block is added and removed by the block alone.
 */
#include "agent/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/alarm.h"
#include "agent/monlink.h"
#include "agent/overlay.h"
#include "agent/registry_private.h"
#include "agent/standing.h"
#include "common/util.h"

#define TICK_MS   1000
#define RETRY_MS  10000 /* of puts that the monitor refused */
#define UNUSED_MS 60000 /* a legacy sketch younger in use stays */

uint64_t task_hash(const struct task_spec *t)
{
	const struct hash_key key = { { 6 } };

	return siphash24(&key, t, sizeof(*t));
}

/* ---- reading ---- */

unsigned registry_rows(const struct registry *r)
{
	return r->n;
}

unsigned registry_count(const struct registry *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->n; i++)
		n += !r->row[i]->t.is_sketch;
	return n;
}

const struct task *registry_at(const struct registry *r, unsigned i)
{
	return &r->row[i]->t;
}

struct entry *entry_find(const struct registry *r, uint64_t id)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->row[i]->t.spec.id == id)
			return r->row[i];
	return NULL;
}

const struct task *registry_find(const struct registry *r, uint64_t id)
{
	const struct entry *e = entry_find(r, id);

	return e ? &e->t : NULL;
}

const struct task *registry_sketch(const struct registry *r, uint64_t alias)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->row[i]->t.is_sketch && r->row[i]->t.alias == alias)
			return &r->row[i]->t;
	return NULL;
}

const struct task *registry_counter(const struct registry *r, uint64_t sketch,
				    enum key_type key, enum increment inc)
{
	const struct task *best = NULL;

	for (unsigned i = 0; i < r->n; i++) {
		const struct task *t = &r->row[i]->t;

		if (t->is_sketch || t->sketch != sketch || t->spec.key != key ||
		    (inc != INCREMENTS && t->spec.increment != inc))
			continue;
		if (!best || t->order > best->order)
			best = t;
	}
	return best;
}

const struct task *registry_plain(const struct registry *r,
				  const struct filter *f)
{
	for (unsigned i = 0; i < r->n; i++) {
		const struct task *t = &r->row[i]->t;

		if (t->origin == ORIGIN_LEGACY && !t->is_sketch && !t->sketch &&
		    t->spec.key == KEY_NONE && filter_equal(&t->spec.filter, f))
			return t;
	}
	return NULL;
}

bool registry_from_above(const struct registry *r, const struct task *t)
{
	const struct entry *e = entry_find(r, t->spec.id);

	return e && entry_from_above(r, e);
}

bool registry_is_local(const struct registry *r, uint64_t id)
{
	const struct entry *e = entry_find(r, id);

	return e && e->local;
}

const struct task *registry_msnm(const struct registry *r)
{
	const struct task *best = NULL;

	for (unsigned i = 0; i < r->n; i++) {
		const struct task *t = &r->row[i]->t;
		bool above = registry_from_above(r, t), was;

		/* what nobody may hold in the end replaces nothing */
		if (t->spec.kinds != TASK_FEATURES || t->is_sketch ||
		    r->row[i]->pending)
			continue;
		was = best && registry_from_above(r, best);
		if (!best || (above && !was) ||
		    (above == was && t->order > best->order))
			best = t;
	}
	return best;
}

double task_threshold(const struct task *t)
{
	return t->has_here ? t->threshold_here : t->threshold;
}

void registry_touch(struct registry *r, uint64_t id)
{
	struct entry *e = entry_find(r, id);

	if (e)
		e->t.named_ms = clock_mono_ms();
}

bool registry_persisted(const struct registry *r)
{
	return r->persisted;
}

/* ---- limits ---- */

struct counts {
	unsigned tasks, sketches, of_sketch;
	uint64_t memory, memory_of_sketch; /* in one reader */
};

static struct counts count(const struct registry *r, uint64_t sketch)
{
	struct counts c = { 0 };

	for (unsigned i = 0; i < r->n; i++) {
		const struct task *t = &r->row[i]->t;
		uint64_t memory = task_memory(&t->spec);
		bool of_sketch = sketch && t->sketch == sketch;

		if (r->row[i]->leaving)
			continue;
		c.sketches += t->is_sketch;
		c.tasks += !t->is_sketch;
		c.of_sketch += of_sketch;
		c.memory += memory;
		c.memory_of_sketch += of_sketch ? memory : 0;
	}
	return c;
}

/*
 * The legacy sketch that nobody named for the longest time, at least a minute,
 * and is neither chosen yet nor the one that is to have a counter more (keep)
 * nor the parent's: that one would put it again.  with_counters: one whose
 * removal frees some.
 */
static const struct task *unused_sketch(const struct registry *r,
					const uint64_t *chosen, unsigned n,
					uint64_t keep, bool with_counters)
{
	bool child = overlay_parent(r->agent->overlay) != NULL;
	uint64_t now = clock_mono_ms();
	const struct task *best = NULL;

	for (unsigned i = 0; i < r->n; i++) {
		const struct task *t = &r->row[i]->t;
		bool taken = r->row[i]->leaving ||
			     (child && entry_from_above(r, r->row[i]));

		if (!t->is_sketch || t->spec.id == keep ||
		    t->named_ms + UNUSED_MS > now)
			continue;
		for (unsigned k = 0; k < n; k++)
			taken |= chosen[k] == t->spec.id;
		if (taken || (with_counters && !count(r, t->spec.id).of_sketch))
			continue;
		if (!best || t->named_ms < best->named_ms)
			best = t;
	}
	return best;
}

/* As far as can be told from here: the monitor has the last word. */
static bool memory_short(const struct registry *r, const struct task *t,
			 const struct counts *c)
{
	const struct monlink *m = r->agent->monlink;
	uint64_t limit = monlink_hello(m)->memory_limit;
	uint64_t readers = MAX(monlink_stats(m)->readers, 1);

	return limit && t->spec.kinds &&
	       c->memory + task_memory(&t->spec) > limit / readers;
}

int registry_room(const struct registry *r, const struct task *t,
		  uint64_t *evict, unsigned *n_evict, struct error *e)
{
	struct counts c = count(r, t->sketch), old_counts;
	const char *what = t->is_sketch ? "sketches" : "counters";

	*n_evict = 0;
	if (t->sketch && c.of_sketch >= REGISTRY_COUNTERS) {
		error_set(e, ERR_LIMIT, "", "counters of a sketch");
		return -ENOSPC;
	}
	for (;;) {
		const struct task *old = NULL;
		bool full = t->is_sketch ? c.sketches >= REGISTRY_SKETCHES
					 : c.tasks >= TASKS_MAX;

		if (!full && !memory_short(r, t, &c))
			return 0;

		if (t->origin == ORIGIN_LEGACY)
			old = unused_sketch(r, evict, *n_evict, t->sketch,
					    !t->is_sketch);
		if (!old || *n_evict == REGISTRY_EVICT) {
			*n_evict = 0;
			if (!full)
				return 0;
			error_set(e, ERR_LIMIT, "",
				  t->origin == ORIGIN_V1 ? "tasks" : what);
			return -ENOSPC;
		}
		evict[(*n_evict)++] = old->spec.id;
		old_counts = count(r, old->spec.id);
		c.sketches--;
		c.tasks -= old_counts.of_sketch;
		c.memory -= old_counts.memory_of_sketch;
	}
}

/* ---- rows ---- */

void entry_expires(struct entry *e, uint64_t left_ms)
{
	e->expire_ms = left_ms ? clock_mono_ms() + left_ms : 0;
}

struct entry *entry_add(struct registry *r, const struct incoming *in)
{
	struct entry *e;

	if (r->n == REGISTRY_ROWS)
		return NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->t = in->t;
	e->local = in->local;
	e->pending = in->pending;
	entry_expires(e, in->left_ms);
	e->t.named_ms = clock_mono_ms();
	e->t.monitor_status = 1;
	if (!in->kept) {
		e->t.order = ++r->next_order;
		e->t.alias = e->t.is_sketch ? r->next_alias++ : 0;
	}
	r->row[r->n++] = e;
	return e;
}

void entry_leaves(struct registry *r, uint64_t id, bool leaving)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->row[i]->t.spec.id == id || r->row[i]->t.sketch == id)
			r->row[i]->leaving = leaving;
}

unsigned entry_family(const struct registry *r, uint64_t id,
		      uint64_t out[REGISTRY_ROWS])
{
	unsigned n = 0;

	for (unsigned i = r->n; i-- > 0;)
		if (r->row[i]->t.spec.id == id || r->row[i]->t.sketch == id)
			out[n++] = r->row[i]->t.spec.id;
	return n;
}

static void row_out(struct registry *r, const struct entry *e)
{
	unsigned i = 0;

	while (i < r->n && r->row[i] != e)
		i++;
	if (i == r->n)
		return;
	memmove(&r->row[i], &r->row[i + 1], (r->n - i - 1) * sizeof(r->row[0]));
	r->n--;
}

bool entry_show(struct registry *r, struct entry *e)
{
	if (r->n == REGISTRY_ROWS)
		return false;
	r->row[r->n++] = e;
	return true;
}

void entry_free(struct entry *e)
{
	monlink_cancel(e->put);
	if (e->wanted) {
		explicit_bzero(e->wanted, sizeof(*e->wanted));
		free(e->wanted);
	}
	explicit_bzero(e, sizeof(*e));
	free(e);
}

void entry_stop(struct registry *r, struct entry *e)
{
	row_out(r, e);
	if (!e->t.is_sketch)
		(void)monlink_del(r->agent->monlink, e->t.spec.id, NULL, NULL);
	monlink_cancel(e->put);
	e->put = NULL;
}

/* 0; -EPERM: it is another's; -EAGAIN: not known yet whose. */
static int block_remove(struct registry *r, uint64_t id, bool forget)
{
	switch (blocks_remove(r->blocks, id)) {
	case BLOCKS_HALF:
		return -EAGAIN;
	case BLOCKS_FOREIGN:
		if (!forget)
			return -EPERM;
		blocks_forget(r->blocks, id);
		return 0;
	default:
		return 0;
	}
}

int entry_remove(struct registry *r, uint64_t id, bool forget)
{
	uint64_t ids[REGISTRY_ROWS];
	unsigned n = entry_family(r, id, ids);
	int ret = 0;

	for (unsigned i = 0; i < n && !ret; i++) {
		struct entry *e = entry_find(r, ids[i]);

		if (e->local) {
			entry_stop(r, e);
			entry_free(e);
		} else {
			ret = block_remove(r, ids[i], forget);
		}
	}
	return ret;
}

/* ---- time ---- */

/* Its time is over, wherever its owner is. */
static void entry_end(struct registry *r, struct entry *e)
{
	if (!entry_from_above(r, e)) {
		(void)entry_remove(r, e->t.spec.id, true);
		return;
	}
	/* its block is the owner's: it stays there until the owner acts */
	entry_stop(r, e);
	e->ended = true;
	e->expire_ms = 0;
}

/* What is done every second is done in one go: idle agents sleep. */
static void tick(void *arg)
{
	struct registry *r = arg;
	uint64_t now = clock_mono_ms();

	monlink_poll(r->agent->monlink);
	registry_place(r->agent);
	blocks_tick(r->blocks);
	standing_tick(r->agent->standing);
	alarms_tick(r->agent->alarms);
	for (unsigned i = r->n; i-- > 0;) {
		/* a sketch takes its counters along, behind it in the rows */
		if (i >= r->n || !r->row[i]->expire_ms ||
		    r->row[i]->expire_ms > now)
			continue;
		entry_end(r, r->row[i]);
		r->dirty = true;
	}
	if (r->dirty)
		registry_save(r);
	for (unsigned i = 0; i < r->n; i++) {
		struct entry *e = r->row[i];

		if (e->t.monitor_status && !e->t.is_sketch &&
		    e->tried_ms + RETRY_MS < now &&
		    monlink_state(r->agent->monlink) == MONLINK_ATTACHED)
			entry_put_monitor(r, e);
	}
	loop_timer_in(r->agent->loop, &r->tick, TICK_MS, tick, r);
}

int registry_open(struct registry **out, struct agent *a)
{
	struct registry *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return -ENOMEM;
	r->agent = a;
	r->blocks =
		blocks_new(overlay_self(a->overlay), &registry_blocks_env, r);
	if (!r->blocks) {
		free(r);
		return -ENOMEM;
	}
	if (a->conf->state_dir[0]) {
		ret = registry_load(r);
		r->persisted = !ret || ret == -ENOENT || ret == -EBADMSG;
	}
	ret = loop_timer_in(a->loop, &r->tick, TICK_MS, tick, r);
	if (ret) {
		registry_free(r);
		return ret;
	}
	*out = r;
	return 0;
}

void registry_free(struct registry *r)
{
	if (!r)
		return;
	registry_exchanges_free(r);
	ops_free(r);
	loop_timer_cancel(&r->tick);
	for (unsigned i = 0; i < blocks_count(r->blocks); i++) {
		const struct block *k = blocks_at(r->blocks, i);

		/* ended ones are in no row */
		for (unsigned j = 0; j < k->n; j++) {
			row_out(r, k->item[j].content);
			entry_free(k->item[j].content);
		}
	}
	while (r->n)
		entry_free(r->row[--r->n]);
	blocks_free(r->blocks);
	free(r);
}
