// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The property test that every kind of sketch passes: a row per kind.  Random
 * worlds with small tables, so that every border is crossed; the truth beside.
 */
#include <errno.h>
#include <stdio.h>

#include "common/sketch/ops.h"
#include "tests/unit/case_main.h"

#define CASES 10000

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
	struct part *h[WORLD_HOSTS], *whole, *again, *sum;
	struct world w;

	world_random(&w, &rnd);
	whole = answer(&arena, &w, k, ALL_HOSTS, &w.params, 1);
	r->check(&w, whole);
	/* the secret of the process shows nowhere */
	again = answer(&arena, &w, k, ALL_HOSTS, &w.params, seed_next(&rnd));
	assert_true(part_equal(whole, again));
	for (uint32_t i = 0; i < WORLD_HOSTS; i++)
		h[i] = answer(&arena, &w, k, i, &w.params, i);
	laws(&w, r, h);
	sum = part_copy(h[0], &w.task);
	for (uint32_t i = 1; i < WORLD_HOSTS; i++)
		assert_int_equal(part_merge(sum, h[i]), 0);
	r->check(&w, sum);
	if (r->split_equal && below_cap(&w, r) && !whole->saturated)
		assert_true(part_equal(sum, whole));
	for (uint32_t i = 0; i < WORLD_HOSTS; i++)
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
		struct part *p[WORLD_HOSTS], *all = NULL;
		struct world w;
		uint64_t *img = NULL;
		size_t n = 0;

		world_random(&w, &rnd);
		memset(sum, 0, sizeof(sum));
		for (uint32_t h = 0; h < WORLD_HOSTS; h++) {
			bool over = false;

			p[h] = answer(&arena, &w, SKETCH_CMS, h, &w.params, 7);
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
		for (uint32_t h = 0; h < WORLD_HOSTS; h++)
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
		struct part *cms, *topk, *both, *list;
		struct world w;
		bool over = false;
		struct totals tot;
		void *a, *b;

		world_random(&w, &rnd);
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
		assert_int_equal(part_topk(&w.task, b, 0, 0, &list), 0);
		check_points(&w, topk);
		check_points(&w, both);
		for (uint32_t k = 0; k < both->points.n; k++) {
			const struct interval *v = &both->points.v[k];
			const struct interval *t = &topk->points.v[k];
			const struct topk_row *r = topk_find(list, &w.keys[k]);

			assert_true(t->upper ==
				    (r ? r->upper : list->topk.floor));
			assert_true(t->lower == (r ? r->upper - r->err : 0));
			assert_true(v->upper ==
				    MIN(cms->points.v[k].upper, t->upper));
			assert_true(t->lower <= w.truth[k]);
			assert_true(v->lower >= MIN(t->lower, v->upper));
		}
		part_free(cms);
		part_free(topk);
		part_free(both);
		part_free(list);
		world_fini(&w);
	}
	arena_fini(&other);
}

/* The cms was copied earlier: packets came before topk was. */
static void test_older_cms(void **state)
{
	struct arena other;

	(void)state;
	arena_init(&other, 1 << 20);
	for (int i = 0; i < CASES / 4; i++) {
		struct part *p, *copy;
		struct totals tot;
		struct world w;
		bool over = false;
		uint32_t n;
		void *a, *b;

		world_random(&w, &rnd);
		a = arena_sketch(&arena, SKETCH_CMS, &w.params, 1);
		b = arena_sketch(&other, SKETCH_TOPK, &w.params, 1);
		world_feed(&w, b, ALL_HOSTS, &tot, &over);
		n = w.n_events;
		w.n_events = n / 2;
		world_feed(&w, a, ALL_HOSTS, &tot, &over);
		w.n_events = n;
		assert_int_equal(
			part_points(&w.task, a, b, w.keys, w.n_keys, &p), 0);
		for (uint32_t k = 0; k < p->points.n; k++) {
			const struct interval *v = &p->points.v[k];

			assert_true(v->lower <= v->upper);
			assert_true(v->lower99 <= v->upper);
			assert_true(v->point <= v->upper);
		}
		copy = part_copy(p, &w.task);
		part_free(copy);
		part_free(p);
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

		world_random(&w, &rnd);
		p = answer(&arena, &w, SKETCH_TOPK, ALL_HOSTS, &w.params, 1);
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

/* The rest goes to spilled, whatever the cap. */
static void test_exact_cap(void **state)
{
	(void)state;
	for (int i = 0; i < CASES / 4; i++) {
		uint32_t cap = seed_below(&rnd, 12), n;
		struct part *p;
		struct world w;

		world_random(&w, &rnd);
		w.params.exact_cap = 128;
		p = answer(&arena, &w, SKETCH_EXACT, ALL_HOSTS, &w.params, 1);
		n = p->exact.n;
		exact_cap(p, cap);
		assert_int_equal(p->exact.n, MIN(n, cap));
		assert_int_equal(p->exact.evicted, n - p->exact.n);
		w.params.exact_cap = cap;
		check_exact(&w, p);
		part_free(p);
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
		world_random(&w, &rnd);
		if (w.n_events < 100)
			world_fini(&w);
	} while (w.n_events < 100);
	p = answer(&arena, &w, k, ALL_HOSTS, &w.params, 1);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(test_properties),
		ON_EACH(test_refusal),
		cmocka_unit_test(test_sum_law),
		cmocka_unit_test(test_narrowing),
		cmocka_unit_test(test_older_cms),
		cmocka_unit_test(test_truncate),
		cmocka_unit_test(test_exact_cap),
	};

	return case_run(tests);
}
