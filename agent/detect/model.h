/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The model: what calibration makes and judging reads.  Immutable once made;
 * any number of threads may read it.  Figures that are not defined are NAN and
 * nothing else ever is: a comparison with them is false, a file has null.
 */
#ifndef LINNET_DETECT_MODEL_H
#define LINNET_DETECT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/detect/detect.h"

enum detect_active { /* which limits are active */
	DETECT_THEORY,
	DETECT_EMPIRICAL,
	DETECT_MAX, /* the larger of both */
};

enum detect_q_method {
	DETECT_Q_UNDEFINED, /* lv = rank: no residual, no limit */
	DETECT_Q_JM,        /* Jackson and Mudholkar */
	DETECT_Q_BOX,
};

enum detect_quality {       /* bits */
	DETECT_FEW = 1,     /* fewer than 10 / alpha rows: limits by theory */
	DETECT_CLEANED = 2, /* rows were dropped */
	DETECT_ILL = 4,     /* l_A < 1e-10 l_1 */
};

struct detect_limits {
	enum detect_active active; /* as asked */
	double ucl_q, ucl_d;       /* in force; ucl_q NAN: undefined */
	enum detect_q_method q_method;
	double q_jm, q_box; /* NAN: not defined */
	double theta[3], h0;
	double q_empirical, d_empirical; /* NAN: too few rows, or dynamic */
	double d_phase1, d_phase2;
};

struct detect_schema {
	uint64_t hash;
	char semantics[24]; /* "csv", "packets/1", "netflow/1" */
	uint32_t window_s;  /* 0: unknown */
	char **names;       /* m of them; NULL: not set */
};

struct detect_model {
	double n;      /* rows, or sum of weights */
	size_t m;      /* columns */
	unsigned prep; /* 0 none, 1 centred, 2 centred and scaled */
	size_t lv, rank;
	double alpha_q, alpha_d;
	unsigned phase;       /* 1 or 2: which limit of D is active */
	double *mean, *scale; /* [m] */
	bool *constant;       /* [m] */
	double *eigenvalues;  /* [rank], descending */
	double *loadings;     /* [rank][m], 0 in constant columns */
	struct detect_limits limits;
	struct {
		size_t q, d;
	} exceed; /* calibration rows over the active limits */
	size_t rows_read, rows_used, n_dropped;
	uint32_t *dropped; /* [n_dropped], ascending */
	unsigned quality;  /* bits */
	/* set by the user of the library before the model is shared */
	struct detect_schema schema;
	uint64_t created_ms; /* wall clock */
	uint64_t generation, revision;
};

/*
 * A model of these dimensions with all else 0 and every double that may be
 * undefined NAN.  Its arrays are one piece with it.  NULL: no memory, or m,
 * rank or n_dropped out of bounds (1 <= rank <= m <= DETECT_MAX_COLUMNS).
 */
struct detect_model *detect_model_new(size_t m, size_t rank, size_t n_dropped);
/* Frees the model and the names of its schema; NULL is allowed. */
void detect_model_free(struct detect_model *model);

/* The positions of constant columns, as a count. */
size_t detect_model_constants(const struct detect_model *model);

/*
 * FNV-1a 64 over little-endian doubles: n, prep, lv, mean, scale, eigenvalues,
 * loadings by column (of the latent space: one eigenvector after another).
 */
uint64_t detect_model_id(const struct detect_model *model);

/*
 * Checks the numbers of a model that came from outside: dimensions, finite,
 * order, scale, orthonormal loadings (1e-8), limits recomputed (1e-6).  0 or
 * an outcome.  The hash of the schema is checked by detect_schema_hash().
 */
int detect_model_check(const struct detect_model *model);

/* Copies the m names and sets the hash; 0, DETECT_SIZE or -ENOMEM. */
int detect_model_set_schema(struct detect_model *model, const char *semantics,
			    uint32_t window_s, char *const *names);
/* FNV-1a 64 over semantics, window and names, each ended by a line feed. */
uint64_t detect_schema_hash(const char *semantics, uint32_t window_s,
			    char *const *names, size_t m);

#endif
