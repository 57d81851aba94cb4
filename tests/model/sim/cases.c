/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is simulated: each case sets its world up, lets it run and says what
 * must be true at the end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "sim.h"

#define WHOLE_US (10 * SECOND)

enum {
	CASE_ADD,
	CASE_ASK,
	CASE_TASK,
	CASE_BUSY,
	CASE_QUIET
};

uint64_t run_until_whole(struct world *w, uint64_t limit_us, uint64_t step_us,
			 const char *after)
{
	uint64_t from = w->now_us;
	char why[128] = "";

	while (!w->failed) {
		if (ledger_whole(w, why, sizeof(why)))
			return w->now_us - from;
		if (w->now_us >= from + limit_us) {
			world_fail(w, "not whole %" PRIu64 " s after %s: %s",
				   limit_us / SECOND, after, why);
			break;
		}
		world_run(w, w->now_us + step_us);
	}
	return w->now_us - from;
}

/* Start at random within a time, the first root candidate at once. */
static void start_all(struct world *w, uint64_t within_us)
{
	for (uint32_t i = 0; i < w->n; i++)
		world_push(w,
			   w->now_us + (i ? chance_below(&w->chance, within_us)
					  : 0),
			   EV_START, i, 0);
}

/* ---- random faults: whatever happens, and whole at the end ---- */

static void chaos_defaults(struct run *r)
{
	r->conf.agents = 200;
	r->conf.faults = "all";
	r->conf.tick_us = 200 * MS;
	r->conf.tasks = true;
	r->conf.fault_us = 15 * SECOND;
	r->conf.every_us = 200 * MS;
	r->conf.read_us = 100;
	r->conf.cost_us = 25;
}

/* Each seed has a network of its own. */
static void chaos_net(struct world *w)
{
	struct net *net = &w->net;

	switch (chance_below(&w->chance, 4)) {
	case 0:
		net->latency_us = 200;
		break;
	case 1:
		net->latency_us = 1000;
		net->kind = LATENCY_LOGNORMAL;
		net->sigma = 0.5;
		break;
	case 2:
		net->latency_us = 10 * MS;
		net->kind = LATENCY_LOGNORMAL;
		net->sigma = 0.5;
		break;
	default:
		net->latency_us = 200;
		net->reorder = 0.05;
		net->dup = 0.02;
		break;
	}
	w->conf.net = *net;
}

static uint32_t a_root(const struct world *w)
{
	uint32_t agent = 0;

	while (agent < w->n && !w->agent[agent].root)
		agent++;
	return agent < w->n ? agent : NOBODY;
}

/* Questions to anybody, mostly to a root. */
static void ask_somebody(struct world *w, uint64_t every_us)
{
	uint32_t agent = a_root(w);

	if (agent == NOBODY || chance_is(&w->chance, 0.2))
		agent = (uint32_t)chance_below(&w->chance, w->n);
	ask_start(w, agent, 250 + (uint32_t)chance_below(&w->chance, 1750));
	world_push(w, w->now_us + 1 + chance_below(&w->chance, 2 * every_us),
		   EV_CASE, NOBODY, CASE_ASK);
}

static void chaos_event(struct world *w, uint64_t what)
{
	uint32_t root = a_root(w);

	if (what == CASE_ASK) {
		ask_somebody(w, 100 * MS);
		return;
	}
	if (w->tasks_over)
		return;
	if (root != NOBODY && agent_runs(&w->agent[root]))
		tasks_change(w, root, false);
	world_push(w, w->now_us + chance_below(&w->chance, SECOND), EV_CASE,
		   NOBODY, CASE_TASK);
}

/* Blocks are repaired level by level, with the beats. */
static void run_until_equal(struct world *w, const char *after)
{
	uint64_t limit = w->now_us + TREE_LEVELS * 1100 * MS;
	char why[128];

	while (!w->failed && !tasks_equal(w, why, sizeof(why))) {
		if (w->now_us > limit)
			world_fail(w, "O6: tasks differ after %s: %s", after,
				   why);
		world_run(w, w->now_us + 100 * MS);
	}
}

static int chaos_play(struct world *w)
{
	chaos_net(w);
	w->on_case = chaos_event;
	start_all(w, 2 * SECOND);
	world_run(w, 2 * SECOND);
	run_until_whole(w, 20 * SECOND, 200 * MS, "the start");
	for (int i = 0; i < 5 && !w->failed; i++)
		tasks_change(w, a_root(w), true);
	run_until_equal(w, "the start");
	world_push(w, w->now_us, EV_CASE, NOBODY, CASE_ASK);
	world_push(w, w->now_us, EV_CASE, NOBODY, CASE_TASK);
	faults_begin(w);
	world_run(w, w->now_us + w->conf.fault_us);
	faults_end(w);
	run_until_whole(w, WHOLE_US, 100 * MS, "the last fault");
	w->tasks_over = true;
	run_until_equal(w, "the last fault");
	if (!w->failed)
		tasks_judge(w);
	return w->failed ? -1 : 0;
}

