/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children that speak of hosts that are not theirs, and what looks like that
 * but is true: who has left, who has whose id, how many there are.
 */
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "tree_world.h"

/* ---- who has left ---- */

static struct tree_row said;

/* One row more than there is. */
static void lie_row(struct node *n, struct tree_msg *m)
{
	struct tree_row *r;
	uint32_t k = m->u.rows.n;

	if (m->word != TREE_OK)
		return;
	if (m->kind == TREE_BEAT)
		m->u.beaten.rows_hash += 77 + said.gone;
	if (m->kind != TREE_ROWS)
		return;
	m->u.rows.hash += 77 + said.gone;
	r = calloc(k + 1, sizeof(*r));
	assert_non_null(r);
	memcpy(r, m->u.rows.row, k * sizeof(*r));
	free((void *)m->u.rows.row);
	r[k] = said;
	r[k].parent = n->stored.id;
	m->u.rows.row = r;
	m->u.rows.n++;
}

static void say_of(const struct world *w, unsigned i)
{
	said = (struct tree_row){
		.id = w->node[i].stored.id,
		.ep = w->node[i].ep,
		.incarnation = w->node[i].stored.incarnation + 1,
		.lease = tree_epoch(w->node[0].tree),
	};
}

static void must_expect(struct world *w, unsigned at, unsigned n, uint64_t ms)
{
	for (uint64_t end = w->now + ms; w->now < end;) {
		world_run(w, 100);
		assert_int_equal(tree_expected(w->node[at].tree), n);
	}
}

/* A sibling of that one, or 0. */
static unsigned beside(const struct world *w, unsigned i)
{
	int up = world_parent(w, i);
	unsigned k = 1;

	while (k < w->n && (k == i || world_parent(w, k) != up))
		k++;
	return k % w->n;
}

/* Whom it never had below it a child cannot take away, nor its parent. */
static void test_gone_of_others(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct world *w = world_grown(7, 2, 1, 5);
		unsigned victim = world_leaf(w, 0), liar = beside(w, victim);
		unsigned above = (unsigned)world_parent(w, victim);

		if (i / 2 == 1) /* below the root itself */
			liar = beside(w, above);
		if (i / 2 == 2) { /* and it vanishes with its parent */
			liar = beside(w, above);
			world_kill(w, above);
		}
		if (i % 2 || i / 2 == 2) {
			world_kill(w, victim);
			world_run(w, 10000);
		}
		if (i / 2 == 2) {
			world_start(w, above);
			world_run(w, 10000);
		}
		assert_int_equal(tree_expected(w->node[0].tree), 7);
		say_of(w, victim);
		said.gone = true;
		w->node[liar].lie = lie_row;
		must_expect(w, 0, 7, 10000);
		if (i < 2)
			must_expect(w, above, 3, 1000);
		w->node[liar].lie = NULL;
		must_expect(w, 0, 7, 70000);
		assert_true(tree_settled(w->node[0].tree));
		world_free(w);
	}
}

/* Nor if it says before that it has it; or that it asked for a place there. */
static void test_gone_in_steps(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct world *w = world_grown(7, 2, 1, 5);
		unsigned victim = world_leaf(w, 0);
		unsigned above = (unsigned)world_parent(w, victim);
		unsigned liar = i & 1 ? beside(w, victim) : beside(w, above);
		struct tree_msg m;

		world_kill(w, victim);
		world_run(w, 10000);
		say_of(w, victim);
		said.up = i & 4;
		if (i & 2) {
			world_climb(w, liar, victim, &m);
			/* by itself: that cannot be */
			m.u.grant.via[m.u.grant.n_via++] =
				w->node[victim].stored.id;
			assert_int_equal(
				world_ask(w, liar,
					  (unsigned)world_parent(w, liar), &m,
					  NULL),
				TREE_CYCLE);
		} else {
			w->node[liar].lie = lie_row;
			must_expect(w, 0, 7, 5000);
		}
		said.gone = true;
		w->node[liar].lie = lie_row;
		must_expect(w, 0, 7, 10000);
		w->node[liar].lie = NULL;
		must_expect(w, 0, 7, 70000);
		assert_true(tree_settled(w->node[0].tree));
		world_free(w);
	}
}

