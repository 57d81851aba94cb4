/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The monitor's task table: ids, generations, the memory that is promised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "common/sketch/sketch.h"
#include "monitor/tasks.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
