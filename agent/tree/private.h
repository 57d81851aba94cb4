/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the machine share: tree.c (life, dispatch, reading),
 * climb.c (grants), branch.c (children), beat.c (what beats tell them and say),
 * byhand.c (those that were added), link.c (the parent), seek.c (finding one),
 * reign.c (being the root), candidates.c (who may be the next), rows.c,
 * fetch.c, rowset.c (who is below), announce.c (who is a member at all).
 */
#ifndef LINNET_TREE_PRIVATE_H
#define LINNET_TREE_PRIVATE_H

#include <string.h>

#include "agent/tree/tree.h"
#include "common/util.h"

#define BEAT_MS         1000
#define BEAT_LIMIT_MS   500
#define HELLO_LIMIT_MS  500
#define PROBE_LIMIT_MS  200 /* hello of an acceptor to its mover */
#define CLIMB_LIMIT_MS  280
#define JOIN_LIMIT_MS   500 /* both of these; of one that has said hello */
#define REFUSED_MS      250 /* pause before a refused address is tried again */
#define LATE_MS         250 /* our own timer: then nothing is concluded */
#define GRANT_MS        2000
#define BYHAND_RETRY_MS 30000
#define DOWN_RETRY_MS   4000  /* it may be down for a day, or back at once */
#define CHECK_MS        5000  /* other candidates, by a root */
#define ROUND_MS        500   /* for their answers */
#define UNTOLD_MS       10000 /* a subtree that moved is told of by then */
#define FETCH_MS        2000  /* rows, members */
#define CLOCK_AGE_MS    0.2   /* a second adds this to what is unsure */

enum {
	TIMER_SEEK,   /* next try, next round of tries */
	TIMER_PARENT, /* its silence */
	TIMER_REIGN,  /* candidates; housekeeping of a root */
	TIMER_ADD,    /* clients that wait for tree_add() */
	TIMER_DRAIN,
	TIMER_CHILD = TREE_TIMERS - TREE_CHILDREN
};

/* Low bits of a ref: what its answer is for. */
enum op {
	OP_CHILD,  /* hello, invite, beat */
	OP_SIDE,   /* its rows, the members for it */
	OP_CLIMB,  /* a grant, or the hello before it */
	OP_SEEK,   /* hello, join */
	OP_PLEASE, /* to the parent */
	OP_REIGN,  /* hello to another candidate */
	OP_LEAVE,  /* the last one */
	OP_TWIN,   /* hello to one that has another's id */
	OP_NONE    /* nobody waits for it */
};

/* A client that waits for the outcome of adding a child. */
struct adding {
	struct adding *next;
	uint64_t at_ms;
	bool created;
	void (*done)(void *arg, enum tree_word w, bool created);
	void *arg;
};

/* One that asked for a place below a child, which has not told of it yet. */
struct newcomer {
	struct node_id id;
	uint64_t at_ms;
};
#define NEWCOMERS_MAX 64

struct branch {
	struct tree_child pub;
	uint64_t ref;            /* hello, invite or beat on its way; 0: none */
	uint64_t side;           /* rows or members */
	uint64_t sent_ms, t1_ms; /* of the beat: monotonic, wall clock */
	uint64_t seq;
	uint64_t until_ms; /* granted, and not counted before its first beat */
	uint64_t down_ms;  /* monotonic, since when */
	uint64_t rows_at_ms; /* not fetched before */
	uint32_t said_hosts; /* by its last beat */
	uint64_t grown_ms;   /* when a grant for somebody below passed last */
	uint64_t told_hash, said_hash; /* of its rows: held, in its beats */
	uint64_t members_said;
	struct tree_row *rows, *page;  /* what it told; being fetched */
	uint32_t n_rows, n_page;       /* the first is itself */
	uint32_t n_hosts, rows_height; /* of the rows that are not gone */
	uint32_t brought;   /* hosts that came here with it, or to it since */
	uint32_t strangers; /* rows of more of them, on their word alone */
	struct newcomer *newcomer; /* a ring; NULL: none */
	uint32_t n_newcomers;      /* noted since it is there */
	uint64_t page_hash;
	struct adding *adding;
	uint32_t retry_ms, rows_wait_ms;
	uint64_t sent_down_ms; /* when it was last told to go there; 0 */
	uint32_t promised;     /* hosts just sent to it for a place */
	uint32_t rack;         /* hash of its rack; 0: none */
	struct epoch granted;  /* pub.lease once it has answered under it */
	uint64_t granted_incarnation;
	uint32_t granted_height;
	uint8_t slot, failures;
	bool joined;  /* it has been our child: a member until it is gone */
	bool lost;    /* it says that it is not under us any more */
	bool fresh;   /* the next beat goes over a new connection */
	bool invited; /* it is expected to ask for a place */
	bool saying_invite;
	bool drain;
	bool news;       /* something happened since the beat was sent */
	bool go_down;    /* it shall find a place further down */
	bool bad_rows;   /* what it says of its rows cannot be */
	bool whole;      /* what it says is all that is below it */
	bool announcing; /* side is an announcement */
};

