/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request to all children.  As many are under way as their replies may
 * take together; tallest subtrees first, suspects last; while others wait, an
 * exchange holds its slot for its share of the time.  A child is told four
 * fifths of that and is waited for nine tenths: it, its own children and
 * theirs all have time to say what they have.  Where a connection must be
 * made first, which may take a quarter, and the way there and back once more
 * for hello, it is told so much less that it is in time all the same.
 * Children that are down are not asked.
 *
 * An exchange needs a way, for which questions wait, the oldest first.  When
 * one is over, the next leg is one that waits in the same lane, or in any if it
 * was spare.
 *
 * A struct waves owns its legs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tree/walk_private.h"
#include "common/util.h"

#define HELD_MAX   ((size_t)64 << 20)
#define CONNECT_MS 250
#define REF_LEGS   256 /* reference of a leg: that of its waves, and its place */

struct leg {
	struct walk_child c;
	struct waves *waves;
	struct lane *lane; /* NULL: it is not asked */
	struct leg *next;  /* that waits for a way of this lane */
	uint64_t cut_ms;   /* its share ends; WALK_NEVER: it does not run */
	bool begun, over, again;
};

struct waves {
	struct waves *next;
	struct walk *walk;
	struct waves_conf conf;
	/* begin_ms: nothing is sent before; wait_ms: when the time is over */
	uint64_t ref, begin_ms, wait_ms;
	uint64_t cut_ms; /* the first of its legs' */
	bool begun;
	struct node_id via[WALK_VIA + 1];
	unsigned n_via, n, n_waiting, open, slots; /* n_waiting: not begun */
	struct leg leg[];
};

static enum missing_reason reason_of_word(enum tree_word w)
{
	switch (w) {
	case TREE_OK:
		return MISSING_NONE;
	case TREE_DENIED:
		return MISSING_DENIED;
	case TREE_VERSION:
		return MISSING_INCOMPATIBLE;
	case TREE_BUSY:
		return MISSING_BUSY;
	case TREE_FULL: /* no room for it there */
		return MISSING_UNKNOWN_TASK;
	case TREE_LOOP:
	case TREE_DEEP:
		return MISSING_LOOP;
	case TREE_MOVED:
	case TREE_STALE:
	case TREE_PARENT:
	case TREE_DETACHED:
		return MISSING_MOVED;
	default:
		return MISSING_REJECTED;
	}
}

static enum missing_reason reason_of(const struct walk_got *got)
{
	switch (got->err) {
	case 0:
		return reason_of_word(got->word);
	case -ETIMEDOUT:
		return MISSING_TIMEOUT;
	case -EMSGSIZE:
	case -EPROTO:
		return MISSING_REJECTED;
	case -ENOBUFS:
	case -ENOMEM:
		return MISSING_BUSY;
	default:
		return MISSING_UNREACHABLE;
	}
}

/* ---- legs ---- */

static uint64_t leg_ref(const struct leg *l)
{
	return l->waves->ref + (uint64_t)(l - l->waves->leg);
}

static void leg_unqueue(struct leg *l)
{
	struct leg **at = &l->lane->waiting;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	if (!l->next)
		l->lane->end = at;
}

static void leg_cut_at(struct waves *v, struct leg *l, uint64_t at_ms)
{
	l->cut_ms = at_ms;
	v->cut_ms = WALK_NEVER;
	for (unsigned i = 0; i < v->n; i++)
		v->cut_ms = MIN(v->cut_ms, v->leg[i].cut_ms);
}

static void leg_close(struct waves *v, struct leg *l)
{
	l->over = true;
	leg_cut_at(v, l, WALK_NEVER);
	v->open--;
}

/*
 * Budget of this exchange: all that is left, or its part if its slot must also
 * serve others that wait.  open: exchanges beside it.
 */
static uint32_t leg_share(const struct waves *v, uint64_t now, unsigned open)
{
	uint64_t left = v->wait_ms > now ? (v->wait_ms - now) * 10 / 9 : 0;
	unsigned idle = v->slots - open - 1;

	if (v->n_waiting > idle)
		left /= 1 + (v->n_waiting - idle + v->slots - 1) / v->slots;
	return (uint32_t)left;
}

