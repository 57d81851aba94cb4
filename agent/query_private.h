/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by query.c (running questions), ask.c (them on the wire), merge.c and
 * rounds.c. */
#ifndef LINNET_QUERY_PRIVATE_H
#define LINNET_QUERY_PRIVATE_H

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/measure.h"
#include "agent/overlay.h"
#include "agent/query.h"

struct replay;
struct rounds;
struct round1;

struct queries {
	struct agent *agent;
	struct query *running;
	unsigned n_running;
	struct replay *replay; /* what the parent was answered */
	struct rounds *rounds;
};

/* query.c */
/*
 * Every host of these rows that c speaks of, rows[0] and all below it, with
 * the reason why it is missing, or MISSING_NONE.
 */
void coverage_walk(const struct coverage *c, const struct host_row *rows,
		   unsigned n,
		   void (*each)(void *arg, const struct host_row *m,
				enum missing_reason r),
		   void *arg);

/* ask.c */
void ask_write(struct buf *b, const struct ask *ask,
	       const uint8_t query_id[16]);
int replay_open(struct replay **out, struct agent *a);
void replay_free(struct replay *r);

/* rounds.c */
int rounds_open(struct rounds **out, struct agent *a);
void rounds_free(struct rounds *all);
/* What is given in the first round of this question; NULL: no memory. */
struct round1 *round1_new(struct rounds *all, const uint8_t query_id[16]);
void round1_free(struct round1 *r);
/* A host or a whole child gave this; both are borrowed. */
void round1_add(struct round1 *r, const struct node_id *id,
		const struct part *p, const struct coverage *c);
/* Until the second round takes it back, which may be never; takes r. */
void round1_keep(struct round1 *r);
struct round1 *round1_take(struct rounds *all, const uint8_t query_id[16]);
/*
 * It is missing in the second round: what it gave in the first one goes into
 * acc and its hosts are `partial` in cov; or false, and nothing is changed.
 */
bool round1_stand_in(const struct round1 *r, const struct node_id *id,
		     enum missing_reason why, const struct ask *ask,
		     struct part **acc, struct coverage *cov);

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
