/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A flow record as the rules of features see it, and what they say. */
#ifndef LINNET_FEATURES_RECORD_H
#define LINNET_FEATURES_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#define FEATURES        176
#define FEATURES_COMPAT 144 /* positions 0 to 143; the rest: host */
#define FEATURES_HLL    5   /* features that count distinct things */

/* What a rule looks at; those of struct feature_record come first. */
enum feature_variable {
	FEATURE_SRC_IP,
	FEATURE_DST_IP, /* enum feature_address */
	FEATURE_SRC_PORT,
	FEATURE_DST_PORT,
	FEATURE_PROTOCOL,  /* IP protocol number */
	FEATURE_TCP_FLAGS, /* of all packets, as in the TCP header */
	FEATURE_SRC_TOS,
	FEATURE_IN_PACKETS,
	FEATURE_OUT_PACKETS,
	FEATURE_IN_BYTES,
	FEATURE_OUT_BYTES,
	FEATURE_IN_INTERFACE,
	FEATURE_OUT_INTERFACE, /* 1, 2, 3 or 65535 */
	FEATURE_RECORD_VARIABLES,
	FEATURE_FLOW = FEATURE_RECORD_VARIABLES,
	FEATURE_BYTES,
	FEATURE_HANDSHAKE,
	FEATURE_PACKETS,
	FEATURE_SPREAD,
	FEATURE_DNS,
	FEATURE_VARIABLES
};

enum feature_address {
	FEATURE_NEITHER,
	FEATURE_PRIVATE,
	FEATURE_PUBLIC
};

/* A flow record as the rules of the compat block see it. */
struct feature_record {
	uint32_t present; /* 1 << enum feature_variable */
	int64_t value[FEATURE_RECORD_VARIABLES];
};
static inline void feature_record_set(struct feature_record *r,
				      enum feature_variable v, int64_t value)
{
	r->present |= 1u << v;
	r->value[v] = value;
}

/* Positions, as bits. */
struct feature_set {
	uint64_t w[(FEATURES + 63) / 64];
};
static inline void feature_set_add(struct feature_set *s, unsigned int i)
{
	s->w[i / 64] |= (uint64_t)1 << i % 64;
}
static inline bool feature_set_has(const struct feature_set *s, unsigned int i)
{
	return s->w[i / 64] >> i % 64 & 1;
}

/* Adds the positions of the compat block that match. */
void features_match(const struct feature_record *r, struct feature_set *out);

#endif
