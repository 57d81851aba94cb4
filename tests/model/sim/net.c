/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network: exchanges of a request and a reply as agents have them over
 * HTTP.  A message is late by a drawn time, may be lost (the one that asked
 * waits until its limit), comes twice (as after a retry), overtakes others, or
 * meets a cut, a host without power, a process that is stopped or gone.  What
 * was sent before a limit passed still arrives after it.
 *
 * An exchange lives while somebody waits for it, a message of it flies, or the
 * machine that serves it owes a reply.  It owns the message that flies.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "sim.h"

#define PORT     8000
#define SPIKE_US (3 * SECOND)
#define DUP_US   (2 * SECOND)

/* ---- addresses: 10.0.0.1 is agent 0 ---- */

struct endpoint endpoint_of(uint32_t agent)
{
	uint32_t n = agent + 1;
	uint8_t v4[4] = { 10, (uint8_t)(n >> 16), (uint8_t)(n >> 8),
			  (uint8_t)n };
	struct endpoint ep = { .port = PORT };

	addr_from_v4(&ep.addr, v4);
	return ep;
}

uint32_t agent_at(const struct world *w, const struct endpoint *ep)
{
	const uint8_t *b = ep->addr.b + 12;
	uint32_t n = (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];

	if (!addr_is_v4(&ep->addr) || b[0] != 10 || ep->port != PORT || !n ||
	    n > w->n)
		return NOBODY;
	return n - 1;
}

/* ---- time and reach ---- */

uint64_t net_latency(struct world *w, uint32_t from, uint32_t to)
{
	const struct net *net = &w->net;
	double us = (double)net->latency_us;

	if (net->kind == LATENCY_LOGNORMAL)
		us *= exp(net->sigma * chance_normal(&w->chance));
	if (chance_is(&w->chance, net->reorder))
		us += (double)chance_below(&w->chance, 50 * MS);
	if (chance_is(&w->chance, net->spike))
		us += (double)chance_below(&w->chance, SPIKE_US);
	return (uint64_t)us + w->agent[from].slow_us + w->agent[to].slow_us;
}

bool net_reaches(const struct world *w, uint32_t from, uint32_t to)
{
	const struct agent *a = &w->agent[from], *b = &w->agent[to];

	return from == to || (a->group == b->group && !a->cut_out &&
			      !b->cut_in && !a->power && !b->power);
}

/* ---- messages of the tree ---- */

struct tree_msg *msg_copy(struct world *w, const struct tree_msg *m)
{
	struct tree_msg *c = w->n_spare ? w->spare[--w->n_spare]
					: malloc(sizeof(*c));
	void *list = NULL;

	if (!c)
		abort();
	*c = *m;
	if (m->kind == TREE_ROWS && m->u.rows.n) {
		size_t size = m->u.rows.n * sizeof(*m->u.rows.row);

		list = malloc(size);
		c->u.rows.row = memcpy(list, m->u.rows.row, size);
	} else if (m->kind == TREE_ANNOUNCE && m->u.announce.n) {
		size_t size = m->u.announce.n * sizeof(*m->u.announce.peer);

		list = malloc(size);
		c->u.announce.peer = memcpy(list, m->u.announce.peer, size);
	}
	return c;
}

static void *msg_carry(struct world *w, const void *m, bool reply)
{
	struct tree_msg *c = wire_through(w, m, reply);

	return c ? c : msg_copy(w, m);
}

static void msg_free(struct world *w, void *msg)
{
	struct tree_msg *m = msg;

	if (!m)
		return;
	if (m->kind == TREE_ROWS && m->u.rows.n)
		free((void *)m->u.rows.row);
	if (m->kind == TREE_ANNOUNCE && m->u.announce.n)
		free((void *)m->u.announce.peer);
	w->spare = grow(w->spare, &w->max_spare, w->n_spare + 1,
			sizeof(struct tree_msg *));
	w->spare[w->n_spare++] = m;
}

