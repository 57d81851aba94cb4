/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The monitor's task table: ids, generations, the memory that is promised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "common/features.h"
#include "common/sketch/sketch.h"
#include "monitor/ruleset.h"
#include "monitor/tasks.h"
#include "monitor/windows.h"

static struct task_spec task(uint64_t id, uint64_t generation, uint32_t kinds)
{
	return (struct task_spec){
		.id = id,
		.generation = generation,
		.key = kinds ? KEY_FLOW : KEY_NONE,
		.kinds = kinds,
	};
}

static int setup(void **state)
{
	struct task_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -1;
	t->readers = 1;
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void generations_only_rise(void **state)
{
	struct task_table *t = *state;
	struct task_spec a = task(7, 2, 0), other = a;

	other.increment = INC_BYTE;
	assert_int_equal(tasks_put(t, &a), TASK_PUT_NEW);
	assert_int_equal(tasks_put(t, &a), TASK_PUT_SAME);
	assert_int_equal(tasks_put(t, &other), -EEXIST);
	other.generation = 1;
	assert_int_equal(tasks_put(t, &other), -EEXIST);
	other.generation = 3;
	assert_int_equal(tasks_put(t, &other), TASK_PUT_REPLACED);
	assert_int_equal(t->n, 1);
	assert_int_equal(tasks_find(t, 7)->spec.generation, 3);
	assert_true(tasks_del(t, 7));
	assert_false(tasks_del(t, 7));
	/* nothing is remembered of what was deleted */
	assert_int_equal(tasks_put(t, &a), TASK_PUT_NEW);
}

static void memory_is_promised_once(void **state)
{
	struct task_table *t = *state;
	struct task_spec a = task(1, 1, SKETCH_DEFAULT_KINDS);
	uint64_t one = task_memory(&a), id;

	assert_true(one > 0);
	for (id = 1;; id++) {
		a.id = id;
		if (tasks_put(t, &a) != TASK_PUT_NEW)
			break;
	}
	assert_int_equal(tasks_put(t, &a), -ENOSPC);
	assert_int_equal(t->n, id - 1);
	assert_int_equal(t->memory_used, (id - 1) * one);
	assert_true(t->memory_used <= TASKS_MEMORY);
	assert_true(t->memory_used + one > TASKS_MEMORY);
	/* a new generation takes the place of the old one */
	a.id = 1;
	a.generation = 2;
	assert_int_equal(tasks_put(t, &a), TASK_PUT_REPLACED);
	assert_int_equal(t->memory_used, (id - 1) * one);
	while (t->n)
		assert_true(tasks_del(t, t->entry[0].spec.id));
	assert_int_equal(t->memory_used, 0);
}

static void memory_counts_every_reader(void **state)
{
	struct task_table *t = *state;
	struct task_spec a = task(1, 1, 1u << SKETCH_HLL);

	t->readers = 8;
	assert_int_equal(tasks_put(t, &a), TASK_PUT_NEW);
	assert_int_equal(t->memory_used, 8 * task_memory(&a));
}

static void at_most_32(void **state)
{
	struct task_table *t = *state;
	struct ctl_task_list list;
	struct task_spec a;

	for (uint64_t id = 1; id <= TASKS_MAX; id++) {
		a = task(id, 1, 0);
		assert_int_equal(tasks_put(t, &a), TASK_PUT_NEW);
	}
	a = task(TASKS_MAX + 1, 1, 0);
	assert_int_equal(tasks_put(t, &a), -ENOSPC);
	assert_int_equal(t->n, TASKS_MAX);
	tasks_list(t, &list);
	assert_int_equal(list.n, TASKS_MAX);
	assert_int_equal(list.task[TASKS_MAX - 1].id, TASKS_MAX);
}

static struct task_spec rows(uint64_t id)
{
	return (struct task_spec){
		.id = id,
		.increment = INC_SEGMENT,
		.both = 1,
		.semantics = FEATURES_PACKETS,
		.kinds = TASK_FEATURES,
		.window_ms = 10000,
	};
}

/* A task of both directions has a filter for each. */
static void filters_of_both_directions(void **state)
{
	struct task_table *t = *state;
	struct filter f[RULESET_FILTERS];
	struct task_spec a = task(1, 1, 0), b = rows(2);
	struct ruleset r;

	b.filter.proto = 17;
	assert_int_equal(tasks_put(t, &a), TASK_PUT_NEW);
	assert_int_equal(tasks_put(t, &b), TASK_PUT_NEW);
	assert_true(t->entry[1].memory > 20 << 20);
	assert_int_equal(tasks_filters(t, f), 3);
	ruleset_reduce(&r, f, 3);
	/* the task of all that comes in covers one of them */
	assert_int_equal(r.n, 2);
	assert_true(ruleset_uses(&r, PACKET_IN) &&
		    ruleset_uses(&r, PACKET_OUT));
	/* fewer records, less memory */
	b.id = 3;
	b.records_log2 = 10;
	assert_true(task_memory(&b) < t->entry[1].memory / 3);
}

static void as_many_filters_as_tasks_may_have(void **state)
{
	struct task_table *t = *state;
	struct filter f[RULESET_FILTERS];
	struct ruleset r;

	for (uint64_t id = 1; id <= TASKS_MAX; id++) {
		struct task_spec s = rows(id);

		s.records_log2 = TASK_RECORDS_LOG2_MIN;
		s.filter.proto = (uint8_t)id;
		assert_int_equal(tasks_put(t, &s), TASK_PUT_NEW);
	}
	assert_int_equal(tasks_filters(t, f), RULESET_FILTERS);
	ruleset_reduce(&r, f, RULESET_FILTERS);
	assert_int_equal(r.n, 2);
}

static void windows_have_losses(void **state)
{
	struct task_table *t = *state;
	struct ctl_volume matched[PACKET_DIRS] = { { 100, 1000 }, { 50, 500 } };
	struct ctl_volume missed[PACKET_DIRS] = { { 10, 100 }, { 0, 0 } };
	struct task_spec a = rows(1), in = rows(2);
	struct ctl_loss loss = { { 0, 0 }, { 0, 0 } };

	in.both = 0;
	assert_int_equal(windows_next_ms(t, 5), UINT64_MAX);
	assert_int_equal(tasks_put(t, &a), TASK_PUT_NEW);
	assert_int_equal(tasks_put(t, &in), TASK_PUT_NEW);
	assert_int_equal(windows_next_ms(t, 70001), 9999);
	windows_sample(t, 75000, matched, missed);
	assert_false(windows_loss(&t->entry[0], 7, &loss));
	matched[PACKET_IN] = (struct ctl_volume){ 160, 1600 };
	missed[PACKET_IN] = (struct ctl_volume){ 30, 300 };
	matched[PACKET_OUT].packets = 55;
	windows_sample(t, 79999, matched, missed);
	assert_false(windows_loss(&t->entry[0], 7, &loss));
	windows_sample(t, 80000, matched, missed);
	assert_true(windows_loss(&t->entry[0], 7, &loss));
	assert_int_equal(loss.matched.packets, 65);
	assert_int_equal(loss.received.packets, 45);
	assert_int_equal(loss.matched.bytes, 600);
	assert_true(windows_loss(&t->entry[1], 7, &loss));
	assert_int_equal(loss.matched.packets, 60);
	assert_int_equal(loss.received.packets, 40);
	/* the clock goes back: the newer window 7 counts; eight are kept */
	windows_sample(t, 70000, matched, missed);
	windows_sample(t, 80000, matched, missed);
	assert_true(windows_loss(&t->entry[0], 7, &loss));
	assert_int_equal(loss.matched.packets, 0);
	for (uint64_t k = 9; k < 16; k++)
		windows_sample(t, k * 10000, matched, missed);
	assert_true(windows_loss(&t->entry[0], 8, &loss));
	windows_sample(t, 170000, matched, missed);
	windows_sample(t, 180000, matched, missed);
	assert_false(windows_loss(&t->entry[0], 8, &loss));
	assert_false(windows_loss(&t->entry[0], 16, &loss));
	assert_true(windows_loss(&t->entry[0], 17, &loss));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(generations_only_rise, setup,
						teardown),
		cmocka_unit_test_setup_teardown(memory_is_promised_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(memory_counts_every_reader,
						setup, teardown),
		cmocka_unit_test_setup_teardown(at_most_32, setup, teardown),
		cmocka_unit_test_setup_teardown(filters_of_both_directions,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			as_many_filters_as_tasks_may_have, setup, teardown),
		cmocka_unit_test_setup_teardown(windows_have_losses, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
