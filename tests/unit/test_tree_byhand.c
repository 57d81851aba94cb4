/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Children that a client adds and removes: any order, crossing, in vain. */
#include <stdio.h>

#include "tree_world.h"

/* ---- moves that cross, by hand ---- */

/* 1 below 2 and 2 below 3, a child of 1: in two moves a cycle. */
static void test_t57_crossing(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		struct world *w = world_new(4, &world_manual, seed);

		world_start_all(w);
		assert_int_equal(world_add(w, 1, 3), TREE_OK);
		world_run(w, seed);
		tree_add(w->node[2].tree, &w->node[1].ep, 900, NULL, NULL);
		tree_add(w->node[3].tree, &w->node[2].ep, 900, NULL, NULL);
		/* nobody is ever in a cycle: the world looks after each event */
		world_run(w, 20000);
		assert_int_equal(world_roots_now(w), 2);
		world_free(w);
	}
}

static void test_s1_two_roots_invite(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		struct world *w = world_new(2, &world_manual, seed);

		world_start_all(w);
		tree_add(w->node[0].tree, &w->node[1].ep, 900, NULL, NULL);
		world_run(w, seed % 7);
		tree_add(w->node[1].tree, &w->node[0].ep, 900, NULL, NULL);
		world_run(w, 20000);
		assert_int_equal(world_roots_now(w), 1);
		assert_int_equal(tree_expected(w->node[world_root(w)].tree), 2);
		world_free(w);
	}
}

/* Members that move as they like: orphans of parents that remove them. */
static void test_t56_moves(void **state)
{
	for (uint64_t seed = 0; seed < 10; seed++) {
		struct world *w = world_grown(20, 2, 1, seed);

		(void)state;
		for (unsigned k = 0; k < 60; k++) {
			unsigned i = (unsigned)(seed * 7 + k * 13) % 19 + 1;
			int p = world_parent(w, i);

			if (p >= 0)
				(void)tree_remove(w->node[p].tree,
						  &w->node[i].ep, NULL);
			world_run(w, 200);
		}
		must_settle(w, 20000);
		assert_int_equal(tree_expected(w->node[0].tree), 20);
		world_free(w);
	}
}

/* ---- by hand ---- */

static void test_t57_by_hand(void **state)
{
	struct world *w = world_new(6, &world_manual, 1);
	uint32_t n;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		world_start(w, i);
	/* bottom-up */
	assert_int_equal(world_add(w, 1, 2), TREE_OK);
	assert_int_equal(world_add(w, 0, 1), TREE_OK);
	assert_int_equal(world_add(w, 2, 3), TREE_OK);
	/* again, itself, from above, with another parent, not running */
	assert_int_equal(world_add(w, 0, 1), TREE_OK);
	assert_int_equal(world_add(w, 0, 0), TREE_SELF);
	world_run(w, 4000);
	assert_int_equal(world_add(w, 3, 0), TREE_CYCLE);
	assert_int_equal(world_add(w, 4, 3), TREE_PARENT);
	assert_int_equal(tree_n_children(w->node[4].tree), 0);
	assert_int_equal(world_add(w, 3, 5), TREE_WAIT);
	world_run(w, 5000);
	(void)tree_rows(w->node[0].tree, &n);
	assert_int_equal(n, 5);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	world_start(w, 5);
	world_run(w, 16000);
	assert_int_equal(world_parent(w, 5), 3);
	assert_int_equal(world_depth(w, 5), 4);
	assert_true(tree_settled(w->node[0].tree));
	/* removed: a root again, and it stays one */
	assert_int_equal(tree_remove(w->node[0].tree, &w->node[1].ep, NULL), 0);
	world_run(w, 20000);
	assert_int_equal(world_parent(w, 1), -1);
	assert_int_equal(tree_expected(w->node[0].tree), 1);
	assert_int_equal(tree_expected(w->node[1].tree), 4);
	assert_int_equal(world_add(w, 0, 1), TREE_OK);
	world_run(w, 5000);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	world_free(w);
}

/* One below the other. */
static struct world *chain(unsigned n, uint64_t seed)
{
	struct world *w = world_new(n, &world_manual, seed);

	world_start_all(w);
	for (unsigned i = 0; i + 1 < n; i++)
		assert_int_equal(world_add(w, i, i + 1), TREE_OK);
	must_settle(w, 30000);
	return w;
}

/* By that agent, which says that it is the other. */
static enum tree_word invite_as(struct world *w, unsigned other, unsigned from,
				unsigned to)
{
	struct tree_msg m = { .kind = TREE_INVITE };

	m.u.invite.id = w->node[other].stored.id;
	m.u.invite.ep = w->node[from].ep;
	snprintf(m.u.invite.overlay, sizeof(m.u.invite.overlay), "%s",
		 w->node[to].conf.overlay);
	return world_ask(w, from, to, &m, NULL);
}

