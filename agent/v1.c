/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every resource of /api/v1 shares: query strings, bodies, pages,
 * envelopes.
 */
#include "agent/v1.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/messages.h"
#include "agent/overlay.h"
#include "agent/registry.h"
#include "common/util.h"

#define PAGE_DEFAULT 100
#define CURSOR_MS    60000

void v1_error(struct v1_call *c, enum error_code code, const char *field,
	      const char *detail)
{
	struct error e;

	error_set(&e, code, field, detail);
	http_send_error(c->rq, &e);
	free(c);
}

void v1_refuse(struct v1_call *c, const struct error *e)
{
	http_send_error(c->rq, e);
	free(c);
}

void v1_send(struct v1_call *c, struct http_reply *r)
{
	http_send(c->rq, r);
	free(c);
}

struct v1_call *v1_call_new(void *ctx, struct http_request *rq, uint64_t takes,
			    const char *repeat)
{
	struct v1_call *c = calloc(1, sizeof(*c));
	enum error_code code;
	const char *unknown;
	struct error e;

	error_set(&e, ERR_INTERNAL, "", "");
	if (!c) {
		http_send_error(rq, &e);
		return NULL;
	}
	c->agent = ctx;
	c->rq = rq;
	code = form_decode(rq->query, strlen(rq->query), FORM_VALUE_MAX, repeat,
			   &c->form);
	if (code) {
		v1_error(c, code, "", "");
		return NULL;
	}
	/* the repeated one is the handler's own */
	unknown = fields_unknown(&c->form, takes);
	if (unknown && !(repeat && strcmp(unknown, repeat) == 0)) {
		v1_error(c, ERR_UNKNOWN_FIELD, unknown, "");
		return NULL;
	}
	error_set(&e, ERR_NONE, "", "");
	if (fields_decode(&c->form, takes, 0, &c->f, &e)) {
		v1_refuse(c, &e);
		return NULL;
	}
	return c;
}

void v1_begin(struct http_reply *r, struct json_out *o, int status)
{
	http_reply_init(r, status, HTTP_JSON);
	json_out_init(o, &r->body);
	json_open(o, NULL, '{');
}

void v1_end(struct v1_call *c, struct http_reply *r, struct json_out *o)
{
	json_open(o, "meta", '{');
	v1_put_cursor(c, o);
	json_put_str(o, "request_id", c->rq->id);
	json_close(o, '}');
	json_close(o, '}');
	v1_send(c, r);
}

/*
 * A cursor is the time it was given and the place to go on, with the number of
 * the list if that is kept; others are made anew for each page, so it only has
 * to be young, not remembered.
 */
void v1_page(struct v1_call *c, uint64_t total)
{
	uint32_t limit = c->f.set & FIELD(LIMIT) ? c->f.limit : PAGE_DEFAULT;

	c->total = total;
	c->n_page = c->offset >= total
			    ? 0
			    : (uint32_t)MIN(limit, total - c->offset);
}

void v1_put_cursor(const struct v1_call *c, struct json_out *o)
{
	char text[33];

	if (c->offset + (uint64_t)c->n_page >= c->total)
		return;
	hex_u64(clock_wall_ms(), text);
	hex_u64((uint64_t)c->list << 32 | (c->offset + c->n_page), text + 16);
	json_put_str(o, "next_cursor", text);
}

/* 0, or -EINVAL when the cursor is not ours or too old. */
static int cursor_take(struct v1_call *c)
{
	uint64_t given, place, now = clock_wall_ms();

	if (!(c->f.set & FIELD(CURSOR)))
		return 0;
	if (strlen(c->f.cursor) != 32 ||
	    hex_parse_u64(c->f.cursor, 16, &given) ||
	    hex_parse_u64(c->f.cursor + 16, 16, &place) || given > now ||
	    now - given > CURSOR_MS)
		return -EINVAL;
	c->list = (uint32_t)(place >> 32);
	c->offset = (uint32_t)place;
	return 0;
}

