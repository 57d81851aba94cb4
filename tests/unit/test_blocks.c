/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks of tasks: the rules one by one, then a tree of machines with lost,
 * doubled and overtaking messages, restarts, moves and roots that die.  When
 * the faults end, all blocks are equal to their owner's within a few beats a
 * level; until then no older generation and no deleted task is installed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blocks_world.h"
#include "common/util.h"

/* ---- the rules one by one ---- */

static struct tree_block head_of(uint64_t term, uint64_t index, uint64_t hash)
{
	return (struct tree_block){ .term = term,
				    .index = index,
				    .hash = hash };
}

static void test_owner_changes(void **state)
{
	struct blocks_item one = item_of(1, 1, 0), two;
	struct world *w = *state;
	struct blocks *b = w->node[0].b;
	struct tree_block head;

	assert_int_equal(blocks_change(b, &one), BLOCKS_DONE);
	assert_int_equal(blocks_change(b, &one), BLOCKS_SAME);
	assert_non_null(blocks_find(b, 1, &head));
	assert_int_equal(head.term, 1);
	assert_int_equal(head.index, 1);
	/* a generation has one content; what may change in it does */
	two = item_of(1, 1, 9);
	two.spec++;
	assert_int_equal(blocks_change(b, &two), BLOCKS_OTHER);
	two.spec--;
	assert_int_equal(blocks_change(b, &two), BLOCKS_DONE);
	two = item_of(1, 3, 0);
	assert_int_equal(blocks_change(b, &two), BLOCKS_DONE);
	assert_int_equal(blocks_change(b, &one), BLOCKS_OLDER);
	assert_int_equal(blocks_remove(b, 1), BLOCKS_DONE);
	assert_int_equal(blocks_remove(b, 1), BLOCKS_SAME);
	assert_int_equal(blocks_at(b, 0)->head.index, 4);
	assert_int_equal(blocks_at(b, 0)->head.hash, 0);
	/* not from anybody else */
	head.index = 9;
	assert_int_equal(blocks_put(b, &head, &one), BLOCKS_FOREIGN);
	assert_int_equal(blocks_delete(b, &head, 1), BLOCKS_FOREIGN);
}

static void test_changes_from_above(void **state)
{
	struct blocks_item one = item_of(1, 2, 0), in;
	struct world *w = *state;
	struct blocks *b = w->node[3].b;
	struct tree_block head = head_of(5, 10, 1);

	assert_int_equal(blocks_put(b, &head, &one), BLOCKS_DONE);
	assert_int_equal(blocks_put(b, &head, &one), BLOCKS_SAME);
	in = item_of(1, 1, 0);
	assert_int_equal(blocks_put(b, &head, &in), BLOCKS_OLDER);
	in = item_of(1, 2, 0);
	in.spec++;
	assert_int_equal(blocks_put(b, &head, &in), BLOCKS_OTHER);
	/* an older term, or below what was taken and deleted since */
	head = head_of(4, 99, 1);
	in = item_of(2, 1, 0);
	assert_int_equal(blocks_put(b, &head, &in), BLOCKS_STALE);
	assert_int_equal(blocks_delete(b, &head, 1), BLOCKS_STALE);
	head = head_of(5, 14, 1);
	assert_int_equal(blocks_delete(b, &head, 2), BLOCKS_SAME);
	head = head_of(5, 13, 1);
	assert_int_equal(blocks_put(b, &head, &in), BLOCKS_STALE);
	/* overtaken, but nothing speaks against it */
	in = item_of(3, 1, 0);
	assert_int_equal(blocks_put(b, &head, &in), BLOCKS_DONE);
	assert_int_equal(blocks_at(b, 0)->head.index, 14);
	/* what was put after the delete stays */
	head = head_of(5, 12, 1);
	assert_int_equal(blocks_delete(b, &head, 3), BLOCKS_SAME);
	assert_non_null(blocks_find(b, 3, NULL));
	/* a member changes none of it */
	assert_int_equal(blocks_remove(b, 3), BLOCKS_FOREIGN);
	assert_int_equal(blocks_change(b, &in), BLOCKS_FOREIGN);
}