static enum tree_word invite(struct world *w, unsigned from, unsigned to)
{
	return invite_as(w, from, from, to);
}

/* As one does that has not heard yet who is above its parent. */
static void test_invited_from_below(void **state)
{
	struct world *w = world_new(5, &world_manual, 1);

	(void)state;
	world_start_all(w);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(world_add(w, i, i + 1), TREE_OK);
	world_run(w, 10000);
	assert_int_equal(invite(w, 3, 0), TREE_BUSY);
	assert_int_equal(invite_as(w, 3, 4, 0), TREE_DOUBLE);
	assert_true(tree_is_root(w->node[0].tree));
	/* behind one that is silent it may well be a root */
	world_kill(w, 1);
	world_run(w, 8000);
	assert_int_equal(world_parent(w, 2), -1);
	assert_int_equal(world_add(w, 3, 0), TREE_OK);
	world_run(w, 4000);
	assert_int_equal(world_parent(w, 0), 3);
	world_free(w);
}

/* It was below a moment ago: the one invited waits until it hears so. */
static void test_invited_by_removed(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 10; seed++) {
		struct world *w = chain(9, seed);

		assert_int_equal(
			tree_remove(w->node[7].tree, &w->node[8].ep, NULL), 0);
		while (world_parent(w, 8) != -1)
			world_run(w, 10);
		assert_int_equal(world_add(w, 8, 0), TREE_WAIT);
		world_run(w, 8000);
		assert_int_equal(world_parent(w, 0), 8);
		world_free(w);
	}
}

/* Who is above is known below at once, not after a second a level. */
static void test_path_travels(void **state)
{
	(void)state;
	for (unsigned top = 1; top < 7; top++) {
		struct world *w = world_new(8, &world_manual, top);
		struct node_id path[TREE_LEVELS];
		uint64_t since;

		world_start_all(w);
		for (unsigned i = 0; i < 7; i++)
			if (i + 1 != top)
				assert_int_equal(world_add(w, i, i + 1),
						 TREE_OK);
		world_run(w, 4000);
		assert_int_equal(world_add(w, top - 1, top), TREE_OK);
		since = w->now;
		while (tree_path(w->node[7].tree, path) < 7) {
			world_run(w, 1);
			assert_true(w->now - since <= 110 * (8 - top));
		}
		world_free(w);
	}
}

/* Also to one whose first beat is on its way when it happens. */
static void test_path_travels_to_newcomer(void **state)
{
	(void)state;
	for (unsigned ms = 0; ms < 40; ms++) {
		struct world *w = world_new(4, &world_manual, 1);
		struct node_id path[TREE_LEVELS];
		uint64_t since;

		world_start_all(w);
		assert_int_equal(world_add(w, 1, 2), TREE_OK);
		world_run(w, 4000);
		tree_add(w->node[0].tree, &w->node[1].ep, 900, NULL, NULL);
		world_run(w, ms);
		tree_add(w->node[2].tree, &w->node[3].ep, 900, NULL, NULL);
		while (world_parent(w, 1) != 0 || world_parent(w, 3) != 2)
			world_run(w, 1);
		since = w->now;
		while (tree_path(w->node[3].tree, path) < 3) {
			world_run(w, 1);
			assert_true(w->now - since <= 330);
		}
		world_free(w);
	}
}

/* News make nobody silent sooner: three beats in vain, the third at once. */
static void test_path_changes_above_silent(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct world *w = world_new(4, &world_manual, seed);
		struct tree_child c;
		uint64_t since;

		world_start_all(w);
		assert_int_equal(world_add(w, 0, 1), TREE_OK);
		assert_int_equal(world_add(w, 1, 2), TREE_OK);
		world_run(w, 4000);
		world_stop(w, 2);
		since = w->now;
		world_run(w, 50 * seed);
		tree_add(w->node[3].tree, &w->node[0].ep, 900, NULL, NULL);
		do {
			world_run(w, 10);
			tree_child_at(w->node[1].tree, 0, &c);
		} while (c.state != CHILD_DOWN);
		assert_in_range(w->now - since, 1900, 3100);
		world_free(w);
	}
}

/* A former parent that comes back far below is no place to go back to. */
static void test_home_is_below(void **state)
{
	struct world *w = world_new(3, &world_manual, 1);
	uint64_t joins;

	(void)state;
	world_start_all(w);
	assert_int_equal(world_add(w, 1, 0), TREE_OK);
	assert_int_equal(world_add(w, 0, 2), TREE_OK);
	world_run(w, 5000);
	world_kill(w, 1);
	world_run(w, 20000);
	assert_int_equal(world_parent(w, 0), -1);
	world_start(w, 1);
	assert_int_equal(world_add(w, 2, 1), TREE_OK);
	must_settle(w, 10000);
	joins = w->sent[TREE_JOIN];
	world_run(w, 60000);
	assert_int_equal(world_depth(w, 1), 2);
	assert_int_equal(w->sent[TREE_JOIN], joins);
	world_free(w);
}

