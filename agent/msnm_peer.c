/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What agents ask each other: POST /api/v1/peer/msnm {"interval", "earlier"} is
 * answered when that interval was judged here, or the time of the question is
 * over, with this host's statistics and the coverage of its subtree; values of
 * earlier intervals that the parent lacks come along.  Asked by the parent
 * under its lease only.  What a child says is checked like any input.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/fanout.h"
#include "agent/json.h"
#include "agent/msnm_private.h"
#include "agent/overlay.h"
#include "common/util.h"

#define EARLIER 4
#define WAITS   8
#define GEN_MAX (UINT64_C(1) << 53)

struct msnm_wait {
	struct msnm_wait *next;
	struct msnm *m;
	struct http_request *rq;
	struct loop_timer end;
	uint64_t k, earlier[EARLIER];
	unsigned n_earlier;
};

/* ---- answering ---- */

static void put_value(struct json_out *o, const struct msnm_entry *en)
{
	/* nothing is known of this host: it is missed, like before */
	if (en->no_row && !en->beyond.is)
		return;
	json_open(o, NULL, '{');
	json_put_u64(o, "interval", en->interval);
	json_put_str(o, "state", msnm_state_name(en->state));
	json_put_u64(o, "generation", en->used.generation);
	json_put_u64(o, "revision", en->used.revision);
	if (en->has_stats) {
		json_put_real(o, "q", en->q);
		json_put_real(o, "d", en->d);
		json_put_real(o, "ucl_q", en->ucl_q);
		json_put_real(o, "ucl_d", en->ucl_d);
	}
	if (en->beyond.is) {
		json_open(o, "beyond", '{');
		json_put_str(o, "statistic", en->beyond.d ? "d" : "q");
		json_put_real(o, "value", en->beyond.value);
		json_put_real(o, "limit", en->beyond.limit);
		json_close(o, '}');
	}
	json_close(o, '}');
}

static void put_coverage(struct json_out *o, const struct msnm *m,
			 const struct msnm_entry *en)
{
	struct coverage none = { 0 };

	if (en) {
		coverage_encode(o, "coverage", &en->coverage);
		return;
	}
	coverage_missing(&none, overlay_self(m->agent->overlay),
			 m->task.id ? MISSING_NO_WINDOW : MISSING_UNKNOWN_TASK,
			 false);
	coverage_encode(o, "coverage", &none);
}

static void answer(struct msnm_wait *w)
{
	const struct msnm *m = w->m;
	const struct msnm_entry *en = msnm_engine_find(&m->e, w->k), *old;
	struct msnm_wait **at = &w->m->waits;
	struct http_reply r;
	struct json_out o;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	loop_timer_cancel(&w->end);
	http_reply_init(&r, 200, HTTP_JSON);
	json_out_init(&o, &r.body);
	json_open(&o, NULL, '{');
	json_put_str(&o, "phase", msnm_phase_name(msnm_phase_of(m)));
	json_put_bool(&o, "settled", msnm_settled(m));
	json_put_hex(&o, "schema",
		     features_schema((enum feature_semantics)m->conf.semantics,
				     m->conf.window_s, m->conf.blocks));
	json_open(&o, "values", '[');
	if (en)
		put_value(&o, en);
	for (unsigned i = 0; i < w->n_earlier; i++) {
		old = msnm_engine_find(&m->e, w->earlier[i]);
		if (old)
			put_value(&o, old);
	}
	json_close(&o, ']');
	put_coverage(&o, m, en);
	json_close(&o, '}');
	http_send(w->rq, &r);
	free(w);
}

void msnm_peer_judged(struct msnm *m, uint64_t k)
{
	struct msnm_wait *w, *next;

	for (w = m->waits; w; w = next) {
		next = w->next;
		if (w->k <= k)
			answer(w);
	}
}

void msnm_peer_free(struct msnm *m)
{
	while (m->waits)
		answer(m->waits);
}

static void waited(void *arg)
{
	answer(arg);
}

static void reply_error(struct http_request *rq, enum error_code code)
{
	struct error e;

	error_set(&e, code, "", "");
	http_send_error(rq, &e);
}

static int body_parse(const struct http_request *rq, struct msnm_wait *w)
{
	const struct json *list;
	struct json *v = NULL;
	int ret = -EINVAL;

	if (json_parse(rq->body, rq->body_len, &v) ||
	    json_u64(json_get(v, "interval"), 1, GEN_MAX, &w->k))
		goto out;
	list = json_get(v, "earlier");
	for (size_t i = 0; i < json_len(list) && i < EARLIER; i++)
		if (!json_u64(json_at(list, i), 1, GEN_MAX,
			      &w->earlier[w->n_earlier]))
			w->n_earlier++;
	ret = 0;
out:
	json_free(v);
	return ret;
}

/* What a question of another agent may take; 0: the refusal was sent. */
static uint32_t budget_left(struct agent *a, struct http_request *rq)
{
	uint32_t ms = 0;
	enum error_code code = fanout_budget(a, rq, &ms);

	if (code)
		reply_error(rq, code);
	return ms;
}

