/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows from several children put together: each host once. */
#ifndef LINNET_TREE_ROWSET_H
#define LINNET_TREE_ROWSET_H

#include "agent/tree/message.h"

struct rowset {
	struct tree_row *row; /* preorder, levels right */
	uint8_t *flag;
	uint32_t n, room;
	uint32_t n_told;      /* of them, the rest is not told of by a child */
	uint32_t *slot, mask; /* by id: index + 1 */
	uint32_t *at_slot;    /* by address: up, or else seen before */
	struct tree_row *out;
	uint32_t n_out, n_gone;
	uint32_t n_same; /* at the address of another one: reborn, and lost */
	bool conflict;   /* two tell of one host, and both hear it */
	bool twice;      /* and they are two, as it seems */
	struct tree_row elder, younger;
};

/* Room for n rows; 0 or -ENOMEM. */
int rowset_init(struct rowset *s, uint32_t n);
void rowset_add(struct rowset *s, const struct tree_row *r);
/* The last added does not count: it is above this agent. */
void rowset_hide(struct rowset *s);
/*
 * The last added is gone, as a child says that was not heard to have it: that
 * counts where another row of this host says that it was below one of that
 * child's.
 */
void rowset_doubt(struct rowset *s);
/* No id came twice. */
bool rowset_unique(struct rowset *s);
/* <0, 0, >0: which row of one host is the later one. */
int rowset_order(const struct tree_row *a, const struct tree_row *b);
/* Chooses, of rows of one host, the one that counts. */
void rowset_decide(struct rowset *s);
/* The row of this id that counts, or NULL. */
const struct tree_row *rowset_find(const struct rowset *s,
				   const struct node_id *id);
/* Another row counts instead of the i-th. */
bool rowset_lost(const struct rowset *s, uint32_t i);
/* Rows below this one in its listing. */
uint32_t rowset_below(const struct rowset *s, const struct tree_row *r);
/* Those that count, each below the nearest of them above it; 0 or -ENOMEM. */
int rowset_emit(struct rowset *s);
/* Those that are gone, last, below self. */
void rowset_append_gone(struct rowset *s, const struct node_id *self);
/* The array, which is the caller's now; the rest is freed. */
struct tree_row *rowset_take(struct rowset *s, uint32_t *n, uint32_t *n_gone);
void rowset_free(struct rowset *s);

#endif