struct v1_call *v1_list_call(void *ctx, struct http_request *rq, uint64_t takes,
			     const char *repeat)
{
	struct v1_call *c = v1_call_new(
		ctx, rq, takes | FIELD(LIMIT) | FIELD(CURSOR), repeat);

	if (c && cursor_take(c)) {
		v1_error(c, ERR_MALFORMED, field_name(F_CURSOR),
			 field_allowed(F_CURSOR));
		return NULL;
	}
	return c;
}

void v1_put_host(struct json_out *o, const char *name,
		 const struct endpoint *ep)
{
	char text[ENDPOINT_TEXT_LEN];

	endpoint_format(ep, 8000, text);
	json_put_str(o, name, text);
}

void v1_put_node(struct json_out *o, const char *name, const struct node_id *id)
{
	static const struct node_id unknown;
	char text[33];

	if (node_id_equal(id, &unknown)) {
		json_put_null(o, name);
		return;
	}
	node_id_format(id, text);
	json_put_str(o, name, text);
}

void v1_put_time(struct json_out *o, const char *name, uint64_t ms)
{
	char text[TIME_TEXT_LEN];

	if (!ms) {
		json_put_null(o, name);
		return;
	}
	time_format(ms, text);
	json_put_str(o, name, text);
}

void v1_put_coverage(struct json_out *o, const struct coverage_report *rep)
{
	json_open(o, "coverage", '{');
	json_put_u64(o, "hosts_expected", rep->expected);
	json_put_u64(o, "hosts_answered", rep->answered);
	json_put_bool(o, "complete", rep->complete);
	json_put_u64(o, "missing_more", rep->missing_more);
	json_open(o, "missing", '[');
	for (uint32_t i = 0; i < rep->n_missing; i++) {
		json_open(o, NULL, '{');
		json_put_str(o, "host", rep->missing[i].host);
		json_put_str(o, "reason",
			     missing_reason_name(rep->missing[i].reason));
		v1_put_time(o, "last_seen", rep->missing[i].last_seen_ms);
		json_close(o, '}');
	}
	json_close(o, ']');
	json_close(o, '}');
}

uint32_t v1_budget(const struct v1_call *c)
{
	return c->f.set & FIELD(TIMEOUT) ? c->f.timeout_ms
					 : c->agent->conf->query_ms;
}

const struct task *v1_task(struct v1_call *c)
{
	const char *s = c->rq->segment[0];
	const struct task *t = NULL;
	uint64_t id;

	if (!hex_parse_u64(s, strlen(s), &id))
		t = registry_find(c->agent->registry, id);
	if (t && !t->is_sketch) {
		registry_touch(c->agent->registry, t->spec.id);
		return t;
	}
	v1_error(c, ERR_UNKNOWN_TASK, "", "");
	return NULL;
}

void v1_members_known(const struct json *obj, const char *const *names,
		      struct error *e)
{
	const struct json *v;
	const char *name;

	for (size_t i = 0; (name = json_member(obj, i, &v)); i++) {
		unsigned k = 0;

		while (names[k] && strcmp(names[k], name) != 0)
			k++;
		if (!names[k])
			error_add(e, ERR_UNKNOWN_FIELD, name, "");
	}
}

/* No text in it is longer than a value may be. */
static bool texts_fit(const struct json *v)
{
	const struct json *member;
	const char *s;
	bool fit = true;
	size_t len;

	switch (json_type(v)) {
	case JSON_STRING:
		return !json_str(v, FORM_VALUE_MAX, &s, &len);
	case JSON_ARRAY:
		for (size_t i = 0; fit && i < json_len(v); i++)
			fit = texts_fit(json_at(v, i));
		return fit;
	case JSON_OBJECT:
		for (size_t i = 0; fit && json_member(v, i, &member); i++)
			fit = texts_fit(member);
		return fit;
	default:
		return true;
	}
}

int v1_body(const struct http_request *rq, const char *const *names,
	    struct json **out, struct error *e)
{
	struct json *body = NULL;

	error_set(e, ERR_NONE, "", "");
	if (json_parse(rq->body, rq->body_len, &body) ||
	    json_type(body) != JSON_OBJECT || !texts_fit(body))
		error_set(e, ERR_MALFORMED, "", "");
	else
		v1_members_known(body, names, e);
	if (e->code == ERR_NONE) {
		*out = body;
		return 0;
	}
	json_free(body);
	return -EINVAL;
}
