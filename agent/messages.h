/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The message table: every question and order a client may send, once.  The
 * legacy form (POST /) and the resources of /api/v1 are two ways to reach the
 * same rows.
 */
#ifndef LINNET_MESSAGES_H
#define LINNET_MESSAGES_H

#include <stddef.h>

#include "agent/http.h"

struct coverage_report;
/* The headers of a reply of scope tree. */
void message_put_coverage(struct http_reply *r,
			  const struct coverage_report *rep);

/* POST /, GET /: the legacy form. */
extern const struct http_route message_routes[];
extern const size_t message_n_routes;
/* /api/v1/tasks, and the answers of a task. */
extern const struct http_route v1_routes[];
extern const size_t v1_n_routes;
extern const struct http_route answer_routes[];
extern const size_t answer_n_routes;
/* The rest of /api/v1, /livez, /readyz. */
extern const struct http_route resource_routes[];
extern const size_t resource_n_routes;
extern const struct http_route overlay_api_routes[];
extern const size_t overlay_api_n_routes;

#endif
