/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Multivariate statistical monitoring: a PCA model of normal rows, and the
 * statistics of a row against it.  What the parts of the library share: its
 * outcomes and its bounds.  Matrices are row-major, a row is m doubles.
 *
 * Nothing is shared between calls but models, which do not change: rows may be
 * judged, filled and diagnosed in any thread.  Calibrate and learn in one
 * thread at a time: the algebra library behind them need not lock.
 */
#ifndef LINNET_DETECT_H
#define LINNET_DETECT_H

#include <stddef.h>

#define DETECT_MAX_CELLS   (1u << 25) /* of a matrix of rows */
#define DETECT_MAX_COLUMNS 4096u
#define DETECT_MAX_VALUE   1e150 /* of a cell, by magnitude */
/* Columns whose values all are below have no square: they count as zero. */
#define DETECT_MIN_VALUE   1e-140

/*
 * Documented outcomes; every function of the library that returns int returns
 * 0, one of these, or -errno (-ENOMEM).
 */
enum detect_error {
	DETECT_OK = 0,
	DETECT_OPTION,   /* option out of range */
	DETECT_SIZE,     /* no row, no column, or more than the bounds above */
	DETECT_VALUE,    /* a cell is no number or too large */
	DETECT_MISSING,  /* a cell is missing and may not be */
	DETECT_CONSTANT, /* no column varies */
	DETECT_FEW_ROWS, /* too few rows for one latent variable */
	DETECT_LV,       /* too many latent variables; `usable` is possible */
	DETECT_BATCH,    /* a batch has fewer than lv + 2 rows */
	DETECT_RANGE,    /* a figure is beyond what a double holds */
	DETECT_SOLVER,   /* the decomposition did not converge */
	DETECT_MODEL_SIZE,     /* dimensions of a model disagree */
	DETECT_MODEL_NUMBER,   /* a number of a model is not finite */
	DETECT_MODEL_ORDER,    /* eigenvalues not positive and descending */
	DETECT_MODEL_SCALE,    /* a scale is not positive */
	DETECT_MODEL_LOADINGS, /* loadings not orthonormal, or not 0 where the
				* column was constant */
	DETECT_MODEL_LIMITS,   /* limits are not those of the eigenvalues */
	DETECT_ERRORS
};

/* What a refusal is about; only what belongs to the outcome is set. */
struct detect_reason {
	size_t row, column; /* of the cell (DETECT_VALUE, _MISSING) */
	size_t lv;          /* asked for (DETECT_LV, _BATCH) */
	size_t usable;      /* the largest usable number of them; 0: none */
};

/* The outcome in words without figures; also of -errno. */
const char *detect_error_text(int error);

/*
 * The outcome as one line with the figures of *why (may be NULL).  Returns
 * out.
 */
char *detect_error_format(int error, const struct detect_reason *why, char *out,
			  size_t size);

#endif
