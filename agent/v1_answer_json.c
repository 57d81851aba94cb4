/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An answer as JSON: its items, and the envelope that says how true they are.
 * One row per question says how its items and its error look.
 *
 * Only reads the answer, but for the order and number of its keys.  An upper
 * bound is null where a host is missing or a cell is full: nobody knows it.
 */
#include <assert.h>
#include <stdio.h>

#include "agent/measure.h"
#include "agent/overlay.h"
#include "agent/v1.h"
#include "common/util.h"

/* ---- items ---- */

struct item_context {
	const struct answer *an;
	bool hide_upper; /* a host may be missing, or a cell is full */
};

static void put_upper(struct json_out *o, const struct item_context *ic,
		      const struct interval *v)
{
	if (ic->hide_upper || v->saturated)
		json_put_null(o, "upper");
	else
		json_put_count(o, "upper", v->upper);
}

static void put_key(struct json_out *o, const struct answer *an,
		    const struct flow_key *k)
{
	char text[KEY_TEXT_LEN];

	key_format((enum key_type)an->task.key, k, text);
	json_put_str(o, "key", text);
}

static uint64_t n_hits(const struct answer *an)
{
	return an->n_hits;
}

static void put_hit(struct json_out *o, const struct item_context *ic,
		    uint32_t i)
{
	const struct hit *h = &ic->an->hit[i];
	uint64_t total = ic->an->part->totals.weight;

	json_put_u64(o, "rank", i + 1);
	put_key(o, ic->an, &h->key);
	json_put_count(o, "estimate", h->v.upper);
	json_put_count(o, "lower", h->v.lower);
	put_upper(o, ic, &h->v);
	json_put_real(o, "share",
		      total ? (double)h->v.upper / (double)total : 0);
	json_put_bool(o, "certain", h->certain);
}

static uint64_t n_realtime(const struct answer *an)
{
	return an->part->exact.n;
}

static void put_realtime(struct json_out *o, const struct item_context *ic,
			 uint32_t i)
{
	const struct exact_row *row = &ic->an->part->exact.row[i];

	put_key(o, ic->an, &row->key);
	json_put_count(o, "value", row->value);
}

static uint64_t n_one(const struct answer *an)
{
	(void)an;
	return 1;
}

static void put_distinct(struct json_out *o, const struct item_context *ic,
			 uint32_t i)
{
	struct distinct d;

	(void)i;
	hll_read(ic->an->part, &d);
	json_put_count(o, "estimate", d.estimate);
	json_put_count(o, "lower", d.lower);
	if (ic->hide_upper || d.saturated)
		json_put_null(o, "upper");
	else
		json_put_count(o, "upper", d.upper);
}

static void put_totals(struct json_out *o, const struct item_context *ic,
		       uint32_t i)
{
	const struct totals *t = &ic->an->part->totals;

	(void)i;
	json_put_count(o, "packets", t->pkt);
	json_put_count(o, "bytes", t->byte);
	json_put_count(o, "segments", t->segment);
	json_put_count(o, "hidden_bytes", t->hidden_byte);
}

static uint64_t n_points(const struct answer *an)
{
	return an->part->points.n;
}

/* The largest over-count of what is in this answer. */
static uint64_t error_max(const struct answer *an)
{
	uint64_t max = 0;

	if (an->kind == ASK_TOP) {
		for (uint32_t i = 0; i < an->n_hits; i++)
			max = MAX(max, an->hit[i].v.upper - an->hit[i].v.lower);
	} else if (an->kind == ASK_POINTS) {
		for (uint32_t i = 0; i < an->part->points.n; i++)
			max = MAX(max, an->part->points.v[i].upper -
					       an->part->points.v[i].lower);
	}
	return max;
}

static void error_over(const struct answer *an, const char **kind,
		       uint64_t *max, double *confidence)
{
	*max = error_max(an);
	*kind = *max ? "over" : "none";
	/* what a table of heavy keys says is certain */
	if (*max && an->part->kind == PART_POINTS &&
	    an->task.kinds & 1u << SKETCH_CMS)
		*confidence = cms_confidence(&an->part->params);
}

static void error_distinct(const struct answer *an, const char **kind,
			   uint64_t *max, double *confidence)
{
	struct distinct d;

	hll_read(an->part, &d);
	if (d.exact)
		return;
	*kind = "two-sided";
	*max = MAX(d.upper - d.estimate, d.estimate - d.lower);
	*confidence = 0.95;
}

static void error_spilled(const struct answer *an, const char **kind,
			  uint64_t *max, double *confidence)
{
	(void)confidence;
	if (!an->part->exact.spilled)
		return;
	*kind = "two-sided";
	*max = an->part->exact.spilled;
}

static void put_point(struct json_out *o, const struct item_context *ic,
		      uint32_t i)
{
	const struct interval *v = &ic->an->part->points.v[i];

	put_key(o, ic->an, &ic->an->keys[i]);
	json_put_count(o, "estimate", v->upper);
	json_put_count(o, "lower", v->lower);
	put_upper(o, ic, v);
}

