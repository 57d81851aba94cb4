/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Large trees.  They start in the layout of a heap, level after level; then the
 * network is one of a data centre and questions are timed.
 *
 * What a question should take: depth * (RTT + fanout * cost of a reply), and
 * the local read.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/util.h"
#include "sim.h"

#define START_US   200
#define LEVEL_US   (100 * MS) /* a parent has had its first beat */
#define APART      8000       /* hosts, about, of a subtree that begins alone */
#define INVITE_US  MS
#define JOIN_US    (10 * SECOND)
#define YOUNG_US   (60 * SECOND)
#define ROOT_US    (7 * SECOND)
#define SETTLED_US (300 * MS) /* since the last one began */
#define ASKED_US   (100 * MS)

static unsigned long rss_mib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (unsigned long)u.ru_maxrss / 1024;
}

static double ms(uint64_t us)
{
	return (double)us / 1000;
}

static unsigned depth_of(uint64_t n, uint64_t k)
{
	uint64_t level = 1, all = 1;
	unsigned d = 0;

	while (all < n) {
		level *= k;
		all += level;
		d++;
	}
	return d;
}

static double predicted_ms(const struct world *w, uint64_t n)
{
	const struct sim_conf *c = &w->conf;
	double hop = (double)(2 * c->net.latency_us) +
		     (double)MIN(c->fanout, n - 1) * c->cost_us;

	return (depth_of(n, c->fanout) * hop + c->read_us) / 1000;
}

static void print_whole(const struct world *w, uint32_t n)
{
	printf("%u agents, fanout %u: whole after %.1f s of virtual time, "
	       "%" PRIu64 " events, %lu MiB\n",
	       n, w->conf.fanout, (double)w->now_us / 1e6, w->n_events,
	       rss_mib());
	fflush(stdout);
}

/* ---- a large tree ---- */

/*
 * Subtrees that begin apart have their tops on this level; 0: there are none.
 * Not on that of candidates, to whom the root would listen.
 */
static unsigned level_apart(const struct world *w, uint32_t n)
{
	uint64_t tops = 1;
	unsigned level = 0;

	while (tops * APART < n) {
		tops *= w->conf.fanout;
		level++;
	}
	return level == 1 ? 2 : level;
}

static uint32_t top_of(const struct world *w, uint32_t agent, unsigned apart)
{
	unsigned level = depth_of(agent + 1, w->conf.fanout);

	if (level < apart)
		return 0;
	for (; level > apart; level--)
		agent = (agent - 1) / w->conf.fanout;
	return agent;
}

/* One after the other in each subtree, each below one that is there. */
static void start_apart(struct world *w, uint32_t n, unsigned apart)
{
	uint32_t *began = calloc(n, sizeof(*began));
	uint64_t last_us = w->now_us;

	if (!began)
		abort();
	for (uint32_t i = 1; i < n; i++) {
		uint32_t top = top_of(w, i, apart);
		unsigned level = depth_of(i + 1, w->conf.fanout);
		uint64_t at_us = w->now_us + ++began[top] * START_US +
				 (top ? level - apart : level) * LEVEL_US;

		w->agent[i].founds = i == top;
		world_push(w, at_us, EV_START, i, 0);
		last_us = MAX(last_us, at_us);
	}
	free(began);
	world_run(w, last_us + SETTLED_US);
}

/*
 * Each top goes below its place in the heap, with all that is below it.  Who
 * finds no grant open is a root again, and is invited again.
 */
static void join_apart(struct world *w, uint32_t n)
{
	uint64_t end_us = w->now_us + JOIN_US;
	uint32_t left;

	do {
		left = 0;
		for (uint32_t i = 1; i < n; i++) {
			const struct agent *a = &w->agent[i];

			if (!a->founds || a->parent != NOBODY)
				continue;
			left++;
			if (!a->root)
				continue;
			agent_invite(w, i, (i - 1) / w->conf.fanout);
			world_run(w, w->now_us + INVITE_US);
		}
		world_run(w, w->now_us + ASKED_US);
	} while (left && !w->failed && w->now_us < end_us);
	for (uint32_t i = 1; i < n; i++)
		if (w->agent[i].founds)
			agent_settle(w, i);
}

/*
 * By the protocol, without waiting for it: over a network without latency, and
 * since a root has 64 grants open at most, and each is for the 10 ms before the
 * first beat, in subtrees that begin as trees of their own and are then joined.
 * The root begins long before: a young one is not sure of its rows.
 */
static void start_heap(struct world *w, uint32_t n)
{
	w->net = (struct net){ .latency_us = 0 };
	agent_start(w, 0);
	world_run(w, ROOT_US);
	start_apart(w, n, level_apart(w, n));
	join_apart(w, n);
	run_until_whole(w, 60 * SECOND, SECOND / 2, "the start");
	for (uint32_t i = 1; i < n; i++)
		if (w->agent[i].parent != (i - 1) / w->conf.fanout)
			world_fail(w, "agent %u starts below %d", i,
				   (int)w->agent[i].parent);
	print_whole(w, n);
	w->net = w->conf.net;
	while (!w->failed && !tree_settled(w->agent[0].tree) &&
	       w->now_us < YOUNG_US)
		world_run(w, w->now_us + SECOND / 2);
}

