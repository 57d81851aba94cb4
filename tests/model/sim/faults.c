/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Faults: a table of what may happen to agents and their network, each with
 * how it ends.  They come at random times for a while; then everything is
 * mended at once, and from there on the tree has to become whole.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "sim.h"

#define DAY (86400 * SECOND)

enum fault_kind {
	FAULT_KILL,
	FAULT_RESTART,
	FAULT_POWER,
	FAULT_GONE,
	FAULT_LOST,
	FAULT_STOP,
	FAULT_SLOW,
	FAULT_CUT,
	FAULT_ONEWAY,
	FAULT_SPIKE,
	FAULT_LOSS,
	FAULT_DUP,
	FAULT_REORDER,
	FAULT_CLOCK,
	FAULT_MOVE,
	FAULT_DRAIN,
	FAULT_OLD,
	FAULT_CORRUPT,
	FAULT_KINDS
};

/* What a mend mends: fault_kind << 56 | group or agent. */
#define MEND(kind, what) ((uint64_t)(kind) << 56 | (what))

/* Somebody, rather often one with children or a root candidate. */
static uint32_t somebody(struct world *w)
{
	uint32_t i = (uint32_t)chance_below(&w->chance, w->n);

	if (chance_is(&w->chance, 0.1))
		return (uint32_t)chance_below(&w->chance, MIN(3u, w->n));
	if (chance_is(&w->chance, 0.5) && w->agent[i].parent != NOBODY)
		return w->agent[i].parent;
	return i;
}

static uint64_t mend_later(struct world *w, enum fault_kind kind, uint64_t what,
			   uint64_t max_us)
{
	uint64_t at = w->now_us + chance_below(&w->chance, max_us);

	world_push(w, at, EV_MEND, NOBODY, MEND(kind, what));
	return at;
}

static void kill_begin(struct world *w, uint32_t i)
{
	agent_kill(w, i, false);
	mend_later(w, FAULT_KILL, i, 5 * SECOND);
}

static void restart_begin(struct world *w, uint32_t i)
{
	agent_kill(w, i, false);
	mend_later(w, FAULT_KILL, i, 300 * MS);
}

static void power_begin(struct world *w, uint32_t i)
{
	agent_kill(w, i, true);
	mend_later(w, FAULT_KILL, i, 8 * SECOND);
}

/* It never comes back: at most every tenth. */
static void gone_begin(struct world *w, uint32_t i)
{
	uint32_t gone = 0;

	for (uint32_t k = 0; k < w->n; k++)
		gone += w->agent[k].gone;
	if (10 * gone >= w->n || i < 3)
		return;
	agent_kill(w, i, chance_is(&w->chance, 0.5));
	w->agent[i].gone = true;
}

static void lost_begin(struct world *w, uint32_t i)
{
	agent_kill(w, i, chance_is(&w->chance, 0.5));
	agent_forget_disk(w, i);
	mend_later(w, FAULT_KILL, i, 5 * SECOND);
}

static void kill_end(struct world *w, uint32_t i)
{
	agent_start(w, i);
}

static void stop_begin(struct world *w, uint32_t i)
{
	agent_stop(w, i);
	mend_later(w, FAULT_STOP, i,
		   chance_is(&w->chance, 0.5) ? SECOND : 8 * SECOND);
}

static void stop_end(struct world *w, uint32_t i)
{
	agent_continue(w, i);
}

static void slow_begin(struct world *w, uint32_t i)
{
	w->agent[i].slow_us = (uint32_t)chance_below(&w->chance, SECOND);
	agent_disturb(w, i);
	mend_later(w, FAULT_SLOW, i, 8 * SECOND);
}

static void slow_end(struct world *w, uint32_t i)
{
	w->agent[i].slow_us = 0;
	agent_disturb(w, i);
}

/* One agent, all below it, or any share of all. */
static void cut_begin(struct world *w, uint32_t i)
{
	uint8_t group = (uint8_t)(1 + chance_below(&w->chance, 255));
	double share = (double)chance_below(&w->chance, 50) / 100;
	uint64_t how = chance_below(&w->chance, 3);

	for (uint32_t k = 0; k < w->n; k++) {
		bool in = how == 0 ? k == i : chance_is(&w->chance, share);

		for (uint32_t up = k, s = 0;
		     how == 1 && s < TREE_LEVELS && up != NOBODY; s++) {
			in = up == i;
			if (in)
				break;
			up = w->agent[up].parent;
		}
		if (!in)
			continue;
		w->agent[k].group = group;
		w->agent[k].bad_us = w->now_us;
		agent_disturb(w, k);
	}
	mend_later(w, FAULT_CUT, group, 8 * SECOND);
}

