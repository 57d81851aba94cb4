/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader processes: started, spoken to, watched, ended. */
#ifndef LINNET_CREW_H
#define LINNET_CREW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/ctl.h"
#include "common/loop.h"
#include "monitor/meter.h"
#include "monitor/reader.h"

struct crew;

struct crew_reader {
	struct crew *crew;
	uint32_t number;
	pid_t pid; /* 0: none */
	int sock;
	struct loop_io io;
	bool bound;                     /* receives packets, answers */
	bool killed;                    /* by us, for cause */
	uint64_t incarnation, since_ms; /* its start, or the end of its sock */
	/* when its packets were first seen to wait; 0: they do not */
	uint64_t verdicts, matched, waiting_ms;
};

struct crew_ops {
	void (*bound)(void *arg, struct crew_reader *r);
	/* An answer; fd is the callee's, or -1. */
	void (*answer)(void *arg, struct crew_reader *r,
		       const struct reader_answer *a, int fd);
	/* It is gone, with what it counted; status as of waitpid(). */
	void (*ended)(void *arg, struct crew_reader *r, int status);
};

struct crew {
	struct loop *loop;
	const struct capture_config *capture;
	struct meter *meter;
	const struct crew_ops *ops;
	void *arg;
	uint32_t n;
	struct crew_reader reader[CTL_READERS];
	struct ctl_volume lost[PACKET_DIRS]; /* received by readers now gone */
	uint64_t protected_lost;
	uint64_t watched_ms, patient_until_ms;
	uint64_t asks; /* number of the last */
};

void crew_init(struct crew *c, struct loop *loop,
	       const struct capture_config *capture, struct meter *meter,
	       uint32_t n, const struct crew_ops *ops, void *arg);
/* Kills and waits for what is left. */
void crew_fini(struct crew *c);
/* Forks reader i, which is not there.  0 or -errno. */
int crew_start(struct crew *c, uint32_t i);
/* Readers that are bound, as bits and as a number. */
uint32_t crew_bound(const struct crew *c);
uint32_t crew_count(const struct crew *c);
/* Sends to all bound readers; returns those it reached, as bits. */
uint32_t crew_broadcast(struct crew *c, const struct reader_request *q);
bool crew_send(struct crew_reader *r, const struct reader_request *q);
/* A child ended: true if it was a reader. */
bool crew_child(struct crew *c, pid_t pid, int status);
/*
 * Every CREW_WATCH_MS: kills readers without progress.  matched: packets that
 * rules sent to the readers so far.
 */
#define CREW_WATCH_MS 100
void crew_watch(struct crew *c, uint64_t matched);
/* True if every reader signed the page lately. */
bool crew_healthy(const struct crew *c);
/* Lets the readers finish and end; true: there are none. */
bool crew_dismiss(struct crew *c);
/* Asks the readers to say when what waits now is received. */
void crew_ask(struct crew *c);
/* True if they all did; what they had received then, gone ones included. */
bool crew_passed(const struct crew *c, struct ctl_volume out[PACKET_DIRS]);
/* What all readers received since the start, gone ones included. */
struct ctl_volume crew_received(const struct crew *c, enum packet_dir dir);

#endif
