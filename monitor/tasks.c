/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The task table: a dense array, plain data, searched in line.  A task's
 * memory is promised when it is accepted: the address space of its sketches in
 * every reader, of which only what keys need is ever touched.
 */
#include "monitor/tasks.h"

#include <errno.h>
#include <string.h>

#include "common/util.h"

struct task_entry *tasks_find(struct task_table *t, uint64_t id)
{
	for (uint32_t i = 0; i < t->n; i++) {
		if (t->entry[i].spec.id == id)
			return &t->entry[i];
	}
	return NULL;
}

int tasks_put(struct task_table *t, const struct task_spec *spec)
{
	struct task_entry *e = tasks_find(t, spec->id);
	uint64_t old = e ? e->memory : 0;
	uint64_t memory = task_memory(spec) * t->readers;
	bool replaced = e;

	if (e && task_equal(&e->spec, spec))
		return TASK_PUT_SAME;
	if (e && e->spec.generation >= spec->generation)
		return -EEXIST;
	if (!e && t->n == TASKS_MAX)
		return -ENOSPC;
	if (t->memory_used - old + memory > TASKS_MEMORY)
		return -ENOSPC;
	if (!e)
		e = &t->entry[t->n++];
	*e = (struct task_entry){ .spec = *spec, .memory = memory };
	t->memory_used += memory - old;
	return replaced ? TASK_PUT_REPLACED : TASK_PUT_NEW;
}

bool tasks_del(struct task_table *t, uint64_t id)
{
	struct task_entry *e = tasks_find(t, id);

	if (!e)
		return false;
	t->memory_used -= e->memory;
	*e = t->entry[--t->n];
	/* the seed is a secret */
	explicit_bzero(&t->entry[t->n], sizeof(*e));
	return true;
}

size_t tasks_filters(const struct task_table *t, struct filter *out)
{
	size_t n = 0;

	for (uint32_t i = 0; i < t->n; i++) {
		const struct task_spec *spec = &t->entry[i].spec;

		out[n++] = spec->filter;
		if (spec->both)
			out[n++] = task_mirror(spec);
	}
	return n;
}

void tasks_list(const struct task_table *t, struct ctl_task_list *out)
{
	out->n = t->n;
	for (uint32_t i = 0; i < t->n; i++) {
		out->task[i].id = t->entry[i].spec.id;
		out->task[i].generation = t->entry[i].spec.generation;
	}
}
