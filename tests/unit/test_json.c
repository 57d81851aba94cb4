/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Strict reading, and writing as Python does. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/json.h"
#include "common/util.h"

static int parse_status(const char *text)
{
	struct json *v = NULL;
	int err = json_parse(text, strlen(text), &v);

	if (err == 0)
		json_free(v);
	return err;
}

static void test_accepts(void **state)
{
	static const char *const good[] = {
		"null",
		" true ",
		"0",
		"-0",
		"18446744073709551615",
		"-9223372036854775808",
		"1.5e300",
		"\"\"",
		"[]",
		"{}",
		"{\"a\": [1, {\"b\": null}], \"c\": \"\\u00e9\\ud83d\\ude00\"}",
		"[[[[[[[[1]]]]]]]]",
		"\"\xc3\xa9\"",
		"{\"\": 1}",
		"1E+2",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		if (parse_status(good[i]) != 0)
			fail_msg("refused: %s", good[i]);
	}
}

static void test_refuses(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"NaN",
		"Infinity",
		"-Infinity",
		"nan",
		"nul",
		"tru",
		"01",
		"1.",
		".5",
		"+1",
		"1e",
		"--1",
		"0x10",
		"1e400",
		"18446744073709551616",
		"-9223372036854775809",
		"1 2",
		"[1,]",
		"[1 2]",
		"{\"a\":1,}",
		"{a:1}",
		"{'a':1}",
		"{\"a\" 1}",
		"[",
		"{",
		"\"",
		"\"\\",
		"\"\\u12\"",
		"\"\\x41\"",
		"\"a\nb\"",
		"\"\xff\"",
		"\"\xc0\x80\"",
		"\"\xed\xa0\x80\"",
		"\"\\ud800\"",
		"\"\\udc00\"",
		"\"\\ud800\\u0041\"",
		"\"\\u0000\"",
		"// x\n1",
		"/* x */ 1",
		"[1] x",
		"[[[[[[[[[1]]]]]]]]]",
		"\xef\xbb\xbf{}",
		"{\"a\":}",
		"{\"a\\u0000\":1}",
		"True",
		"[\"a\"",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (parse_status(bad[i]) != -EINVAL)
			fail_msg("%d for: %s", parse_status(bad[i]), bad[i]);
	}
}

static void test_nul_inside(void **state)
{
	struct json *v;

	(void)state;
	assert_int_equal(json_parse("1\0", 2, &v), -EINVAL);
	assert_int_equal(json_parse("\"a\0b\"", 5, &v), -EINVAL);
	assert_int_equal(json_parse("[1\0]", 4, &v), -EINVAL);
}

static void test_duplicates(void **state)
{
	(void)state;
	assert_int_equal(parse_status("{\"a\":1,\"a\":1}"), -EEXIST);
	assert_int_equal(parse_status("{\"a\":1,\"\\u0061\":2}"), -EEXIST);
	assert_int_equal(parse_status("[{\"x\":{\"a\":1,\"a\":{\"b\":2}}}]"),
			 -EEXIST);
	assert_int_equal(parse_status("[{\"a\":1},{\"a\":1}]"), 0);
}

/* Every escape, and texts that end where the memory does. */
static void test_texts(void **state)
{
	static const char text[] =
		"{\"\\u0061\\n\":[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\","
		"\"\\u007f\\u0080\\u07ff\\u0800\\uffff\\ud800\\udc00"
		"\\uDBFF\\uDFFF\",[],{},\"\",[[-0],{\"\":1e2}]]}";
	static const char *const numbers[] = { "7", "-12", "0.5e1", "1E9" };
	const struct json *list, *member;
	struct json *v;
	const char *s;
	char out[16];
	double d;
	uint64_t u;

	(void)state;
	assert_int_equal(json_parse(text, strlen(text), &v), 0);
	assert_string_equal(json_member(v, 0, &list), "a\n");
	assert_int_equal(json_len(list), 6);
	assert_int_equal(json_type(json_at(list, 0)), JSON_STRING);
	assert_int_equal(json_str(json_at(list, 0), 99, &s, NULL), -EINVAL);
	assert_int_equal(json_str(json_at(list, 1), 99, &s, NULL), -EINVAL);
	assert_int_equal(json_str(json_at(list, 4), 0, &s, NULL), 0);
	assert_string_equal(s, "");
	assert_int_equal(json_type(json_at(list, 2)), JSON_ARRAY);
	assert_int_equal(json_len(json_at(list, 2)), 0);
	assert_int_equal(json_type(json_at(list, 3)), JSON_OBJECT);
	list = json_at(list, 5);
	assert_int_equal(json_u64(json_at(json_at(list, 0), 0), 0, 1, &u), 0);
	assert_string_equal(json_member(json_at(list, 1), 0, &member), "");
	assert_int_equal(json_real(member, 0, 1000, &d), 0);
	assert_true(d == 100);
	json_free(v);

	s = "[\"\\u00e9\\u20ac\\ud83d\\ude00\"]";
	assert_int_equal(json_parse(s, strlen(s), &v), 0);
	assert_int_equal(json_str(json_at(v, 0), 99, &s, NULL), 0);
	assert_string_equal(s, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	json_free(v);

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		size_t len = strlen(numbers[i]);
		char *exact = malloc(len);

		assert_non_null(exact);
		memcpy(exact, numbers[i], len);
		assert_int_equal(json_parse(exact, len, &v), 0);
		assert_int_equal(json_scalar_text(v, out, sizeof(out)), 0);
		assert_string_equal(out, numbers[i]);
		json_free(v);
		free(exact);
	}
}

