/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F2: what a client may send before anything is understood: fields as a form
 * and as JSON, whole documents read and written again, headers through the
 * guard, paths through the routes.
 *
 * Input: "0" form, "1" JSON fields, "2" JSON, "3" headers, "4" path; the text.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/form.h"
#include "agent/guard.h"
#include "agent/json.h"
#include "agent/route.h"
#include "common/utf8.h"
#include "common/util.h"

#define MUST(cond) ((cond) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_form(const struct form *f)
{
	MUST(f->n <= FORM_SLOTS);
	for (unsigned i = 0; i < f->n; i++) {
		const char *name = f->pair[i].name;

		MUST(strlen(name) <= FORM_NAME_MAX && name[0]);
		MUST(strlen(f->pair[i].value) == f->pair[i].len);
		MUST(f->pair[i].len > 0 && f->pair[i].len <= FORM_VALUE_MAX);
		MUST(utf8_is_text(name, strlen(name)));
		MUST(utf8_is_text(f->pair[i].value, f->pair[i].len));
		MUST(form_get(f, name, NULL));
	}
}

static void fuzz_form(const char *text, size_t len)
{
	static struct form f;

	if (form_decode(text, len, FORM_VALUE_OLD, NULL, &f) == ERR_NONE)
		check_form(&f);
	if (form_decode(text, len, FORM_VALUE_MAX, "key", &f) == ERR_NONE)
		check_form(&f);
}

static void fuzz_fields(const char *text, size_t len)
{
	static struct form f;

	if (form_decode_json(text, len, &f) == ERR_NONE)
		check_form(&f);
}

static void write_value(struct json_out *o, const char *name,
			const struct json *v);

static void write_elements(struct json_out *o, const struct json *v)
{
	for (size_t i = 0; i < json_len(v); i++) {
		const struct json *member = json_at(v, i);
		const char *name = NULL;

		if (json_type(v) == JSON_OBJECT) {
			name = json_member(v, i, &member);
			MUST(name && json_get(v, name) == member);
		}
		write_value(o, name, member);
	}
}

/* Strings with control bytes are readable, but for nobody: json_str(). */
static void write_string(struct json_out *o, const char *name,
			 const struct json *v)
{
	const char *s = "";
	size_t n = 0;

	if (json_str(v, SIZE_MAX, &s, &n) == 0)
		MUST(utf8_is_text(s, n) && strlen(s) == n);
	json_put_str(o, name, s);
}

static void write_number(struct json_out *o, const char *name,
			 const struct json *v)
{
	char text[80];
	uint64_t u;
	double d;

	MUST(json_scalar_text(v, text, sizeof(text)) == 0);
	MUST(json_real(v, -INFINITY, INFINITY, &d) == 0);
	if (json_u64(v, 0, UINT64_MAX, &u) == 0)
		json_put_u64(o, name, u);
	else
		json_put_real(o, name, d);
}

static void write_value(struct json_out *o, const char *name,
			const struct json *v)
{
	bool b = false;

	switch (json_type(v)) {
	case JSON_NULL:
		json_put_null(o, name);
		break;
	case JSON_BOOL:
		MUST(json_bool(v, &b) == 0);
		json_put_bool(o, name, b);
		break;
	case JSON_NUMBER:
		write_number(o, name, v);
		break;
	case JSON_STRING:
		write_string(o, name, v);
		break;
	case JSON_ARRAY:
		json_open(o, name, '[');
		write_elements(o, v);
		json_close(o, ']');
		break;
	case JSON_OBJECT:
		json_open(o, name, '{');
		write_elements(o, v);
		json_close(o, '}');
		break;
	}
}

