/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * POST /: the frozen form of the API.  One row per message type: who may send
 * it, how far it reaches, which fields it takes and needs, what runs.  A call
 * lives from the request to its one reply.
 */
#include "agent/messages.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/answer.h"
#include "agent/auth.h"
#include "agent/fields.h"
#include "agent/json.h"
#include "agent/measure.h"
#include "agent/msnm.h"
#include "agent/overlay.h"
#include "agent/probe.h"
#include "agent/registry.h"
#include "agent/taskops.h"
#include "common/util.h"

/* Most keys in one legacy map. */
#define HITTERS_MAX  1024
#define REALTIME_MAX 16384

struct message;

struct call {
	struct agent *agent;
	struct http_request *rq;
	const struct message *row;
	struct fields f;
	uint32_t budget_ms;
	struct walk_scope scope; /* of a configuration */
};

struct message {
	const char *type;
	enum role role;
	bool tree;
	uint64_t takes, needs;
	void (*run)(struct call *c);
};

/* ---- replies ---- */

static void call_error(struct call *c, enum error_code code, const char *field,
		       const char *detail)
{
	struct error e;

	error_set(&e, code, field, detail);
	http_send_error(c->rq, &e);
	free(c);
}

static void call_text(struct call *c, const char *text)
{
	http_send_text(c->rq, 200, text);
	free(c);
}

static void missing_header(struct http_reply *r,
			   const struct coverage_report *rep)
{
	struct buf b = BUF_INIT;
	uint32_t more = rep->missing_more, n = MIN(rep->n_missing, 16);

	more += rep->n_missing - n;
	for (uint32_t i = 0; i < n; i++)
		buf_printf(&b, "%s%s=%s", i ? ", " : "", rep->missing[i].host,
			   missing_reason_name(rep->missing[i].reason));
	if (more)
		buf_printf(&b, "%s+%u", n ? ", " : "", more);
	if (b.data && !b.failed)
		http_reply_header(r, "X-Linnet-Missing", b.data);
	buf_fini(&b);
}

void message_put_coverage(struct http_reply *r,
			  const struct coverage_report *rep)
{
	char text[32];

	http_reply_header(r, "X-Linnet-Complete",
			  rep->complete ? "true" : "false");
	snprintf(text, sizeof(text), "%u/%u", rep->answered, rep->expected);
	http_reply_header(r, "X-Linnet-Answered", text);
	if (rep->n_missing || rep->missing_more)
		missing_header(r, rep);
}

static void number_header(struct http_reply *r, const char *name, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	http_reply_header(r, name, text);
}

/* Reply with what is known of the coverage; nobody answered: 503. */
static void call_reply(struct call *c, struct http_reply *r,
		       const struct coverage_report *rep)
{
	struct error e;

	message_put_coverage(r, rep);
	if (rep->answered || rep->partial) {
		http_send(c->rq, r);
	} else {
		error_set(&e, rep->expected == 1 ? ERR_NO_MONITOR : ERR_NO_HOST,
			  "", "");
		http_send_error_with(c->rq, &e, r);
	}
	free(c);
}

/* ---- configuration ---- */

