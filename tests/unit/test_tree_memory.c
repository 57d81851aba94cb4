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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_want_of_memory),
		cmocka_unit_test(test_want_of_memory_by_hand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
