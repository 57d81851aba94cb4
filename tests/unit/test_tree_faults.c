/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lost parents, lost roots, partitions, lists, drained agents. */
#include <string.h>

#include "common/util.h"
#include "tree_world.h"

/* A heap of fan-out k, each parent below 10.0.0.0's order of joining. */
static int a_parent(const struct world *w, unsigned depth)
{
	for (unsigned i = 0; i < w->n; i++)
		if (world_depth(w, i) == depth && w->node[i].state == NODE_ON &&
		    tree_n_children(w->node[i].tree))
			return (int)i;
	return -1;
}

static int a_child(const struct world *w, unsigned of)
{
	for (unsigned i = 0; i < w->n; i++)
		if (world_parent(w, i) == (int)of)
			return (int)i;
	return -1;
}

struct state_of {
	unsigned at, of;
	enum child_state state;
};

/* The child's state is at least that bad. */
static bool is_state(struct world *w, void *arg)
{
	const struct state_of *s = arg;
	struct tree_child c;

	for (unsigned i = 0; i < tree_n_children(w->node[s->at].tree); i++) {
		tree_child_at(w->node[s->at].tree, i, &c);
		if (endpoint_equal(&c.ep, &w->node[s->of].ep))
			return c.state >= s->state;
	}
	return false;
}

static bool is_detached(struct world *w, void *arg)
{
	return world_parent(w, *(unsigned *)arg) == -2;
}

/* ---- times of failures ---- */

static void child_lost(bool killed, uint64_t suspect_ms, uint64_t down_ms)
{
	for (uint64_t seed = 0; seed < 5; seed++) {
		struct world *w = world_grown(3, 16, 1, seed);
		struct state_of s = { 0, 2, CHILD_SUSPECT };
		uint64_t first, then;

		world_run(w, 137 * seed);
		if (killed)
			world_kill(w, 2);
		else
			world_stop(w, 2);
		first = world_until(w, is_state, &s, 5000);
		assert_in_range(first, 0, suspect_ms);
		s.state = CHILD_DOWN;
		then = world_until(w, is_state, &s, 5000);
		assert_in_range(first + then, 0, down_ms);
		/* it stays expected, and is missed */
		world_run(w, 20000);
		assert_int_equal(tree_expected(w->node[0].tree), 3);
		world_free(w);
	}
}

static void test_child_killed(void **state)
{
	(void)state;
	child_lost(true, 1100, 1400);
}

static void test_child_silent(void **state)
{
	(void)state;
	child_lost(false, 1600, 3100);
}

static void parent_lost(bool killed, uint64_t detached_ms, uint64_t whole_ms)
{
	for (uint64_t seed = 0; seed < 5; seed++) {
		struct world *w = world_grown(15, 2, 1, seed);
		int p = a_parent(w, 1), c;
		unsigned orphan;

		assert_true(p > 0);
		c = a_child(w, (unsigned)p);
		orphan = (unsigned)c;
		world_run(w, 137 * seed);
		if (killed)
			world_kill(w, (unsigned)p);
		else
			world_stop(w, (unsigned)p);
		assert_in_range(world_until(w, is_detached, &orphan, 5000), 0,
				detached_ms);
		/* its grandparent adopts it, its children stay with it */
		world_run(w, whole_ms);
		assert_int_equal(world_parent(w, orphan), 0);
		assert_int_equal(tree_expected(w->node[0].tree), 15);
		world_free(w);
	}
}

static void test_t50_parent_killed(void **state)
{
	(void)state;
	parent_lost(true, 500, 1100);
}

static void test_t50_parent_silent(void **state)
{
	(void)state;
	parent_lost(false, 2700, 1100);
}

