/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * This host's own part: the images of the readers, made into the part that a
 * question wants and merged, as parts of several hosts are.  Thresholds speak
 * of the host's total, so they are applied after its readers were merged.
 */
#include "agent/measure.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/monlink.h"
#include "common/log.h"
#include "common/util.h"

#define KIND(k) (1u << SKETCH_##k)
#define KIB     1024u

static const struct measure_row rows[] = {
	[ASK_TOTALS] = { .name = "totals",
			 .part = PART_TOTALS,
			 .reply_cap = 64 * KIB },
	[ASK_POINTS] = { .name = "points",
			 .part = PART_POINTS,
			 .kinds = KIND(CMS) | KIND(TOPK),
			 .required = KIND(CMS) | KIND(TOPK),
			 .keys = true,
			 .reply_cap = 1024 * KIB },
	[ASK_TOP] = { .name = "top",
		      .part = PART_TOPK,
		      .kinds = KIND(TOPK),
		      .required = KIND(TOPK),
		      .share = true,
		      .reply_cap = 4096 * KIB },
	[ASK_DISTINCT] = { .name = "distinct",
			   .part = PART_HLL,
			   .kinds = KIND(HLL),
			   .required = KIND(HLL),
			   .reply_cap = 64 * KIB },
	[ASK_REALTIME] = { .name = "realtime",
			   .part = PART_EXACT,
			   .kinds = KIND(EXACT),
			   .required = KIND(EXACT),
			   .end_slot = true,
			   .reply_cap = 4096 * KIB },
	[ASK_REALTIME_DISTINCT] = { .name = "realtime_distinct",
				    .part = PART_HLL,
				    .kinds = KIND(EXACT),
				    .required = KIND(EXACT),
				    .end_slot = true,
				    .reply_cap = 64 * KIB },
};
static_assert(ARRAY_SIZE(rows) == ASK_KINDS, "a row for each question");

struct measure {
	struct agent *agent;
	const struct ask *ask;
	struct monlink_op *op;
	void (*done)(void *arg, struct measure_result *r);
	void *arg;
};

const struct measure_row *measure_row(enum ask_kind k)
{
	return &rows[k];
}

