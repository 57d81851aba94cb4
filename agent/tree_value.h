/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values of the tree's messages as JSON, and tables that name them. */
#ifndef LINNET_TREE_VALUE_H
#define LINNET_TREE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/json.h"
#include "agent/tree/message.h"

#define TREE_TIME_MAX ((uint64_t)1 << 48) /* wall clock, ms */

struct field;

/* How a value is written and read; get gives 0 or -EINVAL. */
struct type {
	size_t size; /* in memory; of a text that of an empty one */
	void (*put)(struct json_out *o, const char *name, const void *v);
	int (*get)(const struct json *v, const struct field *f, void *out);
};

/* A member of an object and where it is in the struct. */
struct field {
	const char *name; /* NULL ends a table */
	const struct type *type;
	size_t at;
	bool optional;     /* left out when zero, zero when left out */
	uint64_t min, max; /* of a number; of a text or list its length */
	/* lists: */
	bool list, borrowed; /* borrowed: the struct holds a pointer */
	bool same;           /* as long as the one before it, same count */
	size_t count;        /* where its length is */
};

extern const struct type type_id, type_u32, type_u64, type_bool, type_hash,
	type_epoch, type_name, type_act, type_clock, type_endpoint, type_hop,
	type_addresses, type_peer, type_block, type_row;

#endif