/* An agent of the version before knows none of what came since. */
static void msg_age(struct tree_msg *m, bool reply)
{
	if (m->kind != TREE_BEAT)
		return;
	if (reply) {
		m->u.beaten.members_hash = m->u.beaten.list_hash = 0;
		m->u.beaten.whole = false;
		return;
	}
	m->u.beat.n_uncles = m->u.beat.n_roots = 0;
	m->u.beat.members_hash = m->u.beat.list_hash = 0;
	m->u.beat.rows_most = 0;
	memset(m->u.beat.up, 0, sizeof(m->u.beat.up));
}

static void msg_request(struct world *w, uint32_t to, uint32_t from,
			const void *m, uint64_t handle)
{
	struct endpoint ep = endpoint_of(from);

	world_trace(w, EV_REQUEST, to, from, m, false, 0);
	tree_request(w->agent[to].tree, &ep, m, handle);
}

static void msg_done(struct world *w, uint32_t from, uint32_t to, uint64_t ref,
		     int err, void *m)
{
	world_trace(w, err ? EV_ERROR : EV_REPLY, from, to, m, true, err);
	tree_done(w->agent[from].tree, ref, err, m);
}

const struct proto proto_tree = {
	.copy = msg_carry,
	.free = msg_free,
	.request = msg_request,
	.done = msg_done,
};

/* ---- exchanges ---- */

static uint64_t handle_of(const struct world *w, const struct exchange *x)
{
	return (uint64_t)x->gen << 32 | (uint32_t)(x - w->exchange);
}

static struct exchange *exchange_get(struct world *w, uint64_t handle)
{
	uint32_t i = (uint32_t)handle;

	if (i >= w->n_exchange || !w->exchange[i].used ||
	    w->exchange[i].gen != handle >> 32)
		return NULL;
	return &w->exchange[i];
}

static struct exchange *exchange_new(struct world *w, const struct proto *proto,
				     uint32_t from, uint32_t to)
{
	uint32_t i = w->free_exchange, gen;

	if (i == NOBODY) {
		w->exchange = grow(w->exchange, &w->max_exchange,
				   w->n_exchange + 1, sizeof(*w->exchange));
		i = w->n_exchange++;
		w->exchange[i].gen = 0;
	} else {
		w->free_exchange = w->exchange[i].next;
	}
	gen = w->exchange[i].gen + 1;
	w->exchange[i] = (struct exchange){
		.gen = gen,
		.used = true,
		.limit = NO_EVENT,
		.proto = proto,
		.from = from,
		.to = to,
	};
	return &w->exchange[i];
}

static void exchange_drop(struct world *w, struct exchange *x)
{
	if (x->waits || x->flying || x->served)
		return;
	x->proto->free(w, x->msg);
	x->msg = NULL;
	x->used = false;
	x->next = w->free_exchange;
	w->free_exchange = (uint32_t)(x - w->exchange);
}

static void exchange_fly(struct world *w, struct exchange *x,
			 enum event_kind kind, uint64_t delay_us)
{
	bool there = kind == EV_REQUEST;

	x->flying = true;
	world_push(w, w->now_us + delay_us, kind, there ? x->to : x->from,
		   handle_of(w, x));
}

/* Whoever asked waits no longer. */
static void exchange_left(struct world *w, struct exchange *x)
{
	if (!x->waits)
		return;
	x->waits = false;
	w->agent[x->from].in_flight -= x->proto == &proto_tree;
	if (x->limit != NO_EVENT)
		world_cancel(w, x->limit);
	x->limit = NO_EVENT;
}

static void exchange_refuse(struct world *w, struct exchange *x, int err)
{
	if (!x->waits || !net_reaches(w, x->to, x->from))
		return;
	x->err = err;
	exchange_fly(w, x, EV_ERROR, net_latency(w, x->to, x->from));
}

