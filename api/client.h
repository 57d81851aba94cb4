/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of linnet-agent in C, on libcurl.  Both files can be copied into
 * another program: they include nothing else of linnet.
 *
 *	struct client *c = client_new("http://10.0.0.2:8000", NULL, 3000);
 *	struct client_reply r;
 *
 *	if (client_send(c, "GET", "/api/v1/status", NULL, &r) == CLIENT_OK)
 *		printf("%d %s\n", r.status, r.body);
 *	client_reply_fini(&r);
 *	client_free(c);
 */
#ifndef LINNET_CLIENT_H
#define LINNET_CLIENT_H

#include <stddef.h>

struct client;

enum client_result {
	CLIENT_OK,          /* a reply came, whatever its status */
	CLIENT_UNREACHABLE, /* no connection */
	CLIENT_TIMEOUT,     /* not done in time */
	CLIENT_PROTOCOL,    /* not HTTP, cut short, or above 64 MiB */
	CLIENT_FAILED,      /* bad URL, no memory */
};

struct client_reply {
	int status;      /* of HTTP */
	char *body;      /* NUL-terminated; "" if none */
	size_t len;      /* of body */
	char error[256]; /* why there is no reply; "" if there is one */
};

/*
 * url: "http://HOST[:PORT]".  token: sent as Authorization, or NULL.
 * timeout_ms: of one exchange, connecting included.  NULL: no memory.
 */
struct client *client_new(const char *url, const char *token,
			  unsigned timeout_ms);
void client_free(struct client *c);

/*
 * One exchange; path with query; body is JSON, or NULL.  Follows no redirect
 * and uses no proxy.  *r is always set; client_reply_fini() frees it.
 */
enum client_result client_send(struct client *c, const char *method,
			       const char *path, const char *body,
			       struct client_reply *r);
void client_reply_fini(struct client_reply *r);

#endif