/* A child that refused once and is added again: what it says now is told. */
static void test_added_again(void **state)
{
	struct world *w = world_new(3, &world_manual, 1);

	(void)state;
	world_start_all(w);
	assert_int_equal(world_add(w, 0, 2), TREE_OK);
	/* as of its configuration: it is kept, whatever the child says */
	tree_add(w->node[1].tree, &w->node[2].ep, 900, NULL, NULL);
	world_run(w, 3000);
	assert_int_equal(tree_n_children(w->node[1].tree), 1);
	assert_int_equal(world_add(w, 1, 2), TREE_PARENT);
	assert_int_equal(tree_n_children(w->node[1].tree), 1);
	assert_int_equal(world_parent(w, 2), 0);
	assert_int_equal(tree_remove(w->node[0].tree, &w->node[2].ep, NULL), 0);
	/* it finds out by the silence of its parent */
	for (unsigned i = 0; i < 20; i++) {
		enum tree_word word = world_add(w, 1, 2);

		assert_int_equal(word == TREE_OK, world_parent(w, 2) == 1);
		world_run(w, 200);
	}
	assert_int_equal(world_parent(w, 2), 1);
	world_free(w);
}

/* What is behind a stopped agent is missing until it is back. */
static void test_manual_parent_lost(void **state)
{
	struct world *w = world_new(3, &world_manual, 1);

	(void)state;
	world_start_all(w);
	assert_int_equal(world_add(w, 0, 1), TREE_OK);
	assert_int_equal(world_add(w, 1, 2), TREE_OK);
	world_run(w, 5000);
	world_kill(w, 1);
	world_run(w, 4000);
	/* it answers for itself, and goes back */
	assert_int_equal(world_parent(w, 2), -1);
	assert_int_equal(tree_expected(w->node[0].tree), 3);
	world_start(w, 1);
	/* its list has it still */
	tree_add(w->node[1].tree, &w->node[2].ep, 900, NULL, NULL);
	world_run(w, 12000);
	assert_int_equal(world_parent(w, 2), 1);
	assert_int_equal(world_parent(w, 1), 0);
	assert_int_equal(tree_expected(w->node[0].tree), 3);
	assert_true(tree_settled(w->node[0].tree));
	world_free(w);
}

/* It was cut off, and does not know that it was removed. */
static void test_manual_removed(void **state)
{
	struct world *w = world_new(3, &world_manual, 3);

	(void)state;
	world_start_all(w);
	assert_int_equal(world_add(w, 0, 1), TREE_OK);
	assert_int_equal(world_add(w, 0, 2), TREE_OK);
	w->node[2].group = 1;
	world_run(w, 10000);
	assert_int_equal(tree_remove(w->node[0].tree, &w->node[2].ep, NULL), 0);
	world_run(w, 120000);
	w->node[2].group = 0;
	world_run(w, 20000);
	assert_int_equal(world_parent(w, 2), -1);
	assert_int_equal(tree_expected(w->node[0].tree), 2);
	assert_int_equal(world_add(w, 0, 2), TREE_OK);
	world_free(w);
}

/* The new root knows it by its id; who adds it knows where it is. */
static void test_lost_one_added(void **state)
{
	struct world *w = world_grown(4, 16, 2, 5);

	(void)state;
	world_kill(w, 3);
	world_kill(w, 0);
	world_run(w, 15000);
	assert_int_equal(world_root(w), 1);
	assert_int_equal(tree_expected(w->node[1].tree), 4);
	assert_int_equal(world_add(w, 1, 3), TREE_WAIT);
	assert_int_equal(tree_expected(w->node[1].tree), 4);
	world_start(w, 3);
	world_start(w, 0);
	must_settle(w, 20000);
	world_free(w);
}

static void test_only_configured_parents(void **state)
{
	struct world *w = world_new(3, &world_manual, 1);

	(void)state;
	w->node[2].conf.parents = &w->node[1].ep;
	w->node[2].conf.n_parents = 1;
	world_start_all(w);
	assert_int_equal(world_add(w, 0, 2), TREE_DENIED);
	assert_int_equal(world_add(w, 1, 2), TREE_OK);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_t57_crossing),
		cmocka_unit_test(test_s1_two_roots_invite),
		cmocka_unit_test(test_t56_moves),
		cmocka_unit_test(test_t57_by_hand),
		cmocka_unit_test(test_invited_from_below),
		cmocka_unit_test(test_invited_by_removed),
		cmocka_unit_test(test_path_travels),
		cmocka_unit_test(test_path_travels_to_newcomer),
		cmocka_unit_test(test_path_changes_above_silent),
		cmocka_unit_test(test_home_is_below),
		cmocka_unit_test(test_added_again),
		cmocka_unit_test(test_manual_parent_lost),
		cmocka_unit_test(test_manual_removed),
		cmocka_unit_test(test_lost_one_added),
		cmocka_unit_test(test_only_configured_parents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