/* One that was stopped itself blames nobody. */
static void test_late_itself(void **state)
{
	struct world *w = world_grown(7, 2, 1, 3);
	int p = a_parent(w, 1);
	struct epoch lease = tree_lease(w->node[p].tree), now;

	(void)state;
	world_stop(w, (unsigned)p);
	world_run(w, 1200);
	world_resume(w, (unsigned)p);
	world_run(w, 5000);
	now = tree_lease(w->node[p].tree);
	assert_int_equal(epoch_compare(&lease, &now), 0);
	must_settle(w, 1000);
	world_free(w);
}

static void test_killed_comes_back(void **state)
{
	struct world *w = world_grown(15, 2, 1, 8);

	(void)state;
	for (unsigned i = 1; i < 15; i++) {
		world_kill(w, i);
		world_run(w, 700 * i);
		world_start(w, i);
		must_settle(w, 12000);
		assert_int_equal(tree_expected(w->node[0].tree), 15);
	}
	world_free(w);
}

/* ---- the root ---- */

static bool has_root(struct world *w, void *unused)
{
	(void)unused;
	return world_roots_now(w) == 1;
}

static void root_lost(bool killed, unsigned roots)
{
	for (uint64_t seed = 0; seed < 4; seed++) {
		struct world *w = world_grown(20, 4, roots, seed);
		struct epoch before = tree_epoch(w->node[0].tree), after;
		int root;

		world_run(w, 137 * seed);
		if (killed)
			world_kill(w, 0);
		else
			world_stop(w, 0);
		w->node[0].group = 1;
		assert_in_range(world_until(w, has_root, NULL, 8000), 0, 6000);
		root = world_root(w);
		if (root < 0) { /* the stopped one does not know */
			assert_false(killed);
		} else {
			assert_in_range(root, 1, roots - 1);
			after = tree_epoch(w->node[root].tree);
			assert_int_equal(after.term, before.term + 1);
			assert_true(after.n >= before.n);
		}
		world_run(w, 10000);
		for (unsigned i = 1; i < 20; i++)
			assert_true(tree_rooted(w->node[i].tree));
		root = world_parent(w, 1) == -1 ? 1 : 2;
		/* the old root is a member still, and nothing is complete */
		assert_int_equal(tree_expected(w->node[root].tree), 20);
		world_free(w);
	}
}

static void test_t51_root_killed(void **state)
{
	(void)state;
	root_lost(true, 3);
}

/* Those that lose a root are subtrees: the tree is no deeper for each loss. */
static void test_t51_depth(void **state)
{
	struct world *w = world_grown(40, 3, 3, 1);
	unsigned deepest = 0;

	(void)state;
	for (unsigned k = 0; k < 8; k++) {
		int root = world_root(w);

		world_kill(w, (unsigned)root);
		world_run(w, 8000);
		world_start(w, (unsigned)root);
		must_be_whole(w, 20000);
	}
	for (unsigned i = 0; i < 40; i++)
		deepest = MAX(deepest, world_depth(w, i));
	assert_in_range(deepest, 3, 4);
	world_free(w);
}

/* The candidate that is left was not below the root itself. */
static void test_t51_candidate_far_below(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 8; seed++) {
		struct world *w = world_new(4, &world_join, seed);
		static const unsigned order[] = { 0, 2, 3, 1 };

		world_roots(w, 2);
		for (unsigned i = 0; i < 4; i++) {
			w->node[i].conf.fanout = 2;
			world_start(w, order[i]);
			world_run(w, 1500);
		}
		must_settle(w, 60000);
		assert_int_equal(world_depth(w, 1), 2);
		world_kill(w, (unsigned)world_parent(w, 1));
		world_kill(w, 0);
		assert_in_range(world_until(w, has_root, NULL, 8000), 0, 6000);
		assert_int_equal(world_root(w), 1);
		world_free(w);
	}
}

