/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Epochs: (term, root, n), compared in this order.  Each grant, leave and
 * forgetting has its own; the lease of a child is the epoch of its grant.
 *
 * Both numbers are counts.  They are believed up to EPOCH_MAX: what nobody
 * reaches by counting was made up, and would leave none above it.
 */
#ifndef LINNET_TREE_EPOCH_H
#define LINNET_TREE_EPOCH_H

#include <stdbool.h>
#include <stdint.h>

#define EPOCH_TEXT      64
#define EPOCH_MAX       ((uint64_t)1 << 56)
#define TREE_LEVELS_MAX 17 /* ids on a path, root and deepest included */

struct epoch {
	uint64_t term, root, n; /* root: first 8 bytes of its id */
};

/* "TERM.ROOT16.N"; 0 or -EINVAL. */
int epoch_parse(const char *s, struct epoch *out);
void epoch_format(const struct epoch *e, char out[EPOCH_TEXT]);
/* <0, 0, >0 */
int epoch_compare(const struct epoch *a, const struct epoch *b);
/* It can be; one that cannot is neither heard nor kept. */
static inline bool epoch_valid(const struct epoch *e)
{
	return e->term <= EPOCH_MAX && e->n <= EPOCH_MAX;
}
static inline bool epoch_none(const struct epoch *e)
{
	return !e->term && !e->root && !e->n;
}

#endif
