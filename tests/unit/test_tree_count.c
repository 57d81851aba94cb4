/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is expected, however members and roots are lost; who may be a root. */
#include <string.h>

#include "agent/tree/rowset.h"
#include "common/util.h"
#include "tree_world.h"

/* Another disk: nothing is known, and the id is higher than all others. */
static void lose_state(struct world *w, unsigned i)
{
	memset(&w->node[i].stored, 0, sizeof(w->node[i].stored));
	memset(w->node[i].stored.id.b, 0xf0 + (int)i, sizeof(struct node_id));
}

/* What was below a host that was reborn is still expected. */
static void test_reborn_above(void **state)
{
	struct world *w = world_grown(3, 1, 1, 1);

	(void)state;
	assert_int_equal(world_parent(w, 2), 1);
	world_kill(w, 2);
	world_run(w, 5000);
	world_kill(w, 1);
	lose_state(w, 1);
	world_start(w, 1);
	world_run(w, 20000);
	assert_int_equal(world_parent(w, 1), 0);
	assert_int_equal(tree_expected(w->node[0].tree), 3);
	world_free(w);
}

/* So is what was below one that leaves. */
static void test_left_above(void **state)
{
	struct world *w = world_grown(3, 1, 1, 1);

	(void)state;
	world_kill(w, 2);
	world_run(w, 5000);
	tree_drain(w->node[1].tree);
	world_run(w, 20000);
	assert_true(w->node[1].drained);
	assert_int_equal(tree_expected(w->node[0].tree), 2);
	world_free(w);
}

/*
 * An admin took a branch away and it came back: those below it are members
 * again, whoever forgets them next.
 */
static void test_branch_that_came_back(void **state)
{
	struct world *w = world_grown(4, 1, 1, 1);

	(void)state;
	assert_int_equal(world_parent(w, 3), 2);
	/* by the root, or by an agent below it */
	for (unsigned above = 0; above < 2; above++) {
		unsigned top = above + 1;

		assert_int_equal(tree_remove(w->node[above].tree,
					     &w->node[top].ep, NULL),
				 0);
		must_settle(w, 20000);
		assert_int_equal(world_parent(w, top), (int)above);
		world_kill(w, 3);
		world_run(w, 5000);
		world_kill(w, 2);
		world_start(w, 2);
		world_run(w, 20000);
		assert_int_equal(tree_expected(w->node[0].tree), 4);
		world_start(w, 3);
		must_settle(w, 20000);
		world_run(w, 60000);
	}
	world_free(w);
}

/*
 * A member is granted a place, is lost by who told of it, and does not take
 * the place: it was no newcomer.
 */
static void test_member_that_did_not_come(void **state)
{
	struct world *w = world_grown(3, 1, 1, 1);
	struct tree_msg m;

	(void)state;
	assert_int_equal(world_parent(w, 2), 1);
	world_kill(w, 2);
	world_run(w, 5000);
	world_climb(w, 1, 2, &m);
	world_kill(w, 1);
	world_start(w, 1);
	(void)world_ask(w, 1, 0, &m, NULL);
	world_run(w, 20000);
	assert_int_equal(world_parent(w, 1), 0);
	assert_int_equal(tree_expected(w->node[0].tree), 3);
	world_free(w);
}

/*
 * A client adds a member to another agent, which it refuses.  That agent says
 * of it later that it is gone, of which nothing follows where it was known by
 * its lease: who loses it with its parent is not heard to call it so.
 */
static void test_member_that_was_refused(void **state)
{
	struct world *w = world_growing(5, 2, 1, 1, 1);
	unsigned above, other;

	(void)state;
	w->node[1].conf.fanout = 2;
	for (unsigned i = 2; i < 5; i++) {
		world_start(w, i);
		must_settle(w, 20000);
	}
	above = (unsigned)world_parent(w, 4);
	other = 5 - above;
	assert_in_range(above, 2, 3);
	assert_int_equal(world_parent(w, other), 1);
	assert_int_equal(world_add(w, other, 4), TREE_PARENT);
	must_settle(w, 20000);
	w->node[0].conf.fanout = 2;
	world_kill(w, 4);
	world_kill(w, above);
	world_start(w, above);
	world_run(w, 20000);
	assert_int_equal(world_parent(w, above), 0);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	world_free(w);
}

