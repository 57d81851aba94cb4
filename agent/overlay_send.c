/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the tree go out.  One struct sending for each, from the
 * machine's send to its done or cancel; it owns the call.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/alarm.h"
#include "agent/hello.h"
#include "agent/overlay_private.h"
#include "common/log.h"
#include "common/util.h"

#define CONNECT_MS   250
#define REPLY_MAX    (64 * 1024)
#define ROWS_MAX     ((size_t)4 << 20)
#define MEMBERS_PATH "/api/v1/peer/members"

struct sending {
	struct sending *next, **at;
	struct overlay *o;
	uint64_t ref;
	enum tree_kind kind;
	struct endpoint to;
	struct peer_call *call;
};

bool overlay_unproven(const struct overlay *o, const struct endpoint *ep)
{
	return endpoint_equal(&o->unproven, ep);
}

/* ---- one message ---- */

static void sending_free(struct sending *s)
{
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	peer_cancel(s->call);
	free(s);
}

static void say_ahead(struct overlay *o)
{
	char text[EPOCH_TEXT];
	struct epoch e = tree_epoch(o->tree);

	if (o->told_ahead)
		return;
	o->told_ahead = true;
	epoch_format(&e, text);
	log_warnx("epoch %s is far ahead of the root's: refused", text);
}

static void sent(void *arg, const struct peer_reply *r)
{
	struct sending *s = arg;
	struct overlay *o = s->o;
	uint64_t ref = s->ref;
	struct tree_wire w = { .m.kind = s->kind };
	struct endpoint to;
	int err = r->err;

	s->call = NULL;
	if (err == -EKEYREJECTED) {
		w.m.word = TREE_DENIED;
		o->unproven = s->to;
		err = 0;
	} else if (!err) {
		err = tree_wire_read(s->kind, r->status, r->body, r->len, &w);
		err = err == -EINVAL ? -EPROTO : err;
	}
	if (!err && w.m.kind == TREE_JOIN && w.m.word == TREE_STALE)
		say_ahead(o);
	to = s->to;
	/* out of the list first: the machine may send again at once */
	sending_free(s);
	tree_done(o->tree, ref, err, err ? NULL : &w.m);
	if (!err && w.m.kind == TREE_BEAT && w.m.word == TREE_OK) {
		overlay_beaten(o, &to, &w.m);
		alarms_beaten(o->agent->alarms, &w.m.u.beaten.id, &w.m.lease,
			      w.alarm_ms);
	}
	tree_wire_fini(&w);
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

/*
 * A hello of the tree is a message as any other: where there is a token, that
 * of peer.c went before it and has proved who is there, so that nobody looks
 * whether this nonce comes back proved.  It is sent because a request without
 * one is malformed.
 */
static int body_write(const struct overlay *o, const struct tree_msg *m,
		      struct buf *b)
{
	struct tree_wire w = { .m = *m, .has_nonce = m->kind == TREE_HELLO };
	int ret = m->kind == TREE_ANNOUNCE ? own_address(o, &w) : 0;

	if (w.has_nonce)
		random_bytes(w.nonce, sizeof(w.nonce));
	if (!ret)
		tree_wire_write(&w, false, b);
	tree_wire_fini(&w);
	return ret || b->failed ? -ENOMEM : 0;
}

static int message_start(struct sending *s, const struct tree_msg *m,
			 struct peer_request *rq)
{
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
	char path[64], text[EPOCH_TEXT];
	char epoch[EPOCH_TEXT + 24], lease[EPOCH_TEXT + 24];

	snprintf(path, sizeof(path), "%s", paths[m->kind]);
	rq->method = m->kind == TREE_ANNOUNCE ? HTTP_PUT : HTTP_POST;
	if (m->kind == TREE_ROWS) {
		rq->method = HTTP_GET;
		rq->body = NULL;
		rq->reply_max = ROWS_MAX;
		snprintf(path, sizeof(path), "%s?offset=%u", paths[m->kind],
			 m->u.rows.offset);
	}
	rq->path = path;
	epoch_format(&m->epoch, text);
	snprintf(epoch, sizeof(epoch), "X-Linnet-Epoch: %s", text);
	epoch_format(&m->lease, text);
	snprintf(lease, sizeof(lease), "X-Linnet-Lease: %s", text);
	rq->headers[0] = PEER_API_HEADER;
	rq->headers[1] = epoch;
	rq->headers[2] = epoch_none(&m->lease) ? NULL : lease;
	s->call = peer_start(s->o->agent->peers, rq, sent, s);
	return s->call ? 0 : -ENOMEM;
}

int overlay_send(void *ctx, const struct endpoint *to, const struct tree_msg *m,
		 uint32_t limit_ms, bool fresh, uint64_t ref)
{
	struct sending *s = calloc(1, sizeof(*s));
	struct overlay *o = ctx;
	struct buf body = BUF_INIT;
	struct peer_request rq = { .to = *to,
				   .timeout_ms = limit_ms,
				   .connect_ms = CONNECT_MS,
				   .reply_max = REPLY_MAX,
				   .fresh = fresh };
	int ret;

	if (!s)
		return -ENOMEM;
	s->o = o;
	s->ref = ref;
	s->kind = m->kind;
	s->to = *to;
	s->next = o->sending;
	if (s->next)
		s->next->at = &s->next;
	s->at = &o->sending;
	o->sending = s;
	ret = body_write(o, m, &body);
	rq.body = body.data;
	rq.len = body.len;
	if (!ret)
		ret = message_start(s, m, &rq);
	if (ret)
		sending_free(s);
	buf_fini(&body);
	return ret;
}

void overlay_cancel(void *ctx, uint64_t ref)
{
	struct overlay *o = ctx;

	for (struct sending *s = o->sending; s; s = s->next) {
		if (s->ref != ref)
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
