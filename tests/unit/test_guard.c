/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guard's decisions as tables, and which route a path means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/guard.h"
#include "agent/route.h"
#include "common/util.h"

static const char *const server_names[] = { "lab.example", NULL };

static struct guard_request request(const char *method, const char *local)
{
	struct guard_request rq = { .method = method,
				    .known = method_parse(method),
				    .server_names = server_names };

	assert_int_equal(endpoint_parse(local, strlen(local), 8000, &rq.local),
			 0);
	return rq;
}

static void add(struct guard *g, const char *name, const char *value)
{
	guard_header(g, name, strlen(name), value, strlen(value));
}

static void test_host(void **state)
{
	static const struct {
		const char *local, *host;
		enum error_code code;
	} rows[] = {
		{ "127.0.0.1", "127.0.0.1", ERR_NONE },
		{ "127.0.0.1", "127.0.0.1:8000", ERR_NONE },
		{ "127.0.0.1", "127.0.0.1:1", ERR_NONE },
		{ "127.0.0.1", "localhost", ERR_NONE },
		{ "127.0.0.1", "LocalHost:9", ERR_NONE },
		{ "127.0.0.1", "lab.example", ERR_NONE },
		{ "127.0.0.1", "LAB.Example:8000", ERR_NONE },
		{ "127.0.0.1", "[::ffff:127.0.0.1]", ERR_NONE },
		{ "[::1]", "[::1]", ERR_NONE },
		{ "[::1]", "[::1]:8000", ERR_NONE },
		{ "[::1]", "[0:0::1]:8000", ERR_NONE },
		{ "[::1]", "localhost:8000", ERR_NONE },
		{ "10.0.0.5", "10.0.0.5", ERR_NONE },
		{ "10.0.0.5", "localhost", ERR_FORBIDDEN },
		{ "10.0.0.5", "127.0.0.1", ERR_FORBIDDEN },
		{ "127.0.0.1", "127.evil.com", ERR_FORBIDDEN },
		{ "127.0.0.1", "127.0.0.1.evil.com", ERR_FORBIDDEN },
		{ "127.0.0.1", "lab.example.evil.com", ERR_FORBIDDEN },
		{ "127.0.0.1", "evil.com", ERR_FORBIDDEN },
		{ "127.0.0.1", "localhost.", ERR_FORBIDDEN },
		{ "127.0.0.1", "[::1]", ERR_FORBIDDEN },
		{ "127.0.0.1", "0.0.0.0", ERR_FORBIDDEN },
		{ "127.0.0.1", "127.0.0.2", ERR_FORBIDDEN },
		{ "127.0.0.1", "127.1", ERR_FORBIDDEN },
		{ "127.0.0.1", "2130706433", ERR_FORBIDDEN },
		{ "127.0.0.1", "", ERR_MALFORMED },
		{ "127.0.0.1", "127.0.0.1:", ERR_MALFORMED },
		{ "127.0.0.1", "127.0.0.1:x", ERR_MALFORMED },
		{ "127.0.0.1", "127.0.0.1:0", ERR_MALFORMED },
		{ "127.0.0.1", "127.0.0.1:65536", ERR_MALFORMED },
		{ "127.0.0.1", "127.0.0.1 evil.com", ERR_MALFORMED },
		{ "127.0.0.1", "127.0.0.1, evil.com", ERR_MALFORMED },
		{ "127.0.0.1", "evil.com@127.0.0.1", ERR_MALFORMED },
		{ "127.0.0.1", "127.0.0.1/", ERR_MALFORMED },
		{ "[::1]", "::1", ERR_MALFORMED },
		{ "[::1]", "[::1", ERR_MALFORMED },
		{ "[::1]", "[::1%lo]", ERR_MALFORMED },
		{ "[::1]", "[::1]8000", ERR_MALFORMED },
		{ "127.0.0.1", "[127.0.0.1]", ERR_MALFORMED },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct guard_request rq = request("GET", rows[i].local);
		struct guard g = { 0 };

		add(&g, "host", rows[i].host);
		if (guard_check_origin(&g, &rq) != rows[i].code)
			fail_msg("Host %s at %s", rows[i].host, rows[i].local);
	}
}

static void test_host_count(void **state)
{
	struct guard_request rq = request("GET", "127.0.0.1");
	struct guard none = { 0 }, two = { 0 };

	(void)state;
	assert_int_equal(guard_check_origin(&none, &rq), ERR_MALFORMED);
	rq.http_1_0 = true;
	assert_int_equal(guard_check_origin(&none, &rq), ERR_NONE);
	add(&two, "Host", "127.0.0.1");
	add(&two, "HOST", "127.0.0.1");
	assert_int_equal(guard_check_origin(&two, &rq), ERR_MALFORMED);
}