/* Nor a host of a list that nobody has seen. */
static void test_gone_of_listed(void **state)
{
	struct world *w = world_new(7, &world_static, 3);

	(void)state;
	world_roots(w, 1);
	for (unsigned i = 0; i < 7; i++)
		w->node[i].conf.fanout = 2;
	for (unsigned i = 0; i < 6; i++)
		world_start(w, i);
	world_run(w, 30000);
	assert_int_equal(tree_expected(w->node[0].tree), 7);
	for (unsigned liar = 1; liar < 6; liar++) {
		say_of(w, 6);
		said.id = tree_members(w->node[0].tree, &(uint32_t){ 0 })[6].id;
		said.gone = true;
		w->node[liar].lie = lie_row;
		must_expect(w, 0, 7, 5000);
		w->node[liar].lie = NULL;
	}
	world_start(w, 6);
	must_settle(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 7);
	world_free(w);
}

/* But who was granted a place there leaves, whatever was above it before. */
static void test_gone_of_orphans(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct world *w = world_grown(15, 2, 1, 5 + i);
		unsigned leaf = world_leaf(w, 0);
		unsigned above = (unsigned)world_parent(w, leaf);

		world_kill(w, above);
		world_run(w, i & 1 ? 5000 : 90000);
		assert_true(world_parent(w, leaf) >= 0);
		if (i & 2) { /* and it was another one meanwhile */
			world_kill(w, leaf);
			world_start(w, leaf);
			world_run(w, 90000);
		}
		assert_int_equal(tree_expected(w->node[0].tree), 15);
		tree_drain(w->node[leaf].tree);
		world_run(w, 10000);
		assert_true(w->node[leaf].drained);
		must_expect(w, 0, 14, 5000);
		world_free(w);
	}
}

/* Who leaves while its parent has none itself, and goes elsewhere, has left. */
static void test_gone_on_the_way(void **state)
{
	(void)state;
	for (unsigned lost = 1; lost < 3; lost++) {
		struct world *w = world_grown(5, 1, 1, 1);

		assert_int_equal(world_parent(w, 4), 3);
		world_kill(w, lost);
		tree_drain(w->node[lost + 2].tree);
		world_run(w, 20000);
		assert_int_equal(tree_expected(w->node[0].tree), 4);
		world_start(w, lost);
		world_kill(w, lost + 2);
		must_settle(w, 20000);
		assert_int_equal(tree_expected(w->node[0].tree), 4);
		world_free(w);
	}
}

/* Its parent is lost, it finds another one and is taken away from there. */
static void test_gone_of_the_latest(void **state)
{
	struct world *w = world_new(4, &world_manual, 1);

	(void)state;
	world_start_all(w);
	assert_int_equal(world_add(w, 0, 1), TREE_OK);
	assert_int_equal(world_add(w, 0, 2), TREE_OK);
	assert_int_equal(world_add(w, 1, 3), TREE_OK);
	must_settle(w, 20000);
	world_kill(w, 1);
	world_run(w, 10000);
	assert_int_equal(world_add(w, 2, 3), TREE_OK);
	must_settle(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 4);
	assert_int_equal(tree_remove(w->node[2].tree, &w->node[3].ep, NULL), 0);
	world_run(w, 5000);
	assert_int_equal(tree_expected(w->node[0].tree), 3);
	world_free(w);
}

/* It comes and leaves before anybody above its parent heard of it. */
static void test_gone_untold(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct world *w = world_growing(4, 3, 1, 1, 1);

		/* it had been a member elsewhere, or not */
		if (i) {
			w->node[1].conf.fanout = 2;
			world_start(w, 3);
			must_settle(w, 60000);
			world_kill(w, 3);
			world_run(w, 5000);
			w->node[1].conf.fanout = 1;
		}
		w->see = world_no_rows;
		w->node[3].seeds[0] = w->node[2].ep;
		world_start(w, 3);
		while (world_parent(w, 3) < 0)
			world_run(w, 1);
		world_run(w, 50);
		tree_drain(w->node[3].tree);
		world_run(w, 200);
		assert_true(w->node[3].drained);
		w->see = NULL;
		world_run(w, 20000);
		assert_int_equal(tree_expected(w->node[0].tree), 3);
		assert_true(tree_settled(w->node[0].tree));
		world_free(w);
	}
}