static bool detached(struct world *w, void *i)
{
	return world_parent(w, *(unsigned *)i) == -2;
}

/*
 * One that was removed, and came to another, is granted a place that it does
 * not take: it is no member less for that, though who had it calls it gone.
 */
static void test_grant_after_removal(void **state)
{
	struct world *w = world_grown(4, 2, 1, 1);
	struct tree_msg m;
	unsigned moved = 3;

	(void)state;
	assert_int_equal(world_parent(w, 3), 1);
	assert_int_equal(tree_remove(w->node[1].tree, &w->node[3].ep, NULL), 0);
	assert_int_not_equal(world_until(w, detached, &moved, 10000),
			     UINT64_MAX);
	assert_int_equal(world_add(w, 2, 3), TREE_OK);
	must_settle(w, 20000);
	assert_int_equal(world_parent(w, 3), 2);
	world_kill(w, 3);
	world_run(w, 5000);
	world_kill(w, 2);
	world_start(w, 2);
	world_run(w, 5000);
	world_climb(w, 1, 3, &m);
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_OK);
	world_run(w, 20000);
	assert_int_equal(world_parent(w, 2), 0);
	assert_int_equal(tree_expected(w->node[0].tree), 4);
	world_free(w);
}

/*
 * A newcomer took a place, which is lost before anybody told of it; then it
 * asks for another one, and does not take that.
 */
static void test_newcomer_that_asks_again(void **state)
{
	struct world *w = world_growing(5, 4, 2, 1, 1);
	struct tree_msg m, a;

	(void)state;
	must_settle(w, 20000);
	world_climb(w, 1, 4, &m);
	assert_int_equal(world_ask(w, 1, 0, &m, &a), TREE_OK);
	m.u.grant.act = TREE_GRANT_CONFIRM;
	m.u.grant.grant = a.u.granted.lease;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_OK);
	m.u.grant.act = TREE_GRANT_ASK;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_OK);
	world_run(w, 30000);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	world_free(w);
}

/* A member's next life asks in vain; then its former place is removed. */
static void test_removed_after_grant(void **state)
{
	struct world *w = world_grown(5, 1, 1, 1);
	struct tree_msg m;

	(void)state;
	assert_int_equal(world_parent(w, 4), 3);
	world_kill(w, 4);
	world_run(w, 5000);
	w->node[3].group = 1;
	world_kill(w, 2);
	world_start(w, 2);
	world_run(w, 8000);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	world_climb(w, 1, 4, &m);
	m.u.grant.mover.incarnation++;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_OK);
	world_run(w, 5000);
	w->node[3].group = 0;
	world_run(w, 30000);
	assert_in_range(world_parent(w, 3), 0, 2);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	assert_int_equal(tree_remove(w->node[3].tree, &w->node[4].ep, NULL), 0);
	world_run(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 4);
	world_free(w);
}

/* A root without its disk begins with the first term, which there was. */
static void test_fleet_of_same_term(void **state)
{
	struct world *w = world_grown(5, 4, 1, 1);

	(void)state;
	world_kill(w, 4);
	world_kill(w, 0);
	lose_state(w, 0);
	w->node[0].group = 1;
	world_start(w, 0);
	world_run(w, 3000);
	w->node[0].group = 0;
	world_run(w, 30000);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(world_parent(w, i), 0);
	assert_int_equal(tree_lease(w->node[1].tree).term, 1);
	assert_int_equal(tree_expected(w->node[0].tree), 5);
	assert_false(tree_settled(w->node[0].tree));
	world_free(w);
}

/* Nobody it meets was told how many there were; but there were some. */
static void test_fleet_of_nobody(void **state)
{
	struct world *w = world_grown(4, 4, 1, 1);

	(void)state;
	for (unsigned i = 1; i < 4; i++)
		world_kill(w, i);
	world_kill(w, 0);
	lose_state(w, 0);
	world_start(w, 0);
	world_start(w, 1);
	world_run(w, 30000);
	assert_int_equal(world_parent(w, 1), 0);
	assert_false(tree_settled(w->node[0].tree));
	/* not for ever: who lives has come by then */
	world_run(w, 40000);
	assert_true(tree_settled(w->node[0].tree));
	world_free(w);
}

