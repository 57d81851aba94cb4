/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages that cannot be, and children that lie: what they cost, and that
 * the others go on.
 */
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "tree_world.h"

/* ---- epochs ---- */

static struct epoch told;

static void lie_epoch(struct node *n, struct tree_msg *m)
{
	(void)n;
	if (m->kind == TREE_BEAT && m->word == TREE_OK)
		m->epoch = told;
}

static const uint64_t terms[] = { 100, (uint64_t)1 << 63, UINT64_MAX - 1,
				  UINT64_MAX };

/* The overlay lives: a host comes back, another one becomes the root. */
static void must_go_on(struct world *w, unsigned leaf)
{
	world_kill(w, leaf);
	world_run(w, 5000);
	world_start(w, leaf);
	must_settle(w, 20000);
	world_kill(w, 0);
	world_run(w, 20000);
	assert_int_equal(world_root(w), 1);
	world_start(w, 0);
	must_settle(w, 20000);
}

static void test_epoch_of_child(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(terms); i++) {
		struct world *w = world_grown(7, 2, 2, 5);
		unsigned liar = 6;
		struct epoch was;

		told = (struct epoch){ terms[i], 5, 7 };
		while (world_depth(w, liar) != 1)
			liar--;
		was = tree_epoch(w->node[0].tree);
		w->node[liar].lie = lie_epoch;
		world_run(w, 5000);
		w->node[liar].lie = NULL;
		world_run(w, 20000);
		assert_true(tree_epoch(w->node[0].tree).term == was.term);
		must_go_on(w, world_leaf(w, liar));
		world_free(w);
	}
}

/* Refused or not: what somebody says of epochs with it is not heard. */
static void test_epoch_of_anybody(void **state)
{
	static const enum tree_kind kinds[] = {
		TREE_HELLO,  TREE_INVITE, TREE_JOIN, TREE_GRANT,   TREE_BEAT,
		TREE_PLEASE, TREE_LEAVE,  TREE_ROWS, TREE_ANNOUNCE
	};
	struct world *w = world_grown(7, 2, 2, 5);

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(kinds) * 7; i++) {
		unsigned to = i % 7;
		struct tree_msg m = {
			.kind = kinds[i / 7],
			.epoch = { UINT64_MAX, 1, 1 },
			.lease = tree_lease(w->node[6].tree),
		};
		uint64_t was = tree_epoch(w->node[to].tree).term;

		/* not its parent; its child: then it asks for a beat */
		if (to == 6)
			m.lease.n++;
		if (m.kind == TREE_PLEASE)
			m.u.please.id = w->node[6].stored.id;
		(void)world_ask(w, 6, to, &m, NULL);
		assert_int_equal(tree_epoch(w->node[to].tree).term, was);
	}
	must_go_on(w, world_leaf(w, 1));
	world_free(w);
}

/* A mover is ahead: the root follows, but nobody can use up the terms. */
static void test_epoch_of_mover(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(terms); i++) {
		struct world *w = world_grown(7, 2, 2, 5);
		unsigned ahead = world_leaf(w, 1);
		uint64_t term;

		world_kill(w, ahead);
		w->node[ahead].stored.seen = (struct epoch){ terms[i], 5, 7 };
		world_start(w, ahead);
		world_run(w, 60000);
		term = tree_epoch(w->node[0].tree).term;
		if (terms[i] == 100) {
			assert_int_equal(term, 101);
			must_settle(w, 1000);
		} else {
			/* it is alone with that: its disk is at fault */
			assert_int_equal(world_parent(w, ahead), -2);
			assert_in_range(term, 1, 64ull << 20);
			world_kill(w, ahead);
			w->node[ahead].stored.seen = (struct epoch){ 0 };
			world_start(w, ahead);
			must_settle(w, 20000);
			must_go_on(w, ahead);
		}
		world_free(w);
	}
}

/* So far ahead as no honest one is, and yet in reach. */
static void test_epoch_far(void **state)
{
	struct world *w = world_grown(7, 2, 2, 5);
	unsigned ahead = world_leaf(w, 1);

	(void)state;
	world_kill(w, ahead);
	w->node[ahead].stored.seen = (struct epoch){ 3ull << 20, 5, 7 };
	world_start(w, ahead);
	world_run(w, 1000);
	assert_int_equal(world_parent(w, ahead), -2);
	must_settle(w, 80000);
	world_free(w);
}

/* ---- identity ---- */

