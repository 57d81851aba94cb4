/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by walk.c (queries) and the walk_*.c below. */
#ifndef LINNET_TREE_WALK_PRIVATE_H
#define LINNET_TREE_WALK_PRIVATE_H

#include "agent/tree/walk.h"

#define WALK_LEAST_MS 20 /* with less, children are not asked */
#define WALK_NEVER    UINT64_MAX

struct seen;
struct waves;

/*
 * Asks that this agent answered for its parent, a ring.  They are numbered;
 * number k is at k modulo size, a power of two; first is the oldest one's.
 */
struct replay {
	struct seen *seen;
	uint64_t *newest; /* of those whose ids have one hash; 0: none */
	uint64_t first, kept_from; /* none before is kept */
	uint32_t size, n;
	uint32_t n_kept;
	size_t kept_bytes;
};

struct walk {
	struct walk_conf conf;
	struct walk_query *queries;
	struct waves *waves; /* newest first */
	struct lane *lanes;
	unsigned n_running, n_spare;    /* n_spare: of all ways */
	bool left;                      /* some were, since the last timer */
	uint64_t last_read, last_waves; /* references given */
	uint64_t armed_ms;              /* as env.timer() was told last */
	uint64_t late, served;
	uint64_t digest, digest_of; /* of the rows; their version, or 0 */
	struct replay replay;
};

#define SERVED_WAITERS 4

struct walk_query {
	struct walk_query *next;
	struct walk *walk;
	uint64_t read_ref; /* of the local read; 0: none runs */
	uint64_t begin_ms; /* of the local read; 0: it has begun */
	uint64_t end_ms;
	struct epoch as_of;
	struct epoch lease; /* own, when it was asked */
	void *question;
	struct waves *children;
	bool local_in, children_in;
	void *part;
	struct coverage *coverage; /* NULL: of nobody yet */
	/* for a client: */
	void (*done)(void *arg, void *part, const struct coverage *c);
	void *arg;
	/* for the parent: its requests, the same one again included */
	uint8_t id[16];
	unsigned round;
	uint64_t waiter[SERVED_WAITERS];
	unsigned n_waiters;
};

/* ---- walk.c ---- */
uint64_t walk_now(const struct walk *w);
/* The timer is set to what is due first. */
void walk_arm(struct walk *w);
struct query_start {
	const uint8_t *id;
	unsigned round;
	struct epoch as_of;
	bool host_only, for_parent;
	uint32_t budget_ms, wait_ms; /* wait_ms: until it begins */
	unsigned n_via;              /* above this agent */
	const struct node_id *via;
};
/* NULL: busy or no memory; takes the question unless NULL. */
struct walk_query *query_new(struct walk *w, const struct query_start *s,
			     void *question);
void query_free(struct walk_query *q);
/* What is known of its hosts; valid until it is freed. */
const struct coverage *query_coverage(const struct walk_query *q);

/* ---- walk_serve.c ---- */
/* A query of the parent is over. */
void serve_reply(struct walk_query *q);
void replay_free(struct walk *w);

/* ---- walk_report.c ---- */
/* Tops that are not below this child are counted, not named. */
void tops_check(const struct walk *w, const struct node_id *child,
		struct coverage *c);

/* ---- walk_lanes.c ---- */
struct lane {
	struct lane *next;
	struct node_id id;
	struct way *ways;
	struct leg *waiting, **end; /* for a way, the oldest first */
	unsigned n, left;           /* ways: those beyond its own are spare */
	unsigned n_legs; /* none, and no ways: may be another child's */
};
/* NULL: no memory. */
struct lane *lane_get(struct walk *w, const struct node_id *id);
/* May it have another way?  If need be that of one which was left. */
bool lane_open(const struct walk *w, const struct lane *c);
/* Its lane is open; 0 or -ENOMEM. */
int way_take(struct walk *w, struct lane *c, struct leg *l, uint64_t ref);
/* Nobody waits for it any more. */
void way_leave(struct walk *w, struct lane *c, uint64_t ref);
/* Its leg, NULL: it was left; who may have it next, NULL: any. */
struct leg *way_over(struct walk *w, uint64_t ref, struct lane **only);
void ways_free(struct walk *w); /* ends all that is under way */

/* ---- walk_waves.c ---- */
struct waves_conf {
	void *what;
	const uint8_t *query; /* borrowed until the end; NULL: none */
	unsigned round;
	struct epoch as_of;
	uint32_t budget_ms, wait_ms; /* wait_ms: until they begin */
	size_t reply_max;
	bool for_parent;
	const struct node_id *only;
	unsigned n_via;
	const struct node_id *via;
	/* got NULL: there is none, for this reason */
	void (*child)(void *arg, const struct walk_child *c,
		      struct walk_got *got, enum missing_reason why);
	void (*done)(void *arg); /* once; the waves are gone */
	void *arg;
};
/* Nothing is sent yet; NULL: no memory. */
struct waves *waves_new(struct walk *w, const struct waves_conf *conf);
/* Fills the free slots; may come to its end. */
void waves_go(struct waves *v);
void waves_free(struct waves *v); /* also ends it early; NULL is fine */
void waves_done(struct walk *w, uint64_t ref, struct walk_got *got);
uint64_t waves_due(const struct walk *w); /* of all */
void waves_timer(struct walk *w, uint64_t now);
void spreads_free(struct walk *w); /* all waves but those of queries */

#endif
