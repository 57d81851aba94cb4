/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers that a root keeps: found again, the oldest gone first, of one reign. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/kept.h"

static struct answer_request request_of(uint64_t window)
{
	return (struct answer_request){ .kind = ASK_TOTALS,
					.task = { .id = 7, .window_ms = 1000 },
					.window = window };
}

static void keep(struct kept *k, uint64_t window)
{
	struct answer_request rq = request_of(window);
	struct answer an = { .kind = rq.kind,
			     .task = rq.task,
			     .window = window,
			     .part = part_new(PART_TOTALS, &rq.task) };

	assert_non_null(an.part);
	kept_take(k, &rq, &an);
	part_free(an.part); /* that was not taken */
}

static uint64_t found(struct kept *k, uint64_t window)
{
	struct answer_request rq = request_of(window);
	const struct answer *an = kept_find(k, &rq);

	return an ? an->window : 0;
}

static void test_same_reign(void **state)
{
	struct kept *k;

	(void)state;
	assert_int_equal(kept_open(&k), 0);
	kept_reign(k, 3);
	keep(k, 41);
	keep(k, 42);
	kept_reign(k, 3);
	assert_int_equal(found(k, 41), 41);
	assert_int_equal(found(k, 42), 42);
	assert_int_equal(found(k, 43), 0);
	kept_free(k);
}

static void test_no_root_keeps(void **state)
{
	struct kept *k;

	(void)state;
	assert_int_equal(kept_open(&k), 0);
	keep(k, 41);
	assert_int_equal(found(k, 41), 0);
	kept_free(k);
}

static void test_another_reign(void **state)
{
	struct kept *k;

	(void)state;
	assert_int_equal(kept_open(&k), 0);
	for (uint64_t next = 0; next <= 4; next += 4) {
		kept_reign(k, 3);
		keep(k, 41);
		assert_int_equal(found(k, 41), 41);
		kept_reign(k, next);
		assert_int_equal(found(k, 41), 0);
	}
	kept_free(k);
}

static void test_oldest_goes(void **state)
{
	struct kept *k;

	(void)state;
	assert_int_equal(kept_open(&k), 0);
	kept_reign(k, 1);
	for (uint64_t w = 1; w <= 1024; w++)
		keep(k, w);
	assert_int_equal(found(k, 1), 1); /* used: 2 is the oldest now */
	keep(k, 1025);
	assert_int_equal(found(k, 2), 0);
	assert_int_equal(found(k, 1), 1);
	assert_int_equal(found(k, 1025), 1025);
	kept_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_reign),
		cmocka_unit_test(test_no_root_keeps),
		cmocka_unit_test(test_another_reign),
		cmocka_unit_test(test_oldest_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
