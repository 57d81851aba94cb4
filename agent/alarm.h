/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Alarms of tasks: more in a window than a limit, in the subtree of whoever is
 * asked.  While there is not, agents are silent but for their beats.
 */
#ifndef LINNET_ALARM_H
#define LINNET_ALARM_H

#include "agent/coverage.h"
#include "agent/http.h"
#include "agent/tree/epoch.h"

struct agent;
struct alarms;

int alarms_open(struct alarms **out, struct agent *a); /* or -ENOMEM */
void alarms_free(struct alarms *all);
/* Once a second; NULL: not open yet. */
void alarms_tick(struct alarms *all);
/* Windows that ended before this wall clock are judged, and the parent has been
 * told what it must know of them; 0: there is no alarm.  NULL: not open yet. */
uint64_t alarms_told_ms(const struct alarms *all);
/* A child answered a beat: this is what it says of itself, under its lease. */
void alarms_beaten(struct alarms *all, const struct node_id *id,
		   const struct epoch *lease, uint64_t told_ms);
/* Messages of children that were taken on; NULL: not open yet. */
uint64_t alarms_heard(const struct alarms *all);

/* POST /api/v1/peer/alarm, GET /api/v1/tasks/ID/alarm. */
extern const struct http_route alarm_routes[];
extern const size_t alarm_n_routes;

#endif
