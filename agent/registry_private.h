/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by registry.c (rows), taskio.c (JSON), taskops.c (changes). */
#ifndef LINNET_REGISTRY_PRIVATE_H
#define LINNET_REGISTRY_PRIVATE_H

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/registry.h"

#define REGISTRY_EVICT REGISTRY_SKETCHES
/* all there may be, and what goes for others that are not held yet */
#define REGISTRY_ROWS  (2 * (TASKS_MAX + REGISTRY_SKETCHES))
#define EXPIRES_MAX    (10u * 366 * 86400)

struct entry {
	struct task t;
	bool local;             /* of this host alone: children do not get it */
	bool pending;           /* asked for here, not held by any host yet */
	bool leaving;           /* makes room for one that is being put */
	uint64_t expire_ms;     /* monotonic; 0: never */
	uint64_t tried_ms;      /* last put to the monitor */
	struct monlink_op *put; /* under way, nobody waits for it */
};

struct repair;

struct registry {
	struct agent *agent;
	struct entry *row[REGISTRY_ROWS];
	unsigned n;
	uint64_t next_alias, next_order;
	bool persisted;
	struct loop_timer tick;
	struct registry_op *ops;
	struct repair *repairs;
};

/* registry.c */
struct entry *entry_find(const struct registry *r, uint64_t id);
/*
 * Room for one more like t: 0, with the sketches that must go in evict (of
 * REGISTRY_EVICT), or -ENOSPC with what is full in *e.
 */
int registry_room(const struct registry *r, const struct task *t,
		  uint64_t *evict, unsigned *n_evict, struct error *e);
/* Takes a copy of t; NULL: no memory.  left_ms: until it expires, 0: never. */
struct entry *entry_add(struct registry *r, const struct task *t, bool local,
			uint64_t left_ms);
/* It, and a sketch's counters, will go: not counted, not chosen again. */
void entry_leaves(struct registry *r, uint64_t id, bool leaving);
/* Out of the rows and the monitor, a sketch with its counters. */
void entry_remove(struct registry *r, uint64_t id);
void registry_save(struct registry *r);
bool entry_from_above(const struct registry *r, const struct entry *e);
/* Of everything that travels: what repair compares. */
uint64_t entry_hash(const struct entry *e);

/* taskio.c */
/* state: also what only this agent knows. */
void entry_write(struct json_out *o, const char *name, const struct entry *e,
		 bool state);
/* 0 or -EINVAL; *left_ms as for entry_add(). */
int entry_parse(const struct json *v, struct entry *out, uint64_t *left_ms,
		bool state);

/* taskops.c */
void entry_put_monitor(struct registry *r, struct entry *e);
/* Body of a put; evict: sketches that make room for it. */
void entry_write_put(struct buf *b, const struct entry *e,
		     const uint64_t *evict, unsigned n_evict);
void ops_free(struct registry *r);

/* repair.c */
void repairs_free(struct registry *r);

#endif
