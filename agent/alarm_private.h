/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by alarm.c (what is judged), alarm_api.c (what is said of it) and
 * alarm_json.c (as text).
 */
#ifndef LINNET_ALARM_PRIVATE_H
#define LINNET_ALARM_PRIVATE_H

#include "agent/alarm.h"
#include "agent/measure.h"
#include "agent/overlay.h"
#include "agent/tree/alarm.h"

/* the shortest is judged as late as the highest tree settles */
#define ALARM_WINDOWS   32
#define ALARM_VALUE_MAX ((uint64_t)1 << 63) /* more than any limit */

struct buf;
struct json;
struct peer_call;

/* What a child said of a window. */
struct alarm_said {
	struct node_id id;
	uint64_t least, most;
	bool sure, blind;
};

/* As it travels; its id does not, the lease says whose it is. */
struct alarm_message {
	uint64_t task, task_hash, window;
	struct alarm_said said;
};

struct alarm_window {
	struct alarm *alarm;
	uint64_t number; /* 0: free */
	struct ask ask;
	struct measure *read;
	bool begun, own_in, own_known;
	uint64_t own;
	enum alarm_verdict verdict;
	struct alarm_sum sum;
	bool final;                     /* no child can make it surer */
	bool asking;                    /* all hosts */
	struct coverage_report *report; /* of that; or NULL */
	struct peer_call *call;         /* tells the parent */
	bool told;                      /* it has heard of the verdict */
	bool taken;                     /* and found nothing wrong with it */
	struct alarm_sum sent;          /* by the call, and under which lease */
	bool sent_final;
	struct epoch sent_lease;
	unsigned n_said;
	struct alarm_said said[OVERLAY_CHILDREN];
};

/* A child as it was: its silence means something once it has spoken. */
struct alarm_kin {
	struct node_id id;
	struct epoch lease; /* under which it spoke */
	uint64_t first;     /* window that it spoke of under it */
	uint64_t told_ms;   /* those that ended before this are told */
	uint32_t hosts;     /* at the last window */
};

struct alarm {
	struct alarm *next;
	struct alarms *all;
	struct task_spec task;
	uint64_t limit; /* of all hosts */
	uint32_t hosts; /* that it was made for */
	uint64_t last;  /* window begun */
	uint64_t rows;  /* version of the tree's rows, and when it changed */
	uint64_t rows_ms;
	uint32_t hosts_last;
	struct epoch spoke; /* own lease when the parent heard us last */
	unsigned n_kin;
	struct alarm_kin kin[OVERLAY_CHILDREN];
	struct alarm_window window[ALARM_WINDOWS];
};

/* A question to all hosts; it outlives its alarm. */
struct alarm_run {
	struct alarm_run *next;
	struct alarms *all;
	uint64_t task, generation;
};

struct alarms {
	struct agent *agent;
	struct loop_timer timer;
	uint32_t jitter_ms;
	struct alarm *first;
	struct alarm_run *runs;
	bool unmade;          /* an alarm, without memory */
	uint64_t rejected_ms; /* last line about a message that is none */
	unsigned rejected;    /* without a line since */
	uint64_t n_heard;
};

/* alarm.c */
struct alarm *alarm_find(struct alarms *all, uint64_t task,
			 uint64_t generation);
/* Nobody above has its task: what it finds is the answer. */
bool alarm_is_top(const struct alarm *al);
/* The limit of this agent's subtree. */
uint64_t alarm_limit(const struct alarm *al);
/* A child said this of a window; 0, -ERANGE: of none that may be now, or
 * -EAGAIN: not yet. */
int alarm_heard(struct alarm *al, uint64_t window,
		const struct alarm_said *said, const struct epoch *lease);

/* alarm_json.c: what a child says, as text; 0 or -EINVAL. */
void alarm_message_write(const struct alarm_message *m, struct buf *out);
int alarm_message_read(const struct json *v, struct alarm_message *out);

/* alarm_api.c */
/* Tells the parent what became of this window, until it has heard it. */
void alarm_tell(struct alarm_window *w);

#endif
