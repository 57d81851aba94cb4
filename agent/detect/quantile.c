/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Quantiles by r-mathlib, the only file that knows it.  That library prints
 * when it is asked something without an answer, so nothing such reaches it.
 */
#include "agent/detect/quantile.h"

#include <math.h>
#include <stdbool.h>

#define MATHLIB_STANDALONE 1
#include <Rmath.h>

#define UPPER 0, 0 /* lower_tail, log_p */

static bool is_share(double alpha)
{
	return alpha > 0 && alpha < 1;
}

static bool is_df(double df)
{
	return df > 0 && df < 1e15;
}

double quantile_normal(double alpha)
{
	return is_share(alpha) ? qnorm(alpha, 0, 1, UPPER) : NAN;
}

double quantile_chi2(double alpha, double df)
{
	return is_share(alpha) && is_df(df) ? qchisq(alpha, df, UPPER) : NAN;
}

double quantile_f(double alpha, double df1, double df2)
{
	if (!is_share(alpha) || !is_df(df1) || !is_df(df2))
		return NAN;
	return qf(alpha, df1, df2, UPPER);
}

double quantile_beta(double alpha, double a, double b)
{
	if (!is_share(alpha) || !is_df(a) || !is_df(b))
		return NAN;
	return qbeta(alpha, a, b, UPPER);
}