/* Who forgot what was deleted refuses what could be it. */
static void test_floor(void **state)
{
	struct world *w = *state;
	struct blocks *b = w->node[3].b;
	struct tree_block head = head_of(5, 100, 1);
	struct blocks_item in = item_of(999, 1, 0);

	for (uint64_t id = 1; id <= BLOCKS_GONE + 1; id++, head.index++)
		assert_int_equal(blocks_delete(b, &head, id), BLOCKS_SAME);
	head.index = 99;
	assert_int_equal(blocks_put(b, &head, &in), BLOCKS_STALE);
	head.index = 101;
	assert_int_equal(blocks_put(b, &head, &in), BLOCKS_DONE);
	/* after a restart nothing is remembered */
	agent_restart(w, 3, true);
	in.id = 998;
	assert_int_equal(blocks_put(w->node[3].b, &head, &in), BLOCKS_STALE);
}

/* Half a block speaks for nobody, until a beat says that it is whole. */
static void test_whole(void **state)
{
	struct world *w = *state;
	struct blocks *b = w->node[1].b;
	struct blocks_item in = item_of(1, 1, 0), two = item_of(2, 1, 0);
	struct tree_block none = { 0 }, head;

	blocks_change(w->node[0].b, &in);
	blocks_change(w->node[0].b, &two);
	assert_non_null(blocks_find(w->node[0].b, 2, &head));
	assert_int_equal(blocks_put(b, &head, &two), BLOCKS_DONE);
	blocks_heard(b, &w->node[4].id, &none, 1);
	assert_int_equal(w->n_queue, 0);
	assert_int_equal(blocks_put(b, &head, &in), BLOCKS_DONE);
	blocks_heard(b, &w->node[4].id, &none, 1);
	assert_int_equal(w->n_queue, 1);
	drain(w);
	assert_non_null(blocks_find(w->node[4].b, 1, NULL));
	/* a higher head with the same set is taken as it is */
	head.index = 7;
	blocks_heard(b, NULL, &head, 1);
	assert_int_equal(blocks_at(b, 0)->head.index, 7);
}

/* A new root with half a block waits for the rest, then does without. */
static void test_half(void **state)
{
	struct world *w = *state;
	struct blocks_item in = item_of(1, 1, 0), two = item_of(2, 1, 0);
	struct node *n = &w->node[1];
	struct tree_block head;

	blocks_change(w->node[0].b, &in);
	blocks_change(w->node[0].b, &two);
	assert_non_null(blocks_find(w->node[0].b, 2, &head));
	assert_int_equal(blocks_put(n->b, &head, &two), BLOCKS_DONE);
	w->node[0].alive = w->node[0].root = false;
	n->parent = NOBODY;
	n->root = true;
	w->term = 2;
	place(w, 1);
	drain(w);
	in = item_of(3, 1, 0);
	assert_int_equal(blocks_change(n->b, &in), BLOCKS_HALF);
	assert_int_equal(blocks_remove(n->b, 2), BLOCKS_HALF);
	/* a child has what is missing, as its hash shows */
	assert_int_equal(blocks_put(w->node[4].b, &head, &two), BLOCKS_DONE);
	in = item_of(1, 1, 0);
	assert_int_equal(blocks_put(w->node[4].b, &head, &in), BLOCKS_DONE);
	beats(w);
	drain(w);
	assert_non_null(blocks_find(n->b, 1, NULL));
	in = item_of(3, 1, 0);
	assert_int_equal(blocks_change(n->b, &in), BLOCKS_DONE);
	assert_int_equal(blocks_superseded(n->b), 0);
}