static uint64_t now_touch(struct call *c, const struct task *t)
{
	registry_touch(c->agent->registry, t->sketch ? t->sketch : t->spec.id);
	return t->spec.id;
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

static void run_config_sketch(struct call *c)
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
		now_touch(c, s);
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

static void run_config_sketch_counter(struct call *c)
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

static void run_config_counter(struct call *c)
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

static void write_scalar(struct call *c, const struct answer *an,
			 struct http_reply *r)
{
	struct distinct d;

	(void)c;
	if (an->kind == ASK_POINTS) {
		buf_printf(&r->body, "%llu",
			   (unsigned long long)an->part->points.v[0].upper);
		return;
	}
	hll_read(an->part, &d);
	buf_printf(&r->body, "%llu", (unsigned long long)d.estimate);
}

static void write_hits(struct call *c, const struct answer *an,
		       struct http_reply *r)
{
	uint32_t n = MIN(an->n_hits, HITTERS_MAX);
	uint32_t cut = an->left_out + an->n_hits - n;
	struct json_out o;
	char key[KEY_TEXT_LEN];

	(void)c;
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

static void write_realtime(struct call *c, const struct answer *an,
			   struct http_reply *r)
{
	struct part *p = an->part;
	uint64_t cut = p->exact.evicted;
	struct json_out o;
	char key[KEY_TEXT_LEN];

	(void)c;
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

static void write_totals(struct call *c, const struct answer *an,
			 struct http_reply *r)
{
	const struct totals *t = &an->part->totals;

	(void)c;
	buf_printf(&r->body, "[%llu, %llu]", (unsigned long long)t->pkt,
		   (unsigned long long)t->byte);
}

/* How an answer of each kind is written; scalars as text, others as JSON. */
static const struct {
	const char *type;
	void (*write)(struct call *c, const struct answer *an,
		      struct http_reply *r);
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
		writers[an->kind].write(c, an, &r);
		number_header(&r, "X-Linnet-Missed-Packets",
			      an->missed_packets);
	}
	call_reply(c, &r, &an->report);
}

static void ask(struct call *c, struct answer_request *q, const struct task *t)
{
	now_touch(c, t);
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

static void run_query_sketch(struct call *c)
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

static void run_query_hitters(struct call *c)
{
	struct answer_request q = { .kind = ASK_TOP,
				    .base_tree = c->f.base_tree };
	const struct task *t = call_counter(c);

	if (!t)
		return;
	q.share = c->f.set & FIELD(THRESHOLD) ? c->f.threshold
					      : task_threshold(t);
	ask(c, &q, t);
}

static void run_query_realtime(struct call *c)
{
	struct answer_request q = { .kind = ASK_REALTIME };
	const struct task *t = call_counter(c);

	if (t)
		ask(c, &q, t);
}

static void run_query_counter(struct call *c)
{
	struct answer_request q = { .kind = ASK_TOTALS };
	const struct task *t = registry_plain(c->agent->registry, &c->f.filter);

	if (t)
		ask(c, &q, t);
	else
		call_error(c, ERR_UNKNOWN_COUNTER, "plain", "");
}

/* ---- overlay ---- */

static void leaf_added(void *arg, const struct error *e, bool created_now)
{
	struct call *c = arg;

	(void)created_now;
	if (e) {
		http_send_error(c->rq, e);
		free(c);
	} else {
		call_text(c, "leaf agent added");
	}
}

static void run_add_leaf(struct call *c)
{
	overlay_add(c->agent, &c->f.agent, leaf_added, c);
}

static void run_query_leaves(struct call *c)
{
	const struct overlay *ov = c->agent->overlay;
	struct http_reply r;
	struct json_out o;
	char text[ENDPOINT_TEXT_LEN];

	http_reply_init(&r, 200, HTTP_JSON);
	json_out_init(&o, &r.body);
	json_open(&o, NULL, '[');
	for (unsigned i = 0; i < overlay_n_children(ov); i++) {
		endpoint_format(&overlay_child(ov, i)->ep, 8000, text);
		json_put_str(&o, NULL, text);
	}
	json_close(&o, ']');
	http_send(c->rq, &r);
	free(c);
}

/* ---- probes ---- */

static void probed(void *arg, const struct probe *p)
{
	struct call *c = arg;
	char text[32];
	double v;

	if (p->state != PROBE_DONE) {
		http_send_error(c->rq, &p->error);
		free(c);
		return;
	}
	v = p->kind == PROBE_BW ? p->result.mbytes_per_s : p->result.jitter_ms;
	snprintf(text, sizeof(text), "%.*f",
		 p->kind == PROBE_JITTER ? 3
		 : v >= 9.995            ? 0
					 : 2,
		 v);
	call_text(c, text);
}

static void run_probe(struct call *c, enum probe_kind kind)
{
	struct error e;
	uint64_t id;

	if ((c->f.set & FIELD(PROBE_SRC)) &&
	    !overlay_is_self(c->agent->overlay, &c->f.probe_src)) {
		call_error(c, ERR_VALUE, field_name(F_PROBE_SRC),
			   field_allowed(F_PROBE_SRC));
		return;
	}
	if (probe_start(c->agent, kind, &c->f.probe_dst,
			c->f.set & FIELD(DURATION) ? c->f.duration_s : 3, &id,
			&e, probed, c)) {
		http_send_error(c->rq, &e);
		free(c);
	}
}

static void run_query_bw(struct call *c)
{
	run_probe(c, PROBE_BW);
}

static void run_query_jitter(struct call *c)
{
	run_probe(c, PROBE_JITTER);
}

static void run_config_iperf(struct call *c)
{
	call_text(c, "probe responder ready");
}

static void run_not_here(struct call *c)
{
	call_error(c, ERR_NOT_IMPLEMENTED, "",
		   "available-bandwidth estimation is not in this version; "
		   "use query bw");
}

/* ---- MSNM ---- */

static void run_msnm(struct call *c, enum msnm_message what)
{
	msnm_message(c->agent, c->rq, what, &c->f, c->budget_ms);
	free(c);
}

static void run_config_msnm(struct call *c)
{
	run_msnm(c, MSNM_CONFIG);
}

static void run_query_msnm(struct call *c)
{
	run_msnm(c, MSNM_QUERY);
}

static void run_query_msnm_diagnosis(struct call *c)
{
	run_msnm(c, MSNM_DIAGNOSIS);
}

static void run_calibrate_msnm(struct call *c)
{
	run_msnm(c, MSNM_CALIBRATE);
}

/* ---- the table ---- */

#define COUNTER_FIELDS (FIELD(SKETCH_ID) | FIELD(KEY_TYPE))

static const struct message messages[] = {
	{ "config sketch", ROLE_CONFIG, true, FIELDS_FILTER, 0,
	  run_config_sketch },
	{ "config sketch counter", ROLE_CONFIG, true,
	  COUNTER_FIELDS | FIELD(INCREMENT) | FIELD(THRESHOLD), COUNTER_FIELDS,
	  run_config_sketch_counter },
	{ "query sketch", ROLE_READ, true,
	  COUNTER_FIELDS | FIELD(COUNTER_KEY) | FIELD(INCREMENT),
	  COUNTER_FIELDS | FIELD(COUNTER_KEY), run_query_sketch },
	{ "query heavy hitters", ROLE_READ, true,
	  COUNTER_FIELDS | FIELD(INCREMENT) | FIELD(THRESHOLD) | FIELD(BASE),
	  COUNTER_FIELDS, run_query_hitters },
	{ "query real time counter", ROLE_READ, true,
	  COUNTER_FIELDS | FIELD(INCREMENT), COUNTER_FIELDS,
	  run_query_realtime },
	{ "config counter", ROLE_CONFIG, true, FIELDS_FILTER | FIELD(TARGET), 0,
	  run_config_counter },
	{ "query counter", ROLE_READ, true, FIELDS_FILTER, 0,
	  run_query_counter },
	{ "add leaf agent", ROLE_ADMIN, false, FIELD(AGENT), FIELD(AGENT),
	  run_add_leaf },
	{ "query leaf agents", ROLE_READ, false, 0, 0, run_query_leaves },
	{ "query bw", ROLE_CONFIG, false,
	  FIELD(PROBE_SRC) | FIELD(PROBE_DST) | FIELD(DURATION),
	  FIELD(PROBE_DST), run_query_bw },
	{ "query jitter", ROLE_CONFIG, false,
	  FIELD(PROBE_SRC) | FIELD(PROBE_DST) | FIELD(DURATION),
	  FIELD(PROBE_DST), run_query_jitter },
	{ "config iperf server", ROLE_CONFIG, false, FIELD(SERVER_MODE),
	  FIELD(SERVER_MODE), run_config_iperf },
	{ "config msnm", ROLE_CONFIG, true, FIELDS_FILTER | FIELDS_MSNM, 0,
	  run_config_msnm },
	{ "query msnm", ROLE_READ, true, FIELD(INTERVAL) | FIELD(HISTORY), 0,
	  run_query_msnm },
	{ "query msnm diagnosis", ROLE_READ, true,
	  FIELD(INTERVAL) | FIELD(FEATURES) | FIELD(FLOWS), 0,
	  run_query_msnm_diagnosis },
	{ "calibrate msnm", ROLE_CONFIG, false, 0, 0, run_calibrate_msnm },
	{ "est_req", ROLE_CONFIG, false, 0, 0, run_not_here },
	{ "rcv_req", ROLE_PEER, false, 0, 0, run_not_here },
	{ "bw_update", ROLE_PEER, false, 0, 0, run_not_here },
};

static const struct message *message_find(const char *type)
{
	for (unsigned i = 0; i < ARRAY_SIZE(messages); i++)
		if (strcmp(messages[i].type, type) == 0)
			return &messages[i];
	return NULL;
}

static enum error_code role_error(const struct agent *a,
				  const struct http_request *rq, enum role need)
{
	switch (auth_allows(a->auth, rq->roles, need)) {
	case AUTH_OK:
		return ERR_NONE;
	case AUTH_TOKEN:
		return ERR_TOKEN;
	case AUTH_RATE:
		return ERR_RATE;
	case AUTH_FORBIDDEN:
		break;
	}
	return ERR_FORBIDDEN;
}

/* X-Linnet-Deadline of a client.  0 or -EINVAL with *e set. */
static int call_budget(struct call *c, struct error *e)
{
	const char *s = http_header(c->rq, "X-Linnet-Deadline");
	uint64_t ms;

	c->budget_ms = c->agent->conf->query_ms;
	if (!s)
		return 0;
	if (parse_u64(s, strlen(s), 50, 30000, &ms)) {
		error_set(e, ERR_VALUE, "X-Linnet-Deadline",
			  "milliseconds 50..30000");
		return -EINVAL;
	}
	c->budget_ms = (uint32_t)ms;
	return 0;
}

/* Finds the row and decodes the fields.  0 or -EINVAL with *e set. */
static int call_decode(struct call *c, struct error *e)
{
	struct http_request *rq = c->rq;
	enum error_code code;
	struct form form;
	const char *type;

	code = rq->body_type == HTTP_BODY_JSON
		       ? form_decode_json(rq->body, rq->body_len, &form)
		       : form_decode(rq->body, rq->body_len, FORM_VALUE_OLD,
				     NULL, &form);
	type = code ? NULL : form_get(&form, "type", NULL);
	if (!code && !type)
		code = ERR_NO_TYPE;
	if (!code) {
		c->row = message_find(type);
		code = c->row ? role_error(c->agent, rq, c->row->role)
			      : ERR_UNKNOWN_TYPE;
	}
	error_set(e, code, "", "");
	if (code || call_budget(c, e))
		return -EINVAL;
	return fields_decode(&form,
			     c->row->takes | (c->row->tree ? FIELD(SCOPE) : 0),
			     c->row->needs, &c->f, e);
}

static void post_root(void *ctx, struct http_request *rq)
{
	struct agent *a = ctx;
	struct call *c = calloc(1, sizeof(*c));
	struct error e;

	if (!c) {
		error_set(&e, ERR_INTERNAL, "", "");
		http_send_error(rq, &e);
		return;
	}
	c->agent = a;
	c->rq = rq;
	if (auth_required(a->auth) && !rq->roles)
		call_error(c, ERR_TOKEN, "", "");
	else if (call_decode(c, &e))
		call_error(c, e.code, e.field, e.detail);
	else
		c->row->run(c);
}

static void get_root(void *ctx, struct http_request *rq)
{
	(void)ctx;
	http_send_text(rq, 200, "linnet " LINNET_VERSION);
}

const struct http_route message_routes[] = {
	{ .pattern = "/",
	  .methods = HTTP_POST,
	  .role = ROLE_IN_HANDLER,
	  .bodies = HTTP_BODY_FORM | HTTP_BODY_JSON,
	  .body_max = 64 * 1024,
	  .legacy = true,
	  .fn = post_root },
	{ .pattern = "/",
	  .methods = HTTP_GET | HTTP_HEAD,
	  .role = ROLE_READ,
	  .legacy = true,
	  .fn = get_root },
};
const size_t message_n_routes = ARRAY_SIZE(message_routes);
