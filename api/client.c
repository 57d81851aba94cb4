/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One exchange after the other over one libcurl handle, which keeps the
 * connection.  The agent never redirects; a proxy of the environment would see
 * the token: both are off.  A reply may have at most 64 MiB.
 */
#include "client.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#define REPLY_MAX ((size_t)64 << 20)

struct client {
	CURL *curl;
	char *url;
	struct curl_slist *headers, *headers_json;
	unsigned timeout_ms;
	char error[CURL_ERROR_SIZE];
};

/* Appends to a list and frees it when there is no memory. */
static bool header_add(struct curl_slist **list, const char *text)
{
	struct curl_slist *longer = curl_slist_append(*list, text);

	if (longer)
		*list = longer;
	return longer != NULL;
}

static bool headers_make(struct client *c, const char *token)
{
	size_t len = sizeof("Authorization: Bearer ") + strlen(token);
	char *text = malloc(len);
	bool ok = text != NULL;

	if (ok && token[0]) {
		snprintf(text, len, "Authorization: Bearer %s", token);
		ok = header_add(&c->headers, text) &&
		     header_add(&c->headers_json, text);
	}
	free(text);
	/* without "Expect" the body is not held back for a second */
	return ok && header_add(&c->headers, "Accept: application/json") &&
	       header_add(&c->headers_json, "Accept: application/json") &&
	       header_add(&c->headers_json, "Content-Type: application/json") &&
	       header_add(&c->headers_json, "Expect:");
}

struct client *client_new(const char *url, const char *token,
			  unsigned timeout_ms)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c || curl_global_init(CURL_GLOBAL_DEFAULT)) {
		free(c);
		return NULL;
	}
	c->timeout_ms = timeout_ms;
	c->url = strdup(url);
	c->curl = curl_easy_init();
	if (c->url && c->curl && headers_make(c, token ? token : ""))
		return c;
	client_free(c);
	return NULL;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->curl);
	curl_slist_free_all(c->headers);
	curl_slist_free_all(c->headers_json);
	free(c->url);
	free(c);
	curl_global_cleanup();
}

static size_t body_take(char *data, size_t size, size_t n, void *arg)
{
	struct client_reply *r = arg;
	char *longer;

	n *= size;
	if (n > REPLY_MAX - r->len)
		return 0;
	longer = realloc(r->body, r->len + n + 1);
	if (!longer)
		return 0;
	memcpy(longer + r->len, data, n);
	r->body = longer;
	r->len += n;
	longer[r->len] = '\0';
	return n;
}

static enum client_result result_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return CLIENT_OK;
	case CURLE_OPERATION_TIMEDOUT:
		return CLIENT_TIMEOUT;
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
		return CLIENT_UNREACHABLE;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_OUT_OF_MEMORY:
	case CURLE_FAILED_INIT:
		return CLIENT_FAILED;
	default:
		return CLIENT_PROTOCOL;
	}
}

static void request_set(struct client *c, const char *method, const char *url,
			const char *body, struct client_reply *r)
{
	curl_easy_reset(c->curl);
	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER,
			 body ? c->headers_json : c->headers);
	if (body)
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(c->curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c->curl, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, (long)c->timeout_ms);
	curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)c->timeout_ms);
	curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->error);
	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, body_take);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, r);
}

enum client_result client_send(struct client *c, const char *method,
			       const char *path, const char *body,
			       struct client_reply *r)
{
	size_t len = strlen(c->url) + strlen(path) + 1;
	char *url = malloc(len);
	CURLcode code = CURLE_OUT_OF_MEMORY;
	long status = 0;

	memset(r, 0, sizeof(*r));
	c->error[0] = '\0';
	r->body = calloc(1, 1);
	if (url && r->body) {
		snprintf(url, len, "%s%s", c->url, path);
		request_set(c, method, url, body, r);
		code = curl_easy_perform(c->curl);
	}
	free(url);
	if (code) {
		snprintf(r->error, sizeof(r->error), "%s",
			 c->error[0] ? c->error : curl_easy_strerror(code));
		return result_of(code);
	}
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	r->status = (int)status;
	return CLIENT_OK;
}

void client_reply_fini(struct client_reply *r)
{
	free(r->body);
	r->body = NULL;
	r->len = 0;
}