static void test_t51_no_candidate(void **state)
{
	struct world *w = world_grown(5, 2, 1, 4);

	(void)state;
	world_kill(w, 0);
	world_run(w, 40000);
	assert_int_equal(world_roots_now(w), 0);
	world_start(w, 0);
	must_settle(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	world_free(w);
}

/* A new root that has not seen all does not say that it has. */
static void test_t51_fleet(void **state)
{
	struct world *w = world_grown(20, 4, 2, 11);
	int root;

	(void)state;
	/* those below 0 on its side of the cut are not heard by 1 */
	for (unsigned i = 10; i < 20; i++)
		w->node[i].group = 1;
	world_kill(w, 0);
	world_run(w, 20000);
	root = world_parent(w, 1) == -1 ? 1 : -1;
	assert_int_equal(root, 1);
	assert_int_equal(tree_expected(w->node[1].tree), 20);
	/* an admin knows better */
	tree_accept_rows(w->node[1].tree);
	assert_in_range(tree_expected(w->node[1].tree), 2, 19);
	world_free(w);
}

/* A child that is down would be missing in every answer. */
static bool misses_nobody(struct world *w, void *unused)
{
	struct tree_child c;

	(void)unused;
	for (unsigned i = 0; i < w->n; i++) {
		const struct tree *t = w->node[i].tree;

		for (unsigned k = 0; k < tree_n_children(t); k++) {
			tree_child_at(t, k, &c);
			if (c.state != CHILD_UP)
				return false;
		}
	}
	return true;
}

static void test_t51_two_roots_heal(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 6; seed++) {
		struct world *w = world_grown(20, 4, 3, seed);
		struct epoch e[2];
		uint64_t end;

		for (unsigned i = 0; i < 20; i++)
			w->node[i].group = i % 2;
		world_run(w, 15000);
		assert_int_equal(world_roots_now(w), 2);
		assert_int_equal(world_parent(w, 1), -1);
		e[0] = tree_epoch(w->node[0].tree);
		e[1] = tree_epoch(w->node[1].tree);
		assert_int_not_equal(epoch_compare(&e[0], &e[1]), 0);
		/* neither says that it has all */
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(tree_expected(w->node[i].tree), 20);
		for (unsigned i = 0; i < 20; i++)
			w->node[i].group = 0;
		end = w->now + 10000;
		must_settle(w, 10000);
		assert_int_equal(world_root(w), 1);
		/* 1 was below 0, which is below 1 now */
		assert_true(misses_nobody(w, NULL) ||
			    world_until(w, misses_nobody, NULL, end - w->now) !=
				    UINT64_MAX);
		world_free(w);
	}
}

/*
 * A candidate that left its parent for good, came back elsewhere and was cut
 * off is a root when it is heard again: the former one joins it, with all that
 * are below, and where it was is nobody's concern.
 */
static void test_t51_candidate_cut_off(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 6; seed++) {
		static const unsigned order[] = { 0, 2, 3, 4, 5, 1, 6, 7 };
		struct world *w = world_new(8, &world_join, seed);

		world_roots(w, 2);
		for (unsigned i = 0; i < 8; i++) {
			w->node[i].conf.fanout = 2;
			world_start(w, order[i]);
			world_run(w, i ? 300 : 1500);
		}
		must_settle(w, 60000);
		assert_int_equal(world_parent(w, 1), 2);
		w->node[0].conf.fanout = 3;
		tree_drain(w->node[1].tree);
		world_run(w, 3000);
		world_kill(w, 1);
		world_start(w, 1);
		must_settle(w, 10000);
		assert_int_equal(world_parent(w, 1), 0);
		w->node[1].group = 1;
		world_run(w, 4300);
		w->node[1].group = 0;
		must_settle(w, 10000);
		assert_int_equal(world_root(w), 1);
		world_free(w);
	}
}

static void test_term_not_kept(void **state)
{
	struct world *w = world_grown(6, 4, 2, 5);

	(void)state;
	/* no disk, no reign */
	w->node[1].store_fails = 1;
	world_kill(w, 0);
	world_run(w, 15000);
	assert_int_equal(world_roots_now(w), 0);
	w->node[1].store_fails = 0;
	world_run(w, 8000);
	assert_int_equal(world_root(w), 1);
	world_free(w);
}