/* 0, or why it could not be sent. */
static enum missing_reason leg_send(struct waves *v, struct leg *l)
{
	const struct walk_conf *conf = &v->walk->conf;
	uint64_t now = walk_now(v->walk);
	/* the second time it has a slot already */
	uint32_t share = leg_share(v, now, v->open - l->again);
	uint32_t connect = MIN(share / 4, CONNECT_MS);
	/* the way takes time, too */
	uint32_t way = MIN(share / 8, l->c.rtt_us / 1000);
	struct lane *only;
	struct walk_send s = {
		.ref = leg_ref(l),
		.to = &l->c,
		.connect_ms = connect,
		.hello_ms = connect + way,
		.told_ms = (share - way) * 8 / 10,
		.fresh = l->again,
		.reply_max = v->conf.reply_max,
		.as_of = v->conf.as_of,
		.n_via = v->n_via,
		.via = v->via,
		.query = v->conf.query,
		.round = v->conf.round,
		.what = v->conf.what,
	};

	if (share < WALK_LEAST_MS)
		return MISSING_TIMEOUT;
	s.limit_ms = (uint32_t)(v->wait_ms - now) + WALK_LATE_MS;
	/* it stops waiting at nine tenths: in time, however long we connect */
	s.told_fresh_ms =
		MIN(share - (s.hello_ms + way) * 10 / 9 - MIN(share / 20, 10),
		    s.told_ms);
	if (way_take(v->walk, l->lane, l, s.ref))
		return MISSING_BUSY;
	if (conf->env->send(conf->ctx, &s)) {
		way_over(v->walk, s.ref, &only);
		return MISSING_BUSY;
	}
	leg_cut_at(v, l, now + share * 9 / 10);
	return MISSING_NONE;
}

static void leg_ask(struct waves *v, struct leg *l)
{
	enum missing_reason why = l->c.why;

	l->begun = true;
	v->n_waiting--;
	if (l->lane) {
		leg_unqueue(l);
		why = leg_send(v, l);
		if (why == MISSING_NONE) {
			v->open++;
			return;
		}
	}
	l->over = true;
	v->conf.child(v->conf.arg, &l->c, NULL, why);
}

static void waves_finish(struct waves *v)
{
	void (*done)(void *) = v->conf.done;
	void *arg = v->conf.arg;

	waves_free(v);
	done(arg);
}

/* Fills the free slots, as far as there are ways. */
static void waves_fill(struct waves *v)
{
	for (unsigned i = 0; i < v->n && v->open < v->slots; i++) {
		struct leg *l = &v->leg[i];

		if (!l->begun && (!l->lane || lane_open(v->walk, l->lane)))
			leg_ask(v, l);
	}
}

void waves_go(struct waves *v)
{
	v->begun = true;
	waves_fill(v);
	if (!v->open && !v->n_waiting)
		waves_finish(v);
}

static void leg_cut(struct waves *v, struct leg *l)
{
	way_leave(v->walk, l->lane, leg_ref(l));
	leg_close(v, l);
	v->conf.child(v->conf.arg, &l->c, NULL, MISSING_TIMEOUT);
}

static bool waves_waiting(const struct waves *v)
{
	return v->begun && v->n_waiting;
}

/* When something must be done that no answer brings about. */
static uint64_t waves_next(const struct waves *v)
{
	uint64_t at = v->begun ? v->wait_ms : v->begin_ms;

	return waves_waiting(v) ? MIN(at, v->cut_ms) : at;
}

uint64_t waves_due(const struct walk *w)
{
	uint64_t at = WALK_NEVER;

	for (const struct waves *v = w->waves; v; v = v->next)
		at = MIN(at, w->left && waves_waiting(v) ? 0 : waves_next(v));
	return at;
}

