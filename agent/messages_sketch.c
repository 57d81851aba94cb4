/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * POST /: sketches and counters, what measures them and what they say.  A
 * message names a counter as the frozen form does, by the number of its sketch,
 * key type and increment; here that becomes a task, and its answer the text or
 * JSON that the form has for it.
 *
 * A call belongs to whoever it was given to until its reply; tasks are the
 * registry's.  Maps of keys have limits, and say how much they cut.
 */
#include "agent/messages_private.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/measure.h"
#include "agent/registry.h"
#include "agent/taskops.h"
#include "common/util.h"

/* Most keys in one map. */
#define HITTERS_MAX  1024
#define REALTIME_MAX 16384

/* ---- configuration ---- */

static void call_touch(struct call *c, const struct task *t)
{
	registry_touch(c->agent->registry, t->sketch ? t->sketch : t->spec.id);
}

static void created(void *arg, const struct error *e, const struct task *t,
		    const struct coverage *cov)
{
	struct call *c = arg;
	struct coverage_report rep;
	struct http_reply r;

	if (e && e->code != ERR_NO_HOST && e->code != ERR_NO_MONITOR) {
		http_send_error(c->rq, e);
		free(c);
		return;
	}
	coverage_report(c->agent, cov, &c->scope, &rep);
	http_reply_init(&r, 200, HTTP_TEXT);
	if (e || !t)
		rep.answered = 0;
	else if (t->is_sketch)
		buf_printf(&r.body, "%llu", (unsigned long long)t->alias);
	else
		buf_text(&r.body, "counter configured");
	call_reply(c, &r, &rep);
}

static void create(struct call *c, const struct task *t)
{
	coverage_begin(c->agent, c->f.host_only, &c->scope);
	if (!registry_create(c->agent, t, c->f.host_only, c->budget_ms, created,
			     c))
		call_error(c, ERR_INTERNAL, "", "");
}

void message_config_sketch(struct call *c)
{
	struct task t = { .origin = ORIGIN_LEGACY, .is_sketch = true };

	t.spec.filter = c->f.filter;
	create(c, &t);
}

/* The sketch that sketch_id names; NULL: the error is sent. */
static const struct task *call_sketch(struct call *c)
{
	const struct task *s =
		registry_sketch(c->agent->registry, c->f.sketch_id);
	char number[24];

	if (s) {
		call_touch(c, s);
		return s;
	}
	snprintf(number, sizeof(number), "%llu",
		 (unsigned long long)c->f.sketch_id);
	call_error(c, ERR_UNKNOWN_SKETCH, number, "");
	return NULL;
}

static enum increment call_increment(const struct call *c)
{
	return c->f.set & FIELD(INCREMENT) ? c->f.increment : INCREMENTS;
}

/* The counter is there: it goes round again, with this threshold if >= 0. */
static void configure_again(struct call *c, const struct task *old,
			    double threshold)
{
	coverage_begin(c->agent, c->f.host_only, &c->scope);
	if (!registry_retune(c->agent, old->spec.id, threshold, NULL,
			     c->f.host_only, c->budget_ms, created, c))
		call_error(c, ERR_INTERNAL, "", "");
}

void message_config_sketch_counter(struct call *c)
{
	const struct task *s = call_sketch(c), *old;
	struct task t = { .origin = ORIGIN_LEGACY, .threshold = 0.1 };

	if (!s)
		return;
	t.spec.filter = s->spec.filter;
	t.spec.key = (uint8_t)c->f.key;
	t.spec.increment = (uint8_t)(c->f.set & FIELD(INCREMENT)
					     ? c->f.increment
					     : INC_PKT);
	t.spec.kinds = SKETCH_DEFAULT_KINDS;
	t.sketch = s->spec.id;
	if (c->f.set & FIELD(THRESHOLD))
		t.threshold = c->f.threshold;
	old = registry_counter(c->agent->registry, t.sketch, c->f.key,
			       (enum increment)t.spec.increment);
	if (!old)
		create(c, &t);
	else
		configure_again(c, old,
				c->f.set & FIELD(THRESHOLD) ? t.threshold : -1);
}

void message_config_counter(struct call *c)
{
	const struct task *old =
		registry_plain(c->agent->registry, &c->f.filter);
	struct task t = { .origin = ORIGIN_LEGACY };

	t.spec.filter = c->f.filter;
	t.spec.key = KEY_NONE;
	if (old)
		configure_again(c, old, -1);
	else
		create(c, &t);
}

/* ---- measurement ---- */

static void number_header(struct http_reply *r, const char *name, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	http_reply_header(r, name, text);
}

static void write_scalar(const struct answer *an, struct http_reply *r)
{
	struct distinct d;

	if (an->kind == ASK_POINTS) {
		buf_printf(&r->body, "%llu",
			   (unsigned long long)an->part->points.v[0].upper);
		return;
	}
	hll_read(an->part, &d);
	buf_printf(&r->body, "%llu", (unsigned long long)d.estimate);
}

