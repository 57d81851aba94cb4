/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the HTTP server share: http.c has the library and the
 * requests, http_conn.c the connections with their limits, http_admit.c what
 * is decided of a request before its body.
 */
#ifndef LINNET_HTTP_PRIVATE_H
#define LINNET_HTTP_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/guard.h"
#include "agent/http.h"
#include "agent/limit.h"
#include "common/addr.h"
#include "common/loop.h"

/* http.c: the epoch that this caller may know; false: none. */
bool http_epoch(const struct http_request *rq, char out[EPOCH_TEXT]);

/* ---- http_conn.c ---- */

#define HTTP_CONNS       256
#define HTTP_CONNS_SPARE 32 /* on top, of neighbours */

/* A connection, from accept to close. */
struct http_conn {
	struct http_conn *prev, *next;
	int fd; /* the library's */
	struct endpoint client, local;
	uint64_t number;
	bool spare;        /* one of HTTP_CONNS_SPARE */
	bool peer;         /* a peer asked over it: never gives way */
	bool closing;      /* gives way; counts no more */
	bool kept;         /* a handler has its request and answers later */
	bool question;     /* which is a client's */
	bool upgraded;     /* it belongs to whoever asked for that */
	uint64_t since_ms; /* accept, last answer, or resume */
	struct exchange *exchange; /* http.c's: the request, if there is one */
};

struct http_conns {
	struct loop *loop;
	const struct http_config *config;
	struct http_conn *first; /* the newest */
	unsigned n, n_kept, n_questions;
	uint64_t n_accepted;
	struct loop_timer sweep;
};

/* A listening socket, or -errno. */
int http_listen(const struct endpoint *ep);
/* Is there room for one more from this address?  Another may give way to it. */
bool http_conns_room(struct http_conns *cs, const struct ip_addr *from);
/* NULL: no memory, or nobody knows whose it is. */
struct http_conn *http_conn_add(struct http_conns *cs, int fd,
				const struct sockaddr *client);
void http_conn_del(struct http_conns *cs, struct http_conn *c);
/*
 * Its request is with whoever will answer it, without limit of time here, and
 * no more.
 */
void http_conn_keep(struct http_conns *cs, struct http_conn *c, enum role role);
void http_conn_resume(struct http_conns *cs, struct http_conn *c);
/* Room for one more request for this role that may take time? */
bool http_query_room(const struct http_conns *cs, const struct http_conn *c,
		     enum role role);

/* ---- http_admit.c ---- */

/* What came before the body. */
struct http_head {
	struct guard guard;
	struct guard_request first;
	bool spare; /* over a connection kept for neighbours */
};

struct http_gate {
	const struct http_config *config;
	struct limit rate, hellos; /* hellos: from neighbours' addresses */
	bool stopping;
};

/* Fills rq->id: X-Request-Id, given or made. */
void http_request_id(struct http_request *rq);
/*
 * Everything that is decided before the body: rq->method, legacy, body_type,
 * segment and roles, and the route; *allowed: methods of the path for a 405.
 */
enum error_code http_admit(struct http_gate *gate, const struct http_head *head,
			   struct http_request *rq,
			   const struct http_route **route, unsigned *allowed);
/* Sends the refusal. */
void http_refuse(struct http_request *rq, enum error_code code,
		 unsigned allowed);

#endif
