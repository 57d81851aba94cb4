// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The property test that every kind of sketch passes: a row per kind.  Random
 * worlds with small tables, so that every border is crossed; the truth beside.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>

#include "common/sketch/ops.h"
#include "tests/unit/sketch_case.h"

#define CASES     10000
#define HOSTS_MAX 3

static uint64_t rnd;
static struct arena arena;

/* Checks a part over all hosts against the truth. */
typedef void check_fn(const struct world *w, const struct part *p);

static void check_points(const struct world *w, const struct part *p)
{
	assert_int_equal(p->points.n, w->n_keys + w->n_absent);
	for (uint32_t i = 0; i < p->points.n; i++) {
		const struct interval *v = &p->points.v[i];

		assert_true(v->upper >= w->truth[i]);
		assert_true(v->lower <= v->upper && v->lower99 <= v->upper);
		assert_true(v->lower <= v->point && v->point <= v->upper);
		assert_true(!v->saturated || v->upper == UINT64_MAX);
	}
}

static const struct topk_row *topk_find(const struct part *p,
					const struct flow_key *k)
{
	for (uint32_t i = 0; i < p->topk.n; i++)
		if (sketch_key_compare(&p->topk.row[i].key, k) == 0)
			return &p->topk.row[i];
	return NULL;
}

static void check_intervals(const struct world *w, const struct part *p)
{
	for (uint32_t i = 0; i < w->n_keys + w->n_absent; i++) {
		const struct topk_row *r = topk_find(p, &w->keys[i]);

		if (r) {
			assert_true(r->err <= r->upper);
			assert_true(r->err <= p->topk.floor);
			assert_true(r->upper >= w->truth[i]);
			assert_true(r->upper - r->err <= w->truth[i]);
		} else {
			assert_true(w->truth[i] <= p->topk.floor);
		}
	}
}

/* floor <= 2 (N - S) / c, whatever was merged in whatever order. */
static void check_topk(const struct world *w, const struct part *p)
{
	__extension__ typedef __int128 wide;
	wide sum = 0, c = w->params.topk_slots / 8 * 7;

	check_intervals(w, p);
	if (p->saturated)
		return;
	for (uint32_t i = 0; i < p->topk.n; i++)
		sum += (wide)p->topk.row[i].upper - p->topk.floor;
	assert_true(p->topk.floor * c <= 2 * (p->totals.weight - sum));
}

static void check_exact(const struct world *w, const struct part *p)
{
	uint64_t *f = calloc(w->n_keys, sizeof(*f)), total = 0, sum = 0;

	assert_non_null(f);
	for (uint32_t i = 0; i < w->n_events; i++) {
		const struct event *e = &w->ev[i];

		if (e->slot > w->end_slot || e->slot + 10 <= w->end_slot)
			continue;
		f[e->key] += e->weight;
		total += e->weight;
	}
	for (uint32_t i = 0; i < p->exact.n; i++) {
		const struct exact_row *r = &p->exact.row[i];
		uint32_t k = 0;

		while (sketch_key_compare(&w->keys[k], &r->key) != 0)
			assert_true(++k < w->n_keys);
		assert_true(r->value > 0);
		if (!p->saturated) {
			assert_true(r->value <= f[k]);
			assert_true(r->value + p->exact.spilled >= f[k]);
		}
		sum += r->value;
	}
	if (!p->saturated)
		assert_int_equal(sum + p->exact.spilled, total);
	if (w->n_keys <= w->params.exact_cap) {
		assert_int_equal(p->exact.spilled, 0);
		assert_int_equal(p->exact.evicted, 0);
	}
	free(f);
}

static void check_hll(const struct world *w, const struct part *p)
{
	struct distinct d;
	uint32_t n = 0;
	uint8_t *seen = calloc(w->n_keys, 1);

	assert_non_null(seen);
	for (uint32_t i = 0; i < w->n_events; i++) {
		n += !seen[w->ev[i].key];
		seen[w->ev[i].key] = 1;
	}
	free(seen);
	hll_read(p, &d);
	assert_int_equal(d.exact, n <= 1u << w->params.hll_p >> 3);
	if (d.exact)
		assert_true(d.estimate == n && d.lower == n && d.upper == n);
	assert_true(d.lower <= d.estimate && d.estimate <= d.upper);
}

