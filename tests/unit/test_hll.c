// SPDX-License-Identifier: GPL-2.0-or-later
/* HyperLogLog: series, registers, folding, error of the estimate. */
#include <math.h>
#include <stdio.h>

#include "common/sketch/hllreg.h"
#include "tests/unit/case_main.h"

/* From the definitions, with 60 digits. */
static void test_series(void **state)
{
	static const struct {
		double x, sigma, tau;
	} cases[] = {
		{ 0.001, 0.0010010000019999999, 0.10342567504918242 },
		{ 0.25, 0.32037353701889515, 0.19996474793204405 },
		{ 0.5, 0.8907470740377903, 0.1499294958640881 },
		{ 0.75, 2.4275524879308095, 0.07988094143733783 },
		{ 0.9, 6.8136919586338989, 0.032829956807498666 },
		{ 0.99, 71.769436223441474, 0.0033285458646365013 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(fabs(hllreg_sigma(cases[i].x) / cases[i].sigma -
				 1) < 1e-13);
		assert_true(fabs(hllreg_tau(cases[i].x) / cases[i].tau - 1) <
			    1e-13);
	}
	assert_true(hllreg_sigma(0) == 0);
	assert_true(isinf(hllreg_sigma(1)));
	assert_true(hllreg_tau(0) == 0 && hllreg_tau(1) == 0);
}

/* Register and value straight from the definition. */
static void test_insert(void **state)
{
	(void)state;
	for (int i = 0; i < 100000; i++) {
		uint32_t p = HLL_P_MIN + seed_below(&rnd, 13), rho = 1;
		uint64_t h = seed_next(&rnd) >> seed_below(&rnd, 65) % 64;
		static uint8_t reg[1 << HLL_P_MAX];

		for (int b = (int)(63 - p); b >= 0 && !(h >> b & 1); b--)
			rho++;
		reg[h >> (64 - p)] = 0;
		hllreg_insert(reg, p, h);
		assert_int_equal(reg[h >> (64 - p)], rho);
		assert_true(rho <= hllreg_max(p));
	}
}

/* A fold is the sketch built at the smaller p. */
static void test_fold(void **state)
{
	static uint8_t big[1 << 10], small[1 << 10], folded[1 << 10];

	(void)state;
	for (int i = 0; i < 2000; i++) {
		uint32_t p = HLL_P_MIN + seed_below(&rnd, 7);
		uint32_t to = HLL_P_MIN + seed_below(&rnd, p - HLL_P_MIN + 1);

		memset(big, 0, sizeof(big));
		memset(small, 0, sizeof(small));
		memset(folded, 0, sizeof(folded));
		for (uint32_t n = seed_below(&rnd, 300); n > 0; n--) {
			uint64_t h = seed_next(&rnd) >> seed_below(&rnd, 20);

			hllreg_insert(big, p, h);
			hllreg_insert(small, to, h);
		}
		hllreg_fold(folded, to, big, p);
		assert_memory_equal(folded, small, sizeof(small));
	}
}

static void test_ends(void **state)
{
	static uint8_t reg[1 << 12];
	struct task_spec t = case_task(&rnd, KEY_SRC);
	struct part *p = part_new(PART_HLL, &t);
	struct distinct d;

	(void)state;
	hll_read(p, &d);
	assert_true(d.exact && d.estimate == 0 && d.upper == 0);
	assert_true(hllreg_estimate(reg, 12) == 0);
	memset(reg, hllreg_max(12), sizeof(reg));
	assert_true(isinf(hllreg_estimate(reg, 12)));
	p->hll.reg = malloc(sizeof(reg));
	assert_non_null(p->hll.reg);
	memcpy(p->hll.reg, reg, sizeof(reg));
	hll_read(p, &d);
	assert_true(d.saturated && !d.exact);
	part_free(p);
}

/* Any registers, ends included: the closed formula, term by term. */
static void test_formula(void **state)
{
	(void)state;
	for (int run = 0; run < 2000; run++) {
		uint32_t p = HLL_P_MIN + seed_below(&rnd, 4), n = 1u << p;
		uint32_t low = seed_below(&rnd, 62 - p);
		double c0 = 0, cq = 0, sum = 0, m = n, e;
		uint8_t reg[128];

		for (uint32_t i = 0; i < n; i++) {
			reg[i] =
				(uint8_t)(low + seed_below(&rnd, 66 - p - low));
			c0 += reg[i] == 0;
			cq += reg[i] == hllreg_max(p);
			if (reg[i] > 0 && reg[i] < hllreg_max(p))
				sum += ldexp(1, -reg[i]);
		}
		sum += ldexp(m * hllreg_tau(1 - cq / m), -(int)(64 - p));
		sum += m * hllreg_sigma(c0 / m);
		e = m * m / (2 * log(2)) / sum;
		if (cq < m && c0 < m)
			assert_true(fabs(hllreg_estimate(reg, p) / e - 1) <
				    1e-12);
	}
}

/*
 * Within 6 standard errors, those of the logarithm: what is estimated is a
 * scale, which at 64 registers is far from normal otherwise.  Of a few, 4 may
 * have met in one of 64 registers, and 3 in one of more.  Not so: one sketch of
 * millions.
 */
static bool is_near(double estimate, uint32_t n, uint32_t p)
{
	double rse = 1.04 / sqrt((double)hllreg_count(p));

	return fabs(estimate - n) <= (p == 6 ? 4 : 3) ||
	       fabs(log(estimate / n)) <= 6 * rse;
}

/* n = 1 … 10^7 in one sketch: near all the way. */
static void test_error(void **state)
{
	static const uint32_t ps[] = { 6, 10, 12, 14 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ps); i++) {
		uint8_t *reg = calloc(1, hllreg_count(ps[i]));
		uint32_t top = ps[i] == 12 ? 10000000 : 1000000, next = 1;

		assert_non_null(reg);
		for (uint32_t n = 1; n <= top; n++) {
			hllreg_insert(reg, ps[i], seed_next(&rnd));
			if (n != next)
				continue;
			next = next * 5 / 4 + 1;
			assert_true(
				is_near(hllreg_estimate(reg, ps[i]), n, ps[i]));
		}
		free(reg);
	}
}