/* A candidate was never a root, restarts, and reaches nobody. */
static void test_fleet_of_candidate(void **state)
{
	struct world *w = world_grown(6, 5, 2, 1);
	const struct tree_row *r;
	uint32_t n;

	(void)state;
	world_run(w, 5000); /* names are stored now and then */
	world_kill(w, 1);
	w->node[1].group = 1;
	world_start(w, 1);
	world_run(w, 20000);
	assert_int_equal(world_parent(w, 1), -1);
	assert_in_range(tree_expected(w->node[1].tree), 5, 6);
	/* it knows who they are, and that it does not hear them */
	r = tree_rows(w->node[1].tree, &n);
	assert_int_equal(n, tree_expected(w->node[1].tree));
	for (uint32_t i = 1; i < n; i++)
		assert_false(r[i].up);
	world_free(w);
}

/* As many as soon as they are there, not seconds later. */
static void test_fleet_of_restarted(void **state)
{
	struct world *w = world_new(6, &world_join, 3);

	(void)state;
	world_roots(w, 1);
	world_start(w, 0);
	world_run(w, 1500);
	for (unsigned i = 1; i < 6; i++)
		world_start(w, i);
	world_run(w, 1200);
	for (unsigned i = 0; i < 6; i++)
		world_kill(w, i);
	world_start(w, 0);
	world_run(w, 15000);
	assert_in_range(tree_expected(w->node[0].tree), 5, 6);
	assert_false(tree_settled(w->node[0].tree));
	world_free(w);
}

/*
 * As many as there were are back, and one of them is new: who is dead is known
 * to a root that restarted, whatever the number says.
 */
static void test_fleet_with_another(void **state)
{
	struct world *w = world_growing(6, 5, 16, 1, 1);
	uint32_t n;

	(void)state;
	world_run(w, 12000);
	world_kill(w, 4);
	world_kill(w, 0);
	world_start(w, 0);
	world_start(w, 5);
	world_run(w, 30000);
	for (unsigned i = 1; i < 6; i++)
		assert_int_equal(world_parent(w, i), i == 4 ? -2 : 0);
	(void)tree_rows(w->node[0].tree, &n);
	assert_int_equal(n, 6);
	/* it is one no more where another id is heard */
	lose_state(w, 4);
	world_start(w, 4);
	must_settle(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 6);
	world_free(w);
}

/* Known by its number alone: one that comes under another id is no more. */
static void test_fleet_with_one_reborn(void **state)
{
	(void)state;
	for (unsigned lost = 0; lost < 2; lost++) {
		struct world *w = world_grown(6, 3, 1, 1);

		assert_int_equal(world_parent(w, 3), 0);
		assert_in_range(world_parent(w, 5), 1, 3);
		world_kill(w, 3);
		world_kill(w, 0);
		w->node[0].stored.n_members = 0;
		w->node[0].conf.fanout = 5;
		world_start(w, 0);
		world_run(w, 20000);
		assert_int_equal(tree_expected(w->node[0].tree), 6);
		assert_in_range(world_parent(w, 5), 1, 2);
		world_kill(w, 5);
		world_run(w, 5000);
		lose_state(w, 5);
		world_start(w, 5);
		/* nor is it two if it is lost before the first one is */
		while (lost && world_parent(w, 5) < 0)
			world_run(w, 10);
		world_run(w, lost ? 100 : 20000);
		assert_int_equal(world_parent(w, 5), 0);
		if (lost)
			world_kill(w, 5);
		world_run(w, 5000);
		assert_int_equal(tree_expected(w->node[0].tree), 6);
		assert_false(tree_settled(w->node[0].tree));
		world_free(w);
	}
}

/*
 * Some that are new, at one address, are granted a place while most of the
 * former ones are unknown: they are neither those nor fewer than none.
 */
