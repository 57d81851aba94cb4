/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A finished answer: one question to the scope, in one round or two, with the
 * test, order and cut that belong where the client asked, and how true it is.
 */
#ifndef LINNET_ANSWER_H
#define LINNET_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/contributors.h"
#include "agent/query.h"
#include "agent/registry.h"

struct answer_request {
	enum ask_kind kind;
	struct task_spec task;
	const struct flow_key *keys; /* ASK_POINTS; copied */
	uint32_t n_keys;
	double share;    /* ASK_TOP */
	bool base_tree;  /* ASK_TOP: above share of the tree, not of a host */
	uint32_t n_top;  /* ASK_TOP: only the n largest are wanted; 0: all */
	uint64_t window; /* number of a closed one; 0: the task has none */
	bool host_only, contributors;
	bool standing; /* each parent has been asking the same by itself */
	uint32_t budget_ms;
	const char *request_id; /* borrowed during the call */
};

/* Whoever asks how: the answer is the same. */
bool answer_request_same(const struct answer_request *a,
			 const struct answer_request *b);

struct hit {
	struct flow_key key;
	struct interval v;
	bool certain; /* lower bound above the threshold too */
};

struct answer {
	enum ask_kind kind;
	struct task_spec task;
	uint64_t window;
	struct part *part;           /* NULL: no host answered */
	const struct flow_key *keys; /* ASK_POINTS: those asked, in order */
	struct coverage coverage;
	struct coverage_report report;
	/* ASK_TOP: largest first, equal amounts in key order */
	struct hit *hit;
	uint32_t n_hits, left_out; /* left_out: above the threshold, not in */
	bool recall_certain; /* no key above the threshold can be absent */
	uint64_t missed_packets, missed_bytes;
	uint32_t elapsed_ms;
	bool has_contributors;
	struct contributors contributors; /* of the last round */
};

/* ASK_REALTIME: rows in the order of keys, as clients see it. */
void answer_order_keys(const struct answer *an);

/* What is asked first of all hosts. */
void answer_ask(const struct answer_request *rq, struct ask *out);

struct answer_op;
/*
 * done is called once, never from inside this call; the answer is the
 * caller's to look at during the call only.  NULL: no memory.
 */
struct answer_op *answer_start(struct agent *a, const struct answer_request *rq,
			       void (*done)(void *arg, const struct answer *an),
			       void *arg);

#endif
