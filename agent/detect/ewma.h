/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dynamic calibration: weighted mean and scatter of all rows learned so far,
 * where a row's weight is lambda to the number of batches after it.
 */
#ifndef LINNET_DETECT_EWMA_H
#define LINNET_DETECT_EWMA_H

#include "agent/detect/model.h"

struct detect_ewma; /* n, mean, scatter */

struct detect_ewma_options {
	unsigned prep; /* 1, 2 */
	size_t lv;     /* at least 1 */
	double alpha_q, alpha_d;
	unsigned phase;
	double lambda; /* forgetting per batch, in (0, 1] */
};

/* An empty state of m columns; NULL: no memory or bounds. */
struct detect_ewma *detect_ewma_new(size_t m);
/* A state that begins where the model stands (prep 1, 2); NULL: no memory. */
struct detect_ewma *detect_ewma_from_model(const struct detect_model *model);
void detect_ewma_free(struct detect_ewma *state);

/* Sum of weights. */
double detect_ewma_n(const struct detect_ewma *state);

/* Fewer than 3 lv + 10 rows behind a model: its rows are `warming`. */
bool detect_warming(const struct detect_model *model);

/*
 * Learns a batch of n rows and makes the next model, with limits by theory.
 * DETECT_CONSTANT and DETECT_LV: the batch is learned but what is known allows
 * no model yet.  After any other outcome, or -ENOMEM, the state is as before.
 */
int detect_ewma_learn(struct detect_ewma *state, const double *rows, size_t n,
		      const struct detect_ewma_options *options,
		      struct detect_model **model, struct detect_reason *why);

#endif
