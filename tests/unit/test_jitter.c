/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interarrival jitter against values worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/jitter.h"

/* Sent every 160 units; transit 10, 10, 26, 10: |D| = 0, 16, 16. */
static void test_by_hand(void **state)
{
	static const uint64_t sent[] = { 0, 160, 320, 480 };
	static const uint64_t transit[] = { 10, 10, 26, 10 };
	static const double want[] = { 0, 0, 1, 1.9375 };
	struct jitter j = { 0 };

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		jitter_add(&j, i, sent[i], 1000000 + sent[i] + transit[i]);
		assert_true(j.ns == want[i]);
	}
	assert_int_equal(j.received, 4);
	assert_int_equal(j.reordered, 0);
}

/* The difference of the clocks does not matter, an old number is noticed. */
static void test_order(void **state)
{
	struct jitter j = { 0 };

	(void)state;
	jitter_add(&j, 0, 5000000000, 10);
	jitter_add(&j, 2, 5000000200, 210);
	jitter_add(&j, 1, 5000000100, 310);
	assert_true(j.ns == 200.0 / 16);
	assert_int_equal(j.received, 3);
	assert_int_equal(j.reordered, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
