/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions down a tree: who may ask, what comes back, in what time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/walk_world.h"

static void test_whole(void **state)
{
	struct world *w = thirteen();
	struct epoch last = { 7, 0, 12 };

	(void)state;
	world_query(w, 2000);
	assert_true(w->report.complete);
	assert_int_equal(w->report.answered, 13);
	assert_int_equal(w->report.n_missing, 0);
	assert_int_equal(w->part->value, sum_of(w, w->part));
	assert_int_equal(w->part->value, 13 * 1000 + 78);
	assert_int_equal(w->coverage.hops, 2);
	assert_int_equal(w->coverage.clock_err_ms, 12);
	assert_int_equal(epoch_compare(&w->coverage.epoch_max, &last), 0);
	for (unsigned i = 1; i < 13; i++)
		assert_int_equal(w->agent[i].asked, 1);
	assert_int_equal(walk_running(w->agent[0].walk), 0);
	world_free(w);
}

static void test_fences(void **state)
{
	struct world *w = thirteen();
	struct node_id via[WALK_VIA + 1];
	struct xfer *x;

	(void)state;
	for (unsigned i = 0; i <= WALK_VIA; i++)
		via[i] = world_id(100 + i);
	x = world_send(w, 1, 1, 1);
	memcpy(x->via, via, sizeof(via));
	x->ask.n_via = WALK_VIA + 1;
	assert_int_equal(world_go(w, x)->word, TREE_LOOP);
	x = world_send(w, 1, 1, 1);
	memcpy(x->via, via, sizeof(via));
	x->via[3] = world_id(1);
	x->ask.n_via = WALK_VIA;
	assert_int_equal(world_go(w, x)->word, TREE_LOOP);
	x = world_send(w, 1, 1, 1);
	x->ask.lease.n++;
	assert_int_equal(world_go(w, x)->word, TREE_MOVED);
	x = world_send(w, 1, 1, 1);
	x->ask.as_of.n = 0;
	assert_int_equal(world_go(w, x)->word, TREE_MOVED);
	/* nothing was done for any of them */
	world_run(w);
	assert_int_equal(w->agent[4].asked, 0);
	x = world_go(w, world_send(w, 1, 1, 1));
	world_run(w);
	assert_true(x->over);
	assert_int_equal(x->coverage.answered, 4);
	/* a root has no parent */
	x = world_go(w, world_send(w, 0, 1, 1));
	assert_int_equal(x->word, TREE_MOVED);
	world_free(w);
}

static void test_asked_again(void **state)
{
	struct world *w = thirteen();
	struct xfer *first, *second, *x;

	(void)state;
	first = world_go(w, world_send(w, 1, 1, 1));
	second = world_go(w, world_send(w, 1, 1, 1)); /* joins */
	x = world_send(w, 1, 1, 1);
	x->ask.lease.n = 50;
	w->agent[1].lease.n = 50; /* it has another parent now */
	assert_int_equal(world_go(w, x)->word, TREE_MOVED);
	w->agent[1].lease.n = 1;
	world_run(w);
	assert_true(first->over && second->over);
	assert_int_equal(first->part->value, second->part->value);
	assert_int_equal(w->agent[4].asked, 1);
	/* the kept part, whatever was counted since */
	w->agent[1].value += 5;
	x = world_go(w, world_send(w, 1, 1, 1));
	assert_true(x->over);
	assert_int_equal(x->part->value, first->part->value);
	assert_int_equal(x->coverage.answered, 4);
	/* another parent that asks the same, in either round */
	w->agent[1].lease.n = 50;
	x = world_go(w, world_send(w, 1, 1, 1));
	assert_int_equal(x->word, TREE_MOVED);
	x = world_go(w, world_send(w, 1, 1, 2));
	assert_int_equal(x->word, TREE_MOVED);
	w->agent[1].lease.n = 1;
	x = world_go(w, world_send(w, 1, 1, 2));
	world_run(w);
	assert_int_equal(x->part->value, first->part->value + 5);
	/* another question pushes out what is older than a minute */
	w->now_ms += 60001;
	x = world_go(w, world_send(w, 1, 2, 1));
	world_run(w);
	x = world_go(w, world_send(w, 1, 1, 1));
	assert_false(x->over);
	world_run(w);
	assert_int_equal(x->part->value, first->part->value + 5);
	world_free(w);
}

