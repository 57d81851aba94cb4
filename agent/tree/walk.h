/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One question down the tree: who may ask, at most one part of each host, the
 * local read and all children at once under one budget, parts merged as they
 * come, and how true the sum is.  Driven by events; reaches the world only
 * through struct walk_env, the measuring through struct walk_ops, the tree
 * through struct walk_view.  One agent, one struct walk.
 *
 * Nothing here is called back before a call into the machine returns, but
 * walk_env.reply(), which may end walk_request() at once.
 */
#ifndef LINNET_TREE_WALK_H
#define LINNET_TREE_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tree/walk_env.h"

#define WALK_RUNNING  64            /* queries in progress */
#define WALK_RESERVED WALK_WAYS_MAX /* of them kept for the parent */
#define WALK_VIA      16            /* ids from the asked agent to the sender */
#define WALK_CHILDREN 64

struct walk;
struct walk_query;
struct waves;

struct walk_conf {
	const char *overlay; /* its name: key of the digests */
	const struct walk_env *env;
	const struct walk_ops *ops;
	void *ctx; /* of both */
	const struct walk_view *view;
	void *tree;
};
struct walk *walk_new(const struct walk_conf *conf); /* NULL: ENOMEM */
void walk_free(struct walk *w);

/* ---- events ---- */
void walk_timer(struct walk *w);
void walk_done(struct walk *w, uint64_t ref, struct walk_got *got);
/* why MISSING_NONE: part (taken, or NULL) and the host's own coverage. */
void walk_read_done(struct walk *w, uint64_t ref, enum missing_reason why,
		    void *part, const struct coverage *own);

/* ---- the parent asks ---- */
struct walk_ask {
	uint8_t query[16];
	unsigned round;
	struct epoch lease, as_of;
	uint32_t budget_ms; /* left */
	unsigned n_via;     /* as it came: may be above WALK_VIA */
	const struct node_id *via;
	/* Of a closed window: its end, wall clock; 0: none.  By a clock that
	 * has not come so far it is waited for, if the time is enough. */
	uint64_t window_end_ms;
	bool standing; /* of a query that each parent asks by itself */
};
/* TREE_OK: it may ask; else why not. */
enum tree_word walk_admit(const struct walk *w, const struct walk_ask *m);
/* Takes the question; NULL: it is of a task that is unknown here. */
void walk_request(struct walk *w, const struct walk_ask *m, void *question,
		  uint64_t ref);

/*
 * A parent's own time for a window of a standing query has come: asks what its
 * parent is going to ask for by this id, which then gets it at once.  Takes the
 * question.  m: query, budget_ms, window_end_ms.
 */
void walk_collect(struct walk *w, const struct walk_ask *m, void *question);

/* ---- a client asks ---- */
/* The hosts that a question or change speaks of, as known at its start. */
struct walk_scope {
	struct epoch as_of;
	uint32_t expected;
	uint64_t digest; /* of all rows */
	bool unsettled;  /* there may be hosts without a row */
};
void walk_scope(struct walk *w, bool host_only, struct walk_scope *out);

struct walk_options {
	uint8_t query[16]; /* of both rounds */
	unsigned round;
	struct epoch as_of;
	bool host_only;
	uint32_t budget_ms;
};
/*
 * Starts; takes the question.  done is told once, at the latest when the time
 * is over; it takes the part.  NULL: busy or no memory, and the question is
 * still the caller's.
 */
struct walk_query *
walk_start(struct walk *w, const struct walk_options *opt, void *question,
	   void (*done)(void *arg, void *part, const struct coverage *c),
	   void *arg);
void walk_cancel(struct walk_query *q); /* done is not told */
unsigned walk_running(const struct walk *w);
uint64_t walk_late(const struct walk *w);   /* parts that met no query */
uint64_t walk_served(const struct walk *w); /* questions of the parent */

struct walk_report {
	uint32_t expected, answered;
	uint32_t partial; /* of those missing: in with what they gave at first */
	bool all_in; /* these hosts and no others, as far as anybody knows */
	bool complete;
	uint32_t n_missing, missing_more;
	struct {
		uint32_t row;
		enum missing_reason reason;
	} missing[COVERAGE_TOPS];
};
/* Says what is missing: tops expanded to their present descendants. */
void walk_report(const struct walk *w, const struct coverage *c,
		 const struct walk_scope *scope, struct walk_report *out);
/* Each host from row on, it and all below, with its reason or MISSING_NONE. */
void walk_expand(const struct walk *w, const struct coverage *c, uint32_t row,
		 void (*each)(void *arg, uint32_t row, const struct node_id *id,
			      enum missing_reason r, bool alone),
		 void *arg);

/* ---- the same to all children, whatever it is ---- */
struct walk_spread {
	void *what; /* in each walk_send; borrowed until the end */
	uint32_t budget_ms;
	size_t reply_max;
	bool for_parent;            /* only children that it knows of */
	const struct node_id *only; /* this one alone, or NULL */
	/* each child's answer, or why there is none; then done, once */
	void (*reply)(void *arg, const struct walk_child *c, const void *raw,
		      enum missing_reason why);
	void (*done)(void *arg);
	void *arg;
};
struct waves *walk_spread(struct walk *w, const struct walk_spread *s);
void walk_spread_cancel(struct waves *v); /* NULL is fine */

#endif
