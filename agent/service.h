/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All routes of the agent behind one HTTP server. */
#ifndef LINNET_SERVICE_H
#define LINNET_SERVICE_H

struct agent;
struct service;

/* Sets agent->http.  0 or -errno (a failed listener is logged). */
int service_open(struct service **out, struct agent *a);
void service_close(struct service *s);

#endif
