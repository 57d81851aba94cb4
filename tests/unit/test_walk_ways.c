/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many questions at once: what is under way to each child. */
#include <errno.h>
#include <stdlib.h>

#include "tests/unit/walk_world.h"

/* Answers to many questions at once. */
struct tally {
	struct world *w;
	unsigned n, complete, least;
	uint64_t last_ms;
};

static void tally_add(void *arg, void *part, const struct coverage *c)
{
	struct tally *t = arg;
	struct walk_report r;

	walk_report(t->w->agent[0].walk, c, &t->w->scope, &r);
	t->n++;
	t->complete += r.complete;
	t->least = MIN(t->least, r.answered);
	t->last_ms = t->w->now_ms;
	free(part);
}

/* All are asked in one moment; says what came of it. */
static struct tally tally_ask(struct world *w, unsigned n, uint32_t budget_ms)
{
	struct tally t = { .w = w, .least = UINT_MAX };
	struct walk_options opt = { .round = 1, .budget_ms = budget_ms };

	walk_scope(w->agent[0].walk, false, &w->scope);
	opt.as_of = w->scope.as_of;
	for (unsigned k = 0; k < n; k++) {
		random_bytes(opt.query, sizeof(opt.query));
		assert_non_null(walk_start(w->agent[0].walk, &opt,
					   world_question(65536), tally_add,
					   &t));
	}
	world_run(w);
	assert_int_equal(t.n, n);
	return t;
}

/*
 * Of many questions no more are under way than there are connections: some of
 * each child, and a few more for who needs them.
 */
static void test_ways(void **state)
{
	struct world *w = world_star(8);
	struct tally t;

	(void)state;
	for (unsigned i = 1; i <= 8; i++)
		w->agent[i].read_ms = 20;
	t = tally_ask(w, 40, 2000);
	assert_int_equal(t.complete, 40);
	assert_int_equal(w->agent[0].most, 8 * 8 + 32);
	/* a child alone has no more than it takes of its parent */
	world_free(w);
	w = world_star(1);
	w->agent[1].read_ms = 20;
	t = tally_ask(w, 40, 2000);
	assert_int_equal(t.complete, 40);
	assert_int_equal(w->agent[0].most, 16);
	world_free(w);
}

/* Children that take their time leave others theirs, and have their own
 * again. */
static void test_ways_of_others(void **state)
{
	struct world *w = world_star(12);
	uint64_t began = w->now_ms;
	struct tally t;

	(void)state;
	for (unsigned i = 1; i <= 8; i++)
		w->agent[i].silent = true;
	t = tally_ask(w, 40, 2000);
	assert_int_equal(t.least, 5);
	assert_int_equal(t.last_ms - began, 1800);
	assert_true(w->agent[0].most <= 12 * 8 + 32);
	assert_int_equal(w->agent[0].running, 0);
	for (unsigned i = 1; i <= 8; i++)
		w->agent[i].silent = false;
	t = tally_ask(w, 40, 2000);
	assert_int_equal(t.complete, 40);
	world_free(w);
}

static void ask_quick(struct world *w)
{
	w->agent[1].reply_ms = 0;
	assert_non_null(world_begin(w, 2000, world_question(65536)));
}

/* What nobody waits for any more gives its way to the next question. */
static void test_way_of_late(void **state)
{
	struct world *w = world_star(1);
	uint64_t began = w->now_ms;
	struct tally t;

	(void)state;
	w->agent[1].reply_ms = 300;
	world_event(w, 190, EVENT_CALL, 0)->call = ask_quick;
	t = tally_ask(w, 16, 200);
	assert_int_equal(t.last_ms - began, 180);
	assert_int_equal(t.least, 1);
	assert_true(w->report.complete);
	assert_int_equal(w->done_ms - began, 190 + 3);
	assert_int_equal(walk_late(w->agent[0].walk), 15);
	world_free(w);
}

/* What was left ends by itself soon after, and is no late answer. */
static void test_way_runs_out(void **state)
{
	struct world *w = world_star(1);
	uint64_t began = w->now_ms;
	struct tally t;

	(void)state;
	w->agent[1].silent = true;
	t = tally_ask(w, 16, 200);
	assert_int_equal(t.last_ms - began, 180);
	assert_int_equal(w->now_ms - began, 180 + WALK_LATE_MS);
	assert_int_equal(w->agent[0].running, 0);
	assert_int_equal(walk_late(w->agent[0].walk), 0);
	world_free(w);
}

static void spread_reply(void *arg, const struct walk_child *c, const void *raw,
			 enum missing_reason why)
{
	(void)arg;
	(void)c;
	(void)raw;
	(void)why;
	fail();
}