static const char *const units[] = {
	[INC_PKT] = "packets",
	[INC_BYTE] = "bytes",
	[INC_SEGMENT] = "segments",
};
static_assert(ARRAY_SIZE(units) == INCREMENTS, "a unit for each increment");

/* How the answers of each question look. */
static const struct answer_row {
	const char *algorithm, *unit; /* unit NULL: the increment's */
	bool list, sliding;
	uint64_t (*count)(const struct answer *an);
	void (*put)(struct json_out *o, const struct item_context *ic,
		    uint32_t i);
	/* NULL: exact.  Sets what differs from "none", 0, 1. */
	void (*error)(const struct answer *an, const char **kind, uint64_t *max,
		      double *confidence);
} rows[] = {
	[ASK_TOTALS] = { "exact", "packets", false, false, n_one, put_totals,
			 NULL },
	[ASK_POINTS] = { "cms", NULL, true, false, n_points, put_point,
			 error_over },
	[ASK_TOP] = { "topk+cms", NULL, true, false, n_hits, put_hit,
		      error_over },
	[ASK_DISTINCT] = { "hll", "keys", false, false, n_one, put_distinct,
			   error_distinct },
	[ASK_REALTIME] = { "exact", NULL, true, true, n_realtime, put_realtime,
			   error_spilled },
	[ASK_REALTIME_DISTINCT] = { "exact+hll", "keys", false, true, n_one,
				    put_distinct, error_distinct },
};
static_assert(ARRAY_SIZE(rows) == ASK_KINDS, "a row for each question");

/* ---- meta ---- */

static void put_window(struct json_out *o, const struct answer *an)
{
	const struct coverage *cov = &an->coverage;
	uint64_t start = cov->start_max_ms, end = cov->end_max_ms;
	const char *kind = "since";

	if (an->window) {
		kind = "tumbling";
		start = an->window * an->task.window_ms;
		end = start + an->task.window_ms;
	} else if (rows[an->kind].sliding) {
		kind = "sliding";
		end = (an->part->end_slot + 1) * 100;
		start = end - 1000;
	}
	json_open(o, "window", '{');
	json_put_str(o, "kind", kind);
	v1_put_time(o, "start", start);
	json_put_fixed(o, "seconds",
		       end > start ? (double)(end - start) / 1000 : 0, 3);
	json_close(o, '}');
}

static void put_parameters(struct json_out *o, const struct sketch_params *p,
			   enum ask_kind kind)
{
	json_open(o, "parameters", '{');
	if (kind == ASK_TOP)
		json_put_u64(o, "slots", p->topk_slots);
	if (kind == ASK_TOP || kind == ASK_POINTS) {
		json_put_u64(o, "width", p->cms_width);
		json_put_u64(o, "depth", p->cms_depth);
	}
	if (kind == ASK_DISTINCT)
		json_put_u64(o, "registers", UINT64_C(1) << p->hll_p);
	if (kind == ASK_REALTIME || kind == ASK_REALTIME_DISTINCT)
		json_put_u64(o, "keys", p->exact_cap);
	json_close(o, '}');
}

static void put_error(struct json_out *o, const struct answer *an)
{
	const char *kind = "none";
	uint64_t max = 0;
	double confidence = 1;

	if (rows[an->kind].error)
		rows[an->kind].error(an, &kind, &max, &confidence);
	json_open(o, "error", '{');
	json_put_str(o, "kind", kind);
	json_put_count(o, "max", max);
	json_put_fixed(o, "confidence", confidence, 3);
	json_close(o, '}');
}

static void put_volume(struct json_out *o, const char *name, uint64_t packets,
		       uint64_t bytes)
{
	json_open(o, name, '{');
	json_put_count(o, "packets", packets);
	json_put_count(o, "bytes", bytes);
	json_close(o, '}');
}

static void put_loss(struct json_out *o, const struct answer *an)
{
	const struct ctl_loss *l = &an->coverage.loss;
	const struct totals *t = &an->part->totals;

	json_open(o, "loss", '{');
	put_volume(o, "matched", l->matched.packets, l->matched.bytes);
	put_volume(o, "received", l->received.packets, l->received.bytes);
	put_volume(o, "missed", an->missed_packets, an->missed_bytes);
	if (t->unkeyed_pkt)
		put_volume(o, "unkeyed", t->unkeyed_pkt, t->unkeyed_byte);
	json_close(o, '}');
}

/* Keys that are in no item: past n, or spilled from a full table. */
static uint64_t truncated(const struct answer *an)
{
	if (an->kind == ASK_TOP)
		return an->left_out;
	return an->kind == ASK_REALTIME ? an->part->exact.evicted : 0;
}

/* ---- who gave what ---- */

#define CONTRIBUTOR_ROWS 100

static void put_points(struct json_out *o, const struct item_context *ic)
{
	const struct part *p = ic->an->part;

	json_open(o, "points", '[');
	for (uint32_t i = 0; i < p->points.n && ic->an->keys; i++) {
		json_open(o, NULL, '{');
		put_point(o, ic, i);
		json_close(o, '}');
	}
	json_close(o, ']');
}

