/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which columns made a row what it is. */
#ifndef LINNET_DETECT_DIAGNOSE_H
#define LINNET_DETECT_DIAGNOSE_H

#include "agent/detect/judge.h"

#define DETECT_TOP 8

enum detect_by {
	DETECT_BY_RESIDUAL,
	DETECT_BY_OMEDA,
};

struct detect_contribution {
	size_t column;
	double value; /* signed */
};

struct detect_top {
	enum detect_by by;
	size_t n;                                   /* min(DETECT_TOP, m) */
	struct detect_contribution top[DETECT_TOP]; /* largest first */
};

/*
 * From z and e of detect_judge(), m doubles each: omeda (2z-u)|u|, residual
 * e|e|, univariate z|z|.  Each writes m finite doubles to out.
 */
void detect_omeda(const struct detect_model *model, const double *z,
		  double *out);
void detect_signed_squares(const double *v, size_t m, double *out);

/* Residual if q/ucl_q >= d/ucl_d or ucl_d is undefined, else omeda. */
enum detect_by detect_choose(const struct detect_model *model,
			     const struct detect_stats *stats);
/* "residual", "omeda". */
const char *detect_by_text(enum detect_by by);

/*
 * The n largest of m values by magnitude, largest first, ties by position.
 * Returns how many were written: min(n, m).
 */
size_t detect_largest(const double *value, size_t m,
		      struct detect_contribution *out, size_t n);

/* The rule and the 8 largest; work: m doubles that are overwritten. */
void detect_diagnose(const struct detect_model *model,
		     const struct detect_stats *stats, const double *z,
		     const double *e, double *work, struct detect_top *out);

#endif
