/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One calibration at a time, in a process of its own. */
#ifndef LINNET_MSNM_WORKER_H
#define LINNET_MSNM_WORKER_H

#include "agent/msnm_engine.h"
#include "common/loop.h"

/* What a calibration or a batch needs: copied, so that it may run aside. */
struct msnm_job {
	bool learn; /* a batch on a model, else from scratch */
	double *rows;
	size_t n, m;
	struct detect_options options;
	double lambda;
	struct msnm_model *base; /* of a batch */
	struct msnm_set set;
	char semantics[24];
	uint32_t window_s;
	char **names; /* [m] */
	uint64_t generation, revision;
};
void msnm_job_free(struct msnm_job *j);

struct msnm_worker;

/*
 * Does the job (takes it) in a child process; done is called once, from the
 * loop: the model, which the callback takes, or NULL and why in words.  NULL:
 * it could not be started.
 */
struct msnm_worker *msnm_worker_start(struct loop *l, struct msnm_job *j,
				      void (*done)(void *arg,
						   struct msnm_model *model,
						   const char *why),
				      void *arg);
/* Ends it; done is not called. */
void msnm_worker_free(struct msnm_worker *w);
/* The job itself, here and now: the model or NULL with why. */
struct detect_model *msnm_job_run(const struct msnm_job *j, char *why,
				  size_t size);

#endif
