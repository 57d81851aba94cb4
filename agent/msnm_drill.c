/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From an interval to what made it: the contributors of this host's row; if a
 * child comes first, the same question to that child alone, and so on down the
 * tree; at the end the flows that the counters show.  A child that cannot
 * answer ends the path, with the reason.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/fanout.h"
#include "agent/json.h"
#include "agent/msnm_diag.h"
#include "common/log.h"
#include "common/util.h"

#define REPLY_MAX (256 * 1024)

struct msnm_drill {
	struct msnm_drill *next;
	struct msnm *m;
	uint64_t k;
	bool below;
	unsigned features, flows;
	struct msnm_diagnosis d;
	struct msnm_rank rank[DIAG_COUNTERS];
	unsigned n_rank;
	struct msnm_row *row;
	struct fanout *child;
	struct loop_timer now;
	char child_host[54];
	void (*done)(void *arg, const struct msnm_diagnosis *d);
	void *arg;
};

static void drill_free(struct msnm_drill *dr)
{
	struct msnm_drill **at;

	for (at = &dr->m->drills; *at != dr; at = &(*at)->next)
		;
	*at = dr->next;
	msnm_row_cancel(dr->row);
	fanout_free(dr->child);
	loop_timer_cancel(&dr->now);
	free(dr);
}

static void finish(void *arg)
{
	struct msnm_drill *dr = arg;

	dr->done(dr->arg, &dr->d);
	drill_free(dr);
}

void msnm_drill_end(struct msnm_drill *dr)
{
	finish(dr);
}

/* ---- contributors ---- */

struct found {
	const struct msnm_entry *en;
	size_t m;
	double *x, *z, *residual, *value;
	struct detect_contribution *top;
	size_t n_top;
};

static bool found_new(struct found *f, size_t m)
{
	f->m = m;
	f->x = calloc(4 * m, sizeof(double));
	f->top = calloc(m, sizeof(*f->top));
	if (!f->x || !f->top)
		return false;
	f->z = f->x + m;
	f->residual = f->z + m;
	f->value = f->residual + m;
	return true;
}

static void found_fini(struct found *f)
{
	free(f->x);
	free(f->top);
}

/* The row of the entry again, with the model that judged it. */
static bool contributions(struct msnm_drill *dr, struct found *f)
{
	const struct msnm_model *m = f->en->model;
	struct detect_imputed filled;
	struct detect_reason why;
	struct detect_stats stats;

	if (!found_new(f, m->m->m))
		return false;
	msnm_entry_cells(f->en, m, f->x);
	/* filled in as it was when the row was judged */
	if (detect_impute(m->m, f->en->by, f->x, &filled, &why) ||
	    detect_judge(m->m, f->x, f->z, f->residual, &stats))
		return false;
	dr->d.known = true;
	dr->d.d = detect_choose(m->m, &stats) == DETECT_BY_OMEDA;
	dr->d.value = dr->d.d ? stats.d : stats.q;
	dr->d.limit = dr->d.d ? m->m->limits.ucl_d : m->m->limits.ucl_q;
	if (dr->d.d)
		detect_omeda(m->m, f->z, f->value);
	else
		detect_signed_squares(f->residual, f->m, f->value);
	f->n_top = detect_largest(f->value, f->m, f->top, f->m);
	return true;
}

static void tops_put(struct msnm_drill *dr, const struct found *f)
{
	const struct msnm_model *m = f->en->model;

	for (size_t i = 0; i < MIN(f->n_top, dr->features); i++) {
		size_t at = f->top[i].column;

		if (fpclassify(f->top[i].value) == FP_ZERO)
			break;
		snprintf(dr->d.top[i].name, sizeof(dr->d.top[i].name), "%s",
			 m->m->schema.names[at]);
		dr->d.top[i].value = f->x[at];
		dr->d.top[i].mean = m->m->mean[at];
		dr->d.top[i].contribution = f->top[i].value;
		dr->d.n_top++;
	}
}

/* The counters with too much of something, and their shares. */
static void ranks_put(struct msnm_drill *dr, const struct found *f)
{
	unsigned first = features_first(dr->m->conf.blocks);
	double sum = 0;

	for (size_t i = 0; i < f->n_top && dr->n_rank < DIAG_COUNTERS; i++) {
		struct msnm_rank *r = &dr->rank[dr->n_rank];

		if (f->top[i].value <= 0 ||
		    f->top[i].column >= f->en->model->n_own)
			continue;
		r->position = (uint16_t)(first + f->top[i].column);
		/* halved: the sum of some may be too much for a double */
		r->weight = f->top[i].value / (2 * DIAG_COUNTERS);
		sum += r->weight;
		dr->n_rank++;
	}
	for (unsigned i = 0; i < dr->n_rank; i++)
		dr->rank[i].weight /= sum;
}

/* ---- flows of this host ---- */

static void flows_read(void *arg, const struct msnm_row_result *row)
{
	struct msnm_drill *dr = arg;

	dr->row = NULL;
	if (row->status)
		snprintf(dr->d.reason, sizeof(dr->d.reason), "flows: %s",
			 row->status == -ENODATA
				 ? "the monitor keeps the last 5 intervals"
				 : "the monitor does not answer");
	else
		msnm_flows_rank(&dr->d, row->flow, row->n_flows, dr->rank,
				dr->n_rank, dr->flows);
	finish(dr);
}

