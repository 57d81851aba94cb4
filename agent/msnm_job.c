/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is to be calibrated when: first a model of this host's own counters;
 * once all children are settled, one with their columns; with dynamic
 * calibration a batch at a time after that.  A job is made here, done by the
 * worker, and its model is swapped in here.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/msnm_worker.h"
#include "common/features.h"
#include "common/util.h"

#define ROWS_PER_LATENT 20

static bool set_equal(const struct msnm_set *a, const struct msnm_set *b)
{
	if (a->n != b->n)
		return false;
	for (unsigned i = 0; i < a->n; i++)
		if (!node_id_equal(&a->child[i].id, &b->child[i].id) ||
		    a->child[i].generation != b->child[i].generation)
			return false;
	return true;
}

bool msnm_engine_collects_full(const struct msnm_engine *e)
{
	return e->model && e->want_full && !set_equal(&e->model->set, &e->want);
}

bool msnm_entry_good(const struct msnm_entry *en, const struct msnm_set *set)
{
	struct msnm_model shape = { .n_own = en->n_own, .set = *set };
	double x[FEATURES + 2 * MSNM_CHILD];

	if (en->quality || en->no_row || !set->n)
		return !en->quality && !en->no_row;
	msnm_entry_cells(en, &shape, x);
	for (size_t i = en->n_own; i < en->n_own + 2 * set->n; i++)
		if (isnan(x[i]))
			return false;
	return true;
}

static const struct msnm_set own_set;

size_t msnm_engine_have(const struct msnm_engine *e, bool full)
{
	const struct msnm_set *set = full ? &e->want : &own_set;
	size_t n = 0;

	for (size_t i = e->n; i-- > 0 && n < e->conf.rows;)
		n += msnm_entry_good(e->entry[i], set);
	return n;
}

void msnm_job_free(struct msnm_job *j)
{
	if (!j)
		return;
	for (size_t i = 0; j->names && i < j->m; i++)
		free(j->names[i]);
	free(j->names);
	free(j->rows);
	msnm_model_drop(j->base);
	free(j);
}

static bool job_names(const struct msnm_engine *e, struct msnm_job *j)
{
	unsigned first = features_first(e->conf.blocks);

	j->names = calloc(j->m, sizeof(*j->names));
	if (!j->names)
		return false;
	for (size_t i = 0; i < j->m; i++) {
		size_t c = i < e->n_own ? 0 : i - e->n_own;
		int n;

		if (i < e->n_own)
			n = asprintf(&j->names[i], "%s",
				     feature_get(first + (unsigned)i)->name);
		else
			n = asprintf(&j->names[i], "%c:%s", c & 1 ? 'd' : 'q',
				     j->set.child[c / 2].host);
		if (n < 0) {
			j->names[i] = NULL;
			return false;
		}
	}
	return true;
}

/* A job for rows of this set, with room for n of them. */
static struct msnm_job *job_new(const struct msnm_engine *e,
				const struct msnm_set *set, size_t n)
{
	const struct msnm_conf *c = &e->conf;
	struct msnm_job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->set = *set;
	j->m = e->n_own + 2 * set->n;
	j->window_s = c->window_s;
	snprintf(j->semantics, sizeof(j->semantics), "%s",
		 features_semantics_name((enum feature_semantics)c->semantics));
	j->options = (struct detect_options){
		.prep = c->prep,
		.lv = c->lv,
		.alpha_q = c->alpha_q,
		.alpha_d = c->alpha_d,
		.phase = 2,
		.active = (enum detect_active)c->limits,
		.cross = true,
		.clean = c->clean,
	};
	j->rows = calloc(MAX(n, 1), MAX(j->m, 1) * sizeof(double));
	if (j->rows && job_names(e, j))
		return j;
	msnm_job_free(j);
	return NULL;
}

static void job_row(struct msnm_job *j, const struct msnm_entry *en)
{
	struct msnm_model shape = { .n_own = en->n_own, .set = j->set };

	msnm_entry_cells(en, &shape, j->rows + j->n++ * j->m);
}

static struct msnm_job *job_calibrate(const struct msnm_engine *e, bool full)
{
	const struct msnm_set *set = full ? &e->want : &own_set;
	size_t n = msnm_engine_have(e, full), left = n;
	struct msnm_job *j = n ? job_new(e, set, n) : NULL;
	size_t i = e->n;

	if (!j)
		return NULL;
	while (left)
		left -= msnm_entry_good(e->entry[--i], set);
	for (; i < e->n; i++)
		if (msnm_entry_good(e->entry[i], set))
			job_row(j, e->entry[i]);
	/* fewer rows for each, and noise is learnt by heart */
	j->options.lv_most = MAX(1, n / ROWS_PER_LATENT);
	j->generation = e->generation + 1;
	return j;
}

/* Far off rows would teach the model what it should find. */
static bool quarantined(const struct msnm_engine *e,
			const struct msnm_entry *en)
{
	double factor = e->conf.quarantine;

	return factor > 0 &&
	       (en->q > factor * en->ucl_q || en->d > factor * en->ucl_d);
}