/* ---- the heap of a list ---- */

static void test_static_list(void **state)
{
	struct world *w = world_new(15, &world_static, 2);

	(void)state;
	world_roots(w, 1);
	for (unsigned i = 0; i < 15; i++)
		w->node[i].conf.fanout = 2;
	/* lines that were never seen are expected */
	for (unsigned i = 0; i < 14; i++)
		world_start(w, i);
	world_run(w, 30000);
	assert_int_equal(tree_expected(w->node[0].tree), 15);
	assert_int_equal(world_roots_now(w), 1);
	world_start(w, 14);
	world_run(w, 100000);
	for (unsigned i = 1; i < 15; i++)
		assert_int_equal(world_parent(w, i), (i - 1) / 2);
	assert_int_equal(tree_expected(w->node[0].tree), 15);
	assert_true(tree_settled(w->node[0].tree));
	/* back to its place, later */
	world_kill(w, 1);
	world_run(w, 10000);
	assert_int_not_equal(world_parent(w, 3), 1);
	world_start(w, 1);
	world_run(w, 120000);
	for (unsigned i = 1; i < 15; i++)
		assert_int_equal(world_parent(w, i), (i - 1) / 2);
	world_free(w);
}

#define MANY 20000

static int many_expected(struct member *m, bool below, struct endpoint *out,
			 size_t max)
{
	unsigned n = (unsigned)MIN(max, MANY);

	(void)m, (void)below;
	for (unsigned i = 0; i < n; i++) {
		out[i].port = 8000;
		addr_from_v4(&out[i].addr,
			     (const uint8_t[]){ 10, 1, (uint8_t)(i >> 8),
						(uint8_t)i });
	}
	return (int)n;
}

/* More lines than members are announced. */
static void test_long_list(void **state)
{
	const struct member_ops many = { .name = "static",
					 .expected = many_expected };
	struct world *w = world_new(1, &many, 3);

	(void)state;
	world_roots(w, 1);
	world_start_all(w);
	world_run(w, 5000);
	assert_int_equal(world_roots_now(w), 1);
	assert_int_equal(tree_expected(w->node[0].tree), 1 + MANY);
	world_free(w);
}

/* ---- leaving ---- */

static void test_drain(void **state)
{
	struct world *w = world_grown(15, 2, 1, 6);
	int p = a_parent(w, 1);

	(void)state;
	tree_drain(w->node[p].tree);
	for (unsigned i = 0; i < 1200 && !w->node[p].drained; i++)
		world_run(w, 10);
	assert_true(w->node[p].drained);
	world_kill(w, (unsigned)p);
	world_run(w, 10000);
	/* nobody was lost on the way, and it is not expected */
	assert_int_equal(tree_expected(w->node[0].tree), 14);
	must_settle(w, 10000);
	world_free(w);
}

/* Live children of one; how deep the deepest is. */
static unsigned up_below(const struct world *w, unsigned of)
{
	unsigned n = 0;

	for (unsigned i = 0; i < w->n; i++)
		n += w->node[i].state == NODE_ON &&
		     world_parent(w, i) == (int)of;
	return n;
}

static unsigned deepest(const struct world *w)
{
	unsigned most = 0;

	for (unsigned i = 0; i < w->n; i++)
		if (w->node[i].state == NODE_ON)
			most = MAX(most, world_depth(w, i));
	return most;
}

/* All children of this one that have some are lost. */
static unsigned orphans(struct world *w, unsigned of, unsigned most)
{
	unsigned killed = 0;

	for (unsigned i = 1; i < w->n && killed < most; i++)
		if (world_parent(w, i) == (int)of &&
		    tree_n_children(w->node[i].tree)) {
			world_kill(w, i);
			killed++;
		}
	world_run(w, 8000);
	return killed;
}