static void spread_done(void *arg)
{
	(void)arg;
	fail();
}

/* To one child, or to all. */
static struct waves *spread_to(struct world *w, const struct node_id *only)
{
	struct walk_spread s = { .what = w,
				 .budget_ms = 2000,
				 .reply_max = 65536,
				 .only = only,
				 .reply = spread_reply,
				 .done = spread_done };

	return walk_spread(w->agent[0].walk, &s);
}

static struct waves *spreads[16];

static void child_speaks(struct world *w)
{
	w->agent[1].silent = false;
}

/* What is ended early gives its ways to the next question, at once. */
static void test_way_of_ended(void **state)
{
	struct world *w = world_star(1);
	struct walk *walk = w->agent[0].walk;
	uint64_t began = w->now_ms;
	struct waves *v[16];

	(void)state;
	w->agent[1].silent = true;
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		v[i] = spread_to(w, NULL);
	while (w->agent[0].running < ARRAY_SIZE(v))
		assert_true(world_step(w));
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		walk_spread_cancel(v[i]);
	w->agent[1].silent = false;
	world_query(w, 2000);
	assert_true(w->report.complete);
	assert_int_equal(w->done_ms - began, 3);
	assert_int_equal(w->agent[0].running, 0);
	assert_int_equal(walk_late(walk), 0);
	world_free(w);
}

/* One that waits already is given a way as soon as one is left. */
static void test_way_for_waiting(void **state)
{
	struct world *w = world_star(1);
	uint64_t began = w->now_ms;
	struct tally t;

	(void)state;
	w->agent[1].silent = true;
	world_event(w, 50, EVENT_CALL, 0)->call = ask_quick;
	world_event(w, 100, EVENT_CALL, 0)->call = child_speaks;
	t = tally_ask(w, 16, 200);
	assert_int_equal(t.last_ms - began, 180);
	assert_true(w->report.complete);
	assert_int_equal(w->done_ms - began, 180 + 3);
	world_free(w);
}

static void spreads_end(struct world *w)
{
	(void)w;
	for (unsigned i = 0; i < ARRAY_SIZE(spreads); i++)
		walk_spread_cancel(spreads[i]);
}

static void test_way_of_ended_for_waiting(void **state)
{
	struct world *w = world_star(1);
	uint64_t began = w->now_ms;

	(void)state;
	w->agent[1].silent = true;
	for (unsigned i = 0; i < ARRAY_SIZE(spreads); i++)
		spreads[i] = spread_to(w, NULL);
	world_event(w, 50, EVENT_CALL, 0)->call = ask_quick;
	world_event(w, 100, EVENT_CALL, 0)->call = child_speaks;
	world_event(w, 110, EVENT_CALL, 0)->call = spreads_end;
	world_run(w);
	assert_true(w->report.complete);
	assert_int_equal(w->done_ms - began, 110 + 3);
	world_free(w);
}

/* Ways are spare only while their child has all of its own beside them. */
static void test_way_is_own_again(void **state)
{
	struct world *w = world_star(5);
	struct waves *v[4 * 16 + 8];
	struct node_id id;

	(void)state;
	for (unsigned i = 1; i <= 5; i++)
		w->agent[i].silent = true;
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++) {
		id = world_id(i < 4 * 16 ? 1 + i % 4 : 5);
		v[i] = spread_to(w, &id);
		while (w->agent[0].running == i)
			assert_true(world_step(w));
	}
	/* the first eight to each of four children, to which eight are left */
	for (unsigned i = 0; i < 4 * 8; i++)
		walk_spread_cancel(v[i]);
	while (w->agent[0].running > 5 * 8)
		assert_true(world_step(w));
	for (unsigned i = 1; i <= 5; i++)
		w->agent[i].silent = false;
	assert_non_null(world_begin(w, 100, world_question(65536)));
	while (!w->done)
		assert_true(world_step(w));
	assert_true(w->report.complete);
	for (unsigned i = 4 * 8; i < ARRAY_SIZE(v); i++)
		walk_spread_cancel(v[i]);
	world_free(w);
}

static void turn_end(void *arg, void *part, const struct coverage *c)
{
	static unsigned n;

	(void)c;
	*(unsigned *)arg = n++;
	free(part);
}

/* Who waits longest is first. */
static void test_ways_in_turn(void **state)
{
	struct walk_options opt = { .round = 1, .budget_ms = 2000 };
	struct world *w = world_star(1);
	unsigned turn[40];

	(void)state;
	opt.as_of = w->agent[0].seen;
	for (unsigned k = 0; k < ARRAY_SIZE(turn); k++) {
		opt.query[0] = (uint8_t)k;
		assert_non_null(walk_start(w->agent[0].walk, &opt,
					   world_question(65536), turn_end,
					   &turn[k]));
	}
	world_run(w);
	for (unsigned k = 0; k < ARRAY_SIZE(turn); k++)
		assert_int_equal(turn[k], k);
	world_free(w);
}

