/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of POST / share: messages.c has the table, replies and the
 * short rows, messages_sketch.c what is about sketches and counters.
 */
#ifndef LINNET_MESSAGES_PRIVATE_H
#define LINNET_MESSAGES_PRIVATE_H

#include <stdint.h>

#include "agent/answer.h"
#include "agent/fields.h"
#include "agent/messages.h"

struct message;

/* From the request to its one reply, which frees it. */
struct call {
	struct agent *agent;
	struct http_request *rq;
	const struct message *row;
	struct fields f;
	uint32_t budget_ms;
	struct walk_scope scope; /* of a configuration */
};

/* ---- messages.c ---- */

void call_error(struct call *c, enum error_code code, const char *field,
		const char *detail);
/* Reply with what is known of the coverage; nobody answered: 503. */
void call_reply(struct call *c, struct http_reply *r,
		const struct coverage_report *rep);

/* ---- messages_sketch.c ---- */

void message_config_sketch(struct call *c);
void message_config_sketch_counter(struct call *c);
void message_config_counter(struct call *c);
void message_query_sketch(struct call *c);
void message_query_hitters(struct call *c);
void message_query_realtime(struct call *c);
void message_query_counter(struct call *c);

#endif
