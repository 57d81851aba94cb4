/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tree of machines of blocks.h, with messages that may go wrong. */
#ifndef LINNET_BLOCKS_WORLD_H
#define LINNET_BLOCKS_WORLD_H

#include "agent/tree/blocks.h"

#define AGENTS 24
#define ROOTS  3 /* agents 0, 1, 2 may be the root */
#define QUEUE  4096
#define NOBODY UINT32_MAX
#define IDS    4096

struct message {
	uint32_t from, to;
	bool reply, fan; /* fan: of a change, nobody waits for a reply */
	int err;
	uint64_t ref, lease, round; /* lease of a put or delete */
	struct blocks_msg m;
	unsigned n;
	struct blocks_item *item; /* ours */
};

struct world;
struct node {
	struct world *w;
	uint32_t i, parent, level;
	struct node_id id;
	struct blocks *b;
	bool alive, root, unheard;
	uint64_t incarnation, boot; /* boot: replies to an earlier one die */
	uint64_t lease;             /* of its place below its parent */
	/* what was seen here since its disk was new, by id */
	uint64_t generation[IDS];
	bool gone[IDS];
};

struct world {
	uint64_t seed, term;
	struct node node[AGENTS];
	struct message *queue[QUEUE];
	unsigned n_queue;
	unsigned loss, twice; /* of 100 messages */
	bool strict;          /* one lineage: nothing may ever go back */
	bool forge;           /* teeth: late messages pretend to be new */
	unsigned violations;
	uint64_t next_id, changes, round;
	unsigned installs, refusals;
	struct node_id owner[IDS]; /* of a task, by id */
};

void world_init(struct world *w, uint64_t seed);
void world_fini(struct world *w);
/* Stops and starts with its disk, or without. */
void agent_restart(struct world *w, uint32_t i, bool disk);
/* Path and role as beats bring them. */
void place(struct world *w, uint32_t i);
/* Delivers all there is on its way. */
void drain(struct world *w);
/* Everybody beats its children once, in some order. */
void beats(struct world *w);
/* All that are dead are up again, with their disks or (lose) some without. */
void revive(struct world *w, bool lose);
/* Rounds of beats until all blocks are equal; max + 1: they are not. */
unsigned rounds_until_equal(struct world *w, unsigned max);
uint32_t depth(const struct world *w);
/* Changes and faults at random; then all are up and nothing is lost. */
void history(struct world *w, bool roots);
struct blocks_item item_of(uint64_t id, uint64_t generation, uint64_t tune);

#endif