static void test_half_for_ever(void **state)
{
	struct world *w = *state;
	struct blocks_item in = item_of(1, 1, 0);
	struct node *n = &w->node[1];
	struct tree_block head = head_of(1, 7, 99);

	assert_int_equal(blocks_put(n->b, &head, &in), BLOCKS_DONE);
	w->node[0].alive = w->node[0].root = false;
	n->parent = NOBODY;
	n->root = true;
	for (unsigned i = 0; i < 5; i++) {
		place(w, 1);
		drain(w);
		assert_int_equal(blocks_remove(n->b, 1), BLOCKS_HALF);
		blocks_tick(n->b);
	}
	assert_int_equal(blocks_superseded(n->b), 1);
	assert_int_equal(blocks_remove(n->b, 1), BLOCKS_DONE);
}

/* 1 becomes the root, reaches no candidate, and changes nothing for a while. */
static void half_of_nothing(struct world *w, const struct blocks_item *in)
{
	struct node *n = &w->node[1];

	w->node[0].alive = w->node[2].alive = w->node[0].root = false;
	n->parent = NOBODY;
	n->root = true;
	w->term = 2;
	for (unsigned i = 0; i < 5; i++) {
		place(w, 1);
		drain(w);
		assert_int_equal(blocks_change(n->b, in), BLOCKS_HALF);
		blocks_tick(n->b);
	}
}

/* It was given a place below a root, without its disk, and no beat came yet. */
static void unheard(struct world *w, uint32_t i)
{
	agent_restart(w, i, false);
	w->node[i].unheard = true;
	place(w, i);
	w->node[i].unheard = false;
}

/*
 * A candidate without its disk was below a root, heard that there is a set or
 * heard nothing yet, and got none of it: as a root it waits, and what it holds
 * is not put in place of the set.
 */
static void half_empty(struct world *w, bool heard)
{
	struct blocks_item in = item_of(1, 1, 0), two = item_of(2, 1, 0);
	struct node *n = &w->node[1];
	struct tree_block row[BLOCKS_MAX];

	blocks_change(w->node[0].b, &in);
	assert_true(rounds_until_equal(w, 8) <= 8);
	unheard(w, 1);
	if (heard)
		blocks_heard(n->b, NULL, row, blocks_rows(w->node[0].b, row));
	agent_restart(w, 1, true);
	half_of_nothing(w, &two);
	assert_int_equal(blocks_of(n->b, &w->owner[0])->head.term, 0);
	/* one of them comes back as a child: it has the set */
	w->node[2].alive = true;
	w->node[2].parent = 1;
	beats(w);
	drain(w);
	assert_non_null(blocks_find(n->b, 1, NULL));
	assert_int_equal(blocks_superseded(n->b), 0);
	assert_int_equal(blocks_change(n->b, &two), BLOCKS_DONE);
}

static void test_half_empty(void **state)
{
	half_empty(*state, true);
}

static void test_half_unheard(void **state)
{
	half_empty(*state, false);
}

/* Its parent is such a one, too: what that knows comes down in its beats. */
static void half_chain(struct world *w, bool heard)
{
	struct blocks_item in = item_of(1, 1, 0), two = item_of(2, 1, 0);
	struct blocks *root = w->node[0].b, *b;
	struct tree_block row[BLOCKS_MAX];

	blocks_change(root, &in);
	unheard(w, 2);
	b = w->node[2].b;
	if (heard)
		blocks_heard(b, NULL, row, blocks_rows(root, row));
	w->node[1].parent = 2;
	unheard(w, 1);
	blocks_heard(w->node[1].b, NULL, row, blocks_rows(b, row));
	/* they part; to the root it is a child that holds nothing */
	w->node[1].parent = NOBODY;
	blocks_heard(root, &w->node[2].id, row, blocks_rows(b, row));
	drain(w);
	assert_non_null(blocks_find(b, 1, NULL));
	agent_restart(w, 1, true);
	half_of_nothing(w, &two);
}

static void test_half_chain(void **state)
{
	half_chain(*state, true);
}

static void test_half_chain_unheard(void **state)
{
	half_chain(*state, false);
}

