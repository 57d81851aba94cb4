/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Matrices to calibrate on, and what is to be expected of them. */
#ifndef LINNET_TEST_DETECT_SAMPLES_H
#define LINNET_TEST_DETECT_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/detect/model.h"

/* What the messages of a failure begin with. */
extern const char *sample_name;

/* The test fails unless |v - want| is within the bound, or bound * |want|. */
void near_abs(const char *what, double v, long double want, double bound);
void near(const char *what, double v, long double want, double bound);

/* Orthogonal columns of +1 and -1, n a power of two, k in 1 .. n-1. */
double walsh(size_t i, size_t k);
/* Three hidden causes and some noise. */
void fill_mixed(double *x, size_t n, size_t m);

struct sample {
	const char *name;
	size_t n, m;
	unsigned prep;
	size_t lv, rank;
	void (*fill)(double *x, size_t n, size_t m);
	enum detect_q_method method;
	double tail;    /* of eigenvalues after lv, relative */
	double bound;   /* of all others */
	bool is_unique; /* each loading is defined, not only their plane */
};

#define SAMPLES 11
extern const struct sample samples[SAMPLES];

#endif
