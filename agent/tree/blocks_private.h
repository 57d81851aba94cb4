/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by blocks.c (sets and rules) and blocks_repair.c (differences). */
#ifndef LINNET_TREE_BLOCKS_PRIVATE_H
#define LINNET_TREE_BLOCKS_PRIVATE_H

#include "agent/tree/blocks.h"

#define BLOCKS_ROOTS 5

/* Of a task that was deleted: later changes of it alone count. */
struct blocks_gone {
	uint64_t id, term, index;
};

extern const struct node_id block_of_root; /* zero: its owner */

struct repair;

struct blocks {
	struct node_id self;
	const struct blocks_env *env;
	void *ctx;
	enum blocks_role role;
	uint64_t term, incarnation;
	unsigned n_path;
	struct node_id path[TREE_LEVELS_MAX];
	struct block *block;
	unsigned n, size;
	struct repair *exchanges; /* with children and root candidates */
	uint64_t next_ref, superseded;
};

/* <0, 0, >0: by term, then index. */
int head_compare(const struct tree_block *a, const struct tree_block *b);
static inline bool block_whole(const struct block *k)
{
	return k->head.hash == k->want;
}
struct block *block_find(const struct blocks *b, const struct node_id *owner);
/* Made if it is not there; NULL: too many, or no memory. */
struct block *block_need(struct blocks *b, const struct node_id *owner);
struct blocks_item *item_find(const struct block *k, uint64_t id);
/* Content in, in place of what has its id; -ENOSPC. */
int item_install(struct blocks *b, struct block *k,
		 const struct blocks_item *in, const struct tree_block *head);
void item_remove(struct blocks *b, struct block *k, uint64_t id);
/* What is here is the owner's word from now on, above all it was. */
void block_declare(struct blocks *b, struct block *k);
/* The highest that was taken, and with it what the set should be. */
void raise_head(struct block *k, const struct tree_block *head);
/* What a task adds to its block's hash: a sum, so that order is no matter. */
uint64_t item_mark(const struct blocks_item *it);
/* The root's, this agent's, or that of an agent above it. */
bool on_path(const struct blocks *b, const struct node_id *owner);
/* Blocks of owners neither on the path nor in these rows of the parent's. */
void drop_strangers(struct blocks *b, const struct tree_block *row, unsigned n);
/* Term that changes of this owner bear now. */
uint64_t block_term(const struct blocks *b, const struct block *k);

/* blocks_repair.c */
void exchanges_free(struct blocks *b);
/* A new root asks the candidates for the set, before it changes any. */
void accession(struct blocks *b);
bool accession_runs(const struct blocks *b);
/* Whether there is a set of the root's is to be heard from its parent. */
void root_unheard(struct blocks *b);
/* What was asked as the owner of a block is not to be used any more. */
void exchanges_void(struct blocks *b);

#endif