/* It comes back below another one, and leaves before that was heard. */
static void test_gone_elsewhere(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		unsigned top = i / 3, last = 3 + top;
		struct world *w = world_new(last + 1, &world_join, 1);
		int first;

		/* the two that may take it are below the root, or further */
		world_roots(w, 1);
		for (unsigned k = 0; k <= last; k++)
			w->node[k].conf.fanout = k < top ? 1 : 2;
		for (unsigned k = 0; k <= last; k++) {
			world_start(w, k);
			world_run(w, k ? 100 : 1500);
		}
		must_settle(w, 20000);
		first = world_parent(w, last);
		world_kill(w, last);
		world_run(w, 5000);
		/* rows are told not at all, or for a while */
		w->see = i % 3 ? NULL : world_no_rows;
		world_start(w, last);
		while (world_parent(w, last) < 0)
			world_run(w, 1);
		assert_int_not_equal(world_parent(w, last), first);
		world_run(w, 50 + i % 3 * 700);
		tree_drain(w->node[last].tree);
		world_run(w, 200);
		assert_true(w->node[last].drained);
		world_kill(w, last);
		w->see = NULL;
		world_run(w, 10000);
		assert_int_equal(tree_expected(w->node[0].tree), last);
		assert_true(tree_settled(w->node[0].tree));
		world_free(w);
	}
}

/* ---- who has whose id ---- */

/* What the root's row of this host says of where it is. */
static bool row_is(struct world *w, unsigned i)
{
	uint32_t n;
	const struct tree_row *r = tree_rows(w->node[0].tree, &n);

	for (uint32_t k = 0; k < n; k++)
		if (memcmp(&r[k].id, &w->node[i].stored.id, 16) == 0)
			return endpoint_equal(&r[k].ep, &w->node[i].ep) &&
			       r[k].incarnation ==
				       w->node[i].stored.incarnation;
	return false;
}

/* Who hears of two asks again and again, but its rows stay as they are. */
static void must_ask_again(struct world *w, unsigned at)
{
	uint64_t version = tree_rows_version(w->node[at].tree);
	uint64_t hellos = w->sent[TREE_HELLO];

	world_run(w, 12000);
	assert_int_equal(tree_rows_version(w->node[at].tree), version);
	assert_in_range(w->sent[TREE_HELLO] - hellos, 2, 12);
}

/* Nobody takes an id away by saying that a younger host has it. */
static void test_id_of_others(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		struct world *w = world_grown(7, 2, 1, 5);
		unsigned leaf = world_leaf(w, 0);
		unsigned above = (unsigned)world_parent(w, leaf);
		unsigned victim = i & 1 ? above : leaf;
		unsigned liar = i & 2 ? beside(w, above) : beside(w, victim);
		struct node_id was = w->node[victim].stored.id;

		say_of(w, victim);
		said.up = true;
		/* nobody is there, or another one, or it is the elder */
		said.ep.port++;
		if ((i >> 2) == 1)
			said.ep = w->node[liar].ep;
		else if ((i >> 2) == 2)
			said.ep = w->node[0].ep;
		else if ((i >> 2) == 3)
			said.incarnation = 1;
		w->node[liar].lie = lie_row;
		must_expect(w, 0, 7, 5000);
		if ((i >> 2) < 3)
			must_ask_again(w, (unsigned)world_parent(w, liar));
		assert_false(tree_settled(w->node[world_parent(w, liar)].tree));
		/* of what is said to be older it is not known at once */
		assert_true(row_is(w, victim) || (i >> 2) == 3);
		must_expect(w, 0, 7, 15000);
		w->node[liar].lie = NULL;
		must_settle(w, 20000);
		must_expect(w, 0, 7, 30000);
		assert_memory_equal(&was, &w->node[victim].stored.id, 16);
		assert_true(row_is(w, victim));
		assert_true(tree_settled(w->node[0].tree));
		world_free(w);
	}
}