static struct xfer *ask_size(struct world *w, unsigned i, uint64_t size)
{
	struct xfer *x = world_send(w, 1, (uint8_t)i, 1);

	x->ask.query[2] = (uint8_t)(i >> 8);
	w->agent[1].value = size;
	world_go(w, x);
	world_run(w);
	return x;
}

static bool is_kept(struct world *w, unsigned i)
{
	struct xfer *x = world_send(w, 1, (uint8_t)i, 1);
	unsigned asked = w->agent[1].asked;

	x->ask.query[2] = (uint8_t)(i >> 8);
	world_go(w, x);
	assert_true(x->over); /* it is known */
	assert_int_equal(w->agent[1].asked, asked + 1);
	return x->word == TREE_OK;
}

/* 64 parts, 256 KiB each, 4 MiB in all. */
static void test_kept(void **state)
{
	struct world *w = world_new();

	(void)state;
	world_add(w, 0);
	ask_size(w, 1, 256 * 1024);
	assert_false(is_kept(w, 1));
	for (unsigned i = 2; i < 67; i++)
		ask_size(w, i, 1000);
	assert_false(is_kept(w, 2));
	assert_true(is_kept(w, 3));
	assert_true(is_kept(w, 66));
	for (unsigned i = 67; i < 87; i++)
		ask_size(w, i, 255 * 1024);
	assert_false(is_kept(w, 66));
	assert_false(is_kept(w, 70));
	assert_true(is_kept(w, 71));
	/* of the ids, 4,096 */
	for (unsigned i = 100; i < 100 + 3000; i++) {
		struct xfer *x = ask_size(w, i, 10);

		free(x->part);
		x->part = NULL;
		w->n_xfers = 100;
	}
	assert_true(is_kept(w, 100 + 2999));
	assert_false(is_kept(w, 100));
	world_free(w);
}

static void test_busy(void **state)
{
	struct world *w = thirteen();
	struct question *q;
	struct xfer *x;
	unsigned n = 0;

	(void)state;
	w->agent[0].lease = (struct epoch){ 7, 0, 1 };
	while ((q = world_question(65536)),
	       walk_start(w->agent[0].walk,
			  &(struct walk_options){ .query = { (uint8_t)n },
						  .round = 1,
						  .budget_ms = 1000 },
			  q, world_answer, w))
		n++;
	free(q);
	assert_int_equal(n, WALK_RUNNING - WALK_RESERVED);
	for (n = 0; n < WALK_RESERVED; n++) {
		x = world_go(w, world_send(w, 0, (uint8_t)n, 1));
		assert_int_equal(x->word, TREE_OK);
	}
	x = world_go(w, world_send(w, 0, (uint8_t)n, 1));
	assert_int_equal(x->word, TREE_BUSY);
	/* one that is known costs nothing */
	x = world_go(w, world_send(w, 0, 1, 1));
	assert_int_equal(x->word, TREE_OK);
	/* that ends with all of them running */
	world_free(w);
}

static void test_unknown_task(void **state)
{
	struct world *w = thirteen();
	struct xfer *x = world_send(w, 1, 1, 1);

	(void)state;
	walk_request(w->agent[1].walk, &x->ask, NULL, (uint64_t)(x - w->xfer));
	assert_true(x->over && !x->part);
	assert_int_equal(x->coverage.reasons[MISSING_UNKNOWN_TASK], 1);
	assert_int_equal(x->coverage.reasons[MISSING_BEHIND], 3);
	assert_int_equal(x->coverage.n_missing, 4);
	world_free(w);
}

/* ---- waves ---- */

