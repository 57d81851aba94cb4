/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How true an answer is: who answered, who is missing and why, what was not
 * counted.  Every exchange between agents carries one; parents add them up.
 */
#ifndef LINNET_COVERAGE_H
#define LINNET_COVERAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/json.h"
#include "agent/tree/epoch.h"
#include "common/ctl.h"

struct node_id {
	uint8_t b[16];
};
bool node_id_equal(const struct node_id *a, const struct node_id *b);
void node_id_format(const struct node_id *id, char out[33]);
int node_id_parse(const char *s, size_t len, struct node_id *out);

enum missing_reason {
	MISSING_NONE, /* answered */
	MISSING_TIMEOUT,
	MISSING_UNREACHABLE,
	MISSING_BEHIND,
	MISSING_MONITOR_DOWN,
	MISSING_UNKNOWN_TASK,
	MISSING_INCOMPATIBLE,
	MISSING_REJECTED,
	MISSING_DENIED,
	MISSING_MOVED,
	MISSING_LOOP,
	MISSING_PARTIAL,
	MISSING_BUSY,
	MISSING_NO_WINDOW,
	MISSING_REASONS
};
const char *missing_reason_name(enum missing_reason r);
int missing_reason_parse(const char *s, enum missing_reason *out);

#define COVERAGE_TOPS 32

struct coverage {
	uint32_t answered;
	uint64_t digest; /* sum of node digests of those that answered */
	uint32_t reasons[MISSING_REASONS];
	struct ctl_loss loss;
	uint32_t hosts_missed; /* hosts with missed packets */
	/* wall clock: earliest and latest start, earliest and latest end */
	uint64_t start_min_ms, start_max_ms, end_min_ms, end_max_ms;
	uint32_t clock_err_ms, hops;
	struct node_id clock_id; /* whose clock that is; zero: nobody says */
	bool saturated;
	bool skew; /* the asked agent's own: clocks too far apart for it */
	struct epoch epoch_max; /* newest lease of those that answered */
	uint32_t n_missing;     /* tops listed; reasons[] counts all */
	struct {
		struct node_id id;
		uint8_t reason;   /* enum missing_reason */
		bool alone;       /* its own read: those below may be in */
	} missing[COVERAGE_TOPS]; /* last, so that a copy may be short */
};

/* digest of one node: SipHash-2-4 of the id, keyed by the overlay's name. */
uint64_t coverage_digest(const char *overlay_name, const struct node_id *id);
/* The same for many: the key once, then each id. */
void coverage_key(const char *overlay_name, struct hash_key *out);
uint64_t coverage_digest_keyed(const struct hash_key *key,
			       const struct node_id *id);
/* A host alone that answered / that could not; alone: only itself. */
void coverage_answered(struct coverage *c, const char *overlay_name,
		       const struct node_id *self, const struct ctl_loss *loss,
		       uint64_t start_ms, uint64_t end_ms);
void coverage_missing(struct coverage *c, const struct node_id *id,
		      enum missing_reason r, bool alone);
/* acc += in; child: one more hop. */
void coverage_merge(struct coverage *acc, const struct coverage *in,
		    bool child);
void coverage_encode(struct json_out *o, const char *name,
		     const struct coverage *c);
/* Hostile input: 0 or -EINVAL. */
int coverage_decode(const struct json *v, struct coverage *out);

#endif
