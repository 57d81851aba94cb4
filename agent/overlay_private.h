/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by overlay.c (making it, changes), overlay_read.c (what the rest of
 * the agent sees), overlay_send.c (the machine's messages go out),
 * overlay_serve.c (they come in), overlay_state.c (identity and addresses). The
 * machine itself is agent/tree.
 */
#ifndef LINNET_OVERLAY_PRIVATE_H
#define LINNET_OVERLAY_PRIVATE_H

#include "agent/agent.h"
#include "agent/member/member.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "agent/tree_json.h"

struct sending;
struct serving;
struct adding;

/* A timer of the machine. */
struct overlay_timer {
	struct loop_timer timer;
	struct overlay *o;
	uint32_t id;
};

struct overlay {
	struct agent *agent;
	struct tree *tree;
	const struct member_ops *ops;
	struct member *member;
	struct tree_stored stored;
	struct endpoint self;
	struct endpoint roots[TREE_ROOTS];
	unsigned n_roots;

	struct tree_conf conf;
	struct overlay_timer timer[TREE_TIMERS];
	struct sending *sending;
	struct endpoint unproven; /* the last whose proof was wrong */
	struct serving *serving;
	uint64_t beat_connection; /* that the parent's last beat came over */
	struct loop_timer closed; /* it ended */

	struct adding *adding;
	char lease[EPOCH_TEXT]; /* the text that overlay_lease() gave */
	struct child child[TREE_CHILDREN]; /* as readers see them */
	/* what the log said last of a child */
	struct told {
		struct node_id id;
		enum child_state state;
		bool crowded;
		uint64_t list_hash; /* another one than ours; 0: none */
	} told[TREE_CHILDREN];
	bool started, was_root, left;
	bool told_ahead;        /* the log has it */
	struct endpoint parent; /* that the log named; port 0: none */

	struct loop_timer leave;
	void (*drained)(void *arg);
	void *drained_arg;
};

/* overlay_send.c: struct tree_env's */
int overlay_send(void *ctx, const struct endpoint *to, const struct tree_msg *m,
		 uint32_t limit_ms, bool fresh, uint64_t ref);
void overlay_cancel(void *ctx, uint64_t ref);
void overlay_send_free(struct overlay *o);
/* This address is the last whose proof of identity was wrong. */
bool overlay_unproven(const struct overlay *o, const struct endpoint *ep);

/* overlay_serve.c */
void overlay_reply(void *ctx, uint64_t ref, const struct tree_msg *m);
void overlay_serve_free(struct overlay *o);

/* overlay_state.c */
int overlay_store(void *ctx, const struct tree_stored *s);
int overlay_identity(struct overlay *o);
/* Is this where this agent listens? */
bool overlay_is_endpoint(const struct conf *c, const struct endpoint *ep);
/* Where others reach this agent; false: only they can tell. */
bool overlay_address(const struct conf *c, struct endpoint *out);

/* overlay_read.c: what clients and the log read; those that it has no text for
 * are the machine's words. */
const char *overlay_word_text(enum tree_word w);

/* overlay.c: this child answered a beat. */
void overlay_beaten(struct overlay *o, const struct endpoint *ep,
		    const struct tree_msg *m);

#endif