/* The time is over for all that have not answered. */
static void waves_end(struct waves *v)
{
	for (unsigned i = 0; i < v->n; i++) {
		struct leg *l = &v->leg[i];

		if (l->cut_ms != WALK_NEVER)
			leg_cut(v, l);
		else if (!l->over)
			v->conf.child(v->conf.arg, &l->c, NULL,
				      l->lane ? MISSING_TIMEOUT : l->c.why);
		l->over = true;
	}
	waves_finish(v);
}

static void waves_act(struct waves *v, uint64_t now)
{
	if (v->begun && now >= v->wait_ms) {
		waves_end(v);
		return;
	}
	for (unsigned i = 0; waves_waiting(v) && i < v->n; i++)
		if (v->leg[i].cut_ms <= now) {
			leg_cut(v, &v->leg[i]);
			waves_fill(v);
		}
	waves_go(v);
}

/* The oldest that waits and can be asked: of this child, or of all (NULL). */
static struct leg *leg_next(const struct walk *w, const struct lane *only)
{
	const struct lane *c = only ? only : w->lanes;
	struct leg *found = NULL;

	for (; c; c = only ? NULL : c->next) {
		struct leg *l = lane_open(w, c) ? c->waiting : NULL;

		while (l &&
		       (!l->waves->begun || l->waves->open == l->waves->slots))
			l = l->next;
		if (l && (!found || leg_ref(l) < leg_ref(found)))
			found = l;
	}
	return found;
}

static void ways_refill(struct walk *w, const struct lane *only)
{
	struct leg *l;

	while ((l = leg_next(w, only)))
		waves_go(l->waves);
}

void waves_timer(struct walk *w, uint64_t now)
{
	struct waves *v;

	/* who waits for a way may take one that was left */
	if (w->left) {
		w->left = false;
		ways_refill(w, NULL);
	}
	v = w->waves;
	/* what one of them ends may end others: from the start again */
	while (v) {
		if (waves_next(v) > now) {
			v = v->next;
			continue;
		}
		waves_act(v, now);
		v = w->waves;
	}
}

static void leg_over(struct leg *l, struct walk_got *got)
{
	enum missing_reason why = reason_of(got);
	struct waves *v = l->waves;
	struct walk *w = v->walk;

	if (got->err == -ECONNRESET && got->reused && !l->again) {
		l->again = true;
		why = leg_send(v, l);
		if (why == MISSING_NONE)
			return;
	}
	leg_close(v, l);
	if (why == MISSING_UNREACHABLE)
		w->conf.env->suspect(w->conf.ctx, &l->c.id);
	if (why == MISSING_REJECTED || got->why)
		w->conf.env->rejected(w->conf.ctx, &l->c,
				      got->why                ? got->why
				      : got->err == -EMSGSIZE ? "too large"
				      : got->err              ? "malformed"
							      : "status");
	v->conf.child(v->conf.arg, &l->c, why == MISSING_NONE ? got : NULL,
		      why);
}

void waves_done(struct walk *w, uint64_t ref, struct walk_got *got)
{
	struct lane *only;
	struct leg *l = way_over(w, ref, &only);
	struct waves *v;

	if (l)
		leg_over(l, got);
	else
		w->late += !got->err;
	ways_refill(w, only);
	/* only now its own: others may have waited longer, or it is gone */
	for (v = w->waves; v && v->ref != ref - ref % REF_LEGS; v = v->next)
		;
	if (v)
		waves_go(v);
}

/* ---- begin and end ---- */

static int leg_order(const void *a, const void *b)
{
	const struct walk_child *x = &((const struct leg *)a)->c;
	const struct walk_child *y = &((const struct leg *)b)->c;

	if (x->suspect != y->suspect)
		return x->suspect ? 1 : -1;
	return x->height < y->height ? 1 : x->height > y->height ? -1 : 0;
}

static void legs_fill(struct waves *v, unsigned n)
{
	const struct walk_conf *conf = &v->walk->conf;
	const struct node_id *only = v->conf.only;

	for (unsigned i = 0; i < n; i++) {
		struct leg *l = &v->leg[v->n];

		*l = (struct leg){ .cut_ms = WALK_NEVER };
		if (!conf->view->child(conf->tree, i, &l->c) ||
		    (only && !node_id_equal(only, &l->c.id)))
			continue;
		if (v->conf.for_parent && !l->c.told) {
			l->c.ask = false;
			l->c.why = MISSING_MOVED;
		}
		v->n++;
	}
	qsort(v->leg, v->n, sizeof(v->leg[0]), leg_order);
}

