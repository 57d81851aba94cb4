/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the modules of the agent share: one of each, made by main.c. */
#ifndef LINNET_AGENT_H
#define LINNET_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/conf.h"
#include "common/loop.h"

struct agent {
	const struct conf *conf;
	struct loop *loop;
	struct auth *auth;
	struct http *http;
	struct peers *peers;
	struct overlay *overlay;
	struct registry *registry;
	struct monlink *monlink;
	struct queries *queries;
	struct kept *kept;
	struct standing *standing;
	struct alarms *alarms;
	struct rosters *rosters;
	struct probes *probes;
	struct msnm *msnm;   /* NULL: built without */
	uint64_t started_ms; /* wall clock */
	bool stopping;
};

/* queries of query.c */
int queries_open(struct queries **out, struct agent *a);
void queries_free(struct queries *all);

#endif
