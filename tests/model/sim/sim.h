/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Simulator of many agents in one process: events in virtual time,
 * a network between agents, faults, and a ledger that judges what the machines
 * do.  The machines are the agent's own objects; nothing of them is copied.
 * One seed, one history.
 */
#ifndef LINNET_SIM_H
#define LINNET_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tree/blocks.h"
#include "agent/tree/tree.h"
#include "agent/tree/walk.h"

#define NOBODY    UINT32_MAX
#define NEVER     UINT64_MAX
#define NO_EVENT  UINT32_MAX
#define TRACE_LEN 100
#define MS        ((uint64_t)1000) /* the virtual clock counts microseconds */
#define SECOND    (1000 * MS)

struct world;

/* ---- world.c: time, chance, trace ---- */

enum event_kind {
	EV_TIMER,   /* arg: id; of a machine */
	EV_REQUEST, /* arg: exchange; it reaches the agent */
	EV_REPLY,   /* arg: exchange; it reaches the agent that asked */
	EV_LIMIT,   /* arg: exchange; the one that asked waits no longer */
	EV_ERROR,   /* arg: exchange; refused or reset */
	EV_CLOSED,  /* the parent's connection closed */
	EV_READ,    /* arg: of a walk; the local read is over */
	EV_START,   /* the process starts */
	EV_FAULT,   /* the next fault */
	EV_MEND,    /* arg: what ends */
	EV_TICK,    /* the ledger looks at everything */
	EV_CASE,    /* arg: the running case's own */
	EV_KINDS
};

struct event {
	uint64_t at_us, arg;
	uint32_t agent;
	uint32_t next, prev; /* in its queue, or next of the free ones */
	uint16_t boot;
	uint8_t kind, level; /* of the wheel */
};

/* Events by the order in which they came. */
struct queue {
	uint32_t first, last;
};

#define WHEEL_DIGIT  6 /* bits */
#define WHEEL_SLOTS  64
#define WHEEL_LEVELS 11
struct wheel {
	uint64_t at_us; /* not above anything in it */
	uint64_t full[WHEEL_LEVELS];
	struct queue slot[WHEEL_LEVELS][WHEEL_SLOTS];
};

struct trace {
	uint64_t at_us;
	uint32_t agent, other;
	uint8_t event, kind, word;
	bool reply;
	int err;
	struct epoch lease, grant;
	uint32_t a, b;
	const char *text; /* static */
};

/* Chance: splitmix64. */
uint64_t chance_u64(uint64_t *state);
uint64_t chance_below(uint64_t *state, uint64_t n); /* 0 … n - 1 */
bool chance_is(uint64_t *state, double p);
double chance_normal(uint64_t *state);

/* ---- network ---- */

enum latency_kind {
	LATENCY_FIXED,
	LATENCY_LOGNORMAL
};

struct net {
	enum latency_kind kind;
	uint64_t latency_us; /* one way; the median */
	double sigma;
	/* what faults add */
	double loss, dup, spike, reorder;
};

struct exchange {
	uint32_t gen, next; /* next: of the free list */
	uint32_t from, to;
	uint32_t limit; /* event, or NO_EVENT */
	int err;
	uint64_t ref;
	uint16_t to_boot;
	bool used, waits, flying, served, charged;
	bool left; /* no question waits for it any more */
	const struct proto *proto;
	void *msg; /* that flies */
};

/* What travels: the tree's messages, or questions. */
struct proto {
	void *(*copy)(struct world *w, const void *m, bool reply);
	void (*free)(struct world *w, void *m);
	void (*request)(struct world *w, uint32_t to, uint32_t from,
			const void *m, uint64_t handle);
	/* err 0: m is the reply, borrowed */
	void (*done)(struct world *w, uint32_t from, uint32_t to, uint64_t ref,
		     int err, void *m);
	/* work of the agent that gets a reply; it does one at a time */
	bool costs;
};
extern const struct proto proto_tree, proto_ask, proto_tasks;

/* ---- agents ---- */

struct timer {
	uint32_t id, event;
};

/* A provider's view: who it serves. */
struct member {
	struct world *w;
	uint32_t self;
};