/* The same, and nobody ever brings the set: a client begins one anew. */
static void test_half_begun_anew(void **state)
{
	struct world *w = *state;
	struct blocks_item two = item_of(2, 1, 0);
	struct node *n = &w->node[1];
	struct tree_block head = head_of(1, 7, 99), row[BLOCKS_MAX];

	blocks_heard(n->b, NULL, &head, 1);
	/* of a set that never was there is nothing to say */
	assert_int_equal(blocks_rows(w->node[0].b, row), 0);
	/* but that there is one, and not what is in it */
	assert_int_equal(blocks_rows(n->b, row), 1);
	assert_int_equal(row[0].index, 0);
	assert_int_not_equal(row[0].hash, 0);
	assert_int_not_equal(row[0].hash, head.hash);
	/* who knows less of it than is known here */
	blocks_heard(n->b, NULL, row, 1);
	assert_int_equal(blocks_at(n->b, 0)->want, head.hash);
	half_of_nothing(w, &two);
	assert_int_equal(blocks_superseded(n->b), 0);
	assert_int_equal(blocks_change(n->b, &two), BLOCKS_DONE);
	assert_int_equal(blocks_superseded(n->b), 1);
	/* of its own set nothing is half */
	assert_int_equal(blocks_remove(n->b, 2), BLOCKS_DONE);
	assert_int_equal(blocks_superseded(n->b), 1);
}

/* The beat tells of no set, or of an empty one: nothing is half. */
static void test_heard_of_none(void **state)
{
	struct world *w = *state;
	struct blocks_item in = item_of(1, 1, 0), two = item_of(2, 1, 0);
	struct blocks *root = w->node[0].b;
	struct node *n = &w->node[1];
	struct tree_block row[BLOCKS_MAX];

	for (unsigned i = 0; i < 2; i++) {
		unheard(w, 1);
		assert_int_equal(blocks_rows(root, row), i);
		blocks_heard(n->b, NULL, row, i);
		assert_int_equal(blocks_rows(n->b, row), i);
		n->root = true;
		place(w, 1);
		drain(w);
		assert_int_equal(blocks_change(n->b, &two), BLOCKS_DONE);
		assert_int_equal(blocks_superseded(n->b), 0);
		n->root = false;
		blocks_change(root, &in);
		blocks_remove(root, 1);
	}
}

/* An owner without its state: a candidate's set, or its own above. */
static void test_lost_state(void **state)
{
	struct world *w = *state;
	struct blocks_item in = item_of(1, 1, 0), two = item_of(2, 1, 0);
	struct node_id zero = { { 0 } };

	blocks_change(w->node[0].b, &in);
	assert_true(rounds_until_equal(w, 8) <= 8);
	agent_restart(w, 0, false);
	place(w, 0);
	assert_null(blocks_find(w->node[0].b, 1, NULL));
	/* nothing is changed before the candidates were asked */
	assert_int_equal(blocks_change(w->node[0].b, &two), BLOCKS_HALF);
	assert_int_equal(blocks_remove(w->node[0].b, 1), BLOCKS_SAME);
	drain(w);
	assert_non_null(blocks_find(w->node[0].b, 1, NULL));
	assert_int_equal(blocks_change(w->node[0].b, &two), BLOCKS_DONE);
	assert_true(rounds_until_equal(w, 8) <= 8);
	assert_non_null(blocks_find(w->node[0].b, 1, NULL));
	assert_int_equal(blocks_superseded(w->node[0].b), 0);
	/* no candidate has it: what a leaf says is not believed */
	for (uint32_t i = 0; i < ROOTS; i++)
		agent_restart(w, i, false);
	w->term = 2;
	assert_true(rounds_until_equal(w, 20) <= 20);
	assert_null(blocks_find(w->node[23].b, 1, NULL));
	assert_int_equal(blocks_superseded(w->node[0].b), 1);
	assert_int_equal(blocks_of(w->node[23].b, &zero)->head.term, 2);
}

