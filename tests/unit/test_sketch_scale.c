// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sketches at their real size: exactness, overload, memory, noise, keys chosen
 * by an adversary, and the bytes of a fixed stream.
 */
#include <math.h>
#include <stdio.h>

#include "tests/unit/case_main.h"

static void world_setup(struct world *w, enum key_type k, uint32_t n_keys,
			uint32_t n_events)
{
	*w = (struct world){ .n_keys = n_keys,
			     .n_events = n_events,
			     .end_slot = 1009 };
	w->task = case_task(&rnd, k);
	sketch_params_default(&w->params, &w->task);
	world_alloc(w);
}

static int compare_row(const void *a, const void *b)
{
	const struct exact_row *x = a, *y = b;

	return memcmp(&x->key, &y->key, sizeof(x->key));
}

/* 10^6 packets of 60,000 keys in one second: the table is the ledger. */
static void test_ledger(void **state)
{
	static const enum key_type types[] = { KEY_SRC, KEY_FLOW };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct totals tot;
		bool over = false;
		struct part *p;
		struct world w;
		void *mem;

		world_setup(&w, types[i], 60000, 1000000);
		for (uint32_t e = 0; e < w.n_events; e++)
			w.ev[e] = (struct event){
				.key = e < w.n_keys
					       ? e
					       : seed_below(&rnd, w.n_keys),
				.weight = 1 + seed_below(&rnd, 1500),
				.slot = 1000 + e / 100000,
			};
		world_count(&w);
		mem = arena_sketch(&arena, SKETCH_EXACT, &w.params, 5);
		world_feed(&w, mem, ALL_HOSTS, &tot, &over);
		assert_int_equal(part_exact(&w.task, mem, 1009, &p), 0);
		assert_int_equal(p->exact.n, w.n_keys);
		assert_int_equal(p->exact.spilled + p->exact.evicted, 0);
		for (uint32_t k = 0; k < w.n_keys; k++) {
			struct exact_row want = { .key = w.keys[k] };
			struct exact_row *r;

			r = bsearch(&want, p->exact.row, p->exact.n,
				    sizeof(want), compare_row);
			assert_non_null(r);
			assert_int_equal(r->value, w.truth[k]);
		}
		part_free(p);
		world_fini(&w);
	}
}

/* 10^6 keys: memory at the cap, nothing lost, heavy keys still seen. */
static void test_overload(void **state)
{
	uint64_t sum = 0;
	struct sketch_item quiet = { .weight = 1, .slot = 1030 };
	struct totals tot;
	bool over = false;
	struct part *p;
	struct world w;
	void *mem;

	(void)state;
	world_setup(&w, KEY_SRC, 1000010, 1200000);
	for (uint32_t e = 0; e < w.n_events; e++)
		w.ev[e] = (struct event){ .key = e % 6 == 0 ? e / 6 % 10
							    : 10 + e * 5 / 6,
					  .weight = 1,
					  .slot = 1000 + e / 120000 };
	world_count(&w);
	mem = arena_sketch(&arena, SKETCH_EXACT, &w.params, 5);
	world_feed(&w, mem, ALL_HOSTS, &tot, &over);
	assert_int_equal(sketch_image_len(mem),
			 384 + 65536 * (size_t)(16 + 8 + 64));
	assert_int_equal(part_exact(&w.task, mem, 1009, &p), 0);
	for (uint32_t i = 0; i < p->exact.n; i++)
		sum += p->exact.row[i].value;
	assert_int_equal(sum + p->exact.spilled, tot.weight);
	assert_true(p->exact.evicted >= 900000);
	assert_int_equal(p->exact.n, 65536);
	part_free(p);
	/* a window that the ring does not hold any more, and one it does */
	assert_int_equal(part_exact(&w.task, mem, 1002, &p), EXACT_TOO_OLD);
	assert_int_equal(part_exact(&w.task, mem, 1003, &p), EXACT_OK);
	part_free(p);
	/* two quiet seconds later no key is left out any more */
	sketch_update(mem, &quiet);
	assert_int_equal(part_exact(&w.task, mem, 1030, &p), 0);
	assert_int_equal(p->exact.n, 1);
	assert_int_equal(p->exact.evicted + p->exact.spilled, 0);
	part_free(p);

	mem = arena_sketch(&arena, SKETCH_TOPK, &w.params, 5);
	world_feed(&w, mem, ALL_HOSTS, &tot, &over);
	assert_int_equal(part_topk(&w.task, mem, tot.weight / 100, 0, &p), 0);
	assert_int_equal(p->topk.n, 10);
	assert_true(p->topk.floor <= 2 * tot.weight / 7168);
	for (uint32_t i = 0; i < 10; i++)
		assert_true(p->topk.row[i].upper >= 20000);
	part_free(p);
	world_fini(&w);
}

