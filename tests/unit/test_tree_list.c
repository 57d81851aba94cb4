/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A list of all hosts: who of them is expected, and by whom. */
#include "common/util.h"
#include "tree_world.h"

static struct world *listed(unsigned n, unsigned roots)
{
	struct world *w = world_new(n, &world_static, 3);

	world_roots(w, roots);
	for (unsigned i = 0; i < n; i++)
		w->node[i].conf.fanout = 2;
	return w;
}

/* The first line never came: the next candidate expects it, and all others. */
static void test_second_root(void **state)
{
	struct world *w = listed(8, 2);

	(void)state;
	for (unsigned i = 1; i < 5; i++)
		world_start(w, i);
	world_run(w, 30000);
	assert_int_equal(world_root(w), 1);
	assert_int_equal(tree_expected(w->node[1].tree), 8);
	world_free(w);
}

static bool is_above(const struct world *w, unsigned a, unsigned i)
{
	for (int p = world_parent(w, i); p >= 0;
	     p = world_parent(w, (unsigned)p))
		if ((unsigned)p == a)
			return true;
	return false;
}

/*
 * Who has another place than the list's goes back there, but not where its
 * place by the list is below it by now: it would look for one for ever.  It
 * goes below the root, so that the other can go home.
 */
static void home_is_below(unsigned roots, uint64_t seeds)
{
	for (uint64_t seed = 0; seed < seeds; seed++) {
		struct world *w = world_new(7, &world_static, seed);
		uint64_t joins;

		world_roots(w, roots);
		for (unsigned i = 0; i < 7; i++)
			w->node[i].conf.fanout = 2;
		world_start_all(w);
		world_run(w, 30000);
		for (unsigned k = 0; k < 2 * roots; k++) {
			unsigned i = ((unsigned)(seed >> k) + k) % roots;

			if (w->node[i].state == NODE_ON)
				world_kill(w, i);
			else
				world_start(w, i);
			world_run(w, (seed * 1301 + k * 3571) % 15000);
		}
		for (unsigned i = 0; i < roots; i++)
			if (w->node[i].state != NODE_ON)
				world_start(w, i);
		world_run(w, 120000);
		for (unsigned i = 1; i < 7; i++)
			if (is_above(w, i, (i - 1) / 2))
				assert_true(world_depth(w, i) <= 1);
		joins = w->sent[TREE_JOIN];
		world_run(w, 120000);
		assert_int_equal(w->sent[TREE_JOIN], joins);
		world_free(w);
	}
}

static void test_home_is_below(void **state)
{
	(void)state;
	home_is_below(3, 40);
	home_is_below(5, 40);
}

/* Who left is not expected by the next root, though it is listed. */
static void test_left_for_next(void **state)
{
	struct world *w = listed(7, 2);

	(void)state;
	world_start_all(w);
	must_settle(w, 60000);
	tree_drain(w->node[6].tree);
	world_run(w, 15000);
	assert_true(w->node[6].drained);
	assert_int_equal(tree_expected(w->node[0].tree), 6);
	world_kill(w, 6);
	world_kill(w, 0);
	world_run(w, 20000);
	assert_int_equal(world_root(w), 1);
	assert_int_equal(tree_expected(w->node[1].tree), 6);
	world_free(w);
}

/* Neither who never came is forgotten, nor who is gone for long. */
static void test_never_forgotten(void **state)
{
	struct world *w = listed(7, 1);

	(void)state;
	for (unsigned i = 0; i < 7; i++)
		w->node[i].conf.forget_ms = 60000;
	for (unsigned i = 0; i < 6; i++)
		world_start(w, i);
	world_run(w, 30000);
	world_kill(w, 5);
	world_kill(w, 1);
	world_run(w, 150000);
	assert_int_equal(tree_expected(w->node[0].tree), 7);
	world_free(w);
}

/*
 * Who is asked below the root expects its own lines; but not those that are
 * below another for a while, or have left.
 */
static void test_inner(void **state)
{
	struct world *w = listed(15, 1);

	(void)state;
	for (unsigned i = 0; i < 13; i++)
		world_start(w, i);
	world_run(w, 40000);
	for (unsigned i = 0; i < 13; i++)
		assert_int_equal(world_parent(w, i), i ? (int)(i - 1) / 2 : -1);
	/* 13 and 14 are below 6, which is below 2 */
	assert_int_equal(tree_expected(w->node[6].tree), 3);
	assert_int_equal(tree_expected(w->node[2].tree), 7);
	assert_int_equal(tree_expected(w->node[1].tree), 7);
	assert_int_equal(tree_expected(w->node[5].tree), 3);
	assert_int_equal(tree_expected(w->node[0].tree), 15);
	world_start(w, 13);
	world_run(w, 40000);
	assert_int_equal(tree_expected(w->node[2].tree), 7);
	assert_int_equal(tree_expected(w->node[0].tree), 15);
	world_kill(w, 6);
	world_run(w, 8000);
	assert_int_not_equal(world_parent(w, 13), 6);
	world_start(w, 6);
	world_run(w, 60000);
	assert_int_equal(world_parent(w, 13), 6);
	/* now it was seen */
	assert_int_equal(tree_expected(w->node[6].tree), 3);
	tree_drain(w->node[13].tree);
	world_run(w, 15000);
	assert_true(w->node[13].drained);
	world_kill(w, 13);
	world_run(w, 15000);
	assert_int_equal(tree_expected(w->node[6].tree), 2);
	assert_int_equal(tree_expected(w->node[0].tree), 14);
	world_start(w, 14);
	world_run(w, 40000);
	assert_int_equal(tree_expected(w->node[6].tree), 2);
	assert_int_equal(tree_expected(w->node[0].tree), 14);
	must_settle(w, 1000);
	world_free(w);
}

/* One of the list is granted a place, and is lost before it takes it. */
static void test_granted_in_vain(void **state)
{
	struct world *w = listed(7, 1);
	struct tree_msg m;

	(void)state;
	for (unsigned i = 0; i < 6; i++)
		world_start(w, i);
	world_run(w, 40000);
	assert_int_equal(tree_expected(w->node[0].tree), 7);
	world_climb(w, 2, 6, &m);
	assert_int_equal(world_ask(w, 2, 0, &m, NULL), TREE_OK);
	assert_int_equal(tree_expected(w->node[0].tree), 7);
	world_run(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 7);
	world_start(w, 6);
	must_settle(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 7);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_second_root),
		cmocka_unit_test(test_home_is_below),
		cmocka_unit_test(test_left_for_next),
		cmocka_unit_test(test_never_forgotten),
		cmocka_unit_test(test_inner),
		cmocka_unit_test(test_granted_in_vain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