/* So it is with one that was spare, whichever child it was to. */
static void test_spare_in_turn(void **state)
{
	static const unsigned busy[] = { 16, 16, 16, 15, 9 };
	struct world *w = world_star(ARRAY_SIZE(busy));
	struct waves *v[72 + 2];
	unsigned n = 0;
	struct node_id id;

	(void)state;
	for (unsigned i = 1; i <= ARRAY_SIZE(busy); i++) {
		w->agent[i].silent = true;
		for (unsigned k = 0; k < busy[i - 1]; k++) {
			id = world_id(i);
			v[n] = spread_to(w, &id);
			while (w->agent[0].running == n)
				assert_true(world_step(w));
			n++;
		}
	}
	for (unsigned i = 5; i >= 4; i--) {
		id = world_id(i);
		v[n++] = spread_to(w, &id);
		assert_true(world_step(w));
	}
	walk_spread_cancel(v[0]);
	while (w->n_asked == 72)
		assert_true(world_step(w));
	assert_int_equal(w->n_asked, 73);
	assert_int_equal(w->asked[72], 5);
	for (unsigned i = 1; i < n; i++)
		walk_spread_cancel(v[i]);
	world_free(w);
}

static void spread_ignore(void *arg, const struct walk_child *c,
			  const void *raw, enum missing_reason why)
{
	(void)arg;
	(void)c;
	(void)raw;
	(void)why;
}

static void spread_over(void *arg)
{
	*(bool *)arg = true;
}

/* To these two, one after the other; the first is asked now. */
static struct waves *spread_pair(struct world *w, unsigned first,
				 unsigned second, bool *over)
{
	struct walk_spread s = { .what = w,
				 .budget_ms = 2000,
				 .reply_max = (size_t)64 << 20,
				 .reply = spread_ignore,
				 .done = spread_over,
				 .arg = over };
	unsigned n = w->n_asked;
	struct waves *v;

	for (unsigned i = 1; i < w->n; i++)
		w->agent[i].lost = i != first && i != second;
	v = walk_spread(w->agent[0].walk, &s);
	for (unsigned i = 1; i < w->n; i++)
		w->agent[i].lost = false;
	while (w->n_asked == n)
		assert_true(world_step(w));
	assert_int_equal(w->asked[n], first);
	return v;
}

static void xfer_end(struct world *w, struct xfer *x)
{
	struct walk_got got = { .err = -ETIMEDOUT };

	x->over = true;
	w->agent[0].running--;
	walk_done(w->agent[0].walk, x->ref, &got);
}

/* Also before the next child of the question that had it. */
static void test_spare_of_a_younger_one(void **state)
{
	static const unsigned busy[] = { 16, 16, 16, 14, 9, 0, 8 };
	struct world *w = world_star(ARRAY_SIZE(busy));
	struct waves *v[16 * 3 + 14 + 9 + 8], *older, *younger;
	bool over = false;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 1; i <= ARRAY_SIZE(busy); i++)
		w->agent[i].silent = true;
	older = spread_pair(w, 6, 7, &over);
	for (unsigned i = 1; i <= ARRAY_SIZE(busy); i++)
		for (unsigned k = 0; k < busy[i - 1]; k++) {
			struct node_id id = world_id(i);

			v[n++] = spread_to(w, &id);
			while (w->agent[0].running == n)
				assert_true(world_step(w));
		}
	younger = spread_pair(w, 4, 5, &over);
	/* all that are spare are in use: the older one waits for one of them */
	xfer_end(w, &w->xfer[0]);
	assert_int_equal(w->n_asked, n + 2);
	xfer_end(w, &w->xfer[n + 1]);
	assert_int_equal(w->n_asked, n + 3);
	assert_int_equal(w->asked[n + 2], 7);
	assert_false(over);
	walk_spread_cancel(older);
	walk_spread_cancel(younger);
	while (n)
		walk_spread_cancel(v[--n]);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ways),
		cmocka_unit_test(test_ways_of_others),
		cmocka_unit_test(test_way_of_late),
		cmocka_unit_test(test_way_runs_out),
		cmocka_unit_test(test_way_of_ended),
		cmocka_unit_test(test_way_for_waiting),
		cmocka_unit_test(test_way_of_ended_for_waiting),
		cmocka_unit_test(test_way_is_own_again),
		cmocka_unit_test(test_ways_in_turn),
		cmocka_unit_test(test_spare_in_turn),
		cmocka_unit_test(test_spare_of_a_younger_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
