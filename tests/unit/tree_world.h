/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tiny world for the machine that builds the tree: some agents, a virtual
 * clock, messages that arrive in order after 1 ms, agents that are killed,
 * stopped or cut off.  After each event it is made sure that nobody is in a
 * cycle.
 */
#ifndef LINNET_TREE_WORLD_H
#define LINNET_TREE_WORLD_H

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/tree/tree.h"

#define WORLD_NODES 1200

enum node_state {
	NODE_OFF,
	NODE_ON,
	NODE_STOPPED
};

struct world;
struct node {
	struct world *w;
	unsigned i;
	struct tree *tree;
	struct tree_conf conf;
	struct tree_stored stored;
	struct tree_peer *members; /* of what is stored */
	struct endpoint ep;
	struct endpoint seeds[TREE_SEEDS];
	unsigned n_seeds;
	enum node_state state;
	unsigned life;  /* of this start */
	unsigned group; /* those of another are not reached */
	uint64_t timer[TREE_TIMERS];
	bool drained;
	unsigned child_events; /* something about a child changed */
	int store_fails;       /* from 1 on: counts them */
	/* what an answer to somebody else looks like; may change it */
	void (*lie)(struct node *n, struct tree_msg *m);
};

struct world {
	uint64_t now;
	uint64_t rng;
	unsigned n;
	struct node node[WORLD_NODES];
	struct event_heap *heap;
	struct exchange *exchanges;
	uint64_t seq, sent[TREE_KINDS];
	bool slow_check; /* cycles are looked for now and then only */
	unsigned lie;    /* which, a test's own */
	/* each message on its way; false: lost */
	bool (*see)(struct world *w, unsigned from, unsigned to,
		    const struct tree_msg *m, bool reply);
	void *see_arg;
};

extern const struct member_ops world_manual, world_join, world_static;

/* For see: rows are lost, and nothing else. */
bool world_no_rows(struct world *w, unsigned from, unsigned to,
		   const struct tree_msg *m, bool reply);

/* n agents, not started; of the provider, seeds: node 0. */
struct world *world_new(unsigned n, const struct member_ops *provider,
			uint64_t seed);
void world_free(struct world *w);
/* Candidates for root: the first n. */
void world_roots(struct world *w, unsigned n);
void world_start(struct world *w, unsigned i);
void world_start_all(struct world *w);
/* n agents that joined one after the other, and are one tree. */
struct world *world_grown(unsigned n, unsigned fanout, unsigned roots,
			  uint64_t seed);
/* The same of the first `on` of them; the others are not started. */
struct world *world_growing(unsigned n, unsigned on, unsigned fanout,
			    unsigned roots, uint64_t seed);
void world_kill(struct world *w, unsigned i);
void world_stop(struct world *w, unsigned i);
void world_resume(struct world *w, unsigned i);
void world_run(struct world *w, uint64_t ms);
/* Until it is so; milliseconds it took, or UINT64_MAX after limit_ms. */
uint64_t world_until(struct world *w, bool (*is)(struct world *w, void *arg),
		     void *arg, uint64_t limit_ms);

/* m as if from that agent; what is answered, within 2 s. */
enum tree_word world_ask(struct world *w, unsigned from, unsigned to,
			 const struct tree_msg *m, struct tree_msg *answer);
/* This agent as it asks for a place, a leaf. */
void world_mover(const struct world *w, unsigned i, struct tree_mover *m);
/* What its acceptor asks of its parent for that. */
void world_climb(const struct world *w, unsigned acceptor, unsigned i,
		 struct tree_msg *m);
/* tree_add() at H of X; what its client was told, within 2 s. */
enum tree_word world_add(struct world *w, unsigned h, unsigned x);

/* The agent above, or -1: a root, -2: detached. */
int world_parent(const struct world *w, unsigned i);
/* The last one without children, but not that one; all run. */
unsigned world_leaf(const struct world *w, unsigned other);
unsigned world_depth(const struct world *w, unsigned i);
/* All that run hang below one root, which knows each of them and is sure. */
bool world_whole(struct world *w, void *unused);
unsigned world_roots_now(const struct world *w);
/* The only root, or -1. */
int world_root(const struct world *w);
void world_print(struct world *w);
void must_be_whole(struct world *w, uint64_t limit_ms);
/* Whole, and no grant or row is on its way: nothing would be `incomplete`. */
void must_settle(struct world *w, uint64_t limit_ms);

#endif