/* Its part as far as it has readable items; all have totals. */
static void put_part(struct json_out *o, const struct answer *an,
		     const struct coverage *cov, struct part *p)
{
	/* as if it were the whole answer */
	struct answer alone = {
		.kind = an->kind, .task = an->task, .part = p, .keys = an->keys
	};
	struct item_context ic = { .an = &alone };

	for (unsigned r = 0; r < MISSING_REASONS; r++)
		ic.hide_upper |= cov->reasons[r] != 0;
	put_totals(o, &ic, 0);
	json_put_count(o, "weight", p->totals.weight);
	if (p->kind == PART_POINTS)
		put_points(o, &ic);
	else if (p->kind == PART_HLL)
		put_distinct(o, &ic, 0);
	if (p->kind != PART_EXACT)
		return;
	exact_cap(p, CONTRIBUTOR_ROWS);
	json_open(o, "values", '[');
	for (uint32_t i = 0; i < p->exact.n; i++) {
		json_open(o, NULL, '{');
		put_realtime(o, &ic, i);
		json_close(o, '}');
	}
	json_close(o, ']');
}

static void put_contributor(struct json_out *o, const struct agent *a,
			    const struct answer *an, struct contributor *c)
{
	char host[ENDPOINT_TEXT_LEN] = "", id[33];
	const struct tree_row *row;
	unsigned n;

	row = overlay_rows(a->overlay, &n);
	for (unsigned i = 0; i < n; i++) {
		struct endpoint ep = i ? row[i].ep
				       : overlay_endpoint(a->overlay);

		if (node_id_equal(&row[i].id, &c->id))
			endpoint_format(&ep, 8000, host);
	}
	node_id_format(&c->id, id);
	json_open(o, NULL, '{');
	json_put_str(o, "host", host);
	json_put_str(o, "node_id", id);
	if (c->why == MISSING_NONE)
		json_put_null(o, "reason");
	else
		json_put_str(o, "reason", missing_reason_name(c->why));
	json_put_u64(o, "hosts_answered", c->coverage.answered);
	if (c->part)
		put_part(o, an, &c->coverage, c->part);
	json_close(o, '}');
}

static void put_contributors(struct json_out *o, const struct v1_call *c,
			     const struct answer *an)
{
	if (!an->has_contributors)
		return;
	json_open(o, "contributors", '[');
	for (unsigned i = 0; i < an->contributors.n; i++)
		put_contributor(o, c->agent, an, &an->contributors.row[i]);
	json_close(o, ']');
}

/* Only where there are some. */
static void put_warnings(struct json_out *o, const struct answer *an)
{
	char text[128];

	if (!an->coverage.skew)
		return;
	snprintf(text, sizeof(text), "skew: the clock of %s is up to %u ms off",
		 an->report.skewed[0] ? an->report.skewed : "a host",
		 an->coverage.clock_err_ms);
	json_open(o, "warnings", '[');
	json_put_str(o, NULL, text);
	json_close(o, ']');
}

static void put_meta(struct json_out *o, const struct v1_call *c,
		     const struct answer *an)
{
	const struct answer_row *row = &rows[an->kind];

	json_open(o, "meta", '{');
	json_put_str(o, "unit",
		     row->unit ? row->unit : units[an->task.increment]);
	json_put_str(o, "scope", c->f.host_only ? "host" : "tree");
	put_window(o, an);
	json_put_str(o, "algorithm", row->algorithm);
	if (an->kind == ASK_TOP)
		json_put_str(o, "recall",
			     an->recall_certain ? "certain" : "best_effort");
	put_parameters(o, &an->part->params, an->kind);
	put_error(o, an);
	v1_put_coverage(o, &an->report);
	put_loss(o, an);
	put_contributors(o, c, an);
	json_put_u64(o, "truncated", truncated(an));
	v1_put_cursor(c, o);
	put_warnings(o, an);
	json_put_u64(o, "epoch", an->report.epoch);
	json_put_u64(o, "hops", an->coverage.hops);
	json_put_u64(o, "elapsed_ms", an->elapsed_ms);
	json_put_str(o, "request_id", c->rq->id);
	json_close(o, '}');
}

/* ---- all of it ---- */

bool v1_answer_sliding(enum ask_kind kind)
{
	return rows[kind].sliding;
}

void v1_answer_send(struct v1_call *c, const struct answer *an)
{
	const struct answer_row *row = &rows[an->kind];
	struct item_context ic = { .an = an };
	struct http_reply r;
	struct json_out o;

	ic.hide_upper = !an->report.all_in || an->coverage.saturated ||
			an->part->saturated;
	if (an->kind == ASK_REALTIME)
		answer_order_keys(an);
	v1_page(c, row->count(an));
	v1_begin(&r, &o, 200);
	json_open(&o, "data", row->list ? '[' : '{');
	for (uint32_t i = c->offset; i < c->offset + c->n_page; i++) {
		if (row->list)
			json_open(&o, NULL, '{');
		row->put(&o, &ic, i);
		if (row->list)
			json_close(&o, '}');
	}
	json_close(&o, row->list ? ']' : '}');
	put_meta(&o, c, an);
	json_close(&o, '}');
	v1_send(c, &r);
}
