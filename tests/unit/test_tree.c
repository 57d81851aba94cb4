/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Joining: depth, limits, what is refused, late and forged grants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tree_world.h"

static void must_be_whole(struct world *w, uint64_t limit_ms)
{
	if (world_until(w, world_whole, NULL, limit_ms) == UINT64_MAX) {
		world_print(w);
		fail_msg("not whole");
	}
}

static unsigned deepest(const struct world *w)
{
	unsigned d = 0, k;

	for (unsigned i = 0; i < w->n; i++) {
		k = world_depth(w, i);
		d = k > d ? k : d;
	}
	return d;
}

/* ---- joining by descent ---- */

static void join_to(unsigned n, unsigned fanout, unsigned best)
{
	struct world *w = world_new(n, &world_join, n + fanout);

	world_roots(w, 1);
	for (unsigned i = 0; i < n; i++)
		w->node[i].conf.fanout = fanout;
	for (unsigned i = 0; i < n; i++) {
		world_start(w, i);
		world_run(w, 20);
	}
	must_be_whole(w, 20000);
	assert_true(deepest(w) <= best + 1);
	world_free(w);
}

static void test_join_by_descent(void **state)
{
	(void)state;
	join_to(2, 2, 1);
	join_to(7, 2, 2);
	join_to(15, 2, 3);
	join_to(17, 16, 1);
	join_to(18, 16, 2);
	join_to(80, 16, 2);
}

static void test_all_at_once(void **state)
{
	struct world *w = world_new(100, &world_join, 5);

	(void)state;
	world_roots(w, 1);
	world_start_all(w);
	must_be_whole(w, 20000);
	assert_true(deepest(w) <= 3);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_join_by_descent),
		cmocka_unit_test(test_all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