static unsigned asking, unheard;

static bool no_hello(struct world *w, unsigned from, unsigned to,
		     const struct tree_msg *m, bool reply)
{
	bool lost = m->kind == TREE_HELLO && !reply && to == w->n - 1 &&
		    from == asking;

	unheard += lost;
	return !lost;
}

/* But where there is one indeed, the elder has another id soon. */
static void test_id_of_two(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		unsigned young = 6, elder = 5;
		struct world *w;

		/* the first that hears of both is the root, or below it */
		asking = i / 2;
		young += asking;
		elder += asking;
		w = world_new(young + 1, &world_join, 5);
		world_roots(w, 1);
		for (unsigned k = 0; k < w->n; k++)
			w->node[k].conf.fanout = k < asking ? 1 : 2;
		for (unsigned k = 0; k < young; k++) {
			world_start(w, k);
			world_run(w, k ? 100 : 1500);
		}
		must_settle(w, 20000);
		/* where there is no room for the other one */
		while (!beside(w, elder) || world_depth(w, elder) < 2 + asking)
			elder--;
		w->node[young].stored = w->node[elder].stored;
		w->node[young].stored.incarnation = 50;
		w->see = i & 1 ? no_hello : NULL;
		unheard = 0;
		world_start(w, young);
		/* the first question is lost */
		while (i & 1 && !unheard)
			world_run(w, 100);
		w->see = NULL;
		world_run(w, 12000);
		assert_true(w->sent[TREE_LEAVE]);
		must_settle(w, 12000);
		assert_int_equal(w->node[young].stored.incarnation, 51);
		assert_memory_not_equal(&w->node[young].stored.id,
					&w->node[elder].stored.id, 16);
		assert_int_equal(tree_expected(w->node[0].tree), w->n);
		world_free(w);
	}
}

/* ---- more rows than there can be ---- */

static uint32_t many;

static void lie_many(struct node *n, struct tree_msg *m)
{
	static uint32_t told[WORLD_NODES];
	uint32_t offset;
	struct tree_row *r;

	if (m->kind == TREE_BEAT && m->word == TREE_OK)
		m->u.beaten.rows_hash = 77;
	if (m->kind != TREE_ROWS)
		return;
	if (m->word == TREE_OK) { /* the first page */
		free((void *)m->u.rows.row);
		told[n->i] = 0;
	}
	offset = told[n->i];
	r = calloc(TREE_ROWS_PAGE, sizeof(*r));
	assert_non_null(r);
	for (uint32_t i = 0; i < TREE_ROWS_PAGE; i++) {
		uint32_t k = offset + i;

		r[i].ep = n->ep;
		memcpy(&r[i].ep.addr.b[12], &(uint32_t){ k << 8 | 11 }, 4);
		r[i].ep.port = (uint16_t)(8000 + n->i);
		memcpy(r[i].id.b, &(uint32_t[]){ k, 9, n->i, 9 }, 16);
		r[i].parent = n->stored.id;
		r[i].incarnation = 5;
	}
	if (!offset)
		r[0].id = n->stored.id;
	m->word = TREE_OK;
	m->u.rows.row = r;
	m->u.rows.n = MIN(TREE_ROWS_PAGE, many - offset);
	m->u.rows.hash = 77;
	m->u.rows.offset = offset;
	told[n->i] += m->u.rows.n;
	m->u.rows.next = told[n->i] < many ? told[n->i] : 0;
}

static void must_crowd(struct world *w, unsigned liar, bool so)
{
	struct tree_child c;
	unsigned k = tree_n_children(w->node[0].tree);

	assert_int_equal(k, 6);
	while (k--) {
		tree_child_at(w->node[0].tree, k, &c);
		assert_int_equal(c.crowded,
				 so && endpoint_equal(&c.ep,
						      &w->node[liar].ep));
	}
}

/*
 * A leaf that tells of thousands is believed nothing, and asked nothing; each
 * beginning and each end is told once.
 */
