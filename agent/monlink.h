/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link to linnet-monitor on this host: one SEQPACKET connection, retried
 * for ever, requests with a time limit.  Tasks are put again whenever the
 * monitor comes back.
 */
#ifndef LINNET_MONLINK_H
#define LINNET_MONLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ctl.h"

struct agent;
struct monlink;

enum monlink_state {
	MONLINK_ABSENT,
	MONLINK_ATTACHED
};

int monlink_open(struct monlink **out, struct agent *a);
void monlink_free(struct monlink *m);
enum monlink_state monlink_state(const struct monlink *m);
/* Asks for STATS; called once a second. */
void monlink_poll(struct monlink *m);
/* What came last; zeroes while absent. */
const struct ctl_stats *monlink_stats(const struct monlink *m);
const struct ctl_hello *monlink_hello(const struct monlink *m);

/* Images of one TASK_READ, mapped; all gone after the callback. */
struct monlink_read {
	int status; /* 0, -errno of the monitor, -ETIMEDOUT, -ENOTCONN */
	enum ctl_rules rules;
	struct ctl_loss loss;
	uint32_t n_images;
	const struct ctl_image *image[CTL_READERS];
	size_t image_len[CTL_READERS];
};
struct monlink_op;
/* done is called once, never from inside this call.  NULL: no memory. */
struct monlink_op *
monlink_read(struct monlink *m, uint64_t id, uint64_t generation,
	     uint32_t kinds,
	     void (*done)(void *arg, const struct monlink_read *r), void *arg);
/*
 * One closed window of a task of kind TASK_FEATURES: as above, and what of it
 * is asked (enum ctl_window).  status: -EAGAIN: not closed yet; -ENODATA: there
 * is none (any more).  Images hold the parts as common/ctl.h says.
 */
struct monlink_window {
	struct monlink_read read; /* loss: of the window, with has_loss */
	bool has_loss;
	uint32_t readers; /* as many images there should be */
};
struct monlink_op *
monlink_window(struct monlink *m, uint64_t id, uint64_t generation,
	       uint64_t interval, uint32_t what,
	       void (*done)(void *arg, const struct monlink_window *w),
	       void *arg);
struct monlink_op *monlink_put(struct monlink *m, const struct task_spec *t,
			       void (*done)(void *arg, int status), void *arg);
struct monlink_op *monlink_del(struct monlink *m, uint64_t id,
			       void (*done)(void *arg, int status), void *arg);
void monlink_cancel(struct monlink_op *op); /* done is not called */

#endif
