/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of tasks that clients ask for.  Each is told its outcome once, never
 * from inside the call, with the coverage of hosts that hold it.  NULL: no
 * memory, and nothing is told.
 */
#ifndef LINNET_TASKOPS_H
#define LINNET_TASKOPS_H

#include "agent/registry.h"

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
/*
 * The same of a task that says its id and generation: for who has it and wants
 * it to be there.  What is there already changes nothing; ERR_CONFLICT: with
 * another content, a later generation, or it is the parent's.  A later
 * generation replaces what is there, also if no host confirms it yet.
 */
struct registry_op *
registry_put(struct agent *a, const struct task *t, uint32_t budget_ms,
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
 * Configures again what is there: only the default threshold (< 0: not even
 * that) and the params (NULL: nor those) change, of this host alone if
 * host_only.  Goes to the monitor and the subtree as at first; done as above.
 * If no host holds it, nothing changes and e->code is ERR_NO_HOST.  NULL: no
 * such task, no memory.
 */
struct registry_op *
registry_retune(struct agent *a, uint64_t id, double threshold,
		const char *params, bool host_only, uint32_t budget_ms,
		void (*done)(void *arg, const struct error *e,
			     const struct task *t, const struct coverage *c),
		void *arg);

#endif
