/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What was matched and missed in each window of a task. */
#ifndef LINNET_WINDOWS_H
#define LINNET_WINDOWS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ctl.h"
#include "monitor/tasks.h"

/*
 * Takes note of what was matched and missed by now, per direction, for all
 * tasks that have windows.
 */
void windows_sample(struct task_table *t, uint64_t wall_ms,
		    const struct ctl_volume matched[PACKET_DIRS],
		    const struct ctl_volume missed[PACKET_DIRS]);
/* Milliseconds until the next window begins; UINT64_MAX: there is none. */
uint64_t windows_next_ms(const struct task_table *t, uint64_t wall_ms);
/* True if the loss of that interval is known. */
bool windows_loss(const struct task_entry *e, uint64_t interval,
		  struct ctl_loss *out);

#endif
