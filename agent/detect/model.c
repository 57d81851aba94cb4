/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The model as memory: one piece, so that it is made and freed as a whole; only
 * the names of the schema, which come later, are pieces of their own.  Checks
 * of what came from outside, and the two hashes that name a model and the
 * columns it is for.
 */
#include "agent/detect/model.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detect/limits.h"
#include "common/features.h"

#define ORTHONORMAL 1e-8 /* of the products of loadings */
#define SAME_LIMIT  1e-6 /* relative, of limits made again */

struct detect_model *detect_model_new(size_t m, size_t rank, size_t n_dropped)
{
	struct detect_model *model;
	size_t doubles;
	double *at;

	if (!m || m > DETECT_MAX_COLUMNS || !rank || rank > m ||
	    n_dropped > DETECT_MAX_CELLS)
		return NULL;
	doubles = 2 * m + rank + rank * m;
	model = calloc(1, sizeof(*model) + doubles * sizeof(*at) +
				  n_dropped * sizeof(*model->dropped) +
				  m * sizeof(*model->constant));
	if (!model)
		return NULL;
	at = (double *)(model + 1);
	model->mean = at;
	model->scale = at + m;
	model->eigenvalues = at + 2 * m;
	model->loadings = model->eigenvalues + rank;
	model->dropped = (uint32_t *)(void *)(at + doubles);
	model->constant = (bool *)(model->dropped + n_dropped);
	model->m = m;
	model->rank = rank;
	model->n_dropped = n_dropped;
	model->limits = (struct detect_limits){
		.ucl_q = NAN,
		.ucl_d = NAN,
		.q_jm = NAN,
		.q_box = NAN,
		.h0 = NAN,
		.q_empirical = NAN,
		.d_empirical = NAN,
		.d_phase1 = NAN,
		.d_phase2 = NAN,
	};
	return model;
}

static void names_free(char **names, size_t m)
{
	for (size_t j = 0; names && j < m; j++)
		free(names[j]);
	free(names);
}

void detect_model_free(struct detect_model *model)
{
	if (!model)
		return;
	names_free(model->schema.names, model->m);
	free(model);
}

size_t detect_model_constants(const struct detect_model *model)
{
	size_t count = 0;

	for (size_t j = 0; j < model->m; j++)
		count += model->constant[j];
	return count;
}

/* --- names --------------------------------------------------------------- */

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

static uint64_t fnv_double(uint64_t h, double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	for (int i = 0; i < 8; i++)
		h = (h ^ (bits >> 8 * i & 0xff)) * FNV_PRIME;
	return h;
}

static uint64_t fnv_doubles(uint64_t h, const double *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = fnv_double(h, v[i]);
	return h;
}

uint64_t detect_model_id(const struct detect_model *model)
{
	uint64_t h = fnv_double(FNV_BASIS, model->n);

	h = fnv_double(h, (double)model->prep);
	h = fnv_double(h, (double)model->lv);
	h = fnv_doubles(h, model->mean, model->m);
	h = fnv_doubles(h, model->scale, model->m);
	h = fnv_doubles(h, model->eigenvalues, model->rank);
	return fnv_doubles(h, model->loadings, model->rank * model->m);
}

uint64_t detect_schema_hash(const char *semantics, uint32_t window_s,
			    char *const *names, size_t m)
{
	uint64_t h = features_schema_begin(semantics, window_s);

	for (size_t j = 0; j < m; j++)
		h = features_schema_add(h, names[j]);
	return h;
}

int detect_model_set_schema(struct detect_model *model, const char *semantics,
			    uint32_t window_s, char *const *names)
{
	struct detect_schema *s = &model->schema;
	char **copy;

	if (strlen(semantics) >= sizeof(s->semantics))
		return DETECT_SIZE;
	copy = calloc(model->m, sizeof(*copy));
	for (size_t j = 0; copy && j < model->m; j++) {
		copy[j] = strdup(names[j]);
		if (!copy[j]) {
			names_free(copy, j);
			copy = NULL;
		}
	}
	if (!copy)
		return -ENOMEM;
	names_free(s->names, model->m);
	s->names = copy;
	s->window_s = window_s;
	snprintf(s->semantics, sizeof(s->semantics), "%s", semantics);
	s->hash = detect_schema_hash(semantics, window_s, names, model->m);
	return DETECT_OK;
}

