/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The supervisor: owns the rules, the readers and the tasks; never holds a
 * queue.
 */
#ifndef LINNET_SUPERVISOR_H
#define LINNET_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/ctl.h"
#include "common/loop.h"
#include "monitor/capture/capture.h"
#include "monitor/control.h"
#include "monitor/crew.h"
#include "monitor/loss.h"
#include "monitor/meter.h"
#include "monitor/request.h"
#include "monitor/rules.h"
#include "monitor/tasks.h"

enum supervisor_mode {
	SUPERVISOR_RUN,
	SUPERVISOR_CHECK,
	SUPERVISOR_REMOVE
};

struct supervisor_config {
	enum supervisor_mode mode;
	struct capture_config capture;
	struct ruleset_names names;
	uid_t uid; /* what root becomes */
	gid_t gid;
	uid_t agent_uid; /* may use the control socket; 0: root alone */
	int ready_fd;    /* -1: none */
};

enum supervisor_state {
	SUPERVISOR_CLEANING, /* removes what a predecessor left */
	SUPERVISOR_BINDING,  /* readers are starting */
	SUPERVISOR_TRYING,   /* --check: puts rules and takes them back */
	SUPERVISOR_SERVING,
	SUPERVISOR_OFF,      /* gave up capturing */
	SUPERVISOR_STOPPING, /* rules first */
	SUPERVISOR_ENDING,   /* then readers */
};

#define DEATHS_MAX 4 /* within DEATHS_MS: capture goes off */

struct supervisor {
	struct supervisor_config config;
	enum supervisor_state state;
	int exit_code;
	uint64_t incarnation;
	struct loop *loop;
	struct control control;
	struct meter meter;
	struct rules_tools tools;
	struct rules *rules; /* NULL: the back end needs none */
	struct crew crew;
	struct task_table tasks;
	struct requests requests;
	struct loss loss;

	int uplink_fd;
	uint32_t watches;

	struct loop_timer watch, boundary, clean, restart, pet, deadline;
	uint64_t clean_until_ms;
	uint64_t restarts;
	uint64_t death_ms[DEATHS_MAX]; /* oldest first */
};

/* Runs until it is told to end; returns the exit status. */
int supervisor_run(const struct supervisor_config *config);

/* Takes note of the loss by window, as far as windows are over. */
void supervisor_sample_windows(struct supervisor *s);
/* For requests: makes rules follow the tasks.  0 or -errno. */
int supervisor_follow_tasks(struct supervisor *s);

#endif
