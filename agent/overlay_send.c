/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the tree go out.  One struct sending for each, from the
 * machine's send to its done or cancel; it owns the call and the body.
 *
 * Our token is told to nobody who did not prove that it knows it: to a peer
 * without proof goes hello first, without the token, and the message only
 * after an answer with the right proof.  A peer loses its proof when an
 * exchange fails: another one may answer there from now on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/overlay_private.h"
#include "common/log.h"
#include "common/util.h"

#define CONNECT_MS   250
#define REPLY_MAX    (64 * 1024)
#define ROWS_MAX     ((size_t)4 << 20)
#define HELLO_PATH   "/api/v1/peer/hello"
#define MEMBERS_PATH "/api/v1/peer/members"

struct sending {
	struct sending *next, **at;
	struct overlay *o;
	uint64_t ref, until_ms;
	enum tree_kind kind;
	struct endpoint to;
	bool fresh;
	struct buf body;
	uint32_t offset;
	char epoch[EPOCH_TEXT + 24], lease[EPOCH_TEXT + 24];
	uint8_t nonce[TREE_NONCE];
	struct peer_call *call;
	/* a hello of another module's: it is told, not the machine */
	void (*proved)(void *arg, int err);
	void *arg;
};

/* ---- who proved its identity ---- */

static struct proven *proven_find(struct overlay *o, const struct endpoint *ep)
{
	for (unsigned i = 0; i < OVERLAY_PROVEN; i++)
		if (o->proven[i].used && endpoint_equal(&o->proven[i].ep, ep))
			return &o->proven[i];
	return NULL;
}

/* It takes the place of the one that was not used for the longest time. */
static void proven_add(struct overlay *o, const struct endpoint *ep)
{
	struct proven *p = proven_find(o, ep);

	for (unsigned i = 0; !p && i < OVERLAY_PROVEN; i++)
		if (!o->proven[i].used)
			p = &o->proven[i];
	if (!p)
		p = &o->proven[0];
	for (unsigned i = 1; p->used && i < OVERLAY_PROVEN; i++)
		if (o->proven[i].used < p->used)
			p = &o->proven[i];
	*p = (struct proven){ *ep, ++o->used };
}

static void proven_drop(struct overlay *o, const struct endpoint *ep)
{
	struct proven *p = proven_find(o, ep);

	if (p)
		p->used = 0;
}

bool overlay_unproven(const struct overlay *o, const struct endpoint *ep)
{
	return endpoint_equal(&o->unproven, ep);
}

static bool may_know_token(struct overlay *o, const struct endpoint *ep)
{
	struct proven *p = proven_find(o, ep);

	if (p)
		p->used = ++o->used;
	return p || !peers_token(o->agent->peers);
}

/* ---- one message ---- */

static void sending_free(struct sending *s)
{
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	peer_cancel(s->call);
	buf_fini(&s->body);
	free(s);
}

/* Out of the list first: the machine may send again at once. */
static void sending_over(struct sending *s, int err, const struct tree_msg *m)
{
	void (*proved)(void *arg, int err) = s->proved;
	struct tree *t = s->o->tree;
	uint64_t ref = s->ref;
	void *arg = s->arg;

	sending_free(s);
	if (!proved)
		tree_done(t, ref, err, m);
	else
		proved(arg, err ? err : m->word == TREE_OK ? 0 : -EACCES);
}

static bool proof_right(const struct sending *s, const struct tree_wire *w)
{
	uint8_t want[TREE_PROOF];

	if (!overlay_proof(s->o, s->nonce, &w->m.u.hello.id, &s->to, want))
		return true;
	return w->has_proof && equal_const_time(want, w->proof, sizeof(want));
}

/* Reads an answer; 0 or -errno.  A hello without the proof is a refusal. */
static int answer_read(struct sending *s, enum tree_kind kind,
		       const struct peer_reply *r, struct tree_wire *w)
{
	int ret = r->err;

	if (!ret)
		ret = tree_wire_read(kind, r->status, r->body, r->len, w);
	if (ret) {
		proven_drop(s->o, &s->to);
		return ret == -EINVAL ? -EPROTO : ret;
	}
	if (w->m.word == TREE_DENIED)
		proven_drop(s->o, &s->to);
	if (kind != TREE_HELLO || w->m.word != TREE_OK)
		return 0;
	if (proof_right(s, w)) {
		proven_add(s->o, &s->to);
	} else {
		memset(&w->m.u, 0, sizeof(w->m.u));
		w->m.word = TREE_DENIED;
		s->o->unproven = s->to;
	}
	return 0;
}