/* The other ways to write a value, with a name of the sender's. */
static void write_others(const struct json *v)
{
	const struct json *first = NULL;
	const char *name = json_member(v, 0, &first), *s = "";
	struct buf b = BUF_INIT;
	struct json *again;
	struct json_out o;
	double d = INFINITY;
	uint64_t u = 0;
	size_t n = 0;

	if (!name || json_len(v) > 1 || strlen(name) > 128)
		return;
	(void)json_real(first, -INFINITY, INFINITY, &d);
	(void)json_u64(first, 0, UINT64_MAX, &u);
	(void)json_str(first, SIZE_MAX, &s, &n);
	json_out_init(&o, &b);
	json_open(&o, NULL, '[');
	json_open(&o, NULL, '{');
	json_put_count(&o, name, u);
	json_close(&o, '}');
	json_put_fixed(&o, NULL, d, 3);
	json_put_real(&o, NULL, d);
	json_put_bytes64(&o, NULL, s, n);
	json_close(&o, ']');
	MUST(!b.failed && json_parse(b.data, b.len, &again) == 0);
	json_free(again);
	buf_fini(&b);
}

/* What we write of it, we read. */
static void fuzz_json(const char *text, size_t len)
{
	struct buf b = BUF_INIT;
	struct json *v, *again;
	struct json_out o;

	if (json_parse(text, len, &v) != 0)
		return;
	write_others(v);
	json_out_init(&o, &b);
	write_value(&o, NULL, v);
	MUST(!b.failed && json_parse(b.data, b.len, &again) == 0);
	MUST(json_type(again) == json_type(v) &&
	     json_len(again) == json_len(v));
	json_free(again);
	json_free(v);
	buf_fini(&b);
}

/* Lines "name:value" of a request whose method is the first line. */
static void fuzz_guard(char *text)
{
	static const char *const names[] = { "lab.example", NULL };
	struct http_route route = { .bodies = HTTP_BODY_FORM | HTTP_BODY_JSON,
				    .body_max = 65536 };
	struct guard_request rq = { .server_names = names };
	struct guard g = { 0 };
	enum http_body type;
	uint64_t length = 0;
	char *line;

	MUST(endpoint_parse("127.0.0.1", 9, 8000, &rq.local) == 0);
	rq.method = strsep(&text, "\n");
	rq.known = method_parse(rq.method);
	while ((line = strsep(&text, "\n")) != NULL) {
		size_t n = strcspn(line, ":");
		const char *value = line[n] ? line + n + 1 : line + n;

		guard_header(&g, line, n, value, strlen(value));
	}
	if (guard_check_origin(&g, &rq) != ERR_NONE)
		return;
	MUST(g.n_host <= 1 && g.n_length <= 1);
	if (guard_check_framing(&g, &rq, &length) != ERR_NONE)
		return;
	MUST(g.n_coding == 0);
	if (guard_check_body(&g, &route, length, &type) == ERR_NONE)
		MUST(length <= route.body_max && (type & route.bodies));
}

static void fuzz_path(const char *text)
{
	static const struct http_route rows[] = {
		{ .pattern = "/", .methods = HTTP_POST },
		{ .pattern = "/api/v1/tasks/*", .methods = HTTP_GET },
		{ .pattern = "/api/v1/tasks/*/top", .methods = HTTP_GET },
		{ .pattern = "/*/*/*", .methods = HTTP_GET },
	};
	struct http_request rq = { 0 };
	unsigned allowed;
	char list[48];

	method_list((unsigned)strlen(text), list);
	if (!route_find(rows, ARRAY_SIZE(rows), HTTP_GET, text, &rq, &allowed))
		return;
	for (unsigned i = 0; i < HTTP_SEGMENTS; i++)
		MUST(utf8_is_text(rq.segment[i], strlen(rq.segment[i])));
	MUST(rq.segment[0][0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return 0;
	text = malloc(size);
	MUST(text);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (data[0] - '0') {
	case 0:
		fuzz_form(text, size - 1);
		break;
	case 1:
		fuzz_fields(text, size - 1);
		break;
	case 2:
		fuzz_json(text, size - 1);
		break;
	case 3:
		fuzz_guard(text);
		break;
	case 4:
		fuzz_path(text);
		break;
	}
	free(text);
	return 0;
}
