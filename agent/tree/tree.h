/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine that builds the tree and repairs it: identity, leases and
 * epochs, joins and moves granted by the root, beats, the loss of a parent, a
 * child, the root.  It is driven by events and reaches the world only through
 * struct tree_env: the daemon and the simulator fill that once each and link
 * the same objects.  One agent, one struct tree; nothing is shared or global.
 *
 * Every tree_env.send() is ended by exactly one tree_done(), unless cancelled;
 * every tree_request() by exactly one tree_env.reply(), at once or later.
 * None of these calls back into the machine before it returns.
 */
#ifndef LINNET_TREE_TREE_H
#define LINNET_TREE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tree/epoch.h"
#include "agent/tree/message.h"

#define TREE_CHILDREN 64 /* hard limit; then TREE_FULL */
#define TREE_LEVELS   16 /* deepest level; the root's is 0 */
#define TREE_ROOTS    5  /* candidates */
#define TREE_SEEDS    64 /* of those that a provider names, to be asked */
#define TREE_MEMBERS  (1u << 20)
#define TREE_NAMED    4096 /* more members are not announced */

struct tree;

enum child_state {
	CHILD_EXPECTED, /* a client or a list named it; never joined */
	CHILD_UP,
	CHILD_SUSPECT, /* one beat failed: asked after the others */
	CHILD_DOWN     /* not asked; expected until it is forgotten */
};

/* What a child looks like to readers; valid until the next event. */
struct tree_child {
	struct node_id id; /* made of its address until it answered */
	struct endpoint ep;
	uint64_t incarnation;
	struct epoch lease;
	enum child_state state;
	enum tree_word refused; /* why it did not join at last, or TREE_OK */
	int err;                /* -errno of its silence while not up */
	uint32_t hosts, height; /* of its subtree, itself included: 1, 0 */
	uint32_t most;          /* hosts that it can have by now */
	bool rows_known;        /* the rows held are all that are below */
	bool crowded;           /* it tells of more than is read of it */
	uint32_t rtt_us;        /* of its last beat */
	uint64_t seen_ms;       /* wall clock of its last beat; 0: never */
	double offset_ms, error_ms; /* its clock against ours */
	bool by_hand;               /* tree_add() */
	bool tasks_same;            /* it holds the blocks held here */
	char version[TREE_VERSION_LEN + 1];
};

/*
 * A proposal of who may be above this agent: one file each in agent/member/.
 * Rules of moves and of repair decide what becomes of it.
 */
struct member;
struct member_ops {
	const char *name; /* "manual", "static", "join" */
	/* Ordered candidates; 0: be a root (manual), or wait (join). */
	int (*parents)(struct member *m, struct endpoint *out, size_t max);
	/* Hosts known beforehand, expected from the start: all, or those whose
	 * place is below this one.  NULL: none. */
	int (*expected)(struct member *m, bool below, struct endpoint *out,
			size_t max);
	/* Hash of a list that must be the same everywhere; 0: none. */
	uint64_t (*hash)(struct member *m);
	bool founds; /* without a parent this agent is a root at once */
	bool seeds;  /* candidates are an entrance, not the place itself */
	void (*close)(struct member *m);
};

/* Borrowed, with all it points to, until tree_free(). */
struct tree_conf {
	const char *overlay; /* other names are refused; <= 64 bytes */
	const char *rack;    /* preferred among equals, or "" */
	const char *version; /* of this program; NULL: nobody is told */
	/* Where others reach this agent; address zero: where it calls from */
	struct endpoint self;
	const struct member_ops *provider;
	struct member *member;
	const struct endpoint *roots;   /* candidates, in order */
	const struct endpoint *parents; /* only these may invite */
	unsigned n_roots, n_parents;    /* 0: anybody may */
	unsigned fanout;                /* children aimed at, 16 */
	bool loopback; /* it listens there: others there may be called */
	/* down so long: expected no more; 0: never, as where there is a list */
	uint64_t forget_ms;
};

/* Kept over restarts by the daemon: what must never go back. */
struct tree_stored {
	struct node_id id;
	uint64_t incarnation; /* of this start: above all former ones */
	struct epoch seen;    /* highest epoch known */
	uint64_t term;        /* highest term ever used as a root */
	uint32_t fleet; /* members last known: a new reign waits for them */
	/* who they were, at a candidate; borrowed, <= TREE_NAMED */
	const struct tree_peer *members;
	uint32_t n_members;
};

#define TREE_BLOCKS TREE_LEVELS_MAX
#define TREE_TIMERS (8 + TREE_CHILDREN) /* ids are below this */