static void test_fleet_with_many_at_one_address(void **state)
{
	struct world *w = world_grown(6, 5, 1, 1);
	struct tree_msg m = { .kind = TREE_GRANT };

	(void)state;
	for (unsigned i = 0; i < 6; i++)
		world_kill(w, i);
	w->node[0].stored.n_members = 0;
	world_start(w, 0);
	world_run(w, 1500);
	world_start(w, 1);
	world_run(w, 3000);
	assert_int_equal(world_parent(w, 1), 0);
	m.lease = tree_lease(w->node[1].tree);
	m.u.grant.acceptor = w->node[1].stored.id;
	m.u.grant.n_via = 1;
	m.u.grant.via[0] = w->node[1].stored.id;
	for (int k = 0; k < 4; k++) {
		world_mover(w, 5, &m.u.grant.mover);
		memset(&m.u.grant.mover.id, 0xa0 + k, 16);
		m.u.grant.mover.incarnation = 5;
		assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_OK);
		assert_int_equal(tree_expected(w->node[0].tree), 6);
	}
	world_run(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 6);
	assert_false(tree_settled(w->node[0].tree));
	world_free(w);
}

/* A full disk is not asked at each beat whether it still is. */
static void test_fleet_not_kept(void **state)
{
	struct world *w = world_new(8, &world_join, 3);
	struct node *root = &w->node[0];

	(void)state;
	world_roots(w, 1);
	world_start(w, 0);
	world_run(w, 10000);
	root->store_fails = 1;
	for (unsigned i = 1; i < 8; i++)
		world_start(w, i);
	world_run(w, 20000);
	assert_int_equal(tree_expected(root->tree), 8);
	assert_in_range(root->store_fails, 2, 7);
	root->store_fails = 0;
	world_run(w, 10000);
	assert_int_equal(root->stored.fleet, 8);
	world_free(w);
}

/* What a root did bears its term: it must know it after a restart. */
static void test_term_is_kept(void **state)
{
	struct world *w = world_new(1, &world_join, 1);

	(void)state;
	world_roots(w, 1);
	world_start(w, 0);
	while (world_parent(w, 0) != -1)
		world_run(w, 10);
	world_kill(w, 0);
	assert_int_equal(w->node[0].stored.seen.term, 1);
	world_start(w, 0);
	assert_int_equal(tree_epoch(w->node[0].tree).term, 1);
	world_free(w);
}

/* A host is added before it runs: known by its address, then by its id. */
static void test_added_before_it_runs(void **state)
{
	struct world *w = world_new(3, &world_manual, 1);

	(void)state;
	world_start(w, 0);
	world_start(w, 1);
	assert_int_equal(world_add(w, 0, 1), TREE_OK);
	assert_int_equal(world_add(w, 1, 2), TREE_WAIT);
	world_run(w, 4000);
	assert_int_equal(tree_expected(w->node[0].tree), 3);
	world_start(w, 2);
	for (unsigned i = 0; i < 800; i++) {
		world_run(w, 20);
		assert_int_equal(tree_expected(w->node[0].tree), 3);
	}
	assert_int_equal(world_parent(w, 2), 1);
	/* never seen, and taken away again */
	world_kill(w, 2);
	lose_state(w, 2);
	assert_int_equal(tree_remove(w->node[1].tree, &w->node[2].ep, NULL), 0);
	assert_int_equal(world_add(w, 1, 2), TREE_WAIT);
	world_run(w, 4000);
	assert_int_equal(tree_expected(w->node[0].tree), 3);
	assert_int_equal(tree_remove(w->node[1].tree, &w->node[2].ep, NULL), 0);
	world_run(w, 4000);
	assert_int_equal(tree_expected(w->node[0].tree), 2);
	world_free(w);
}

/* ---- what a child may count ---- */

static struct tree_row row(uint8_t id, uint8_t level, bool up, bool gone)
{
	return (struct tree_row){ .id.b = { id },
				  .ep.port = id,
				  .level = level,
				  .up = up,
				  .gone = gone,
				  .incarnation = 1,
				  .lease.n = id };
}