static void test_rows_of_many(void **state)
{
	struct world *w = world_grown(7, 6, 1, 5);
	unsigned told = w->node[0].child_events;

	(void)state;
	many = 20000;
	for (unsigned i = 0; i < 3; i++) {
		w->node[3].lie = lie_many;
		must_expect(w, 0, 7, 20000);
		must_crowd(w, 3, true);
		assert_false(tree_settled(w->node[0].tree));
		assert_int_equal(w->node[0].child_events, ++told);
		w->node[3].lie = NULL;
		must_settle(w, 20000);
		must_crowd(w, 3, false);
		assert_int_equal(w->node[0].child_events, ++told);
	}
	world_free(w);
}

/* A host asks for a place below that one, with so many below it. */
static enum tree_word claim(struct world *w, unsigned from, uint32_t hosts,
			    bool loop)
{
	struct tree_msg m = { .kind = TREE_GRANT };

	m.lease = tree_lease(w->node[from].tree);
	m.u.grant.act = TREE_GRANT_ASK;
	world_mover(w, from, &m.u.grant.mover);
	memset(m.u.grant.mover.id.b, 0xab, 16);
	m.u.grant.mover.hosts = hosts;
	m.u.grant.acceptor = w->node[from].stored.id;
	m.u.grant.via[m.u.grant.n_via++] = w->node[loop ? 0 : from].stored.id;
	return world_ask(w, from, (unsigned)world_parent(w, from), &m, NULL);
}

/* Nobody came to it whom the root refused. */
static void test_rows_of_refused(void **state)
{
	struct world *w = world_grown(7, 6, 1, 5);

	(void)state;
	many = 20000;
	assert_int_equal(claim(w, 3, TREE_MEMBERS, true), TREE_LOOP);
	w->node[3].lie = lie_many;
	must_expect(w, 0, 7, 20000);
	must_crowd(w, 3, true);
	world_free(w);
}

/* Of those that nobody else knows, and itself, there is an end. */
static void test_rows_of_strangers(void **state)
{
	struct world *w = world_grown(7, 6, 1, 5);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(claim(w, 3, TREE_MEMBERS, false), TREE_OK);
		world_run(w, 20000);
	}
	/* so many that were a tree of their own may have come */
	many = 60000;
	w->node[3].lie = lie_many;
	world_run(w, 20000);
	must_crowd(w, 3, false);
	assert_int_equal(tree_expected(w->node[0].tree), 7 + many - 1);
	w->node[3].lie = NULL;
	world_run(w, 20000);
	many = 150000;
	w->node[3].lie = lie_many;
	world_run(w, 20000);
	must_crowd(w, 3, true);
	world_free(w);
}

static bool crowds(struct world *w, void *arg)
{
	struct tree_child c;

	for (unsigned k = 0; k < tree_n_children(w->node[0].tree); k++) {
		tree_child_at(w->node[0].tree, k, &c);
		if (endpoint_equal(&c.ep, &w->node[*(unsigned *)arg].ep))
			return c.crowded;
	}
	return false;
}

/* Who came with others may not have heard of all of them when it asked. */
static void test_rows_of_untold(void **state)
{
	struct world *w = world_grown(7, 6, 1, 5);

	(void)state;
	many = 40000;
	assert_int_equal(claim(w, 3, 2, false), TREE_OK);
	w->node[3].lie = lie_many;
	world_run(w, 20000);
	must_crowd(w, 3, false);
	assert_int_equal(tree_expected(w->node[0].tree), 7 + many - 1);
	world_free(w);
}

/* How many children of this one are rejected. */
static unsigned crowded(const struct world *w, unsigned at)
{
	struct tree_child c;
	unsigned n = 0;

	for (unsigned k = 0; k < tree_n_children(w->node[at].tree); k++) {
		tree_child_at(w->node[at].tree, k, &c);
		n += c.crowded;
	}
	return n;
}

/*
 * A parent is not rejected for what is told below it: by two that tell of as
 * many as each may, or whom the root let have more; or by one that may tell of
 * more there than it may itself, as it has another parent since.
 */