static void write_hits(const struct answer *an, struct http_reply *r)
{
	uint32_t n = MIN(an->n_hits, HITTERS_MAX);
	uint32_t cut = an->left_out + an->n_hits - n;
	struct json_out o;
	char key[KEY_TEXT_LEN];

	json_out_init(&o, &r->body);
	json_open(&o, NULL, '{');
	for (uint32_t i = 0; i < n; i++) {
		key_format((enum key_type)an->task.key, &an->hit[i].key, key);
		json_put_u64(&o, key, an->hit[i].v.upper);
	}
	json_close(&o, '}');
	if (cut)
		number_header(r, "X-Linnet-Truncated", cut);
}

static void write_realtime(const struct answer *an, struct http_reply *r)
{
	struct part *p = an->part;
	uint64_t cut = p->exact.evicted;
	struct json_out o;
	char key[KEY_TEXT_LEN];

	if (p->exact.n > REALTIME_MAX)
		cut += p->exact.n - REALTIME_MAX;
	exact_cap(p, REALTIME_MAX);
	answer_order_keys(an);
	json_out_init(&o, &r->body);
	json_open(&o, NULL, '{');
	for (uint32_t i = 0; i < p->exact.n; i++) {
		if (!p->exact.row[i].value)
			continue;
		key_format((enum key_type)an->task.key, &p->exact.row[i].key,
			   key);
		json_put_u64(&o, key, p->exact.row[i].value);
	}
	json_close(&o, '}');
	if (cut)
		number_header(r, "X-Linnet-Truncated", cut);
}

static void write_totals(const struct answer *an, struct http_reply *r)
{
	const struct totals *t = &an->part->totals;

	buf_printf(&r->body, "[%llu, %llu]", (unsigned long long)t->pkt,
		   (unsigned long long)t->byte);
}

/* How an answer of each kind is written; scalars as text, others as JSON. */
static const struct {
	const char *type;
	void (*write)(const struct answer *an, struct http_reply *r);
} writers[] = {
	[ASK_TOTALS] = { HTTP_JSON, write_totals },
	[ASK_POINTS] = { HTTP_TEXT, write_scalar },
	[ASK_TOP] = { HTTP_JSON, write_hits },
	[ASK_DISTINCT] = { HTTP_TEXT, write_scalar },
	[ASK_REALTIME] = { HTTP_JSON, write_realtime },
	[ASK_REALTIME_DISTINCT] = { HTTP_TEXT, write_scalar },
};
static_assert(ARRAY_SIZE(writers) == ASK_KINDS, "a writer for each question");

static void answered(void *arg, const struct answer *an)
{
	struct call *c = arg;
	struct http_reply r;

	http_reply_init(&r, 200, writers[an->kind].type);
	if (an->part) {
		writers[an->kind].write(an, &r);
		number_header(&r, "X-Linnet-Missed-Packets",
			      an->missed_packets);
	}
	call_reply(c, &r, &an->report);
}

static void ask(struct call *c, struct answer_request *q, const struct task *t)
{
	call_touch(c, t);
	q->task = t->spec;
	q->host_only = c->f.host_only;
	q->budget_ms = c->budget_ms;
	q->request_id = c->rq->id;
	if (!answer_start(c->agent, q, answered, c))
		call_error(c, ERR_UNAVAILABLE, "", "too many queries");
}

/* The counter that sketch_id, key type and increment name; NULL: sent. */
static const struct task *call_counter(struct call *c)
{
	const struct task *s = call_sketch(c), *t;

	if (!s)
		return NULL;
	t = registry_counter(c->agent->registry, s->spec.id, c->f.key,
			     call_increment(c));
	if (!t)
		call_error(c, ERR_UNKNOWN_COUNTER, key_type_name(c->f.key), "");
	return t;
}

void message_query_sketch(struct call *c)
{
	struct answer_request q = { 0 };
	const struct task *t = call_counter(c);
	struct flow_key key;

	if (!t)
		return;
	if (strcmp(c->f.counter_key, "key_num") == 0) {
		q.kind = ASK_DISTINCT;
	} else if (strcmp(c->f.counter_key, "real_time_key_num") == 0) {
		q.kind = ASK_REALTIME_DISTINCT;
	} else if (key_parse(c->f.key, c->f.counter_key,
			     strlen(c->f.counter_key), &key)) {
		call_error(c, ERR_VALUE, field_name(F_COUNTER_KEY),
			   field_allowed(F_COUNTER_KEY));
		return;
	} else {
		q.kind = ASK_POINTS;
		q.keys = &key;
		q.n_keys = 1;
	}
	ask(c, &q, t);
}

void message_query_hitters(struct call *c)
{
	struct answer_request q = { .kind = ASK_TOP,
				    .base_tree = c->f.base_tree };
	const struct task *t = call_counter(c);

	if (!t)
		return;
	q.share = c->f.set & FIELD(THRESHOLD) ? c->f.threshold
					      : task_threshold(t);
	/* here 0 is a threshold as well: of a few nothing is a hitter */
	q.share = fmax(q.share, DBL_MIN);
	ask(c, &q, t);
}

void message_query_realtime(struct call *c)
{
	struct answer_request q = { .kind = ASK_REALTIME };
	const struct task *t = call_counter(c);

	if (t)
		ask(c, &q, t);
}

void message_query_counter(struct call *c)
{
	struct answer_request q = { .kind = ASK_TOTALS };
	const struct task *t = registry_plain(c->agent->registry, &c->f.filter);

	if (t)
		ask(c, &q, t);
	else
		call_error(c, ERR_UNKNOWN_COUNTER, "plain", "");
}