/* As many at once as their replies may be held: 64 MiB. */
static void test_slots(void **state)
{
	struct world *w = world_star(64);

	(void)state;
	world_query(w, 2000);
	assert_int_equal(w->agent[0].most, 64);
	w->agent[0].most = 0;
	assert_non_null(world_begin(w, 2000, world_question(4 << 20)));
	world_run(w);
	assert_int_equal(w->agent[0].most, 16);
	assert_true(w->report.complete);
	world_free(w);
}

/* Tallest first, suspects last, and who is down or untold is not asked. */
static void test_order(void **state)
{
	struct world *w = world_star(40);

	(void)state;
	world_add(w, 20);
	world_add(w, 41);
	world_add(w, 30);
	w->agent[3].suspect = true;
	w->agent[4].down = true;
	assert_non_null(world_begin(w, 2000, world_question(4 << 20)));
	while (w->n_asked < 39)
		world_step(w);
	assert_int_equal(w->asked[0], 20);
	assert_int_equal(w->asked[1], 30);
	world_run(w);
	for (unsigned i = 0; i < w->n_asked; i++) {
		assert_int_not_equal(w->asked[i], 4);
		if (w->asked[i] == 3) /* after all other children */
			for (unsigned k = i + 1; k < w->n_asked; k++)
				assert_true(w->asked[k] > 40);
	}
	assert_int_equal(w->agent[3].asked, 1);
	assert_int_equal(w->coverage.reasons[MISSING_UNREACHABLE], 1);
	assert_int_equal(w->report.answered, w->n - 1);
	world_free(w);
}

/* Silent ones that come first leave time for those that wait. */
static void test_share(void **state)
{
	struct world *w = world_star(64);

	(void)state;
	for (unsigned i = 1; i <= 20; i++)
		w->agent[i].silent = true;
	for (unsigned i = 21; i <= 64; i++)
		w->agent[i].suspect = true; /* later, that is */
	assert_non_null(world_begin(w, 2000, world_question(4 << 20)));
	world_run(w);
	assert_int_equal(w->report.answered, 65 - 20);
	assert_int_equal(w->coverage.reasons[MISSING_TIMEOUT], 20);
	/* where nobody waits the whole time is theirs */
	for (unsigned i = 1; i <= 64; i++) {
		w->agent[i].silent = false;
		w->agent[i].read_ms = i <= 16 ? 1200 : 1;
	}
	world_query(w, 2000);
	assert_true(w->report.complete);
	world_free(w);
	/* for one that waits, one is cut off */
	w = world_star(17);
	for (unsigned i = 1; i <= 16; i++)
		w->agent[i].reply_ms = 1200;
	w->agent[17].suspect = true;
	assert_non_null(world_begin(w, 2000, world_question(4 << 20)));
	world_run(w);
	assert_int_equal(w->report.answered, 17);
	assert_true(w->part->has[17]);
	world_free(w);
}

/* A reset of a connection that was there before: once more, and once only. */
static void test_reset(void **state)
{
	struct world *w = thirteen();

	(void)state;
	w->agent[2].resets = 1;
	world_query(w, 2000);
	assert_true(w->report.complete);
	assert_int_equal(w->agent[2].asked, 2);
	w->agent[2].resets = 2;
	world_query(w, 2000);
	assert_int_equal(w->agent[2].asked, 4);
	assert_int_equal(w->report.answered, 9);
	assert_int_equal(w->coverage.reasons[MISSING_UNREACHABLE], 1);
	assert_int_equal(w->agent[2].suspected, 1);
	/* one that was made for it tells that nobody is there */
	w->agent[2].resets = 1;
	w->agent[2].cold = true;
	world_query(w, 2000);
	assert_int_equal(w->agent[2].asked, 5);
	assert_int_equal(w->report.answered, 9);
	world_free(w);
}

