/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry with a monitor that accepts everything: limits, what makes
 * room, the rules of puts, the state file whole, cut and damaged.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/agent.h"
#include "agent/monlink.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/registry_private.h"
#include "agent/state.h"
#include "agent/taskops.h"
#include "common/features.h"
#include "common/sketch/sketch.h"
#include "common/util.h"

#include "registry_world.h"

/* ---- limits ---- */

static void test_create_delete(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_SRC);
	uint64_t id;

	assert_int_equal(create(w, &t), ERR_NONE);
	id = w->task.spec.id;
	assert_int_not_equal(id, 0);
	assert_int_equal(w->coverage.answered, 1);
	assert_int_equal(w->puts, 1);
	assert_int_equal(registry_count(w->a.registry), 1);
	assert_true(registry_persisted(w->a.registry));
	assert_int_equal(delete (w, id), ERR_NONE);
	assert_int_equal(registry_count(w->a.registry), 0);
	assert_int_equal(delete (w, id), ERR_UNKNOWN_TASK);
	/* nobody can hold it: as if it had not been asked for */
	w->put_status = -ENOSPC;
	assert_int_equal(create(w, &t), ERR_LIMIT);
	assert_string_equal(w->what, "memory");
	w->put_status = -ESHUTDOWN;
	assert_int_equal(create(w, &t), ERR_NO_HOST);
	assert_int_equal(registry_rows(w->a.registry), 0);
	assert_int_equal(w->coverage.reasons[MISSING_MONITOR_DOWN], 1);
}

static void test_task_limit(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_SRC);
	uint64_t hash;

	for (unsigned i = 0; i < TASKS_MAX; i++)
		assert_int_equal(create(w, &t), ERR_NONE);
	hash = registry_hash(w->a.registry);
	assert_int_equal(create(w, &t), ERR_LIMIT);
	assert_string_equal(w->what, "tasks");
	assert_int_equal(registry_hash(w->a.registry), hash);
	assert_int_equal(registry_count(w->a.registry), TASKS_MAX);
	t = sketch();
	assert_int_equal(create(w, &t), ERR_NONE);
	t = counter(w->task.spec.id, ORIGIN_LEGACY, KEY_SRC);
	assert_int_equal(create(w, &t), ERR_LIMIT);
	assert_string_equal(w->what, "counters");
}

static void test_counters_of_a_sketch(void **state)
{
	static const enum key_type keys[] = { KEY_SRC,       KEY_DST,
					      KEY_SRC_DST,   KEY_SPORT,
					      KEY_DPORT,     KEY_SRC_DPORT,
					      KEY_DST_DPORT, KEY_FLOW };
	struct world *w = *state;
	const struct task *found;
	struct task t = sketch();
	uint64_t id, last = 0;

	assert_int_equal(create(w, &t), ERR_NONE);
	assert_int_equal(w->task.alias, 0);
	id = w->task.spec.id;
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		t = counter(id, ORIGIN_LEGACY, keys[i]);
		assert_int_equal(create(w, &t), ERR_NONE);
		last = w->task.spec.id;
	}
	t.spec.increment = INC_BYTE;
	assert_int_equal(create(w, &t), ERR_LIMIT);
	found = registry_counter(w->a.registry, id, KEY_FLOW, INCREMENTS);
	assert_int_equal(found->spec.id, last);
	assert_null(registry_counter(w->a.registry, id, KEY_FLOW, INC_BYTE));
	assert_int_equal(registry_sketch(w->a.registry, 0)->spec.id, id);
	/* the sketch takes its counters along */
	assert_int_equal(delete (w, id), ERR_NONE);
	assert_int_equal(registry_rows(w->a.registry), 0);
	assert_null(registry_sketch(w->a.registry, 0));
	/* aliases are never used again */
	t = sketch();
	assert_int_equal(create(w, &t), ERR_NONE);
	assert_int_equal(w->task.alias, 1);
}

