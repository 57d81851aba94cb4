/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control limits of Q and D. */
#ifndef LINNET_DETECT_LIMITS_H
#define LINNET_DETECT_LIMITS_H

#include "agent/detect/model.h"

/*
 * Fills theta, h0, q_method, q_jm, q_box from the `count` eigenvalues that the
 * model leaves out (0: undefined, all NAN but theta, which is 0).  0 or
 * DETECT_RANGE.
 */
int detect_limits_q(const double *eigenvalues, size_t count, double alpha,
		    struct detect_limits *limits);
/*
 * Fills d_phase1 and d_phase2 for n rows (may be fractional), n > lv + 1.
 * 0 or DETECT_RANGE.
 */
int detect_limits_d(double n, size_t lv, double alpha,
		    struct detect_limits *limits);

/*
 * The active limits by theory from what the two functions above found; with
 * q_empirical, d_empirical set (not NAN) and active not theory, by those.
 */
void detect_limits_choose(struct detect_limits *limits, unsigned phase);

/* Percentile 1-alpha of n values, interpolated linearly; sorts them. */
double detect_percentile(double *values, size_t n, double alpha);

#endif