/* A head older than its entries: their ring decides what is too old. */
static void test_late_entries(void **state)
{
	struct task_spec t = case_task(&rnd, KEY_SRC);
	struct sketch_item it = { .weight = 1, .slot = 1000 };
	struct sketch_params params;
	uint8_t head[384];
	struct part *p;
	void *mem;

	(void)state;
	sketch_params_default(&params, &t);
	mem = arena_sketch(&arena, SKETCH_EXACT, &params, 5);
	sketch_update(mem, &it);
	memcpy(head, mem, sizeof(head));
	it.slot = 1010;
	sketch_update(mem, &it);
	memcpy(mem, head, sizeof(head));
	assert_int_equal(part_exact(&t, mem, 1003, &p), EXACT_TOO_OLD);
	assert_int_equal(part_exact(&t, mem, 1004, &p), 0);
	assert_int_equal(p->exact.n, 1);
	assert_int_equal(p->exact.row[0].value, 1);
	part_free(p);
}

static size_t resident(const void *mem, size_t len)
{
	static unsigned char page[4096];
	size_t n = 0;

	assert_true(len <= sizeof(page) * 4096);
	assert_int_equal(mincore((void *)(uintptr_t)mem, len, page), 0);
	for (size_t i = 0; i < (len + 4095) / 4096; i++)
		n += page[i] & 1;
	return n;
}

/* A sketch without keys costs a page for its head and one for its secret. */
static void test_untouched(void **state)
{
	struct hash_key local = { { 1 } };
	struct task_spec t = case_task(&rnd, KEY_FLOW);
	struct sketch_params params;

	(void)state;
	sketch_params_default(&params, &t);
	for (int k = 0; k < SKETCH_KINDS; k++) {
		size_t len = sketch_size((enum sketch_kind)k, &params);
		void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		assert_true(mem != MAP_FAILED);
		madvise(mem, len, MADV_NOHUGEPAGE);
		sketch_init((enum sketch_kind)k, mem, &params, &local);
		assert_true(resident(mem, len) <= 2);
		munmap(mem, len);
	}
}

/* Least k with P(more than k of n) < 10^-6. */
static int binomial_limit(int n, double p)
{
	double tail = 1;

	for (int k = 0; k <= n; k++) {
		tail -= exp(lgamma(n + 1.0) - lgamma(k + 1.0) -
			    lgamma(n - k + 1.0) + k * log(p) +
			    (n - k) * log1p(-p));
		if (tail < 1e-6)
			return k;
	}
	return n;
}

/* Lower bounds of the cms hold as often as they say. */
static void test_confidence(void **state)
{
	int runs = 1000, low = 0, low99 = 0;

	(void)state;
	for (int i = 0; i < runs; i++) {
		struct totals tot;
		bool over = false;
		struct world w;
		struct part *p;
		uint32_t k;
		void *mem;

		world_setup(&w, KEY_SRC, 600, 3000);
		w.params.cms_width = 256;
		w.params.cms_plain = i % 2;
		for (uint32_t e = 0; e < w.n_events; e++) {
			uint32_t a = seed_below(&rnd, w.n_keys);

			a = seed_below(&rnd, a + 1);
			w.ev[e] =
				(struct event){ .key = seed_below(&rnd, a + 1),
						.weight = 1 };
		}
		world_count(&w);
		mem = arena_sketch(&arena, SKETCH_CMS, &w.params, 5);
		world_feed(&w, mem, ALL_HOSTS, &tot, &over);
		k = seed_below(&rnd, w.n_keys);
		assert_int_equal(
			part_points(&w.task, mem, NULL, &w.keys[k], 1, &p), 0);
		low += p->points.v[0].lower > w.truth[k];
		low99 += p->points.v[0].lower99 > w.truth[k];
		part_free(p);
		world_fini(&w);
	}
	assert_true(low <= binomial_limit(runs, exp(-4)));
	assert_true(low99 <= binomial_limit(runs, 0.02));
}

