/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When parents ask for a closed window by themselves: the lowest first, so that
 * each finds what its children have merged already.
 */
#ifndef LINNET_TREE_STANDING_H
#define LINNET_TREE_STANDING_H

#include <stdint.h>

#define STANDING_JITTER_MS 20
#define STANDING_TICK_MS   1100 /* what is due is looked for that often */

/* One agent's place; jitter_ms: below STANDING_JITTER_MS, its own. */
struct standing_place {
	uint32_t window_ms, height, jitter_ms;
	unsigned level; /* the root's is 0 */
};

/* Wall clock when it asks for this window. */
uint64_t standing_due_ms(const struct standing_place *p, uint64_t window);
/* The newest window that it should have asked for by now. */
uint64_t standing_newest(const struct standing_place *p, uint64_t wall_ms);
/*
 * The window to ask for now, after it asked for last; 0: none yet.  Those that
 * were missed stay missed.  After a clock was set back its numbers come again.
 */
uint64_t standing_next(const struct standing_place *p, uint64_t wall_ms,
		       uint64_t last);
/* The time for it, so that it is over before its parent's is; of_root_ms: that
 * of the root. */
uint32_t standing_budget_ms(const struct standing_place *p,
			    uint32_t of_root_ms);

#endif
