/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The times of standing queries.  A window is closed everywhere a moment after
 * its end; then each level has a moment more than the one below it.  A parent
 * whose children are late all the same waits for them as in any question, and
 * for four fifths of the time that its own parent has.
 */
#include "agent/tree/standing.h"

#include "common/util.h"

#define GRACE_MS   200 /* until every host has closed a window */
#define LEVEL_MS   100
#define LEAST_MS   50
#define WINDOWS_OF 8 /* farther back, and the clock was set back */

static uint64_t offset_ms(const struct standing_place *p)
{
	return GRACE_MS + (uint64_t)LEVEL_MS * p->height + p->jitter_ms;
}

uint64_t standing_due_ms(const struct standing_place *p, uint64_t window)
{
	return (window + 1) * p->window_ms + offset_ms(p);
}

uint64_t standing_newest(const struct standing_place *p, uint64_t wall_ms)
{
	uint64_t ended = (wall_ms - MIN(wall_ms, offset_ms(p))) / p->window_ms;

	return ended ? ended - 1 : 0;
}

uint64_t standing_next(const struct standing_place *p, uint64_t wall_ms,
		       uint64_t last)
{
	uint64_t newest = standing_newest(p, wall_ms);

	return newest > last || newest + WINDOWS_OF < last ? newest : 0;
}

uint32_t standing_budget_ms(const struct standing_place *p, uint32_t of_root_ms)
{
	uint32_t ms = of_root_ms;

	for (unsigned i = 0; i < p->level; i++)
		ms = ms * 8 / 10;
	return MAX(ms, LEAST_MS);
}
