/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by probe.c (which probes there are and were), probe_sender.c (the
 * asked agent's role) and probe_responder.c (the other one's).
 */
#ifndef LINNET_PROBE_PRIVATE_H
#define LINNET_PROBE_PRIVATE_H

#include "agent/agent.h"
#include "agent/jitter.h"
#include "agent/probe.h"
#include "common/loop.h"

#define PROBE_HISTORY         64
#define PROBE_BYTES_MAX       (UINT64_C(1) << 30)
#define PROBE_CHUNK_BYTES     (128 * 1024)
#define PROBE_CHUNKS_PER_TURN 8
#define PROBE_DATAGRAM_BYTES  200
#define PROBE_GRACE_MS        2000 /* beyond the duration, for both roles */

struct nonce {
	uint8_t b[16];
};

/* A datagram of the jitter train; the rest is zero. */
struct datagram {
	struct nonce nonce;
	uint32_t seq, reserved;
	uint64_t sent_ns;
};

struct sender {
	struct probe *probe;
	struct endpoint to;
	struct nonce nonce;
	struct peer_call *call;
	struct loop_io io;
	struct loop_timer end, tick, limit;
	bool streaming, shut;
	uint64_t bytes, began_ms;
	uint32_t seq, n_datagrams;
	uint8_t *chunk;
	char in[1024]; /* reply head, then result line */
	size_t in_len;
	void (*done)(void *arg, const struct probe *p);
	void *arg;
};

struct responder {
	enum probe_kind kind;
	struct nonce nonce;
	struct loop_timer limit;
	bool started;
	uint32_t duration_ms;
	uint64_t until_ms; /* monotonic, of a train */
	/* bw */
	struct http_upgraded *up;
	struct loop_io io;
	uint64_t bytes, first_ns, last_ns;
	uint8_t *chunk;
	/* jitter */
	struct jitter jitter;
};

struct probes {
	struct agent *agent;
	struct probe history[PROBE_HISTORY];
	unsigned n; /* probes ever started */
	struct sender *sender;
	struct responder *responder;
	struct udp {
		struct loop_io io;
		struct probes *probes;
	} udp[CONF_LISTEN];
};

void probe_io_close(struct loop_io *io);
/* Memory for the stream, only while there is one; NULL: none. */
uint8_t *probe_chunk_new(int prot);
void probe_chunk_free(uint8_t *chunk);

/* probe_sender.c: it is over; failure NULL: well. */
void probe_sender_finish(struct probes *ps, const char *failure);

/* probe_responder.c */
void probe_responder_finish(struct probes *ps);
/* Datagrams have come to this socket. */
void probe_train_receive(void *arg, uint32_t events);

#endif