static void cut_end(struct world *w, uint32_t group)
{
	for (uint32_t k = 0; k < w->n; k++)
		if (w->agent[k].group == group) {
			w->agent[k].group = 0;
			agent_disturb(w, k);
		}
}

static void oneway_begin(struct world *w, uint32_t i)
{
	if (chance_is(&w->chance, 0.5))
		w->agent[i].cut_in = true;
	else
		w->agent[i].cut_out = true;
	w->agent[i].bad_us = w->now_us;
	agent_disturb(w, i);
	mend_later(w, FAULT_ONEWAY, i, 8 * SECOND);
}

static void oneway_end(struct world *w, uint32_t i)
{
	w->agent[i].cut_in = w->agent[i].cut_out = false;
	agent_disturb(w, i);
}

static void spike_begin(struct world *w, uint32_t i)
{
	(void)i;
	w->net.spike = 0.02;
	mend_later(w, FAULT_SPIKE, 0, 3 * SECOND);
}

static void spike_end(struct world *w, uint32_t i)
{
	(void)i;
	w->net.spike = w->conf.net.spike;
	w->disturbed_us = w->now_us;
}

static void loss_begin(struct world *w, uint32_t i)
{
	(void)i;
	w->net.loss = 0.1;
	mend_later(w, FAULT_LOSS, 0, 3 * SECOND);
}

static void loss_end(struct world *w, uint32_t i)
{
	(void)i;
	w->net.loss = w->conf.net.loss;
	w->disturbed_us = w->now_us;
}

static void dup_begin(struct world *w, uint32_t i)
{
	(void)i;
	w->net.dup = 0.2;
	mend_later(w, FAULT_DUP, 0, 5 * SECOND);
}

static void dup_end(struct world *w, uint32_t i)
{
	(void)i;
	w->net.dup = w->conf.net.dup;
	w->disturbed_us = w->now_us;
}

static void reorder_begin(struct world *w, uint32_t i)
{
	(void)i;
	w->net.reorder = 0.3;
	mend_later(w, FAULT_REORDER, 0, 5 * SECOND);
}

static void reorder_end(struct world *w, uint32_t i)
{
	(void)i;
	w->net.reorder = w->conf.net.reorder;
	w->disturbed_us = w->now_us;
}

static void clock_begin(struct world *w, uint32_t i)
{
	w->agent[i].wall_us +=
		(int64_t)chance_below(&w->chance, 2 * DAY) - (int64_t)DAY;
}

/* An admin takes a child away; it has to find a place again. */
static void move_begin(struct world *w, uint32_t i)
{
	uint32_t up = w->agent[i].parent;

	if (up == NOBODY || !agent_runs(&w->agent[up]))
		return;
	ledger_removed(w, i);
	agent_disturb(w, i);
	tree_remove(w->agent[up].tree, NULL, &w->agent[i].disk.id);
	ledger_touch(w, up);
}

/* It leaves in order, and is started again later. */
static void drain_begin(struct world *w, uint32_t i)
{
	struct agent *a = &w->agent[i];

	if (!agent_runs(a) || a->drains)
		return;
	a->drains = true;
	a->member = false;
	agent_disturb(w, i);
	tree_drain(a->tree);
	ledger_touch(w, i);
	mend_later(w, FAULT_DRAIN, i, 12 * SECOND);
}

static void drain_end(struct world *w, uint32_t i)
{
	if (!w->agent[i].tree || !w->agent[i].drains)
		return;
	agent_kill(w, i, false);
	agent_start(w, i);
}

static void old_begin(struct world *w, uint32_t i)
{
	w->agent[i].old = !w->agent[i].old;
	restart_begin(w, i);
}

static void corrupt_begin(struct world *w, uint32_t i)
{
	w->agent[i].liar = true;
	agent_disturb(w, i);
	mend_later(w, FAULT_CORRUPT, i, 5 * SECOND);
}

static void corrupt_end(struct world *w, uint32_t i)
{
	w->agent[i].liar = false;
	agent_disturb(w, i);
}

