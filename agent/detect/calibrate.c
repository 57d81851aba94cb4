/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calibration: fit, decide how many latent variables, make the model, judge
 * the rows themselves, perhaps drop the worst and begin again.  The model that
 * is handed out belongs to the caller; all else ends with the call.
 *
 * Cleaning drops at three times the limits: trimming at the limits themselves
 * shrinks them round by round until normal rows are over them.
 */
#include "agent/detect/calibrate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/judge.h"
#include "agent/detect/limits.h"
#include "agent/detect/pca.h"
#include "common/util.h"

#define SIGMA_MIN   1e-10 /* of the first: below, D is rounding */
#define ILL         1e-10 /* the same of eigenvalues, for a warning */
#define ROUNDS      10
#define DROP_FACTOR 3.0
#define PER_ALPHA   10.0 /* rows for one beyond an empirical limit, times */
#define FOLDS       10

const struct detect_options detect_options_default = {
	.prep = 2,
	.alpha_q = 0.01,
	.alpha_d = 0.01,
	.phase = 2,
};

struct work {
	const double *rows;
	size_t n_read, m;
	const struct detect_options *o;
	size_t *pick; /* [n]: rows in use, ascending */
	size_t n;
	struct detect_stats *stats; /* [n]: of those rows */
	double *row;                /* [2m] */
	double *sorted;             /* [n] */
	struct detect_model *model;
	struct detect_report report;
	struct detect_reason why;
};

static int check_input(struct work *w)
{
	const struct detect_options *o = w->o;

	if (o->prep > 2 || o->phase < 1 || o->phase > 2 ||
	    o->active > DETECT_MAX || !(o->alpha_q > 0 && o->alpha_q <= 0.5) ||
	    !(o->alpha_d > 0 && o->alpha_d <= 0.5) ||
	    !(o->clean >= 0 && o->clean <= 0.5))
		return DETECT_OPTION;
	if (!w->n_read || !w->m || w->m > DETECT_MAX_COLUMNS ||
	    w->n_read > DETECT_MAX_CELLS / w->m)
		return DETECT_SIZE;
	for (size_t i = 0; i < w->n_read * w->m; i++) {
		if (fabs(w->rows[i]) <= DETECT_MAX_VALUE)
			continue;
		w->why.row = o->first_row + i / w->m;
		w->why.column = i % w->m;
		return isnan(w->rows[i]) ? DETECT_MISSING : DETECT_VALUE;
	}
	return w->n_read < 3 ? DETECT_FEW_ROWS : DETECT_OK;
}

/* --- the model ----------------------------------------------------------- */

static int choose_lv(struct work *w, struct pca *p, size_t *lv)
{
	size_t usable = 0, best = 1, most;

	while (usable < p->rank && usable + 3 <= p->n &&
	       p->sigma[usable] > SIGMA_MIN * p->sigma[0])
		usable++;
	w->report.n_ckf = pca_ckf(p, w->report.ckf, DETECT_CKF);
	most = w->o->lv_most ? MIN(usable, w->o->lv_most) : usable;
	for (size_t a = 2; a < w->report.n_ckf && a <= most; a++) {
		if (w->report.ckf[a] < w->report.ckf[best])
			best = a;
	}
	*lv = w->o->lv == DETECT_LV_AUTO ? best : w->o->lv;
	w->why.lv = *lv;
	w->why.usable = usable;
	return *lv <= usable ? DETECT_OK : DETECT_LV;
}

static void copy_components(struct detect_model *model, const struct pca *p,
			    struct detect_report *report)
{
	double first = 0, all = 0;

	memcpy(model->mean, p->mean, p->m * sizeof(*p->mean));
	memcpy(model->scale, p->scale, p->m * sizeof(*p->scale));
	memcpy(model->constant, p->constant, p->m * sizeof(*p->constant));
	for (size_t a = 0; a < p->rank; a++) {
		const double l = p->sigma[a] * p->sigma[a] / (model->n - 1);

		model->eigenvalues[a] = l;
		all += l;
		first += a < model->lv ? l : 0;
		for (size_t j = 0; j < p->c; j++)
			model->loadings[a * p->m + p->column[j]] =
				p->vector[a * p->c + j];
	}
	report->explained = first / all;
}

