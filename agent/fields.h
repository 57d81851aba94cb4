/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fields of requests: one row each, with what is allowed, decoded from
 * text into typed values.  Legacy bodies and query strings of /api/v1 use the
 * same rows; a message says which it takes and which it needs.
 */
#ifndef LINNET_FIELDS_H
#define LINNET_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/errors.h"
#include "agent/form.h"
#include "agent/msnm_conf.h"
#include "common/addr.h"
#include "common/filter.h"
#include "common/key.h"
#include "common/task.h"

enum field_id {
	/* filters */
	F_INTERFACE,
	F_PROTO,
	F_SRC,
	F_DST,
	/* legacy */
	F_SKETCH_ID,
	F_KEY_TYPE,
	F_COUNTER_KEY,
	F_INCREMENT,
	F_THRESHOLD,
	F_BASE,
	F_TARGET,
	F_AGENT,
	F_PROBE_SRC,
	F_PROBE_DST,
	F_DURATION,
	F_SERVER_MODE,
	F_SCOPE,
	/* query strings of /api/v1 */
	F_N,
	F_SHARE,
	F_TREE_BASE,
	F_LIMIT,
	F_CURSOR,
	F_TIMEOUT,
	F_REQUIRE,
	F_CONTRIBUTORS,
	F_DISTINCT,
	F_VERBOSE,
	F_WINDOW,
	/* MSNM: parameters, in the order of enum msnm_param */
	F_MSNM_ENABLED,
	F_MSNM_WINDOW,
	F_MSNM_BLOCKS,
	F_MSNM_SEMANTICS,
	F_MSNM_ROWS,
	F_MSNM_LV,
	F_MSNM_PREP,
	F_MSNM_ALPHA_Q,
	F_MSNM_ALPHA_D,
	F_MSNM_LIMITS,
	F_MSNM_CLEAN,
	F_MSNM_ALARM,
	F_MSNM_MISSING,
	F_MSNM_MAX_IMPUTED,
	F_MSNM_DYNAMIC,
	F_MSNM_BATCH,
	F_MSNM_HALF_LIFE,
	F_MSNM_QUARANTINE,
	F_MSNM_CHILDREN,
	/* and of its questions */
	F_INTERVAL,
	F_HISTORY,
	F_FEATURES,
	F_FLOWS,
	FIELDS
};
#define FIELD(x) (UINT64_C(1) << F_##x)
#define FIELDS_FILTER \
	(FIELD(INTERFACE) | FIELD(PROTO) | FIELD(SRC) | FIELD(DST))
/* All from F_MSNM_ENABLED to F_MSNM_CHILDREN. */
#define FIELDS_MSNM                                                            \
	(FIELD(MSNM_ENABLED) | FIELD(MSNM_WINDOW) | FIELD(MSNM_BLOCKS) |       \
	 FIELD(MSNM_SEMANTICS) | FIELD(MSNM_ROWS) | FIELD(MSNM_LV) |           \
	 FIELD(MSNM_PREP) | FIELD(MSNM_ALPHA_Q) | FIELD(MSNM_ALPHA_D) |        \
	 FIELD(MSNM_LIMITS) | FIELD(MSNM_CLEAN) | FIELD(MSNM_ALARM) |          \
	 FIELD(MSNM_MISSING) | FIELD(MSNM_MAX_IMPUTED) | FIELD(MSNM_DYNAMIC) | \
	 FIELD(MSNM_BATCH) | FIELD(MSNM_HALF_LIFE) | FIELD(MSNM_QUARANTINE) |  \
	 FIELD(MSNM_CHILDREN))

struct fields {
	uint64_t set; /* FIELD() bits of those given */
	struct filter filter;
	uint64_t sketch_id;
	enum key_type key;
	char counter_key[FORM_VALUE_OLD + 1]; /* parsed once the type is known */
	enum increment increment;
	double threshold; /* 0..1 */
	bool base_tree;
	struct endpoint agent;
	struct ip_addr probe_src, probe_dst;
	double duration_s;
	bool host_only;
	uint32_t n, limit, timeout_ms;
	char cursor[65];
	bool require_all, contributors, distinct, verbose;
	uint64_t window_ms;    /* a moment of it, wall clock; 0: the last one */
	struct msnm_conf msnm; /* those given */
	uint64_t interval;
	uint32_t history, features, flows;
};

/* Of "top", where they are not given: the ten largest of the tree. */
static inline uint32_t fields_n_top(const struct fields *f)
{
	return f->set & FIELD(N) ? f->n : 10;
}

static inline bool fields_base_tree(const struct fields *f)
{
	return !(f->set & FIELD(TREE_BASE)) || f->base_tree;
}

/* Name of a field, and what it takes, for manuals and error texts. */
const char *field_name(enum field_id id);
const char *field_allowed(enum field_id id);

/*
 * Decodes the pairs that takes names (others are left alone), checks that
 * needs are there; 0, or -EINVAL with what is wrong added to *e (ERR_NONE
 * before, or an error already) and out undefined.
 */
int fields_decode(const struct form *form, uint64_t takes, uint64_t needs,
		  struct fields *out, struct error *e);
/* Name of a pair that takes does not name, or NULL: for /api/v1. */
const char *fields_unknown(const struct form *form, uint64_t takes);

#endif
