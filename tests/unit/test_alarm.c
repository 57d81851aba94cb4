/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Alarms by silence: whatever hosts have and whoever is lost, an agent that
 * says "quiet" is right, and one that says "over" is, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/tree/alarm.h"
#include "common/util.h"
#include "tests/unit/seed.h"

#define LIMIT 1000

static enum alarm_verdict judge(uint64_t own, unsigned n,
				const struct alarm_child *child, bool late)
{
	struct alarm_case c = { .limit = LIMIT,
				.own = own,
				.own_known = true,
				.late = late,
				.n = n,
				.child = child };
	struct alarm_sum sum;

	return alarm_judge(&c, &sum);
}

static void test_shares(void **state)
{
	uint64_t sum = 0;

	(void)state;
	assert_int_equal(alarm_share(1000, 8, 8), 1000);
	assert_int_equal(alarm_share(1000, 9, 8), 1000);
	assert_int_equal(alarm_share(1000, 1, 8), 125);
	assert_int_equal(alarm_share(7, 1, 8), 0);
	assert_int_equal(alarm_share(1000, 1, 0), 0);
	assert_true(alarm_share(UINT64_MAX, 3, 3) == UINT64_MAX);
	for (unsigned i = 0; i < 7; i++)
		sum += alarm_share(UINT64_MAX, 1, 7);
	assert_true(sum <= UINT64_MAX && sum >= UINT64_MAX - 7);
	/* a parent waits longer than its child may take */
	for (uint32_t h = 0; h < 16; h++)
		assert_true(alarm_settle_ms(h + 1) >=
			    alarm_settle_ms(h) + 1500);
	assert_true(alarm_settle_ms(0) >= 200 + 20 + 700 + 1000);
}

static void test_verdicts(void **state)
{
	struct alarm_child c[2] = {
		{ .share = 400, .heard = true },
		{ .share = 400, .heard = true },
	};
	struct alarm_case blind = { .limit = LIMIT, .n = 2, .child = c };
	struct alarm_sum sum;

	(void)state;
	assert_int_equal(judge(200, 2, c, false), ALARM_QUIET);
	assert_int_equal(judge(201, 2, c, false), ALARM_ASK);
	assert_int_equal(judge(1000, 0, NULL, false), ALARM_QUIET);
	assert_int_equal(judge(1001, 2, c, false), ALARM_OVER);
	/* who is not heard is not silent, however little may be missing */
	c[1].heard = false;
	assert_int_equal(judge(0, 2, c, false), ALARM_WAIT);
	assert_int_equal(judge(0, 2, c, true), ALARM_BLIND);
	assert_int_equal(judge(1001, 2, c, true), ALARM_OVER);
	/* what it said itself counts */
	c[1] = (struct alarm_child){ .said = true,
				     .sure = true,
				     .least = 500,
				     .most = 600,
				     .share = 400 };
	assert_int_equal(judge(0, 2, c, true), ALARM_QUIET);
	assert_int_equal(judge(1, 2, c, true), ALARM_ASK);
	assert_int_equal(judge(501, 2, c, true), ALARM_OVER);
	/* what it has at most it may not know yet */
	c[1].sure = false;
	assert_int_equal(judge(0, 2, c, false), ALARM_WAIT);
	assert_int_equal(judge(0, 2, c, true), ALARM_BLIND);
	c[1].blind = true;
	assert_int_equal(judge(0, 2, c, true), ALARM_BLIND);
	assert_int_equal(judge(501, 2, c, true), ALARM_OVER);
	/* nor is a host quiet that could not count */
	c[1] = c[0];
	assert_int_equal(alarm_judge(&blind, &sum), ALARM_BLIND);
	/* sums that do not fit are more */
	c[1] = (struct alarm_child){ .said = true,
				     .least = UINT64_MAX,
				     .most = UINT64_MAX };
	assert_int_equal(judge(1, 2, c, true), ALARM_OVER);
}

/* ---- a tree of them ---- */

#define HOSTS 64

struct host {
	unsigned parent, below; /* hosts of its subtree */
	uint64_t value;
	bool dead, no_monitor;
	enum alarm_verdict verdict;
	struct alarm_sum sum;
};

