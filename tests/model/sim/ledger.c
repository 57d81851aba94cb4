/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ledger: what is true, kept beside the machines, and what must hold of
 * it.  After every call of a machine its agent alone is looked at, because no
 * other one can have changed: whose child it says it is, under which lease,
 * and what it knows.  Whole looks compare both ends of every edge and the
 * tables of rows.
 *
 * O1 no cycle, O2 no lease twice and no host twice, O6 nothing goes back,
 * O8 work depends on children.  O3, O4, O5 and O7 belong to queries.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "sim.h"

int ledger_open(struct world *w)
{
	struct ledger *l = &w->ledger;

	l->max_leases = 1024;
	while (l->max_leases < 2ull * w->n)
		l->max_leases *= 2;
	l->lease = calloc(l->max_leases, sizeof(*l->lease));
	l->count = calloc(w->n, sizeof(*l->count));
	l->asks = calloc(w->n, sizeof(*l->asks));
	return l->lease && l->count && l->asks ? 0 : -1;
}

void ledger_free(struct world *w)
{
	free(w->ledger.lease);
	free(w->ledger.repair_us);
	free(w->ledger.count);
	free(w->ledger.asks);
}

/* ---- every lease ever taken ---- */

/* Among 10^6 leases two have one hash in one of 18 million histories. */
static uint64_t lease_hash(const struct epoch *e)
{
	uint64_t s = e->root ^ (e->term << 48) ^ e->n;

	return chance_u64(&s) | 1;
}

static uint64_t *lease_slot(const struct ledger *l, uint64_t hash)
{
	uint64_t i = hash >> 1;

	while (l->lease[i & (l->max_leases - 1)] &&
	       l->lease[i & (l->max_leases - 1)] != hash)
		i++;
	return &l->lease[i & (l->max_leases - 1)];
}

static void lease_grow(struct ledger *l)
{
	struct ledger big = *l;

	big.max_leases = l->max_leases * 2;
	big.lease = calloc(big.max_leases, sizeof(*big.lease));
	if (!big.lease)
		abort();
	for (uint64_t i = 0; i < l->max_leases; i++)
		if (l->lease[i])
			*lease_slot(&big, l->lease[i]) = l->lease[i];
	free(l->lease);
	*l = big;
}

/* false: somebody had it already. */
static bool lease_take(struct ledger *l, const struct epoch *e)
{
	uint64_t hash = lease_hash(e), *s;

	if (2 * l->n_leases >= l->max_leases)
		lease_grow(l);
	s = lease_slot(l, hash);
	if (*s)
		return false;
	*s = hash;
	l->n_leases++;
	return true;
}

/* ---- one agent ---- */

static void repaired(struct world *w, struct agent *a)
{
	struct ledger *l = &w->ledger;

	if (a->orphan_us == NEVER)
		return;
	l->repair_us = grow(l->repair_us, &l->max_repairs, l->n_repairs + 1,
			    sizeof(*l->repair_us));
	l->repair_us[l->n_repairs++] = w->now_us - a->orphan_us;
	a->orphan_us = NEVER;
}

/* O1: up from here there is an end, and it is not too far. */
static void check_path(struct world *w, uint32_t agent)
{
	uint32_t at = agent, steps = 0;

	while (w->agent[at].parent != NOBODY) {
		at = w->agent[at].parent;
		if (at == agent) {
			world_fail(w, "O1: agent %u is above itself", agent);
			return;
		}
		if (++steps > w->n)
			return; /* a cycle above, found when it closed */
	}
}

static void check_lease(struct world *w, uint32_t agent,
			const struct epoch *lease)
{
	struct agent *a = &w->agent[agent];
	char now[EPOCH_TEXT], was[EPOCH_TEXT];

	epoch_format(lease, now);
	epoch_format(&a->highest, was);
	if (epoch_compare(lease, &a->highest) <= 0)
		world_fail(w, "O6: agent %u took lease %s after %s", agent, now,
			   was);
	else if (!lease_take(&w->ledger, lease))
		world_fail(w, "O2: agent %u took lease %s, which was given",
			   agent, now);
	a->highest = *lease;
	w->ledger.moves++;
}

