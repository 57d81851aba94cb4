/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * POST /: the frozen form of the API.  One row per message type: who may send
 * it, how far it reaches, which fields it takes and needs, what runs.  A call
 * lives from the request to its one reply.
 *
 * Decoding and replies are here, and what runs for agents, probes and MSNM,
 * which have modules of their own; messages_sketch.c has what measures.
 */
#include "agent/messages_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/auth.h"
#include "agent/json.h"
#include "agent/msnm.h"
#include "agent/overlay.h"
#include "agent/probe.h"
#include "common/util.h"

struct message {
	const char *type;
	enum role role;
	bool tree;
	uint64_t takes, needs;
	void (*run)(struct call *c);
};

/* ---- replies ---- */

void call_error(struct call *c, enum error_code code, const char *field,
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

void call_reply(struct call *c, struct http_reply *r,
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
	  message_config_sketch },
	{ "config sketch counter", ROLE_CONFIG, true,
	  COUNTER_FIELDS | FIELD(INCREMENT) | FIELD(THRESHOLD), COUNTER_FIELDS,
	  message_config_sketch_counter },
	{ "query sketch", ROLE_READ, true,
	  COUNTER_FIELDS | FIELD(COUNTER_KEY) | FIELD(INCREMENT),
	  COUNTER_FIELDS | FIELD(COUNTER_KEY), message_query_sketch },
	{ "query heavy hitters", ROLE_READ, true,
	  COUNTER_FIELDS | FIELD(INCREMENT) | FIELD(THRESHOLD) | FIELD(BASE),
	  COUNTER_FIELDS, message_query_hitters },
	{ "query real time counter", ROLE_READ, true,
	  COUNTER_FIELDS | FIELD(INCREMENT), COUNTER_FIELDS,
	  message_query_realtime },
	{ "config counter", ROLE_CONFIG, true, FIELDS_FILTER | FIELD(TARGET), 0,
	  message_config_counter },
	{ "query counter", ROLE_READ, true, FIELDS_FILTER, 0,
	  message_query_counter },
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
