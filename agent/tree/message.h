/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages between agents that build the tree, as structs.  The daemon writes
 * and reads them as JSON over HTTP (tree_json.c); the simulator hands the
 * structs over, and now and then through the same JSON.
 */
#ifndef LINNET_TREE_MESSAGE_H
#define LINNET_TREE_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/coverage.h"
#include "agent/tree/epoch.h"
#include "common/addr.h"

#define TREE_TRIES       4    /* addresses offered instead of a grant */
#define TREE_VIA         16   /* ids a climbing request may collect */
#define TREE_UNCLES      8    /* siblings told in a beat */
#define TREE_ROWS_PAGE   4096 /* rows of one reply */
#define TREE_VERSION_LEN 16

/* Outcome of a request: HTTP status and the word in a 409 and its like. */
enum tree_word {
	TREE_OK,
	TREE_WAIT,     /* nothing heard yet */
	TREE_MOVED,    /* 409: not under this lease (any more) */
	TREE_STALE,    /* 409: what it has seen is further than can be */
	TREE_SELF,     /* 409: this host itself */
	TREE_CYCLE,    /* 409: the mover is above the acceptor */
	TREE_PARENT,   /* 409: has another parent */
	TREE_DOUBLE,   /* 409: id in use by a live agent */
	TREE_OVERLAY,  /* 409: another overlay */
	TREE_VERSION,  /* 409: another protocol version */
	TREE_DETACHED, /* 409: not in a tree itself now */
	TREE_BUSY,     /* 503: another grant is open, draining: try later */
	TREE_FULL,     /* 507: 64 children */
	TREE_DEEP,     /* 508: a 17th level */
	TREE_LOOP,     /* 508: too many hops, or met before */
	TREE_DENIED,   /* 403: not one of the configured parents, no proof,
			  not found at its address, removed by hand */
	TREE_BAD,      /* 400: malformed */
	TREE_WORDS
};
const char *tree_word_name(enum tree_word w); /* "moved", "too-deep", … */
int tree_word_status(enum tree_word w);       /* HTTP */
int tree_word_parse(const char *s, enum tree_word *out); /* or -EINVAL */
/* What a status alone says: of another's answer. */
enum tree_word tree_word_of_status(int status);

enum tree_event {
	TREE_EVENT_PARENT, /* attached, detached, became or ceased to be root,
			      has another id */
	TREE_EVENT_CHILD,  /* id: its state changed, it came or went */
	TREE_EVENT_ROWS,   /* rows or members changed */
	TREE_EVENT_DRAINED
};

enum tree_kind {
	TREE_HELLO, /* who are you? no secret is told before its answer */
	TREE_INVITE,
	TREE_JOIN,  /* mover -> acceptor */
	TREE_GRANT, /* child -> parent, climbing: grant, confirm or void it */
	TREE_BEAT,
	TREE_PLEASE,   /* child -> parent: a beat, please */
	TREE_LEAVE,    /* child -> parent; or: your id is another's */
	TREE_ROWS,     /* parent -> child: its rows, a page */
	TREE_ANNOUNCE, /* parent -> child: known peers */
	TREE_KINDS
};

struct tree_peer {
	struct node_id id;
	struct endpoint ep;
};

/* A block of tasks, as it travels in beats; the registry's to read. */
struct tree_block {
	struct node_id owner; /* zero: the root's, whoever is root */
	uint64_t term, index, hash;
};

/* Each of the first is among the others, as it is. */
bool tree_blocks_within(const struct tree_block *b, unsigned n,
			const struct tree_block *all, unsigned n_all);

/* A member, as it travels. */
struct tree_row {
	struct node_id id, parent; /* parent zero: a root */
	struct endpoint ep;
	uint8_t level; /* below the holder; does not travel */
	bool up;       /* its parent hears it */
	bool gone;     /* left, removed, forgotten: only in messages */
	bool with;     /* gone with the last one before it that is not `with` */
	bool had;      /* this child's to call gone, or was; does not travel */
	uint64_t incarnation; /* 0: never seen, id made of its address */
	struct epoch lease;
	uint64_t seen_ms; /* wall clock of the holder or sender; 0: never */
};

