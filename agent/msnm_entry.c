/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the detector keeps of an interval, and the models it refers to.  Cells
 * of children are found by node id and generation.  An entry owns all it points
 * to, but its model is shared.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/msnm_entry.h"
#include "common/util.h"

const char *msnm_state_name(enum msnm_state s)
{
	static const char *const names[] = { "ok", "learning", "warming",
					     "suppressed" };

	return names[s];
}

int msnm_state_parse(const char *s, enum msnm_state *out)
{
	for (unsigned i = 0; i < MSNM_STATES; i++) {
		if (strcmp(s, msnm_state_name((enum msnm_state)i)) == 0) {
			*out = (enum msnm_state)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *msnm_phase_name(enum msnm_phase p)
{
	static const char *const names[] = { "off", "collecting", "calibrating",
					     "watching" };

	return names[p];
}

double msnm_ratio(double v, double limit)
{
	if (!isfinite(v) || !isfinite(limit) || limit <= 0 || v < 0)
		return NAN;
	/* v / limit may be more than a double holds */
	return v / limit > DBL_MAX ? log(v) - log(limit) : log1p(v / limit);
}

/* ---- models ---- */

struct msnm_model *msnm_model_new(struct detect_model *m,
				  const struct msnm_set *set)
{
	struct msnm_model *mm = calloc(1, sizeof(*mm));

	if (!mm) {
		detect_model_free(m);
		return NULL;
	}
	mm->refs = 1;
	mm->m = m;
	mm->id = detect_model_id(m);
	if (set)
		mm->set = *set;
	mm->n_own = m->m - 2 * mm->set.n;
	return mm;
}

struct msnm_model *msnm_model_ref(struct msnm_model *m)
{
	m->refs++;
	return m;
}

void msnm_model_drop(struct msnm_model *m)
{
	if (!m || --m->refs)
		return;
	detect_model_free(m->m);
	free(m);
}

bool msnm_model_full(const struct msnm_model *m)
{
	return m->set.n > 0;
}

/* ---- entries ---- */

void msnm_entry_free(struct msnm_entry *en)
{
	if (!en)
		return;
	msnm_model_drop(en->model);
	free(en->child);
	free(en->cell);
	free(en);
}

const struct msnm_child *msnm_entry_child(const struct msnm_entry *en,
					  const struct node_id *id)
{
	for (unsigned i = 0; i < en->n_child && en->child; i++)
		if (node_id_equal(&en->child[i].id, id))
			return &en->child[i];
	return NULL;
}

static struct msnm_cell child_cell(const struct msnm_child *c)
{
	/* what could not alarm there says nothing here */
	bool known = c->has && !c->late && c->state == MSNM_OK;

	return (struct msnm_cell){
		.id = c->id,
		.generation = c->generation,
		.q = known ? msnm_ratio(c->q, c->ucl_q) : NAN,
		.d = known ? msnm_ratio(c->d, c->ucl_d) : NAN,
	};
}

/* The child of this id, which mostly stands where it does in the set. */
static struct msnm_cell entry_cell(const struct msnm_entry *en,
				   const struct node_id *id, unsigned guess)
{
	for (unsigned i = 0; i < en->n_child; i++) {
		unsigned at = (guess + i) % en->n_child;

		if (en->child && node_id_equal(&en->child[at].id, id))
			return child_cell(&en->child[at]);
		if (en->cell && node_id_equal(&en->cell[at].id, id))
			return en->cell[at];
	}
	return (struct msnm_cell){ .q = NAN, .d = NAN };
}

void msnm_entry_cells(const struct msnm_entry *en, const struct msnm_model *m,
		      double *x)
{
	memcpy(x, en->x, en->n_own * sizeof(*x));
	for (unsigned i = 0; i < m->set.n; i++) {
		struct msnm_cell c = entry_cell(en, &m->set.child[i].id, i);
		double *at = x + m->n_own + 2 * i;
		bool known = c.generation == m->set.child[i].generation;

		at[0] = known ? c.q : NAN;
		at[1] = known ? c.d : NAN;
	}
}

void msnm_entry_shrink(struct msnm_entry *en)
{
	struct msnm_cell *cell =
		en->n_child ? calloc(en->n_child, sizeof(*cell)) : NULL;

	/* without memory for less of it, it stays */
	if (!en->child || (en->n_child && !cell))
		return;
	for (unsigned i = 0; i < en->n_child; i++)
		cell[i] = child_cell(&en->child[i]);
	free(en->child);
	en->child = NULL;
	en->cell = cell;
}
