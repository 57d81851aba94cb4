/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The features of a host's traffic: 176 numbers an interval, what they are
 * called, which flow records count in them, how they merge and which values a
 * finished row holds.  Positions are fixed: rows, models and schema hashes
 * depend on them.  Pure.
 */
#ifndef LINNET_FEATURES_H
#define LINNET_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/features_record.h"

/* Blocks of positions, as bits: a row has some of them, in this order. */
enum feature_block {
	FEATURE_COMPAT = 1 << 0,
	FEATURE_HOST = 1 << 1,
	FEATURE_BLOCKS = FEATURE_COMPAT | FEATURE_HOST
};

/* How packets or flow records became counters. */
enum feature_semantics {
	FEATURES_CSV,     /* "csv": a file that says nothing else */
	FEATURES_PACKETS, /* "packets/1" */
	FEATURES_NETFLOW, /* "netflow/1" */
	FEATURES_SEMANTICS
};

enum feature_rule {
	FEATURE_EQUALS,
	FEATURE_ONE_OF,
	FEATURE_CLOSED_RANGE, /* both ends count */
	FEATURE_FLAG,
	FEATURE_NO_OTHER, /* none of the variable's others, or absent */
	FEATURE_FIRST_SEEN,
	FEATURE_DIRECTION,
	FEATURE_PERMILLE,
	FEATURE_OUTCOME,
	FEATURE_COUNT,
	FEATURE_PEAK,
	FEATURE_DISTINCT,
	FEATURE_RULES
};

enum feature_merge {
	FEATURE_SUM,
	FEATURE_MAX,
	FEATURE_HLL,
	FEATURE_PARTS
};

enum feature_transform {
	FEATURE_NONE,
	FEATURE_SQRT,
	FEATURE_LOG2
};

#define FEATURE_NO_END INT64_MAX /* of a closed range */

struct feature {
	const char *name, *compat_name;
	enum feature_variable variable;
	enum feature_rule rule;
	enum feature_merge merge;
	enum feature_transform transform;
	/* of rules on records; ranges: both ends */
	unsigned int n_values;
	int64_t value[3];
	const char *text; /* of the host block: the rule in words */
};

/* The feature at a position below FEATURES. */
const struct feature *feature_get(unsigned int position);
/* Position of a name (unique), or -ENOENT. */
int feature_find(const char *name, size_t len);

/* "packets/1" … <-> semantics; 0 or -EINVAL. */
int features_semantics_parse(const char *s, size_t len,
			     enum feature_semantics *out);
const char *features_semantics_name(enum feature_semantics s);
/* "compat", "host", "compat+host" <-> blocks; 0 or -EINVAL. */
int features_blocks_parse(const char *s, size_t len, uint32_t *out);
const char *features_blocks_name(uint32_t blocks);
/* Columns of a row with these blocks, and its first position. */
unsigned int features_count(uint32_t blocks);
unsigned int features_first(uint32_t blocks);

/* What a finished row holds for the count v. */
double feature_transform(enum feature_transform t, double v);

/*
 * Schema hash: FNV-1a of 64 bits over "msnm1\n", semantics, "\n", window,
 * "\n", then each name and "\n".  Begin, add the names in order, use.
 */
uint64_t features_schema_begin(const char *semantics, uint32_t window_s);
uint64_t features_schema_add(uint64_t hash, const char *name);
/* Of the table's own names. */
uint64_t features_schema(enum feature_semantics s, uint32_t window_s,
			 uint32_t blocks);

#endif
