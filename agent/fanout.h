/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The same request to all children at once, under one budget: changes of
 * tasks, rosters, what MSNM asks.  Questions go the same way (query.c).
 */
#ifndef LINNET_FANOUT_H
#define LINNET_FANOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/coverage.h"
#include "agent/errors.h"
#include "agent/http.h"
#include "agent/json.h"

struct agent;

struct fanout_request {
	enum http_method method;
	const char *path;
	const char *body; /* JSON or NULL; copied */
	size_t len;
	size_t reply_max;
	uint32_t budget_ms;
	const char *request_id; /* or "" */
	/* only children that our parent knows of: it may not count others */
	bool for_parent;
	const struct node_id *only; /* this child alone, or NULL; borrowed */
};

struct fanout_child {
	struct node_id id;
	struct endpoint ep;
	uint32_t hosts; /* most it may speak of */
};

struct fanout;
/*
 * reply is called for each child, with the object it sent or the reason why
 * there is none; done once, after the last or when the time is over.  Neither
 * from inside this call, and nothing comes after done.  NULL: no memory.
 */
struct fanout *
fanout_start(struct agent *a, const struct fanout_request *rq,
	     void (*reply)(void *arg, const struct fanout_child *c,
			   const struct json *v, enum missing_reason why),
	     void (*done)(void *arg), void *arg);
void fanout_free(struct fanout *f); /* also ends it early; NULL is fine */

/* What is left of a request that the parent spread: it is under the lease, and
 * its time is not malformed; at least 1 ms, and as much as a question has where
 * it tells none.  ERR_NONE, ERR_MOVED, ERR_VALUE. */
enum error_code fanout_budget(const struct agent *a,
			      const struct http_request *rq, uint32_t *out_ms);

/* Why an answer of a child was not used: one line, said by name. */
void fanout_rejected(const struct fanout_child *c, const char *why);

#endif
