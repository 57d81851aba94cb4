/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each agent of the subtree says of itself: its version, its tasks; and
 * its parent how far it is.  Asked when somebody wants to know, so that beats
 * stay as they are.
 */
#ifndef LINNET_ROSTER_H
#define LINNET_ROSTER_H

#include "agent/coverage.h"
#include "agent/http.h"
#include "agent/tree/message.h"
#include "common/buf.h"

struct agent;
struct rosters;

#define ROSTER_AGENTS 16384 /* of more the first are told */

enum roster_same {
	ROSTER_ALONE,
	ROSTER_SAME,
	ROSTER_DIFFER
};

struct roster_agent {
	struct node_id id;
	char version[TREE_VERSION_LEN + 1]; /* "": not said */
	uint32_t tasks;
	uint64_t tasks_hash;
	enum roster_same same; /* its tasks and its parent's */
	bool has_latency;      /* its parent has seen it */
	uint32_t latency_ms;
};

struct roster {
	struct coverage coverage;
	uint32_t n;
	struct roster_agent *agent; /* heap */
};
void roster_fini(struct roster *r);

/* roster_json.c: between agents, {"agents": [...], "coverage": {...}}. */
void roster_write(const struct roster *r, struct buf *out);
/* Hostile input: 0, -EINVAL or -ENOMEM. */
int roster_read(const struct json *v, struct roster *out);

int rosters_open(struct rosters **out, struct agent *a); /* or -ENOMEM */
void rosters_free(struct rosters *all);

/* GET /api/v1/peer/agents, GET /api/v1/overlay/agents. */
extern const struct http_route roster_routes[];
extern const size_t roster_n_routes;

#endif