/* What comes late is dropped and counted, and changes no later answer. */
static void test_late(void **state)
{
	struct world *w = world_star(3);

	(void)state;
	w->agent[2].reply_ms = 600;
	assert_non_null(world_begin(w, 500, world_question(65536)));
	while (!w->done)
		assert_true(world_step(w));
	assert_int_equal(w->report.answered, 3);
	assert_int_equal(w->coverage.reasons[MISSING_TIMEOUT], 1);
	assert_int_equal(walk_late(w->agent[0].walk), 0);
	/* it comes while another one runs */
	assert_non_null(world_begin(w, 600, world_question(65536)));
	w->agent[2].value = 7;
	world_run(w);
	assert_int_equal(walk_late(w->agent[0].walk), 2);
	assert_int_equal(w->report.answered, 3);
	assert_int_equal(w->part->value, 1000 + 1001 + 1003);
	/* nobody waits for ever */
	w->agent[2].reply_ms = 5000;
	assert_non_null(world_begin(w, 500, world_question(65536)));
	world_run(w);
	assert_int_equal(walk_late(w->agent[0].walk), 2);
	assert_int_equal(w->agent[0].running, 0);
	world_free(w);
}

/* ---- T52: time ---- */

#define DEPTH 8

/* A spine: 0 - 1 - … - 8, and two leaves at each level. */
static struct world *spine(void)
{
	struct world *w = world_new();

	for (unsigned i = 0; i < DEPTH; i++)
		world_add(w, i);
	for (unsigned i = 0; i < 2 * DEPTH; i++)
		world_add(w, i / 2);
	return w;
}

static bool is_below(const struct world *w, unsigned i, unsigned top)
{
	while (i != NOBODY && i != top)
		i = w->agent[i].parent;
	return i == top;
}

static void spine_check(struct world *w, unsigned lost, uint32_t budget_ms)
{
	world_query(w, budget_ms);
	for (unsigned i = 0; i < w->n; i++)
		assert_int_equal(w->part->has[i], !is_below(w, i, lost));
	assert_int_equal(w->part->value, sum_of(w, w->part));
	assert_false(w->report.complete);
	assert_int_equal(w->report.missing_more, 0);
	assert_int_equal(w->report.n_missing, world_below(w, lost));
	for (unsigned i = 0; i < w->report.n_missing; i++)
		assert_true(w->report.missing[i].reason == MISSING_BEHIND ||
			    w->report.missing[i].reason == MISSING_TIMEOUT ||
			    w->report.missing[i].reason == MISSING_UNREACHABLE);
}

static void test_t52b_spine(void **state)
{
	static const uint32_t budgets[] = { 250, 500, 1000, 2000 };

	(void)state;
	for (unsigned lost = 1; lost <= DEPTH; lost++) {
		for (unsigned b = 0; b < 2 * ARRAY_SIZE(budgets); b++) {
			struct world *w = spine();

			*(b % 2 ? &w->agent[lost].gone
				: &w->agent[lost].silent) = true;
			spine_check(w, lost, budgets[b / 2]);
			world_free(w);
		}
	}
}

/* Messages that are long on their way make no branch late. */
static void test_long_way(void **state)
{
	struct world *w = spine();

	(void)state;
	w->latency_ms = 25;
	w->agent[4].silent = true;
	spine_check(w, 4, 400);
	world_free(w);
}

/*
 * Making a connection takes all the time that it may: what is behind it is
 * told so much less, so that a silent one below does not make it late.
 */
static void test_slow_connect(void **state)
{
	(void)state;
	for (uint32_t budget = 400; budget <= 2000; budget += 400) {
		struct world *w = world_new();

		world_add(w, 0); /* 1 */
		world_add(w, 1); /* 2: silent */
		world_add(w, 1);
		world_add(w, 0);
		w->agent[1].cold = true;
		w->agent[1].connect_ms = MIN(budget / 4, 250);
		w->agent[2].silent = true;
		world_query(w, budget);
		assert_int_equal(w->report.answered, 4);
		assert_true(w->part->has[3]);
		world_free(w);
	}
}

