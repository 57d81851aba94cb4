/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a window of a standing query is asked for, and what may be one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/standing_conf.h"
#include "agent/tree/standing.h"
#include "common/sketch/sketch.h"

#define BASE UINT64_C(1795222860000)

static void test_lowest_first(void **state)
{
	struct standing_place p = { .window_ms = 10000, .jitter_ms = 19 };
	uint64_t window = BASE / 10000, last = BASE + 10000;

	(void)state;
	for (p.height = 1; p.height <= 15; p.height++) {
		uint64_t due = standing_due_ms(&p, window);

		assert_true(due >= last + 99 && due <= BASE + 11800);
		assert_int_equal(standing_newest(&p, due), window);
		assert_int_equal(standing_newest(&p, due - 1), window - 1);
		last = due;
		/* no parent with the least jitter is before it */
	}
	p.height = 5;
	p.jitter_ms = 0;
	assert_int_equal(standing_due_ms(&p, window), BASE + 10700);
}

static void test_each_once(void **state)
{
	struct standing_place p = { .window_ms = 1000, .height = 2 };
	uint64_t window = BASE / 1000, last = window - 1;

	(void)state;
	for (uint64_t t = BASE; t < BASE + 20000; t += 7) {
		uint64_t next = standing_next(&p, t, last);

		if (!next)
			continue;
		assert_int_equal(next, last + 1);
		assert_true(t >= standing_due_ms(&p, next));
		assert_true(t < standing_due_ms(&p, next) + 7);
		last = next;
	}
	assert_int_equal(last, window + 18);
	/* stopped for a while: only the newest */
	assert_int_equal(standing_next(&p, BASE + 60000, last), window + 58);
	/* a little back: nothing twice; far back: from there on */
	assert_int_equal(standing_next(&p, BASE + 17000, last), 0);
	assert_int_equal(standing_next(&p, BASE, last), window - 2);
	/* no clock */
	assert_int_equal(standing_next(&p, 0, 0), 0);
}

static void test_budget(void **state)
{
	struct standing_place p = { .window_ms = 1000 };
	uint32_t last = 2500;

	(void)state;
	for (p.level = 0; p.level < 16; p.level++) {
		uint32_t ms = standing_budget_ms(&p, 2000);

		assert_true(ms * 10 <= last * 8);
		last = ms;
	}
	assert_int_equal(standing_budget_ms(&p, 50), 50);
}

static int parse(const char *text, struct standing_conf *out)
{
	struct task_spec t = { .window_ms = 1000,
			       .kinds = 1u << SKETCH_TOPK | 1u << SKETCH_HLL };

	return standing_conf_parse(text, &t, out);
}

static void test_conf(void **state)
{
	struct task_spec t = { .window_ms = 900 };
	struct standing_conf c;

	(void)state;
	assert_int_equal(parse("", &c), 0);
	assert_int_equal(c.n, 0);
	assert_int_equal(parse("distinct top?n=5&threshold=0.25&base=host "
			       "totals",
			       &c),
			 0);
	assert_int_equal(c.n, 3);
	assert_int_equal(c.ask[0].kind, ASK_DISTINCT);
	assert_int_equal(c.ask[1].kind, ASK_TOP);
	assert_int_equal(c.ask[1].n_top, 5);
	assert_true(c.ask[1].share == 0.25);
	assert_false(c.ask[1].base_tree);
	assert_int_equal(c.ask[2].kind, ASK_TOTALS);
	/* as /top without arguments */
	assert_int_equal(parse("top", &c), 0);
	assert_int_equal(c.ask[0].n_top, 10);
	assert_true(c.ask[0].share == 0 && c.ask[0].base_tree);

	assert_int_equal(standing_conf_parse("totals", &t, &c), -22);
	t.window_ms = 1000;
	assert_int_equal(standing_conf_parse("totals", &t, &c), 0);
	assert_int_equal(standing_conf_parse("top", &t, &c), -22);
	assert_int_equal(standing_conf_parse("distinct", &t, &c), -22);
}

static void test_conf_refused(void **state)
{
	static const char *const bad[] = {
		" ",
		"totals totals",
		"top top?n=3",
		"total",
		"totals?n=1",
		"top?n=0",
		"top?n=1025",
		"top?n=1&n=2",
		"top?key=1",
		"top?threshold=2",
		"top?base=both",
		"estimate?key=10.0.0.1",
		"realtime",
		"totals  distinct",
		"top?window=last",
		"totals distinct top totals",
	};
	struct standing_conf c;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse(bad[i], &c), -22);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lowest_first),
		cmocka_unit_test(test_each_once),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_conf),
		cmocka_unit_test(test_conf_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
