/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtual time: events come by time and then by when they were made, so that
 * one seed has one history.  Each event is mixed into a hash; the last hundred
 * are kept to be printed when something fails.  The world owns agents,
 * exchanges and the ledger.
 *
 * Events wait in a wheel of levels, one for each digit of their time: an event
 * is where its time first differs from the wheel's, and comes down as the wheel
 * turns.  Queues keep their order on the way, so that events of one moment stay
 * in theirs.  Timers are taken out, not left to expire.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "sim.h"

static const char *const event_names[] = {
	[EV_TIMER] = "timer", [EV_REQUEST] = "request", [EV_REPLY] = "reply",
	[EV_LIMIT] = "limit", [EV_ERROR] = "error",     [EV_CLOSED] = "closed",
	[EV_READ] = "read",   [EV_START] = "start",     [EV_FAULT] = "fault",
	[EV_MEND] = "mend",   [EV_TICK] = "tick",       [EV_CASE] = "case",
};

static const char *const kind_names[] = {
	[TREE_HELLO] = "hello",       [TREE_INVITE] = "invite",
	[TREE_JOIN] = "join",         [TREE_GRANT] = "grant",
	[TREE_BEAT] = "beat",         [TREE_PLEASE] = "please",
	[TREE_LEAVE] = "leave",       [TREE_ROWS] = "rows",
	[TREE_ANNOUNCE] = "announce",
};
static_assert(ARRAY_SIZE(kind_names) == TREE_KINDS, "a name each");

/* ---- chance ---- */

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t chance_u64(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ull;
	return mix(*state);
}

uint64_t chance_below(uint64_t *state, uint64_t n)
{
	return n ? (uint64_t)(((unsigned __int128)chance_u64(state) * n) >> 64)
		 : 0;
}

static double chance_real(uint64_t *state)
{
	return (double)(chance_u64(state) >> 11) * 0x1p-53;
}

bool chance_is(uint64_t *state, double p)
{
	return p > 0 && chance_real(state) < p;
}

double chance_normal(uint64_t *state)
{
	double u = chance_real(state), v = chance_real(state);

	return sqrt(-2 * log(u + 0x1p-54)) * cos(2 * M_PI * v);
}

void *grow(void *p, uint32_t *max, uint32_t need, size_t size)
{
	uint32_t n = *max ? *max : 64;

	if (need <= *max)
		return p;
	while (n < need)
		n *= 2;
	p = realloc(p, n * size);
	if (!p) {
		fputs("sim: out of memory\n", stderr);
		exit(1);
	}
	*max = n;
	return p;
}

/* ---- events and their queues ---- */

static const struct queue empty = { NO_EVENT, NO_EVENT };

static uint32_t event_new(struct world *w, const struct event *e)
{
	uint32_t i = w->free_event;

	if (i != NO_EVENT) {
		w->free_event = w->event[i].next;
	} else {
		w->event = grow(w->event, &w->max_event, w->n_event + 1,
				sizeof(*w->event));
		i = w->n_event++;
	}
	w->event[i] = *e;
	return i;
}

static void event_free(struct world *w, uint32_t i)
{
	w->event[i].next = w->free_event;
	w->free_event = i;
}

static void queue_add(struct world *w, struct queue *q, uint32_t i)
{
	w->event[i].next = NO_EVENT;
	w->event[i].prev = q->last;
	if (q->last == NO_EVENT)
		q->first = i;
	else
		w->event[q->last].next = i;
	q->last = i;
}

static void queue_remove(struct world *w, struct queue *q, uint32_t i)
{
	const struct event *e = &w->event[i];

	if (e->prev == NO_EVENT)
		q->first = e->next;
	else
		w->event[e->prev].next = e->next;
	if (e->next == NO_EVENT)
		q->last = e->prev;
	else
		w->event[e->next].prev = e->prev;
}

void queue_put(struct world *w, struct queue *q, const struct event *e)
{
	queue_add(w, q, event_new(w, e));
}

bool queue_take(struct world *w, struct queue *q, struct event *out)
{
	uint32_t i = q->first;

	if (i == NO_EVENT)
		return false;
	*out = w->event[i];
	queue_remove(w, q, i);
	event_free(w, i);
	return true;
}

/* ---- the wheel ---- */

static unsigned digit(uint64_t at_us, unsigned level)
{
	return at_us >> level * WHEEL_DIGIT & (WHEEL_SLOTS - 1);
}

/* By the highest digit in which its time differs from the wheel's. */
static void wheel_add(struct world *w, uint32_t i)
{
	struct wheel *wh = &w->wheel;
	struct event *e = &w->event[i];
	uint64_t differs = (e->at_us ^ wh->at_us) | 1;
	unsigned level =
		(63 - (unsigned)__builtin_clzll(differs)) / WHEEL_DIGIT;
	unsigned at = digit(e->at_us, level);

	e->level = (uint8_t)level;
	queue_add(w, &wh->slot[level][at], i);
	wh->full[level] |= UINT64_C(1) << at;
}

