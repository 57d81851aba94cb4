/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tasks of this agent, at most 32 and as many legacy sketches, in the
 * order they came.  What is asked for here is this agent's own; the rest was
 * put by its parent.  Every change is on disk before anybody is told.
 *
 * The registry owns its rows; a row stays where it is until it is removed.
 */
#include "agent/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/monlink.h"
#include "agent/msnm.h"
#include "agent/overlay.h"
#include "agent/registry_private.h"
#include "agent/state.h"
#include "common/log.h"
#include "common/util.h"

#define TASKS_FILE "tasks.json"
#define TICK_MS    1000
#define RETRY_MS   10000 /* of puts that the monitor refused */
#define UNUSED_MS  60000 /* a legacy sketch younger in use stays */

/* ---- hashes ---- */

uint64_t task_hash(const struct task_spec *t)
{
	const struct hash_key key = { { 6 } };

	return siphash24(&key, t, sizeof(*t));
}

uint64_t entry_hash(const struct entry *e)
{
	const struct hash_key key = { { 7 } };
	struct {
		uint64_t spec, sketch, created_ms;
		double threshold;
		struct node_id owner;
		uint32_t expires_s, origin, is_sketch;
		char name[68];
		uint64_t params;
	} text = { .spec = task_hash(&e->t.spec),
		   .sketch = e->t.sketch,
		   .created_ms = e->t.created_ms,
		   .threshold = e->t.threshold,
		   .owner = e->t.owner,
		   .expires_s = e->t.expires_s,
		   .origin = e->t.origin,
		   .is_sketch = e->t.is_sketch,
		   .params =
			   siphash24(&key, e->t.params, strlen(e->t.params)) };

	static_assert(sizeof(text) == 136, "no padding");
	memcpy(text.name, e->t.name, sizeof(e->t.name));
	return siphash24(&key, &text, sizeof(text));
}

bool entry_from_above(const struct registry *r, const struct entry *e)
{
	return !node_id_equal(&e->t.owner, overlay_self(r->agent->overlay));
}

uint64_t registry_hash(const struct registry *r)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < r->n; i++)
		if (!r->row[i]->local)
			sum += entry_hash(r->row[i]);
	return sum;
}

uint64_t registry_hash_from_above(const struct registry *r)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < r->n; i++)
		if (entry_from_above(r, r->row[i]))
			sum += entry_hash(r->row[i]);
	return sum;
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
	return !node_id_equal(&t->owner, overlay_self(r->agent->overlay));
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

struct entry *entry_add(struct registry *r, const struct task *t, bool local,
			uint64_t left_ms)
{
	uint64_t now = clock_mono_ms();
	struct entry *e;

	if (r->n == REGISTRY_ROWS)
		return NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->t = *t;
	e->local = local;
	e->expire_ms = left_ms ? now + left_ms : 0;
	e->t.named_ms = now;
	e->t.order = ++r->next_order;
	e->t.alias = t->is_sketch ? r->next_alias++ : 0;
	e->t.monitor_status = 1;
	r->row[r->n++] = e;
	return e;
}

void entry_leaves(struct registry *r, uint64_t id, bool leaving)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->row[i]->t.spec.id == id || r->row[i]->t.sketch == id)
			r->row[i]->leaving = leaving;
}

static void row_drop(struct registry *r, unsigned i)
{
	struct entry *e = r->row[i];

	memmove(&r->row[i], &r->row[i + 1], (r->n - i - 1) * sizeof(r->row[0]));
	r->n--;
	monlink_cancel(e->put);
	explicit_bzero(e, sizeof(*e));
	free(e);
}

void entry_remove(struct registry *r, uint64_t id)
{
	for (unsigned i = r->n; i-- > 0;) {
		const struct task *t = &r->row[i]->t;

		if (t->spec.id != id && t->sketch != id)
			continue;
		if (!t->is_sketch)
			(void)monlink_del(r->agent->monlink, t->spec.id, NULL,
					  NULL);
		row_drop(r, i);
	}
}

/* ---- on disk ---- */

void registry_save(struct registry *r)
{
	const char *dir = r->agent->conf->state_dir;
	struct buf b = BUF_INIT;
	struct json_out o;
	int ret;

	msnm_tasks_changed(r->agent);
	if (!dir[0])
		return;
	json_out_init(&o, &b);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "v", 1);
	json_put_u64(&o, "next_alias", r->next_alias);
	json_put_u64(&o, "next_order", r->next_order);
	json_open(&o, "tasks", '[');
	for (unsigned i = 0; i < r->n; i++)
		entry_write(&o, NULL, r->row[i], true);
	json_close(&o, ']');
	json_close(&o, '}');
	ret = b.failed ? -ENOMEM : state_write(dir, TASKS_FILE, b.data, b.len);
	if (ret)
		log_write(LOG_LEVEL_WARN, -ret, "%s: tasks are not kept", dir);
	r->persisted = !ret;
	if (b.data)
		explicit_bzero(b.data, b.len);
	buf_fini(&b);
}

static void row_load(struct registry *r, const struct json *v)
{
	uint64_t left = 0, now = clock_wall_ms(), end;
	struct entry e, *added;

	if (entry_parse(v, &e, &left, true) || entry_find(r, e.t.spec.id)) {
		log_warnx("%s: a task that cannot be used", TASKS_FILE);
		return;
	}
	if (e.t.expires_s) {
		end = e.t.created_ms + (uint64_t)e.t.expires_s * 1000;
		if (end <= now)
			return;
		left = MIN(left, end - now);
	}
	added = entry_add(r, &e.t, e.local, left);
	if (!added)
		return;
	added->t.alias = e.t.alias;
	added->t.order = e.t.order;
	added->t.has_here = e.t.has_here;
	added->t.threshold_here = e.t.threshold_here;
}

static int registry_load(struct registry *r)
{
	struct buf b = BUF_INIT;
	struct json *v = NULL;
	uint64_t version, alias, order;
	int ret = state_read(r->agent->conf->state_dir, TASKS_FILE, &b);

	if (ret)
		return ret;
	if (json_parse(b.data, b.len, &v) ||
	    json_u64(json_get(v, "v"), 1, 1, &version) ||
	    json_u64(json_get(v, "next_alias"), 0, UINT64_MAX / 2, &alias) ||
	    json_u64(json_get(v, "next_order"), 0, UINT64_MAX / 2, &order) ||
	    json_len(json_get(v, "tasks")) > REGISTRY_ROWS) {
		log_warnx("%s: has another form, not used", TASKS_FILE);
		ret = -EINVAL;
	} else {
		for (size_t i = 0; i < json_len(json_get(v, "tasks")); i++)
			row_load(r, json_at(json_get(v, "tasks"), i));
		r->next_alias = alias;
		r->next_order = order;
		log_info("%u tasks and sketches from %s", r->n, TASKS_FILE);
	}
	json_free(v);
	explicit_bzero(b.data, b.size);
	buf_fini(&b);
	return ret;
}

/* ---- time ---- */

static void tick(void *arg)
{
	struct registry *r = arg;
	uint64_t now = clock_mono_ms();
	bool gone = false;

	for (unsigned i = r->n; i-- > 0;) {
		/* a sketch takes its counters along, behind it in the rows */
		if (i >= r->n || !r->row[i]->expire_ms ||
		    r->row[i]->expire_ms > now)
			continue;
		entry_remove(r, r->row[i]->t.spec.id);
		gone = true;
	}
	if (gone)
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
	repairs_free(r);
	ops_free(r);
	loop_timer_cancel(&r->tick);
	while (r->n)
		row_drop(r, r->n - 1);
	free(r);
}
