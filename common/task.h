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

/* Bits of task_spec.kinds: 1 << enum sketch_kind of sketch.h. */
struct task_spec {
	uint64_t id;         /* not 0; chosen where the client asked */
	uint64_t generation; /* a new one starts from zero counts */
	struct filter filter;
	uint8_t key;       /* enum key_type */
	uint8_t increment; /* enum increment */
	uint8_t reserved[4];
	uint32_t kinds;     /* 0 with KEY_NONE */
	uint32_t window_ms; /* 0: since creation; nothing else yet */
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
void totals_add(struct totals *acc, const struct totals *in, bool *saturated);

#endif