static void wheel_remove(struct world *w, uint32_t i)
{
	unsigned level = w->event[i].level;
	unsigned at = digit(w->event[i].at_us, level);
	struct queue *q = &w->wheel.slot[level][at];

	queue_remove(w, q, i);
	if (q->first == NO_EVENT)
		w->wheel.full[level] &= ~(UINT64_C(1) << at);
}

/* Turns the wheel to the first slot of a level and shares it out. */
static void wheel_turn(struct world *w, unsigned level, unsigned at,
		       uint64_t to_us)
{
	struct queue q = w->wheel.slot[level][at];

	w->wheel.at_us = to_us;
	w->wheel.slot[level][at] = empty;
	w->wheel.full[level] &= ~(UINT64_C(1) << at);
	for (uint32_t i = q.first, next; i != NO_EVENT; i = next) {
		next = w->event[i].next;
		wheel_add(w, i);
	}
}

/* The first of all until then, or NO_EVENT. */
static uint32_t wheel_first(struct world *w, uint64_t until_us)
{
	struct wheel *wh = &w->wheel;

	for (unsigned level = 0; level < WHEEL_LEVELS;) {
		unsigned at;
		uint64_t from;
		uint32_t i;

		if (!wh->full[level]) {
			level++;
			continue;
		}
		at = (unsigned)__builtin_ctzll(wh->full[level]);
		i = wh->slot[level][at].first;
		from = w->event[i].at_us >> level * WHEEL_DIGIT
						    << level * WHEEL_DIGIT;
		if (from > until_us)
			break;
		if (!level)
			return i;
		wheel_turn(w, level, at, from);
		level = 0;
	}
	return NO_EVENT;
}

uint32_t world_push(struct world *w, uint64_t at_us, enum event_kind kind,
		    uint32_t agent, uint64_t arg)
{
	struct event e = {
		.at_us = MAX(at_us, w->now_us),
		.arg = arg,
		.agent = agent,
		.boot = agent == NOBODY ? 0 : w->agent[agent].boot,
		.kind = (uint8_t)kind,
	};
	uint32_t i = event_new(w, &e);

	wheel_add(w, i);
	return i;
}

void world_cancel(struct world *w, uint32_t event)
{
	wheel_remove(w, event);
	event_free(w, event);
}

static void world_dispatch(struct world *w, const struct event *e)
{
	switch ((enum event_kind)e->kind) {
	case EV_TIMER:
	case EV_CLOSED:
	case EV_READ:
	case EV_START:
		agent_event(w, e);
		break;
	case EV_REQUEST:
	case EV_REPLY:
	case EV_LIMIT:
	case EV_ERROR:
		net_event(w, e);
		break;
	case EV_FAULT:
	case EV_MEND:
		faults_event(w, e);
		break;
	case EV_TICK:
		ledger_look(w);
		world_push(w, w->now_us + w->conf.tick_us, EV_TICK, NOBODY, 0);
		break;
	case EV_CASE:
		w->on_case(w, e->arg);
		break;
	case EV_KINDS:
		break;
	}
}

void world_run(struct world *w, uint64_t until_us)
{
	uint32_t i;

	while (!w->failed && (i = wheel_first(w, until_us)) != NO_EVENT) {
		struct event e = w->event[i];

		w->now_us = e.at_us;
		world_cancel(w, i);
		w->n_events++;
		w->hash = mix(w->hash ^ w->now_us) ^
			  mix(e.arg + ((uint64_t)e.kind << 32) + e.agent);
		world_dispatch(w, &e);
	}
	if (!w->failed)
		w->now_us = MAX(w->now_us, until_us);
}

/* ---- trace ---- */

static struct trace *trace_next(struct world *w, enum event_kind kind,
				uint32_t agent, uint32_t other)
{
	struct trace *t = &w->ring[w->n_trace++ % TRACE_LEN];

	t->at_us = w->now_us;
	t->event = (uint8_t)kind;
	t->agent = agent;
	t->other = other;
	t->kind = TREE_KINDS;
	t->err = 0;
	t->text = "";
	t->a = t->b = 0;
	return t;
}

/* What a line of the trace says of a message beside its lease. */
static void trace_message(struct trace *t, const struct tree_msg *m)
{
	t->text = "";
	memset(&t->grant, 0, sizeof(t->grant));
	if (m->kind == TREE_JOIN || m->kind == TREE_GRANT) {
		if (t->reply && m->word == TREE_OK) {
			t->text = m->u.granted.granted ? "granted" : "try";
			t->grant = m->u.granted.lease;
		} else if (!t->reply && m->kind == TREE_GRANT) {
			static const char *const acts[] = { "ask", "confirm",
							    "void" };

			t->text = acts[m->u.grant.act];
			t->grant = m->u.grant.grant;
		}
	} else if (m->kind == TREE_BEAT && !t->reply) {
		t->text = m->u.beat.rooted ? "rooted, fleet, path"
					   : "not rooted, fleet, path";
		t->a = m->u.beat.fleet;
		t->b = m->u.beat.n_path;
	} else if (m->kind == TREE_BEAT) {
		t->text = "hosts, height";
		t->a = m->u.beaten.hosts;
		t->b = m->u.beaten.height;
	}
}