/* Exactly these agents are named as missing. */
static void named(struct world *w, unsigned agents)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < w->report.n_missing; i++) {
		struct node_id id, parent;

		view_row(&w->agent[0], w->report.missing[i].row, &id, &parent);
		for (unsigned a = 0; a < w->n; a++) {
			struct node_id other = world_id(a);

			if (node_id_equal(&id, &other))
				n |= 1u << a;
		}
	}
	assert_int_equal(n, agents);
}

/*
 * Nor if it is far away: what it says needs its time, too, and hello has that
 * beside the quarter.
 */
static void test_slow_connect_far(void **state)
{
	struct world *w = world_new();

	(void)state;
	w->latency_ms = 20;
	world_add(w, 0);
	world_add(w, 1);
	w->agent[2].silent = true;
	w->agent[1].cold = true;
	for (w->agent[1].connect_ms = 0; w->agent[1].connect_ms <= 140;
	     w->agent[1].connect_ms += 10) {
		world_query(w, 400);
		assert_int_equal(w->report.answered, 2);
	}
	world_free(w);
}

/* Under 20 ms nobody is asked; this host answers all the same. */
static void test_little_time(void **state)
{
	struct world *w = thirteen();

	(void)state;
	world_query(w, 19);
	assert_int_equal(w->n_asked, 0);
	assert_int_equal(w->report.answered, 1);
	assert_int_equal(w->coverage.reasons[MISSING_TIMEOUT], 3);
	assert_int_equal(w->report.n_missing, 12);
	/* the own read may be the one that is late */
	w->agent[0].read_ms = 5000;
	world_query(w, 1000);
	assert_int_equal(w->report.answered, 12);
	assert_int_equal(w->report.n_missing, 1);
	assert_int_equal(w->report.missing[0].row, 0);
	assert_int_equal(w->report.missing[0].reason, MISSING_TIMEOUT);
	world_free(w);
}

/* An inner agent's own read is late: those below it are in. */
static void test_own_read_late(void **state)
{
	struct world *w = thirteen();

	(void)state;
	w->agent[1].read_ms = 5000;
	w->agent[12].gone = true;
	world_query(w, 1000);
	assert_int_equal(w->report.answered, 11);
	named(w, 1 << 1 | 1 << 12);
	world_free(w);
}

/* ---- T56: moves ---- */

/* 12 goes from 3 to 1, with a newer lease and without its memory. */
static void move(struct world *w)
{
	world_start(w, 12);
	w->agent[12].parent = 1;
	w->agent[12].lease = (struct epoch){ 7, 0, 101 };
	w->agent[0].seen.n = w->agent[1].seen.n = 101;
}

/* complete: adds one if it was. */
static unsigned query_with_move(bool lax, unsigned at_ms, unsigned *complete)
{
	struct world *w = thirteen();
	unsigned doubles;

	w->lax = lax;
	w->latency_ms = 2;
	/* 1 hears of the question long after 3 has answered */
	w->agent[1].cold = true;
	w->agent[1].connect_ms = 100;
	w->agent[1].hosts = 9; /* its number is no help */
	world_event(w, at_ms, EVENT_CALL, 0)->call = move;
	assert_non_null(world_begin(w, 2000, world_question(65536)));
	world_run(w);
	assert_true(w->done);
	if (w->report.complete)
		assert_int_equal(w->part->value, 13 * 1000 + 78);
	*complete += w->report.complete;
	assert_true(w->report.answered <= 13 || lax);
	doubles = w->doubles;
	world_free(w);
	return doubles;
}

static void test_t56_move(void **state)
{
	unsigned complete = 0;

	(void)state;
	for (unsigned at = 0; at < 120; at++)
		assert_int_equal(query_with_move(false, at, &complete), 0);
	assert_true(complete > 5 && complete < 40); /* moved when all was in */
	/* without the comparison with as_of it is in twice */
	complete = 0;
	assert_int_not_equal(query_with_move(true, 50, &complete), 0);
	assert_int_equal(complete, 0);
}

/* ---- T55: lies ---- */