static const struct row {
	enum part_kind part;
	/* Is merge(split(stream)) the sketch of the stream, byte for byte? */
	bool split_equal;
	bool idempotent;
	/* The most keys for which merging is a law of bytes. */
	size_t cap_offset;
	check_fn *check;
} rows[] = {
	[SKETCH_CMS] = { .part = PART_POINTS,
			 .cap_offset = SIZE_MAX,
			 .check = check_points },
	[SKETCH_EXACT] = { .part = PART_EXACT,
			   .split_equal = true,
			   .cap_offset =
				   offsetof(struct sketch_params, exact_cap),
			   .check = check_exact },
	[SKETCH_TOPK] = { .part = PART_TOPK,
			  .cap_offset =
				  offsetof(struct sketch_params, topk_slots),
			  .check = check_topk },
	[SKETCH_HLL] = { .part = PART_HLL,
			 .split_equal = true,
			 .idempotent = true,
			 .cap_offset = SIZE_MAX,
			 .check = check_hll },
};

static bool below_cap(const struct world *w, const struct row *r)
{
	uint32_t cap = UINT32_MAX;

	if (r->cap_offset != SIZE_MAX)
		memcpy(&cap, (const char *)&w->params + r->cap_offset, 4);
	return w->n_keys <= cap;
}

static uint64_t random_weight(int mode)
{
	switch (mode) {
	case 0:
		return 1;
	case 1:
		return 1 + seed_below(&rnd, 1500);
	case 2:
		return seed_below(&rnd, 3);
	default:
		return seed_below(&rnd, 8) ? 1 : 1ull << 63;
	}
}

static void world_random(struct world *w)
{
	int mode = (int)seed_below(&rnd, 10) - 6;
	uint64_t slot = 1000 * seed_below(&rnd, 2);
	uint32_t spread = seed_below(&rnd, 2) ? 2 : 40;

	*w = (struct world){ 0 };
	w->task = case_task(
		&rnd, (enum key_type)(1 + seed_below(&rnd, KEY_TYPES - 1)));
	sketch_params_default(&w->params, &w->task);
	w->params.cms_width = 8u << seed_below(&rnd, 6);
	w->params.cms_depth = 1 + seed_below(&rnd, 5);
	w->params.cms_plain = seed_below(&rnd, 2);
	w->params.exact_cap = 1 + seed_below(&rnd, 120);
	w->params.topk_slots = 8u << seed_below(&rnd, 5);
	w->params.hll_p = 4 + seed_below(&rnd, 6);
	w->n_hosts = 1 + seed_below(&rnd, HOSTS_MAX);
	w->n_keys = 1 + seed_below(&rnd, 100);
	w->n_absent = 8;
	w->n_events = seed_below(&rnd, 300);
	world_alloc(w);
	for (uint32_t i = 0; i < w->n_events; i++) {
		uint32_t a = seed_below(&rnd, w->n_keys);

		if (seed_below(&rnd, spread) == 0)
			slot++;
		w->ev[i] = (struct event){
			.key = seed_below(&rnd, a + 1),
			.host = seed_below(&rnd, w->n_hosts),
			.weight = random_weight(MAX(mode, 0)),
			.slot = slot,
		};
	}
	world_count(w);
	w->end_slot = slot - MIN(slot, seed_below(&rnd, 7));
}

