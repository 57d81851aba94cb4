// SPDX-License-Identifier: GPL-2.0-or-later
/* The key table against a list, with hashes that collide in every way. */
#include <stdio.h>

#include "common/sketch/ktable.h"
#include "tests/unit/case_main.h"

#define KEYS 64

struct model {
	uint32_t key[KEYS], n; /* in pool order */
	uint64_t value[KEYS];
};

static struct ktable *table_new(uint32_t cap, uint32_t words)
{
	struct hash_key local = { { 0 } };
	uint64_t k[2] = { seed_next(&rnd), seed_next(&rnd) };
	struct ktable *t = calloc(1, ktable_size(cap, words, 1));

	assert_non_null(t);
	memcpy(local.b, k, sizeof(k));
	ktable_init(t, cap, words, 1, &local);
	return t;
}

static void compare(struct ktable *t, const struct model *m, uint64_t mask)
{
	assert_int_equal(t->n, m->n);
	for (uint32_t i = 0; i < m->n; i++) {
		struct flow_key k = case_key(KEY_FLOW, m->key[i]), back;
		uint64_t *v = ktable_find(t, &k, k.w[0] & mask);

		assert_ptr_equal(v, ktable_entry(t, i) + t->key_words);
		assert_int_equal(*v, m->value[i]);
		ktable_key(t, ktable_read(t, i), &back);
		assert_memory_equal(&back, &k, sizeof(k));
	}
	for (uint32_t i = KEYS; i < KEYS + 20; i++) {
		struct flow_key k = case_key(KEY_FLOW, i);

		assert_null(ktable_find(t, &k, k.w[0] & mask));
	}
}

static void purge(struct ktable *t, struct model *m)
{
	uint64_t limit = seed_below(&rnd, 1000);
	uint32_t kept = 0;

	ktable_purge(t, limit);
	for (uint32_t i = 0; i < m->n; i++) {
		if (m->value[i] <= limit)
			continue;
		m->key[kept] = m->key[i];
		m->value[kept++] = m->value[i];
	}
	m->n = kept;
}

static void test_model(void **state)
{
	(void)state;
	for (int run = 0; run < 500; run++) {
		/* from one hash for all keys to all different */
		uint64_t mask = seed_below(&rnd, 2)
					? UINT64_MAX
					: (1ull << seed_below(&rnd, 6)) - 1;
		uint32_t cap = 1 + seed_below(&rnd, KEYS);
		struct ktable *t = table_new(cap, 5);
		struct model m = { .n = 0 };

		for (int op = 0; op < 300; op++) {
			uint32_t no = seed_below(&rnd, KEYS), i;
			struct flow_key k = case_key(KEY_FLOW, no);
			uint64_t *v = ktable_find(t, &k, k.w[0] & mask);

			if (seed_below(&rnd, 100) == 0) {
				purge(t, &m);
				continue;
			}
			if (v)
				continue;
			i = m.n < cap ? m.n : seed_below(&rnd, cap);
			v = i == m.n ? ktable_insert(t, &k, k.w[0] & mask)
				     : ktable_replace(t, i, &k, k.w[0] & mask);
			m.n += i == m.n;
			m.key[i] = no;
			m.value[i] = *v = seed_below(&rnd, 1000);
		}
		compare(t, &m, mask);
		free(t);
	}
}

/*
 * 65,536 keys chosen to collide under a wrong seed and under plain sums of
 * their words: nobody is far from home.
 */
static void test_adversary(void **state)
{
	struct task_spec t = case_task(&rnd, KEY_SRC_DST);
	struct hash_key wrong = t.seed;
	struct ktable *tab = table_new(65536, 4);

	(void)state;
	wrong.b[3] ^= 1;
	for (uint64_t i = 0; tab->n < 65536; i++) {
		struct flow_key k = { .w = { i, 0 - i, i << 32,
					     0 - (i << 32) } };
		uint64_t h;

		if (hash_domain(&wrong, k.w, 32, HASH_KEY) & 0x1f)
			continue;
		h = hash_domain(&t.seed, k.w, 32, HASH_KEY);
		*ktable_insert(tab, &k, h) = i;
	}
	assert_true(ktable_longest_probe(tab) <= 32);
	free(tab);
	/* even who knows the seed does not know the homes */
	tab = table_new(65536, 4);
	for (uint64_t i = 0; tab->n < 65536; i++) {
		struct flow_key k = { .w = { i } };
		uint64_t h = hash_domain(&t.seed, k.w, 32, HASH_KEY);

		if ((h >> 56 & 0x1f) == 0)
			*ktable_insert(tab, &k, h) = i;
	}
	assert_true(ktable_longest_probe(tab) <= 32);
	free(tab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_adversary),
	};

	return case_run(tests);
}
