/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tasks: checks, increments, sums of totals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/features.h"
#include "common/sketch/sketch.h"
#include "common/task.h"
#include "common/util.h"

static void test_increments(void **state)
{
	static const struct {
		const char *text, *name;
		enum increment inc;
		uint64_t weight;
	} cases[] = {
		{ "pkt", "pkt", INC_PKT, 1 },
		{ "byte", "byte", INC_BYTE, 64000 },
		{ "bytes", "byte", INC_BYTE, 64000 },
		{ "segment", "segment", INC_SEGMENT, 44 },
	};
	static const char *const bad[] = { "",     "pk",    "pkts",    "PKT",
					   "bits", "bytez", "segments" };
	const struct packet p = { .len_bytes = 64000, .segments = 44 };
	enum increment inc = INC_SEGMENT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(increment_parse(bad[i], strlen(bad[i]), &inc),
				 -22);
	assert_int_equal(inc, INC_SEGMENT);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *s = cases[i].text;

		assert_int_equal(increment_parse(s, strlen(s), &inc), 0);
		assert_int_equal(inc, cases[i].inc);
		assert_string_equal(increment_name(inc), cases[i].name);
		assert_int_equal(increment_weight(inc, &p), cases[i].weight);
	}
}

static void test_valid(void **state)
{
	const struct task_spec good = { .id = 7,
					.generation = 1,
					.key = KEY_FLOW,
					.increment = INC_BYTE,
					.kinds = SKETCH_DEFAULT_KINDS };
	const struct task_spec plain = { .id = 1, .key = KEY_NONE };
	struct task_spec t = good;

	(void)state;
	assert_true(task_valid(&good));
	assert_true(task_valid(&plain));
#define REFUSED(from, change)                 \
	do {                                  \
		t = from;                     \
		t.change;                     \
		assert_false(task_valid(&t)); \
	} while (0)
	REFUSED(good, id = 0);
	REFUSED(good, key = KEY_TYPES);
	REFUSED(good, key = 255);
	REFUSED(good, key = KEY_NONE); /* with kinds */
	REFUSED(good, increment = INCREMENTS);
	REFUSED(good, reserved = 1);
	REFUSED(good, both = 1);
	REFUSED(good, semantics = FEATURES_PACKETS);
	REFUSED(good, records_log2 = 16);
	REFUSED(good, kinds = 1u << SKETCH_KINDS);
	REFUSED(good, kinds = UINT32_MAX);
	REFUSED(good, window_ms = 50);
	REFUSED(good, window_ms = 3600100);
	REFUSED(good, reserved2 = 1);
	REFUSED(good, reserved3 = 1);
	REFUSED(good, filter.dir = PACKET_DIRS);
	REFUSED(good, filter.reserved[0] = 1);
	REFUSED(plain, kinds = 1);
	REFUSED(plain, both = 1);
}

static const struct task_spec rows = {
	.id = 9,
	.increment = INC_SEGMENT,
	.both = 1,
	.semantics = FEATURES_PACKETS,
	.kinds = TASK_FEATURES,
	.window_ms = 60000,
};

static void test_valid_features(void **state)
{
	struct task_spec t = rows;

	(void)state;
	assert_true(task_valid(&rows));
	for (uint32_t s = 0; s <= 4000; s++) {
		t.window_ms = s * 1000;
		assert_int_equal(task_valid(&t),
				 s >= 10 && s <= 3600 && 86400 % s == 0);
	}
	REFUSED(rows, window_ms = 60001);
	REFUSED(rows, key = KEY_FLOW);
	REFUSED(rows, increment = INC_PKT);
	REFUSED(rows, kinds |= 1);
	REFUSED(rows, kinds <<= 1);
	REFUSED(rows, both = 2);
	REFUSED(rows, semantics = FEATURES_CSV);
	REFUSED(rows, semantics = FEATURES_SEMANTICS);
	REFUSED(rows, records_log2 = 7);
	REFUSED(rows, records_log2 = 17);
	REFUSED(rows, reserved = 1);
	REFUSED(rows, filter.dir = PACKET_DIRS);
#undef REFUSED
}

/* Replies go the other way, between the same ends. */
static void test_mirror(void **state)
{
	struct task_spec t = rows;
	struct filter f;

	(void)state;
	t.filter =
		(struct filter){ .dir = PACKET_IN, .proto = 6, .has_dst = 1 };
	assert_int_equal(prefix_parse("10.0.0.0/8", 10, &t.filter.dst), 0);
	assert_int_equal(filter_normalize(&t.filter), 0);
	f = task_mirror(&t);
	assert_true(filter_valid(&f));
	assert_int_equal(f.dir, PACKET_OUT);
	assert_int_equal(f.proto, 6);
	assert_true(f.has_src && !f.has_dst);
	assert_memory_equal(&f.src, &t.filter.dst, sizeof(f.src));
	t.filter = f;
	f = task_mirror(&t);
	assert_int_equal(f.dir, PACKET_IN);
	assert_true(!f.has_src && f.has_dst);
	assert_int_equal(task_dirs(&t), 3);
	t.both = 0;
	assert_int_equal(task_dirs(&t), 1 << PACKET_OUT);
}

/* Every byte of a task counts. */
static void test_equal(void **state)
{
	struct task_spec a = { .id = 7, .key = KEY_SRC }, b = a;

	(void)state;
	assert_true(task_equal(&a, &b));
	for (size_t i = 0; i < sizeof(b); i++) {
		((uint8_t *)&b)[i] ^= 1;
		assert_false(task_equal(&a, &b));
		((uint8_t *)&b)[i] ^= 1;
	}
}

static void test_totals(void **state)
{
	const size_t n = sizeof(struct totals) / 8;
	struct totals acc = { 0 }, in;
	uint64_t *word = (uint64_t *)&in, *sum = (uint64_t *)&acc;
	bool saturated = false;

	(void)state;
	for (size_t i = 0; i < n; i++)
		word[i] = i + 1;
	totals_add(&acc, &in, &saturated);
	totals_add(&acc, &in, &saturated);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(sum[i], 2 * (i + 1));
	assert_false(saturated);

	memset(&in, 0, sizeof(in));
	in.byte = UINT64_MAX - acc.byte;
	totals_add(&acc, &in, &saturated);
	assert_false(saturated);
	assert_true(acc.byte == UINT64_MAX);
	in.byte = 1;
	totals_add(&acc, &in, &saturated);
	assert_true(saturated);
	assert_true(acc.byte == UINT64_MAX);
	assert_int_equal(acc.pkt, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_increments),
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_valid_features),
		cmocka_unit_test(test_mirror),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_totals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
