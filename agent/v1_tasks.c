/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /api/v1/tasks: measurement tasks as resources. */
#include "agent/v1.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/messages.h"
#include "agent/overlay.h"
#include "agent/registry.h"
#include "agent/standing_conf.h"
#include "agent/taskops.h"
#include "common/util.h"

static void put_sketch_id(struct json_out *o, const struct agent *a,
			  const struct task *t)
{
	const struct task *s = t->sketch ? registry_find(a->registry, t->sketch)
					 : NULL;

	if (s)
		json_put_u64(o, "sketch_id", s->alias);
	else
		json_put_null(o, "sketch_id");
}

static const char *task_state(const struct task *t)
{
	if (!t->monitor_status)
		return "active";
	return t->monitor_status > 0 ? "pending" : "failed";
}

static void put_standing(struct json_out *o, const char *s)
{
	char text[TASK_PARAMS_LEN];
	size_t len;

	json_open(o, "standing", '[');
	for (; *s; s += len + (s[len] == ' ')) {
		len = strcspn(s, " ");
		snprintf(text, sizeof(text), "%.*s", (int)len, s);
		json_put_str(o, NULL, text);
	}
	json_close(o, ']');
}

static void put_task(struct json_out *o, const char *name,
		     const struct agent *a, const struct task *t)
{
	json_open(o, name, '{');
	json_put_hex(o, "id", t->spec.id);
	json_put_u64(o, "generation", t->spec.generation);
	json_put_str(o, "name", t->name);
	json_open(o, "filter", '{');
	task_put_filter(o, &t->spec.filter, false);
	json_close(o, '}');
	json_put_str(o, "key", key_type_name((enum key_type)t->spec.key));
	json_put_str(o, "increment",
		     increment_name((enum increment)t->spec.increment));
	json_open(o, "sketches", '[');
	for (unsigned k = 0; k < SKETCH_KINDS; k++)
		if (t->spec.kinds & 1u << k)
			json_put_str(o, NULL, sketch_name((enum sketch_kind)k));
	if (t->spec.kinds == TASK_FEATURES)
		json_put_str(o, NULL, "features");
	json_close(o, ']');
	json_put_fixed(o, "window_s", t->spec.window_ms / 1000.0,
		       t->spec.window_ms % 1000 ? 1 : 0);
	if (t->params[0] && t->spec.kinds != TASK_FEATURES)
		put_standing(o, t->params);
	v1_put_time(o, "created", t->created_ms);
	json_put_u64(o, "expires_s", t->expires_s);
	json_put_str(o, "origin", t->origin == ORIGIN_V1 ? "v1" : "legacy");
	put_sketch_id(o, a, t);
	json_put_str(o, "state", task_state(t));
	json_close(o, '}');
}

/* A text member decoded by a field's row; absent is fine. */
static void member_field(const struct json *obj, const char *name,
			 enum field_id id, struct form *form, struct error *e)
{
	const struct json *v = json_get(obj, name);
	const char *s;
	size_t len;

	if (!v)
		return;
	if (json_str(v, FORM_VALUE_MAX, &s, &len) || !len) {
		error_add(e, ERR_VALUE, name, field_allowed(id));
		return;
	}
	snprintf(form->pair[form->n].name, sizeof(form->pair[0].name), "%s",
		 field_name(id));
	memcpy(form->pair[form->n].value, s, len);
	form->pair[form->n].value[len] = '\0';
	form->pair[form->n++].len = len;
}

static void filter_member(const struct json *body, struct form *form,
			  struct error *e)
{
	static const char *const names[] = { "direction", "proto", "src", "dst",
					     NULL };
	const struct json *f = json_get(body, "filter"), *d;
	const char *s;
	size_t len;

	if (!f)
		return;
	if (json_type(f) != JSON_OBJECT) {
		error_add(e, ERR_VALUE, "filter", "an object");
		return;
	}
	v1_members_known(f, names, e);
	d = json_get(f, "direction");
	if (d && (json_str(d, 8, &s, &len) ||
		  (strcmp(s, "in") != 0 && strcmp(s, "out") != 0))) {
		error_add(e, ERR_VALUE, "direction", "in or out");
	} else if (d) {
		strncpy(form->pair[form->n].name, "interface", FORM_NAME_MAX);
		strncpy(form->pair[form->n].value,
			strcmp(s, "in") ? "OUTPUT" : "INPUT", FORM_VALUE_MAX);
		form->pair[form->n].len = strlen(form->pair[form->n].value);
		form->n++;
	}
	member_field(f, "proto", F_PROTO, form, e);
	member_field(f, "src", F_SRC, form, e);
	member_field(f, "dst", F_DST, form, e);
}

