/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sketch kind "features": one row of counters and the largest flows of each
 * closed window.
 *
 * The *counter* lives in a reader: one block of memory, fixed at creation, a
 * table of the flows of the open window.  Windows start at multiples of their
 * length in Unix time; interval k is [k * window_s, (k + 1) * window_s).  A
 * closed window leaves a *row*, whose counters merge with those of the host's
 * other readers, and a list of *flows*, one for each direction-specific
 * 5-tuple.  Finishing a row (shares, estimates, transforms) comes last.
 */
#ifndef LINNET_SKETCH_FEATURES_H
#define LINNET_SKETCH_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/features.h"
#include "common/key.h"
#include "common/packet.h"
#include "common/task.h"

#define FEATURES_KEPT       5    /* closed windows */
#define FEATURES_FLOWS      8192 /* of a closed window */
#define FEATURES_HLL_P      12
#define FEATURES_PORT_BINS  2048
#define FEATURES_ROW_MAGIC  0x6c6e6672u
#define FEATURES_FLOW_MAGIC 0x6c6e6666u

/* Why a row is not what it should be, as bits. */
enum features_quality {
	FEATURES_PARTIAL = 1 << 0,  /* began late, or a reader is missing */
	FEATURES_CLOCK = 1 << 1,    /* the clock was set meanwhile */
	FEATURES_MISSED = 1 << 2,   /* more than 1 % of packets not seen */
	FEATURES_OVERFLOW = 1 << 3, /* the table was full */
};

/* Sums behind the shares. */
struct features_parts {
	uint64_t flows_tcp, flows_udp;
	uint64_t bytes, bytes_top; /* of all peers; of the largest: a maximum */
	uint64_t dns_answers, dns_nxdomain;
};

/* What merges, and what travels: no padding, host byte order. */
struct features_row {
	uint32_t magic, window_s;
	uint64_t schema; /* hash of names, semantics, window */
	uint64_t fp;     /* of the seed behind hll */
	uint64_t interval;
	uint32_t quality;  /* enum features_quality */
	uint32_t readers;  /* rows that were merged */
	uint64_t records;  /* counted, overflow included */
	uint64_t overflow; /* packets that found no room */
	uint64_t matched_packets, missed_packets; /* features_row_loss() */
	struct features_parts parts;
	uint64_t count[FEATURES]; /* of those that add or are maxima */
	uint32_t ports[FEATURES_PORT_BINS]; /* flows by destination port */
	uint8_t hll[FEATURES_HLL][1 << FEATURES_HLL_P];
};

/* A flow of a closed window. */
struct features_flow {
	struct flow_key key; /* KEY_FLOW */
	uint64_t packets, bytes;
	struct feature_set matched;  /* the features that count it */
	uint8_t tcp_flags, tos, dir; /* of all packets, of the first */
	uint8_t reserved[5];
};

/* The list's head; the flows follow. */
struct features_flows {
	uint32_t magic, n;
	uint64_t interval;
	uint64_t records; /* there were */
	struct features_flow flow[];
};

/* ---- agent side ---- */

/*
 * A row of len bytes from a reader of this task: 0, or -EINVAL if it is none.
 */
int features_row_check(const struct features_row *row, size_t len,
		       const struct task_spec *t);
/* Same for a list of flows. */
int features_flows_check(const struct features_flows *f, size_t len);

enum features_refusal {
	FEATURES_MERGED,
	FEATURES_OTHER_SCHEMA, /* names, semantics or window */
	FEATURES_OTHER_SEED,
	FEATURES_OTHER_INTERVAL,
};
/* Adds in to acc.  0 or enum features_refusal; acc is unchanged then. */
int features_row_merge(struct features_row *acc, const struct features_row *in);
/*
 * What the rules matched in the window and readers did not see, and how many
 * readers there should be: sets the numbers and flags.
 */
void features_row_loss(struct features_row *row, uint64_t matched,
		       uint64_t missed, uint32_t readers);
/*
 * The finished row: features_count(blocks) values, in order of positions.
 */
void features_row_finish(const struct features_row *row, uint32_t blocks,
			 double *out);

/* ---- reader side: no allocation, no lock, no failure ---- */

struct features; /* the counter */

/* Bytes of memory for a task; all of it counts against the budget. */
size_t features_size(const struct task_spec *t);
/*
 * mem: zeroed pages, 64-byte aligned; local: per-process secret for the layout
 * of tables; the times are now.  replay: time comes from packets alone, and
 * windows without any are windows without traffic.
 */
struct features *features_init(void *mem, const struct task_spec *t,
			       const struct hash_key *local, bool replay);
/*
 * The time of the packets that follow: windows that are over are closed.
 * mono_ms tells a clock that was set from time that passed.
 */
void features_clock(struct features *f, uint64_t wall_ms, uint64_t mono_ms);
/* Counts one packet; uplink: index of the default route's interface or 0. */
void features_packet(struct features *f, const struct packet *p,
		     uint32_t uplink);
/* A bounded piece of what closing takes; false: nothing is left to do. */
bool features_turn(struct features *f);
/* Replay: the open window ends here, and all closing is done. */
void features_end(struct features *f);
/*
 * The row and flows of interval k, which stay until FEATURES_KEPT more windows
 * closed.  0, -ENOENT: not there (any more), -EAGAIN: not closed yet.
 */
int features_window(const struct features *f, uint64_t k,
		    const struct features_row **row,
		    const struct features_flows **flows, size_t *flows_len);

#endif
