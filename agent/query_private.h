/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by query.c (running questions) and ask.c (them on the wire). */
#ifndef LINNET_QUERY_PRIVATE_H
#define LINNET_QUERY_PRIVATE_H

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/measure.h"
#include "agent/query.h"

struct replay;

struct queries {
	struct agent *agent;
	struct query *running;
	unsigned n_running;
	struct replay *replay; /* what the parent was answered */
};

/* ask.c */
void ask_write(struct buf *b, const struct ask *ask,
	       const uint8_t query_id[16]);
int replay_open(struct replay **out, struct agent *a);
void replay_free(struct replay *r);

/* merge.c */
/*
 * Adds what a child sent, {part, coverage}, if it can be true: the answer to
 * this ask, of at most so many hosts.  MISSING_NONE, or why not, in words in
 * *why; *acc and cov are unchanged then.
 */
enum missing_reason reply_merge(const struct json *v, const struct ask *ask,
				const struct measure_row *row, uint32_t hosts,
				struct part **acc, struct coverage *cov,
				const char **why);

#endif