static void sent(void *arg, const struct peer_reply *r)
{
	struct sending *s = arg;
	struct tree_wire w = { 0 };
	int err;

	s->call = NULL;
	err = answer_read(s, s->kind, r, &w);
	sending_over(s, err, err ? NULL : &w.m);
	tree_wire_fini(&w);
}

static int message_start(struct sending *s)
{
	uint64_t now = clock_mono_ms();
	struct peer_request rq = { .to = s->to,
				   .method = HTTP_POST,
				   .body = s->body.data,
				   .len = s->body.len,
				   .connect_ms = CONNECT_MS,
				   .reply_max = REPLY_MAX,
				   .fresh = s->fresh,
				   .bare = s->kind == TREE_HELLO };
	static const char *const paths[TREE_KINDS] = {
		[TREE_HELLO] = HELLO_PATH,
		[TREE_INVITE] = "/api/v1/peer/invite",
		[TREE_JOIN] = "/api/v1/peer/join",
		[TREE_GRANT] = "/api/v1/peer/grant",
		[TREE_BEAT] = "/api/v1/peer/beat",
		[TREE_PLEASE] = "/api/v1/peer/beat-please",
		[TREE_LEAVE] = "/api/v1/peer/leave",
		[TREE_ROWS] = MEMBERS_PATH,
		[TREE_ANNOUNCE] = MEMBERS_PATH,
	};
	char path[64];

	snprintf(path, sizeof(path), "%s", paths[s->kind]);
	if (s->kind == TREE_ROWS) {
		rq.method = HTTP_GET;
		rq.body = NULL;
		rq.reply_max = ROWS_MAX;
		snprintf(path, sizeof(path), "%s?offset=%u", paths[s->kind],
			 s->offset);
	} else if (s->kind == TREE_ANNOUNCE) {
		rq.method = HTTP_PUT;
	}
	rq.path = path;
	rq.headers[0] = "X-Linnet-Api: " OVERLAY_API;
	rq.headers[1] = s->epoch;
	rq.headers[2] = s->lease[0] ? s->lease : NULL;
	rq.timeout_ms = s->until_ms > now ? (uint32_t)(s->until_ms - now) : 1;
	s->call = peer_start(s->o->agent->peers, &rq, sent, s);
	return s->call ? 0 : -ENOMEM;
}

/* ---- hello before the token ---- */

static void proved(void *arg, const struct peer_reply *r)
{
	struct sending *s = arg;
	struct tree_wire w = { 0 };
	int err;

	s->call = NULL;
	err = answer_read(s, TREE_HELLO, r, &w);
	if (!err && w.m.word == TREE_OK) {
		s->fresh = false; /* this one was */
		err = message_start(s);
		if (!err)
			goto out;
	}
	w.m.kind = s->kind;
	sending_over(s, err, err ? NULL : &w.m);
out:
	tree_wire_fini(&w);
}

static int proof_start(struct sending *s)
{
	uint64_t now = clock_mono_ms();
	struct tree_wire w = { .m.kind = TREE_HELLO, .has_nonce = true };
	struct peer_request rq = {
		.to = s->to,
		.method = HTTP_POST,
		.path = HELLO_PATH,
		.timeout_ms = s->until_ms > now ? (uint32_t)(s->until_ms - now)
						: 1,
		.connect_ms = CONNECT_MS,
		.reply_max = REPLY_MAX,
		.fresh = s->fresh,
		.bare = true
	};
	struct buf b = BUF_INIT;

	memcpy(w.nonce, s->nonce, sizeof(w.nonce));
	tree_wire_write(&w, false, &b);
	rq.body = b.data;
	rq.len = b.len;
	rq.headers[0] = "X-Linnet-Api: " OVERLAY_API;
	if (!b.failed)
		s->call = peer_start(s->o->agent->peers, &rq, proved, s);
	buf_fini(&b);
	return s->call ? 0 : -ENOMEM;
}