static bool learnable(const struct msnm_engine *e, const struct msnm_entry *en)
{
	return en->number > e->wait_from && en->has_stats &&
	       en->used.generation == e->model->m->generation &&
	       msnm_entry_good(en, &e->model->set) && !quarantined(e, en);
}

static struct msnm_job *job_learn(struct msnm_engine *e)
{
	const struct detect_model *m = e->model->m;
	/* the model may have more latent variables than are asked for now */
	size_t n = 0, want = MAX(e->conf.batch, m->lv + 2);
	struct msnm_job *j;

	for (size_t i = 0; i < e->n && n < want; i++)
		n += learnable(e, e->entry[i]);
	if (n < want)
		return NULL;
	j = job_new(e, &e->model->set, want);
	if (!j)
		return NULL;
	for (size_t i = 0; i < e->n && j->n < want; i++) {
		if (!learnable(e, e->entry[i]))
			continue;
		job_row(j, e->entry[i]);
		n = i;
	}
	/* whatever comes of it, these rows had their turn */
	e->wait_from = e->entry[n]->number;
	j->learn = true;
	j->base = msnm_model_ref(e->model);
	j->lambda =
		exp2(-(double)want * e->conf.window_s / e->conf.half_life_s);
	j->options.lv = m->lv;
	j->options.prep = m->prep;
	j->generation = m->generation;
	j->revision = m->revision + 1;
	return j;
}

const struct msnm_set *msnm_engine_set(const struct msnm_engine *e)
{
	size_t least = 3 * (size_t)e->conf.lv + 10;

	/* not back to the host alone once children are columns */
	if (e->model && msnm_model_full(e->model))
		return &e->want;
	return msnm_engine_collects_full(e) &&
			       msnm_engine_have(e, true) >= least
		       ? &e->want
		       : &own_set;
}

struct msnm_job *msnm_engine_job(struct msnm_engine *e, bool asked)
{
	bool full = msnm_engine_collects_full(e), due;
	uint64_t again = MAX(10, e->conf.rows / 10);

	if (asked)
		return job_calibrate(e, msnm_engine_set(e)->n > 0);
	/* a model of children that are gone is good for nothing */
	due = !e->model || full ||
	      (msnm_model_full(e->model) && e->alone >= MSNM_ALONE);
	if (e->failed_at && e->rows < e->failed_at + again)
		return NULL;
	if (due && msnm_engine_have(e, full) >= e->conf.rows)
		return job_calibrate(e, full);
	return e->model && e->conf.dynamic && e->model->m->prep ? job_learn(e)
								: NULL;
}

void msnm_engine_swap(struct msnm_engine *e, struct msnm_model *m)
{
	bool scratch = !e->model || e->model->m->generation != m->m->generation;

	msnm_model_drop(e->model);
	e->model = m;
	e->generation = MAX(e->generation, m->m->generation);
	if (scratch) {
		e->wait_from = e->rows;
		e->history.over = 0;
	}
	e->schema = false;
	e->problem[0] = '\0';
	e->failed_at = 0;
	msnm_alarms_resolve(&e->alarms, ALARM_SCHEMA, "");
}

void msnm_engine_refuse(struct msnm_engine *e, const char *why)
{
	struct msnm_alarm *al;

	e->schema = true;
	snprintf(e->problem, sizeof(e->problem), "%s", why);
	al = msnm_alarms_raise(&e->alarms, ALARM_SCHEMA, e->host, "", e->last);
	if (al)
		snprintf(al->detail, sizeof(al->detail), "%s", why);
}

static bool column_name(const struct msnm_engine *e, size_t i, char *out,
			size_t size)
{
	size_t c;

	if (i < e->n_own) {
		unsigned first = features_first(e->conf.blocks);

		snprintf(out, size, "%s",
			 feature_get(first + (unsigned)i)->name);
		return true;
	}
	c = i - e->n_own;
	if (c / 2 >= e->want.n)
		return false;
	snprintf(out, size, "%c:%s", c & 1 ? 'd' : 'q',
		 e->want.child[c / 2].host);
	return true;
}

bool msnm_engine_fits(const struct msnm_engine *e, const struct detect_model *m,
		      char *why, size_t size)
{
	const char *semantics = features_semantics_name(
		(enum feature_semantics)e->conf.semantics);
	size_t full = e->n_own + 2 * e->want.n;
	char name[72];

	if (strcmp(m->schema.semantics, semantics) != 0) {
		snprintf(why, size, "schema: the model's semantics are not %s",
			 semantics);
		return false;
	}
	if (m->schema.window_s != e->conf.window_s) {
		snprintf(why, size, "schema: the model's window is not %u s",
			 e->conf.window_s);
		return false;
	}
	for (size_t i = 0; i < m->m; i++) {
		if (column_name(e, i, name, sizeof(name)) &&
		    strcmp(m->schema.names[i], name) == 0)
			continue;
		snprintf(why, size, "schema: column %zu differs from the rows",
			 i);
		return false;
	}
	if (m->m == e->n_own || m->m == full)
		return true;
	snprintf(why, size, "schema: %zu columns, rows have %zu or %zu", m->m,
		 e->n_own, full);
	return false;
}
