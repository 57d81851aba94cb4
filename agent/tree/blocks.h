/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine that keeps sets of tasks equal down the tree.  A set is a block
 * and has one owner: the root, whoever it is, or an inner agent on the path.
 * Its (term, index) rises with each change of its owner, its hash is that of
 * what is held; beats carry the three, and who holds less gets what differs
 * from its parent.  What a task is, is not known here; the world is reached
 * only through struct blocks_env, which never calls back.
 */
#ifndef LINNET_TREE_BLOCKS_H
#define LINNET_TREE_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/tree/message.h"

#define BLOCKS_MAX   TREE_LEVELS_MAX
#define BLOCKS_ITEMS 128 /* of one block */
#define BLOCKS_GONE  32  /* deletes remembered of a block */

struct blocks;

/* A task, as far as it is known here. */
struct blocks_item {
	uint64_t id, generation;
	uint64_t spec;  /* hash of what one generation may never change */
	uint64_t hash;  /* of all that travels */
	uint64_t order; /* repair puts the lower first */
	void *content;
	uint64_t term, index; /* of the change that put it here */
};

struct block {
	struct tree_block head;   /* hash: of what is here */
	uint64_t want;            /* what its owner said the hash is */
	struct tree_block heard;  /* highest held below, if above head */
	struct blocks_item *item; /* by id */
	unsigned n, size;
	struct blocks_gone *gone; /* what was deleted lately */
	unsigned n_gone, settle;
	uint64_t floor; /* changes before this one come too late */
};

enum blocks_word {
	BLOCKS_DONE,
	BLOCKS_SAME,    /* nothing to do */
	BLOCKS_OLDER,   /* 409: a later generation is here */
	BLOCKS_OTHER,   /* 409: this generation has another content */
	BLOCKS_STALE,   /* 409: a later change of this block is here */
	BLOCKS_FOREIGN, /* 409: not the owner; or the owner was told */
	BLOCKS_HALF,    /* 503: a new root does not know the set yet */
	BLOCKS_FULL     /* 507 */
};

enum blocks_act {
	BLOCKS_LIST,  /* ids, generations, hashes of an owner's block */
	BLOCKS_FETCH, /* the same with contents */
	BLOCKS_PUT,
	BLOCKS_DELETE
};

struct blocks_msg {
	enum blocks_act act;
	enum blocks_word word;  /* of a reply */
	struct tree_block head; /* asked for, or of the change; of a list */
	uint64_t id;            /* BLOCKS_DELETE */
	unsigned n;             /* 1: BLOCKS_PUT; replies of lists */
	const struct blocks_item *item; /* borrowed */
};

enum blocks_role {
	BLOCKS_ALONE, /* no root is known above; owns its own block */
	BLOCKS_BELOW, /* a member; owns its own */
	BLOCKS_ROOT   /* owns the root's too */
};

struct blocks_place {
	enum blocks_role role;
	bool unheard;         /* may be root later, and heard no beat yet */
	uint64_t term;        /* of this root, or the highest known */
	uint64_t incarnation; /* the term of its own block */
	unsigned n_path;      /* ids from the root to the parent */
	const struct node_id *path;
};

struct blocks_env {
	/* To a child (id), or to a root candidate (NULL, at).  blocks_done()
	 * follows, unless this fails with -errno. */
	int (*send)(void *ctx, const struct node_id *child,
		    const struct endpoint *at, const struct blocks_msg *m,
		    uint64_t ref);
	/* For old or NULL: the content to keep, maybe old's; NULL: no room. */
	void *(*install)(void *ctx, const struct node_id *owner,
			 const struct blocks_item *in,
			 const struct blocks_item *old);
	void (*drop)(void *ctx, void *content);
	/* Root candidates but this agent; number written. */
	unsigned (*candidates)(void *ctx, struct endpoint out[5]);
	void (*changed)(void *ctx); /* to be kept on disk */
};

struct blocks *blocks_new(const struct node_id *self,
			  const struct blocks_env *env, void *ctx);
void blocks_free(struct blocks *b); /* contents are not dropped */
/* From disk: a block as blocks_at() showed it. */
int blocks_restore(struct blocks *b, const struct tree_block *head,
		   uint64_t want, const struct blocks_item *item, unsigned n);

/* ---- events ---- */
void blocks_place(struct blocks *b, const struct blocks_place *p);
/* This agent's id now: what it owned is its own under that.  True: another. */
bool blocks_rename(struct blocks *b, const struct node_id *self);
void blocks_tick(struct blocks *b); /* once a second */
/* Rows of a beat (NULL: the parent's); drops what is of nobody on the path. */
void blocks_heard(struct blocks *b, const struct node_id *child,
		  const struct tree_block *row, unsigned n);
/* The parent's put or delete: what came of it.  Pass on all but refusals. */
enum blocks_word blocks_put(struct blocks *b, const struct tree_block *head,
			    const struct blocks_item *in);
enum blocks_word blocks_delete(struct blocks *b, const struct tree_block *head,
			       uint64_t id);
/* Answers BLOCKS_LIST and BLOCKS_FETCH. */
void blocks_list(const struct blocks *b, const struct node_id *owner,
		 struct blocks_msg *reply);
/* err 0: m is the reply, borrowed. */
void blocks_done(struct blocks *b, uint64_t ref, int err,
		 const struct blocks_msg *m);

/* ---- what clients ask for ---- */
/* Into the block that it owns now; a known id stays in its block. */
enum blocks_word blocks_change(struct blocks *b, const struct blocks_item *in);
/* In the owner's block a change of it; else (nobody above) here alone. */
enum blocks_word blocks_remove(struct blocks *b, uint64_t id);
/* Out of what is here, whoever owns it; no change of the block. */
void blocks_forget(struct blocks *b, uint64_t id);

/* For beats: heads (0, 0: not whole), then what is held below and higher. */
unsigned blocks_rows(const struct blocks *b, struct tree_block out[BLOCKS_MAX]);
unsigned blocks_count(const struct blocks *b);
const struct block *blocks_at(const struct blocks *b, unsigned i);
const struct block *blocks_of(const struct blocks *b,
			      const struct node_id *owner);
const struct blocks_item *blocks_find(const struct blocks *b, uint64_t id,
				      struct tree_block *head);
bool blocks_owns(const struct blocks *b, const struct node_id *owner);
/* Times an own set was written above one that was held elsewhere. */
uint64_t blocks_superseded(const struct blocks *b);

#endif
