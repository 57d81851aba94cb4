/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fields of a request, as a form and as a flat JSON object. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/form.h"
#include "common/buf.h"
#include "common/util.h"

static struct form form;

static enum error_code decode(const char *body)
{
	return form_decode(body, strlen(body), FORM_VALUE_OLD, NULL, &form);
}

static enum error_code decode_json(const char *body)
{
	return form_decode_json(body, strlen(body), &form);
}

static void test_plain(void **state)
{
	size_t len;

	(void)state;
	assert_int_equal(decode("type=query bw&src=10.0.0.5&dst=10.0.0.6"), 0);
	assert_int_equal(form.n, 3);
	assert_string_equal(form_get(&form, "type", &len), "query bw");
	assert_int_equal(len, 8);
	assert_string_equal(form_get(&form, "dst", NULL), "10.0.0.6");
	assert_null(form_get(&form, "ty", NULL));
	assert_int_equal(decode("type=query+bw&x=a%2Bb%26c%3Dd"), 0);
	assert_string_equal(form_get(&form, "type", NULL), "query bw");
	assert_string_equal(form_get(&form, "x", NULL), "a+b&c=d");
	assert_int_equal(decode("a=b=c"), 0);
	assert_string_equal(form_get(&form, "a", NULL), "b=c");
	/* Decoded once. */
	assert_int_equal(decode("a=%2541"), 0);
	assert_string_equal(form_get(&form, "a", NULL), "%41");
	assert_int_equal(decode("%61=%c3%a9"), 0);
	assert_string_equal(form_get(&form, "a", NULL), "\xc3\xa9");
}

static void test_empty(void **state)
{
	(void)state;
	assert_int_equal(decode(""), 0);
	assert_int_equal(form.n, 0);
	assert_int_equal(decode("a=&b=1&c&&"), 0);
	assert_int_equal(form.n, 1);
	assert_null(form_get(&form, "a", NULL));
	assert_string_equal(form_get(&form, "b", NULL), "1");
	assert_int_equal(decode("a=&a=1"), ERR_REPEATED);
	assert_int_equal(decode("a&a"), ERR_REPEATED);
}

static void test_malformed(void **state)
{
	static const char *const bad[] = {
		"a=%",         "a=%4",  "a=%zz",  "a=%00",  "a=\x01",
		"a=b\n",       "a=%0a", "a=\x7f", "a=\xff", "a=%ff",
		"a=%ed%a0%80", "=b",    "%=1",    "=",      "a=%c3",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (decode(bad[i]) != ERR_MALFORMED)
			fail_msg("accepted: %s", bad[i]);
	}
	assert_int_equal(form_decode("a=\0", 3, FORM_VALUE_OLD, NULL, &form),
			 ERR_MALFORMED);
	assert_int_equal(decode("a=1&%61=2"), ERR_REPEATED);
}

/* Bodies of a certain size, both ways. */
static enum error_code decode_sized(size_t name, size_t value, bool json)
{
	struct buf b = BUF_INIT;
	enum error_code e;

	buf_text(&b, json ? "{\"" : "");
	for (size_t i = 0; i < name; i++)
		buf_text(&b, "n");
	buf_text(&b, json ? "\": \"" : "=");
	for (size_t i = 0; i < value; i++)
		buf_text(&b, "v");
	buf_text(&b, json ? "\"}" : "");
	e = json ? decode_json(b.data) : decode(b.data);
	buf_fini(&b);
	return e;
}

static enum error_code decode_pairs(unsigned n, bool json)
{
	struct buf b = BUF_INIT;
	enum error_code e;

	buf_text(&b, json ? "{" : "");
	for (unsigned i = 0; i < n; i++) {
		if (json)
			buf_printf(&b, "%s\"f%u\": %u", i ? "," : "", i, i);
		else
			buf_printf(&b, "&f%u=", i);
	}
	buf_text(&b, json ? "}" : "");
	e = json ? decode_json(b.data) : decode(b.data);
	buf_fini(&b);
	return e;
}

static void test_bounds(void **state)
{
	(void)state;
	for (int json = 0; json <= 1; json++) {
		assert_int_equal(decode_sized(64, 256, json), 0);
		assert_int_equal(form.pair[0].len, 256);
		assert_int_equal(decode_sized(65, 256, json), ERR_MALFORMED);
		assert_int_equal(decode_sized(64, 257, json), ERR_MALFORMED);
		assert_int_equal(decode_pairs(32, json), 0);
		assert_int_equal(decode_pairs(33, json), ERR_MALFORMED);
	}
}

static void test_repeat(void **state)
{
	static const char query[] = "key=a&key=b&n=1";

	(void)state;
	assert_int_equal(form_decode(query, strlen(query), FORM_VALUE_MAX,
				     "key", &form),
			 0);
	assert_int_equal(form.n, 3);
	assert_string_equal(form.pair[1].value, "b");
	assert_int_equal(form_decode(query, strlen(query), FORM_VALUE_MAX, NULL,
				     &form),
			 ERR_REPEATED);
	assert_int_equal(form_decode("n=1&n=1", 7, FORM_VALUE_MAX, "key",
				     &form),
			 ERR_REPEATED);
}

static void test_json(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"1",
		"null",
		"{\"a\": true}",
		"{\"a\": null}",
		"{\"a\": [1]}",
		"{\"a\": {}}",
		"{\"a\": \"x\\n\"}",
		"{\"\": 1}",
		"{\"a\\n\": 1}",
		"{\"a\": NaN}",
		"{\"a\": 1} x",
		"{\"a\": \"\\u0000\"}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (decode_json(bad[i]) != ERR_MALFORMED)
			fail_msg("accepted: %s", bad[i]);
	}
	assert_int_equal(decode_json("{\"a\": 1, \"a\": 1}"), ERR_REPEATED);
	assert_int_equal(decode_json("{\"type\": \"query bw\", \"n\": 10, "
				     "\"t\": 0.10, \"e\": \"\"}"),
			 0);
	assert_int_equal(form.n, 3);
	assert_string_equal(form_get(&form, "type", NULL), "query bw");
	assert_string_equal(form_get(&form, "n", NULL), "10");
	assert_string_equal(form_get(&form, "t", NULL), "0.10");
	assert_int_equal(decode_json("{}"), 0);
	assert_int_equal(form.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),     cmocka_unit_test(test_empty),
		cmocka_unit_test(test_malformed), cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_repeat),    cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
