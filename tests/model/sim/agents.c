/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Agents: a process each, with its machine, clocks, disk and timers, and the
 * functions by which the machine reaches the world.  Monotonic clocks begin
 * anywhere; a process that is stopped gets its events, in order, when it goes
 * on; one that ended left only what it had stored.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "sim.h"

#define WALL_MS 1795222860000ull /* at virtual 0 */
#define NO_REF  UINT64_MAX       /* its answer is for nobody */

bool agent_runs(const struct agent *a)
{
	return a->tree && !a->stopped;
}

uint64_t tree_now_ms(const struct agent *a)
{
	return (a->w->now_us + a->mono_us) / MS;
}

uint64_t agent_wall_ms(const struct agent *a)
{
	return (uint64_t)((int64_t)(WALL_MS * MS + a->w->now_us) + a->wall_us) /
	       MS;
}

/* ---- ids: bytes 12..15 are the agent, 8..11 which of its lives ---- */

struct node_id id_of(const struct world *w, uint32_t agent, uint32_t life)
{
	uint64_t seed = w->conf.seed + ((uint64_t)life << 32) + agent;
	uint64_t r = chance_u64(&seed);
	struct node_id id;

	memcpy(id.b, &r, 8);
	memcpy(id.b + 8, &life, 4);
	memcpy(id.b + 12, &agent, 4);
	return id;
}

uint32_t agent_of_id(const struct world *w, const struct node_id *id)
{
	uint32_t agent, life;
	struct node_id made;

	memcpy(&agent, id->b + 12, 4);
	memcpy(&life, id->b + 8, 4);
	if (agent < w->n) {
		made = id_of(w, agent, life);
		if (node_id_equal(&made, id))
			return agent;
	}
	/* one that the machine drew itself */
	for (uint32_t i = 0; i < w->n; i++)
		if (node_id_equal(&w->agent[i].disk.id, id))
			return i;
	return NOBODY;
}

/* ---- providers ---- */

static int join_parents(struct member *m, struct endpoint *out, size_t max)
{
	size_t n = 0;

	for (uint32_t i = 0; i < 3 && i < m->w->n && n < max; i++)
		if (i != m->self)
			out[n++] = endpoint_of(i);
	return (int)n;
}

static int heap_parents(struct member *m, struct endpoint *out, size_t max)
{
	if (!m->self || !max)
		return 0;
	out[0] = endpoint_of((m->self - 1) / m->w->conf.fanout);
	return 1;
}

static int no_parents(struct member *m, struct endpoint *out, size_t max)
{
	(void)m, (void)out, (void)max;
	return 0;
}

static uint64_t no_hash(struct member *m)
{
	(void)m;
	return 0;
}

static void no_close(struct member *m)
{
	(void)m;
}

enum {
	BY_SEEDS,
	BY_HEAP,
	BY_HAND
};

static const struct member_ops founder = { .name = "founder",
					   .parents = heap_parents,
					   .hash = no_hash,
					   .founds = true,
					   .close = no_close };

static const struct member_ops providers[] = {
	[BY_SEEDS] = { .name = "join",
		       .seeds = true,
		       .parents = join_parents,
		       .hash = no_hash,
		       .close = no_close },
	[BY_HEAP] = { .name = "heap",
		      .parents = heap_parents,
		      .hash = no_hash,
		      .close = no_close },
	[BY_HAND] = { .name = "manual",
		      .parents = no_parents,
		      .hash = no_hash,
		      .founds = true,
		      .close = no_close },
};

static const struct member_ops *provider_of(const struct world *w,
					    uint32_t agent)
{
	const char *name = agent < w->n - w->conf.newcomers ? w->conf.provider
							    : "join";

	if (w->agent[agent].founds)
		return &founder;
	for (size_t i = 0; i < ARRAY_SIZE(providers); i++)
		if (strcmp(providers[i].name, name) == 0)
			return &providers[i];
	fprintf(stderr, "sim: no provider %s\n", w->conf.provider);
	exit(64);
}

/* ---- what a machine reaches ---- */

static uint64_t env_now(void *ctx)
{
	return tree_now_ms(ctx);
}

static uint64_t env_wall(void *ctx)
{
	return agent_wall_ms(ctx);
}

static uint64_t env_random(void *ctx)
{
	struct agent *a = ctx;

	return chance_u64(&a->chance);
}

static uint32_t index_of(const struct agent *a)
{
	return (uint32_t)(a - a->w->agent);
}

static int env_send(void *ctx, const struct endpoint *to,
		    const struct tree_msg *m, uint32_t limit_ms, bool fresh,
		    uint64_t ref)
{
	struct agent *a = ctx;

	return net_send(a->w, &proto_tree, index_of(a), to, m, limit_ms, fresh,
			ref);
}

static void env_cancel(void *ctx, uint64_t ref)
{
	struct agent *a = ctx;

	net_cancel(a->w, &proto_tree, index_of(a), ref);
}

