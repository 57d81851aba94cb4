/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every row of the table of refusals, in both forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/errors.h"
#include "agent/json.h"
#include "common/util.h"

static void check_text(enum error_code code, const char *field,
		       const char *detail, int status, const char *expected)
{
	struct buf b = BUF_INIT;
	struct error e;

	error_set(&e, code, field, detail);
	error_put_text(&b, &e);
	assert_string_equal(b.data, expected);
	assert_int_equal(error_row(code)->status, status);
	buf_fini(&b);
}

static void test_legacy(void **state)
{
	(void)state;
	check_text(ERR_MALFORMED, NULL, NULL, 400, "error: malformed body");
	check_text(ERR_REPEATED, NULL, NULL, 400, "error: repeated field");
	check_text(ERR_NO_TYPE, NULL, NULL, 400, "error: no message type");
	check_text(ERR_UNKNOWN_TYPE, NULL, NULL, 400,
		   "error: unknown message type");
	check_text(ERR_MISSING, "dst", NULL, 400, "error: missing field: dst");
	check_text(ERR_VALUE, "n", "1..9", 400, "error: bad value: n (1..9)");
	check_text(ERR_UNKNOWN_SKETCH, "7", NULL, 400,
		   "error: unknown sketch: 7");
	check_text(ERR_UNKNOWN_COUNTER, "src", NULL, 400,
		   "error: unknown counter: src");
	check_text(ERR_UNKNOWN_COUNTER, NULL, NULL, 400,
		   "error: unknown counter");
	check_text(ERR_NOT_PEER, "dst", NULL, 400,
		   "error: not a known peer: dst");
	check_text(ERR_REFUSED, NULL, "cycle", 400, "error: refused: cycle");
	check_text(ERR_TOKEN, NULL, NULL, 401, "error: token required");
	check_text(ERR_FORBIDDEN, "x", "y", 403, "error: not allowed");
	check_text(ERR_METHOD, NULL, NULL, 405, "error: method");
	check_text(ERR_LENGTH, NULL, NULL, 411, "error: length required");
	check_text(ERR_TOO_LARGE, NULL, NULL, 413, "error: too large");
	check_text(ERR_MEDIA_TYPE, NULL, NULL, 415, "error: content type");
	check_text(ERR_PROBE_BUSY, NULL, NULL, 429, "error: probe busy");
	check_text(ERR_RATE, NULL, NULL, 429, "error: too many requests");
	check_text(ERR_PROBE_FAILED, NULL, "no datagram", 500,
		   "error: probe failed: no datagram");
	check_text(ERR_INTERNAL, NULL, NULL, 500, "error: internal");
	check_text(ERR_NO_MONITOR, NULL, NULL, 503,
		   "error: monitor not attached");
	check_text(ERR_NO_HOST, NULL, NULL, 503, "error: no host answered");
	check_text(ERR_LIMIT, "", "sketches", 507,
		   "error: limit reached: sketches");
}

/* The names that are promised to stay. */
static bool type_known(const char *type)
{
	static const char *const types[] = {
		"bad-request",  "invalid-value", "wrong-sketch",
		"unauthorized", "forbidden",     "not-found",
		"unknown-task", "unknown-probe", "unknown-host",
		"method",       "conflict",      "stale-epoch",
		"too-large",    "media-type",    "rate-limit",
		"probe-busy",   "limit-reached", "unavailable",
		"incomplete",   "loop",          "internal",
		"moved",
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strcmp(types[i], type) == 0)
			return true;
	}
	return false;
}

static void check_member(const struct json *v, const char *name,
			 const char *expected)
{
	const char *s;

	assert_int_equal(json_str(json_get(v, name), 256, &s, NULL), 0);
	assert_string_equal(s, expected);
}

static void test_problems(void **state)
{
	(void)state;
	for (unsigned code = ERR_NONE + 1; code < ERR_CODES; code++) {
		const struct error_row *row = error_row(code);
		struct buf b = BUF_INIT;
		struct json *v;
		struct error e;
		uint64_t status;

		error_set(&e, code, "field", "reason \"quoted\"");
		error_put_problem(&b, &e, "/api/v1/x", "id-1", "1.2.3");
		assert_int_equal(json_parse(b.data, b.len, &v), 0);
		assert_true(type_known(row->type));
		check_member(v, "title", row->title);
		check_member(v, "request_id", "id-1");
		assert_int_equal(
			json_u64(json_get(v, "status"), 400, 599, &status), 0);
		assert_int_equal(status, row->status_v1);
		assert_true((row->status_v1 == 503 || row->status_v1 == 429) ==
			    (row->retry_after_s > 0));
		if (code == ERR_INTERNAL)
			assert_int_equal(json_len(v), 4);
		else
			check_member(v, "instance", "/api/v1/x");
		if (row->status_v1 == 409)
			check_member(v, "epoch", "1.2.3");
		else
			assert_null(json_get(v, "epoch"));
		json_free(v);
		buf_fini(&b);
	}
}

static void test_example(void **state)
{
	struct buf b = BUF_INIT;
	struct error e;

	(void)state;
	error_set(&e, ERR_VALUE, "n", "must be 1..1024");
	error_put_problem(&b, &e, "/api/v1/tasks/00c0ffee00000007/top", "5f1c",
			  NULL);
	assert_string_equal(
		b.data,
		"{\"type\": \"/problems/invalid-value\", "
		"\"title\": \"Value not allowed\", \"status\": 422, "
		"\"detail\": \"bad value: n (must be 1..1024)\", "
		"\"instance\": \"/api/v1/tasks/00c0ffee00000007/top\", "
		"\"request_id\": \"5f1c\", \"errors\": "
		"[{\"field\": \"n\", \"reason\": \"must be 1..1024\"}]}");
	buf_fini(&b);
}

static void test_cut(void **state)
{
	char longer[300];
	struct error e;

	(void)state;
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	error_set(&e, ERR_VALUE, longer, longer);
	assert_int_equal(strlen(e.field), sizeof(e.field) - 1);
	assert_int_equal(strlen(e.detail), sizeof(e.detail) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_legacy),
		cmocka_unit_test(test_problems),
		cmocka_unit_test(test_example),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
