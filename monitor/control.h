/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: who may speak, how often, and whether what they say is
 * a request at all.  What requests mean is decided elsewhere.
 */
#ifndef LINNET_CONTROL_H
#define LINNET_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/ctl.h"
#include "common/loop.h"

union control_message {
	struct ctl_head head;
	struct ctl_hello hello;
	struct ctl_task_put put;
	struct ctl_task_del del;
	struct ctl_task_list list;
	struct ctl_task_read read;
	struct ctl_window_read window;
	struct ctl_stats stats;
	uint8_t bytes[CTL_MAX_BYTES];
};

struct control_client {
	struct control *control;
	struct loop_io io;
	int fd;    /* -1: free */
	bool busy; /* a request is being answered */
	uint32_t tokens;
	uint64_t refilled_ms;
	uint32_t number; /* 0 .. CTL_CLIENTS - 1 */
};

struct control_ops {
	/*
	 * A request: to be answered by control_reply(), now or later; until
	 * then the client is not read.  m is the callee's to write into.
	 */
	void (*request)(void *arg, struct control_client *c,
			union control_message *m);
	/* The client left while its request was being answered. */
	void (*gone)(void *arg, struct control_client *c);
};

struct control {
	struct loop *loop;
	const struct control_ops *ops;
	void *arg;
	uid_t agent_uid;
	int fd;
	struct loop_io io;
	struct control_client client[CTL_CLIENTS];
	uint64_t bad_requests; /* and refused clients */
};

/*
 * Takes the instance's name for this process.  0; -EADDRINUSE: another process
 * has it; -errno.
 */
int control_bind(struct control *c, const char *instance);
/* Begins to accept root and agent_uid.  0 or -errno. */
int control_listen(struct control *c, struct loop *loop, uid_t agent_uid,
		   const struct control_ops *ops, void *arg);
void control_fini(struct control *c);

/*
 * Checks len bytes from a client, copies them to out, the rest zero.  0;
 * -EINVAL: to be answered with that; -EPROTO: the connection must go.
 */
int control_parse(union control_message *out, const void *data, size_t len);

/*
 * Sends the reply m: head.status and, if that is 0, head.len are the caller's;
 * n descriptors go with it and stay the caller's.
 */
void control_reply(struct control_client *c, union control_message *m,
		   const int *fds, uint32_t n);

#endif
