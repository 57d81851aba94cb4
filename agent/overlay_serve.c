/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the tree come in: each is read, handed to the machine and kept
 * until it answers, at once or later.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/alarm.h"
#include "agent/hello.h"
#include "agent/overlay_private.h"
#include "common/util.h"

#define MEMBERS_MAX ((size_t)4 << 20)

struct serving {
	struct serving *next, **at;
	struct overlay *o;
	struct http_request *rq;
	enum tree_kind kind;
	uint8_t nonce[TREE_NONCE]; /* of hello */
};

static void serving_free(struct serving *s)
{
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	free(s);
}

static void reply_error(struct http_request *rq, enum error_code code)
{
	struct error e;

	error_set(&e, code, "", "");
	http_send_error(rq, &e);
}

static void reply_wire(struct http_request *rq, const struct tree_wire *w)
{
	struct http_reply r;

	http_reply_init(&r, tree_word_status(w->m.word),
			w->m.word == TREE_OK ? HTTP_JSON : HTTP_PROBLEM);
	tree_wire_write(w, true, &r.body);
	http_send(rq, &r);
}

/*
 * The proof; and to whoever is no peer nothing else but what it needs to
 * believe it.  Where the root is, is for those that may ask for more.
 */
static void hello_complete(const struct serving *s, struct tree_wire *w)
{
	const char *token = peers_token(s->o->agent->peers);
	struct tree_msg told = { .kind = TREE_HELLO };

	w->has_proof = token;
	if (token)
		hello_proof(token, s->nonce, &w->m.u.hello.id, &s->rq->local,
			    w->proof);
	if (s->rq->roles & ROLE_PEER)
		return;
	told.u.hello.id = w->m.u.hello.id;
	memcpy(told.u.hello.overlay, w->m.u.hello.overlay,
	       sizeof(told.u.hello.overlay));
	w->m = told;
}

void overlay_reply(void *ctx, uint64_t ref, const struct tree_msg *m)
{
	struct overlay *o = ctx;
	struct serving *s = (struct serving *)(uintptr_t)ref;
	struct tree_wire w = { .m = *m };

	w.m.kind = s->kind;
	if (s->kind == TREE_HELLO)
		hello_complete(s, &w);
	if (s->kind == TREE_BEAT && m->word == TREE_OK) {
		o->beat_connection = s->rq->connection;
		w.alarm_ms = alarms_told_ms(o->agent->alarms);
	}
	reply_wire(s->rq, &w);
	serving_free(s);
}

/* A header with an epoch; absent: zero.  0 or -EINVAL. */
static int header_epoch(const struct http_request *rq, const char *name,
			struct epoch *out)
{
	const char *s = http_header(rq, name);

	memset(out, 0, sizeof(*out));
	return s ? epoch_parse(s, out) : 0;
}

static int query_offset(const struct http_request *rq, uint32_t *out)
{
	const char *s = rq->query;
	uint64_t v = 0;

	if (strncmp(s, "offset=", 7) == 0 &&
	    parse_u64(s + 7, strlen(s + 7), 0, TREE_MEMBERS, &v))
		return -EINVAL;
	*out = (uint32_t)v;
	return 0;
}

static int request_read(const struct http_request *rq, enum tree_kind kind,
			struct tree_wire *w)
{
	int ret = tree_wire_read(kind, 0, kind == TREE_ROWS ? "{}" : rq->body,
				 kind == TREE_ROWS ? 2 : rq->body_len, w);

	if (ret)
		return ret;
	if (header_epoch(rq, "X-Linnet-Epoch", &w->m.epoch) ||
	    header_epoch(rq, "X-Linnet-Lease", &w->m.lease) ||
	    (kind == TREE_HELLO && !w->has_nonce) ||
	    (kind == TREE_ROWS && query_offset(rq, &w->m.u.rows.offset))) {
		tree_wire_fini(w);
		return -EINVAL;
	}
	return 0;
}

