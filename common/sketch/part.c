// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Parts: what images answer, merged over readers and hosts.  A merge builds the
 * new data aside and then takes it over, so that a refusal or lack of memory
 * leaves the accumulator as it was.  A part owns its arrays.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/sketch/ops.h"
#include "common/util.h"

struct part *part_new(enum part_kind k, const struct task_spec *t)
{
	struct part *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->kind = k;
	p->task = t->id;
	p->generation = t->generation;
	p->fp = hash_fingerprint(&t->seed);
	sketch_params_default(&p->params, t);
	return p;
}

void part_clear(struct part *p)
{
	switch (p->kind) {
	case PART_POINTS:
		free(p->points.v);
		memset(&p->points, 0, sizeof(p->points));
		break;
	case PART_TOPK:
		free(p->topk.row);
		memset(&p->topk, 0, sizeof(p->topk));
		break;
	case PART_EXACT:
		free(p->exact.row);
		memset(&p->exact, 0, sizeof(p->exact));
		break;
	case PART_HLL:
		free(p->hll.small);
		free(p->hll.reg);
		memset(&p->hll, 0, sizeof(p->hll));
		break;
	case PART_TOTALS:
	case PART_KINDS:
		break;
	}
}

void part_free(struct part *p)
{
	if (!p)
		return;
	part_clear(p);
	free(p);
}

/* Without data and without a window of its own: merges with any window. */
static bool is_blank(const struct part *p)
{
	if (p->n_slots != 0)
		return false;
	if (p->kind == PART_EXACT)
		return p->exact.n == 0 && p->exact.spilled == 0;
	return p->kind != PART_HLL || (!p->hll.reg && p->hll.n_small == 0);
}

static bool window_differs(const struct part *a, const struct part *b)
{
	if (a->params.window_ms != b->params.window_ms ||
	    a->window != b->window)
		return true;
	if (is_blank(a) || is_blank(b))
		return false;
	return a->n_slots != b->n_slots || a->end_slot != b->end_slot;
}

/* hll parts of unequal p fold; points are numbers, whatever they came from. */
static bool params_differ(const struct part *a, const struct part *b)
{
	switch (a->kind) {
	case PART_TOPK:
		return a->params.topk_slots != b->params.topk_slots;
	case PART_EXACT:
		return a->params.exact_cap != b->params.exact_cap;
	case PART_POINTS:
		return a->points.n != 0 && b->points.n != 0 &&
		       a->points.n != b->points.n;
	default:
		return false;
	}
}

static enum merge_refusal refusal(const struct part *a, const struct part *b)
{
	if (a->kind != b->kind)
		return MERGE_KIND;
	if (a->task != b->task)
		return MERGE_TASK;
	if (a->generation != b->generation)
		return MERGE_GENERATION;
	if (a->fp != b->fp)
		return MERGE_SEED;
	if (a->params.key != b->params.key)
		return MERGE_KEY;
	if (a->params.increment != b->params.increment)
		return MERGE_INCREMENT;
	if (window_differs(a, b))
		return MERGE_WINDOW;
	if (params_differ(a, b))
		return MERGE_PARAMS;
	return MERGE_OK;
}

static void interval_add(struct interval *acc, const struct interval *in)
{
	bool over = false, low = false;

	acc->lower = u64_add_sat(acc->lower, in->lower, &low);
	acc->lower99 = u64_add_sat(acc->lower99, in->lower99, &low);
	acc->upper = u64_add_sat(acc->upper, in->upper, &over);
	acc->point = u64_add_sat(acc->point, in->point, &low);
	/* what was saturated is at its end, so that the sum is too */
	acc->saturated |= in->saturated || over;
}

static int points_merge(struct part *acc, const struct part *in)
{
	if (in->points.n == 0)
		return 0;
	if (acc->points.n == 0) {
		struct interval *v = calloc(in->points.n, sizeof(*v));

		if (!v)
			return -ENOMEM;
		memcpy(v, in->points.v, in->points.n * sizeof(*v));
		free(acc->points.v);
		acc->points.v = v;
		acc->points.n = in->points.n;
		return 0;
	}
	for (uint32_t i = 0; i < in->points.n; i++)
		interval_add(&acc->points.v[i], &in->points.v[i]);
	return 0;
}

/* Order of the next keys of two sorted arrays; NULL: at its end. */
static int order(const struct flow_key *a, const struct flow_key *b)
{
	if (a && b)
		return sketch_key_compare(a, b);
	return a ? -1 : 1;
}

/* A key that one side lacks has at most that side's floor there. */
static void topk_row_add(struct topk_row *row, const struct topk_row *in,
			 uint64_t floor, bool *saturated)
{
	row->upper = u64_add_sat(row->upper, in ? in->upper : floor, saturated);
	row->err = u64_add_sat(row->err, in ? in->err : floor, saturated);
	row->own |= in && in->own;
}