/* A name twice among many, wherever it is. */
static void test_many_names(void **state)
{
	(void)state;
	for (unsigned twin = 0; twin <= 40; twin++) {
		struct buf b = BUF_INIT;

		buf_text(&b, "{\"x20\":{}");
		for (unsigned i = 0; i < 40; i++)
			buf_printf(&b, ",\"x%u\":%u", i == twin ? 20 : i + 50,
				   i);
		buf_text(&b, "}");
		assert_int_equal(parse_status(b.data), twin < 40 ? -EEXIST : 0);
		buf_fini(&b);
	}
}

/* n values in one array, or members in one object. */
static int status_of_many(size_t n, bool object)
{
	struct buf b = BUF_INIT;
	int err;

	buf_text(&b, object ? "{" : "[");
	for (size_t i = 0; i < n; i++) {
		if (object)
			buf_printf(&b, "%s\"%zu\":1", i ? "," : "", i);
		else
			buf_text(&b, i ? ",1" : "1");
	}
	buf_text(&b, object ? "}" : "]");
	err = parse_status(b.data);
	buf_fini(&b);
	return err;
}

static void test_bounds(void **state)
{
	(void)state;
	assert_int_equal(status_of_many(1024, true), 0);
	assert_int_equal(status_of_many(1025, true), -E2BIG);
	assert_int_equal(status_of_many((1 << 18) - 1, false), 0);
	assert_int_equal(status_of_many(1 << 18, false), -E2BIG);
}