static void exchange_carry(struct world *w, struct exchange *x, const void *m,
			   bool reply)
{
	x->msg = x->proto->copy(w, m, reply);
	if (x->proto == &proto_tree &&
	    (w->agent[x->from].old || w->agent[x->to].old))
		msg_age(x->msg, reply);
}

/* The request once more, later, as if it had been sent again. */
static void exchange_again(struct world *w, const struct proto *proto,
			   uint32_t from, uint32_t to, const void *m)
{
	struct exchange *x = exchange_new(w, proto, from, to);

	exchange_carry(w, x, m, false);
	exchange_fly(w, x, EV_REQUEST, chance_below(&w->chance, DUP_US));
}

int net_send(struct world *w, const struct proto *proto, uint32_t from,
	     const struct endpoint *to, const void *m, uint32_t limit_ms,
	     bool fresh, uint64_t ref)
{
	uint32_t peer = agent_at(w, to);
	struct exchange *x;
	uint64_t delay = 0;

	if (peer == NOBODY)
		return -EHOSTUNREACH;
	w->n_messages++;
	x = exchange_new(w, proto, from, peer);
	x->ref = ref;
	x->waits = true;
	w->agent[from].in_flight += proto == &proto_tree;
	x->limit = world_push(w, w->now_us + limit_ms * MS, EV_LIMIT, from,
			      handle_of(w, x));
	if (!net_reaches(w, from, peer) || chance_is(&w->chance, w->net.loss))
		return 0;
	if (fresh)
		delay = net_latency(w, from, peer) + net_latency(w, peer, from);
	exchange_carry(w, x, m, false);
	exchange_fly(w, x, EV_REQUEST, delay + net_latency(w, from, peer));
	if (chance_is(&w->chance, w->net.dup))
		exchange_again(w, proto, from, peer, m);
	return 0;
}

static struct exchange *exchange_find(struct world *w,
				      const struct proto *proto, uint32_t from,
				      uint64_t ref)
{
	for (uint32_t i = 0; i < w->n_exchange; i++) {
		struct exchange *x = &w->exchange[i];

		if (x->used && x->waits && x->from == from && x->ref == ref &&
		    x->proto == proto)
			return x;
	}
	world_fail(w, "agent %u ends what it did not send", from);
	return NULL;
}

void net_leave(struct world *w, const struct proto *proto, uint32_t from,
	       uint64_t ref, uint32_t limit_ms)
{
	struct exchange *x = exchange_find(w, proto, from, ref);

	if (!x)
		return;
	x->left = true;
	if (x->limit != NO_EVENT)
		world_cancel(w, x->limit);
	x->limit = world_push(w, w->now_us + limit_ms * MS, EV_LIMIT, from,
			      handle_of(w, x));
}

void net_cancel(struct world *w, const struct proto *proto, uint32_t from,
		uint64_t ref)
{
	struct exchange *x = exchange_find(w, proto, from, ref);

	if (!x)
		return;
	exchange_left(w, x);
	exchange_drop(w, x);
}

void net_asks(const struct world *w, uint32_t from, struct net_asks *n)
{
	memset(n, 0, w->n * sizeof(*n));
	for (uint32_t i = 0; i < w->n_exchange; i++) {
		const struct exchange *x = &w->exchange[i];

		if (!x->used || !x->waits || x->from != from ||
		    x->proto != &proto_ask)
			continue;
		n[x->to].all++;
		n[x->to].left += x->left;
	}
}

void net_reply(struct world *w, uint32_t from, uint64_t handle, const void *m)
{
	struct exchange *x = exchange_get(w, handle);

	if (!x || !x->served || x->to != from ||
	    x->to_boot != w->agent[from].boot) {
		world_fail(w, "agent %u replies to what it does not serve",
			   from);
		return;
	}
	w->n_messages++;
	x->served = false;
	if (x->waits && net_reaches(w, from, x->from) &&
	    !chance_is(&w->chance, w->net.loss)) {
		exchange_carry(w, x, m, true);
		exchange_fly(w, x, EV_REPLY, net_latency(w, from, x->from));
	}
	exchange_drop(w, x);
}

