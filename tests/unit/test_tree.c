/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Joining: depth, limits, what is refused, late and forged grants. */
#include <string.h>

#include "tree_world.h"

static unsigned deepest(const struct world *w)
{
	unsigned d = 0, k;

	for (unsigned i = 0; i < w->n; i++) {
		k = world_depth(w, i);
		d = k > d ? k : d;
	}
	return d;
}

/* Below the root, or below the agent that came before it. */
static struct world *line_or_star(unsigned n, bool line)
{
	struct world *w = world_new(n, &world_join, 3);

	world_roots(w, 1);
	for (unsigned i = 0; i < n; i++) {
		w->node[i].conf.fanout = line ? 1 : TREE_CHILDREN;
		world_start(w, i);
		world_run(w, i ? 150 : 1500);
	}
	must_settle(w, 60000);
	return w;
}

static struct tree_msg join_of(const struct world *w, unsigned i)
{
	struct tree_msg m = { .kind = TREE_JOIN };
	struct tree_mover *x = &m.u.join.mover;

	x->id = w->node[i].stored.id;
	x->incarnation = w->node[i].stored.incarnation;
	x->ep = w->node[i].ep;
	x->hosts = 1;
	x->nonce = 77;
	memcpy(x->overlay, "test", 5);
	return m;
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
	must_settle(w, 20000);
	assert_in_range(deepest(w), best, best + 1);
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
	join_to(273, 16, 2);
}

static void test_all_at_once(void **state)
{
	struct world *w = world_new(100, &world_join, 5);

	(void)state;
	world_roots(w, 1);
	world_start_all(w);
	must_settle(w, 20000);
	assert_in_range(deepest(w), 2, 3);
	world_free(w);
}

/* It is asked even as the last of all that may be configured. */
static void test_last_seed(void **state)
{
	struct world *w = world_new(TREE_SEEDS + 1, &world_join, 5);
	struct node *last = &w->node[TREE_SEEDS];

	(void)state;
	world_roots(w, 1);
	last->conf.n_roots = 0;
	for (unsigned i = 0; i < TREE_SEEDS; i++)
		last->seeds[i] = w->node[TREE_SEEDS - 1 - i].ep;
	last->n_seeds = TREE_SEEDS;
	world_start(w, 0);
	world_start(w, TREE_SEEDS);
	must_be_whole(w, TREE_SEEDS * 1000);
	world_free(w);
}

static void test_waits_without_seeds(void **state)
{
	struct world *w = world_new(3, &world_join, 5);

	(void)state;
	world_roots(w, 1);
	world_start(w, 1);
	world_start(w, 2);
	world_run(w, 30000);
	assert_int_equal(world_parent(w, 1), -2);
	world_start(w, 0);
	must_settle(w, 30000);
	assert_int_equal(world_root(w), 0);
	world_free(w);
}

/* ---- limits ---- */

static void test_t57_65th_child(void **state)
{
	struct world *w = line_or_star(66, false);
	struct tree_msg m;

	(void)state;
	/* the root is full, and names those below it */
	assert_int_equal(tree_n_children(w->node[0].tree), TREE_CHILDREN);
	assert_int_equal(world_depth(w, 65), 2);
	m = join_of(w, 65);
	assert_int_equal(world_ask(w, 65, 0, &m, NULL), TREE_FULL);
	assert_int_equal(tree_word_status(TREE_FULL), 507);
	world_free(w);
}

static void test_t57_17th_level(void **state)
{
	struct world *w = world_new(19, &world_manual, 8);
	struct tree_msg m;

	(void)state;
	world_start_all(w);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(world_add(w, i, i + 1), TREE_OK);
	assert_int_equal(world_depth(w, 16), 16);
	m = join_of(w, 17);
	assert_int_equal(world_ask(w, 17, 16, &m, NULL), TREE_DEEP);
	/* nor at the top, for one that is too high itself */
	world_run(w, 3000);
	assert_int_equal(world_add(w, 18, 0), TREE_WAIT);
	world_run(w, 5000);
	assert_int_equal(world_parent(w, 0), -1);
	assert_int_equal(world_add(w, 15, 17), TREE_OK);
	world_free(w);
}

/*
 * Who does not come is asked again and again, less often: one that was added
 * and never ran after up to 30 s, a parent that was lost after up to 10.
 */
