/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control limits.  For Q a power of it is taken as normal (Jackson and
 * Mudholkar, 1979; the power h0 keeps its sign); where that power nears 0 or is
 * negative the form is far off, and Box's weighted chi-square (1954) is used.
 * For D those of Hotelling's T2: F for new rows, beta for the rows that the
 * model was made of.
 */
#include "agent/detect/limits.h"

#include <math.h>
#include <stdlib.h>

#include "agent/detect/quantile.h"

#define H0_MIN 0.001 /* below: Box */

static bool is_limit(double v)
{
	return isfinite(v) && v > 0;
}

static double limit_jm(const struct detect_limits *l, double alpha)
{
	const double t1 = l->theta[0], t2 = l->theta[1], h0 = l->h0;
	double bracket = quantile_normal(alpha) * h0 * sqrt(2 * t2) / t1 + 1 +
			 t2 * h0 * (h0 - 1) / (t1 * t1);

	return bracket > 0 ? t1 * pow(bracket, 1 / h0) : NAN;
}

int detect_limits_q(const double *eigenvalues, size_t count, double alpha,
		    struct detect_limits *limits)
{
	struct detect_limits l = *limits;
	double *t = l.theta;

	t[0] = t[1] = t[2] = 0;
	l.h0 = l.q_jm = l.q_box = NAN;
	l.q_method = DETECT_Q_UNDEFINED;
	if (!count)
		goto done;
	/* the smallest first: they are many orders apart */
	for (size_t i = count; i-- > 0;) {
		const double v = eigenvalues[i];

		t[0] += v;
		t[1] += v * v;
		t[2] += v * v * v;
	}
	for (int i = 0; i < 3; i++) {
		if (!is_limit(t[i]))
			return DETECT_RANGE;
	}
	l.h0 = 1 - 2 * (t[0] / t[1]) * (t[2] / t[1]) / 3;
	l.q_box = t[1] / t[0] * quantile_chi2(alpha, t[0] / t[1] * t[0]);
	l.q_jm = limit_jm(&l, alpha);
	l.q_method = l.h0 < H0_MIN || isnan(l.q_jm) ? DETECT_Q_BOX
						    : DETECT_Q_JM;
	if (!isfinite(l.h0) || !is_limit(l.q_box))
		return DETECT_RANGE;
done:
	*limits = l;
	return DETECT_OK;
}

int detect_limits_d(double n, size_t lv, double alpha,
		    struct detect_limits *limits)
{
	const double a = (double)lv;
	double phase1 = (n - 1) * (n - 1) / n *
			quantile_beta(alpha, a / 2, (n - a - 1) / 2);
	double phase2 =
		a * (n * n - 1) / (n * (n - a)) * quantile_f(alpha, a, n - a);

	if (!is_limit(phase1) || !is_limit(phase2))
		return DETECT_RANGE;
	limits->d_phase1 = phase1;
	limits->d_phase2 = phase2;
	return DETECT_OK;
}

/* An empirical limit of 0 would make every row an outlier. */
static double choose(enum detect_active active, double theory, double empirical)
{
	if (active == DETECT_THEORY || !is_limit(empirical))
		return theory;
	return active == DETECT_MAX ? fmax(theory, empirical) : empirical;
}

void detect_limits_choose(struct detect_limits *limits, unsigned phase)
{
	double d = phase == 1 ? limits->d_phase1 : limits->d_phase2;
	double q = limits->q_method == DETECT_Q_JM ? limits->q_jm
						   : limits->q_box;

	limits->ucl_d = choose(limits->active, d, limits->d_empirical);
	limits->ucl_q =
		limits->q_method == DETECT_Q_UNDEFINED
			? NAN
			: choose(limits->active, q, limits->q_empirical);
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double detect_percentile(double *values, size_t n, double alpha)
{
	double at = (double)(n - 1) * (1 - alpha), part;
	size_t low = (size_t)at;

	qsort(values, n, sizeof(*values), compare);
	if (low + 1 >= n)
		return values[n - 1];
	part = at - (double)low;
	return values[low] + part * (values[low + 1] - values[low]);
}
