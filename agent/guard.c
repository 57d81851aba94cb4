/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guard in front of every handler.
 *
 * The HTTP library passes on what it should not: repeated Host and
 * Content-Length, Transfer-Encoding beside Content-Length, header names that
 * end in a blank, folded lines.  All headers are walked once; then questions
 * are asked of what was found, the cheapest and most suspicious first.
 *
 * A name is only ours if it is this connection's own address, "localhost" on
 * loopback, or configured: a page that makes a browser resolve its own name to
 * our address gets nothing.  Pure functions.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "agent/guard.h"
#include "common/util.h"

#define HTTP_PORT 80

/* A host and port, as in Host and Origin. */
struct authority {
	struct guard_text name; /* without brackets */
	bool is_addr;
	struct ip_addr addr;
	uint16_t port; /* 0: none given */
};

static bool is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)s[i]) &&
		    (s[i] == '\0' || !strchr("!#$%&'*+-.^_`|~", s[i])))
			return false;
	}
	return len > 0;
}

/* No control bytes but a tab; a folded line leaves none either. */
static bool is_value(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static bool text_is(struct guard_text t, const char *word)
{
	return t.len == strlen(word) && strncasecmp(t.s, word, t.len) == 0;
}

void guard_header(struct guard *g, const char *name, size_t name_len,
		  const char *value, size_t value_len)
{
	struct guard_text n = { name, name_len }, v = { value, value_len };

	if (!is_token(name, name_len) || !is_value(value, value_len))
		g->malformed = true;
	if (text_is(n, "Host")) {
		g->host = v;
		g->n_host++;
	} else if (text_is(n, "Content-Length")) {
		g->length = v;
		g->n_length++;
	} else if (text_is(n, "Transfer-Encoding")) {
		g->n_coding++;
	} else if (text_is(n, "Origin")) {
		g->origin = v;
		g->n_origin++;
	} else if (text_is(n, "Sec-Fetch-Site")) {
		g->cross_site |= !text_is(v, "same-origin") &&
				 !text_is(v, "none");
	} else if (text_is(n, "Content-Type")) {
		g->type = v;
		g->n_type++;
	} else if (text_is(n, "Content-Encoding")) {
		g->coded |= !text_is(v, "identity");
	} else if (text_is(n, "Expect")) {
		g->expect_unknown |= !text_is(v, "100-continue");
	}
}

static bool is_host_name(struct guard_text t)
{
	for (size_t i = 0; i < t.len; i++) {
		if (!isalnum((unsigned char)t.s[i]) && t.s[i] != '.' &&
		    t.s[i] != '-' && t.s[i] != '_')
			return false;
	}
	return t.len > 0 && t.len <= 253;
}

/* ":port" or nothing, to the end of the text. */
static int port_parse(const char *s, size_t len, uint16_t *out)
{
	uint64_t port;

	*out = 0;
	if (len == 0)
		return 0;
	if (s[0] != ':' || parse_u64(s + 1, len - 1, 1, UINT16_MAX, &port) != 0)
		return -1;
	*out = (uint16_t)port;
	return 0;
}

/* "name", "a.b.c.d" or "[v6]", each with ":port" or not. */
static int authority_parse(struct guard_text t, struct authority *out)
{
	const char *end = t.s + t.len, *stop;

	if (t.len > 0 && t.s[0] == '[') {
		stop = memchr(t.s, ']', t.len);
		if (!stop)
			return -1;
		out->name = (struct guard_text){ t.s + 1,
						 (size_t)(stop - t.s - 1) };
		out->is_addr = true;
		if (addr_parse(out->name.s, out->name.len, &out->addr) != 0 ||
		    !memchr(out->name.s, ':', out->name.len))
			return -1;
		stop++;
		return port_parse(stop, (size_t)(end - stop), &out->port);
	}
	stop = t.len > 0 ? memchr(t.s, ':', t.len) : NULL;
	if (!stop)
		stop = end;
	out->name = (struct guard_text){ t.s, (size_t)(stop - t.s) };
	if (!is_host_name(out->name))
		return -1;
	out->is_addr = addr_parse(out->name.s, out->name.len, &out->addr) == 0;
	return port_parse(stop, (size_t)(end - stop), &out->port);
}

static bool is_our_name(const struct authority *host,
			const struct guard_request *rq)
{
	if (host->is_addr)
		return addr_equal(&host->addr, &rq->local.addr);
	if (text_is(host->name, "localhost") &&
	    addr_classify(&rq->local.addr) == ADDR_LOOPBACK)
		return true;
	for (size_t i = 0; rq->server_names && rq->server_names[i]; i++) {
		if (text_is(host->name, rq->server_names[i]))
			return true;
	}
	return false;
}

/* The page's origin is the very name and port that it asks here. */
static bool is_same_origin(struct guard_text origin,
			   const struct authority *host,
			   const struct guard_request *rq)
{
	static const char scheme[] = "http://";
	const size_t skip = sizeof(scheme) - 1;
	struct authority a = { 0 };

	if (origin.len <= skip || strncasecmp(origin.s, scheme, skip) != 0)
		return false;
	origin.s += skip;
	origin.len -= skip;
	if (authority_parse(origin, &a) != 0 || a.is_addr != host->is_addr)
		return false;
	if ((a.port ? a.port : HTTP_PORT) !=
	    (host->port ? host->port : rq->local.port))
		return false;
	if (a.is_addr)
		return addr_equal(&a.addr, &host->addr);
	return a.name.len == host->name.len &&
	       strncasecmp(a.name.s, host->name.s, a.name.len) == 0;
}

enum error_code guard_check_origin(const struct guard *g,
				   const struct guard_request *rq)
{
	struct authority host = { 0 };

	if (g->malformed || !is_token(rq->method, strlen(rq->method)) ||
	    g->n_host > 1 || g->n_length > 1 || (g->n_length && g->n_coding))
		return ERR_MALFORMED;
	if (g->n_host == 0 && !rq->http_1_0)
		return ERR_MALFORMED;
	if (g->n_host == 1) {
		if (authority_parse(g->host, &host) != 0)
			return ERR_MALFORMED;
		if (!is_our_name(&host, rq))
			return ERR_FORBIDDEN;
	}
	if (rq->known & (HTTP_GET | HTTP_HEAD))
		return ERR_NONE;
	if (g->cross_site || g->n_origin > 1 ||
	    (g->n_origin == 1 &&
	     (g->n_host == 0 || !is_same_origin(g->origin, &host, rq))))
		return ERR_FORBIDDEN;
	return ERR_NONE;
}

enum error_code guard_check_framing(const struct guard *g,
				    const struct guard_request *rq,
				    uint64_t *length)
{
	*length = 0;
	if (g->n_coding > 0)
		return ERR_LENGTH;
	if (g->n_length == 0 &&
	    (rq->known & (HTTP_POST | HTTP_PUT | HTTP_PATCH)))
		return ERR_LENGTH;
	if (g->n_length == 1) {
		int err = parse_u64(g->length.s, g->length.len, 0, UINT64_MAX,
				    length);

		if (err)
			return err == -ERANGE ? ERR_TOO_LARGE : ERR_MALFORMED;
	}
	return g->expect_unknown ? ERR_EXPECT : ERR_NONE;
}

/* "type/subtype" without parameters. */
static enum http_body type_parse(struct guard_text t)
{
	const char *semicolon = memchr(t.s, ';', t.len);

	if (semicolon)
		t.len = (size_t)(semicolon - t.s);
	while (t.len > 0 && (t.s[t.len - 1] == ' ' || t.s[t.len - 1] == '\t'))
		t.len--;
	if (text_is(t, "application/x-www-form-urlencoded"))
		return HTTP_BODY_FORM;
	return text_is(t, "application/json") ? HTTP_BODY_JSON : HTTP_BODY_NONE;
}

enum error_code guard_check_body(const struct guard *g,
				 const struct http_route *route,
				 uint64_t length, enum http_body *type)
{
	*type = HTTP_BODY_NONE;
	if (length > (route->bodies ? route->body_max : 0))
		return ERR_TOO_LARGE;
	if (!route->bodies)
		return ERR_NONE;
	if (g->coded || g->n_type > 1)
		return ERR_MEDIA_TYPE;
	if (g->n_type == 1)
		*type = type_parse(g->type);
	else if (route->bodies & HTTP_BODY_FORM)
		*type = HTTP_BODY_FORM;
	else if (length == 0)
		return ERR_NONE;
	return (*type & route->bodies) ? ERR_NONE : ERR_MEDIA_TYPE;
}