static void test_last_configured(void **state)
{
	struct world *w = *state;
	struct task t = sketch();
	uint64_t id, pkt;

	create(w, &t);
	id = w->task.spec.id;
	t = counter(id, ORIGIN_LEGACY, KEY_SRC);
	create(w, &t);
	pkt = w->task.spec.id;
	t.spec.increment = INC_BYTE;
	create(w, &t);
	assert_int_equal(registry_counter(w->a.registry, id, KEY_SRC,
					  INCREMENTS)
				 ->spec.id,
			 w->task.spec.id);
	assert_int_equal(retune(w, pkt, 0.5, false), ERR_NONE);
	assert_int_equal(registry_counter(w->a.registry, id, KEY_SRC,
					  INCREMENTS)
				 ->spec.id,
			 pkt);
	assert_true(registry_find(w->a.registry, pkt)->threshold > 0.4);
}

/* Memory is a limit as others are, although the monitor alone knows it. */
static void test_room_of_memory(void **state)
{
	struct world *w = *state;
	struct task s = sketch(), t;
	uint64_t id[4], one;

	for (unsigned i = 0; i < ARRAY_SIZE(id); i++) {
		assert_int_equal(create(w, &s), ERR_NONE);
		id[i] = w->task.spec.id;
	}
	t = counter(id[0], ORIGIN_LEGACY, KEY_SRC);
	one = task_memory(&t.spec);
	agent_down(w);
	w->memory_limit = 3 * one;
	agent_up(w);
	for (unsigned i = 0; i < 3; i++) {
		t.sketch = id[i];
		assert_int_equal(create(w, &t), ERR_NONE);
	}
	t.sketch = id[3];
	w->full = true;
	assert_int_equal(create(w, &t), ERR_LIMIT);
	assert_string_equal(w->what, "memory");
	/* of those that hold some, the longest unused; nothing without need */
	make_old(w, id[1], 61000);
	make_old(w, id[2], 70000);
	assert_int_equal(create(w, &t), ERR_NONE);
	assert_null(registry_find(w->a.registry, id[2]));
	assert_non_null(registry_find(w->a.registry, id[1]));
	assert_int_equal(registry_rows(w->a.registry), 6);
	/* what was not in the way stays */
	w->full = false;
	t = counter(id[0], ORIGIN_LEGACY, KEY_NONE);
	assert_int_equal(create(w, &t), ERR_NONE);
	assert_non_null(registry_find(w->a.registry, id[1]));
}

/* Old scripts never delete: what was unused longest makes room. */
static void test_room(void **state)
{
	struct world *w = *state;
	uint64_t id[REGISTRY_SKETCHES];
	struct task t = sketch();

	for (unsigned i = 0; i < REGISTRY_SKETCHES; i++) {
		assert_int_equal(create(w, &t), ERR_NONE);
		id[i] = w->task.spec.id;
	}
	assert_int_equal(create(w, &t), ERR_LIMIT);
	assert_string_equal(w->what, "sketches");
	make_old(w, id[3], 59000);
	assert_int_equal(create(w, &t), ERR_LIMIT);
	make_old(w, id[3], 61000);
	make_old(w, id[7], 70000);
	assert_int_equal(create(w, &t), ERR_NONE);
	assert_null(registry_find(w->a.registry, id[7]));
	assert_non_null(registry_find(w->a.registry, id[3]));
	registry_touch(w->a.registry, id[3]);
	assert_int_equal(create(w, &t), ERR_LIMIT);
}

