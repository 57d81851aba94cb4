/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the sketches share: streams of numbered keys spread over
 * hosts, with the truth beside them, and sketches in memory that ends at a page
 * nobody may touch.
 */
#ifndef LINNET_TEST_SKETCH_CASE_H
#define LINNET_TEST_SKETCH_CASE_H

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "common/sketch/sketch.h"
#include "common/util.h"
#include "tests/unit/seed.h"

struct event {
	uint32_t key, host;
	uint64_t weight, slot;
};

/* A world: one task, its stream, what each key has in truth. */
struct world {
	struct task_spec task;
	struct sketch_params params;
	struct event *ev;
	uint32_t n_events, n_keys, n_hosts;
	uint64_t end_slot;     /* all slots asked are closed */
	uint64_t *truth;       /* of each key, saturating */
	struct flow_key *keys; /* n_keys, then n_absent that never came */
	uint64_t *hash;
	uint32_t n_absent;
};

static inline struct task_spec case_task(uint64_t *rnd, enum key_type key)
{
	struct task_spec t = {
		.id = 1 + seed_below(rnd, 1000),
		.generation = 1,
		.key = (uint8_t)key,
		.increment = INC_PKT,
		.kinds = SKETCH_DEFAULT_KINDS,
	};
	uint64_t k[2] = { seed_next(rnd), seed_next(rnd) };

	memcpy(t.seed.b, k, sizeof(k));
	return t;
}

/* Another key for every number; two bytes hold the lowest 16 bits of it. */
static inline struct flow_key case_key(enum key_type t, uint32_t no)
{
	struct flow_key k = { 0 };
	uint64_t s = no, spread = seed_next(&s);

	if (key_len(t) < sizeof(spread))
		memcpy(k.w, &no, key_len(t));
	else
		memcpy(k.w, &spread, sizeof(spread));
	if (key_len(t) > 16)
		memcpy((char *)k.w + key_len(t) - 2, &no, 2);
	return k;
}

static inline void world_fini(struct world *w)
{
	free(w->ev);
	free(w->truth);
	free(w->keys);
	free(w->hash);
}

/* Makes keys, hashes and room for the events; truth is zero. */
static inline void world_alloc(struct world *w)
{
	uint32_t n = w->n_keys + w->n_absent;
	enum key_type t = (enum key_type)w->task.key;

	w->ev = calloc(w->n_events + 1, sizeof(*w->ev));
	w->truth = calloc(n + 1, sizeof(*w->truth));
	w->keys = calloc(n + 1, sizeof(*w->keys));
	w->hash = calloc(n + 1, sizeof(*w->hash));
	assert_true(w->ev && w->truth && w->keys && w->hash);
	for (uint32_t i = 0; i < n; i++) {
		w->keys[i] = case_key(t, i);
		w->hash[i] = hash_domain(&w->task.seed, w->keys[i].w,
					 key_len(t), HASH_KEY);
	}
}

/* The truth, from the events. */
static inline void world_count(struct world *w)
{
	bool over = false;

	for (uint32_t i = 0; i < w->n_events; i++)
		w->truth[w->ev[i].key] = u64_add_sat(w->truth[w->ev[i].key],
						     w->ev[i].weight, &over);
}

struct arena {
	uint8_t *base;
	size_t len;
};

static inline void arena_init(struct arena *a, size_t len)
{
	len = (len + 8191) & ~(size_t)4095;
	a->base = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(a->base != MAP_FAILED);
	assert_int_equal(mprotect(a->base + len - 4096, 4096, PROT_NONE), 0);
	a->len = len;
}

static inline void arena_fini(struct arena *a)
{
	munmap(a->base, a->len);
}

/* A new sketch that ends where the arena does. */
static inline void *arena_sketch(struct arena *a, enum sketch_kind k,
				 const struct sketch_params *p, uint64_t secret)
{
	size_t len = sketch_size(k, p);
	uint8_t *mem = a->base + a->len - 4096 - len;
	struct hash_key local = { { 0 } };

	assert_true(len % 64 == 0 && mem >= a->base);
	memset(mem, 0, len);
	memcpy(local.b, &secret, sizeof(secret));
	local.b[8] = (uint8_t)secret;
	sketch_init(k, mem, p, &local);
	return mem;
}

static inline struct sketch_item world_item(const struct world *w,
					    const struct event *e)
{
	return (struct sketch_item){ .key = w->keys[e->key],
				     .hash = w->hash[e->key],
				     .weight = e->weight,
				     .slot = e->slot };
}

#define WORLD_HOSTS 3 /* of random worlds */
#define ALL_HOSTS   UINT32_MAX

/* Feeds a sketch with what one host, or all, saw; fills the totals. */
static inline void world_feed(const struct world *w, void *mem, uint32_t host,
			      struct totals *tot, bool *saturated)
{
	*tot = (struct totals){ 0 };
	for (uint32_t i = 0; i < w->n_events; i++) {
		struct sketch_item it = world_item(w, &w->ev[i]);

		if (host != ALL_HOSTS && host != w->ev[i].host)
			continue;
		sketch_update(mem, &it);
		tot->items++;
		tot->weight = u64_add_sat(tot->weight, it.weight, saturated);
	}
}