/* Runs until there are 32 below it; how often somebody moved, how long. */
static unsigned handed_down(struct world *w, unsigned of, unsigned *seconds)
{
	unsigned moves = 0, was[WORLD_NODES];

	for (unsigned i = 0; i < w->n; i++)
		was[i] = (unsigned)world_parent(w, i);
	for (*seconds = 0; up_below(w, of) > 32 && *seconds < 600; ++*seconds) {
		unsigned alone = 0, before = moves;

		world_run(w, 1000);
		for (unsigned i = 1; i < w->n; i++) {
			int now = world_parent(w, i);

			if (w->node[i].state != NODE_ON)
				continue;
			alone += now < 0;
			moves += (unsigned)now != was[i];
			was[i] = (unsigned)now;
		}
		assert_true(alone <= 1);
		assert_true(moves - before <= 1);
	}
	return moves;
}

/* Orphans are taken, and those above 32 find a place one level further down,
 * one each ten seconds; nobody is without a parent for long. */
static void test_handed_down(void **state)
{
	struct world *w = world_grown(73, 8, 1, 6);
	unsigned surplus, seconds;

	(void)state;
	must_settle(w, 10000);
	orphans(w, 0, 5);
	surplus = up_below(w, 0) - 32;
	assert_true(surplus > 8);
	assert_int_equal(handed_down(w, 0, &seconds), surplus);
	assert_in_range(seconds, surplus * 10 - 10, surplus * 10 + 10);
	assert_int_equal(deepest(w), 2);
	/* that is enough, and nobody comes back */
	world_run(w, 30000);
	assert_int_equal(up_below(w, 0), 32);
	assert_int_equal(tree_expected(w->node[0].tree), 73);
	world_free(w);
}

/* So it is further down: nobody is sent up. */
static void test_handed_down_inside(void **state)
{
	struct world *w = world_grown(400, 7, 1, 6);
	unsigned surplus, seconds, at_root, depth;
	int p = -1;

	(void)state;
	must_settle(w, 20000);
	for (unsigned i = 1; i < w->n && p < 0; i++)
		if (world_depth(w, i) == 1 &&
		    tree_expected(w->node[i].tree) == 57)
			p = (int)i;
	assert_true(p > 0);
	at_root = up_below(w, 0);
	depth = deepest(w);
	orphans(w, (unsigned)p, 7);
	surplus = up_below(w, (unsigned)p) - 32;
	assert_int_equal(surplus, 17);
	assert_int_equal(handed_down(w, (unsigned)p, &seconds), surplus);
	assert_int_equal(up_below(w, 0), at_root);
	assert_int_equal(deepest(w), depth);
	world_free(w);
}

static unsigned walled;

static bool see_a_wall(struct world *w, unsigned from, unsigned to,
		       const struct tree_msg *m, bool reply)
{
	(void)w;
	(void)m;
	(void)reply;
	return (from != walled && to != walled) || from == 0 || to == 0;
}

/* One that reaches nobody else comes back, and the others are next. */
static void test_handed_down_in_vain(void **state)
{
	struct world *w = world_grown(73, 8, 1, 6);
	unsigned moves;

	(void)state;
	must_settle(w, 10000);
	orphans(w, 0, 5);
	for (walled = 1; world_parent(w, walled) != 0 ||
			 w->node[walled].state != NODE_ON ||
			 tree_n_children(w->node[walled].tree);)
		walled++;
	w->see = see_a_wall;
	moves = up_below(w, 0);
	world_run(w, 200000);
	assert_in_range(moves - up_below(w, 0), 11, 20);
	assert_int_equal(up_below(w, 0), 32);
	assert_int_equal(world_parent(w, walled), 0);
	world_free(w);
}

