/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP towards other agents: calls, each of them one message and its reply.
 *
 * Our token is told to nobody who did not prove that it knows it.  The proof is
 * one of a connection: on each new one goes hello first, without the token, and
 * the message after it on the same.  Which connection a message takes is the
 * library's choice; where it turns out to be one without proof, the call goes
 * back to hello.
 *
 * Whatever a peer does costs bounded time and memory: every call has a timer
 * of ours over all its tries, every transfer has caps (peer_transfer.c).
 *
 * A call belongs to its caller until its callback ran or it was cancelled.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/hello.h"
#include "agent/peer_private.h"
#include "common/log.h"
#include "common/util.h"

#define HELLO_MAX 4096
#define TRIES     4 /* connections lost to others or to the server */

/* ---- calls ---- */

/* Out of the library and the list; memory stays. */
static void call_detach(struct peer_call *c)
{
	if (!c->at)
		return;
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->at = NULL;
	loop_timer_cancel(&c->timer);
	transfer_stop(c->peers, call_transfer(c));
	c->peers->held -= c->body.len;
}

static void call_free(struct peer_call *c)
{
	call_detach(c);
	transfer_free(&c->hello);
	transfer_free(&c->message);
	buf_fini(&c->body);
	free(c);
}

static void call_finish(struct peer_call *c, int err)
{
	struct peer_reply r = { .err = err,
				.reused = !c->opened,
				.elapsed_ms = (uint32_t)(clock_mono_ms() -
							 c->began_ms) };

	if (!err) {
		r.status = transfer_status(call_transfer(c));
	} else {
		const char *why = transfer_error(call_transfer(c));
		char to[ENDPOINT_TEXT_LEN];

		endpoint_format(&c->to, 8000, to);
		log_debug("peer %s: %s", to,
			  why[0] ? why : strerrordesc_np(-err));
	}
	call_detach(c);
	r.body = err || !c->body.data ? "" : c->body.data;
	r.len = err ? 0 : c->body.len;
	c->done(c->arg, &r);
	call_free(c);
}

static void call_expired(void *arg)
{
	struct peer_call *c = arg;

	call_finish(c, c->opened && !c->connected ? -EHOSTUNREACH : -ETIMEDOUT);
}

/* ---- hello before the token ---- */

static int hello_make(struct peer_call *c)
{
	uint64_t spent = clock_mono_ms() - c->began_ms;
	struct peer_request rq = {
		.to = c->to,
		.method = HTTP_POST,
		.path = HELLO_PATH,
		.timeout_ms = (uint32_t)(c->hello_ms > spent
						 ? c->hello_ms - spent
						 : 1),
		.connect_ms = c->connect_ms,
		.reply_max = HELLO_MAX,
		.headers = { PEER_API_HEADER },
		.fresh = c->fresh
	};
	struct buf b = BUF_INIT;

	random_bytes(c->nonce, sizeof(c->nonce));
	hello_write(c->nonce, &b);
	rq.body = b.data;
	rq.len = b.len;
	if (!b.failed)
		c->hello = transfer_new(c, &rq, "");
	buf_fini(&b);
	return c->hello ? 0 : -ENOMEM;
}

/* The message, or hello if it cannot go over what is there. */
static int call_go(struct peer_call *c, bool idle)
{
	struct peers *p = c->peers;

	if (c->fresh)
		lines_shut(p, &c->to);
	if (p->token[0] && (c->fresh || !idle)) {
		if (hello_make(c))
			return -ENOMEM;
		c->opened = c->connected = false;
	}
	c->fresh = c->unproven = false;
	c->line = NULL;
	if (!transfer_start(p, call_transfer(c)))
		return 0;
	transfer_free(&c->hello);
	return -ENOMEM;
}

/* From the start, or after hello; what was left has come to its end here. */
static void call_again(struct peer_call *c, bool idle)
{
	if (c->left) {
		call_finish(c, -ETIMEDOUT);
		return;
	}
	transfer_stop(c->peers, call_transfer(c));
	transfer_free(&c->hello);
	c->peers->held -= c->body.len;
	buf_fini(&c->body);
	c->header_bytes = 0;
	if (call_go(c, idle))
		call_finish(c, -ENOMEM);
}

