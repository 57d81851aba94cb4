/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The counter of features from within: its flow table, what a flow remembers,
 * and closing, which works on the table of the window before while packets go
 * into the other one.  Shared by the files features*.c alone.
 */
#ifndef LINNET_SKETCH_FEATURES_PRIVATE_H
#define LINNET_SKETCH_FEATURES_PRIVATE_H

#include "common/hash.h"
#include "common/sketch/features.h"

/* Positions of the host block. */
enum {
	H_FLOWS_OUT_NEW = FEATURES_COMPAT,
	H_FLOWS_IN_NEW,
	H_FLOWS_FWD,
	H_BYTES_OUT,
	H_BYTES_IN,
	H_UDP_SHARE,
	H_SYN_OUT_UNANSWERED,
	H_SYN_IN_REFUSED,
	H_RST_IN,
	H_ICMP_UNREACH_IN,
	H_HALF_OPEN_PEAK,
	H_HANDSHAKE_OK,
	H_RETRANS_SEGMENTS,
	H_DST_IPS,
	H_DST_PORTS,
	H_SRC_IPS_IN,
	H_MAX_PORTS_PER_PEER,
	H_MAX_FLOWS_PER_PEER,
	H_TOP_PEER_SHARE,
	H_ENTROPY_DPORTS,
	H_DNS_QUERIES,
	H_DNS_NXDOMAIN_SHARE,
	H_DNS_NAMES,
	H_DNS_LONGEST_LABEL,
	H_REGULAR_FLOWS,
	H_DPORT_QUIC,
	H_DPORT_DOT,
	H_DPORT_RDP,
	H_DPORT_ADMIN,
	H_DPORT_HIGHRISK,
	H_SERVED_PORTS,
	H_SERVED_PORTS_NEW,
	H_END
};
_Static_assert(H_END == FEATURES, "all of them");

/* Registers of a row, in the order of their features. */
enum {
	HLL_DST_IPS,
	HLL_DST_PORTS,
	HLL_SRC_IPS_IN,
	HLL_DNS_NAMES,
	HLL_SERVED_PORTS,
};

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
	uint32_t *index;     /* 2 * cap; 0 or tag << 17 | entry + 1 */
	struct entry *entry;
};

/* What belongs to one peer, while its window is closed. */
struct peer {
	uint64_t bytes;
	uint32_t entry; /* one that has its address */
	uint32_t flows, ports;
};

/* The largest records, smallest on top. */
struct heap_item {
	uint64_t bytes;
	uint32_t record; /* entry << 1 | direction */
};

enum close_stage {
	CLOSE_IDLE,
	CLOSE_COUNT, /* each entry in the features that it matches */
	CLOSE_MARK,  /* the largest records */
	CLOSE_KEEP,  /* records that stay readable */
};

struct closing {
	enum close_stage stage;
	uint32_t at;
	uint32_t peers, index_mask;
	uint32_t heap_n;
	uint32_t spread; /* so that the sample is even */
	struct window *window;
};

/* One closed window. */
struct window {
	bool valid;
	struct features_row *row;
	struct features_flows *flows;
};

#define WINDOWS     (FEATURES_KEPT + 1) /* one is being closed */
#define FLOWS_LARGE (FEATURES_FLOWS / 2)
#define SERVED      65536
#define SERVED_FOR  60 /* windows */

struct features {
	uint32_t window_ms, cap;
	bool replay, netflow;
	uint64_t schema, fp;
	struct hash_key seed, local;

	/* the open window */
	bool open, partial;
	uint64_t interval;
	uint64_t opened_wall_ms, opened_mono_ms, wall_ms;
	uint32_t now_ms; /* since it was opened */
	uint32_t half_open;
	uint32_t current; /* table */
	bool follows;     /* the other table is of the window before */
	struct table table[2];
	struct features_row *row;

	struct closing closing;
	struct peer *peer;
	uint32_t *peer_index, *pair_index;
	struct heap_item *heap;

	uint32_t newest; /* window */
	struct window window[WINDOWS];
	uint64_t *served; /* 1 + last interval, by port */
};

/* NULL: not there. */
struct entry *table_find(const struct features *f, const struct table *t,
			 const struct flow_id *id, uint64_t hash);
/* Begins to close what is in the current table; packets go to the other. */
void close_begin(struct features *f, uint32_t quality);
/* What the rules make of the record of a side of e. */
void close_match(const struct features *f, const struct entry *e,
		 enum packet_dir dir, struct feature_set *out);
/* Counts all records of e in row, but for what peers say. */
void close_count(const struct features *f, const struct entry *e,
		 struct features_row *row);

#endif