/* Room for a counter comes from sketches that have some, not from others. */
static void test_room_for_counters(void **state)
{
	struct world *w = *state;
	struct task s = sketch(), t;
	uint64_t empty, full, mine;

	create(w, &s);
	empty = w->task.spec.id;
	create(w, &s);
	full = w->task.spec.id;
	create(w, &s);
	mine = w->task.spec.id;
	t = counter(full, ORIGIN_LEGACY, KEY_SRC);
	create(w, &t);
	t = counter(full, ORIGIN_LEGACY, KEY_DST);
	create(w, &t);
	t = counter(0, ORIGIN_V1, KEY_SRC);
	for (unsigned i = 2; i < TASKS_MAX; i++)
		assert_int_equal(create(w, &t), ERR_NONE);
	make_old(w, empty, 100000);
	t = counter(mine, ORIGIN_LEGACY, KEY_SRC);
	assert_int_equal(create(w, &t), ERR_LIMIT);
	assert_non_null(registry_find(w->a.registry, empty));
	make_old(w, full, 80000);
	/* not from the one that is to have it */
	t = counter(full, ORIGIN_LEGACY, KEY_DPORT);
	assert_int_equal(create(w, &t), ERR_LIMIT);
	assert_non_null(registry_find(w->a.registry, full));
	/* only old scripts may push out what old scripts left */
	t = counter(0, ORIGIN_V1, KEY_SRC);
	assert_int_equal(create(w, &t), ERR_LIMIT);
	t = counter(mine, ORIGIN_LEGACY, KEY_SRC);
	assert_int_equal(create(w, &t), ERR_NONE);
	assert_null(registry_find(w->a.registry, full));
	assert_non_null(registry_find(w->a.registry, empty));
	assert_int_equal(registry_count(w->a.registry), TASKS_MAX - 1);
}

/* What makes room goes when a host holds the new one, and not before. */
static void test_room_only_if_held(void **state)
{
	struct world *w = *state;
	struct task s = sketch(), t = counter(0, ORIGIN_V1, KEY_SRC);
	uint64_t old, mine, last, hash;
	unsigned dels;

	create(w, &s);
	old = w->task.spec.id;
	create(w, &s);
	mine = w->task.spec.id;
	for (unsigned i = 1; i < TASKS_MAX; i++)
		assert_int_equal(create(w, &t), ERR_NONE);
	last = w->task.spec.id;
	t = counter(old, ORIGIN_LEGACY, KEY_SRC);
	assert_int_equal(create(w, &t), ERR_NONE);
	make_old(w, old, 80000);
	hash = registry_hash(w->a.registry);
	dels = w->dels;

	t = counter(mine, ORIGIN_LEGACY, KEY_SRC);
	w->put_status = -ESHUTDOWN;
	assert_int_equal(create(w, &t), ERR_NO_HOST);
	assert_int_equal(registry_hash(w->a.registry), hash);
	assert_non_null(registry_find(w->a.registry, old));

	/* still no room where room was made: what was there is put again */
	w->put_status = -ENOSPC;
	w->puts = 0;
	assert_int_equal(create(w, &t), ERR_LIMIT);
	assert_int_equal(registry_hash(w->a.registry), hash);
	w->put_status = 0;
	assert_int_equal(retune(w, last, -1, false), ERR_NONE);
	assert_int_equal(w->dels, dels + 3);
	assert_int_equal(w->puts, 4);

	w->full = true;
	assert_int_equal(create(w, &t), ERR_NONE);
	assert_null(registry_find(w->a.registry, old));
	assert_int_equal(registry_count(w->a.registry), TASKS_MAX);
	assert_int_equal(w->coverage.answered, 1);
}

/* A threshold that no host heard of does not count. */
static void test_threshold_only_if_held(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_LEGACY, KEY_SRC);
	const struct task *found;
	uint64_t id, order, hash;

	create(w, &t);
	id = w->task.spec.id;
	order = w->task.order;
	hash = registry_hash(w->a.registry);
	w->put_status = -ESHUTDOWN;
	assert_int_equal(retune(w, id, 0.5, false), ERR_NO_HOST);
	assert_int_equal(retune(w, id, 0.5, true), ERR_NO_HOST);
	found = registry_find(w->a.registry, id);
	assert_true(task_threshold(found) == 0.1);
	assert_int_equal(found->order, order);
	assert_int_equal(registry_hash(w->a.registry), hash);

	/* of this host alone: nothing that travels changes */
	w->put_status = 0;
	assert_int_equal(retune(w, id, 0.5, true), ERR_NONE);
	assert_int_equal(registry_hash(w->a.registry), hash);
	agent_down(w);
	agent_up(w);
	found = registry_find(w->a.registry, id);
	assert_true(task_threshold(found) == 0.5 && found->threshold == 0.1);
	assert_int_equal(retune(w, id, -1, false), ERR_NONE);
	assert_true(task_threshold(found) == 0.5);
	assert_int_equal(retune(w, id, 0.25, false), ERR_NONE);
	assert_true(task_threshold(found) == 0.25);
	assert_int_not_equal(registry_hash(w->a.registry), hash);
}

