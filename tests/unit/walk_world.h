/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Agents in a virtual world for the tests of struct walk: messages take time,
 * hosts are dead or silent, a question asks for the sum of all values.  A part
 * knows whose values it holds, so that none may be in it twice.
 */
#ifndef LINNET_TEST_WALK_WORLD_H
#define LINNET_TEST_WALK_WORLD_H

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/tree/walk.h"
#include "common/util.h"

#define WORLD_AGENTS 256
#define WORLD_EVENTS 8192
#define WORLD_XFERS  4096
#define NOBODY       UINT_MAX

struct world;

struct sum {
	uint64_t value;
	bool has[WORLD_AGENTS];
};

struct agent_sim {
	struct world *world;
	struct walk *walk;
	unsigned self, parent;
	struct epoch lease, seen;
	bool gone, silent;        /* refuses connections; never answers */
	bool suspect, down, cold; /* for its parent; no connection to it */
	bool untold;
	bool lost; /* a row below its parent that is no child */
	uint64_t value, read_ms, reply_ms, timer_ms;
	uint64_t connect_ms;    /* of a connection and hello together */
	uint64_t lease_ms;      /* wall clock when it was taken */
	int64_t clock_ms;       /* its wall clock beside the others' */
	uint32_t hosts;         /* as its parent believes; 0: all below it */
	unsigned asked;         /* asks that came */
	unsigned resets;        /* of so many asks the connection is reset */
	unsigned running, most; /* of exchanges with children */
	unsigned suspected, rejected;
	void (*lie)(struct coverage *c, struct sum *s);
};

struct question {
	size_t cap, size; /* of a reply, of a kept part */
	bool wrong;       /* check() refuses what comes */
	/* of a window, whose end this is; of a standing query: its number */
	uint64_t window_end_ms;
	uint8_t standing;
};

struct xfer {
	unsigned from, to; /* from NOBODY: a test's own request */
	uint64_t ref;
	bool over, fresh, left;
	struct walk_ask ask;
	struct node_id via[WALK_VIA + 1];
	struct question question;
	/* of what comes back */
	int err;
	enum tree_word word;
	struct coverage coverage;
	struct sum *part;
};

enum event_kind {
	EVENT_ASK,
	EVENT_REPLY,
	EVENT_LIMIT,
	EVENT_READ,
	EVENT_CALL
};

struct event {
	uint64_t at_ms, order;
	enum event_kind kind;
	unsigned who, xfer;
	uint64_t ref;
	void (*call)(struct world *w);
};

struct world {
	uint64_t now_ms, latency_ms, order;
	unsigned n, n_events, n_xfers;
	struct agent_sim agent[WORLD_AGENTS];
	struct event event[WORLD_EVENTS];
	struct xfer xfer[WORLD_XFERS];
	unsigned doubles; /* values that were added twice */
	bool lax;         /* nobody compares its lease with as_of */
	unsigned asked[WORLD_AGENTS], n_asked; /* by whom was asked, in order */
	/* the answer */
	bool done;
	uint64_t done_ms;
	struct sum *part;
	struct coverage coverage;
	struct walk_report report;
	struct walk_scope scope;
};

/* One agent, the root; the caller's to free. */
struct world *world_new(void);
void world_free(struct world *w);
/* One more, below parent; its number. */
unsigned world_add(struct world *w, unsigned parent);
/* It starts, or again: without memory. */
void world_start(struct world *w, unsigned i);
/* 0 with n children. */
struct world *world_star(unsigned n);
/* 0 with three children, each with three. */
struct world *thirteen(void);
struct node_id world_id(unsigned i);
unsigned world_index(const struct node_id *id);
/* Agents at top and below. */
unsigned world_below(const struct world *w, unsigned top);
/* The i-th row of the agent tree, and its parent, as it tells struct walk. */
void view_row(void *tree, uint32_t i, struct node_id *id,
	      struct node_id *parent);
/* Something that will happen; the caller fills in what. */
struct event *world_event(struct world *w, uint64_t in_ms, enum event_kind kind,
			  unsigned who);
/* The next event of all, or a timer; false: nothing is left to do. */
bool world_step(struct world *w);
/* Until nothing is left to do. */
void world_run(struct world *w);
/* Whose reply may have cap bytes. */
struct question *world_question(size_t cap);
/* Agent 0 is asked; the answer will be in the world. */
struct walk_query *world_begin(struct world *w, uint32_t budget_ms,
			       struct question *q);
/* What takes the answer: arg is the world. */
void world_answer(void *arg, void *part, const struct coverage *c);
/* Asks, runs, and looks at what each answer must hold to. */
void world_query(struct world *w, uint32_t budget_ms);
/* A request of the test's own to agent to, as from its parent. */
struct xfer *world_send(struct world *w, unsigned to, uint8_t query,
			unsigned round);
/* It arrives; returns x. */
struct xfer *world_go(struct world *w, struct xfer *x);
/* Of the values that s says it has. */
uint64_t sum_of(const struct world *w, const struct sum *s);

#endif