/* An orphan since its parent went bad, not since it noticed. */
static void parent_lost(struct world *w, struct agent *a, uint32_t agent,
			uint32_t parent)
{
	const struct agent *p = &w->agent[parent];

	if (a->orphan_us != NEVER)
		return;
	a->orphan_us = w->now_us;
	if (p->bad_us && (!agent_runs(p) || !net_reaches(w, parent, agent)))
		a->orphan_us = p->bad_us;
}

static bool below(const struct world *w, uint32_t agent, uint32_t top)
{
	for (unsigned s = 0; s <= TREE_LEVELS && agent != NOBODY; s++) {
		if (agent == top)
			return true;
		agent = w->agent[agent].parent;
	}
	return false;
}

/* The same by edges that both ends know. */
static bool held_below(const struct world *w, uint32_t agent, uint32_t top)
{
	for (unsigned s = 0; s <= TREE_LEVELS && agent != top; s++) {
		uint32_t up = w->agent[agent].parent;
		const struct tree *t = up == NOBODY ? NULL : w->agent[up].tree;
		bool held = false;

		for (unsigned i = 0; t && i < tree_n_children(t); i++) {
			struct tree_child c;

			tree_child_at(t, i, &c);
			held |= !epoch_compare(&c.lease,
					       &w->agent[agent].lease);
		}
		if (!held)
			return false;
		agent = up;
	}
	return agent == top;
}

static uint32_t top_of(const struct world *w, uint32_t agent)
{
	for (unsigned s = 0; s <= TREE_LEVELS; s++) {
		if (w->agent[agent].parent == NOBODY)
			break;
		agent = w->agent[agent].parent;
	}
	return agent;
}

static void removed_one(struct world *w, uint32_t agent, uint32_t by)
{
	struct agent *a = &w->agent[agent];

	a->member = false;
	w->ledger.n_removed += a->remover == NOBODY;
	a->remover = by;
	a->removed |= root_bit(top_of(w, by));
	a->back = 0;
}

/* Whoever is below no root now tells the one that it comes below. */
static void removed_told(struct world *w, uint32_t agent)
{
	uint64_t root = root_bit(top_of(w, agent));

	for (uint32_t i = 0; w->ledger.n_removed && i < w->n; i++) {
		struct agent *a = &w->agent[i];

		if (a->remover != NOBODY && !(a->back & root) &&
		    below(w, a->remover, agent))
			a->removed |= root;
	}
}

/*
 * Its whole branch is no member until it is attached again: those that say so,
 * and those that its parent takes for its branch.
 */
void ledger_removed(struct world *w, uint32_t agent)
{
	uint32_t up = w->agent[agent].parent, n, at;
	const struct tree_row *row = tree_rows(w->agent[up].tree, &n);
	unsigned level = 0;

	for (uint32_t i = 0; i < w->n; i++)
		if (w->agent[i].member && below(w, i, agent))
			removed_one(w, i, up);
	for (uint32_t i = 1; i < n; i++) {
		at = agent_at(w, &row[i].ep);
		if (at == agent)
			level = row[i].level;
		else if (level && row[i].level <= level)
			break;
		if (level && at != NOBODY)
			removed_one(w, at, up);
	}
}

/* With it, those that it brings; below another root the first knows not. */
static void removed_back(struct world *w, uint32_t agent)
{
	uint64_t root = root_bit(top_of(w, agent));

	for (uint32_t i = 0; w->ledger.n_removed && i < w->n; i++) {
		struct agent *a = &w->agent[i];

		if (a->remover == NOBODY || !held_below(w, i, agent))
			continue;
		a->member |= !a->drains;
		a->removed &= ~root;
		a->back |= root;
	}
}

static void check_seen(struct world *w, uint32_t agent,
		       const struct epoch *seen)
{
	struct agent *a = &w->agent[agent];

	if (epoch_compare(seen, &a->seen) < 0) {
		char now[EPOCH_TEXT], was[EPOCH_TEXT];

		epoch_format(seen, now);
		epoch_format(&a->seen, was);
		world_fail(w, "O6: agent %u knows epoch %s after %s", agent,
			   now, was);
	}
	a->seen = *seen;
}