static void lie_hosts(struct coverage *c, struct sum *s)
{
	(void)s;
	c->answered = 50;
}

static void lie_lease(struct coverage *c, struct sum *s)
{
	(void)s;
	c->epoch_max.n = 101;
}

static void lie_older_lease(struct coverage *c, struct sum *s)
{
	(void)s;
	c->epoch_max.n = 0;
}

static void lie_digest(struct coverage *c, struct sum *s)
{
	(void)s;
	c->digest++;
}

static void lie_tops(struct coverage *c, struct sum *s)
{
	const struct node_id sibling = world_id(1), own = world_id(7),
			     stranger = world_id(99);

	(void)s;
	c->answered--;
	c->digest -= coverage_digest("linnet", &own);
	coverage_missing(c, &sibling, MISSING_TIMEOUT, false);
	coverage_missing(c, &stranger, MISSING_TIMEOUT, false);
	coverage_missing(c, &own, MISSING_TIMEOUT, false);
}

static void lying(void (*lie)(struct coverage *c, struct sum *s), bool rejected)
{
	struct world *w = thirteen();
	uint64_t rest;

	w->agent[2].lie = lie;
	world_query(w, 2000);
	assert_false(w->report.complete);
	assert_int_equal(w->agent[2].rejected, rejected);
	if (rejected) {
		rest = sum_of(w, w->part);
		assert_int_equal(w->part->value, rest);
		assert_int_equal(w->report.answered, 9);
		assert_int_equal(w->coverage.reasons[MISSING_REJECTED], 1);
		assert_int_equal(w->report.n_missing, 4);
	}
	w->agent[2].lie = NULL;
	world_query(w, 2000);
	assert_true(w->report.complete);
	world_free(w);
}

static void more_hosts(struct world *w)
{
	w->agent[2].hosts = 4;
}

static void leaves(struct world *w)
{
	w->agent[7].lease = (struct epoch){ 0 };
}

static void is_elsewhere(struct world *w)
{
	w->agent[7].lease = (struct epoch){ 7, 0, 101 };
}

/* What it was asked under its lease it answers, wherever it is by then. */
static void test_left_while_reading(void **state)
{
	void (*const meanwhile[])(struct world *) = { leaves, is_elsewhere };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(meanwhile); i++) {
		struct world *w = thirteen();

		w->agent[7].read_ms = 50;
		world_event(w, 10, EVENT_CALL, 0)->call = meanwhile[i];
		world_query(w, 1000);
		assert_int_equal(w->agent[7].rejected, 0);
		assert_int_equal(w->report.answered, 13);
		assert_true(w->report.complete);
		world_free(w);
	}
}

/* Hosts may join a child while it is asked. */
static void test_joined_meanwhile(void **state)
{
	struct world *w = thirteen();

	(void)state;
	w->agent[2].hosts = 3;
	world_event(w, 2, EVENT_CALL, 0)->call = more_hosts;
	world_query(w, 1000);
	assert_true(w->report.complete);
	world_free(w);
}

static void test_t55_lies(void **state)
{
	struct world *w = thirteen();
	struct question *q = world_question(65536);

	(void)state;
	lying(lie_hosts, true);
	lying(lie_lease, true);
	lying(lie_older_lease, true);
	lying(lie_digest, false);
	lying(lie_tops, false);
	/* what the question itself finds wrong */
	q->wrong = true;
	assert_non_null(world_begin(w, 1000, q));
	world_run(w);
	assert_int_equal(w->report.answered, 1);
	assert_int_equal(w->part->value, 1000);
	assert_int_equal(w->coverage.reasons[MISSING_REJECTED], 3);
	world_free(w);
	/* nobody is missing because of what a child says of others */
	w = thirteen();
	w->agent[2].lie = lie_tops;
	world_query(w, 2000);
	assert_int_equal(w->report.n_missing, 1);
	assert_int_equal(w->report.missing[0].reason, MISSING_TIMEOUT);
	assert_int_equal(w->coverage.n_missing, 1);
	assert_int_equal(w->coverage.reasons[MISSING_TIMEOUT], 3);
	world_free(w);
}