void msnm_peer_serve(void *ctx, struct http_request *rq)
{
	struct agent *a = ctx;
	struct msnm *m = a->msnm;
	struct msnm_wait *w;
	uint32_t budget = budget_left(a, rq);
	unsigned n = 0;

	if (!budget)
		return;
	w = calloc(1, sizeof(*w));
	if (!w || body_parse(rq, w)) {
		reply_error(rq, w ? ERR_MALFORMED : ERR_INTERNAL);
		free(w);
		return;
	}
	for (const struct msnm_wait *o = m->waits; o; o = o->next)
		n++;
	w->m = m;
	w->rq = rq;
	w->next = m->waits;
	m->waits = w;
	/* off, or judged already, or a parent that asks for what is long ago */
	if (!m->task.id || w->k < m->next || n >= WAITS ||
	    loop_timer_in(a->loop, &w->end, budget * 9 / 10, waited, w))
		answer(w);
}

static void diagnosed(void *arg, const struct msnm_diagnosis *d)
{
	struct http_request *rq = arg;
	struct http_reply r;
	struct json_out o;

	http_reply_init(&r, 200, HTTP_JSON);
	json_out_init(&o, &r.body);
	json_open(&o, NULL, '{');
	msnm_diagnosis_put(&o, d, true);
	json_close(&o, '}');
	http_send(rq, &r);
}

void msnm_peer_diagnosis(void *ctx, struct http_request *rq)
{
	struct agent *a = ctx;
	uint32_t budget = budget_left(a, rq);
	uint64_t k, features, flows;
	struct json *v = NULL;

	if (!budget)
		return;
	if (json_parse(rq->body, rq->body_len, &v) ||
	    json_u64(json_get(v, "interval"), 1, GEN_MAX, &k) ||
	    json_u64(json_get(v, "features"), 1, MSNM_FEATURES_MAX,
		     &features) ||
	    json_u64(json_get(v, "flows"), 1, MSNM_FLOWS_MAX, &flows))
		reply_error(rq, ERR_MALFORMED);
	else if (!msnm_drill_start(a->msnm, k, true, (unsigned)features,
				   (unsigned)flows, budget, diagnosed, rq))
		reply_error(rq, ERR_INTERNAL);
	json_free(v);
}

/* ---- a child's answer ---- */

static double figure(const struct json *v, const char *name)
{
	double out;

	return json_real(json_get(v, name), 0, DBL_MAX, &out) ? NAN : out;
}

/* 0 or -EINVAL; absent: nothing is. */
static int beyond_parse(const struct json *v, struct msnm_beyond *out)
{
	const char *s;
	size_t len;

	*out = (struct msnm_beyond){ 0 };
	if (!v)
		return 0;
	if (json_str(json_get(v, "statistic"), 1, &s, &len) || len != 1 ||
	    (*s != 'q' && *s != 'd') ||
	    json_real(json_get(v, "value"), 0, DBL_MAX, &out->value) ||
	    json_real(json_get(v, "limit"), DBL_MIN, DBL_MAX, &out->limit))
		return -EINVAL;
	out->is = true;
	out->d = *s == 'd';
	return 0;
}

static int value_parse(const struct json *v, struct msnm_child *out,
		       uint64_t *k)
{
	const char *s;
	size_t len;

	if (json_u64(json_get(v, "interval"), 1, GEN_MAX, k) ||
	    json_str(json_get(v, "state"), 16, &s, &len) ||
	    msnm_state_parse(s, &out->state) ||
	    json_u64(json_get(v, "generation"), 0, GEN_MAX, &out->generation) ||
	    json_u64(json_get(v, "revision"), 0, GEN_MAX, &out->revision) ||
	    beyond_parse(json_get(v, "beyond"), &out->beyond))
		return -EINVAL;
	out->q = figure(v, "q");
	out->d = figure(v, "d");
	out->ucl_q = figure(v, "ucl_q");
	out->ucl_d = figure(v, "ucl_d");
	out->has = true;
	return 0;
}

int msnm_peer_parse(const struct json *v, struct msnm *m, uint64_t k,
		    struct msnm_child *out, struct coverage *cov)
{
	const struct json *values = json_get(v, "values");
	struct msnm_child one;
	uint64_t at;
	bool settled;

	if (json_bool(json_get(v, "settled"), &settled) ||
	    json_type(values) != JSON_ARRAY || json_len(values) > 1 + EARLIER ||
	    coverage_decode(json_get(v, "coverage"), cov))
		return -EINVAL;
	out->why = MISSING_NO_WINDOW;
	for (size_t i = 0; i < json_len(values); i++) {
		one = *out;
		one.settled = settled;
		if (value_parse(json_at(values, i), &one, &at))
			return -EINVAL;
		if (at == k)
			*out = one;
		else
			msnm_engine_late(&m->e, at, &one);
	}
	return 0;
}
