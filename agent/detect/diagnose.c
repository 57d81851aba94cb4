/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Diagnosis: omeda for D, which is zero for what was constant and so useless
 * for Q; signed squares of the residual for Q, whose magnitudes add up to Q.
 */
#include "agent/detect/diagnose.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "common/util.h"

static double bounded(double v)
{
	return fmax(-DBL_MAX, fmin(DBL_MAX, v));
}

void detect_omeda(const struct detect_model *model, const double *z,
		  double *out)
{
	const size_t m = model->m;

	memset(out, 0, m * sizeof(*out));
	for (size_t a = 0; a < model->lv; a++) {
		const double *p = model->loadings + a * m;
		double t = 0;

		for (size_t j = 0; j < m; j++)
			t += p[j] * z[j];
		for (size_t j = 0; j < m; j++)
			out[j] += t * p[j];
	}
	for (size_t j = 0; j < m; j++)
		out[j] = bounded((2 * z[j] - out[j]) * fabs(out[j]));
}

void detect_signed_squares(const double *v, size_t m, double *out)
{
	for (size_t j = 0; j < m; j++)
		out[j] = bounded(v[j] * fabs(v[j]));
}

enum detect_by detect_choose(const struct detect_model *model,
			     const struct detect_stats *stats)
{
	const struct detect_limits *l = &model->limits;

	if (isnan(l->ucl_q))
		return DETECT_BY_OMEDA;
	if (isnan(l->ucl_d) || stats->q / l->ucl_q >= stats->d / l->ucl_d)
		return DETECT_BY_RESIDUAL;
	return DETECT_BY_OMEDA;
}

const char *detect_by_text(enum detect_by by)
{
	return by == DETECT_BY_OMEDA ? "omeda" : "residual";
}

size_t detect_largest(const double *value, size_t m,
		      struct detect_contribution *out, size_t n)
{
	size_t have = 0;

	for (size_t j = 0; j < m; j++) {
		size_t at = have;

		while (at && fabs(out[at - 1].value) < fabs(value[j]))
			at--;
		if (at == n)
			continue;
		have = MIN(have + 1, n);
		memmove(out + at + 1, out + at, (have - 1 - at) * sizeof(*out));
		out[at] = (struct detect_contribution){ j, value[j] };
	}
	return have;
}

void detect_diagnose(const struct detect_model *model,
		     const struct detect_stats *stats, const double *z,
		     const double *e, double *work, struct detect_top *out)
{
	out->by = detect_choose(model, stats);
	if (out->by == DETECT_BY_OMEDA)
		detect_omeda(model, z, work);
	else
		detect_signed_squares(e, model->m, work);
	out->n = detect_largest(work, model->m, out->top, DETECT_TOP);
}