static void test_origin(void **state)
{
	static const struct {
		const char *host, *origin, *site;
		enum error_code code;
	} rows[] = {
		{ "127.0.0.1:8000", NULL, NULL, ERR_NONE },
		{ "127.0.0.1:8000", "http://127.0.0.1:8000", NULL, ERR_NONE },
		{ "127.0.0.1", "http://127.0.0.1:8000", NULL, ERR_NONE },
		{ "localhost:80", "http://localhost", NULL, ERR_NONE },
		{ "127.0.0.1:9000", "http://127.0.0.1:9000", "none", ERR_NONE },
		{ "lab.example:8000", "HTTP://Lab.Example:8000", "same-origin",
		  ERR_NONE },
		{ "127.0.0.1:8000", NULL, "same-origin", ERR_NONE },
		{ "127.0.0.1:8000", NULL, "none", ERR_NONE },
		{ "127.0.0.1:8000", NULL, "cross-site", ERR_FORBIDDEN },
		{ "127.0.0.1:8000", NULL, "same-site", ERR_FORBIDDEN },
		{ "127.0.0.1:8000", NULL, "", ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "http://127.0.0.1:8000", "cross-site",
		  ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "null", NULL, ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "", NULL, ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "http://evil.com", NULL, ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "http://evil.com:8000", NULL,
		  ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "http://127.0.0.1:8001", NULL,
		  ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "http://127.0.0.1", NULL, ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "https://127.0.0.1:8000", NULL,
		  ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "http://localhost:8000", NULL,
		  ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "http://127.0.0.1:8000.evil.com", NULL,
		  ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "http://127.0.0.1:8000/", NULL,
		  ERR_FORBIDDEN },
		{ "127.0.0.1:8000", "127.0.0.1:8000", NULL, ERR_FORBIDDEN },
	};
	static const char *const changing[] = { "POST", "PUT", "DELETE",
						"PATCH", "OPTIONS" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct guard_request rq = request("GET", "127.0.0.1");
		struct guard g = { 0 };

		add(&g, "Host", rows[i].host);
		if (rows[i].origin)
			add(&g, "Origin", rows[i].origin);
		if (rows[i].site)
			add(&g, "Sec-Fetch-Site", rows[i].site);
		assert_int_equal(guard_check_origin(&g, &rq), ERR_NONE);
		for (size_t k = 0; k < ARRAY_SIZE(changing); k++) {
			rq = request(changing[k], "127.0.0.1");
			if (guard_check_origin(&g, &rq) != rows[i].code)
				fail_msg("%s row %zu", changing[k], i);
		}
	}
}

static void test_origin_twice(void **state)
{
	struct guard_request rq = request("POST", "127.0.0.1");
	struct guard g = { 0 };

	(void)state;
	add(&g, "Host", "127.0.0.1:8000");
	add(&g, "Origin", "http://127.0.0.1:8000");
	add(&g, "Origin", "http://127.0.0.1:8000");
	assert_int_equal(guard_check_origin(&g, &rq), ERR_FORBIDDEN);
}

static void test_malformed(void **state)
{
	static const struct {
		const char *method, *name, *value;
		enum error_code code;
	} rows[] = {
		{ "GET", "X", "y", ERR_NONE },
		{ "GET", "X", "\xff caf\xc3\xa9\ttab", ERR_NONE },
		{ "G(T", "X", "y", ERR_MALFORMED },
		{ "", "X", "y", ERR_MALFORMED },
		{ "GET", "X ", "y", ERR_MALFORMED },
		{ "GET", "", "y", ERR_MALFORMED },
		{ "GET", "X:Y", "y", ERR_MALFORMED },
		{ "GET", "X\x01", "y", ERR_MALFORMED },
		{ "GET", "X", "a\rb", ERR_MALFORMED },
		{ "GET", "X", "a\nb", ERR_MALFORMED },
		{ "GET", "X", "\x7f", ERR_MALFORMED },
	};
	struct guard_request rq = request("GET", "127.0.0.1");
	struct guard g = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		rq.method = rows[i].method;
		g = (struct guard){ 0 };
		add(&g, "Host", "127.0.0.1");
		add(&g, rows[i].name, rows[i].value);
		assert_int_equal(guard_check_origin(&g, &rq), rows[i].code);
	}
	rq.method = "GET";
	g = (struct guard){ 0 };
	add(&g, "Host", "127.0.0.1");
	guard_header(&g, "X", 1, "a\0b", 3);
	assert_int_equal(guard_check_origin(&g, &rq), ERR_MALFORMED);
}