/* ---- questions while agents move, restart and are lost ---- */

#define BUSY_US  (6 * SECOND)
#define QUIET_US (4 * SECOND)

static void moves_defaults(struct run *r)
{
	r->conf.agents = 1000;
	r->conf.faults = "move,restart,kill,loss,dup,stop";
	r->conf.tick_us = SECOND;
	r->conf.every_us = 200 * MS;
	r->conf.read_us = 100;
	r->conf.cost_us = 25;
	r->conf.queries = 10000;
}

static void moves_event(struct world *w, uint64_t what)
{
	switch (what) {
	case CASE_ASK:
		ask_somebody(w, 50 * MS);
		break;
	case CASE_BUSY:
		faults_begin(w);
		world_push(w, w->now_us + BUSY_US, EV_CASE, NOBODY, CASE_QUIET);
		break;
	default:
		faults_end(w);
		world_push(w, w->now_us + QUIET_US, EV_CASE, NOBODY, CASE_BUSY);
		break;
	}
}

static int moves_play(struct world *w)
{
	const struct ask_stats *s = &w->asked;

	start_all(w, 2 * SECOND);
	world_run(w, 2 * SECOND);
	run_until_whole(w, 60 * SECOND, SECOND, "the start");
	w->on_case = moves_event;
	world_push(w, w->now_us, EV_CASE, NOBODY, CASE_BUSY);
	world_push(w, w->now_us, EV_CASE, NOBODY, CASE_ASK);
	while (!w->failed && s->asked < w->conf.queries)
		world_run(w, w->now_us + SECOND);
	world_run(w, w->now_us + 3 * SECOND);
	if (s->complete * 10 < s->answered || s->partial * 10 < s->answered)
		world_fail(w, "of %u answers %u are complete",
			   (unsigned)s->answered, (unsigned)s->complete);
	return w->failed ? -1 : 0;
}

/* ---- by hand: anybody is added anywhere, often in a ring ---- */

static void byhand_defaults(struct run *r)
{
	r->conf.agents = 40;
	r->conf.provider = "manual";
	r->conf.tick_us = 100 * MS;
	r->conf.fault_us = 20 * SECOND;
}

static void add(struct world *w, uint32_t at, uint32_t child)
{
	struct endpoint ep = endpoint_of(child);

	tree_add(w->agent[at].tree, &ep, 500, NULL, NULL);
	ledger_touch(w, at);
}

static void byhand_event(struct world *w, uint64_t what)
{
	uint32_t a = (uint32_t)chance_below(&w->chance, w->n);
	uint32_t b = (uint32_t)chance_below(&w->chance, w->n);

	(void)what;
	if (w->agent[b].parent != NOBODY && chance_is(&w->chance, 0.5)) {
		a = w->agent[b].parent;
		ledger_removed(w, b);
		tree_remove(w->agent[a].tree, NULL, &w->agent[b].disk.id);
		ledger_touch(w, a);
	} else {
		uint32_t c = (uint32_t)chance_below(&w->chance, w->n);

		add(w, a, b);
		if (chance_is(&w->chance, 0.5)) {
			add(w, b, c);
			add(w, c, a);
		}
	}
	world_push(w, w->now_us + chance_below(&w->chance, 100 * MS), EV_CASE,
		   NOBODY, CASE_ADD);
}

/* No cycle and no lease twice, whatever happens. */
static int byhand_play(struct world *w)
{
	w->net.reorder = 0.1;
	w->on_case = byhand_event;
	start_all(w, SECOND);
	world_run(w, 2 * SECOND);
	world_push(w, w->now_us, EV_CASE, NOBODY, CASE_ADD);
	world_run(w, w->now_us + w->conf.fault_us);
	if (!w->failed && w->ledger.moves < w->n)
		world_fail(w, "only %u moves", (unsigned)w->ledger.moves);
	return w->failed ? -1 : 0;
}

const struct sim_case sim_cases[] = {
	{ "chaos", "random faults, whole 10 s after the last (T59e)", true,
	  chaos_defaults, chaos_play },
	{ "moves", "questions while agents move (T56b)", true, moves_defaults,
	  moves_play },
	{ "byhand", "agents are added and removed by hand (T57)", true,
	  byhand_defaults, byhand_play },
	{ "tasks", "tasks change while agents move (T53b)", true,
	  tasks_defaults, tasks_play },
	{ "scale", "10^5 agents: a question, 1 % killed, 10,000 join (T59c)",
	  false, scale_defaults, scale_play },
	{ "huge", "10^6 agents: a question (T59d)", false, huge_defaults,
	  huge_play },
	{ "cost", "time of a question beside the cost model", false,
	  cost_defaults, cost_play },
};
const size_t n_sim_cases = ARRAY_SIZE(sim_cases);