static void test_access(void **state)
{
	static const char text[] =
		"{\"u\": 18446744073709551615, \"n\": -1, \"r\": 0.25, "
		"\"s\": \"x,y\", \"c\": \"a\\nb\", \"t\": true, \"z\": null, "
		"\"l\": [5, 6], \"e\": 1e-3}";
	struct json *v = NULL;
	const struct json *member;
	const char *s;
	char out[8];
	uint64_t u = 7;
	double d = 7;
	bool b = false;
	size_t len;

	(void)state;
	assert_int_equal(json_parse(text, strlen(text), &v), 0);
	assert_int_equal(json_type(v), JSON_OBJECT);
	assert_int_equal(json_len(v), 9);
	assert_int_equal(json_u64(json_get(v, "u"), 0, UINT64_MAX, &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(json_u64(json_get(v, "u"), 0, 5, &u), -ERANGE);
	assert_int_equal(json_u64(json_get(v, "n"), 0, 5, &u), -ERANGE);
	assert_int_equal(json_u64(json_get(v, "r"), 0, 5, &u), -EINVAL);
	assert_int_equal(json_u64(json_get(v, "s"), 0, 5, &u), -EINVAL);
	assert_int_equal(json_u64(json_get(v, "t"), 0, 5, &u), -EINVAL);
	assert_int_equal(json_u64(NULL, 0, 5, &u), -EINVAL);
	assert_true(u == UINT64_MAX);
	assert_int_equal(json_real(json_get(v, "r"), 0, 1, &d), 0);
	assert_true(d == 0.25);
	assert_int_equal(json_real(json_get(v, "n"), 0, 1, &d), -ERANGE);
	assert_int_equal(json_real(json_get(v, "s"), 0, 1, &d), -EINVAL);
	assert_int_equal(json_bool(json_get(v, "t"), &b), 0);
	assert_true(b);
	assert_int_equal(json_bool(json_get(v, "u"), &b), -EINVAL);
	assert_int_equal(json_str(json_get(v, "s"), 3, &s, &len), 0);
	assert_string_equal(s, "x,y");
	assert_int_equal(len, 3);
	assert_int_equal(json_str(json_get(v, "s"), 2, &s, &len), -ERANGE);
	assert_int_equal(json_str(json_get(v, "c"), 9, &s, &len), -EINVAL);
	assert_null(json_get(v, "z"));
	assert_null(json_get(v, "absent"));
	assert_int_equal(json_type(json_get(v, "z")), JSON_NULL);
	assert_int_equal(json_len(json_get(v, "l")), 2);
	assert_null(json_at(json_get(v, "l"), 2));
	assert_null(json_at(v, 0));
	assert_int_equal(json_u64(json_at(json_get(v, "l"), 1), 0, 9, &u), 0);
	assert_int_equal(u, 6);
	assert_string_equal(json_member(v, 0, &member), "u");
	assert_string_equal(json_member(v, 6, &member), "z");
	assert_null(member);
	assert_null(json_member(v, 9, &member));
	assert_int_equal(json_scalar_text(json_get(v, "e"), out, 8), 0);
	assert_string_equal(out, "1e-3");
	assert_int_equal(json_scalar_text(json_get(v, "s"), out, 8), 0);
	assert_string_equal(out, "x,y");
	assert_int_equal(json_scalar_text(json_get(v, "u"), out, 8), -ERANGE);
	assert_int_equal(json_scalar_text(json_get(v, "t"), out, 8), -EINVAL);
	assert_int_equal(json_scalar_text(json_get(v, "c"), out, 8), -EINVAL);
	json_free(v);
}

static void test_write(void **state)
{
	struct buf b = BUF_INIT;
	struct json_out o;

	(void)state;
	json_out_init(&o, &b);
	json_open(&o, NULL, '{');
	json_put_u64(&o, "a", 1);
	json_open(&o, "l", '[');
	json_put_str(&o, NULL, "x\"\\\b\x01/\x7f\xc3\xa9\xf0\x9f\x98\x80\xff");
	json_open(&o, NULL, '{');
	json_close(&o, '}');
	json_put_null(&o, NULL);
	json_put_bool(&o, NULL, true);
	json_close(&o, ']');
	json_put_count(&o, "big", ((uint64_t)1 << 53) + 1);
	json_put_count(&o, "small", (uint64_t)1 << 53);
	json_put_real(&o, "r", 0.1);
	json_put_real(&o, "one", 1);
	json_put_real(&o, "nan", NAN);
	json_put_fixed(&o, "f", 41.2, 2);
	json_put_bytes64(&o, "b", "abcd", 4);
	json_close(&o, '}');
	assert_false(b.failed);
	assert_string_equal(
		b.data,
		"{\"a\": 1, \"l\": [\"x\\\"\\\\\\b\\u0001/\\u007f\\u00e9"
		"\\ud83d\\ude00\\ufffd\", {}, null, true], "
		"\"big\": 9007199254740993, "
		"\"big_str\": \"9007199254740993\", "
		"\"small\": 9007199254740992, \"r\": 0.1, \"one\": 1.0, "
		"\"nan\": null, \"f\": 41.20, \"b\": \"YWJjZA==\"}");
	assert_int_equal(parse_status(b.data), 0);
	buf_fini(&b);
}

static void test_write_exact(void **state)
{
	static const double values[] = { 0.1 + 0.2, 1e22,    1e-320,
					 DBL_MAX,   1.0 / 3, 123456789.125,
					 -0.0 };
	uint8_t bytes[2000];
	struct buf b = BUF_INIT;
	struct json_out o;
	struct json *v;
	const char *s;
	double d;
	size_t len;

	(void)state;
	memset(bytes, 0xa5, sizeof(bytes));
	json_out_init(&o, &b);
	json_open(&o, NULL, '[');
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		json_put_real(&o, NULL, values[i]);
	json_put_bytes64(&o, NULL, bytes, sizeof(bytes));
	json_close(&o, ']');
	assert_int_equal(json_parse(b.data, b.len, &v), 0);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		assert_int_equal(
			json_real(json_at(v, i), -DBL_MAX, DBL_MAX, &d), 0);
		assert_memory_equal(&d, &values[i], sizeof(d));
	}
	assert_int_equal(
		json_str(json_at(v, ARRAY_SIZE(values)), 4096, &s, &len), 0);
	assert_int_equal(len, (2000 + 2) / 3 * 4);
	json_free(v);
	buf_fini(&b);
}

static void test_buf(void **state)
{
	struct buf b = BUF_INIT;
	char *text;
	size_t len = 9;

	(void)state;
	text = buf_steal(&b, &len);
	assert_string_equal(text, "");
	assert_int_equal(len, 0);
	free(text);
	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%d,", i);
	assert_int_equal(b.len, 3890);
	buf_add(&b, "a\0b", 3);
	assert_int_equal(b.len, 3893);
	buf_reset(&b);
	assert_string_equal(b.data, "");
	b.failed = true;
	buf_text(&b, "x");
	assert_int_equal(b.len, 0);
	assert_null(buf_steal(&b, &len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepts),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_nul_inside),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_many_names),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_access),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_write_exact),
		cmocka_unit_test(test_buf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
