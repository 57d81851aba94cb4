/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is decided of a request before anybody reads its body: whether its
 * headers are sound, which route it means, whether the caller may, and how
 * often its address asks.  The order is part of the promise: what a page of
 * another site may have sent is refused before anything is looked up, and
 * nothing but its token makes a neighbour of whoever is at its address.
 *
 * Owns nothing but the rates; knows no library.
 */
#include <stdio.h>
#include <string.h>

#include "agent/http_private.h"
#include "agent/route.h"
#include "common/util.h"

#define REQUESTS_ADDR 200 /* a second */
#define AUTH_RETRY_S  "60"

static bool request_id_valid(const char *s)
{
	size_t len = strlen(s);

	return len >= 1 && len < REQUEST_ID_LEN &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			 "0123456789-") == len;
}

void http_request_id(struct http_request *rq)
{
	const char *given = http_header(rq, "X-Request-Id");

	if (given && request_id_valid(given))
		snprintf(rq->id, sizeof(rq->id), "%s", given);
	else
		hex_u64(random_u64(), rq->id);
}

static bool of_neighbour(const struct http_config *config,
			 const struct http_request *rq,
			 const struct http_route *route)
{
	return route_between_agents(route) && config->is_neighbour &&
	       config->is_neighbour(config->ctx, &rq->client.addr);
}

/*
 * What a neighbour asks with its token is not counted: clients on its host may
 * ask as often as others.  Hello comes before the token, once a connection: it
 * has a count of its own there.
 */
static bool too_often(struct http_gate *gate, const struct http_request *rq,
		      const struct http_route *route)
{
	struct limit *rate = &gate->rate;

	if (of_neighbour(gate->config, rq, route)) {
		if (route->role == ROLE_PEER && (rq->roles & ROLE_PEER))
			return false;
		if (route->role == ROLE_NONE)
			rate = &gate->hellos;
	}
	return limit_count(rate, &rq->client.addr) > REQUESTS_ADDR;
}

/* Fits the rate and the roles of the route? */
static enum error_code check_caller(struct http_gate *gate,
				    struct http_request *rq,
				    const struct http_route *route)
{
	enum role role = route->role;
	struct auth *auth = gate->config->auth;
	enum auth_result result;

	if (gate->stopping)
		return ERR_UNAVAILABLE;
	result = auth_roles(auth, http_header(rq, "Authorization"),
			    &rq->client.addr, &rq->roles);
	if (too_often(gate, rq, route))
		return ERR_RATE;
	if (result == AUTH_OK && role != ROLE_IN_HANDLER)
		result = auth_allows(auth, rq->roles, role);
	return result == AUTH_OK          ? ERR_NONE
	       : result == AUTH_TOKEN     ? ERR_TOKEN
	       : result == AUTH_FORBIDDEN ? ERR_FORBIDDEN
					  : ERR_RATE;
}

enum error_code http_admit(struct http_gate *gate, const struct http_head *head,
			   struct http_request *rq,
			   const struct http_route **route, unsigned *allowed)
{
	const struct http_config *config = gate->config;
	const struct guard_request *first = &head->first;
	uint64_t length;
	enum error_code e;

	rq->method = first->known;
	e = guard_check_origin(&head->guard, first);
	if (e != ERR_NONE)
		return e;
	*route = route_find(config->routes, config->n_routes, first->known,
			    rq->path, rq, allowed);
	if (!*route)
		return *allowed ? ERR_METHOD : ERR_NOT_FOUND;
	rq->legacy = (*route)->legacy;
	if (head->spare && !route_between_agents(*route))
		return ERR_UNAVAILABLE;
	e = guard_check_framing(&head->guard, first, &length);
	if (e == ERR_NONE)
		e = guard_check_body(&head->guard, *route, length,
				     &rq->body_type);
	return e == ERR_NONE ? check_caller(gate, rq, *route) : e;
}

void http_refuse(struct http_request *rq, enum error_code code,
		 unsigned allowed)
{
	const char *authorization = http_header(rq, "Authorization");
	struct http_reply r;
	struct error e;
	char list[48];

	error_set(&e, code, NULL, NULL);
	http_reply_init(&r, 0, NULL);
	if (code == ERR_METHOD) {
		method_list(allowed, list);
		http_reply_header(&r, "Allow", list);
	}
	if (code == ERR_RATE && authorization && !rq->roles)
		http_reply_header(&r, "Retry-After", AUTH_RETRY_S);
	http_send_error_with(rq, &e, &r);
}