int measure_parse(const char *name, enum ask_kind *out)
{
	for (unsigned i = 0; i < ASK_KINDS; i++) {
		if (strcmp(rows[i].name, name) == 0) {
			*out = (enum ask_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool measure_possible(enum ask_kind k, const struct task_spec *t)
{
	return !rows[k].required || (rows[k].required & t->kinds);
}

/* Image of one kind, NULL where the task keeps none; *bad if it is broken. */
static const void *image_of(const struct ctl_image *img, enum sketch_kind k,
			    const struct task_spec *t, bool *bad)
{
	struct sketch_params params;
	const void *p;

	if (!(img->kinds & 1u << k))
		return NULL;
	p = (const uint8_t *)img + img->image[k].offset;
	sketch_params_default(&params, t);
	if (sketch_image_check(k, p, (size_t)img->image[k].len, &params)) {
		*bad = true;
		return NULL;
	}
	return p;
}

/* The part of one reader.  0, -errno, or +EXACT_TOO_OLD. */
static int part_of_image(const struct ask *ask, const struct ctl_image *img,
			 struct part **out)
{
	const struct task_spec *t = &ask->task;
	bool bad = false;
	const void *cms = image_of(img, SKETCH_CMS, t, &bad);
	const void *topk = image_of(img, SKETCH_TOPK, t, &bad);
	const void *hll = image_of(img, SKETCH_HLL, t, &bad);
	const void *exact = image_of(img, SKETCH_EXACT, t, &bad);
	struct part *keys = NULL;
	int ret;

	if (bad)
		return -EPROTO;
	if (rows[ask->kind].required && !cms && !topk && !hll && !exact)
		return -EOPNOTSUPP;
	if (rows[ask->kind].end_slot && img->slot_now <= ask->end_slot)
		return EXACT_TOO_OLD; /* not closed here: the same outcome */
	switch (ask->kind) {
	case ASK_TOTALS:
		*out = part_new(PART_TOTALS, t);
		return *out ? 0 : -ENOMEM;
	case ASK_POINTS:
		return part_points(t, cms, topk, ask->keys, ask->n_keys, out);
	case ASK_TOP:
		return part_topk(t, topk, 0, UINT64_MAX, out);
	case ASK_DISTINCT:
		return part_hll(t, hll, out);
	case ASK_REALTIME:
		return part_exact(t, exact, ask->end_slot, out);
	case ASK_REALTIME_DISTINCT:
		ret = part_exact(t, exact, ask->end_slot, &keys);
		if (!ret)
			ret = part_hll_from_exact(t, keys, out);
		part_free(keys);
		return ret;
	case ASK_KINDS:
		break;
	}
	return -EINVAL;
}

uint64_t measure_share(double share, uint64_t n)
{
	long double v = (long double)share * (long double)n;
	long double whole = roundl(v);

	/* as near as the double is to the decimal: that number was meant */
	if (fabsl(v - whole) > whole * 0x1p-52L)
		whole = floorl(v);
	return whole >= 0x1p64L ? UINT64_MAX : (uint64_t)whole;
}

bool measure_heavy(double share, uint64_t n)
{
	return n > 5 || share == 0;
}

/* Marks what is heavy on this host and drops what cannot matter. */
static void top_cut(const struct ask *ask, struct part *p)
{
	uint64_t n = p->totals.weight, own = measure_share(ask->share, n);

	for (uint32_t i = 0; i < p->topk.n; i++)
		p->topk.row[i].own = measure_heavy(ask->share, n) &&
				     p->topk.row[i].upper > own;
	topk_truncate(p, measure_share(ask->alpha * ask->share, n));
}

static int parts_collect(const struct ask *ask, const struct monlink_read *r,
			 struct measure_result *res)
{
	int ret = 0;

	for (uint32_t i = 0; i < r->n_images && !ret; i++) {
		const struct ctl_image *img = r->image[i];
		struct part *p = NULL;

		ret = part_of_image(ask, img, &p);
		if (ret)
			return ret;
		p->totals = img->totals;
		p->saturated |= img->saturated != 0;
		res->start_ms = MAX(res->start_ms, img->began_ms);
		res->end_ms = MAX(res->end_ms, img->now_ms);
		if (!res->part) {
			res->part = p;
			continue;
		}
		ret = part_merge(res->part, p);
		part_free(p);
	}
	if (!ret && ask->kind == ASK_TOP)
		top_cut(ask, res->part);
	return ret;
}

/* What a window's number is of, where the task has windows. */
static void parts_name(const struct ask *ask, struct measure_result *res)
{
	if (res->part)
		res->part->window = ask->window;
}

static enum missing_reason reason_of(int status)
{
	switch (status) {
	case -ENOENT:
	case -EOPNOTSUPP:
		return MISSING_UNKNOWN_TASK;
	case EXACT_TOO_OLD:
	case -ENODATA:
		return MISSING_NO_WINDOW;
	default:
		return MISSING_MONITOR_DOWN;
	}
}

static void read_done(void *arg, const struct monlink_read *r)
{
	struct measure *m = arg;
	struct measure_result res = { .loss = r->loss };
	int ret = r->status;

	if (!ret && !r->n_images)
		ret = -EAGAIN;
	/* the rules are not as they should be: packets pass unseen */
	if (!ret &&
	    (r->rules == CTL_RULES_DEGRADED || r->rules == CTL_RULES_OFF))
		ret = -ESHUTDOWN;
	if (!ret)
		ret = parts_collect(m->ask, r, &res);
	parts_name(m->ask, &res);
	if (ret) {
		part_free(res.part);
		res.part = NULL;
		res.reason = reason_of(ret);
	}
	m->done(m->arg, &res);
	free(m);
}

/* A window is whole, or it is not there: half of one would be less. */
static void window_done(void *arg, const struct monlink_window *w)
{
	struct monlink_read r = w->read;

	if (r.status == -EAGAIN)
		r.status = -ENODATA; /* not closed yet */
	if (!r.status && (!w->has_loss || r.n_images < w->readers))
		r.status = -ENODATA;
	read_done(arg, &r);
}

struct measure *measure_start(struct agent *a, const struct ask *ask,
			      void (*done)(void *arg, struct measure_result *r),
			      void *arg)
{
	struct measure *m = calloc(1, sizeof(*m));
	uint32_t kinds;

	if (!m)
		return NULL;
	m->agent = a;
	m->ask = ask;
	m->done = done;
	m->arg = arg;
	kinds = rows[ask->kind].kinds & ask->task.kinds;
	m->op = ask->window ? monlink_window(a->monlink, ask->task.id,
					     ask->task.generation, ask->window,
					     kinds, window_done, m)
			    : monlink_read(a->monlink, ask->task.id,
					   ask->task.generation, kinds,
					   read_done, m);
	if (!m->op) {
		free(m);
		return NULL;
	}
	return m;
}

void measure_cancel(struct measure *m)
{
	if (!m)
		return;
	monlink_cancel(m->op);
	free(m);
}