static struct task features(uint32_t window_s)
{
	struct task t = { .origin = ORIGIN_V1, .name = "msnm" };

	t.spec.increment = INC_SEGMENT;
	t.spec.kinds = TASK_FEATURES;
	t.spec.semantics = FEATURES_PACKETS;
	t.spec.both = 1;
	t.spec.window_ms = window_s * 1000;
	snprintf(t.params, sizeof(t.params), "window_s=%u rows=20", window_s);
	return t;
}

/* One that nobody holds replaces nothing, not even for a moment. */
static void test_msnm_only_if_held(void **state)
{
	struct world *w = *state;
	const struct registry *r = w->a.registry;
	struct task t = features(10);
	uint64_t old;

	assert_null(registry_msnm(r));
	assert_int_equal(create(w, &t), ERR_NONE);
	old = w->task.spec.id;
	assert_int_equal(registry_msnm(r)->spec.id, old);
	w->put_status = -EIO;
	t = features(20);
	w->finished = false;
	assert_non_null(registry_create(&w->a, &t, false, 500, done, w));
	assert_int_equal(registry_rows(r), 2);
	assert_int_equal(registry_msnm(r)->spec.id, old);
	run(w, is_finished);
	assert_int_equal(w->code, ERR_NO_HOST);
	assert_int_equal(registry_msnm(r)->spec.id, old);
	/* the youngest of those that are held */
	w->put_status = 0;
	assert_int_equal(create(w, &t), ERR_NONE);
	assert_int_equal(registry_msnm(r)->spec.id, w->task.spec.id);
	assert_int_not_equal(w->task.spec.id, old);
	/* parameters count when they are confirmed */
	w->put_status = -EIO;
	w->finished = false;
	assert_non_null(registry_retune(&w->a, w->task.spec.id, -1,
					"window_s=20 rows=30", false, 500, done,
					w));
	run(w, is_finished);
	assert_string_equal(registry_msnm(r)->params, "window_s=20 rows=20");
	w->put_status = 0;
	w->finished = false;
	assert_non_null(registry_retune(&w->a, registry_msnm(r)->spec.id, -1,
					"window_s=20 rows=30", false, 500, done,
					w));
	run(w, is_finished);
	assert_string_equal(registry_msnm(r)->params, "window_s=20 rows=30");
	/* and all of it is there after a restart */
	old = registry_msnm(r)->spec.id;
	agent_down(w);
	agent_up(w);
	r = w->a.registry;
	assert_int_equal(registry_msnm(r)->spec.id, old);
	assert_int_equal(registry_msnm(r)->spec.both, 1);
	assert_string_equal(registry_msnm(r)->params, "window_s=20 rows=30");
}

static void test_expiry(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_SRC);
	uint64_t id;

	t.expires_s = 3600;
	assert_int_equal(create(w, &t), ERR_NONE);
	id = w->task.spec.id;
	agent_down(w);
	agent_up(w);
	assert_non_null(registry_find(w->a.registry, id));
	entry_find(w->a.registry, id)->expire_ms = clock_mono_ms();
	w->finished = false;
	t = counter(0, ORIGIN_V1, KEY_DST);
	/* the next second finds it */
	while (registry_find(w->a.registry, id)) {
		assert_int_equal(create(w, &t), ERR_NONE);
		assert_int_equal(delete (w, w->task.spec.id), ERR_NONE);
	}
}

