/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of /api/v1 share: one context per request, envelopes. */
#ifndef LINNET_V1_H
#define LINNET_V1_H

#include <stdint.h>

#include "agent/agent.h"
#include "agent/answer.h"
#include "agent/fields.h"
#include "agent/http.h"
#include "agent/json.h"

struct v1_call {
	struct agent *agent;
	struct http_request *rq;
	struct fields f;
	struct form form; /* the query string, decoded */
	uint64_t task;
	struct walk_scope scope; /* of a new task */
	uint32_t offset, n_page; /* page of a list: first item, items */
	uint64_t total;          /* items of the whole list */
	uint32_t list; /* which one a cursor goes on in; 0: made for each page */
};

/*
 * New context with the query string decoded; repeat: parameter that may come
 * several times, or NULL.  NULL: the refusal was sent.
 */
struct v1_call *v1_call_new(void *ctx, struct http_request *rq, uint64_t takes,
			    const char *repeat);
/* Sends a problem and ends the call. */
void v1_error(struct v1_call *c, enum error_code code, const char *field,
	      const char *detail);
void v1_refuse(struct v1_call *c, const struct error *e); /* the same */
void v1_send(struct v1_call *c, struct http_reply *r);    /* ends the call */
/* Each member of the object that is none of these is an error. */
void v1_members_known(const struct json *obj, const char *const *names,
		      struct error *e);
/*
 * The request's body as an object with these members (NULL-ended) and no
 * others.  0 with *out to be freed, or -EINVAL with *e set; else *e is ERR_NONE.
 */
int v1_body(const struct http_request *rq, const char *const *names,
	    struct json **out, struct error *e);
/* 200 {"data": …, "meta": {…}}: opened here, closed and sent below. */
void v1_begin(struct http_reply *r, struct json_out *o, int status);
/* meta with request id and, for lists, next_cursor. */
void v1_end(struct v1_call *c, struct http_reply *r, struct json_out *o);
/* Reads limit and cursor: which items of total to write. */
void v1_page(struct v1_call *c, uint64_t total);
void v1_put_cursor(const struct v1_call *c, struct json_out *o);
/* v1_call_new() for lists, with limit and cursor. */
struct v1_call *v1_list_call(void *ctx, struct http_request *rq, uint64_t takes,
			     const char *repeat);
/* The task that the path names; NULL: the problem is sent. */
const struct task *v1_task(struct v1_call *c);
/* Milliseconds that a query of this call may take. */
uint32_t v1_budget(const struct v1_call *c);
/* Without the port where it is 8000. */
void v1_put_host(struct json_out *o, const char *name,
		 const struct endpoint *ep);
/* Null for zero: not known. */
void v1_put_node(struct json_out *o, const char *name,
		 const struct node_id *id);
/* RFC 3339, or null for 0. */
void v1_put_time(struct json_out *o, const char *name, uint64_t wall_ms);
void v1_put_coverage(struct json_out *o, const struct coverage_report *rep);
/* Sends an answer that has a part; ends the call. */
void v1_answer_send(struct v1_call *c, const struct answer *an);
/* Is it about the last second, and so never about a window? */
bool v1_answer_sliding(enum ask_kind kind);

#endif