static void test_t57_asked_less_often(void **state)
{
	struct world *w = world_new(3, &world_manual, 8);
	uint64_t before;

	(void)state;
	world_start(w, 0);
	world_start(w, 1);
	assert_int_equal(world_add(w, 0, 2), TREE_WAIT);
	world_run(w, 120000);
	before = w->sent[TREE_HELLO];
	world_run(w, 600000);
	assert_in_range(w->sent[TREE_HELLO] - before, 16, 27);
	assert_int_equal(tree_remove(w->node[0].tree, &w->node[2].ep, NULL), 0);
	assert_int_equal(world_add(w, 0, 1), TREE_OK);
	world_kill(w, 0);
	world_run(w, 60000);
	before = w->sent[TREE_HELLO];
	world_run(w, 600000);
	assert_in_range(w->sent[TREE_HELLO] - before, 48, 80);
	world_free(w);
}

/* ---- what is refused ---- */

static void test_t57_refused(void **state)
{
	struct world *w = line_or_star(4, true);
	struct tree_msg m = join_of(w, 2);

	(void)state;
	assert_int_equal(world_depth(w, 3), 3);
	/* itself; from above it, asked directly and through a hop */
	assert_int_equal(world_ask(w, 2, 2, &m, NULL), TREE_SELF);
	m = join_of(w, 1);
	assert_int_equal(world_ask(w, 1, 3, &m, NULL), TREE_CYCLE);
	m = join_of(w, 0);
	assert_int_equal(world_ask(w, 0, 3, &m, NULL), TREE_CYCLE);
	m = join_of(w, 2);
	memcpy(m.u.join.mover.overlay, "other", 6);
	assert_int_equal(world_ask(w, 2, 0, &m, NULL), TREE_OVERLAY);
	/* another host answers at that address */
	m = join_of(w, 3);
	m.u.join.mover.ep = w->node[2].ep;
	assert_int_equal(world_ask(w, 3, 0, &m, NULL), TREE_DENIED);
	/* an older life of a child */
	m = join_of(w, 1);
	m.u.join.mover.incarnation--;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_DOUBLE);
	m = join_of(w, 2);
	m.u.join.mover.hosts = 0;
	assert_int_equal(world_ask(w, 2, 0, &m, NULL), TREE_BAD);
	m = join_of(w, 2);
	m.u.join.mover.ep.addr.b[12] = 224;
	assert_int_equal(world_ask(w, 2, 0, &m, NULL), TREE_BAD);
	world_free(w);
}

static void test_grants_climb_live_edges(void **state)
{
	struct world *w = line_or_star(3, true);
	struct tree_msg m = { .kind = TREE_GRANT };

	(void)state;
	m.u.grant.mover = join_of(w, 2).u.join.mover;
	m.u.grant.acceptor = w->node[1].stored.id;
	/* without a lease, with another's, from above */
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_MOVED);
	m.lease = tree_lease(w->node[2].tree);
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_MOVED);
	m.lease = tree_lease(w->node[1].tree);
	m.u.grant.n_via = TREE_VIA;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_LOOP);
	m.u.grant.n_via = TREE_VIA + 1;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_BAD);
	m.u.grant.n_via = 1;
	m.u.grant.via[0] = m.u.grant.mover.id;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_CYCLE);
	m.u.grant.via[0] = w->node[0].stored.id;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_LOOP);
	m.u.grant.n_via = 0;
	m.u.grant.mover.id = w->node[0].stored.id;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_CYCLE);
	world_free(w);
}

