/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The detector: judges each row with the model in force and keeps what it
 * judged; rows for a calibration are those entries that nothing is wrong with.
 * An entry keeps its own counters and what children said, so that rows for
 * either stage are put together when they are wanted; columns of children are
 * found by node id and generation, never by their place alone.
 *
 * The engine owns its entries and one reference to the model; a job has copies
 * of all it needs.
 */
#include "agent/msnm_engine.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/ewma.h"
#include "common/sketch/features.h"
#include "common/util.h"

/* ---- entries ---- */

/* Room for one more; what is too old goes. */
static bool entries_room(struct msnm_engine *e)
{
	size_t keep = MAX(MSNM_HISTORY, e->conf.rows), n = 0;
	size_t size = e->size ? 2 * e->size : 64;
	struct msnm_entry **entry;

	/* what is left out may not push out what a calibration needs */
	if (e->n >= keep &&
	    (e->n >= 2 * keep || e->entry[0]->quality ||
	     msnm_engine_have(e, e->want.n > 0) >= e->conf.rows))
		n = e->n + 1 - MIN(keep, e->n);
	for (size_t i = 0; i < n; i++)
		msnm_entry_free(e->entry[i]);
	e->n -= n;
	if (n)
		memmove(e->entry, e->entry + n, e->n * sizeof(*e->entry));
	if (e->n >= MSNM_MODELS) {
		struct msnm_entry *old = e->entry[e->n - MSNM_MODELS];

		msnm_model_drop(old->model);
		old->model = NULL;
	}
	if (e->n >= MSNM_HISTORY)
		msnm_entry_shrink(e->entry[e->n - MSNM_HISTORY]);
	if (e->n < e->size)
		return true;
	entry = reallocarray(e->entry, size, sizeof(struct msnm_entry *));
	if (!entry)
		return false;
	e->entry = entry;
	e->size = size;
	return true;
}

static void entries_drop(struct msnm_engine *e)
{
	while (e->n)
		msnm_entry_free(e->entry[--e->n]);
}

struct msnm_entry *msnm_engine_find(const struct msnm_engine *e, uint64_t k)
{
	for (size_t i = e->n; i-- > 0 && e->entry[i]->child;)
		if (e->entry[i]->interval == k)
			return e->entry[i];
	return NULL;
}

const struct msnm_entry *msnm_engine_last(const struct msnm_engine *e)
{
	return e->n ? e->entry[e->n - 1] : NULL;
}

void msnm_engine_late(struct msnm_engine *e, uint64_t k,
		      const struct msnm_child *c)
{
	struct msnm_entry *en = msnm_engine_find(e, k);

	for (unsigned i = 0; en && i < en->n_child; i++) {
		if (!node_id_equal(&en->child[i].id, &c->id) ||
		    en->child[i].has)
			continue;
		en->child[i] = *c;
		en->child[i].late = true;
	}
}

/* ---- the engine ---- */

int msnm_engine_init(struct msnm_engine *e, const struct msnm_conf *c,
		     const char *host)
{
	*e = (struct msnm_engine){ .conf = *c,
				   .n_own = features_count(c->blocks),
				   .alarms.window_s = c->window_s };
	snprintf(e->host, sizeof(e->host), "%s", host);
	return 0;
}

void msnm_engine_fini(struct msnm_engine *e)
{
	entries_drop(e);
	free(e->entry);
	e->entry = NULL;
	e->size = 0;
	msnm_model_drop(e->model);
	e->model = NULL;
	msnm_alarms_fini(&e->alarms);
}

int msnm_engine_configure(struct msnm_engine *e, const struct msnm_conf *c,
			  bool anew)
{
	if (anew || !msnm_conf_same_rows(&e->conf, c)) {
		entries_drop(e);
		msnm_model_drop(e->model);
		e->model = NULL;
		e->last = 0;
		e->n_own = features_count(c->blocks);
		e->history.over = 0;
		e->want = (struct msnm_set){ 0 };
		e->want_full = false;
		e->alone = 0;
		msnm_alarms_end(&e->alarms, ALARM_SCHEMA);
	}
	e->failed_at = 0;
	e->conf = *c;
	e->alarms.window_s = c->window_s;
	return 0;
}