/*
 * Keys built to fall on the same cells and registers under a wrong seed do not
 * under the right one.  The bound of the cms: e/w N for 98 % of the keys.
 */
static void test_adversary(void **state)
{
	uint32_t n = 65536, above = 0;
	struct hash_key wrong;
	struct totals tot;
	bool over = false;
	struct distinct d;
	struct world w;
	struct part *p;
	void *mem;

	(void)state;
	world_setup(&w, KEY_SRC, n, n);
	wrong = w.task.seed;
	wrong.b[0] ^= 1;
	for (uint64_t i = 0, k = 0; k < n; i++) {
		struct flow_key key = { .w = { i, 0 - i } };

		if (hash_domain(&wrong, key.w, 16, HASH_KEY) & 0x3f)
			continue;
		w.keys[k] = key;
		w.hash[k] = hash_domain(&w.task.seed, key.w, 16, HASH_KEY);
		w.ev[k] = (struct event){ .key = (uint32_t)k, .weight = 1 };
		k++;
	}
	world_count(&w);
	mem = arena_sketch(&arena, SKETCH_CMS, &w.params, 5);
	world_feed(&w, mem, ALL_HOSTS, &tot, &over);
	assert_int_equal(part_points(&w.task, mem, NULL, w.keys, n, &p), 0);
	for (uint32_t i = 0; i < n; i++)
		above += p->points.v[i].upper - 1 >
			 2 * cms_error_max(&w.params, n);
	assert_true(above <= n / 50);
	part_free(p);
	mem = arena_sketch(&arena, SKETCH_HLL, &w.params, 5);
	world_feed(&w, mem, ALL_HOSTS, &tot, &over);
	assert_int_equal(part_hll(&w.task, mem, &p), 0);
	hll_read(p, &d);
	assert_true(fabs(d.point / n - 1) <= 5 * 1.04 / 64);
	part_free(p);
	world_fini(&w);
}

/* Every row of the cms is hit evenly by consecutive addresses and ports. */
static void test_rows_even(void **state)
{
	enum {
		WIDTH = 1024,
		DEPTH = 4,
		KEYS = 100 * WIDTH
	};
	struct sketch_params params;
	struct task_spec t = case_task(&rnd, KEY_DST_DPORT);
	const uint64_t *cell;
	void *mem;

	(void)state;
	sketch_params_default(&params, &t);
	params.cms_width = WIDTH;
	params.cms_depth = DEPTH;
	params.cms_plain = true;
	mem = arena_sketch(&arena, SKETCH_CMS, &params, 5);
	for (uint32_t i = 0; i < KEYS; i++) {
		uint8_t raw[18] = { [10] = 0xff,
				    [11] = 0xff,
				    [12] = 10,
				    [14] = (uint8_t)(i >> 12),
				    [15] = (uint8_t)(i >> 4),
				    [16] = 0x1f,
				    [17] = (uint8_t)(i & 15) };
		struct sketch_item it = { .weight = 1 };

		memcpy(it.key.w, raw, sizeof(raw));
		it.hash = hash_domain(&t.seed, raw, sizeof(raw), HASH_KEY);
		sketch_update(mem, &it);
	}
	cell = (const uint64_t *)mem + 8;
	for (int r = 0; r < DEPTH; r++) {
		double chi = 0;

		for (int i = 0; i < WIDTH; i++) {
			double diff = (double)cell[r * WIDTH + i] -
				      (double)KEYS / WIDTH;

			chi += diff * diff / ((double)KEYS / WIDTH);
		}
		/* mean w - 1, variance 2 (w - 1): six deviations */
		assert_true(fabs(chi - WIDTH) < 6 * sqrt(2 * WIDTH));
	}
}

static uint64_t digest(const struct part *p)
{
	struct hash_key k = { { 0 } };
	struct columns c;
	uint64_t h = 0;

	assert_int_equal(part_encode(p, &c), 0);
	for (uint32_t i = 0; i < c.n; i++) {
		h = h * 31 + c.col[i].u64;
		if (c.col[i].type == COLUMN_BYTES)
			h = h * 31 +
			    siphash13(&k, c.col[i].bytes, c.col[i].len);
	}
	columns_free(&c);
	return h;
}