/* The 95 % interval holds in 400 runs as often as it says (tail 10^-6). */
static void test_interval(void **state)
{
	struct task_spec t = case_task(&rnd, KEY_SRC);
	double square = 0;
	int missed = 0;

	(void)state;
	for (int run = 0; run < 400; run++) {
		struct part *p = part_new(PART_HLL, &t);
		uint32_t n = 600 + seed_below(&rnd, 60000);
		struct distinct d;

		p->hll.reg = calloc(1, 1 << 12);
		assert_non_null(p->hll.reg);
		for (uint32_t i = 0; i < n; i++)
			hllreg_insert(p->hll.reg, 12, seed_next(&rnd));
		hll_read(p, &d);
		missed += n < d.lower || n > d.upper;
		square += (d.point / n - 1) * (d.point / n - 1);
		part_free(p);
	}
	assert_true(missed <= 45);
	assert_true(sqrt(square / 400) <= 1.2 * 1.04 / 64);
}

static struct part *feed(const struct task_spec *t, uint32_t hll_p,
			 const uint64_t *hash, uint32_t n)
{
	struct sketch_params params;
	struct part *p;
	void *mem;

	sketch_params_default(&params, t);
	params.hll_p = hll_p;
	mem = arena_sketch(&arena, SKETCH_HLL, &params, 1);
	for (uint32_t i = 0; i < n; i++) {
		struct sketch_item it = { .hash = hash[i] };

		sketch_update(mem, &it);
	}
	assert_int_equal(sketch_image_check(SKETCH_HLL, mem,
					    sketch_image_len(mem), &params),
			 0);
	assert_int_equal(part_hll(t, mem, &p), 0);
	return p;
}

/* Small, dense, of any p, in any order: the state of the smallest p. */
static void test_merge_forms(void **state)
{
	struct task_spec t = case_task(&rnd, KEY_SRC);
	static uint64_t hash[3000];

	(void)state;
	for (int run = 0; run < 300; run++) {
		uint32_t n = seed_below(&rnd, 3000), a, b, p[3];
		struct part *x, *y, *z, *all, *other;

		a = seed_below(&rnd, n + 1);
		b = a + seed_below(&rnd, n - a + 1);
		for (uint32_t i = 0; i < n; i++)
			hash[i] = seed_next(&rnd);
		for (int i = 0; i < 3; i++)
			p[i] = 8 + seed_below(&rnd, 6);
		x = feed(&t, p[0], hash, a);
		y = feed(&t, p[1], hash + a, b - a);
		z = feed(&t, p[2], hash + b, n - b);
		all = feed(&t, MIN(p[0], MIN(p[1], p[2])), hash, n);
		other = part_copy(z, &t);
		assert_int_equal(part_merge(other, x), 0);
		assert_int_equal(part_merge(other, y), 0);
		assert_int_equal(part_merge(x, y), 0);
		assert_int_equal(part_merge(x, z), 0);
		assert_int_equal(x->params.hll_p, all->params.hll_p);
		assert_true(part_equal(x, all));
		assert_true(part_equal(other, all));
		part_free(x);
		part_free(y);
		part_free(z);
		part_free(all);
		part_free(other);
	}
}

/* From the keys of an exact part: those that have something. */
static void test_from_exact(void **state)
{
	struct task_spec t = case_task(&rnd, KEY_DST_DPORT);
	struct part *e = part_new(PART_EXACT, &t), *p;
	struct distinct d;

	(void)state;
	e->exact.row = calloc(700, sizeof(*e->exact.row));
	assert_non_null(e->exact.row);
	e->end_slot = 77;
	e->n_slots = 10;
	for (e->exact.n = 0; e->exact.n < 700; e->exact.n++) {
		e->exact.row[e->exact.n].key =
			case_key(KEY_DST_DPORT, e->exact.n);
		e->exact.row[e->exact.n].value = e->exact.n % 7;
	}
	assert_int_equal(part_hll_from_exact(&t, e, &p), 0);
	hll_read(p, &d);
	assert_false(d.exact);
	assert_true(d.lower <= d.estimate && d.estimate <= d.upper);
	assert_true(is_near(d.point, 600, p->params.hll_p));
	assert_int_equal(p->end_slot, 77);
	part_free(p);
	e->exact.n = 70;
	assert_int_equal(part_hll_from_exact(&t, e, &p), 0);
	hll_read(p, &d);
	assert_true(d.exact && d.estimate == 60);
	part_free(p);
	part_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_series),
		cmocka_unit_test(test_insert),
		cmocka_unit_test(test_fold),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_formula),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_interval),
		cmocka_unit_test(test_merge_forms),
		cmocka_unit_test(test_from_exact),
	};

	return case_run(tests);
}