static int make_model(struct work *w, const struct pca *p, size_t lv)
{
	const struct detect_options *o = w->o;
	struct detect_model *model;
	struct detect_limits *l;
	int r;

	model = detect_model_new(p->m, p->rank, w->n_read - w->n);
	if (!model)
		return -ENOMEM;
	model->n = (double)w->n;
	model->prep = o->prep;
	model->lv = lv;
	model->alpha_q = o->alpha_q;
	model->alpha_d = o->alpha_d;
	model->phase = o->phase;
	model->rows_read = w->n_read;
	model->rows_used = w->n;
	copy_components(model, p, &w->report);
	if (model->eigenvalues[lv - 1] < ILL * model->eigenvalues[0])
		model->quality |= DETECT_ILL;
	if (w->n < w->n_read)
		model->quality |= DETECT_CLEANED;
	for (size_t i = 0, k = 0, d = 0; i < w->n_read; i++) {
		if (k < w->n && w->pick[k] == i)
			k++;
		else
			model->dropped[d++] = (uint32_t)(o->first_row + i);
	}
	l = &model->limits;
	l->active = o->active;
	r = isfinite(model->eigenvalues[0]) ? DETECT_OK : DETECT_RANGE;
	if (!r)
		r = detect_limits_q(model->eigenvalues + lv, p->rank - lv,
				    o->alpha_q, l);
	if (!r)
		r = detect_limits_d(model->n, lv, o->alpha_d, l);
	if (r) {
		detect_model_free(model);
		return r;
	}
	detect_limits_choose(l, o->phase);
	detect_model_free(w->model);
	w->model = model;
	return DETECT_OK;
}

static int fit(struct work *w)
{
	struct pca p;
	size_t lv = 0;
	int r;

	r = pca_fit(&p, w->rows, w->pick, w->n, w->m, w->o->prep);
	if (!r)
		r = choose_lv(w, &p, &lv);
	if (!r)
		r = make_model(w, &p, lv);
	pca_free(&p);
	return r;
}

/* --- the rows themselves ------------------------------------------------- */

static int judge_rows(struct work *w)
{
	for (size_t i = 0; i < w->n; i++) {
		int r = detect_judge(w->model, w->rows + w->pick[i] * w->m,
				     w->row, w->row + w->m, w->stats + i);

		if (r)
			return r;
	}
	return DETECT_OK;
}

static bool few(const struct work *w, double alpha)
{
	/* a hair less: 10 / 0.07 rows are enough though rounding says not */
	return (double)w->n * alpha < PER_ALPHA * (1 - 1e-12);
}

/*
 * Each tenth of the rows, judged by a model of the others.  Of few rows their
 * own statistics say little: a model of sixty knows all sixty by heart, and an
 * event that one of them had is as new to the others as the next will be.  No
 * outcome but -ENOMEM: where the others make no model, *done is false.
 */
static int judge_folds(struct work *w, struct detect_stats *out, bool *done)
{
	struct detect_options o = *w->o;
	size_t *others = calloc(w->n, sizeof(*others));
	int r = others ? DETECT_OK : -ENOMEM;

	o.lv = w->model->lv;
	for (size_t f = 0; !r && f < FOLDS; f++) {
		const size_t from = f * w->n / FOLDS;
		const size_t to = (f + 1) * w->n / FOLDS;
		struct work part = { .rows = w->rows,
				     .n_read = w->n_read,
				     .m = w->m,
				     .o = &o,
				     .pick = others,
				     .n = w->n - (to - from) };

		memcpy(others, w->pick, from * sizeof(*others));
		memcpy(others + from, w->pick + to,
		       (w->n - to) * sizeof(*others));
		if (from < to)
			r = fit(&part);
		for (size_t i = from; i < to && !r; i++)
			r = detect_judge(part.model,
					 w->rows + w->pick[i] * w->m, w->row,
					 w->row + w->m, out + i);
		detect_model_free(part.model);
	}
	free(others);
	*done = !r;
	return r < 0 ? r : DETECT_OK;
}

static double percentile(struct work *w, const struct detect_stats *stats,
			 bool is_q, double alpha)
{
	for (size_t i = 0; i < w->n; i++)
		w->sorted[i] = is_q ? stats[i].q : stats[i].d;
	return detect_percentile(w->sorted, w->n, alpha);
}

/* The same of folds, without the share that cleaning may leave out. */
static double percentile_folds(struct work *w, const struct detect_stats *folds,
			       bool is_q, double alpha)
{
	const double limit = is_q ? w->model->limits.ucl_q
				  : w->model->limits.ucl_d;
	size_t budget = (size_t)(w->o->clean * (double)w->n_read);
	double found = percentile(w, folds, is_q, alpha);
	size_t n = w->n;

	/* they are sorted now */
	for (; budget && w->sorted[n - 1] > DROP_FACTOR * limit; budget--)
		found = detect_percentile(w->sorted, --n, alpha);
	return found;
}