static void view_of(struct world *w, uint32_t agent, struct view *v)
{
	const struct tree *t = w->agent[agent].tree;
	const struct endpoint *up = tree_parent(t);

	v->parent = up ? agent_at(w, up) : NOBODY;
	v->lease = tree_lease(t);
	v->seen = tree_epoch(t);
	v->children = tree_n_children(t);
	v->root = tree_is_root(t);
	v->detached = tree_detached(t);
	if (w->conf.tooth)
		teeth_view(w, agent, v);
}

static void check_move(struct world *w, uint32_t agent, const struct view *v)
{
	struct agent *a = &w->agent[agent];
	bool fresh = epoch_compare(&v->lease, &a->lease) != 0;

	agent_disturb(w, agent);
	a->member |= v->parent != NOBODY;
	a->amnesia &= v->parent == NOBODY;
	if (v->parent == NOBODY && a->parent != NOBODY && !v->root)
		parent_lost(w, a, agent, a->parent);
	a->parent = v->parent;
	if (!epoch_none(&v->lease)) {
		if (fresh)
			check_lease(w, agent, &v->lease);
		check_path(w, agent);
	}
	a->lease = v->lease;
	if (v->parent != NOBODY) {
		removed_told(w, agent);
		removed_back(w, agent);
	}
	if (v->parent != NOBODY || v->root)
		repaired(w, a);
}

void ledger_touch(struct world *w, uint32_t agent)
{
	struct agent *a = &w->agent[agent];
	struct view v;
	bool reigns;

	w->ledger.checks++;
	view_of(w, agent, &v);
	check_seen(w, agent, &v.seen);
	if (epoch_none(&v.lease) != (v.parent == NOBODY) ||
	    v.root + v.detached + (v.parent != NOBODY) != 1)
		world_fail(w, "agent %u: root %d detached %d parent %d", agent,
			   v.root, v.detached, (int)v.parent);
	if (v.children > TREE_CHILDREN || a->in_flight > 2 * v.children + 32)
		world_fail(w, "O8: agent %u has %u children, %u exchanges",
			   agent, v.children, a->in_flight);
	reigns = v.root && !a->root;
	a->root = v.root;
	a->detached = v.detached;
	a->member |= v.root && !a->removed;
	if (v.parent != a->parent || epoch_compare(&v.lease, &a->lease))
		check_move(w, agent, &v);
	if (reigns)
		removed_told(w, agent);
	if (a->blocks)
		tasks_place(a);
}

void ledger_started(struct world *w, uint32_t agent)
{
	struct agent *a = &w->agent[agent];

	a->parent = NOBODY;
	a->root = false;
	a->detached = true;
	a->seen = a->disk.seen; /* what it had stored */
	memset(&a->lease, 0, sizeof(a->lease));
	a->orphan_us = NEVER;
}

void ledger_ended(struct world *w, uint32_t agent)
{
	struct agent *a = &w->agent[agent];

	a->parent = NOBODY;
	a->root = a->detached = false;
	memset(&a->lease, 0, sizeof(a->lease));
	a->orphan_us = NEVER;
}

/* ---- all agents ---- */

/* Who holds this child under the lease that it has: at most one. */
static void look_children(struct world *w, uint32_t agent)
{
	const struct tree *t = w->agent[agent].tree;
	unsigned n = tree_n_children(t);

	for (unsigned i = 0; i < n; i++) {
		struct tree_child c;
		uint32_t to;

		tree_child_at(t, i, &c);
		to = agent_at(w, &c.ep);
		if (to == NOBODY || epoch_none(&c.lease) ||
		    !w->agent[to].tree ||
		    epoch_compare(&c.lease, &w->agent[to].lease))
			continue;
		if (w->ledger.count[to]++)
			world_fail(w, "O2: two hold agent %u, one is %u", to,
				   agent);
		if (w->agent[to].parent != agent)
			world_fail(w, "O2: agent %u is child of %d, not of %u",
				   to, (int)w->agent[to].parent, agent);
	}
}