/* ---- judging ---- */

struct work {
	double *x, *z, *residual, *scratch;
};

static bool work_new(struct work *w, size_t m)
{
	w->x = calloc(4 * m, sizeof(double));
	if (!w->x)
		return false;
	w->z = w->x + m;
	w->residual = w->z + m;
	w->scratch = w->residual + m;
	return true;
}

/*
 * The child whose alarm this one is comes first, with what its statistic
 * contributes here; value: of all columns, NULL: there is no row.
 */
static void note_via(struct msnm_entry *en, const struct msnm_model *m,
		     const double *value)
{
	const struct msnm_child *c = &en->child[en->via];
	double q = msnm_ratio(c->q, c->ucl_q), d = msnm_ratio(c->d, c->ucl_d);
	struct msnm_top first = { .child = en->via,
				  .d = isnan(q) ? !isnan(d) : d > q };
	unsigned at = 0;

	for (unsigned i = 0; value && i < m->set.n; i++)
		if (node_id_equal(&m->set.child[i].id, &c->id))
			first.value = value[m->n_own + 2 * i + first.d];
	while (at < en->n_top &&
	       (en->top[at].child != first.child || en->top[at].d != first.d))
		at++;
	if (at == en->n_top)
		en->n_top = MIN(en->n_top + 1, DETECT_TOP);
	at = MIN(at, DETECT_TOP - 1);
	memmove(en->top + 1, en->top, at * sizeof(*en->top));
	en->top[0] = first;
}

static void note_top(const struct msnm_engine *e, struct msnm_entry *en,
		     const struct msnm_model *m, const struct detect_top *top)
{
	unsigned first = features_first(e->conf.blocks);

	en->top_by = top->by;
	for (size_t i = 0; i < top->n; i++) {
		struct msnm_top *t = &en->top[en->n_top];
		size_t at = top->top[i].column;
		const struct msnm_child *c;

		/* nothing after it either */
		if (fpclassify(top->top[i].value) == FP_ZERO)
			break;
		*t = (struct msnm_top){ .child = -1,
					.value = top->top[i].value };
		if (at < m->n_own) {
			t->feature = feature_get(first + (unsigned)at)->name;
			en->n_top++;
			continue;
		}
		at -= m->n_own;
		c = msnm_entry_child(en, &m->set.child[at / 2].id);
		if (!c)
			continue;
		t->child = (int16_t)(c - en->child);
		t->d = at & 1;
		en->n_top++;
	}
}

static enum msnm_state state_of(const struct msnm_engine *e,
				const struct msnm_entry *en)
{
	if (e->conf.dynamic && detect_warming(en->model->m))
		return MSNM_WARMING;
	if ((en->quality & (FEATURES_PARTIAL | FEATURES_CLOCK)) ||
	    en->share > e->conf.max_imputed)
		return MSNM_SUPPRESSED;
	return MSNM_OK;
}

/*
 * What is far over its limit on this host; or farther on a child, whose alarm
 * this is then: in the row here it is one counter of many.
 */
static void entry_beyond(const struct msnm_engine *e, struct msnm_entry *en,
			 const struct detect_stats *stats)
{
	double q = msnm_ratio(en->q, en->ucl_q), most = 0;
	double d = msnm_ratio(en->d, en->ucl_d);
	bool by_d = isnan(q) || d > q;

	if (en->state == MSNM_OK &&
	    detect_beyond(en->model->m, stats, e->conf.alarm.factor)) {
		en->beyond = (struct msnm_beyond){
			.is = true,
			.d = by_d,
			.value = by_d ? en->d : en->q,
			.limit = by_d ? en->ucl_d : en->ucl_q,
		};
		most = by_d ? d : q;
	}
	for (unsigned i = 0; i < en->n_child; i++) {
		const struct msnm_child *c = &en->child[i];
		double r = msnm_ratio(c->beyond.value, c->beyond.limit);

		if (!c->has || c->late || !c->beyond.is || !(r > most))
			continue;
		en->beyond = c->beyond;
		en->via = (int16_t)i;
		most = r;
	}
}