/* What one reader answers for its part of the world. */
static struct part *answer(const struct world *w, enum sketch_kind k,
			   uint32_t host, const struct sketch_params *params,
			   uint64_t secret)
{
	void *mem = arena_sketch(&arena, k, params, secret);
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

static struct part *merged(const struct task_spec *t, const struct part *a,
			   const struct part *b)
{
	struct part *p = part_copy(a, t);

	assert_int_equal(part_merge(p, b), 0);
	return p;
}

static void assert_merge_equal(struct part *a, struct part *b)
{
	assert_true(part_equal(a, b));
	part_free(a);
	part_free(b);
}

/* Commutative, associative, an empty part is neutral, idempotent. */
static void laws(const struct world *w, const struct row *r, struct part **h)
{
	const struct task_spec *t = &w->task;
	struct part *ab = merged(t, h[0], h[1]), *bc = merged(t, h[1], h[2]);
	struct part *none = part_new(r->part, t), *p;

	none->params = w->params;
	if (below_cap(w, r)) {
		assert_merge_equal(merged(t, h[0], h[1]),
				   merged(t, h[1], h[0]));
		assert_merge_equal(merged(t, ab, h[2]), merged(t, h[0], bc));
	}
	assert_merge_equal(merged(t, none, h[0]), part_copy(h[0], t));
	assert_merge_equal(merged(t, h[0], none), part_copy(h[0], t));
	if (r->idempotent) {
		p = merged(t, ab, h[0]);
		p->totals = ab->totals;
		p->saturated = ab->saturated;
		assert_merge_equal(p, part_copy(ab, t));
	}
	part_free(none);
	part_free(ab);
	part_free(bc);
}

static void one_case(enum sketch_kind k)
{
	const struct row *r = &rows[k];
	struct part *h[HOSTS_MAX], *whole, *again, *sum;
	struct world w;

	world_random(&w);
	whole = answer(&w, k, ALL_HOSTS, &w.params, 1);
	r->check(&w, whole);
	/* the secret of the process shows nowhere */
	again = answer(&w, k, ALL_HOSTS, &w.params, seed_next(&rnd));
	assert_true(part_equal(whole, again));
	for (uint32_t i = 0; i < HOSTS_MAX; i++)
		h[i] = answer(&w, k, i, &w.params, i);
	laws(&w, r, h);
	sum = part_copy(h[0], &w.task);
	for (uint32_t i = 1; i < HOSTS_MAX; i++)
		assert_int_equal(part_merge(sum, h[i]), 0);
	r->check(&w, sum);
	if (r->split_equal && below_cap(&w, r) && !whole->saturated)
		assert_true(part_equal(sum, whole));
	for (uint32_t i = 0; i < HOSTS_MAX; i++)
		part_free(h[i]);
	part_free(whole);
	part_free(again);
	part_free(sum);
	world_fini(&w);
}

static void test_properties(void **state)
{
	enum sketch_kind k = *(enum sketch_kind *)*state;

	for (int i = 0; i < CASES; i++)
		one_case(k);
}

/* truth <= sum of local estimates <= estimate of the summed arrays. */
static void test_sum_law(void **state)
{
	static uint64_t sum[1 << 16];

	(void)state;
	for (int i = 0; i < CASES / 4; i++) {
		struct part *p[HOSTS_MAX], *all = NULL;
		struct world w;
		uint64_t *img = NULL;
		size_t n = 0;

		world_random(&w);
		memset(sum, 0, sizeof(sum));
		for (uint32_t h = 0; h < HOSTS_MAX; h++) {
			bool over = false;

			p[h] = answer(&w, SKETCH_CMS, h, &w.params, 7);
			img = (void *)(arena.base + arena.len - 4096 -
				       sketch_size(SKETCH_CMS, &w.params));
			n = sketch_image_len(img) / 8;
			for (size_t c = 8; c < n; c++)
				sum[c] = u64_add_sat(sum[c], img[c], &over);
		}
		memcpy(img + 8, sum + 8, (n - 8) * 8);
		assert_int_equal(part_points(&w.task, img, NULL, w.keys,
					     w.n_keys + w.n_absent, &all),
				 0);
		assert_int_equal(part_merge(p[0], p[1]), 0);
		assert_int_equal(part_merge(p[0], p[2]), 0);
		check_points(&w, p[0]);
		for (uint32_t x = 0; x < all->points.n; x++)
			assert_true(p[0]->points.v[x].upper <=
				    all->points.v[x].upper);
		part_free(all);
		for (uint32_t h = 0; h < HOSTS_MAX; h++)
			part_free(p[h]);
		world_fini(&w);
	}
}

/* Points of cms and topk together are no wider than of either. */
static void test_narrowing(void **state)
{
	struct arena other;

	(void)state;
	arena_init(&other, 1 << 20);
	for (int i = 0; i < CASES / 4; i++) {
		struct part *cms, *topk, *both;
		struct world w;
		bool over = false;
		struct totals tot;
		void *a, *b;

		world_random(&w);
		a = arena_sketch(&arena, SKETCH_CMS, &w.params, 1);
		b = arena_sketch(&other, SKETCH_TOPK, &w.params, 1);
		world_feed(&w, a, ALL_HOSTS, &tot, &over);
		world_feed(&w, b, ALL_HOSTS, &tot, &over);
		assert_int_equal(part_points(&w.task, a, NULL, w.keys,
					     w.n_keys + 8, &cms),
				 0);
		assert_int_equal(part_points(&w.task, NULL, b, w.keys,
					     w.n_keys + 8, &topk),
				 0);
		assert_int_equal(part_points(&w.task, a, b, w.keys,
					     w.n_keys + 8, &both),
				 0);
		check_points(&w, topk);
		check_points(&w, both);
		for (uint32_t k = 0; k < both->points.n; k++) {
			const struct interval *v = &both->points.v[k];
			const struct interval *t = &topk->points.v[k];

			assert_true(v->upper ==
				    MIN(cms->points.v[k].upper, t->upper));
			assert_true(t->lower <= w.truth[k]);
			assert_true(v->lower >= MIN(t->lower, v->upper));
		}
		part_free(cms);
		part_free(topk);
		part_free(both);
		world_fini(&w);
	}
	arena_fini(&other);
}

/* Any t, any cap: intervals stay true. */
static void test_truncate(void **state)
{
	(void)state;
	for (int i = 0; i < CASES; i++) {
		struct part *p, *q;
		struct world w;

		world_random(&w);
		p = answer(&w, SKETCH_TOPK, ALL_HOSTS, &w.params, 1);
		q = part_copy(p, &w.task);
		topk_truncate(p, seed_below(&rnd, 200));
		check_intervals(&w, p);
		topk_cap(p, seed_below(&rnd, 12));
		check_intervals(&w, p);
		topk_cap(q, seed_below(&rnd, 12));
		check_intervals(&w, q);
		part_free(p);
		part_free(q);
		world_fini(&w);
	}
}

static void refuse(const struct world *w, const struct part *p,
		   const struct part *in, enum merge_refusal want)
{
	struct part *acc = part_copy(p, &w->task);

	assert_int_equal(part_merge(acc, in), want);
	assert_true(part_equal(acc, p));
	part_free(acc);
}

static void test_refusal(void **state)
{
	enum sketch_kind k = *(enum sketch_kind *)*state;
	struct part *p, *q;
	struct world w;

	do {
		world_random(&w);
		if (w.n_events < 100)
			world_fini(&w);
	} while (w.n_events < 100);
	p = answer(&w, k, ALL_HOSTS, &w.params, 1);
	q = part_copy(p, &w.task);
	q->task++;
	refuse(&w, p, q, MERGE_TASK);
	q->task--;
	q->generation++;
	refuse(&w, p, q, MERGE_GENERATION);
	q->generation--;
	q->fp++;
	refuse(&w, p, q, MERGE_SEED);
	q->fp--;
	q->params.key = q->params.key == KEY_SRC ? KEY_DST : KEY_SRC;
	refuse(&w, p, q, MERGE_KEY);
	q->params.key = p->params.key;
	q->params.increment = INC_BYTE;
	refuse(&w, p, q, MERGE_INCREMENT);
	q->params.increment = INC_PKT;
	q->params.window_ms++;
	refuse(&w, p, q, MERGE_WINDOW);
	q->params.window_ms--;
	if (k == SKETCH_EXACT) {
		q->end_slot++;
		refuse(&w, p, q, MERGE_WINDOW);
		q->end_slot--;
		q->params.exact_cap++;
		refuse(&w, p, q, MERGE_PARAMS);
	}
	if (k == SKETCH_TOPK) {
		q->params.topk_slots *= 2;
		refuse(&w, p, q, MERGE_PARAMS);
	}
	if (k == SKETCH_CMS) {
		q->points.n--;
		refuse(&w, p, q, MERGE_PARAMS);
	}
	part_free(q);
	q = part_new(PART_TOTALS, &w.task);
	refuse(&w, p, q, MERGE_KIND);
	part_free(q);
	part_free(p);
	world_fini(&w);
}

/* What was accepted is what it says: the same columns come out again. */
static bool try_decode(const struct world *w, const struct part *p,
		       const struct columns *c)
{
	struct part *q = part_blank(p, &w->task);
	int ret = part_decode(q, c);

	if (ret == 0) {
		struct columns again;
		struct part *acc = part_copy(p, &w->task);

		assert_int_equal(part_encode(q, &again), 0);
		assert_true(columns_equal(c, &again));
		columns_free(&again);
		if (part_merge(acc, q) == 0)
			part_free(part_copy(acc, &w->task));
		part_free(acc);
	} else {
		assert_int_equal(ret, -EINVAL);
		assert_int_equal(q->topk.n, 0);
		assert_null(q->topk.row);
	}
	part_free(q);
	return ret == 0;
}

static void truncate_all(const struct world *w, const struct part *p,
			 struct columns *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		size_t len = c->col[i].len;
		const char *name = c->col[i].name;

		for (c->col[i].len = 0; c->col[i].len < len; c->col[i].len++)
			try_decode(w, p, c);
		c->col[i].name = "unknown";
		if (strcmp(name, "sat") != 0) {
			struct part *q = part_blank(p, &w->task);

			assert_int_equal(part_decode(q, c), -EINVAL);
			part_free(q);
		}
		c->col[i].name = name;
	}
}

