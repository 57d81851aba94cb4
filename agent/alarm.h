/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Alarms of tasks: more in a window than a limit, in the subtree of whoever is
 * asked.  While there is not, agents are silent but for their beats.
 */
#ifndef LINNET_ALARM_H
#define LINNET_ALARM_H

#include "agent/http.h"

struct agent;
struct alarms;

int alarms_open(struct alarms **out, struct agent *a); /* or -ENOMEM */
void alarms_free(struct alarms *all);
/* Once a second; NULL: not open yet. */
void alarms_tick(struct alarms *all);

/* POST /api/v1/peer/alarm, GET /api/v1/tasks/ID/alarm. */
extern const struct http_route alarm_routes[];
extern const size_t alarm_n_routes;

#endif