static void legs_queue(struct waves *v)
{
	for (struct leg *l = v->leg; l < v->leg + v->n; l++) {
		l->waves = v;
		l->lane = l->c.ask ? lane_get(v->walk, &l->c.id) : NULL;
		if (!l->lane) {
			l->c.why = l->c.ask ? MISSING_BUSY : l->c.why;
			continue;
		}
		*l->lane->end = l;
		l->lane->end = &l->next;
		l->lane->n_legs++;
	}
}

struct waves *waves_new(struct walk *w, const struct waves_conf *conf)
{
	unsigned n = w->conf.view->n_children(w->conf.tree);
	struct waves *v;

	n = MIN(n, WALK_CHILDREN);
	v = calloc(1, sizeof(*v) + n * sizeof(v->leg[0]));
	if (!v)
		return NULL;
	v->walk = w;
	v->conf = *conf;
	v->ref = ++w->last_waves * REF_LEGS;
	v->begin_ms = conf->wait_ms ? walk_now(w) + conf->wait_ms : 0;
	v->wait_ms = walk_now(w) + (uint64_t)conf->budget_ms * 9 / 10;
	v->slots = (unsigned)MAX(HELD_MAX / MAX(conf->reply_max, 1), 1);
	v->n_via = MIN(conf->n_via, WALK_VIA);
	if (v->n_via)
		memcpy(v->via, conf->via, v->n_via * sizeof(v->via[0]));
	v->via[v->n_via++] = *w->conf.view->self(w->conf.tree);
	legs_fill(v, n);
	legs_queue(v);
	v->n_waiting = v->n;
	v->cut_ms = WALK_NEVER;
	v->next = w->waves;
	w->waves = v;
	return v;
}

void waves_free(struct waves *v)
{
	struct waves **at;

	if (!v)
		return;
	for (unsigned i = 0; i < v->n; i++) {
		struct leg *l = &v->leg[i];

		if (!l->lane)
			continue;
		if (l->cut_ms != WALK_NEVER)
			way_leave(v->walk, l->lane, leg_ref(l));
		if (!l->begun)
			leg_unqueue(l);
		l->lane->n_legs--;
	}
	for (at = &v->walk->waves; *at != v; at = &(*at)->next)
		;
	*at = v->next;
	free(v);
}

/* ---- for others ---- */

static void spread_child(void *arg, const struct walk_child *c,
			 struct walk_got *got, enum missing_reason why)
{
	const struct walk_spread *s = arg;

	s->reply(s->arg, c, got ? got->raw : NULL, why);
}

static void spread_done(void *arg)
{
	struct walk_spread *s = arg;
	void (*done)(void *) = s->done;
	void *of = s->arg;

	free(s);
	done(of);
}

struct waves *walk_spread(struct walk *w, const struct walk_spread *s)
{
	struct walk_spread *own = malloc(sizeof(*own));
	struct waves_conf conf = { .what = s->what,
				   .as_of = w->conf.view->as_of(w->conf.tree),
				   .budget_ms = s->budget_ms,
				   .reply_max = s->reply_max,
				   .for_parent = s->for_parent,
				   .only = s->only,
				   .child = spread_child,
				   .done = spread_done,
				   .arg = own };
	struct waves *v;

	if (!own)
		return NULL;
	*own = *s;
	v = waves_new(w, &conf);
	if (!v)
		free(own);
	else
		walk_arm(w); /* it begins with the next event */
	return v;
}

static void spread_free(struct waves *v)
{
	free(v->conf.arg);
	waves_free(v);
}

void walk_spread_cancel(struct waves *v)
{
	struct walk *w;

	if (!v)
		return;
	w = v->walk;
	spread_free(v);
	walk_arm(w);
}

void spreads_free(struct walk *w)
{
	while (w->waves)
		spread_free(w->waves);
}