static void sketches_member(const struct json *body, struct task *t,
			    struct error *e)
{
	const struct json *v = json_get(body, "sketches");
	enum sketch_kind k;
	const char *s;
	size_t len;

	t->spec.kinds = t->spec.key == KEY_NONE ? 0 : SKETCH_DEFAULT_KINDS;
	if (!v)
		return;
	if (json_type(v) != JSON_ARRAY)
		goto bad;
	t->spec.kinds = 0;
	for (size_t i = 0; i < json_len(v); i++) {
		if (json_str(json_at(v, i), 32, &s, &len) ||
		    sketch_parse(s, len, &k) || (t->spec.kinds & 1u << k))
			goto bad;
		t->spec.kinds |= 1u << k;
	}
	if (!t->spec.kinds == (t->spec.key == KEY_NONE))
		return;
bad:
	error_add(e, ERR_VALUE, "sketches",
		  "list of cms, topk, hll, exact, each once; [] with key none");
}

/* False: windows begin and end with the 100-ms slots. */
static bool window_ms(double s, uint32_t *out)
{
	double ticks = s * 1000 / TASK_TICK_MS;

	*out = (uint32_t)lround(ticks) * TASK_TICK_MS;
	return fabs(ticks - round(ticks)) < 1e-6;
}

/* name, key, increment, window_s, expires_s. */
static void plain_members(const struct json *body, struct task *t,
			  struct error *e)
{
	enum increment inc = INC_PKT;
	enum key_type key = KEY_NONE;
	const struct json *v;
	double window_s;
	uint64_t n = 0;
	const char *s;
	size_t len;

	v = json_get(body, "name");
	if (v && (json_str(v, 64, &s, &len) || !name_chars(s, len)))
		error_add(e, ERR_VALUE, "name", "[A-Za-z0-9._:-]{1,64}");
	else if (v)
		memcpy(t->name, s, len + 1);
	v = json_get(body, "key");
	if (!v)
		error_add(e, ERR_MISSING, "key", "");
	else if (json_str(v, 32, &s, &len) ||
		 (strcmp(s, "none") != 0 && key_type_parse(s, len, &key)))
		error_add(e, ERR_VALUE, "key", key_type_list());
	v = json_get(body, "increment");
	if (v && (json_str(v, 32, &s, &len) || increment_parse(s, len, &inc)))
		error_add(e, ERR_VALUE, "increment",
			  field_allowed(F_INCREMENT));
	v = json_get(body, "window_s");
	if (v && (json_real(v, 0, TASK_WINDOW_MAX_S, &window_s) ||
		  !window_ms(window_s, &t->spec.window_ms)))
		error_add(e, ERR_VALUE, "window_s",
			  "0, or a multiple of 0.1 up to 3600");
	v = json_get(body, "expires_s");
	if (v && json_u64(v, 0, UINT32_MAX, &n))
		error_add(e, ERR_VALUE, "expires_s", "0..4294967295");
	t->expires_s = (uint32_t)n;
	t->spec.key = (uint8_t)key;
	t->spec.increment = (uint8_t)inc;
}

/* The rest of the task is known. */
static void standing_member(const struct json *body, struct task *t,
			    struct error *e)
{
	const struct json *v = json_get(body, "standing");
	struct standing_conf conf;
	bool fine = !v || json_type(v) == JSON_ARRAY;
	size_t n = 0, len;
	const char *s;

	for (size_t i = 0; v && fine && i < json_len(v); i++) {
		fine = !json_str(json_at(v, i), 128, &s, &len) && len &&
		       !strchr(s, ' ') && n + len + 2 < sizeof(t->params);
		if (fine)
			n += (size_t)snprintf(t->params + n,
					      sizeof(t->params) - n, "%s%s",
					      n ? " " : "", s);
	}
	if (!fine || standing_conf_parse(t->params, &t->spec, &conf))
		error_add(e, ERR_VALUE, "standing", STANDING_ASK_ALLOWED);
}

