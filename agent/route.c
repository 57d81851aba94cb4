/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paths: compared byte by byte as they were sent, so that there is one way to
 * write each; only what stands for '*' is decoded, once.  Pure functions.
 */
#include <string.h>

#include "agent/route.h"
#include "common/utf8.h"
#include "common/util.h"

static const struct {
	enum http_method method;
	const char *name;
} method_names[] = {
	{ HTTP_GET, "GET" }, { HTTP_HEAD, "HEAD" },     { HTTP_POST, "POST" },
	{ HTTP_PUT, "PUT" }, { HTTP_DELETE, "DELETE" }, { HTTP_PATCH, "PATCH" },
};

enum http_method method_parse(const char *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(method_names); i++) {
		if (strcmp(s, method_names[i].name) == 0)
			return method_names[i].method;
	}
	return 0;
}

void method_list(unsigned methods, char out[48])
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(method_names); i++) {
		const char *name = method_names[i].name;

		if (!(methods & method_names[i].method))
			continue;
		if (len > 0) {
			memcpy(out + len, ", ", 3);
			len += 2;
		}
		memcpy(out + len, name, strlen(name) + 1);
		len += strlen(name);
	}
}

/* One segment, not empty, without control bytes. */
static bool segment_decode(const char *s, size_t len, char out[72])
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)s[i];

		if (c == '%') {
			if (len - i < 3 || hex_decode(s + i + 1, 2, &c, 1) != 0)
				return false;
			i += 2;
		}
		if (n == 71)
			return false;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return n > 0 && utf8_is_text(out, n);
}

static bool route_match(const char *pattern, const char *path,
			struct http_request *rq)
{
	unsigned segments = 0;

	while (*pattern) {
		size_t len;

		if (*pattern != '*') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		/* of another pattern, before */
		if (!segments)
			memset(rq->segment, 0, sizeof(rq->segment));
		len = strcspn(path, "/");
		if (segments == HTTP_SEGMENTS ||
		    !segment_decode(path, len, rq->segment[segments++]))
			return false;
		pattern++;
		path += len;
	}
	return *path == '\0';
}

const struct http_route *route_find(const struct http_route *rows, size_t n,
				    enum http_method method, const char *path,
				    struct http_request *rq, unsigned *allowed)
{
	*allowed = 0;
	for (size_t i = 0; i < n; i++) {
		if (!route_match(rows[i].pattern, path, rq))
			continue;
		if (rows[i].methods & method)
			return &rows[i];
		*allowed |= rows[i].methods;
	}
	return NULL;
}

bool route_between_agents(const struct http_route *route)
{
	return strncmp(route->pattern, "/api/v1/peer/", 13) == 0;
}
