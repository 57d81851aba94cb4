/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How struct walk reaches the world: the tree, the wire, the measuring. */
#ifndef LINNET_TREE_WALK_ENV_H
#define LINNET_TREE_WALK_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/coverage.h"
#include "agent/tree/epoch.h"
#include "agent/tree/message.h"

struct walk_child {
	struct node_id id;
	struct endpoint ep;
	struct epoch lease;
	uint32_t hosts, height; /* most it may speak of; of its subtree */
	uint32_t rtt_us;        /* way there and back, as last seen; 0 */
	bool ask, suspect;
	bool told; /* our parent knows of it, and so may be given its part */
	enum missing_reason why; /* when it is not asked */
};

/* The tree as this agent sees it. */
struct walk_view {
	const struct node_id *(*self)(void *tree);
	struct epoch (*lease)(void *tree); /* own; zero: none */
	/* Wall clock when it was taken, the highest shown by then. */
	uint64_t (*lease_ms)(void *tree);
	struct epoch (*as_of)(void *tree); /* highest known */
	uint32_t (*clock_err_ms)(void *tree);
	/* TREE_OK: the lease is the current one and not above as_of */
	enum tree_word (*admit)(void *tree, const struct epoch *lease,
				const struct epoch *as_of);
	unsigned (*n_children)(void *tree);
	/* false: not a member (yet), its hosts are not expected */
	bool (*child)(void *tree, unsigned i, struct walk_child *out);
	/* Rows of the subtree: own first, each right before its own. */
	uint32_t (*n_rows)(void *tree);
	void (*row)(void *tree, uint32_t i, struct node_id *id,
		    struct node_id *parent);
	/* Changes with the rows; NULL: they may have changed at any time. */
	uint64_t (*rows_version)(void *tree);
	uint32_t (*expected)(void *tree); /* at least the rows */
	/* The rows are all there is; NULL: always.  Else nothing is complete. */
	bool (*settled)(void *tree);
};
struct tree;
extern const struct walk_view walk_tree_view; /* tree: a struct tree */

/*
 * Exchanges that are under way: so many are each child's own, the spare ones
 * are for whichever needs them, and no child has more than the most.
 *
 * While a host somewhere below does not answer, each exchange with a child
 * above it takes most of its time; one way for each such question at ten a
 * second is eight, and what others of them need comes out of what all share.
 */
#define WALK_WAYS_OWN   8
#define WALK_WAYS_SPARE 32
#define WALK_WAYS_MAX   16

#define WALK_LATE_MS    250
#define WALK_LATE_BYTES ((size_t)64 * 1024)

/* An exchange with a child; borrowed during the call. */
struct walk_send {
	uint64_t ref;
	const struct walk_child *to;
	/* of the whole; of a connection; of that and hello together */
	uint32_t limit_ms, connect_ms, hello_ms;
	/* left for the child; that much if a connection must be made first */
	uint32_t told_ms, told_fresh_ms;
	bool fresh; /* on a new connection */
	size_t reply_max;
	struct epoch as_of;
	unsigned n_via; /* the last is this agent */
	const struct node_id *via;
	const uint8_t *query; /* id of 16 bytes; NULL: no question */
	unsigned round;
	void *what; /* the question, or what walk_spread() was given */
};

/* What a child said, or why not. */
struct walk_got {
	/* 0; -ETIMEDOUT, -EMSGSIZE, -EPROTO (malformed), -ENOBUFS, -ENOMEM,
	 * -ECONNRESET; others: unreachable */
	int err;
	enum tree_word word; /* of its answer */
	bool reused;         /* over a connection that had been used before */
	const char *why;     /* of a refusal, in words; NULL: none of ours */
	void *part;          /* taken; NULL: none */
	const struct coverage *coverage;
	const void *raw; /* for walk_spread(); borrowed */
};

struct walk_env {
	uint64_t (*now_ms)(void *ctx);
	uint64_t (*wall_ms)(void *ctx); /* where questions are of windows */
	/* walk_timer() at this time; one timer; UINT64_MAX: none */
	void (*timer)(void *ctx, uint64_t at_ms);
	/* 0: ended by walk_done() or cancel; or -errno */
	int (*send)(void *ctx, const struct walk_send *s);
	/* Nobody waits for the answer any more.  It is read all the same, up
	 * to WALK_LATE_BYTES and for WALK_LATE_MS, for the connection's sake,
	 * and there is a walk_done() as before. */
	void (*leave)(void *ctx, uint64_t ref);
	void (*cancel)(void *ctx, uint64_t ref);
	/* To the parent; c NULL unless TREE_OK; all borrowed. */
	void (*reply)(void *ctx, uint64_t ref, enum tree_word word,
		      const struct coverage *c, const void *part);
	void (*suspect)(void *ctx, const struct node_id *id); /* unreachable */
	void (*rejected)(void *ctx, const struct walk_child *c,
			 const char *why);
};

/* The opaque part of a question, and the parts that answer it. */
struct walk_ops {
	size_t (*reply_cap)(const void *question); /* bytes of one reply */
	/* Begins the local read, ended by walk_read_done() or cancel; 0 or
	 * -errno. */
	int (*read)(void *ctx, void *question, uint64_t ref);
	void (*read_cancel)(void *ctx, void *question);
	/* Can this be a child's answer?  MISSING_NONE, or why not in words. */
	enum missing_reason (*check)(void *ctx, const void *question,
				     const void *part, const struct coverage *c,
				     const char **why);
	/* Adds what this host or a child gave, NULL or a part, to *acc, which
	 * may be NULL; takes it unless -errno or a positive refusal. */
	int (*merge)(void *ctx, void *question, const struct node_id *id,
		     const struct coverage *c, void **acc, void *in);
	/* May be NULL.  It is missing; what is known of it may go into *acc and
	 * c instead (true). */
	bool (*missing)(void *ctx, void *question, const struct node_id *id,
			enum missing_reason why, void **acc,
			struct coverage *c);
	void (*free_part)(void *part); /* NULL is fine */
	size_t (*part_size)(const void *part);
	void (*free_question)(void *ctx, void *question);
};

#endif
