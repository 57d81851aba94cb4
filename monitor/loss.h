/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What was matched and never counted: never said to be less than it is. */
#ifndef LINNET_LOSS_H
#define LINNET_LOSS_H

#include "common/ctl.h"
#include "monitor/crew.h"
#include "monitor/meter.h"
#include "monitor/tasks.h"

struct loss {
	struct meter *meter;
	struct crew *crew;
	struct task_table *tasks;
	struct ctl_volume floor[PACKET_DIRS]; /* at least so much is missed */
	struct ctl_volume asked[PACKET_DIRS]; /* matched at the crew's ask */
};

/* Takes note of what is matched and received now; ten times a second. */
void loss_sample(struct loss *l);
/* The task begins: whatever was missed so far is not its. */
void loss_begin(struct loss *l, struct task_entry *e);
/* A reader died, and what waited for it is missed. */
void loss_reader_gone(struct loss *l);
/* Packets that wait for readers, about. */
uint64_t loss_waiting(struct loss *l, enum packet_dir dir);

#endif
