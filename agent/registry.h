/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tasks of this agent: those asked for here and those its parent put.
 * Kept in the state directory; put to the monitor and to every child; put and
 * delete are idempotent.  Legacy sketches and their aliases live here too.
 */
#ifndef LINNET_REGISTRY_H
#define LINNET_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/coverage.h"
#include "agent/errors.h"
#include "agent/http.h"
#include "agent/tree/message.h"
#include "common/task.h"

struct agent;
struct registry;

enum task_origin {
	ORIGIN_V1,
	ORIGIN_LEGACY
};

#define REGISTRY_SKETCHES 32
#define REGISTRY_COUNTERS 8 /* of one sketch */
#define TASK_PARAMS_LEN   512

/*
 * A task, or a legacy sketch that holds counters: a sketch is a row with
 * is_sketch (its filter alone; never put to the monitor), its counters are
 * rows with the same sketch id.
 */
struct task {
	struct task_spec spec;
	char name[65];
	uint64_t created_ms; /* wall clock */
	uint32_t expires_s;  /* 0: never */
	enum task_origin origin;
	bool is_sketch;
	uint64_t sketch;  /* id of the legacy sketch it belongs to; 0: none */
	double threshold; /* hitter_threshold of a counter; not content */
	struct node_id owner; /* of its block; zero: the root, whoever it is */
	char params[TASK_PARAMS_LEN]; /* of MSNM; standing queries; not content */
	/* below: this agent's own, never sent */
	uint64_t alias;     /* sketch_id here, for is_sketch rows */
	uint64_t order;     /* rises with each (re)configuration here */
	uint64_t named_ms;  /* monotonic: last request that named it */
	int monitor_status; /* of the last put: 0, -errno; 1: not answered */
	bool has_here;      /* scope=host gave it another threshold here */
	double threshold_here;
};
/* hitter_threshold of a counter, as this agent applies it. */
double task_threshold(const struct task *t);

int registry_open(struct registry **out, struct agent *a); /* loads state */
void registry_free(struct registry *r);
bool registry_persisted(const struct registry *r);

unsigned registry_count(const struct registry *r); /* rows but sketches */
const struct task *registry_at(const struct registry *r, unsigned i);
unsigned registry_rows(const struct registry *r); /* for registry_at() */
const struct task *registry_find(const struct registry *r, uint64_t id);
/* Legacy sketch by its alias here; NULL. */
const struct task *registry_sketch(const struct registry *r, uint64_t alias);
/*
 * Counter of a sketch: by key type and increment; increment INCREMENTS: the
 * one of that key type configured last.  NULL.
 */
const struct task *registry_counter(const struct registry *r, uint64_t sketch,
				    enum key_type key, enum increment inc);
/* Plain legacy counter with exactly this filter; NULL. */
const struct task *registry_plain(const struct registry *r,
				  const struct filter *f);
/* A request named this task or sketch: for the 60-s rule of old scripts. */
void registry_touch(struct registry *r, uint64_t id);

/*
 * The task of MSNM in force: the youngest from above, else of here, of those
 * that a host holds; NULL.
 */
const struct task *registry_msnm(const struct registry *r);
/* It is of this host alone. */
bool registry_is_local(const struct registry *r, uint64_t id);
/* It was put by the parent of this agent. */
bool registry_from_above(const struct registry *r, const struct task *t);

/* Of a task's content, for asks. */
uint64_t task_hash(const struct task_spec *t);
/* The members of a filter; peer: in numbers, as agents exchange it. */
void task_put_filter(struct json_out *o, const struct filter *f, bool peer);
/* Blocks as beats tell them: ours, and a child's or (NULL) the parent's. */
unsigned registry_blocks(const struct agent *a,
			 struct tree_block out[TREE_LEVELS_MAX]);
void registry_blocks_heard(struct agent *a, const struct node_id *child,
			   const struct tree_block *row, unsigned n);
/* The root or the path above changed. */
void registry_place(struct agent *a);
/* Its tasks were put in place of others that members held. */
bool registry_superseded(const struct registry *r);
/* The monitor is back: puts every task to it again. */
void registry_replay(struct agent *a);

/* PUT, DELETE, GET /api/v1/peer/tasks… */
extern const struct http_route registry_routes[];
extern const size_t registry_n_routes;

#endif