/* Statistics and contributions, if the row can have any. */
static void entry_judge(struct msnm_engine *e, struct msnm_entry *en)
{
	struct msnm_model *m = e->model;
	struct detect_imputed filled = { 0 };
	struct detect_stats stats;
	struct detect_reason why;
	struct detect_top top;
	struct work w;

	en->model = msnm_model_ref(m);
	en->used.id = m->id;
	en->used.generation = m->m->generation;
	en->used.revision = m->m->revision;
	en->used.n = m->m->n;
	en->used.lv = m->m->lv;
	en->used.full = msnm_model_full(m);
	en->ucl_q = m->m->limits.ucl_q;
	en->ucl_d = m->m->limits.ucl_d;
	en->state = MSNM_SUPPRESSED;
	if (en->no_row || !work_new(&w, m->m->m))
		return;
	msnm_entry_cells(en, m, w.x);
	for (size_t i = m->n_own; i < m->m->m; i++)
		en->n_missing += isnan(w.x[i]) != 0;
	if (!detect_impute(m->m, (enum detect_missing)e->conf.missing, w.x,
			   &filled, &why) &&
	    !detect_judge(m->m, w.x, w.z, w.residual, &stats)) {
		en->has_stats = true;
		en->q = stats.q;
		en->d = stats.d;
		en->novelty = stats.novelty;
		en->over = stats.over;
		en->by = filled.by;
		en->share = filled.share;
		en->state = state_of(e, en);
		entry_beyond(e, en, &stats);
		detect_diagnose(m->m, &stats, w.z, w.residual, w.scratch, &top);
		note_top(e, en, m, &top);
		if (en->via >= 0)
			note_via(en, m, w.scratch);
	}
	free(w.x);
}

static void alarm_evidence(struct msnm_alarm *al, const struct msnm_entry *en,
			   double value, double limit)
{
	/* evidence is that of the worst interval */
	if (al->value >= value)
		return;
	al->value = value;
	al->limit = limit;
	al->worst = en->interval;
	al->n_top = 0;
	snprintf(al->path, sizeof(al->path), "%s", al->host);
	for (unsigned i = 0; i < en->n_top; i++) {
		const struct msnm_top *t = &en->top[i];

		if (t->child < 0)
			snprintf(al->top[i].name, ALARM_NAME, "%s", t->feature);
		else
			snprintf(al->top[i].name, ALARM_NAME, "%c:%s",
				 t->d ? 'd' : 'q', en->child[t->child].host);
		al->top[i].value = t->value;
		al->n_top++;
	}
	if (en->n_top && en->top[0].child >= 0)
		snprintf(al->path, sizeof(al->path), "%s %s", al->host,
			 en->child[en->top[0].child].host);
}

/* own: the rule says so of this host's row. */
static void statistic_alarm(struct msnm_engine *e, const struct msnm_entry *en,
			    bool own, enum msnm_alarm_kind kind)
{
	bool d = kind == ALARM_D;
	bool over = en->state == MSNM_OK &&
		    en->over & (d ? DETECT_OVER_D : DETECT_OVER_Q);
	bool passed = en->via >= 0 && en->beyond.d == d;
	struct msnm_alarm *al;

	if (!over && !passed) {
		if (en->state == MSNM_OK)
			msnm_alarms_quiet(&e->alarms, kind, "");
		return;
	}
	al = msnm_alarms_firing(&e->alarms, kind, "");
	if (al)
		al->quiet = 0;
	if (!passed && !own)
		return;
	al = msnm_alarms_raise(&e->alarms, kind, e->host, "", en->interval);
	if (al && passed)
		alarm_evidence(al, en, en->beyond.value, en->beyond.limit);
	else if (al)
		alarm_evidence(al, en, d ? en->d : en->q,
			       d ? en->ucl_d : en->ucl_q);
}

