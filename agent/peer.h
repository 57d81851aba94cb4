/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP client towards other agents (libcurl multi inside our loop): keep-alive,
 * no redirects, no proxies, caps on headers and body, addresses checked, no
 * token over a connection whose other end has not proved that it knows it.
 * Only peer_transfer.c knows the library.
 */
#ifndef LINNET_PEER_H
#define LINNET_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/http.h"
#include "common/addr.h"
#include "common/loop.h"

/* Of what agents say to each other; with the header that names it. */
#define PEER_API        "1.0"
#define PEER_API_HEADER "X-Linnet-Api: " PEER_API

struct peers;
struct peer_call;

struct peer_reply {
	int status;       /* HTTP status; 0: none came */
	int err;          /* 0; -ETIMEDOUT, -ECONNREFUSED, -ECONNRESET,
			     -EHOSTUNREACH, -EMSGSIZE (too large),
			     -ENOBUFS (all replies together), -ENOMEM,
			     -EACCES (such an address is not called), -EPROTO,
			     -EKEYREJECTED (it does not know our token) */
	const char *body; /* NUL-terminated, borrowed */
	size_t len;
	uint32_t elapsed_ms;
	bool reused; /* over a connection that was there */
};

struct peer_request {
	struct endpoint to;
	enum http_method method;
	const char *path; /* "/api/v1/peer/ask" */
	const char *body; /* JSON or NULL; copied */
	size_t len;
	uint32_t timeout_ms, connect_ms;
	uint32_t hello_ms; /* connection and hello together; 0: timeout_ms */
	size_t reply_max;
	const char *headers[8]; /* "Name: value", NULL-ended; copied */
	bool fresh; /* on a new connection: those that are kept are closed */
};

/*
 * token_file: own peer token (0600), or NULL.  listen: where this agent
 * listens, borrowed.  0 or -errno.
 */
int peers_open(struct peers **out, struct loop *l, const char *token_file,
	       const struct endpoint *listen, size_t n_listen);
void peers_free(struct peers *p);
/*
 * Calls come from the address that others reach this agent at: a socket that
 * will connect is bound to it, if there is one for such a target.  0 or -errno.
 */
int peers_bind(const struct peers *p, int fd, const struct endpoint *to);
/* So many addresses are talked to all the time: their connections are kept. */
void peers_expect(struct peers *p, unsigned n_children);
/*
 * Hello goes before, where no connection is kept that has seen it; the status
 * of a refusal of it is the reply, without a body.  done is called once, never
 * from inside this call.  NULL: no memory.
 */
struct peer_call *
peer_start(struct peers *p, const struct peer_request *rq,
	   void (*done)(void *arg, const struct peer_reply *r), void *arg);
void peer_cancel(struct peer_call *c); /* no done; NULL is fine */
/*
 * The reply does not matter any more, but closing its connection would cost the
 * next call: so long and so much of it is waited for.  While hello is under way
 * that alone is waited for, and the message does not go.  done is called.
 */
void peer_leave(struct peer_call *c, uint32_t within_ms, size_t reply_max);
/* A connection to it is open that no call uses, and that has seen hello. */
bool peer_idle(const struct peers *p, const struct endpoint *to);
/* Own token for proofs of identity; NULL: none.  Never to be written out. */
const char *peers_token(const struct peers *p);

#endif
