/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A diagnosis as it is found on one host and passed up its tree. */
#ifndef LINNET_MSNM_DIAG_H
#define LINNET_MSNM_DIAG_H

#include "agent/msnm_private.h"
#include "agent/overlay.h"
#include "common/key.h"

#define DIAG_COUNTERS 5 /* that rank flows */
#define DIAG_REASON   96

struct msnm_diagnosis {
	uint64_t interval;
	unsigned n_path;
	char path[OVERLAY_HOPS + 1][54];
	char host[54];
	bool known; /* there are statistics */
	bool d;     /* D is it, else Q */
	double value, limit;
	unsigned n_top;
	struct {
		char name[72];
		double value, mean, contribution;
	} top[MSNM_FEATURES_MAX];
	unsigned n_flows;
	struct {
		char key[KEY_TEXT_LEN];
		uint64_t packets, bytes;
		double score;
		uint8_t flags;
		unsigned n_counters;
		uint16_t counter[DIAG_COUNTERS]; /* positions */
	} flow[MSNM_FLOWS_MAX];
	uint64_t truncated;
	char reason[DIAG_REASON]; /* why it is not complete, or "" */
};

/* A counter that ranks flows. */
struct msnm_rank {
	uint16_t position;
	double weight; /* the shares add up to 1 */
};
/*
 * The flows that the counters show, best first, at most `most` into out.
 */
void msnm_flows_rank(struct msnm_diagnosis *out,
		     const struct features_flow *flow, size_t n,
		     const struct msnm_rank *rank, unsigned n_rank,
		     unsigned most);
/* What a child sent; 0 or -EINVAL. */
int msnm_diagnosis_parse(const struct json *v, struct msnm_diagnosis *d);

#endif