static void env_reply(void *ctx, uint64_t ref, const struct tree_msg *m)
{
	struct agent *a = ctx;

	net_reply(a->w, index_of(a), ref, m);
}

/* Its place, or n_timers. */
static uint32_t timer_find(const struct agent *a, uint32_t id)
{
	uint32_t i = 0;

	while (i < a->n_timers && a->timer[i].id != id)
		i++;
	return i;
}

static void timer_drop(struct agent *a, uint32_t i)
{
	a->timer[i] = a->timer[--a->n_timers];
}

void agent_timer(struct agent *a, uint32_t id, uint64_t at_ms)
{
	uint32_t i = timer_find(a, id);
	uint64_t at_us;

	if (i < a->n_timers) {
		if (a->timer[i].event != NO_EVENT)
			world_cancel(a->w, a->timer[i].event);
		if (at_ms == NEVER) {
			timer_drop(a, i);
			return;
		}
	} else if (at_ms == NEVER) {
		return;
	} else {
		if (a->n_timers == a->max_timers) {
			a->max_timers += 2;
			a->timer = realloc(a->timer,
					   a->max_timers * sizeof(*a->timer));
			if (!a->timer)
				abort();
		}
		a->timer[a->n_timers++].id = id;
	}
	at_us = at_ms > NEVER / MS ? NEVER : at_ms * MS;
	a->timer[i].event = world_push(a->w, at_us - MIN(at_us, a->mono_us),
				       EV_TIMER, index_of(a), id);
}

static void env_timer(void *ctx, uint32_t id, uint64_t at_ms)
{
	agent_timer(ctx, id, at_ms);
}

static int env_store(void *ctx, const struct tree_stored *s)
{
	struct agent *a = ctx;

	free(a->members);
	a->members = NULL;
	if (s->n_members) {
		a->members = calloc(s->n_members, sizeof(*a->members));
		if (!a->members)
			abort();
		memcpy(a->members, s->members,
		       s->n_members * sizeof(*a->members));
	}
	a->disk = *s;
	a->disk.members = a->members;
	return 0;
}

static unsigned env_blocks(void *ctx, struct tree_block out[TREE_BLOCKS])
{
	const struct agent *a = ctx;

	return a->blocks ? blocks_rows(a->blocks, out) : 0;
}

static void env_blocks_heard(void *ctx, const struct node_id *child,
			     const struct tree_block *b, unsigned n)
{
	struct agent *a = ctx;

	if (a->blocks)
		blocks_heard(a->blocks, child, b, n);
}

static void env_event(void *ctx, enum tree_event e, const struct node_id *id)
{
	(void)ctx, (void)e, (void)id;
}

static const struct tree_env env = {
	.now_ms = env_now,
	.wall_ms = env_wall,
	.random = env_random,
	.send = env_send,
	.cancel = env_cancel,
	.reply = env_reply,
	.timer = env_timer,
	.store = env_store,
	.blocks = env_blocks,
	.blocks_heard = env_blocks_heard,
	.event = env_event,
};

/* ---- life of a process ---- */

static void agent_conf(struct agent *a)
{
	const struct world *w = a->w;
	const struct member_ops *ops = provider_of(w, index_of(a));

	a->conf = (struct tree_conf){
		.overlay = "linnet",
		.rack = "",
		.self = endpoint_of(index_of(a)),
		.provider = ops,
		.member = &a->provider,
		.roots = w->roots,
		.n_roots = ops->founds ? 0 : MIN(3, w->n),
		.fanout = w->conf.fanout,
		.forget_ms = w->conf.forget_ms,
	};
}

static void agent_begin(struct world *w, uint32_t agent)
{
	struct agent *a = &w->agent[agent];

	if (a->tree || a->gone)
		return;
	a->boot++;
	a->power = a->drains = false;
	if (!a->lives) {
		memset(&a->disk, 0, sizeof(a->disk));
		a->disk.id = id_of(w, agent, a->lives++);
	}
	a->disk.incarnation = MAX(a->disk.incarnation + 1, agent_wall_ms(a));
	agent_conf(a);
	a->tree = tree_new(&a->conf, &a->disk, &env, a);
	if (!a->tree)
		abort();
	a->walk = ask_new(w, agent);
	tasks_begin(w, agent);
	agent_disturb(w, agent);
	ledger_started(w, agent);
	tree_start(a->tree);
	if (a->founds) /* it takes children as another one does */
		a->conf.provider = &providers[BY_HEAP];
	ledger_touch(w, agent);
}

void agent_disturb(struct world *w, uint32_t agent)
{
	w->agent[agent].disturbed_us = w->now_us;
}

void agent_start(struct world *w, uint32_t agent)
{
	agent_begin(w, agent);
}

