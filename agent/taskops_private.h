/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A change on its way: taskops.c for who makes changes. */
#ifndef LINNET_TASKOPS_PRIVATE_H
#define LINNET_TASKOPS_PRIVATE_H

#include "agent/registry_private.h"
#include "agent/taskops.h"

/* A change on its way, with the coverage of hosts that hold it. */
struct registry_op {
	struct registry_op *next;
	struct registry *registry;
	uint64_t id;
	struct tree_block block; /* as the change is passed on */
	bool asked;              /* by a client: an error if no host holds it */
	bool made;               /* here, now: goes again if no host holds it */
	bool local_in, children_in;
	int local_status;
	struct monlink_op *put;
	struct fanout *children;
	struct loop_timer now;
	struct coverage coverage;
	struct error error;
	bool held;  /* by a first host */
	bool again; /* the monitor got a second put, after it was told to
		     * delete what goes */
	uint64_t evict[2 * REGISTRY_EVICT]; /* chosen above, and here */
	unsigned n_evict;
	bool retune, here; /* threshold: of the task, or of this host alone */
	double threshold;  /* < 0: as it is */
	char params[TASK_PARAMS_LEN]; /* "": as they are */
	struct http_request *rq;      /* of the parent, or NULL */
	void (*done)(void *arg, const struct error *e, const struct task *t,
		     const struct coverage *c);
	void *arg;
};

struct registry_op *op_new(struct registry *r, uint64_t id,
			   void (*done)(void *arg, const struct error *e,
					const struct task *t,
					const struct coverage *c),
			   void *arg);
void op_free(struct registry_op *op);
/* These go once a host holds what op puts; above: only what came from there. */
void op_evicts(struct registry_op *op, const uint64_t *id, unsigned n,
	       bool above);
/* This host has done it, or why not. */
void op_local(struct registry_op *op, enum missing_reason r);
/* The same to all children; 0 or -ENOMEM. */
int op_fan_out(struct registry_op *op, enum http_method method,
	       const struct buf *body, uint32_t budget_ms);
/* What blocks, and so the children, were told is as it was. */
void op_undo(struct registry_op *op, const struct entry *e);
/* Ends with the loop's next turn, if the children have answered too. */
int op_local_later(struct registry_op *op);
/* Puts it to the monitor and the children; 0 or -ENOMEM. */
int op_spread(struct registry_op *op, struct entry *e, uint32_t budget_ms);

#endif