/* Only who is above may say that an id is another's. */
static void test_leave_of_anybody(void **state)
{
	struct world *w = world_grown(7, 2, 1, 5);
	unsigned leaf = world_leaf(w, 0);
	struct tree_msg m = { .kind = TREE_LEAVE };

	(void)state;
	m.u.leave.incarnation = UINT64_MAX;
	for (unsigned i = 0; i < 7; i++) {
		m.u.leave.id = w->node[i].stored.id;
		m.lease = (struct epoch){ 0 };
		assert_int_equal(world_ask(w, leaf, i, &m, NULL), TREE_MOVED);
		m.lease = tree_lease(w->node[i ? i % 6 + 1 : leaf].tree);
		assert_int_equal(world_ask(w, leaf, i, &m, NULL), TREE_MOVED);
		assert_memory_equal(&m.u.leave.id, &w->node[i].stored.id, 16);
	}
	must_settle(w, 100);
	assert_int_equal(tree_expected(w->node[0].tree), 7);
	/* and its own parent's is taken: it comes back with another id */
	m.u.leave.id = w->node[leaf].stored.id;
	m.lease = tree_lease(w->node[leaf].tree);
	assert_int_equal(world_ask(w, (unsigned)world_parent(w, leaf), leaf, &m,
				   NULL),
			 TREE_OK);
	assert_memory_not_equal(&m.u.leave.id, &w->node[leaf].stored.id, 16);
	world_free(w);
}

/* ---- grants that nobody tells of ---- */

/* One is missing, by name, until an admin knows better. */
static void must_miss_one(struct world *w, unsigned live)
{
	struct tree *root = w->node[0].tree;

	world_run(w, 20000);
	assert_int_equal(tree_expected(root), live + 1);
	assert_true(tree_settled(root));
	tree_accept_rows(root);
	world_run(w, 1000);
	assert_int_equal(tree_expected(root), live);
	assert_true(tree_settled(root));
}

/* A host joins and is lost with its parent before anybody told of it. */
static void test_confirmed_and_lost(void **state)
{
	struct world *w = world_growing(8, 7, 2, 1, 5);
	int parent;

	(void)state;
	w->see = world_no_rows;
	world_start(w, 7);
	world_run(w, 400);
	parent = world_parent(w, 7);
	assert_in_range(parent, 1, 6);
	world_kill(w, 7);
	world_kill(w, (unsigned)parent);
	w->see = NULL;
	world_run(w, 2000);
	assert_false(tree_settled(w->node[0].tree));
	world_start(w, (unsigned)parent);
	must_miss_one(w, 7);
	/* it comes back */
	world_start(w, 7);
	must_settle(w, 20000);
	world_free(w);
}

/* A child asks for a place for nobody, and says that it took it. */
static void test_confirmed_nobody(void **state)
{
	struct world *w = world_grown(7, 2, 1, 5);
	unsigned liar = 1;
	struct tree_msg m = { .kind = TREE_GRANT }, a;

	(void)state;
	while (world_depth(w, liar) != 1)
		liar++;
	m.lease = tree_lease(w->node[liar].tree);
	memset(m.u.grant.mover.id.b, 0xab, sizeof(m.u.grant.mover.id.b));
	m.u.grant.mover.incarnation = 5;
	m.u.grant.mover.hosts = 9;
	m.u.grant.mover.ep = w->node[liar].ep;
	m.u.grant.mover.ep.port = 9;
	m.u.grant.acceptor = w->node[liar].stored.id;
	m.u.grant.via[m.u.grant.n_via++] = m.u.grant.acceptor;
	assert_int_equal(world_ask(w, liar, 0, &m, &a), TREE_OK);
	m.u.grant.act = TREE_GRANT_CONFIRM;
	m.u.grant.grant = a.u.granted.lease;
	assert_int_equal(world_ask(w, liar, 0, &m, NULL), TREE_OK);
	must_miss_one(w, 7);
	world_free(w);
}

/* ---- numbers ---- */

static void lie_hosts(struct node *n, struct tree_msg *m)
{
	(void)n;
	if (m->kind == TREE_BEAT && m->word == TREE_OK) {
		m->u.beaten.hosts = TREE_MEMBERS;
		m->u.beaten.rows_hash++;
	}
}

static unsigned unreadable;