/* What is made of what children told; the caller frees it. */
static struct rowset decided(const struct tree_row *told, unsigned n)
{
	struct rowset s;

	assert_int_equal(rowset_init(&s, n), 0);
	for (unsigned i = 0; i < n; i++)
		rowset_add(&s, &told[i]);
	s.n_told = s.n;
	rowset_decide(&s);
	return s;
}

/*
 * A branch was taken from one child and is below another now: who is in it is
 * gone as the first says, and a member as the second does; if that one's word
 * of the branch is the older one, it is gone.
 */
static void test_branch_that_moved(void **state)
{
	struct tree_row told[] = {
		row(1, 0, true, false),  row(2, 1, true, false),
		row(4, 2, false, true),  row(5, 2, false, true),
		row(3, 1, true, false),  row(4, 2, false, false),
		row(5, 3, false, false),
	};
	const struct node_id id = { { 5 } };

	(void)state;
	told[3].with = true;
	for (unsigned older = 0; older < 2; older++) {
		struct rowset s;

		told[5].lease.n = older ? 3 : 9;
		s = decided(told, ARRAY_SIZE(told));
		assert_int_equal(rowset_find(&s, &id)->gone, older);
		rowset_free(&s);
	}
}

/*
 * The same without its top: one of the branch is back, and tells of those below
 * it that are not heard.
 */
static void test_branch_that_came_in_parts(void **state)
{
	struct tree_row told[] = {
		row(1, 0, true, false),  row(2, 1, true, false),
		row(4, 2, false, true),  row(5, 2, false, true),
		row(6, 2, false, true),  row(7, 2, false, true),
		row(3, 1, true, false),  row(5, 2, true, false),
		row(6, 3, false, false), row(7, 4, false, false),
	};
	const struct node_id top = { { 4 } },
			     below[] = { { { 6 } }, { { 7 } } };

	(void)state;
	for (unsigned i = 3; i < 6; i++)
		told[i].with = true;
	for (unsigned older = 0; older < 2; older++) {
		struct rowset s;

		told[7].lease.n = older ? 3 : 9;
		s = decided(told, ARRAY_SIZE(told));
		assert_true(rowset_find(&s, &top)->gone);
		for (unsigned i = 0; i < ARRAY_SIZE(below); i++)
			assert_int_equal(rowset_find(&s, &below[i])->gone,
					 older);
		rowset_free(&s);
	}
}

static struct tree_child child_of(const struct world *w, unsigned at,
				  unsigned child)
{
	struct tree_child c;

	for (unsigned i = 0; i < tree_n_children(w->node[at].tree); i++) {
		tree_child_at(w->node[at].tree, i, &c);
		if (endpoint_equal(&c.ep, &w->node[child].ep))
			return c;
	}
	return (struct tree_child){ 0 };
}

static bool known(const struct world *w, unsigned at, unsigned child)
{
	return child_of(w, at, child).rows_known;
}

/* No rows come from 2 to 1. */
static bool see_no_rows(struct world *w, unsigned from, unsigned to,
			const struct tree_msg *m, bool reply)
{
	(void)w, (void)reply;
	return !(m->kind == TREE_ROWS && from == 2 && to == 1);
}

static void test_rows_known_below(void **state)
{
	struct world *w = world_growing(4, 3, 1, 1, 1);

	(void)state;
	world_run(w, 5000);
	assert_true(known(w, 0, 1) && known(w, 1, 2));
	w->see = see_no_rows;
	world_start(w, 3);
	for (unsigned i = 0; i < 15; i++) {
		world_run(w, 1000);
		if (world_parent(w, 3) == 2)
			assert_false(known(w, 0, 1) || known(w, 1, 2));
	}
	assert_int_equal(world_parent(w, 3), 2);
	/* 2 told how many it has, and so it can be no more; 1 did not yet */
	assert_int_equal(child_of(w, 1, 2).most, 2);
	assert_int_equal(child_of(w, 0, 1).most, TREE_MEMBERS);
	w->see = NULL;
	world_run(w, 15000);
	assert_true(known(w, 0, 1) && known(w, 1, 2));
	assert_int_equal(child_of(w, 0, 1).most, 3);
	assert_true(tree_settled(w->node[0].tree));
	world_free(w);
}