/*
 * What anybody may say who has proved nothing: that it will not talk to us.
 * All else is said of who is at this address.
 */
static bool is_refusal(int status)
{
	static const short refusals[] = { 401, 403, 404, 405, 429, 501, 503 };

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
		if (refusals[i] == status)
			return true;
	return false;
}

/* Its answer is the right proof: the message, over the same connection. */
static void hello_over(struct peer_call *c)
{
	const char *body = c->body.data ? c->body.data : "";
	const struct peers *p = c->peers;
	int status = transfer_status(c->hello), err;

	if (is_refusal(status)) {
		c->peers->held -= c->body.len;
		buf_fini(&c->body);
		call_finish(c, 0);
		return;
	}
	err = status != 200 ? -EPROTO
			    : hello_check(p->token, c->nonce, &c->to, body,
					  c->body.len);
	if (err) {
		call_finish(c, err);
		return;
	}
	if (c->line)
		c->line->proven = true;
	call_again(c, true);
}

void call_over(struct peer_call *c, int err)
{
	/* what is idle has one in it less: this call */
	if (c->unproven && ++c->tries < TRIES)
		call_again(c, lines_idle(c->peers, &c->to) >= 0);
	else if (c->unproven)
		call_finish(c, -ECONNRESET);
	else if (c->hello && !err)
		hello_over(c);
	else
		call_finish(c, err);
}

struct peer_call *
peer_start(struct peers *p, const struct peer_request *rq,
	   void (*done)(void *arg, const struct peer_reply *r), void *arg)
{
	struct peer_call *c = calloc(1, sizeof(*c));
	struct peer_request message = *rq;

	if (!c)
		return NULL;
	c->peers = p;
	c->to = rq->to;
	c->connect_ms = rq->connect_ms;
	c->hello_ms = rq->hello_ms ? rq->hello_ms : rq->timeout_ms;
	c->fresh = rq->fresh;
	c->began_ms = clock_mono_ms();
	c->done = done;
	c->arg = arg;
	/* with a token hello is what opens one */
	message.fresh &= !p->token[0];
	message.timeout_ms = 0; /* the timer of the call is over it */
	c->message = transfer_new(c, &message, p->token);
	if (!c->message ||
	    loop_timer_in(p->loop, &c->timer, rq->timeout_ms, call_expired, c))
		goto fail;
	if (call_go(c, peer_idle(p, &c->to)))
		goto fail;
	c->next = p->calls;
	if (c->next)
		c->next->at = &c->next;
	c->at = &p->calls;
	p->calls = c;
	return c;
fail:
	loop_timer_cancel(&c->timer);
	call_free(c);
	return NULL;
}

void peer_cancel(struct peer_call *c)
{
	if (c)
		call_free(c);
}

void peer_leave(struct peer_call *c, uint32_t within_ms, size_t reply_max)
{
	c->left = true;
	transfer_cap(c->message, reply_max);
	/* it is armed: this cannot fail */
	(void)loop_timer_in(c->peers->loop, &c->timer, within_ms, call_expired,
			    c);
}

/* ---- all together ---- */

int peers_open(struct peers **out, struct loop *l, const char *token_file,
	       const struct endpoint *listen, size_t n_listen)
{
	struct peers *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	p->loop = l;
	p->listen = listen;
	p->n_listen = n_listen;
	if (token_file && token_file[0]) {
		ret = hello_token_read(token_file, p->token);
		if (ret)
			goto fail;
	}
	ret = transfers_open(p);
	if (ret)
		goto fail;
	*out = p;
	return 0;
fail:
	peers_free(p);
	return ret;
}

void peers_free(struct peers *p)
{
	if (!p)
		return;
	while (p->calls)
		call_free(p->calls);
	transfers_close(p);
	lines_free(p);
	explicit_bzero(p->token, sizeof(p->token));
	free(p);
}

const char *peers_token(const struct peers *p)
{
	return p->token[0] ? p->token : NULL;
}