/* Those below that hold each other, as both ends of each edge say. */
static uint32_t held_hosts(const struct world *w, uint32_t agent,
			   unsigned level)
{
	const struct tree *t = w->agent[agent].tree;
	uint32_t n = 1;

	for (unsigned i = 0; i < tree_n_children(t); i++) {
		struct tree_child c;
		uint32_t to;

		tree_child_at(t, i, &c);
		to = agent_at(w, &c.ep);
		if (to != NOBODY && w->agent[to].tree && level < TREE_LEVELS &&
		    !epoch_none(&c.lease) &&
		    !epoch_compare(&c.lease, &w->agent[to].lease))
			n += held_hosts(w, to, level + 1);
	}
	return n;
}

/* Else a question would take a child that says the truth for a liar. */
static void look_known(struct world *w, uint32_t agent)
{
	const struct tree *t = w->agent[agent].tree;

	for (unsigned i = 0; i < tree_n_children(t); i++) {
		struct tree_child c;
		uint32_t to, n;

		tree_child_at(t, i, &c);
		to = agent_at(w, &c.ep);
		if (c.most == TREE_MEMBERS || to == NOBODY ||
		    !w->agent[to].tree ||
		    epoch_compare(&c.lease, &w->agent[to].lease))
			continue;
		n = held_hosts(w, to, 0);
		if (n > c.most)
			world_fail(w,
				   "O5: agent %u takes %u for all below %u, "
				   "there are %u",
				   agent, c.most, to, n);
	}
}

/*
 * Each row after its parent, its own right behind it; members that no child
 * tells of stand at the end of a root's.
 */
static void look_rows(struct world *w, uint32_t agent)
{
	struct tree *t = w->agent[agent].tree;
	uint32_t n, above[TREE_LEVELS_MAX + 1] = { 0 };
	const struct tree_row *row = tree_rows(t, &n);

	if (!n || row[0].level || !node_id_equal(&row[0].id, tree_self(t))) {
		world_fail(w, "rows of agent %u do not begin with itself",
			   agent);
		return;
	}
	for (uint32_t i = 1; i < n; i++) {
		unsigned level = row[i].level;

		if (!level || level > row[i - 1].level + 1u ||
		    level > TREE_LEVELS_MAX ||
		    (level > 1 && !node_id_equal(&row[above[level - 1]].id,
						 &row[i].parent))) {
			world_fail(w, "row %u of agent %u is out of place", i,
				   agent);
			return;
		}
		above[level] = i;
	}
	if (tree_expected(t) < n)
		world_fail(w, "O3: agent %u expects %u of %u rows", agent,
			   tree_expected(t), n);
}

/* A host with two rows would be expected twice: the root must know. */
static void look_doubles(struct world *w, uint32_t agent)
{
	uint32_t n, at;
	const struct tree_row *row = tree_rows(w->agent[agent].tree, &n);
	uint32_t *count = w->ledger.count;

	memset(count, 0, w->n * sizeof(*count));
	for (uint32_t i = 0; i < n; i++) {
		at = agent_at(w, &row[i].ep);
		if (at == NOBODY || !w->agent[at].tree ||
		    !node_id_equal(&row[i].id, tree_self(w->agent[at].tree)))
			continue;
		if (count[at]++ && tree_settled(w->agent[agent].tree))
			world_fail(w, "O2: agent %u has two rows at root %u",
				   at, agent);
	}
}

void ledger_look(struct world *w)
{
	memset(w->ledger.count, 0, w->n * sizeof(*w->ledger.count));
	for (uint32_t i = 0; i < w->n && !w->failed; i++) {
		if (!w->agent[i].tree)
			continue;
		look_children(w, i);
		look_rows(w, i);
		look_known(w, i);
	}
	for (uint32_t i = 0; i < w->n && !w->failed; i++) {
		if (!w->agent[i].tree)
			continue;
		if (w->agent[i].root)
			look_doubles(w, i);
#ifdef TREE_CHECK
		tree_check(w->agent[i].tree);
#endif
	}
}

/* ---- whole ---- */