/*
 * A late copy of a request for a place gets it a second one, which it does not
 * take: as long as nobody heard that it has left, it has the first.
 */
static void test_rows_known_of_silent(void **state)
{
	struct world *w = world_growing(4, 3, 1, 1, 1);
	struct tree_msg join = { .kind = TREE_JOIN };

	(void)state;
	world_mover(w, 2, &join.u.join.mover);
	w->see = see_no_rows;
	world_start(w, 3);
	while (world_parent(w, 3) != 2)
		world_run(w, 1);
	assert_int_equal(world_ask(w, 2, 1, &join, NULL), TREE_OK);
	world_stop(w, 2);
	for (unsigned i = 0; i < 400; i++) {
		world_run(w, 10);
		assert_false(known(w, 0, 1));
	}
	w->see = NULL;
	world_resume(w, 2);
	world_run(w, 100);
	assert_int_equal(world_parent(w, 2), 1);
	world_run(w, 15000);
	assert_true(known(w, 0, 1) && known(w, 1, 2));
	assert_int_equal(world_parent(w, 2), 1);
	must_settle(w, 15000);
	world_free(w);
}

/* ---- who is the root ---- */

/* The parent does not know it: it hears so with the next that asks it. */
static void test_disowned(void **state)
{
	struct world *w = world_grown(3, 1, 1, 1);
	struct tree_msg join = { .kind = TREE_JOIN };

	(void)state;
	world_mover(w, 2, &join.u.join.mover);
	assert_int_equal(tree_remove(w->node[0].tree, &w->node[1].ep, NULL), 0);
	assert_int_equal(world_parent(w, 1), 0);
	assert_int_equal(world_ask(w, 2, 1, &join, NULL), TREE_DETACHED);
	assert_int_equal(world_parent(w, 1), -2);
	world_free(w);
}

/* It answers, and never becomes one. */
static void lie_no_root(struct node *n, struct tree_msg *m)
{
	(void)n;
	if (m->kind == TREE_HELLO)
		m->u.hello.root = m->u.hello.rooted = false;
	else
		m->word = TREE_DETACHED;
}

static void test_candidates_in_turn(void **state)
{
	struct world *w = world_new(3, &world_join, 1);

	(void)state;
	world_roots(w, 3);
	w->node[0].lie = lie_no_root;
	world_start_all(w);
	for (unsigned i = 0; i < 80; i++) {
		world_run(w, 100);
		assert_int_not_equal(world_parent(w, 2), -1);
	}
	assert_int_equal(world_parent(w, 1), -1);
	assert_int_equal(world_parent(w, 2), 1);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reborn_above),
		cmocka_unit_test(test_left_above),
		cmocka_unit_test(test_branch_that_came_back),
		cmocka_unit_test(test_member_that_did_not_come),
		cmocka_unit_test(test_member_that_was_refused),
		cmocka_unit_test(test_grant_after_removal),
		cmocka_unit_test(test_newcomer_that_asks_again),
		cmocka_unit_test(test_removed_after_grant),
		cmocka_unit_test(test_fleet_of_same_term),
		cmocka_unit_test(test_fleet_of_nobody),
		cmocka_unit_test(test_fleet_of_candidate),
		cmocka_unit_test(test_fleet_of_restarted),
		cmocka_unit_test(test_fleet_with_another),
		cmocka_unit_test(test_fleet_with_one_reborn),
		cmocka_unit_test(test_fleet_with_many_at_one_address),
		cmocka_unit_test(test_fleet_not_kept),
		cmocka_unit_test(test_term_is_kept),
		cmocka_unit_test(test_added_before_it_runs),
		cmocka_unit_test(test_branch_that_moved),
		cmocka_unit_test(test_branch_that_came_in_parts),
		cmocka_unit_test(test_rows_known_below),
		cmocka_unit_test(test_rows_known_of_silent),
		cmocka_unit_test(test_disowned),
		cmocka_unit_test(test_candidates_in_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