/* What a liar says of a term or an index that cannot be moves nobody. */
static void test_lie(void **state)
{
	struct world *w = *state;
	struct blocks *b = w->node[0].b;
	struct blocks_item in = item_of(1, 1, 0);
	struct tree_block lie = head_of(UINT64_MAX, 1, 3);

	blocks_change(b, &in);
	blocks_heard(b, &w->node[1].id, &lie, 1);
	assert_int_equal(w->n_queue, 0);
	lie = head_of(1, UINT64_MAX, 3);
	blocks_heard(b, &w->node[1].id, &lie, 1);
	assert_int_equal(w->n_queue, 0);
	assert_int_equal(blocks_at(b, 0)->head.index, 1);
	assert_int_equal(blocks_superseded(b), 0);
}

/* A member that was away does not bring back what was deleted. */
static void test_away(void **state)
{
	struct world *w = *state;
	struct blocks_item in = item_of(1, 1, 0);
	struct node *n = &w->node[1];

	blocks_change(w->node[0].b, &in);
	assert_true(rounds_until_equal(w, 8) <= 8);
	n->alive = false;
	blocks_remove(w->node[0].b, 1);
	beats(w);
	drain(w);
	revive(w, false);
	assert_non_null(blocks_find(n->b, 1, NULL));
	assert_true(rounds_until_equal(w, 8) <= 4);
	assert_null(blocks_find(n->b, 1, NULL));
	assert_null(blocks_find(w->node[4].b, 1, NULL));
}

/* Inner owners: their subtree only; alone, nothing is forgotten. */
static void test_off_the_path(void **state)
{
	struct world *w = *state;
	struct blocks_item in = item_of(1, 1, 0);
	struct node *n = &w->node[1];

	blocks_change(n->b, &in);
	assert_true(rounds_until_equal(w, 8) <= 8);
	assert_non_null(blocks_find(w->node[4].b, 1, NULL));
	assert_null(blocks_find(w->node[0].b, 1, NULL));
	assert_null(blocks_find(w->node[2].b, 1, NULL));
	/* the subtree of 4 loses its root, then finds another way to it */
	w->node[4].parent = NOBODY;
	beats(w);
	assert_non_null(blocks_find(w->node[4].b, 1, NULL));
	assert_non_null(blocks_find(w->node[13].b, 1, NULL));
	w->node[4].parent = 2;
	assert_true(rounds_until_equal(w, 8) <= 4);
	assert_null(blocks_find(w->node[4].b, 1, NULL));
	assert_null(blocks_find(w->node[13].b, 1, NULL));
	assert_non_null(blocks_find(w->node[5].b, 1, NULL));
}

/* Another one had its id: what is its own is so under the new one. */
static void test_renamed(void **state)
{
	struct world *w = *state;
	struct blocks_item in = item_of(1, 1, 0);
	struct node *n = &w->node[1];
	struct tree_block head;

	blocks_change(n->b, &in);
	assert_true(rounds_until_equal(w, 8) <= 8);
	n->id.b[15] ^= 0x80;
	assert_true(blocks_rename(n->b, &n->id));
	assert_false(blocks_rename(n->b, &n->id));
	assert_true(blocks_owns(n->b, &n->id));
	assert_true(rounds_until_equal(w, 8) <= 4);
	assert_non_null(blocks_find(w->node[4].b, 1, &head));
	assert_true(node_id_equal(&head.owner, &n->id));
	/* and it may still be changed */
	assert_int_equal(blocks_remove(n->b, 1), BLOCKS_DONE);
	assert_true(rounds_until_equal(w, 8) <= 4);
	assert_null(blocks_find(w->node[4].b, 1, NULL));
}

/* Nobody is above: what others owned may go, until they are back. */
static void test_alone(void **state)
{
	struct world *w = *state;
	struct blocks_item in = item_of(1, 1, 0);

	blocks_change(w->node[0].b, &in);
	assert_true(rounds_until_equal(w, 8) <= 8);
	w->node[1].parent = NOBODY;
	beats(w);
	drain(w);
	assert_int_equal(blocks_remove(w->node[1].b, 1), BLOCKS_DONE);
	beats(w);
	drain(w);
	beats(w);
	drain(w);
	assert_null(blocks_find(w->node[4].b, 1, NULL));
	w->node[1].parent = 0;
	assert_true(rounds_until_equal(w, 8) <= 4);
	assert_non_null(blocks_find(w->node[4].b, 1, NULL));
}

