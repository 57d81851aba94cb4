/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Teeth: a check that cannot fail shows nothing.  Each tooth tells the ledger
 * one lie about one agent, after a while; a run with it must fail, by the
 * check that is meant.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "sim.h"

#define BITE_US (8 * SECOND)

static const struct {
	const char *name, *check;
} teeth[TEETH] = {
	[TOOTH_NONE] = { "none", "nothing" },
	[TOOTH_CYCLE] = { "cycle", "O1: " },
	[TOOTH_LEASE] = { "lease", "O2: " },
	[TOOTH_DOUBLE] = { "double", "O2: " },
	[TOOTH_COUNT] = { "count", "O3: " },
	[TOOTH_WRONG] = { "wrong", "O3: " },
	[TOOTH_LATE] = { "late", "O4: " },
	[TOOTH_MISSING] = { "missing", "O5: " },
	[TOOTH_BACK] = { "back", "O6: " },
	[TOOTH_FORGET] = { "forget", "O7: " },
	[TOOTH_MANY] = { "many", "O8: " },
	[TOOTH_APART] = { "apart", "not whole" },
	[TOOTH_CHANCE] = { "chance", "two histories" },
};

int tooth_parse(const char *name, uint32_t *out)
{
	for (uint32_t i = 0; i < TEETH; i++) {
		if (strcmp(teeth[i].name, name) == 0) {
			*out = i;
			return 0;
		}
	}
	return -EINVAL;
}

void teeth_print(void)
{
	for (size_t i = 1; i < TEETH; i++)
		printf("    %-8s %s\n", teeth[i].name, teeth[i].check);
}

bool tooth_bites(struct world *w, enum tooth t)
{
	if (w->conf.tooth != t || w->bitten || w->now_us < BITE_US)
		return false;
	/* these may be lost on their way, or excused by a fault */
	w->bitten = t != TOOTH_DOUBLE && t != TOOTH_MISSING;
	return true;
}

static uint32_t child_of(const struct world *w, uint32_t agent)
{
	for (uint32_t i = 0; i < w->n; i++)
		if (w->agent[i].parent == agent && w->agent[i].tree)
			return i;
	return NOBODY;
}

void teeth_view(struct world *w, uint32_t agent, struct view *v)
{
	uint32_t other = child_of(w, agent);

	if (v->parent == NOBODY)
		return;
	if (other != NOBODY && tooth_bites(w, TOOTH_CYCLE))
		v->parent = other;
	if (other != NOBODY && tooth_bites(w, TOOTH_LEASE))
		v->lease = w->agent[other].lease;
	if (tooth_bites(w, TOOTH_BACK))
		v->seen.n--;
	if (tooth_bites(w, TOOTH_MANY))
		v->children = TREE_CHILDREN + 1;
	if (tooth_bites(w, TOOTH_APART))
		w->agent[agent].cut_out = true;
}
