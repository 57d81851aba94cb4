/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Upper quantiles: x with P(X > x) = alpha; NAN where there is none. */
#ifndef LINNET_DETECT_QUANTILE_H
#define LINNET_DETECT_QUANTILE_H

double quantile_normal(double alpha);
double quantile_chi2(double alpha, double df);
double quantile_f(double alpha, double df1, double df2);
double quantile_beta(double alpha, double a, double b);

#endif
