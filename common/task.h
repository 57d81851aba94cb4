/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A measurement task: filter, key type, increment, sketch kinds, window.
 * Plain data of fixed size: it travels to the monitor as it is.
 */
#ifndef LINNET_TASK_H
#define LINNET_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/filter.h"
#include "common/hash.h"
#include "common/key.h"

enum increment {
	INC_PKT,
	INC_BYTE,
	INC_SEGMENT,
	INCREMENTS
};

#define TASKS_MAX 32

/*
 * Bits of task_spec.kinds: 1 << enum sketch_kind of sketch.h; or, alone and
 * without a key, the rows of common/sketch/features.h.
 */
#define TASK_FEATURES (1u << 16)
#ifdef LINNET_TEST_HOOKS
#	define TASK_WINDOW_MIN_S 1 /* a test waits for many of them */
#else
#	define TASK_WINDOW_MIN_S 10
#endif
#define TASK_WINDOW_MAX_S     3600
#define TASK_DAY_S            86400 /* windows of TASK_FEATURES divide it */
#define TASK_RECORDS_LOG2     16    /* default and largest */
#define TASK_RECORDS_LOG2_MIN 8

/* Windows of a task that counts keys, or plainly. */
#define TASK_TICK_MS 100 /* its windows are multiples of this */
#define TASK_CLOSED  4   /* closed ones that are kept */

struct task_spec {
	uint64_t id;         /* not 0; chosen where the client asked */
	uint64_t generation; /* a new one starts from zero counts */
	struct filter filter;
	uint8_t key;       /* enum key_type */
	uint8_t increment; /* enum increment */
	/* the rest of this line only with TASK_FEATURES, else 0 */
	uint8_t both;         /* also what task_mirror() says */
	uint8_t semantics;    /* enum feature_semantics: PACKETS, NETFLOW */
	uint8_t records_log2; /* flow records a window; 0: the default */
	uint8_t reserved;
	uint32_t kinds;     /* 0 with KEY_NONE */
	uint32_t window_ms; /* 0: since creation */
	uint32_t reserved2;
	struct hash_key seed; /* secret of the overlay */
	uint32_t reserved3;   /* no padding: bytes are compared and sent */
};

/* "pkt", "byte" or "bytes", "segment". */
int increment_parse(const char *s, size_t len, enum increment *out);
const char *increment_name(enum increment i); /* singular */

/* All members in range, kinds known, reserved zero: for bytes from outside. */
bool task_valid(const struct task_spec *t);
/* Same content (id, generation and seed included). */
bool task_equal(const struct task_spec *a, const struct task_spec *b);
/* Bytes that its sketches may come to have in one reader. */
uint64_t task_memory(const struct task_spec *t);
/* The filter of the replies: other direction, source and destination swapped. */
struct filter task_mirror(const struct task_spec *t);
/* Directions that a task counts, as bits 1 << enum packet_dir. */
uint32_t task_dirs(const struct task_spec *t);
/* What one packet adds to a counter with this increment. */
static inline uint64_t increment_weight(enum increment i,
					const struct packet *p)
{
	return i == INC_PKT ? 1 : i == INC_BYTE ? p->len_bytes : p->segments;
}

/* Exact sums of a task; every task keeps them. */
struct totals {
	uint64_t items;  /* updates */
	uint64_t weight; /* N: sum of weights */
	uint64_t pkt, segment, byte;
	uint64_t hidden_byte;     /* header bytes of the segments not seen */
	uint64_t super, fragment; /* super-packets, fragments */
	uint64_t unkeyed_pkt, unkeyed_byte; /* matched, but yielded no key */
};
/* What now has beyond then, which it once was. */
struct totals totals_since(const struct totals *now, const struct totals *then);
void totals_add(struct totals *acc, const struct totals *in, bool *saturated);

#endif
