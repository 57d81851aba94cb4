/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a reader counts: its tasks, their sketches and totals, and the time. */
#ifndef LINNET_COUNT_H
#define LINNET_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ctl.h"
#include "common/packet.h"
#include "common/segment.h"
#include "common/sketch/features.h"
#include "common/sketch/sketch.h"
#include "common/task.h"
#include "monitor/ring.h"

enum count_state {
	COUNT_WAITING,
	COUNT_ACTIVE,
	COUNT_REPLAYED
};

struct count_task {
	struct task_spec spec;
	enum count_state state;
	void *sketch[SKETCH_KINDS]; /* of the open window, where it has some */
	size_t size[SKETCH_KINDS];
	struct features *features; /* of a task of that kind; else NULL */
	size_t features_size;
	struct ring *ring;    /* windows of another one; else NULL */
	struct filter mirror; /* spec.both: counted as well */
	struct totals totals;
	bool saturated;
	uint64_t began_ms, slot_first; /* 0: no packet yet, in a replay */
	struct ctl_volume base;        /* received when it began */
	/* when its replay ended: */
	struct ctl_volume end;
	uint64_t end_ms, end_slot;
};

struct count {
	bool replay; /* each task counts one whole pass, not a stream */
	/* time of the current batch; slot never falls in a pass */
	uint64_t wall_ms, slot;
	int64_t wall_offset_ms; /* wall clock minus monotonic clock */
	uint32_t n;
	struct count_task task[TASKS_MAX];
	struct ctl_volume received[PACKET_DIRS];
	struct hash_key local; /* layout of tables: of this process alone */
	uint32_t uplink[2];    /* interface indexes, IPv4 and IPv6; 0: none */
	struct segment_table segments;
};

/* c is zero. */
void count_init(struct count *c, bool replay);
/* Begins the task, from zero if it was there.  0, -ENOSPC or -ENOMEM. */
int count_put(struct count *c, const struct task_spec *spec);
/* Frees the task; others may move. */
void count_del(struct count *c, uint64_t id);
/* NULL: no such task. */
struct count_task *count_find(struct count *c, uint64_t id);
/*
 * The time of the packets that follow.  True: the clock was set, and the
 * real-time tables began anew.
 */
bool count_clock(struct count *c, uint64_t wall_ms);
/* Counts one packet for every task that wants it. */
void count_packet(struct count *c, struct packet *p);

/* A piece of the closing of windows; true: there is more. */
bool count_turn(struct count *c);

/* Tasks that wait for a pass. */
bool count_waiting(const struct count *c);
void count_pass_begin(struct count *c);
void count_pass_end(struct count *c);

/* Received since the task began, as far as the task had it. */
struct ctl_volume count_received(const struct count *c,
				 const struct count_task *t);
/* What a closed window of a task with a ring says of itself. */
void count_describe_window(const struct count_task *t,
			   const struct ring_window *w, struct ctl_image *out);
/* Fills in what the task says of itself. */
void count_describe(const struct count *c, const struct count_task *t,
		    struct ctl_image *out);

#endif
