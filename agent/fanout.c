/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exchanges with children over HTTP: those of questions, and requests of any
 * other kind that go to all children.  Who is asked when, and for how long, is
 * decided in agent/tree/walk_waves.c; here a request is written, its answer
 * parsed, and both are forgotten when the exchange is over or cancelled.
 */
#include "agent/fanout.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/peer.h"
#include "agent/query_private.h"
#include "common/log.h"
#include "common/util.h"

#define BUDGET_MAX   30000
#define HEADER_BYTES (33 * (WALK_VIA + 1) + 64)

struct exchange_call {
	struct exchange_call *next;
	struct queries *all;
	struct peer_call *call;
	uint64_t ref;
	const struct question *question; /* NULL: of a fanout */
	bool left;                       /* that one may be gone */
};

struct fanout {
	struct fanout *next;
	struct queries *all; /* NULL: they are gone */
	struct waves *waves; /* NULL: over */
	enum http_method method;
	char path[192], request_id[REQUEST_ID_LEN];
	char *body;
	size_t len;
	void (*reply)(void *arg, const struct fanout_child *c,
		      const struct json *v, enum missing_reason why);
	void (*done)(void *arg);
	void *arg;
};

void fanout_rejected(const struct fanout_child *c, const char *why)
{
	char text[ENDPOINT_TEXT_LEN];

	endpoint_format(&c->ep, 8000, text);
	log_warnx("child %s: answer rejected: %s", text, why);
}

enum error_code fanout_budget(const struct agent *a,
			      const struct http_request *rq, uint32_t *out_ms)
{
	const char *left = http_header(rq, "X-Linnet-Deadline");
	uint64_t budget = a->conf->query_ms, spent;

	if (!overlay_under(a->overlay, http_header(rq, "X-Linnet-Lease")))
		return ERR_MOVED;
	if (left && parse_u64(left, strlen(left), 1, BUDGET_MAX, &budget))
		return ERR_VALUE;
	spent = clock_mono_ms() - rq->began_ms;
	*out_ms = (uint32_t)(budget > spent ? budget - spent : 1);
	return ERR_NONE;
}

static struct fanout_child fanout_child(const struct walk_child *c)
{
	return (struct fanout_child){ c->id, c->ep, c->hosts };
}

void exchange_rejected(void *ctx, const struct walk_child *c, const char *why)
{
	struct fanout_child child = fanout_child(c);

	(void)ctx;
	fanout_rejected(&child, why);
}

/* ---- one exchange ---- */

static void call_unlink(struct exchange_call *c)
{
	struct exchange_call **at;

	for (at = &c->all->calls; *at != c; at = &(*at)->next)
		;
	*at = c->next;
}

static void call_replied(void *arg, const struct peer_reply *r)
{
	struct exchange_call *c = arg;
	struct walk_got got = { .err = r->err,
				.word = tree_word_of_status(r->status),
				.reused = r->reused };
	struct walk *w = c->all->walk;
	struct part *p = NULL;
	struct json *v = NULL;
	struct coverage cov;
	int ret = 0;

	if (r->err == -EKEYREJECTED) {
		got.err = 0;
		got.word = TREE_DENIED;
	}
	if (!r->err && got.word == TREE_OK && !c->left &&
	    (json_parse(r->body, r->len, &v) || json_type(v) != JSON_OBJECT)) {
		got.err = -EPROTO;
		got.why = "not a JSON object";
	} else if (v && c->question) {
		ret = reply_parse(v, &c->question->ask,
				  question_created_ms(c->question), &p, &cov,
				  &got.why);
		got.err = MIN(ret, 0);
		if (ret > 0)
			got.word = TREE_VERSION;
		got.part = p;
		got.coverage = &cov;
	}
	got.raw = v;
	call_unlink(c);
	walk_done(w, c->ref, &got);
	json_free(v);
	free(c);
}

static void via_write(const struct walk_send *s, char out[HEADER_BYTES])
{
	int n = snprintf(out, HEADER_BYTES, "X-Linnet-Via: ");

	for (unsigned i = 0; i < s->n_via; i++) {
		char id[33];

		node_id_format(&s->via[i], id);
		n += snprintf(out + n, HEADER_BYTES - (size_t)n, "%s%s",
			      i ? "," : "", id);
	}
}

/* The body of a question is the same for all children. */
static int question_body(struct question *q, struct peer_request *rq)
{
	if (!q->body.data)
		ask_write(&q->body, &q->ask, q->id);
	if (q->body.failed)
		return -ENOMEM;
	rq->method = HTTP_POST;
	rq->path = "/api/v1/peer/ask";
	rq->body = q->body.data;
	rq->len = q->body.len;
	return 0;
}

static int call_start(struct exchange_call *c, const struct walk_send *s,
		      struct peer_request *rq, const char *request_id)
{
	struct peers *peers = c->all->agent->peers;
	bool fresh = s->fresh || !peer_idle(peers, &s->to->ep);
	char budget[64], via[HEADER_BYTES], lease[EPOCH_TEXT + 24];
	char epoch[EPOCH_TEXT + 24], id[REQUEST_ID_LEN + 24], text[EPOCH_TEXT];