/* 0, or -EINVAL with all that is wrong in *e. */
static int task_parse(const struct json *body, struct task *t, struct error *e)
{
	struct form form = { 0 };
	struct fields f;

	plain_members(body, t, e);
	if (e->code == ERR_NONE) /* what it may keep depends on the key */
		sketches_member(body, t, e);
	if (e->code == ERR_NONE)
		standing_member(body, t, e);
	filter_member(body, &form, e);
	if (fields_decode(&form, FIELDS_FILTER, 0, &f, e))
		return -EINVAL;
	t->spec.filter = f.filter;
	t->origin = ORIGIN_V1;
	return 0;
}

static void list_tasks(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_list_call(ctx, rq, 0, NULL);
	const struct registry *reg;
	struct http_reply r;
	struct json_out o;
	uint32_t seen = 0;

	if (!c)
		return;
	reg = c->agent->registry;
	v1_page(c, registry_count(reg));
	v1_begin(&r, &o, 200);
	json_open(&o, "data", '[');
	for (unsigned i = 0; i < registry_rows(reg); i++) {
		const struct task *t = registry_at(reg, i);

		if (t->is_sketch)
			continue;
		if (seen >= c->offset && seen < c->offset + c->n_page)
			put_task(&o, NULL, c->agent, t);
		seen++;
	}
	json_close(&o, ']');
	v1_end(c, &r, &o);
}

static void task_created(void *arg, const struct error *e, const struct task *t,
			 const struct coverage *cov)
{
	struct v1_call *c = arg;
	struct coverage_report rep;
	struct http_reply r;
	struct json_out o;
	char location[64], id[17];

	if (e) {
		v1_error(c, e->code, e->field, e->detail);
		return;
	}
	if (!t) { /* expired or deleted before every host had answered */
		v1_error(c, ERR_NO_HOST, "", "");
		return;
	}
	coverage_report(c->agent, cov, &c->scope, &rep);
	v1_begin(&r, &o, c->task ? 200 : 201);
	hex_u64(t->spec.id, id);
	snprintf(location, sizeof(location), "/api/v1/tasks/%s", id);
	if (!c->task) /* it was not there before */
		http_reply_header(&r, "Location", location);
	put_task(&o, "data", c->agent, t);
	json_open(&o, "meta", '{');
	v1_put_coverage(&o, &rep);
	json_put_str(&o, "request_id", c->rq->id);
	json_close(&o, '}');
	json_close(&o, '}');
	v1_send(c, &r);
}

static void post_task(void *ctx, struct http_request *rq)
{
	struct v1_call *c =
		v1_call_new(ctx, rq, FIELD(SCOPE) | FIELD(TIMEOUT), NULL);
	static const char *const names[] = {
		"name",     "filter",    "key",      "increment", "sketches",
		"window_s", "expires_s", "standing", NULL
	};
	struct task t = { 0 };
	struct json *body;
	struct error e;

	if (!c)
		return;
	if (v1_body(rq, names, &body, &e)) {
		v1_refuse(c, &e);
		return;
	}
	coverage_begin(c->agent, c->f.host_only, &c->scope);
	if (task_parse(body, &t, &e)) {
		v1_refuse(c, &e);
		goto out;
	}
	standing_conf_hosts(t.params, c->scope.expected);
	if (!registry_create(c->agent, &t, c->f.host_only, v1_budget(c),
			     task_created, c))
		v1_error(c, ERR_INTERNAL, "", "");
out:
	json_free(body);
}

/* The members of a task that only agents choose, as a client got them. */
static void told_members(const struct json *body, const char *id,
			 struct task *t, struct error *e)
{
	const struct json *v = json_get(body, "id");
	const char *s;
	size_t len;

	if (hex_parse_u64(id, strlen(id), &t->spec.id) || !t->spec.id ||
	    (v && (json_str(v, 16, &s, &len) || strcmp(s, id) != 0)))
		error_add(e, ERR_VALUE, "id", "16 hex digits, as in the path");
	v = json_get(body, "generation");
	if (!v)
		error_add(e, ERR_MISSING, "generation", "");
	else if (json_u64(v, 1, (uint64_t)1 << 53, &t->spec.generation))
		error_add(e, ERR_VALUE, "generation", "1..9007199254740992");
	v = json_get(body, "origin");
	if (v && (json_str(v, 8, &s, &len) || strcmp(s, "v1") != 0))
		error_add(e, ERR_VALUE, "origin", "v1");
	v = json_get(body, "sketch_id");
	if (json_type(v) != JSON_NULL)
		error_add(e, ERR_VALUE, "sketch_id", "null");
}

