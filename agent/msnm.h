/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSNM in the agent: the counters of this host, an interval at a time, against
 * a model of normal intervals; a parent takes what its children say of the
 * same interval.  Messages of POST / and resources of /api/v1/msnm are two
 * ways to reach the same.
 */
#ifndef LINNET_MSNM_H
#define LINNET_MSNM_H

#include <stddef.h>

#include "agent/fields.h"
#include "agent/http.h"

struct agent;
struct msnm;

/* After the registry; loads the model.  0 or -errno. */
int msnm_open(struct msnm **out, struct agent *a);
void msnm_free(struct msnm *m);
/* A task came, went or has other parameters; before msnm_open(): nothing. */
void msnm_tasks_changed(struct agent *a);

enum msnm_message {
	MSNM_CONFIG,
	MSNM_QUERY,
	MSNM_DIAGNOSIS,
	MSNM_CALIBRATE
};
/* A message of POST /, its fields decoded; answers rq, now or later. */
void msnm_message(struct agent *a, struct http_request *rq,
		  enum msnm_message what, const struct fields *f,
		  uint32_t budget_ms);

/* /api/v1/msnm…, /api/v1/alerts, and what agents ask each other. */
extern const struct http_route msnm_routes[];
extern const size_t msnm_n_routes;

#endif