/* No number of hosts is above what its reader takes. */
static bool readable(struct world *w, unsigned from, unsigned to,
		     const struct tree_msg *m, bool reply)
{
	const struct tree_mover *mover = m->kind == TREE_JOIN ? &m->u.join.mover
					 : m->kind == TREE_GRANT
						 ? &m->u.grant.mover
						 : NULL;

	(void)w;
	(void)from;
	(void)to;
	if (m->kind == TREE_BEAT)
		unreadable += reply ? m->u.beaten.hosts > TREE_MEMBERS
				    : m->u.beat.fleet > TREE_MEMBERS;
	else if (mover && !reply)
		unreadable += mover->hosts > TREE_MEMBERS ||
			      mover->fleet > TREE_MEMBERS;
	return m->kind != TREE_ROWS;
}

/* Two liars below one agent; a fleet that no list and no row bounds. */
static void test_numbers_of_hosts(void **state)
{
	struct world *w = world_grown(15, 2, 1, 5);
	unsigned above = 1;

	(void)state;
	while (world_depth(w, above) != 1)
		above++;
	unreadable = 0;
	w->see = readable;
	for (unsigned i = 1; i < 15; i++)
		if (world_depth(w, i) == 2)
			w->node[i].lie = lie_hosts;
	world_run(w, 3000);
	assert_int_equal(tree_expected(w->node[0].tree), 15);
	assert_int_equal(tree_hosts(w->node[above].tree), TREE_MEMBERS);
	/* they look for another place, with all that */
	world_kill(w, 0);
	w->node[0].stored.fleet = TREE_MEMBERS + 5;
	world_run(w, 3000);
	world_start(w, 0);
	world_run(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), TREE_MEMBERS + 5);
	assert_int_equal(w->node[0].stored.fleet, TREE_MEMBERS);
	assert_int_equal(unreadable, 0);
	world_free(w);
}

/* ---- height ---- */

static void lie_height(struct node *n, struct tree_msg *m)
{
	if (m->kind != TREE_BEAT || m->word != TREE_OK)
		return;
	m->u.beaten.height = TREE_LEVELS;
	if (n->w->lie) /* of which it tells nothing */
		m->u.beaten.rows_hash++;
}

static bool has_another(struct world *w, void *arg)
{
	return world_parent(w, *(unsigned *)arg) > 0;
}

/* The root is lost: whoever has a lying child finds another parent in time. */
static void test_height_of_child(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		struct world *w = world_grown(15, 2, 2, 1 + i / 3);
		unsigned above = 2, liar = 14;

		while (world_depth(w, above) != 1 ||
		       !tree_n_children(w->node[above].tree))
			above++;
		while (world_parent(w, liar) != (int)above)
			liar--;
		w->lie = i % 3 == 1;
		if (i % 3)
			w->node[liar].lie = lie_height;
		world_run(w, 12000);
		world_kill(w, 0);
		assert_true(world_until(w, has_another, &above, 5000) < 5000);
		world_free(w);
	}
}

static enum tree_word refusal;

/* As one that understands nothing of what it is told. */
static void refuse_all(struct node *n, struct tree_msg *m)
{
	(void)n;
	m->word = m->kind == TREE_BEAT ? TREE_MOVED : refusal;
}

/* A child that was added by hand is no less a member when it refuses. */
static void test_refused_is_not_gone(void **state)
{
	static const enum tree_word words[] = { TREE_BAD, TREE_DENIED,
						TREE_OVERLAY, TREE_VERSION };

	(void)state;
	for (unsigned k = 0; k < ARRAY_SIZE(words); k++) {
		struct world *w = world_new(3, &world_manual, k);

		world_start_all(w);
		assert_int_equal(world_add(w, 1, 2), TREE_OK);
		assert_int_equal(world_add(w, 0, 1), TREE_OK);
		world_run(w, 5000);
		assert_int_equal(tree_expected(w->node[0].tree), 3);
		refusal = words[k];
		w->node[1].lie = refuse_all;
		for (unsigned i = 0; i < 50; i++) {
			world_run(w, 100);
			assert_int_equal(tree_expected(w->node[0].tree), 3);
		}
		w->node[1].lie = NULL;
		world_run(w, 60000);
		assert_int_equal(world_parent(w, 1), 0);
		assert_int_equal(tree_expected(w->node[0].tree), 3);
		assert_true(tree_settled(w->node[0].tree));
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_epoch_of_child),
		cmocka_unit_test(test_epoch_of_anybody),
		cmocka_unit_test(test_epoch_of_mover),
		cmocka_unit_test(test_epoch_far),
		cmocka_unit_test(test_leave_of_anybody),
		cmocka_unit_test(test_confirmed_and_lost),
		cmocka_unit_test(test_confirmed_nobody),
		cmocka_unit_test(test_numbers_of_hosts),
		cmocka_unit_test(test_height_of_child),
		cmocka_unit_test(test_refused_is_not_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
