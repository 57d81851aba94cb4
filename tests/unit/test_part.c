// SPDX-License-Identifier: GPL-2.0-or-later
/* Parts as columns: there and back, hostile columns, cells at their end. */
#include <errno.h>
#include <stdio.h>

#include "tests/unit/case_main.h"

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

		world_random(&w, &rnd);
		p = answer(&arena, &w, k, ALL_HOSTS, &w.params, 1);
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

/* Encodes what no sketch holds; decode must not take it. */
static void assert_refused(const struct part *p, const struct task_spec *t)
{
	struct part *q = part_blank(p, t);
	struct columns c;

	assert_int_equal(part_encode(p, &c), 0);
	assert_int_equal(part_decode(q, &c), -EINVAL);
	columns_free(&c);
	part_free(q);
}

static void test_impossible(void **state)
{
	struct task_spec t = case_task(&rnd, KEY_SRC);
	struct topk_row row[] = { { .upper = 5, .err = 1 },
				  { .upper = 5, .err = 2 } };
	struct exact_row value[] = { { .value = 1 }, { .value = 2 } };
	struct interval v = { .upper = 5, .saturated = true };
	struct part *p = part_new(PART_TOPK, &t);

	(void)state;
	p->totals.weight = 100;
	row[1].key.w[0] = 1;
	p->topk.row = row;
	p->topk.n = 2;
	p->topk.floor = 9;
	part_free(part_copy(p, &t));
	row[0].err = 6; /* more than it has */
	assert_refused(p, &t);
	p->saturated = true; /* and no sum to compare with */
	assert_refused(p, &t);
	p->saturated = false;
	row[0].err = 1;
	p->topk.floor = 1; /* less than an error */
	assert_refused(p, &t);
	p->topk.floor = 9;
	p->totals.weight = 6; /* less than the sum of the rows */
	assert_refused(p, &t);
	p->totals.weight = 100;
	row[1].key.w[0] = 0; /* the same key twice */
	assert_refused(p, &t);
	p->kind = PART_EXACT;
	p->exact.row = value;
	p->exact.n = 2;
	p->exact.spilled = p->exact.evicted = 0;
	assert_refused(p, &t);
	value[1].key.w[0] = 1;
	part_free(part_copy(p, &t));
	value[0].value = 0;
	assert_refused(p, &t);
	p->kind = PART_POINTS;
	p->points.v = &v;
	p->points.n = 1; /* no upper bound, but one is named */
	assert_refused(p, &t);
	v.upper = UINT64_MAX;
	part_free(part_copy(p, &t));
	p->kind = PART_HLL;
	p->hll.n_small = 2;
	p->hll.reg = NULL;
	p->hll.small = (uint64_t[]){ 7, 7 };
	assert_refused(p, &t);
	p->params.hll_p = 4;
	p->hll.n_small = 0;
	p->hll.reg = (uint8_t[16]){ 61 };
	part_free(part_copy(p, &t));
	p->hll.reg[3] = 62;
	assert_refused(p, &t);
	free(p); /* the arrays are not its own */
}

/* Cells at their end: never lower again, and the flag is set. */
static void test_saturation(void **state)
{
	enum sketch_kind k = *(enum sketch_kind *)*state;
	static const uint64_t weights[] = { UINT32_MAX - 1, 1, 1,
					    1ull << 63,     0, 1ull << 63 };
	struct world w = { .n_events = 6, .n_keys = 1, .end_slot = 9 };
	struct part *p, *copy;

	w.task = case_task(&rnd, KEY_FLOW);
	sketch_params_default(&w.params, &w.task);
	world_alloc(&w);
	for (uint32_t i = 0; i < 6; i++)
		w.ev[i] = (struct event){ .weight = weights[i], .slot = 9 };
	world_count(&w);
	p = answer(&arena, &w, k, ALL_HOSTS, &w.params, 1);
	assert_true(p->saturated);
	copy = part_copy(p, &w.task);
	assert_true(copy->saturated);
	if (k == SKETCH_CMS)
		assert_true(copy->points.v[0].saturated &&
			    p->points.v[0].saturated &&
			    p->points.v[0].upper == UINT64_MAX);
	part_free(copy);
	if (k == SKETCH_TOPK)
		assert_true(p->topk.row[0].upper == UINT64_MAX);
	if (k == SKETCH_EXACT)
		assert_true(p->exact.row[0].value == UINT32_MAX);
	part_free(p);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(test_codec),
		ON_EACH(test_saturation),
		cmocka_unit_test(test_impossible),
	};

	return case_run(tests);
}
