/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows of features outside the reader: checked, merged, finished.
 *
 * A row is plain memory of fixed size.  What adds or is a maximum merges as it
 * is; estimates, shares, the entropy and transforms are made of merged state,
 * when a row is finished.  The peer with most bytes is a maximum: hosts and
 * readers do not share peers, or say a lower bound.
 */
#include "common/sketch/features.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/sketch/features_private.h"
#include "common/sketch/hllreg.h"
#include "common/util.h"

#define QUALITY_ALL                                            \
	(FEATURES_PARTIAL | FEATURES_CLOCK | FEATURES_MISSED | \
	 FEATURES_OVERFLOW)
#define PERMILLE     1000.0
#define MISSED_SHARE 100 /* one of so many */

_Static_assert(sizeof(struct features_row) ==
		       8 * 9 + sizeof(struct features_parts) + 8 * FEATURES +
			       4 * FEATURES_PORT_BINS +
			       (FEATURES_HLL << FEATURES_HLL_P),
	       "padding in struct features_row");

int features_row_check(const struct features_row *row, size_t len,
		       const struct task_spec *t)
{
	if (len != sizeof(*row) || row->magic != FEATURES_ROW_MAGIC)
		return -EINVAL;
	if (row->window_s != t->window_ms / 1000 ||
	    row->schema != features_schema((enum feature_semantics)t->semantics,
					   row->window_s, FEATURE_BLOCKS) ||
	    row->fp != hash_fingerprint(&t->seed))
		return -EINVAL;
	if (row->quality & ~(uint32_t)QUALITY_ALL || row->readers != 1)
		return -EINVAL;
	for (int h = 0; h < FEATURES_HLL; h++) {
		for (size_t i = 0; i < hllreg_count(FEATURES_HLL_P); i++) {
			if (row->hll[h][i] > hllreg_max(FEATURES_HLL_P))
				return -EINVAL;
		}
	}
	return 0;
}

int features_flows_check(const struct features_flows *f, size_t len)
{
	if (len < sizeof(*f) || f->magic != FEATURES_FLOW_MAGIC ||
	    f->n > FEATURES_FLOWS ||
	    len != sizeof(*f) + f->n * sizeof(f->flow[0]))
		return -EINVAL;
	for (uint32_t i = 0; i < f->n; i++) {
		if (f->flow[i].dir >= PACKET_DIRS)
			return -EINVAL;
	}
	return 0;
}

/* Merging */

static void sum(uint64_t *acc, uint64_t in)
{
	bool saturated; /* stays at the end of the range */

	*acc = u64_add_sat(*acc, in, &saturated);
}

static void merge_parts(struct features_parts *acc,
			const struct features_parts *in)
{
	sum(&acc->flows_tcp, in->flows_tcp);
	sum(&acc->flows_udp, in->flows_udp);
	sum(&acc->bytes, in->bytes);
	acc->bytes_top = MAX(acc->bytes_top, in->bytes_top);
	sum(&acc->dns_answers, in->dns_answers);
	sum(&acc->dns_nxdomain, in->dns_nxdomain);
}

int features_row_merge(struct features_row *acc, const struct features_row *in)
{
	if (acc->schema != in->schema || acc->window_s != in->window_s)
		return FEATURES_OTHER_SCHEMA;
	if (acc->fp != in->fp)
		return FEATURES_OTHER_SEED;
	if (acc->interval != in->interval)
		return FEATURES_OTHER_INTERVAL;
	acc->quality |= in->quality;
	acc->readers += in->readers;
	sum(&acc->records, in->records);
	sum(&acc->overflow, in->overflow);
	sum(&acc->matched_packets, in->matched_packets);
	sum(&acc->missed_packets, in->missed_packets);
	merge_parts(&acc->parts, &in->parts);
	for (unsigned int i = 0; i < FEATURES; i++) {
		if (feature_get(i)->merge == FEATURE_MAX)
			acc->count[i] = MAX(acc->count[i], in->count[i]);
		else
			sum(&acc->count[i], in->count[i]);
	}
	for (unsigned int i = 0; i < FEATURES_PORT_BINS; i++) {
		uint32_t room = UINT32_MAX - acc->ports[i];

		acc->ports[i] += MIN(in->ports[i], room);
	}
	for (int h = 0; h < FEATURES_HLL; h++)
		hllreg_union(acc->hll[h], in->hll[h], FEATURES_HLL_P);
	return FEATURES_MERGED;
}

void features_row_loss(struct features_row *row, uint64_t matched,
		       uint64_t missed, uint32_t readers)
{
	row->matched_packets = matched;
	row->missed_packets = missed;
	if (missed > matched / MISSED_SHARE)
		row->quality |= FEATURES_MISSED;
	if (row->readers < readers)
		row->quality |= FEATURES_PARTIAL;
}

/* Finishing */

static double permille(uint64_t part, uint64_t whole)
{
	return whole ? PERMILLE * (double)part / (double)whole : 0;
}

/* Of n flows on ports: at its maximum each has another bin. */
static double entropy(const uint32_t *bin)
{
	double n = 0, inner = 0, most;

	for (unsigned int i = 0; i < FEATURES_PORT_BINS; i++) {
		n += bin[i];
		if (bin[i])
			inner += bin[i] * log2(bin[i]);
	}
	if (n < 2)
		return 0;
	most = log2(MIN(n, (double)FEATURES_PORT_BINS));
	return PERMILLE * MIN((log2(n) - inner / n) / most, 1);
}

static double distinct(const uint8_t *reg)
{
	double n = hllreg_estimate(reg, FEATURES_HLL_P);

	/* all registers full: more than any host can meet */
	return isfinite(n) ? round(n) : (double)UINT32_MAX;
}

static double row_value(const struct features_row *row, unsigned int i)
{
	const struct features_parts *p = &row->parts;

	switch (i) {
	case H_UDP_SHARE:
		return permille(p->flows_udp, p->flows_tcp + p->flows_udp);
	case H_TOP_PEER_SHARE:
		return permille(p->bytes_top, p->bytes);
	case H_ENTROPY_DPORTS:
		return entropy(row->ports);
	case H_DNS_NXDOMAIN_SHARE:
		return permille(p->dns_nxdomain, p->dns_answers);
	case H_DST_IPS:
		return distinct(row->hll[HLL_DST_IPS]);
	case H_DST_PORTS:
		return distinct(row->hll[HLL_DST_PORTS]);
	case H_SRC_IPS_IN:
		return distinct(row->hll[HLL_SRC_IPS_IN]);
	case H_DNS_NAMES:
		return distinct(row->hll[HLL_DNS_NAMES]);
	case H_SERVED_PORTS:
		return distinct(row->hll[HLL_SERVED_PORTS]);
	default:
		return (double)row->count[i];
	}
}

void features_row_finish(const struct features_row *row, uint32_t blocks,
			 double *out)
{
	unsigned int i = features_first(blocks);
	unsigned int end = i + features_count(blocks);

	for (; i < end; i++)
		*out++ = feature_transform(feature_get(i)->transform,
					   row_value(row, i));
}
