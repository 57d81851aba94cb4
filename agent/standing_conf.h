/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which questions about a task's windows are asked without a client: as clients
 * would write them, "totals top?n=20 distinct".
 */
#ifndef LINNET_STANDING_CONF_H
#define LINNET_STANDING_CONF_H

#include "agent/query.h"
#include "agent/registry.h"

#define STANDING_ASKS      3 /* each question once */
#define STANDING_WINDOW_MS 1000
#define STANDING_ASK_ALLOWED                                              \
	"totals, distinct, top?n=N&threshold=X&base=tree|host, "          \
	"alarm?over=N, each once, of a task with windows of 1 s or more " \
	"and what they need"

struct standing_ask {
	enum ask_kind kind;
	double share;
	bool base_tree;
	uint32_t n_top;
};

/* "alarm?over=LIMIT&hosts=N": more than LIMIT in a window on N hosts. */
struct standing_alarm {
	uint64_t limit; /* 0: none */
	uint32_t hosts; /* 0: not said */
};

struct standing_conf {
	struct standing_alarm alarm;
	unsigned n;
	struct standing_ask ask[STANDING_ASKS];
};

/* Of an alarm that says no hosts: these; too long a text stays as it is. */
void standing_conf_hosts(char text[TASK_PARAMS_LEN], uint32_t hosts);
/* Separated by blanks; 0 or -EINVAL.  An empty text is none. */
int standing_conf_parse(const char *text, const struct task_spec *t,
			struct standing_conf *out);

/* Of a task whose windows all hosts below this one have, too; else false. */
bool standing_conf_of(const struct registry *r, const struct task *t,
		      struct standing_conf *out);

#endif
