/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One question to this host and its subtree: local read and all children at
 * once under one deadline, parts merged as they come, in any order.  Used by
 * the agent that was asked (which then finishes the answer) and by inner
 * agents (which pass the part on).
 */
#ifndef LINNET_QUERY_H
#define LINNET_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/coverage.h"
#include "agent/http.h"
#include "agent/tree/walk.h"
#include "common/sketch/sketch.h"

struct agent;
struct contributors;

/* The mergeable questions; a row each in measure.c. */
enum ask_kind {
	ASK_TOTALS,
	ASK_POINTS, /* keys */
	ASK_TOP,    /* share, alpha, base_host */
	ASK_DISTINCT,
	ASK_REALTIME,          /* end_slot */
	ASK_REALTIME_DISTINCT, /* end_slot */
	ASK_KINDS
};

#define ASK_KEYS_MAX 4096

struct ask {
	enum ask_kind kind;
	unsigned round;        /* 1, 2 */
	struct task_spec task; /* as the registry here has it */
	/* ASK_TOP, round 1: rows with upper >= alpha * share * N of the host;
	 * own bit: upper > share * N, measure_heavy() */
	double share, alpha;
	uint64_t end_slot;     /* newest closed 100-ms slot */
	uint64_t window;       /* number of a closed window; 0: none */
	bool standing;         /* each parent asks it by itself: ask_run_id() */
	struct flow_key *keys; /* n_keys; owned by the ask */
	uint32_t n_keys;
};
/* Deep copy of the keys; 0 or -ENOMEM. */
int ask_copy(struct ask *dst, const struct ask *src);
void ask_fini(struct ask *a);

struct query_result {
	struct part *part; /* NULL if no host gave any; the callback takes it */
	struct coverage coverage;
};

struct query_options {
	bool host_only;     /* scope=host */
	uint32_t budget_ms; /* from now */
	uint8_t query_id[16];
	struct epoch as_of;     /* of its scope */
	const char *request_id; /* for logs and children; copied */
	/* who gave what goes in here; NULL, or borrowed until the end */
	struct contributors *contributors;
};

/*
 * Starts; done is called once, never from inside this call, at the latest at
 * the deadline.  -EBUSY: no memory, or as many as may be are in progress.  ask
 * is copied.
 */
int query_start(struct agent *a, const struct ask *ask,
		const struct query_options *opt,
		void (*done)(void *arg, struct query_result *r), void *arg);

/* Questions of the parent that were taken on since the start. */
uint64_t query_served(const struct agent *a);
/* Answers of children that came when nobody waited for them any more. */
uint64_t query_late(const struct agent *a);

/* The hosts that a question or change speaks of, as they are now. */
void coverage_begin(struct agent *a, bool host_only, struct walk_scope *out);

struct coverage_report {
	uint32_t expected, answered;
	uint32_t partial; /* of those missing: in with what they gave at first */
	bool all_in; /* these hosts and no others, as far as anybody knows */
	bool complete;
	char skewed[54]; /* whose clock is too wrong for it, or "" */
	uint64_t epoch;  /* its number */
	uint32_t n_missing, missing_more;
	struct {
		char host[54]; /* as clients write it, port only if not 8000 */
		enum missing_reason reason;
		uint64_t last_seen_ms; /* wall clock; 0: never */
	} missing[COVERAGE_TOPS];
};
/* Names what is missing: tops expanded to their present descendants (behind). */
void coverage_report(struct agent *a, const struct coverage *c,
		     const struct walk_scope *scope,
		     struct coverage_report *out);

/* ---- parts on the wire ---- */
void part_write(struct json_out *o, const char *name, const struct part *p);
/* A child's part for this task; hostile: 0, -EINVAL, -ENOMEM, or a positive
 * enum merge_refusal when it belongs to another task, seed or shape. */
int part_parse(const struct json *v, const struct task_spec *task,
	       struct part **out);

/* Routes of the peer side of queries: POST /api/v1/peer/ask. */
extern const struct http_route query_routes[];
extern const size_t query_n_routes;

#endif
