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
	struct node_id owner;         /* agent that was asked for it */
	char params[TASK_PARAMS_LEN]; /* of MSNM; not content */
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
 * Creates the task here: chooses id, generation, seed, owner, alias, and the
 * longest-unused legacy sketches that make room where that is allowed; or
 * refuses with *e (ERR_LIMIT) and changes nothing.  Then puts it to the
 * monitor and the subtree; done gets the coverage of hosts that hold it.  Old
 * sketches go when the first host holds it.  With none the task is removed
 * again, they stay, and e->code is ERR_NO_HOST.
 */
struct registry_op;
struct registry_op *
registry_create(struct agent *a, const struct task *t, bool host_only,
		uint32_t budget_ms,
		void (*done)(void *arg, const struct error *e,
			     const struct task *t, const struct coverage *c),
		void *arg);
/* Removes it here and below; done as above (t NULL). */
struct registry_op *
registry_delete(struct agent *a, uint64_t id, uint32_t budget_ms,
		void (*done)(void *arg, const struct error *e,
			     const struct task *t, const struct coverage *c),
		void *arg);
void registry_cancel(struct registry_op *op);
/*
 * Configures again what is there: only the default threshold changes (< 0: not
 * even that), here alone if host_only.  Goes to the monitor and the subtree as
 * at first; done as above.  If no host holds it, nothing changes and e->code is
 * ERR_NO_HOST.  NULL: no such task, no memory.
 */
struct registry_op *registry_set_threshold(
	struct agent *a, uint64_t id, double threshold, bool host_only,
	uint32_t budget_ms,
	void (*done)(void *arg, const struct error *e, const struct task *t,
		     const struct coverage *c),
	void *arg);

/*
 * The same of a task's params, which then are those of every host (host_only:
 * of this one).
 */
struct registry_op *registry_set_params(
	struct agent *a, uint64_t id, const char *params, bool host_only,
	uint32_t budget_ms,
	void (*done)(void *arg, const struct error *e, const struct task *t,
		     const struct coverage *c),
	void *arg);
/*
 * The task of MSNM in force: the youngest from above, else of here, of those
 * that a host holds; NULL.
 */
const struct task *registry_msnm(const struct registry *r);
/* It is of this host alone. */
bool registry_is_local(const struct registry *r, uint64_t id);
/* It was put by the parent of this agent. */
bool registry_from_above(const struct registry *r, const struct task *t);

/* Hash of all tasks, for beats; hash of one task's content, for asks. */
uint64_t registry_hash(const struct registry *r);
/* The same of those that came from above: what a parent compares. */
uint64_t registry_hash_from_above(const struct registry *r);
uint64_t task_hash(const struct task_spec *t);
/* The members of a filter; peer: in numbers, as agents exchange it. */
void task_put_filter(struct json_out *o, const struct filter *f, bool peer);
/* A child came, came back or differs: puts what it lacks, deletes the rest. */
void registry_repair_child(struct agent *a, const struct node_id *child);
/* The monitor is back: puts every task to it again. */
void registry_replay(struct agent *a);

/* PUT, DELETE, GET /api/v1/peer/tasks… */
extern const struct http_route registry_routes[];
extern const size_t registry_n_routes;

#endif