struct net {
	struct host host[HOSTS];
	unsigned told; /* messages to parents and questions */
};

static uint64_t sum_below(const struct net *n, unsigned top)
{
	uint64_t sum = n->host[top].value;

	for (unsigned i = top + 1; i < HOSTS; i++)
		if (n->host[i].parent == top)
			sum += sum_below(n, i);
	return sum;
}

static bool all_well(const struct net *n, unsigned top)
{
	bool well = !n->host[top].dead && !n->host[top].no_monitor;

	for (unsigned i = top + 1; i < HOSTS; i++)
		if (n->host[i].parent == top)
			well &= all_well(n, i);
	return well;
}

/* Numbers rise downwards, so that children have been judged before. */
static void host_judge(struct net *n, unsigned at)
{
	struct host *h = &n->host[at];
	struct alarm_child child[HOSTS];
	struct alarm_case c = { .limit = alarm_share(LIMIT, h->below, HOSTS),
				.own = h->value,
				.own_known = !h->no_monitor,
				.late = true,
				.child = child };

	for (unsigned i = at + 1; i < HOSTS; i++) {
		const struct host *x = &n->host[i];
		bool said = !x->dead && x->verdict != ALARM_QUIET;

		if (x->parent != at)
			continue;
		n->told += said;
		child[c.n++] = (struct alarm_child){
			.share = alarm_share(LIMIT, x->below, HOSTS),
			.said = said,
			.sure = x->sum.sure,
			.blind = !x->sum.sure,
			.least = x->sum.least,
			.most = x->sum.most,
			.heard = !x->dead,
		};
	}
	h->verdict = alarm_judge(&c, &h->sum);
	if (h->verdict != ALARM_ASK)
		return;
	n->told += h->below - 1;
	h->sum.least = h->sum.most = sum_below(n, at);
	h->sum.sure = all_well(n, at);
	h->verdict = h->sum.least > c.limit ? ALARM_OVER
		     : all_well(n, at)      ? ALARM_QUIET
					    : ALARM_BLIND;
}

static void test_t66b_never_wrong(void **state)
{
	uint64_t rnd = seed_start();
	unsigned seen[ALARM_BLIND + 1] = { 0 }, calm = 0, calm_told = 0;

	(void)state;
	for (unsigned round = 0; round < 4000; round++) {
		uint32_t scale = 1 + seed_below(&rnd, 60);
		bool faults = seed_below(&rnd, 3) == 0;
		bool peaks = seed_below(&rnd, 2) == 0;
		struct net n = { 0 };
		uint64_t sum;

		for (unsigned i = 0; i < HOSTS; i++) {
			struct host *h = &n.host[i];

			h->parent = i ? seed_below(&rnd, i) : HOSTS;
			h->value = seed_below(&rnd, scale);
			if (peaks && seed_below(&rnd, 40) == 0)
				h->value *= 40;
			h->dead = i && faults && !seed_below(&rnd, 30);
			h->no_monitor = faults && !seed_below(&rnd, 30);
		}
		for (unsigned i = HOSTS; i-- > 0;) {
			n.host[i].below++;
			if (i)
				n.host[n.host[i].parent].below +=
					n.host[i].below;
		}
		for (unsigned i = HOSTS; i-- > 0;)
			host_judge(&n, i);
		sum = sum_below(&n, 0);
		seen[n.host[0].verdict]++;
		if (n.host[0].verdict == ALARM_QUIET)
			assert_true(sum <= LIMIT && all_well(&n, 0));
		if (n.host[0].verdict == ALARM_OVER)
			assert_true(sum > LIMIT);
		if (sum > LIMIT)
			assert_true(n.host[0].verdict == ALARM_OVER ||
				    n.host[0].verdict == ALARM_BLIND);
		if (scale <= 15 && !faults && !peaks) {
			calm++;
			calm_told += n.told;
		}
	}
	assert_true(seen[ALARM_QUIET] > 100 && seen[ALARM_OVER] > 100 &&
		    seen[ALARM_BLIND] > 100 && !seen[ALARM_WAIT]);
	/* while nobody has more than its share, nobody says anything */
	assert_true(calm > 100 && !calm_told);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_t66b_never_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
