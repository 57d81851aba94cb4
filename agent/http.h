/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The HTTP server: one thread, suspended requests, all limits and browser
 * rules checked before a handler sees a request.  Only http.c knows the
 * library.
 */
#ifndef LINNET_HTTP_H
#define LINNET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/auth.h"
#include "agent/errors.h"
#include "agent/tree/epoch.h"
#include "common/addr.h"
#include "common/buf.h"
#include "common/loop.h"

enum http_method {
	HTTP_GET = 1,
	HTTP_HEAD = 2,
	HTTP_POST = 4,
	HTTP_PUT = 8,
	HTTP_DELETE = 16,
	HTTP_PATCH = 32
};
enum http_body {
	HTTP_BODY_NONE = 0,
	HTTP_BODY_FORM = 1,
	HTTP_BODY_JSON = 2
};

#define HTTP_SEGMENTS  3
#define HTTP_HEADERS   16
#define REQUEST_ID_LEN 65

/* Lives from the handler's call until http_send() or http_upgrade(). */
struct http_request {
	enum http_method method;
	const char *path;                /* without the query, still escaped */
	const char *query;               /* raw text after '?'; "" if none */
	char segment[HTTP_SEGMENTS][72]; /* what each '*' of the route was */
	enum http_body body_type;
	const char *body; /* whole, NUL-terminated; "" if none */
	size_t body_len;
	struct endpoint client, local;
	unsigned roles;          /* of the caller */
	char id[REQUEST_ID_LEN]; /* X-Request-Id, given or made */
	uint64_t began_ms;       /* monotonic, first byte of the request */
	bool legacy;             /* errors as text lines, not as problems */
	uint64_t connection;     /* number of the one that it came over */
	void *conn;              /* http.c's own */
};

/*
 * A path pattern, '*' for one segment, e.g. "/api/v1/tasks/<*>/top" written
 * with plain '*'.  First match wins.
 */
struct http_route {
	const char *pattern;
	unsigned methods; /* bits of enum http_method */
	enum role role;
	unsigned bodies; /* bits of enum http_body that are accepted */
	size_t body_max; /* bytes */
	bool legacy;
	void (*fn)(void *ctx, struct http_request *rq);
};

struct http_reply {
	int status;
	const char *type; /* Content-Type; NULL: none (204) */
	struct buf body;
	unsigned n;
	struct {
		char name[40];
		char value[1152]; /* 16 missing hosts fit */
	} header[HTTP_HEADERS];
};
#define HTTP_TEXT    "text/plain; charset=utf-8"
#define HTTP_JSON    "application/json"
#define HTTP_PROBLEM "application/problem+json"

struct http;
struct http_config {
	const struct endpoint *listen; /* n_listen of them */
	size_t n_listen;
	/* Borrowed until http_close(); accepted Host names, NULL-ended. */
	const char *const *server_names;
	const struct http_route *routes; /* borrowed likewise */
	size_t n_routes;
	struct auth *auth;
	void *ctx; /* for the handlers */
	/* That connection ended; may be NULL. */
	void (*closed)(void *ctx, uint64_t connection);
	/*
	 * Who builds the tree with this agent: connections are kept for what
	 * these addresses ask under /api/v1/peer, and what they ask there with
	 * a peer's token is not limited.  Without a token file the address is
	 * all there is.
	 */
	bool (*is_neighbour)(void *ctx, const struct ip_addr *a);
	/* highest epoch known: peers are told with each answer; may be NULL */
	void (*epoch)(void *ctx, char out[EPOCH_TEXT]);
};
/* 0 or -errno (the failed listener is logged). */
int http_open(struct http **out, struct loop *l, const struct http_config *c);
/* Stops accepting, answers 503 to what still comes on open connections. */
void http_quiesce(struct http *h);
/* Ends everything: kept requests and upgraded sockets are gone after it. */
void http_close(struct http *h);

/* Header of the request, or NULL; borrowed until the reply. */
const char *http_header(const struct http_request *rq, const char *name);

void http_reply_init(struct http_reply *r, int status, const char *type);
void http_reply_header(struct http_reply *r, const char *name,
		       const char *value);
/* Sends and frees the body; ends rq.  Now or later, exactly once. */
void http_send(struct http_request *rq, struct http_reply *r);
void http_send_text(struct http_request *rq, int status, const char *text);
/* Error as the route's form wants it: text line or problem document. */
void http_send_error(struct http_request *rq, const struct error *e);
/* The same with the coverage or other headers already in r (body unused). */
void http_send_error_with(struct http_request *rq, const struct error *e,
			  struct http_reply *r);

/*
 * 101 with this Upgrade word; then fn gets the raw socket and bytes that came
 * early, or is never called if the client is gone.  http_upgrade_close() ends
 * it and closes the socket (take it out of the loop before).
 */
struct http_upgraded;
void http_upgrade(struct http_request *rq, const char *word,
		  void (*fn)(void *arg, struct http_upgraded *u, int fd,
			     const void *early, size_t n_early),
		  void *arg);
void http_upgrade_close(struct http_upgraded *u);

/* Requests that a handler keeps and has not answered yet. */
unsigned http_pending(const struct http *h);

#endif
