/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by registry.c (rows), taskblocks.c (what of them is in blocks),
 * taskstate.c (disk), taskio.c (JSON), taskops.c (changes spread), taskchange.c
 * (clients ask), taskpeer.c (agents ask), repair.c (exchanges of blocks).
 */
#ifndef LINNET_REGISTRY_PRIVATE_H
#define LINNET_REGISTRY_PRIVATE_H

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/registry.h"
#include "agent/tree/blocks.h"

#define REGISTRY_EVICT REGISTRY_SKETCHES
/* all there may be, and what goes for others that are not held yet */
#define REGISTRY_ROWS  (2 * (TASKS_MAX + REGISTRY_SKETCHES))
#define EXPIRES_MAX    (10u * 366 * 86400)

#define BLOCK_TEXT 96

struct entry {
	struct task t;
	struct task *wanted;    /* what travels until a host confirms it */
	bool local;             /* of this host alone: in no block */
	bool pending;           /* asked for here, not held by any host yet */
	bool leaving;           /* makes room for one that is being put */
	bool ended;             /* its time is over, its owner has not said so:
				   in its block alone, in no row */
	uint64_t expire_ms;     /* monotonic; 0: never */
	uint64_t tried_ms;      /* last put to the monitor */
	struct monlink_op *put; /* under way, nobody waits for it */
};

/* Content that a block is to have: a row is made of it, or changed. */
struct incoming {
	struct task t;
	uint64_t left_ms; /* until it expires; 0: never */
	bool local, pending;
	bool wanted; /* travels, but is not used before a host confirms it */
	bool kept;   /* as this agent had it: alias, order, own threshold */
};

struct exchange;

struct registry {
	struct agent *agent;
	struct entry *row[REGISTRY_ROWS];
	unsigned n;
	uint64_t next_alias, next_order;
	bool persisted, dirty; /* dirty: not on disk */
	struct loop_timer tick;
	struct registry_op *ops;
	struct blocks *blocks;
	struct exchange *exchanges;
};

/* registry.c */
struct entry *entry_find(const struct registry *r, uint64_t id);
/*
 * Room for one more like t: 0, with the sketches that must go in evict (of
 * REGISTRY_EVICT), or -ENOSPC with what is full in *e.
 */
int registry_room(const struct registry *r, const struct task *t,
		  uint64_t *evict, unsigned *n_evict, struct error *e);
/* A row of it; NULL: no room. */
struct entry *entry_add(struct registry *r, const struct incoming *in);
/* It, and a sketch's counters, will go: not counted, not chosen again. */
void entry_leaves(struct registry *r, uint64_t id, bool leaving);
/* Its id and those of a sketch's counters: their number. */
unsigned entry_family(const struct registry *r, uint64_t id,
		      uint64_t out[REGISTRY_ROWS]);
/*
 * Out of the rows and the monitor, a sketch with its counters; of blocks as
 * their owner.  forget: here, also what others own.  -EPERM: it is another's;
 * -EAGAIN: not known yet.
 */
int entry_remove(struct registry *r, uint64_t id, bool forget);
/* Out of the rows and the monitor, still there; and gone. */
void entry_stop(struct registry *r, struct entry *e);
void entry_free(struct entry *e);
/* In the rows again; false: no room. */
bool entry_show(struct registry *r, struct entry *e);
void entry_expires(struct entry *e, uint64_t left_ms);

/* taskblocks.c */
extern const struct blocks_env registry_blocks_env;
/* What of it others get to see. */
const struct task *entry_travels(const struct entry *e);
struct blocks_item entry_item(const struct task *t, void *content);
bool entry_from_above(const struct registry *r, const struct entry *e);
/* Of everything that travels: what repair compares. */
uint64_t entry_hash(const struct entry *e);

/* taskstate.c */
void registry_save(struct registry *r);
/* 0, or why nothing is to be written there either. */
int registry_load(struct registry *r);

/* taskio.c */
void entry_write(struct json_out *o, const char *name, const struct entry *e,
		 bool state);
/* state: also what only this agent knows.  0 or -EINVAL. */
int entry_parse(const struct json *v, struct incoming *out, bool state);
/* "root.7.12.HASH"; 0 or -EINVAL. */
void block_format(const struct tree_block *b, char out[BLOCK_TEXT]);
int block_parse(const char *s, struct tree_block *out);
/* Id of an owner, "root" for that of the root; 0 or -EINVAL. */
void owner_format(const struct node_id *id, char out[33]);
int owner_parse(const char *s, size_t len, struct node_id *out);

/* taskops.c */
void entry_put_monitor(struct registry *r, struct entry *e);
/* Body of a put; evict: sketches that make room for it. */
void entry_write_put(struct buf *b, const struct entry *e,
		     const uint64_t *evict, unsigned n_evict);
void ops_free(struct registry *r);

/* repair.c */
extern const char registry_tasks_path[];
int registry_exchange(void *ctx, const struct node_id *id,
		      const struct endpoint *at, const struct blocks_msg *m,
		      uint64_t ref);
void registry_exchanges_free(struct registry *r);

#endif