/* --- checks -------------------------------------------------------------- */

static bool all_finite(const double *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!isfinite(v[i]))
			return false;
	}
	return true;
}

static bool is_alpha(double alpha)
{
	return alpha > 0 && alpha <= 0.5;
}

static int check_numbers(const struct detect_model *model)
{
	const size_t m = model->m, r = model->rank;

	if (!isfinite(model->n) || model->n > DETECT_MAX_CELLS ||
	    !is_alpha(model->alpha_q) || !is_alpha(model->alpha_d) ||
	    !all_finite(model->mean, m) || !all_finite(model->scale, m) ||
	    !all_finite(model->eigenvalues, r) ||
	    !all_finite(model->loadings, r * m))
		return DETECT_MODEL_NUMBER;
	for (size_t j = 0; j < m; j++) {
		if (!(model->scale[j] > 0))
			return DETECT_MODEL_SCALE;
	}
	for (size_t a = 0; a < r; a++) {
		const double *l = model->eigenvalues + a;

		if (!(*l > 0) || (a && *l > l[-1]))
			return DETECT_MODEL_ORDER;
	}
	return DETECT_OK;
}

static int check_loadings(const struct detect_model *model)
{
	const size_t m = model->m;

	for (size_t a = 0; a < model->rank; a++) {
		const double *p = model->loadings + a * m;

		for (size_t j = 0; j < m; j++) {
			if (model->constant[j] && fabs(p[j]) > 0)
				return DETECT_MODEL_LOADINGS;
		}
		for (size_t b = 0; b <= a; b++) {
			const double *q = model->loadings + b * m;
			double sum = a == b ? -1 : 0;

			for (size_t j = 0; j < m; j++)
				sum += p[j] * q[j];
			if (!(fabs(sum) <= ORTHONORMAL))
				return DETECT_MODEL_LOADINGS;
		}
	}
	return DETECT_OK;
}

static bool same(double a, double b)
{
	if (isnan(a) || isnan(b))
		return isnan(a) && isnan(b);
	return fabs(a - b) <= SAME_LIMIT * fabs(b) + DBL_MIN;
}

static bool is_empirical(double v)
{
	return isnan(v) || (isfinite(v) && v >= 0);
}

static int check_limits(const struct detect_model *model)
{
	const struct detect_limits *l = &model->limits;
	struct detect_limits again = *l;

	if (l->active > DETECT_MAX || !is_empirical(l->q_empirical) ||
	    !is_empirical(l->d_empirical) ||
	    detect_limits_q(model->eigenvalues + model->lv,
			    model->rank - model->lv, model->alpha_q, &again) ||
	    detect_limits_d(model->n, model->lv, model->alpha_d, &again))
		return DETECT_MODEL_LIMITS;
	detect_limits_choose(&again, model->phase);
	for (int i = 0; i < 3; i++) {
		if (!same(l->theta[i], again.theta[i]))
			return DETECT_MODEL_LIMITS;
	}
	if (l->q_method != again.q_method || !same(l->h0, again.h0) ||
	    !same(l->q_jm, again.q_jm) || !same(l->q_box, again.q_box) ||
	    !same(l->d_phase1, again.d_phase1) ||
	    !same(l->d_phase2, again.d_phase2) ||
	    !same(l->ucl_q, again.ucl_q) || !same(l->ucl_d, again.ucl_d))
		return DETECT_MODEL_LIMITS;
	return DETECT_OK;
}

int detect_model_check(const struct detect_model *model)
{
	int r;

	if (!model->lv || model->lv > model->rank || model->rank > model->m ||
	    model->prep > 2 || model->phase < 1 || model->phase > 2 ||
	    !(model->n - (double)model->lv >= 2))
		return DETECT_MODEL_SIZE;
	r = check_numbers(model);
	if (!r)
		r = check_loadings(model);
	return r ? r : check_limits(model);
}