/* A fixed stream gives these bytes with every compiler and optimisation. */
static void test_golden(void **state)
{
	static const uint64_t golden[] = {
		[SKETCH_CMS] = 0xabc2f0c4ae1f3b58,
		[SKETCH_EXACT] = 0xb4a6dd515385885d,
		[SKETCH_TOPK] = 0x1c53ddda9dae2a47,
		[SKETCH_HLL] = 0x0e09b0a31b0adf74,
	};
	uint64_t got[SKETCH_KINDS], keep = rnd;
	struct part *p[SKETCH_KINDS];
	struct totals tot;
	bool over = false;
	struct world w;
	void *mem;

	(void)state;
	rnd = 42;
	world_setup(&w, KEY_FLOW, 20000, 100000);
	w.params.exact_cap = 4096;
	for (uint32_t e = 0; e < w.n_events; e++)
		w.ev[e] = (struct event){
			.key = seed_below(&rnd, 1 + seed_below(&rnd, 20000)),
			.weight = 1 + seed_below(&rnd, 1500),
			.slot = 1000 + e / 3000,
		};
	mem = arena_sketch(&arena, SKETCH_CMS, &w.params, 5);
	world_feed(&w, mem, ALL_HOSTS, &tot, &over);
	assert_int_equal(part_points(&w.task, mem, NULL, w.keys, w.n_keys,
				     &p[SKETCH_CMS]),
			 0);
	mem = arena_sketch(&arena, SKETCH_EXACT, &w.params, 5);
	world_feed(&w, mem, ALL_HOSTS, &tot, &over);
	assert_int_equal(part_exact(&w.task, mem, 1030, &p[SKETCH_EXACT]), 0);
	mem = arena_sketch(&arena, SKETCH_TOPK, &w.params, 5);
	world_feed(&w, mem, ALL_HOSTS, &tot, &over);
	assert_int_equal(part_topk(&w.task, mem, 9000, 9999, &p[SKETCH_TOPK]),
			 0);
	mem = arena_sketch(&arena, SKETCH_HLL, &w.params, 5);
	world_feed(&w, mem, ALL_HOSTS, &tot, &over);
	assert_int_equal(part_hll(&w.task, mem, &p[SKETCH_HLL]), 0);
	for (int k = 0; k < SKETCH_KINDS; k++) {
		got[k] = digest(p[k]);
		printf("%s 0x%016" PRIx64 "\n",
		       sketch_name((enum sketch_kind)k), got[k]);
		part_free(p[k]);
	}
	assert_memory_equal(got, golden, sizeof(got));
	world_fini(&w);
	rnd = keep;
}

/* Images that are none: cut, longer, of another kind or shape. */
static void test_image_check(void **state)
{
	struct task_spec t = case_task(&rnd, KEY_SRC);
	struct sketch_params params, other;
	uint64_t *img = calloc(1, 1 << 20);
	struct sketch_item it = { .weight = 1 };

	(void)state;
	assert_non_null(img);
	sketch_params_default(&params, &t);
	other = params;
	other.key = KEY_DST;
	for (int k = 0; k < SKETCH_KINDS; k++) {
		enum sketch_kind kind = (enum sketch_kind)k, next;
		void *mem = arena_sketch(&arena, kind, &params, 5);
		size_t len;

		for (it.hash = 1; it.hash < 100; it.hash++) {
			it.key.w[0] = it.hash;
			sketch_update(mem, &it);
		}
		len = sketch_image_len(mem);
		memcpy(img, mem, len);
		next = (enum sketch_kind)((k + 1) % SKETCH_KINDS);
		assert_int_equal(sketch_image_check(kind, img, len, &params),
				 0);
		for (size_t n = 0; n < len; n += 1 + n / 64)
			assert_true(sketch_image_check(kind, img, n, &params) <
				    0);
		assert_true(sketch_image_check(kind, img, len + 8, &params) <
			    0);
		assert_true(sketch_image_check(next, img, len, &params) < 0);
		assert_true(sketch_image_check(kind, img, len, &other) < 0);
	}
	free(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ledger),
		cmocka_unit_test(test_overload),
		cmocka_unit_test(test_late_entries),
		cmocka_unit_test(test_untouched),
		cmocka_unit_test(test_confidence),
		cmocka_unit_test(test_adversary),
		cmocka_unit_test(test_rows_even),
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_image_check),
	};

	return case_run(tests);
}
