/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calibration: a matrix of normal rows becomes a model. */
#ifndef LINNET_DETECT_CALIBRATE_H
#define LINNET_DETECT_CALIBRATE_H

#include "agent/detect/model.h"

#define DETECT_LV_AUTO 0
#define DETECT_CKF     11 /* values of ckf(a) at most: a = 0 .. 10 */

struct detect_options {
	unsigned prep;           /* 0, 1, 2 */
	size_t lv;               /* DETECT_LV_AUTO: by ckf */
	size_t lv_most;          /* that auto may choose; 0: no such bound */
	double alpha_q, alpha_d; /* in (0, 0.5] */
	unsigned phase;          /* 1, 2: the limit of D that is active */
	enum detect_active active;
	bool cross;       /* too few rows for empirical limits: by folds */
	double clean;     /* largest share of rows to drop, in [0, 0.5] */
	size_t first_row; /* number of the first row: added to `dropped` */
};

/* prep 2, lv auto, alpha 0.01, phase 2, theory, no cleaning. */
extern const struct detect_options detect_options_default;

/* What is told beside the model. */
struct detect_report {
	size_t n_ckf;
	double ckf[DETECT_CKF]; /* ckf(0), ckf(1), ... */
	double explained; /* share of the eigenvalues' sum in the first lv */
};

/*
 * n rows of m cells -> *model, freed with detect_model_free().  *report and
 * *why may be NULL; they and *model are only set on success and on failure
 * respectively.  The rows are not changed.  0, an outcome or -ENOMEM.
 */
int detect_calibrate(const double *rows, size_t n, size_t m,
		     const struct detect_options *options,
		     struct detect_model **model, struct detect_report *report,
		     struct detect_reason *why);

#endif
