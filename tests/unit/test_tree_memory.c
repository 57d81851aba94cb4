/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Want of memory: each allocation of the machine fails now and then, while
 * agents join, die and move; what it asserts of itself holds after each event,
 * and once there is memory the tree is whole.
 */
#include <stdlib.h>

#include "tree_world.h"

void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

static unsigned fail_every, made, failed;
static bool no_paths;

static bool fails(void)
{
	made++;
	/* not in step with what is asked for in turn */
	if (!fail_every || (made * 2654435761u >> 16) % fail_every)
		return false;
	failed++;
	return true;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	if (no_paths && size == sizeof(struct tree_peer)) {
		failed++;
		return NULL;
	}
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

static void play(const struct member_ops *provider, unsigned every)
{
	struct world *w = world_new(20, provider, every);

	if (!provider->founds)
		world_roots(w, 3);
	for (unsigned i = 0; i < 20; i++) {
		w->node[i].conf.fanout = 3;
		fail_every = 0; /* an agent that cannot begin does not */
		world_start(w, i);
		fail_every = every;
		if (provider->founds && i)
			tree_add(w->node[i / 2].tree, &w->node[i].ep, 900, NULL,
				 NULL);
		world_run(w, 300);
	}
	for (unsigned i = 0; i < 19; i++) {
		world_kill(w, i);
		world_run(w, 3000);
		fail_every = 0;
		world_start(w, i);
		fail_every = every;
		world_run(w, 2000);
	}
	fail_every = 0;
	if (!provider->founds)
		must_settle(w, 30000);
	world_free(w);
}

static void test_want_of_memory(void **state)
{
	(void)state;
	for (unsigned every = 2; every < 20; every += 3) {
		failed = 0;
		play(&world_join, every);
		assert_true(failed > 50);
	}
}

static void test_want_of_memory_by_hand(void **state)
{
	(void)state;
	for (unsigned every = 2; every < 20; every += 3)
		play(&world_manual, every);
}

/* Until it was so often that there was no room for a path. */
static void paths_fail(struct world *w, unsigned times)
{
	no_paths = true;
	failed = 0;
	for (unsigned i = 0; failed < times; i++) {
		assert_true(i < 1000);
		world_run(w, 10);
	}
	no_paths = false;
}

static unsigned path_len(const struct world *w, unsigned i)
{
	struct node_id path[TREE_LEVELS];

	return tree_path(w->node[i].tree, path);
}

/* A path that there is no room for is not taken, neither at first nor later. */
static void test_no_room_for_path(void **state)
{
	struct world *w = world_new(4, &world_manual, 1);

	(void)state;
	world_start_all(w);
	assert_int_equal(world_add(w, 0, 1), TREE_OK);
	tree_add(w->node[1].tree, &w->node[2].ep, 900, NULL, NULL);
	paths_fail(w, 1);
	assert_true(world_parent(w, 2) < 0);
	world_run(w, 10000);
	assert_int_equal(path_len(w, 2), 2);
	/* one more above all of them: 1 and 2 hear of it with the beats */
	tree_add(w->node[3].tree, &w->node[0].ep, 900, NULL, NULL);
	paths_fail(w, 3);
	assert_int_equal(world_parent(w, 0), 3);
	assert_int_equal(path_len(w, 1), 1);
	world_run(w, 10000);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(path_len(w, i), i + 1);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_want_of_memory),
		cmocka_unit_test(test_want_of_memory_by_hand),
		cmocka_unit_test(test_no_room_for_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