/* With a list they wait for their own places. */
static void test_kept_by_list(void **state)
{
	struct world *w = world_new(65, &world_static, 3);

	(void)state;
	world_roots(w, 1);
	for (unsigned i = 0; i < w->n; i++)
		w->node[i].conf.fanout = 32;
	world_start_all(w);
	must_settle(w, 60000);
	world_kill(w, 1);
	world_run(w, 60000);
	assert_int_equal(up_below(w, 0), 63);
	world_free(w);
}

static bool see_no_leave(struct world *w, unsigned from, unsigned to,
			 const struct tree_msg *m, bool reply)
{
	(void)w;
	(void)from;
	(void)to;
	(void)reply;
	return m->kind != TREE_LEAVE;
}

/* Its parent was not told: it is down, and expected, as any that ends. */
static void test_leave_lost(void **state)
{
	struct world *w = world_grown(5, 4, 1, 6);

	(void)state;
	w->see = see_no_leave;
	tree_drain(w->node[2].tree);
	world_run(w, 100);
	assert_false(w->node[2].drained);
	world_run(w, 10000);
	assert_true(w->node[2].drained);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	world_free(w);
}

/* Whoever is the root next does not expect it, however far below it was. */
static void test_drained_root(void **state)
{
	static const unsigned order[] = { 0, 2, 3, 1 };

	(void)state;
	for (uint64_t seed = 0; seed < 40; seed++) {
		bool chain = seed % 2;
		int root;
		struct world *w =
			chain ? world_new(4, &world_join, seed)
			      : world_grown(20 + (unsigned)seed, 3, 4, seed);

		if (chain)
			world_roots(w, 2);
		for (unsigned i = 0; chain && i < 4; i++) {
			w->node[i].conf.fanout = 1;
			world_start(w, order[i]);
			world_run(w, 1500);
		}
		must_settle(w, 60000);
		world_run(w, 137 * seed);
		tree_drain(w->node[0].tree);
		world_run(w, 12000);
		assert_true(w->node[0].drained);
		world_kill(w, 0);
		must_settle(w, 20000);
		root = world_root(w);
		assert_in_range(root, 1, 3);
		assert_int_equal(tree_expected(w->node[root].tree), w->n - 1);
		world_free(w);
	}
}

static void test_forget(void **state)
{
	struct world *w = world_grown(6, 2, 1, 3);

	(void)state;
	for (unsigned i = 0; i < 6; i++)
		w->node[i].conf.forget_ms = 60000;
	world_kill(w, 5);
	world_run(w, 50000);
	assert_int_equal(tree_expected(w->node[0].tree), 6);
	world_run(w, 30000);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	must_settle(w, 1000);
	/* with all that know of it gone as well */
	world_kill(w, 4);
	world_kill(w, (unsigned)a_parent(w, 1));
	world_run(w, 50000);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	world_run(w, 80000);
	must_settle(w, 1000);
	assert_int_equal(tree_expected(w->node[0].tree), 3);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_child_killed),
		cmocka_unit_test(test_child_silent),
		cmocka_unit_test(test_t50_parent_killed),
		cmocka_unit_test(test_t50_parent_silent),
		cmocka_unit_test(test_late_itself),
		cmocka_unit_test(test_killed_comes_back),
		cmocka_unit_test(test_t51_root_killed),
		cmocka_unit_test(test_t51_depth),
		cmocka_unit_test(test_t51_candidate_far_below),
		cmocka_unit_test(test_t51_no_candidate),
		cmocka_unit_test(test_t51_fleet),
		cmocka_unit_test(test_t51_two_roots_heal),
		cmocka_unit_test(test_t51_candidate_cut_off),
		cmocka_unit_test(test_term_not_kept),
		cmocka_unit_test(test_static_list),
		cmocka_unit_test(test_long_list),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_handed_down),
		cmocka_unit_test(test_handed_down_inside),
		cmocka_unit_test(test_handed_down_in_vain),
		cmocka_unit_test(test_kept_by_list),
		cmocka_unit_test(test_leave_lost),
		cmocka_unit_test(test_drained_root),
		cmocka_unit_test(test_forget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