/* ---- below ---- */

static void child_replied(void *arg, const struct fanout_child *c,
			  const struct json *v, enum missing_reason why)
{
	struct msnm_drill *dr = arg;
	struct msnm_diagnosis below;

	if (why == MISSING_NONE &&
	    (msnm_diagnosis_parse(v, &below) || below.interval != dr->k ||
	     below.n_path > OVERLAY_HOPS)) {
		fanout_rejected(c, "malformed diagnosis");
		why = MISSING_REJECTED;
	}
	if (why != MISSING_NONE) {
		snprintf(dr->d.reason, sizeof(dr->d.reason), "%s: %s",
			 dr->child_host, missing_reason_name(why));
		return;
	}
	/* a child without statistics says why; what is here is more */
	if (!below.known) {
		snprintf(dr->d.reason, sizeof(dr->d.reason), "%s: %.40s",
			 dr->child_host,
			 below.reason[0] ? below.reason : "no statistics");
		return;
	}
	memmove(below.path + 1, below.path,
		sizeof(below.path[0]) * below.n_path);
	below.n_path++;
	memcpy(below.path[0], dr->d.path[0], sizeof(below.path[0]));
	dr->d = below; /* its reason, too */
}

static void child_done(void *arg)
{
	finish(arg);
}

static bool child_ask(struct msnm_drill *dr, const struct node_id *id,
		      const char *host, uint32_t budget_ms)
{
	struct buf b = BUF_INIT;
	struct json_out o;
	struct fanout_request rq = { .method = HTTP_POST,
				     .path = "/api/v1/peer/msnm/diagnosis",
				     .reply_max = REPLY_MAX,
				     .budget_ms = budget_ms,
				     .request_id = "",
				     .only = id };

	snprintf(dr->child_host, sizeof(dr->child_host), "%s", host);
	/* where the child is gone, nobody is asked */
	snprintf(dr->d.reason, sizeof(dr->d.reason), "%s: unreachable", host);
	json_out_init(&o, &b);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "interval", dr->k);
	json_put_u64(&o, "features", dr->features);
	json_put_u64(&o, "flows", dr->flows);
	json_close(&o, '}');
	rq.body = b.data;
	rq.len = b.len;
	if (!b.failed)
		dr->child = fanout_start(dr->m->agent, &rq, child_replied,
					 child_done, dr);
	buf_fini(&b);
	return dr->child != NULL;
}

/* ---- the question ---- */

/* Where it goes on from here; false: it is done. */
static bool go_on(struct msnm_drill *dr, const struct found *f,
		  uint32_t budget_ms)
{
	const struct msnm_model *m;
	size_t at;

	if (!f->en)
		return false;
	if (dr->below && f->en->via >= 0) {
		const struct msnm_child *c = &f->en->child[f->en->via];

		return child_ask(dr, &c->id, c->host, budget_ms);
	}
	if (!f->n_top)
		return false;
	m = f->en->model;
	at = f->top[0].column;
	if (dr->below && at >= m->n_own) {
		unsigned c = (unsigned)(at - m->n_own) / 2;

		return child_ask(dr, &m->set.child[c].id, m->set.child[c].host,
				 budget_ms);
	}
	ranks_put(dr, f);
	if (!dr->n_rank)
		return false;
	dr->row = msnm_row_read(dr->m, dr->k, true, flows_read, dr);
	return dr->row != NULL;
}

struct msnm_drill *
msnm_drill_start(struct msnm *m, uint64_t k, bool below, unsigned features,
		 unsigned flows, uint32_t budget_ms,
		 void (*done)(void *arg, const struct msnm_diagnosis *d),
		 void *arg)
{
	struct msnm_drill *dr = calloc(1, sizeof(*dr));
	struct found f = { .en = msnm_engine_find(&m->e, k) };
	bool more = false;

	if (!dr)
		return NULL;
	dr->m = m;
	dr->k = k;
	dr->below = below;
	dr->features = features;
	dr->flows = flows;
	dr->done = done;
	dr->arg = arg;
	dr->next = m->drills;
	m->drills = dr;
	dr->d.interval = k;
	dr->d.n_path = 1;
	snprintf(dr->d.path[0], sizeof(dr->d.path[0]), "%s", m->e.host);
	snprintf(dr->d.host, sizeof(dr->d.host), "%s", m->e.host);
	if (!f.en)
		snprintf(dr->d.reason, DIAG_REASON, "no row of that interval");
	else if (!f.en->model)
		snprintf(dr->d.reason, DIAG_REASON,
			 f.en->used.id ? "its model is not kept any more"
				       : "there was no model yet");
	else if (!f.en->has_stats || !contributions(dr, &f))
		snprintf(dr->d.reason, DIAG_REASON, "no statistics");
	else
		tops_put(dr, &f);
	more = go_on(dr, &f, budget_ms);
	found_fini(&f);
	if (!more && loop_timer_in(m->agent->loop, &dr->now, 0, finish, dr)) {
		drill_free(dr);
		return NULL;
	}
	return dr;
}