static void trace_print(const struct trace *t)
{
	char e[EPOCH_TEXT] = "", who[32] = "", other[32] = "";

	if (t->agent != NOBODY)
		snprintf(who, sizeof(who), "%" PRIu32, t->agent);
	if (t->other != NOBODY)
		snprintf(other, sizeof(other), "%" PRIu32, t->other);
	printf("%12.6f %-7s %6s %6s", (double)t->at_us / 1e6,
	       event_names[t->event], who, other);
	if (t->kind < TREE_KINDS) {
		epoch_format(&t->lease, e);
		printf(" %s%s %s lease %s", kind_names[t->kind],
		       t->reply ? " reply" : "",
		       tree_word_name((enum tree_word)t->word), e);
	}
	if (t->err)
		printf(" %s", strerror(-t->err));
	if (t->text[0])
		printf(" %s", t->text);
	if (t->kind < TREE_KINDS && !epoch_none(&t->grant)) {
		epoch_format(&t->grant, e);
		printf(" %s", e);
	}
	if (t->a || t->b)
		printf(" %" PRIu32 " %" PRIu32, t->a, t->b);
	putchar('\n');
}

static void trace_end(struct world *w, const struct trace *t)
{
	if (w->now_us >= w->conf.verbose_us)
		trace_print(t);
}

void world_trace(struct world *w, enum event_kind kind, uint32_t agent,
		 uint32_t other, const struct tree_msg *m, bool reply, int err)
{
	struct trace *t = trace_next(w, kind, agent, other);

	t->err = err;
	if (m) {
		t->kind = (uint8_t)m->kind;
		t->word = (uint8_t)m->word;
		t->reply = reply;
		t->lease = m->lease;
		trace_message(t, m);
		w->hash = mix(w->hash ^ m->lease.n ^ (m->epoch.n << 20) ^
			      ((uint64_t)m->word << 50) ^
			      ((uint64_t)m->kind << 56));
	}
	trace_end(w, t);
}

void world_note(struct world *w, uint32_t agent, uint32_t other,
		const char *text)
{
	struct trace *t = trace_next(w, EV_FAULT, agent, other);

	t->text = text;
	trace_end(w, t);
}

void world_dump(const struct world *w)
{
	uint64_t from = w->n_trace > TRACE_LEN ? w->n_trace - TRACE_LEN : 0;

	for (uint64_t i = from; i < w->n_trace; i++)
		trace_print(&w->ring[i % TRACE_LEN]);
	fflush(stdout);
}

void world_fail(struct world *w, const char *format, ...)
{
	va_list ap;

	if (w->failed || (w->conf.ignore && strstr(format, w->conf.ignore)))
		return;
	w->failed = true;
	va_start(ap, format);
	vsnprintf(w->why, sizeof(w->why), format, ap);
	va_end(ap);
}

/* ---- all of it ---- */

int world_open(struct world *w, const struct sim_conf *conf)
{
	int err;

	memset(w, 0, sizeof(*w));
	w->conf = *conf;
	w->net = conf->net;
	w->chance = mix(conf->seed + 1);
	w->free_event = NO_EVENT;
	for (unsigned i = 0; i < WHEEL_LEVELS * WHEEL_SLOTS; i++)
		w->wheel.slot[i / WHEEL_SLOTS][i % WHEEL_SLOTS] = empty;
	w->free_exchange = NOBODY;
	err = faults_parse(conf->faults, &w->mask);
	if (err)
		return err;
	w->n = conf->agents;
	w->agent = calloc(w->n, sizeof(*w->agent));
	if (!w->agent)
		return -ENOMEM;
	for (uint32_t i = 0; i < w->n; i++) {
		struct agent *a = &w->agent[i];

		a->w = w;
		a->chance = chance_u64(&w->chance);
		a->provider.w = w;
		a->provider.self = i;
		a->mono_us = chance_below(&a->chance, 1000 * SECOND);
		a->held = empty;
		a->parent = a->remover = NOBODY;
		a->orphan_us = NEVER;
	}
	for (uint32_t i = 0; i < TREE_ROOTS; i++)
		w->roots[i] = endpoint_of(i);
	err = ledger_open(w);
	if (!err && conf->tick_us)
		world_push(w, conf->tick_us, EV_TICK, NOBODY, 0);
	return err;
}

void world_close(struct world *w)
{
	for (uint32_t i = 0; i < w->n; i++) {
		tasks_end(w, i);
		tasks_forget(&w->agent[i]);
		walk_free(w->agent[i].walk);
		tree_free(w->agent[i].tree);
		free(w->agent[i].timer);
		free(w->agent[i].members);
	}
	net_free(w);
	ask_free(w);
	ledger_free(w);
	free(w->agent);
	free(w->event);
}
