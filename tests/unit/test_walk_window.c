/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions about closed windows, asked by each parent by itself. */
#include <string.h>

#include "tests/unit/walk_world.h"

/* The end of the window is now; its grace is over when anybody asks. */
static struct question *window_question(uint64_t end_ms, uint8_t standing)
{
	struct question *q = world_question(65536);

	q->window_end_ms = end_ms;
	q->standing = standing;
	return q;
}

static void collect(struct world *w, unsigned i, uint64_t end_ms)
{
	struct walk_ask m = { .budget_ms = 1600, .window_end_ms = end_ms };

	memset(m.query, 77, sizeof(m.query));
	walk_collect(w->agent[i].walk, &m, window_question(end_ms, 77));
}

static void root_asks(struct world *w, uint64_t end_ms)
{
	assert_non_null(world_begin(w, 2000, window_question(end_ms, 77)));
	world_run(w);
	assert_true(w->done);
	assert_int_equal(w->report.answered + w->report.n_missing,
			 w->report.expected);
}

/* Thirteen, 200 ms after a window's end; leases are older. */
static struct world *window_over(uint64_t *end_ms)
{
	struct world *w = thirteen();

	*end_ms = w->now_ms;
	w->now_ms += 200;
	return w;
}

static void test_standing_once(void **state)
{
	uint64_t end, began;
	struct world *w = window_over(&end);

	(void)state;
	for (unsigned i = 1; i <= 3; i++)
		collect(w, i, end);
	world_run(w);
	for (unsigned i = 4; i < 13; i++)
		w->agent[i].silent = true; /* nobody needs them now */
	began = w->now_ms;
	root_asks(w, end);
	assert_true(w->report.complete);
	assert_int_equal(w->part->value, sum_of(w, w->part));
	assert_true(w->done_ms <= began + 5);
	for (unsigned i = 1; i < 13; i++)
		assert_int_equal(w->agent[i].asked, 1);
	/* any other question is none of it */
	assert_non_null(world_begin(w, 2000, window_question(end, 0)));
	world_run(w);
	assert_int_equal(w->report.answered, 4);
	world_free(w);
}

static void test_standing_meets(void **state)
{
	uint64_t end;
	struct world *w = window_over(&end);

	(void)state;
	/* 1 is still asking, 2 is asked before it did, 3 never does */
	w->agent[5].read_ms = 300;
	collect(w, 1, end);
	assert_non_null(world_begin(w, 2000, window_question(end, 77)));
	for (unsigned i = 0; i < 12; i++)
		assert_true(world_step(w));
	collect(w, 2, end);
	world_run(w);
	assert_true(w->report.complete);
	assert_int_equal(w->part->value, sum_of(w, w->part));
	for (unsigned i = 1; i < 13; i++)
		assert_int_equal(w->agent[i].asked, 1);
	world_free(w);
}

/* A part that no retry may have, as it is larger, is had by the parent. */
static void test_standing_large(void **state)
{
	uint64_t end;
	struct world *w = window_over(&end);

	(void)state;
	w->agent[5].value = 1 << 20;
	collect(w, 1, end);
	world_run(w);
	root_asks(w, end);
	assert_true(w->report.complete);
	world_free(w);
}

/* 5 was collected by 1, goes to 2, and 2 collects. */
static unsigned moves(uint64_t lease_ms, bool restarts, unsigned *answered)
{
	uint64_t end;
	struct world *w = window_over(&end);
	unsigned doubles;

	collect(w, 1, end);
	world_run(w);
	w->agent[1].hosts = 4; /* the root has not heard yet */
	w->agent[5].parent = 2;
	w->agent[5].lease = (struct epoch){ 7, 0, 50 };
	w->agent[5].lease_ms = lease_ms ? end + lease_ms : 0;
	if (restarts)
		world_start(w, 5);
	collect(w, 2, end);
	world_run(w);
	root_asks(w, end);
	doubles = w->doubles;
	*answered = w->report.answered;
	assert_true(doubles || w->part->value == sum_of(w, w->part));
	world_free(w);
	return doubles;
}

static void test_t66b_moves(void **state)
{
	unsigned answered;

	(void)state;
	assert_int_equal(moves(210, false, &answered), 0);
	assert_int_equal(answered, 13);
	assert_int_equal(moves(210, true, &answered), 0);
	/* it remembers what it was asked */
	assert_int_equal(moves(0, false, &answered), 0);
	/* what the fence is for */
	assert_int_equal(moves(0, true, &answered), 1);
}

static void test_t66b_lease_at_the_end(void **state)
{
	uint64_t end;
	struct world *w = window_over(&end);

	(void)state;
	w->agent[2].lease_ms = end;
	w->agent[3].lease_ms = end - 1;
	/* it asks nobody for what it may not answer */
	collect(w, 2, end);
	world_run(w);
	assert_int_equal(w->agent[7].asked, 0);
	root_asks(w, end);
	assert_int_equal(w->report.answered, 9);
	assert_int_equal(w->coverage.reasons[MISSING_MOVED], 1);
	/* a question that does not stand has its own fence */
	assert_non_null(world_begin(w, 2000, window_question(end, 0)));
	world_run(w);
	assert_true(w->report.complete);
	world_free(w);
}

static void test_slow_clocks(void **state)
{
	uint64_t end, began;
	struct world *w = window_over(&end);

	(void)state;
	/* a window is waited for where there is time, with all below */
	began = w->now_ms;
	w->agent[1].clock_ms = -300;
	w->agent[12].clock_ms = -250;
	collect(w, 1, end); /* not yet */
	root_asks(w, end);
	assert_true(w->report.complete);
	assert_true(w->done_ms >= began + 200 && w->done_ms <= began + 220);
	/* and not where there is none */
	w->agent[1].clock_ms = -5000;
	began = w->now_ms;
	assert_non_null(world_begin(w, 2000, window_question(end, 78)));
	world_run(w);
	assert_int_equal(w->report.answered, 9);
	assert_int_equal(w->coverage.reasons[MISSING_NO_WINDOW], 1);
	assert_int_equal(w->coverage.reasons[MISSING_BEHIND], 3);
	assert_true(w->done_ms <= began + 10);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_standing_once),
		cmocka_unit_test(test_standing_meets),
		cmocka_unit_test(test_standing_large),
		cmocka_unit_test(test_t66b_moves),
		cmocka_unit_test(test_t66b_lease_at_the_end),
		cmocka_unit_test(test_slow_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