static void test_rows_of_parent(void **state)
{
	const uint32_t tells[] = { 4000, 70000, 140000 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(tells); i++) {
		struct world *w = world_grown(13, 3, 2, 5);
		unsigned liar = world_leaf(w, 0), other = liar, root;
		unsigned above = (unsigned)world_parent(w, liar);

		while (i < 2 &&
		       (other == liar || world_parent(w, other) != (int)above))
			other--;
		if (i == 1) {
			assert_int_equal(claim(w, liar, TREE_MEMBERS, false),
					 TREE_OK);
			assert_int_equal(claim(w, other, TREE_MEMBERS, false),
					 TREE_OK);
			world_run(w, 20000);
		}
		for (unsigned k = 0; i == 2 && k < 2200; k++)
			assert_int_equal(claim(w, liar, 1, false), TREE_OK);
		if (i == 2) {
			world_kill(w, 0);
			world_run(w, 20000);
		}
		root = (unsigned)world_root(w);
		assert_int_equal(world_parent(w, above), root);
		many = tells[i];
		w->node[liar].lie = w->node[other].lie = lie_many;
		for (unsigned k = 0; k < 3000; k++) {
			world_run(w, 10);
			assert_int_equal(crowded(w, root), 0);
		}
		assert_int_equal(crowded(w, above), 1);
		assert_true(tree_expected(w->node[root].tree) > tells[i] ||
			    i == 2);
		world_free(w);
	}
}

static bool no_limit(struct world *w, unsigned from, unsigned to,
		     const struct tree_msg *m, bool reply)
{
	(void)w, (void)from, (void)to;
	if (m->kind == TREE_BEAT && !reply)
		((struct tree_msg *)m)->u.beat.rows_most = 0;
	return true;
}

/* A parent of the version before sets no limit, until it is of this one. */
static void test_rows_of_old_parent(void **state)
{
	struct world *w = world_grown(13, 3, 1, 5);
	unsigned liar = world_leaf(w, 0), other = liar - 1;
	unsigned above = (unsigned)world_parent(w, liar);

	(void)state;
	while (world_parent(w, other) != (int)above)
		other--;
	w->see = no_limit;
	many = 4000;
	w->node[liar].lie = w->node[other].lie = lie_many;
	world_run(w, 20000);
	assert_int_equal(crowded(w, above), 0);
	assert_true(tree_expected(w->node[above].tree) > 2 * many);
	w->see = NULL;
	world_run(w, 20000);
	assert_int_equal(crowded(w, above), 1);
	assert_int_equal(crowded(w, 0), 0);
	world_free(w);
}

static bool buried;

/* They are there, and then they have left. */
static void lie_left(struct node *n, struct tree_msg *m)
{
	lie_many(n, m);
	if (m->kind == TREE_BEAT && m->word == TREE_OK)
		m->u.beaten.rows_hash += many + buried;
	if (m->kind != TREE_ROWS)
		return;
	m->u.rows.hash += many + buried;
	for (uint32_t i = 0; buried && i < m->u.rows.n; i++)
		if (m->u.rows.offset + i)
			((struct tree_row *)m->u.rows.row)[i].gone = true;
}

static void bury(struct world *w, unsigned liar, unsigned above, uint32_t n)
{
	struct tree_msg m = { .kind = TREE_LEAVE };

	many = n;
	w->node[liar].lie = lie_left;
	buried = false;
	world_run(w, 5000);
	buried = true;
	world_run(w, 5000);
	w->node[liar].lie = NULL;
	m.lease = tree_lease(w->node[liar].tree);
	m.u.leave.id = w->node[liar].stored.id;
	m.u.leave.incarnation = w->node[liar].stored.incarnation;
	assert_int_equal(world_ask(w, liar, above, &m, NULL), TREE_OK);
}