struct tree_env {
	uint64_t (*now_ms)(void *ctx), (*wall_ms)(void *ctx),
		(*random)(void *ctx);
	/* m is borrowed.  limit_ms bounds the whole exchange, fresh: on a new
	 * connection.  0, or -errno and there will be no tree_done(). */
	int (*send)(void *ctx, const struct endpoint *to,
		    const struct tree_msg *m, uint32_t limit_ms, bool fresh,
		    uint64_t ref);
	void (*cancel)(void *ctx, uint64_t ref);
	void (*reply)(void *ctx, uint64_t ref, const struct tree_msg *m);
	/* tree_timer(t, id) at this monotonic time; replaces the one of that
	 * id; UINT64_MAX: none. */
	void (*timer)(void *ctx, uint32_t id, uint64_t at_ms);
	/* What must be on disk before anybody hears of it; 0 or -errno. */
	int (*store)(void *ctx, const struct tree_stored *s);
	/* Own blocks for beats and their replies; number written. */
	unsigned (*blocks)(void *ctx, struct tree_block out[TREE_BLOCKS]);
	/* A child's blocks as its beat's reply said (id), or the parent's as
	 * its beat said (NULL). */
	void (*blocks_heard)(void *ctx, const struct node_id *child,
			     const struct tree_block *b, unsigned n);
	/* Something that readers may look at changed; may be coalesced. */
	void (*event)(void *ctx, enum tree_event e, const struct node_id *id);
};

/* Borrows conf and env until tree_free(). */
struct tree *tree_new(const struct tree_conf *conf,
		      const struct tree_stored *stored,
		      const struct tree_env *env, void *ctx); /* NULL: ENOMEM */
void tree_free(struct tree *t);
void tree_start(struct tree *t);

/* ---- events ---- */
void tree_timer(struct tree *t, uint32_t id);
void tree_request(struct tree *t, const struct endpoint *from,
		  const struct tree_msg *m, uint64_t ref);
/* err 0: m is the reply, borrowed; else -errno and m is NULL. */
void tree_done(struct tree *t, uint64_t ref, int err, const struct tree_msg *m);
/* The connection to the parent closed: looked at at once. */
void tree_parent_closed(struct tree *t);
/* A query found this child silent: looked at at once. */
void tree_suspect(struct tree *t, const struct node_id *id);

/* ---- what clients and admins ask for ---- */
/*
 * Expects this host as a child and invites it, now and again every 1 -> 30 s.
 * done is told once: TREE_OK when it joined, or why it was refused (then it is
 * not kept if it was new); or TREE_WAIT when nothing was heard within wait_ms
 * (it stays expected).  created: it was not there before.  done may be called
 * from inside, must not call back into the machine, and may be NULL.
 */
void tree_add(struct tree *t, const struct endpoint *ep, uint32_t wait_ms,
	      void (*done)(void *arg, enum tree_word w, bool created),
	      void *arg);
/* By address or id; the child is told nothing and becomes a root or rejoins.
 * -ENOENT. */
int tree_remove(struct tree *t, const struct endpoint *ep,
		const struct node_id *id);
/* Accept nobody, move the children away, leave; TREE_EVENT_DRAINED ends it. */
void tree_drain(struct tree *t);
/* A new root takes the rows it has for all there are. */
void tree_accept_rows(struct tree *t);

/* ---- what others read ---- */
const struct node_id *tree_self(const struct tree *t);
bool tree_is_root(const struct tree *t);
bool tree_detached(const struct tree *t);   /* neither a root nor below one */
bool tree_rooted(const struct tree *t);     /* a root is above, as beats say */
bool tree_tasks_same(const struct tree *t); /* the parent's blocks are here */
/* A candidate for root, below one of whom no beat was heard yet. */
bool tree_unheard(const struct tree *t);
const struct endpoint *tree_parent(const struct tree *t); /* or NULL */
/* Ids from the root to the parent; their number. */
unsigned tree_path(const struct tree *t, struct node_id out[TREE_LEVELS]);
struct epoch tree_lease(const struct tree *t); /* zero: none */
/* Wall clock when it was taken; where that was set back, the highest before. */
uint64_t tree_lease_ms(const struct tree *t);
struct epoch tree_epoch(const struct tree *t); /* highest known: as_of */
uint32_t tree_clock_err_ms(const struct tree *t);
/* Of the subtree, as beats tell the parent; those that are lost for a while
 * included. */
uint32_t tree_hosts(const struct tree *t);
unsigned tree_n_children(const struct tree *t);
void tree_child_at(const struct tree *t, unsigned i, struct tree_child *out);
/*
 * Rows of the subtree, this agent first, each after its parent and right
 * before its own subtree; then, at a root, members that no child tells of (any
 * more, or yet), level 1.  A host is reached if it and all above it are up.
 * Borrowed until the next event.
 */
const struct tree_row *tree_rows(struct tree *t, uint32_t *n);
/* Changes whenever tree_rows() may have changed. */
uint64_t tree_rows_version(const struct tree *t);
/* Hosts that must be in a complete answer; at least the rows. */
uint32_t tree_expected(struct tree *t);
/*
 * The rows are all there is: each grant was reported, no two children claim
 * one host, a new root has seen the fleet.  Else nothing is complete.
 */
bool tree_settled(struct tree *t);
/* Members of the whole overlay as announced from above (<= 4,096). */
const struct tree_peer *tree_members(const struct tree *t, uint32_t *n);

/* ---- fences, for queries and tasks ---- */
/*
 * May a message under this lease be served?  as_of NULL: not a query.  TREE_OK;
 * TREE_MOVED: the lease is not the current one, or is newer than as_of.  What
 * was served counts as known: the next lease is above as_of.
 */
enum tree_word tree_admit(struct tree *t, const struct epoch *lease,
			  const struct epoch *as_of);

#ifdef TREE_CHECK
/* O1..O8 as far as one agent can see them; asserts. */
void tree_check(const struct tree *t);
#endif

#endif