struct agent {
	struct world *w;
	struct tree *tree; /* NULL: no process */
	struct walk *walk;
	struct blocks *blocks;   /* NULL: not in this case */
	struct kept_block *kept; /* of its tasks, on disk */
	uint64_t placed;         /* what blocks_place() was told */
	struct tree_conf conf;
	struct tree_stored disk;
	struct tree_peer *members; /* on it */
	uint64_t chance;
	struct member provider;
	uint64_t busy_us; /* until then at work on replies */
	uint64_t mono_us; /* of the monotonic clock at virtual 0 */
	int64_t wall_us;  /* of the wall clock against virtual time */
	uint32_t lives;   /* ids it had so far */
	uint32_t n_timers, max_timers;
	struct timer *timer;
	struct queue held;  /* events while it is stopped */
	uint32_t in_flight; /* exchanges it waits for */
	uint32_t slow_us;
	uint16_t boot; /* of the process; rises */
	uint8_t group; /* agents of different groups do not hear each other */
	bool stopped, power, old, cut_in, cut_out, gone, drains;
	bool founds; /* begins as a root, whatever its provider says */

	/* the ledger's */
	uint32_t parent; /* as the machine says, or NOBODY */
	bool root, detached;
	bool member;      /* of the overlay: it joined, and nobody removed it */
	uint64_t removed; /* bits of roots that an admin took it from */
	uint64_t back;    /* of those that it was below since */
	uint32_t remover; /* whose child it was then, or NOBODY */
	bool amnesia;     /* lost its disk and was in no tree since */
	bool liar;        /* its parts are wrong */
	uint64_t disturbed_us; /* when a fault of it began or ended last */
	struct epoch lease, seen, highest; /* highest lease ever held */
	uint64_t orphan_us;                /* since; NEVER: is none */
	uint64_t bad_us; /* when it was stopped, killed or cut off */
};

/* ---- ledger ---- */

/* Questions under way to an agent; how many of them the asker left. */
struct net_asks {
	uint32_t all, left;
};

struct ledger {
	uint64_t *lease; /* a hash of each that was ever taken; 0: none */
	uint64_t n_leases, max_leases;
	uint64_t *repair_us; /* how long each orphan was one */
	uint32_t n_repairs, max_repairs;
	uint64_t moves, checks;
	uint32_t *count;       /* scratch of whole looks */
	struct net_asks *asks; /* scratch */
	uint32_t n_removed;    /* agents that an admin took away */
};

/* ---- the world ---- */

/* An exchange in which somebody lies, and of which query it is. */
#define LIED 64
struct lied {
	uint64_t handle;
	uint8_t id[16];
};

/* What became of queries. */
struct ask_stats {
	uint64_t asked, answered, complete, partial, doubles, dropped;
	uint64_t *took_us;
	uint32_t n_took, max_took;
};

struct sim_conf {
	uint32_t agents, fanout;
	uint64_t seed;
	const char *ignore;   /* a check that may fail, as "O5" */
	const char *provider; /* "join", "static", "manual" */
	const char *faults;   /* names, comma between; "all" */
	uint64_t fault_us;    /* how long faults come */
	uint64_t every_us;    /* a fault at the mean */
	uint32_t tooth;       /* what is seen wrongly on purpose: a check's */
	struct net net;
	uint64_t forget_ms;
	uint32_t queries;          /* of a case */
	bool tasks;                /* agents have some */
	uint32_t newcomers;        /* agents that the provider does not place */
	uint32_t cost_us, read_us; /* of a child's reply; of a local read */
	uint64_t tick_us;          /* 0: never */
	uint64_t verbose_us; /* print the trace from then on; NEVER: not */
};

struct world {
	struct sim_conf conf;
	uint64_t now_us, n_events, n_messages, n_wired, hash, chance;
	struct wheel wheel;
	struct event *event;
	uint32_t n_event, max_event, free_event;
	struct agent *agent;
	uint32_t n; /* agents that exist, running or not */
	struct net net;
	struct exchange *exchange;
	uint32_t n_exchange, max_exchange, free_exchange;
	struct tree_msg **spare; /* messages to use again */
	uint32_t n_spare, max_spare;
	struct ledger ledger;
	struct ask_stats asked;
	struct asked *queries;
	struct lied lied[LIED];
	uint64_t n_lied;
	uint64_t n_tasks, n_calm; /* ids given; put while all was calm */
	struct endpoint roots[TREE_ROOTS];
	uint64_t disturbed_us; /* by a fault of the whole network */
	struct trace ring[TRACE_LEN];
	uint64_t n_trace;
	uint64_t last_fault_us;
	uint32_t mask; /* of faults */
	uint64_t fault_round;
	bool failed, bitten, tasks_over;
	bool superseded; /* a root had no set to go on from */
	char why[256];
	void (*on_case)(struct world *w, uint64_t arg);
	uint32_t budget_ms; /* of a case's queries */
};