/* Nor those beside a liar for hosts that left, as it told; nor their parent. */
static void test_rows_of_graves(void **state)
{
	const uint32_t tells[] = { 4000, 2100 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(tells); i++) {
		struct world *w = world_grown(41, 3, 1, 5);
		unsigned leaf = w->n - 1, honest, above, top;

		while (world_depth(w, leaf) < 4)
			leaf--;
		honest = (unsigned)world_parent(w, leaf);
		above = (unsigned)world_parent(w, honest);
		top = (unsigned)world_parent(w, above);
		bury(w, beside(w, honest), above, tells[i]);
		world_run(w, 2000);
		/* others take the room that their parent has */
		many = 1600;
		for (unsigned k = 1; k < w->n; k++)
			if (world_parent(w, k) == (int)top && k != above)
				w->node[k].lie = lie_many;
		for (unsigned k = 0; k < 1500; k++) {
			world_run(w, 10);
			assert_int_equal(crowded(w, above), 0);
			assert_true(k < 500 || !crowded(w, top));
		}
		world_free(w);
	}
}

/* The first beat of each, and each third from there. */
static bool beats_lost(struct world *w, unsigned from, unsigned to,
		       const struct tree_msg *m, bool reply)
{
	unsigned *n = w->see_arg;

	(void)to;
	return m->kind != TREE_BEAT || reply || n[from]++ % 3;
}

/*
 * Who came with many is not rejected before all those above have said so,
 * however deep it is.
 */
static void test_rows_at_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		unsigned n[16] = { 0 };
		struct world *w = i ? world_grown(16, 1, 1, 43)
				    : world_grown(13, 3, 1, 5);
		unsigned leaf = world_leaf(w, 0);

		many = 5000;
		assert_int_equal(claim(w, leaf, many, false), TREE_OK);
		w->node[leaf].lie = lie_many;
		w->see = i ? beats_lost : NULL;
		w->see_arg = n;
		for (unsigned k = 0; k < 4000; k++) {
			world_run(w, 10);
			for (unsigned at = 0; at < w->n; at++)
				assert_int_equal(crowded(w, at), 0);
		}
		assert_true(tree_expected(w->node[0].tree) > many);
		world_free(w);
	}
}

static bool believed(struct world *w, void *unused)
{
	(void)unused;
	return tree_expected(w->node[0].tree) >= TREE_MEMBERS - 1;
}

/* Where there is no room for all, who tells of most is rejected, nobody else */
static void test_rows_of_most(void **state)
{
	struct world *w = world_growing(8, 7, 6, 1, 5);
	struct tree_msg m = { .kind = TREE_GRANT };
	unsigned liar = 3;
	struct tree_child c;
	uint64_t ms;
	int up;

	(void)state;
	w->slow_check = true;
	/* a root that is new is told that there were as many */
	m.lease = tree_lease(w->node[liar].tree);
	world_mover(w, liar, &m.u.grant.mover);
	m.u.grant.mover.id.b[0] ^= 1;
	m.u.grant.mover.hosts = m.u.grant.mover.fleet = TREE_MEMBERS;
	m.u.grant.mover.seen = (struct epoch){ .term = 1, .root = 1 };
	m.u.grant.via[m.u.grant.n_via++] = w->node[liar].stored.id;
	assert_int_equal(world_ask(w, liar, 0, &m, NULL), TREE_OK);
	assert_int_equal(world_ask(w, liar, 0, &m, NULL), TREE_OK);
	world_run(w, 15000);
	tree_accept_rows(w->node[0].tree);
	many = TREE_MEMBERS - 1;
	w->node[liar].lie = lie_many;
	ms = world_until(w, believed, NULL, 30000);
	assert_int_not_equal(ms, UINT64_MAX);
	must_crowd(w, liar, false);
	/* there is room for one more, and two are to be told of */
	w->node[7].seeds[0] = w->node[5].ep;
	world_start(w, 7);
	ms = world_until(w, crowds, &liar, 10000);
	assert_int_not_equal(ms, UINT64_MAX);
	world_run(w, 3000);
	must_crowd(w, liar, true);
	up = world_parent(w, 7);
	assert_true(up > 0 && up != (int)liar);
	for (unsigned k = 0; k < 6; k++) {
		tree_child_at(w->node[0].tree, k, &c);
		if (endpoint_equal(&c.ep, &w->node[up].ep))
			assert_int_equal(c.hosts, 2);
	}
	/* as many as there were may be missing now */
	assert_false(tree_settled(w->node[0].tree));
	w->node[liar].lie = NULL;
	world_run(w, 12000);
	assert_false(tree_settled(w->node[0].tree));
	tree_accept_rows(w->node[0].tree);
	must_settle(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 8);
	must_crowd(w, liar, false);
	world_free(w);
}