/* All truncations of columns, and flips of single bits. */
static void test_codec(void **state)
{
	enum sketch_kind k = *(enum sketch_kind *)*state;
	uint32_t accepted = 0;

	for (int i = 0; i < 200; i++) {
		struct columns c;
		struct world w;
		struct part *p;

		world_random(&w);
		p = answer(&w, k, ALL_HOSTS, &w.params, 1);
		assert_int_equal(part_encode(p, &c), 0);
		if (i < 20)
			truncate_all(&w, p, &c);
		for (int flip = 0; flip < 500; flip++) {
			uint32_t x = seed_below(&rnd, c.n), bit, at;

			if (c.col[x].type == COLUMN_U64) {
				bit = seed_below(&rnd, 64);
				c.col[x].u64 ^= 1ull << bit;
				accepted += try_decode(&w, p, &c);
				c.col[x].u64 ^= 1ull << bit;
			} else if (c.col[x].len > 0) {
				at = seed_below(&rnd, (uint32_t)c.col[x].len);
				bit = seed_below(&rnd, 8);
				c.col[x].bytes[at] ^= (uint8_t)(1u << bit);
				accepted += try_decode(&w, p, &c);
				c.col[x].bytes[at] ^= (uint8_t)(1u << bit);
			}
		}
		columns_free(&c);
		part_free(p);
		world_fini(&w);
	}
	assert_true(accepted > 0);
}

