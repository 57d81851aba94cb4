/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the sum of a window over a limit?  Judged by what few children say: who is
 * silent and alive has at most its share, and a share is proportional to hosts.
 */
#ifndef LINNET_TREE_ALARM_H
#define LINNET_TREE_ALARM_H

#include <stdbool.h>
#include <stdint.h>

enum alarm_verdict {
	ALARM_WAIT,  /* for the last of the silent to be heard */
	ALARM_QUIET, /* all together have at most the limit */
	ALARM_OVER,  /* some together have more */
	ALARM_ASK,   /* may be either: the silent must be asked */
	ALARM_BLIND  /* somebody is neither silent nor says it */
};

struct alarm_child {
	uint64_t share; /* the silent has at most so much */
	bool said;
	bool sure, blind; /* of most; it will not be any more */
	uint64_t least, most;
	/* it is its parent's since before the window's end, and was heard after
	 * it must have spoken */
	bool heard;
};

struct alarm_case {
	uint64_t limit, own;
	bool own_known;
	bool lost; /* some are below none of the children, or may be */
	bool late; /* nobody is waited for any more */
	unsigned n;
	const struct alarm_child *child;
};

/* What the sum is at least, and, if that is sure, at most. */
struct alarm_sum {
	uint64_t least, most;
	bool sure;
};
enum alarm_verdict alarm_judge(const struct alarm_case *c,
			       struct alarm_sum *out);
/* The share of hosts among all, rounded down: shares add up to no more. */
uint64_t alarm_share(uint64_t limit, uint32_t hosts, uint32_t all);
/* After a window's end: who has not spoken until then is silent. */
uint64_t alarm_settle_ms(uint32_t height);

#endif
