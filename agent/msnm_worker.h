/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One calibration at a time, in a process of its own. */
#ifndef LINNET_MSNM_WORKER_H
#define LINNET_MSNM_WORKER_H

#include "agent/msnm_engine.h"
#include "common/loop.h"

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
