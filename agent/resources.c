/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rest of /api/v1: version, status, probes; and the two health paths that
 * need no identity.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/alarm.h"
#include "agent/messages.h"
#include "agent/monlink.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/probe.h"
#include "agent/query.h"
#include "agent/registry.h"
#include "agent/v1.h"
#include "common/util.h"

/* ---- version, status ---- */

static void get_version(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	struct http_reply r;
	struct json_out o;

	if (!c)
		return;
	v1_begin(&r, &o, 200);
	json_open(&o, "data", '{');
	json_put_str(&o, "version", LINNET_VERSION);
	json_put_str(&o, "api", "v1");
	json_put_str(&o, "peer", PEER_API);
	json_close(&o, '}');
	v1_end(c, &r, &o);
}

static void put_monitor(struct json_out *o, const struct agent *a)
{
	static const char *const rules[] = {
		[CTL_RULES_NONE] = "none",
		[CTL_RULES_OK] = "ok",
		[CTL_RULES_DEGRADED] = "degraded",
		[CTL_RULES_OFF] = "none",
	};
	const struct ctl_stats *s = monlink_stats(a->monlink);
	bool attached = monlink_state(a->monlink) == MONLINK_ATTACHED;
	bool off = attached && s->rules == CTL_RULES_OFF;
	struct ctl_volume m = { 0 }, got = { 0 };

	for (unsigned d = 0; d < PACKET_DIRS; d++) {
		m.packets += s->matched[d].packets;
		m.bytes += s->matched[d].bytes;
		got.packets += s->received[d].packets;
		got.bytes += s->received[d].bytes;
	}
	json_open(o, "monitor", '{');
	json_put_str(o, "state",
		     off        ? "off"
		     : attached ? "attached"
				: "absent");
	if (attached) {
		json_put_str(o, "backend", monlink_hello(a->monlink)->backend);
		json_put_u64(o, "readers", s->readers);
		json_put_u64(o, "reader_restarts", s->reader_restarts);
		json_put_str(o, "rules",
			     s->rules < ARRAY_SIZE(rules) ? rules[s->rules]
							  : "none");
		json_put_u64(o, "queue_depth", s->queue_depth);
		json_open(o, "loss", '{');
		json_put_count(o, "matched", m.packets);
		json_put_count(o, "received", got.packets);
		json_put_count(o, "missed",
			       m.packets > got.packets ? m.packets - got.packets
						       : 0);
		json_close(o, '}');
	}
	json_close(o, '}');
}

static void put_overlay_summary(struct json_out *o, const struct agent *a)
{
	const struct overlay *ov = a->overlay;

	json_open(o, "overlay", '{');
	json_put_str(o, "role",
		     overlay_is_root(ov)  ? "root"
		     : overlay_parent(ov) ? "member"
					  : "detached");
	json_put_u64(o, "epoch", overlay_epoch(ov));
	if (overlay_parent(ov))
		v1_put_host(o, "parent", overlay_parent(ov));
	else
		json_put_null(o, "parent");
	json_put_u64(o, "children", overlay_n_children(ov));
	json_put_u64(o, "hosts_expected", overlay_expected(ov));
	json_put_u64(o, "questions", query_served(a));
	json_put_u64(o, "late", query_late(a));
	json_put_u64(o, "alarms", alarms_heard(a->alarms));
	json_close(o, '}');
}

static void put_warnings(struct json_out *o, const struct agent *a)
{
	json_open(o, "warnings", '[');
	if (a->conf->insecure)
		json_put_str(o, NULL, "insecure: every caller has every role");
	if (monlink_state(a->monlink) != MONLINK_ATTACHED)
		json_put_str(o, NULL, "no monitor on this host is attached");
	if (!registry_persisted(a->registry))
		json_put_str(o, NULL, "tasks are not kept over a restart");
	if (registry_superseded(a->registry))
		json_put_str(o, NULL,
			     "tasks_superseded: hosts held other tasks, which "
			     "were replaced");
	json_close(o, ']');
}

static void get_status(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	const struct agent *a = ctx;
	struct endpoint self;
	struct http_reply r;
	struct json_out o;

	if (!c)
		return;
	v1_begin(&r, &o, 200);
	json_open(&o, "data", '{');
	v1_put_node(&o, "node_id", overlay_self(a->overlay));
	json_put_u64(&o, "incarnation", overlay_incarnation(a->overlay));
	self = overlay_endpoint(a->overlay);
	v1_put_host(&o, "host", &self);
	json_put_str(&o, "version", LINNET_VERSION);
	v1_put_time(&o, "started", a->started_ms);
	json_put_bool(&o, "insecure", a->conf->insecure);
	json_put_bool(&o, "persisted", registry_persisted(a->registry));
	put_monitor(&o, a);
	put_overlay_summary(&o, a);
	json_put_u64(&o, "tasks", registry_count(a->registry));
	json_put_u64(&o, "memory_bytes",
		     monlink_stats(a->monlink)->memory_used);
	json_put_str(&o, "probe", probes_busy(a->probes) ? "busy" : "idle");
	put_warnings(&o, a);
	json_close(&o, '}');
	v1_end(c, &r, &o);
}

