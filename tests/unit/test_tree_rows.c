/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows: what children tell, lies, pages, members, want of memory. */
#include <stdlib.h>
#include <string.h>

#include "tree_world.h"

/* Each after its parent, own first, nobody twice. */
static void check_order(struct world *w, unsigned i)
{
	struct node_id above[TREE_LEVELS + 2];
	const struct tree_row *r;
	uint32_t n;

	r = tree_rows(w->node[i].tree, &n);
	assert_int_equal(r[0].level, 0);
	for (uint32_t k = 0; k < n; k++) {
		if (k) {
			assert_in_range(r[k].level, 1, r[k - 1].level + 1);
			assert_memory_equal(&r[k].parent,
					    &above[r[k].level - 1],
					    sizeof(r[k].parent));
		}
		above[r[k].level] = r[k].id;
		for (uint32_t j = 0; j < k; j++)
			assert_memory_not_equal(&r[k].id, &r[j].id,
						sizeof(r[k].id));
	}
}

static void test_rows_of_all(void **state)
{
	struct world *w = world_grown(40, 3, 1, 1);
	const struct tree_peer *m;
	uint64_t version;
	uint32_t n;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		check_order(w, i);
		assert_true(tree_settled(w->node[i].tree));
	}
	/* nothing new: nothing is fetched, nothing is made again */
	version = tree_rows_version(w->node[0].tree);
	world_run(w, 8000); /* but the members are announced by then */
	memset(w->sent, 0, sizeof(w->sent));
	world_run(w, 10000);
	assert_int_equal(w->sent[TREE_ROWS], 0);
	assert_int_equal(w->sent[TREE_ANNOUNCE], 0);
	assert_int_equal(w->sent[TREE_GRANT], 0);
	assert_in_range(w->sent[TREE_BEAT], 39 * 9, 39 * 11);
	assert_int_equal(tree_rows_version(w->node[0].tree), version);
	/* everybody knows everybody's address */
	for (unsigned i = 0; i < 40; i++) {
		m = tree_members(w->node[i].tree, &n);
		assert_int_equal(n, 40);
		assert_true(m);
	}
	world_free(w);
}

static void test_pages(void **state)
{
	struct tree_msg page = { .kind = TREE_ROWS }, answer;
	struct world *w = world_grown(20, 20, 1, 2);
	uint32_t n;

	(void)state;
	/* who asks is not its parent; no row is there */
	assert_int_equal(world_ask(w, 2, 1, &page, NULL), TREE_MOVED);
	page.lease = tree_lease(w->node[1].tree);
	page.u.rows.offset = 1;
	assert_int_equal(world_ask(w, 0, 1, &page, NULL), TREE_BUSY);
	page.u.rows.offset = 0;
	assert_int_equal(world_ask(w, 0, 1, &page, &answer), TREE_OK);
	assert_int_equal(answer.u.rows.n, 1);
	assert_int_equal(answer.u.rows.next, 0);
	(void)tree_rows(w->node[0].tree, &n);
	assert_int_equal(n, 20);
	world_free(w);
}

/* Of a large overlay nobody is announced, and nobody kept who was once. */
static void test_members_outgrown(void **state)
{
	struct tree_msg beat = { .kind = TREE_BEAT };
	struct world *w = world_grown(3, 2, 1, 1);
	struct tree *t = w->node[1].tree;
	uint32_t n;

	(void)state;
	world_run(w, 5000);
	(void)tree_members(t, &n);
	assert_int_equal(n, 3);
	beat.lease = tree_lease(t);
	beat.u.beat.n_path = 1;
	beat.u.beat.path[0] = w->node[0].stored.id;
	beat.u.beat.up[0] = w->node[0].ep;
	beat.u.beat.rooted = true;
	/* a parent that knows of no members itself, or has no version for it */
	beat.u.beat.fleet = TREE_NAMED;
	assert_int_equal(world_ask(w, 0, 1, &beat, NULL), TREE_OK);
	(void)tree_members(t, &n);
	assert_int_equal(n, 3);
	beat.u.beat.fleet = TREE_NAMED + 1;
	assert_int_equal(world_ask(w, 0, 1, &beat, NULL), TREE_OK);
	(void)tree_members(t, &n);
	assert_int_equal(n, 0);
	/* it shrank: they are announced again */
	world_run(w, 5000);
	(void)tree_members(t, &n);
	assert_int_equal(n, 3);
	world_free(w);
}

/* ---- lies ---- */

