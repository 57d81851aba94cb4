/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a child sent: parsed, and compared with the question and with what can
 * be true, before any of it is added.  Everything here is input from outside;
 * nothing is owned.
 */
#include <errno.h>

#include "agent/query_private.h"
#include "common/util.h"

/* Faster than any link of a host: what claims more is not true. */
#define BYTES_PER_MS   ((uint64_t)50000000) /* 400 Gbit/s */
#define MARGIN_MS      60000                /* clocks are not the same */
#define CLOSED_MS      1000                 /* nor is when a packet is read */
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
	if (p->window != ask->window)
		return "another window";
	if (!row->end_slot)
		return blank ? NULL : "a window";
	if (blank ? is_empty(p)
		  : p->n_slots == REALTIME_SLOTS &&
			    p->end_slot == ask->end_slot)
		return NULL;
	return "another window";
}

/* No key surely has more than all of them have together. */
static bool bounds_fit(const struct part *p)
{
	for (uint32_t i = 0; p->kind == PART_POINTS && i < p->points.n; i++)
		if (p->points.v[i].lower > p->totals.weight ||
		    p->points.v[i].lower99 > p->totals.weight)
			return false;
	return true;
}

/* What can have been counted in so many milliseconds on each of n hosts, in
 * any unit: what is counted has a byte at least. */
static unsigned __int128 most(uint64_t ms, uint64_t n)
{
	return (unsigned __int128)BYTES_PER_MS * ms * n;
}

/* For how long its totals can have grown, whatever it says itself. */
static uint64_t counted_ms(const struct ask *ask, uint64_t created_ms)
{
	uint64_t now = clock_wall_ms();

	if (ask->window)
		return ask->task.window_ms + CLOSED_MS;
	/* the owner's clock was wrong then, or ours is: who knows */
	if (created_ms > now + MARGIN_MS)
		return now;
	return MARGIN_MS + (now > created_ms ? now - created_ms : 0);
}

static bool totals_fit(const struct totals *t, unsigned __int128 limit)
{
	const uint64_t v[] = { t->items,       t->weight,   t->pkt,
			       t->segment,     t->byte,     t->hidden_byte,
			       t->super,       t->fragment, t->unkeyed_pkt,
			       t->unkeyed_byte };

	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		if (v[i] > limit)
			return false;
	return true;
}

/* Nor may any key have more; of the last second in the last second. */
static bool keys_fit(const struct part *p, unsigned __int128 limit, uint64_t n)
{
	unsigned __int128 sum = 0;

	switch (p->kind) {
	case PART_POINTS:
		for (uint32_t i = 0; i < p->points.n; i++)
			if (!p->points.v[i].saturated &&
			    p->points.v[i].upper > limit)
				return false;
		return true;
	case PART_TOPK:
		for (uint32_t i = 0; i < p->topk.n; i++)
			if (p->topk.row[i].upper > limit)
				return false;
		return p->topk.floor <= limit;
	case PART_EXACT:
		for (uint32_t i = 0; i < p->exact.n; i++)
			sum += p->exact.row[i].value;
		return sum + p->exact.spilled <=
		       most(REALTIME_SLOTS * 100 + CLOSED_MS, n);
	case PART_TOTALS:
	case PART_HLL:
	case PART_KINDS:
		break;
	}
	return true;
}

static const char *impossible(const struct ask *ask,
			      const struct measure_row *row,
			      const struct part *p, const struct coverage *c,
			      uint64_t created_ms)
{
	/* what a lost host gave in the first round stands in in the second */
	uint64_t n = c->answered +
		     (ask->round == 2 ? c->reasons[MISSING_PARTIAL] : 0);
	unsigned __int128 limit = most(counted_ms(ask, created_ms), n);

	if (!p)
		return c->answered ? "no part" : NULL;
	if (!n)
		return "a part of no host";
	if (!totals_fit(&p->totals, limit) || !keys_fit(p, limit, n))
		return "more than links carry";
	if (!bounds_fit(p))
		return "a key has more than all have";
	return part_wrong(p, ask, row);
}

/*
 * A clock that is wrong is no reason to lose a host; but what all hosts count
 * since is the latest of them, and whoever invents it says so for all.
 */
static void window_clamp(struct coverage *c, uint64_t created_ms)
{
	uint64_t *const ms[] = { &c->start_min_ms, &c->start_max_ms,
				 &c->end_min_ms, &c->end_max_ms };
	uint64_t now = clock_wall_ms(), last = now + MARGIN_MS;
	uint64_t first = MIN(created_ms, now) - MIN(created_ms, MARGIN_MS);

	for (unsigned i = 0; i < ARRAY_SIZE(ms); i++)
		*ms[i] = MIN(MAX(*ms[i], first), last);
}

int reply_parse(const struct json *v, const struct ask *ask,
		uint64_t created_ms, struct part **out, struct coverage *c,
		const char **why)
{
	const struct json *part = json_get(v, "part");
	struct part *p = NULL;
	int ret = 0;

	*why = "malformed coverage";
	if (coverage_decode(json_get(v, "coverage"), c))
		return -EPROTO;
	if (json_type(part) != JSON_NULL)
		ret = part_parse(part, &ask->task, &p);
	*why = ret > 0 ? "does not belong to the task" : "malformed part";
	if (ret)
		return ret == -ENOMEM ? ret : ret < 0 ? -EPROTO : 1;
	if (c->answered)
		window_clamp(c, created_ms);
	*why = NULL;
	*out = p;
	return 0;
}

enum missing_reason reply_check(const struct ask *ask,
				const struct measure_row *row,
				const struct part *p, const struct coverage *c,
				uint64_t created_ms, const char **why)
{
	*why = impossible(ask, row, p, c, created_ms);
	return *why ? MISSING_REJECTED : MISSING_NONE;
}

size_t part_held(const struct part *p)
{
	size_t n = sizeof(*p);

	switch (p->kind) {
	case PART_POINTS:
		return n + p->points.n * sizeof(*p->points.v);
	case PART_TOPK:
		return n + p->topk.n * sizeof(*p->topk.row);
	case PART_EXACT:
		return n + p->exact.n * sizeof(*p->exact.row);
	case PART_HLL:
		return n + p->hll.n_small * sizeof(*p->hll.small) +
		       (p->hll.reg ? (size_t)1 << p->params.hll_p : 0);
	case PART_TOTALS:
	case PART_KINDS:
		break;
	}
	return n;
}