/* ---- what is reported ---- */

static void test_names(void **state)
{
	struct world *w = world_new();

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		world_add(w, 0);
	for (unsigned i = 0; i < 60; i++)
		world_add(w, 2);
	w->agent[2].gone = true;
	world_query(w, 1000);
	assert_int_equal(w->report.expected, 64);
	assert_int_equal(w->report.answered, 3);
	assert_int_equal(w->report.n_missing, COVERAGE_TOPS);
	assert_int_equal(w->report.missing_more, 61 - COVERAGE_TOPS);
	assert_int_equal(w->report.missing[0].row, 2);
	assert_int_equal(w->report.missing[0].reason, MISSING_UNREACHABLE);
	assert_int_equal(w->report.missing[1].reason, MISSING_BEHIND);
	/* a list that was short changes no number */
	w->coverage.n_missing = 0;
	walk_report(w->agent[0].walk, &w->coverage, &w->scope, &w->report);
	assert_int_equal(w->report.n_missing, 0);
	assert_int_equal(w->report.missing_more, 61);
	world_free(w);
}

/* Agents that did not answer, and those that are said not to have. */
static void moving(unsigned missing, unsigned said, unsigned told)
{
	struct world *w = thirteen();
	struct coverage c;

	world_query(w, 1000);
	c = w->coverage;
	for (unsigned a = 0; a < 13; a++) {
		struct node_id id = world_id(a);

		if (missing & 1u << a) {
			c.answered--;
			c.digest -= coverage_digest("linnet", &id);
		}
		if (said & 1u << a)
			coverage_missing(&c, &id, MISSING_MOVED, false);
	}
	walk_report(w->agent[0].walk, &c, &w->scope, &w->report);
	named(w, told);
	assert_int_equal(w->report.n_missing + w->report.missing_more,
			 __builtin_popcount(missing));
	world_free(w);
}

/* A host may answer here and be missed there: the digests know. */
static void test_names_of_those_that_move(void **state)
{
	const unsigned a = 1 << 7, b = 1 << 8, c = 1 << 11, d = 1 << 12;

	(void)state;
	moving(a | b, a | b, a | b);
	moving(a, a | b, a);
	moving(a | b, a, a | b);
	moving(a | b, a | c, a | b);
	moving(a, b, a);
	moving(a, 0, a);
	moving(0, a, 0);
	moving(a | b, c | d, 0);
	moving(a | b | c, d, d); /* not enough is known */
}

/* Members that nobody tells of, as a new root has them. */
static void test_names_of_the_lost(void **state)
{
	struct world *w = thirteen();

	(void)state;
	w->agent[1].lost = true; /* 4, 5, 6 below it are in no row of a child */
	w->agent[2].gone = true;
	for (unsigned i = 4; i < 7; i++)
		w->agent[i].parent = 0;
	for (unsigned i = 4; i < 7; i++)
		w->agent[i].lost = true;
	world_query(w, 1000);
	assert_int_equal(w->report.missing_more, 0);
	named(w, 1 << 1 | 1 << 2 | 7 << 4 | 7 << 7);
	/* one of them has answered below somebody: who did not is not clear */
	w->coverage.answered++;
	w->coverage.digest += 12345;
	walk_report(w->agent[0].walk, &w->coverage, &w->scope, &w->report);
	assert_int_equal(w->report.n_missing + w->report.missing_more, 7);
	assert_in_range(w->report.missing_more, 3, 7);
	world_free(w);
}

