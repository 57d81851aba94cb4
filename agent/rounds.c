/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What hosts gave in the first of two rounds.  A question in two rounds can
 * lose a host between them.  Its rows are in the candidates already, and what
 * it surely counted is known, so that much stays in the answer, with lower
 * bound 0, and the host is missing as `partial`.
 *
 * Each agent keeps what its children and its own monitor gave, by the id that
 * both rounds of a question have in common: only the direct parent can tell
 * them apart.  The keeping is bounded in time and rows; what was dropped, and
 * what lied or was refused, is missing with its own reason instead.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay.h"
#include "agent/query_private.h"
#include "common/util.h"

#define KEEP_MS  30000               /* no budget is longer */
#define ROWS_ALL ((uint32_t)1 << 17) /* of all questions together */
#define KEPT_MAX 64
#define GIFTS    (OVERLAY_CHILDREN + 1)

struct gift_row {
	struct flow_key key;
	uint64_t amount; /* surely counted */
};

struct gift {
	struct node_id id;
	struct coverage coverage;
	struct gift_row *row; /* ascending by key */
	uint32_t n;
};

struct round1 {
	struct round1 *next;
	struct rounds *all;
	uint8_t id[16];
	uint64_t at_ms;
	struct gift *gift;
	unsigned n;
};

struct rounds {
	struct agent *agent;
	struct round1 *first, **last; /* oldest first */
	unsigned n;
	uint32_t rows;
	struct loop_timer sweep;
};

void round1_free(struct round1 *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < r->n; i++) {
		r->all->rows -= r->gift[i].n;
		free(r->gift[i].row);
	}
	free(r->gift);
	free(r);
}

static void drop_first(struct rounds *all)
{
	struct round1 *r = all->first;

	all->n--;
	all->first = r->next;
	if (!all->first)
		all->last = &all->first;
	round1_free(r);
}

static void sweep(void *arg)
{
	struct rounds *all = arg;
	uint64_t now = clock_mono_ms();

	while (all->first && all->first->at_ms + KEEP_MS <= now)
		drop_first(all);
	if (all->first)
		loop_timer_in(all->agent->loop, &all->sweep, KEEP_MS, sweep,
			      all);
}

struct round1 *round1_new(struct rounds *all, const uint8_t query_id[16])
{
	struct round1 *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->all = all;
	memcpy(r->id, query_id, sizeof(r->id));
	return r;
}

void round1_keep(struct round1 *r)
{
	struct rounds *all = r->all;

	if (!r->n) {
		round1_free(r);
		return;
	}
	if (all->n == KEPT_MAX)
		drop_first(all);
	all->n++;
	r->at_ms = clock_mono_ms();
	if (!all->first)
		loop_timer_in(all->agent->loop, &all->sweep, KEEP_MS, sweep,
			      all);
	*all->last = r;
	all->last = &r->next;
}

struct round1 *round1_take(struct rounds *all, const uint8_t query_id[16])
{
	for (struct round1 **at = &all->first; *at; at = &(*at)->next) {
		struct round1 *r = *at;

		if (memcmp(r->id, query_id, sizeof(r->id)) != 0)
			continue;
		all->n--;
		*at = r->next;
		if (!r->next)
			all->last = at;
		r->next = NULL;
		return r;
	}
	return NULL;
}

void round1_add(struct round1 *r, const struct node_id *id,
		const struct part *p, const struct coverage *c)
{
	struct rounds *all = r->all;
	uint32_t n = p->topk.n;
	struct gift *g;

	while (all->first && all->rows + (uint64_t)n > ROWS_ALL)
		drop_first(all);
	if (r->n == GIFTS || all->rows + (uint64_t)n > ROWS_ALL)
		return;
	g = reallocarray(r->gift, r->n + 1, sizeof(*g));
	if (!g)
		return;
	r->gift = g;
	g += r->n;
	g->row = calloc(MAX(n, 1), sizeof(*g->row));
	if (!g->row)
		return;
	for (uint32_t i = 0; i < n; i++) {
		const struct topk_row *row = &p->topk.row[i];

		g->row[i].key = row->key;
		g->row[i].amount = row->upper - row->err;
	}
	g->n = n;
	g->id = *id;
	g->coverage = *c;
	all->rows += n;
	r->n++;
}