/* Who has a task's id and generation puts it; what is there stays. */
static void test_put(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_SRC);
	struct task_spec first;
	uint64_t hash, index;

	t.spec.id = 0xfeed;
	t.spec.generation = 5;
	assert_int_equal(put(w, &t), ERR_NONE);
	first = w->task.spec;
	assert_int_equal(first.id, 0xfeed);
	assert_int_equal(first.generation, 5);
	assert_int_equal(w->coverage.answered, 1);
	hash = registry_hash(w->a.registry);
	index = blocks_at(w->a.registry->blocks, 0)->head.index;
	w->puts = 0;
	/* the same: no change, and it says who holds it */
	assert_int_equal(put(w, &t), ERR_NONE);
	assert_int_equal(w->coverage.answered, 1);
	assert_true(task_equal(&w->task.spec, &first));
	assert_int_equal(registry_hash(w->a.registry), hash);
	assert_int_equal(blocks_at(w->a.registry->blocks, 0)->head.index,
			 index);
	/* other content, an older generation */
	t.spec.key = KEY_DST;
	assert_int_equal(put(w, &t), ERR_CONFLICT);
	assert_string_equal(w->what, "this generation has another content");
	t.expires_s = 60;
	t.spec.key = KEY_SRC;
	assert_int_equal(put(w, &t), ERR_CONFLICT);
	t.expires_s = 0;
	snprintf(t.params, sizeof(t.params), "totals");
	assert_int_equal(put(w, &t), ERR_CONFLICT);
	t.params[0] = '\0';
	t.spec.generation = 4;
	assert_int_equal(put(w, &t), ERR_CONFLICT);
	assert_string_equal(w->what, "an older generation");
	assert_int_equal(registry_hash(w->a.registry), hash);
	/* a later one replaces it where it is */
	t.spec.generation = 9;
	t.spec.key = KEY_DST;
	assert_int_equal(put(w, &t), ERR_NONE);
	assert_int_equal(registry_rows(w->a.registry), 1);
	assert_int_equal(registry_at(w->a.registry, 0)->spec.key, KEY_DST);
	/* the seed is the task's, whatever its generation */
	assert_memory_equal(&w->task.spec.seed, &first.seed,
			    sizeof(first.seed));
	agent_down(w);
	agent_up(w);
	assert_int_equal(put(w, &t), ERR_NONE);
	assert_int_equal(registry_rows(w->a.registry), 1);
	/* none is made that nobody holds */
	t.spec.id = 0xbeef;
	w->put_status = -EIO;
	assert_int_equal(put(w, &t), ERR_NO_HOST);
	assert_null(registry_find(w->a.registry, 0xbeef));
	t.spec.id = 0xfeed;
	t.spec.generation = 10;
	assert_int_equal(put(w, &t), ERR_NO_HOST);
	assert_int_equal(registry_find(w->a.registry, 0xfeed)->spec.generation,
			 10);
}

/* ---- what the parent puts ---- */

static struct node_id above = { { 7 } };

/* As if a parent of this id had put it, at this index. */
static enum blocks_word put_from_above(struct world *w, const struct task *t,
				       uint64_t index, uint64_t left_ms)
{
	struct incoming in = { .t = *t, .left_ms = left_ms };
	struct blocks_item item = entry_item(&in.t, &in);
	struct tree_block head = { .owner = above, .term = 3, .index = index };

	return blocks_put(w->a.registry->blocks, &head, &item);
}

/* Its time is over although its owner is silent; it is not put anew. */
static void test_expiry_without_owner(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_SRC);
	const struct registry *r = w->a.registry;
	uint64_t hash;

	t.spec.id = 0xfeed;
	t.spec.generation = 1;
	t.expires_s = 3600;
	assert_int_equal(put_from_above(w, &t, 1, 3600000), BLOCKS_DONE);
	assert_true(registry_from_above(r, registry_find(r, 0xfeed)));
	hash = registry_hash(r);
	entry_find(r, 0xfeed)->expire_ms = clock_mono_ms();
	run(w, is_expired);
	assert_int_equal(registry_rows(r), 0);
	/* still in its block, so that its owner sees no difference */
	assert_int_equal(registry_hash(r), hash);
	assert_int_equal(put_from_above(w, &t, 1, 3600000), BLOCKS_SAME);
	assert_int_equal(registry_rows(r), 0);
	/* another generation is another time */
	t.spec.generation = 2;
	assert_int_equal(put_from_above(w, &t, 2, 3600000), BLOCKS_DONE);
	assert_int_equal(registry_rows(r), 1);
	entry_find(r, 0xfeed)->expire_ms = clock_mono_ms();
	run(w, is_expired);
	assert_int_equal(registry_rows(r), 0);
}

