/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The windows of a task that counts keys: one open, and the last TASK_CLOSED
 * closed ones.  Window number e covers wall clock [e, e + 1) * window_ms.
 */
#ifndef LINNET_RING_H
#define LINNET_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/sketch/sketch.h"
#include "common/task.h"

#define RING_WINDOWS (TASK_CLOSED + 1)

struct ring_window {
	uint64_t number;
	bool used;
	bool whole; /* counted from its beginning to its end */
	bool saturated;
	/* closed: its own; open: those of the task when it began */
	struct totals totals;
	void *sketch[SKETCH_KINDS]; /* NULL: not kept by window */
};

struct ring {
	uint32_t window_ms, open;
	struct sketch_params params;
	struct hash_key local;
	size_t size[SKETCH_KINDS];
	struct ring_window window[RING_WINDOWS];
};

/* For a task with windows.  NULL: no memory. */
struct ring *ring_new(const struct task_spec *t, const struct hash_key *local);
void ring_free(struct ring *r);
/*
 * The time of what is counted from here on, and the totals so far.  stepped:
 * the clock was set; no window covers that.  begins: what is counted now is
 * the first there is (a replay), so nothing is missing before it.
 */
void ring_clock(struct ring *r, uint64_t wall_ms, bool stepped, bool begins,
		const struct totals *now, bool saturated);
/* Nothing more will be counted: the open window closes. */
void ring_end(struct ring *r, const struct totals *now, bool saturated);
/* Where packets go now: SKETCH_KINDS pointers. */
void *const *ring_open(const struct ring *r);
/*
 * A closed window that was counted whole; valid until the ring has gone round.
 * 0; -EAGAIN: it is not closed yet; -ENODATA: there is none (any more).
 */
int ring_find(const struct ring *r, uint64_t number,
	      const struct ring_window **out);

#endif