/* ---- what the machine calls ---- */

/* Who listens on all addresses names one to those that it does not speak to. */
static int own_address(const struct overlay *o, struct tree_wire *w)
{
	size_t size = w->m.u.announce.n * sizeof(struct tree_peer);
	struct tree_peer *p;

	if (addr_classify(&o->self.addr) != ADDR_UNSPECIFIED || !size)
		return 0;
	p = malloc(size);
	if (!p)
		return -ENOMEM;
	memcpy(p, w->m.u.announce.peer, size);
	for (uint32_t i = 0; i < w->m.u.announce.n; i++)
		if (node_id_equal(&p[i].id, tree_self(o->tree)))
			p[i].ep = overlay_endpoint(o);
	w->own = p;
	w->m.u.announce.peer = p;
	return 0;
}

static int body_write(struct sending *s, const struct tree_msg *m)
{
	struct tree_wire w = { .m = *m, .has_nonce = m->kind == TREE_HELLO };
	int ret = m->kind == TREE_ANNOUNCE ? own_address(s->o, &w) : 0;

	memcpy(w.nonce, s->nonce, sizeof(w.nonce));
	if (!ret)
		tree_wire_write(&w, false, &s->body);
	tree_wire_fini(&w);
	return ret || s->body.failed ? -ENOMEM : 0;
}

static struct sending *sending_new(struct overlay *o, const struct endpoint *to,
				   const struct tree_msg *m, uint32_t limit_ms)
{
	struct sending *s = calloc(1, sizeof(*s));
	char text[EPOCH_TEXT];

	if (!s)
		return NULL;
	s->o = o;
	s->until_ms = clock_mono_ms() + limit_ms;
	s->kind = m->kind;
	s->to = *to;
	random_bytes(s->nonce, sizeof(s->nonce));
	if (m->kind == TREE_ROWS)
		s->offset = m->u.rows.offset;
	epoch_format(&m->epoch, text);
	snprintf(s->epoch, sizeof(s->epoch), "X-Linnet-Epoch: %s", text);
	epoch_format(&m->lease, text);
	if (!epoch_none(&m->lease))
		snprintf(s->lease, sizeof(s->lease), "X-Linnet-Lease: %s",
			 text);
	s->next = o->sending;
	if (s->next)
		s->next->at = &s->next;
	s->at = &o->sending;
	o->sending = s;
	return s;
}

static int sending_start(struct sending *s, const struct tree_msg *m)
{
	int ret = body_write(s, m);

	if (!ret)
		ret = m->kind == TREE_HELLO || may_know_token(s->o, &s->to)
			      ? message_start(s)
			      : proof_start(s);
	if (ret)
		sending_free(s);
	return ret;
}

int overlay_send(void *ctx, const struct endpoint *to, const struct tree_msg *m,
		 uint32_t limit_ms, bool fresh, uint64_t ref)
{
	struct sending *s = sending_new(ctx, to, m, limit_ms);

	if (!s)
		return -ENOMEM;
	s->ref = ref;
	s->fresh = fresh;
	return sending_start(s, m);
}

bool overlay_proven(struct overlay *o, const struct endpoint *ep)
{
	return may_know_token(o, ep);
}

struct sending *overlay_prove(struct overlay *o, const struct endpoint *ep,
			      uint32_t limit_ms,
			      void (*done)(void *arg, int err), void *arg)
{
	struct tree_msg m = { .kind = TREE_HELLO };
	struct sending *s = sending_new(o, ep, &m, limit_ms);

	if (!s)
		return NULL;
	s->proved = done;
	s->arg = arg;
	return sending_start(s, &m) ? NULL : s;
}

void overlay_prove_cancel(struct sending *s)
{
	if (s)
		sending_free(s);
}

void overlay_cancel(void *ctx, uint64_t ref)
{
	struct overlay *o = ctx;

	for (struct sending *s = o->sending; s; s = s->next) {
		if (s->ref != ref || s->proved)
			continue;
		sending_free(s);
		return;
	}
}

void overlay_send_free(struct overlay *o)
{
	while (o->sending)
		sending_free(o->sending);
}