/* A request for a grant that passes here, or starts here. */
struct climb {
	struct climb *next;
	uint64_t reply, ref; /* to whom it is answered; our own request */
	struct epoch lease;  /* our own when it went up */
	struct epoch from;   /* the lease that it came under */
	bool ours;           /* this agent is the acceptor */
	bool probing;        /* hello to the mover is on its way */
	struct endpoint ep;  /* of the mover */
	struct tree_mover mover;
};

struct open_grant {
	struct node_id id;
	struct epoch lease;
	uint64_t until_ms;
	bool leaf;
};

/* A member that no child tells of. */
struct extra {
	struct tree_row row; /* parent: where it was, or was granted a place */
	uint64_t since_ms;   /* monotonic */
	uint32_t hosts;
	struct tree_row was; /* before that grant, or as it took it */
	bool pending;        /* granted, not yet reported */
	bool known;          /* was a member before that grant */
};

struct grave {
	struct tree_row row;
	uint64_t until_ms;
};

/* Two that are heard under one id. */
struct twins {
	struct tree_row elder, younger;
	uint64_t ref; /* hello to the younger; 0: none */
};

/* What only a root has. */
struct reign {
	struct open_grant open[80];
	unsigned n_open;
	struct extra *extra;
	uint32_t n_extra, cap_extra;
	uint32_t floor; /* expected at least; 0: none */
	bool counted;   /* it was told of how many */
	/* until then: others reigned, and none says of how many */
	uint64_t blind_ms;
	uint64_t followed_ms; /* a mover far ahead, last */
	bool asking;          /* candidates; answers are judged at the timer */
	uint64_t ref[TREE_ROOTS];
	uint64_t announced_ms, since_ms;
	uint64_t sure_ms; /* by then all that live have come */
};

#define SEEK_MAX (TREE_SEEDS + TREE_LEVELS + TREE_ROOTS + TREE_UNCLES + 8)
struct seek_target {
	struct endpoint ep;
	bool descend;
	bool ancestor; /* asked before a candidate makes itself a root */
};

struct seek {
	struct seek_target list[SEEK_MAX];
	unsigned n, at, steps, busy;
	uint64_t ref, nonce;
	struct epoch seen; /* when it asked: the grant must be above */
	bool joining;
	uint64_t sent_ms;
	uint32_t backoff_ms;
	bool was_root;         /* it is one again if all fail */
	bool once;             /* an invitation: then nothing else */
	bool all_asked;        /* once at least, in vain */
	struct endpoint avoid; /* a parent that drains */
	/* a candidate's rounds */
	uint64_t round_ref[TREE_ROOTS];
	unsigned rounds, quiet;
	bool earlier, elsewhere;
	bool round_on;
};

enum place {
	PLACE_DETACHED,
	PLACE_ATTACHED,
	PLACE_ROOT,
	PLACE_LEFT
};

struct tree {
	const struct tree_conf *conf;
	const struct tree_env *env;
	void *ctx;
	struct node_id self;
	uint64_t incarnation;
	enum place place;
	bool started, draining;
	uint64_t refs;

	struct epoch seen;        /* highest heard of */
	struct epoch reign_epoch; /* own latest grant as a root */
	uint64_t term;            /* highest used as a root */
	uint32_t stored_fleet;
	uint64_t stored_members; /* hash of who they were */
	uint64_t counted_ms;     /* when that was stored */
	bool count_failed;       /* or could not be */

	/* the parent, the last of path[]; kept when it is lost */
	struct epoch lease, held; /* held: highest ever */
	/* wall clock: when it was taken, by the highest that was shown */
	uint64_t lease_ms, wall_high_ms;
	struct tree_peer *path; /* room for one at least */
	unsigned n_path, cap_path;
	struct tree_peer uncle[TREE_UNCLES];
	unsigned n_uncles;
	struct endpoint root_ep[TREE_ROOTS]; /* as beats say */
	unsigned n_root_ep;
	bool rooted, beaten; /* beaten: a beat under this lease was heard */
	bool told_whole;     /* in the last answer to one */
	uint64_t told_ms;    /* that answer */
	uint64_t granted_ms; /* the last grant to somebody below */
	bool tasks_same;     /* as that beat's parent has them */
	uint64_t heard_ms, watch_ms, unrooted_ms;
	uint64_t please, please_ms;
	uint8_t please_tries;
	bool please_asked;
	double offset_ms, error_ms;
	uint32_t fleet;       /* as the root last said */
	uint32_t rows_most;   /* read by the parent; 0: all */
	struct endpoint home; /* parent wanted again; port 0: none */
	uint64_t home_ref;
	uint32_t home_wait_ms;

