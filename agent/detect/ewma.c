/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dynamic calibration.  The state is the exact weighted mean and scatter in raw
 * units; scales are made for each model and never go back into it, where an
 * invented one would decay batch by batch until a single packet is beyond
 * every limit.  The correlation matrix may be solved for eigenvalues directly
 * because it is scaled.
 */
#include "agent/detect/ewma.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/lapack.h"
#include "agent/detect/limits.h"
#include "agent/detect/pca.h"

#define NO_SPREAD 1e-10 /* of the mean */

struct detect_ewma {
	size_t m;
	double n;
	double *mean;    /* [m] */
	double *scatter; /* [m][m]; the lower triangle is kept */
};

struct detect_ewma *detect_ewma_new(size_t m)
{
	struct detect_ewma *state;

	if (!m || m > DETECT_MAX_COLUMNS)
		return NULL;
	state = calloc(1, sizeof(*state) + (m + m * m) * sizeof(double));
	if (!state)
		return NULL;
	state->m = m;
	state->mean = (double *)(state + 1);
	state->scatter = state->mean + m;
	return state;
}

struct detect_ewma *detect_ewma_from_model(const struct detect_model *model)
{
	struct detect_ewma *state = detect_ewma_new(model->m);
	const size_t m = model->m;

	if (!state)
		return NULL;
	state->n = model->n;
	memcpy(state->mean, model->mean, m * sizeof(*state->mean));
	for (size_t a = 0; a < model->rank; a++) {
		const double *p = model->loadings + a * m;
		const double l = model->eigenvalues[a] * (model->n - 1);

		for (size_t i = 0; i < m; i++) {
			const double f = l * p[i] * model->scale[i];

			for (size_t j = 0; j <= i; j++)
				state->scatter[i * m + j] +=
					f * p[j] * model->scale[j];
		}
	}
	return state;
}

void detect_ewma_free(struct detect_ewma *state)
{
	free(state);
}

double detect_ewma_n(const struct detect_ewma *state)
{
	return state->n;
}

bool detect_warming(const struct detect_model *model)
{
	return model->n < 3 * (double)model->lv + 10;
}

/* --- learning ------------------------------------------------------------ */

static int check_batch(const struct detect_ewma *state, const double *rows,
		       size_t n, const struct detect_ewma_options *o,
		       struct detect_reason *why)
{
	if (o->prep < 1 || o->prep > 2 || !o->lv || o->phase < 1 ||
	    o->phase > 2 || !(o->lambda > 0 && o->lambda <= 1) ||
	    !(o->alpha_q > 0 && o->alpha_q <= 0.5) ||
	    !(o->alpha_d > 0 && o->alpha_d <= 0.5))
		return DETECT_OPTION;
	why->lv = o->lv;
	if (n < 3 || o->lv > n - 2) {
		why->usable = n < 3 ? 0 : n - 2;
		return DETECT_BATCH;
	}
	if (n > DETECT_MAX_CELLS / state->m)
		return DETECT_SIZE;
	for (size_t i = 0; i < n * state->m; i++) {
		if (fabs(rows[i]) <= DETECT_MAX_VALUE)
			continue;
		why->row = i / state->m;
		why->column = i % state->m;
		return isnan(rows[i]) ? DETECT_MISSING : DETECT_VALUE;
	}
	return DETECT_OK;
}

/* The state after a batch, in *next; d: m doubles of scratch. */
static void add_batch(const struct detect_ewma *state, const double *rows,
		      size_t n, double lambda, struct detect_ewma *next,
		      double *d)
{
	const size_t m = state->m;
	const double n0 = lambda * state->n, b = (double)n;
	double *mean = next->mean, *s = next->scatter, shift;

	next->n = n0 + b;
	shift = n0 * b / next->n;
	for (size_t i = 0; i < n * m; i++)
		mean[i % m] += rows[i];
	for (size_t j = 0; j < m; j++) {
		mean[j] /= b;
		d[j] = state->mean[j] - mean[j];
	}
	for (size_t i = 0; i < m; i++) {
		for (size_t j = 0; j <= i; j++)
			s[i * m + j] = lambda * state->scatter[i * m + j] +
				       shift * d[i] * d[j];
	}
	for (size_t k = 0; k < n; k++) {
		for (size_t j = 0; j < m; j++)
			d[j] = rows[k * m + j] - mean[j];
		for (size_t i = 0; i < m; i++) {
			for (size_t j = 0; j <= i; j++)
				s[i * m + j] += d[i] * d[j];
		}
	}
	for (size_t j = 0; j < m; j++)
		mean[j] = (n0 * state->mean[j] + b * mean[j]) / next->n;
}

/* --- the model of a state ------------------------------------------------ */

struct spectrum {
	size_t c, rank;
	size_t *column; /* [c] */
	double *scale;  /* [m] */
	double *r;      /* [c][c] */
	double *value;  /* [c] */
	double *vector; /* [c][c] */
};

static void spectrum_free(struct spectrum *s)
{
	free(s->column);
	free(s->scale);
	free(s->r);
	free(s->value);
	free(s->vector);
}

static void choose_columns(const struct detect_ewma *state, unsigned prep,
			   struct spectrum *s)
{
	const double floor = sqrt(1 / (2 * state->n - 1));