enum lie {
	LIE_NONE,
	LIE_SIBLING, /* a sibling's row, heard and newer */
	LIE_SAME,    /* a sibling's, as it is */
	LIE_TWICE,   /* a host of its own twice */
	LIE_ITSELF,
	LIE_ROOT,
	LIE_ORPHAN, /* below nobody */
	LIE_ADDRESS,
	LIE_OTHER, /* begins with another */
	LIE_COUNT, /* more hosts in its beats than rows */
	LIE_OFFSET,
	LIE_EMPTY,
	LIES
};

static const enum lie lies[] = { LIE_NONE,   LIE_SIBLING, LIE_SAME,
				 LIE_TWICE,  LIE_ITSELF,  LIE_ROOT,
				 LIE_ORPHAN, LIE_ADDRESS, LIE_OTHER,
				 LIE_COUNT,  LIE_OFFSET,  LIE_EMPTY };

static enum lie lie_of(const struct node *n)
{
	return lies[n->w->lie];
}

static void lie_rows(struct node *n, struct tree_msg *m)
{
	struct tree_row *r;
	const struct node *sibling = &n->w->node[n->i == 1 ? 2 : 1];

	if (m->kind == TREE_BEAT) {
		m->u.beaten.rows_hash += lie_of(n);
		if (lie_of(n) == LIE_COUNT)
			m->u.beaten.hosts += 5;
		return;
	}
	if (m->kind != TREE_ROWS || m->word != TREE_OK)
		return;
	m->u.rows.hash += lie_of(n);
	r = calloc(m->u.rows.n + 1, sizeof(*r));
	assert_non_null(r);
	memcpy(r, m->u.rows.row, m->u.rows.n * sizeof(*r));
	free((void *)m->u.rows.row);
	m->u.rows.row = r;
	r[m->u.rows.n] = r[m->u.rows.n - 1];
	r += m->u.rows.n;
	r->parent = n->stored.id;
	r->up = true;
	switch (lie_of(n)) {
	case LIE_NONE:
	case LIE_COUNT:
	case LIES:
		return;
	case LIE_SIBLING:
		r->id = sibling->stored.id;
		r->ep = sibling->ep;
		r->incarnation = sibling->stored.incarnation;
		r->lease = tree_epoch(n->tree);
		r->lease.n += 1000;
		break;
	case LIE_SAME:
		r->id = sibling->stored.id;
		r->ep = sibling->ep;
		r->incarnation = sibling->stored.incarnation;
		r->lease = tree_lease(sibling->tree);
		break;
	case LIE_TWICE:
		break;
	case LIE_ITSELF:
		r->id = n->stored.id;
		break;
	case LIE_ROOT:
		r->id = n->w->node[0].stored.id;
		break;
	case LIE_ORPHAN:
		r->id.b[9] = 9;
		r->parent.b[9] = 9;
		break;
	case LIE_ADDRESS:
		r->id.b[9] = 9;
		r->ep.addr.b[12] = 224;
		break;
	case LIE_OTHER:
		r -= m->u.rows.n;
		r->id.b[9] = 9;
		break;
	case LIE_OFFSET:
		m->u.rows.next = 7;
		break;
	case LIE_EMPTY:
		m->u.rows.n = 0;
		free((void *)m->u.rows.row);
		m->u.rows.row = NULL;
		return;
	}
	m->u.rows.n++;
}

static struct tree_child child_of(struct world *w, unsigned i)
{
	struct tree_child c = { 0 };

	for (unsigned k = 0; k < tree_n_children(w->node[0].tree); k++) {
		tree_child_at(w->node[0].tree, k, &c);
		if (endpoint_equal(&c.ep, &w->node[i].ep))
			break;
	}
	return c;
}

static void test_t55_lies(void **state)
{
	(void)state;
	for (unsigned i = 1; i < LIES; i++) {
		struct world *w = world_grown(7, 2, 1, 5);
		unsigned liar = 1;
		struct tree_child c;

		while (world_depth(w, liar) != 1)
			liar++;
		w->lie = i;
		w->node[liar].lie = lie_rows;
		world_run(w, 20000);
		c = child_of(w, liar);
		assert_int_equal(c.state, CHILD_UP);
		/* refused, or unsure as long as two tell of one host */
		if (lies[i] == LIE_COUNT)
			assert_int_equal(c.hosts, 3);
		else
			assert_false(tree_settled(w->node[0].tree));
		assert_int_equal(tree_expected(w->node[0].tree), 7);
		check_order(w, 0);
		/* it tells the truth again */
		w->node[liar].lie = NULL;
		must_settle(w, 20000);
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_of_all),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_members_outgrown),
		cmocka_unit_test(test_t55_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
