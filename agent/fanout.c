/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request to all children.  As many are under way as their replies may
 * take together; tallest subtrees first, suspects last; while others wait, an
 * exchange holds its slot for its share of the time.  A child is told four
 * fifths of what is left and is waited for nine tenths: it, its own children
 * and theirs all have time to say what they have.  Children that are down are
 * not asked.
 *
 * A reply is parsed here and freed after its callback; a late one meets a call
 * that no longer exists.
 */
#include "agent/fanout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/overlay.h"
#include "agent/peer.h"
#include "common/log.h"
#include "common/util.h"

#define LEAST_MS     20 /* with less, children are not asked */
#define CONNECT_MS   250
#define HELD_MAX     ((size_t)64 << 20)
#define VIA_MAX      (33 * OVERLAY_HOPS)
#define HEADER_BYTES (VIA_MAX + 64)

struct leg {
	struct fanout *f;
	struct fanout_child c;
	struct peer_call *call;
	char lease[64];
	unsigned rank; /* larger: later */
	bool suspect, ask, over;
	enum missing_reason why; /* when it is not asked */
};

struct fanout {
	struct agent *agent;
	enum http_method method;
	char path[96];
	char *body;
	size_t len, reply_max;
	uint64_t deadline_ms; /* monotonic */
	char via[VIA_MAX + 40], request_id[REQUEST_ID_LEN], epoch[64];
	struct loop_timer begin, end;
	struct leg leg[OVERLAY_CHILDREN];
	unsigned n, next, open, slots;
	void (*reply)(void *arg, const struct fanout_child *c,
		      const struct json *v, enum missing_reason why);
	void (*done)(void *arg);
	void *arg;
};

static void fanout_go(struct fanout *f);