void msnm_engine_gap(struct msnm_engine *e, uint64_t k)
{
	/* more than a rule can look back changes nothing */
	for (unsigned i = 0; e->last && e->last < k && i < 64; i++, e->last++)
		(void)detect_rule_step(&e->conf.alarm, &e->history, NULL, NULL);
	e->last = MAX(e->last, k);
}

/* The rule, the state and what they raise. */
static void entry_alarm(struct msnm_engine *e, struct msnm_entry *en)
{
	struct detect_stats stats = { en->q, en->d, en->novelty, en->over };
	/* what may not alarm is no half of an alarm after it either */
	bool own = detect_rule_step(&e->conf.alarm, &e->history,
				    en->model ? en->model->m : NULL,
				    en->state == MSNM_OK ? &stats : NULL);

	if (!en->has_stats) {
		entry_beyond(e, en, NULL);
		if (en->via >= 0)
			note_via(en, en->model, NULL);
	}
	if (!en->model)
		return;
	en->alarm = own || en->via >= 0;
	statistic_alarm(e, en, own, ALARM_Q);
	statistic_alarm(e, en, own, ALARM_D);
}

/* The children whose columns a full model would have. */
static void want_update(struct msnm_engine *e, const struct msnm_entry *en)
{
	struct msnm_set set = { 0 };

	e->want_full = e->conf.children && en->n_child > 0;
	for (unsigned i = 0; i < en->n_child && e->conf.children; i++) {
		const struct msnm_child *c = &en->child[i];

		set.child[i].id = c->id;
		snprintf(set.child[i].host, sizeof(set.child[i].host), "%s",
			 c->host);
		set.child[i].generation = c->has ? c->generation : 0;
		for (unsigned k = 0; k < e->want.n && !c->has; k++)
			if (node_id_equal(&e->want.child[k].id, &c->id))
				set.child[i].generation =
					e->want.child[k].generation;
		e->want_full &= c->has && c->settled && c->generation;
		set.n++;
	}
	e->want = set;
	e->alone = set.n ? 0 : e->alone + 1;
}

static void mark_models(const struct msnm_engine *e, struct msnm_entry *en)
{
	const struct msnm_set *set = e->model ? &e->model->set : NULL;

	for (unsigned i = 0; set && set->n && i < en->n_child; i++) {
		struct msnm_child *c = &en->child[i];
		uint64_t generation = 0;

		for (unsigned k = 0; k < set->n; k++)
			if (node_id_equal(&set->child[k].id, &c->id))
				generation = set->child[k].generation;
		c->model = c->has && c->generation != generation;
	}
}

struct msnm_entry *msnm_engine_row(struct msnm_engine *e, uint64_t k,
				   uint32_t quality, uint64_t missed,
				   uint64_t overflow, const double *x,
				   const struct msnm_child *child, unsigned n)
{
	size_t cells = e->n_own * sizeof(double);
	struct msnm_entry *en = calloc(1, sizeof(*en) + cells);

	if (!en || !entries_room(e))
		goto fail;
	en->child = calloc(MAX(n, 1), sizeof(*child));
	if (!en->child)
		goto fail;
	en->interval = k;
	en->number = ++e->rows;
	en->quality = quality;
	en->missed = missed;
	en->overflow = overflow;
	en->q = en->d = en->novelty = en->ucl_q = en->ucl_d = NAN;
	en->state = MSNM_LEARNING;
	en->n_own = e->n_own;
	en->via = -1;
	en->no_row = !x;
	if (x)
		memcpy(en->x, x, cells);
	en->n_child = n;
	if (n)
		memcpy(en->child, child, n * sizeof(*child));
	if (k)
		msnm_engine_gap(e, k - 1);
	want_update(e, en);
	mark_models(e, en);
	if (e->model)
		entry_judge(e, en);
	entry_alarm(e, en);
	e->last = k;
	e->entry[e->n++] = en;
	return en;
fail:
	msnm_entry_free(en);
	return NULL;
}
