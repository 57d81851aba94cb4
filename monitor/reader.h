/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reader process: takes packets from a capture back end and counts them for
 * the tasks, in sketches of its own.  The supervisor speaks to it over a
 * SOCK_SEQPACKET pair, one struct a message.
 */
#ifndef LINNET_READER_H
#define LINNET_READER_H

#include <stdint.h>
#include <sys/types.h>

#include "common/ctl.h"
#include "common/task.h"
#include "monitor/capture/capture.h"
#include "monitor/meter.h"

enum reader_op {
	READER_BOUND,  /* from the reader, once: it receives packets */
	READER_PUT,    /* answered when the task counts */
	READER_DEL,    /* not answered */
	READER_READ,   /* answered with a memfd, unless status is not 0 */
	READER_WINDOW, /* same, of a closed window */
};

struct reader_request {
	enum reader_op op;
	uint32_t kinds;          /* READ, WINDOW; of features: parts */
	uint64_t seq;            /* copied into the answer */
	uint64_t id, generation; /* DEL, READ, WINDOW */
	uint64_t interval;       /* WINDOW */
	struct task_spec task;   /* PUT */
};

struct reader_answer {
	enum reader_op op;
	int32_t status; /* 0 or -errno */
	uint64_t seq;
	/*
	 * PUT: received since the reader started, when the task began.
	 * READ: received since the task began.
	 */
	struct ctl_volume received;
};

struct reader_config {
	const struct capture_config *capture;
	uint32_t number;      /* of the reader */
	uint64_t incarnation; /* of the reader, in its images */
	int sock;             /* the reader's end */
	struct meter_slot *slot;
	pid_t parent;
};

/* The forked child's life; returns the exit status. */
int reader_main(const struct reader_config *c);

#endif