static enum missing_reason reason_of(const struct peer_reply *r)
{
	switch (r->err) {
	case 0:
		break;
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
	switch (r->status) {
	case 200:
		return MISSING_NONE;
	case 401:
	case 403:
		return MISSING_DENIED;
	case 409:
		return MISSING_MOVED;
	case 404:
	case 501:
		return MISSING_INCOMPATIBLE;
	case 429:
	case 503:
		return MISSING_BUSY;
	case 507: /* no room for it there */
		return MISSING_UNKNOWN_TASK;
	case 508:
		return MISSING_LOOP;
	default:
		return MISSING_REJECTED;
	}
}

void fanout_rejected(const struct fanout_child *c, const char *why)
{
	char text[ENDPOINT_TEXT_LEN];

	endpoint_format(&c->ep, 8000, text);
	log_warnx("child %s: answer rejected: %s", text, why);
}

static void leg_over(struct leg *l, const struct json *v,
		     enum missing_reason why)
{
	l->over = true;
	l->f->reply(l->f->arg, &l->c, v, why);
}

static void leg_reply(void *arg, const struct peer_reply *r)
{
	struct leg *l = arg;
	struct fanout *f = l->f;
	enum missing_reason why = reason_of(r);
	struct json *v = NULL;

	l->call = NULL;
	f->open--;
	if (why == MISSING_NONE &&
	    (json_parse(r->body, r->len, &v) || json_type(v) != JSON_OBJECT)) {
		fanout_rejected(&l->c, "not a JSON object");
		why = MISSING_REJECTED;
	} else if (why == MISSING_REJECTED) {
		fanout_rejected(&l->c, r->err == -EMSGSIZE ? "too large"
				       : r->err            ? "not HTTP"
							   : "HTTP status");
	}
	if (why == MISSING_UNREACHABLE)
		overlay_suspect(f->agent->overlay, &l->c.id);
	leg_over(l, why == MISSING_NONE ? v : NULL, why);
	json_free(v);
	fanout_go(f);
}

/* Milliseconds that this exchange may take; 0: none. */
static uint32_t leg_time(const struct fanout *f, uint64_t now)
{
	uint64_t left = f->deadline_ms > now ? f->deadline_ms - now : 0;
	unsigned waiting = f->n - f->next;

	if (left < LEAST_MS)
		return 0;
	if (waiting > f->slots)
		left /= (waiting + f->slots - 1) / f->slots;
	return (uint32_t)(left * 9 / 10);
}

static void leg_ask(struct leg *l)
{
	struct fanout *f = l->f;
	uint32_t time = leg_time(f, clock_mono_ms());
	char budget[64], via[HEADER_BYTES], lease[96], epoch[96], id[96];
	uint32_t connect = MIN(time / 4, CONNECT_MS), told;
	struct peer_request rq = { .to = l->c.ep,
				   .method = f->method,
				   .path = f->path,
				   .body = f->body,
				   .len = f->len,
				   .timeout_ms = time,
				   .connect_ms = connect,
				   .reply_max = f->reply_max };

	if (time < LEAST_MS) {
		leg_over(l, NULL, MISSING_TIMEOUT);
		return;
	}
	/* 8/10 of the rest; less, where a connection must be made first */
	told = time * 8 / 9 - (l->suspect ? connect / 2 : 0);
	snprintf(budget, sizeof(budget), "X-Linnet-Deadline: %u", told);
	snprintf(via, sizeof(via), "X-Linnet-Via: %s", f->via);
	snprintf(lease, sizeof(lease), "X-Linnet-Lease: %s", l->lease);
	snprintf(epoch, sizeof(epoch), "X-Linnet-Epoch: %s", f->epoch);
	snprintf(id, sizeof(id), "X-Request-Id: %s", f->request_id);
	rq.headers[0] = "X-Linnet-Api: 1.0";
	rq.headers[1] = budget;
	rq.headers[2] = via;
	rq.headers[3] = lease;
	rq.headers[4] = epoch;
	rq.headers[5] = f->request_id[0] ? id : NULL;
	l->call = peer_start(f->agent->peers, &rq, leg_reply, l);
	if (l->call)
		f->open++;
	else
		leg_over(l, NULL, MISSING_BUSY);
}

static void fanout_finish(struct fanout *f)
{
	void (*done)(void *) = f->done;

	f->done = NULL;
	loop_timer_cancel(&f->begin);
	loop_timer_cancel(&f->end);
	if (done)
		done(f->arg); /* which frees f */
}

/* Fills the free slots; tells the end. */
static void fanout_go(struct fanout *f)
{
	while (f->open < f->slots && f->next < f->n) {
		struct leg *l = &f->leg[f->next++];

		if (l->ask)
			leg_ask(l);
		else
			leg_over(l, NULL, l->why);
	}
	if (!f->open && f->next == f->n)
		fanout_finish(f);
}

static void fanout_begin(void *arg)
{
	fanout_go(arg);
}

/* The time is over for all that have not answered. */
static void fanout_end(void *arg)
{
	struct fanout *f = arg;

	for (unsigned i = 0; i < f->n; i++) {
		struct leg *l = &f->leg[i];

		peer_cancel(l->call);
		l->call = NULL;
		if (!l->over)
			leg_over(l, NULL, MISSING_TIMEOUT);
	}
	fanout_finish(f);
}

static int leg_order(const void *a, const void *b)
{
	const struct leg *x = a, *y = b;

	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static void legs_fill(struct fanout *f, bool for_parent,
		      const struct node_id *only)
{
	const struct overlay *o = f->agent->overlay;

	for (unsigned i = 0; i < overlay_n_children(o); i++) {
		const struct child *c = overlay_child(o, i);
		struct leg *l = &f->leg[f->n];

		if (c->refused[0] || (only && !node_id_equal(only, &c->id)))
			continue;
		l->f = f;
		l->c.id = c->id;
		l->c.ep = c->ep;
		/* new hosts below it are in its beats before they answer */
		l->c.hosts = MAX(c->hosts, 1);
		l->ask = c->state == CHILD_UP || c->state == CHILD_SUSPECT;
		l->suspect = c->state == CHILD_SUSPECT;
		l->why = c->why ? c->why : MISSING_UNREACHABLE;
		if (c->state == CHILD_DOWN)
			l->why = MISSING_UNREACHABLE;
		if (for_parent && !c->reported) {
			l->ask = false;
			l->why = MISSING_MOVED;
		}
		l->rank = (l->suspect ? 1000 : 0) + OVERLAY_HOPS - c->height;
		snprintf(l->lease, sizeof(l->lease), "%s", c->lease);
		f->n++;
	}
	qsort(f->leg, f->n, sizeof(f->leg[0]), leg_order);
}

struct fanout *
fanout_start(struct agent *a, const struct fanout_request *rq,
	     void (*reply)(void *arg, const struct fanout_child *c,
			   const struct json *v, enum missing_reason why),
	     void (*done)(void *arg), void *arg)
{
	struct fanout *f = calloc(1, sizeof(*f));
	char self[33];

	if (!f)
		return NULL;
	f->agent = a;
	f->method = rq->method;
	f->len = rq->len;
	f->reply_max = rq->reply_max;
	f->deadline_ms = clock_mono_ms() + rq->budget_ms;
	f->slots = (unsigned)MAX(HELD_MAX / rq->reply_max, 1);
	f->reply = reply;
	f->done = done;
	f->arg = arg;
	node_id_format(overlay_self(a->overlay), self);
	snprintf(f->path, sizeof(f->path), "%s", rq->path);
	snprintf(f->via, sizeof(f->via), "%.*s%s%s", VIA_MAX, rq->via,
		 rq->via[0] ? "," : "", self);
	snprintf(f->request_id, sizeof(f->request_id), "%s", rq->request_id);
	overlay_epoch_text(a->overlay, f->epoch);
	legs_fill(f, rq->for_parent, rq->only);
	if (rq->body) {
		f->body = malloc(rq->len + 1);
		if (!f->body)
			goto fail;
		memcpy(f->body, rq->body, rq->len);
		f->body[rq->len] = '\0';
	}
	if (loop_timer_in(a->loop, &f->begin, 0, fanout_begin, f) ||
	    loop_timer_in(a->loop, &f->end, (uint64_t)rq->budget_ms * 9 / 10,
			  fanout_end, f))
		goto fail;
	return f;
fail:
	fanout_free(f);
	return NULL;
}

void fanout_free(struct fanout *f)
{
	if (!f)
		return;
	for (unsigned i = 0; i < f->n; i++)
		peer_cancel(f->leg[i].call);
	loop_timer_cancel(&f->begin);
	loop_timer_cancel(&f->end);
	free(f->body);
	free(f);
}