/* A few questions at quiet times; false: one was not complete. */
static bool ask_some(struct world *w, unsigned n, double limit_ms)
{
	uint64_t complete = w->asked.complete;

	w->asked.n_took = 0;
	for (unsigned i = 0; i < n && !w->failed; i++) {
		ask_start(w, 0, 2000);
		world_run(w, w->now_us + ASKED_US);
		ask_forget(w);
	}
	if (w->asked.complete - complete != n)
		world_fail(w, "%u of %u answers are complete",
			   (unsigned)(w->asked.complete - complete), n);
	else if (ms(ask_took(w, 1)) > limit_ms)
		world_fail(w, "a question took %.1f ms", ms(ask_took(w, 1)));
	return !w->failed;
}

static void ask_and_print(struct world *w, uint32_t n, unsigned questions,
			  double limit_ms)
{
	if (ask_some(w, questions, limit_ms))
		printf("%u questions to %u agents, %s: p50 %.2f ms, longest "
		       "%.2f ms, predicted %.2f ms\n",
		       questions, n,
		       w->net.kind == LATENCY_FIXED ? "fixed latency"
						    : "log-normal latency",
		       ms(ask_took(w, 0.5)), ms(ask_took(w, 1)),
		       predicted_ms(w, n));
	fflush(stdout);
}

static void heap_defaults(struct run *r)
{
	r->conf.provider = "heap";
	r->conf.net.latency_us = 200;
	r->conf.read_us = 100;
	r->conf.cost_us = 25;
	r->conf.newcomers = 0;
}

/* ---- 10^5: a question, 1 % killed, many join at once ---- */

void scale_defaults(struct run *r)
{
	heap_defaults(r);
	r->conf.agents = 110000;
	r->conf.newcomers = 10000;
}

static void kill_some(struct world *w, uint32_t n)
{
	uint32_t killed = 0;

	w->ledger.n_repairs = 0;
	while (killed < n / 100) {
		uint32_t i = 1 + (uint32_t)chance_below(&w->chance, n - 1);

		if (!w->agent[i].tree)
			continue;
		agent_kill(w, i, false);
		w->agent[i].gone = true;
		killed++;
	}
	w->last_fault_us = w->now_us;
}

int scale_play(struct world *w)
{
	uint32_t n = w->conf.agents - w->conf.newcomers;
	uint64_t took;

	start_heap(w, n);
	ask_and_print(w, n, 10, 25);
	kill_some(w, n);
	took = run_until_whole(w, 20 * SECOND, SECOND, "the last death");
	printf("%u killed: whole after %.1f s, repair of %u orphans p50 %.2f s "
	       "p99 %.2f s longest %.2f s\n",
	       n / 100, (double)took / 1e6, w->ledger.n_repairs,
	       (double)ledger_repair(w, 0.5) / 1e6,
	       (double)ledger_repair(w, 0.99) / 1e6,
	       (double)ledger_repair(w, 1) / 1e6);
	fflush(stdout);
	if (!w->failed && ledger_repair(w, 0.99) >= 5 * SECOND)
		world_fail(w, "p99 of repair is %.2f s",
			   (double)ledger_repair(w, 0.99) / 1e6);
	for (uint32_t i = n; i < w->n; i++)
		agent_start(w, i);
	took = run_until_whole(w, 60 * SECOND, SECOND, "the newcomers");
	printf("%u joined at once: whole after %.1f s\n%" PRIu64
	       " events, %" PRIu64 " messages, %.1f s of virtual time, "
	       "%lu MiB\n",
	       w->conf.newcomers, (double)took / 1e6, w->n_events,
	       w->n_messages, (double)w->now_us / 1e6, rss_mib());
	return w->failed ? -1 : 0;
}

/* ---- 10^6 ---- */

void huge_defaults(struct run *r)
{
	heap_defaults(r);
	r->conf.agents = 1000000;
}

int huge_play(struct world *w)
{
	start_heap(w, w->n);
	ask_and_print(w, w->n, 3, 50); /* one is like the other */
	w->net.kind = LATENCY_LOGNORMAL;
	w->net.sigma = 0.5;
	ask_and_print(w, w->n, 7, 50);
	printf("%" PRIu64 " events, %.1f s of virtual time, %lu MiB\n",
	       w->n_events, (double)w->now_us / 1e6, rss_mib());
	return w->failed ? -1 : 0;
}

/* ---- the cost model ---- */

void cost_defaults(struct run *r)
{
	heap_defaults(r);
	r->conf.agents = 1000;
}

int cost_play(struct world *w)
{
	start_heap(w, w->n);
	ask_and_print(w, w->n, 10, 1000);
	return w->failed ? -1 : 0;
}