/* Marks every agent whose parent counts it under the lease that it has. */
static void mark_held(struct world *w)
{
	uint32_t *held = w->ledger.count;

	memset(held, 0, w->n * sizeof(*held));
	for (uint32_t i = 0; i < w->n; i++) {
		const struct tree *t = w->agent[i].tree;

		for (unsigned k = 0; t && k < tree_n_children(t); k++) {
			struct tree_child c;
			uint32_t to;

			tree_child_at(t, k, &c);
			to = agent_at(w, &c.ep);
			if (to != NOBODY && c.state == CHILD_UP &&
			    w->agent[to].parent == i &&
			    !epoch_compare(&c.lease, &w->agent[to].lease))
				held[to] = 1;
		}
	}
}

/* Reached, as its root sees it: it is up, and so are all above it. */
static bool row_up(const struct tree_row *r, bool up[TREE_LEVELS_MAX + 2])
{
	unsigned level = MIN(r->level, TREE_LEVELS_MAX + 1u);

	up[level] = r->up && (!level || up[level - 1]);
	return up[level];
}

static bool row_true(const struct world *w, const struct tree_row *r, bool up,
		     char *why, size_t size)
{
	uint32_t at = agent_at(w, &r->ep);
	const struct agent *a = at == NOBODY ? NULL : &w->agent[at];
	bool is = a && a->tree && node_id_equal(&r->id, tree_self(a->tree));
	char e[EPOCH_TEXT], own[EPOCH_TEXT];

	if (is == up && (!is || !epoch_compare(&r->lease, &a->lease)))
		return true;
	epoch_format(&r->lease, e);
	if (a)
		epoch_format(&a->lease, own);
	snprintf(why, size,
		 "row of agent %u below %d is %s, level %u lease %s, its is %s "
		 "below %d",
		 at, (int)agent_of_id(w, &r->parent), up ? "up" : "down",
		 r->level, e, is ? own : "none", is ? (int)a->parent : -1);
	return false;
}

static bool rows_true(struct world *w, uint32_t root, uint32_t alive, char *why,
		      size_t size)
{
	uint32_t n, n_up = 0, *seen = w->ledger.count;
	const struct tree_row *row = tree_rows(w->agent[root].tree, &n);
	bool above[TREE_LEVELS_MAX + 2] = { false };

	memset(seen, 0, w->n * sizeof(*seen));
	for (uint32_t i = 0; i < n; i++) {
		bool up = row_up(&row[i], above);
		uint32_t at = agent_at(w, &row[i].ep);

		if (!row_true(w, &row[i], up, why, size))
			return false;
		n_up += up;
		if (up && at != NOBODY)
			seen[at] = 1;
	}
	for (uint32_t i = 0; i < w->n && n_up != alive; i++)
		if (w->agent[i].tree && !seen[i])
			snprintf(why, size,
				 "%u rows are up, %u live, not %u below %d",
				 n_up, alive, i, (int)w->agent[i].parent);
	return n_up == alive;
}

bool ledger_whole(struct world *w, char *why, size_t size)
{
	uint32_t root = NOBODY, alive = 0;
	const uint32_t *held = w->ledger.count;

	mark_held(w);
	for (uint32_t i = 0; i < w->n; i++) {
		const struct agent *a = &w->agent[i];

		if (!a->tree)
			continue;
		alive++;
		if (a->root && root != NOBODY) {
			snprintf(why, size, "agents %u and %u are roots", root,
				 i);
			return false;
		}
		if (a->root)
			root = i;
		else if (a->parent == NOBODY || !held[i] ||
			 !tree_rooted(a->tree)) {
			snprintf(why, size, "agent %u: %s", i,
				 a->parent == NOBODY ? "detached"
				 : !held[i]          ? "not held"
						     : "not rooted");
			return false;
		}
	}
	if (root == NOBODY) {
		snprintf(why, size, "no root");
		return false;
	}
	return rows_true(w, root, alive, why, size);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t ledger_repair(struct world *w, double quantile)
{
	struct ledger *l = &w->ledger;

	if (!l->n_repairs)
		return 0;
	qsort(l->repair_us, l->n_repairs, sizeof(*l->repair_us), by_size);
	return l->repair_us[(uint32_t)(quantile * (l->n_repairs - 1))];
}
