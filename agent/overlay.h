/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual tree: who this agent is, its parent, its children, the rows of
 * its subtree, beats.  Children come from --child and "add leaf agent".
 */
#ifndef LINNET_OVERLAY_H
#define LINNET_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/coverage.h"
#include "agent/errors.h"
#include "agent/http.h"
#include "common/addr.h"

struct agent;
struct overlay;

#define OVERLAY_CHILDREN 64
#define OVERLAY_HOPS     16

enum child_state {
	CHILD_EXPECTED,
	CHILD_UP,
	CHILD_SUSPECT,
	CHILD_DOWN
};
const char *child_state_name(enum child_state s);

struct child {
	struct endpoint ep;
	struct node_id id; /* made of its address until it answered */
	uint64_t incarnation;
	enum child_state state;
	char refused[32];       /* last reason it refused to join, or "" */
	uint64_t last_seen_ms;  /* wall clock; 0: never */
	uint32_t hosts, height; /* of its subtree */
	char lease[64];
	enum missing_reason why; /* of its silence while it is not up */
	/* its rows here are those it has: what it may speak of is known */
	bool rows_known;
	/* our parent was told of it, and so may be given its answers */
	bool reported;
};

/* A host of the subtree (self included), or of the whole overlay. */
struct host_row {
	struct node_id id;     /* derived from the address until known */
	struct node_id parent; /* zero: root */
	struct endpoint ep;
	uint64_t incarnation;
	uint64_t last_seen_ms;
};

/* Reads identity and children from the state directory; 0 or -errno. */
int overlay_open(struct overlay **out, struct agent *a);
void overlay_start(struct overlay *o); /* beats begin */
void overlay_free(struct overlay *o);

const struct node_id *overlay_self(const struct overlay *o);
uint64_t overlay_incarnation(const struct overlay *o);
uint64_t overlay_epoch(const struct overlay *o); /* the number n */
bool overlay_is_root(const struct overlay *o);
/* Parent's endpoint or NULL; path: ids from the root to the parent. */
const struct endpoint *overlay_parent(const struct overlay *o);
unsigned overlay_path(const struct overlay *o,
		      struct node_id out[OVERLAY_HOPS]);

/* How far this clock may be from the root's, as beats tell. */
uint32_t overlay_clock_err_ms(const struct overlay *o);
/* Lease under which the parent holds this agent; "" without a parent. */
const char *overlay_lease(const struct overlay *o);
/* "TERM.ROOT16.N": the highest epoch known. */
void overlay_epoch_text(const struct overlay *o, char out[64]);

unsigned overlay_n_children(const struct overlay *o);
const struct child *overlay_child(const struct overlay *o, unsigned i);
/* A query found this child silent: it is looked at at once. */
void overlay_suspect(struct overlay *o, const struct node_id *id);
/*
 * Rows of the subtree, this host first, each after its parent and beside its
 * own subtree; borrowed until the next turn.
 */
const struct host_row *overlay_rows(const struct overlay *o, unsigned *n);
/* All known members of the overlay (known peers of probes). */
const struct host_row *overlay_members(const struct overlay *o, unsigned *n);
/* Member, configured child/parent or conf peers; *ep gets its agent port. */
bool overlay_known_peer(const struct overlay *o, const struct ip_addr *a,
			struct endpoint *ep);
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

/* POST /api/v1/peer/beat, hello, invite, PUT members. */
extern const struct http_route overlay_routes[];
extern const size_t overlay_n_routes;

#endif
