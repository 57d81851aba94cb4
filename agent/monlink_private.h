/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the link to the monitor share: monlink.c has the
 * connection, monlink_request.c the requests that wait for it.
 */
#ifndef LINNET_MONLINK_PRIVATE_H
#define LINNET_MONLINK_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/monlink.h"
#include "common/ctl.h"
#include "common/loop.h"

struct request {
	struct request *next;
	struct monlink *link;
	struct monlink_op *ops;
	struct loop_timer timeout;
	bool sent;
	union {
		struct ctl_head head;
		struct ctl_hello hello;
		struct ctl_task_put put;
		struct ctl_task_del del;
		struct ctl_task_list list;
		struct ctl_task_read read;
		struct ctl_window_read window;
		struct ctl_stats stats;
	};
};

struct monlink {
	struct agent *agent;
	uid_t monitor_uid;
	bool has_uid, warned;
	struct loop_io io;
	struct loop_timer retry, pace;
	enum monlink_state state;
	struct request *requests; /* oldest first */
	uint32_t seq;
	unsigned tokens;
	uint64_t refilled_ms;
	struct ctl_hello hello;
	struct ctl_stats stats;
};

/* ---- monlink.c ---- */

/* The connection is given up; requests end, from the loop. */
void monlink_down(struct monlink *m);

/* ---- monlink_request.c ---- */

/* NULL: no memory. */
struct request *request_new(struct monlink *m, enum ctl_type type, size_t len);
/* Tells all who wait for it; w: what came, or NULL.  It is gone after this. */
void request_finish(struct request *r, int status,
		    const struct monlink_window *w);
/* All of them end at the next turn of the loop. */
void requests_expire(struct monlink *m);
/* Nobody is told. */
void requests_free(struct monlink *m);
/* The bucket is full again. */
void requests_refill(struct monlink *m);
/* Sends what may be sent now, and comes back for the rest. */
void requests_pump(struct monlink *m);

#endif