/*
 * Who asks for grants that nobody gives may not answer for more hosts: what is
 * above takes no more of its parent, which would be rejected with all others.
 */
static void test_hosts_without_grant(void **state)
{
	struct world *w = world_grown(4, 1, 1, 1);
	struct tree_msg m, a;
	struct tree_child c;

	(void)state;
	must_settle(w, 20000);
	assert_int_equal(world_parent(w, 2), 1);
	assert_int_equal(world_parent(w, 3), 2);
	world_climb(w, 2, 1, &m);
	assert_int_equal(world_ask(w, 2, 1, &m, NULL), TREE_CYCLE);
	tree_child_at(w->node[1].tree, 0, &c);
	assert_int_equal(c.most, 2);
	tree_child_at(w->node[0].tree, 0, &c);
	assert_int_equal(c.most, 3);
	/* but once one is given */
	m.u.grant.mover.id.b[3] = 1;
	m.u.grant.mover.ep = w->node[3].ep;
	assert_int_equal(world_ask(w, 2, 1, &m, &a), TREE_OK);
	assert_true(a.u.granted.granted);
	tree_child_at(w->node[1].tree, 0, &c);
	assert_int_equal(c.most, TREE_MEMBERS);
	tree_child_at(w->node[0].tree, 0, &c);
	assert_int_equal(c.most, TREE_MEMBERS);
	world_free(w);
}

/*
 * A child tells of a host without a life or a lease, which asks for a place
 * elsewhere, and then of it no more: it stays what it was told to be.
 */
static void test_told_without_lease(void **state)
{
	struct world *w = world_growing(5, 4, 4, 1, 1);
	struct tree_msg m;
	const struct tree_row *r;
	uint32_t n, k = 0;

	(void)state;
	must_settle(w, 20000);
	say_of(w, 4);
	said.incarnation = 0;
	said.lease = (struct epoch){ 0 };
	w->node[1].lie = lie_row;
	world_run(w, 6000);
	world_climb(w, 2, 4, &m);
	assert_int_equal(world_ask(w, 2, 0, &m, NULL), TREE_OK);
	w->node[1].lie = NULL;
	world_run(w, 20000);
	r = tree_rows(w->node[0].tree, &n);
	assert_int_equal(n, 5);
	while (k < n && !endpoint_equal(&r[k].ep, &w->node[4].ep))
		k++;
	assert_in_range(k, 1, n - 1);
	assert_memory_equal(&r[k].id, &w->node[4].stored.id, sizeof(r[k].id));
	assert_int_equal(r[k].level, 1);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gone_of_others),
		cmocka_unit_test(test_gone_in_steps),
		cmocka_unit_test(test_gone_of_listed),
		cmocka_unit_test(test_gone_of_orphans),
		cmocka_unit_test(test_gone_on_the_way),
		cmocka_unit_test(test_gone_of_the_latest),
		cmocka_unit_test(test_gone_untold),
		cmocka_unit_test(test_gone_elsewhere),
		cmocka_unit_test(test_id_of_others),
		cmocka_unit_test(test_id_of_two),
		cmocka_unit_test(test_rows_of_many),
		cmocka_unit_test(test_rows_of_refused),
		cmocka_unit_test(test_rows_of_strangers),
		cmocka_unit_test(test_rows_of_untold),
		cmocka_unit_test(test_rows_of_parent),
		cmocka_unit_test(test_rows_of_old_parent),
		cmocka_unit_test(test_rows_of_graves),
		cmocka_unit_test(test_rows_at_once),
		cmocka_unit_test(test_rows_of_most),
		cmocka_unit_test(test_hosts_without_grant),
		cmocka_unit_test(test_told_without_lease),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