static int topk_merge(struct part *acc, const struct part *in)
{
	uint32_t cap = acc->topk.n + in->topk.n, n = 0, i = 0, j = 0;
	struct topk_row *out = calloc(MAX(cap, 1), sizeof(*out));

	if (!out)
		return -ENOMEM;
	while (i < acc->topk.n || j < in->topk.n) {
		const struct topk_row *a = NULL, *b = NULL;
		int cmp;

		if (i < acc->topk.n)
			a = &acc->topk.row[i];
		if (j < in->topk.n)
			b = &in->topk.row[j];
		cmp = order(a ? &a->key : NULL, b ? &b->key : NULL);
		if (cmp <= 0) {
			out[n] = *a;
			topk_row_add(&out[n], cmp == 0 ? b : NULL,
				     in->topk.floor, &acc->saturated);
			i++;
			j += cmp == 0;
		} else if (b) {
			out[n] = *b;
			topk_row_add(&out[n], NULL, acc->topk.floor,
				     &acc->saturated);
			j++;
		}
		n++;
	}
	free(acc->topk.row);
	acc->topk.row = out;
	acc->topk.n = n;
	acc->topk.cap = MAX(cap, 1);
	acc->topk.floor =
		u64_add_sat(acc->topk.floor, in->topk.floor, &acc->saturated);
	topk_cap(acc, acc->params.topk_slots);
	return 0;
}

static int exact_merge(struct part *acc, const struct part *in)
{
	uint32_t cap = acc->exact.n + in->exact.n, n = 0, i = 0, j = 0;
	struct exact_row *out = calloc(MAX(cap, 1), sizeof(*out));

	if (!out)
		return -ENOMEM;
	while (i < acc->exact.n || j < in->exact.n) {
		const struct exact_row *a = NULL, *b = NULL;
		int cmp;

		if (i < acc->exact.n)
			a = &acc->exact.row[i];
		if (j < in->exact.n)
			b = &in->exact.row[j];
		cmp = order(a ? &a->key : NULL, b ? &b->key : NULL);
		if (a && cmp <= 0)
			out[n] = *a;
		if (b && cmp > 0)
			out[n] = *b;
		if (cmp == 0)
			out[n].value = u64_add_sat(a->value, b->value,
						   &acc->saturated);
		i += cmp <= 0;
		j += cmp >= 0;
		n++;
	}
	free(acc->exact.row);
	acc->exact.row = out;
	acc->exact.n = n;
	acc->exact.cap = MAX(cap, 1);
	acc->exact.spilled = u64_add_sat(acc->exact.spilled, in->exact.spilled,
					 &acc->saturated);
	acc->exact.evicted = u64_add_sat(acc->exact.evicted, in->exact.evicted,
					 &acc->saturated);
	exact_cap(acc, acc->params.exact_cap);
	return 0;
}

static int data_merge(struct part *acc, const struct part *in)
{
	switch (acc->kind) {
	case PART_POINTS:
		return points_merge(acc, in);
	case PART_TOPK:
		return topk_merge(acc, in);
	case PART_EXACT:
		return exact_merge(acc, in);
	case PART_HLL:
		return hll_merge(acc, in);
	default:
		return 0;
	}
}

int part_merge(struct part *acc, const struct part *in)
{
	int ret = (int)refusal(acc, in);

	if (ret != MERGE_OK)
		return ret;
	ret = data_merge(acc, in);
	if (ret < 0)
		return ret;
	if (in->n_slots != 0) {
		acc->n_slots = in->n_slots;
		acc->end_slot = in->end_slot;
	}
	totals_add(&acc->totals, &in->totals, &acc->saturated);
	acc->saturated |= in->saturated;
	return 0;
}

static int compare_key(const void *a, const void *b)
{
	const struct topk_row *x = a, *y = b;

	return sketch_key_compare(&x->key, &y->key);
}

/* What topk knows for certain. */
static int points_certain(struct part *p, const void *topk,
			  const struct flow_key *keys)
{
	uint64_t floor;
	uint32_t n;
	struct topk_row *rows = topk_rows(topk, 0, &n, &floor);

	if (!rows)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->points.n; i++) {
		struct topk_row want = { .key = keys[i] };
		const struct topk_row *row =
			bsearch(&want, rows, n, sizeof(*rows), compare_key);
		struct interval *v = &p->points.v[i];

		v->upper = row ? row->upper : floor;
		v->lower = v->lower99 = row ? row->upper - row->err : 0;
		v->point = row ? row->upper - row->err / 2 : 0;
		v->saturated = v->upper == UINT64_MAX;
	}
	free(rows);
	return 0;
}

int part_points(const struct task_spec *t, const void *cms, const void *topk,
		const struct flow_key *keys, uint32_t n, struct part **out)
{
	struct part *p;
	int ret = 0;

	if (!cms && !topk)
		return -EOPNOTSUPP;
	p = part_new(PART_POINTS, t);
	if (!p)
		return -ENOMEM;
	p->points.v = calloc(MAX(n, 1), sizeof(*p->points.v));
	if (!p->points.v) {
		ret = -ENOMEM;
		goto out;
	}
	p->points.n = n;
	for (uint32_t i = 0; i < n; i++)
		p->points.v[i].upper = UINT64_MAX;
	if (topk)
		ret = points_certain(p, topk, keys);
	if (cms && !ret)
		cms_points(t, cms, keys, n, p->points.v);
	for (uint32_t i = 0; i < n; i++)
		p->saturated |= p->points.v[i].saturated;
out:
	if (ret < 0)
		part_free(p);
	else
		*out = p;
	return ret;
}