	struct seek *seek;
	struct reign *reign;
	struct climb *climbs;
	unsigned n_climbs;

	struct branch **child;
	unsigned n_children, cap_children;
	uint64_t slots; /* bit set: timer of that number is taken */

	/* rows.c */
	struct grave *grave;
	uint32_t n_graves, cap_graves;
	struct tree_row *rows;
	uint32_t n_rows, n_gone; /* gone: after the others, for the parent */
	uint32_t n_hidden;       /* told of from below, but above as it seems */
	bool path_new;           /* not looked at for these */
	uint64_t version, rows_hash, ids_hash, resolved_ms, double_ms;
	struct twins *twins; /* NULL: there never were any */
	bool dirty, hash_dirty, conflict, pending, read, announce_due;
	bool twice; /* twins are heard in these rows */
	struct tree_peer *members;
	uint32_t n_members;
	struct tree_peer *unseen; /* listed below, and never there */
	uint32_t n_unseen;        /* but at a root: it has them as extras */
	uint64_t members_hash;

	uint64_t drain_ms;
	uint64_t hand_down_ms; /* the next child goes then; 0: none */
#ifdef TREE_CHECK
	struct epoch check_seen, check_held;
#endif
};

static inline bool id_equal(const struct node_id *a, const struct node_id *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

static inline uint64_t id_head(const struct node_id *id)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | id->b[i];
	return v;
}

/* A number of hosts as it travels and is kept: more could not be read. */
static inline uint32_t hosts_told(uint32_t n)
{
	return MIN(n, TREE_MEMBERS);
}

static inline uint64_t now_ms(const struct tree *t)
{
	return t->env->now_ms(t->ctx);
}

static inline uint64_t wall_ms(const struct tree *t)
{
	return t->env->wall_ms(t->ctx);
}

/* Uniform in [0, n). */
static inline uint64_t random_below(const struct tree *t, uint64_t n)
{
	return n ? t->env->random(t->ctx) % n : 0;
}

static inline void timer_at(struct tree *t, uint32_t id, uint64_t at_ms)
{
	t->env->timer(t->ctx, id, at_ms);
}

static inline void event(struct tree *t, enum tree_event e,
			 const struct node_id *id)
{
	t->env->event(t->ctx, e, id);
}

/* ---- tree.c ---- */
/* Sends with a new ref of this kind; the ref, or 0 if it could not. */
uint64_t tree_send(struct tree *t, enum op op, unsigned slot,
		   const struct endpoint *to, struct tree_msg *m,
		   uint32_t limit_ms, bool fresh);
void tree_cancel(struct tree *t, uint64_t *ref);
void tree_reply(struct tree *t, uint64_t ref, struct tree_msg *m);
void tree_refuse(struct tree *t, uint64_t ref, enum tree_kind kind,
		 enum tree_word w);
/* A new struct of this kind, everything else zero. */
void msg_init(struct tree_msg *m, enum tree_kind kind);
/* Own position below the root, 0 for a root and without a parent. */
unsigned tree_level(const struct tree *t);
/* Attached or a root, and a root is above. */
bool tree_may_grant(const struct tree *t);
/* The lease is the current one. */
bool tree_under(const struct tree *t, const struct epoch *lease);
bool tree_in_path(const struct tree *t, const struct node_id *id);
uint32_t tree_height(const struct tree *t);
/*
 * Takes an epoch that is higher; another reign's is kept over a restart.  Only
 * from above, under the lease: from below there is nothing to learn, as each
 * grant is above all that its mover has seen (reign_grant()).
 */
void tree_see(struct tree *t, const struct epoch *e);
/* Where a host is: as it says, or where it called from. */
bool tree_address(const struct tree *t, const struct endpoint *said,
		  const struct endpoint *from, struct endpoint *out);
bool tree_target_valid(const struct endpoint *ep);
struct endpoint tree_root_address(const struct tree *t);
int tree_store(struct tree *t);
/* Lost since then: expected no more.  Who is listed is never forgotten. */
bool tree_forgets(const struct tree *t, uint64_t since_ms);
void tree_fill_mover(const struct tree *t, struct tree_mover *m);