static inline bool columns_equal(const struct columns *a,
				 const struct columns *b)
{
	if (a->n != b->n)
		return false;
	for (uint32_t i = 0; i < a->n; i++) {
		if (strcmp(a->col[i].name, b->col[i].name) != 0 ||
		    a->col[i].type != b->col[i].type)
			return false;
		if (a->col[i].type == COLUMN_U64
			    ? a->col[i].u64 != b->col[i].u64
			    : a->col[i].len != b->col[i].len ||
				      memcmp(a->col[i].bytes, b->col[i].bytes,
					     a->col[i].len) != 0)
			return false;
	}
	return true;
}

/* Same state, down to the bytes that travel. */
static inline bool part_equal(const struct part *a, const struct part *b)
{
	struct columns x, y;
	bool equal;

	assert_int_equal(part_encode(a, &x), 0);
	assert_int_equal(part_encode(b, &y), 0);
	equal = columns_equal(&x, &y) && a->end_slot == b->end_slot &&
		a->n_slots == b->n_slots &&
		a->totals.weight == b->totals.weight &&
		a->totals.items == b->totals.items;
	columns_free(&x);
	columns_free(&y);
	return equal;
}

/* A copy of the header without data. */
static inline struct part *part_blank(const struct part *p,
				      const struct task_spec *t)
{
	struct part *q = part_new(p->kind, t);

	assert_non_null(q);
	q->params = p->params;
	q->totals = p->totals;
	q->end_slot = p->end_slot;
	q->n_slots = p->n_slots;
	return q;
}

/* A copy by way of the columns. */
static inline struct part *part_copy(const struct part *p,
				     const struct task_spec *t)
{
	struct part *q = part_blank(p, t);
	struct columns c;

	assert_int_equal(part_encode(p, &c), 0);
	assert_int_equal(part_decode(q, &c), 0);
	columns_free(&c);
	return q;
}

static inline uint64_t random_weight(uint64_t *rnd, int mode)
{
	switch (mode) {
	case 0:
		return 1;
	case 1:
		return 1 + seed_below(rnd, 1500);
	case 2:
		return seed_below(rnd, 3);
	default:
		return seed_below(rnd, 8) ? 1 : 1ull << 63;
	}
}

/* Small tables, so that every border is crossed. */
static inline void world_random(struct world *w, uint64_t *rnd)
{
	int mode = (int)seed_below(rnd, 10) - 6;
	uint64_t slot = 1000 * seed_below(rnd, 2);
	uint32_t spread = seed_below(rnd, 2) ? 2 : 40;

	*w = (struct world){ 0 };
	w->task = case_task(
		rnd, (enum key_type)(1 + seed_below(rnd, KEY_TYPES - 1)));
	sketch_params_default(&w->params, &w->task);
	w->params.cms_width = 8u << seed_below(rnd, 6);
	w->params.cms_depth = 1 + seed_below(rnd, 5);
	w->params.cms_plain = seed_below(rnd, 2);
	w->params.exact_cap = 1 + seed_below(rnd, 120);
	w->params.topk_slots = 8u << seed_below(rnd, 5);
	w->params.hll_p = 4 + seed_below(rnd, 6);
	w->n_hosts = 1 + seed_below(rnd, WORLD_HOSTS);
	w->n_keys = 1 + seed_below(rnd, 100);
	w->n_absent = 8;
	w->n_events = seed_below(rnd, 300);
	world_alloc(w);
	for (uint32_t i = 0; i < w->n_events; i++) {
		uint32_t a = seed_below(rnd, w->n_keys);

		if (seed_below(rnd, spread) == 0)
			slot += seed_below(rnd, 8) ? 1 : seed_below(rnd, 30);
		w->ev[i] = (struct event){
			.key = seed_below(rnd, a + 1),
			.host = seed_below(rnd, w->n_hosts),
			.weight = random_weight(rnd, MAX(mode, 0)),
			.slot = slot,
		};
	}
	world_count(w);
	w->end_slot = slot - MIN(slot, seed_below(rnd, 7));
}

/* What one reader answers for its part of the world. */
static inline struct part *answer(struct arena *a, const struct world *w,
				  enum sketch_kind k, uint32_t host,
				  const struct sketch_params *params,
				  uint64_t secret)
{
	void *mem = arena_sketch(a, k, params, secret);
	bool saturated = false;
	struct part *p = NULL;
	struct mallinfo2 before = mallinfo2();
	struct totals tot;
	int ret = -1;

	world_feed(w, mem, host, &tot, &saturated);
	assert_int_equal(mallinfo2().uordblks, before.uordblks);
	assert_int_equal(
		sketch_image_check(k, mem, sketch_image_len(mem), params), 0);
	switch (k) {
	case SKETCH_CMS:
		ret = part_points(&w->task, mem, NULL, w->keys,
				  w->n_keys + w->n_absent, &p);
		break;
	case SKETCH_EXACT:
		ret = part_exact(&w->task, mem, w->end_slot, &p);
		break;
	case SKETCH_TOPK:
		ret = part_topk(&w->task, mem, 0, 5, &p);
		break;
	default:
		ret = part_hll(&w->task, mem, &p);
	}
	assert_int_equal(ret, 0);
	p->params = *params;
	p->totals = tot;
	p->saturated |= saturated;
	return p;
}

#endif
