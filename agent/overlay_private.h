/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by overlay.c, rows.c, beat.c (children), adopt.c (the parent). */
#ifndef LINNET_OVERLAY_PRIVATE_H
#define LINNET_OVERLAY_PRIVATE_H

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/tree/epoch.h"

#define BEAT_MS       1000
#define BEAT_LIMIT_MS 500
#define PARENT_MS     3000 /* without a beat: a root again */
#define ROWS_MAX      65536
#define ROWS_PAGE     4096

/* A row as it travels: a member, and whether its parent hears it. */
struct row {
	struct host_row m;
	bool up;
};

struct branch {
	struct child pub;
	struct overlay *o;
	struct peer_call *call; /* hello, invite or beat */
	struct peer_call *side; /* its rows, or the members for it */
	struct loop_timer timer;
	uint64_t sent_ms;           /* monotonic, of the call */
	uint64_t seq, t1_ms;        /* of the last beat, wall clock */
	double offset_ms, error_ms; /* of its clock against ours */
	uint32_t retry_ms;
	unsigned failures;
	bool fresh;   /* the next beat goes over a new connection */
	bool invited; /* it took our lease */
	bool by_hand; /* added by a client: in the state file */
	uint8_t nonce[16];
	/* below it, its own row first; rows_hash as it gave with them */
	struct row *rows, *page;
	uint32_t n_rows, n_page;
	uint64_t rows_hash, rows_said, members_said;
	struct adding *adding; /* somebody waits for what it says */
};

/* A client that waits for the outcome of adding a child. */
struct adding {
	struct adding *next;
	struct overlay *o;
	struct branch *b; /* NULL once it is settled */
	struct error e;   /* ERR_NONE: it is a child */
	bool created;
	struct loop_timer timer;
	void (*done)(void *arg, const struct error *e, bool created);
	void *arg;
};

struct overlay {
	struct agent *agent;
	struct node_id self;
	uint64_t incarnation;
	struct epoch epoch;
	uint64_t leases; /* given so far */

	struct endpoint parent;
	struct node_id parent_id;
	char lease[EPOCH_TEXT];
	struct loop_timer parent_timer;
	double offset_ms, error_ms; /* of this clock against the root's */
	struct node_id path[OVERLAY_HOPS];
	unsigned n_path; /* 0: a root */

	struct branch *child[OVERLAY_CHILDREN];
	unsigned n_children;

	struct host_row *rows; /* of the subtree, made when asked for */
	bool *rows_up;
	uint32_t n_rows;
	uint64_t rows_hash, ids_hash, members_hash;
	bool dirty;

	struct host_row *members; /* as the root announced them */
	uint32_t n_members;
	uint64_t members_told;

	struct adding *adding;
};

/* overlay.c */
struct branch *branch_new(struct overlay *o, const struct endpoint *ep);
void branch_drop(struct branch *b); /* out of the list, freed */
/* Where others reach this agent; false: only they can tell. */
bool overlay_address(const struct overlay *o, struct endpoint *out);
struct endpoint overlay_endpoint(const struct overlay *o);
void overlay_save(struct overlay *o);
uint64_t node_id_head(const struct node_id *id);
/* Proof of identity for a nonce; false without a token. */
bool overlay_proof(const struct overlay *o, const uint8_t nonce[16],
		   const struct node_id *id, const struct endpoint *asked,
		   uint8_t out[32]);
void put_id(struct json_out *o, const char *name, const struct node_id *id);
int get_id(const struct json *v, struct node_id *out);
void put_hash(struct json_out *o, const char *name, uint64_t v);
int get_hash(const struct json *v, uint64_t *out);

/* Ends the waiting for b; why NULL: it is in. */
void adding_settle(struct branch *b, const char *why);

/* rows.c */
void overlay_rows_update(struct overlay *o);
/* Hash of what is announced down: the root's, or what it told us. */
uint64_t overlay_members_hash(const struct overlay *o);

/* beat.c */
void branch_step(void *arg); /* its next message */
void branch_start(struct branch *b, uint64_t delay_ms);
/* Ids from the root to this agent, itself included. */
void put_path(struct json_out *o, const struct overlay *ov);

/* adopt.c */
void overlay_detach(struct overlay *o, const char *why);

#endif