static const struct fault {
	const char *name, *text;
	void (*begin)(struct world *w, uint32_t agent);
	void (*end)(struct world *w, uint32_t what);
} faults[FAULT_KINDS] = {
	[FAULT_KILL] = { "kill", "killed, started again", kill_begin,
			 kill_end },
	[FAULT_RESTART] = { "restart", "killed, started again within 0.3 s",
			    restart_begin, kill_end },
	[FAULT_POWER] = { "power", "no power, and then again", power_begin,
			  kill_end },
	[FAULT_GONE] = { "gone", "killed for ever", gone_begin, NULL },
	[FAULT_LOST] = { "lost", "killed, started with an empty disk",
			 lost_begin, kill_end },
	[FAULT_STOP] = { "stop", "stopped: timers late, messages wait",
			 stop_begin, stop_end },
	[FAULT_SLOW] = { "slow", "each message up to 1 s late", slow_begin,
			 slow_end },
	[FAULT_CUT] = { "cut", "one, a subtree or many cut off", cut_begin,
			cut_end },
	[FAULT_ONEWAY] = { "oneway", "hears nothing, or is not heard",
			   oneway_begin, oneway_end },
	[FAULT_SPIKE] = { "spike", "2 % of messages up to 3 s late",
			  spike_begin, spike_end },
	[FAULT_LOSS] = { "loss", "10 % of messages lost", loss_begin,
			 loss_end },
	[FAULT_DUP] = { "dup", "20 % of requests again within 2 s", dup_begin,
			dup_end },
	[FAULT_REORDER] = { "reorder", "30 % of messages up to 50 ms late",
			    reorder_begin, reorder_end },
	[FAULT_CLOCK] = { "clock", "wall clock steps by up to a day",
			  clock_begin, NULL },
	[FAULT_MOVE] = { "move", "a parent removes a child", move_begin, NULL },
	[FAULT_DRAIN] = { "drain", "drains, is started again", drain_begin,
			  drain_end },
	[FAULT_OLD] = { "old", "restarts as the version before, or back",
			old_begin, NULL },
	[FAULT_CORRUPT] = { "corrupt", "its parts are wrong", corrupt_begin,
			    corrupt_end },
};

void faults_print(void)
{
	for (size_t i = 0; i < FAULT_KINDS; i++)
		printf("    %-8s %s\n", faults[i].name, faults[i].text);
}

int faults_parse(const char *list, uint32_t *mask)
{
	*mask = 0;
	if (strcmp(list, "all") == 0) {
		*mask = (1u << FAULT_KINDS) - 1;
		return 0;
	}
	while (*list && strcmp(list, "none")) {
		size_t len = strcspn(list, ","), i = 0;

		while (i < FAULT_KINDS && (strlen(faults[i].name) != len ||
					   strncmp(list, faults[i].name, len)))
			i++;
		if (i == FAULT_KINDS)
			return -EINVAL;
		*mask |= 1u << i;
		list += len + (list[len] == ',');
	}
	return 0;
}

static void fault_later(struct world *w)
{
	uint64_t d = 1 + chance_below(&w->chance, 2 * w->conf.every_us);

	world_push(w, w->now_us + d, EV_FAULT, NOBODY, w->fault_round);
}

void faults_begin(struct world *w)
{
	w->last_fault_us = w->now_us;
	w->fault_round++;
	if (w->mask)
		fault_later(w);
}

void faults_event(struct world *w, const struct event *e)
{
	uint32_t kind = (uint32_t)(e->arg >> 56), i = (uint32_t)e->arg;

	if (e->kind == EV_MEND) {
		world_note(w, i, NOBODY, "mended");
		faults[kind].end(w, i);
		return;
	}
	if (e->arg != w->fault_round)
		return;
	do
		kind = (uint32_t)chance_below(&w->chance, FAULT_KINDS);
	while (!(w->mask & 1u << kind));
	i = somebody(w);
	world_note(w, i, NOBODY, faults[kind].name);
	faults[kind].begin(w, i);
	w->last_fault_us = w->now_us;
	fault_later(w);
}

void faults_end(struct world *w)
{
	world_note(w, NOBODY, NOBODY, "all mended");
	w->fault_round++;
	w->net.loss = w->conf.net.loss;
	w->net.dup = w->conf.net.dup;
	w->net.spike = w->conf.net.spike;
	w->net.reorder = w->conf.net.reorder;
	for (uint32_t i = 0; i < w->n; i++) {
		struct agent *a = &w->agent[i];

		if (a->group || a->slow_us || a->liar || a->cut_in ||
		    a->cut_out)
			agent_disturb(w, i);
		a->group = 0;
		a->slow_us = 0;
		a->liar = false;
		a->cut_in = false;
		a->cut_out = w->conf.tooth == TOOTH_APART && a->cut_out;
		if (a->stopped)
			agent_continue(w, i);
		if (a->drains)
			drain_end(w, i);
		if (!a->tree)
			agent_start(w, i);
	}
	w->last_fault_us = w->disturbed_us = w->now_us;
}
