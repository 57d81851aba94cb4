/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Beginning and end of a test of sketches: a seed that is printed, an arena,
 * what runs a table of tests.
 */
#ifndef LINNET_TEST_CASE_MAIN_H
#define LINNET_TEST_CASE_MAIN_H

#include "tests/unit/sketch_case.h"

static uint64_t rnd;
static struct arena arena;

static inline int case_setup(void **state)
{
	(void)state;
	rnd = seed_start();
	arena_init(&arena, 16 << 20);
	return 0;
}

static inline int case_teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

#define case_run(tests) cmocka_run_group_tests(tests, case_setup, case_teardown)

/* The tests of each kind of sketch get it as their state. */
static inline enum sketch_kind *case_kind(enum sketch_kind k)
{
	static enum sketch_kind kinds[SKETCH_KINDS];

	kinds[k] = k;
	return &kinds[k];
}

#define ON(test, k) cmocka_unit_test_prestate(test, case_kind(k))
#define ON_EACH(test)                                                        \
	ON(test, SKETCH_CMS), ON(test, SKETCH_EXACT), ON(test, SKETCH_TOPK), \
		ON(test, SKETCH_HLL)

#endif