/* Each condition alone makes it incomplete. */
static void test_complete(void **state)
{
	struct world *w = thirteen();
	const struct walk *k = w->agent[0].walk;
	const struct node_id self = world_id(0);
	struct walk_report r;
	struct walk_scope s;
	struct coverage c;

	(void)state;
	world_query(w, 1000);
#define INCOMPLETE(change)                             \
	do {                                           \
		c = w->coverage;                       \
		s = w->scope;                          \
		walk_report(k, &c, &s, &r);            \
		assert_true(r.complete);               \
		change;                                \
		walk_report(k, &c, &s, &r);            \
		assert_false(r.complete);              \
		assert_true(r.answered <= r.expected); \
	} while (0)
	assert_true((walk_report(k, &w->coverage, &w->scope, &r), r.all_in));
	INCOMPLETE(c.answered--);
	assert_false(r.all_in);
	INCOMPLETE(c.answered++);
	INCOMPLETE(c.digest++);
	assert_false(r.all_in);
	INCOMPLETE(coverage_missing(&c, &self, MISSING_PARTIAL, true));
	INCOMPLETE(c.reasons[MISSING_BUSY] = 1);
	INCOMPLETE(c.saturated = true);
	INCOMPLETE(c.skew = true);
	assert_true(r.all_in);
	INCOMPLETE(s.expected++);
	INCOMPLETE(s.digest++);
	INCOMPLETE(s.unsettled = true);
	assert_false(r.all_in);
#undef INCOMPLETE
	world_free(w);
}

/* ---- anything to all ---- */

static unsigned said[MISSING_REASONS], over;

static void spread_reply(void *arg, const struct walk_child *c, const void *raw,
			 enum missing_reason why)
{
	assert_non_null(arg);
	assert_null(raw);
	assert_int_not_equal(world_index(&c->id), 0);
	said[why]++;
}

static void spread_done(void *arg)
{
	assert_non_null(arg);
	over++;
}

static void test_spread(void **state)
{
	struct world *w = world_star(4);
	const struct node_id third = world_id(3);
	struct walk_spread s = { .what = w,
				 .budget_ms = 1000,
				 .reply_max = 65536,
				 .reply = spread_reply,
				 .done = spread_done,
				 .arg = w };

	(void)state;
	w->agent[1].silent = true;
	w->agent[2].down = true;
	w->agent[3].gone = true;
	w->agent[4].untold = true;
	assert_non_null(walk_spread(w->agent[0].walk, &s));
	assert_int_equal(over + w->n_asked, 0); /* never from inside */
	s.only = &third;
	assert_non_null(walk_spread(w->agent[0].walk, &s));
	s.for_parent = true;
	s.only = NULL;
	assert_non_null(walk_spread(w->agent[0].walk, &s));
	w->agent[4].silent = true;
	world_run(w);
	assert_int_equal(over, 3);
	assert_int_equal(said[MISSING_TIMEOUT], 3);
	assert_int_equal(said[MISSING_UNREACHABLE], 5);
	assert_int_equal(said[MISSING_MOVED], 1);
	walk_spread_cancel(walk_spread(w->agent[0].walk, &s));
	/* one that still runs when all ends */
	assert_non_null(walk_spread(w->agent[0].walk, &s));
	world_free(w);
}

static void test_cancel(void **state)
{
	struct world *w = thirteen();
	struct walk_query *q = world_begin(w, 1000, world_question(65536));

	(void)state;
	while (w->now_ms < 1000003)
		world_step(w);
	walk_cancel(q);
	world_run(w);
	assert_false(w->done);
	assert_int_equal(walk_running(w->agent[0].walk), 0);
	assert_int_equal(w->agent[0].running, 0);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_fences),
		cmocka_unit_test(test_asked_again),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_unknown_task),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_t52b_spine),
		cmocka_unit_test(test_long_way),
		cmocka_unit_test(test_slow_connect),
		cmocka_unit_test(test_slow_connect_far),
		cmocka_unit_test(test_little_time),
		cmocka_unit_test(test_own_read_late),
		cmocka_unit_test(test_t56_move),
		cmocka_unit_test(test_joined_meanwhile),
		cmocka_unit_test(test_left_while_reading),
		cmocka_unit_test(test_t55_lies),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_names_of_those_that_move),
		cmocka_unit_test(test_names_of_the_lost),
		cmocka_unit_test(test_complete),
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