/* A put that failed here is tried again every ten seconds. */
static void test_put_again(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_SRC);
	struct entry *e;

	t.spec.id = 0xfeed;
	t.spec.generation = 1;
	assert_int_equal(put_from_above(w, &t, 1, 0), BLOCKS_DONE);
	e = entry_find(w->a.registry, 0xfeed);
	w->put_status = -EIO;
	entry_put_monitor(w->a.registry, e);
	run(w, is_refused);
	assert_int_equal(e->t.monitor_status, -EIO);
	w->puts = 0;
	w->put_status = 0;
	e->tried_ms = clock_mono_ms() - 9000;
	run(w, is_active);
	assert_int_equal(w->puts, 1);
	assert_true(clock_mono_ms() - e->tried_ms < 5000);
}

/* Heads are kept: what was taken before a restart is refused after it. */
static void test_blocks_restart(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_SRC);
	const struct block *k;

	t.spec.id = 0xfeed;
	t.spec.generation = 1;
	assert_int_equal(put_from_above(w, &t, 9, 0), BLOCKS_DONE);
	registry_save(w->a.registry);
	agent_down(w);
	agent_up(w);
	k = blocks_of(w->a.registry->blocks, &above);
	assert_int_equal(k->head.index, 9);
	assert_int_equal(k->head.term, 3);
	assert_int_equal(registry_rows(w->a.registry), 1);
	assert_true(registry_from_above(w->a.registry,
					registry_at(w->a.registry, 0)));
	t.spec.id = 0xbeef;
	assert_int_equal(put_from_above(w, &t, 8, 0), BLOCKS_STALE);
	assert_int_equal(put_from_above(w, &t, 10, 0), BLOCKS_DONE);
	/* without a parent its tasks may be deleted here */
	assert_int_equal(delete (w, 0xfeed), ERR_NONE);
	assert_int_equal(registry_rows(w->a.registry), 1);
}

/* ---- what travels ---- */

static void test_task_json(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_DST_DPORT);
	struct incoming out;
	struct json *v = NULL;
	struct buf b = BUF_INIT;
	struct json_out o;

	snprintf(t.name, sizeof(t.name), "in-it:1.2_x");
	t.spec.filter.has_src = 1;
	assert_int_equal(prefix_parse("10.1.0.0/16", 11, &t.spec.filter.src),
			 0);
	t.spec.filter.proto = 6;
	assert_int_equal(filter_normalize(&t.spec.filter), 0);
	assert_int_equal(create(w, &t), ERR_NONE);
	json_out_init(&o, &b);
	entry_write(&o, NULL, entry_find(w->a.registry, w->task.spec.id),
		    false);
	assert_int_equal(json_parse(b.data, b.len, &v), 0);
	assert_int_equal(entry_parse(v, &out, false), 0);
	assert_true(task_equal(&out.t.spec, &w->task.spec));
	assert_string_equal(out.t.name, t.name);
	assert_int_equal(
		entry_item(&out.t, NULL).hash,
		entry_hash(entry_find(w->a.registry, w->task.spec.id)));
	assert_int_equal(entry_parse(v, &out, true), -EINVAL);
	json_free(v);
	buf_fini(&b);
}

/* ---- the state file ---- */

static char *file_read(struct world *w, const char *name, size_t *len)
{
	char path[128], *text = calloc(1, 65536);
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	n = read(fd, text, 65535);
	assert_true(n > 0);
	close(fd);
	*len = (size_t)n;
	return text;
}

static void file_write(struct world *w, const char *name, const char *text,
		       size_t len)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
}

