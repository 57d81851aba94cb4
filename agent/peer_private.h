/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the HTTP client share: peer.c has the calls, peer_line.c
 * the connections that they go over, peer_transfer.c the library that moves
 * the bytes.
 */
#ifndef LINNET_PEER_PRIVATE_H
#define LINNET_PEER_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "agent/hello.h"
#include "agent/peer.h"
#include "common/addr.h"
#include "common/buf.h"
#include "common/loop.h"

/* A connection, in use or kept for the next call. */
struct line {
	struct line *next;
	int fd;          /* the library's */
	uint64_t cookie; /* of the socket: the descriptor may be another's */
	struct endpoint to;
	bool proven; /* the other end knows our token */
	bool shut;   /* by us: it is not used any more */
};

struct transfers; /* the library, in our loop */
struct transfer;  /* one request of it */

struct peers {
	struct loop *loop;
	const struct endpoint *listen;
	size_t n_listen;
	char token[HELLO_TOKEN_MAX + 1]; /* "" none */
	struct transfers *transfers;
	struct line *lines;
	struct peer_call *calls;
	size_t held; /* bytes of all bodies */
};

/* A message, and hello before it while that is under way. */
struct peer_call {
	struct peer_call *next, **at; /* at: NULL while it is in no list */
	struct peers *peers;
	struct transfer *hello, *message;
	uint8_t nonce[TREE_NONCE];
	unsigned tries;
	struct loop_timer timer;
	struct endpoint to;
	struct line *line; /* that it goes over */
	struct buf body;
	size_t header_bytes;
	uint32_t connect_ms, hello_ms;
	uint64_t began_ms;
	bool fresh;
	bool left;              /* its message need not go any more */
	bool opened, connected; /* a new socket; any connection */
	bool unproven;          /* not over this connection without hello */
	int refused;            /* -errno that a callback of ours decided on */
	void (*done)(void *arg, const struct peer_reply *r);
	void *arg;
};

/* ---- peer.c ---- */

/* The one that is under way. */
static inline struct transfer *call_transfer(const struct peer_call *c)
{
	return c->hello ? c->hello : c->message;
}

/* Its token goes only where it is known. */
static inline bool call_needs_proof(const struct peer_call *c)
{
	return c->peers->token[0] && !c->hello;
}

/* The library is done with what was under way; 0 or -errno. */
void call_over(struct peer_call *c, int err);

/* ---- peer_line.c ---- */

/*
 * A socket for this call, which will connect it to addr; -1, and says why in
 * the call: to no other address than was meant, and without hello for none
 * that has a token to tell.
 */
int line_open(struct peer_call *c, const struct sockaddr *addr);
/* The connection from this port is what the call goes over; may it?  If not,
 * it is unproven. */
bool line_take(struct peer_call *c, int local_port);
/* 0, or -1 with errno. */
int line_close(struct peers *p, int fd);
/* Connections that a call could take, less the calls that will; may be below
 * zero. */
int lines_idle(const struct peers *p, const struct endpoint *to);
/* Those to it that no call uses are never used again. */
void lines_shut(struct peers *p, const struct endpoint *to);
/* Forgets all; their sockets are closed already. */
void lines_free(struct peers *p);

/* ---- peer_transfer.c ---- */

/* 0, or -errno, and it must be closed all the same. */
int transfers_open(struct peers *p);
void transfers_close(struct peers *p);
/* A request of this call, timeout_ms 0: until it is stopped; token: "" none.
 * NULL: no memory. */
struct transfer *transfer_new(struct peer_call *c,
			      const struct peer_request *rq, const char *token);
/* *t is NULL after it. */
void transfer_free(struct transfer **t);
/* 0, and call_over() follows from the loop, unless it is stopped before; or
 * -ENOMEM. */
int transfer_start(struct peers *p, struct transfer *t);
void transfer_stop(struct peers *p, struct transfer *t);
/* No more than so much of the reply is taken, what came included. */
void transfer_cap(struct transfer *t, size_t reply_max);
/* The HTTP status; 0: none came. */
int transfer_status(const struct transfer *t);
/* What the library says went wrong; "" nothing. */
const char *transfer_error(const struct transfer *t);

#endif