/* Two roots used one id and generation for two tasks: the later one wins. */
static void test_conflict(void **state)
{
	struct world *w = *state;
	struct blocks_item in = item_of(1, 1, 0), other = item_of(1, 1, 0);

	blocks_change(w->node[0].b, &in);
	assert_true(rounds_until_equal(w, 8) <= 8);
	other.spec++;
	other.hash++;
	blocks_remove(w->node[0].b, 1);
	blocks_change(w->node[0].b, &other);
	assert_true(rounds_until_equal(w, 8) <= 6);
	assert_int_equal(blocks_find(w->node[23].b, 1, NULL)->hash, other.hash);
}

/* ---- histories ---- */

/* One root that may restart, moves, restarts: nothing ever goes back. */
static void test_histories(void **state)
{
	unsigned most = 0, refusals = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		static struct world w;
		unsigned rounds;

		world_init(&w, seed);
		w.strict = true;
		history(&w, false);
		rounds = rounds_until_equal(&w, depth(&w) + 2);
		if (rounds > depth(&w) + 2 || w.violations)
			fail_msg("seed %u: %u rounds, depth %u, %u violations",
				 (unsigned)seed, rounds, depth(&w),
				 w.violations);
		assert_true(w.changes > 20);
		most = MAX(most, rounds);
		refusals += w.refusals;
		world_fini(&w);
	}
	print_message("most rounds %u, %u messages refused\n", most, refusals);
	assert_true(refusals > 100);
}

/* Roots die and lose their disks: all are equal in the end all the same. */
static void test_roots(void **state)
{
	unsigned most = 0;
	uint64_t superseded = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		static struct world w;
		unsigned rounds;

		world_init(&w, seed);
		history(&w, true);
		/* up to the owner, to the candidates, down again */
		rounds = rounds_until_equal(&w, 2 * depth(&w) + 8);
		if (rounds > 2 * depth(&w) + 8 || w.violations)
			fail_msg("seed %u: %u rounds, depth %u, %u violations",
				 (unsigned)seed, rounds, depth(&w),
				 w.violations);
		most = MAX(most, rounds);
		for (uint32_t i = 0; i < AGENTS; i++)
			superseded += blocks_superseded(w.node[i].b);
		world_fini(&w);
	}
	print_message("most rounds %u, %u sets written above others\n", most,
		      (unsigned)superseded);
	assert_true(superseded > 0);
}

/* The checks bite: late messages that pretend to be new are found out. */
static void test_teeth(void **state)
{
	unsigned violations = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		static struct world w;

		world_init(&w, seed);
		w.strict = w.forge = true;
		history(&w, false);
		violations += w.violations;
		world_fini(&w);
	}
	print_message("%u violations\n", violations);
	assert_true(violations > 20);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	world_init(w, 1);
	drain(w); /* the root has asked the candidates */
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	world_fini(*state);
	free(*state);
	return 0;
}

#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(test_owner_changes),
		ROW(test_changes_from_above),
		ROW(test_floor),
		ROW(test_whole),
		ROW(test_half),
		ROW(test_half_for_ever),
		ROW(test_half_empty),
		ROW(test_half_unheard),
		ROW(test_half_chain),
		ROW(test_half_chain_unheard),
		ROW(test_heard_of_none),
		ROW(test_half_begun_anew),
		ROW(test_lost_state),
		ROW(test_lie),
		ROW(test_away),
		ROW(test_off_the_path),
		ROW(test_renamed),
		ROW(test_alone),
		ROW(test_conflict),
		cmocka_unit_test(test_histories),
		cmocka_unit_test(test_roots),
		cmocka_unit_test(test_teeth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
