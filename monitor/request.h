/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the agent's requests mean.  Some are answered at once; those that need
 * the readers or the rules wait for them, for a bounded time.
 */
#ifndef LINNET_REQUEST_H
#define LINNET_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "monitor/control.h"
#include "monitor/reader.h"

struct supervisor;

/* One that waits; a client has one at most. */
struct request {
	struct supervisor *supervisor;
	struct control_client *client; /* NULL: not in use */
	union control_message m;       /* becomes the reply */
	uint64_t seq;                  /* of the readers' answers */
	uint32_t readers;              /* whose answers are missing, as bits */
	bool rules;                    /* waits for the rules too */
	bool looked;                   /* at the rules, since it came */
	uint64_t anew;                 /* of the requests, at its start */
	struct ctl_volume received;    /* sum of the answers */
	int status;                    /* worst of the answers */
	int fds[CTL_READERS];
	uint32_t n_fds;
	struct loop_timer timer;
};

struct requests {
	uint64_t seq;
	uint64_t anew; /* how often all tasks began anew */
	struct request request[CTL_CLIENTS];
};

extern const struct control_ops request_ops; /* arg: the supervisor */

void requests_init(struct supervisor *s);
/* Closes descriptors, answers nobody. */
void requests_fini(struct supervisor *s);
/* An answer of a reader; takes fd. */
void requests_answer(struct supervisor *s, uint32_t reader,
		     const struct reader_answer *a, int fd);
/* That reader will not answer any more. */
void requests_reader_gone(struct supervisor *s, uint32_t reader);
/* There was a hole in what is counted: all tasks begin anew, after it. */
void requests_begin_anew(struct supervisor *s);
/* The rules came to rest. */
void requests_rules_done(struct supervisor *s);

#endif
