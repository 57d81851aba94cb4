/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Want of memory: an agent that has none for what it knows of a question's
 * hosts says nothing of them, and no answer is complete without them.
 */
#include <stdlib.h>

#include "tests/unit/walk_world.h"

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

static unsigned made, fail_from, fail_to;
static bool any; /* not only what is known of hosts */

void *__wrap_calloc(size_t n, size_t size)
{
	/* the world itself has enough */
	if (any ? size != sizeof(struct sum) && size != sizeof(struct question)
		: size == sizeof(struct coverage)) {
		made++;
		if (made >= fail_from && made < fail_to)
			return NULL;
	}
	return __real_calloc(n, size);
}

static void ask(struct world *w)
{
	uint32_t n = 0;

	world_query(w, 2000);
	for (unsigned i = 0; w->part && i < w->n; i++)
		n += w->part->has[i];
	assert_int_equal(w->report.answered, n);
}

static void test_no_coverage(void **state)
{
	(void)state;
	for (unsigned from = 1; from <= 13; from++)
		for (unsigned n = 1; n <= 13; n++) {
			struct world *w = thirteen();

			made = 0;
			fail_from = from;
			fail_to = from + n;
			ask(w);
			assert_true(made >= from);
			assert_false(w->report.complete);
			assert_true(w->report.answered < 13);
			fail_to = 0;
			ask(w);
			assert_true(w->report.complete);
			world_free(w);
		}
}

/* Whatever there is no memory for: the next question has its answer. */
static void test_no_memory(void **state)
{
	unsigned partial = 0;

	(void)state;
	for (fail_from = 1; fail_from == 1 || made >= fail_from; fail_from++) {
		struct world *w = thirteen();

		any = true;
		made = 0;
		fail_to = fail_from + 1;
		if (world_begin(w, 2000, world_question(65536))) {
			world_run(w);
			assert_true(w->done);
			partial += !w->report.complete;
		}
		any = false;
		fail_to = 0;
		ask(w);
		assert_true(w->report.complete);
		world_free(w);
	}
	assert_true(partial > 13);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_coverage),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
