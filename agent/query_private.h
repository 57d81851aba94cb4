/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by query.c (questions, the tree), fanout.c (exchanges), ask.c (the
 * wire), merge.c, rounds.c, contributors.c, standing.c and answer.c. */
#ifndef LINNET_QUERY_PRIVATE_H
#define LINNET_QUERY_PRIVATE_H

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/measure.h"
#include "agent/overlay.h"
#include "agent/query.h"

struct exchange_call;
struct rounds;
struct round1;

struct queries {
	struct agent *agent;
	struct walk *walk;
	struct loop_timer timer;
	struct exchange_call *calls;
	struct fanout *fanouts;
	struct rounds *rounds;
	struct answer_op *answers;
};

/* What struct walk holds of a question. */
struct question {
	struct queries *all;
	struct ask ask;
	uint8_t id[16];
	char request_id[REQUEST_ID_LEN];
	struct buf body; /* as children get it, once it was needed */
	struct measure *local;
	uint64_t read_ref;
	struct round1 *first; /* of two: what is given; then what was */
	/* of a client's: */
	struct contributors *contributors; /* or NULL */
	void (*done)(void *arg, struct query_result *r);
	void *arg;
};

/* query.c */
/* A question that owns a copy of ask; NULL: no memory.  passed_on: for the
 * parent. */
struct question *question_new(struct agent *a, const struct ask *ask,
			      const uint8_t id[16], const char *request_id,
			      bool host_only, bool passed_on);
void question_free(void *ctx, void *q);
/* Of its task, wall clock; 0: there is none any more. */
uint64_t question_created_ms(const struct question *q);
struct epoch epoch_of_text(const char *s); /* zero: none */

/* fanout.c: exchanges of struct walk, for its environment */
int exchange_send(void *ctx, const struct walk_send *s);
void exchange_leave(void *ctx, uint64_t ref);
void exchange_cancel(void *ctx, uint64_t ref);
void exchange_rejected(void *ctx, const struct walk_child *c, const char *why);
void fanouts_free(struct queries *all);

/* ask.c */
void ask_write(struct buf *b, const struct ask *ask,
	       const uint8_t query_id[16]);
/* The query of a standing question about its window, the same everywhere. */
void ask_run_id(const struct ask *ask, uint8_t out[16]);
/* struct walk's reply; ref is the request. */
void ask_reply(void *ctx, uint64_t ref, enum tree_word word,
	       const struct coverage *c, const void *part);

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
 * What a child sent, {part, coverage}, for this ask of a task made then (wall
 * clock); hostile.  0 with *out a part or NULL, -EPROTO, -ENOMEM, or 1 when it
 * belongs to something else; then *why says it in words.
 */
int reply_parse(const struct json *v, const struct ask *ask,
		uint64_t created_ms, struct part **out, struct coverage *c,
		const char **why);
/* Such a part can be true of a task made then and answers this ask; else why
 * not. */
enum missing_reason reply_check(const struct ask *ask,
				const struct measure_row *row,
				const struct part *p, const struct coverage *c,
				uint64_t created_ms, const char **why);
/* Bytes that it holds. */
size_t part_held(const struct part *p);

#endif