int world_open(struct world *w, const struct sim_conf *conf);
void world_close(struct world *w);
uint32_t world_push(struct world *w, uint64_t at_us, enum event_kind kind,
		    uint32_t agent, uint64_t arg);
void world_cancel(struct world *w, uint32_t event);
/* Events that wait for something else than time. */
void queue_put(struct world *w, struct queue *q, const struct event *e);
bool queue_take(struct world *w, struct queue *q, struct event *out);
/* Until then, or until something failed. */
void world_run(struct world *w, uint64_t until_us);
/* For what is not an event of its own. */
void world_note(struct world *w, uint32_t agent, uint32_t other,
		const char *text);
void world_trace(struct world *w, enum event_kind kind, uint32_t agent,
		 uint32_t other, const struct tree_msg *m, bool reply, int err);
/* The first one is kept. */
void world_fail(struct world *w, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void world_dump(const struct world *w);
void *grow(void *p, uint32_t *max, uint32_t need, size_t size);

/* ---- net.c ---- */

struct endpoint endpoint_of(uint32_t agent);
uint32_t agent_at(const struct world *w, const struct endpoint *ep);
int net_send(struct world *w, const struct proto *proto, uint32_t from,
	     const struct endpoint *to, const void *m, uint32_t limit_ms,
	     bool fresh, uint64_t ref);
void net_cancel(struct world *w, const struct proto *proto, uint32_t from,
		uint64_t ref);
/* No question waits for it; it goes on for limit_ms. */
void net_leave(struct world *w, const struct proto *proto, uint32_t from,
	       uint64_t ref, uint32_t limit_ms);
/* Of this one's questions, to each agent. */
void net_asks(const struct world *w, uint32_t from, struct net_asks *n);
void net_reply(struct world *w, uint32_t from, uint64_t handle, const void *m);
void net_event(struct world *w, const struct event *e);
/* An event that waited at a process which ended. */
void net_lost(struct world *w, const struct event *e, bool reset);
/* The process ended: reset says whether others hear of it. */
void net_process_ended(struct world *w, uint32_t agent, bool reset);
bool net_reaches(const struct world *w, uint32_t from, uint32_t to);
uint64_t net_latency(struct world *w, uint32_t from, uint32_t to);
void net_free(struct world *w);
struct tree_msg *msg_copy(struct world *w, const struct tree_msg *m);
/* A copy that went through JSON, or NULL: not this one. */
struct tree_msg *wire_through(struct world *w, const struct tree_msg *m,
			      bool reply);
/* What a reply to a question says of its hosts; true: it went through JSON. */
bool wire_coverage(struct world *w, const struct coverage *c,
		   struct coverage *out);

/* ---- agents.c: processes and what they reach the world by ---- */

struct node_id id_of(const struct world *w, uint32_t agent, uint32_t life);
uint32_t agent_of_id(const struct world *w, const struct node_id *id);
void agent_start(struct world *w, uint32_t agent);
/* Asks it, in the name of another, to leave its reign and be its child. */
void agent_invite(struct world *w, uint32_t agent, uint32_t parent);
/* What founded is of its provider from now on. */
void agent_settle(struct world *w, uint32_t agent);
/* power: nobody hears of it; else connections are reset. */
void agent_kill(struct world *w, uint32_t agent, bool power);
void agent_stop(struct world *w, uint32_t agent);
void agent_continue(struct world *w, uint32_t agent);
void agent_disturb(struct world *w, uint32_t agent);
/* Ids too high for a tree's are of the other machines. */
#define WALK_TIMER UINT32_C(1000)
#define TASK_TIMER UINT32_C(1001)
uint64_t tree_now_ms(const struct agent *a);
void agent_timer(struct agent *a, uint32_t id, uint64_t at_ms);
void agent_forget_disk(struct world *w, uint32_t agent);
void agent_event(struct world *w, const struct event *e);
bool agent_runs(const struct agent *a); /* has a process, not stopped */
/* Kept until the process goes on. */
void agent_hold(struct world *w, const struct event *e);
uint64_t agent_wall_ms(const struct agent *a);

/* ---- ask.c: questions and their judge ---- */

struct walk *ask_new(struct world *w, uint32_t agent);
/* false: it has too many already */
bool ask_start(struct world *w, uint32_t agent, uint32_t budget_ms);
/* Its process ends. */
void ask_ended(struct world *w, uint32_t agent);
/*
 * What agents remember of questions that are over, as if a minute had passed.
 * Nobody must be asked now.
 */
void ask_forget(struct world *w);
void ask_free(struct world *w);
void ask_read(struct world *w, const struct event *e);
uint64_t ask_took(struct world *w, double quantile);

/* ---- tasks.c ---- */

void tasks_begin(struct world *w, uint32_t agent);
void tasks_end(struct world *w, uint32_t agent);
void tasks_forget(struct agent *a);
/* Was it the last disk of a candidate that had them all? */
void tasks_disk_lost(struct world *w);
void tasks_tick(struct agent *a);
void tasks_place(struct agent *a);
/* A client changes one; calm: it must never be lost. */
void tasks_change(struct world *w, uint32_t agent, bool calm);
bool tasks_equal(struct world *w, char *why, size_t size);
void tasks_judge(struct world *w);

/* ---- faults.c ---- */

int faults_parse(const char *list, uint32_t *mask);
void faults_begin(struct world *w);
void faults_event(struct world *w, const struct event *e);
void faults_end(struct world *w); /* everything is mended now */
void faults_print(void);

/* ---- ledger.c ---- */

/* What the machine of an agent says of itself. */
struct view {
	uint32_t parent;
	struct epoch lease, seen;
	unsigned children;
	bool root, detached;
};

/*
 * Checks that cannot fail are none: each of these makes one fail, by a lie to
 * the ledger about one agent, once, when a while has passed.
 */
enum tooth {
	TOOTH_NONE,
	TOOTH_CYCLE,   /* O1 */
	TOOTH_LEASE,   /* O2: two agents take one lease */
	TOOTH_DOUBLE,  /* O2: a part has a host of another's */
	TOOTH_COUNT,   /* O3 */
	TOOTH_WRONG,   /* O3: complete without a member */
	TOOTH_LATE,    /* O4 */
	TOOTH_MISSING, /* O5: a healthy host is missing */
	TOOTH_BACK,    /* O6 */
	TOOTH_FORGET,  /* O7: a task is not there */
	TOOTH_MANY,    /* O8 */
	TOOTH_APART,   /* never whole: one is cut off for ever */
	TOOTH_CHANCE,  /* two histories of one seed */
	TEETH
};
int tooth_parse(const char *name, uint32_t *out);
void teeth_print(void);
/* true: now, and never again. */
bool tooth_bites(struct world *w, enum tooth t);
void teeth_view(struct world *w, uint32_t agent, struct view *v);

int ledger_open(struct world *w);
void ledger_free(struct world *w);
/* After every call of an agent's machine. */
void ledger_touch(struct world *w, uint32_t agent);
void ledger_removed(struct world *w, uint32_t agent);
static inline uint64_t root_bit(uint32_t root)
{
	return UINT64_C(1) << root % 64;
}
void ledger_started(struct world *w, uint32_t agent);
void ledger_ended(struct world *w, uint32_t agent);
/* O1 … O8 of all agents. */
void ledger_look(struct world *w);
/* One tree of all that run, rows as they are; else why not. */
bool ledger_whole(struct world *w, char *why, size_t size);
uint64_t ledger_repair(struct world *w, double quantile);

/* ---- cases.c, cases_scale.c, cases_tasks.c ---- */

struct tally {
	uint64_t runs, failed, events, messages, moves, checks;
	uint64_t asked, complete, partial;
	uint64_t trace; /* of all histories, in any order */
};

struct run {
	struct sim_conf conf;
	uint32_t seeds, jobs;
};

struct sim_case {
	const char *name, *text;
	bool twice; /* some seeds again, for the same history */
	/* What differs from the defaults, before the command line. */
	void (*defaults)(struct run *r);
	/* One history; 0 or -1 and w->why. */
	int (*play)(struct world *w);
};
extern const struct sim_case sim_cases[];
extern const size_t n_sim_cases;
void tasks_defaults(struct run *r);
int tasks_play(struct world *w);
void scale_defaults(struct run *r);
int scale_play(struct world *w);
void huge_defaults(struct run *r);
int huge_play(struct world *w);
void cost_defaults(struct run *r);
int cost_play(struct world *w);

/* Runs until the tree is whole; how long it took, or a failure. */
uint64_t run_until_whole(struct world *w, uint64_t limit_us, uint64_t step_us,
			 const char *after);

#endif