static int empirical_limits(struct work *w)
{
	struct detect_model *model = w->model;
	struct detect_limits *l = &model->limits;
	const bool q_few = few(w, model->alpha_q),
		   d_few = few(w, model->alpha_d);
	const bool has_q = l->q_method != DETECT_Q_UNDEFINED;
	struct detect_stats *folds = NULL;
	bool done = false;
	int r = DETECT_OK;

	if (l->active != DETECT_THEORY && (d_few || (q_few && has_q)))
		model->quality |= DETECT_FEW;
	if (w->o->cross && l->active != DETECT_THEORY && (q_few || d_few)) {
		folds = calloc(w->n, sizeof(*folds));
		r = folds ? judge_folds(w, folds, &done) : -ENOMEM;
	}
	if (has_q && !q_few)
		l->q_empirical = percentile(w, w->stats, true, model->alpha_q);
	else if (has_q && done)
		l->q_empirical =
			percentile_folds(w, folds, true, model->alpha_q);
	if (!d_few)
		l->d_empirical = percentile(w, w->stats, false, model->alpha_d);
	else if (done)
		l->d_empirical =
			percentile_folds(w, folds, false, model->alpha_d);
	free(folds);
	return r;
}

static int finish_limits(struct work *w)
{
	struct detect_model *model = w->model;
	struct detect_limits *l = &model->limits;
	int r = empirical_limits(w);

	if (r)
		return r;
	detect_limits_choose(l, model->phase);
	for (size_t i = 0; i < w->n; i++) {
		model->exceed.q += w->stats[i].q > l->ucl_q;
		model->exceed.d += w->stats[i].d > l->ucl_d;
	}
	return DETECT_OK;
}

/* --- cleaning ------------------------------------------------------------ */

/* How far a row is beyond the limits, as a multiple of them. */
static double excess(const struct detect_model *model,
		     const struct detect_stats *s)
{
	double d = s->d / model->limits.d_phase1;

	/* fmax() passes over a NAN: no limit */
	return fmax(d, s->q / model->limits.ucl_q);
}

struct outlier {
	double excess;
	size_t at; /* in pick */
};

static int compare_outliers(const void *a, const void *b)
{
	const struct outlier *x = a, *y = b;

	if (x->excess > y->excess || x->excess < y->excess)
		return x->excess > y->excess ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

/* Takes the worst rows, at most `most`, out of pick.  Returns how many. */
static size_t drop_worst(struct work *w, struct outlier *list, size_t most)
{
	size_t count = 0, kept = 0;

	for (size_t i = 0; i < w->n; i++) {
		const double x = excess(w->model, w->stats + i);

		if (x > DROP_FACTOR)
			list[count++] = (struct outlier){ x, i };
	}
	qsort(list, count, sizeof(*list), compare_outliers);
	count = MIN(count, most);
	for (size_t i = 0; i < count; i++)
		w->pick[list[i].at] = SIZE_MAX;
	for (size_t i = 0; i < w->n; i++) {
		if (w->pick[i] != SIZE_MAX)
			w->pick[kept++] = w->pick[i];
	}
	w->n = kept;
	return count;
}

/*
 * A round that cannot be fitted leaves the model of the round before, and that
 * says which rows it is made of.
 */
static int clean(struct work *w)
{
	size_t budget = (size_t)(w->o->clean * (double)w->n_read);
	struct outlier *list = calloc(w->n_read, sizeof(*list));
	size_t *before = calloc(w->n_read, sizeof(*before));
	int r = list && before ? DETECT_OK : -ENOMEM;

	for (int round = 0; !r && round < ROUNDS; round++) {
		const struct detect_report report = w->report;
		const size_t n = w->n;
		size_t dropped;

		memcpy(before, w->pick, n * sizeof(*before));
		dropped = drop_worst(w, list, budget);
		if (!dropped)
			break;
		budget -= dropped;
		r = fit(w);
		if (r > 0) {
			memcpy(w->pick, before, n * sizeof(*before));
			w->n = n;
			w->report = report;
			r = DETECT_OK;
			break;
		}
		if (!r)
			r = judge_rows(w);
	}
	free(list);
	free(before);
	return r;
}

int detect_calibrate(const double *rows, size_t n, size_t m,
		     const struct detect_options *options,
		     struct detect_model **model, struct detect_report *report,
		     struct detect_reason *why)
{
	struct work w = { .rows = rows, .n_read = n, .m = m, .o = options };
	int r = check_input(&w);

	if (r)
		goto out;
	w.n = n;
	w.pick = calloc(n, sizeof(*w.pick));
	w.stats = calloc(n, sizeof(*w.stats));
	w.sorted = calloc(n, sizeof(*w.sorted));
	w.row = calloc(2 * m, sizeof(*w.row));
	if (!w.pick || !w.stats || !w.sorted || !w.row) {
		r = -ENOMEM;
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		w.pick[i] = i;
	r = fit(&w);
	if (!r)
		r = judge_rows(&w);
	if (!r && options->clean > 0)
		r = clean(&w);
	if (!r)
		r = finish_limits(&w);
	if (r)
		goto out;
	*model = w.model;
	w.model = NULL;
	if (report)
		*report = w.report;
out:
	if (r && why)
		*why = w.why;
	free(w.pick);
	free(w.stats);
	free(w.sorted);
	free(w.row);
	detect_model_free(w.model);
	return r;
}