/* ---- health ---- */

static void get_livez(void *ctx, struct http_request *rq)
{
	(void)ctx;
	http_send_text(rq, 200, "ok");
}

struct check {
	const char *name, *detail;
	bool ok;
};

static unsigned checks_run(const struct agent *a, struct check out[5])
{
	bool attached = monlink_state(a->monlink) == MONLINK_ATTACHED;
	const struct ctl_stats *s = monlink_stats(a->monlink);
	bool placed = true;

	for (unsigned i = 0; i < registry_rows(a->registry); i++) {
		const struct task *t = registry_at(a->registry, i);

		placed &= t->is_sketch || t->monitor_status == 0;
	}
	out[0] = (struct check){ "state", "state file",
				 !a->conf->state_dir[0] ||
					 registry_persisted(a->registry) };
	out[1] = (struct check){ "monitor", "monitor attached", attached };
	out[2] = (struct check){ "rules", "capture rules in place",
				 attached && s->rules != CTL_RULES_DEGRADED &&
					 s->rules != CTL_RULES_OFF };
	out[3] = (struct check){ "tasks", "tasks held by the monitor", placed };
	out[4] = (struct check){ "parent", "parent seen",
				 !a->conf->n_parents ||
					 overlay_parent(a->overlay) };
	return 5;
}

static void get_readyz(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, FIELD(VERBOSE), NULL);
	struct check check[5];
	struct http_reply r;
	struct json_out o;
	bool ready = true;
	unsigned n;

	if (!c)
		return;
	n = checks_run(ctx, check);
	for (unsigned i = 0; i < n; i++)
		ready &= check[i].ok;
	if (!c->f.verbose ||
	    auth_allows(c->agent->auth, rq->roles, ROLE_READ) != AUTH_OK) {
		http_send_text(rq, ready ? 200 : 503,
			       ready ? "ready" : "not ready");
		free(c);
		return;
	}
	http_reply_init(&r, ready ? 200 : 503, HTTP_JSON);
	json_out_init(&o, &r.body);
	json_open(&o, NULL, '[');
	for (unsigned i = 0; i < n; i++) {
		json_open(&o, NULL, '{');
		json_put_str(&o, "check", check[i].name);
		json_put_bool(&o, "ok", check[i].ok);
		json_put_str(&o, "detail", check[i].detail);
		json_close(&o, '}');
	}
	json_close(&o, ']');
	v1_send(c, &r);
}

/* ---- probes ---- */

static void put_probe_result(struct json_out *o, const struct probe *p)
{
	const struct probe_result *res = &p->result;

	json_open(o, "result", '{');
	if (p->kind == PROBE_BW) {
		json_put_fixed(o, "mbytes_per_s", res->mbytes_per_s, 2);
		json_put_count(o, "bytes", res->bytes);
		json_put_fixed(o, "seconds", res->seconds, 6);
	} else {
		json_put_fixed(o, "jitter_ms", res->jitter_ms, 3);
		json_put_u64(o, "sent", res->sent);
		json_put_u64(o, "received", res->received);
		json_put_u64(o, "reordered", res->reordered);
	}
	json_close(o, '}');
}

static void put_probe(struct json_out *o, const char *name,
		      const struct probe *p)
{
	static const char *const states[] = { "running", "done", "failed" };

	json_open(o, name, '{');
	json_put_hex(o, "id", p->id);
	json_put_str(o, "kind", probe_kind_name(p->kind));
	v1_put_host(o, "src", &p->src);
	v1_put_host(o, "dst", &p->dst);
	json_put_fixed(o, "duration_s", p->duration_s, 3);
	json_put_str(o, "state", states[p->state]);
	v1_put_time(o, "began", p->began_ms);
	if (p->state == PROBE_DONE)
		put_probe_result(o, p);
	if (p->state == PROBE_FAILED)
		json_put_str(o, "error", p->error.detail);
	json_close(o, '}');
}

struct probe_body {
	enum probe_kind kind;
	struct ip_addr src, dst;
	double duration_s;
};

/* An address; absent is fine if it may be. */
static void addr_member(const struct json *body, enum field_id id, bool needed,
			struct ip_addr *out, struct error *e)
{
	const struct json *v = json_get(body, field_name(id));
	const char *s;
	size_t len;

	if (!v && needed)
		error_add(e, ERR_MISSING, field_name(id), "");
	if (v &&
	    (json_str(v, ADDR_TEXT_LEN, &s, &len) || addr_parse(s, len, out)))
		error_add(e, ERR_VALUE, field_name(id), field_allowed(id));
}

static void kind_member(const struct json *body, enum probe_kind *out,
			struct error *e)
{
	const struct json *v = json_get(body, "kind");
	const char *s = "";
	size_t len;