/* ---- climb.c ---- */
/* One as tall may be given a place further down: a level is left for it, and it
 * makes nothing deeper, as with each root that is lost. */
bool climb_fits_below(const struct tree *t, uint32_t height);
void climb_join(struct tree *t, const struct endpoint *from,
		const struct tree_msg *m, uint64_t ref);
void climb_grant(struct tree *t, const struct tree_msg *m, uint64_t ref);
void climb_done(struct tree *t, uint64_t ref, int err,
		const struct tree_msg *m);
/* Tells the root how a grant ended. */
void climb_tell(struct tree *t, enum tree_grant_act act, const struct branch *b,
		const struct epoch *lease);
void climb_drop_all(struct tree *t);

/* ---- branch.c ---- */
/* What becomes of a child that is one no more, and of those below it. */
enum rows_fate {
	ROWS_ELSEWHERE, /* members by another way */
	ROWS_LEFT,      /* it is no member any more, those below it are */
	ROWS_GONE       /* none of them is */
};
struct branch *branch_new(struct tree *t, const struct endpoint *ep);
void branch_drop(struct tree *t, struct branch *b);
struct branch *branch_by_id(const struct tree *t, const struct node_id *id);
struct branch *branch_by_lease(const struct tree *t, const struct epoch *e);
struct branch *branch_by_endpoint(const struct tree *t,
				  const struct endpoint *ep);
/* Counts towards the rows: it is or was a child, or was added by hand. */
bool branch_counts(const struct branch *b);
void branch_granted(struct tree *t, struct branch *b,
		    const struct tree_mover *m, const struct epoch *lease);
void branch_timer(struct tree *t, unsigned slot);
void branch_done(struct tree *t, uint64_t ref, int err,
		 const struct tree_msg *m);
void branch_please(struct tree *t, const struct tree_msg *m, uint64_t ref);
void branch_leave(struct tree *t, const struct tree_msg *m, uint64_t ref);
void branch_start(struct tree *t, struct branch *b, uint64_t delay_ms);
/* The next beats carry news: soon, but not all at once. */
void branch_news(struct tree *t);
/* Hosts may be below it that it has not told of: a grant was asked for. */
void branch_grows(const struct tree *t, struct branch *b);
/* No answer can come by way of it from a host that has no row here. */
bool branch_known(const struct branch *b);
/* Hosts that it can have by now. */
uint32_t branch_most(const struct tree *t, const struct branch *b);
/* Children that were, and now are above this agent. */
void branch_forget_above(struct tree *t);
void branch_free_all(struct tree *t);

/* Tries again after a while, later each time. */
void branch_retry(struct tree *t, struct branch *b, uint32_t max_ms);
/* Drops it; it is no member any more. */
void branch_forget(struct tree *t, struct branch *b, enum rows_fate fate);

/* Tells readers, and the rows if it goes or comes. */
void branch_state(struct tree *t, struct branch *b, enum child_state s);
/* A second after the last one, or soon, if there is news. */
void branch_next_beat(struct tree *t, struct branch *b);

/* ---- beat.c ---- */
void beat_say(struct tree *t, struct branch *b);
/* Under the lease, as it should be. */
void beat_answered(struct tree *t, struct branch *b, const struct tree_msg *m);

/* ---- byhand.c ---- */
void byhand_hello(struct tree *t, struct branch *b);
void byhand_done(struct tree *t, struct branch *b, int err,
		 const struct tree_msg *m);
void byhand_refused(struct tree *t, struct branch *b, enum tree_word w);
/* Clients that wait for this child are told. */
void byhand_settle(struct branch *b, enum tree_word w);
void byhand_timer(struct tree *t);

/* ---- link.c ---- */
void link_beat(struct tree *t, const struct endpoint *from,
	       const struct tree_msg *m, uint64_t ref);
void link_timer(struct tree *t);
void link_done(struct tree *t, uint64_t ref, int err, const struct tree_msg *m);
/* The parent says that this lease is none of its. */
void link_disowned(struct tree *t, const struct epoch *lease);
/* Drops the lease; what comes next is the caller's to say. */
void link_detach(struct tree *t);
/* false: no memory, nothing changed. */
bool link_commit(struct tree *t, const struct endpoint *parent,
		 const struct tree_msg *m);

/* ---- seek.c ---- */
/* Looks for a parent; to: only there, and then a root again if it was one. */
void seek_start(struct tree *t, const struct endpoint *to, uint64_t delay_ms);
void seek_timer(struct tree *t);
void seek_done(struct tree *t, uint64_t ref, int err, const struct tree_msg *m);
void seek_invited(struct tree *t, const struct endpoint *from,
		  const struct tree_msg *m, uint64_t ref);
