/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a child sent, added to an answer: whole or not at all.  It is parsed,
 * compared with the question and with what the child can know, and only then
 * added.  Everything here is input from outside; nothing is owned.
 */
#include <errno.h>

#include "agent/query_private.h"
#include "common/util.h"

/* Faster than any link of a host: what claims more is not true. */
#define BYTES_PER_MS   ((uint64_t)50000000) /* 400 Gbit/s */
#define MARGIN_MS      60000
/* Of 100 ms: what "the last second" is. */
#define REALTIME_SLOTS 10

/* Nothing counted: merges with any window, so it may name none. */
static bool is_empty(const struct part *p)
{
	if (p->kind == PART_EXACT)
		return !p->exact.n && !p->exact.spilled;
	return p->kind == PART_HLL && !p->hll.reg && !p->hll.n_small;
}

/* The part answers this very question. */
static const char *part_wrong(const struct part *p, const struct ask *ask,
			      const struct measure_row *row)
{
	bool blank = !p->n_slots && !p->end_slot;

	if (p->kind != row->part)
		return "another kind of part";
	if (p->kind == PART_POINTS && p->points.n != ask->n_keys)
		return "another number of keys";
	if (!row->end_slot)
		return blank ? NULL : "a window";
	if (blank ? is_empty(p)
		  : p->n_slots == REALTIME_SLOTS &&
			    p->end_slot == ask->end_slot)
		return NULL;
	return "another window";
}

static const char *impossible(const struct part *p, const struct ask *ask,
			      const struct coverage *c, uint32_t hosts)
{
	/* what a lost host gave in the first round stands in in the second */
	bool kept = ask->round == 2 && c->reasons[MISSING_PARTIAL];
	uint64_t ms = c->end_max_ms > c->start_min_ms
			      ? c->end_max_ms - c->start_min_ms
			      : 0;
	unsigned __int128 most = (unsigned __int128)BYTES_PER_MS *
				 (ms + MARGIN_MS) * c->answered;

	if (c->answered > hosts)
		return "more hosts than it has";
	if (p && !c->answered && !kept)
		return "a part of no host";
	if (p && (p->totals.byte > most || p->totals.unkeyed_byte > most))
		return "more bytes than links carry";
	return NULL;
}

static enum missing_reason part_take(const struct json *v,
				     const struct ask *ask,
				     const struct measure_row *row,
				     const struct coverage *c, uint32_t hosts,
				     struct part **acc, const char **why)
{
	struct part *p = NULL;
	int ret = 0;

	if (json_type(v) != JSON_NULL)
		ret = part_parse(v, &ask->task, &p);
	else if (c->answered)
		ret = -EINVAL;
	if (ret == -ENOMEM)
		return MISSING_BUSY;
	*why = ret < 0 ? "malformed part" : "does not belong to the task";
	if (ret)
		return ret < 0 ? MISSING_REJECTED : MISSING_INCOMPATIBLE;
	*why = p ? part_wrong(p, ask, row) : NULL;
	if (!*why)
		*why = impossible(p, ask, c, hosts);
	if (*why) {
		part_free(p);
		return MISSING_REJECTED;
	}
	if (!*acc) {
		*acc = p;
		return MISSING_NONE;
	}
	ret = p ? part_merge(*acc, p) : 0;
	part_free(p);
	*why = "does not merge";
	return !ret      ? MISSING_NONE
	       : ret < 0 ? MISSING_BUSY
			 : MISSING_INCOMPATIBLE;
}

enum missing_reason reply_merge(const struct json *v, const struct ask *ask,
				const struct measure_row *row, uint32_t hosts,
				struct part **acc, struct coverage *cov,
				const char **why)
{
	struct coverage c;
	enum missing_reason r;

	*why = "malformed coverage";
	if (coverage_decode(json_get(v, "coverage"), &c))
		return MISSING_REJECTED;
	r = part_take(json_get(v, "part"), ask, row, &c, hosts, acc, why);
	if (r == MISSING_NONE)
		coverage_merge(cov, &c, true);
	return r;
}