	*out = PROBE_KINDS;
	if (v && !json_str(v, 16, &s, &len))
		for (*out = 0; *out < PROBE_KINDS; (*out)++)
			if (strcmp(s, probe_kind_name(*out)) == 0)
				break;
	if (!v)
		error_add(e, ERR_MISSING, "kind", "");
	else if (*out == PROBE_KINDS)
		error_add(e, ERR_VALUE, "kind", "bw or jitter");
}

/* 0, or -EINVAL with all that is wrong in *e. */
static int probe_parse(const struct agent *a, const struct json *body,
		       struct probe_body *p, struct error *e)
{
	const struct json *v = json_get(body, "duration_s");

	kind_member(body, &p->kind, e);
	addr_member(body, F_PROBE_DST, true, &p->dst, e);
	addr_member(body, F_PROBE_SRC, false, &p->src, e);
	p->duration_s = 3;
	if (v && json_real(v, 1, 10, &p->duration_s))
		error_add(e, ERR_VALUE, "duration_s",
			  field_allowed(F_DURATION));
	if (e->code == ERR_NONE && json_get(body, "src") &&
	    !overlay_is_self(a->overlay, &p->src))
		error_add(e, ERR_VALUE, "src", field_allowed(F_PROBE_SRC));
	return e->code == ERR_NONE ? 0 : -EINVAL;
}

static void post_probe(void *ctx, struct http_request *rq)
{
	static const char *const names[] = { "kind", "src", "dst", "duration_s",
					     NULL };
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	struct agent *a = ctx;
	struct json *body = NULL;
	struct probe_body p = { 0 };
	struct http_reply r;
	struct json_out o;
	char location[64], text[17];
	struct error e;
	uint64_t id;

	if (!c)
		return;
	if (v1_body(rq, names, &body, &e) || probe_parse(a, body, &p, &e) ||
	    probe_start(a, p.kind, &p.dst, p.duration_s, &id, &e, NULL, NULL)) {
		json_free(body);
		v1_refuse(c, &e);
		return;
	}
	json_free(body);
	hex_u64(id, text);
	snprintf(location, sizeof(location), "/api/v1/probes/%s", text);
	v1_begin(&r, &o, 202);
	http_reply_header(&r, "Location", location);
	put_probe(&o, "data", probe_find(a->probes, id));
	v1_end(c, &r, &o);
}

static void list_probes(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_list_call(ctx, rq, 0, NULL);
	const struct agent *a = ctx;
	const struct probe *p[64];
	struct http_reply r;
	struct json_out o;

	if (!c)
		return;
	v1_page(c, probe_list(a->probes, p, ARRAY_SIZE(p)));
	v1_begin(&r, &o, 200);
	json_open(&o, "data", '[');
	for (unsigned i = c->offset; i < c->offset + c->n_page; i++)
		put_probe(&o, NULL, p[i]);
	json_close(&o, ']');
	v1_end(c, &r, &o);
}

static const struct probe *call_probe(struct v1_call *c)
{
	const char *s = c->rq->segment[0];
	const struct probe *p = NULL;
	uint64_t id;

	if (!hex_parse_u64(s, strlen(s), &id))
		p = probe_find(c->agent->probes, id);
	if (!p)
		v1_error(c, ERR_UNKNOWN_PROBE, "", "");
	return p;
}

static void get_probe(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	const struct probe *p = c ? call_probe(c) : NULL;
	struct http_reply r;
	struct json_out o;

	if (!p)
		return;
	v1_begin(&r, &o, 200);
	put_probe(&o, "data", p);
	v1_end(c, &r, &o);
}

static void delete_probe(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	const struct probe *p = c ? call_probe(c) : NULL;
	struct http_reply r;

	if (!p)
		return;
	probe_cancel(c->agent->probes, p->id);
	http_reply_init(&r, 204, NULL);
	v1_send(c, &r);
}

#define GET_ROUTE(path, need, handler)                            \
	{                                                         \
		.pattern = path, .methods = HTTP_GET | HTTP_HEAD, \
		.role = need, .fn = handler                       \
	}

const struct http_route resource_routes[] = {
	GET_ROUTE("/livez", ROLE_NONE, get_livez),
	GET_ROUTE("/readyz", ROLE_NONE, get_readyz),
	GET_ROUTE("/api/v1/version", ROLE_READ, get_version),
	GET_ROUTE("/api/v1/status", ROLE_READ, get_status),
	GET_ROUTE("/api/v1/probes", ROLE_READ, list_probes),
	{ .pattern = "/api/v1/probes",
	  .methods = HTTP_POST,
	  .role = ROLE_CONFIG,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = 64 * 1024,
	  .fn = post_probe },
	GET_ROUTE("/api/v1/probes/*", ROLE_READ, get_probe),
	{ .pattern = "/api/v1/probes/*",
	  .methods = HTTP_DELETE,
	  .role = ROLE_CONFIG,
	  .fn = delete_probe },
};
const size_t resource_n_routes = ARRAY_SIZE(resource_routes);
