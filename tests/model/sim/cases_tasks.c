/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tasks are put and deleted, at the root and below it, while agents restart and
 * move: when the last fault is over and the tree is whole again, all blocks are
 * equal within 1.1 s a level (T53b).  That no older generation is installed is
 * asserted on the way.
 */
#include <stdio.h>

#include "common/util.h"
#include "sim.h"

#define CHANGES  100
#define EVERY_US (100 * MS)
#define BEAT_US  (1100 * MS)

void tasks_defaults(struct run *r)
{
	r->conf.agents = 64;
	r->conf.fanout = 4;
	r->conf.faults = "restart,move,loss,dup,reorder";
	r->conf.tick_us = 200 * MS;
	r->conf.tasks = true;
	/* ten seconds in which each tenth agent is away or moves at a time */
	r->conf.fault_us = CHANGES * EVERY_US;
	r->conf.every_us = 60 * MS;
	r->conf.net.latency_us = 1000;
	r->conf.net.kind = LATENCY_LOGNORMAL;
	r->conf.net.sigma = 0.5;
}

static uint32_t the_root(const struct world *w)
{
	for (uint32_t i = 0; i < w->n; i++)
		if (w->agent[i].root && agent_runs(&w->agent[i]))
			return i;
	return NOBODY;
}

/* Most changes at the root, some at whoever it is. */
static void change(struct world *w, uint64_t left)
{
	uint32_t i = the_root(w);

	if (i == NOBODY || chance_is(&w->chance, 0.2))
		i = (uint32_t)chance_below(&w->chance, w->n);
	if (agent_runs(&w->agent[i]))
		tasks_change(w, i, false);
	if (left)
		world_push(w, w->now_us + EVERY_US, EV_CASE, NOBODY, left - 1);
}

static uint32_t levels(const struct world *w)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < w->n; i++) {
		uint32_t k = 1;

		for (uint32_t at = w->agent[i].parent;
		     at != NOBODY && k < TREE_LEVELS_MAX;
		     at = w->agent[at].parent)
			k++;
		most = MAX(most, k);
	}
	return most;
}

int tasks_play(struct world *w)
{
	uint64_t from;
	char why[128];

	for (uint32_t i = 0; i < w->n; i++)
		world_push(w, i ? chance_below(&w->chance, 2 * SECOND) : 0,
			   EV_START, i, 0);
	world_run(w, 2 * SECOND);
	run_until_whole(w, 20 * SECOND, 200 * MS, "the start");
	w->on_case = change;
	world_push(w, w->now_us, EV_CASE, NOBODY, CHANGES - 1);
	faults_begin(w);
	world_run(w, w->now_us + w->conf.fault_us);
	faults_end(w);
	run_until_whole(w, 10 * SECOND, 100 * MS, "the last fault");
	from = w->now_us;
	while (!w->failed && !tasks_equal(w, why, sizeof(why))) {
		if (w->now_us - from > levels(w) * BEAT_US)
			world_fail(w, "O6: tasks differ: %s", why);
		world_run(w, w->now_us + 100 * MS);
	}
	return w->failed ? -1 : 0;
}