	for (size_t j = 0; j < state->m; j++) {
		const double sd =
			sqrt(state->scatter[j * state->m + j] / (state->n - 1));

		s->scale[j] = prep == 2 ? fmax(sd, floor) : 1;
		if (sd > NO_SPREAD * fabs(state->mean[j]))
			s->column[s->c++] = j;
	}
}

static int solve(const struct detect_ewma *state, unsigned prep,
		 struct spectrum *s)
{
	const size_t m = state->m;
	double least;
	int r;

	s->column = calloc(m, sizeof(*s->column));
	s->scale = calloc(m, sizeof(*s->scale));
	if (!s->column || !s->scale)
		return -ENOMEM;
	choose_columns(state, prep, s);
	if (!s->c)
		return DETECT_CONSTANT;
	s->r = calloc(s->c, s->c * sizeof(*s->r));
	s->value = calloc(s->c, sizeof(*s->value));
	s->vector = calloc(s->c, s->c * sizeof(*s->vector));
	if (!s->r || !s->value || !s->vector)
		return -ENOMEM;
	for (size_t i = 0; i < s->c; i++) {
		const size_t x = s->column[i];

		for (size_t j = 0; j <= i; j++) {
			const size_t y = s->column[j];
			const double v = state->scatter[x * m + y] /
					 (state->n - 1) / s->scale[x] /
					 s->scale[y];

			if (!isfinite(v))
				return DETECT_RANGE;
			s->r[i * s->c + j] = s->r[j * s->c + i] = v;
		}
	}
	r = lapack_eigen(s->r, s->c, s->value, s->vector);
	if (r)
		return r;
	least = 4 * (double)m * DBL_EPSILON * s->value[0];
	while (s->rank < s->c && s->value[s->rank] > least)
		s->rank++;
	for (size_t a = 0; a < s->rank; a++)
		pca_fix_sign(s->vector + a * s->c, s->c);
	return s->rank ? DETECT_OK : DETECT_CONSTANT;
}

static void copy_spectrum(struct detect_model *model,
			  const struct detect_ewma *state,
			  const struct spectrum *s)
{
	const size_t m = model->m;

	memcpy(model->mean, state->mean, m * sizeof(*model->mean));
	memcpy(model->scale, s->scale, m * sizeof(*model->scale));
	memset(model->constant, true, m * sizeof(*model->constant));
	for (size_t j = 0; j < s->c; j++)
		model->constant[s->column[j]] = false;
	for (size_t a = 0; a < s->rank; a++) {
		model->eigenvalues[a] = s->value[a];
		for (size_t j = 0; j < s->c; j++)
			model->loadings[a * m + s->column[j]] =
				s->vector[a * s->c + j];
	}
}

static int make_model(const struct detect_ewma *state,
		      const struct detect_ewma_options *o,
		      struct detect_model **out, struct detect_reason *why)
{
	struct spectrum s = { 0 };
	struct detect_model *model = NULL;
	int r = solve(state, o->prep, &s);

	if (r)
		goto out;
	why->usable = s.rank;
	r = DETECT_LV;
	if (o->lv > s.rank)
		goto out;
	r = -ENOMEM;
	model = detect_model_new(state->m, s.rank, 0);
	if (!model)
		goto out;
	copy_spectrum(model, state, &s);
	model->n = state->n;
	model->prep = o->prep;
	model->lv = o->lv;
	model->alpha_q = o->alpha_q;
	model->alpha_d = o->alpha_d;
	model->phase = o->phase;
	r = detect_limits_q(s.value + o->lv, s.rank - o->lv, o->alpha_q,
			    &model->limits);
	if (!r)
		r = detect_limits_d(state->n, o->lv, o->alpha_d,
				    &model->limits);
	if (r)
		goto out;
	detect_limits_choose(&model->limits, o->phase);
	*out = model;
	model = NULL;
out:
	detect_model_free(model);
	spectrum_free(&s);
	return r;
}

int detect_ewma_learn(struct detect_ewma *state, const double *rows, size_t n,
		      const struct detect_ewma_options *options,
		      struct detect_model **model, struct detect_reason *why)
{
	const size_t m = state->m;
	struct detect_reason reason = { 0 };
	struct detect_ewma *next = NULL;
	struct detect_model *made = NULL;
	double *d = NULL;
	int r = check_batch(state, rows, n, options, &reason);

	if (r)
		goto out;
	next = detect_ewma_new(m);
	d = calloc(m, sizeof(*d));
	r = -ENOMEM;
	if (!next || !d)
		goto out;
	add_batch(state, rows, n, options->lambda, next, d);
	r = make_model(next, options, &made, &reason);
	/* what is too little for a model yet must still add up */
	if (r && r != DETECT_LV && r != DETECT_CONSTANT)
		goto out;
	state->n = next->n;
	memcpy(state->mean, next->mean, m * sizeof(*state->mean));
	memcpy(state->scatter, next->scatter, m * m * sizeof(*state->scatter));
	if (r)
		goto out;
	made->rows_read = made->rows_used = n;
	*model = made;
out:
	if (r && why)
		*why = reason;
	detect_ewma_free(next);
	free(d);
	return r;
}