/* Cells at their end: never lower again, and the flag is set. */
static void test_saturation(void **state)
{
	enum sketch_kind k = *(enum sketch_kind *)*state;
	static const uint64_t weights[] = { UINT32_MAX - 1, 1, 1,
					    1ull << 63,     0, 1ull << 63 };
	struct world w = { .n_events = 6, .n_keys = 1, .end_slot = 9 };
	struct part *p;

	w.task = case_task(&rnd, KEY_FLOW);
	sketch_params_default(&w.params, &w.task);
	world_alloc(&w);
	for (uint32_t i = 0; i < 6; i++)
		w.ev[i] = (struct event){ .weight = weights[i], .slot = 9 };
	world_count(&w);
	p = answer(&w, k, ALL_HOSTS, &w.params, 1);
	assert_true(p->saturated);
	if (k == SKETCH_CMS)
		assert_true(p->points.v[0].saturated &&
			    p->points.v[0].upper == UINT64_MAX);
	if (k == SKETCH_TOPK)
		assert_true(p->topk.row[0].upper == UINT64_MAX);
	if (k == SKETCH_EXACT)
		assert_true(p->exact.row[0].value == UINT32_MAX);
	part_free(p);
	world_fini(&w);
}

static int setup(void **state)
{
	(void)state;
	rnd = seed_start();
	arena_init(&arena, 16 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

static enum sketch_kind kinds[] = { SKETCH_CMS, SKETCH_EXACT, SKETCH_TOPK,
				    SKETCH_HLL };

#define PER_KIND(test)                                                      \
	{ #test " cms", test, NULL, NULL, &kinds[SKETCH_CMS] },             \
		{ #test " exact", test, NULL, NULL, &kinds[SKETCH_EXACT] }, \
		{ #test " topk", test, NULL, NULL, &kinds[SKETCH_TOPK] },   \
	{                                                                   \
#		test " hll", test, NULL, NULL, &kinds[SKETCH_HLL]          \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PER_KIND(test_properties),
		PER_KIND(test_refusal),
		PER_KIND(test_codec),
		PER_KIND(test_saturation),
		cmocka_unit_test(test_sum_law),
		cmocka_unit_test(test_narrowing),
		cmocka_unit_test(test_truncate),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
