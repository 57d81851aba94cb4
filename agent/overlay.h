/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual tree as the rest of the agent sees it: who this agent is, its
 * parent, its children, the rows of its subtree.  The machine that builds and
 * repairs it is agent/tree; here it meets sockets, clocks and files.
 */
#ifndef LINNET_OVERLAY_H
#define LINNET_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/coverage.h"
#include "agent/errors.h"
#include "agent/http.h"
#include "agent/tree/tree.h"
#include "common/addr.h"

struct agent;
struct conf;
struct overlay;

#define OVERLAY_CHILDREN TREE_CHILDREN
#define OVERLAY_HOPS     TREE_LEVELS

const char *child_state_name(enum child_state s);

struct child {
	struct endpoint ep;
	struct node_id id; /* made of its address until it answered */
	uint64_t incarnation;
	enum child_state state;
	char refused[32];       /* last reason it refused to join, or "" */
	uint64_t last_seen_ms;  /* wall clock; 0: never */
	uint32_t hosts, height; /* of its subtree */
	char lease[EPOCH_TEXT];
	enum missing_reason why; /* of its silence while it is not up */
	/* its rows here are those it has: what it may speak of is known */
	bool rows_known;
	/* of its last beat */
	uint32_t rtt_us;
	bool tasks_same; /* it holds the tasks held here */
	char version[TREE_VERSION_LEN + 1];
};

/* Reads the list of hosts, if there is one; 0, or -errno after a line that
 * says what is wrong with it. */
int overlay_check(const struct conf *c);
/* Reads identity and children from the state directory; 0 or -errno. */
int overlay_open(struct overlay **out, struct agent *a);
void overlay_start(struct overlay *o); /* beats and joining begin */
void overlay_free(struct overlay *o);
/* The machine itself, for the other machines. */
struct tree *overlay_tree(const struct overlay *o);

const struct node_id *overlay_self(const struct overlay *o);
uint64_t overlay_incarnation(const struct overlay *o);
uint64_t overlay_epoch(const struct overlay *o); /* the number n */
bool overlay_is_root(const struct overlay *o);
/* A root is above this agent, or it is one. */
bool overlay_rooted(const struct overlay *o);
/* A candidate for root, below one of whom no beat was heard yet. */
bool overlay_unheard(const struct overlay *o);
/* Highest term known; of a root its own. */
uint64_t overlay_term(const struct overlay *o);
/* Candidates for the root, in order; their number. */
size_t overlay_roots(const struct overlay *o, const struct endpoint **out);
/* "manual", "static", "join". */
const char *overlay_provider(const struct overlay *o);
/* Where others reach this agent. */
struct endpoint overlay_endpoint(const struct overlay *o);
/* Parent's endpoint or NULL; path: ids from the root to the parent. */
const struct endpoint *overlay_parent(const struct overlay *o);
unsigned overlay_path(const struct overlay *o,
		      struct node_id out[OVERLAY_HOPS]);

/* How far this clock may be from the root's, as beats tell. */
uint32_t overlay_clock_err_ms(const struct overlay *o);
/* Lease under which the parent holds this agent; "" without; until the next. */
const char *overlay_lease(const struct overlay *o);
/* This header of a request is that lease; without a parent none is. */
bool overlay_under(const struct overlay *o, const char *lease);
/* "TERM.ROOT16.N": the highest epoch known. */
void overlay_epoch_text(const struct overlay *o, char out[EPOCH_TEXT]);
/* May a message under this lease be served?  as_of NULL: not a query. */
enum tree_word overlay_admit(const struct overlay *o, const struct epoch *lease,
			     const struct epoch *as_of);

unsigned overlay_n_children(const struct overlay *o);
/* Until the next call for the same i. */
const struct child *overlay_child(const struct overlay *o, unsigned i);
/* A query found this child silent: it is looked at at once. */
void overlay_suspect(struct overlay *o, const struct node_id *id);
/*
 * Rows of the subtree, this host first, each after its parent and beside its
 * own subtree; borrowed until the next turn.
 */
const struct tree_row *overlay_rows(const struct overlay *o, unsigned *n);
/* Hosts that must be in a complete answer; at least the rows. */
uint32_t overlay_expected(const struct overlay *o);
/* All members of the overlay as announced from above; none at a root. */
const struct tree_peer *overlay_members(const struct overlay *o, unsigned *n);
/* Member, configured child/parent or conf peers; *ep gets its agent port. */
bool overlay_known_peer(const struct overlay *o, const struct ip_addr *a,
			struct endpoint *ep);
/* Address of the parent, of a child or of a candidate for the root. */
bool overlay_is_neighbour(const struct overlay *o, const struct ip_addr *a);
bool overlay_is_self(const struct overlay *o, const struct ip_addr *a);

/*
 * Adds a child and invites it; done (once, within 1 s, never from inside) gets
 * NULL, or why it was refused.  created: it was not there before.
 */
void overlay_add(struct agent *a, const struct endpoint *ep,
		 void (*done)(void *arg, const struct error *e, bool created),
		 void *arg);
/* By address or node id; -ENOENT. */
int overlay_remove(struct agent *a, const struct endpoint *ep,
		   const struct node_id *id);
/* Leaves the tree in order; drained is told once, from the loop. */
void overlay_drain(struct overlay *o, void (*drained)(void *arg), void *arg);
/* The hosts that are known now are all there are. */
void overlay_accept(struct overlay *o);
/* This connection ended, see struct http_config. */
void overlay_connection_closed(struct overlay *o, uint64_t connection);

/* POST /api/v1/peer/hello and the others between agents. */
extern const struct http_route overlay_routes[];
extern const size_t overlay_n_routes;

#endif