struct tree_mover {
	struct node_id id;
	uint64_t incarnation;
	struct endpoint ep;     /* address zero: where it called from */
	uint32_t hosts, height; /* 1, 0: a leaf */
	uint32_t fleet;         /* members of the overlay it last heard of */
	bool descend;           /* a place below will do as well */
	uint64_t nonce;         /* of its latest request */
	struct epoch seen;
	char rack[33], overlay[65];
};

enum tree_grant_act {
	TREE_GRANT_ASK,
	TREE_GRANT_CONFIRM, /* the acceptor had its first answered beat */
	TREE_GRANT_VOID
};

/*
 * One struct for requests and replies; word is TREE_OK in requests.  A reply
 * has the kind of its request (join and grant: u.granted, beat: u.beaten) and,
 * if its word is not TREE_OK, nothing else to say; but a beat's reply always
 * has id, incarnation and, in lease, the lease that it is under (zero: none).
 */
struct tree_msg {
	enum tree_kind kind;
	enum tree_word word;
	struct epoch epoch; /* highest the sender knows */
	struct epoch lease; /* under which it speaks; zero: none */
	union {
		struct { /* hello: the adapter adds nonce and proof */
			struct node_id id;
			uint64_t incarnation;
			char overlay[65];
			bool root, rooted;
			bool leaving; /* must not be waited for as a root */
			/* reply of a root: lease is its latest grant */
			struct endpoint root_ep; /* port 0: unknown */
		} hello;                         /* request: empty */
		struct {
			struct node_id
				id; /* of the inviter; reply: the invited */
			struct endpoint ep;
			char overlay[65];
		} invite;
		struct {
			struct tree_mover mover;
		} join;
		struct {
			enum tree_grant_act act;
			struct tree_mover mover;
			struct node_id acceptor;
			struct epoch grant; /* confirm, void */
			uint32_t level;     /* of the acceptor */
			unsigned n_via;
			struct node_id via[TREE_VIA];
		} grant;
		struct { /* reply of join and grant */
			bool granted;
			struct epoch lease;
			uint64_t nonce;
			uint32_t ttl_ms;
			unsigned n_path;
			struct node_id path[TREE_LEVELS_MAX];
			unsigned n_try;
			struct tree_peer try[TREE_TRIES];
			struct endpoint root_ep; /* port 0: unknown */
		} granted;
		struct {
			uint64_t seq;
			bool rooted, drain; /* drain: find another parent */
			bool down;          /* ask here for one further down */
			unsigned n_path;    /* root … sender */
			struct node_id path[TREE_LEVELS_MAX];
			uint32_t fleet; /* members of the overlay, as last known
					 */
			unsigned n_blocks;
			struct tree_block blocks[TREE_LEVELS_MAX];
			struct endpoint up[TREE_LEVELS_MAX]; /* of path[] */
			unsigned n_uncles;
			struct tree_peer uncles[TREE_UNCLES];
			unsigned n_roots;
			struct endpoint roots[5];
			uint64_t members_hash, list_hash;
			uint32_t rows_most; /* read of the receiver; 0: all */
			double offset_ms, error_ms; /* receiver's to root's */
			uint64_t t1_ms;
		} beat;
		struct {
			struct node_id id;
			uint64_t incarnation;
			uint32_t hosts, height;
			uint64_t rows_hash, members_hash, list_hash;
			bool whole; /* those rows are all that are below */
			unsigned n_blocks;
			struct tree_block blocks[TREE_LEVELS_MAX];
			uint64_t t2_ms, t3_ms;
			char version[TREE_VERSION_LEN + 1]; /* its program's */
		} beaten;                                   /* reply of beat */
		struct {
			struct node_id id;
			uint64_t incarnation; /* leave: of the other one */
		} please, leave;
		struct { /* request: offset; reply: rows borrowed */
			uint32_t offset, next; /* next 0: the last page */
			uint64_t hash;
			uint32_t n;
			const struct tree_row *row;
		} rows;
		struct {
			uint64_t hash;
			uint32_t n;
			const struct tree_peer *peer; /* borrowed */
		} announce;
	} u;
};

#endif