static void serve(struct agent *a, struct http_request *rq, enum tree_kind kind)
{
	const char *api = http_header(rq, "X-Linnet-Api");
	struct overlay *o = a->overlay;
	struct tree_wire w = { 0 };
	struct serving *s;
	int ret;

	if (api && strncmp(api, PEER_API, 2) != 0) {
		w.m.word = TREE_VERSION;
		if (rq->roles & ROLE_PEER)
			w.m.epoch = tree_epoch(o->tree);
		reply_wire(rq, &w);
		return;
	}
	ret = request_read(rq, kind, &w);
	if (ret) {
		reply_error(rq,
			    ret == -ENOMEM ? ERR_UNAVAILABLE : ERR_MALFORMED);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		reply_error(rq, ERR_UNAVAILABLE);
		goto out;
	}
	s->o = o;
	s->rq = rq;
	s->kind = kind;
	memcpy(s->nonce, w.nonce, sizeof(s->nonce));
	s->next = o->serving;
	if (s->next)
		s->next->at = &s->next;
	s->at = &o->serving;
	o->serving = s;
	tree_request(o->tree, &rq->client, &w.m, (uint64_t)(uintptr_t)s);
out:
	tree_wire_fini(&w);
}

/* Nobody answers any more; the requests end with the server. */
void overlay_serve_free(struct overlay *o)
{
	while (o->serving)
		serving_free(o->serving);
}

static void parent_closed(void *arg)
{
	struct overlay *o = arg;

	tree_parent_closed(o->tree);
}

/* The server is in the middle of its work: looked at from the loop. */
void overlay_connection_closed(struct overlay *o, uint64_t connection)
{
	if (!o || connection != o->beat_connection)
		return;
	o->beat_connection = 0;
	loop_timer_in(o->agent->loop, &o->closed, 0, parent_closed, o);
}

static void serve_hello(void *ctx, struct http_request *rq)
{
	serve(ctx, rq, TREE_HELLO);
}

static void serve_invite(void *ctx, struct http_request *rq)
{
	serve(ctx, rq, TREE_INVITE);
}

static void serve_join(void *ctx, struct http_request *rq)
{
	serve(ctx, rq, TREE_JOIN);
}

static void serve_grant(void *ctx, struct http_request *rq)
{
	serve(ctx, rq, TREE_GRANT);
}

static void serve_beat(void *ctx, struct http_request *rq)
{
	serve(ctx, rq, TREE_BEAT);
}

static void serve_please(void *ctx, struct http_request *rq)
{
	serve(ctx, rq, TREE_PLEASE);
}

static void serve_leave(void *ctx, struct http_request *rq)
{
	serve(ctx, rq, TREE_LEAVE);
}

static void serve_rows(void *ctx, struct http_request *rq)
{
	serve(ctx, rq, TREE_ROWS);
}

static void serve_announce(void *ctx, struct http_request *rq)
{
	serve(ctx, rq, TREE_ANNOUNCE);
}

const struct http_route overlay_routes[] = {
	{ .pattern = "/api/v1/peer/hello",
	  .methods = HTTP_POST,
	  .role = ROLE_NONE,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = TREE_BODY_MAX,
	  .fn = serve_hello },
	{ .pattern = "/api/v1/peer/invite",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = TREE_BODY_MAX,
	  .fn = serve_invite },
	{ .pattern = "/api/v1/peer/join",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = TREE_BODY_MAX,
	  .fn = serve_join },
	{ .pattern = "/api/v1/peer/grant",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = TREE_BODY_MAX,
	  .fn = serve_grant },
	{ .pattern = "/api/v1/peer/beat",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = TREE_BODY_MAX,
	  .fn = serve_beat },
	{ .pattern = "/api/v1/peer/beat-please",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = TREE_BODY_MAX,
	  .fn = serve_please },
	{ .pattern = "/api/v1/peer/leave",
	  .methods = HTTP_POST,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = TREE_BODY_MAX,
	  .fn = serve_leave },
	{ .pattern = "/api/v1/peer/members",
	  .methods = HTTP_GET,
	  .role = ROLE_PEER,
	  .fn = serve_rows },
	{ .pattern = "/api/v1/peer/members",
	  .methods = HTTP_PUT,
	  .role = ROLE_PEER,
	  .bodies = HTTP_BODY_JSON,
	  .body_max = MEMBERS_MAX,
	  .fn = serve_announce },
};
const size_t overlay_n_routes = ARRAY_SIZE(overlay_routes);
