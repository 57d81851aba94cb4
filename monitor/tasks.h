/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tasks that the agent put here, and the memory they are promised. */
#ifndef LINNET_TASKS_H
#define LINNET_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ctl.h"
#include "common/task.h"
#include "monitor/ruleset.h"

#define TASKS_MEMORY (UINT64_C(192) << 20) /* sketches of all readers */

/* The last windows of a task that has them, windows.h. */
#define TASK_WINDOWS 8
struct task_windows {
	bool open;
	uint64_t interval;
	struct ctl_volume matched, missed; /* when it began */
	uint32_t n;                        /* closed so far */
	struct task_window {
		uint64_t interval;
		struct ctl_volume matched, missed;
	} closed[TASK_WINDOWS];
};

struct task_entry {
	struct task_spec spec;
	uint64_t memory; /* of all readers */
	/* received, matched and at least missed before this was put */
	struct ctl_volume received_base, matched_then, missed_base;
	bool unsettled; /* missed_base may become larger, loss.c */
	/* until the readers said what they had received, request.c */
	uint64_t begin_seq;
	uint32_t begin_readers;
	struct ctl_volume begin_sum;
	struct task_windows windows;
};

struct task_table {
	uint32_t n;
	uint32_t readers;
	uint64_t memory_used;
	struct task_entry entry[TASKS_MAX];
};

enum task_put {
	TASK_PUT_SAME,
	TASK_PUT_NEW,
	TASK_PUT_REPLACED
};

/*
 * Takes a valid task.  enum task_put; -EEXIST: that id has a newer generation,
 * or the same with other content; -ENOSPC: no room; the table is unchanged
 * then.
 */
int tasks_put(struct task_table *t, const struct task_spec *spec);
/* True if the task was there. */
bool tasks_del(struct task_table *t, uint64_t id);
/* NULL: no such task. */
struct task_entry *tasks_find(struct task_table *t, uint64_t id);
/* Fills out[RULESET_FILTERS] with the filters of all tasks; how many. */
size_t tasks_filters(const struct task_table *t, struct filter *out);
/* Fills the reply of TASK_LIST. */
void tasks_list(const struct task_table *t, struct ctl_task_list *out);

#endif
