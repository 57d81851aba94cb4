/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exchanges with each child that are under way, and who may have another.
 *
 * An exchange is a connection.  Each child may have some at any time, and some
 * more are for those that need them, over all that is asked: a child that keeps
 * many busy takes none of another child's own.  A struct way stands for each
 * until walk_done(), also when nobody waits for it any more: what comes then
 * meets no leg of its reference and is counted as late.
 *
 * A struct lane stands for a child that has legs or ways, and owns its ways.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "agent/tree/walk_private.h"

struct way {
	struct way *next;
	struct leg *leg; /* NULL: it was left, nobody waits for it */
	uint64_t ref;
};

struct lane *lane_get(struct walk *w, const struct node_id *id)
{
	struct lane *c, *idle = NULL;

	for (c = w->lanes; c && !node_id_equal(&c->id, id); c = c->next)
		if (!c->n_legs && !c->n)
			idle = c;
	if (!c)
		c = idle;
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return NULL;
		c->end = &c->waiting;
		c->next = w->lanes;
		w->lanes = c;
	}
	c->id = *id;
	return c;
}

static bool lane_room(const struct walk *w, const struct lane *c)
{
	return c->n < WALK_WAYS_OWN ||
	       (c->n < WALK_WAYS_MAX && w->n_spare < WALK_WAYS_SPARE);
}

bool lane_open(const struct walk *w, const struct lane *c)
{
	return c->left || lane_room(w, c);
}

static struct way **way_find(struct lane *c, uint64_t ref)
{
	struct way **at = &c->ways;

	while (*at && (*at)->ref != ref)
		at = &(*at)->next;
	return at;
}

static void way_drop(struct walk *w, struct lane *c, struct way **at)
{
	struct way *y = *at;

	*at = y->next;
	w->n_spare -= c->n-- > WALK_WAYS_OWN;
	c->left -= !y->leg;
	free(y);
}

int way_take(struct walk *w, struct lane *c, struct leg *l, uint64_t ref)
{
	struct way **at = &c->ways, *y = calloc(1, sizeof(*y));

	if (!y)
		return -ENOMEM;
	if (!lane_room(w, c)) {
		while ((*at)->leg)
			at = &(*at)->next;
		w->conf.env->cancel(w->conf.ctx, (*at)->ref);
		way_drop(w, c, at);
	}
	y->leg = l;
	y->ref = ref;
	y->next = c->ways;
	c->ways = y;
	w->n_spare += c->n++ >= WALK_WAYS_OWN;
	return 0;
}

void way_leave(struct walk *w, struct lane *c, uint64_t ref)
{
	struct way *y = *way_find(c, ref);

	assert(y);
	y->leg = NULL;
	c->left++;
	w->left = true;
	w->conf.env->leave(w->conf.ctx, ref);
}

struct leg *way_over(struct walk *w, uint64_t ref, struct lane **only)
{
	struct lane *c = w->lanes;
	struct way **at;
	struct leg *l;

	while (!*(at = way_find(c, ref))) {
		c = c->next;
		assert(c);
	}
	l = (*at)->leg;
	*only = c->n > WALK_WAYS_OWN ? NULL : c;
	way_drop(w, c, at);
	return l;
}

void ways_free(struct walk *w)
{
	struct lane *c;

	while ((c = w->lanes)) {
		while (c->ways) {
			w->conf.env->cancel(w->conf.ctx, c->ways->ref);
			way_drop(w, c, &c->ways);
		}
		w->lanes = c->next;
		free(c);
	}
}