void agent_invite(struct world *w, uint32_t agent, uint32_t parent)
{
	struct endpoint to = endpoint_of(agent);
	struct tree_msg m = {
		.kind = TREE_INVITE,
		.u.invite = { .id = *tree_self(w->agent[parent].tree),
			      .ep = endpoint_of(parent),
			      .overlay = "linnet" },
	};

	/* only who founds may be invited */
	w->agent[agent].conf.provider = &founder;
	net_send(w, &proto_tree, parent, &to, &m, 500, true, NO_REF);
}

void agent_settle(struct world *w, uint32_t agent)
{
	w->agent[agent].founds = false;
	agent_conf(&w->agent[agent]);
}

void agent_forget_disk(struct world *w, uint32_t agent)
{
	struct agent *a = &w->agent[agent];

	memset(&a->disk, 0, sizeof(a->disk));
	a->disk.id = id_of(w, agent, a->lives++);
	tasks_forget(a);
	tasks_disk_lost(w);
	a->amnesia = true;
	memset(&a->highest, 0, sizeof(a->highest));
}

/* Who stands under this agent hears the connection close. */
static void children_hear(struct world *w, uint32_t agent)
{
	const struct tree *t = w->agent[agent].tree;

	for (unsigned i = 0; i < tree_n_children(t); i++) {
		struct tree_child c;
		uint32_t to;

		tree_child_at(t, i, &c);
		to = agent_at(w, &c.ep);
		if (to != NOBODY && w->agent[to].tree &&
		    w->agent[to].parent == agent && net_reaches(w, agent, to))
			world_push(w, w->now_us + net_latency(w, agent, to),
				   EV_CLOSED, to, agent);
	}
}

static void held_lost(struct world *w, struct agent *a, bool reset)
{
	struct event e;

	while (queue_take(w, &a->held, &e))
		if (e.kind == EV_REQUEST || e.kind == EV_REPLY ||
		    e.kind == EV_LIMIT || e.kind == EV_ERROR)
			net_lost(w, &e, reset);
}

void agent_kill(struct world *w, uint32_t agent, bool power)
{
	struct agent *a = &w->agent[agent];

	if (!a->tree)
		return;
	a->bad_us = w->now_us;
	agent_disturb(w, agent);
	if (!power)
		children_hear(w, agent);
	a->power = power;
	while (a->n_timers)
		if (a->timer[--a->n_timers].event != NO_EVENT)
			world_cancel(w, a->timer[a->n_timers].event);
	ask_ended(w, agent);
	tasks_end(w, agent);
	walk_free(a->walk);
	tree_free(a->tree);
	a->walk = NULL;
	a->tree = NULL;
	a->stopped = false;
	net_process_ended(w, agent, !power);
	held_lost(w, a, !power);
	ledger_ended(w, agent);
}

/* ---- stopped ---- */

void agent_hold(struct world *w, const struct event *e)
{
	queue_put(w, &w->agent[e->agent].held, e);
}

void agent_stop(struct world *w, uint32_t agent)
{
	struct agent *a = &w->agent[agent];

	if (!a->tree || a->stopped)
		return;
	a->stopped = true;
	a->bad_us = w->now_us;
	agent_disturb(w, agent);
}

void agent_continue(struct world *w, uint32_t agent)
{
	struct agent *a = &w->agent[agent];
	struct event e;

	a->stopped = false;
	agent_disturb(w, agent);
	while (queue_take(w, &a->held, &e)) {
		uint32_t made = world_push(
			w, w->now_us, (enum event_kind)e.kind, agent, e.arg);
		w->event[made].boot = e.boot;
		if (e.kind == EV_TIMER)
			a->timer[timer_find(a, (uint32_t)e.arg)].event = made;
	}
}

void agent_event(struct world *w, const struct event *e)
{
	struct agent *a = &w->agent[e->agent];
	uint32_t i = 0;

	if (e->kind == EV_START) {
		agent_begin(w, e->agent);
		return;
	}
	if (!a->tree || e->boot != a->boot)
		return;
	if (e->kind == EV_TIMER)
		i = timer_find(a, (uint32_t)e->arg);
	if (a->stopped) {
		if (e->kind == EV_TIMER)
			a->timer[i].event = NO_EVENT;
		agent_hold(w, e);
		return;
	}
	world_trace(w, (enum event_kind)e->kind, e->agent, NOBODY, NULL, false,
		    0);
	if (e->kind == EV_TIMER) {
		timer_drop(a, i);
		if (e->arg == WALK_TIMER)
			walk_timer(a->walk);
		else if (e->arg == TASK_TIMER)
			tasks_tick(a);
		else
			tree_timer(a->tree, (uint32_t)e->arg);
	} else if (e->kind == EV_READ) {
		ask_read(w, e);
	} else if (a->parent == (uint32_t)e->arg) {
		/* else it found another one meanwhile */
		tree_parent_closed(a->tree);
	}
	ledger_touch(w, e->agent);
}