/* A generation has the hosts of when it was made. */
static void alarm_hosts(const struct v1_call *c, struct task *t)
{
	const struct task *now = registry_find(c->agent->registry, t->spec.id);
	struct standing_conf conf = { 0 };

	if (now && now->spec.generation == t->spec.generation)
		(void)standing_conf_parse(now->params, &now->spec, &conf);
	standing_conf_hosts(t->params, conf.alarm.hosts ? conf.alarm.hosts
							: c->scope.expected);
}

/* For who had it made and wants it to be there: created and state are read. */
static void put_task_again(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, FIELD(TIMEOUT), NULL);
	static const char *const names[] = {
		"id",        "generation", "name",     "filter",    "key",
		"increment", "sketches",   "window_s", "expires_s", "created",
		"origin",    "sketch_id",  "state",    "standing",  NULL
	};
	struct task t = { 0 };
	struct json *body;
	struct error e;

	if (!c)
		return;
	if (v1_body(rq, names, &body, &e)) {
		v1_refuse(c, &e);
		return;
	}
	coverage_begin(c->agent, false, &c->scope);
	told_members(body, rq->segment[0], &t, &e);
	if (task_parse(body, &t, &e)) {
		v1_refuse(c, &e);
		goto out;
	}
	alarm_hosts(c, &t);
	if (registry_find(c->agent->registry, t.spec.id))
		c->task = t.spec.id;
	if (!registry_put(c->agent, &t, v1_budget(c), task_created, c))
		v1_error(c, ERR_INTERNAL, "", "");
out:
	json_free(body);
}

static void get_task(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, 0, NULL);
	const struct task *t = c ? v1_task(c) : NULL;
	struct http_reply r;
	struct json_out o;

	if (!t)
		return;
	v1_begin(&r, &o, 200);
	put_task(&o, "data", c->agent, t);
	v1_end(c, &r, &o);
}

static void task_deleted(void *arg, const struct error *e, const struct task *t,
			 const struct coverage *cov)
{
	struct v1_call *c = arg;
	struct http_reply r;

	(void)t;
	(void)cov;
	if (e && e->code != ERR_NO_HOST && e->code != ERR_NO_MONITOR) {
		v1_error(c, e->code, e->field, e->detail);
		return;
	}
	http_reply_init(&r, 204, NULL);
	v1_send(c, &r);
}

static void delete_task(void *ctx, struct http_request *rq)
{
	struct v1_call *c = v1_call_new(ctx, rq, FIELD(TIMEOUT), NULL);
	const struct task *t = c ? v1_task(c) : NULL;

	if (!t)
		return;
	/* deleted here only, it would be back with the next beat */
	if (overlay_parent(c->agent->overlay) &&
	    !node_id_equal(&t->owner, overlay_self(c->agent->overlay)))
		v1_error(c, ERR_CONFLICT, "", "the parent has this task");
	else if (!registry_delete(c->agent, t->spec.id, v1_budget(c),
				  task_deleted, c))
		v1_error(c, ERR_INTERNAL, "", "");
}

const struct http_route v1_routes[] = {
	{ .pattern = "/api/v1/tasks",
	  .methods = HTTP_GET | HTTP_HEAD,
	  .role = ROLE_READ,
	  .fn = list_tasks },
	{ .pattern = "/api/v1/tasks",
	  .methods = HTTP_POST,
	  .role = ROLE_CONFIG,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = 64 * 1024,
	  .fn = post_task },
	{ .pattern = "/api/v1/tasks/*",
	  .methods = HTTP_GET | HTTP_HEAD,
	  .role = ROLE_READ,
	  .fn = get_task },
	{ .pattern = "/api/v1/tasks/*",
	  .methods = HTTP_PUT,
	  .role = ROLE_CONFIG,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = 64 * 1024,
	  .fn = put_task_again },
	{ .pattern = "/api/v1/tasks/*",
	  .methods = HTTP_DELETE,
	  .role = ROLE_CONFIG,
	  .fn = delete_task },
};
const size_t v1_n_routes = ARRAY_SIZE(v1_routes);
