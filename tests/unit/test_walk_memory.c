/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Want of memory: an agent that has none for what it knows of a question's
 * hosts says nothing of them, and no answer is complete without them.
 */
#include <errno.h>
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

static void spread_reply(void *arg, const struct walk_child *c, const void *raw,
			 enum missing_reason why)
{
	(void)arg;
	(void)c;
	(void)raw;
	(void)why;
}

static void spread_done(void *arg)
{
	(*(unsigned *)arg)++;
}

/* One that ends because its spare way cannot be had again ends once. */
static void test_no_way(void **state)
{
	struct world *w = world_star(2);
	struct node_id id = world_id(1);
	struct walk_got got = { .err = -ETIMEDOUT };
	struct waves *v[8];
	unsigned over = 0;
	struct walk_spread s = { .what = w,
				 .budget_ms = 2000,
				 .reply_max = (size_t)64 << 20,
				 .reply = spread_reply,
				 .done = spread_done,
				 .arg = &over };

	(void)state;
	w->agent[1].silent = true;
	/* one child after the other */
	(void)walk_spread(w->agent[0].walk, &s);
	assert_true(world_step(w));
	assert_int_equal(w->n_asked, 1);
	s.only = &id;
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		v[i] = walk_spread(w->agent[0].walk, &s);
	while (w->n_asked < 1 + ARRAY_SIZE(v))
		assert_true(world_step(w));
	any = true;
	made = 0;
	fail_from = 1;
	fail_to = 2;
	w->xfer[0].over = true;
	walk_done(w->agent[0].walk, w->xfer[0].ref, &got);
	any = false;
	assert_int_equal(made, 1);
	assert_int_equal(over, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		walk_spread_cancel(v[i]);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_coverage),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
