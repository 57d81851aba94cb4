/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the counter of features remembers of a flow, for one window. */
#ifndef LINNET_SKETCH_FEATURES_FLOW_H
#define LINNET_SKETCH_FEATURES_FLOW_H

#include <stdint.h>

#include "common/packet.h"

enum {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

/*
 * A flow as the host sees it.  Both records of a connection are one entry:
 * its two sides.
 */
struct flow_id {
	struct ip_addr local, remote;
	uint16_t lport, rport;
	uint8_t proto;
	uint8_t zero[3]; /* compared and hashed as a whole */
};

/* What an entry remembers of its flow, as bits. */
enum flow_state {
	FLOW_OPENING = 1 << 0,   /* its handshake is open, and counted so */
	FLOW_SYN_OUT = 1 << 1,   /* and began with a SYN of this host */
	FLOW_ANSWERED = 1 << 2,  /* SYN-ACK seen */
	FLOW_OUT_FIRST = 1 << 3, /* this host sent the first packet */
	FLOW_SEQUENCE = 1 << 4,  /* seq_end is valid */
	/* of this window: */
	FLOW_NEW = 1 << 5, /* not seen in the window before */
	FLOW_OK = 1 << 6,
	FLOW_REFUSED = 1 << 7, /* a peer's SYN, by RST */
	FLOW_CARRIED = FLOW_OPENING | FLOW_SYN_OUT | FLOW_ANSWERED |
		       FLOW_OUT_FIRST | FLOW_SEQUENCE,
};

/* What packets of one direction showed, as bits. */
enum side_seen {
	SIDE_SYN = 1 << 0, /* without ACK */
	SIDE_RETRANS = 1 << 1,
	SIDE_UNREACH = 1 << 2, /* ICMP: destination unreachable */
	SIDE_QUERY = 1 << 3,   /* DNS */
	SIDE_LARGE = 1 << 4,   /* of the half that is kept for its bytes */
};

/* One record: the packets of one direction in this window; none: packets 0. */
struct side {
	uint64_t bytes;
	uint64_t gaps_sq;           /* sum of squares of gaps, ms */
	uint32_t packets, buffers;  /* wire segments; as they came */
	uint32_t first_ms, last_ms; /* since the window was opened */
	uint8_t tcp_flags, tos;     /* of all; of the first */
	uint8_t seen;               /* enum side_seen */
	uint8_t interface;          /* class 1, 2, 3; 0: not known */
	uint8_t unused[4];
};

struct entry {
	struct flow_id id;
	uint8_t state; /* enum flow_state */
	uint8_t unused[3];
	uint32_t seq_end; /* highest sequence number sent, plus one */
	struct side side[PACKET_DIRS];
};
_Static_assert(sizeof(struct entry) == 128, "two lines of cache");

struct table {
	uint32_t n, records; /* entries; sides that are not empty */
	uint32_t generation; /* 1 to GENERATIONS; slots of others are empty */
	uint32_t *index;     /* 2 * cap; see features_count.c */
	struct entry *entry;
};

#endif