static void test_framing(void **state)
{
	static const struct {
		const char *method, *length, *coding, *expect;
		enum error_code code;
	} rows[] = {
		{ "GET", NULL, NULL, NULL, ERR_NONE },
		{ "GET", "5", NULL, NULL, ERR_NONE },
		{ "DELETE", NULL, NULL, NULL, ERR_NONE },
		{ "POST", "0", NULL, "100-Continue", ERR_NONE },
		{ "POST", NULL, NULL, NULL, ERR_LENGTH },
		{ "PUT", NULL, NULL, NULL, ERR_LENGTH },
		{ "POST", NULL, "chunked", NULL, ERR_LENGTH },
		{ "GET", NULL, "identity", NULL, ERR_LENGTH },
		{ "POST", "x", NULL, NULL, ERR_MALFORMED },
		{ "POST", "", NULL, NULL, ERR_MALFORMED },
		{ "POST", "+1", NULL, NULL, ERR_MALFORMED },
		{ "POST", "-1", NULL, NULL, ERR_MALFORMED },
		{ "POST", "1,1", NULL, NULL, ERR_MALFORMED },
		{ "POST", "0x1", NULL, NULL, ERR_MALFORMED },
		{ "POST", "18446744073709551616", NULL, NULL, ERR_TOO_LARGE },
		{ "POST", "1", NULL, "200-ok", ERR_EXPECT },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct guard_request rq = request(rows[i].method, "127.0.0.1");
		struct guard g = { 0 };
		uint64_t length;

		if (rows[i].length)
			add(&g, "Content-Length", rows[i].length);
		if (rows[i].coding)
			add(&g, "Transfer-Encoding", rows[i].coding);
		if (rows[i].expect)
			add(&g, "Expect", rows[i].expect);
		if (guard_check_framing(&g, &rq, &length) != rows[i].code)
			fail_msg("row %zu", i);
	}
}

static void test_framing_contradicts(void **state)
{
	struct guard_request rq = request("POST", "127.0.0.1");
	struct guard both = { 0 }, twice = { 0 };

	(void)state;
	add(&both, "Host", "127.0.0.1");
	add(&both, "Content-Length", "1");
	add(&both, "Transfer-Encoding", "chunked");
	assert_int_equal(guard_check_origin(&both, &rq), ERR_MALFORMED);
	add(&twice, "Host", "127.0.0.1");
	add(&twice, "Content-Length", "1");
	add(&twice, "Content-Length", "1");
	assert_int_equal(guard_check_origin(&twice, &rq), ERR_MALFORMED);
}

#define BOTH (HTTP_BODY_FORM | HTTP_BODY_JSON)