void seek_stop(struct tree *t);
/* Attached, or a root again: is there a better place to go back to? */
void seek_place(struct tree *t);
/* Its id is another's: it draws a new one and joins anew. */
void seek_new_identity(struct tree *t);
/* To the front of the list. */
void seek_prefer(struct tree *t, const struct endpoint *ep, bool descend);
/* From the parent that it was below, which sends it on. */
void seek_down(struct tree *t, const struct endpoint *parent);
/* The ancestors were asked, and nobody is being asked for a place. */
bool seek_exhausted(const struct tree *t);

/* ---- reign.c ---- */
bool reign_candidate(const struct tree *t);
/* 0, or -errno: not a root, for want of memory or disk. */
int reign_begin(struct tree *t);
/* There are so many, and those announced last: kept over restarts. */
void reign_count(struct tree *t, uint32_t fleet);
/* Gives up being a root to move below another. */
void reign_resign(struct tree *t);
void reign_end(struct tree *t);
int reign_raise(struct tree *t, uint64_t above);
/* Now and then: who is lost for good, how many there are. */
void reign_keep_house(struct tree *t);
/* The next number; for a grant of this mover. */
enum tree_word reign_grant(struct tree *t, const struct tree_mover *mover,
			   const struct endpoint *ep,
			   const struct node_id *acceptor, struct epoch *out);
void reign_settle(struct tree *t, const struct node_id *mover,
		  const struct epoch *lease, bool confirmed);
/* Room for n more members that no child tells of; 0 or -ENOMEM. */
int reign_reserve(struct tree *t, uint32_t n);
/* A member is told of by no child (any more), and was below row->parent if
 * that is known; there is room. */
struct extra *reign_extra(struct tree *t, const struct tree_row *row);

/* ---- candidates.c ---- */
/* A candidate without a parent asks the others, round by round. */
void candidates_start(struct tree *t);
void candidates_stop(struct tree *t);
void candidates_timer(struct tree *t);
void candidates_done(struct tree *t, uint64_t ref, int err,
		     const struct tree_msg *m);
/* All that were asked with these. */
void candidates_cancel(struct tree *t, uint64_t *ref);

/* ---- rows.c ---- */
void rows_touch(struct tree *t); /* what is below changed */
uint64_t rows_hash(struct tree *t);
void rows_resolve(struct tree *t);
void rows_fetch(struct tree *t, struct branch *b);
void rows_done(struct tree *t, struct branch *b, int err,
	       const struct tree_msg *m);
void rows_twin_done(struct tree *t, uint64_t ref, int err,
		    const struct tree_msg *m);
void rows_serve(struct tree *t, const struct tree_msg *m, uint64_t ref);
/* The child is one no more. */
void rows_forget(struct tree *t, struct branch *b, enum rows_fate fate);
/* All that is below, however far, has a row. */
bool rows_whole(const struct tree *t);
/* Of one below that is heard, as are all between; borrowed; or NULL. */
const struct tree_row *rows_heard(struct tree *t, const struct node_id *id);
void rows_derived_id(const struct endpoint *ep, struct node_id *out);
void rows_page_drop(struct branch *b);
/* As if it had not told of anybody. */
void rows_drop(struct branch *b);
/* The root granted this mover a place at the child or below: rows may come. */
void rows_brought(const struct tree *t, struct branch *b,
		  const struct tree_mover *m);
/* So many are read of this child, as things are. */
uint32_t rows_most(const struct tree *t, const struct branch *b);
/* No more are told of as gone than the parent reads. */
void rows_graves_limit(struct tree *t);
/* The parent reads so many: those that hold most give way. */
void rows_limit(struct tree *t, uint32_t most);
/* It tells of more rows than are read of it, or does not any more. */
void rows_crowded(struct tree *t, struct branch *b, bool crowded);
/* This one may be below the child before it tells of it. */
void rows_newcomer(const struct tree *t, struct branch *b,
		   const struct node_id *id);
void rows_free(struct tree *t);

/* ---- announce.c ---- */
/* At the start: whoever is listed below may never come. */
void rows_list(struct tree *t);
void rows_announce(struct tree *t, struct branch *b);
void rows_announced(struct tree *t, const struct tree_msg *m, uint64_t ref);
uint64_t rows_members_hash(struct tree *t);
/* These are the members of the overlay; 0 or -ENOMEM. */
int rows_members_set(struct tree *t, const struct tree_peer *peer, uint32_t n,
		     uint64_t hash);
/* They are too many to be announced: those that were are of former times. */
void rows_members_outgrown(struct tree *t);

#endif