/* ---- the second round ---- */

static int row_order(const void *a, const void *b)
{
	const struct gift_row *x = a, *y = b;

	return memcmp(x->key.w, y->key.w, sizeof(x->key.w));
}

/* Its amounts of the keys that are asked; NULL: no memory. */
static struct part *gift_part(const struct gift *g, const struct ask *ask)
{
	struct part *p = part_new(PART_POINTS, &ask->task);

	if (p)
		p->points.v = calloc(MAX(ask->n_keys, 1), sizeof(*p->points.v));
	if (!p || !p->points.v) {
		part_free(p);
		return NULL;
	}
	p->points.n = ask->n_keys;
	for (uint32_t i = 0; i < ask->n_keys; i++) {
		struct gift_row want = { .key = ask->keys[i] };
		const struct gift_row *row =
			bsearch(&want, g->row, g->n, sizeof(*row), row_order);

		if (row)
			p->points.v[i].upper = p->points.v[i].point =
				row->amount;
	}
	return p;
}

struct lost {
	struct coverage *out;
	uint32_t n;
};

/* One that answered then; others are missing for the reason of then. */
static void lost_host(void *arg, uint32_t row, const struct node_id *id,
		      enum missing_reason r, bool alone)
{
	struct lost *l = arg;

	(void)row;
	if (r == MISSING_NONE)
		l->n++;
	if (r != MISSING_BEHIND)
		coverage_missing(l->out, id,
				 r == MISSING_NONE ? MISSING_PARTIAL : r,
				 r == MISSING_NONE || alone);
}

/* The hosts of a gift are those that are known below it; else no use. */
static bool lost_hosts(struct agent *a, const struct gift *g,
		       struct coverage *out)
{
	struct lost l = { out, 0 };
	const struct tree_row *rows;
	unsigned n, i = 0;

	if (node_id_equal(&g->id, overlay_self(a->overlay))) {
		coverage_missing(out, &g->id, MISSING_PARTIAL, true);
		return true;
	}
	rows = overlay_rows(a->overlay, &n);
	while (i < n && !node_id_equal(&rows[i].id, &g->id))
		i++;
	walk_expand(a->queries->walk, &g->coverage, i, lost_host, &l);
	return l.n == g->coverage.answered;
}

bool round1_stand_in(const struct round1 *r, const struct node_id *id,
		     enum missing_reason why, const struct ask *ask,
		     struct part **acc, struct coverage *cov)
{
	struct coverage lost = { 0 };
	const struct gift *g = NULL;
	struct part *p;
	bool merged;

	/* what cannot be believed now could not then; who has another parent
	 * may be asked by that one */
	if (why != MISSING_TIMEOUT && why != MISSING_UNREACHABLE &&
	    why != MISSING_MONITOR_DOWN && why != MISSING_BUSY)
		return false;
	for (unsigned i = 0; i < r->n; i++)
		if (node_id_equal(&r->gift[i].id, id))
			g = &r->gift[i];
	if (!g || !lost_hosts(r->all->agent, g, &lost))
		return false;
	p = gift_part(g, ask);
	merged = p && (!*acc || !part_merge(*acc, p));
	if (merged) {
		coverage_merge(cov, &lost, false);
		if (!*acc) {
			*acc = p;
			p = NULL;
		}
	}
	part_free(p);
	return merged;
}

int rounds_open(struct rounds **out, struct agent *a)
{
	struct rounds *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	all->agent = a;
	all->last = &all->first;
	*out = all;
	return 0;
}

void rounds_free(struct rounds *all)
{
	if (!all)
		return;
	loop_timer_cancel(&all->sweep);
	while (all->first)
		drop_first(all);
	free(all);
}