static void test_open_grants(void **state)
{
	struct world *w = line_or_star(2, true);
	struct tree_msg m = { .kind = TREE_GRANT }, a;

	(void)state;
	m.lease = tree_lease(w->node[1].tree);
	m.u.grant.mover = join_of(w, 1).u.join.mover;
	m.u.grant.acceptor = w->node[1].stored.id;
	m.u.grant.mover.id.b[3] = 1;
	/* 16 at a time for those with children */
	m.u.grant.mover.hosts = 2;
	for (unsigned i = 0; i < 15; i++) {
		m.u.grant.mover.id.b[4] = (uint8_t)i + 1;
		(void)world_ask(w, 1, 0, &m, NULL);
	}
	m.u.grant.mover.id.b[4] = 0;
	assert_int_equal(world_ask(w, 1, 0, &m, &a), TREE_OK);
	assert_true(a.u.granted.granted);
	assert_int_equal(a.u.granted.nonce, 77);
	m.u.grant.mover.id.b[3] = 2;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_BUSY);
	/* it asks anew: a new number, the old one is void */
	m.u.grant.mover.id.b[3] = 1;
	assert_int_equal(world_ask(w, 1, 0, &m, &a), TREE_OK);
	m.u.grant.act = TREE_GRANT_VOID;
	m.u.grant.grant = a.u.granted.lease;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_OK);
	m.u.grant.act = TREE_GRANT_ASK;
	m.u.grant.mover.id.b[3] = 2;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_OK);
	world_run(w, 2100);
	m.u.grant.mover.id.b[3] = 3;
	assert_int_equal(world_ask(w, 1, 0, &m, NULL), TREE_OK);
	/* 64 for those without; none of them was taken, none is a member */
	world_run(w, 2100);
	m.u.grant.mover.hosts = 1;
	for (unsigned i = 0; i < 64; i++) {
		m.u.grant.mover.id.b[4] = (uint8_t)i;
		(void)world_ask(w, 1, 0, &m, NULL);
	}
	m.u.grant.mover.id.b[4] = 64;
	(void)world_ask(w, 1, 0, &m, NULL);
	world_run(w, 10000);
	assert_int_equal(tree_expected(w->node[0].tree), 2);
	must_settle(w, 10000);
	world_free(w);
}

/* ---- forged, late, repeated grants ---- */

static void lie_nonce(struct node *n, struct tree_msg *m)
{
	(void)n;
	if (m->kind == TREE_JOIN)
		m->u.granted.nonce++;
}

static void lie_old(struct node *n, struct tree_msg *m)
{
	(void)n;
	if (m->kind == TREE_JOIN && m->u.granted.granted)
		m->u.granted.lease.n = 0;
}

static void lie_path(struct node *n, struct tree_msg *m)
{
	if (m->kind == TREE_JOIN && m->u.granted.granted)
		m->u.granted.path[m->u.granted.n_path++] =
			n->w->node[1].stored.id;
}

static void lie_none(struct node *n, struct tree_msg *m)
{
	(void)n;
	if (m->kind == TREE_JOIN)
		m->u.granted.n_path = 0;
}

static void test_forged_grants(void **state)
{
	void (*const lies[])(struct node *,
			     struct tree_msg *) = { lie_nonce, lie_old,
						    lie_path, lie_none };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct world *w = world_new(2, &world_join, i);

		world_roots(w, 1);
		world_start(w, 0);
		world_run(w, 2000);
		w->node[0].lie = lies[i];
		world_start(w, 1);
		world_run(w, 10000);
		assert_int_equal(world_parent(w, 1), -2);
		world_kill(w, 1);
		world_run(w, 3000);
		assert_int_equal(tree_n_children(w->node[0].tree), 0);
		assert_int_equal(tree_expected(w->node[0].tree), 1);
		w->node[0].lie = NULL;
		world_start(w, 1);
		must_settle(w, 20000);
		world_free(w);
	}
}

struct kept {
	struct tree_msg m;
	unsigned n;
};

/* Keeps the first grant and loses it. */
static bool see_keep(struct world *w, unsigned from, unsigned to,
		     const struct tree_msg *m, bool reply)
{
	struct kept *k = w->see_arg;

	(void)from;
	(void)to;
	if (!reply || m->kind != TREE_JOIN || !m->u.granted.granted || k->n)
		return true;
	k->m = *m;
	k->n++;
	return false;
}

static void test_late_grant(void **state)
{
	struct world *w = world_new(2, &world_join, 3);
	struct epoch lease;
	struct kept k = { 0 };

	(void)state;
	w->see = see_keep;
	w->see_arg = &k;
	world_roots(w, 1);
	world_start(w, 0);
	world_run(w, 2000);
	world_start(w, 1);
	must_settle(w, 20000);
	assert_int_equal(k.n, 1);
	lease = tree_lease(w->node[1].tree);
	assert_true(epoch_compare(&k.m.u.granted.lease, &lease) < 0);
	/* under every ref that there ever was */
	for (uint64_t ref = 0; ref < (uint64_t)200 << 16; ref++)
		if ((ref & 0xffff) < 8)
			tree_done(w->node[1].tree, ref, 0, &k.m);
	k.m.u.granted.lease = tree_lease(w->node[1].tree);
	assert_true(epoch_compare(&k.m.u.granted.lease, &lease) == 0);
	must_settle(w, 3000);
	/* a beat under the old lease is not served, nor a query */
	k.m.u.granted.lease.n--;
	assert_int_equal(tree_admit(w->node[1].tree, &k.m.u.granted.lease,
				    NULL),
			 TREE_MOVED);
	k.m.u.granted.lease.n++;
	assert_int_equal(tree_admit(w->node[1].tree, &lease, &lease), TREE_OK);
	k.m.u.granted.lease.n--;
	assert_int_equal(tree_admit(w->node[1].tree, &lease,
				    &k.m.u.granted.lease),
			 TREE_MOVED);
	world_free(w);
}