static void test_restart(void **state)
{
	struct world *w = *state;
	struct task t = sketch();
	struct node_id self = *overlay_self(w->a.overlay);
	uint64_t incarnation = overlay_incarnation(w->a.overlay), hash, id;
	struct stat st;
	char path[128];

	create(w, &t);
	id = w->task.spec.id;
	t = counter(id, ORIGIN_LEGACY, KEY_SRC);
	create(w, &t);
	hash = registry_hash(w->a.registry);
	snprintf(path, sizeof(path), "%s/tasks.json", w->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	agent_down(w);
	w->puts = 0;
	agent_up(w);
	assert_true(node_id_equal(&self, overlay_self(w->a.overlay)));
	assert_true(overlay_incarnation(w->a.overlay) > incarnation);
	assert_int_equal(registry_hash(w->a.registry), hash);
	assert_int_equal(registry_sketch(w->a.registry, 0)->spec.id, id);
	/* the monitor gets the counter again, and no sketch */
	run(w, attached);
	t = sketch();
	create(w, &t);
	assert_int_equal(w->task.alias, 1);
	t = counter(0, ORIGIN_LEGACY, KEY_NONE);
	create(w, &t);
	assert_int_equal(w->puts, 2);
}

/* A file cut anywhere, or with a flipped bit, is empty and said so. */
static void test_damaged_file(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_SRC);
	struct buf b = BUF_INIT;
	size_t len, at;
	char *text;

	create(w, &t);
	text = file_read(w, "tasks.json", &len);
	for (size_t n = 0; n < len; n++) {
		file_write(w, "tasks.json", text, n);
		assert_int_equal(state_read(w->dir, "tasks.json", &b),
				 -EBADMSG);
		assert_null(b.data);
		assert_int_equal(state_read(w->dir, "tasks.json", &b), -ENOENT);
	}
	for (at = 0; at < len; at++) {
		text[at] ^= 4;
		file_write(w, "tasks.json", text, len);
		assert_int_equal(state_read(w->dir, "tasks.json", &b),
				 -EBADMSG);
		text[at] ^= 4;
	}
	file_write(w, "tasks.json", text, len);
	assert_int_equal(state_read(w->dir, "tasks.json", &b), 0);
	assert_int_equal(strlen(b.data), b.len);
	buf_fini(&b);
	free(text);
	/* a crash while writing leaves the old file */
	file_write(w, "tasks.json.tmp", "half", 4);
	agent_down(w);
	agent_up(w);
	assert_int_equal(registry_count(w->a.registry), 1);
	t = counter(0, ORIGIN_V1, KEY_DST);
	create(w, &t);
	agent_down(w);
	agent_up(w);
	assert_int_equal(registry_count(w->a.registry), 2);
}

/* Nothing can be written: tasks live on, and it is known. */
static void test_no_disk(void **state)
{
	struct world *w = *state;
	struct task t = counter(0, ORIGIN_V1, KEY_SRC);

	snprintf(w->conf.state_dir, sizeof(w->conf.state_dir), "/nowhere/at");
	assert_int_equal(create(w, &t), ERR_NONE);
	assert_false(registry_persisted(w->a.registry));
	assert_int_equal(registry_count(w->a.registry), 1);
	snprintf(w->conf.state_dir, sizeof(w->conf.state_dir), "%s", w->dir);
}

#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(test_create_delete),
		ROW(test_task_limit),
		ROW(test_counters_of_a_sketch),
		ROW(test_last_configured),
		ROW(test_room),
		ROW(test_room_of_memory),
		ROW(test_room_for_counters),
		ROW(test_room_only_if_held),
		ROW(test_threshold_only_if_held),
		ROW(test_msnm_only_if_held),
		ROW(test_expiry),
		ROW(test_put),
		ROW(test_expiry_without_owner),
		ROW(test_put_again),
		ROW(test_blocks_restart),
		ROW(test_task_json),
		ROW(test_restart),
		ROW(test_damaged_file),
		ROW(test_no_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
