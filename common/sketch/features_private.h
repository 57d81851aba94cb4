/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The counter of features from within: its tables and closing, which works on
 * the table of the window before while packets go into the other one.  Shared
 * by the files features*.c alone.
 */
#ifndef LINNET_SKETCH_FEATURES_PRIVATE_H
#define LINNET_SKETCH_FEATURES_PRIVATE_H

#include "common/hash.h"
#include "common/sketch/features.h"
#include "common/sketch/features_flow.h"

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
	CLOSE_CLEAR, /* indexes of peers */
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

/* Empties the table.  Nearly always without touching its index. */
void table_clear(const struct features *f, struct table *t);
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