static bool no_beats(struct world *w, unsigned from, unsigned to,
		     const struct tree_msg *m, bool reply)
{
	(void)w, (void)from, (void)to;
	return m->kind != TREE_BEAT || reply;
}

static bool attached(struct world *w, void *node)
{
	return world_parent(w, *(unsigned *)node) >= 0;
}

/* A candidate knows that it heard nothing from above yet. */
static void test_unheard(void **state)
{
	struct world *w = world_new(3, &world_join, 1);

	(void)state;
	world_roots(w, 2);
	world_start(w, 0);
	world_run(w, 2000);
	assert_false(tree_unheard(w->node[0].tree));
	w->see = no_beats;
	for (unsigned i = 1; i < 3; i++) {
		world_start(w, i);
		assert_true(world_until(w, attached, &i, 5000) <= 5000);
		assert_int_equal(tree_unheard(w->node[i].tree), i == 1);
	}
	w->see = NULL;
	must_settle(w, 20000);
	assert_false(tree_unheard(w->node[1].tree));
	world_free(w);
}

/* ---- the same id again ---- */

static void test_restart(void **state)
{
	struct world *w = line_or_star(6, false);
	struct epoch before = tree_lease(w->node[3].tree), after;
	struct tree_child c;

	(void)state;
	world_kill(w, 3);
	world_start(w, 3);
	must_settle(w, 20000);
	after = tree_lease(w->node[3].tree);
	assert_true(epoch_compare(&before, &after) < 0);
	assert_int_equal(tree_n_children(w->node[0].tree), 5);
	for (unsigned i = 0; i < 5; i++) {
		tree_child_at(w->node[0].tree, i, &c);
		assert_int_equal(c.state, CHILD_UP);
		assert_int_equal(c.incarnation, c.ep.addr.b[15] == 3 ? 3 : 2);
	}
	world_free(w);
}

/* Reborn without its state: another id at the same address. */
static void test_restart_without_state(void **state)
{
	struct world *w = line_or_star(6, false);

	(void)state;
	world_kill(w, 3);
	w->node[3].stored.id.b[5] = 99;
	world_start(w, 3);
	must_settle(w, 20000);
	assert_int_equal(tree_expected(w->node[0].tree), 6);
	world_free(w);
}

/* Two live hosts with one id: the younger keeps it. */
static void test_cloned(void **state)
{
	struct world *w = world_new(4, &world_join, 9);

	(void)state;
	world_roots(w, 1);
	for (unsigned i = 0; i < 4; i++)
		w->node[i].conf.fanout = 2;
	w->node[3].stored = w->node[1].stored;
	w->node[3].stored.incarnation = 50;
	world_start(w, 0);
	world_run(w, 1500);
	world_start(w, 1);
	world_start(w, 2);
	must_settle(w, 20000);
	world_start(w, 3);
	must_settle(w, 30000);
	assert_memory_not_equal(&w->node[1].stored.id, &w->node[3].stored.id,
				sizeof(struct node_id));
	assert_int_equal(w->node[3].stored.incarnation, 51);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_join_by_descent),
		cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_last_seed),
		cmocka_unit_test(test_waits_without_seeds),
		cmocka_unit_test(test_t57_65th_child),
		cmocka_unit_test(test_t57_17th_level),
		cmocka_unit_test(test_t57_asked_less_often),
		cmocka_unit_test(test_t57_refused),
		cmocka_unit_test(test_grants_climb_live_edges),
		cmocka_unit_test(test_open_grants),
		cmocka_unit_test(test_forged_grants),
		cmocka_unit_test(test_late_grant),
		cmocka_unit_test(test_unheard),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_restart_without_state),
		cmocka_unit_test(test_cloned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
