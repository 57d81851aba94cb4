/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Missing cells of a row, before it is judged.  A missing cell is a NAN. */
#ifndef LINNET_DETECT_IMPUTE_H
#define LINNET_DETECT_IMPUTE_H

#include "agent/detect/model.h"

enum detect_missing {
	DETECT_TSR,     /* trimmed scores regression */
	DETECT_AVERAGE, /* the mean */
	DETECT_ZERO,    /* x = 0 */
	DETECT_REFUSE,
};

struct detect_imputed {
	size_t n;               /* missing cells */
	enum detect_missing by; /* used: tsr falls back to average */
	double share;           /* of the variance, in [0, 1] */
};

/* "tsr" ... and back; parse returns 0 or DETECT_OPTION. */
const char *detect_missing_text(enum detect_missing by);
int detect_missing_parse(const char *text, enum detect_missing *by);

/*
 * Fills the NANs of the m cells of x.  0; DETECT_MISSING (refuse; *why has the
 * column; x unchanged) or -ENOMEM.  A row without NANs gives n = 0, share 0.
 */
int detect_impute(const struct detect_model *model, enum detect_missing by,
		  double *x, struct detect_imputed *out,
		  struct detect_reason *why);

#endif
