/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What whoever started the agent is told: ready, alive, stopping. */
#ifndef LINNET_MANAGER_H
#define LINNET_MANAGER_H

#include <stdint.h>

#include "common/loop.h"

struct agent;

struct manager {
	struct agent *agent;
	struct loop_timer ready, watchdog, stop, drain;
	bool draining;
	uint64_t until_ms; /* monotonic: the end of a wait */
};

/*
 * The agent serves: says so once the monitor is attached, or has not answered
 * for a quarter of a second, and keeps the watchdog quiet from now on.
 */
void manager_start(struct manager *m, struct agent *a);
/*
 * Ends the loop when every request that is being answered has its answer, at
 * the latest after 2.5 s; nothing new is accepted meanwhile.  Before that the
 * agent leaves the tree in order if it is configured to.
 */
void manager_stop(struct manager *m);
void manager_fini(struct manager *m);

#endif