static void test_body(void **state)
{
	static const char form[] = "application/x-www-form-urlencoded";
	static const struct {
		unsigned bodies;
		const char *type, *coding;
		uint64_t length;
		enum error_code code;
		enum http_body body;
	} rows[] = {
		{ BOTH, NULL, NULL, 9, ERR_NONE, HTTP_BODY_FORM },
		{ BOTH, NULL, NULL, 0, ERR_NONE, HTTP_BODY_FORM },
		{ BOTH, form, NULL, 10, ERR_NONE, HTTP_BODY_FORM },
		{ BOTH, "Application/JSON ; charset=utf-8", NULL, 9, ERR_NONE,
		  HTTP_BODY_JSON },
		{ HTTP_BODY_JSON, NULL, NULL, 0, ERR_NONE, HTTP_BODY_NONE },
		{ HTTP_BODY_JSON, NULL, NULL, 1, ERR_MEDIA_TYPE, 0 },
		{ HTTP_BODY_JSON, form, NULL, 1, ERR_MEDIA_TYPE, 0 },
		{ HTTP_BODY_FORM, "application/json", NULL, 1, ERR_MEDIA_TYPE,
		  0 },
		{ BOTH, "text/plain", NULL, 1, ERR_MEDIA_TYPE, 0 },
		{ BOTH, "", NULL, 1, ERR_MEDIA_TYPE, 0 },
		{ BOTH, "multipart/form-data; boundary=x", NULL, 1,
		  ERR_MEDIA_TYPE, 0 },
		{ BOTH, "application/json5", NULL, 1, ERR_MEDIA_TYPE, 0 },
		{ BOTH, NULL, "gzip", 1, ERR_MEDIA_TYPE, 0 },
		{ BOTH, NULL, "identity", 1, ERR_NONE, HTTP_BODY_FORM },
		{ BOTH, NULL, NULL, 11, ERR_TOO_LARGE, 0 },
		{ 0, NULL, NULL, 1, ERR_TOO_LARGE, 0 },
		{ 0, "text/plain", NULL, 0, ERR_NONE, HTTP_BODY_NONE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct http_route route = { .bodies = rows[i].bodies,
					    .body_max = 10 };
		enum http_body body;
		struct guard g = { 0 };

		if (rows[i].type)
			add(&g, "Content-Type", rows[i].type);
		if (rows[i].coding)
			add(&g, "Content-Encoding", rows[i].coding);
		if (guard_check_body(&g, &route, rows[i].length, &body) !=
		    rows[i].code)
			fail_msg("row %zu", i);
		if (rows[i].code == ERR_NONE)
			assert_int_equal(body, rows[i].body);
	}
}

static void test_routes(void **state)
{
	static const struct http_route rows[] = {
		{ .pattern = "/", .methods = HTTP_GET | HTTP_POST },
		{ .pattern = "/api/tasks", .methods = HTTP_GET },
		{ .pattern = "/api/tasks", .methods = HTTP_POST },
		{ .pattern = "/api/tasks/*", .methods = HTTP_DELETE },
		{ .pattern = "/api/tasks/*/top", .methods = HTTP_GET },
		{ .pattern = "/a/*/*/*", .methods = HTTP_GET },
	};
	static const struct {
		const char *path, *segment;
		enum http_method method;
		int row;
		unsigned allowed;
	} paths[] = {
		{ "/", "", HTTP_POST, 0, 0 },
		{ "/", "", HTTP_PUT, -1, HTTP_GET | HTTP_POST },
		{ "/", "", 0, -1, HTTP_GET | HTTP_POST },
		{ "", "", HTTP_GET, -1, 0 },
		{ "//", "", HTTP_GET, -1, 0 },
		{ "/api/tasks", "", HTTP_POST, 2, HTTP_GET },
		{ "/api/tasks", "", HTTP_PUT, -1, HTTP_GET | HTTP_POST },
		{ "/api/tasks/", "", HTTP_DELETE, -1, 0 },
		{ "/api/tasks/7f", "7f", HTTP_DELETE, 3, 0 },
		{ "/api/tasks/7f/", "", HTTP_DELETE, -1, 0 },
		{ "/api/tasks/7f/top", "7f", HTTP_GET, 4, 0 },
		{ "/api/tasks/%5B%3a%3A1%5d%2541", "[::1]%41", HTTP_DELETE, 3,
		  0 },
		{ "/api/tasks/%00", "", HTTP_DELETE, -1, 0 },
		{ "/api/tasks/%0a", "", HTTP_DELETE, -1, 0 },
		{ "/api/tasks/%ff", "", HTTP_DELETE, -1, 0 },
		{ "/api/tasks/%4", "", HTTP_DELETE, -1, 0 },
		{ "/a/x/y/z", "x", HTTP_GET, 5, 0 },
		{ "/api/task", "", HTTP_GET, -1, 0 },
		{ "/API/tasks", "", HTTP_GET, -1, 0 },
	};
	struct http_request rq = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		const struct http_route *expected =
			paths[i].row < 0 ? NULL : &rows[paths[i].row];
		unsigned allowed = 99;

		if (route_find(rows, ARRAY_SIZE(rows), paths[i].method,
			       paths[i].path, &rq, &allowed) != expected)
			fail_msg("path %s", paths[i].path);
		assert_int_equal(allowed, paths[i].allowed);
		if (expected)
			assert_string_equal(rq.segment[0], paths[i].segment);
	}
}

static void test_segment_length(void **state)
{
	static const struct http_route row = { .pattern = "/*",
					       .methods = HTTP_GET };
	struct http_request rq = { 0 };
	unsigned allowed;
	char path[80] = "/";

	(void)state;
	memset(path + 1, 'a', 71);
	assert_non_null(route_find(&row, 1, HTTP_GET, path, &rq, &allowed));
	path[72] = 'a';
	assert_null(route_find(&row, 1, HTTP_GET, path, &rq, &allowed));
}

static void test_method_list(void **state)
{
	char list[48];

	(void)state;
	method_list(HTTP_POST | HTTP_GET, list);
	assert_string_equal(list, "GET, POST");
	method_list(31, list);
	assert_string_equal(list, "GET, HEAD, POST, PUT, DELETE");
	method_list(0, list);
	assert_string_equal(list, "");
	assert_int_equal(method_parse("get"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_host_count),
		cmocka_unit_test(test_origin),
		cmocka_unit_test(test_origin_twice),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_framing),
		cmocka_unit_test(test_framing_contradicts),
		cmocka_unit_test(test_body),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_segment_length),
		cmocka_unit_test(test_method_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