	assert(request_id);
	snprintf(budget, sizeof(budget), "X-Linnet-Deadline: %u",
		 MAX(fresh ? s->told_fresh_ms : s->told_ms, 1));
	via_write(s, via);
	epoch_format(&s->to->lease, text);
	snprintf(lease, sizeof(lease), "X-Linnet-Lease: %s",
		 epoch_none(&s->to->lease) ? "" : text);
	epoch_format(&s->as_of, text);
	snprintf(epoch, sizeof(epoch), "X-Linnet-Epoch: %s", text);
	snprintf(id, sizeof(id), "X-Request-Id: %s", request_id);
	rq->headers[0] = PEER_API_HEADER;
	rq->headers[1] = budget;
	rq->headers[2] = lease;
	rq->headers[3] = epoch;
	/* a question alone: what else goes to all children, each child sends
	 * on under its own lease */
	if (s->query)
		rq->headers[4] = via;
	if (request_id[0])
		rq->headers[s->query ? 5 : 4] = id;
	c->call = peer_start(peers, rq, call_replied, c);
	return c->call ? 0 : -ENOMEM;
}

int exchange_send(void *ctx, const struct walk_send *s)
{
	struct queries *all = ctx;
	struct question *q = s->query ? s->what : NULL;
	const struct fanout *f = q ? NULL : s->what;
	struct peer_request rq = { .to = s->to->ep,
				   .timeout_ms = s->limit_ms,
				   .connect_ms = s->connect_ms,
				   .hello_ms = s->hello_ms,
				   .reply_max = s->reply_max,
				   .fresh = s->fresh };
	struct exchange_call *c;

	if (q && question_body(q, &rq))
		return -ENOMEM;
	if (f) {
		rq.method = f->method;
		rq.path = f->path;
		rq.body = f->body;
		rq.len = f->len;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->all = all;
	c->ref = s->ref;
	c->question = q;
	if (call_start(c, s, &rq, q ? q->request_id : f->request_id)) {
		free(c);
		return -ENOMEM;
	}
	c->next = all->calls;
	all->calls = c;
	return 0;
}

static struct exchange_call *call_find(const struct queries *all, uint64_t ref)
{
	struct exchange_call *c = all->calls;

	while (c && c->ref != ref)
		c = c->next;
	assert(c);
	return c;
}

void exchange_leave(void *ctx, uint64_t ref)
{
	struct exchange_call *c = call_find(ctx, ref);

	c->left = true;
	peer_leave(c->call, WALK_LATE_MS, WALK_LATE_BYTES);
}

void exchange_cancel(void *ctx, uint64_t ref)
{
	struct exchange_call *c = call_find(ctx, ref);

	call_unlink(c);
	peer_cancel(c->call);
	free(c);
}

/* ---- the same to all ---- */

static void spread_reply(void *arg, const struct walk_child *c, const void *raw,
			 enum missing_reason why)
{
	struct fanout *f = arg;
	struct fanout_child child = fanout_child(c);

	f->reply(f->arg, &child, raw, why);
}

static void spread_done(void *arg)
{
	struct fanout *f = arg;

	f->waves = NULL;
	f->done(f->arg); /* which frees f */
}

struct fanout *
fanout_start(struct agent *a, const struct fanout_request *rq,
	     void (*reply)(void *arg, const struct fanout_child *c,
			   const struct json *v, enum missing_reason why),
	     void (*done)(void *arg), void *arg)
{
	struct queries *all = a->queries;
	struct fanout *f = calloc(1, sizeof(*f));
	struct walk_spread s = { .what = f,
				 .budget_ms = rq->budget_ms,
				 .reply_max = rq->reply_max,
				 .for_parent = rq->for_parent,
				 .only = rq->only,
				 .reply = spread_reply,
				 .done = spread_done,
				 .arg = f };

	if (!f)
		return NULL;
	f->method = rq->method;
	f->len = rq->len;
	f->reply = reply;
	f->done = done;
	f->arg = arg;
	snprintf(f->path, sizeof(f->path), "%s", rq->path);
	snprintf(f->request_id, sizeof(f->request_id), "%s", rq->request_id);
	if (rq->body) {
		f->body = malloc(rq->len + 1);
		if (!f->body)
			goto fail;
		memcpy(f->body, rq->body, rq->len);
		f->body[rq->len] = '\0';
	}
	f->waves = walk_spread(all->walk, &s);
	if (!f->waves)
		goto fail;
	f->all = all;
	f->next = all->fanouts;
	all->fanouts = f;
	return f;
fail:
	fanout_free(f);
	return NULL;
}

void fanout_free(struct fanout *f)
{
	struct fanout **at;

	if (!f)
		return;
	walk_spread_cancel(f->waves);
	if (f->all) {
		for (at = &f->all->fanouts; *at != f; at = &(*at)->next)
			;
		*at = f->next;
	}
	if (f->body)
		explicit_bzero(f->body, f->len); /* a task has its seed in it */
	free(f->body);
	free(f);
}

/* Their owners outlive the queries; they free what is left of them. */
void fanouts_free(struct queries *all)
{
	for (struct fanout *f = all->fanouts; f; f = f->next) {
		walk_spread_cancel(f->waves);
		f->waves = NULL;
		f->all = NULL;
	}
	all->fanouts = NULL;
}
