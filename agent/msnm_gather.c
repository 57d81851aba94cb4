/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One interval, gathered: the row of this host's monitor, asked again while
 * its window is being closed, and at once what the children say of the same
 * interval.  When both are there, or the time is over, it is done with what
 * there is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/fanout.h"
#include "agent/msnm_private.h"
#include "agent/overlay.h"
#include "common/log.h"
#include "common/util.h"

#define AGAIN_MS  100
#define REPLY_MAX (64 * 1024)

struct msnm_gather {
	struct msnm *m;
	uint64_t deadline_ms; /* monotonic */
	struct msnm_row *read;
	struct loop_timer again, end;
	struct fanout *children;
	bool row_in, children_in;
	struct msnm_gather_result r;
	void (*done)(struct msnm *m, struct msnm_gather_result *r);
};

void msnm_gather_free(struct msnm_gather *g)
{
	if (!g)
		return;
	msnm_row_cancel(g->read);
	loop_timer_cancel(&g->again);
	loop_timer_cancel(&g->end);
	fanout_free(g->children);
	free(g);
}

static int child_order(const void *a, const void *b)
{
	const struct msnm_child *x = a, *y = b;

	return memcmp(x->id.b, y->id.b, sizeof(x->id.b));
}

static void finish(struct msnm_gather *g)
{
	struct agent *a = g->m->agent;
	const struct node_id *self = overlay_self(a->overlay);
	struct msnm_gather_result *r = &g->r;
	uint64_t w = (uint64_t)g->m->conf.window_s * 1000;
	struct ctl_loss loss = { 0 };
	struct coverage own;

	if (r->has_row) {
		loss.matched.packets = r->missed;
		coverage_answered(&own, a->conf->overlay_name, self, &loss,
				  r->k * w, (r->k + 1) * w);
		coverage_merge(&r->coverage, &own, false);
	} else {
		coverage_missing(&r->coverage, self, r->why, true);
	}
	qsort(r->child, r->n, sizeof(r->child[0]), child_order);
	g->done(g->m, r);
	msnm_gather_free(g);
}

static void check(struct msnm_gather *g)
{
	if (g->row_in && g->children_in)
		finish(g);
}

/* ---- the row of this host ---- */

static void read_begin(void *arg);

static enum missing_reason reason_of(int status)
{
	switch (status) {
	case -ENOENT:
		return MISSING_UNKNOWN_TASK;
	case -EAGAIN:
	case -ENODATA:
		return MISSING_NO_WINDOW;
	case -ETIMEDOUT:
		return MISSING_TIMEOUT;
	default:
		return MISSING_MONITOR_DOWN;
	}
}

static void row_read(void *arg, const struct msnm_row_result *row)
{
	struct msnm_gather *g = arg;
	struct msnm_gather_result *r = &g->r;

	g->read = NULL;
	/* the reader closes a window a moment after its end */
	if (row->status == -EAGAIN &&
	    clock_mono_ms() + 2 * AGAIN_MS < g->deadline_ms) {
		loop_timer_in(g->m->agent->loop, &g->again, AGAIN_MS,
			      read_begin, g);
		return;
	}
	g->row_in = true;
	r->has_row = !row->status;
	r->why = reason_of(row->status);
	if (r->has_row) {
		r->quality = row->quality;
		r->missed = row->missed;
		r->overflow = row->overflow;
		memcpy(r->x, row->x, sizeof(r->x));
	}
	check(g);
}

static void read_begin(void *arg)
{
	struct msnm_gather *g = arg;
	struct msnm_row_result none = { .status = -ENOMEM };

	g->read = msnm_row_read(g->m, g->r.k, false, row_read, g);
	if (!g->read)
		row_read(g, &none);
}

/* ---- children ---- */

static void child_replied(void *arg, const struct fanout_child *c,
			  const struct json *v, enum missing_reason why)
{
	struct msnm_gather *g = arg;
	struct msnm_gather_result *r = &g->r;
	struct msnm_child *ch;
	struct coverage cov;

	if (r->n == MSNM_CHILD)
		return;
	ch = &r->child[r->n];
	*ch = (struct msnm_child){ .id = c->id, .why = why };
	endpoint_format(&c->ep, 8000, ch->host);
	if (why == MISSING_NONE) {
		if (msnm_peer_parse(v, g->m, r->k, ch, &cov) ||
		    cov.answered > c->hosts) {
			fanout_rejected(c, "malformed");
			why = ch->why = MISSING_REJECTED;
			ch->has = false;
		}
	}
	r->n++;
	if (why == MISSING_NONE)
		coverage_merge(&r->coverage, &cov, true);
	else
		coverage_missing(&r->coverage, &c->id, why, false);
}

static void children_done(void *arg)
{
	struct msnm_gather *g = arg;

	fanout_free(g->children);
	g->children = NULL;
	g->children_in = true;
	check(g);
}

/* Earlier intervals that a child had nothing to say of yet. */
static void body_write(const struct msnm_gather *g, struct buf *b)
{
	struct json_out o;

	json_out_init(&o, b);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "interval", g->r.k);
	json_open(&o, "earlier", '[');
	for (uint64_t k = g->r.k - 1; k + 4 > g->r.k; k--) {
		const struct msnm_entry *en = msnm_engine_find(&g->m->e, k);
		bool lacks = false;

		for (unsigned i = 0; en && i < en->n_child; i++)
			lacks |= !en->child[i].has;
		if (lacks)
			json_put_u64(&o, NULL, k);
	}
	json_close(&o, ']');
	json_close(&o, '}');
}

static int children_ask(struct msnm_gather *g, uint32_t budget_ms)
{
	struct agent *a = g->m->agent;
	struct buf body = BUF_INIT;
	struct fanout_request rq = { .method = HTTP_POST,
				     .path = "/api/v1/peer/msnm",
				     .reply_max = REPLY_MAX,
				     .budget_ms = budget_ms,
				     .request_id = "" };

	if (!g->m->conf.children || !overlay_n_children(a->overlay)) {
		g->children_in = true;
		return 0;
	}
	body_write(g, &body);
	rq.body = body.data;
	rq.len = body.len;
	if (!body.failed)
		g->children =
			fanout_start(a, &rq, child_replied, children_done, g);
	buf_fini(&body);
	return g->children ? 0 : -ENOMEM;
}

/* Only the monitor may be this late; children were told to be earlier. */
static void over(void *arg)
{
	struct msnm_gather *g = arg;
	struct msnm_row_result none = { .status = -ETIMEDOUT };

	msnm_row_cancel(g->read);
	g->read = NULL;
	loop_timer_cancel(&g->again);
	if (!g->row_in)
		row_read(g, &none);
}

struct msnm_gather *
msnm_gather_start(struct msnm *m, uint64_t k,
		  void (*done)(struct msnm *m, struct msnm_gather_result *r))
{
	struct msnm_gather *g = calloc(1, sizeof(*g));
	struct node_id path[OVERLAY_HOPS];
	uint32_t budget;

	if (!g)
		return NULL;
	budget =
		msnm_budget_ms(&m->conf, overlay_path(m->agent->overlay, path));
	g->m = m;
	g->r.k = k;
	g->done = done;
	g->deadline_ms = clock_mono_ms() + budget;
	if (!children_ask(g, budget) &&
	    !loop_timer_in(m->agent->loop, &g->again, 0, read_begin, g) &&
	    !loop_timer_in(m->agent->loop, &g->end, budget, over, g))
		return g;
	msnm_gather_free(g);
	return NULL;
}