/* ---- arrivals ---- */

static void arrive_request(struct world *w, uint64_t handle)
{
	struct exchange *x = exchange_get(w, handle);
	const struct proto *proto = x->proto;
	struct agent *b = &w->agent[x->to];
	uint32_t to = x->to, from = x->from;
	void *m = x->msg;

	x->flying = false;
	x->msg = NULL;
	if (!b->tree || !net_reaches(w, from, to)) {
		exchange_refuse(w, x, -ECONNREFUSED);
		exchange_drop(w, x);
	} else {
		x->served = true;
		x->to_boot = b->boot;
		proto->request(w, to, from, m, handle);
		ledger_touch(w, to);
	}
	proto->free(w, m);
}

/* An agent works on one reply after the other. */
static bool arrive_charge(struct world *w, struct exchange *x)
{
	struct agent *a = &w->agent[x->from];

	if (!x->proto->costs || !w->conf.cost_us || x->charged || !x->waits)
		return false;
	x->charged = true;
	a->busy_us = MAX(a->busy_us, w->now_us) + w->conf.cost_us;
	exchange_fly(w, x, EV_REPLY, a->busy_us - w->now_us);
	return true;
}

/* A reply, an error or the limit: the end for the one that asked. */
static void arrive_end(struct world *w, const struct event *e)
{
	struct exchange *x = exchange_get(w, e->arg);
	const struct proto *proto;
	uint32_t from, to;
	void *m = NULL;
	uint64_t ref;
	bool waits;
	int err;

	if (!x || (e->kind == EV_REPLY && arrive_charge(w, x)))
		return;
	proto = x->proto;
	from = x->from;
	to = x->to;
	ref = x->ref;
	waits = x->waits;
	err = e->kind == EV_LIMIT   ? -ETIMEDOUT
	      : e->kind == EV_ERROR ? x->err
				    : 0;
	if (e->kind == EV_LIMIT) {
		x->limit = NO_EVENT;
	} else {
		x->flying = false;
		m = x->msg;
		x->msg = NULL;
	}
	exchange_left(w, x);
	exchange_drop(w, x);
	if (waits) {
		proto->done(w, from, to, ref, err, err ? NULL : m);
		ledger_touch(w, from);
	}
	proto->free(w, m);
}

void net_event(struct world *w, const struct event *e)
{
	struct agent *a = &w->agent[e->agent];
	struct exchange *x;

	if (a->stopped) {
		x = exchange_get(w, e->arg);
		if (x && e->kind == EV_LIMIT)
			x->limit = NO_EVENT;
		agent_hold(w, e);
	} else if (e->kind == EV_REQUEST) {
		arrive_request(w, e->arg);
	} else {
		arrive_end(w, e);
	}
}

void net_lost(struct world *w, const struct event *e, bool reset)
{
	struct exchange *x = exchange_get(w, e->arg);

	if (!x)
		return;
	if (e->kind != EV_LIMIT)
		x->flying = false;
	if (e->kind == EV_REQUEST && reset)
		exchange_refuse(w, x, -ECONNRESET);
	exchange_drop(w, x);
}

void net_process_ended(struct world *w, uint32_t agent, bool reset)
{
	for (uint32_t i = 0; i < w->n_exchange; i++) {
		struct exchange *x = &w->exchange[i];

		if (!x->used)
			continue;
		if (x->from == agent)
			exchange_left(w, x);
		if (x->to == agent && x->served) {
			x->served = false;
			if (reset)
				exchange_refuse(w, x, -ECONNRESET);
		}
		exchange_drop(w, x);
	}
}

void net_free(struct world *w)
{
	for (uint32_t i = 0; i < w->n_exchange; i++)
		if (w->exchange[i].used)
			w->exchange[i].proto->free(w, w->exchange[i].msg);
	for (uint32_t i = 0; i < w->n_spare; i++)
		free(w->spare[i]);
	free(w->spare);
	free(w->exchange);
}
