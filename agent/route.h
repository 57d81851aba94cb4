/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which row of the routes a path means. */
#ifndef LINNET_ROUTE_H
#define LINNET_ROUTE_H

#include <stddef.h>

#include "agent/http.h"

/* "GET" -> HTTP_GET; 0: a method we do not know. */
enum http_method method_parse(const char *s);
/* "GET, POST" of these bits, as Allow has it. */
void method_list(unsigned methods, char out[48]);

/*
 * First row that matches path and method; rq->segment filled, each %XX
 * decoded.  NULL: none; *allowed: methods of the rows that match the path.
 */
const struct http_route *route_find(const struct http_route *rows, size_t n,
				    enum http_method method, const char *path,
				    struct http_request *rq, unsigned *allowed);
/* Is it under /api/v1/peer? */
bool route_between_agents(const struct http_route *route);

#endif
